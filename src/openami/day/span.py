"""What is measured of whole feeders over closed days, a few feeders at a time: so much of a shard as memory holds, however large the shard.

What always holds: estimates, and intervals without supply, count as missing; a meter keeps its place in the order of the last day's index; a feeder
is never cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from ..readings import CURRENT_A, ESTIMATED_BITS, EXPORT_WH, IMPORT_VAH, IMPORT_WH, MISSING, MISSING64, VOLTAGE_V, Int32, Int64, Quality
from ..registry import ShardIndex
from ..store.blocks import MARKS, dense_quality
from .site import Site

SPAN_DAYS = 30
BATCH_METERS = 32_768
NOT_MEASURED = ESTIMATED_BITS | np.uint32(Quality.OUTAGE)
"""What stands in for a reading: an estimate, and the nothing of an interval without supply, which is no habit of anybody's."""
CHANNELS = (IMPORT_WH, EXPORT_WH, IMPORT_VAH, VOLTAGE_V, CURRENT_A)


@dataclass(frozen=True, slots=True)
class Span:
    """Measured values of whole days, [slot, meter] in the order of `index` (the last day's, of these feeders alone), MISSING where there is none
    or an estimate; None = no such channel. days: how many, dates: which; feeders: names."""

    index: ShardIndex
    feeders: tuple[str, ...]
    dates: tuple[date, ...]
    slots_per_day: int
    wh: Int32
    export_wh: Int32 | None
    vah: Int32 | None
    volts: Int32 | None
    amps: Int32 | None

    @property
    def days(self) -> int:
        return len(self.dates)

    def groups(self) -> Iterator[Group]:
        """Its feeders that have both consumers and transformers."""
        for feeder in self.feeders:
            group = Group.of(self, self.index.feeders.index(feeder))
            if group.members.size and group.dts.size:
                yield group


def spans(site: Site, last: date, shard: int, span_days: int, only: str | None = None) -> Iterator[Span]:
    """A shard's feeders, some at a time, over the closed days of the span that have as many slots as its last one; meters that came later are missing
    before. only: this feeder alone."""
    index = site.index_of(shard, last)
    held, per_day = site.lake.all_files("validated"), site.calendar.slots(last)
    days = [day for day in span_of(last, span_days) if (day, shard) in held and site.calendar.slots(day) == per_day]
    for feeders in _batches(index, only):
        columns = np.flatnonzero(np.isin(index.feeder, feeders))
        grids: dict[str, Int32] = {}
        for k, day in enumerate(days):
            marks = site.lake.read("validated_quality", day, shard, needed=MARKS)
            for channel in CHANNELS:
                values = site.lake.read_values("validated", day, shard, channel.name)
                if values is None:
                    continue
                grid = grids.setdefault(channel.name, np.full((len(days) * per_day, columns.size), MISSING, np.int32))
                there = columns < values.shape[1]
                own = columns[there]
                quality = dense_quality(marks, channel.name, values.shape)[:, own]
                grid[k * per_day : (k + 1) * per_day, there] = np.where((quality & NOT_MEASURED) != 0, MISSING, values[:, own])
        rest = (grids.get(channel.name) for channel in CHANNELS[1:])
        if IMPORT_WH.name in grids:
            names = tuple(index.feeders[f] for f in feeders)
            yield Span(_only(index, columns), names, tuple(days), per_day, grids[IMPORT_WH.name], *rest)


def _batches(index: ShardIndex, only: str | None) -> Iterator[list[int]]:
    """Feeders by position, together up to `BATCH_METERS` meters, or a larger one alone."""
    sizes = np.bincount(index.feeder[index.feeder >= 0], minlength=len(index.feeders))
    batch: list[int] = []
    for feeder in np.flatnonzero(sizes).tolist():
        if only is not None and index.feeders[feeder] != only:
            continue
        if batch and sizes[batch].sum() + sizes[feeder] > BATCH_METERS:
            yield batch
            batch = []
        batch.append(feeder)
    if batch:
        yield batch


def _only(index: ShardIndex, columns: Int64) -> ShardIndex:
    """The index of these meters alone."""
    return replace(
        index,
        serials=tuple(index.serials[k] for k in columns.tolist()),
        usage_points=tuple(index.usage_points[k] for k in columns.tolist()),
        transformer=index.transformer[columns],
        feeder=index.feeder[columns],
        is_consumer=index.is_consumer[columns],
        is_transformer=index.is_transformer[columns],
        is_feeder=index.is_feeder[columns],
        connected_load_w=index.connected_load_w[columns],
    )


@dataclass(frozen=True, slots=True)
class Group:
    """A feeder: its transformers `dts` (positions in the index), consumers `members` (columns), their place `at` among dts (-1 = none), and what
    each transformer's own meter told [slot, dt], int64 Wh with exports from below, MISSING64 where it was silent; `own`: its column, -1 = none."""

    span: Span
    feeder: str
    dts: Int64
    members: Int64
    at: Int32
    into_wh: Int64
    own: Int64

    @staticmethod
    def of(span: Span, feeder: int) -> Group:
        index = span.index
        dts = np.flatnonzero(index.transformer_feeder == feeder)
        members = np.flatnonzero(index.is_consumer & (index.feeder == feeder))
        place = np.full(len(index.transformers) + 1, -1, np.int32)
        place[dts] = np.arange(dts.size)
        at = place[index.transformer[members]]
        own = np.full(dts.size, -1, np.int64)
        meters = np.flatnonzero(index.is_transformer & np.isin(index.transformer, dts))
        own[place[index.transformer[meters]]] = meters
        into = np.full((len(span.wh), dts.size), MISSING64, np.int64)
        told = span.wh[:, own[own >= 0]]
        into[:, own >= 0] = np.where(told != MISSING, told, MISSING64)
        if span.export_wh is not None:
            given = np.where(span.export_wh[:, members] != MISSING, span.export_wh[:, members], 0).astype(np.int64)
            for k in range(dts.size):
                into[:, k] = np.where(into[:, k] != MISSING64, into[:, k] + given[:, at == k].sum(axis=1), MISSING64)
        return Group(span, index.feeders[feeder], dts, members, at, into, own)

    def of_dt(self, grid: Int32 | None) -> Int32:
        """What the transformers' own meters told of a channel, int32 [slot, dt]."""
        found = np.full((len(self.span.wh), self.dts.size), MISSING, np.int32)
        if grid is not None:
            found[:, self.own >= 0] = grid[:, self.own[self.own >= 0]]
        return found

    def serials(self) -> list[str]:
        """Of its members."""
        return [self.span.index.serials[k] for k in self.members.tolist()]

    def name(self, dt: int) -> str:
        return self.span.index.transformers[self.dts[dt]] if dt >= 0 else ""


def span_of(last: date, days: int) -> list[date]:
    """The `days` days that end with `last`, in order."""
    return [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
