"""Wrapper frames out of a stream cut anywhere, with bad bytes in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.cosem.wrapper import WrapperFrame, WrapperReader, unwrap, wrap
from openami.errors import MeterError, RequestError

FRAMES = st.lists(
    st.builds(WrapperFrame, st.integers(0, 65535), st.integers(0, 65535), st.binary(min_size=1, max_size=60).map(lambda b: b"\x0f" + b)),
    max_size=5,
)


def drain(reader, chunk):
    """Feeds a chunk and goes on after each error: (frames, offending bytes)."""
    frames, bad = [], []
    while True:
        try:
            got = reader.feed(chunk)
        except MeterError as error:
            bad.append(error.octets)
            chunk = b""
            continue
        chunk = b""
        frames += got
        if not got:
            return frames, bad


@given(FRAMES, st.data())
def test_frames_survive_any_cutting(frames, data):
    stream = b"".join(wrap(*frame) for frame in frames)
    reader, got = WrapperReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    reader.end()
    assert got == frames


def test_byte_at_a_time():
    reader = WrapperReader()
    got = [frame for octet in wrap(1, 16, b"\x0fabc") * 2 for frame in reader.feed(bytes((octet,)))]
    assert got == [WrapperFrame(1, 16, b"\x0fabc")] * 2


@pytest.mark.parametrize("header", ["0002000100010004", "0001000100010000", "00010001000100ff", "ffffffffffffffff"])
def test_a_bad_header_is_reported_with_its_bytes_and_the_stream_goes_on(header):
    bad = bytes.fromhex(header) + b"\x0fxyz"
    good = wrap(1, 64, b"\x0fgood")
    frames, octets = drain(WrapperReader(max_apdu_bytes=100), good + bad + good)
    assert frames == [WrapperFrame(1, 64, b"\x0fgood")] * 2
    assert octets == [bad]


def test_frames_in_front_of_bad_bytes_come_first():
    reader = WrapperReader()
    assert reader.feed(wrap(1, 1, b"\x0fa") + b"\xff" * 20) == [WrapperFrame(1, 1, b"\x0fa")]
    with pytest.raises(MeterError) as caught:
        reader.feed(b"")
    assert (caught.value.cause, caught.value.octets) == ("malformed", b"\xff" * 20)


def test_bad_bytes_in_many_reads_are_one_error():
    reader, errors, frames = WrapperReader(), 0, []
    for octet in b"\xff" * 40 + wrap(2, 3, b"\x0fok"):
        got, bad = drain(reader, bytes((octet,)))
        frames += got
        errors += len(bad)
    assert (errors, frames) == (1, [WrapperFrame(2, 3, b"\x0fok")])
    assert reader.skipped_bytes == 32


@given(st.binary(min_size=8, max_size=60), FRAMES)
def test_any_garbage_only_raises_meter_error_and_memory_is_bounded(garbage, frames):
    reader = WrapperReader(max_apdu_bytes=256)
    drain(reader, garbage + b"".join(wrap(*frame) for frame in frames))
    assert reader.waiting_bytes <= 8 + 256


def test_a_cut_stream_is_reported_at_its_end():
    reader = WrapperReader()
    reader.feed(wrap(1, 1, b"\x0fabc")[:-1])
    with pytest.raises(MeterError) as caught:
        reader.end()
    assert len(caught.value.octets) == 11


def test_a_datagram_holds_whole_frames():
    assert unwrap(wrap(1, 1, b"\x0fa") * 2) == [WrapperFrame(1, 1, b"\x0fa")] * 2
    with pytest.raises(MeterError):
        unwrap(wrap(1, 1, b"\x0fa")[:-1])


def test_an_apdu_too_large_is_our_fault():
    with pytest.raises(RequestError):
        wrap(1, 1, b"\0" * 65_536)
