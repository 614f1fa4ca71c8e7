"""Admission: each cause of refusal, what moves a counter, and what a confirmation says. Nothing that a peer sends may raise."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.cosem import ciphering, notification, wrapper
from openami.cosem.ciphering import Keys
from openami.errors import DataError
from openami.fleet.meter import METER_PORT, PUSH_PORT
from openami.headend.admission import Verdict, correspondents
from openami.registry import Meter
from openami.store.keys import MasterKey

from .meters import AUTHENTICATED, ENCRYPTED, HEADEND, KEYS, METERS, OTHER, admission, notify, push, sealed, simulated, verdicts

WRONG = Keys(b"\x77" * 16, b"\x78" * 16)
STRANGER = Meter("XMA9999999", b"XMA\x99\x99\x99\x99\x99", "XMA", "XMA-1P", 0, 9, 0x20, 1)
known = pytest.mark.parametrize("meter", [ENCRYPTED, AUTHENTICATED], ids=["0x20", "0x30"])


def flip(frame: bytes, at: int) -> bytes:
    at %= len(frame)
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@known
def test_a_genuine_push_is_taken_in(meter: Meter) -> None:
    verdict = admission().judge(push(meter))
    assert (verdict.cause, verdict.serial, verdict.meter) == (None, meter.serial, meter)
    assert verdict.notification is not None
    assert verdict.notification.body.value[0].value == meter.serial.encode()


@known
def test_a_confirmation_is_the_meters_to_read_and_names_its_push(meter: Meter) -> None:
    verdict = admission().judge(push(meter, counter=0x0100_0007))
    assert verdict.confirm is not None
    (frame,) = wrapper.unwrap(verdict.confirm)
    assert (frame.source, frame.destination) == (PUSH_PORT, METER_PORT)
    assert simulated(meter).confirms(frame.apdu, 7)
    assert not simulated(meter).confirms(frame.apdu, 8)
    assert not simulated(OTHER).confirms(frame.apdu, 7)


@known
def test_a_confirmation_is_protected_as_its_push_was_under_the_headends_own_title(meter: Meter) -> None:
    confirm = admission().judge(push(meter, counter=55)).confirm
    assert confirm is not None
    answer = ciphering.parse_sealed(wrapper.unwrap(confirm)[0].apdu)
    assert (answer.security_control, answer.system_title, answer.invocation_counter) == (meter.security_control, HEADEND, 55)


def test_a_push_that_asks_for_no_confirmation_gets_none() -> None:
    verdict = admission().judge(sealed(AUTHENTICATED, notify(confirmed=False)))
    assert (verdict.cause, verdict.confirm) == (None, None)


def test_no_nonce_is_used_twice() -> None:
    """(title, counter) of every confirmation under one key comes once, though the meter repeats itself."""
    judge = admission()
    frames = [push(AUTHENTICATED, counter) for counter in (5, 6, 6, 5, 7, 7)]
    answers = [v.confirm for v in map(judge.judge, frames) if v.confirm]
    counters = [ciphering.parse_sealed(wrapper.unwrap(a)[0].apdu).invocation_counter for a in answers]
    assert counters == [5, 6, 7]


# Refusals


REFUSED = {
    "stranger": (sealed(ENCRYPTED, notify(), title=STRANGER.system_title), "unknown_meter"),
    "no title": (sealed(ENCRYPTED, notify(), tag=0xCB), "unknown_meter"),
    "nothing": (b"", "malformed"),
    "no wrapper": (b"\x00\x02" + push(ENCRYPTED)[2:], "malformed"),
    "two frames": (push(ENCRYPTED) + push(AUTHENTICATED), "malformed"),
    "half a frame": (push(ENCRYPTED)[:-3], "malformed"),
    "no ciphered apdu": (wrapper.wrap(1, 64, notify()), "malformed"),
    "length lies": (wrapper.wrap(1, 64, wrapper.unwrap(push(ENCRYPTED))[0].apdu[:-2]), "malformed"),
    "encrypted only, by a meter that must sign": (sealed(AUTHENTICATED, notify(), control=0x20), "policy"),
    "signed only, by a meter that must encrypt": (sealed(ENCRYPTED, notify(), control=0x10), "policy"),
    "signed only, by a meter that must do both": (sealed(AUTHENTICATED, notify(), control=0x10), "policy"),
    "dedicated key": (sealed(AUTHENTICATED, notify(), tag=ciphering.GENERAL_DED), "policy"),
    "wrong key, signed": (push(AUTHENTICATED, keys=WRONG), "bad_tag"),
    "wrong authentication key": (push(AUTHENTICATED, keys=Keys(KEYS[AUTHENTICATED.serial].ek, WRONG.ak)), "bad_tag"),
    "another meter's keys": (push(AUTHENTICATED, keys=KEYS[OTHER.serial]), "bad_tag"),
    "changed ciphertext": (flip(push(AUTHENTICATED), 30), "bad_tag"),
    "changed tag": (flip(push(AUTHENTICATED), -1), "bad_tag"),
    "wrong key, encrypted": (push(ENCRYPTED, keys=WRONG), "undecipherable"),
    "replayed, equal": (push(AUTHENTICATED, counter=99), "replayed_counter"),
    "replayed, lower": (push(ENCRYPTED, counter=98), "replayed_counter"),
    "signed nonsense": (sealed(AUTHENTICATED, b"\xc4\x01\x81\x00\x11\x07"), "malformed"),
    "bytes behind the push": (sealed(AUTHENTICATED, notify() + b"\x00"), "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_has_its_cause_moves_no_counter_and_confirms_nothing(name: str) -> None:
    frame, cause = REFUSED[name]
    before = {m.serial: 99 for m in METERS}
    judge = admission(before)
    verdict = judge.judge(frame)
    assert (verdict.cause, verdict.confirm, verdict.notification) == (cause, None, None)
    assert judge.counters == before
    assert verdict.detail


def test_a_tag_that_is_cut_short_is_a_bad_tag() -> None:
    """Less than 12 bytes behind the security header of a frame that says it is signed."""
    protected = b"\x30" + (100).to_bytes(4, "big") + bytes(11)
    apdu = b"\xdb\x08" + AUTHENTICATED.system_title + bytes([len(protected)]) + protected
    assert admission().judge(wrapper.wrap(1, 64, apdu)).cause in ("bad_tag", "malformed")
    shortened = wrapper.unwrap(push(AUTHENTICATED))[0].apdu[:-4]
    mended = shortened[:10] + bytes([shortened[10] - 4]) + shortened[11:]
    assert admission().judge(wrapper.wrap(1, 64, mended)).cause == "bad_tag"


def test_a_refused_frame_of_a_known_meter_says_whose_it_claims_to_be() -> None:
    assert admission().judge(push(AUTHENTICATED, keys=WRONG)).serial == AUTHENTICATED.serial
    assert admission().judge(REFUSED["stranger"][0]).serial is None


def test_no_key_is_in_any_detail() -> None:
    secrets = {part.hex() for keys in KEYS.values() for part in (keys.ek, keys.ak)}
    details = [admission({m.serial: 99 for m in METERS}).judge(frame).detail for frame, _ in REFUSED.values()]
    assert not [d for d in details if any(secret in d for secret in secrets)]


# Counters


@known
def test_counters_strictly_grow_and_may_jump(meter: Meter) -> None:
    judge = admission()
    causes = [judge.judge(push(meter, counter)).cause for counter in (0, 1, 1, 0, 40_000, 39_999, 0xFFFF_FFFF)]
    assert causes == [None, None, "replayed_counter", "replayed_counter", None, "replayed_counter", None]
    assert judge.counters == {meter.serial: 0xFFFF_FFFF}


def test_one_meters_counter_is_not_anothers() -> None:
    judge = admission()
    judge.judge(push(AUTHENTICATED, 500))
    assert judge.judge(push(OTHER, 3)).cause is None


def test_a_forged_counter_does_not_lock_the_meter_out() -> None:
    """The counter stands in the clear: without a tag that holds it must not move what the head-end remembers."""
    for meter in (ENCRYPTED, AUTHENTICATED):
        judge = admission()
        frame = bytearray(push(meter, 100))
        at = bytes(frame).index((100).to_bytes(4, "big"), 17)
        frame[at : at + 4] = b"\xff\xff\xff\xfe"
        assert judge.judge(bytes(frame)).cause in ("bad_tag", "undecipherable")
        assert judge.judge(push(meter, 101)).cause is None


@given(order=st.lists(st.tuples(st.sampled_from(METERS), st.integers(0, 12)), max_size=20))
def test_the_same_frames_give_the_same_verdicts_in_one_go_or_from_a_remembered_place(order: list[tuple[Meter, int]]) -> None:
    frames = [push(meter, counter) for meter, counter in order]
    whole = admission()
    verdicts = [whole.judge(f).cause for f in frames]
    first = admission()
    half = [first.judge(f).cause for f in frames[: len(frames) // 2]]
    second = admission(first.counters)
    assert half + [second.judge(f).cause for f in frames[len(frames) // 2 :]] == verdicts
    assert second.counters == whole.counters


# Hostile bytes


@given(st.binary(max_size=80))
def test_random_bytes_are_refused_not_raised(octets: bytes) -> None:
    assert admission().judge(octets).cause is not None


@given(st.binary(max_size=60))
def test_random_apdus_behind_a_sound_wrapper_are_refused(apdu: bytes) -> None:
    frame = wrapper.wrap(1, 64, apdu) if apdu else b"\x00\x01\x00\x01\x00\x40\x00\x00"
    assert admission().judge(frame).cause is not None


@given(meter=st.sampled_from(METERS), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_wrong_bit_never_raises_and_never_passes_a_tag(meter: Meter, at: int, bit: int) -> None:
    frame = bytearray(push(meter))
    at = at % len(frame)
    frame[at] ^= 1 << bit
    verdict = admission().judge(bytes(frame))
    if meter.security_control == 0x30 and at not in (2, 3, 4, 5):
        assert verdict.cause is not None


@given(meter=st.sampled_from(METERS), plain=st.binary(max_size=40), control=st.sampled_from([0x10, 0x20, 0x30, 0x60, 0x70, 0x21, 0x31]))
def test_any_plain_bytes_under_the_right_keys_never_raise(meter: Meter, plain: bytes, control: int) -> None:
    assert decided(admission().judge(sealed(meter, plain, control=control)))


@given(control=st.integers(0, 255), tail=st.binary(min_size=4, max_size=40))
def test_any_security_control_byte_never_raises(control: int, tail: bytes) -> None:
    protected = bytes([control]) + tail
    apdu = b"\xdb\x08" + AUTHENTICATED.system_title + bytes([len(protected)]) + protected
    assert admission().judge(wrapper.wrap(1, 64, apdu)).cause is not None


@given(st.binary(max_size=30))
def test_any_body_behind_a_sound_head_never_raises(body: bytes) -> None:
    assert decided(admission().judge(sealed(AUTHENTICATED, notify()[:6] + body)))


def decided(verdict: Verdict) -> bool:
    """Taken in with its notification, or refused with a cause: never both, never neither."""
    return (verdict.cause is None) == (verdict.notification is not None)


def long_form(frame: bytes) -> bytes:
    """The same frame with the lengths of its system title and content written in more bytes than they need."""
    apdu = wrapper.unwrap(frame)[0].apdu
    title, content = apdu[2:10], apdu[11:] if apdu[10] < 0x80 else apdu[11 + (apdu[10] & 0x7F) :]
    longer = b"\xdb\x81\x08" + title + b"\x82" + len(content).to_bytes(2, "big") + content
    return wrapper.wrap(METER_PORT, PUSH_PORT, longer)


@known
def test_lengths_written_long_change_nothing(meter: Meter) -> None:
    """Lengths are outside the authenticated bytes: anybody on the way can rewrite them, and must gain nothing by it."""
    verdict = admission().judge(long_form(push(meter, counter=7)))
    assert verdict.cause is None
    assert verdict.confirm is not None
    assert simulated(meter).confirms(wrapper.unwrap(verdict.confirm)[0].apdu, 7)


# Batches


def _late(meter: Meter, counter: int) -> bytes:
    """A push in a form that no template knows: with a date-time in its head."""
    plain = notification.DataNotification.decode(
        ciphering.open_sealed(ciphering.parse_sealed(wrapper.unwrap(push(meter))[0].apdu), KEYS[meter.serial])
    )
    return sealed(meter, plain._replace(long_invoke_id=counter, when=bytes(12)).encode(), counter)


FORMS = {
    "plain": push,
    "another form": _late,
    "unconfirmed": lambda meter, counter: sealed(meter, notify(counter, confirmed=False), counter),
    "foreign body": lambda meter, counter: sealed(meter, notify(counter), counter),
    "long lengths": lambda meter, counter: long_form(push(meter, counter)),
    "bare": lambda meter, counter: wrapper.unwrap(push(meter, counter))[0].apdu,
    "two in one": lambda meter, counter: push(meter, counter) * 2,
    "other wrapper": lambda meter, counter: b"\x00\x02" + push(meter, counter)[2:],
    "wrong key": lambda meter, counter: push(meter, counter, WRONG),
    "changed": lambda meter, counter: flip(push(meter, counter), 40),
    "cut": lambda meter, counter: push(meter, counter)[:-5],
    "downgraded": lambda meter, counter: sealed(meter, notify(counter), counter, control=0x10),
    "stranger": lambda meter, counter: sealed(meter, notify(counter), counter, title=STRANGER.system_title),
    "rubbish": lambda meter, counter: bytes([counter]) * counter,
}
frames = st.lists(st.tuples(st.sampled_from(sorted(FORMS)), st.sampled_from(METERS), st.integers(0, 20)), max_size=30)


@given(order=frames, cuts=st.lists(st.integers(0, 30), max_size=3))
def test_a_batch_is_judged_as_its_frames_one_by_one(order: list[tuple[str, Meter, int]], cuts: list[int]) -> None:
    octets = [FORMS[form](meter, counter) for form, meter, counter in order]
    single, batched = admission(), admission()
    one_by_one = [single.judge(f) for f in octets]
    edges = [0, *sorted(cuts), len(octets)]
    together = [v for a, b in pairwise(edges) for v in verdicts(batched, octets[a:b])]
    assert [(v.cause, v.serial, v.confirm) for v in together] == [(v.cause, v.serial, v.confirm) for v in one_by_one]
    assert batched.counters == single.counters


# The registry


def test_keys_are_unwrapped_for_every_meter() -> None:
    master = MasterKey(bytes(32))
    wrapped = {s: (master.wrap(k.ek), master.wrap(k.ak)) for s, k in KEYS.items()}
    known_meters = correspondents(METERS, wrapped, master)
    assert {c.meter.serial: c.keys for c in known_meters.values()} == KEYS


def test_a_meter_without_keys_is_named() -> None:
    with pytest.raises(DataError, match="meter XMA0000001 has no keys"):
        correspondents(METERS, {}, MasterKey(bytes(32)))


def test_a_correspondent_shows_no_keys() -> None:
    shown = repr(admission().peers)
    assert not [k for k in KEYS.values() if k.ek.hex() in shown or repr(k.ek)[2:-1] in shown]
