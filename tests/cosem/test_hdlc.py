"""HDLC frames and their stream: checks, addresses, garbage; the link's negotiation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.cosem import hdlc
from openami.cosem.hdlc import Address, Frame, HdlcReader, check
from openami.cosem.hdlc_push import HdlcPushReader
from openami.cosem.links import Happened, HdlcLink, HdlcParameters, LinkState, push_frame
from openami.cosem.wrapper import wrap
from openami.errors import MeterError, RequestError

ADDRESS = st.one_of(
    st.integers(0, 127).map(Address),
    st.tuples(st.integers(0, 127), st.integers(0, 127), st.just(2)).map(Address._make),
    st.tuples(st.integers(0, 16383), st.integers(0, 16383), st.just(4)).map(Address._make),
)
FRAME = st.builds(Frame, ADDRESS, ADDRESS, st.integers(0, 255), st.binary(max_size=300), st.booleans())


def pushed(octets):
    """What a station that never opened the link hears of UI frames, in pieces of any size."""
    link = HdlcLink(Address(16), None, False)
    return [event.apdu for k in range(len(octets)) for event in link.feed(octets[k : k + 1])]


def ui(information, segmented=False):
    return Frame(Address(103), Address(1, 17, 2), 0x13 if not segmented else 0x03, information, segmented).encode()


def test_a_push_in_segments_is_put_together():
    """Iskraemeco AM550: UI frames of 155 bytes with the segmentation bit."""
    begun = ui(b"\xe6\xe7\x00\x0fab", segmented=True)
    assert pushed(begun + ui(b"cd", segmented=True) + ui(b"ef")) == [b"\x0fabcdef"]
    assert pushed(begun + ui(b"\xe6\xe7\x00\x0fxy")) == [b"\x0fxy"]  # its end was lost


def test_general_blocks_without_llc_header_are_taken():
    assert pushed(ui(b"\xe6\xe7\x00\xe0one") + ui(b"\xe0two")) == [b"\xe0one", b"\xe0two"]


def test_segments_without_end_do_not_fill_the_memory():
    link = HdlcLink(Address(16), None, False, max_apdu_bytes=300)
    frame = ui(bytes(120), segmented=True)
    assert link.feed(frame * 2) == []
    with pytest.raises(MeterError, match="more than 300 bytes"):
        link.feed(frame)


@given(FRAME)
def test_frames_round_trip(frame):
    assert Frame.decode(frame.encode()[1:-1]) == frame


@given(
    st.lists(FRAME, max_size=4), st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\x7e", b"")), min_size=5, max_size=5), st.data()
)
def test_frames_in_garbage_cut_anywhere(frames, garbage, data):
    stream = garbage[4] + b"".join(one.encode() + junk for one, junk in zip(frames, garbage, strict=False))
    reader, found = HdlcReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


@given(FRAME, FRAME, st.integers(8, 4000))
def test_one_wrong_bit_costs_one_frame(first, second, at):
    octets = bytearray(first.encode())
    place = 8 + at % (8 * (len(octets) - 2))
    octets[place // 8] ^= 1 << place % 8
    found = HdlcReader().feed(bytes(octets) + second.encode() + b"\x7e" * 3000)
    assert second in found
    assert first not in found or first == second


@given(st.binary(max_size=4000))
def test_memory_is_bounded(octets):
    reader = HdlcReader()
    reader.feed(octets)
    assert len(reader._buffer) <= hdlc.MAX_FRAME_BYTES + 2


def test_check_sequence_of_the_standard():
    assert check(b"123456789").hex() == "6e90"


def test_frames_may_share_a_flag():
    first = Frame(Address(1), Address(16), 0x10, b"abc")
    assert HdlcReader().feed(first.encode()[:-1] + first.encode()) == [first, first]


@pytest.mark.parametrize("address", [Address(128), Address(1, 200, 2), Address(20000, 1, 4), Address(1, 1, 3), Address(1, 1, 1)])
def test_addresses_that_do_not_fit(address):
    with pytest.raises(RequestError):
        address.encode()


def test_an_address_of_three_bytes_is_refused():
    with pytest.raises(MeterError):
        Address.decode(bytes((2, 4, 7)), 0)


@given(st.builds(HdlcParameters, st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 7), st.integers(1, 7)))
def test_parameters_round_trip(parameters):
    assert HdlcParameters.decode(parameters.encode()) == parameters


@pytest.mark.parametrize("octets", ["8180", "818001", "81800305010", "8180030501ff00", "81800307010f", "8180050701000801ff"])
def test_parameters_that_make_no_sense(octets):
    with pytest.raises(MeterError):
        HdlcParameters.decode(bytes.fromhex(octets + "0" * (len(octets) % 2)))


def test_each_side_sends_what_the_other_can_receive():
    client = HdlcLink(Address(16), Address(1, 17, 2), True, HdlcParameters(500, 600, 3, 4))
    server = HdlcLink(Address(1), None, False, HdlcParameters(300, 200, 7, 2))
    client.open()
    (snrm,) = client.take_out()
    assert server.feed(snrm)[0].what is Happened.UP
    (ua,) = server.take_out()
    assert client.feed(ua)[0].what is Happened.UP
    assert client.agreed == HdlcParameters(200, 300, 2, 4)
    assert server.agreed == HdlcParameters(300, 200, 4, 2)


def test_a_station_that_cannot_read_parameters_is_asked_without_them_at_last():
    client = HdlcLink(Address(16), Address(1), True, HdlcParameters(2030, 2030, 7, 7))
    client.open()
    asked = client.take_out()
    for _ in range(2):
        assert client.timed_out()
        asked += client.take_out()
    assert [bool(Frame.decode(one[1:-1]).information) for one in asked] == [True, True, False]
    server = HdlcLink(Address(1), None, False, HdlcParameters(2030, 2030, 7, 7))
    server.feed(asked[-1])
    client.feed(server.take_out()[0])
    assert client.agreed == server.agreed == HdlcParameters()


def test_a_reject_is_answered_with_the_frames_that_it_asks_for():
    client = HdlcLink(Address(16), Address(1), True, HdlcParameters(128, 128, 3, 3))
    server = HdlcLink(Address(1), None, False, HdlcParameters(128, 128, 3, 3))
    client.open()
    server.feed(client.take_out()[0])
    client.feed(server.take_out()[0])
    client.send(bytes(300))
    first = client.take_out()
    client.feed(Frame(Address(16), Address(1), 1 << 5 | hdlc.POLL_FINAL | hdlc.REJ).encode())
    assert client.take_out() == first[1:]


def test_a_disconnected_server_says_so():
    client = HdlcLink(Address(16), Address(1), True)
    server = HdlcLink(Address(1), None, False)
    client.open()
    server.feed(client.take_out()[0])
    client.feed(server.take_out()[0])
    server.state = LinkState.DOWN
    client.send(b"\xc0\x01")
    server.feed(client.take_out()[0])
    (dm,) = server.take_out()
    assert Frame.decode(dm[1:-1]).control & 0xEF == hdlc.DM
    assert [event.what for event in client.feed(dm)] == [Happened.DOWN]


def test_frames_for_others_are_passed_over():
    server = HdlcLink(Address(1), None, False)
    assert server.feed(Frame(Address(2), Address(16), hdlc.SNRM | 0x10).encode()) == []
    assert (server.state, server.refused_frames) == (LinkState.DOWN, 1)


def test_a_push_in_an_unnumbered_frame():
    server = HdlcLink(Address(16), Address(1), True)
    (event,) = server.feed(push_frame(Address(1), Address(16), b"\x0fabc"))
    assert (event.what, event.apdu, event.source) == (Happened.APDU, b"\x0fabc", 1)


def test_an_error_loses_neither_what_was_in_front_nor_behind():
    link = HdlcLink(Address(16), Address(1), True)
    good, bad = push_frame(Address(1), Address(16), b"\x0fabc"), Frame(Address(16), Address(1), 0x13, b"no LLC").encode()
    with pytest.raises(MeterError, match="LLC"):
        link.feed(good + bad + good)
    assert [event.apdu for event in link.feed(b"")] == [b"\x0fabc"] * 2


def test_links_are_only_opened_and_closed_in_their_state():
    link = HdlcLink(Address(16), Address(1), True)
    for forbidden in (link.close, lambda: link.send(b"x")):
        with pytest.raises(RequestError):
            forbidden()
    link.open()
    with pytest.raises(RequestError):
        link.open()


def pieces_of(octets):
    """A push as the segments of UI frames of one station."""
    return [
        Frame(Address(16), Address(1, 17, 2), 0x13, octets[at : at + 20], at + 20 < len(octets)).encode()
        for at in range(0, len(octets), 20)
    ]


def told_by(reader, stream, size):
    """The pushes and the complaints, in order, of a stream cut into pieces."""
    told = []
    for at in range(0, len(stream), size):
        chunk = stream[at : at + size]
        while True:
            try:
                pushes = reader.feed(chunk)
            except MeterError as error:
                told.append("refused" if error.octets else "refused without its bytes")
            else:
                told += [push.apdu for push in pushes]
                if not pushes:
                    break
            chunk = b""
    return told


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_pushes_are_put_together_however_the_stream_is_cut(size):
    apdu = b"\x0f" + bytes(range(100)) + b"\x7e\x7d"
    stream = b"\x7e\x7e".join(pieces_of(b"\xe6\xe7\x00" + apdu)) + push_frame(Address(1), Address(16), b"\x0fabc")
    reader = HdlcPushReader()
    assert told_by(reader, stream, size) == [apdu, b"\x0fabc"]
    reader.end()


def test_a_push_whose_end_was_lost_and_other_frames_cost_only_themselves():
    lost = pieces_of(b"\xe6\xe7\x00\x0f" + bytes(60))[:-1]
    rr, good = Frame(Address(16), Address(1), 0x11).encode(), push_frame(Address(1), Address(16), b"\x0fabc")
    headless = Frame(Address(16), Address(1), 0x13, b"no LLC").encode()
    reader = HdlcPushReader()
    assert told_by(reader, b"".join((*lost, good, rr, good, headless, good)), 9) == [
        b"\x0fabc",
        "refused",
        b"\x0fabc",
        "refused",
        b"\x0fabc",
    ]


def test_a_push_without_end_is_refused_and_memory_is_bounded():
    endless = Frame(Address(16), Address(1), 0x13, bytes(100), True).encode()
    reader = HdlcPushReader(max_apdu_bytes=1000)
    assert "refused" in told_by(reader, endless * 12, 10_000)
    assert told_by(reader, b"\x7e" * 100_000, 10_000) == []
    assert len(reader._seen) <= 1000


def test_a_stream_that_ends_inside_a_frame_says_so():
    reader = HdlcPushReader()
    assert reader.feed(push_frame(Address(1), Address(16), b"\x0fabc")[:-4]) == []
    with pytest.raises(MeterError, match="ended inside"):
        reader.end()


def test_an_answer_finds_its_way_back():
    reader = HdlcPushReader()
    (push,) = reader.feed(push_frame(Address(1, 17, 4), Address(64), b"\x0fabc"))
    (frame,) = HdlcReader().feed(reader.answer(wrap(push.destination, push.source, b"\x10xyz")))
    assert (frame.destination, frame.source, frame.information) == (Address(1, 17, 4), Address(64), b"\xe6\xe6\x00\x10xyz")
