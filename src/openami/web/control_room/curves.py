"""A meter's energies from days to years: from the meter-ordered history, and what that does not have yet from the day blocks, one column of each.

What always holds: a day without any value is None, never 0; a curve says of each of its bars whether it holds estimates or gaps.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow.compute as pc

from ...day import Site
from ...readings import CHECK_BITS, ESTIMATED_BITS, IMPORT_WH, MISSING, Int32, Quality, UInt32
from ...store.blocks import BlockFile, read_rows
from ...store.history import History, MeterDays

BARS_MOST = 124
_FAILED = int(CHECK_BITS) & ~int(Quality.MISSING)


@dataclass(frozen=True, slots=True)
class DayBar:
    """A day, or a month's days together: wh None = no value at all; missing, estimated, flagged: intervals; of: how many there are."""

    first: date
    last: date
    wh: int | None
    of: int
    missing: int
    estimated: int
    flagged: int
    peak_wh: int | None


@dataclass
class _Held:
    history: History
    version: int = -1
    behind: set[tuple[date, int]] = field(default_factory=set)


_held: WeakKeyDictionary[Any, _Held] = WeakKeyDictionary()
_lock = threading.Lock()


def bars(site: Site, shard: int, meter: int, days: list[date]) -> list[DayBar]:
    """`days` of a meter, oldest first, a bar a day; a bar a month where they would be more than BARS_MOST."""
    found = daily(site, shard, meter, days)
    if len(found) <= BARS_MOST:
        return found
    months: dict[date, list[DayBar]] = {}
    for bar in found:
        months.setdefault(bar.first.replace(day=1), []).append(bar)
    return [_together(own) for own in months.values()]


def daily(site: Site, shard: int, meter: int, days: list[date]) -> list[DayBar]:
    """A bar for each of `days`."""
    if not days:
        return []
    held, made = _history(site), dict[date, DayBar]()
    fresh = [day for day in days if (day, shard) in held.behind]
    from_history = set(days) - set(fresh)
    if from_history:
        own = held.history.meter(IMPORT_WH.name, shard, meter, min(from_history), max(from_history))
        made |= {bar.first: bar for bar in _bars_of(own) if bar.first in from_history}
    for day in days:
        if day not in made:
            made[day] = _from_block(site, shard, meter, day)
    return [made[day] for day in sorted(days)]


def _history(site: Site) -> _Held:
    with _lock:
        held = _held.setdefault(site.lake, _Held(History(site.lake)))
        version = site.lake.version("validated")
        if held.version != version:
            held.behind, held.version = set(held.history.behind()), version
        return held


def _bars_of(own: MeterDays) -> list[DayBar]:
    if not own.days:
        return []
    width = own.values.shape[1]
    inside = np.arange(width) < np.array(own.slots)[:, None]
    there = (own.values != MISSING) & inside
    quality = own.quality if own.quality is not None else np.zeros(own.values.shape, np.uint32)
    wh = np.where(there, own.values, 0).sum(axis=1, dtype=np.int64)
    peak = np.where(there, own.values, -1).max(axis=1, initial=-1)
    estimated = ((quality & np.uint32(ESTIMATED_BITS)) != 0).sum(axis=1)
    flagged = ((quality & np.uint32(_FAILED)) != 0).sum(axis=1)
    count = there.sum(axis=1)
    return [
        DayBar(
            day,
            day,
            int(wh[k]) if count[k] else None,
            own.slots[k],
            own.slots[k] - int(count[k]),
            int(estimated[k]),
            int(flagged[k]),
            int(peak[k]) if count[k] else None,
        )
        for k, day in enumerate(own.days)
    ]


def _from_block(site: Site, shard: int, meter: int, day: date) -> DayBar:
    values, quality = day_column(site, "validated", shard, meter, day)
    return _bars_of(MeterDays((day,), (values.size,), values[None, :], quality[None, :]))[0]


def day_column(site: Site, table: str, shard: int, meter: int, day: date, channel: str = IMPORT_WH.name) -> tuple[Int32, UInt32]:
    """(values, quality) of one meter's day out of its block: only the part of the file where the meter lies is read."""
    slots = site.calendar.slots(day)
    values, quality = np.full(slots, MISSING, np.int32), np.zeros(slots, np.uint32)
    paths = site.lake.files(table, day).get(shard)
    if paths and channel in (block := BlockFile(paths[-1])).channels:
        for part in block.parts(channel):
            if part.first <= meter < part.first + part.meters:
                values = np.asarray(part.column_of(meter), np.int32)
                break
    marks = site.lake.files(f"{table}_quality", day).get(shard) if site.lake.place.has_table(f"{table}_quality") else None
    for path in marks or ():
        sparse = read_rows(path)
        own = sparse.filter(pc.and_(pc.equal(sparse["channel"], channel), pc.equal(sparse["meter"], meter)))
        quality[own["slot"].to_numpy().astype(np.int64)] = own["quality"].to_numpy().astype(np.uint32)
    return values, quality


def _together(own: list[DayBar]) -> DayBar:
    known = [bar.wh for bar in own if bar.wh is not None]
    peaks = [bar.peak_wh for bar in own if bar.peak_wh is not None]
    return DayBar(
        own[0].first,
        own[-1].last,
        sum(known) if known else None,
        sum(bar.of for bar in own),
        sum(bar.missing for bar in own),
        sum(bar.estimated for bar in own),
        sum(bar.flagged for bar in own),
        max(peaks, default=None),
    )
