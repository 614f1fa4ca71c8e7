"""What the benches after VEE start from: validated day blocks of benchmark days, and a lake that holds them.

At most four different shards are made and used in turn, each about as large as a shard is meant to be; the peers read the same files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from ..readings import IMPORT_WH, DayBlock
from ..store.lake import Lake
from ..vee import load_rules, meter_limits
from ..vee import run as vee_run
from .days import bench_day

DAY = date(2026, 1, 1)
SHARD_METERS = 262_144
KINDS = 4


def shard_sizes(meters: int, least: int = 2) -> list[int]:
    """`meters` cut into shards, at least so many, one for each thread."""
    most = min(SHARD_METERS, -(-meters // least))
    return [min(most, meters - first) for first in range(0, meters, most)]


def validated_shards(meters: int, least: int = 2) -> list[DayBlock]:
    """Day blocks after VEE, [48, meter] each; those of the same size and kind share their arrays."""
    rules = load_rules().on(DAY, "domestic")
    made: dict[tuple[int, int], DayBlock] = {}
    blocks = []
    for shard, size in enumerate(shard_sizes(meters, least)):
        kind = size, shard % KINDS
        if kind not in made:
            day = bench_day(size, kind[1])
            limits = meter_limits(rules, day.load_w, 30)
            found = vee_run(day.wh, limits, like_day=day.like_wh, register_wh=day.register_wh, usual_wh=day.usual_wh)
            made[kind] = DayBlock(DAY, shard, IMPORT_WH, found.validated, found.quality)
        blocks.append(DayBlock(DAY, shard, IMPORT_WH, made[kind].values, made[kind].quality))
    return blocks


@contextmanager
def empty_lake() -> Iterator[Lake]:
    """A lake in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        yield Lake(Path(folder) / "lake")


def fill(lake: Lake, blocks: Sequence[DayBlock], threads: int = 2) -> list[str]:
    """Write blocks as `validated` of `DAY`; gives the files, shard by shard."""
    with lake.draft(DAY) as draft, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda block: draft.write_blocks("validated", [block]), blocks))
        draft.commit()
    return [path for paths in lake.files("validated", DAY).values() for path in paths]
