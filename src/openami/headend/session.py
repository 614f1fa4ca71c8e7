"""One conversation with one meter over TCP: connect, associate, ask, release. The waiting that `cosem`'s client session leaves to a shell.

    async with await open_session(address, credentials) as session:
        rows = await session.get(Item(Ref(7, "1.0.99.1.0.255", 2), by_range(...)))

What always holds: nothing waits for ever: every step has a time limit, and the error that ends it names the step; a meter that answers with an
error code raises `Denied` with the code's name, one that breaks protocol raises `MeterError`; keys and passwords are in no message; the invocation
counter is asked of the meter first where IS 15959 keeps it readable for the public client, and only grows from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from ..cosem.acse import Mechanism
from ..cosem.apdu import AccessResult, Code, Item, Outcome, Ref
from ..cosem.axdr import Data
from ..cosem.ciphering import Keys
from ..cosem.client import Answer, Associated, ClientSession, ClientSettings, Closed, Event, Notified, Refused, Released, ServiceRefused
from ..cosem.hdlc import Address
from ..cosem.links import HdlcLink, Link, WrapperLink
from ..cosem.protection import Form, Protection
from ..errors import InputError, MeterError

PUBLIC, READER, UTILITY, FIRMWARE = 16, 32, 48, 80
COUNTER_OBIS = {READER: "0.0.43.1.2.255", UTILITY: "0.0.43.1.3.255", FIRMWARE: "0.0.43.1.5.255"}
"""Where IS 15959 part 2 lets the public client read the invocation counter of each ciphered association."""
HDLC_RETRIES = 2


class SilentMeter(MeterError):
    """The meter did not answer in time, or closed the connection; the message names the step."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "silent")


class Denied(MeterError):
    """The meter answered, and the answer is no. `code` is the standard's name for it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, "denied")
        self.code = code


@dataclass(frozen=True, slots=True)
class MeterAddress:
    """Where a meter listens. server: logical device (wPort, or HDLC upper address); physical: HDLC lower address; hdlc_bytes: 1, 2 or 4."""

    host: str
    port: int
    hdlc: bool = False
    server: int = 1
    physical: int = 17
    hdlc_bytes: int = 1

    @staticmethod
    def parse(url: str, *, hdlc: bool = False, server: int = 1, physical: int = 17, hdlc_bytes: int = 1) -> MeterAddress:
        """From "tcp://HOST:PORT" (IPv6 hosts in brackets). InputError says what is wrong with it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or port is None or urlsplit(url).scheme != "tcp":
            raise InputError(f"{url!r} is not a meter's address; write tcp://HOST:PORT, as tcp://192.0.2.7:4059")
        return MeterAddress(host, port, hdlc, server, physical, hdlc_bytes)

    def link(self, client: int) -> Link:
        if not self.hdlc:
            return WrapperLink(client, self.server)
        peer = Address(self.server) if self.hdlc_bytes == 1 else Address(self.server, self.physical, self.hdlc_bytes)
        return HdlcLink(Address(client), peer, True)

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a meter. client: 16 public, 32 meter reader, 48 utility, 80 firmware. secret: password (LLS) or HLS secret.

    keys None = no ciphering. policy: security control byte, 0 = what IS 15959 gives the client (32: 0x20, 48 and 80: 0x30).
    counter: the invocation counter to start from; None = ask the meter as the public client. form: how ciphered APDUs are dressed.
    """

    client: int = PUBLIC
    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = field(default=b"", repr=False)
    keys: Keys | None = None
    own_title: bytes = b"OAM\x00\x00READ"[:8]
    meter_title: bytes = b""
    policy: int = 0
    counter: int | None = None
    form: Form = Form.GLO

    def settings(self, counter: int) -> ClientSettings:
        needs_keys = self.keys is not None
        policy = self.policy or (0x20 if self.client == READER else 0x30)
        protection = (
            Protection(self.keys, self.own_title, self.meter_title, policy, counter, form=self.form) if self.keys and needs_keys else None
        )
        size = 16 if self.mechanism is Mechanism.HLS else 32
        challenge = secrets.token_bytes(size) if self.mechanism >= Mechanism.HLS else b""
        return ClientSettings(mechanism=self.mechanism, secret=self.secret, challenge=challenge, protection=protection)


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits [s]: for the TCP connection, and for each answer."""

    connect_s: float = 10.0
    answer_s: float = 15.0


Trace = Callable[[str, bytes], None]
"""Told of every chunk on the wire: "sent" or "received", and the bytes. Bytes of an association with a password are withheld (see `_traced`)."""


class MeterSession:
    """An open association. Use `open_session`."""

    def __init__(self, address: MeterAddress, credentials: Credentials, patience: Patience, counter: int, trace: Trace | None) -> None:
        self.address, self.credentials, self._patience = address, credentials, patience
        self._session = ClientSession(credentials.settings(counter), address.link(credentials.client))
        self._trace = trace
        self._events: list[Event] = []
        self.warnings: tuple[str, ...] = ()
        self.notified: list[Notified] = []
        self.round_trips = 0

    async def __aenter__(self) -> MeterSession:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def counter(self) -> int | None:
        """Our next invocation counter, to be kept for the next conversation; None without ciphering."""
        protection = self._session.settings.protection
        return None if protection is None else protection.counter

    @property
    def meter_title(self) -> bytes:
        protection = self._session.settings.protection
        return b"" if protection is None else protection.peer_title

    async def connect(self) -> None:
        """TCP connection, link, association. SilentMeter, Denied or MeterError, each naming the step."""
        try:
            async with asyncio.timeout(self._patience.connect_s):
                self._reader, self._writer = await asyncio.open_connection(self.address.host, self.address.port)
        except TimeoutError:
            raise SilentMeter(f"{self.address} did not take the connection within {self._patience.connect_s:g} s") from None
        except OSError as error:
            raise SilentMeter(f"cannot connect to {self.address} ({error.strerror or error})") from None
        self._events += self._session.open()
        event = await self._until(Associated, Refused, step="opening the association")
        if isinstance(event, Refused):
            await self._hang_up()
            raise Denied(f"{self.address} refuses client {self.credentials.client} while {event.step}: {event.reason}", "association")
        assert isinstance(event, Associated)
        self.warnings = event.warnings

    async def get(self, item: Item) -> Data:
        """One attribute. Denied with the meter's data-access-result where it says no."""
        (result,) = await self.get_each(item)
        if not isinstance(result, Data):
            raise Denied(f"{self.address} does not give {_named(item.ref)}: {code_name(result)}", code_name(result))
        return result

    async def get_each(self, *items: Item) -> tuple[Data | Code, ...]:
        """Several attributes in one request, each with its value or the meter's result code."""
        self._session.get(*items)
        return tuple(r for r in (await self._answer(f"reading {_named(items[0].ref)}")).results if not isinstance(r, Outcome))

    async def set(self, item: Item, value: Data) -> None:
        """Write one attribute; Denied where the meter says no."""
        self._session.set((item, value))
        (code,) = (await self._answer(f"writing {_named(item.ref)}")).results
        if code != AccessResult.SUCCESS:
            raise Denied(f"{self.address} does not take {_named(item.ref)}: {code_name(code)}", code_name(code))

    async def action(self, ref: Ref, parameters: Data | None) -> Data | None:
        """Invoke one method; gives what it returned. Denied where the meter says no."""
        self._session.action((ref, parameters))
        (outcome,) = (await self._answer(f"invoking {_named(ref)}")).results
        assert isinstance(outcome, Outcome)
        if outcome.code != 0:
            raise Denied(f"{self.address} does not do {_named(ref)}: {code_name(outcome.code)}", code_name(outcome.code))
        return outcome.returned if isinstance(outcome.returned, Data) else None

    async def close(self) -> None:
        """Release the association and hang up; a meter that answers the release in another way, or not at all, is left all the same."""
        with contextlib.suppress(MeterError, OSError):
            self._events += self._session.release()
            await self._until(Released, Closed, step="releasing the association")
        await self._hang_up()

    async def _answer(self, step: str) -> Answer:
        event = await self._until(Answer, ServiceRefused, step=step)
        if isinstance(event, ServiceRefused):
            raise Denied(f"{self.address} answers with an exception while {step}: {event.exception}", "exception")
        assert isinstance(event, Answer)
        return event

    async def _until(self, *kinds: type[Event], step: str) -> Event:
        """Carry bytes both ways until an event of one of `kinds` comes."""
        retries = HDLC_RETRIES
        while True:
            await self._send()
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, Notified):
                    self.notified.append(event)
                elif isinstance(event, kinds):
                    return event
                elif isinstance(event, Closed):
                    raise SilentMeter(f"{self.address} closed the link while {step}")
            try:
                async with asyncio.timeout(self._patience.answer_s / (HDLC_RETRIES + 1) if self.address.hdlc else self._patience.answer_s):
                    chunk = await self._reader.read(65_536)
            except TimeoutError:
                if retries and self._session.timed_out():
                    retries -= 1
                    continue
                await self._hang_up()
                raise SilentMeter(f"no answer from {self.address} within {self._patience.answer_s:g} s while {step}") from None
            except OSError as error:
                raise SilentMeter(f"{self.address} broke the connection while {step} ({error.strerror or error})") from None
            if not chunk:
                await self._hang_up()
                raise SilentMeter(f"{self.address} closed the connection while {step}")
            if self._trace:
                self._trace("received", chunk)
            self._events += self._session.feed(chunk)

    async def _send(self) -> None:
        frames = self._session.take_out()
        if frames:
            self.round_trips += 1
        for frame in frames:
            if self._trace:
                self._trace("sent", frame)
            self._writer.write(frame)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def _hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()


async def open_session(
    address: MeterAddress, credentials: Credentials, patience: Patience | None = None, trace: Trace | None = None
) -> MeterSession:
    """Associate with a meter. Where the client is ciphered and no counter is given, the meter is first asked for it as the public client."""
    patience = patience or Patience()
    counter = credentials.counter
    if counter is None:
        counter = await read_counter(address, credentials.client, patience, trace) + 1 if credentials.keys else 0
    session = MeterSession(address, credentials, patience, counter, trace)
    try:
        await session.connect()
    except BaseException:
        if hasattr(session, "_writer"):
            session._writer.close()
        raise
    return session


async def read_counter(address: MeterAddress, client: int, patience: Patience, trace: Trace | None = None) -> int:
    """The last invocation counter that the meter has seen from `client`, read as the public client (IS 15959 part 2)."""
    obis = COUNTER_OBIS.get(client)
    if obis is None:
        raise InputError(f"client {client} has no invocation counter that the public client may read; give --counter")
    async with await open_session(address, Credentials(), patience, trace) as session:
        value = (await session.get(Item(Ref(1, obis, 2)))).value
    if not isinstance(value, int):
        raise MeterError(f"{address} gives an invocation counter that is no number ({obis})", "layout")
    return value


def code_name(code: object) -> str:
    """A result code in words: "read-write denied", or its number where the standard has no name for it."""
    name = getattr(code, "name", None)
    return str(name).lower().replace("_", " ") if name else f"result code {code}"


def _named(ref: Ref) -> str:
    return f"{ref.obis} (class {ref.class_id}, {ref.member})"
