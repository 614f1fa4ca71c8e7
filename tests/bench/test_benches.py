"""Every bench runs on a few meters and checks its own results; speed is not looked at here."""

from __future__ import annotations

import json

import numpy as np
import pytest

from openami.bench import bill, day, decode, profile, rollup, steady, store, vee
from openami.bench.days import bench_day
from openami.readings import MISSING


@pytest.mark.parametrize(
    ("module", "metric"),
    [(vee, "readings_per_s"), (decode, "frames_per_s"), (profile, "rows_per_s"), (bill, "readings_per_s"), (rollup, "readings_per_s")],
)
def test_a_bench_gives_lines_of_json(module, metric):
    lines = [json.loads(json.dumps(line)) for line in module.run(120)]
    assert all({"bench", "metric", "value", "unit", "n", "cores"} <= line.keys() for line in lines)
    assert all(line["value"] > 0 for line in lines)
    own = [line for line in lines if "peer" not in line]
    assert {line["metric"] for line in own} == {metric, "rss_peak"}
    assert any("peer" in line for line in lines)


def test_benchmark_days_have_their_defects_at_the_stated_rates():
    day = bench_day(20_000, 1)
    assert 0.017 < (day.wh == MISSING).mean() < 0.023
    stuck = (day.wh[1:] == day.wh[:-1]).sum(axis=0) > 30
    assert 0.003 < stuck.mean() < 0.008
    there = np.where(day.wh == MISSING, 0, day.wh)
    assert (there.sum(axis=0) <= day.register_wh * 45).all()
    np.testing.assert_array_equal(bench_day(50, 1).wh, bench_day(50, 1).wh)
    assert not np.array_equal(bench_day(50, 1).wh, bench_day(50, 2).wh)


def test_the_store_bench_tells_speed_and_size():
    lines = list(store.run(120))
    own = [line["metric"] for line in lines if "peer" not in line]
    assert own == ["readings_per_s", "bytes_per_reading", "bytes_per_reading", "rss_peak"]
    assert {line["metric"] for line in lines if "peer" in line} == {"readings_per_s", "times_as_fast", "bytes_per_reading"}


@pytest.mark.parametrize("bench", [day, steady])
def test_the_day_benches_close_with_the_products_own_close(bench):
    lines = list(bench.run(6_000))
    own = [line["metric"] for line in lines if "peer" not in line]
    read = ["registry_cpu_s_per_million_meters"] * 2
    assert own == ["readings_per_s", "seconds_per_million_meters", "cpu_s", "bytes_per_meter", "rss_peak", *read]
    assert {line["metric"] for line in lines if "peer" in line} == ({"readings_per_s", "times_as_fast"} if bench is day else set())
