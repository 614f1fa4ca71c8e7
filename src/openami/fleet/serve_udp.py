"""One simulated meter on a UDP port, over the wrapper, for any number of peers: `serve_device` for datagrams (IEC 62056-47).

What always holds: every peer's address has a session of its own on the same meter; a datagram that is no whole frame costs only itself; a peer
that is silent for `idle_s` has lost its association; of more peers than `PEERS_MAX` the one silent for longest is forgotten; a meter in the
dark answers nobody.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from ..cosem.links import WrapperLink
from ..cosem.server import Event, LogicalDevice, ServerSession
from ..errors import InputError
from .serve import IDLE_S, Told, now_s

PEERS_MAX = 256
Peer = tuple[str, int]


class DatagramServer(asyncio.DatagramProtocol):
    """A meter that is being served over UDP. port: the one that it got. Use `serve_datagrams`."""

    def __init__(self, device: LogicalDevice, clock: Callable[[], int], told: Told | None, idle_s: float) -> None:
        self.device, self._clock, self._idle_s = device, clock, idle_s
        self._told: Told = told or (lambda event: None)
        self._sessions: OrderedDict[Peer, tuple[ServerSession, float]] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None
        self.dark = False

    @property
    def port(self) -> int:
        if self._transport is None:
            raise InputError("the meter is not being served yet; call start() first")
        return int(self._transport.get_extra_info("sockname")[1])

    async def start(self, host: str, port: int) -> None:
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(host, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InputError(f"cannot listen on {host}:{port} ({why}); give another --port, or 0 for any free one") from None

    async def close(self) -> None:
        """Stops listening; every association is over."""
        if self._transport is not None:
            self._transport.close()
        self._forget_all()

    def go_dark(self) -> None:
        """The supply is gone: every association with it, and nobody is answered."""
        self.dark = True
        self._forget_all()

    def go_light(self) -> None:
        """The supply is back."""
        self.dark = False

    async def forever(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> DatagramServer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        if self.dark or self._transport is None:
            return
        session = self._session_of(addr)
        events = session.feed(data, self._clock())
        for frame in session.take_out():
            self._transport.sendto(frame, addr)
        self._tell(events)

    def _session_of(self, peer: Peer) -> ServerSession:
        """The session of a peer, kept as the one heard last; a new one where it has none, or was silent for too long."""
        heard_s = asyncio.get_running_loop().time()
        session, last_s = self._sessions.pop(peer, (None, heard_s))
        if session is not None and heard_s - last_s > self._idle_s:
            self._tell(session.lost())
            session = None
        if session is None:
            session = ServerSession(self.device, WrapperLink(self.device.address, 0, datagrams=True), lambda: secrets.token_bytes(16))
        if len(self._sessions) >= PEERS_MAX:
            _, (oldest, _) = self._sessions.popitem(last=False)
            self._tell(oldest.lost())
        self._sessions[peer] = session, heard_s
        return session

    def _forget_all(self) -> None:
        while self._sessions:
            _, (session, _) = self._sessions.popitem()
            self._tell(session.lost())

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            self._told(event)


async def serve_datagrams(
    device: LogicalDevice,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    clock: Callable[[], int] = now_s,
    told: Told | None = None,
    idle_s: float = IDLE_S,
) -> DatagramServer:
    """Serves `device` on a UDP port (0 = any free one); InputError where that port cannot be had. clock, told: as of `serve_device`."""
    server = DatagramServer(device, clock, told, idle_s)
    await server.start(host, port)
    return server
