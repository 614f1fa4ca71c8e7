"""Closed days in memory, as the pages need them: columns over the meters, figures of the nodes, sums of the money. Read once, kept for as long as
nothing that they came from is replaced.

What always holds: no row of a meter or an account is unfolded here; a day whose files are damaged is `DamagedDay`, and takes no other day with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..day import Site
from ..day.meter_day import TABLE, meter_day
from ..errors import DataError
from ..losses.balance import loss_outliers
from ..readings import CHECKS, IMPORT_WH, Int32, Int64, Quality, UInt32
from ..registry import NodeKind
from ..store.places import Local
from ..store.rows import feeder, transformer
from . import townbook as tb
from .townbook import DamagedDay

log = logging.getLogger(__name__)
T = TypeVar("T")
DAYS_KEPT = 16
READ_FROM = (TABLE, "validated_quality", "balance", "statements", "notices", "due")
"""What a day is read from: where one of these files is another one, so is the day."""
UNKNOWN = tb.NodeFigures(None, None, None, 0.0)
KINDS = (NodeKind.CONSUMER, NodeKind.TRANSFORMER, NodeKind.FEEDER)
_Files = frozenset[tuple[str, int, int, int]]


@dataclass(frozen=True, slots=True)
class ShardDay:
    """A shard's meters on one day, all [meter] in the order of the index. kind: place in KINDS; feeder, transformer: place in the day's names; each
    -1 = none. received, estimated, missing, flagged: intervals; marks: every quality bit of the day; last_slot: -1 = it sent nothing; wh: int64
    [Wh], 0 where nothing is known."""

    kind: Int32
    feeder: Int32
    transformer: Int32
    received: Int32
    estimated: Int32
    missing: Int32
    flagged: Int32
    marks: UInt32
    last_slot: Int32
    wh: Int64


@dataclass(frozen=True, slots=True)
class FeederStanding:
    """metered, estimated, missing: intervals of consumers' and network meters; silent: meters without any interval of the day."""

    name: str
    substation: str
    meters: int
    expected: int
    metered: int
    estimated: int
    missing: int
    silent: int
    figures: tb.NodeFigures


@dataclass(frozen=True, slots=True)
class ClosedDay:
    """One closed day of all shards; `as_of` is when its balance was written. slots: intervals of the day; checks: check -> (intervals, meters) that
    failed it; names: of the feeders; transformers: by name, in the order of `transformer_names`; nodes: all feeders with their transformers."""

    day: date
    as_of: datetime
    slots: int
    names: tuple[str, ...]
    transformer_names: tuple[str, ...]
    transformers: dict[str, tb.TransformerNode]
    shards: dict[int, ShardDay]
    feeders: tuple[FeederStanding, ...]
    nodes: tuple[tb.FeederNode, ...]
    checks: dict[Quality, tuple[int, int]]
    consumers_wh: int
    money: tb.Money

    def node(self, name: str) -> tb.FeederNode | None:
        return next((one for one in self.nodes if one.name == name), None)

    def place(self, shard: int, index: int) -> tuple[NodeKind, str | None, str]:
        """What a meter measured on that day, its transformer (None = of none) and feeder."""
        own = self.shards[shard]
        at = int(own.transformer[index])
        return KINDS[own.kind[index]], None if at < 0 else self.transformer_names[at], self.names[own.feeder[index]]

    def shards_of(self, kind: NodeKind, name: str) -> list[int]:
        """Where a feeder or transformer has its meters."""
        names = self.names if kind is NodeKind.FEEDER else self.transformer_names
        at = names.index(name) if name in names else -2
        return [k for k, own in sorted(self.shards.items()) if ((own.feeder if kind is NodeKind.FEEDER else own.transformer) == at).any()]

    @property
    def intervals(self) -> tb.Intervals:
        whole = [sum(getattr(one, name) for one in self.feeders) for name in ("expected", "metered", "estimated", "missing")]
        return tb.Intervals(*whole)


@dataclass
class ClosedDays:
    """The closed days of one data folder. Calls may come from several threads."""

    site: Site
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _kept: dict[date, tuple[object, ClosedDay]] = field(default_factory=dict, repr=False)
    _damaged: dict[date, tuple[_Files, str]] = field(default_factory=dict, repr=False)

    def days(self) -> tuple[date, ...]:
        """Oldest first."""
        return tuple(self.site.lake.days("balance"))

    def on(self, day: date) -> ClosedDay:
        """The day as it is stored now; DamagedDay where one of its files cannot be read."""
        mark = self._mark(day)
        with self._lock:
            kept = self._kept.get(day)
            if kept is None or kept[0] != mark:
                kept = self._kept[day] = mark, self.reading(day, lambda: read_day(self.site, day))
                while len(self._kept) > DAYS_KEPT:
                    del self._kept[next(iter(self._kept))]
            return kept[1]

    def _mark(self, day: date) -> object:
        lake = self.site.lake
        return [lake.files(table, day) if lake.place.has_table(table) else None for table in READ_FROM]

    def reading(self, day: date, read: Callable[[], T]) -> T:
        """What `read` gives of the day. DamagedDay where it finds a damaged file; tried again only once the day's files have been touched, because
        several answers ask for it."""
        known = self._damaged.get(day)
        if known is not None and known[0] == self._files(day):
            raise DamagedDay(day, known[1])
        try:
            found = read()
        except DataError as error:
            self.note(day, error)
            raise DamagedDay(day, str(error)) from error
        self._damaged.pop(day, None)
        return found

    def note(self, day: date, error: DataError) -> None:
        """Remember that a file of the day could not be read, for `damaged`."""
        if day not in self._damaged:
            log.warning("%s is damaged: %s", day, error)
        self._damaged[day] = self._files(day), str(error)

    def _files(self, day: date) -> _Files:
        """The files of the day, as the disk knows them; a restored file has another time of change."""
        place = self.site.lake.place
        if not isinstance(place, Local):  # an object of a table never changes, so the logs say it all
            return frozenset(
                (f"{table}/{name}", 0, size, at) for table in place.tables() for name, size, at in place.log_state(table) or ()
            )
        lake = place.root
        found = set()
        for path in [*lake.glob(f"*/day={day.isoformat()}/*/*"), *lake.glob("*/_delta_log/*")]:
            with suppress(FileNotFoundError):  # a writer may be taking back its draft
                stat = path.stat()
                found.add((str(path), stat.st_ino, stat.st_size, stat.st_ctime_ns))
        return frozenset(found)

    def damaged(self) -> tuple[date, ...]:
        """The days that were asked for and could not be read, oldest first; those whose files have been touched since are no longer among them."""
        return tuple(day for day, (files, _) in sorted(self._damaged.copy().items()) if self._files(day) == files)


def read_day(site: Site, day: date) -> ClosedDay:
    """The day's columns and sums. DataError where a file is damaged."""
    with site.rows.begin() as connection:
        feeders = [(row.name, row.substation) for row in connection.execute(sa.select(feeder).order_by(feeder.c.name))]
        below = [(row.name, row.feeder, row.rating_kva) for row in connection.execute(sa.select(transformer).order_by(transformer.c.name))]
    place, under = {name: k for k, (name, _) in enumerate(feeders)}, {name: k for k, (name, _, _) in enumerate(below)}
    there = sorted(site.lake.files("balance", day))
    shards = {shard: _shard(meter_day(site, day, shard), place, under) for shard in there}
    figures, consumers = _figures(site, day, there), np.zeros(len(below), np.int64)
    for shard in shards.values():
        own = (shard.kind == 0) & (shard.transformer >= 0)
        consumers += np.bincount(shard.transformer[own], minlength=len(below))
    transformers = {
        name: tb.TransformerNode(name, at, kva, count, figures.get(("transformer", name), UNKNOWN))
        for (name, at, kva), count in zip(below, consumers.tolist(), strict=True)
    }
    hanging: dict[str, list[tb.TransformerNode]] = {}
    for node in transformers.values():
        hanging.setdefault(node.feeder, []).append(node)
    written = max(at for _, _, at in site.lake.place.log_state("balance") or ()) / 1e9
    slots = site.calendar.slots(day)
    return ClosedDay(
        day=day,
        as_of=datetime.fromtimestamp(int(written), UTC).astimezone(site.calendar.local(0).tzinfo),
        slots=slots,
        names=tuple(place),
        transformer_names=tuple(transformers),
        transformers=transformers,
        shards=shards,
        feeders=_standings(feeders, shards, slots, figures),
        nodes=tuple(
            tb.FeederNode(name, substation, figures.get(("feeder", name), UNKNOWN), tuple(hanging.get(name, ())))
            for name, substation in feeders
        ),
        checks=_checks(site, day, shards),
        consumers_wh=sum(int(shard.wh[shard.kind == 0].sum()) for shard in shards.values()),
        money=_money(site, day, there),
    )


def _shard(rows: pa.Table, feeders: dict[str, int], transformers: dict[str, int]) -> ShardDay:
    def numbers(name: str) -> Any:
        column = rows[name].combine_chunks()
        return pc.fill_null(column, 0 if name == "wh" else -1).to_numpy(zero_copy_only=False)

    return ShardDay(
        kind=_coded(rows, "kind", {str(kind): k for k, kind in enumerate(KINDS)}),
        feeder=_coded(rows, "feeder", feeders),
        transformer=_coded(rows, "transformer", transformers),
        marks=numbers("marks").view(np.uint32),
        **{name: numbers(name) for name in ("received", "estimated", "missing", "flagged", "last_slot", "wh")},
    )


def _coded(rows: pa.Table, name: str, place: dict[str, int]) -> Int32:
    """A column of words as places among `place`, -1 where there is none."""
    column = rows[name].unify_dictionaries().combine_chunks()
    if not len(column):
        return np.zeros(0, np.int32)
    own: Int32 = np.array([*(place.get(word, -1) for word in column.dictionary.to_pylist()), -1], np.int32)
    return np.asarray(own[pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)])


def _standings(
    feeders: list[tuple[str, str]], shards: dict[int, ShardDay], slots: int, figures: dict[tuple[str, str], tb.NodeFigures]
) -> tuple[FeederStanding, ...]:
    counts = np.zeros((4, len(feeders) + 1), np.int64)  # meters, estimated, missing, silent; first those of no feeder
    for shard in shards.values():
        at, none = shard.feeder + 1, shard.received == 0
        counts[0] += np.bincount(at, minlength=counts.shape[1])
        counts[3] += np.bincount(at[none], minlength=counts.shape[1])
        for k, part in ((1, shard.estimated), (2, shard.missing)):
            some = np.flatnonzero(part)  # few
            counts[k] += np.bincount(at[some], weights=part[some], minlength=counts.shape[1]).astype(np.int64)
    return tuple(
        FeederStanding(name, substation, n, n * slots, n * slots - e - gone, e, gone, quiet, figures.get(("feeder", name), UNKNOWN))
        for (name, substation), (n, e, gone, quiet) in zip(feeders, counts.T[1:].tolist(), strict=True)
    )


def _checks(site: Site, day: date, shards: dict[int, ShardDay]) -> dict[Quality, tuple[int, int]]:
    """Of each check that any interval failed: how many intervals and meters did."""
    intervals = dict.fromkeys(CHECKS, 0)
    for shard in shards:
        if not site.lake.has("validated_quality", day, shard):
            continue
        rows = site.lake.read("validated_quality", day, shard, columns=["channel", "quality"], coded=["channel"])
        own = rows.filter(pc.equal(rows["channel"], IMPORT_WH.name))["quality"].to_numpy()
        for bits, count in zip(*(found.tolist() for found in np.unique(own, return_counts=True)), strict=True):
            for check in CHECKS:
                intervals[check] += count if bits & int(check) else 0
    return {
        check: (count, sum(int(np.count_nonzero(shard.marks & np.uint32(check))) for shard in shards.values()))
        for check, count in intervals.items()
        if count
    }


def _figures(site: Site, day: date, shards: list[int]) -> dict[tuple[str, str], tb.NodeFigures]:
    """Whole-day figures of every node, by kind and name."""
    found: dict[tuple[str, str], tb.NodeFigures] = {}
    columns = ("kind", "node", "in_wh", "out_wh", "loss_wh", "coverage", "estimated_share")
    tables = [site.lake.read("balance", day, shard, columns=["hour", *columns]) for shard in shards]
    if not tables:
        return {}
    whole = pa.concat_tables(tables)
    rows = whole.filter(pc.is_null(whole["hour"])).select(columns)
    kinds, names, into, out, loss, coverage, estimated = (rows[name].to_pylist() for name in columns)
    shares = [
        lost / given if kind == "transformer" and lost is not None and given else np.nan
        for kind, lost, given in zip(kinds, loss, into, strict=True)
    ]
    outlying = loss_outliers(np.array(shares)).tolist() if shares else []
    for at in range(rows.num_rows):
        z = outlying[at] if np.isfinite(outlying[at]) else None
        found[kinds[at], names[at]] = tb.NodeFigures(into[at], out[at], loss[at], coverage[at], estimated[at], z)
    return found


def _money(site: Site, day: date, shards: list[int]) -> tb.Money:
    whole = dict.fromkeys(("charges_paise", "recharges_paise", "closing_paise", "accounts", "negative", "low", "due"), 0)
    for shard in shards:
        rows = site.lake.read("statements", day, shard, columns=["charges_paise", "recharges_paise", "closing_paise"])
        for name in rows.column_names:
            whole[name] += pc.sum(rows[name]).as_py() or 0
        whole["accounts"] += rows.num_rows
        whole["negative"] += int(np.count_nonzero(rows["closing_paise"].to_numpy() < 0))
        levels = site.lake.read("notices", day, shard, columns=["level"])["level"]
        whole["low"] += int(np.count_nonzero(pc.fill_null(levels, -1).to_numpy() >= 0))
        whole["due"] += site.lake.read("due", day, shard, columns=["account"]).num_rows
    return tb.Money(
        charged_paise=whole["charges_paise"],
        recharged_paise=whole["recharges_paise"],
        balance_paise=whole["closing_paise"],
        accounts=whole["accounts"],
        negative=whole["negative"],
        low=whole["low"],
        due=whole["due"],
    )


def node_hours(site: Site, found: ClosedDay, kind: NodeKind, name: str) -> list[dict[str, Any]]:
    """A node's rows of the day's balance by hour, in order. DataError where a file is damaged."""
    rows: list[dict[str, Any]] = []
    for shard in found.shards_of(kind, name):
        held = site.lake.read("balance", found.day, shard, coded=["kind", "node"])
        own = (pc.field("node") == name) & (pc.field("kind") == str(kind)) & pc.field("hour").is_valid()
        rows += held.filter(own).to_pylist()
    return sorted(rows, key=lambda row: row["hour"])
