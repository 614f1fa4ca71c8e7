"""Orders carried out: each a state table (`control/order.py`) whose every step is on disk before anything leaves.

    desk = OrderDesk(book, lines, ...)
    desk.ask(order);  await desk.carry(order_id)     # as far as it goes now; again when it is due

What always holds:
- an order is read against the meter before it is sent: what stands as asked is not sent;
- "sent" is written before the request leaves; whatever happens behind that (silence, a broken line, a restart) makes the outcome unknown, and an
  unknown outcome is only resolved by reading the meter;
- a disconnection asks the guard again right before it is sent; a newer relay order for the same meter takes the place of an older one;
- a meter that cannot be reached keeps its orders: they are due again later, with growing distance.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

from ..control.guard import Decision
from ..control.order import END, RELAY, Event, Order, State, What, advance, decided
from ..errors import InputError, MeterError, RequestError
from ..store.order_book import SETTLED, Due, OrderBook, Waiting
from .images import ImageProcedure
from .lines import Lines, Talk
from .procedures import (
    CalendarProcedure,
    ClockProcedure,
    KeysProcedure,
    LoadLimitProcedure,
    Procedure,
    ReadProcedure,
    RelayProcedure,
    voltage_seen,
)
from .session import Denied, SilentMeter

log = logging.getLogger("openami.orders")
FIRST_AGAIN_S, LAST_AGAIN_S = 10, 900
"""When an order is due again after a conversation that led nowhere: doubled each time, with jitter."""
SOON_S = 2
REFUSALS_MAX = 5
NEVER = frozenset({"read write denied", "object undefined", "object class inconsistent", "object unavailable", "type unmatched"})
"""Refusals that asking again does not change."""

Guard = Callable[[Order, int], Decision]


def procedures(now_s: Callable[[], int], images: Callable[[str], bytes]) -> Mapping[What, Procedure | ImageProcedure]:
    """One for each kind of order."""
    relay = RelayProcedure()
    return {
        What.DISCONNECT: relay,
        What.CONNECT: relay,
        What.LOAD_LIMIT: LoadLimitProcedure(),
        What.CLOCK: ClockProcedure(now_s),
        What.CALENDAR: CalendarProcedure(),
        What.KEYS: KeysProcedure(),
        What.IMAGE: ImageProcedure(images),
        What.READ: ReadProcedure(),
    }


def no_images(sha256: str) -> bytes:
    raise InputError(f"no firmware image with SHA-256 {sha256} is at hand; give the head-end its folder of images")


class OrderDesk:
    """now_s: UTC seconds; guard: asked for every disconnection, None = none is carried out; rng: jitter of the distances; sees_voltage: behind a
    reconnection that was read back, the voltage is read too (supplied)."""

    def __init__(
        self,
        book: OrderBook,
        lines: Lines,
        now_s: Callable[[], int],
        guard: Guard | None = None,
        images: Callable[[str], bytes] = no_images,
        rng: random.Random | None = None,
        sees_voltage: bool = False,
    ) -> None:
        self._sees_voltage = sees_voltage
        self.book, self._lines, self._now_s, self._guard = book, lines, now_s, guard
        self._rng = rng or random.Random()
        self._procedures = procedures(now_s, images)
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def ask(self, order: Order) -> Order:
        """Write an order down; once, by its id. RequestError as `OrderBook.ask`, and for a second key change while one is not settled."""
        self._lines.line(order.meter)
        if order.what is What.KEYS:
            under_way = [one.order_id for one in self.book.of_meter(order.meter) if one.what is What.KEYS and one.state not in SETTLED]
            if under_way and order.order_id not in under_way:
                raise RequestError(
                    f"meter {order.meter} has a key change that is not settled ({under_way[0]}); let it end before {order.order_id}"
                )
        return self.book.ask(order)

    def due(self) -> list[Waiting]:
        """What should be carried now, the longest wanted first."""
        return self.book.due_now(self._now_s())

    async def carry(self, order_id: str) -> Order:
        """Do for an order all that can be done now; gives it as it stands then. Never raises for what the meter does. One order of a meter at
        a time."""
        async with self._busy[self.book.order(order_id).meter]:
            return await self._carry(self.book.order(order_id))

    async def _carry(self, order: Order) -> Order:
        """One order, one conversation."""
        if order.state in SETTLED:
            return order
        try:
            order = self._before(order)
            if order.state not in SETTLED:
                async with Talk(self._lines, order.meter, self._procedures[order.what].client) as talk:
                    order = await self._converse(talk, order)
                    if self._sees_voltage and order.what is What.CONNECT and order.state is State.CONFIRMED:
                        order = await self._look_for_light(talk, order)
        except (MeterError, OSError) as error:
            order = self.book.order(order.order_id)
            if isinstance(error, Denied) and error.code in NEVER and order.state is State.ALLOWED:
                return self._record(order, Event.GIVE_UP, str(error))
            self._later(order, str(error))
        except InputError as error:
            order = self.book.order(order.order_id)
            if order.state is State.ALLOWED:
                return self._record(order, Event.GIVE_UP, str(error))
            self._later(order, str(error))
        return order

    def _before(self, order: Order) -> Order:
        """What is decided without the meter: what a restart has cut off, what a newer order replaces, what the guard says."""
        if order.on_its_way:
            order = self._record(order, Event.NO_ANSWER, "we were restarted while it was on its way")
        if order.state is State.READY and self._replaced_by(order):
            return self._record(order, Event.GIVE_UP, f"superseded by {self._replaced_by(order)}")
        if order.state is State.REQUESTED:
            order = self._allowed(order)
        return order

    def _allowed(self, order: Order) -> Order:
        """Asked of the guard where it cuts supply, allowed else. Also when it is allowed already, right before it is sent."""
        if order.what is not What.DISCONNECT:
            return order if order.state is State.ALLOWED else self._record(order, Event.ALLOW)
        if self._guard is None:
            raise InputError(f"order {order.order_id} cuts supply and there is no guard to ask; nothing is cut without one")
        now_s = self._now_s()
        after = decided(order, self._guard(order, now_s), now_s)
        return self.book.record(order, after)

    async def _converse(self, talk: Talk, order: Order) -> Order:
        """Read, send, read, until it is settled or only time can help."""
        procedure = self._procedures[order.what]
        while order.state not in SETTLED:
            before = order.state
            order, wait_s = await self._read(talk, procedure, order)
            if order.state in SETTLED or wait_s is not None:
                self._wait(order, wait_s)
                return order
            if order.state is not before:
                continue
            if order.state is State.ALLOWED:
                order = await self._send(talk, procedure, order)
            elif order.state is State.TRANSFERRED and isinstance(procedure, ImageProcedure):
                await procedure.verify(talk, order)
                order, _ = await self._read(talk, procedure, order)
                if order.state is State.TRANSFERRED:
                    self._wait(order, FIRST_AGAIN_S)
                    return order
            elif order.state is State.VERIFIED and isinstance(procedure, ImageProcedure):
                order = await self._leave(talk, order, Event.ACTIVATE, procedure.activate)
            else:
                self._wait(order, FIRST_AGAIN_S)
                return order
        return order

    async def _look_for_light(self, talk: Talk, order: Order) -> Order:
        """Supplied, if the meter shows voltage; else it stays as confirmed, and whoever hears of voltage later says so."""
        try:
            seen = await voltage_seen(talk)
        except (MeterError, OSError) as error:
            log.info("order %s: closed, and no voltage could be read: %s", order.order_id, error)
            return order
        return self._record(order, Event.VOLTAGE_SEEN, seen) if seen else order

    async def _read(self, talk: Talk, procedure: Procedure | ImageProcedure, order: Order) -> tuple[Order, int | None]:
        """The order after the meter was asked how it stands, and how long to wait before asking again, None = go on."""
        event, note = await procedure.read(talk, order)
        if event is None:
            return order, FIRST_AGAIN_S
        if order.state is State.ALLOWED and event in (Event.READ_OTHERWISE, Event.READ_PART):
            return order, None
        if order.state is State.ACCEPTED and event in _NOT_YET and self._now_s() < order.steps[-1].at_s + procedure.settle_s:
            return order, SOON_S
        if (order.state, event) in _STILL:
            return order, FIRST_AGAIN_S if order.state is State.READY else None
        was = order.state
        order = self._record(order, event, note)
        if (was, order.state) not in _BACK:
            return order, FIRST_AGAIN_S if order.state is State.READY else None
        fallen = sum(1 for k, step in enumerate(order.steps[1:], 1) if (order.steps[k - 1].state, step.state) in _BACK)
        if fallen >= REFUSALS_MAX:
            order = self._record(order, Event.GIVE_UP, f"the meter says yes and shows otherwise, {fallen} times: {note}")
        return order, FIRST_AGAIN_S

    async def _send(self, talk: Talk, procedure: Procedure | ImageProcedure, order: Order) -> Order:
        """Sent once, unless a newer order or the guard stands in the way."""
        if newer := self._replaced_by(order):
            return self._record(order, Event.WITHDRAW, f"superseded by {newer}")
        order = self._allowed(order)
        if order.state is not State.ALLOWED:
            return order
        return await self._leave(talk, order, Event.SEND, procedure.send)

    async def _leave(self, talk: Talk, order: Order, event: Event, request: Callable[[Talk, Order], Awaitable[None]]) -> Order:
        """Write it down as sent, then send it; what came of it."""
        asked = order
        order = self._record(order, event)
        try:
            await request(talk, asked)
        except Denied as error:
            order = self._record(order, Event.ACTION_FAILED, str(error))
            failed = sum(step.event is Event.ACTION_FAILED for step in order.steps)
            if error.code in NEVER or failed >= REFUSALS_MAX:
                return self._record(order, Event.GIVE_UP, str(error))
            raise
        except asyncio.CancelledError:
            raise  # we are being stopped: the order stays as sent, and is found so
        except (MeterError, RequestError, OSError) as error:
            self._record(order, Event.NO_ANSWER, str(error))
            raise SilentMeter(str(error)) from error
        except InputError as error:
            order = self._record(order, Event.ACTION_FAILED, str(error))
            return self._record(order, Event.GIVE_UP, str(error))
        return self._record(order, Event.ACTION_OK)

    def _replaced_by(self, order: Order) -> str | None:
        """The newest relay order of the same meter behind this one, whatever became of it."""
        return self.book.newer_relay_order(order) if order.what in RELAY else None

    def _record(self, order: Order, event: Event, note: str = "") -> Order:
        """The step on disk. Keys that a failed change has left under way are dropped: every sending of them is resolved by then."""
        now_s = max(self._now_s(), order.steps[-1].at_s if order.steps else order.requested_s)
        after = self.book.record(order, advance(order, event, now_s, note))
        if after.what is What.KEYS and after.state in END:
            self._lines.contacts.keys_dropped(after.meter, after.order_id)
        return after

    def _wait(self, order: Order, wait_s: int | None) -> None:
        """The meter needs time, or a person at its button: asked again after `wait_s`, and ever more seldom."""
        if order.state in SETTLED or wait_s is None:
            return
        due = self.book.due(order.order_id)
        distance_s = min(LAST_AGAIN_S, wait_s * 2 ** min(due.attempts, 10))
        self.book.postpone(order.order_id, Due(due.attempts + 1, self._now_s() + distance_s, ""))

    def _later(self, order: Order, problem: str) -> None:
        due = self.book.due(order.order_id)
        distance_s = min(LAST_AGAIN_S, FIRST_AGAIN_S * 2 ** min(due.attempts, 10)) * self._rng.uniform(0.5, 1.5)
        self.book.postpone(order.order_id, Due(due.attempts + 1, self._now_s() + int(distance_s), problem))


_STILL = frozenset({(State.TRANSFERRED, Event.READ_WHOLE), (State.VERIFIED, Event.READ_VERIFIED), (State.READY, Event.READ_READY)})
"""What was read says what is known already."""
_NOT_YET = frozenset({Event.READ_OTHERWISE, Event.READ_VERIFIED})
_BACK = frozenset({(s, State.ALLOWED) for s in (State.ACCEPTED, State.TRANSFERRED, State.VERIFIED)} | {(State.ACCEPTED, State.VERIFIED)})
"""A meter that answered with success and does not show it: asked again later, and not for ever."""
