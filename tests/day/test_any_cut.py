"""However the feeders are spread over shards, and by however many threads, a day closes to the same energies, money and losses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from openami.bench.days import bench_day
from openami.day import Site, close_all
from openami.day.lines import charge_lines
from openami.day.roll import EPOCH, Roll
from openami.readings import IMPORT_WH, MISSING, DayBlock, Quality
from openami.registry import ShardIndex
from openami.store.deployment import Deployment, Folder
from openami.store.lake import Lake
from openami.store.rows import Rows

FEEDERS, TRANSFORMERS, CONSUMERS = 105, 2, 4
METERS_EACH = 1 + TRANSFORMERS * (1 + CONSUMERS)
METERS = FEEDERS * METERS_EACH
DAYS = (date(2025, 12, 30), date(2025, 12, 31))
TARIFFS = ("BR-DS2", "BR-DS2-TOU")


@cache
def whole() -> tuple[ShardIndex, Roll]:
    """A feeder's meter, then its transformers', each before its consumers'; two tariffs, some accounts postpaid."""
    place = np.arange(METERS)
    feeder, rest = np.divmod(place, METERS_EACH)
    local, seat = np.divmod(rest - 1, 1 + CONSUMERS)
    is_feeder = rest == 0
    is_transformer = (rest > 0) & (seat == 0)
    consumer = ~is_feeder & ~is_transformer
    count = FEEDERS * TRANSFORMERS
    index = ShardIndex(
        shard=0,
        serials=tuple(f"M{k}" for k in place),
        usage_points=tuple(f"U{k}" for k in place),
        feeders=tuple(f"F{k}" for k in range(FEEDERS)),
        transformers=tuple(f"T{k}" for k in range(count)),
        transformer=np.where(is_feeder, -1, feeder * TRANSFORMERS + local).astype(np.int32),
        feeder=feeder.astype(np.int32),
        transformer_feeder=(np.arange(count) // TRANSFORMERS).astype(np.int32),
        is_consumer=consumer,
        is_transformer=is_transformer,
        is_feeder=is_feeder,
        connected_load_w=np.where(consumer, 5_000, 0),
    )
    meter = np.flatnonzero(consumer)
    since = np.full(meter.size, (date(2025, 1, 1) - EPOCH).days, np.int32)
    opening = np.where(meter % 5 == 0, -4_000, 50_000).astype(np.int64)
    numbers = pa.array([f"A{k:06d}" for k in meter])
    tariff = (meter % 3 == 0).astype(np.int32)
    return index, Roll(numbers, meter, index.connected_load_w[meter], meter % 7 > 0, TARIFFS, tariff, since, since, opening)


def part(first: int, last: int, shard: int) -> tuple[ShardIndex, Roll]:
    """The feeders from `first` to before `last`."""
    index, roll = whole()
    own = slice(first * METERS_EACH, last * METERS_EACH)
    arrays = ("transformer", "feeder", "is_consumer", "is_transformer", "is_feeder", "connected_load_w")
    cut = replace(index, shard=shard, serials=index.serials[own], usage_points=index.usage_points[own])
    cut = replace(cut, **{name: getattr(index, name)[own] for name in arrays})
    held = (roll.meter >= own.start) & (roll.meter < own.stop)
    rest = {name: getattr(roll, name)[held] for name in ("load_w", "prepaid", "tariff", "since", "mode_since", "opening_paise")}
    return cut, replace(roll, numbers=roll.numbers.filter(pa.array(held)), meter=roll.meter[held] - own.start, **rest)


@dataclass(slots=True)
class Cut(Site):
    """A site whose feeders are spread over shards as `edges` says."""

    edges: tuple[int, ...] = ()

    def registry_of(self, shard: int, day: date) -> tuple[ShardIndex, Roll]:
        return part(self.edges[shard], self.edges[shard + 1], shard)


def closed(root: Path, shards: int, threads: int) -> dict[str, Any]:
    """Everything that two days close to, in an order of its own."""
    folder = Folder(root)
    folder.save(Deployment("Cut", "Asia/Kolkata", 30, DAYS[0], 2, "BR", "4f41490000000001"))
    edges = tuple(int(e) for e in np.linspace(0, FEEDERS, shards + 1))
    site = Cut(folder, folder.load(), Rows(folder.rows, create=True), Lake(folder.lake), edges)
    numbers = range(shards)
    for k, day in enumerate(DAYS):
        values = bench_day(METERS, 7 + k).wh
        values[:, 40:45] = MISSING  # of these nothing is known: only others' average can fill them
        with site.lake.draft(day) as draft:
            for shard in numbers:
                own = np.ascontiguousarray(values[:, edges[shard] * METERS_EACH : edges[shard + 1] * METERS_EACH])
                quality = np.where(own == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
                draft.write_blocks("raw", [DayBlock(day, shard, IMPORT_WH, own, quality)])
            draft.commit()
    done = close_all(site, threads=threads, days=DAYS, shards=numbers)
    assert done == {"closed": 2 * shards}
    found = {}
    for day in DAYS:
        blocks = [site.lake.read_blocks("validated", day, shard)["import_wh"] for shard in numbers]
        found[f"values {day}"] = np.concatenate([b.values for b in blocks], axis=1).tobytes()
        found[f"quality {day}"] = np.concatenate([b.quality for b in blocks], axis=1).tobytes()
        for table, key in (("statements", ("account",)), ("balance", ("kind", "node", "hour")), ("due", ("account",))):
            rows = all_of(site, table, day)
            rows = rows.select([name for name in rows.column_names if name != "meter"])  # whose numbers begin anew in each shard
            found[f"{table} {day}"] = sorted(rows.to_pylist(), key=lambda row, key=key: [str(row[name]) for name in key])
        found[f"lines {day}"] = sorted(map(str, pa.concat_tables([charge_lines(site.lake, day, shard) for shard in numbers]).to_pylist()))
        accounts, notices = all_of(site, "statements", day)["account"], all_of(site, "notices", day)
        found[f"notices {day}"] = sorted(zip(*(c.to_pylist() for c in (accounts, notices["level"], notices["days_left"])), strict=True))
    site.rows.close()
    return found


def all_of(site: Cut, table: str, day: date) -> pa.Table:
    return pa.concat_tables([site.lake.read(table, day, shard) for shard in range(len(site.edges) - 1)])


@pytest.fixture(scope="module")
def in_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return closed(tmp_path_factory.mktemp("one") / "data", 1, 1)


def test_the_days_are_worth_comparing(in_one: dict[str, Any]) -> None:
    marks = np.frombuffer(in_one[f"quality {DAYS[1]}"], np.uint32)
    assert all((marks & np.uint32(bit)).any() for bit in (Quality.ESTIMATED_LIKE_DAY, Quality.ESTIMATED_CLASS_PROFILE, Quality.SPIKE))
    assert in_one[f"due {DAYS[0] + timedelta(days=1)}"]


@pytest.mark.parametrize(("shards", "threads"), [(1, 2), (7, 1), (7, 2), (100, 2)])
def test_shards_and_threads_change_nothing(in_one: dict[str, Any], tmp_path: Path, shards: int, threads: int) -> None:
    found = closed(tmp_path / "data", shards, threads)
    assert [name for name in in_one if found[name] != in_one[name]] == []
