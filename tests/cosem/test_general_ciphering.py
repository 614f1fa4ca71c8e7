"""general-ciphering: both readings of what its tag covers, whole conversations in it, and what is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import BLOCK_LOAD, KEYS, NOW, SERVER_TITLE, pair, protection, pump

from openami.cosem.acse import Mechanism
from openami.cosem.apdu import Item, Ref
from openami.cosem.ciphering import Keys
from openami.cosem.client import Answer, Associated
from openami.cosem.general_ciphering import GeneralHeader, open_general, parse_general, seal_general
from openami.cosem.protection import Form, Protection
from openami.cosem.server import Violation
from openami.errors import MeterError, RequestError

OURS, THEIRS = b"OAM\0\0\0\0\1", b"XMA\0\0\0\0\7"
KEYS_256 = Keys(bytes(range(32)), bytes(range(32, 64)))
HEADER = GeneralHeader(b"\0" * 7 + b"\1", OURS, THEIRS)


@given(
    st.sampled_from([(0x10, KEYS), (0x20, KEYS), (0x30, KEYS), (0x31, KEYS), (0x32, KEYS_256)]),
    st.booleans(),
    st.builds(
        GeneralHeader,
        st.binary(max_size=20),
        st.just(OURS),
        st.sampled_from([b"", THEIRS]),
        st.sampled_from([b"", bytes(12)]),
        st.binary(max_size=200),
        st.sampled_from([b"", b"\0\0"]),
    ),
    st.binary(max_size=200),
)
def test_what_was_sealed_opens(how, binds, header, plain):
    control, keys = how
    found, sealed = parse_general(seal_general(header, control, 9, keys, plain, binds))
    assert (found, sealed.security_control, sealed.invocation_counter) == (header, control, 9)
    opened, bound = open_general(found, sealed, keys, OURS)
    assert opened == plain
    assert bound is binds or control == 0x20


def test_the_bytes_on_the_wire():
    octets = seal_general(HEADER, 0x20, 1, KEYS, b"\xc0\x01")
    front = f"dd0800000000000000010{len(OURS)}{OURS.hex()}08{THEIRS.hex()}0000"
    assert octets.hex() == f"{front}010000072000000001{octets[-2:].hex()}"


@pytest.mark.parametrize("binds", [False, True])
def test_an_altered_tag_or_originator_is_found(binds):
    octets = bytearray(seal_general(HEADER, 0x30, 1, KEYS, b"plain", binds))
    octets[-1] ^= 1
    header, sealed = parse_general(bytes(octets))
    with pytest.raises(MeterError) as caught:
        open_general(header, sealed, KEYS, OURS)
    assert caught.value.cause == "bad_tag"
    octets[-1] ^= 1
    header, sealed = parse_general(bytes(octets))
    with pytest.raises(MeterError):
        open_general(header, sealed, KEYS, THEIRS)


@pytest.mark.parametrize(
    ("kind", "said"), [("0101", "a wrapped key"), ("0102", "an agreed key"), ("010001", "broadcast key"), ("0109", "no such key-info")]
)
def test_other_keys_are_refused_by_name(kind, said):
    octets = bytes.fromhex("dd" + "00" * 5 + kind + "00" * 8)
    with pytest.raises(MeterError, match=said) as caught:
        parse_general(octets)
    assert caught.value.cause == "security"


@given(st.binary(max_size=80))
def test_anything_else_is_a_meter_error(rest):
    try:
        parse_general(b"\xdd" + rest)
    except MeterError:
        return
    assert len(rest) > 10


def test_our_own_mistakes_are_request_errors():
    with pytest.raises(RequestError):
        seal_general(HEADER._replace(originator=b""), 0x30, 1, KEYS, b"")


def associated(mechanism, settings=None, **more):
    client, server = pair("wrapper", mechanism, 0x30, Form.GENERAL_CIPHERING, settings=settings, **more)
    client.open()
    events, _, _ = pump(client, server)
    assert any(isinstance(event, Associated) for event in events), events
    return client, server


@pytest.mark.parametrize("mechanism", [Mechanism.LLS, Mechanism.HLS, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256])
@pytest.mark.parametrize("binds", [False, True])
def test_a_conversation_in_general_ciphering(mechanism, binds):
    ours = protection(0x30, Form.GENERAL_CIPHERING)
    ours._binds_header = binds
    client, server = associated(mechanism, settings={"protection": ours})
    client.get(Item(Ref(7, BLOCK_LOAD, 2)))
    seen = client.take_out()
    for frame in seen:
        server.feed(frame, NOW)
    answers = server.take_out()
    assert [frame[8] for frame in seen + answers] == [0xDD, 0xDD]
    events = [event for frame in answers for event in client.feed(frame)]
    assert [len(event.results[0].value) for event in events if isinstance(event, Answer)] == [48]
    asked, said = (parse_general(frame[8:])[0] for frame in (seen[0], answers[0]))
    assert (said.transaction, said.originator, said.recipient) == (asked.transaction, SERVER_TITLE, OURS)


def test_long_answers_leave_room_for_the_longer_header():
    client, server = associated(Mechanism.HLS, max_pdu=200, settings={"max_pdu": 200})
    client.get(Item(Ref(7, BLOCK_LOAD, 2)))
    at_client, _, _ = pump(client, server)
    assert [len(event.results[0].value) for event in at_client if isinstance(event, Answer)] == [48]


def test_one_meant_for_another_is_refused():
    _, server = associated(Mechanism.HLS)
    other = Protection(KEYS, OURS, b"SOMEBODY", 0x30, 900, form=Form.GENERAL_CIPHERING)
    octets = other.seal(bytes.fromhex("c001c1000100002a0000ff0200"))
    events = server.feed(b"\x00\x01\x00\x30\x00\x01" + len(octets).to_bytes(2, "big") + octets, NOW)
    assert [event.cause for event in events if isinstance(event, Violation)] == ["security"]
