"""One simulated meter on a TCP port, over the wrapper or HDLC, for any number of connections.

    server = await serve_device(device, "127.0.0.1", 0, hdlc=False)
    ... server.port ...
    await server.close()

What always holds: every connection is an association of its own on the same meter; a connection that sends garbage costs only itself; one that
is silent for `idle_s` is closed, as IS 15959's inactivity time-out wants; a meter in the dark answers nobody; what was refused is told to
`told`, never answered with data.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable

from ..cosem.hdlc import Address
from ..cosem.links import MAX_INFORMATION_BYTES, HdlcLink, HdlcParameters, Link, WrapperLink
from ..cosem.server import Event, LogicalDevice, ServerSession
from ..errors import InputError

HDLC_OFFER = HdlcParameters(MAX_INFORMATION_BYTES, MAX_INFORMATION_BYTES, 7, 7)
IDLE_S = 120.0
Told = Callable[[Event], None]


def now_s() -> int:
    """UTC seconds of this machine's clock."""
    return int(time.time())


class DeviceServer:
    """A meter that is being served. port: the one that it got. Use `serve_device`."""

    def __init__(self, device: LogicalDevice, hdlc: bool, clock: Callable[[], int], told: Told | None, idle_s: float) -> None:
        self.device, self._hdlc, self._clock, self._idle_s = device, hdlc, clock, idle_s
        self._told: Told = told or (lambda event: None)
        self._server: asyncio.Server | None = None
        self.dark = False
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def port(self) -> int:
        if self._server is None:
            raise InputError("the meter is not being served yet; call start() first")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> None:
        try:
            self._server = await asyncio.start_server(self._connected, host, port)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InputError(f"cannot listen on {host}:{port} ({why}); give another --port, or 0 for any free one") from None

    async def close(self) -> None:
        """Stops listening and hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.close()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def go_dark(self) -> None:
        """The supply is gone: everybody is cut off in the middle of what they do, and nobody gets in."""
        self.dark = True
        for writer in list(self._connections.values()):
            writer.transport.abort()

    def go_light(self) -> None:
        """The supply is back."""
        self.dark = False

    async def forever(self) -> None:
        if self._server is not None:
            await self._server.serve_forever()

    async def __aenter__(self) -> DeviceServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _link(self) -> Link:
        if self._hdlc:
            return HdlcLink(Address(self.device.address), None, False, HDLC_OFFER)
        return WrapperLink(self.device.address, 0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dark:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        if task is not None:
            self._connections[task] = writer
            task.add_done_callback(lambda done: self._connections.pop(done, None))
        session = ServerSession(self.device, self._link(), lambda: secrets.token_bytes(16))
        try:
            await self._talk(session, reader, writer)
        except (OSError, TimeoutError):
            pass  # the peer went away or fell silent: nothing is owed to it
        finally:
            self._tell(session.lost())
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _talk(self, session: ServerSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_s):
                chunk = await reader.read(65_536)
            if not chunk:
                return
            events = session.feed(chunk, self._clock())
            for frame in session.take_out():
                writer.write(frame)
            self._tell(events)
            await writer.drain()

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            self._told(event)


async def serve_device(
    device: LogicalDevice,
    host: str = "127.0.0.1",
    port: int = 0,
    hdlc: bool = False,
    *,
    clock: Callable[[], int] = now_s,
    told: Told | None = None,
    idle_s: float = IDLE_S,
) -> DeviceServer:
    """Serves `device` on a TCP port (0 = any free one); InputError where that port cannot be had.

    clock: UTC seconds, the time that the meter lives by. told: called with every event of every connection, violations among them.
    """
    server = DeviceServer(device, hdlc, clock, told, idle_s)
    await server.start(host, port)
    return server
