"""`vee`: the whole rule set in memory, every check given what it needs, estimates scaled to the register.

The peers do a part of it, the one that SQL and data frames say well (missing, plausibility, spike, frozen; like day scaled to the register),
on long rows in memory, and must find the same number of readings to estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from ..readings import MISSING, Quality
from ..vee import MeterLimits, RuleSet, VeeResult, load_rules, meter_limits
from ..vee import run as vee_run
from . import Line, beside, is_there, line, median_seconds, memory
from .days import BenchDay, bench_day

METERS = 1_000_000
SHARD_METERS = 250_000
PEER_METERS = 50_000
PEER_CHECKS = "missing, plausibility, spike, frozen; like day scaled to the register"


def run(meters: int, threads: int = 2, peers: bool = True) -> Iterator[Line]:
    """Lines of the bench; `meters` in shards of 250,000, `threads` of them at a time."""
    rules = load_rules().on(date(2026, 1, 1), "domestic")
    sizes = [min(SHARD_METERS, meters - first) for first in range(0, meters, SHARD_METERS)]
    shards = [bench_day(size, seed) for seed, size in enumerate(sizes)]
    if len(shards) < threads:
        shards = [bench_day(-(-meters // threads), seed) for seed in range(threads)]
    limits = [meter_limits(rules, day.load_w, 30) for day in shards]
    readings = sum(day.wh.size for day in shards)
    with ThreadPoolExecutor(threads) as pool:
        took_s = median_seconds(lambda: list(pool.map(whole_rule_set, shards, limits)))
        yield line("vee", "readings_per_s", readings / took_s, "readings/s", readings, mode="every check")
        took_s = median_seconds(lambda: list(pool.map(usual_inputs, shards, limits)))
        own = line("vee", "readings_per_s", readings / took_s, "readings/s", readings, mode="import readings, registers and like days only")
        yield own
    yield memory("vee", readings)
    if peers:
        yield from _peers(own, min(meters, PEER_METERS), rules)


def whole_rule_set(day: BenchDay, limits: MeterLimits) -> VeeResult:
    """VEE of a shard with everything that it can be told."""
    return vee_run(
        day.wh,
        limits,
        conflict=day.conflict,
        outage=day.outage,
        inactive=day.inactive,
        voltage_cv=day.voltage_cv,
        export_wh=day.export_wh,
        drift_s=day.drift_s,
        exchange_slot=day.exchange_slot,
        like_day=day.like_wh,
        register_wh=day.register_wh,
        usual_wh=day.usual_wh,
    )


def usual_inputs(day: BenchDay, limits: MeterLimits) -> VeeResult:
    """VEE of a shard with what a head-end always has."""
    return vee_run(day.wh, limits, like_day=day.like_wh, register_wh=day.register_wh, usual_wh=day.usual_wh)


def _peers(own: Line, meters: int, rules: RuleSet) -> Iterator[Line]:
    day = bench_day(meters, 0)
    limits = meter_limits(rules, day.load_w, 30)
    ours = vee_run(day.wh, limits)
    bad = int(((ours.quality & np.uint32(Quality.MISSING | Quality.PLAUSIBILITY | Quality.FROZEN)) != 0).sum())
    rows = long_rows(day)
    for name, work in (("duckdb", _duckdb), ("polars", _polars)):
        if is_there(name):
            version, job = work(rows, rules)
            found = job()
            if found != bad:
                raise RuntimeError(f"{name} finds {found} readings to estimate, OpenAMI {bad}: the comparison is not of the same work")
            took_s = median_seconds(job, 3)
            yield from beside(own, f"{name} {version}", day.wh.size / took_s, n=day.wh.size, mode=PEER_CHECKS)


def long_rows(day: BenchDay) -> pa.Table:
    """A row per reading: meter, slot, wh (null = missing), like_wh, limit_wh, register_wh."""
    slots, meters = day.wh.shape
    wh = day.wh.T.ravel()
    return pa.table(
        {
            "meter": pa.array(np.repeat(np.arange(meters, dtype=np.int32), slots)),
            "slot": pa.array(np.tile(np.arange(slots, dtype=np.int16), meters)),
            "wh": pa.array(wh, mask=wh == MISSING),
            "like_wh": pa.array(day.like_wh.T.ravel()),
            "limit_wh": pa.array(np.repeat(day.load_w, slots)),  # load x half an hour x 2.0
            "register_wh": pa.array(np.repeat(day.register_wh, slots)),
        }
    )


FILLED_SQL = """
with marked as (
  select *, wh is null as missing, wh < 0 or wh > limit_wh as implausible,
         case when wh = lag(wh) over day then 0 else 1 end as step
  from readings window day as (partition by meter order by slot)),
runs as (select *, sum(step) over (partition by meter order by slot) as run from marked),
judged as (
  select *, coalesce(wh <> 0 and count(*) over (partition by meter, run) >= $frozen, false) as frozen,
         max(case when missing or implausible then null else wh end, 3) over (partition by meter) as highest
  from runs),
usable as (
  select *, missing or coalesce(implausible, false) or frozen as bad,
         wh > highest[3] * (1 + $spike) and wh >= least(limit_wh / 2, $appliance) as spike
  from judged),
filled as (
  select *, sum(case when bad then 0 else wh end) over (partition by meter) as good,
         sum(case when bad then like_wh else 0 end) over (partition by meter) as estimated
  from usable)
"""
VALIDATED_SQL = (
    "case when not bad then wh when estimated > 0 and register_wh >= good then like_wh * (register_wh - good) / estimated else like_wh end"
)
_SQL = f"{FILLED_SQL} select count(*) filter (bad), count(*) filter (spike), sum({VALIDATED_SQL}) from filled"  # noqa: S608


def _duckdb(rows: pa.Table, rules: RuleSet) -> tuple[str, Any]:
    import duckdb

    connection = duckdb.connect()
    connection.register("arrow_rows", rows)
    connection.execute("create table readings as select * from arrow_rows")
    return duckdb.__version__, lambda: connection.execute(_SQL, sql_values(rules)).fetchall()[0][0]


def sql_values(rules: RuleSet) -> dict[str, float]:
    """What `FILLED_SQL` asks of the rules, for half hours."""
    return {"frozen": round(rules.frozen_hours_min * 2), "spike": rules.spike_tolerance, "appliance": rules.spike_w_min / 2}


def _polars(rows: pa.Table, rules: RuleSet) -> tuple[str, Any]:
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(rows))
    plan = filled_frame(frame.lazy(), rules).select(pl.col("bad").sum(), pl.col("spike").sum(), pl.col("validated").sum())
    return pl.__version__, lambda: int(plan.collect()["bad"][0])


def filled_frame(rows: Any, rules: RuleSet) -> Any:
    """The same as `FILLED_SQL` of a lazy frame of Polars, with the column `validated`."""
    import polars as pl

    wh, like, register = pl.col("wh"), pl.col("like_wh"), pl.col("register_wh")
    bad, good, estimated = pl.col("bad"), pl.col("good"), pl.col("estimated")
    return (
        rows.with_columns(
            missing=wh.is_null(), implausible=((wh < 0) | (wh > pl.col("limit_wh"))).fill_null(False), run=wh.rle_id().over("meter")
        )
        .with_columns(
            frozen=((wh != 0) & (pl.len().over("meter", "run") >= round(rules.frozen_hours_min * 2))).fill_null(False),
            third=pl.when(pl.col("missing") | pl.col("implausible")).then(None).otherwise(wh).top_k(3).min().over("meter"),
        )
        .with_columns(
            bad=pl.col("missing") | pl.col("implausible") | pl.col("frozen"),
            spike=(wh > pl.col("third") * (1 + rules.spike_tolerance))
            & (wh >= pl.min_horizontal(pl.col("limit_wh") / 2, rules.spike_w_min / 2)),
        )
        .with_columns(
            good=pl.when(bad).then(0).otherwise(wh).sum().over("meter"), estimated=pl.when(bad).then(like).otherwise(0).sum().over("meter")
        )
        .with_columns(
            validated=pl.when(~bad)
            .then(wh)
            .when((estimated > 0) & (register >= good))
            .then(like * (register - good) / estimated)
            .otherwise(like)
        )
    )
