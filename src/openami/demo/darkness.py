"""The planted outages, announced where they were, and beside them what the audit has found of them.

What always holds: planted and found are compared by place, time and customers, and by what validation made of the intervals that were dark.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..day import Site
from ..day.found import Found, OutageRow
from ..day.outages import ANNOUNCED
from ..fleet.faults import Plan
from ..fleet.outages import Dark, with_supply
from ..fleet.town import Town
from ..readings import Int32, Quality, UInt32

LOCATED = "every planted outage is located at its fuse, transformer or feeder, announced ones as planned"
ZERO = "an interval without supply counts 0, and is no gap, where its meter told of both ends"
NEAR_S = 60
ANNOUNCED_AROUND_S = 300


def announce(site: Site, plan: Plan) -> None:
    """Write the planned ones into the calendar of the data folder."""
    with (site.folder.root / ANNOUNCED).open("w", newline="", encoding="utf-8") as lines:
        write = csv.writer(lines)
        write.writerow(["node", "start", "end"])
        for dark in plan.dark:
            if dark.planned:
                edges = dark.start_s - ANNOUNCED_AROUND_S, dark.end_s + ANNOUNCED_AROUND_S
                write.writerow([dark.node, *(site.calendar.local(at).isoformat() for at in edges)])


def planted(town: Town, plan: Plan) -> list[dict[str, Any]]:
    """What truly was, for the file beside the report."""
    return [
        {
            "level": dark.level,
            "node": dark.node,
            "start": _utc(dark.start_s),
            "end": _utc(dark.end_s),
            "planned": dark.planned,
            "customers": len(dark.meters),
            "gasps_heard": len(dark.gasps),
        }
        for dark in plan.dark
    ]


def compared(site: Site, town: Town, plan: Plan) -> tuple[dict[str, Any], bool]:
    """Each planted outage beside the one that was found there (None = not found), the indices; and whether all are located."""
    days, found = site.deployment.open_days, Found(site.lake)
    outages = found.outages(days[0], days[-1])
    pairs = [(dark, next((row for row in outages if _same(dark, row)), None)) for dark in plan.dark]
    index = found.reliability(days[0], days[-1])
    told = {
        "planted": [
            {
                **own,
                "found": None if row is None else {"customers": row.customers, "gasps": row.gasps, "end": row.end and row.end.isoformat()},
            }
            for own, (_, row) in zip(planted(town, plan), pairs, strict=True)
        ],
        "found": len(outages),
        "saifi": _rounded(index.saifi),
        "saidi_min": _rounded(index.saidi_min),
        "caidi_min": _rounded(index.caidi_min),
        "maifi": _rounded(index.maifi),
    }
    return told, all(row is not None and row.planned == dark.planned for dark, row in pairs)


def _same(dark: Dark, row: OutageRow) -> bool:
    """Whether the row speaks of that outage: the same place, within a minute."""
    return (row.level, row.node) == (dark.level, dark.node) and abs(row.start.timestamp() - dark.start_s) < NEAR_S


def counts_nothing(town: Town, plan: Plan, validated: Int32, quality: UInt32) -> bool:
    """Whether each interval wholly without supply is 0 and marked as an outage's, of meters whose gasp and breath arrived. validated, quality:
    [meter of the town, slot]."""
    for dark in plan.dark:
        slots = np.flatnonzero(with_supply(town, dark) == 0)
        told = [m for m in dark.gasps if m in dark.breaths and m not in plan.mapped_wrong]
        own = np.ix_(np.array(told, np.int64), slots)
        if (validated[own] != 0).any() or not (quality[own] & np.uint32(Quality.OUTAGE)).all():
            return False
    return True


def _utc(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
