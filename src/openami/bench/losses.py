"""`losses`: two stages of the energy audit. First the account of 10 million meters' day, every transformer and feeder with its interval, from
readings in memory; and what it would take DuckDB to add up the same energies by transformer, without any interval.

64 consumers a transformer, 32 transformers a feeder; each shard's network meters stand after its consumers. `account` is `totals`, `usual` and
`account` of `openami.losses`; shards run in two threads, and at most four different ones are kept in memory.

Then suspects: features, probability and worth of a tenth as many meters over 90 days of half hours, 64 transformers at a time; two different chunks
are made and used in turn, as a shard's would be read from the history. `cpu_s` beside the wall clock: on a busy machine only that says much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np

from ..losses.account import Account, account
from ..losses.features import Watched, features
from ..losses.metered import Errors, measured, totals, usual
from ..losses.network import Level, Tree, children_first
from ..losses.suspects import Model, worth
from ..readings import MISSING, DayBlock, Int32, UInt32
from . import Line, beside, line, median_seconds, memory
from .days import bench_day
from .rollup import CONSUMERS, TRANSFORMERS
from .shards import validated_shards

METERS = 10_000_000
SUSPECT_CHUNK, SUSPECT_DAYS, SLOTS = 4_096, 90, 48


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    made: dict[int, tuple[Tree, Int32, UInt32]] = {}
    blocks = validated_shards(meters)
    for block in blocks:
        if id(block.values) not in made:
            made[id(block.values)] = with_network(block)
    shards = [made[id(block.values)] for block in blocks]
    del blocks
    day_account(*shards[0])
    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        accounts = list(pool.map(lambda shard: _told(day_account(*shard)), shards))
    took_s, cpu_s = time.perf_counter() - start, time.process_time() - used
    own = line("losses", "meters_per_s", meters / took_s, "meters/s", meters, cpu_s=cpu_s, nodes=sum(accounts))
    yield own
    yield memory("losses", meters)
    yield from run_suspects(max(meters // 10, 1), threads)
    if peers and find_spec("duckdb"):
        yield from _duckdb(own, shards[0])


def with_network(block: DayBlock) -> tuple[Tree, Int32, UInt32]:
    """A shard's day with transformers' and feeders' own meters put behind the consumers' (4 % and 6 % more than what is below them)."""
    homes = block.values.shape[1]
    dts = -(-homes // CONSUMERS)
    feeders = -(-dts // TRANSFORMERS)
    below = np.add.reduceat(np.maximum(block.values, 0), np.arange(0, homes, CONSUMERS), axis=1, dtype=np.int64)
    into = (below * 1.04).astype(np.int32)
    heads = (np.add.reduceat(into, np.arange(0, dts, TRANSFORMERS), axis=1) * 1.02).astype(np.int32)
    values = np.ascontiguousarray(np.concatenate([block.values, into, heads], axis=1))
    quality = np.zeros(values.shape, np.uint32)
    quality[:, :homes] = block.quality
    parent = np.concatenate([np.arange(dts) // TRANSFORMERS + dts, np.full(feeders, -1)]).astype(np.int32)
    tree = Tree(
        names=(*(f"T{k}" for k in range(dts)), *(f"F{k}" for k in range(feeders))),
        levels=(Level.TRANSFORMER,) * dts + (Level.FEEDER,) * feeders,
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.arange(homes, homes + dts + feeders, dtype=np.int32),
        rating_kva=np.full(dts + feeders, 100.0),
        meter_node=np.concatenate([np.arange(homes) // CONSUMERS, np.full(dts + feeders, -1)]).astype(np.int32),
        maybe_meter=np.zeros(0, np.int32),
        maybe_node=np.zeros(0, np.int32),
        maybe_share=np.zeros(0),
    )
    return tree, values, quality


def day_account(tree: Tree, values: Int32, quality: UInt32) -> Account:
    consumers = np.flatnonzero(tree.meter_node >= 0)
    profile = usual(values, consumers)
    errors = measured(Errors.alike(values.shape[1], clock_s=60.0, step_wh=1.0, wrong_node=0.01), values, consumers, profile, 1800)
    return account(tree, totals(values, quality, len(values), profile), errors, 1800)


def _told(reckoned: Account) -> int:
    return int(reckoned.known.sum())


def _duckdb(own: Line, shard: tuple[Tree, Int32, UInt32]) -> Iterator[Line]:
    """The same shard as an Arrow table in memory: sum of each transformer's consumers, joined with its own meter."""
    import duckdb
    import pyarrow as pa

    tree, values, _ = shard
    homes = int((tree.meter_node >= 0).sum())
    slots = {f"s{k:02d}": pa.array(row, mask=row == np.iinfo(np.int32).min) for k, row in enumerate(values)}
    table = pa.table({"meter": np.arange(values.shape[1], dtype=np.int32), **slots})
    day = " + ".join(f"coalesce({name}, 0)" for name in slots)
    query = (
        f'with m as (select meter, {day} as wh from "readings"), o as (select meter // {CONSUMERS} as dt, sum(wh) as wh from m '  # noqa: S608
        f"where meter < {homes} group by all) select sum(m.wh - o.wh) from m join o on m.meter = o.dt + {homes}"
    )
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    connection.register("readings", table)
    reckoned = day_account(*shard)
    expected = int(reckoned.loss_wh[0, tree.at(Level.TRANSFORMER)].sum())
    if (found := int(connection.execute(query).fetchall()[0][0])) != expected:
        raise RuntimeError(f"duckdb finds a loss of {found} Wh, OpenAMI {expected}: the comparison is not of the same work")
    seconds = median_seconds(lambda: connection.execute(query).fetchall(), 3)
    yield from beside(own, f"duckdb {duckdb.__version__}", homes / seconds, mode="sums only, no interval")


def run_suspects(meters: int, threads: int = 2) -> Iterator[Line]:
    """Features and worth of `meters` meters over 90 days, in chunks of whole transformers."""
    size = min(SUSPECT_CHUNK, -(-meters // CONSUMERS) * CONSUMERS)
    chunks = [watched_chunk(size, seed) for seed in range(2)]
    profile = np.maximum(chunks[0].wh[:SLOTS].astype(np.float64).mean(axis=1), 0)
    count = -(-meters // size)
    model = Model.cold()
    worth(model, features(watched_chunk(CONSUMERS, 9), profile))
    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        told = list(pool.map(lambda k: float(worth(model, features(chunks[k % 2], profile))[1].max()), range(count)))
    took_s, cpu_s = time.perf_counter() - start, time.process_time() - used
    done = count * size
    yield line("losses", "suspects_per_s", done / took_s, "meters/s", done, cpu_s=cpu_s, days=SUSPECT_DAYS, most_wh=max(told))
    yield {**memory("losses", done), "mode": "suspects"}


def watched_chunk(meters: int, seed: int) -> Watched:
    """Half hours of whole transformers over 90 days: one benchmark day's homes, each day louder or quieter, 2 % missing."""
    rng = np.random.default_rng(seed)
    day = np.maximum(bench_day(meters, seed).wh, 0)
    wh = np.empty((SUSPECT_DAYS * SLOTS, meters), np.int32)
    for each in range(SUSPECT_DAYS):
        wh[each * SLOTS : (each + 1) * SLOTS] = day * rng.gamma(16, 1 / 16, day.shape).astype(np.float32)
    node = (np.arange(meters) // CONSUMERS).astype(np.int32)
    into = np.add.reduceat(wh, np.arange(0, meters, CONSUMERS), axis=1, dtype=np.int64) * 104 // 100
    wh[rng.random(wh.shape, np.float32) < np.float32(0.02)] = MISSING
    return Watched(wh, node, into, SLOTS)
