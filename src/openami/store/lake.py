"""The lake: day blocks and what is derived from them, as Parquet files in Delta Lake tables.

Tables (each partitioned by `day` and `shard`; `DuckDB`, Spark, Trino and pandas open them as they are):

    raw         a row per (channel, meter): `meter` = index in the shard, `s00` `s01` ... = the slots in order, null = missing
    validated   the same after VEE
    quality     sparse: (channel, meter, slot, quality bits) of every value that is not plain valid; stage 'raw' or 'validated'
    others      as the glue hands them in (charges, statements, balances ...)

What always holds: a (day, shard) of a table is replaced as a whole by one atomic commit that syncs its files first; a reader sees the old
version or the new one, never both; earlier versions stay readable (`version=`); bytes that changed on the disk are found by their checksums.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from ..errors import DataError, InputError, RequestError, StorageError
from ..readings import CHANNEL_BY_NAME, MISSING, DayBlock

KEYS = ("day", "shard")
COMMIT_ATTEMPTS = 20


def slot_names(slots: int) -> list[str]:
    """Column names of a day block's slots: s00, s01 ... (three digits for a day of more than 100 slots)."""
    digits = max(2, len(str(slots - 1)))
    return [f"s{k:0{digits}d}" for k in range(slots)]


def blocks_to_table(blocks: Sequence[DayBlock]) -> pa.Table:
    """Day blocks of one (day, shard), one or more channels, to rows per (channel, meter); MISSING becomes null."""
    parts = []
    for block in blocks:
        slots, meters = block.values.shape
        columns: dict[str, pa.Array] = {
            "channel": pa.array(np.full(meters, block.channel.name)),
            "meter": pa.array(np.arange(meters, dtype=np.int32)),
        }
        for name, values in zip(slot_names(slots), block.values, strict=True):
            gaps = values == MISSING
            columns[name] = pa.array(values, mask=gaps if gaps.any() else None)
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def quality_to_table(blocks: Sequence[DayBlock]) -> pa.Table:
    """The values that are not plain valid, as rows (channel, meter, slot, quality)."""
    parts = []
    for block in blocks:
        slot, meter = np.nonzero(block.quality)
        parts.append(
            pa.table(
                {
                    "channel": pa.array(np.full(len(slot), block.channel.name), pa.string()),
                    "meter": pa.array(meter.astype(np.int32)),
                    "slot": pa.array(slot.astype(np.int16)),
                    "quality": pa.array(block.quality[slot, meter].astype(np.int32)),
                }
            )
        )
    return pa.concat_tables(parts)


class Lake:
    """The tables below one folder."""

    def __init__(self, root: Path) -> None:
        if "%" in str(root):
            raise InputError(f"{root} has a % in its path, which Delta Lake reads as an escape; give a data folder without one")
        self.root = root
        self._committing = threading.Lock()

    def replace(self, table: str, day: date, shard: int, rows: pa.Table) -> int:
        """Make `rows` the whole content of (day, shard) in `table`, as one new version; gives the version.

        The file is written and synced first and becomes visible only with the commit; a failure leaves the previous version.
        """
        if untyped := [field.name for field in rows.schema if pa.types.is_null(field.type)]:
            raise RequestError(f"column {untyped[0]} of table {table} has no type, as of an empty list; give its array a type")
        folder = self.root / table
        place = Path(f"day={day.isoformat()}") / f"shard={shard}"
        name = place / f"{uuid.uuid4().hex}.parquet"
        try:
            (folder / place).mkdir(parents=True, exist_ok=True)
            _write(folder / name, rows)
            add = AddAction(
                path=str(name),
                size=(folder / name).stat().st_size,
                partition_values={"day": day.isoformat(), "shard": str(shard)},
                modification_time=int(time.time() * 1000),
                data_change=True,
                stats=json.dumps({"numRecords": rows.num_rows}),
            )
            with self._committing:
                return self._commit(table, day, shard, rows.schema, add)
        except (OSError, pa.ArrowException) as error:
            _discard(folder / name)
            raise StorageError(
                f"{table} of {day} (shard {shard}) cannot be written below {self.root} ({_short(error)}); "
                "free space or give a writable data folder"
            ) from error
        except DeltaError as error:
            _discard(folder / name)
            raise DataError(f"table {folder} refuses the commit ({_short(error)}); check its _delta_log or restore it") from error

    def _commit(self, table: str, day: date, shard: int, schema: pa.Schema, add: AddAction) -> int:
        """Make the written file visible in place of the (day, shard)'s older ones. Another writer's commit in between is met by trying again:
        writers of different (day, shard)s never touch the same rows."""
        wanted = Schema.from_arrow(schema.append(pa.field("day", pa.date32())).append(pa.field("shard", pa.int32())))
        filters = [("day", "=", day.isoformat()), ("shard", "=", str(shard))]
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                delta = self._open_or_create(table, wanted)
                delta.create_write_transaction(
                    [add], mode="overwrite", schema=delta.schema(), partition_by=list(KEYS), partition_filters=filters
                )
                return int(DeltaTable(str(self.root / table)).version())
            except CommitFailedError:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                time.sleep(0.02 * (attempt + 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def read(self, table: str, day: date, shard: int, version: int | None = None) -> pa.Table:
        """The rows of (day, shard), without the partition columns; an empty DataError sentence where there are none."""
        files = _files(self._open(table, version), day, shard)
        if not files:
            raise DataError(f"{table} has no {day} of shard {shard}; close that day first, or ask for another")
        try:
            parts = [pq.read_table(f, partitioning=None, memory_map=True, page_checksum_verification=True) for f in files]
            return pa.concat_tables(parts, promote_options="default")
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{files[0]} cannot be read ({_short(error)}); close {day} again or restore the file") from error

    def has(self, table: str, day: date, shard: int) -> bool:
        """Whether (day, shard) is in `table`; a table that is there and cannot be opened is a DataError, never a no."""
        return (self.root / table / "_delta_log").exists() and bool(_files(self._open(table, None), day, shard))

    def days(self, table: str) -> list[date]:
        """The days that `table` has, in order; none where there is no such table yet."""
        if not (self.root / table / "_delta_log").exists():
            return []
        parts = {p["day"] for p in self._open(table, None).partitions()}
        return sorted(p if isinstance(p, date) else date.fromisoformat(p) for p in parts)

    def version(self, table: str) -> int:
        return int(self._open(table, None).version())

    def write_blocks(self, table: str, blocks: Sequence[DayBlock]) -> None:
        """Day blocks of one (day, shard), values into `table`, their quality bits into `<table>_quality`."""
        day, shard = blocks[0].day, blocks[0].shard
        self.replace(f"{table}_quality", day, shard, quality_to_table(blocks))
        self.replace(table, day, shard, blocks_to_table(blocks))

    def read_blocks(self, table: str, day: date, shard: int) -> dict[str, DayBlock]:
        """The day blocks of (day, shard) by channel name, quality made dense again."""
        rows, sparse = self.read(table, day, shard), self.read(f"{table}_quality", day, shard)
        names = sorted(c for c in rows.column_names if c[0] == "s" and c[1:].isdigit())
        blocks = {}
        for channel in pc.unique(rows["channel"]).to_pylist():
            own = rows.filter(pc.equal(rows["channel"], channel)).sort_by("meter")
            values = np.stack([pc.fill_null(own[n], pa.scalar(MISSING, pa.int32())).to_numpy() for n in names])
            quality = np.zeros(values.shape, np.uint32)
            marks = sparse.filter(pc.equal(sparse["channel"], channel))
            quality[marks["slot"].to_numpy(), marks["meter"].to_numpy()] = marks["quality"].to_numpy().astype(np.uint32)
            blocks[channel] = DayBlock(day, shard, CHANNEL_BY_NAME[channel], values, quality)
        return blocks

    def _open(self, table: str, version: int | None) -> DeltaTable:
        folder = self.root / table
        try:
            return DeltaTable(str(folder), version=version)
        except TableNotFoundError:
            raise DataError(f"no table {folder}; nothing has been closed into this data folder yet") from None
        except (DeltaError, OSError) as error:
            raise DataError(f"table {folder} cannot be opened ({_short(error)}); restore its _delta_log from a backup") from error

    def _open_or_create(self, table: str, wanted: Schema) -> DeltaTable:
        """The table, made or widened so that it has every column of `wanted` (a day of clock change has more slots than the others)."""
        folder = self.root / table
        if not DeltaTable.is_deltatable(str(folder)):
            return DeltaTable.create(str(folder), wanted, partition_by=list(KEYS), mode="ignore")
        delta = DeltaTable(str(folder))
        known = {field.name: field.type for field in delta.schema().fields}
        for field in wanted.fields:
            if known.get(field.name, field.type) != field.type:
                raise RequestError(f"column {field.name} of table {table} is {known[field.name]}, these rows have it as {field.type}")
        if fresh := [field for field in wanted.fields if field.name not in known]:
            delta.alter.add_columns(fresh)
        return delta


def _files(delta: DeltaTable, day: date, shard: int) -> list[str]:
    place = f"/day={day.isoformat()}/shard={shard}/"
    return sorted(path for path in map(unquote, delta.file_uris()) if place in path)


def _discard(path: Path) -> None:
    """Take back a file that no commit names. What the disk refuses here it has refused before, and that is what will be reported."""
    with suppress(OSError):
        path.unlink()


def _write(path: Path, rows: pa.Table) -> None:
    integers = [f.name for f in rows.schema if pa.types.is_int32(f.type) and f.name[0] == "s"]
    pq.write_table(
        rows,
        path,
        compression="zstd",
        use_dictionary=[f.name for f in rows.schema if pa.types.is_string(f.type)],
        column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED") or None,
        row_group_size=131_072,
        write_page_checksum=True,
    )
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _short(error: BaseException) -> str:
    """The machine's own word for it, or the error's first sentence or so without the colours that delta-rs paints into it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]
