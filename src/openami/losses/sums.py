"""What is known of the energy at each node of a tree: by its own meter, of the consumers on it, and of all that is carried up to it from below.

In: the meters' totals over spans, their `Errors`, the day's `Tree`. Out: `Sums`, arrays [span, node].

What always holds: energies are sums to the Wh; a child with a complete meter of its own is carried up as that meter says, any other as what hangs
below it (`through`: every one as what hangs below it); who may hang on a sister node instead is a doubt at both, and none at their parent.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit

from ..readings import Bool, Int32, Int64
from .metered import SETTLED_H, SIZE_H, Errors, MeterTotals
from .network import Float64, Level, Tree, generations

UNEVEN = 0.25
"""Relative standard deviation of one phase's share in a three-phase consumer."""


class Part(IntEnum):
    """Where the spread of a loss comes from."""

    CLASS = 0
    """Accuracy class of the meters."""
    CLOCK = 1
    """Clocks that are off: energy moves across the ends of the span."""
    MISSING = 2
    """Intervals without a value, put in at their expectation."""
    ESTIMATED = 3
    """Estimated values."""
    MAPPING = 4
    """Meters that may hang elsewhere."""
    ASSESSED = 5
    """Unmetered loads, assessed."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """Unmetered loads below a node (pump sets, street light, services never metered): energy [Wh] [span, node] and its relative standard
    deviation, float64."""

    wh: Float64
    relative: float = 0.15


@dataclass(frozen=True, slots=True)
class Sums:
    """Energy that passes nodes, [span, node]. down_wh: towards consumers, up_wh: back from them, estimated_wh: of both, assessed_wh: of the node's
    own unmetered loads: int64. measured_wh: what of down_wh was truly metered; likely_wh: down less up, with what is missing (missing_wh) at its
    expectation; limit_wh: the largest class limit of one meter; moves: how many meters are expected to hang elsewhere; variance [part, span, node]:
    float64. known: bool; of an own meter that every interval is there, of what hangs below that anything of it was seen."""

    down_wh: Int64
    up_wh: Int64
    estimated_wh: Int64
    assessed_wh: Int64
    measured_wh: Float64
    likely_wh: Float64
    missing_wh: Float64
    limit_wh: Float64
    moves: Float64
    variance: Float64
    known: Bool

    @staticmethod
    def nothing(spans: int, nodes: int) -> Sums:
        """Of nodes on which nothing hangs."""
        shape = spans, nodes
        down, up, estimated, assessed = (np.zeros(shape, np.int64) for _ in range(4))
        measured, likely, missing, limit, moves = (np.zeros(shape) for _ in range(5))
        variance = np.zeros((len(Part), *shape))
        return Sums(down, up, estimated, assessed, measured, likely, missing, limit, moves, variance, np.ones(shape, np.bool_))

    def at(self, nodes: Any) -> Sums:
        """Of these nodes alone, in their order."""
        return Sums(*(getattr(self, field.name)[..., nodes] for field in fields(self)))

    def add(self, nodes: Int32, more: Sums, where: Bool | None = None, picked: Int32 | None = None) -> None:
        """Add sums of single nodes, [span, k], to `nodes` (in place), one or several to each; where: bool [span, k], only these; picked: which nodes
        of `more` they are, None = all, in order."""
        at = np.arange(more.known.shape[1], dtype=np.int32) if picked is None else picked
        inside = np.ones((len(more.known), at.size), np.bool_) if where is None else where
        for field in fields(self):
            own, other = getattr(self, field.name), getattr(more, field.name)
            if field.name == "known":
                _both_at(own, nodes, other, at, inside)
            elif field.name == "limit_wh":
                _larger_at(own, nodes, other, at, inside)
            else:
                for one, more_of_it in zip(own, other, strict=True) if field.name == "variance" else ((own, other),):
                    _add_at(one, nodes, more_of_it, at, inside)


@dataclass(frozen=True, slots=True)
class Strays:
    """Consumers who may hang on a sister of their node: variance_wh2 and expected number of moves, float64 [span, node]."""

    variance_wh2: Float64
    moves: Float64


def own_meters(tree: Tree, imported: MeterTotals, exported: MeterTotals | None, errors: Errors, interval_s: int) -> Sums:
    """What the nodes' own meters say; a node without one is not known."""
    at = np.full(imported.wh.shape[1], -1, np.int32)
    has = tree.own_meter >= 0
    at[tree.own_meter[has]] = np.flatnonzero(has)
    sure = replace(errors, wrong_node=np.zeros_like(errors.wrong_node))
    taken = _Side.of(at, len(tree.names), imported, sure, interval_s)
    given = taken.nothing() if exported is None else _Side.of(at, len(tree.names), exported, sure, interval_s)
    nothing = Sums.nothing(*taken.wh.shape)
    return replace(
        nothing,
        down_wh=taken.wh,
        up_wh=given.wh,
        estimated_wh=taken.estimated_wh + given.estimated_wh,
        measured_wh=(taken.wh - taken.estimated_wh).astype(np.float64),
        likely_wh=(taken.wh - given.wh).astype(np.float64),
        limit_wh=np.maximum(taken.limit_wh, given.limit_wh),
        variance=taken.variance + given.variance,
        known=(taken.expected > 0) & (taken.present == taken.expected),
    )


def consumers(
    tree: Tree, imported: MeterTotals, exported: MeterTotals | None, errors: Errors, interval_s: int, assessed: Assessed | None
) -> tuple[Sums, Strays]:
    """What hangs directly on each node: its consumers, doubtful ones spread over where they may hang, and its assessed loads."""
    taken = _Side.of(tree.meter_node, len(tree.names), imported, errors, interval_s)
    given = taken.nothing() if exported is None else _Side.of(tree.meter_node, len(tree.names), exported, errors, interval_s)
    strays = []
    for side, meters in ((taken, imported), (given, exported)):
        strays.append(_spread_doubt(tree, side))
        if meters is not None:
            _claimed(tree, side, meters)
    load = np.zeros(taken.wh.shape) if assessed is None else assessed.wh
    there = np.where(taken.expected > 0, taken.present / np.maximum(taken.expected, 1), 1.0)
    whole = np.rint(load).astype(np.int64)
    variance = taken.variance + given.variance
    variance[Part.ASSESSED] += ((0.0 if assessed is None else assessed.relative) * load) ** 2
    direct = Sums(
        down_wh=taken.wh + whole,
        up_wh=given.wh.copy(),
        estimated_wh=taken.estimated_wh + given.estimated_wh,
        assessed_wh=whole,
        measured_wh=np.where(taken.wh > 0, (taken.wh - taken.estimated_wh) * there, 0.0),
        likely_wh=taken.wh + load + taken.missing_wh + taken.shift_wh - given.wh - given.missing_wh - given.shift_wh,
        missing_wh=taken.missing_wh + given.missing_wh,
        limit_wh=np.maximum(taken.limit_wh, given.limit_wh),
        moves=np.maximum(taken.moves, given.moves),
        variance=variance,
        known=(taken.present > 0) | (whole > 0) | (taken.expected == 0),
    )
    both = Strays(strays[0].variance_wh2 + strays[1].variance_wh2, np.maximum(strays[0].moves, strays[1].moves))
    return direct, both


def climb(tree: Tree, own: Sums, direct: Sums, strays: Strays | None = None, *, through: bool = False) -> Sums:
    """What leaves each node, from the leaves up: a child with a complete meter of its own counts with that meter, any other with what hangs below
    it, and so does every one where the way goes `through` all meters to the consumers."""
    below = Sums(*(getattr(direct, field.name).copy() for field in fields(direct)))
    is_phase = np.array([level is Level.PHASE for level in tree.levels], np.bool_)
    for children in generations(tree.parent):
        up_to = tree.parent[children]
        # phases cut the transformer's consumers up; their meters are parts of its own
        metered = own.known[:, children] & ~is_phase[children] & (not through)
        carried = replace(below, assessed_wh=np.zeros_like(below.assessed_wh))
        if not through:
            # what is metered only further down leaves the wires between unmetered: it does not count as metered at this boundary
            carried = replace(carried, measured_wh=np.where(is_phase, below.measured_wh, 0.0))
        below.add(up_to, own, metered, children)
        below.add(up_to, carried, ~metered, children)
    _doubt_nodes(tree, own, below, through=through)
    _count_absent(tree, own, below, through=through)
    _share_three_phase(tree, direct, below)
    if strays is not None:
        below.variance[Part.MAPPING] += strays.variance_wh2
        below.moves[...] += strays.moves
    return below


def lacking(tree: Tree, whole: Bool, metered: Bool, below: Int64 | None = None) -> Int64:
    """Of how many nodes below each, down to the next whole meter, the meter lacks intervals, int64 [span, node]: what they measure is counted further
    down. whole: bool [span, node], the node's own meter has every interval; metered: bool [node], it has one; below: what was counted already of
    nodes below the tree."""
    found = np.zeros(whole.shape, np.int64) if below is None else below.copy()
    for children in generations(tree.parent):
        open_ = ~whole[:, children]
        everywhere: Any = (slice(None), tree.parent[children])
        np.add.at(found, everywhere, open_ * (metered[children] + found[:, children]))
    return found


def _doubt_nodes(tree: Tree, own: Sums, below: Sums, *, through: bool) -> None:
    """Nodes that stand alone because the records contradict themselves: half of what they take is missing at each node that may feed them, and at
    those above it up to the next meter; their coverage falls."""
    taken = np.where(own.known & (not through), own.likely_wh, below.likely_wh)
    for child, above in zip(tree.maybe_child.tolist(), tree.maybe_parent.tolist(), strict=True):
        half = taken[:, child] / 2
        _pass_up(tree, own, below, above, half, half**2, Part.MAPPING, through=through)


def _count_absent(tree: Tree, own: Sums, below: Sums, *, through: bool) -> None:
    """What the records hang on a node and nobody knows is taken to be as large as what hangs there on the average, give or take as much."""
    if tree.absent is None:
        return
    hanging = np.bincount(tree.meter_node[tree.meter_node >= 0], minlength=len(tree.names))
    hanging += np.bincount(tree.parent[tree.parent >= 0], minlength=len(tree.names))
    for node in np.flatnonzero(tree.absent).tolist():
        each = below.likely_wh[:, node] / max(int(hanging[node]), 1)
        count = int(tree.absent[node])
        _pass_up(tree, own, below, node, count * each, count * each**2, Part.MISSING, through=through)


def _pass_up(tree: Tree, own: Sums, below: Sums, node: int, wh: Float64, variance_wh2: Float64, part: Part, *, through: bool) -> None:
    """Add energy that is not seen at a node, and at those above it up to the next meter. wh, variance_wh2: float64 [span]."""
    unmetered = np.ones(wh.shape, np.bool_)
    while node >= 0 and unmetered.any():
        passed = np.where(unmetered, wh, 0.0)
        below.likely_wh[:, node] += passed
        below.missing_wh[:, node] += passed
        below.variance[part, :, node] += np.where(unmetered, variance_wh2, 0.0)
        if part is Part.MAPPING:
            below.moves[:, node] += passed != 0
        unmetered &= ~own.known[:, node] | through
        node = int(tree.parent[node])


def _share_three_phase(tree: Tree, direct: Sums, below: Sums) -> None:
    """Three-phase consumers hang on the transformer itself: each of its phases is assessed a third of them, a quarter more or less."""
    for phase in tree.at(Level.PHASE):
        above = tree.parent[phase]
        if above >= 0:
            third = (direct.down_wh[:, above] - direct.assessed_wh[:, above]) // 3
            below.down_wh[:, phase] += third
            below.assessed_wh[:, phase] += third
            below.likely_wh[:, phase] += third
            below.variance[Part.ASSESSED, :, phase] += (UNEVEN * third) ** 2


@dataclass(frozen=True, slots=True)
class _Side:
    """Meters of one direction added up by node, [span, node]: energy and estimated energy, intervals expected and present (int64), expectation of
    what is missing, shift by doubtful mapping, largest class limit, expected number of moves (float64), variances [part, span, node], and doubt
    [4, span, node]: sums over the node's meters of p E, p (1 - p) E^2, p E^2 and, of those who use anything, p."""

    wh: Int64
    estimated_wh: Int64
    expected: Int64
    present: Int64
    missing_wh: Float64
    shift_wh: Float64
    limit_wh: Float64
    moves: Float64
    variance: Float64
    doubt: Float64

    def nothing(self) -> _Side:
        return _Side(*(np.zeros_like(getattr(self, field.name)) for field in fields(self)))

    @staticmethod
    def of(node: Int32, nodes: int, meters: MeterTotals, errors: Errors, interval_s: int) -> _Side:
        shape = meters.wh.shape[0], nodes
        wh, estimated_wh, expected, present = (np.zeros(shape, np.int64) for _ in range(4))
        missing_wh, usual_there, limit_wh, shift_wh, moves = (np.zeros(shape) for _ in range(5))
        variance, doubt = np.zeros((len(Part), *shape)), np.zeros((4, *shape))
        _add_meters(
            node, meters.wh, meters.estimated_wh, meters.missing, meters.present, meters.estimated, meters.usual_there, meters.usual_missing,
            meters.step, errors.class_limit, errors.clock_s, errors.step_wh, errors.wrong_node, errors.estimated, errors.gap, errors.unknown,
            float(interval_s), wh, estimated_wh, expected, present, usual_there, missing_wh, limit_wh, variance, doubt,
        )  # fmt: skip
        return _Side(wh, estimated_wh, expected, present, missing_wh, shift_wh, limit_wh, moves, variance, doubt)


def _spread_doubt(tree: Tree, side: _Side) -> Strays:
    """Whoever does not hang here hangs on one of the node's sisters, each as likely: shifts the side's expectation (in place)."""
    found = Strays(np.zeros(side.wh.shape), np.zeros(side.wh.shape))
    if not side.doubt.any():
        return found
    for above in np.unique(tree.parent[tree.parent >= 0]).tolist():
        sisters = np.flatnonzero(tree.parent == above)
        if sisters.size == 1:
            continue  # nowhere else to hang below this parent
        leaving = side.doubt[:, :, sisters]
        arriving = (leaving.sum(axis=2, keepdims=True) - leaving) / (sisters.size - 1)
        side.shift_wh[:, sisters] += arriving[0] - leaving[0]
        found.variance_wh2[:, sisters] += leaving[1] + arriving[2]
        found.moves[:, sisters] += leaving[3] + arriving[3]
    return found


def _claimed(tree: Tree, side: _Side, meters: MeterTotals) -> None:
    """Adds meters that several nodes claim to what is missing at each (in place)."""
    for meter, node, share in zip(tree.maybe_meter, tree.maybe_node, tree.maybe_share, strict=True):
        energy = meters.wh[:, meter].astype(np.float64)
        side.missing_wh[:, node] += share * energy
        side.variance[Part.MAPPING, :, node] += share * (1 - share) * energy**2
        side.moves[:, node] += 4 * share * (1 - share)  # a claim of two is a move that happens or not


@njit(nogil=True, cache=True)
def _add_at(own: Any, nodes: Any, more: Any, at: Any, where: Any) -> None:
    for span in range(own.shape[0]):
        for k in range(nodes.size):
            if where[span, k]:
                own[span, nodes[k]] += more[span, at[k]]


@njit(nogil=True, cache=True)
def _larger_at(own: Any, nodes: Any, more: Any, at: Any, where: Any) -> None:
    for span in range(own.shape[0]):
        for k in range(nodes.size):
            if where[span, k]:
                own[span, nodes[k]] = max(own[span, nodes[k]], more[span, at[k]])


@njit(nogil=True, cache=True)
def _both_at(own: Any, nodes: Any, more: Any, at: Any, where: Any) -> None:
    for span in range(own.shape[0]):
        for k in range(nodes.size):
            if where[span, k]:
                own[span, nodes[k]] &= more[span, at[k]]


@njit(nogil=True, cache=True, error_model="numpy")
def _add_meters(  # type: ignore[no-untyped-def]
    node, wh, estimated_wh, missing, present, estimated, usual_there, usual_missing, step, class_limit, clock_s, step_wh, wrong_node,
    r_estimated, r_gap, r_unknown, interval_s, out_wh, out_estimated, out_expected, out_present, out_usual, out_missing, out_limit, variance,
    doubt,
):  # fmt: skip
    hours = interval_s / 3600.0
    for span in range(wh.shape[0]):
        for m in range(node.size):
            n = node[m]
            if n < 0:
                continue
            e, g = np.float64(wh[span, m]), np.float64(estimated_wh[span, m])
            out_wh[span, n] += wh[span, m]
            out_estimated[span, n] += estimated_wh[span, m]
            out_expected[span, n] += present[span, m] + missing[span, m]
            out_present[span, n] += present[span, m]
            limit = class_limit[m] * abs(e - g)
            out_limit[span, n] = max(out_limit[span, n], limit)
            variance[0, span, n] += limit**2 / 3.0 + step_wh[m] ** 2 / 6.0
            variance[1, span, n] += (clock_s[m] / interval_s * step[span, m]) ** 2
            variance[3, span, n] += (r_estimated * g) ** 2 / (1.0 + estimated[span, m] * hours / SETTLED_H)
            out_usual[span, n] += usual_there[span, m]
            p = wrong_node[m]
            if p > 0:
                doubt[0, span, n] += p * e
                doubt[1, span, n] += p * (1 - p) * e * e
                doubt[2, span, n] += p * e * e
                doubt[3, span, n] += p if e != 0 else 0.0
        for m in range(node.size):
            n = node[m]
            if n < 0 or not missing[span, m]:
                continue
            there, lost, gone_h = np.float64(usual_there[span, m]), np.float64(usual_missing[span, m]), missing[span, m] * hours
            if there > lost:  # the rest of the span tells the meter's own size
                size, relative2 = wh[span, m] / there, r_gap**2 / (1.0 + gone_h / SETTLED_H)
            else:  # the node's average consumer
                size = out_wh[span, n] / out_usual[span, n] if out_usual[span, n] > 0 else 1.0
                relative2 = r_unknown**2 * (1.0 + SIZE_H / gone_h)
            out_missing[span, n] += lost * size
            variance[2, span, n] += relative2 * (lost * size) ** 2
