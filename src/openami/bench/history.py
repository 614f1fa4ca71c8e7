"""`history`: one meter's year of one channel, asked of a store of two million meter-days, warm (500 questions before,
what the rebuild wrote is on the disk): p50 and p99 over 1,000 random meters.

The peers ask the same of the same year: the day blocks themselves (365 files) and DuckDB over the history's own files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from importlib.util import find_spec

import numpy as np

from ..readings import IMPORT_WH, DayBlock, Int32
from ..store.blocks import BlockFile
from ..store.history import History
from ..store.lake import Lake
from . import Line, line, memory
from .shards import empty_lake, validated_shards

METERS = 5_500
FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
DAYS = (LAST - FIRST).days + 1


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    days = validated_shards(8 * meters, 8)
    with empty_lake() as lake:
        for k in range(DAYS):
            kind = days[k % len(days)]
            shift = np.random.default_rng(k).integers(-3, 4, kind.values.shape).astype(np.int32)
            values = np.where(kind.values > 10, kind.values + shift, kind.values)
            lake.write_blocks("validated", [DayBlock(FIRST + timedelta(days=k), 0, IMPORT_WH, values, kind.quality)])
        history = History(lake)
        start = time.perf_counter()
        history.rebuild(threads=threads)
        took_s = time.perf_counter() - start
        os.sync()  # the disk is still busy with what was just written, and that is not what is asked
        readings, folder = 48 * meters * DAYS, lake.root / "history"
        yield line("history", "rebuilt_readings_per_s", readings / took_s, "readings/s", readings)
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        yield line("history", "bytes_per_reading", size / readings, "bytes", readings)
        for mode, quality in (("values", False), ("values and quality", True)):
            own = _latencies(lambda m, q=quality: history.meter(IMPORT_WH.name, 0, m, FIRST, LAST, quality=q).values, meters, 1000)  # type: ignore[misc]
            yield from _lines(own, meters * DAYS, mode=mode)
        yield memory("history", meters * DAYS)
        if peers:
            yield from _peers(lake, meters)


def _latencies(ask: Callable[[int], Int32], meters: int, count: int) -> list[float]:
    """Seconds of each question, sorted; every answer is a whole year."""
    times = []
    for k, meter in enumerate(np.random.default_rng(1).integers(0, meters, count + count // 2 + 1).tolist()):
        start = time.perf_counter()
        found = ask(meter)
        took_s = time.perf_counter() - start
        if found.shape != (DAYS, 48):
            raise RuntimeError(f"a year of meter {meter} came as {found.shape}, not as {(DAYS, 48)}")
        if k > count // 2:
            times.append(took_s)
    return sorted(times)


def _lines(times: list[float], meter_days: int, **more: str) -> Iterator[Line]:
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        yield line("history", name, times[int(share * (len(times) - 1))], "s", meter_days, **more)


def _peers(lake: Lake, meters: int) -> Iterator[Line]:
    files = [path for _, paths in sorted(lake.all_files("validated").items()) for path in paths]

    def from_blocks(meter: int) -> Int32:
        return np.stack([next(BlockFile(path).parts(IMPORT_WH.name)).column_of(meter) for path in files])

    yield from _lines(_latencies(from_blocks, meters, 3), meters * DAYS, peer="the day blocks, file by file")
    if find_spec("duckdb"):
        import duckdb

        connection = duckdb.connect()
        parts = f"{lake.root}/history/channel={IMPORT_WH.name}/*/shard=0/part=000.parquet"
        connection.execute("set parquet_metadata_cache = true")
        query = f"select values from read_parquet('{parts}') where meter = ? order by day"  # noqa: S608

        def from_sql(meter: int) -> Int32:
            return np.array([row[0] for row in connection.execute(query, [meter]).fetchall()])

        yield from _lines(_latencies(from_sql, meters, 50), meters * DAYS, peer=f"duckdb {duckdb.__version__}")
