"""`day`: the whole close of a day, from raw Parquet to synced validated readings, charges, statements, notices and balances, by the product's own
`close_all`; at the size asked for and, without one, at one and ten million meters. Memory is the process's peak.

The day before is closed too, so balances, energy to date and like days go on from it. The registry is read as a deployment reads it on any day but
its first (`registered.py`): 64 consumers and a meter on each transformer, a meter on each feeder of 32 transformers, one tariff with time of use.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..day.close import close_all
from ..day.roll import Roll
from ..day.site import Site
from ..readings import IMPORT_WH, MISSING, DayBlock, Int32, Quality
from ..registry import EPOCH, ShardIndex
from ..store.deployment import Deployment, Folder
from ..store.lake import Lake
from ..store.rows import Rows
from . import Line, line, memory
from .day_peers import beside_the_close
from .days import bench_day
from .registered import CHANGED, change, read_anew, register
from .shards import SHARD_METERS

SIZES = (1_000_000, 10_000_000)
FIRST, SECOND = date(2025, 12, 30), date(2025, 12, 31)
CONSUMERS, TRANSFORMERS = 64, 32
FEEDER_METERS = 1 + TRANSFORMERS * (1 + CONSUMERS)
TARIFF = "BR-DS2-TOU"
KINDS = 4
REGISTRY = f"kept, one meter in {CHANGED:,} changed since"


def run(meters: int | None = None, threads: int = 2) -> Iterator[Line]:
    """`meters`, or both sizes of the claim, and what others do of it beside the last."""
    for size in SIZES if meters is None else (meters,):
        lines = list(close_last("day", size, threads, 2))
        yield from lines
    yield from beside_the_close(lines[0], size)


def close_last(bench: str, meters: int, threads: int, days: int) -> Iterator[Line]:
    """Lines about closing the last of so many days; those before it are closed first, and are not in the figure. `cpu_s`: of all threads."""
    sizes = even_sizes(meters, threads)
    shards = list(range(len(sizes)))
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        made = bench_site(Folder(Path(folder)), sizes, days)
        site = Site(made.folder, made.deployment, made.rows, made.lake)  # whose registry is the product's
        register(site, [_registry(size) for size in sizes])
        *before, last = site.deployment.open_days
        close_all(site, threads=threads, days=before, shards=shards)
        change(site, sizes)
        start, start_cpu = time.perf_counter(), time.process_time()
        close_all(site, threads=threads, days=[last], shards=shards)
        took_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
        readings = 48 * meters
        yield line(bench, "readings_per_s", readings / took_s, "readings/s", readings, meters=meters, registry=REGISTRY)
        yield line(bench, "seconds_per_million_meters", took_s / meters * 1e6, "s", readings, meters=meters)
        yield line(bench, "cpu_s", cpu_s, "s", readings, meters=meters)
        size = sum(path.stat().st_size for path in (Path(folder) / "lake").glob(f"*/day={last}/*/*.parquet"))
        yield line(bench, "bytes_per_meter", size / meters, "bytes", readings, meters=meters, of="all tables of the day, raw included")
        yield {**memory(bench, readings), "meters": meters}
        yield from read_anew(bench, site, meters)


def even_sizes(meters: int, threads: int) -> list[int]:
    """`meters` in shards of one size, as near as may be and as large as a shard is meant to be, as many for each thread."""
    count = threads * -(-meters // (threads * SHARD_METERS))
    return [meters * (k + 1) // count - meters * k // count for k in range(count)]


class BenchSite(Site):
    """A site whose registry is arrays from the start; everything else is the product's. Account numbers repeat from shard to shard."""

    sizes: list[int]

    def registry_of(self, shard: int, day: date) -> tuple[ShardIndex, Roll]:
        index, roll = _registry(self.sizes[shard])
        return replace(index, shard=shard), replace(roll)  # a roll of its own, as from the registry


def bench_site(folder: Folder, sizes: list[int], days: int = 2) -> BenchSite:
    """A folder with raw readings of so many days, the later ones alike."""
    deployment = Deployment("Bench", "Asia/Kolkata", 30, FIRST, days, "BR", "4f41490000000001")
    folder.save(deployment)
    site = BenchSite(folder, deployment, Rows(folder.rows, create=True), Lake(folder.lake))
    site.sizes = sizes
    for day in deployment.open_days:
        with site.lake.draft(day) as draft:
            for shard, size in enumerate(sizes):
                values = _raw(size, shard % KINDS, day > FIRST)
                quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
                draft.write_blocks("raw", [DayBlock(day, shard, IMPORT_WH, values, quality)])
            draft.commit()
        _raw.cache_clear()
    return site


@lru_cache(maxsize=KINDS + 1)
def _raw(meters: int, kind: int, later: bool) -> Int32:
    """A shard's readings of the day or of the day before; a transformer's meter reads what hangs below it and 6 % more, a feeder's 10 %."""
    day = bench_day(meters, kind)
    values = day.wh if later else day.like_wh.copy()
    index, _ = _registry(meters)
    below = np.where((values < 0) | ~index.is_consumer, 0, values).astype(np.int64)
    ends = np.zeros((48, meters + 1), np.int64)
    np.cumsum(below, axis=1, out=ends[:, 1:])
    for own, span, share in ((index.is_transformer, 1 + CONSUMERS, 106), (index.is_feeder, FEEDER_METERS, 110)):
        at = np.flatnonzero(own)
        total = ends[:, np.minimum(at + span, meters)] - ends[:, at]
        values[:, at] = np.minimum(total * share // 100, 2**31 - 1)
    return values


@lru_cache(maxsize=2)
def _registry(meters: int) -> tuple[ShardIndex, Roll]:
    """A feeder's meter, then its transformers', each before its consumers'."""
    place = np.arange(meters)
    feeder, rest = np.divmod(place, FEEDER_METERS)
    local, seat = np.divmod(rest - 1, 1 + CONSUMERS)
    is_feeder, is_transformer = rest == 0, (rest > 0) & (seat == 0)
    is_consumer = ~is_feeder & ~is_transformer
    transformer = np.where(is_feeder, -1, feeder * TRANSFORMERS + local).astype(np.int32)
    count = int(transformer.max()) + 1
    index = ShardIndex(
        shard=0,
        serials=("",) * meters,
        usage_points=("",) * meters,
        feeders=tuple(f"F{k}" for k in range(int(feeder[-1]) + 1)),
        transformers=tuple(f"T{k}" for k in range(count)),
        transformer=transformer,
        feeder=feeder.astype(np.int32),
        transformer_feeder=(np.arange(count) // TRANSFORMERS).astype(np.int32),
        is_consumer=is_consumer,
        is_transformer=is_transformer,
        is_feeder=is_feeder,
        connected_load_w=np.where(is_consumer, 15_000, 0),
    )
    meter = np.flatnonzero(is_consumer)
    same = np.full(meter.size, (date(2025, 1, 1) - EPOCH).days, np.int32)
    roll = Roll(
        numbers=pa.array([f"{k:09d}" for k in range(meter.size)]),
        meter=meter,
        load_w=index.connected_load_w[meter],
        prepaid=np.ones(meter.size, np.bool_),
        tariffs=(TARIFF,),
        tariff=np.zeros(meter.size, np.int32),
        since=same,
        mode_since=same,
        opening_paise=np.full(meter.size, 500_000, np.int64),
    )
    return index, roll
