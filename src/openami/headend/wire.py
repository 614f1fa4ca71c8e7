"""What carries a conversation's bytes to one meter: a TCP connection, or UDP datagrams (IEC 62056-47). Nothing here knows what they mean.

What always holds: `receive` gives what has come, b"" once the peer has hung up, and raises OSError where the way is broken; memory is
bounded: of datagrams that nobody takes the newest are dropped, as UDP may.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

CHUNK_BYTES = 65_536
DATAGRAMS_MAX = 64
HANG_UP_S = 1.0


class Wire(Protocol):
    """An open way to a meter."""

    async def send(self, frames: list[bytes]) -> None:
        """Frames in order; over UDP each is a datagram. OSError where the way is broken."""

    async def receive(self) -> bytes:
        """The next bytes, over UDP the next datagram; b"" = the peer has hung up. OSError where the way is broken."""

    async def hang_up(self) -> None:
        """Ends it; never waits for long, never raises."""


async def open_wire(host: str, port: int, *, udp: bool = False) -> Wire:
    """A TCP connection, or a UDP socket that hears this peer alone. OSError where there is no way."""
    if udp:
        loop = asyncio.get_running_loop()
        return (await loop.create_datagram_endpoint(Datagrams, remote_addr=(host, port)))[1]
    return Stream(*await asyncio.open_connection(host, port))


class Stream:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, frames: list[bytes]) -> None:
        self._writer.writelines(frames)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(CHUNK_BYTES)

    async def hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(HANG_UP_S):
                await self._writer.wait_closed()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket with one peer."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[bytes | Exception] = asyncio.Queue(DATAGRAMS_MAX)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._keep(data)

    def error_received(self, exc: Exception) -> None:
        """ICMP: nobody listens there."""
        self._keep(exc)

    def _keep(self, came: bytes | Exception) -> None:
        if came and not self._came.full():
            self._came.put_nowait(came)

    async def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self._transport is not None:
                self._transport.sendto(frame)

    async def receive(self) -> bytes:
        came = await self._came.get()
        if isinstance(came, Exception):
            raise came
        return came

    async def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()
