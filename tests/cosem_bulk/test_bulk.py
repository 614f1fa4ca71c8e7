"""The bulk path agrees with the general decoder on every frame, by every way of deciphering, on any number of threads."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem import bulk, bulk_cipher, bulk_template, ciphering, wrapper
from openami.cosem.axdr import Data, Tag
from openami.cosem.bulk import CHANNEL_NAMES, BulkDecoder, KeyTable, Verdict, scatter
from openami.cosem.ciphering import GENERAL_DED, GENERAL_GLO, Keys
from openami.cosem.clock import CosemDateTime
from openami.cosem.notification import DataNotification
from openami.cosem.push import Column, PushLayout, layouts, push_body
from openami.errors import InputError, MeterError, RequestError
from openami.readings import MISSING, MISSING64

from .reference import ReferenceMeter, judged

SHIPPED = layouts()
FLAT = PushLayout(
    "F",
    "F",
    "0.5.25.9.0.255",
    (Column("1.0.1.29.0.255", 2, Tag.DOUBLE_LONG, -1, "Wh"), Column("1.0.99.9.0.255", 2, Tag.UNSIGNED, 0, "")),
    "flat",
)
ROW = PushLayout(
    "R", "R", "0.5.25.9.0.255", (Column("0.0.1.0.0.255", 2, Tag.DATE_TIME, 0, ""), Column("1.0.1.29.0.255", 2, Tag.FLOAT64, 3, "Wh")), "row"
)  # fmt: skip
LAYOUTS = (*SHIPPED, FLAT, ROW)
DAY_START = 1_793_557_800
METERS = 8


def fleet(seed: int = 1) -> list[ReferenceMeter]:
    rng = random.Random(seed)
    return [
        ReferenceMeter(
            b"XMB" + rng.randbytes(5), Keys(rng.randbytes(16), rng.randbytes(16)), 0x30 if k % 2 else 0x20, LAYOUTS[k % len(LAYOUTS)]
        )
        for k in range(METERS)
    ]  # fmt: skip


def key_table(meters: list[ReferenceMeter]) -> KeyTable:
    def stacked(parts: list[bytes]) -> np.ndarray:
        return np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), -1)

    return KeyTable(
        stacked([m.title for m in meters]),
        stacked([m.keys.ek for m in meters]),
        stacked([m.keys.ak for m in meters]),
        np.array([m.demanded for m in meters], np.uint8),
        np.array([LAYOUTS.index(m.layout) for m in meters]),
    )


def decoder_for(meters: list[ReferenceMeter], **options) -> BulkDecoder:
    decoder = BulkDecoder(LAYOUTS, key_table(meters), **options)
    for layout in range(len(LAYOUTS)):
        decoder.expect(layout, 7)
        decoder.expect(layout, 7, with_date_time=True)
    return decoder


def joined(frames: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(frames), np.uint8), np.cumsum([0, *map(len, frames)]).astype(np.int64)


number = st.integers(0, 3000).map(lambda v: v * 10)
stamp = st.one_of(st.integers(0, 2**33), st.sampled_from([951_782_400, 951_868_799, 1_709_164_800, 4_107_542_400, -1]))


@st.composite
def pushes(draw, layout: PushLayout) -> bytes:
    """The plain bytes of a push: mostly of the layout's usual form, at times with nulls, other forms, or broken clocks."""
    channels = dict.fromkeys(("import_wh", "import_vah", "export_wh", "export_vah", "voltage_v", "current_a"), number)
    extra = {c.obis: st.just(0) for c in layout.columns}
    whole = draw(st.integers(0, 9)) > 0
    values = st.fixed_dictionaries({**channels, **extra} if whole else {}, optional={} if whole else {**channels, **extra})
    rows = draw(st.lists(st.tuples(st.integers(0, 2**32), values), min_size=1, max_size=1 if layout.row_shape != "rows" else 2))
    clock = CosemDateTime.from_stamp(draw(stamp), draw(st.sampled_from([-330, -60, 0, 480])))
    body = push_body(layout, b"SERIAL7" if draw(st.integers(0, 9)) else b"LONGER77", clock, rows)
    when = draw(st.sampled_from([b"", b"", CosemDateTime.from_stamp(5).encode()]))
    octets = bytearray(DataNotification(draw(st.integers(0, 2**24 - 1)), draw(st.booleans()), False, when, body).encode())
    spoil = draw(st.integers(0, 5))
    if spoil == 0:
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    elif spoil == 1:
        at = bytes(octets).find(clock.encode())
        octets[at : at + 12] = replaced(draw, clock).encode()
    return bytes(octets)


def replaced(draw, clock: CosemDateTime) -> CosemDateTime:
    changes = {
        "second": None,
        "deviation_minutes": None,
        "month": None,
        "minute": None,
        "day": 31,
        "year": None,
        "hour": 24,
        "hundredths": None,
    }
    name = draw(st.sampled_from(sorted(changes)))
    return clock._replace(**{name: changes[name]})


@st.composite
def frames(draw) -> list[bytes]:
    meters = fleet()
    counters = [draw(st.integers(0, 2**32 - 100)) for _ in meters]
    out = []
    for _ in range(draw(st.integers(1, 14))):
        k = draw(st.integers(0, METERS - 1))
        meter = meters[k]
        plain = draw(pushes(meter.layout))
        counters[k] += draw(st.sampled_from([1, 1, 1, 1, 0, -1]))
        counter = max(0, counters[k])
        control = draw(st.sampled_from([meter.demanded] * 6 + [0x20, 0x30, 0x10]))
        keys = meter.keys if draw(st.integers(0, 9)) else Keys(bytes(16), bytes(16))
        title = meter.title if draw(st.integers(0, 9)) else b"NOBODY!!"
        apdu = ciphering.seal(draw(st.sampled_from([GENERAL_GLO] * 9 + [GENERAL_DED])), title, control, counter, keys, plain)
        frame = wrapper.wrap(1, 64, apdu) if draw(st.booleans()) else apdu
        damage = draw(st.integers(0, 19))
        if damage == 0:
            frame = frame[: draw(st.integers(0, len(frame)))]
        elif damage == 1:
            at = draw(st.integers(0, len(frame) - 1))
            frame = frame[:at] + bytes((frame[at] ^ (1 << draw(st.integers(0, 7))),)) + frame[at + 1 :]
        out.append(frame)
    return out


@settings(max_examples=120, deadline=None)
@given(frames(), st.booleans(), st.sampled_from([1, 2, 3]))
def test_every_frame_agrees_with_the_general_decoder(batch, use_libcrypto, threads):
    decoder = decoder_for(fleet(), use_libcrypto=use_libcrypto)
    result = decoder.decode(*joined(batch), threads=threads)
    meters, after = fleet(), fleet()
    for k, meter in enumerate(after):
        meter.last_counter = int(decoder.counters[k])
    for k, frame in enumerate(batch):
        cause, push = judged(meters, frame)
        if result.verdict[k] == Verdict.GENERAL:
            assert judged(after, frame) == (cause, push), "handed back, and judged after the batch: the same"
            continue
        assert Verdict(int(result.verdict[k])).name.lower() == cause
        if push is not None:
            assert (None if result.clock_s[k] == MISSING64 else result.clock_s[k]) == push.clock_stamp_s
            assert [as_row(result, r) for r in np.flatnonzero(result.frame == k)] == push.rows
    assert [m.last_counter for m in after] == [m.last_counter for m in meters]


def as_row(result: bulk.BulkResult, row: int) -> tuple[int | None, dict[str, int]]:
    column = result.values[:, row]
    values = {name: int(v) for name, v in zip(CHANNEL_NAMES, column, strict=True) if v != MISSING}
    return (None if result.stamp_s[row] == MISSING64 else int(result.stamp_s[row])), values


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(bulk_template.KINDS)), st.integers(-6, 6), st.binary(min_size=8, max_size=8))
def test_every_number_is_stored_as_read_push_stores_it(tag, scaler, octets):
    layout = PushLayout("N", "N", "0.5.25.9.0.255", (Column("1.0.1.29.0.255", 2, tag, scaler, "Wh"),), "flat")
    meter = replace(fleet()[1], layout=layout)
    decoder = BulkDecoder([layout], single_row_table(meter))
    decoder.expect(0, 7)
    body = push_body(layout, b"SERIAL7", CosemDateTime.from_stamp(0), [(0, {"import_wh": 0})])
    plain = DataNotification(0, False, False, b"", body).encode()
    width = (1, 2, 4, 1, 2, 4, 4, 8)[bulk_template.KINDS[tag]]
    frame = sealed(meter, 1, plain[:-width] + octets[:width])
    _, push = judged([meter], frame)
    result = decoder.decode(*joined([frame]))
    assert push is not None
    assert [as_row(result, 0)] == push.rows


def single_row_table(meter: ReferenceMeter) -> KeyTable:
    parts = [np.frombuffer(b, np.uint8)[None, :] for b in (meter.title, meter.keys.ek, meter.keys.ak)]
    return KeyTable(*parts, np.array([meter.demanded], np.uint8), np.zeros(1, np.int32))


def plain_push(meter: ReferenceMeter, slot: int, wh: int = 100) -> bytes:
    numbers = {"import_wh": wh, "import_vah": wh, "voltage_v": 23000, "current_a": 500, "export_wh": 0, "export_vah": 0}
    numbers.update({c.obis: 0 for c in meter.layout.columns})
    stamp_s = DAY_START + 1800 * (slot + 1)
    body = push_body(meter.layout, b"SERIAL7", CosemDateTime.from_stamp(stamp_s + 20), [(stamp_s, numbers)])
    return DataNotification(slot & 0xFFFFFF, True, False, b"", body).encode()


def sealed(meter: ReferenceMeter, counter: int, plain: bytes, control: int | None = None) -> bytes:
    return wrapper.wrap(1, 64, ciphering.seal(GENERAL_GLO, meter.title, control or meter.demanded, counter, meter.keys, plain))


def test_a_day_of_pushes_lands_in_its_cells_and_again_changes_nothing():
    meters = [m for m in fleet() if m.layout in SHIPPED]
    batch = [sealed(m, 10 + s, plain_push(m, s, 100 * k + s)) for s in range(48) for k, m in enumerate(meters)]
    random.Random(3).shuffle(batch)
    batch.sort(key=lambda f: f[20:24])  # by counter, as each meter sends them
    result = decoder_for(meters).decode(*joined(batch))
    assert set(result.verdict) == {Verdict.TAKEN}
    np.testing.assert_array_equal(result.invoke, 1 << 30 | (result.counter - 10), "long invoke id, and the wish for a confirmation")
    grid = np.full((len(CHANNEL_NAMES), 48, len(meters)), MISSING, np.int32)
    conflict = np.zeros(grid.shape, np.bool_)
    done = scatter(result, np.arange(len(meters)), DAY_START, 1800, grid, conflict)
    assert done.placed == int((grid != MISSING).sum())
    np.testing.assert_array_equal(grid[0], [[100 * k + s for k in range(len(meters))] for s in range(48)])
    first = grid.copy()
    again = scatter(result, np.arange(len(meters)), DAY_START, 1800, grid, conflict, threads=2)
    assert (again.placed, again.repeated, again.conflicts, again.off_grid.size) == (0, done.placed, 0, 0)
    np.testing.assert_array_equal(grid, first)
    assert not conflict.any()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8), st.sampled_from([b"", b"\x00\x01\x00\x01\x00\x40", b"\xdb\x08"]), st.booleans())
def test_no_bytes_raise_and_none_of_them_is_taken(tails, head, to_a_known_meter):
    meters = fleet()
    title = meters[0].title if to_a_known_meter else b""
    batch = [head + title + tail for tail in tails]
    result = (
        decoder_for(meters).decode(*joined(batch)) if batch else decoder_for(meters).decode(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    )
    assert not (result.verdict == Verdict.TAKEN).any()


def test_forms_without_end_are_not_learnt(monkeypatch):
    monkeypatch.setattr(bulk, "MAX_TEMPLATES", 2)
    decoder = BulkDecoder(LAYOUTS, key_table(fleet()))
    for length in (5, 6, 7, 6):
        decoder.expect(0, length)
    assert decoder.templates == 2


def test_a_second_value_for_a_cell_is_a_conflict_and_the_first_stays():
    meter = fleet()[0]
    result = decoder_for([meter]).decode(
        *joined([sealed(meter, 1, plain_push(meter, 5, 100)), sealed(meter, 2, plain_push(meter, 5, 101))])
    )
    grid = np.full((len(CHANNEL_NAMES), 48, 1), MISSING, np.int32)
    conflict = np.zeros(grid.shape, np.bool_)
    done = scatter(result, np.array([0]), DAY_START, 1800, grid, conflict)
    assert (grid[0, 5, 0], done.conflicts) == (100, 2)
    assert conflict[:2, 5, 0].all()
    assert conflict.sum() == 2


def test_stamps_off_the_grid_and_meters_of_other_shards():
    meters = fleet()[:2]
    plain = [
        plain_push(meters[0], 48),
        plain_push(meters[0], -1),
        plain_push(meters[0], 0).replace(*odd_seconds(0)),
        plain_push(meters[1], 0),
    ]
    batch = [sealed(meters[0], k + 1, p) for k, p in enumerate(plain[:3])] + [sealed(meters[1], 1, plain[3])]
    result = decoder_for(meters).decode(*joined(batch))
    assert set(result.verdict) == {Verdict.TAKEN}
    grid = np.full((len(CHANNEL_NAMES), 48, 1), MISSING, np.int32)
    done = scatter(result, np.array([0, -1]), DAY_START, 1800, grid)
    assert done.off_grid.tolist() == [0, 1, 2]
    assert done.placed == 0


def odd_seconds(slot: int) -> tuple[bytes, bytes]:
    right = CosemDateTime.from_stamp(DAY_START + 1800 * (slot + 1))
    return right.encode(), right._replace(second=1).encode()


def test_a_replayed_counter_is_refused_within_a_batch_and_across_batches():
    meter = fleet()[1]
    decoder = decoder_for([meter])
    once = [sealed(meter, 5, plain_push(meter, 0)), sealed(meter, 5, plain_push(meter, 1)), sealed(meter, 6, plain_push(meter, 2))]
    assert decoder.decode(*joined(once)).verdict.tolist() == [Verdict.TAKEN, Verdict.REPLAYED_COUNTER, Verdict.TAKEN]
    assert set(decoder.decode(*joined(once)).verdict) == {Verdict.REPLAYED_COUNTER}
    assert decoder.counters.tolist() == [6]


def test_a_wrong_key_is_a_bad_tag_or_goes_to_the_general_decoder_and_moves_no_counter():
    meters = fleet()[:2]
    stranger = Keys(bytes(16), bytes(16))
    batch = [sealed(replace(m, keys=stranger), 9, plain_push(m, 0)) for m in meters]
    decoder = decoder_for(meters)
    assert decoder.decode(*joined(batch)).verdict.tolist() == [Verdict.GENERAL, Verdict.BAD_TAG]
    assert decoder.counters.tolist() == [-1, -1]


def test_too_little_protection_is_refused():
    meter = fleet()[1]
    assert meter.demanded == 0x30
    assert decoder_for([meter]).decode(*joined([sealed(meter, 1, plain_push(meter, 0), 0x20)])).verdict.tolist() == [Verdict.POLICY]


def test_an_unknown_form_is_handed_back_learnt_and_then_known():
    meters = fleet()[:2]
    decoder = BulkDecoder(LAYOUTS, key_table(meters))
    batch = [
        sealed(meters[0], 1, plain_push(meters[0], 0)),
        sealed(meters[0], 2, plain_push(meters[0], 1)),
        sealed(meters[1], 1, plain_push(meters[1], 0)),
    ]
    assert decoder.decode(*joined(batch)).general.tolist() == [0, 1, 2]
    decoder.learn(0, plain_push(meters[0], 0))
    decoder.learn(0, plain_push(meters[0], 7))
    assert decoder.templates == 1
    assert decoder.decode(*joined(batch)).verdict.tolist() == [Verdict.TAKEN, Verdict.TAKEN, Verdict.GENERAL]


def test_behind_a_frame_handed_back_its_meter_waits_but_no_other():
    meters = fleet()[:2]
    odd = DataNotification(0, True, False, b"", push_body(meters[0].layout, b"OTHERLENGTH", CosemDateTime.from_stamp(0), [])).encode()
    batch = [sealed(meters[0], 1, odd), sealed(meters[0], 2, plain_push(meters[0], 0)), sealed(meters[1], 1, plain_push(meters[1], 0))]
    decoder = decoder_for(meters)
    assert decoder.decode(*joined(batch)).verdict.tolist() == [Verdict.GENERAL, Verdict.GENERAL, Verdict.TAKEN]
    assert decoder.counters.tolist() == [-1, 1]


def test_a_library_without_the_functions_falls_back(monkeypatch):
    class Old:
        """OpenSSL 1.1: no EVP_CIPHER_fetch."""

    monkeypatch.setattr(bulk_cipher.ctypes, "CDLL", lambda _: Old())
    bulk_cipher.libcrypto.cache_clear()
    try:
        assert bulk_cipher.libcrypto() is None
        meter = fleet()[1]
        good, bad = sealed(meter, 1, plain_push(meter, 0)), bytearray(sealed(meter, 2, plain_push(meter, 1)))
        bad[-1] ^= 1
        assert decoder_for([meter]).decode(*joined([good, bytes(bad)])).verdict.tolist() == [Verdict.TAKEN, Verdict.BAD_TAG]
    finally:
        bulk_cipher.libcrypto.cache_clear()


def test_meters_are_found_by_their_titles():
    meters = fleet()
    numbers = np.array([int.from_bytes(m.title, "big") for m in meters] + [0, 2**64 - 1], np.uint64)
    assert key_table(meters).locate(numbers).tolist() == [*range(METERS), -1, -1]


def test_libcrypto_is_found_here():
    assert bulk_cipher.libcrypto() is not None


def test_profiles_of_a_day():
    columns = (Column("0.0.1.0.0.255", 2, Tag.OCTET_STRING, 0, ""), Column("1.0.1.29.0.255", 2, Tag.DOUBLE_LONG_UNSIGNED, 1, "Wh"))

    def response(base: int, rows: int = 48) -> bytes:
        clocks = [CosemDateTime.from_stamp(DAY_START + 1800 * (s + 1)).encode() for s in range(rows)]
        return b"\xc4\x01\xc1\x00\x01" + bytes((rows,)) + b"".join(
            b"\x02\x02\x09\x0c" + c + b"\x06" + (base + s).to_bytes(4, "big") for s, c in enumerate(clocks)
        )  # fmt: skip

    template = bulk_template.learn_profile(columns, response(0))
    result = bulk.decode_profiles(template, *joined([response(100), response(200, 47), response(300)]), threads=2)
    assert result.verdict.tolist() == [Verdict.TAKEN, Verdict.GENERAL, Verdict.TAKEN]
    assert result.frame.tolist() == [0] * 48 + [2] * 48
    assert result.values[0].tolist() == [10 * (100 + s) for s in range(48)] + [10 * (300 + s) for s in range(48)]
    assert (result.stamp_s[:48] == DAY_START + 1800 * (np.arange(48) + 1)).all()
    with pytest.raises(MeterError, match="no get-response-normal"):
        bulk_template.learn_profile(columns, b"\xc4\x02\xc1\x00\x00")
    with pytest.raises(MeterError, match="a row has 2 columns, not 1"):
        bulk_template.learn_profile(columns[:1], response(0))
    with pytest.raises(MeterError, match="is a double_long_unsigned, not a float32"):
        bulk_template.learn_profile((columns[0], replace(columns[1], tag=Tag.FLOAT32)), response(0))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (Column("1.0.1.29.0.255", 2, Tag.LONG64, 0, "Wh"), 1, "long64 times"),
        (Column("1.0.1.29.0.255", 2, Tag.LONG, 10, "Wh"), 1, "too wide"),
        (Column("0.0.99.9.0.255", 2, Tag.BIT_STRING, 0, ""), "0101", "bit_string has no place"),
    ],
)
def test_forms_that_cannot_be_read_by_place_are_not_learnt(column, value, words):
    layout = PushLayout("T", "T", "0.5.25.9.0.255", (column,), "flat")
    head = push_body(replace(layout, columns=()), b"SERIAL7", CosemDateTime.from_stamp(0), [(0, {})]).value
    body = Data(Tag.STRUCTURE, (*head, Data(column.tag, value)))
    with pytest.raises(MeterError, match=words):
        bulk_template.learn(layout, DataNotification(0, False, False, b"", body).encode())


def test_what_does_not_fit_is_refused_by_name():
    meters = fleet()[:2]
    table = key_table(meters)
    with pytest.raises(InputError, match="same system title"):
        key_table([meters[0], meters[0]])
    with pytest.raises(InputError, match=r"ek must be uint8 of shape \(2, 16\)"):
        KeyTable(
            np.zeros((2, 8), np.uint8),
            np.zeros((2, 32), np.uint8),
            np.zeros((2, 16), np.uint8),
            np.zeros(2, np.uint8),
            np.zeros(2, np.int32),
        )
    with pytest.raises(InputError, match="names layout 1, the decoder has 1"):
        BulkDecoder(LAYOUTS[:1], table)
    with pytest.raises(InputError, match="counters have 3 meters"):
        BulkDecoder(LAYOUTS, table, counters=np.zeros(3, np.int64))
    decoder = decoder_for(meters)
    with pytest.raises(RequestError, match="offsets of 1 frames do not describe a buffer of 3 bytes"):
        decoder.decode(np.zeros(3, np.uint8), np.array([0, 4], np.int64))
    with pytest.raises(RequestError, match="offsets of 2 frames"):
        bulk.decode_profiles(bulk_template.from_layout(SHIPPED[0], 7), np.zeros(3, np.uint8), np.array([0, 2, 1], np.int64))
    result = decoder.decode(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    assert (result.verdict.size, result.frame.size) == (0, 0)
    with pytest.raises(InputError, match="grids must be int32"):
        scatter(result, np.array([0, 1]), DAY_START, 1800, np.zeros((1, 48, 2), np.int32))
    with pytest.raises(InputError, match="a meter's column is 5"):
        scatter(result, np.array([0, 5]), DAY_START, 1800, np.zeros((len(CHANNEL_NAMES), 48, 2), np.int32))
    assert repr(table) == "KeyTable(2 meters)"
