"""Pushes in a stream of HDLC frames, as the wrapper frames that the listener of wrapper pushes takes (IEC 62056-46; Green Book, push).

A meter, or the modem before it, sends data-notifications without a link being set up: in UI frames, or in I frames that nobody acknowledges
(Kaifa), whole or in segments. `HdlcPushReader` has the shape of `WrapperReader`. What always holds: what came in front of something wrong is given
before it is reported; what is wrong costs only itself; memory is bounded by the longest APDU.
"""

from __future__ import annotations

from collections import deque

from ..errors import MeterError
from . import hdlc
from .hdlc import Address, Frame, HdlcReader
from .links import Unasked, push_frame, without_llc
from .wrapper import MAX_APDU_BYTES, WrapperFrame, unwrap

STATIONS_MAX = 1024
"""Stations of one stream to which an answer finds its way back; the oldest is forgotten first."""


class HdlcPushReader:
    """Finds the pushes in a byte stream, in pieces of any size."""

    def __init__(self, max_apdu_bytes: int = MAX_APDU_BYTES) -> None:
        self._reader = HdlcReader()
        self._unasked = Unasked(max_apdu_bytes)
        self._limit = max_apdu_bytes
        self._frames: deque[Frame] = deque()
        self._seen = bytearray()  # since the last whole frame: what is told where no frame comes of it
        self._wrong = b""
        self._stations: dict[tuple[int, int], tuple[Address, Address]] = {}

    def feed(self, chunk: bytes) -> list[WrapperFrame]:
        """Takes the next bytes; returns the pushes they complete, upper HDLC addresses as wPorts. MeterError(cause="malformed") for bytes that are
        no frame and for frames that carry no push, with them as `octets`; `feed(b"")` goes on behind it."""
        self._find(chunk)
        pushes: list[WrapperFrame] = []
        while self._frames:
            try:
                push = self._push(self._frames[0])
            except MeterError:
                if pushes:
                    return pushes
                self._frames.popleft()
                raise
            self._frames.popleft()
            pushes += [] if push is None else [push]
        if not pushes and self._wrong:
            octets, self._wrong = self._wrong, b""
            raise MeterError("no HDLC frame, or one whose checks do not hold", octets=octets)
        return pushes

    def end(self) -> None:
        """The stream is over: MeterError with the bytes of a frame that was begun and not finished."""
        rest = bytes(self._seen).strip(b"\x7e")
        self._seen.clear()
        if rest:
            raise MeterError(f"the stream ended inside an HDLC frame, {len(rest)} bytes of it had come", octets=b"\x7e" + rest)

    def answer(self, octets: bytes) -> bytes:
        """The wrapper frame of an answer as an HDLC UI frame to the station that pushed."""
        frame = unwrap(octets)[0]
        own, peer = self._stations.get((frame.source, frame.destination), (Address(frame.source), Address(frame.destination)))
        return push_frame(own, peer, frame.apdu, hdlc.LLC_COMMAND)

    def _find(self, chunk: bytes) -> None:
        lost = self._reader.bad_frames + self._reader.skipped_bytes
        self._seen += chunk
        found = self._reader.feed(chunk)
        if self._reader.bad_frames + self._reader.skipped_bytes > lost:
            self._wrong = bytes(self._seen[-self._limit :])
            self._seen.clear()
        elif found:
            self._seen = bytearray(chunk[chunk.rfind(hdlc.FLAG) :])
        del self._seen[: -self._limit]  # flags alone may go on for ever
        self._frames += found

    def _push(self, frame: Frame) -> WrapperFrame | None:
        if frame.control & 1 and frame.control & 0xEF != hdlc.UI:
            raise MeterError(f"an HDLC frame with control 0x{frame.control:02x} carries no push", octets=frame.encode())
        information = self._unasked.take(frame)
        if information is None:
            return None
        try:
            apdu = without_llc(information)
        except MeterError as error:
            raise MeterError(str(error), octets=frame.encode()) from None
        key = frame.destination.upper, frame.source.upper
        self._stations.pop(key, None)
        self._stations[key] = frame.destination, frame.source
        if len(self._stations) > STATIONS_MAX:
            del self._stations[next(iter(self._stations))]
        return WrapperFrame(frame.source.upper, frame.destination.upper, apdu)
