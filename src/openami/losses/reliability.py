"""Supply reliability from outages: SAIFI, SAIDI, CAIDI, MAIFI (IEEE 1366), planned and unplanned apart, and outages as intervals for VEE.

What always holds: an interruption of five minutes or less is momentary (it counts in MAIFI only); SAIDI = SAIFI x CAIDI; an outage that is still
open counts up to the end of the span and says that it is open; an index of nobody is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from ..readings import Bool, Int64
from .network import Tree
from .outages import SERVICE, Outage

MOMENTARY_S = 300
"""IEEE 1366-2012, 3: an interruption of at most five minutes is momentary. A utility may hold another limit."""
LATE_S = 1800


@dataclass(frozen=True, slots=True)
class Planned:
    """Supply is announced to be off below node `node` from start_s to end_s (UTC seconds)."""

    node: int
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Indices:
    """saifi [sustained interruptions per customer], saidi_min [minutes per customer], caidi_min [minutes per interruption], maifi [momentary
    interruptions per customer], asai [share of the time with supply]; None where it cannot be told. customers: served; open_outages: still on."""

    customers: int
    saifi: float | None
    saidi_min: float | None
    caidi_min: float | None
    maifi: float | None
    asai: float | None
    interruptions: int
    open_outages: int


def is_planned(tree: Tree, outage: Outage, calendar: Sequence[Planned]) -> bool:
    """Whether the outage lies below an announced one and begins within it, or up to half an hour before or after its beginning."""
    return any(
        plan.start_s - LATE_S <= outage.start_s <= max(plan.end_s, plan.start_s + LATE_S) and _below(tree, _place(tree, outage), plan.node)
        for plan in calendar
    )


def indices(outages: Sequence[Outage], customers: int, start_s: int, end_s: int, momentary_s: int = MOMENTARY_S) -> Indices:
    """The indices of a span [start_s, end_s) for `customers` served. Interruptions count where they begin; minutes as far as they lie inside."""
    begun = [o for o in outages if start_s <= o.start_s < end_s]
    lengths = [np.minimum(o.back_s, end_s) - o.start_s for o in begun]
    sustained = sum(int((each > momentary_s).sum()) for each in lengths)
    momentary = sum(int((each <= momentary_s).sum()) for each in lengths)
    seconds = sum(int(each[each > momentary_s].sum()) for each in lengths)
    return Indices(
        customers=customers,
        saifi=sustained / customers if customers > 0 else None,
        saidi_min=seconds / 60 / customers if customers > 0 else None,
        caidi_min=seconds / 60 / sustained if sustained else None,
        maifi=momentary / customers if customers > 0 else None,
        asai=1 - seconds / customers / (end_s - start_s) if customers > 0 and end_s > start_s else None,
        interruptions=sustained,
        open_outages=sum(o.end_s is None for o in begun),
    )


def major_event_days(daily_saidi_min: Sequence[float]) -> tuple[float | None, list[int]]:
    """The threshold of major event days [minutes] and the days above it, by the 2.5 beta method (IEEE 1366-2012, 4.5): exp(mean + 2.5 x standard
    deviation of ln SAIDI), over days with any. None and no days where fewer than 30 days have any: the method wants years of them."""
    logs = [log(each) for each in daily_saidi_min if each > 0]
    if len(logs) < 30:
        return None, []
    threshold = exp(float(np.mean(logs)) + 2.5 * float(np.std(logs)))
    return threshold, [k for k, each in enumerate(daily_saidi_min) if each > threshold]


def outage_slots(outages: Sequence[Outage], meters: int, day_start_s: int, slots: int, interval_s: int) -> tuple[Bool, Bool]:
    """For VEE: bool [slot, meter], intervals wholly without supply (missing means 0 there) and those touched by an outage (a low value is no fault
    there, and nothing is interpolated across it)."""
    whole, touched = np.zeros((slots, meters), np.bool_), np.zeros((slots, meters), np.bool_)
    begin = day_start_s + np.arange(slots, dtype=np.int64) * interval_s
    for outage in outages:
        off = np.maximum(np.minimum(outage.back_s[None, :], (begin + interval_s)[:, None]) - np.maximum(outage.start_s, begin)[:, None], 0)
        whole[:, outage.meters] |= off >= interval_s
        touched[:, outage.meters] |= off > 0
    return whole, touched


def daily_saidi(outages: Sequence[Outage], customers: int, start_s: int, days: int) -> list[float]:
    """SAIDI [minutes] of each of `days` days of 86,400 s; all minutes of an outage count on the day when it begins (IEEE 1366-2012, 4.5)."""
    found = []
    for day in range(days):
        begun = indices([o for o in outages if start_s + day * 86400 <= o.start_s < start_s + (day + 1) * 86400], customers, start_s, 2**61)
        found.append(begun.saidi_min or 0.0)
    return found


def _place(tree: Tree, outage: Outage) -> int:
    return int(tree.meter_node[outage.meters[0]]) if outage.node == SERVICE else outage.node


def _below(tree: Tree, node: int, top: int) -> bool:
    while node >= 0 and node != top:
        node = int(tree.parent[node])
    return node == top and node >= 0


def seconds_out(outages: Sequence[Outage], meters: int, end_s: int) -> Int64:
    """Each customer's seconds without supply, int64 [meter]; open outages up to end_s."""
    total = np.zeros(meters, np.int64)
    for outage in outages:
        np.add.at(total, outage.meters, np.minimum(outage.back_s, end_s) - outage.start_s)
    return total
