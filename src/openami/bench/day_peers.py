"""What a user would reach for instead of the close's first third: raw readings read from Parquet, checked, estimated, scaled to the register,
written to Parquet and synced, by DuckDB in SQL and by Polars.

The peers get the easy part of it: four checks and one estimate (those of the bench `vee`), long rows with like day, limit and register beside each
reading, no quality, no money, no losses, no commit. `times_as_fast` is our whole close against that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from ..vee import RuleSet, load_rules
from . import Line, beside, is_there, median_seconds
from .days import bench_day
from .vee import FILLED_SQL, PEER_CHECKS, VALIDATED_SQL, filled_frame, long_rows, sql_values

PEER_METERS = 100_000


def beside_the_close(own: Line, meters: int) -> Iterator[Line]:
    """Lines of the peers beside `own`, of at most `PEER_METERS` meters."""
    rules = load_rules().on(date(2026, 1, 1), "domestic")
    rows = long_rows(bench_day(min(meters, PEER_METERS), 0))
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        raw, validated = Path(folder) / "raw.parquet", Path(folder) / "validated.parquet"
        pq.write_table(rows, raw, compression="zstd")
        for name, way in (("duckdb", _duckdb), ("polars", _polars)):
            if is_there(name):
                version, job = way(raw, validated, rules)
                took_s = median_seconds(lambda job=job: _synced(job, validated), 3)  # type: ignore[misc]
                if pq.read_metadata(validated).num_rows != len(rows):
                    raise RuntimeError(f"{name} wrote {pq.read_metadata(validated).num_rows} readings of {len(rows)}")
                peer = f"{name} {version}"
                yield from beside(own, peer, len(rows) / took_s, n=len(rows), mode=f"VEE from file to file only: {PEER_CHECKS}")


def _synced(write: Callable[[], object], path: Path) -> None:
    write()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _duckdb(raw: Path, validated: Path, rules: RuleSet) -> tuple[str, Callable[[], object]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads = 2")
    connection.execute(f"create view readings as select * from read_parquet('{raw}')")  # noqa: S608
    asked = f"{FILLED_SQL} select meter, slot, {VALIDATED_SQL} as wh from filled"  # noqa: S608
    for name, value in sql_values(rules).items():  # COPY takes no parameters
        asked = asked.replace(f"${name}", str(value))
    return duckdb.__version__, lambda: connection.execute(f"copy ({asked}) to '{validated}' (format parquet, compression zstd)")


def _polars(raw: Path, validated: Path, rules: RuleSet) -> tuple[str, Callable[[], object]]:
    import polars as pl

    plan = filled_frame(pl.scan_parquet(raw), rules).select("meter", "slot", "validated")
    return pl.__version__, lambda: plan.collect().write_parquet(validated, compression="zstd")
