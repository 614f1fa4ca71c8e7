"""Sends what a simulated meter has to push, over TCP or UDP, and waits for confirmations (`openami meter --push-to`).

Where to is the push setup's own destination (attribute 3), how often it is tried again its attributes 6 and 7: a client that writes them
moves the pushes. What always holds: one push is out at a time; one that is not confirmed is repeated under a fresh invocation counter, then
left to its next occasion; in the dark the connection is gone and only the last gasp leaves, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from ..cosem.axdr import Data, Tag
from ..cosem.wrapper import WrapperReader, unwrap, wrap
from ..errors import InputError, MeterError
from .associations import PUSH
from .device import MeterDevice
from .pushing import INSTANTANEOUS, Outgoing

ANSWER_S = 5.0
"""How long a confirmation is waited for."""
TICK_S = 1.0
"""How often the meter looks whether a block or a day has ended."""
_TCP, _UDP = 0, 1


class Target(NamedTuple):
    """Where pushes go."""

    host: str
    port: int
    udp: bool = False

    @staticmethod
    def parse(text: str, udp: bool = False) -> Target:
        """From "HOST:PORT" (IPv6 hosts in brackets). InputError says what is wrong with it."""
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not host or not port.isdigit() or not 0 < int(port) < 65_536 or (":" in host and not text.startswith("[")):
            raise InputError(f"{text!r} is no place to push to; write HOST:PORT, as 192.0.2.7:4059 or [2001:db8::7]:4059")
        return Target(host, int(port), udp)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def as_data(self) -> Data:
        """Attribute 3 of a push setup: transport service, destination, message type A-XDR."""
        parts = (Data(Tag.ENUM, _UDP if self.udp else _TCP), Data(Tag.OCTET_STRING, str(self).encode()), Data(Tag.ENUM, 0))
        return Data(Tag.STRUCTURE, parts)


class Pushed(NamedTuple):
    """A push was delivered. attempts: how often it was sent."""

    kind: str
    setup: str
    rows: int
    confirmed: bool
    attempts: int


class NotPushed(NamedTuple):
    """A push was given up; the next one of its setup is tried afresh."""

    kind: str
    setup: str
    why: str


Told = Callable[[Pushed | NotPushed], None]


class Pusher:
    """Pushes of one meter, as long as `run` runs. every_s: how often the instantaneous values are pushed, 0 = only when asked."""

    def __init__(
        self, device: MeterDevice, target: Target, told: Told, every_s: float = 0.0, clock: Callable[[], int] | None = None
    ) -> None:
        self.device, self._told, self._every_s = device, told, every_s
        self._clock = clock or (lambda: int(time.time()))
        self._wire: _Wire | None = None
        self._wake = asyncio.Event()
        self.answer_s = ANSWER_S
        for setup in device.tables.pushes:
            device.objects[40, setup].attributes[3] = target.as_data()

    async def run(self, confirmed: bool = True) -> None:
        """Until cancelled."""
        pushing, loop = self.device.pushing, asyncio.get_running_loop()
        pushing.wake = self._wake.set
        pushing.start(self._clock(), confirmed)
        next_s = loop.time() + self._every_s
        try:
            while True:
                self._wake.clear()
                self.device.life.advance(self._clock())
                if self._every_s and loop.time() >= next_s:
                    next_s += self._every_s
                    pushing.ask(INSTANTANEOUS)
                sent = pushing.take(self._clock())
                if sent is not None:
                    await self._deliver(sent)
                elif self.device.dark:
                    self._hang_up()
                if sent is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), TICK_S)
        finally:
            self._hang_up()

    async def _deliver(self, sent: Outgoing) -> None:
        """One push, tried as often as its setup says."""
        attributes = self.device.objects[40, sent.setup].attributes
        retries, delay_s = (1, 0) if sent.last_gasp else (1 + attributes[6].value, attributes[7].value)
        why = ""
        for attempt in range(1, retries + 1):
            try:
                wire = await self._connected(attributes[3])
                wire.send(self.device.pushing.seal(sent))
                if not sent.confirmed or await self._confirmed(wire, sent):
                    self.device.pushing.settle(sent)
                    return self._told(Pushed(sent.kind, sent.setup, sent.rows, sent.confirmed, attempt))
                why = f"no confirmation within {self.answer_s:g} s"
            except (OSError, TimeoutError) as error:
                why = f"no connection ({getattr(error, 'strerror', None) or error or 'timed out'})"
            except MeterError as error:
                why = str(error)
            self._hang_up()
            if self.device.dark and not sent.last_gasp:
                return None
            if attempt < retries:
                await asyncio.sleep(min(delay_s, 2.0 ** (attempt - 1)))
        self.device.pushing.put_off(sent)
        return self._told(NotPushed(sent.kind, sent.setup, f"{why}, tried {retries} times"))

    async def _confirmed(self, wire: _Wire, sent: Outgoing) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.answer_s):
                while True:
                    for apdu in await wire.received():
                        if self.device.pushing.confirms(sent, apdu):
                            return True
        return False

    async def _connected(self, destination: Data) -> _Wire:
        transport, where = destination.value[0].value, destination.value[1].value
        try:
            target = Target.parse(where.decode("ascii"), transport == _UDP)
        except (InputError, UnicodeDecodeError):
            raise MeterError(f"the push setup's destination {where!r} is no HOST:PORT") from None
        if self._wire is None or self._wire.target != target or self._wire.closed:
            self._hang_up()
            async with asyncio.timeout(self.answer_s):
                self._wire = await (_Datagrams if target.udp else _Stream).open(target, self.device.address)
        return self._wire

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None


class _Stream:
    """A TCP connection that carries wrapper frames."""

    def __init__(self, target: Target, meter: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target, self._meter, self._reader, self._writer = target, meter, reader, writer
        self._frames = WrapperReader()

    @staticmethod
    async def open(target: Target, meter: int) -> _Stream:
        return _Stream(target, meter, *await asyncio.open_connection(target.host, target.port))

    @property
    def closed(self) -> bool:
        return self._reader.at_eof() or self._writer.is_closing()

    def send(self, apdu: bytes) -> None:
        self._writer.write(wrap(self._meter, PUSH, apdu))

    async def received(self) -> list[bytes]:
        chunk = await self._reader.read(4096)
        if not chunk:
            raise ConnectionError("the head-end closed the connection")
        return [frame.apdu for frame in self._frames.feed(chunk)]

    def close(self) -> None:
        self._writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    """UDP: a wrapper frame in each datagram."""

    def __init__(self, target: Target, meter: int) -> None:
        self.target, self._meter = target, meter
        self._came: asyncio.Queue[bytes | Exception] = asyncio.Queue(64)
        self._transport: asyncio.DatagramTransport | None = None

    @staticmethod
    async def open(target: Target, meter: int) -> _Datagrams:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_datagram_endpoint(lambda: _Datagrams(target, meter), remote_addr=(target.host, target.port))
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._came.full():
            self._came.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        if not self._came.full():
            self._came.put_nowait(exc)

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, apdu: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(wrap(self._meter, PUSH, apdu))

    async def received(self) -> list[bytes]:
        came = await self._came.get()
        if isinstance(came, Exception):
            raise came
        return [frame.apdu for frame in unwrap(came)]

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


_Wire = _Stream | _Datagrams
