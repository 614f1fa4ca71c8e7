"""Service levels, for a person who answers for them: each class's clock, how the last days went, what a closed day lacks by feeder and cause.

What always holds: an interval lacks for one cause, the first of CAUSES that fits; what was estimated later still came too late; the clocks are the
whole deployment's, feeders only those within the reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from ...day.found import Found, OutageRow
from ...headend.levels import Standing
from ...headend.status import LevelClock, day_clocks
from ...readings import Int64
from ...store.heard import Heard
from .. import charts
from ..access import Who
from ..api.words import key_of, page_of
from ..closed_days import ClosedDay
from ..gate import gate_of
from ..parameters import Choice, Cursor, Day, Lang
from ..wording import Language
from .exports import as_file
from .losses import feeders_of
from .routes import Room, Sees, closed_day, page, room_of

router = APIRouter(prefix="/room")
CAUSES = ("dark", "nothing", "stopped", "gaps")
"""Why an interval lacks: its transformer or feeder was without supply on this day; the meter sent nothing of it; it fell silent before the day's end;
single intervals lack."""
ROWS, DAYS = 50, 14
COLUMNS = ("day", "feeder", "due", "came", *(f"{cause}_{what}" for cause in CAUSES for what in ("intervals", "meters")))


@dataclass(frozen=True, slots=True)
class FeederDay:
    """What of a feeder's intervals came from its meters. intervals, meters: of each of CAUSES how many lack, and of how many meters."""

    name: str
    due: int
    came: int
    intervals: tuple[int, ...]
    meters: tuple[int, ...]

    @property
    def share(self) -> float:
        return self.came / self.due if self.due else 0.0


@dataclass(frozen=True, slots=True)
class DayLevels:
    """How the levels that run from one midnight ended, or stand. clocks: in the order of the settings."""

    day: date
    clocks: tuple[LevelClock, ...]


def feeder_days(stands: ClosedDay, outages: Iterable[OutageRow], who: Who) -> list[FeederDay]:
    """Every feeder within the reach, the one that lacks most intervals first."""
    intervals, meters = _lacking(stands, {(one.level, one.node) for one in outages})
    found = []
    for k, one in enumerate(stands.feeders):
        if who.sees_feeder(one.name):
            own = tuple(intervals[:, k].tolist())
            found.append(FeederDay(one.name, one.expected, one.expected - sum(own), own, tuple(meters[:, k].tolist())))
    return sorted(found, key=lambda one: (one.came - one.due, one.name))


def _lacking(stands: ClosedDay, dark: Set[tuple[str, str]]) -> tuple[Int64, Int64]:
    """Intervals that lack and meters that lack any, each [cause, feeder]. dark: level and name of what was without supply."""
    named = (("transformer", stands.transformer_names), ("feeder", stands.names))
    transformers, feeders = (np.flatnonzero([(level, name) in dark for name in names]) for level, names in named)
    intervals, meters = np.zeros((2, len(CAUSES), len(stands.names)), np.int64)
    for shard in stands.shards.values():
        own = np.flatnonzero((shard.received < stands.slots) & (shard.feeder >= 0))
        out = np.isin(shard.transformer[own], transformers) | np.isin(shard.feeder[own], feeders)
        at = np.select([out, shard.received[own] == 0, shard.last_slot[own] < stands.slots - 1], [0, 1, 2], 3), shard.feeder[own]
        np.add.at(intervals, at, stands.slots - shard.received[own])
        np.add.at(meters, at, 1)
    return intervals, meters


def asked_feeders(room: Room, who: Who, asked: date, feeder: str) -> list[FeederDay]:
    """Those whose name begins with `feeder`."""
    outages = Found(room.site().lake).outages(asked, feeders=feeders_of(who))
    return [one for one in feeder_days(room.town.closed(asked), outages, who) if one.name.startswith(feeder)]


@router.get("/service-levels", response_model=None)
def levels(request: Request, who: Sees, day: Day = "", feeder: Choice = "", cursor: Cursor = None, lang: Lang = "") -> Response:
    """The clocks, the last days, and whom the asked day misses."""
    asked, room, gate = closed_day(request, day), room_of(request), gate_of(request)
    rows, after = asked_feeders(room, who, asked, feeder), key_of(cursor, int)
    first = max(0, after[0]) if after else 0
    kept, onward = page_of(rows[first : first + ROWS + 1], ROWS, lambda _: (first + ROWS,))
    site = room.site()
    heard = Heard(site.rows)
    days = [asked - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    told = [DayLevels(one, day_clocks(heard, site.calendar, one, gate.now_s)) for one in days]
    answer: dict[str, Any] = {
        "now": room.standing.now(who.reach, lambda: gate.now_s),
        "rows": kept,
        "whole": _sum(rows),
        "onward": onward,
        "feeder": feeder,
        "causes": CAUSES,
        "days_told": told if any(clock.standing for one in told for clock in one.clocks) else [],
        "levels_figure": levels_figure,
    }
    return page(request, "service_levels.html", asked, **answer)


@router.get("/service-levels.csv", response_model=None)
def levels_file(request: Request, who: Sees, day: Day = "", feeder: Choice = "", format: Choice = "csv") -> Response:
    """What the day lacks, by feeder and cause."""
    asked = closed_day(request, day)
    rows = [
        {
            "day": asked.isoformat(),
            "feeder": one.name,
            "due": one.due,
            "came": one.came,
            **{f"{cause}_{what}": getattr(one, what)[k] for k, cause in enumerate(CAUSES) for what in ("intervals", "meters")},
        }
        for one in asked_feeders(room_of(request), who, asked, feeder)
    ]
    return as_file(rows, f"service-levels-{asked}", format, COLUMNS)


def levels_figure(words: Language, name: str, title: str, told: list[DayLevels], at: int) -> Markup:
    """One level by day: the share that came in time as a bar, up to or beyond the promised share as a line [%]."""
    standings: list[Standing | None] = [one.clocks[at].standing for one in told]
    promised = 100 * told[0].clocks[at].level.share
    data = [charts.HourBar(promised, 100 * s.done / s.due if s.due else None) if s else charts.HourBar(None, None) for s in standings]
    ticks = [charts.Tick(k, f"{one.day:%d.%m.}") for k, one in enumerate(told) if k % 2 == 0]
    known = [s for s in standings if s is not None]
    missed = sum(s.met is False for s in known)
    text = words.say("%(known)s of %(days)s days are known; %(missed)s missed the level.", known=len(known), days=len(told), missed=missed)
    return charts.in_out(name, title, text, data, ticks, "%", height=180)


def _sum(rows: list[FeederDay]) -> FeederDay:
    def added(what: str) -> tuple[int, ...]:
        return tuple(sum(getattr(one, what)[k] for one in rows) for k in range(len(CAUSES)))

    return FeederDay("", sum(one.due for one in rows), sum(one.came for one in rows), added("intervals"), added("meters"))
