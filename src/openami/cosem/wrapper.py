"""Wrapper frames over TCP and UDP (IEC 62056-47; Green Book "COSEM transport layers for IP networks").

version(2) = 1, source wPort(2), destination wPort(2), length(2), then the APDU. `WrapperReader` takes the bytes of a stream in pieces
of any size; `unwrap` takes a datagram. What always holds: a frame in front of bad bytes is delivered before they are reported, bad
bytes are reported once with what they were, and the next plausible header behind them is found again.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import MeterError, RequestError

_HEADER = struct.Struct(">HHHH")
VERSION = 1
MAX_APDU_BYTES = 65_535

# First bytes with which an APDU can begin: used only to find the stream's place again after bad bytes.
_APDU_TAGS = frozenset((1, 8, 14, 15, 16, *range(0x21, 0x2F), *range(0x40, 0x60), *range(0x60, 0x64), *range(0xC0, 0xE1)))


class WrapperFrame(NamedTuple):
    """One frame: source and destination wPort (client and logical device address) and the APDU."""

    source: int
    destination: int
    apdu: bytes


def wrap(source: int, destination: int, apdu: bytes) -> bytes:
    """The frame's bytes."""
    if len(apdu) > MAX_APDU_BYTES:
        raise RequestError(f"an APDU of {len(apdu)} bytes does not fit a wrapper frame (at most {MAX_APDU_BYTES}); send it in blocks")
    return _HEADER.pack(VERSION, source, destination, len(apdu)) + apdu


def unwrap(datagram: bytes) -> list[WrapperFrame]:
    """The frames of one UDP datagram, which must hold whole frames only."""
    reader = WrapperReader()
    frames = reader.feed(datagram)
    reader.end()
    return frames


class WrapperReader:
    """Finds the frames in a byte stream.

    `feed` returns the frames that are complete. Where the header is wrong (version not 1, or a length of 0 or above
    `max_apdu_bytes`) it raises MeterError(cause="malformed") with the offending bytes as `octets`; frames that came in front
    are returned first, and the error by the next `feed`. After the error, `feed(b"")` goes on with what follows. Bytes between
    the reported ones and the next plausible header are skipped and counted in `skipped_bytes`.
    """

    def __init__(self, max_apdu_bytes: int = MAX_APDU_BYTES) -> None:
        self._limit = max_apdu_bytes
        self._buffer = bytearray()
        self._lost = False
        self.skipped_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[WrapperFrame]:
        """Takes the next bytes of the stream; returns the frames they complete."""
        buffer = self._buffer
        buffer += chunk
        frames: list[WrapperFrame] = []
        at = 0
        while True:
            if self._lost:
                found = self._search(at)
                self.skipped_bytes += found - at
                at = found
            if len(buffer) - at < 8:
                break
            version, source, destination, length = _HEADER.unpack_from(buffer, at)
            if version != VERSION or not 0 < length <= self._limit:
                if frames:
                    break
                self._refuse(at)
            end = at + 8 + length
            if len(buffer) < end:
                break
            self._lost = False
            frames.append(WrapperFrame(source, destination, bytes(buffer[at + 8 : end])))
            at = end
        del buffer[:at]
        return frames

    def end(self) -> None:
        """The stream is over: MeterError with the bytes of a frame that was begun and not finished."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        if rest:
            raise MeterError(f"the stream ended inside a wrapper frame, {len(rest)} bytes of it had come", octets=rest)

    def _refuse(self, at: int) -> None:
        """Takes the bad bytes out, up to the next plausible header, and reports them."""
        version, _, _, length = _HEADER.unpack_from(self._buffer, at)
        end = self._search(at + 1)
        bad = bytes(self._buffer[at:end])
        del self._buffer[:end]
        self._lost = True
        wrong = f"version {version}" if version != VERSION else f"length {length} (allowed: 1 to {self._limit})"
        raise MeterError(f"wrapper header with {wrong}: {len(bad)} bytes skipped", octets=bad)

    def _search(self, at: int) -> int:
        """Where the next header may stand from `at` on: a whole plausible one, or the buffer's last bytes if they begin like one."""
        buffer = self._buffer
        while True:
            at = buffer.find(b"\x00", at)
            if at < 0:
                return len(buffer)
            head = bytes(buffer[at : at + 9])
            if head[1:2] in (b"", b"\x01"):
                if len(head) < 9:
                    return at
                length = head[6] << 8 | head[7]
                if 0 < length <= self._limit and head[8] in _APDU_TAGS:
                    return at
            at += 1
