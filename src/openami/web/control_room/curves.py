"""A meter's energies from days to years, a bar a day or a month.

What always holds: a day without any value is None, never 0; a curve says of each of its bars whether it holds estimates or gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from ...day import Site
from ...readings import CHECK_BITS, ESTIMATED_BITS, MISSING, Quality
from ...store.history import MeterDays
from ..one_meter import day_column, from_history

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
    made = {bar.first: bar for bar in _bars_of(from_history(site, shard, meter, days))}
    for day in days:
        if day not in made:
            values, quality = day_column(site, "validated", shard, meter, day)
            made[day] = _bars_of(MeterDays((day,), (values.size,), values[None, :], quality[None, :]))[0]
    return [made[day] for day in sorted(days)]


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
