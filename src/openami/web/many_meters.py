"""Many meters' days out of the day blocks: for each day a shard's columns once, and of them the rows that are asked for.

What always holds: a slot without a value is MISSING, and so are all slots of a meter that the lake does not have on that day; no more than one row
group of a day block and `METERS_AT_ONCE` meters lie in memory, however many are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import attrgetter, itemgetter

import numpy as np

from ..day import Site
from ..readings import MISSING, Int32, Quality, UInt32

METERS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Placed:
    """A meter, its row in the day blocks, and from which day on its readings may be seen (None = always)."""

    serial: str
    shard: int
    index: int
    seen_from: date | None = None


@dataclass(frozen=True, slots=True)
class MeterDays:
    """Meters of one day: values and quality are [meter, slot]."""

    day: date
    meters: list[Placed]
    values: Int32
    quality: UInt32


def days_of(site: Site, table: str, channel: str, rows: Iterable[tuple[date, Placed]]) -> Iterator[MeterDays]:
    """The rows in their order, as many at once as lie together. rows: by day, then by shard."""
    for day, of_day in groupby(rows, key=itemgetter(0)):
        meters = [placed for _, placed in of_day]
        for shard, of_shard in groupby(meters, key=attrgetter("shard")):
            here = list(of_shard)
            for at in range(0, len(here), METERS_AT_ONCE):
                own = here[at : at + METERS_AT_ONCE]
                yield MeterDays(day, own, *_read(site, table, channel, day, shard, own))


def _read(site: Site, table: str, channel: str, day: date, shard: int, own: list[Placed]) -> tuple[Int32, UInt32]:
    slots, indexes = site.calendar.slots(day), np.array([placed.index for placed in own], np.int64)
    if site.lake.place.has_table(table):
        return site.lake.read_meters(table, day, shard, channel, indexes, slots)
    return np.full((len(own), slots), MISSING, np.int32), np.full((len(own), slots), Quality.MISSING, np.uint32)
