"""A town of a million accounts with 1,000 closed days behind it, made economically, for `web`.

What is real: the registry, money and heard times of every meter in SQL; two days closed by the product's own `close_all` at full size; a history of
1,000 days for one part of 16,384 meters, written by the product's own rebuild. What stands for the rest: the earlier days are the first closed day
again (the same files under other names, by hard links), each with a commit of its own in its table's log, and every other part of the history is the
one that was written. So each file, footer, log entry and row that a page asks for is there under its own name; only the disk, and the page cache,
hold them once. With all of them distinct the history alone would be some 60 GB, of which a page reads the same few kilobytes.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..day.close import close_all
from ..day.roll import Roll
from ..day.site import Site
from ..errors import InputError
from ..headend.levels import SILENT_S
from ..readings import IMPORT_WH, DayBlock
from ..registry import ShardIndex
from ..store.deployment import Folder
from ..store.history import PART_METERS, History
from ..store.journal import Journal
from ..store.keys import load_master_key
from ..store.lake import Lake
from ..store.ledger_bulk import open_accounts
from ..store.rows import account, contact, feeder, meter, transformer, usage_point
from ..store.sql import load
from .day import FIRST, SECOND, TARIFF, BenchSite, bench_site
from .shards import shard_sizes, validated_shards

DAYS, SINCE_CHECKPOINT = 1000, 50
TABLES = ("raw", "validated", "validated_quality", "balance", "meter_day", "statements", "notices", "due", "charges", "usage", "closes")
MADE = "bench.json"
"""Stands in the folder when all of the town is made."""
POOR = 50
"""Of so many accounts one began below zero, and is due."""


class WebSite(BenchSite):
    """The bench's registry with names of their own in each shard."""

    def registry_of(self, shard: int, day: date) -> tuple[ShardIndex, Roll]:
        index, roll = super().registry_of(shard, day)
        feeders = tuple(f"S{shard}{name}" for name in index.feeders)
        transformers = tuple(f"S{shard}{name}" for name in index.transformers)
        opening = np.where(roll.meter % POOR == 0, -20_000, roll.opening_paise)
        named = replace(roll, numbers=_numbers(shard, roll.meter), opening_paise=opening)
        return replace(index, feeders=feeders, transformers=transformers), named


def _numbers(shard: int, places: np.ndarray) -> pa.Array:
    return pa.array([f"{shard + 1}{place:08d}" for place in places.tolist()])


def is_town(root: Path, meters: int) -> bool:
    """Whether a whole town of so many meters lies there. InputError where something else does."""
    made = root / MADE
    if made.is_file() and json.loads(made.read_text()) == _as_made(meters):
        return True
    if root.exists() and any(root.iterdir()):
        raise InputError(
            f"{root} holds no town of {meters} meters and {DAYS} days; give a new folder, or the one that the same command made"
        )
    return False


def _as_made(meters: int) -> dict[str, int]:
    return {"meters": meters, "days": DAYS}


def make_town(root: Path, meters: int, threads: int = 2) -> int:
    """The folder; gives how many accounts it has."""
    root.mkdir(parents=True, exist_ok=True)
    folder, sizes = Folder(root), shard_sizes(meters)
    made = bench_site(folder, sizes)
    site = WebSite(made.folder, made.deployment, made.rows, made.lake)
    site.sizes = sizes
    close_all(site, threads=threads, days=[FIRST, SECOND], shards=list(range(len(sizes))))
    earlier = [FIRST - timedelta(days=k) for k in range(1, DAYS - 1)]
    for table in TABLES:
        if site.lake.place.has_table(table):
            link_days(site.lake, table, FIRST, earlier)
    _history(site, sizes, threads)
    Journal(folder.journal, create=True).close()
    load_master_key(folder.master_key, create=True)
    accounts = _registry(site, sizes)
    (root / MADE).write_text(json.dumps(_as_made(meters)))
    return accounts


def begin_running_day(root: Path) -> None:
    """The day behind the last closed one has readings, and runs: the last one's again. Nothing is done where it has."""
    site = Site.open(Folder(root))
    last = max(site.lake.days("closes"))
    day = last + timedelta(days=1)
    for table in ("raw", "raw_quality"):
        if site.lake.place.has_table(table) and day not in site.lake.days(table):
            link_days(site.lake, table, last, [day])
    site.rows.close()


def link_days(lake: Lake, table: str, day: date, others: list[date]) -> None:
    """`others` hold what `day` holds, as the same files by hard links: a commit a day, and a checkpoint where upkeep would have made the last one."""
    delta, sources = lake.opened(table), {shard: Path(paths[-1]) for shard, paths in lake.files(table, day).items()}
    log, version, now_ms = lake.root / table / "_delta_log", delta.version(), int(time.time() * 1000)
    for k, other in enumerate(others, start=1):
        lines: list[dict[str, object]] = [
            {"commitInfo": {"timestamp": now_ms, "operation": "WRITE", "operationParameters": {"mode": "Append"}}}
        ]
        for shard, source in sources.items():
            name = f"day={other.isoformat()}/shard={shard}/{other:%Y%m%d}-{source.name}"
            target = lake.root / table / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
            values = {"day": other.isoformat(), "shard": str(shard)}
            add = {"path": name, "partitionValues": values, "size": source.stat().st_size, "modificationTime": now_ms, "dataChange": True}
            lines.append({"add": add | {"stats": "{}"}})
        (log / f"{version + k:020d}.json").write_text("\n".join(json.dumps(line) for line in lines))
        if k == len(others) - SINCE_CHECKPOINT:
            lake.opened(table).create_checkpoint()


def _history(site: Site, sizes: list[int], threads: int) -> None:
    """One part made of 1,000 days, and linked to all parts of all shards."""
    (block,) = validated_shards(min(PART_METERS, min(sizes)), 1)
    small = Lake(site.folder.root / "part" / "lake")
    first = SECOND - timedelta(days=DAYS - 1)
    small.write_blocks("validated", [DayBlock(first, 0, IMPORT_WH, block.values, block.quality)])
    for table in ("validated", "validated_quality"):
        if small.place.has_table(table):
            link_days(small, table, first, [first + timedelta(days=k) for k in range(1, DAYS)])
    History(small).rebuild(everything=True, threads=threads)
    current = site.lake.all_files("validated")
    for path in sorted((small.root / "history").rglob("part=000.parquet")):
        month = path.parent.parent
        for shard, size in enumerate(sizes):
            target = site.lake.root / "history" / month.parent.name / month.name / f"shard={shard}"
            target.mkdir(parents=True, exist_ok=True)
            for part in range(-(-size // PART_METERS)):
                os.link(path, target / f"part={part:03d}.parquet")
            name = month.name.removeprefix("month=")
            held = {d.isoformat(): Path(p[-1]).name for (d, s), p in current.items() if s == shard and f"{d:%Y-%m}" == name}
            proof = site.lake.root / "history" / "made" / f"{name}.{shard}.json"
            proof.parent.mkdir(parents=True, exist_ok=True)
            proof.write_text(json.dumps(held))


def _registry(site: WebSite, sizes: list[int]) -> int:
    """All rows, by column. A consumer in a hundred has been silent for two days, one in five hundred was never heard."""
    since, now_s, accounts = date(2023, 1, 1), int(time.time()), 0
    with site.rows.database.begin(writing=True, long=True) as connection:
        for shard, size in enumerate(sizes):
            index, roll = site.registry_of(shard, SECOND)
            places = np.arange(size)
            serials = [f"M{shard}{k:07d}" for k in range(size)]
            load(connection, feeder, {"name": list(index.feeders), "substation": ["SS"] * len(index.feeders)})
            own = [index.feeders[k] for k in index.transformer_feeder.tolist()]
            load(connection, transformer, {"name": list(index.transformers), "feeder": own, "rating_kva": [100] * len(own)})
            same = {"maker": ["XMA"] * size, "model": ["XMA-1P"] * size, "shard": [shard] * size, "security_control": [0x30] * size}
            titles = [f"{shard}{k:07d}".encode() for k in range(size)]
            load(connection, meter, {"serial": serials, "system_title": titles, "index": places, "phases": [1] * size, **same})
            kinds = np.where(index.is_feeder, "feeder", np.where(index.is_transformer, "transformer", "consumer")).tolist()
            points = [f"U{serial}" for serial in serials]
            at = [index.transformers[t] if t >= 0 else None for t in index.transformer.tolist()]
            hangs = {
                "name": points,
                "kind": kinds,
                "meter": serials,
                "feeder": [index.feeders[f] for f in index.feeder.tolist()],
                "transformer": at,
            }
            hangs |= {"phase": ["R"] * size, "connected_load_w": index.connected_load_w, "since": [since] * size, "until": [None] * size}
            load(connection, usage_point, hangs)
            heard = [None if k % 500 == 7 else now_s - (2 * SILENT_S if k % 100 == 3 else 600) for k in range(size)]
            zero = [0] * size
            load(connection, contact, {"serial": serials, "heard_s": heard, "failures": zero, "not_before_s": zero, "problem": [""] * size})
            own_numbers = roll.numbers.to_pylist()
            many = len(own_numbers)
            held = {"number": own_numbers, "usage_point": [points[k] for k in roll.meter.tolist()], "consumer_name": ["Consumer"] * many}
            held |= {"language": ["hi"] * many, "tariff": [TARIFF] * many, "payment_mode": ["prepaid"] * many, "since": [since] * many}
            load(connection, account, held | {"mode_since": [since] * many, "opening_paise": roll.opening_paise})
            accounts += many
        open_accounts(connection, now_s)
    return accounts
