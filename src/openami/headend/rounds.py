"""The rounds of the reader: what is due is put into the plan, and the plan is carried out against real meters, into the journal.

What always holds: rows that a meter gave are in the journal, synced, before its task counts as done; a range that it was asked for and does not
have is remembered as answered; one meter's failure costs no other anything but its share of a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from ..control.order import What
from ..errors import InputError, MeterError, StorageError
from ..store.contacts import Contact
from ..store.journal import FrameJournal
from .away import AGAIN_S, Away
from .gaps import Gap
from .lines import Lines
from .orders import OrderDesk
from .plan import Plan, Priority, Task
from .pulled import BILLING_PROFILE, BLOCK_LOAD_PROFILE, DAILY_LOAD_PROFILE, INSTANTANEOUS_PROFILE, pulled
from .reader import ProfileLayout, RawProfile, read_rows
from .session import READER

Taken = Callable[[Task, RawProfile, int, int], None]
"""Told of what was read, once it is in the journal: the task, the rows, the pull's seq, when it came (UTC seconds)."""
PROFILES = {
    "block_load": BLOCK_LOAD_PROFILE,
    "daily_load": DAILY_LOAD_PROFILE,
    "billing": BILLING_PROFILE,
    "instantaneous": INSTANTANEOUS_PROFILE,
    **{f"events_{number}": f"0.0.99.98.{number}.255" for number in range(7)},
}
"""Kind of task -> the profile that is read."""
IDLE_S, ORDERS_EVERY_S, CONTACTS_EVERY_S = 5.0, 0.1, 2
"""How long a round without anything due sleeps at most; how often it looks for new orders; how often it writes contacts down."""


def gap_tasks(wanted: Mapping[str, list[Gap]], cell: Callable[[str], str], now_s: int, priority: Priority = Priority.GAP) -> list[Task]:
    """A task for each gap of block load."""
    return [
        Task(f"block_load {serial} {gap.first_s}", serial, priority, "block_load", now_s, gap.first_s, gap.last_s, cell(serial))
        for serial, gaps in wanted.items()
        for gap in gaps
    ]


class _JournalRefused(StorageError):
    """Not the database but the journal: without it nothing can go on."""


@dataclass(slots=True)
class Tally:
    """What the rounds have done: rows by kind, tasks done, attempts that failed, with their reasons by meter."""

    rows: dict[str, int] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    problems: dict[str, str] = field(default_factory=dict)


class Rounds:
    """Carries a plan out. now_s: UTC seconds; sleep: waits that many seconds (asyncio.sleep, or a test's own); client: who reads; taken: told of what
    was read; resident: goes on when nothing is left to do; away: told where the database is, None = that ends the rounds. The journal is used
    on a thread of its own. asking_since: on the steady clock, since when the order book has been asked without an answer, None = it is not asked."""

    def __init__(
        self,
        plan: Plan,
        lines: Lines,
        journal: FrameJournal,
        now_s: Callable[[], float],
        desk: OrderDesk | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        client: int = READER,
        taken: Taken | None = None,
        resident: bool = False,
        away: Away | None = None,
    ) -> None:
        self._taken, self._resident, self._away = taken, resident, away
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="pulls")
        self.plan, self._lines, self._journal, self._now_s, self._desk, self._sleep = plan, lines, journal, now_s, desk, sleep
        self._client = client
        self._layouts: dict[str, dict[str, ProfileLayout]] = {}
        self._contacts = lines.contacts.contacts()
        self._unwritten: dict[str, Contact] = {}
        self._write_next_s = 0
        self._orders_next_s = 0.0
        self.asking_since: float | None = None
        self.tally = Tally()

    async def run(self, until: Callable[[], bool]) -> None:
        """Until `until` says so, or nothing is left to do. What runs then is waited for."""
        running: set[asyncio.Task[None]] = set()
        try:
            while not until():
                self._take_orders()
                running |= {asyncio.create_task(self._carry(task)) for task in self.plan.take(self._now_s())}
                if not running and not len(self.plan) and not self._resident:
                    return
                running = await self._wait(running)
            if running:
                await asyncio.gather(*running)
        except BaseException:
            for one in running:
                one.cancel()
            raise
        finally:
            self._write_contacts()
            self._disk.shutdown(wait=True)

    async def _wait(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Until a conversation has ended or a sleeping task wakes; gives those that go on."""
        wakes_s = self.plan.next_s()
        longest_s = IDLE_S if self._desk is None else ORDERS_EVERY_S
        pause_s = longest_s if wakes_s is None else min(longest_s, max(0.0, wakes_s - self._now_s()))
        if not running:
            await self._sleep(pause_s)
            return running
        pause = asyncio.ensure_future(self._sleep(pause_s)) if wakes_s is not None or self._desk is not None else None
        done, _ = await asyncio.wait({*running, *({pause} if pause else ())}, return_when=asyncio.FIRST_COMPLETED)
        if pause is not None and pause not in done:
            pause.cancel()
        for one in done & running:
            one.result()
        return running - done

    def _take_orders(self) -> None:
        """Orders whose time has come go before everything else, reconnections before other orders."""
        if self._desk is not None and self._now_s() >= self._orders_next_s:
            self._orders_next_s = self._now_s() + ORDERS_EVERY_S
            self.asking_since = time.monotonic()
            try:
                due = self._desk.due()
            except StorageError as error:
                self._is_away(error)
                self._orders_next_s = self._now_s() + AGAIN_S
                return
            finally:
                self.asking_since = None
            if self._away is not None:
                self._away.back()
            for order_id, meter, requested_s, what in due:
                priority = Priority.RECONNECTION if what == What.CONNECT else Priority.ORDER
                self.plan.add(Task(f"order {order_id}", meter, priority, "order", requested_s, cell=self._lines.cell(meter)))

    async def _carry(self, task: Task) -> None:
        try:
            if task.kind == "order" and self._desk is not None:
                order = await self._desk.carry(task.key.removeprefix("order "))
                self.plan.withdraw(task.key)  # when it is due again is the desk's own
                if problem := self._desk.book.due(order.order_id).problem:
                    self._note(task, problem)
                    self.plan.failed(task.key, self._now_s())
                    return
            else:
                await self._read(task)
        except (MeterError, InputError, OSError) as error:
            self._note(task, str(error))
            self.plan.failed(task.key, self._now_s())
            return
        except _JournalRefused:
            raise
        except StorageError as error:  # an order that was sent stands as sent, and is resolved by reading
            self._is_away(error)
            self.plan.failed(task.key, self._now_s())
            return
        self._note(task, "")
        self.plan.done(task.key)

    async def _read(self, task: Task) -> None:
        """One profile's rows into the journal."""
        obis = PROFILES[task.kind]
        known = self._layouts.setdefault(self._lines.model(task.serial), {})
        async with await self._lines.open(task.serial, self._client) as session:
            found = await read_rows(session, obis, task.first_s, task.last_s, known)
        received_us = int(self._now_s() * 1_000_000)
        record = pulled(found.layout, found.buffer)
        keep = partial(self._journal.pull, task.serial, obis, task.first_s or 0, task.last_s or 0, record, received_us)
        try:
            seq = await asyncio.get_running_loop().run_in_executor(self._disk, keep)
        except StorageError as error:
            raise _JournalRefused(str(error)) from error
        self.tally.rows[task.kind] = self.tally.rows.get(task.kind, 0) + len(found.rows)
        if self._taken is not None:
            self._taken(task, found, seq, received_us // 1_000_000)

    def _note(self, task: Task, problem: str) -> None:
        """The meter's contact, for the list of silent meters and for the next round."""
        before = self._contacts.get(task.serial, Contact(task.serial, None))
        now_s = int(self._now_s())
        if problem:
            self.tally.failed += 1
            self.tally.problems[task.serial] = problem
            after = Contact(task.serial, before.heard_s, before.failures + 1, now_s, problem)
        else:
            self.tally.done += 1
            self.tally.problems.pop(task.serial, None)
            after = Contact(task.serial, now_s if task.kind != "order" else before.heard_s)
        self._contacts[task.serial] = self._unwritten[task.serial] = after
        if now_s >= self._write_next_s:
            self._write_contacts()

    def _write_contacts(self) -> None:
        """Contacts are written together: losing the last seconds of them costs a meter one early question."""
        self._write_next_s = int(self._now_s()) + CONTACTS_EVERY_S
        try:
            self._lines.contacts.note_contacts(self._unwritten.values())
        except StorageError as error:
            self._is_away(error)
            return
        self._unwritten.clear()

    def _is_away(self, error: StorageError) -> None:
        if self._away is None:
            raise error
        self._away.gone(error)
