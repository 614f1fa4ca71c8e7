"""One conversation with one meter over TCP or UDP: connect, associate, ask, release. The waiting that `cosem`'s client session leaves to a shell.

    async with await open_session(address, credentials) as session:
        rows = await session.get(Item(Ref(7, "1.0.99.1.0.255", 2), by_range(...)))

What always holds: nothing waits for ever: every step has a time limit, and the error that ends it names the step; a meter that answers with an
error code raises `Denied` with the code's name, one that breaks protocol raises `MeterError`; keys and passwords are in no message and no trace; no
invocation counter is used twice with a key: they come from a `CounterBook`, which is written before they are used, or, without one, every
conversation has a system title of its own; what the meter has seen last is asked of it where IS 15959 lets the public client read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

from ..cosem.acse import Conformance, Mechanism
from ..cosem.apdu import AccessResult, Code, Item, Outcome, Ref
from ..cosem.axdr import Data
from ..cosem.ciphering import Keys
from ..cosem.client import (
    Answer,
    Associated,
    ClientSession,
    ClientSettings,
    Closed,
    Event,
    Notified,
    Refused,
    Released,
    ServiceRefused,
    State,
)
from ..cosem.hdlc import Address
from ..cosem.links import MAX_INFORMATION_BYTES, HdlcLink, HdlcParameters, Link, WrapperLink
from ..cosem.protection import Form, Protection
from ..errors import InputError, MeterError, RequestError
from .sentences import STEPS, blanked, code_name, named, refusal
from .wire import Wire, open_wire

PUBLIC, READER, UTILITY, FIRMWARE = 16, 32, 48, 80
COUNTER_OBIS = {READER: "0.0.43.1.2.255", UTILITY: "0.0.43.1.3.255", FIRMWARE: "0.0.43.1.5.255"}
"""Where IS 15959 part 2 lets the public client read the invocation counter of each ciphered association."""
COMMON_COUNTER = "0.0.43.1.0.255"
"""Where a meter that is not of India keeps it (Blue Book, "Invocation counter objects")."""
RETRIES = 2
"""How often HDLC repeats, and a GET over UDP is asked again, within the patience for an answer."""
DATAGRAM_PDU_BYTES = 1_200
"""The longest answer that we take over UDP in one piece: with all headers it fits the smallest packet that every IPv6 network carries whole
(1,280 bytes, RFC 8200). What is longer comes in blocks."""
HDLC_OFFER = HdlcParameters(MAX_INFORMATION_BYTES, MAX_INFORMATION_BYTES, 7, 7)
"""What we can do on a data link; a meter answers with what it can, and both keep to the less."""
RELEASE_S = 3.0
"""How long a meter may take over the release of an association: what was asked for is known by then."""
NOTIFIED_MAX = 256
"""Pushes kept of one conversation; a meter that sends more has its oldest dropped."""
COUNTERS_AT_ONCE, COUNTERS_IN_HAND = 16_384, 4_096
"""Invocation counters reserved together, and how many must be left before more is taken in: one chunk of 64 KiB asks for fewer answers."""
COUNTER_JUMP_MAX = 1 << 24
"""A meter says in the clear which counter it has seen last. Where that is further ahead of ours than anybody could have used, it is not
believed: a forged answer would use up the key's counters."""


class SilentMeter(MeterError):
    """The meter did not answer in time, or closed the connection; the message names the step."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "silent")


class Denied(MeterError):
    """The meter answered, and the answer is no. `code` is the standard's name for it; diagnostic: the association's, where it gave one."""

    def __init__(self, message: str, code: str, diagnostic: int | None = None) -> None:
        super().__init__(message, "denied")
        self.code, self.diagnostic = code, diagnostic


@dataclass(frozen=True, slots=True)
class MeterAddress:
    """Where a meter listens. server: logical device (wPort, or HDLC upper address); physical: HDLC lower address; hdlc_bytes: 1, 2 or 4;
    udp: datagrams instead of a connection, with the wrapper only."""

    host: str
    port: int
    hdlc: bool = False
    server: int = 1
    physical: int = 17
    hdlc_bytes: int = 1
    udp: bool = False

    @staticmethod
    def parse(url: str, *, hdlc: bool = False, server: int = 1, physical: int = 17, hdlc_bytes: int = 1) -> MeterAddress:
        """From "tcp://HOST:PORT" or "udp://HOST:PORT" (IPv6 hosts in brackets). InputError says what is wrong with it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or port is None or urlsplit(url).scheme not in ("tcp", "udp"):
            raise InputError(f"{url!r} is not a meter's address; write tcp://HOST:PORT or udp://HOST:PORT, as tcp://192.0.2.7:4059")
        udp = urlsplit(url).scheme == "udp"
        if udp and hdlc:
            raise InputError("HDLC goes over tcp://, not over UDP; leave out --hdlc for the wrapper")
        return MeterAddress(host, port, hdlc, server, physical, hdlc_bytes, udp)

    def link(self, client: int) -> Link:
        if not self.hdlc:
            return WrapperLink(client, self.server, datagrams=self.udp)
        peer = Address(self.server) if self.hdlc_bytes == 1 else Address(self.server, self.physical, self.hdlc_bytes)
        return HdlcLink(Address(client), peer, True, HDLC_OFFER)

    def __str__(self) -> str:
        return f"{'udp' if self.udp else 'tcp'}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a meter. client: 16 public, 32 meter reader, 48 utility, 80 firmware. secret: password (LLS) or HLS secret.

    keys None = no ciphering. policy: security control byte, 0 = what IS 15959 gives the client (32: 0x20, 48 and 80: 0x30).
    counter: the invocation counter to start from; None = ask the meter as the public client. form: how ciphered APDUs are dressed.
    own_title: ours; left out = a new one each time, so that no counter can be used twice with the key. A `CounterBook` needs a fixed one.
    """

    client: int = PUBLIC
    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = field(default=b"", repr=False)
    keys: Keys | None = None
    own_title: bytes = field(default_factory=lambda: b"OAM" + secrets.token_bytes(5))
    meter_title: bytes = b""
    policy: int = 0
    counter: int | None = None
    form: Form = Form.GLO

    def settings(self, counter: int) -> ClientSettings:
        protection = None
        if self.keys is not None:
            policy = self.policy or (0x20 if self.client == READER else 0x30)
            if len(self.keys.ek) == 32 and not policy & 0x0F:
                policy |= 2  # keys of 32 bytes are suite 2's
            protection = Protection(self.keys, self.own_title, self.meter_title, policy, counter, form=self.form)
        size = 16 if self.mechanism is Mechanism.HLS else 32
        challenge = secrets.token_bytes(size) if self.mechanism >= Mechanism.HLS else b""
        return ClientSettings(mechanism=self.mechanism, secret=self.secret, challenge=challenge, protection=protection)


class CounterBook(Protocol):
    """Where invocation counters are kept over restarts, for each (meter, our system title): one row for all clients, because they share
    the key. `store.rows.Rows` is one."""

    def next_counter(self, meter: str, title: bytes) -> int | None:
        """The next free counter, None = none was ever used."""

    def reserve_counters(self, meter: str, title: bytes, count: int, at_least: int) -> int:
        """Take `count` counters, on disk when this returns; gives the first, which is at least `at_least`."""

    def return_counters(self, meter: str, title: bytes, used_to: int, reserved_to: int) -> None:
        """Give back `used_to` ... `reserved_to` - 1, unless somebody has reserved behind them."""


@dataclass(frozen=True, slots=True)
class KeptCounters:
    """A counter book and the meter's name in it."""

    book: CounterBook
    meter: str


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits [s]: for the TCP connection; for each answer, counted from the last thing that was sent; and for one question with all the
    blocks of its answer. A peer that dribbles bytes without end is given ten times `answer_s`."""

    connect_s: float = 10.0
    answer_s: float = 15.0
    exchange_s: float = 1800.0


Trace = Callable[[str, str], None]
"""Told of every chunk on the wire: "sent" or "received", and its bytes in hexadecimal, secrets already blanked (see `blanked`)."""


class MeterSession:
    """An open association. Use `open_session`. `warnings`: what was tolerated of the meter; `notified`: pushes that came meanwhile;
    `round_trips`: how often something was sent and an answer awaited."""

    def __init__(
        self,
        address: MeterAddress,
        credentials: Credentials,
        patience: Patience,
        counter: int,
        trace: Trace | None = None,
        kept: KeptCounters | None = None,
        reserved_to: int = 0,
    ) -> None:
        self.address, self.credentials, self._patience = address, credentials, patience
        settings = credentials.settings(counter)
        settings = replace(settings, max_pdu=DATAGRAM_PDU_BYTES) if address.udp else settings
        self._session = ClientSession(settings, address.link(credentials.client))
        self._trace, self._kept, self._reserved_to = trace, kept, reserved_to
        self._events: list[Event] = []
        self._wire: Wire | None = None
        self._lists = True
        self.warnings: tuple[str, ...] = ()
        self.notified: deque[Notified] = deque(maxlen=NOTIFIED_MAX)
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

    @property
    def selects(self) -> bool:
        """The meter has agreed to selective access: profiles by range or by entry."""
        return bool(self._session.conformance & Conformance.SELECTIVE_ACCESS)

    async def connect(self) -> None:
        """Connection, link, association. SilentMeter, Denied or MeterError, each naming the step."""
        try:
            async with asyncio.timeout(self._patience.connect_s):
                self._wire = await open_wire(self.address.host, self.address.port, udp=self.address.udp)
        except TimeoutError:
            raise SilentMeter(f"{self.address} did not take the connection within {self._patience.connect_s:g} s") from None
        except OSError as error:
            raise SilentMeter(f"cannot connect to {self.address} ({error.strerror or error})") from None
        self._events += self._session.open()
        event = await self._until(Associated, Refused, step="opening the association")
        if isinstance(event, Refused):
            await self._send()
            await self._hang_up()
            said = f"{self.address} refuses client {self.credentials.client} in {event.step}: {refusal(event)}"
            raise Denied(said, "association", event.diagnostic)
        if isinstance(event, Associated):
            self.warnings = event.warnings

    async def get(self, item: Item) -> Data:
        """One attribute. Denied with the meter's data-access-result where it says no."""
        (result,) = await self.get_each(item)
        if not isinstance(result, Data):
            raise Denied(
                f"{self.address} does not give {named(item.ref)} to client {self.credentials.client}: {code_name(result)}",
                code_name(result),
            )
        return result

    async def get_each(self, *items: Item) -> tuple[Data | Code, ...]:
        """Several attributes, each with its value or the meter's result code: in one request where the meter takes lists, else one by one."""
        lists = self._lists and bool(self._session.conformance & Conformance.MULTIPLE_REFERENCES)
        if len(items) > 1 and lists:
            try:
                return await self._get(*items)
            except (Denied, RequestError):
                # Announced and yet refused, or longer than the meter can take: one by one, and no further list in this association.
                self._lists = False
        return tuple([result for item in items for result in await self._get(item)])

    async def _get(self, *items: Item) -> tuple[Data | Code, ...]:
        self._in_hand()
        self._session.get(*items)
        return tuple(r for r in (await self._answer(f"reading {named(items[0].ref)}")).results if not isinstance(r, Outcome))

    async def set(self, item: Item, value: Data) -> None:
        """Write one attribute; Denied where the meter says no."""
        self._in_hand()
        self._session.set((item, value))
        (code,) = (await self._answer(f"writing {named(item.ref)}")).results
        if code != AccessResult.SUCCESS:
            raise Denied(
                f"{self.address} does not take {named(item.ref)} from client {self.credentials.client}: {code_name(code)}", code_name(code)
            )

    async def action(self, ref: Ref, parameters: Data | None) -> Data | None:
        """Invoke one method; gives what it returned. Denied where the meter says no."""
        self._in_hand()
        self._session.action((ref, parameters))
        (outcome,) = (await self._answer(f"invoking {named(ref)}")).results
        if not isinstance(outcome, Outcome):
            raise MeterError(f"{self.address} answers an action with {outcome}")
        if outcome.code != 0:
            raise Denied(
                f"{self.address} does not do {named(ref)} for client {self.credentials.client}: {code_name(outcome.code)}",
                code_name(outcome.code),
            )
        return outcome.returned if isinstance(outcome.returned, Data) else None

    async def close(self) -> None:
        """Release the association and hang up; a meter that answers the release in another way, or not at all, is left all the same. An
        association in the middle of something is not released: the connection just ends."""
        if self._wire is not None and self._session.state is State.READY:
            with contextlib.suppress(MeterError, OSError):
                self._in_hand()
                self._events += self._session.release()
                await self._until(Released, Closed, step="releasing the association", answer_s=min(RELEASE_S, self._patience.answer_s))
                await self._send()
        await self._hang_up()
        if self._kept is not None and self.counter is not None:
            self._kept.book.return_counters(self._kept.meter, self.credentials.own_title, self.counter, self._reserved_to)

    async def _answer(self, step: str) -> Answer:
        event = await self._until(Answer, ServiceRefused, step=step)
        if isinstance(event, ServiceRefused):
            raise Denied(f"{self.address} answers with an exception while {step}: {event.exception}", "exception")
        if not isinstance(event, Answer):
            raise MeterError(f"{self.address} answers with {event} while {step}")
        return event

    async def _until(self, *kinds: type[Event], step: str, answer_s: float = 0.0) -> Event:
        """Carry bytes both ways until an event of one of `kinds` comes."""
        answer_s, retries = answer_s or self._patience.answer_s, RETRIES
        clock = asyncio.get_running_loop().time
        begun = asked = clock()
        while True:
            step = STEPS.get(self._session.state, step)
            if await self._send():
                asked = clock()
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, Notified):
                    self.notified.append(event)
                elif isinstance(event, kinds):
                    return event
                elif isinstance(event, Closed):
                    await self._hang_up()
                    raise SilentMeter(f"{self.address} closed the link while {step}")
            wait_s = answer_s / (RETRIES + 1) if self.address.hdlc or self.address.udp else answer_s
            wait_s = min(wait_s, asked + 10 * answer_s - clock(), begun + self._patience.exchange_s - clock())
            chunk = await self._receive(max(wait_s, 0.0), step)
            if chunk is None:
                if retries and wait_s > 0 and (self._session.timed_out() or self.address.udp):
                    retries -= 1
                    continue
                await self._hang_up()
                raise SilentMeter(f"no answer from {self.address} within {answer_s:g} s while {step}")
            self._in_hand()
            try:
                self._events += self._session.feed(chunk)
            except (MeterError, RequestError) as error:
                await self._hang_up()
                cause = error.cause if isinstance(error, MeterError) else "malformed"
                raise MeterError(f"{self.address} breaks the protocol while {step}: {error}", cause) from error

    async def _receive(self, wait_s: float, step: str) -> bytes | None:
        """What comes within `wait_s`; None = nothing."""
        if self._wire is None:
            raise SilentMeter(f"{self.address} is no longer connected while {step}")
        try:
            async with asyncio.timeout(wait_s):
                chunk = await self._wire.receive()
        except TimeoutError:
            return None
        except OSError as error:
            await self._hang_up()
            raise SilentMeter(f"{self.address} broke the connection while {step} ({error.strerror or error})") from None
        if not chunk:
            await self._hang_up()
            raise SilentMeter(f"{self.address} closed the connection while {step}")
        self._tell("received", chunk)
        return chunk

    async def _send(self) -> bool:
        """What the session has to say goes out; True if there was something."""
        frames = self._session.take_out()
        if not frames or self._wire is None:
            return False
        self.round_trips += 1
        for frame in frames:
            self._tell("sent", frame)
        with contextlib.suppress(OSError, TimeoutError):  # what broke is told by the next read, with its step
            async with asyncio.timeout(self._patience.answer_s):
                await self._wire.send(frames)
        return True

    def _tell(self, direction: str, octets: bytes) -> None:
        if self._trace is not None:
            in_the_clear = self.credentials.secret if self.credentials.mechanism is Mechanism.LLS else b""
            self._trace(direction, blanked(octets, in_the_clear))

    def _in_hand(self) -> None:
        """Reserve more invocation counters before those in hand could run out."""
        protection = self._session.settings.protection
        if self._kept is None or protection is None or protection.counter + COUNTERS_IN_HAND <= self._reserved_to:
            return
        first = self._kept.book.reserve_counters(self._kept.meter, self.credentials.own_title, COUNTERS_AT_ONCE, self._reserved_to)
        if first != self._reserved_to:
            protection.counter = first  # somebody else has reserved what comes next: what was left over is never used
        self._reserved_to = first + COUNTERS_AT_ONCE

    async def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        self._session.lost()
        if wire is not None:
            await wire.hang_up()


async def open_session(
    address: MeterAddress,
    credentials: Credentials,
    patience: Patience | None = None,
    trace: Trace | None = None,
    kept: KeptCounters | None = None,
) -> MeterSession:
    """Associate with a meter, with invocation counters that were never used before.

    They come from `credentials.counter`, else from `kept`, else from what the meter says it has seen last (asked as the public client, IS 15959
    part 2). Where a meter refuses counters from `kept` because it has seen higher ones from somebody else, it is asked and tried once more.
    """
    patience = patience or Patience()
    ciphered = credentials.keys is not None
    if not ciphered or credentials.counter is not None or kept is None:
        counter = credentials.counter
        if counter is None:
            counter = await read_counter(address, credentials.client, patience, trace) + 1 if ciphered else 0
        return await _opened(MeterSession(address, credentials, patience, counter, trace))
    known = kept.book.next_counter(kept.meter, credentials.own_title)
    at_least = known if known is not None else await read_counter(address, credentials.client, patience, trace) + 1
    try:
        return await _opened(_with_reserved(address, credentials, patience, trace, kept, at_least))
    except Denied as error:
        if known is None or error.code != "association":
            raise
        seen = await read_counter(address, credentials.client, patience, trace)
        if seen < known:
            raise
        if seen > known + COUNTER_JUMP_MAX:
            raise MeterError(
                f"{address} says that its last invocation counter is {seen}, ours is {known}: that jump is not believed; give --counter",
                "replay",
            ) from error
        return await _opened(_with_reserved(address, credentials, patience, trace, kept, seen + 1))


def _with_reserved(
    address: MeterAddress, credentials: Credentials, patience: Patience, trace: Trace | None, kept: KeptCounters, at_least: int
) -> MeterSession:
    first = kept.book.reserve_counters(kept.meter, credentials.own_title, COUNTERS_AT_ONCE, at_least)
    return MeterSession(address, credentials, patience, first, trace, kept, first + COUNTERS_AT_ONCE)


async def _opened(session: MeterSession) -> MeterSession:
    try:
        await session.connect()
    except BaseException:
        await session.close()
        raise
    return session


async def read_counter(address: MeterAddress, client: int, patience: Patience, trace: Trace | None = None) -> int:
    """The last invocation counter that the meter has seen from `client`, read as the public client: where IS 15959 part 2 keeps it, else
    at the one place that the Blue Book knows. Denied with the way out where the meter tells neither."""
    places = [COUNTER_OBIS[client], COMMON_COUNTER] if client in COUNTER_OBIS else [COMMON_COUNTER]
    async with await open_session(address, Credentials(), patience, trace) as session:
        given = [(obis, await session.get_each(Item(Ref(1, obis, 2)))) for obis in places[:1]]
        if not isinstance(given[0][1][0], Data) and len(places) > 1:
            given.append((places[1], await session.get_each(Item(Ref(1, places[1], 2)))))
    obis, (last,) = given[-1]
    if not isinstance(last, Data):
        said = f"{address} does not tell the public client its invocation counter ({', '.join(places)}: {code_name(last)})"
        raise Denied(f"{said}; give --counter, higher than any that was used with this key", code_name(last))
    value = last.value
    if not isinstance(value, int) or not 0 <= value < 0xFFFFFFFF:
        raise MeterError(f"{address} gives an invocation counter that is none ({obis}: {value})", "layout")
    return value
