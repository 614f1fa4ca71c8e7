"""The push listener: an asyncio server for wrapper frames over TCP and UDP, IPv4 and IPv6; where asked, for HDLC frames over TCP too.

Frames of all connections gather in one inbox. A single flusher writes what has gathered as one journal batch (one sync for all), then judges it,
then sends the confirmations: the more meters push at once, the larger the batches. While one batch is on its way to the disk the next gathers.
Where the inbox is full, sockets are no longer read, so a flood slows its senders instead of filling memory.

What always holds: nothing is confirmed before `Journal.append` has returned; a connection whose peer has finished is closed only when all its
frames are in the journal; if the journal cannot be written the listener stops, having confirmed nothing of that batch.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from ..cosem.hdlc import FLAG
from ..cosem.hdlc_push import HdlcPushReader
from ..cosem.wrapper import WrapperReader, wrap
from ..errors import MeterError, OpenAMIError
from ..store.journal import FrameJournal
from .admission import Admission, Verdict
from .gate import Allowance
from .intake import SETTLE_EVERY_S, Intake, Notes, Tally

log = logging.getLogger("openami.headend")
MAX_APDU_BYTES = 16_384
INBOX_FRAMES = 20_000
INBOX_BYTES = 32 * 2**20
BACKLOG = 4096
SAY_EVERY_S = 60.0


class PushListener:
    """Listens on one port, TCP and, if asked, UDP, until `stop`. The journal is this process's own for writing."""

    def __init__(
        self,
        journal: FrameJournal,
        admission: Admission,
        watch: Callable[[bytes, Verdict], None] | None = None,
        notes: Notes | None = None,
        allowance: Allowance | None = None,
        remembers: bool = True,
        hdlc: bool = False,
    ) -> None:
        """watch: told of every frame and its verdict, on the journal's thread, after the frame is stored. notes: where what is said is noted.
        allowance: how much of what is refused is stored; remembers: as `Intake`. hdlc: a connection whose first byte is a flag carries HDLC frames;
        its pushes are stored as wrapper frames."""
        self.hdlc = hdlc
        self.intake = Intake(journal, admission, notes, watch, allowance, remembers)
        self.failed: OpenAMIError | None = None
        self._inbox: list[tuple[_Connection | _Datagram, bytes]] = []
        self._inbox_bytes = 0
        self._paused = False
        self._crowded_said = float("-inf")
        self._datagrams: asyncio.DatagramTransport | None = None
        self._leaving: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")

    @property
    def tally(self) -> Tally:
        """What it has done since it started."""
        return self.intake.tally

    @property
    def connections(self) -> int:
        """Held open now."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """Frames that have come and are not stored yet."""
        return len(self._inbox)

    def state(self, not_stored_before: Counter[str]) -> dict[str, Any]:
        """How it is, for the state file."""
        tally = self.tally
        return {
            "connections": self.connections,
            "frames": tally.frames,
            "confirmed": tally.confirmed,
            "confirmed_again": tally.again,
            "refused": dict(sorted(tally.refused.items())),
            "not_stored": dict(sorted((not_stored_before + Counter(dict(tally.not_stored))).items())),
            "waiting_frames": self.waiting,
        }

    async def start(self, host: str, port: int, *, udp: bool = False, listening: socket.socket | None = None) -> int:
        """Judge what a stopped predecessor left unjudged, open the port (over UDP too if asked), begin; gives the port number. listening: a socket
        that has the port already, and keeps it behind `stop`. OSError where it is occupied."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, self.intake.catch_up)
        if listening is None:
            self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=BACKLOG)
        else:
            self._server = await loop.create_server(lambda: _Connection(self), sock=listening.dup(), backlog=BACKLOG)
        actual = int(self._server.sockets[0].getsockname()[1])
        if udp:
            try:
                self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Datagrams(self), (host, actual))
            except OSError:
                self._server.close()
                raise
        self._flusher = asyncio.create_task(self._flush_until_stopped())
        return actual

    async def stop(self) -> None:
        """Take nothing more, bring what has been received to the disk and confirm it, remember the verdicts, close.

        Reading stops first: under steady work there would always be one more frame. What is still on its way is not confirmed, so its
        meter sends it again.
        """
        self._server.close()
        self._stopping = True
        self._pause()
        self._wake.set()
        await self._flusher
        if self._datagrams:
            self._datagrams.close()
        for connection in list(self._connections):
            connection.transport.close()
        self._disk.shutdown()

    async def finished(self) -> None:
        """Returns when the flusher has ended: after `stop`, or because the journal refused (`failed` says why)."""
        await asyncio.shield(self._flusher)

    def take(self, connection: _Connection | _Datagram, octets: bytes) -> None:
        self._inbox.append((connection, octets))
        self._inbox_bytes += len(octets)
        if self.crowded and not self._paused:
            self._pause()
            self._say_crowded()
        self._wake.set()

    def _say_crowded(self) -> None:
        """Once a minute at most: behind a backlog it is so again and again."""
        if time.monotonic() - self._crowded_said > SAY_EVERY_S:
            self._crowded_said = time.monotonic()
            log.warning("%d frames wait for the journal: senders are slowed until it has them, none is lost", len(self._inbox))

    def _pause(self) -> None:
        self._paused = True
        for connection in self._connections:
            connection.transport.pause_reading()

    @property
    def crowded(self) -> bool:
        """No room for more: what comes now must wait in its socket, or be dropped where it cannot wait."""
        return self._stopping or len(self._inbox) >= INBOX_FRAMES or self._inbox_bytes >= INBOX_BYTES

    def meet(self, connection: _Connection) -> None:
        self._connections.add(connection)
        if self._paused:
            connection.transport.pause_reading()

    def leave(self, connection: _Connection) -> None:
        """The peer has finished: close when everything it sent is stored."""
        self._leaving.append(connection)
        self._wake.set()

    async def _flush_until_stopped(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._stopping and not self._inbox):
            await self._wait_for_work()
            batch, self._inbox, self._inbox_bytes = self._inbox, [], 0
            leaving, self._leaving = self._leaving, []
            self._wake.clear()
            try:
                confirms = await loop.run_in_executor(self._disk, self.intake.take, [(peer.host, octets) for peer, octets in batch])
            except OpenAMIError as error:
                self.failed = error
                break
            for (connection, _), confirm in zip(batch, confirms, strict=True):
                if confirm is not None:
                    connection.reply(confirm)
            for connection in leaving:
                connection.transport.close()
            if self._paused and not self.crowded:
                self._paused = False
                for connection in self._connections:
                    connection.transport.resume_reading()
        if self.failed is None:
            await loop.run_in_executor(self._disk, lambda: self.intake.settle(everything=True))
        else:
            self._server.close()
            for connection in list(self._connections):
                connection.transport.abort()

    async def _wait_for_work(self) -> None:
        """Until something came, or until verdicts have waited long enough to be remembered."""
        try:
            async with asyncio.timeout(SETTLE_EVERY_S if self.intake.unsettled else None):
                await self._wake.wait()
        except TimeoutError:
            return


class _Datagrams(asyncio.DatagramProtocol):
    """Pushes over UDP: a datagram is one frame (IEC 62056-47). What the full inbox has no room for is dropped, as UDP may: the meter that wants
    confirmation sends it again."""

    def __init__(self, listener: PushListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # by duty, though not by descent: Python 3.11's does not inherit it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._listener.crowded:
            self._listener.take(_Datagram(self._transport, addr), data)


@dataclass(frozen=True, slots=True)
class _Datagram:
    """Who sent one datagram."""

    transport: asyncio.DatagramTransport
    address: tuple[str, int]

    @property
    def host(self) -> str:
        return self.address[0]

    def reply(self, octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(octets, self.address)


class _Connection(asyncio.Protocol):
    """One meter's (or gateway's) connection."""

    def __init__(self, listener: PushListener) -> None:
        self._listener = listener
        self._frames: WrapperReader | HdlcPushReader = WrapperReader(MAX_APDU_BYTES)
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.host = str((transport.get_extra_info("peername") or ("", 0))[0])
        self._listener.meet(self)

    def reply(self, octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._frames.answer(octets) if isinstance(self._frames, HdlcPushReader) else octets)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            if self._listener.hdlc and data[0] == FLAG:
                self._frames = HdlcPushReader(MAX_APDU_BYTES)
        if isinstance(self._frames, WrapperReader) and not self._frames.waiting_bytes and _one_frame(data):
            self._listener.take(self, data)
            return
        while True:
            try:
                frames = self._frames.feed(data)
            except MeterError as error:
                self._listener.take(self, error.octets)
                data = b""
                continue
            for frame in frames:
                self._listener.take(self, wrap(*frame))
            if not frames:
                return
            data = b""

    def eof_received(self) -> bool:
        try:
            self._frames.end()
        except MeterError as error:
            self._listener.take(self, error.octets)
        self._listener.leave(self)
        return True


def _one_frame(data: bytes) -> bool:
    """Whether these bytes are exactly one wrapper frame, as a meter's push nearly always arrives."""
    return data[:2] == b"\x00\x01" and 8 < len(data) <= 8 + MAX_APDU_BYTES and int.from_bytes(data[6:8], "big") == len(data) - 8
