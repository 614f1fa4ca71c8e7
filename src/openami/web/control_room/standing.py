"""How a closed day stands by feeder, and how the head-end stands now: reckoned once, kept, and renewed behind the reader's back.

What always holds: a summary of a day is reckoned once for each version of its tables; nobody waits for a renewal but the first who asks; the age of
what is shown stands beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ...day import Site
from ...headend.levels import SILENT_S
from ...headend.status import LevelClock, level_clocks
from ...losses.suspicion import loss_outliers
from ...readings import CHECK_BITS, CHECKS, ESTIMATED_BITS, IMPORT_WH, MISSING, Quality
from ...store.blocks import BlockFile, read_rows
from ...store.heard import Heard
from ...store.journal_at import open_journal
from ...store.lookup import NOTHING, Reach
from ...store.order_book import UNSETTLED, OrderBook
from ...store.rows import contact, feeder, meter, meter_order, transformer, usage_point
from ..townbook import NodeFigures

T = TypeVar("T")
UNKNOWN = NodeFigures(None, None, None, 0.0)
RENEW_S = 2.0
DAYS_KEPT = 8
LISTED = 12
_FAILED = np.uint32(CHECK_BITS & ~np.uint32(Quality.MISSING))


class Kept(Generic[T]):
    """Answers by key. One younger than `renew_s` is given as it is; an older one is given too, and renewed meanwhile."""

    def __init__(self, renew_s: float = RENEW_S, most: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self._renew_s, self._most, self._clock = renew_s, most, clock
        self._lock, self._held = threading.Lock(), dict[Hashable, tuple[float, T]]()
        self._renewing: set[Hashable] = set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="standing")

    def get(self, key: Hashable, reckon: Callable[[], T]) -> T:
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                if self._clock() - held[0] >= self._renew_s and key not in self._renewing:
                    self._renewing.add(key)
                    self._pool.submit(self._renew, key, reckon)
                return held[1]
        return self._put(key, reckon())

    def _renew(self, key: Hashable, reckon: Callable[[], T]) -> None:
        try:
            self._put(key, reckon())
        finally:
            with self._lock:
                self._renewing.discard(key)

    def _put(self, key: Hashable, value: T) -> T:
        with self._lock:
            self._held.pop(key, None)
            self._held[key] = (self._clock(), value)
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]
        return value


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
    figures: NodeFigures


@dataclass(frozen=True, slots=True)
class TransformerStanding:
    name: str
    feeder: str
    rating_kva: int
    figures: NodeFigures


@dataclass(frozen=True, slots=True)
class ShardMarks:
    """What is known against a shard's meters: bits uint32 [meter] of any interval, flagged and estimated int32 [meter] intervals, there int32 [meter]
    intervals that were received."""

    bits: npt.NDArray[np.uint32]
    flagged: npt.NDArray[np.int32]
    estimated: npt.NDArray[np.int32]
    there: npt.NDArray[np.int32]
    feeder: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DayStanding:
    """checks: check -> (intervals, meters) that failed it; day_slots: intervals of the day."""

    day: date
    day_slots: int
    feeders: tuple[FeederStanding, ...]
    transformers: tuple[TransformerStanding, ...]
    checks: dict[Quality, tuple[int, int]]
    shards: dict[int, ShardMarks]
    names: tuple[str, ...]


def reckon_day(site: Site, day: date) -> DayStanding:
    """The summary of a closed day: one pass over its raw counts and its sparse quality, shard by shard."""
    with site.rows.begin() as connection:
        feeders = [(row.name, row.substation) for row in connection.execute(sa.select(feeder).order_by(feeder.c.name))]
        ratings = [
            (row.name, row.feeder, row.rating_kva) for row in connection.execute(sa.select(transformer).order_by(transformer.c.name))
        ]
    place, slots = {name: k for k, (name, _) in enumerate(feeders)}, site.calendar.slots(day)
    counts = np.zeros((5, len(feeders)), np.int64)  # meters, there, estimated, missing, silent
    checks = {check: np.zeros(2, np.int64) for check in CHECKS}
    shards: dict[int, ShardMarks] = {}
    validated_quality = site.lake.files("validated_quality", day) if site.lake.place.has_table("validated_quality") else {}
    for shard, paths in sorted(site.lake.files("raw", day).items()):
        there = _received(paths[-1])
        own = _feeder_of(site, shard, there.size, place)
        bits, flagged, estimated, missing = _marked(validated_quality.get(shard, []), there.size, checks)
        shards[shard] = ShardMarks(bits, flagged, estimated, there, own)
        known = own >= 0
        for k, part in enumerate((np.ones(there.size), slots - estimated - missing, estimated, missing, there == 0)):
            counts[k] += np.bincount(own[known], weights=part[known], minlength=len(feeders)).astype(np.int64)
    figures = _balance(site, day, sorted(shards))
    rows = tuple(
        FeederStanding(
            name, substation, int(n), int(n) * slots, int(m), int(e), int(gone), int(quiet), figures.get(("feeder", name), UNKNOWN)
        )
        for (name, substation), (n, m, e, gone, quiet) in zip(feeders, counts.T, strict=True)
    )
    below = tuple(TransformerStanding(name, own_, kva, figures.get(("transformer", name), UNKNOWN)) for name, own_, kva in ratings)
    told = {check: (int(n[0]), int(n[1])) for check, n in checks.items() if n[0]}
    return DayStanding(day, slots, rows, below, told, shards, tuple(name for name, _ in feeders))


def _received(path: str) -> npt.NDArray[np.int32]:
    """How many intervals of import_wh each meter of a shard sent, int32 [meter]."""
    parts = []
    for part in BlockFile(path).parts(IMPORT_WH.name):
        there = np.zeros(part.meters, np.int32)
        for column in part.columns:
            there += column != MISSING
        parts.append(there)
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _feeder_of(site: Site, shard: int, meters: int, place: dict[str, int]) -> npt.NDArray[np.int32]:
    """Position of each meter's feeder, int32 [meter], -1 = it hangs nowhere now."""
    own = np.full(meters, -1, np.int32)
    query = (
        sa.select(meter.c.index, usage_point.c.feeder)
        .join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
        .where(meter.c.shard == shard)
    )
    with site.rows.begin() as connection:
        for index, name in connection.execute(query):
            if index < meters:
                own[index] = place[name]
    return own


def _marked(paths: list[str], meters: int, checks: dict[Quality, npt.NDArray[np.int64]]) -> tuple[Any, Any, Any, Any]:
    """(bits, flagged, estimated, missing) of each meter; adds to `checks`."""
    bits = np.zeros(meters, np.uint32)
    flagged, estimated, missing = (np.zeros(meters, np.int32) for _ in range(3))
    for path in paths:
        sparse = read_rows(path)
        sparse = sparse.filter(pc.equal(sparse["channel"], IMPORT_WH.name))
        own, marks = (sparse[name].to_numpy().astype(np.int64) for name in ("meter", "quality"))
        np.bitwise_or.at(bits, own, marks.astype(np.uint32))
        is_estimated = (marks & int(ESTIMATED_BITS)) != 0
        flagged += np.bincount(own[(marks & int(_FAILED)) != 0], minlength=meters).astype(np.int32)
        estimated += np.bincount(own[is_estimated], minlength=meters).astype(np.int32)
        missing += np.bincount(own[((marks & int(Quality.MISSING)) != 0) & ~is_estimated], minlength=meters).astype(np.int32)
        for check, count in checks.items():
            hit = (marks & int(check)) != 0
            count += (int(hit.sum()), int(np.unique(own[hit]).size))
    return bits, flagged, estimated, missing


def _balance(site: Site, day: date, shards: list[int]) -> dict[tuple[str, str], NodeFigures]:
    """Whole-day figures of every node."""
    tables = [site.lake.read("balance", day, shard) for shard in shards if site.lake.has("balance", day, shard)]
    if not tables:
        return {}
    whole = pa.concat_tables(tables)
    rows = whole.filter(pc.is_null(whole["hour"])).to_pylist()
    own = [r for r in rows if r["kind"] == "transformer"]
    shares = np.array([r["loss_wh"] / r["in_wh"] if r["loss_wh"] is not None and r["in_wh"] else np.nan for r in own])
    z = dict(zip((r["node"] for r in own), loss_outliers(shares).tolist() if own else [], strict=True))

    def outlying(r: dict[str, Any]) -> float | None:
        value = z.get(r["node"]) if r["kind"] == "transformer" else None
        return value if value is not None and np.isfinite(value) else None

    return {
        (r["kind"], r["node"]): NodeFigures(r["in_wh"], r["out_wh"], r["loss_wh"], r["coverage"], r["estimated_share"], outlying(r))
        for r in rows
    }


@dataclass(frozen=True, slots=True)
class Quiet:
    serial: str
    feeder: str
    transformer: str | None
    heard_s: int | None


@dataclass(frozen=True, slots=True)
class NowStanding:
    """at_s: when it was looked. heard_any: the head-end has heard any meter at all; silent, never: how many, None where it never ran here;
    orders: state -> how many; stuck: orders that wait with a problem; refused: cause -> frames; dark: meters whose last word of a day was a gasp."""

    at_s: int
    levels: tuple[LevelClock, ...]
    meters: int
    heard_any: bool
    silent: int | None
    never: int | None
    quiet: tuple[Quiet, ...]
    orders: dict[str, int]
    stuck: int
    refused: dict[str, int]
    frames: int
    dark: tuple[tuple[str, int], ...] = ()

    @property
    def in_flight(self) -> int:
        return sum(count for state, count in self.orders.items() if state in UNSETTLED)


def reckon_now(site: Site, reach: Reach, now_s: int) -> NowStanding:
    """Levels, silent meters, orders, quarantine and outages as they are now, within `reach` where they can be told by feeder."""
    here = sa.true() if reach.everything else usage_point.c.feeder.in_(sorted(reach.feeders))
    placed = meter.join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
    spoke = contact.c.heard_s.is_not(None)
    late = contact.c.heard_s <= now_s - SILENT_S
    with site.rows.begin() as connection:

        def count(query: Any) -> int:
            return int(connection.execute(query).scalar_one())

        whole = reach.everything
        source = sa.select(sa.func.count()).select_from(meter if whole else placed).where(sa.true() if whole else here)
        told = sa.select(sa.func.count()).select_from(contact if whole else placed.join(contact, contact.c.serial == meter.c.serial))
        meters, heard, silent = count(source), count(told.where(spoke, here if not whole else spoke)), count(told.where(spoke, late, here))
        rows = connection.execute(
            sa.select(contact.c.serial, usage_point.c.feeder, usage_point.c.transformer, contact.c.heard_s)
            .join(usage_point, sa.and_(usage_point.c.meter == contact.c.serial, usage_point.c.until.is_(None)))
            .where(spoke, late, here)
            .order_by(contact.c.heard_s)
            .limit(LISTED)
        ).all()
        stuck = count(
            sa.select(sa.func.count()).select_from(meter_order).where(meter_order.c.state.in_(UNSETTLED), meter_order.c.problem != "")
        )
    book, note = OrderBook(site.rows), Heard(site.rows)
    refused, frames = _frames(site)
    return NowStanding(
        now_s,
        level_clocks(note, book, site.calendar, now_s),
        meters,
        heard > 0,
        silent if heard else None,
        meters - heard if heard else None,
        tuple(Quiet(*row) for row in rows),
        book.counts(),
        stuck,
        refused if reach.everything else {},
        frames,
        dark_places(site, note, reach, now_s - SILENT_S, now_s),
    )


def dark_places(site: Site, heard: Heard, reach: Reach, first_s: int, last_s: int) -> tuple[tuple[str, int], ...]:
    """(transformer, meters whose last word between two times was a last gasp), the most first."""
    last: dict[str, tuple[int, int]] = {}
    for event in heard.events(first_s, last_s, bits=(85, 86)):
        if event.serial not in last:
            last[event.serial] = (event.bit, event.at_s)
    out = [serial for serial, (bit, _) in last.items() if bit == 85]
    found: dict[str, int] = {}
    for at in range(0, len(out), 500):
        query = sa.select(usage_point.c.transformer, usage_point.c.feeder).where(
            usage_point.c.meter.in_(out[at : at + 500]), usage_point.c.until.is_(None)
        )
        with site.rows.begin() as connection:
            for row in connection.execute(query):
                if reach.everything or row.feeder in reach.feeders:
                    found[row.transformer or row.feeder] = found.get(row.transformer or row.feeder, 0) + 1
    return tuple(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _frames(site: Site) -> tuple[dict[str, int], int]:
    journal = open_journal(site.folder, site.deployment)
    try:
        return journal.causes(), journal.frames()
    finally:
        journal.close()


@dataclass
class Standing:
    """Both, kept for one app. site: the data folder as it lies there now."""

    site: Callable[[], Site]
    _days: Kept[DayStanding] = field(default_factory=lambda: Kept(float("inf"), DAYS_KEPT))
    _now: Kept[NowStanding] = field(default_factory=Kept)
    _reckoning: threading.Lock = field(default_factory=threading.Lock)

    def day(self, day: date) -> DayStanding:
        site = self.site()
        key = (id(site), day, site.lake.version("balance"))
        with self._reckoning:
            return self._days.get(key, lambda: reckon_day(site, day))

    def now(self, reach: Reach, now_s: Callable[[], int]) -> NowStanding:
        site = self.site()
        return self._now.get((id(site), reach.everything, reach.feeders), lambda: reckon_now(site, reach or NOTHING, now_s()))
