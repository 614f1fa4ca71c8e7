"""Tomorrow's demand of feeders and transformers, slot by slot, with quantiles: from what their own meters told of the days so far.

What always holds: only measured values are learnt from; a slot of which too little is known is unknown, never invented; what made the forecast is
named, and how it and the others did over the last four weeks (`losses.contest`); quantiles are recalibrated by how those came out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ..losses.contest import choose
from ..losses.forecast import MEMORY_DAYS, WEEK
from ..losses.network import Float64
from ..readings import ESTIMATED_BITS, IMPORT_WH, MISSING, Quality
from ..store.blocks import MARKS, dense_quality
from .site import Site

NOT_DEMAND = ESTIMATED_BITS | np.uint32(Quality.OUTAGE)
"""Estimates, and the zeros of hours without supply: nobody chose those."""


@dataclass(frozen=True, slots=True)
class Tomorrow:
    """One node's next day. kw: float64 [quantile of `losses.forecast.QUANTILES`, slot], NaN where it cannot be told; method: "" = too few days
    are known. scores: each method's pinball loss over the last four weeks as a share of the mean demand, best first."""

    level: str
    node: str
    day: date
    days: int
    method: str
    kw: Float64
    scores: dict[str, float]


def tomorrow(site: Site, last: date, node: str | None = None) -> Iterator[Tomorrow]:
    """The day after `last` of every feeder and transformer that has a meter, or of `node` alone. Boosting takes some seconds of a processor: it takes
    part for feeders, and for a transformer that is asked for by name."""
    per_day = site.calendar.slots(last)
    for shard in sorted(site.lake.files("validated", last)):
        index = site.index_of(shard, last)
        own = np.flatnonzero(index.is_feeder | index.is_transformer)
        named = {
            int(k): ("feeder", index.feeders[index.feeder[k]])
            if index.is_feeder[k]
            else ("transformer", index.transformers[index.transformer[k]])
            for k in own
        }
        columns = np.array([k for k in own.tolist() if node is None or named[k][1] == node], np.int64)
        if not columns.size:
            continue
        history = _history(site, last, shard, columns, per_day)
        for k, column in enumerate(columns.tolist()):
            level, name = named[column]
            kw = history[:, :, k] * (60 / site.deployment.interval_minutes) / 1000
            found = choose(kw, boosting=level == "feeder" or node is not None)
            yield Tomorrow(level, name, last + timedelta(days=1), len(kw), found.method, found.told, found.scores)


def _history(site: Site, last: date, shard: int, columns: np.ndarray, per_day: int) -> Float64:
    """[day, slot, node] of the closed days up to `last` without a hole between them, Wh, NaN where nothing was measured. A day of another length, or
    one that is not closed, is unknown."""
    held = {day for day, own in site.lake.all_files("validated") if own == shard and day <= last}
    first = max(min(held), last - timedelta(days=MEMORY_DAYS + 4 * WEEK))
    grid = np.full(((last - first).days + 1, per_day, columns.size), np.nan)
    for k in range(len(grid)):
        day = first + timedelta(days=k)
        if day not in held or site.calendar.slots(day) != per_day:
            continue
        values = site.lake.read_values("validated", day, shard, IMPORT_WH.name)
        if values is None:
            continue
        quality = dense_quality(site.lake.read("validated_quality", day, shard, needed=MARKS), IMPORT_WH.name, values.shape)
        there = columns < values.shape[1]
        some = values[:, columns[there]]
        grid[k][:, there] = np.where((some != MISSING) & ((quality[:, columns[there]] & NOT_DEMAND) == 0), some, np.nan)
    return grid
