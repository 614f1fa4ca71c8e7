"""What the clock makes due: gaps of block load, yesterday's daily load, last month's billing, event logs of meters that came back; as tasks.

What always holds: nobody is asked for what is here already, for what may still be pushed, or for what its model no longer keeps; the same clock and
the same arrivals give the same tasks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib.resources import files

from ..errors import DataError
from ..readings import Calendar
from .arrivals import Arrivals
from .gaps import DEPTH_S, GRACE_S, Gap, joined, without
from .plan import Priority, Task

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Depths:
    """How long each model keeps block load [s]. by_model: (maker, model) -> s; default for every other."""

    by_model: dict[tuple[str, str], int]
    default_s: int = DEPTH_S

    def of(self, maker: str, model: str) -> int:
        return self.by_model.get((maker, model), self.default_s)

    @property
    def longest_s(self) -> int:
        return max([self.default_s, *self.by_model.values()])


@lru_cache(maxsize=1)
def model_depths() -> Depths:
    """The shipped ones, `data/models.toml`; DataError where the file is not what it should be."""
    try:
        raw = tomllib.loads(files(__package__).joinpath("data/models.toml").read_text("utf-8"))
        rows = {(one["maker"], one["model"]): DAY_S * int(one["block_load_days"]) for one in raw["model"]}
        return Depths(rows, DAY_S * int(raw["default"]["block_load_days"]))
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"headend/data/models.toml is not a table of models ({error}); restore the shipped file") from error


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom one may ask. serials: meters whose line is known; cell, depth_s: of a serial."""

    serials: Collection[str]
    cell: Callable[[str], str]
    depth_s: Callable[[str], int]


def gap_tasks_of(arrivals: Arrivals, asked: Asked, answered: dict[str, list[Gap]], now_s: int, grace_s: int = GRACE_S) -> list[Task]:
    """A task for each range of block load that is due, not here, and not answered before (`answered`: serial -> ranges the meter was asked for)."""
    known, calendar = set(asked.serials), arrivals.calendar
    wanted: dict[str, list[Gap]] = {}
    for k in range(arrivals.days):
        day = arrivals.first + timedelta(days=k)
        if calendar.day_start(day) > now_s:
            break
        for serial, gaps in arrivals.missing(day, now_s, grace_s):
            if serial in known:
                wanted.setdefault(serial, []).extend(gaps)
    tasks = []
    for serial, gaps in wanted.items():
        oldest_s = now_s - asked.depth_s(serial)
        left = without(gaps, answered.get(serial, ()), calendar.interval_s)
        kept = [Gap(max(gap.first_s, oldest_s), gap.last_s) for gap in left if gap.last_s >= oldest_s]
        cell = asked.cell(serial)
        tasks += [
            Task(
                f"block_load {serial} {gap.first_s} {gap.last_s}",
                serial,
                Priority.GAP,
                "block_load",
                now_s,
                gap.first_s,
                gap.last_s,
                cell,
            )
            for gap in joined(kept)
        ]
    return tasks


def midnights(calendar: Calendar, now_s: int) -> tuple[int, int]:
    """(the last local midnight, the midnight that began the month), UTC seconds."""
    today = calendar.local(now_s).date()
    return calendar.day_start(today), calendar.day_start(today.replace(day=1))


def due_registers(calendar: Calendar, now_s: int, grace_s: int = GRACE_S) -> list[tuple[str, int, int]]:
    """(kind, first_s, last_s) of the registers that should be here by now: daily load of the last midnight, billing of the last month's end."""
    day_s, month_s = midnights(calendar, now_s - grace_s)
    return [("daily", day_s, day_s), ("billing", month_s, month_s)]


def register_tasks(kind: str, first_s: int, last_s: int, serials: Iterable[str], asked: Asked) -> list[Task]:
    """A task for each meter of `serials` that can be asked."""
    known = set(asked.serials)
    profile = {"daily": "daily_load", "billing": "billing"}[kind]
    return [
        Task(f"{profile} {serial} {last_s}", serial, Priority.ROUTINE, profile, last_s, first_s, last_s, asked.cell(serial))
        for serial in serials
        if serial in known
    ]
