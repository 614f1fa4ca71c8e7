"""Outages: last gasps, first breaths and silent meters fused on the tree into outages with place, start, end and customers.

In: the day's `Tree`, events (meter, when, kind). Out: `Outage`s, each the highest node that explains what was heard, and who was out when.

A place is found by the cheapest explanation on the whole tree: either a node is out (then every meter below it should have gasped, but a share of
gasps is lost on the way), or its children speak for themselves. Costs are negative logarithms of probabilities, so that weak and missing evidence
is weighed, not counted.

What always holds: one meter is in one outage at a time; a meter that spoke after the start is not out at that moment; an outage without an end is
open, never closed by a guess; customers' minutes are added up per customer, so that supply that comes back in steps counts in steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from math import inf, log

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..readings import Bool, Int32, Int64
from .network import Float64, Level, Tree, generations

NEVER = np.int64(2**62)
SERVICE = -1
ON_ITS_WAY_S = 60
"""How long a last gasp may be on its way: longer no store of energy lasts."""
GASP_AGAIN_S = 300
"""A gasp so much later is of another failure; an earlier one has only been on its way (IEEE 1366 counts what happens within five minutes once)."""
AWAKE = 12.0
"""-ln of the probability that a meter without supply says anything but its gasp: its clock or ours is wrong."""


class Sign(IntEnum):
    """What a meter let us know."""

    GASP = 1
    """Supply failed (IS 15959 event 101 occurred, ESW bit 85)."""
    BREATH = 2
    """Supply is back (101 restored, ESW bit 86)."""
    SPOKE = 3
    """Any other word from a meter that has supply: a push, an answer to a ping."""
    SILENT = 4
    """It did not say what it should have said by now, or did not answer a ping."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Events in any order: meter int32, at_s int64 (UTC seconds), sign int8; all [event]."""

    meter: Int32
    at_s: Int64
    sign: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        if not self.meter.shape == self.at_s.shape == self.sign.shape:
            raise RequestError(f"signs of {self.meter.shape}, {self.at_s.shape} and {self.sign.shape}; give one of each per event")

    def plus(self, other: Signs) -> Signs:
        """These and others together."""
        return Signs(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__))

    def sorted(self) -> Signs:
        order = np.argsort(self.at_s, kind="stable")
        return Signs(self.meter[order], self.at_s[order], self.sign[order])


@dataclass(frozen=True, slots=True)
class Odds:
    """What is believed beforehand. gasp_lost: share of last gasps that never arrive; gasp_false: probability of a gasp from a meter with supply
    within a window; silent_alive: probability that a meter with supply is silent; silent_dead: that one without is.
    cost: of a node of a level going out within a window, -ln of its probability; SERVICE is a single connection."""

    gasp_lost: float = 0.2
    gasp_false: float = 2e-4
    silent_alive: float = 0.03
    silent_dead: float = 0.98
    cost_service: float = 7.0
    cost_phase: float = 7.0
    cost_transformer: float = 7.0
    cost_feeder: float = 8.0
    cost_above: float = 9.0

    def cost(self, level: Level) -> float:
        named = {Level.PHASE: self.cost_phase, Level.TRANSFORMER: self.cost_transformer, Level.FEEDER: self.cost_feeder}
        return named.get(level, self.cost_above)


@dataclass(frozen=True, slots=True)
class Outage:
    """node: position in the tree, SERVICE where it is a single connection; meters: who was out, int32 [customer]; start_s; out_s: when each
    customer's supply came back (int64 [customer], `NEVER` = not yet); found_s: when it was located; gasps: how many of the customers said so
    themselves. end_s: when all were back, None = open."""

    node: int
    meters: Int32
    start_s: int
    back_s: Int64
    found_s: int
    gasps: int

    @property
    def end_s(self) -> int | None:
        last = int(self.back_s.max(initial=0))
        return None if last >= NEVER else last

    @property
    def customers(self) -> int:
        return int(self.meters.size)

    def level(self, tree: Tree) -> str:
        return "service" if self.node == SERVICE else str(tree.levels[self.node])

    def name(self, tree: Tree) -> str:
        return f"meter {self.meters[0]}" if self.node == SERVICE else tree.names[self.node]


def find_outages(tree: Tree, signs: Signs, odds: Odds | None = None, window_s: int = 30) -> list[Outage]:
    """All outages of the events' span, in the order of their starts.

    window_s: how long gasps are gathered after the first one before a place is told; longer is surer and later. Whoever is already out is not
    asked again until it is back, by its own word or by its neighbours'. A gasp that nothing explains better is an outage of a single connection, if
    it is believed at all.
    """
    belief = odds or Odds()
    events = signs.sorted()
    is_out: Bool = np.zeros(tree.meter_node.size, np.bool_)
    back_s = np.full(tree.meter_node.size, NEVER, np.int64)
    told: Bool = np.zeros(events.at_s.size, np.bool_)
    found: list[Outage] = []
    k = 0
    while k < events.at_s.size:
        meter, sign = int(events.meter[k]), int(events.sign[k])
        if sign in (Sign.GASP, Sign.SILENT) and not is_out[meter] and not told[k]:
            stop = int(np.searchsorted(events.at_s, events.at_s[k] + window_s, side="right"))
            is_out &= back_s > events.at_s[k]
            for outage in _episode(tree, events, slice(k, stop), told, is_out, belief, window_s):
                ends, of_it = _ends(tree, events, k, outage)
                found.append(replace(outage, back_s=ends))
                told[of_it] = True
                is_out[outage.meters], back_s[outage.meters] = True, found[-1].back_s
            for each in range(k, stop):
                if events.sign[each] in (Sign.BREATH, Sign.SPOKE):
                    is_out[events.meter[each]] = False
            k = stop
            continue
        k += 1
        if sign in (Sign.BREATH, Sign.SPOKE):
            is_out[meter] = False
    return found


def with_node_meters(tree: Tree, outage: Outage) -> Outage:
    """The same outage with the own meters of the node and of all nodes below it among those who were out, until the last customer was back."""
    if outage.node == SERVICE:
        return outage
    dark = np.zeros(len(tree.names), np.bool_)
    dark[outage.node] = True
    for group in reversed(generations(tree.parent)):
        dark[group] |= dark[tree.parent[group]]
    own = tree.own_meter[dark & (tree.own_meter >= 0)]
    back = np.full(own.size, outage.back_s.max(initial=0))
    return replace(outage, meters=np.concatenate([outage.meters, own]), back_s=np.concatenate([outage.back_s, back]))


def locate(tree: Tree, alive_cost: Float64, dead_cost: Float64, odds: Odds | None = None) -> list[tuple[int, Int32]]:
    """The cheapest explanation: (node or SERVICE, its meters) for everything that is out.

    alive_cost, dead_cost: float64 [meter], -ln of the probability of what was heard of the meter if it has supply, and if it has not; 0 in both
    where nothing can be said. Meters that hang nowhere are left out.
    """
    belief = odds or Odds()
    hangs = tree.meter_node
    own = hangs >= 0
    alone = np.minimum(alive_cost, dead_cost + belief.cost_service)
    dead, best = np.zeros(len(tree.names)), np.zeros(len(tree.names))
    np.add.at(dead, hangs[own], dead_cost[own])
    np.add.at(best, hangs[own], alone[own])
    opening = np.array([belief.cost(level) for level in tree.levels])
    anyone = np.bincount(hangs[own], minlength=len(tree.names)).astype(np.float64)
    order: list[Int32] = [*generations(tree.parent), np.flatnonzero(tree.parent < 0).astype(np.int32)]
    for children in order:
        whole = np.where(anyone[children] > 0, dead[children] + opening[children], inf)
        best[children] = np.minimum(whole, best[children])
        inner = children[tree.parent[children] >= 0]
        for total in (dead, best, anyone):
            np.add.at(total, tree.parent[inner], total[inner])
    node_of_meter = _taken(tree, dead + opening, best, anyone)
    found = []
    for node in np.unique(node_of_meter[node_of_meter >= 0]):
        found.append((int(node), np.flatnonzero(node_of_meter == node).astype(np.int32)))
    single = own & (node_of_meter < 0) & (dead_cost + belief.cost_service < alive_cost)
    return found + [(SERVICE, np.array([m], np.int32)) for m in np.flatnonzero(single)]


def _taken(tree: Tree, whole: Float64, best: Float64, anyone: Float64) -> Int32:
    """From the top: the first node whose own outage is the cheapest explanation takes every meter below it. [meter], -1 = none."""
    out = np.full(len(tree.names), -1, np.int32)
    order: list[Int32] = [np.flatnonzero(tree.parent < 0).astype(np.int32), *reversed(generations(tree.parent))]
    for group in order:
        above = np.where(tree.parent[group] >= 0, out[tree.parent[group]], -1)
        own = (anyone[group] > 0) & (whole[group] <= best[group])
        out[group] = np.where(above >= 0, above, np.where(own, group, -1))
    return np.where(tree.meter_node >= 0, out[tree.meter_node], -1).astype(np.int32)


def _episode(tree: Tree, events: Signs, window: slice, told: Bool, is_out: Bool, odds: Odds, window_s: int) -> list[Outage]:
    """Outages of one window of events; told: bool [event], those that told of an earlier one. A breath says that the meter was out as a gasp does;
    any other word, unless it gasped, that it was not."""
    meters = tree.meter_node.size
    gasped, breathed, spoke, silent = (np.full(meters, -1, np.int64) for _ in range(4))
    heard = {Sign.GASP: gasped, Sign.BREATH: breathed, Sign.SPOKE: spoke, Sign.SILENT: silent}
    for k in range(window.stop - 1, window.start - 1, -1):  # backwards, so that the first word of each kind stays
        if not told[k]:
            heard[Sign(int(events.sign[k]))][events.meter[k]] = events.at_s[k]
    known = ~is_out
    said = ((gasped >= 0) | (breathed >= 0)) & known
    alive = np.where(said, -log(odds.gasp_false), 0.0)
    dead = np.where(known, np.where(said, -log(1 - odds.gasp_lost), -log(odds.gasp_lost)), 0.0)
    quiet = (silent >= 0) & ~said & known
    alive += np.where(quiet, -log(odds.silent_alive), 0.0)
    dead += np.where(quiet, -log(odds.silent_dead), 0.0)
    awake = (spoke >= 0) & known & (breathed < 0)
    dead += np.where(awake, AWAKE, 0.0)
    first = int(events.at_s[window.start])
    found = []
    for node, below in locate(tree, alive, dead, odds):
        out = below[known[below] & ~awake[below]]
        signs = np.concatenate([gasped[out], silent[out]])
        signs = signs[signs >= 0]
        if signs.size:
            gasps = int((gasped[out] >= 0).sum())
            found.append(Outage(node, out, int(signs.min()), np.zeros(0, np.int64), first + window_s, gasps))
    return found


def _ends(tree: Tree, events: Signs, first: int, outage: Outage) -> tuple[Int64, list[int]]:
    """When each customer's supply came back, and which events told of this outage, so that they tell of no other.

    Supply is back at a customer's own first breath after the start. Where that is lost, its first other word, which another gasp is too, is only a
    latest time: the middle breath of those on the same node counts if it is earlier, else of the whole outage; so it is where its neighbours had
    failed again before its breath. NEVER where nobody has spoken yet. A customer's first gasp tells of this outage too while it may have been on
    its way (`ON_ITS_WAY_S`).
    """
    breath, word, again = (np.full(outage.meters.size, NEVER, np.int64) for _ in range(3))
    breath_at, place = np.full(outage.meters.size, -1), {int(m): k for k, m in enumerate(outage.meters)}
    gasped: set[int] = set()
    told: list[int] = []
    waiting = len(place)
    for k in range(first, events.at_s.size):
        if waiting == 0 and int(events.at_s[k]) > outage.start_s + ON_ITS_WAY_S:
            break
        at, when, sign = place.get(int(events.meter[k])), int(events.at_s[k]), events.sign[k]
        if at is None:
            continue
        if sign == Sign.GASP:
            if at not in gasped and when <= outage.start_s + ON_ITS_WAY_S:
                told.append(k)
            gasped.add(at)
            if when > outage.start_s + GASP_AGAIN_S:
                again[at] = min(again[at], when)
        alive = sign in (Sign.BREATH, Sign.SPOKE) or again[at] < NEVER
        if not alive or when <= outage.start_s or word[at] < NEVER:
            continue
        word[at] = when
        waiting -= 1
        if sign == Sign.BREATH:
            breath[at], breath_at[at] = when, k
    back, own = _together(tree.meter_node[outage.meters], breath, word, again)
    return back, told + breath_at[own & (breath_at >= 0)].tolist()


def _together(hangs: Int32, breath: Int64, word: Int64, again: Int64) -> tuple[Int64, Bool]:
    """`_ends` by nodes: (when each is back, whose own breath counts), from first breaths, first words and gasps of a later failure, [customer]."""
    back, own = np.minimum(word, breath), breath < NEVER
    for node in np.unique(hangs):
        group = hangs == node
        heard = breath[group & (breath < NEVER)]
        if not heard.size:
            heard = breath[breath < NEVER]
        if not heard.size:
            continue
        middle, failed = int(np.median(heard)), again[group & (again < NEVER)]
        if 2 * failed.size >= heard.size and failed.size:
            own[group & (breath > np.median(failed))] = False
        lost = group & ~own
        back[lost] = np.minimum(word[lost], middle)
    return back, own
