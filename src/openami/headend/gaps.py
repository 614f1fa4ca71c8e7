"""What is missing: the ranges of time for which a meter's block load is not in the day grid, so that just those are asked for.

What always holds: a slot that is still running or that pushes may still bring is no gap yet; what the meter has said that it does not have is not
asked for again; what is older than the meter keeps is lost, and said so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..readings import MISSING, Bool, Calendar, Int64
from ..store.journal import FrameJournal
from ..store.lake import Lake
from ..store.rows import Rows
from .pulled import BLOCK_LOAD_PROFILE

GRACE_S = 3600
"""How long pushes may still come before a slot is a gap."""
DEPTH_S = 35 * 86_400
"""How long a meter keeps block load, where its model does not say more (the least that was read in makers' documents)."""
JOIN_S = 6 * 3600
"""Gaps nearer than this are asked for together: some rows twice cost less than one more question."""


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Stamps from `first_s` to `last_s` (ends of intervals, UTC seconds, both included)."""

    first_s: int
    last_s: int


def missing(present: Bool, stamp_s: Int64) -> dict[int, list[Gap]]:
    """The runs of slots that are not there, by meter index; meters without any are left out.

    present: bool [slot, meter]; stamp_s: int64 [slot], growing.
    """
    edge = np.zeros((1, present.shape[1]), np.bool_)
    absent = np.concatenate([edge, ~present, edge])
    begins, ends = absent[1:] & ~absent[:-1], ~absent[1:] & absent[:-1]
    found: dict[int, list[Gap]] = {}
    firsts, lasts = np.argwhere(begins.T), np.argwhere(ends.T)
    for (index, first), (_, behind) in zip(firsts.tolist(), lasts.tolist(), strict=True):
        found.setdefault(index, []).append(Gap(int(stamp_s[first]), int(stamp_s[behind - 1])))
    return found


def joined(gaps: Iterable[Gap], within_s: int = JOIN_S) -> list[Gap]:
    """Gaps in order of time, those at most `within_s` apart as one."""
    together: list[Gap] = []
    for gap in sorted(gaps):
        if together and gap.first_s - together[-1].last_s <= within_s:
            together[-1] = Gap(together[-1].first_s, max(together[-1].last_s, gap.last_s))
        else:
            together.append(gap)
    return together


def without(gaps: Iterable[Gap], answered: Iterable[Gap], step_s: int) -> list[Gap]:
    """What is left of `gaps` when `answered` is taken out. step_s: the distance of stamps [s]."""
    left = sorted(gaps)
    for known in answered:
        cut: list[Gap] = []
        for gap in left:
            if known.last_s < gap.first_s or gap.last_s < known.first_s:
                cut.append(gap)
                continue
            if gap.first_s < known.first_s:
                cut.append(Gap(gap.first_s, gap.first_s + (known.first_s - 1 - gap.first_s) // step_s * step_s))
            if known.last_s < gap.last_s:
                cut.append(Gap(gap.last_s - (gap.last_s - known.last_s - 1) // step_s * step_s, gap.last_s))
        left = cut
    return left


@dataclass(frozen=True, slots=True)
class Missing:
    """wanted: meter -> the ranges to ask it for; lost: meter -> ranges that it does not keep any more; heard_s: meter -> the end of its last
    interval that is there, UTC seconds."""

    wanted: Mapping[str, list[Gap]]
    lost: Mapping[str, list[Gap]]
    heard_s: Mapping[str, int]


def site_gaps(
    lake: Lake,
    rows: Rows,
    journal: FrameJournal,
    calendar: Calendar,
    days: list[date],
    now_s: int,
    grace_s: int = GRACE_S,
    depth_s: int = DEPTH_S,
    join_s: int = JOIN_S,
) -> Missing:
    """What `raw` lacks of consecutive `days` for every registered meter; a (day, shard) that was never collected lacks everything."""
    known: dict[str, list[Gap]] = {}
    for serial, first_s, last_s in journal.answered(BLOCK_LOAD_PROFILE):
        known.setdefault(serial, []).append(Gap(first_s, last_s))
    wanted: dict[str, list[Gap]] = {}
    lost: dict[str, list[Gap]] = {}
    heard_s: dict[str, int] = {}
    oldest = now_s - depth_s
    for shard in rows.shards():
        serials = rows.serials(shard)
        present, stamps = _presence(lake, shard, calendar, days, len(serials))
        due = stamps <= now_s - grace_s
        last = np.where(present.any(axis=0), stamps[present.shape[0] - 1 - present[::-1].argmax(axis=0)], -1)
        heard_s |= {serial: int(at) for serial, at in zip(serials, last.tolist(), strict=True) if at >= 0}
        for index, gaps in missing(present | ~due[:, None], stamps).items():
            left = without(gaps, known.get(serials[index], ()), calendar.interval_s)
            kept = [Gap(max(g.first_s, oldest), g.last_s) for g in left if g.last_s >= oldest]
            gone = [Gap(g.first_s, min(g.last_s, oldest)) for g in left if g.first_s < oldest]
            wanted |= {serials[index]: joined(kept, join_s)} if kept else {}
            lost |= {serials[index]: gone} if gone else {}
    return Missing(wanted, lost, heard_s)


def _presence(lake: Lake, shard: int, calendar: Calendar, days: list[date], meters: int) -> tuple[Bool, Int64]:
    """bool [slot of all days, meter]: an energy is there; and the stamps [slot]."""
    present, stamps = [], []
    for day in days:
        slots = calendar.slots(day)
        here = np.zeros((slots, meters), np.bool_)
        if lake.has("raw", day, shard):
            for block in lake.read_blocks("raw", day, shard).values():
                if block.channel.additive:
                    here |= block.values != MISSING
        present.append(here)
        stamps.append(np.array([calendar.stamp(day, slot) for slot in range(slots)], np.int64))
    return np.concatenate(present), np.concatenate(stamps)
