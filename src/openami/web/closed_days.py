"""Closed days in memory, as the pages need them: read once, kept as long as no table that they came from has a new version.

What always holds: a day whose files are damaged is `DamagedDay`, and takes no other day with it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from ..day import Site
from ..day.lines import charge_lines, usage_by_period
from ..errors import DataError
from ..losses.suspicion import idle_while_flowing, loss_outliers, understated, wrong_transformers
from ..readings import CHECK_BITS, ESTIMATED_BITS, IMPORT_WH, MISSING, DayBlock, Int32, Quality
from ..registry import ShardIndex
from ..store.places import Local
from . import townbook as tb
from .townbook import DamagedDay

log = logging.getLogger(__name__)
SUSPICION_DAYS = 7
CACHED_DAYS = 16
_Files = frozenset[tuple[str, int, int, int]]
_State = tuple[int, tuple[date, ...]]
"""What an answer over several days rests on: the version of the tables, and the days that could not be read."""


@dataclass(slots=True)
class ShardDay:
    """One shard's day in memory: arrays are [meter] of the shard."""

    index: ShardIndex
    raw: dict[str, DayBlock]
    validated: dict[str, DayBlock]
    metered: np.ndarray
    estimated: np.ndarray
    missing: np.ndarray
    flagged: np.ndarray
    day_wh: np.ndarray


@dataclass(slots=True)
class ClosedDay:
    """One closed day of all shards, with the tables that its pages show; `as_of` is when the newest of them was written."""

    day: date
    shards: dict[int, ShardDay]
    statements: dict[str, dict[str, Any]]
    charges: dict[str, list[dict[str, Any]]]
    notices: dict[str, dict[str, Any]]
    due: list[dict[str, Any]]
    balance: dict[tuple[str, str, int | None], tb.NodeFigures]
    month_wh: dict[str, int]
    as_of: datetime


@dataclass
class ClosedDays:
    """The closed days of one data folder. Calls may come from several threads."""

    site: Site
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _kept: dict[date, tuple[int, ClosedDay]] = field(default_factory=dict, repr=False)
    _suspicions: dict[date, tuple[_State, tuple[tb.Suspicion, ...]]] = field(default_factory=dict, repr=False)
    _damaged: dict[date, tuple[_Files, str]] = field(default_factory=dict, repr=False)

    def days(self) -> tuple[date, ...]:
        """Oldest first."""
        return tuple(self.site.lake.days("balance"))

    def on(self, day: date) -> ClosedDay:
        """The day as it is stored now; DamagedDay where one of its files cannot be read."""
        version = self.site.lake.version("balance")
        with self._lock:
            kept = self._kept.get(day)
            if kept is None or kept[0] != version:
                kept = (version, self._read_or_know(day))
                self._kept[day] = kept
                while len(self._kept) > CACHED_DAYS:
                    del self._kept[next(iter(self._kept))]
            return kept[1]

    def _read_or_know(self, day: date) -> ClosedDay:
        """The day read anew. A damaged one is tried again only once its files have been touched: several answers ask for it."""
        shards = self.site.rows.shards()
        files = self._files(day)
        known = self._damaged.get(day)
        if known is not None and known[0] == files:
            raise DamagedDay(day, known[1])
        try:
            found = self._read_day(day, shards)
        except DataError as error:
            log.warning("%s is damaged: %s", day, error)
            self._damaged[day] = (files, str(error))
            raise DamagedDay(day, str(error)) from error
        self._damaged.pop(day, None)
        return found

    def _files(self, day: date) -> _Files:
        """The files that the day is read from, as the disk knows them; a restored file has another time of change."""
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

    def readable(self, day: date) -> ClosedDay | None:
        """The day, or None where its files are damaged: for what can be told without it."""
        try:
            return self.on(day)
        except DamagedDay:
            return None

    def damaged(self) -> tuple[date, ...]:
        """The days that were asked for and could not be read, oldest first. A restored one is no longer among them."""
        with self._lock:
            return tuple(day for day in sorted(self._damaged) if self.readable(day) is None)

    def _read_day(self, day: date, shards: list[int]) -> ClosedDay:
        def rows(table: str) -> list[dict[str, Any]]:
            return list(pa.concat_tables([self.site.lake.read(table, day, s) for s in shards]).to_pylist())

        charges: dict[str, list[dict[str, Any]]] = {}
        month_wh: Counter[str] = Counter()
        for shard in shards:
            for row in charge_lines(self.site.lake, day, shard).to_pylist():
                charges.setdefault(row["account"], []).append(row)
            for row in usage_by_period(self.site.lake, day, shard).to_pylist():
                month_wh[row["account"]] += row["to_date_wh"]
        statements = rows("statements")
        written = max(at for _, _, at in self.site.lake.place.log_state("balance") or ()) / 1e9
        return ClosedDay(
            day=day,
            shards={s: self._read_shard(day, s) for s in shards},
            statements={r["account"]: r for r in statements},
            charges=charges,
            notices={of["account"]: r for of, r in zip(statements, rows("notices"), strict=True)},
            due=rows("due"),
            balance=self._read_balance(rows("balance")),
            month_wh=dict(month_wh),
            as_of=datetime.fromtimestamp(int(written), UTC).astimezone(self.site.calendar.local(0).tzinfo),
        )

    def _read_shard(self, day: date, shard: int) -> ShardDay:
        raw, validated = self.site.lake.read_blocks("raw", day, shard), self.site.lake.read_blocks("validated", day, shard)
        block = validated[IMPORT_WH.name]
        there = block.values != MISSING
        estimated = (block.quality & ESTIMATED_BITS) != 0
        return ShardDay(
            index=self.site.rows.shard_index(shard, day),
            raw=raw,
            validated=validated,
            metered=(there & ~estimated).sum(axis=0),
            estimated=estimated.sum(axis=0),
            missing=(~there).sum(axis=0),
            flagged=((block.quality & CHECK_BITS & ~np.uint32(Quality.MISSING)) != 0).sum(axis=0),
            day_wh=np.where(there, block.values, 0).sum(axis=0, dtype=np.int64),
        )

    def _read_balance(self, rows: list[dict[str, Any]]) -> dict[tuple[str, str, int | None], tb.NodeFigures]:
        whole = [r for r in rows if r["kind"] == "transformer" and r["hour"] is None]
        shares = np.array([r["loss_wh"] / r["in_wh"] if r["loss_wh"] is not None and r["in_wh"] else np.nan for r in whole])
        outlying = dict(zip((r["node"] for r in whole), loss_outliers(shares).tolist(), strict=True))

        def z(row: dict[str, Any]) -> float | None:
            value = outlying.get(row["node"]) if row["kind"] == "transformer" and row["hour"] is None else None
            return value if value is not None and np.isfinite(value) else None

        return {
            (r["kind"], r["node"], r["hour"]): tb.NodeFigures(
                r["in_wh"], r["out_wh"], r["loss_wh"], r["coverage"], r["estimated_share"], z(r)
            )
            for r in rows
        }

    def suspicions(self, day: date) -> tuple[tb.Suspicion, ...]:
        """Reasons to look, judged over up to seven closed days that end with `day`; damaged ones are left out (`damaged` names them).
        DamagedDay where it is `day` itself."""
        version = self.site.lake.version("balance")
        with self._lock:
            kept = self._suspicions.get(day)
            if kept is None or kept[0] != (version, self.damaged()):
                found = tuple(self._suspect(day))
                kept = self._suspicions[day] = ((version, self.damaged()), found)
            return kept[1]

    def _suspect(self, day: date) -> list[tb.Suspicion]:
        last = self.on(day)
        earlier = [self.readable(d) for d in self.days() if day - timedelta(days=SUSPICION_DAYS) < d < day]
        days = [d for d in earlier if d is not None] + [last]
        found = []
        for shard in self.site.rows.shards():
            parts = [d.shards[shard] for d in days]
            index = parts[-1].index
            block = np.concatenate([_measured(p.validated[IMPORT_WH.name]) for p in parts])
            found += [
                tb.Suspicion(
                    tb.SuspicionKind.WRONG_TRANSFORMER,
                    index.serials[m.meter],
                    index.transformers[m.now],
                    index.transformers[m.to],
                    m.evidence,
                    m.explained,
                    len(days),
                )
                for m in wrong_transformers(index, block)
            ]
            found += [
                tb.Suspicion(
                    tb.SuspicionKind.UNDERSTATED,
                    index.serials[u.meter],
                    index.transformers[u.transformer],
                    None,
                    u.evidence,
                    u.unregistered_per_wh,
                    len(days),
                )
                for u in understated(index, block)
            ]
            found += [
                tb.Suspicion(
                    tb.SuspicionKind.IDLE,
                    index.serials[i.meter],
                    index.transformers[i.transformer],
                    None,
                    i.evidence,
                    i.excess_wh,
                    len(days),
                )
                for i in idle_while_flowing(index, block, 60 // self.site.calendar.interval_minutes)
            ]
        return sorted(found, key=lambda s: (-s.evidence, s.serial))


def _measured(block: DayBlock) -> Int32:
    """The values that are not estimates: nobody is suspected on an estimate."""
    return np.where((block.quality & ESTIMATED_BITS) != 0, MISSING, block.values)
