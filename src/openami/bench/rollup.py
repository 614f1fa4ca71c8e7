"""`rollup`: from validated Parquet to demand per slot of every transformer, feeder, division and the company, with peak, load factor and
completeness. 64 consumers a transformer, 32 transformers a feeder, 16 feeders a division.

The peers read the same files and stop at demand per slot and transformer with its peak; the sum of the peaks must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..losses.rollup import Rollup, rollup_columns, together
from ..readings import IMPORT_WH
from ..store.blocks import BlockFile, slot_names
from . import Line, beside, is_there, line, median_seconds, memory
from .shards import SHARD_METERS, empty_lake, fill, validated_shards

METERS = 1_048_576
CONSUMERS, TRANSFORMERS, FEEDERS = 64, 32, 16


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    blocks = validated_shards(meters)
    readings = sum(block.values.size for block in blocks)
    with empty_lake() as lake:
        files = fill(lake, blocks)
        del blocks
        with ThreadPoolExecutor(threads) as pool:
            levels = whole_company(list(pool.map(roll_up_file, files)))
            took_s = median_seconds(lambda: whole_company(list(pool.map(roll_up_file, files))))
        own = line("rollup", "readings_per_s", readings / took_s, "readings/s", readings, mode="four levels")
        yield own
        yield memory("rollup", readings)
        if peers:
            yield from _peers(own, files, sum(int(level.peak_wh.sum()) for level in levels[0]))


def roll_up_file(path: str | Path) -> Rollup:
    """The transformers of a shard."""
    parts = []
    file = BlockFile(path)
    nodes = -(-file.meters(IMPORT_WH.name) // CONSUMERS)
    for rows in file.parts(IMPORT_WH.name):
        node = np.arange(rows.first, rows.first + rows.meters, dtype=np.int32) // CONSUMERS
        parts.append(rollup_columns(rows.columns, node, nodes))
    return together(parts)


def whole_company(shards: list[Rollup]) -> tuple[list[Rollup], list[Rollup], list[Rollup], Rollup]:
    """Transformers and feeders of each shard, its divisions, and the company, with what is told of each node."""
    feeders = [_over(shard, TRANSFORMERS) for shard in shards]
    divisions = [_over(feeder, FEEDERS) for feeder in feeders]
    company = together([_over(division, division.meters.size) for division in divisions])
    for level in (*shards, *feeders, *divisions, company):
        _ = level.peak_wh, level.peak_slot, level.load_factor, level.completeness
    return shards, feeders, divisions, company


def _over(level: Rollup, each: int) -> Rollup:
    parent = np.arange(level.meters.size) // each
    return level.over(parent, int(parent[-1]) + 1)


def _peers(own: Line, files: list[str], peaks_wh: int) -> Iterator[Line]:
    for name, way in (("duckdb", _duckdb), ("polars", _polars), ("chdb", _chdb)):
        if is_there(name):
            version, job = way(files)
            if (found := job()) != peaks_wh:
                raise RuntimeError(f"{name} finds peaks of {found} Wh, OpenAMI {peaks_wh}: the comparison is not of the same work")
            yield from beside(own, f"{name} {version}", own["n"] / median_seconds(job, 3), mode="transformers only")


def _duckdb(files: list[str]) -> tuple[str, Callable[[], int]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads = 2")
    names = slot_names(48)
    sums = ", ".join(f"sum({n})::bigint as {n}" for n in names)
    query = (
        f"with d as (select filename, meter // {CONSUMERS} as dt, {sums} from read_parquet({files}, filename = true) group by all) "  # noqa: S608
        f"select sum(greatest({', '.join(names)})) from d"
    )
    return duckdb.__version__, lambda: int(connection.execute(query).fetchall()[0][0])


def _polars(files: list[str]) -> tuple[str, Callable[[], int]]:
    import polars as pl

    names = slot_names(48)
    plan = (
        pl.scan_parquet(files, hive_partitioning=False, include_file_paths="file")
        .group_by("file", pl.col("meter") // CONSUMERS)
        .agg(pl.col(names).cast(pl.Int64).sum())
        .select(pl.max_horizontal(names).sum())
    )
    return pl.__version__, lambda: int(plan.collect().item())


def _chdb(files: list[str]) -> tuple[str, Callable[[], int]]:
    import chdb
    from chdb import session

    own = session.Session()
    slots = ", ".join(f"coalesce({name}, 0)" for name in slot_names(48))
    own.query("create table readings (dt Int32, wh Array(Int32)) engine = MergeTree order by dt")
    for shard, path in enumerate(files):
        first = shard * -(-SHARD_METERS // CONSUMERS)
        own.query(f"insert into readings select {first} + intDiv(meter, {CONSUMERS}), [{slots}] from file('{path}', Parquet)")  # noqa: S608
    query = "select sum(peak) from (select arrayMax(sumForEach(wh)) as peak from readings group by dt) settings max_threads = 2"
    return chdb.__version__, lambda: int(str(own.query(query, "CSV")).strip())
