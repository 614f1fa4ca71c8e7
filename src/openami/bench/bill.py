"""`bill`: from validated Parquet to a bill with time of use and slabs (OD-DOM: four slabs, three periods, fixed charge, rebate, duty).

The peers read the same files and make the energy and the time-of-use line of the same tariff (chDB: from arrays of 48, its best layout), each
line rounded to the paisa; they must find the same sums. The other lines, and what is refused for lack of data, is ours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..billing.bill import Bill, bill
from ..billing.charge import Segment, segment
from ..billing.tariff import load_tariffs
from ..billing.tou import fold_columns, tou_index
from ..readings import IMPORT_WH, Calendar, Int64
from ..store.blocks import BlockFile, slot_names
from . import Line, beside, is_there, line, median_seconds, memory
from .shards import DAY, empty_lake, fill, validated_shards

METERS = 1_048_576
TARIFF = "OD-DOM"
LOAD_W = 12_000  # above the load from which time of use holds


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    blocks = validated_shards(meters)
    readings = sum(block.values.size for block in blocks)
    with empty_lake() as lake:
        files = fill(lake, blocks)
        del blocks
        part = segment(load_tariffs(), TARIFF, DAY)
        tou = tou_index(part.tariff, Calendar(), DAY)
        with ThreadPoolExecutor(threads) as pool:
            bills = list(pool.map(lambda path: bill_file(path, part, tou), files))
            totals = tuple(sum(int(b.line(name).sum()) for each in bills for b in each) for name in ("energy", "time_of_use"))
            took_s = median_seconds(lambda: list(pool.map(lambda path: bill_file(path, part, tou), files)))
        own = line("bill", "readings_per_s", readings / took_s, "readings/s", readings)
        yield own
        yield memory("bill", readings)
        if peers:
            yield from _peers(own, files, tou, totals)


def bill_file(path: str | Path, part: Segment, tou: Int64) -> list[Bill]:
    """Bills of a shard's file, row group by row group."""
    found = []
    for rows in BlockFile(path).parts(IMPORT_WH.name):
        energy, _ = fold_columns(rows.columns, tou, len(part.tariff.periods))
        load = np.full(rows.meters, LOAD_W, np.int64)
        prepaid = np.ones(rows.meters, np.bool_)
        found.append(bill(part.tariff, energy, 1, part.days_in_period, load, prepaid, span_days=part.span_days))
    return found


def _peers(own: Line, files: list[str], tou: Int64, totals: tuple[int, ...]) -> Iterator[Line]:
    for name, way in (("duckdb", _duckdb), ("polars", _polars), ("chdb", _chdb)):
        if is_there(name):
            version, job = way(files, tou)
            if (found := tuple(int(total) for total in job())) != totals:
                raise RuntimeError(f"{name} bills {found} paise, OpenAMI {totals}: the comparison is not of the same work")
            yield from beside(own, f"{name} {version}", own["n"] / median_seconds(job, 3))


def _sql(wh: str, periods: list[str], least: str = "least", greatest: str = "greatest") -> tuple[str, str]:
    """The two lines in millionths of a paisa; energies are SQL expressions in Wh."""
    slabs = [(0, 50_000, 290_000), (50_000, 200_000, 470_000), (200_000, 400_000, 570_000), (400_000, 2**40, 610_000)]
    energy = " + ".join(f"({greatest}({least}({wh}, {high}), {low}) - {low}) * {rate}" for low, high, rate in slabs)
    return energy, f"{periods[1]} * -20000 + {periods[2]} * 30000"


def _duckdb(files: list[str], tou: Int64) -> tuple[str, Callable[[], tuple[int, ...]]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads = 2")
    names = slot_names(tou.size)
    sums = [" + ".join(f"coalesce({names[k]}, 0)::bigint" for k in np.flatnonzero(tou == p)) for p in range(3)]
    energy, time_of_use = _sql("p0 + p1 + p2", ["p0", "p1", "p2"])
    rounded = "sum(sign({0}) * ((abs({0}) + 500000) // 1000000))"
    query = (
        f"with e as (select {', '.join(f'{s} as p{p}' for p, s in enumerate(sums))} from read_parquet({files})), "  # noqa: S608
        f"l as (select {energy} as energy, {time_of_use} as tou from e) select {rounded.format('energy')}, {rounded.format('tou')} from l"
    )
    return duckdb.__version__, lambda: connection.execute(query).fetchall()[0]


def _polars(files: list[str], tou: Int64) -> tuple[str, Callable[[], tuple[int, ...]]]:
    import polars as pl

    def wh(period: int) -> Any:
        names = slot_names(tou.size)
        return pl.sum_horizontal(pl.col(names[int(k)]).cast(pl.Int64) for k in np.flatnonzero(tou == period))

    def rounded(micro: Any) -> Any:
        return (micro.sign() * ((micro.abs() + 500_000) // 1_000_000)).sum()

    total = pl.col("p0") + pl.col("p1") + pl.col("p2")
    slabs = [(0, 50_000, 290_000), (50_000, 200_000, 470_000), (200_000, 400_000, 570_000), (400_000, 2**40, 610_000)]
    energy = sum((total.clip(low, high) - low) * rate for low, high, rate in slabs)
    plan = (
        pl.scan_parquet(files, hive_partitioning=False)
        .select(p0=wh(0), p1=wh(1), p2=wh(2))
        .select(energy=rounded(energy), tou=rounded(pl.col("p1") * -20_000 + pl.col("p2") * 30_000))
    )
    return pl.__version__, lambda: plan.collect().row(0)


def _chdb(files: list[str], tou: Int64) -> tuple[str, Callable[[], tuple[int, ...]]]:
    import chdb
    from chdb import session

    own = session.Session()
    slots = ", ".join(f"coalesce({name}, 0)" for name in slot_names(tou.size))
    own.query("create table readings (wh Array(Int32)) engine = MergeTree order by tuple()")
    for path in files:
        own.query(f"insert into readings select [{slots}] from file('{path}', Parquet)")  # noqa: S608
    runs = [np.flatnonzero(tou == p) + 1 for p in range(3)]
    sums = [" + ".join(f"arraySum(arraySlice(wh, {a}, {b - a + 1}))" for a, b in _spans(own_slots)) for own_slots in runs]
    energy, time_of_use = _sql("(p0 + p1 + p2)", ["p0", "p1", "p2"])
    rounded = "sum(sign({0}) * intDiv(abs({0}) + 500000, 1000000))"
    query = (
        f"with e as (select {', '.join(f'{s} as p{p}' for p, s in enumerate(sums))} from readings), "  # noqa: S608
        f"l as (select {energy} as energy, {time_of_use} as tou from e) select {rounded.format('energy')}, {rounded.format('tou')} "
        "from l settings max_threads = 2"
    )
    return chdb.__version__, lambda: tuple(int(x) for x in str(own.query(query, "CSV")).strip().split(","))


def _spans(slots: Int64) -> list[tuple[int, int]]:
    """Ascending numbers as runs (first, last)."""
    cuts = np.flatnonzero(np.diff(slots) != 1)
    firsts, lasts = [slots[0], *slots[cuts + 1]], [*slots[cuts], slots[-1]]
    return [(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True)]
