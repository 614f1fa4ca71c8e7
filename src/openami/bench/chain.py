"""The rest of `prepaid`: from payment to light. Payments of accounts whose meters really stand open, told to the desk; their orders taken from the
book by a running head-end, carried to simulated meters over TCP, accepted, read back as closed, voltage seen.

    payment_to_accepted    from the moment at which a payment is told until the meter has accepted
    payment_to_light       until the relay was read back as closed, on meters that close at once

Meters are a process of their own; payment desk and head-end share one, so what is measured is more than either would cost alone.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from ..control.order import Order, State, What
from ..errors import DataError
from ..headend.lines import Lines
from ..headend.orders import OrderDesk
from ..headend.plan import Limits, Plan
from ..headend.rounds import Rounds
from ..payments.desk import PaymentDesk
from ..payments.event import Event, Kind
from ..payments.reconnection import Reconnections
from ..prepaid.recharge import recharge_policy
from ..registry import Account, Feeder, NodeKind, PaymentMode, UsagePoint
from ..store.journal import Journal
from ..store.order_book import OrderBook
from ..store.rows import Rows
from . import Line, line
from .asking import _MASTER, SIDE_BY_SIDE, TITLE, _agree, _fleet, _registry

METERS, CYCLES, PAYMENTS_PER_S = 40, 5, 10.0
SINCE = date(2025, 12, 1)


class _TimedBook(OrderBook):
    """Remembers when each order first came into each state, by a finer clock than its steps have."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.at: dict[tuple[str, State], float] = {}

    def record(self, before: Order, after: Order) -> Order:
        done = super().record(before, after)
        for step in after.steps[len(before.steps) :]:
            self.at.setdefault((after.order_id, step.state), time.perf_counter())
        return done


def run(meters: int = METERS) -> Iterator[Line]:
    """`meters` meters, each cut and paid for `CYCLES` times."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name, _fleet(meters) as fleet:
        rows = _registry(Path(name), fleet)
        serials = [one["serial"] for one in fleet]
        points = [UsagePoint(f"U{s}", NodeKind.CONSUMER, s, "F", None, "R", 1000, SINCE) for s in serials]
        accounts = [Account(f"A{s}", f"U{s}", "", "hi", "BR-DS2", PaymentMode.PREPAID, SINCE, SINCE, 0) for s in serials]
        rows.add_registry([Feeder("F", "S")], [], [], points, accounts, [])
        lines, journal = Lines(rows, _MASTER, TITLE), Journal(Path(name) / "journal.db", create=True)
        waits = asyncio.run(_cycles(rows, lines, journal, serials))
        journal.close()
        lines.close()
        rows.close()
    for metric, found in waits.items():
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            yield line("prepaid", f"{metric}_{label}", float(np.quantile(found, share)), "s", len(found), payments_per_s=PAYMENTS_PER_S)


async def _cycles(rows: Rows, lines: Lines, journal: Journal, serials: list[str]) -> dict[str, list[float]]:
    book = _TimedBook(rows)
    orders = OrderDesk(book, lines, lambda: int(time.time()), _agree, sees_voltage=True)
    rounds = Rounds(Plan(Limits(SIDE_BY_SIDE, SIDE_BY_SIDE)), lines, journal, time.time, orders, resident=True)
    stop = asyncio.Event()
    headend = asyncio.create_task(rounds.run(stop.is_set))
    after = Reconnections(rows.database, recharge_policy("BR"), lambda connection, numbers: dict.fromkeys(numbers, 0))
    desk, begun = PaymentDesk(rows.database, "Asia/Kolkata", after_posting=after), dict[str, float]()
    for cycle in range(CYCLES):
        cuts = [Order(f"cut{cycle}:{s}", What.DISCONNECT, f"A{s}", s, int(time.time()), who="bench", why="bench") for s in serials]
        for cut in cuts:
            book.ask(cut)
        await _until(book, [cut.order_id for cut in cuts], State.CONFIRMED)
        names = [f"P{cycle}{s}" for s in serials]
        for serial, name in zip(serials, names, strict=True):
            now_s = int(time.time())
            begun[f"reconnect:upi:{name}"] = time.perf_counter()
            told = Event("upi", f"E{name}", name, Kind.PAID, f"A{serial}", 50_000, now_s)
            await asyncio.get_running_loop().run_in_executor(None, desk.take, told)
            await asyncio.sleep(1 / PAYMENTS_PER_S)
        await _until(book, [f"reconnect:upi:{name}" for name in names], State.SUPPLIED)
        await asyncio.sleep(1.1)  # orders of one second stand by their names, and the next cut must be the newer one
    stop.set()
    await headend
    return {
        "payment_to_accepted": [book.at[order, State.ACCEPTED] - at for order, at in begun.items()],
        "payment_to_light": [book.at[order, State.CONFIRMED] - at for order, at in begun.items()],
    }


async def _until(book: _TimedBook, orders: list[str], state: State, within_s: float = 120.0) -> None:
    end = time.perf_counter() + within_s
    while missing := [one for one in orders if (one, state) not in book.at]:
        if time.perf_counter() > end:
            first = book.order(missing[0])
            why = f"{first.order_id} is {first.state}: {book.due(first.order_id).problem or [step.note for step in first.steps]}"
            raise DataError(f"{len(missing)} of {len(orders)} orders were not {state} within {within_s:g} s; {why}")
        await asyncio.sleep(0.05)
