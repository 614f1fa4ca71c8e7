"""The audit's findings as files for others: Parquet or CSV, a file a table, each row with its day and shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..errors import InputError
from ..store.lake import Lake

FORMATS = ("parquet", "csv")


def export(lake: Lake, days: Sequence[date], tables: Sequence[str], folder: Path, form: str) -> Iterator[tuple[Path, int]]:
    """Write each table's rows of `days` into `folder`, as `<table>.<form>`; gives file and rows. A table without any row of these days is passed
    over. InputError where there is nothing at all, or the folder cannot be written."""
    wrote = False
    for table in tables:
        if not lake.place.has_table(table):
            continue
        parts = [_dated(lake.read(table, day, shard), day, shard) for day, shard in sorted(lake.all_files(table)) if day in days]
        if not parts:
            continue
        rows = pa.concat_tables(parts, promote_options="default")
        path = folder / f"{table}.{form}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if form == "csv":
                pyarrow.csv.write_csv(rows, path)
            else:
                pyarrow.parquet.write_table(rows, path, compression="zstd")
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror or error}); name another folder with --out") from error
        wrote = True
        yield path, len(rows)
    if not wrote:
        raise InputError(f"there are no findings of {days[0]}; write them first: openami losses record")


def _dated(rows: pa.Table, day: date, shard: int) -> pa.Table:
    rows = rows.add_column(0, "shard", pa.array([shard] * len(rows), pa.int32()))
    return rows.add_column(0, "day", pa.array([day] * len(rows), pa.date32()))
