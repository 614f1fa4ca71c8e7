"""Which (day, shard) is closed, by which raw readings, and how often it was reckoned again: the table `closes`, one row each.

raw        the content of `raw` that the close went by (`Lake.content`)
revision   0 = as first told; one more each time that the day was reckoned again
"""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from ..store.lake import Lake


def is_closed(lake: Lake, day: date, shard: int) -> bool:
    """Whether the (day, shard) has been closed, whole."""
    return lake.has("closes", day, shard)


def closed_by(lake: Lake, day: date, shard: int) -> str | None:
    """The raw readings that it was closed by; None where it is not closed."""
    return str(lake.read("closes", day, shard)["raw"][0]) if is_closed(lake, day, shard) else None


def revision(lake: Lake, day: date, shard: int) -> int:
    """How often it was reckoned again after it was first told."""
    return int(lake.read("closes", day, shard)["revision"][0].as_py())


def last_closed(lake: Lake, day: date, shard: int) -> date:
    """The last day of the unbroken row of closed days that begins with `day`, which is closed."""
    while is_closed(lake, day + timedelta(days=1), shard):
        day += timedelta(days=1)
    return day


def closes_rows(raw: str, number: int) -> pa.Table:
    """The row of `closes`."""
    return pa.table({"raw": pa.array([raw], pa.string()), "revision": pa.array([number], pa.int32())})
