"""What to ask which meter next: a plan of tasks with priorities, limits and back-off. No clock, no socket: it is told the time and what happened.

What always holds:
- reconnections go before all else, and beyond the limit of all conversations if need be; then orders, questions of people, gaps, routine;
  within one, what waits longest goes first;
- one meter is talked to by one task at a time, and no cell by more than its limit; a cell whose meters fail is talked to ever more carefully,
  down to one at a time, and more freely again as they answer: one that comes back is not flooded;
- a meter that does not answer is left alone for longer and longer, with jitter, so that thousands do not come back in the same second;
- no task is lost: it is waiting, running or done.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field, replace
from enum import IntEnum

from ..errors import RequestError


class Priority(IntEnum):
    """The lower, the sooner."""

    RECONNECTION = 0
    ORDER = 1
    ON_DEMAND = 2
    GAP = 3
    ROUTINE = 4


@dataclass(frozen=True, slots=True)
class Task:
    """One conversation with one meter. key: unique; kind: what to do (a profile's name, "order"); first_s, last_s: stamps asked for, UTC seconds;
    since_s: since when it is wanted; cell: the network cell or gateway of the meter, "" = none; attempts: how often it has failed."""

    key: str
    serial: str
    priority: Priority
    kind: str
    since_s: int
    first_s: int | None = None
    last_s: int | None = None
    cell: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """total, per_cell: conversations at the same time; reserved: how many more for reconnections when all are taken.
    again_first_s, again_last_s: the first and the longest distance of repetitions."""

    total: int = 500
    per_cell: int = 8
    reserved: int = 32
    again_first_s: float = 60.0
    again_last_s: float = 6 * 3600.0


@dataclass(slots=True)
class _Cell:
    """How many conversations a cell is trusted with, and how many it has."""

    name: str
    window: float
    running: int = 0
    waiting: list[deque[Task]] = field(default_factory=lambda: [deque() for _ in Priority])


class Plan:
    """rng: the jitter. Use: `add`, then again and again `take` what may start now, and tell `done` or `failed` of each."""

    def __init__(self, limits: Limits | None = None, rng: random.Random | None = None) -> None:
        self.limits, self._rng = limits or Limits(), rng or random.Random()
        self._cells: dict[str, _Cell] = {}
        self._waiting: dict[Priority, set[str]] = {priority: set() for priority in Priority}  # cells that have such tasks
        self._known: dict[str, Task] = {}
        self._running: dict[str, Task] = {}
        self._busy: set[str] = set()
        self._held: dict[str, list[Task]] = {}  # tasks whose meter is being talked to
        self._asleep: list[tuple[float, int, Task]] = []
        self._failures: dict[str, int] = {}
        self._number = 0

    def __len__(self) -> int:
        """Tasks that are not done."""
        return len(self._known)

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, task: Task, not_before_s: float = 0.0) -> bool:
        """A new task; one whose key is there already is the same task. True if it was new."""
        if task.key in self._known:
            return False
        self._known[task.key] = task
        self._sleep(task, not_before_s)
        return True

    def withdraw(self, key: str) -> bool:
        """Not wanted any more, as where a push has filled a gap; a conversation that runs goes on. True if it was there."""
        return self._known.pop(key, None) is not None

    def take(self, now_s: float) -> list[Task]:
        """The tasks to start now, the most urgent first; they run until `done` or `failed`."""
        while self._asleep and self._asleep[0][0] <= now_s:
            self._queue(heapq.heappop(self._asleep)[2])
        started: list[Task] = []
        for priority in Priority:
            more = self.limits.reserved if priority is Priority.RECONNECTION else 0
            total = self.limits.total + more
            if len(self._running) >= total:
                continue
            cells = map(self._cells.__getitem__, self._waiting[priority])
            waiting = [cell for cell in cells if cell.running < int(cell.window) + (0 if cell.name else more)]
            open_cells = deque(sorted(waiting, key=lambda cell: _longest(cell, priority)))
            while open_cells and len(self._running) < total:
                cell = open_cells.popleft()
                if cell.running >= int(cell.window) + (0 if cell.name else more):
                    continue
                task = self._next(cell, priority)
                if task is not None:
                    self._start(cell, task)
                    started.append(task)
                    open_cells.append(cell)
        return started

    def done(self, key: str) -> None:
        """The task is done, and its meter answers again."""
        task = self._ended(key)
        cell = self._cells[task.cell]
        cell.window = min(float(self.limits.per_cell if task.cell else self.limits.total), cell.window + 1)
        self._failures.pop(task.serial, None)
        self._known.pop(key, None)

    def failed(self, key: str, now_s: float) -> float:
        """The meter did not answer, or said no: again later; gives when (at the earliest)."""
        task = self._ended(key)
        cell = self._cells[task.cell]
        if task.cell:
            cell.window = max(1.0, cell.window / 2)
        failures = self._failures[task.serial] = self._failures.get(task.serial, 0) + 1
        distance_s = min(self.limits.again_last_s, self.limits.again_first_s * 2.0 ** min(failures - 1, 30)) * self._rng.uniform(0.5, 1.5)
        if task.priority in (Priority.RECONNECTION, Priority.ORDER, Priority.ON_DEMAND):
            distance_s = min(distance_s, 1.5 * self.limits.again_first_s)  # somebody waits for it
        if key in self._known:
            again = self._known[key] = replace(task, attempts=task.attempts + 1)
            self._sleep(again, now_s + distance_s)
        return now_s + distance_s

    def next_s(self) -> float | None:
        """When a sleeping task wakes; None = none sleeps. What waits for a limit comes with the next `done` or `failed`."""
        return self._asleep[0][0] if self._asleep else None

    def counts(self) -> dict[Priority, int]:
        """Tasks that are not done, by priority. Any thread may ask."""
        found = dict.fromkeys(Priority, 0)
        for task in list(self._known.values()):
            found[task.priority] += 1
        return found

    def _sleep(self, task: Task, until_s: float) -> None:
        self._number += 1
        heapq.heappush(self._asleep, (until_s, self._number, task))

    def _queue(self, task: Task) -> None:
        window = float(self.limits.per_cell if task.cell else self.limits.total)
        cell = self._cells.setdefault(task.cell, _Cell(task.cell, window))
        cell.waiting[task.priority].append(task)
        self._waiting[task.priority].add(task.cell)

    def _next(self, cell: _Cell, priority: Priority) -> Task | None:
        """The first task whose meter is free and that is still wanted; those whose meter is busy wait for it."""
        waiting = cell.waiting[priority]
        while waiting:
            task = waiting.popleft()
            if self._known.get(task.key) is not task:
                continue
            if task.serial not in self._busy:
                return task
            self._held.setdefault(task.serial, []).append(task)
        self._waiting[priority].discard(cell.name)
        return None

    def _start(self, cell: _Cell, task: Task) -> None:
        cell.running += 1
        self._busy.add(task.serial)
        self._running[task.key] = task

    def _ended(self, key: str) -> Task:
        task = self._running.pop(key, None)
        if task is None:
            raise RequestError(f"task {key} is not running; tell of each task that `take` gave once")
        self._busy.discard(task.serial)
        self._cells[task.cell].running -= 1
        for held in self._held.pop(task.serial, ()):
            self._cells[held.cell].waiting[held.priority].appendleft(held)
            self._waiting[held.priority].add(held.cell)
        return task


def _longest(cell: _Cell, priority: Priority) -> int:
    """Since when the cell's first task of this priority is wanted."""
    waiting = cell.waiting[priority]
    return waiting[0].since_s if waiting else 1 << 62
