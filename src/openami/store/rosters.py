"""The registry of each shard as arrays, kept in a file: SQL is asked only for what has changed since.

    rosters/<shard>.parquet   a `Roster`'s rows; in its metadata the newest change (`registry_change`) that they have

What always holds: a roster says what SQL says. What triggers note as changed after the file was made is read again before the roster is used; where
that cannot be told (too much has changed since, or the database was put back to an earlier day and went on from there), all of it is. A file is
replaced whole, synced first, once reading again what it lacks costs about as much; it is derived, so one that cannot be read or written is done
without.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..errors import DataError
from ..readings import Int32, Int64
from ..registry import CODED, EPOCH, NEVER, ROSTER, Nodes, Roster
from .blocks import read_rows, write_rows
from .rows import Rows, account, feeder, meter, registry_change, transformer, usage_point
from .sql import among, raw_rows

log = logging.getLogger("openami.registry")
KNOWS = b"knows"
FEW = 0.05
"""Where more than such a part of a shard's meters has changed, all are read: one by one would cost as much."""
LATE = 0.005
"""Where more than such a part has, the file is written again; below it every reader asks SQL for those few."""
UNWRITTEN = 25_000
"""After so many changes, wherever they were, a file is written again before they are forgotten."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the registry: its number, and a mark that no other change has, of this database or of any copy of it."""

    number: int
    mark: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The meters about which something was changed between two changes: all of them, and those of each shard that has some now."""

    serials: pa.Array
    now: Mapping[int, list[str]]


class Rosters:
    """The rosters of a deployment, of one moment of its registry or a later one. `folder`: where they are kept. May be asked by several threads."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self._rows, self._folder, self._lock = rows, folder, threading.Lock()
        self._nodes: tuple[Change, Nodes] | None = None
        self._changed: dict[tuple[Change, Change], Changed | None] = {}

    def of(self, shard: int) -> Roster:
        """The roster of a shard as SQL has it now."""
        kept = self._kept(shard)
        with self._rows.database.reading(), self._rows.begin() as connection:
            newest = newest_change(connection)
            nodes = self._nodes_at(connection, newest)
            if kept is not None and kept[0] == newest:
                return Roster(shard, kept[1], nodes)
            changed = None if kept is None else self._changed_since(connection, kept[0], newest)
            found = _changed_rows(connection, shard, kept[1], changed) if kept is not None and changed is not None else None
            rows, late = found or (_ordered(_from_sql(connection, shard)), 1.0)
        if kept is None or late > LATE or newest.number - kept[0].number > UNWRITTEN:
            self.keep(shard, newest, rows)
        return Roster(shard, rows, nodes)

    def newest(self) -> Change:
        """The newest change of the registry: what was asked before it may be otherwise now."""
        with self._rows.begin() as connection:
            return newest_change(connection)

    def _nodes_at(self, connection: sa.Connection, newest: Change) -> Nodes:
        """All feeders and transformers, read once for all shards."""
        with self._lock:
            if self._nodes is None or self._nodes[0] != newest:
                transformers = raw_rows(connection, sa.select(transformer.c.name, transformer.c.feeder))
                self._nodes = newest, Nodes.of((name for (name,) in raw_rows(connection, sa.select(feeder.c.name))), transformers)
            return self._nodes[1]

    def _changed_since(self, connection: sa.Connection, known: Change, newest: Change) -> Changed | None:
        """What was changed after `known`, read once for all shards whose files know of it; None where that cannot be told."""
        with self._lock:
            if (known, newest) not in self._changed:
                self._changed = {span: found for span, found in self._changed.items() if span[1] == newest}
                self._changed[known, newest] = _changed_since(connection, known)
            return self._changed[known, newest]

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard}.parquet"

    def _kept(self, shard: int) -> tuple[Change, pa.Table] | None:
        """What the file holds, and what it knows of; None where there is none that can be used."""
        path = self._path(shard)
        if not path.exists():
            return None
        try:
            found = read_rows(path, coded=CODED)
            knows = Change(**json.loads(found.schema.metadata[KNOWS]))
            return knows, found.replace_schema_metadata().cast(ROSTER).combine_chunks()
        except (DataError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            log.warning("%s is made anew: it cannot be read (%s)", path, error)
            return None

    def keep(self, shard: int, knows: Change, rows: pa.Table) -> None:
        """Write a shard's rows down, which have every change up to `knows`; without them it is done as well."""
        path = self._path(shard)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for left in self._folder.glob(f"{path.name}.*.partial"):
                left.unlink(missing_ok=True)  # of somebody who was stopped; who is at work on one does without it
            write_rows(partial, [rows.replace_schema_metadata({KNOWS: json.dumps({"number": knows.number, "mark": knows.mark})})])
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            log.warning("%s is not kept (%s); the registry is read from SQL each time", path, error.strerror)


def newest_change(connection: sa.Connection) -> Change:
    """What was changed last. DataError where the registry does not say."""
    number, mark = registry_change.c.number, registry_change.c.mark
    found = connection.execute(sa.select(number, mark).order_by(number.desc()).limit(1)).first()
    if found is None:
        raise DataError("the registry does not say what was changed last (registry_change is empty); restore it from a backup")
    return Change(*found)


def _changed_since(connection: sa.Connection, known: Change) -> Changed | None:
    """What was changed after `known`; None where that cannot be told."""
    changes = registry_change.c
    if connection.execute(sa.select(changes.mark).where(changes.number == known.number)).scalar() != known.mark:
        return None
    later = sa.select(changes.serial, meter.c.shard).distinct().outerjoin(meter, meter.c.serial == changes.serial)
    found = raw_rows(connection, later.where(changes.number > known.number, changes.serial.is_not(None)))
    now: dict[int, list[str]] = {}
    for serial, shard in found:
        if shard is not None:
            now.setdefault(shard, []).append(serial)
    return Changed(pa.array([serial for serial, _ in found], pa.string()), now)


def _changed_rows(connection: sa.Connection, shard: int, kept: pa.Table, changed: Changed) -> tuple[pa.Table, float] | None:
    """`kept` with the rows of what has changed as they are now, and how large a part of it that was or is; None where it is too large."""
    stale = np.flatnonzero(pc.is_in(kept["serial"].combine_chunks(), changed.serials).to_numpy(zero_copy_only=False))
    if stale.size > FEW * kept.num_rows:
        return None
    own = changed.now.get(shard, [])
    if not stale.size and not own:
        return kept, 0.0
    fresh = _from_sql(connection, shard, own)
    return _with(kept, stale, fresh), max(stale.size, fresh.num_rows) / max(kept.num_rows, 1)


def _with(kept: pa.Table, stale: Int64, fresh: pa.Table) -> pa.Table:
    """`kept` with the rows `fresh` in place of its rows `stale`. Where those have the same meters and accounts, a column that is the same stays."""
    before = kept.take(pa.array(stale))
    if not all(before[name].equals(fresh[name]) for name in ("index", "serial", "account")):
        there = np.ones(kept.num_rows, np.bool_)
        there[stale] = False
        return _ordered(pa.concat_tables([kept.filter(pa.array(there)), fresh]).unify_dictionaries(), kept)
    order = np.arange(kept.num_rows)
    order[stale] = kept.num_rows + np.arange(stale.size)
    rows = kept
    for at, name in enumerate(ROSTER.names):
        if name != "by_account" and not _plain(before[name]).equals(_plain(fresh[name])):
            both = pa.chunked_array([*kept[name].chunks, *fresh[name].chunks]).unify_dictionaries().combine_chunks()
            rows = rows.set_column(at, ROSTER.field(name), both.take(pa.array(order)))
    return rows


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What a column says, coded or not."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _ordered(rows: pa.Table, before: pa.Table | None = None) -> pa.Table:
    """Rows in the order of meters (those of one meter stand as they come), with the order of their accounts, which is that of `before` where they
    are the same."""
    index = rows["index"].combine_chunks().to_numpy()
    if (index[1:] < index[:-1]).any():
        rows = rows.take(pa.array(np.argsort(index, kind="stable")))
    rows = rows.combine_chunks()
    same = before is not None and before["account"].equals(rows["account"])
    by_account = before["by_account"] if before is not None and same else pc.sort_indices(rows["account"]).cast(pa.int32())
    return rows.set_column(ROSTER.get_field_index("by_account"), ROSTER.field("by_account"), by_account)


def _from_sql(connection: sa.Connection, shard: int, serials: Iterable[str] | None = None) -> pa.Table:
    """Rows of a shard, or of those of its meters that are named, in order; `by_account` is not in them yet."""
    m, p, a = meter.c, usage_point.c, account.c
    place = (p.name, p.kind, p.feeder, p.transformer, p.connected_load_w, p.since, p.until)
    query = sa.select(m.index, m.serial, *place, a.number, a.tariff, a.payment_mode, a.since, a.mode_since, a.opening_paise)
    query = query.outerjoin(usage_point, p.meter == m.serial).outerjoin(account, a.usage_point == p.name)
    if serials is None:
        query = query.where(m.shard == shard)
    else:  # a sum keeps SQLite from walking through the whole shard for a few of its meters
        query = query.where(m.shard + 0 == shard, among(connection, m.serial, serials))
    found = raw_rows(connection, query.order_by(m.index, p.since, p.name, a.number))
    (index, serial, point, kind, on, under, load_w, since, until, number, tariff, mode, begun, mode_since, opening_paise) = (
        zip(*found, strict=True) if found else ((),) * 15
    )
    columns: Sequence[Any] = (
        index, serial, point, _coded(kind), _coded(on), _coded(under), [watts or 0 for watts in load_w], _days(since), _days(until), number,
        _coded(tariff), _coded(mode), _days(begun), _days(mode_since), [paise or 0 for paise in opening_paise], np.zeros(len(found), np.int32),
    )  # fmt: skip
    return pa.table(
        [c if isinstance(c, pa.Array) else pa.array(c, field.type) for c, field in zip(columns, ROSTER, strict=True)], schema=ROSTER
    )


def _coded(names: Sequence[str | None]) -> pa.DictionaryArray:
    return pa.array(names, pa.string()).dictionary_encode()


def _days(days: Sequence[date | str | None]) -> Int32:
    """Days from 1970, `NEVER` where there is none; as the driver has them, texts on SQLite. A registry has few of them."""
    known = {None: NEVER} | {day: (_day(day) - EPOCH).days for day in set(days) if day is not None}
    return np.array([known[day] for day in days], np.int32)


def _day(day: date | str) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day
