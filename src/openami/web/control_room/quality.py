"""How good the readings of a fortnight are, by feeder and day: what is missing, what is estimated, what failed a check.

What always holds: a day is counted once for each content of its files, from four columns, never from its intervals; a day that cannot be read is
unknown here, and takes no other day with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow.compute as pc
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from ...day import Site
from ...day.meter_day import TABLE, meter_day
from ...errors import DataError
from .. import charts
from ..access import Who
from ..api.words import key_of, page_of
from ..failures import NotUsable
from ..parameters import Choice, Cursor, Day, Lang
from ..wording import Language
from .exports import as_file
from .routes import Room, Sees, closed_day, page, room_of

router = APIRouter(prefix="/room")
KINDS = ("missing", "estimated", "flagged")
DAYS, ROWS, DAYS_KEPT = 14, 50, 60
STEPS = (0.001, 0.01, 0.05, 0.2)
"""Shares of a day's intervals at which a cell gets darker."""
COLUMNS = ("day", "feeder", "intervals", *KINDS)


@dataclass(frozen=True, slots=True)
class Counts:
    """Intervals of a feeder's meters on a day: how many there are, and of how many each of KINDS is true."""

    intervals: int
    missing: int
    estimated: int
    flagged: int

    def share(self, kind: str) -> float:
        return int(getattr(self, kind)) / self.intervals if self.intervals else 0.0


Feeders = dict[str, Counts]


@dataclass
class QualityDays:
    """Each day's counts by feeder, kept for as long as its files are what they were. Calls may come from several threads."""

    site: Callable[[], Site]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[date, tuple[object, Feeders]] = field(default_factory=dict)

    def on(self, day: date) -> Feeders | None:
        """None where the day is not closed, or cannot be read."""
        site = self.site()
        shards = sorted(site.lake.files("balance", day))
        mark = [site.lake.content(TABLE, day, shard) if site.lake.has(TABLE, day, shard) else "" for shard in shards]
        with self._lock:
            kept = self._kept.get(day)
        if kept is None or kept[0] != (id(site), mark):
            try:
                kept = (id(site), mark), counted(site, day, shards)
            except DataError:
                return None
            with self._lock:
                self._kept[day] = kept
                while len(self._kept) > DAYS_KEPT:
                    del self._kept[next(iter(self._kept))]
        return kept[1] or None


def counted(site: Site, day: date, shards: list[int]) -> Feeders:
    """The day's intervals by feeder. DataError where a file is damaged."""
    slots, sums = site.calendar.slots(day), dict[str, Any]()
    for shard in shards:
        rows = meter_day(site, day, shard, ("feeder", *KINDS))
        feeders = rows["feeder"].unify_dictionaries().combine_chunks()
        at = pc.fill_null(feeders.indices, len(feeders.dictionary)).to_numpy(zero_copy_only=False)  # of no feeder: behind the last
        own = np.zeros((len(feeders.dictionary) + 1, 1 + len(KINDS)), np.int64)
        own[:, 0] = slots * np.bincount(at, minlength=len(own))
        for k, kind in enumerate(KINDS, start=1):
            counts = pc.fill_null(rows[kind].combine_chunks(), 0).to_numpy(zero_copy_only=False)
            some = np.flatnonzero(counts)  # few
            own[:, k] = np.bincount(at[some], weights=counts[some], minlength=len(own))
        for name, row in zip(feeders.dictionary.to_pylist(), own, strict=False):
            if row[0]:
                sums[name] = sums.get(name, 0) + row
    return {name: Counts(*own.tolist()) for name, own in sorted(sums.items())}


@dataclass(frozen=True, slots=True)
class Grid:
    """Feeders by days. rows: feeder, and its counts of each of `days`, None = unknown; whole: all of them together, by day."""

    days: tuple[date, ...]
    rows: tuple[tuple[str, tuple[Counts | None, ...]], ...]
    whole: tuple[Counts | None, ...]


def grid(kept: QualityDays, first: date, last: date, who: Who, kind: str, feeder: str) -> Grid:
    """The fortnight to `last`, from `first` on, of the feeders within the reach whose name begins with `feeder`, the worst by `kind` first."""
    days = tuple(day for back in range(DAYS - 1, -1, -1) if (day := last - timedelta(days=back)) >= first)
    told = [kept.on(day) for day in days]
    names = sorted({name for one in told if one for name in one if name.startswith(feeder) and who.sees_feeder(name)})
    rows = [(name, tuple(one.get(name) if one else None for one in told)) for name in names]
    rows.sort(key=lambda row: (-sum(getattr(one, kind) for one in row[1] if one), row[0]))
    return Grid(days, tuple(rows), tuple(_whole([row[1][k] for row in rows]) for k in range(len(days))))


def asked_grid(room: Room, who: Who, last: date, kind: str, feeder: str) -> Grid:
    if kind not in KINDS:
        raise NotUsable("kind", kind)
    return grid(room.quality, room.town.days()[0], last, who, kind, feeder)


@router.get("/quality", response_model=None)
def quality(
    request: Request, who: Sees, day: Day = "", kind: Choice = "missing", feeder: Choice = "", cursor: Cursor = None, lang: Lang = ""
) -> Response:
    """A fortnight as a picture and as feeders by days."""
    asked = closed_day(request, day)
    found, after = asked_grid(room_of(request), who, asked, kind, feeder), key_of(cursor, int)
    first = max(0, after[0]) if after else 0
    kept, onward = page_of(found.rows[first : first + ROWS + 1], ROWS, lambda _: (first + ROWS,))
    answer: dict[str, Any] = {"grid": found, "rows": kept, "onward": onward, "kind": kind, "kinds": KINDS, "feeder": feeder, "steps": STEPS}
    return page(request, "quality.html", asked, **answer, quality_figure=quality_figure, step_of=step_of)


@router.get("/quality.csv", response_model=None)
def quality_file(
    request: Request, who: Sees, day: Day = "", kind: Choice = "missing", feeder: Choice = "", format: Choice = "csv"
) -> Response:
    """Every feeder and day of it."""
    asked = closed_day(request, day)
    found = asked_grid(room_of(request), who, asked, kind, feeder)
    rows = [
        {"day": at.isoformat(), "feeder": name, "intervals": one.intervals, **{kind: getattr(one, kind) for kind in KINDS}}
        for name, days in found.rows
        for at, one in zip(found.days, days, strict=True)
        if one is not None
    ]
    return as_file(rows, f"quality-{asked}", format, COLUMNS)


def quality_figure(words: Language, name: str, title: str, found: Grid, kind: str) -> Markup:
    """The share of all intervals by day [%]."""
    data = [charts.Bar(100 * one.share(kind) if one else None, False, False) for one in found.whole]
    ticks = [charts.Tick(k, f"{day:%d.%m.}") for k, day in enumerate(found.days)]
    known = [(one.share(kind), day) for one, day in zip(found.whole, found.days, strict=True) if one]
    text = words.say("%(known)s of %(days)s days are known.", known=len(known), days=len(found.days))
    if known:
        share, worst = max(known)
        text += " " + words.say("The most was %(share)s on %(day)s.", share=words.percent(share, 2), day=words.day(worst))
    return charts.bars(name, title, text, data, ticks, "%")


def step_of(share: float) -> str:
    """The style sheet's class for a cell."""
    return f"heat l{sum(share >= step for step in STEPS)}"


def _whole(parts: list[Counts | None]) -> Counts | None:
    known = [one for one in parts if one]
    return Counts(*(sum(getattr(one, name) for one in known) for name in ("intervals", *KINDS))) if known else None
