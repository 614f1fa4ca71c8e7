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

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from ..readings import CHANNEL_BY_NAME, MISSING, DayBlock, Int32, Quality, UInt32
from .blocks import (
    MARKS,
    BlockFile,
    dense_quality,
    marks_of,
    need_columns,
    read_rows,
)
from .delta import Tables
from .draft import Draft
from .kept import KeptRows
from .places import Place


class Lake(Tables):
    """The tables of one place, with their rows and day blocks."""

    def __init__(self, where: Path | Place) -> None:
        """where: a folder, or a place elsewhere. InputError where Delta Lake cannot name the files of it."""
        super().__init__(where)
        self._rows = KeptRows()

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

    def passing_row(self, table: str, day: date, shard: int, account: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """As `row`, of a day that is asked for in passing: nothing of it is kept, and nothing that is kept goes."""
        paths = self.all_files(table).get((day, shard), ()) if self._has(table) else ()
        return next((found for path in paths if (found := self._rows.passing(path, "account", account, columns)) is not None), None)

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

    def read_meters(
        self, table: str, day: date, shard: int, channel: str, meters: npt.NDArray[np.int64], slots: int
    ) -> tuple[Int32, UInt32]:
        """Values and quality bits of some meters' day, [meter, slot] in the order of `meters` (row numbers, each once), by whole columns; all MISSING
        for those that (day, shard) does not have. DataError where the day has another number of slots there."""
        values = np.full((meters.size, slots), MISSING, np.int32)
        lacking = np.ones(meters.size, bool)
        for path in self.files(table, day).get(shard, []):
            file = BlockFile(path)
            there = lacking & (meters < file.meters(channel))
            if there.any():
                if len(file.slots) != slots:
                    raise DataError(
                        f"{path} has {len(file.slots)} slots, {day} has {slots} here; close that day again or set the zone right"
                    )
                values[there] = file.values_among(channel, meters[there])
                lacking &= ~there
        quality = self._marks_among(f"{table}_quality", day, shard, channel, meters, slots)
        quality[lacking] = Quality.MISSING
        return values, quality

    def _marks_among(self, marked: str, day: date, shard: int, channel: str, meters: npt.NDArray[np.int64], slots: int) -> UInt32:
        quality = np.zeros((meters.size, slots), np.uint32)
        if meters.size and self.place.has_table(marked) and self.files(marked, day).get(shard):
            marks = self.read(marked, day, shard, columns=MARKS, needed=MARKS)
            marks = marks.filter(pc.equal(marks["channel"], channel))
            order = np.argsort(meters)
            whose = marks["meter"].to_numpy()
            place = order[np.minimum(np.searchsorted(meters, whose, sorter=order), meters.size - 1)]
            own = meters[place] == whose
            quality[place[own], marks["slot"].to_numpy()[own]] = marks["quality"].to_numpy()[own].astype(np.uint32)
        return quality

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
