"""One meter's days out of the lake: from the meter-ordered history, and what that does not have yet from the day blocks, only the part of each file
where the meter lies.

What always holds: a slot without a value is MISSING, and so are all slots of a day that the lake does not have or in which the meter was not there
yet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..day import Site
from ..readings import IMPORT_WH, MISSING, Int32, Quality, UInt32
from ..store.blocks import BlockFile
from ..store.history import History, MeterDays


@dataclass
class _Held:
    """The history of a lake, and which (day, shard)s it does not have, as of a version of `validated`."""

    history: History
    version: int = -1
    behind: set[tuple[date, int]] = field(default_factory=set)


_held: WeakKeyDictionary[Any, _Held] = WeakKeyDictionary()
_lock = threading.Lock()


def from_history(site: Site, shard: int, meter: int, days: list[date], channel: str = IMPORT_WH.name) -> MeterDays:
    """Those of `days` that the history has of a meter as they are now."""
    with _lock:
        held = _held.setdefault(site.lake, _Held(History(site.lake)))
        version = site.lake.version("validated")
        if held.version != version:
            held.behind, held.version = set(held.history.behind()), version
    wanted = [day for day in days if (day, shard) not in held.behind]
    if not wanted:
        return NO_DAYS
    found = held.history.meter(channel, shard, meter, wanted[0], wanted[-1])
    if len(found.days) == len(wanted):
        return found
    own = [k for k, day in enumerate(found.days) if day in set(wanted)]
    marks = found.quality if found.quality is not None else np.zeros(found.values.shape, np.uint32)
    return MeterDays(tuple(found.days[k] for k in own), tuple(found.slots[k] for k in own), found.values[own], marks[own])


NO_DAYS = MeterDays((), (), np.empty((0, 0), np.int32), np.empty((0, 0), np.uint32))


def columns(site: Site, shard: int, meter: int, days: list[date], channel: str = IMPORT_WH.name) -> Iterator[tuple[Int32, UInt32]]:
    """(values, quality) of the validated `days`, in their order."""
    found = from_history(site, shard, meter, days, channel)
    place = {day: k for k, day in enumerate(found.days)}
    for day in days:
        if (k := place.get(day)) is None:
            yield day_column(site, "validated", shard, meter, day, channel)
        else:
            quality = found.quality[k, : found.slots[k]] if found.quality is not None else np.zeros(found.slots[k], np.uint32)
            yield found.values[k, : found.slots[k]], quality


def day_column(site: Site, table: str, shard: int, meter: int, day: date, channel: str = IMPORT_WH.name) -> tuple[Int32, UInt32]:
    """(values, quality) of one meter's day out of its block in `raw` or `validated`."""
    slots, missed = site.calendar.slots(day), np.uint32(Quality.MISSING)
    found = site.lake.read_meter(table, day, shard, channel, meter, slots) if site.lake.place.has_table(table) else None
    return found or (np.full(slots, MISSING, np.int32), np.full(slots, missed, np.uint32))


def channels_of(site: Site, table: str, shard: int, day: date) -> list[str]:
    """The channels that (day, shard) has in a table."""
    return [name for path in site.lake.files(table, day).get(shard, [])[-1:] for name in BlockFile(path).channels]
