"""The other half of `headend`: meters asked over TCP on loopback; the meters are full simulated DLMS servers in a process of their own.

    day_reads_per_s    a full day of block load (48 rows of 8 columns), each in an association of its own with high level security, journalled and
                       synced before it counts
    orders_per_s       relay orders, each written down, sent, read back and confirmed

Both ends are Python on the same two cores, so about half of what is measured is the meters' own work.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ..control.guard import Decision
from ..control.order import Order, State, What
from ..errors import DataError
from ..headend.lines import Lines
from ..headend.orders import OrderDesk
from ..headend.plan import Limits, Plan, Priority, Task
from ..headend.rounds import Rounds
from ..headend.session import UTILITY
from ..registry import Meter
from ..store.contacts import Contacts, MeterLine
from ..store.journal import Journal
from ..store.keys import MasterKey
from ..store.order_book import OrderBook
from ..store.rows import Rows
from . import Line, line, memory

METERS = 40
READS_EACH, ORDERS_EACH = 50, 10
SIDE_BY_SIDE = 16
ROWS_OF_A_DAY = 48
TITLE = b"OAMBENCH"


def run(meters: int) -> Iterator[Line]:
    """The lines of the bench; `meters` is how many there are, each asked many times."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name, _fleet(meters) as fleet:
        rows = _registry(Path(name), fleet)
        lines = Lines(rows, _MASTER, TITLE)
        journal = Journal(Path(name) / "journal.db", create=True)
        serials = [one["serial"] for one in fleet]
        yield from _lines("day_reads_per_s", "reads/s", asyncio.run(_read(lines, journal, serials)))
        yield from _lines("orders_per_s", "orders/s", asyncio.run(_order(lines, OrderBook(rows), serials)))
        yield line("headend", "rss_peak", memory("headend", meters)["value"], "bytes", meters, of="day_reads_per_s")
        journal.close()
        lines.close()
        rows.close()


_MASTER = MasterKey(b"\x42" * 32)


@dataclass(slots=True)
class _Run:
    took_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)


def _lines(metric: str, unit: str, run: _Run) -> Iterator[Line]:
    count = len(run.waits_s)
    yield line("headend", metric, count / run.took_s, unit, count)
    waits = sorted(run.waits_s)
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        yield line("headend", name, waits[int(share * (count - 1))], "s", count, of=metric)


class _Timed(Rounds):
    """Rounds that tell how long each conversation took, the plan's waiting not counted."""

    waits_s: list[float]

    async def _carry(self, task: Task) -> None:
        begun = time.perf_counter()
        await super()._carry(task)
        self.waits_s.append(time.perf_counter() - begun)


async def _read(lines: Lines, journal: Journal, serials: list[str]) -> _Run:
    """Yesterday of every meter, again and again."""
    zone = ZoneInfo("Asia/Kolkata")
    midnight_s = int(datetime.combine(datetime.now(zone).date(), datetime.min.time(), zone).timestamp())
    plan = Plan(Limits(SIDE_BY_SIDE, SIDE_BY_SIDE))
    for each in range(READS_EACH):
        for serial in serials:
            plan.add(Task(f"{serial} {each}", serial, Priority.GAP, "block_load", each, midnight_s - 86_400 + 1, midnight_s))
    rounds = _Timed(plan, lines, journal, time.time, client=UTILITY)
    rounds.waits_s = []
    begun = time.perf_counter()
    await rounds.run(lambda: False)
    took_s = time.perf_counter() - begun
    expected = READS_EACH * len(serials)
    if rounds.tally.rows.get("block_load") != ROWS_OF_A_DAY * expected or rounds.tally.failed:
        raise DataError(f"the meters gave {rounds.tally}, not {ROWS_OF_A_DAY} rows {expected} times; is the machine overloaded?")
    return _Run(took_s, rounds.waits_s)


async def _order(lines: Lines, book: OrderBook, serials: list[str]) -> _Run:
    """Every relay off and on in turn."""
    desk = OrderDesk(book, lines, lambda: int(time.time()), _agree)
    run, begun = _Run(), time.perf_counter()
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def work(serial: str) -> None:
        async with gate:
            for number in range(ORDERS_EACH):
                asked = time.perf_counter()
                what = What.CONNECT if number % 2 else What.DISCONNECT
                order = desk.ask(Order(f"{serial} {number:02d}", what, "", serial, int(time.time()), who="bench", why="bench"))
                order = await desk.carry(order.order_id)
                if order.state is not State.CONFIRMED:
                    raise DataError(f"order {order.order_id} is {order.state}: {book.due(order.order_id).problem}")
                run.waits_s.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as group:
        for serial in serials:
            group.create_task(work(serial))
    run.took_s = time.perf_counter() - begun
    return run


def _agree(order: Order, now_s: int) -> Decision:
    now = datetime.fromtimestamp(now_s, ZoneInfo("Asia/Kolkata"))
    return Decision(True, (), "bench", now, now + timedelta(seconds=300))


def _registry(folder: Path, fleet: list[dict[str, Any]]) -> Rows:
    rows = Rows(folder / "registry.db", create=True)
    registered = [Meter(m["serial"], bytes.fromhex(m["system_title"]), "XMA", "XMA-1P", 0, k, 0x20, 1) for k, m in enumerate(fleet)]
    keys = [(m["serial"], _MASTER.wrap(bytes.fromhex(m["ek"])), _MASTER.wrap(bytes.fromhex(m["ak"]))) for m in fleet]
    rows.add_registry([], [], registered, [], [], keys)
    Contacts(rows).add_lines(
        MeterLine(
            m["serial"],
            "127.0.0.1",
            m["port"],
            password_wrapped=_MASTER.wrap_secret(m["password"].encode()),
            hls_secret_wrapped=_MASTER.wrap_secret(bytes.fromhex(m["hls_secret"])),
        )
        for m in fleet
    )
    return rows


@contextmanager
def _fleet(meters: int) -> Iterator[list[dict[str, Any]]]:
    command = [sys.executable, "-m", "openami.bench.meters", str(meters)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["meters"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
