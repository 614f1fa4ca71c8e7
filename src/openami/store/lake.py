"""The lake: day blocks and what is derived from them, as Parquet files in Delta Lake tables.

Tables (each partitioned by `day` and `shard`; `DuckDB`, Spark, Trino and pandas open them as they are):

    raw         a row per (channel, meter): `meter` = index in the shard, `s00` `s01` ... = the slots in order, null = missing (`blocks.py`)
    validated   the same after VEE
    quality     sparse: (channel, meter, slot, quality bits) of every value that is not plain valid; stage 'raw' or 'validated'
    others      as the glue hands them in (charges, statements, balances ...)

What always holds: a (day, shard) of a table is replaced as a whole by one atomic commit that syncs its files first (`Draft`: many of them at
once); a reader sees the old version or the new one, never both; earlier versions stay readable (`version=`); bytes that changed on the disk
are found by their checksums.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from ..errors import DataError, RequestError, StorageError
from ..readings import CHANNEL_BY_NAME, DayBlock, Int32, UInt32
from .blocks import (
    MARKS,
    BlockFile,
    blocks_to_table,
    dense_quality,
    marks_of,
    need_columns,
    plain_schema,
    quality_to_table,
    read_rows,
    slot_names,
    write_rows,
)
from .kept import KeptRows
from .places import Local, LogState, Place, State, place_at
from .slots import slot_schema, write_slots

__all__ = ["Draft", "Lake", "blocks_to_table", "quality_to_table", "slot_names"]
KEYS = ("day", "shard")
COMMIT_ATTEMPTS = 20
EARLIER_KEPT = 16
KEEP_DAYS = 760
"""How long earlier versions can be asked for: two years, to which a claim may reach back, and a month."""
PROPERTIES = {
    "delta.logRetentionDuration": f"interval {KEEP_DAYS} days",
    "delta.deletedFileRetentionDuration": f"interval {KEEP_DAYS} days",
}
"""Of every table; Delta Lake's own are 30 and 7 days, after which an earlier version could no longer be opened."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Contents:
    """One version of a table: the types of its columns, its files by (day, shard), and by shard of each day, days in order."""

    version: int
    types: dict[str, pa.DataType]
    files: dict[tuple[date, int], list[str]]
    days: dict[date, dict[int, list[str]]]


class Lake:
    """The tables of one place."""

    def __init__(self, where: Path | Place) -> None:
        """where: a folder, or a place elsewhere. InputError where Delta Lake cannot name the files of it."""
        self.place = place_at(where)
        self._committing = threading.Lock()
        self._kept: dict[str, tuple[LogState | State, _Contents]] = {}
        self._earlier: OrderedDict[tuple[str, int], dict[tuple[date, int], list[str]]] = OrderedDict()
        self._rows = KeptRows()
        self._mine = threading.local()

    @property
    def root(self) -> Path:
        """The folder, where the lake is one on this machine."""
        if isinstance(self.place, Local):
            return self.place.root
        raise RequestError(f"the lake {self.place} is no folder of this machine; go through `place`")

    def replace(self, table: str, day: date, shard: int, rows: pa.Table) -> int:
        """Make `rows` the whole content of (day, shard) in `table`, as one new version; gives the version.

        The file is written and synced first and becomes visible only with the commit; a failure leaves the previous version.
        """
        with Draft(self, day) as draft:
            draft.write(table, shard, rows)
            return draft.commit()[table]

    def append(self, table: str, day: date, shard: int, rows: pa.Table) -> int:
        """Add `rows` to (day, shard) of `table` beside what is there, as one new version; gives the version. Others may add at the same time."""
        with Draft(self, day, adding=True) as draft:
            draft.write(table, shard, rows)
            return draft.commit()[table]

    def draft(self, day: date) -> Draft:
        """A new draft of `day`: files of any tables and shards, made visible together."""
        return Draft(self, day)

    def commit(self, table: str, day: date, schema: pa.Schema, adds: dict[int, AddAction], *, adding: bool = False) -> None:
        """Make written files, one per shard, visible in place of those (day, shard)s' older ones, or (`adding`) beside them. Another writer's
        commit in between is met by trying again: writers of different (day, shard)s never touch the same rows."""
        wanted = Schema.from_arrow(schema.append(pa.field("day", pa.date32())).append(pa.field("shard", pa.int32())))
        filters = [("day", "=", day.isoformat()), ("shard", "in", [str(shard) for shard in adds])]
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                with self._committing:
                    delta = self._open_or_create(table, wanted)
                    delta.create_write_transaction(
                        list(adds.values()),
                        mode="append" if adding else "overwrite",
                        schema=delta.schema(),
                        partition_by=list(KEYS),
                        partition_filters=None if adding else filters,
                    )
                return
            except CommitFailedError:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                time.sleep(0.02 * (attempt + 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def files(self, table: str, day: date, version: int | None = None) -> dict[int, list[str]]:
        """The files of `day` by shard, as one version of the table has them: for readers of many shards, who open the log once."""
        if version is None:
            return self._contents(table).days.get(day, {})
        return {shard: paths for (own, shard), paths in self.all_files(table, version).items() if own == day}

    def all_files(self, table: str, version: int | None = None) -> dict[tuple[date, int], list[str]]:
        """The files of every (day, shard) of a table. The answer is kept for as long as nothing in the table's log changes; of earlier versions,
        which never change, the last EARLIER_KEPT."""
        return self._contents(table).files if version is None else self._earlier_files(table, version)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, this thread looks once at each table's log: a page is of one version of a table, and pays once for the look."""
        if getattr(self._mine, "seen", None) is not None:
            yield
            return
        self._mine.seen = {}
        try:
            yield
        finally:
            self._mine.seen = None

    def _contents(self, table: str) -> _Contents:
        """What the table holds now, or when this thread's `reading` looked first. DataError where it cannot be opened."""
        seen: dict[str, _Contents] | None = getattr(self._mine, "seen", None)
        if seen is None:
            return self._contents_now(table)
        if table not in seen:
            seen[table] = self._contents_now(table)
        return seen[table]

    def _has(self, table: str) -> bool:
        """`place.has_table`, without a look at a table that this thread's `reading` has seen."""
        return table in (getattr(self._mine, "seen", None) or ()) or self.place.has_table(table)

    def _contents_now(self, table: str) -> _Contents:
        mark, kept = self.place.log_mark(table), self._kept.get(table)
        if mark is not None and kept is not None and kept[0] == mark:
            return kept[1]
        delta = self._open(table, None)
        files = self._listed(delta)
        types = {field.name: field.type for field in pa.schema(delta.schema().to_arrow())}
        found = _Contents(int(delta.version()), types, files, {})
        for day, shard in sorted(files):
            found.days.setdefault(day, {})[shard] = files[day, shard]
        if mark is not None:
            self._kept[table] = mark, found
        return found

    def _earlier_files(self, table: str, version: int) -> dict[tuple[date, int], list[str]]:
        found = self._earlier.get((table, version)) or self._listed(self._open(table, version))
        self._earlier[table, version] = found
        while len(self._earlier) > EARLIER_KEPT:
            with suppress(KeyError):  # another thread may have emptied it meanwhile
                self._earlier.popitem(last=False)
        return found

    def _listed(self, delta: DeltaTable) -> dict[tuple[date, int], list[str]]:
        found: dict[tuple[date, int], list[str]] = {}
        for path in sorted(map(self.place.file, delta.file_uris())):
            if place := PLACE.search(path):
                found.setdefault((date.fromisoformat(place["day"]), int(place["shard"])), []).append(path)
        return found

    def tables(self) -> list[str]:
        """The tables that are there, by name."""
        return self.place.tables()

    def read(
        self,
        table: str,
        day: date,
        shard: int,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        coded: Sequence[str] = (),
        needed: Sequence[str] = (),
    ) -> pa.Table:
        """The rows of (day, shard), without the partition columns, or only `columns` of them, `coded` ones as dictionaries; DataError where there
        are none, or a file has other columns than the table says or lacks one of `needed`."""
        files = self.all_files(table, version).get((day, shard), [])
        if not files:
            raise DataError(f"{table} has no {day} of shard {shard}; close that day first, or ask for another")
        parts = [read_rows(path, columns, coded) for path in files]
        for path, part in zip(files, parts, strict=True):
            need_columns(path, part.schema, self._contents(table).types, needed)
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts, promote_options="default")

    def row(
        self,
        table: str,
        day: date,
        shard: int,
        account: str,
        columns: Sequence[str] | None,
        version: int | None = None,
        *,
        beside: str = "",
    ) -> dict[str, Any] | None:
        """`columns` (None = all) of one account's row of (day, shard), of those that the table has; None where no row is its. Columns are read once.
        beside: a table that names the accounts in the order of this one, which does not."""
        if not self._has(table):
            return None
        others = self.all_files(beside).get((day, shard), ()) if beside else ()
        for path in self.all_files(table, version).get((day, shard), ()):
            if beside:
                found = self._rows.row_beside(path, others[-1], "account", account, columns) if others else None
            else:
                found = self._rows.row(path, "account", account, columns)
            if found is not None:
                return found
        return None

    def has(self, table: str, day: date, shard: int) -> bool:
        """Whether (day, shard) is in `table`; a table that is there and cannot be opened is a DataError, never a no."""
        return self.place.has_table(table) and (day, shard) in self.all_files(table)

    def content(self, table: str, day: date, shard: int) -> str:
        """Names what (day, shard) of `table` holds now: another content has another name, and is never again called like this one."""
        return ",".join(Path(path).name for path in self.all_files(table).get((day, shard), []))

    def days(self, table: str) -> list[date]:
        """The days that `table` has, in order; none where there is no such table yet."""
        return [*self._contents(table).days] if self._has(table) else []

    def version(self, table: str) -> int:
        return self._contents(table).version

    def write_blocks(self, table: str, blocks: Sequence[DayBlock]) -> None:
        """Day blocks of one (day, shard), values into `table`, their quality bits into `<table>_quality`."""
        with Draft(self, blocks[0].day) as draft:
            draft.write_blocks(table, blocks)
            draft.commit()

    def read_values(self, table: str, day: date, shard: int, channel: str) -> Int32 | None:
        """One channel's values of (day, shard), int32 [slot, meter], without their quality: a fraction of `read_blocks`. None = not there."""
        files = (BlockFile(path) for path in self.files(table, day).get(shard, []))
        return next((file.values(channel) for file in files if channel in file.channels), None)

    def read_meter(self, table: str, day: date, shard: int, channel: str, meter: int, slots: int) -> tuple[Int32, UInt32] | None:
        """One meter's values and quality bits of a day, [slot], out of its row groups alone; None where (day, shard) does not have it."""
        files = (BlockFile(path) for path in self.files(table, day).get(shard, []))
        values = next((found for file in files if (found := file.values_of(channel, meter)) is not None), None)
        if values is None:
            return None
        quality = np.zeros(slots, np.uint32)
        marked = f"{table}_quality"
        for path in self.files(marked, day).get(shard, []) if self.place.has_table(marked) else ():
            marks = marks_of(path, channel, meter)
            quality[marks["slot"].to_numpy().astype(np.int64)] = marks["quality"].to_numpy().astype(np.uint32)
        return values, quality

    def read_blocks(self, table: str, day: date, shard: int) -> dict[str, DayBlock]:
        """The day blocks of (day, shard) by channel name, quality made dense again."""
        files = self.files(table, day).get(shard, [])
        if not files:
            raise DataError(f"{table} has no {day} of shard {shard}; close that day first, or ask for another")
        sparse = self.read(f"{table}_quality", day, shard, needed=MARKS)
        blocks = {}
        for path in files:
            file = BlockFile(path)
            for channel in file.channels:
                values = file.values(channel)
                quality = dense_quality(sparse, channel, values.shape)
                blocks[channel] = DayBlock(day, shard, CHANNEL_BY_NAME[channel], values, quality)
        return blocks

    def commits_since_checkpoint(self, table: str) -> int:
        """How many commits opening a table has to read one by one."""
        names = [name for name, _, _ in self.place.log_state(table) or ()]
        last = max((name.split(".")[0] for name in names if ".checkpoint." in name), default="")
        return sum(name.endswith(".json") and name.split(".")[0] > last for name in names)

    def opened(self, table: str, version: int | None = None) -> DeltaTable:
        """The Delta table itself, for whoever keeps it in order. DataError where there is none, or not that version."""
        return self._open(table, version)

    def _open(self, table: str, version: int | None) -> DeltaTable:
        folder = self.place.uri(table)
        self._need_whole_commits(table)
        try:
            return DeltaTable(folder, version=version, storage_options=self.place.options)
        except TableNotFoundError:
            raise DataError(f"no table {folder}; nothing has been closed into this data folder yet") from None
        except (DeltaError, OSError) as error:
            if version is not None and version > (newest := self.version(table)):
                raise DataError(f"table {folder} has no version {version} yet; its newest is {newest}") from error
            raise DataError(f"table {folder} cannot be opened ({_short(error)}); restore its _delta_log from a backup") from error

    def _need_whole_commits(self, table: str) -> None:
        """DataError where a commit holds nothing, as after a power failure: Delta Lake would go on as if what it made visible had never been."""
        if empty := next((name for name, size, _ in self.place.log_state(table) or () if size == 0 and COMMIT.fullmatch(name)), None):
            raise DataError(f"table {self.place.uri(table)} cannot be opened ({empty} is empty); restore its _delta_log from a backup")

    def _open_or_create(self, table: str, wanted: Schema) -> DeltaTable:
        """The table, made or widened so that it has every column of `wanted` (a day of clock change has more slots than the others)."""
        folder, options = self.place.uri(table), self.place.options
        self._need_whole_commits(table)
        if not DeltaTable.is_deltatable(folder, options):
            return DeltaTable.create(
                folder, wanted, partition_by=list(KEYS), mode="ignore", configuration=PROPERTIES, storage_options=options
            )
        delta = DeltaTable(folder, storage_options=options)
        known = {field.name: field.type for field in delta.schema().fields}
        for field in wanted.fields:
            if known.get(field.name, field.type) != field.type:
                raise RequestError(f"column {field.name} of table {table} is {known[field.name]}, these rows have it as {field.type}")
        if fresh := [field for field in wanted.fields if field.name not in known]:
            delta.alter.add_columns(fresh)
        return delta


@dataclasses.dataclass(frozen=True, slots=True)
class _Laid:
    """A file that nobody sees yet. placed: done when it is synced and has its name."""

    schema: pa.Schema
    add: AddAction
    placed: Future[None] | None


class Draft:
    """Files of one day that are being made: each is synced behind its writer's back and seen by nobody until `commit`, which waits until all are, and
    makes all of a table's files visible in one version, table after table in the order of their first file. Left without a commit, the files are
    taken back.

    Shards may write side by side; the same (table, shard) twice keeps the last."""

    def __init__(self, lake: Lake, day: date, *, adding: bool = False) -> None:
        self._lake, self._day, self._adding = lake, day, adding
        self._files: dict[str, dict[int, _Laid]] = {}
        self._lock = threading.Lock()
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def write(self, table: str, shard: int, rows: pa.Table | Sequence[pa.Table]) -> None:
        """Write `rows` as the new content of (day, shard) in `table`; of several tables each starts a row group of its own."""
        parts = [rows] if isinstance(rows, pa.Table) else list(rows)
        if untyped := [field.name for field in parts[0].schema if pa.types.is_null(field.type)]:
            raise RequestError(f"column {untyped[0]} of table {table} has no type, as of an empty list; give its array a type")
        self._write(
            table, shard, plain_schema(parts[0].schema), sum(part.num_rows for part in parts), lambda target: write_rows(target, parts)
        )

    def _write(self, table: str, shard: int, schema: pa.Schema, rows: int, write: Callable[[Any], None]) -> None:
        name = f"day={self._day.isoformat()}/shard={shard}/{uuid.uuid4().hex}.parquet"
        try:
            size, put_in_place = self._lake.place.lay(f"{table}/{name}", write)
        except (OSError, pa.ArrowException) as error:
            raise self._refused(table, f"shard {shard}", error) from error
        add = AddAction(
            path=name,
            size=size,
            partition_values={"day": self._day.isoformat(), "shard": str(shard)},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": rows}),
        )
        self._keep(table, shard, _Laid(schema, add, self._syncing.submit(put_in_place)))

    def _keep(self, table: str, shard: int, laid: _Laid) -> None:
        with self._lock:
            before = self._files.setdefault(table, {}).get(shard)
            self._files[table][shard] = laid
        if before:
            self._take_back(table, before)

    def _take_back(self, table: str, laid: _Laid) -> None:
        if laid.placed is not None:
            wait([laid.placed])  # one that could not be placed has left nothing
        self._lake.place.discard(f"{table}/{laid.add.path}")

    def _settle(self) -> None:
        """Wait until every file is synced and has its name."""
        for table, shards in self._files.items():
            for shard, laid in shards.items():
                try:
                    if laid.placed is not None:
                        laid.placed.result()
                except OSError as error:
                    raise self._refused(table, f"shard {shard}", error) from error

    def write_blocks(self, table: str, blocks: Sequence[DayBlock]) -> None:
        """Day blocks of one shard, values into `table`, their quality bits into `<table>_quality`."""
        shard, (slots, _) = blocks[0].shard, blocks[0].values.shape
        self.write(f"{table}_quality", shard, [quality_to_table(block) for block in blocks])
        rows = sum(block.values.shape[1] for block in blocks)
        self._write(table, shard, slot_schema(slots), rows, lambda target: write_slots(target, blocks))

    def hand_over(self) -> bytes:
        """What was written, for a draft of the same day that commits it, perhaps in another process (`adopt`). No longer ours to take back."""
        self._settle()
        handed = [
            {
                "table": table,
                "shard": shard,
                "schema": base64.b64encode(laid.schema.serialize()).decode(),
                "add": dataclasses.asdict(laid.add),
            }
            for table, shards in self._files.items()
            for shard, laid in shards.items()
        ]
        self._files.clear()
        return json.dumps(handed).encode()

    def adopt(self, handed: bytes) -> None:
        """Take over files that another draft of this day has written; the same (table, shard) twice keeps the last."""
        for one in json.loads(handed):
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(one["schema"])))
            self._keep(one["table"], one["shard"], _Laid(schema, AddAction(**one["add"]), None))

    def commit(self) -> dict[str, int]:
        """Make everything visible; gives each table's version. A failure leaves the tables that were not reached as they were."""
        self._settle()
        versions = {}
        for table in list(self._files):
            shards = self._files[table]
            schema = pa.unify_schemas([laid.schema for laid in shards.values()])
            try:
                self._lake.commit(table, self._day, schema, {shard: laid.add for shard, laid in shards.items()}, adding=self._adding)
            except (OSError, pa.ArrowException) as error:
                raise self._refused(table, f"shards {_some(shards)}", error) from error
            except DeltaError as error:
                folder = self._lake.place.uri(table)
                raise DataError(f"table {folder} refuses the commit ({_short(error)}); check its _delta_log or restore it") from error
            del self._files[table]  # visible now: no longer ours to take back
            versions[table] = self._lake.version(table)
        return versions

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for table, shards in self._files.items():
            for laid in shards.values():
                self._take_back(table, laid)
        self._files.clear()
        self._syncing.shutdown()

    def _refused(self, table: str, where: str, error: Exception) -> StorageError:
        return StorageError(
            f"{table} of {self._day} ({where}) cannot be written below {self._lake.place} ({_short(error)}); "
            "free space or give a writable data folder"
        )


COMMIT = re.compile(r"\d{20}\.json")
PLACE = re.compile(r"/day=(?P<day>[0-9-]+)/shard=(?P<shard>[0-9]+)/[^/]+$")


def _some(shards: Iterable[int]) -> str:
    names = [str(shard) for shard in sorted(shards)]
    return ", ".join(names if len(names) < 5 else [*names[:4], f"... ({len(names)} of them)"])


def _short(error: BaseException) -> str:
    """The machine's own word for it, or the error's first sentence or so without the colours that delta-rs paints into it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]
