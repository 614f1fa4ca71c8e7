"""The fleet at work: every meter holds its own TCP connection to the head-end and pushes what its plan says, in order.

What always holds: a meter goes on to its next push only when the head-end has confirmed the last one; a push that is not confirmed (connection
lost, time-out) is made again under a fresh counter. `Outcome.confirmed` lists exactly the readings whose confirmation a meter has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ..cosem.ciphering import Keys
from ..cosem.push import layout_for
from ..cosem.wrapper import WrapperReader
from ..errors import StorageError
from ..registry import Meter
from .faults import TAKEN_IN, YEAR_2000, Kind, Plan, Send
from .meter import BLOCK_LOAD_PUSH, SimulatedMeter
from .town import Town

WORDS = {Kind.GASP: 85, Kind.BREATH: 86}
"""Bits of the event status word."""
CONFIRMED = TAKEN_IN | {Kind.CLOCK_RESET, *WORDS}
"""Kinds whose sender is genuine, so that it gets a confirmation: out-of-day readings are journalled and confirmed too, and refused later."""


@dataclass(slots=True)
class Outcome:
    """What the fleet saw: frames put on the wire, confirmations by (meter number, send number), and pushes made again."""

    frames: int = 0
    again: int = 0
    confirmed: set[tuple[int, int]] = field(default_factory=set)


@dataclass(slots=True)
class Fleet:
    """All meters of a town and what they are to send."""

    town: Town
    plan: Plan
    host: str
    port: Callable[[], int]
    timeout_s: float = 30.0
    attempts: int = 200
    outcome: Outcome = field(default_factory=Outcome)
    tick: Callable[[int], None] | None = None

    async def run(self) -> Outcome:
        """Every meter to the end of its plan. StorageError if the head-end stays away longer than all attempts take."""
        meters = [self._meter(k) for k in range(len(self.town.meters) + 1)]
        async with asyncio.TaskGroup() as group:
            for k, meter in enumerate(meters):
                if self.plan.sends[k]:
                    group.create_task(_Pusher(self, k, meter).run())
        return self.outcome

    def _meter(self, number: int) -> SimulatedMeter:
        """Meter `number` of the town; the one past the end is registered nowhere; those with a wrong key have been given another one."""
        town = self.town
        if number == len(town.meters):
            stranger = Meter("XMA9999999", b"XMA" + (0x99 << 32).to_bytes(5, "big"), "XMA", "XMA-1P", 0, -1, 0x20, 1)
            return self._simulated(stranger, town.secrets[town.meters[0].serial].keys.ek[::-1], 1)
        meter = town.meters[number]
        secrets = town.secrets[meter.serial]
        return self._simulated(meter, secrets.keys.ek[::-1] if number in self.plan.wrong_key else secrets.keys.ek, secrets.counter_start)

    def _simulated(self, meter: Meter, ek: bytes, counter: int) -> SimulatedMeter:
        known = self.town.secrets.get(meter.serial)
        keys = Keys(ek, known.keys.ak if known else ek)
        layout = layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH)
        return SimulatedMeter(meter.serial, meter.system_title, layout, meter.security_control, keys, counter)


class _Pusher:
    """One meter's side: connection, waiting for confirmation, trying again."""

    def __init__(self, fleet: Fleet, number: int, meter: SimulatedMeter) -> None:
        self._fleet, self._number, self._meter = fleet, number, meter
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._frames = WrapperReader()
        self._captured: dict[int, bytes] = {}
        town = fleet.town
        source = min(number, len(town.meters) - 1)
        self._values = {name: block[source].tolist() for name, block in town.channels.items()}
        self._replayed = {s.slot for s in fleet.plan.sends[number] if s.kind is Kind.REPLAY}

    async def run(self) -> None:
        for at, send in enumerate(self._fleet.plan.sends[self._number]):
            if send.kind not in (Kind.LOST, Kind.UNHEARD):
                await self._attempt(at, send)
            if self._fleet.tick:
                self._fleet.tick(1)
        await self._finish()

    async def _attempt(self, at: int, send: Send) -> None:
        """One push until it is confirmed; pushes that get no answer by plan are sent once."""
        outcome = self._fleet.outcome
        for attempt in range(self._fleet.attempts):
            try:
                await self._connect()
                frame, invoke = self._frame(send)
                if send.kind is Kind.PLAIN and send.slot in self._replayed:
                    self._captured[send.slot] = frame
                assert self._writer is not None
                self._writer.write(frame)
                outcome.frames += 1
                outcome.again += attempt > 0
                if send.kind not in CONFIRMED:
                    await self._writer.drain()
                    return
                async with asyncio.timeout(self._fleet.timeout_s):
                    await self._confirmation(invoke)
                outcome.confirmed.add((self._number, at))
                return
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._drop()
                await asyncio.sleep(min(1.0, 0.02 * (attempt + 1)))
        raise StorageError(
            f"the head-end did not confirm a push of meter {self._meter.serial} in {self._fleet.attempts} attempts; is it running?"
        )

    def _frame(self, send: Send) -> tuple[bytes, int]:
        """The bytes of `send` and its long invoke id."""
        town, meter = self._fleet.town, self._meter
        if send.kind is Kind.REPLAY:
            return self._captured[send.slot], 0
        invoke = meter.counter & 0xFFFFFF
        if send.kind in WORDS:
            return meter.status(send.at_s, WORDS[send.kind]), invoke
        stamp = (
            YEAR_2000 + 900 * (send.slot + 1)
            if send.stamp_slot is None
            else town.calendar.day_start(town.first_day) + 900 * (send.stamp_slot + 1)
        )
        values = {name: of_slots[send.slot] for name, of_slots in self._values.items()}
        frame = meter.push(stamp + 5, stamp, values)
        if send.kind is Kind.MALFORMED:
            cut = 8 + (len(frame) - 8) * 2 // 3
            frame = frame[:6] + (cut - 8).to_bytes(2, "big") + frame[8:cut]
        return frame, invoke

    async def _confirmation(self, invoke: int) -> None:
        assert self._reader is not None
        while True:
            chunk = await self._reader.read(4096)
            if not chunk:
                raise ConnectionError("the head-end closed the connection")
            for frame in self._frames.feed(chunk):
                if self._meter.confirms(frame.apdu, invoke):
                    return

    async def _connect(self) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._fleet.host, self._fleet.port())
            self._frames = WrapperReader()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _finish(self) -> None:
        """Say goodbye and wait until the head-end has taken in everything: it closes its side only then."""
        if self._writer is None or self._reader is None:
            return
        with suppress(OSError):
            self._writer.write_eof()
            while await self._reader.read(4096):
                pass
        self._drop()
