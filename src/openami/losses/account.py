"""The energy account of every node over any span, with an interval: what came in, what went out, and how well the difference is known.

In: validated Wh [slot, meter] (import, and export where there is any) with quality, the day's `Tree`, the meters' `Errors`.
Out: `Account`, arrays [span, node].

Two steps. `totals` adds each meter's readings up over spans of slots; totals of several days may be added (`MeterTotals.plus`), so that a
month is reckoned per meter before anything is said about a node. `account` then adds meters up along the tree.

What always holds:
- in + exports from below = out + loss to the Wh, wherever both are known (the ledger: `in_wh`, `out_wh`, `loss_wh`);
- `likely_wh` is the loss with what is missing put in at its expectation; the interval [low_wh, high_wh] lies around it;
- a node without a meter of its own has no loss; what hangs below it counts at the next node above, whose coverage falls;
- so does the coverage of a node that may feed another whose place the records contradict;
- the spread's parts stay apart (`Part`), so that a reader sees why an interval is wide.

The parts follow the law of propagation of uncertainty (JCGM 100, GUM, 5.1): a meter's class limit is a rectangular distribution that holds
for all its intervals together; clocks shift energy across the ends of the span only; what is filled or missing is known the better, the more
hours of it there are. How wide nine in ten lie follows from the distribution, not from the spread alone: half_width.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ..errors import RequestError
from ..readings import MISSING64, Int32, Int64
from .half_width import INSIDE, INSIDE_MOST, half_width
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
class Account:
    """All [span, node]. in_wh: the node's own import and what consumers below exported; out_wh: what went to consumers, nodes below and
    assessed loads, and the node's own export; loss_wh = in - out: int64, MISSING64 where unknown. It may be negative.
    likely_wh, low_wh, high_wh: float64, NaN where unknown. spread_wh: float64 [part, span, node], standard deviations; limit_wh: float64, the
    largest class limit of one meter; moves: float64, how many meters are expected to hang elsewhere (both for `half_width`).
    coverage: float64 0..1, the truly metered share of the balance, the weaker of its two sides; estimated_share: of in and out; 0..1.
    missing_wh: float64, the expectation of what is missing below; assessed_wh: int64.
    """

    tree: Tree
    in_wh: Int64
    out_wh: Int64
    loss_wh: Int64
    likely_wh: Float64
    low_wh: Float64
    high_wh: Float64
    spread_wh: Float64
    limit_wh: Float64
    moves: Float64
    coverage: Float64
    estimated_share: Float64
    missing_wh: Float64
    assessed_wh: Int64

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.loss_wh != MISSING64, np.bool_)

    def percent(self) -> tuple[Float64, Float64, Float64]:
        """Likely, low and high loss as percent of what came in; NaN where unknown or nothing came in."""
        base = np.where(self.known & (self.in_wh > 0), self.in_wh.astype(np.float64), np.nan)
        return 100 * self.likely_wh / base, 100 * self.low_wh / base, 100 * self.high_wh / base


def account(
    tree: Tree, imported: MeterTotals, errors: Errors, interval_s: int, exported: MeterTotals | None = None, assessed: Assessed | None = None,
    inside: float = INSIDE,
) -> Account:  # fmt: skip
    """The account of every node of the tree. inside: the share of cases in which the interval shall hold the true loss.

    RequestError where arrays do not fit the tree. A node's own meter must have every interval of the span, else its loss is unknown.
    """
    if not 0 < inside <= INSIDE_MOST:
        raise RequestError(
            f"an interval that holds {inside:g} of the cases cannot be told; give a share above 0 and at most {INSIDE_MOST:g}"
        )
    spans, meters = imported.wh.shape
    if errors.class_limit.size != meters or tree.meter_node.size != meters or (exported and exported.wh.shape != imported.wh.shape):
        raise RequestError(
            f"tree of {tree.meter_node.size}, errors of {errors.class_limit.size}, readings of {meters} meters: give the same meters"
        )
    nodes = len(tree.names)
    load = np.zeros((spans, nodes)) if assessed is None else assessed.wh
    if load.shape != (spans, nodes):
        raise RequestError(f"assessed loads are {load.shape}, the account {(spans, nodes)} [span, node]; give one value each")
    taken = _Side.of(tree, imported, errors, interval_s)
    given = _Side.of(tree, exported, errors, interval_s) if exported else taken.nothing()
    own_in = _own(tree, imported, errors, interval_s)
    own_out = _own(tree, exported, errors, interval_s) if exported else own_in.nothing()
    below = _climb(tree, taken, given, own_in, own_out, load, 0.0 if assessed is None else assessed.relative)
    return _settle(tree, below, own_in, own_out, inside)


def unknown_at(found: Account, nodes: npt.NDArray[np.int64]) -> Account:
    """The same account with what left these nodes, and so their loss, unknown: not all of it was seen."""
    if not nodes.size:
        return found
    out, loss, coverage = found.out_wh.copy(), found.loss_wh.copy(), found.coverage.copy()
    out[:, nodes], loss[:, nodes], coverage[:, nodes] = MISSING64, MISSING64, 0.0
    known = loss != MISSING64
    likely, low, high = (np.where(known, each, np.nan) for each in (found.likely_wh, found.low_wh, found.high_wh))
    return replace(found, out_wh=out, loss_wh=loss, coverage=coverage, likely_wh=likely, low_wh=low, high_wh=high)


@dataclass(frozen=True, slots=True)
class _Side:
    """Sums of meters by node, [span, node]: energy and estimated energy (int64), intervals expected and present (int64), expectation of what
    is missing, shift by doubtful mapping, largest class limit, expected number of moves (float64), and variances [part, span, node]."""

    wh: Int64
    estimated_wh: Int64
    expected: Int64
    present: Int64
    missing_wh: Float64
    shift_wh: Float64
    limit_wh: Float64
    moves: Float64
    variance: Float64

    def nothing(self) -> _Side:
        return _Side(*(np.zeros_like(getattr(self, name)) for name in self.__slots__))

    @staticmethod
    def of(tree: Tree, meters: MeterTotals, errors: Errors, interval_s: int) -> _Side:
        """The consumers' meters of each node, with doubtful ones spread over where they may hang."""
        spans, nodes = meters.wh.shape[0], len(tree.names)
        found = _sums(tree.meter_node, nodes, meters, errors, interval_s)
        wh, estimated_wh, expected, present, missing_wh, limit_wh, variance, doubt = found
        shift, moves = np.zeros((spans, nodes)), np.zeros((spans, nodes))
        _spread_doubt(tree, doubt, variance, shift, moves)
        for meter, node, share in zip(tree.maybe_meter, tree.maybe_node, tree.maybe_share, strict=True):
            energy = meters.wh[:, meter].astype(np.float64)
            missing_wh[:, node] += share * energy
            variance[Part.MAPPING, :, node] += share * (1 - share) * energy**2
            moves[:, node] += 4 * share * (1 - share)  # a claim of two is a move that happens or not
        return _Side(wh, estimated_wh, expected, present, missing_wh, shift, limit_wh, moves, variance)


def _own(tree: Tree, meters: MeterTotals, errors: Errors, interval_s: int) -> _Side:
    """The nodes' own meters."""
    at = np.full(meters.wh.shape[1], -1, np.int32)
    has = tree.own_meter >= 0
    at[tree.own_meter[has]] = np.flatnonzero(has)
    sure = replace(errors, wrong_node=np.zeros_like(errors.wrong_node))
    wh, estimated_wh, expected, present, _, limit_wh, variance, _ = _sums(at, len(tree.names), meters, sure, interval_s)
    nothing = np.zeros(wh.shape)
    return _Side(wh, estimated_wh, expected, present, nothing, nothing, limit_wh, nothing, variance)


def _spread_doubt(tree: Tree, doubt: Float64, variance: Float64, shift: Float64, moves: Float64) -> None:
    """Adds the mapping part. doubt: [4, span, node], sums over the node's meters of p E, p (1 - p) E^2, p E^2 and, of those who use anything, p.
    Whoever does not hang here hangs on one of the node's sisters, each as likely."""
    group = np.where(tree.parent >= 0, tree.parent, -1)
    for level_parent in np.unique(group[group >= 0]):
        sisters = np.flatnonzero(group == level_parent)
        leaving = doubt[:, :, sisters]
        others = max(sisters.size - 1, 1)
        arriving = (leaving.sum(axis=2, keepdims=True) - leaving) / others
        if sisters.size == 1:
            continue  # nowhere else to hang below this parent
        shift[:, sisters] += arriving[0] - leaving[0]
        variance[Part.MAPPING][:, sisters] += leaving[1] + arriving[2]
        moves[:, sisters] += leaving[3] + arriving[3]


@dataclass(frozen=True, slots=True)
class _Below:
    """What leaves a node downward (out) and comes up from consumers (up), [span, node], with all that is known of them."""

    out_wh: Int64
    up_wh: Int64
    estimated_wh: Int64
    measured: Float64
    likely_out: Float64
    limit_wh: Float64
    moves: Float64
    variance: Float64
    missing_wh: Float64
    assessed_wh: Int64
    anything: npt.NDArray[np.bool_]


def _climb(tree: Tree, taken: _Side, given: _Side, own_in: _Side, own_out: _Side, load: Float64, relative: float) -> _Below:
    """From the leaves up: a child with a complete meter of its own counts with that meter, any other with what hangs below it."""
    assessed = np.rint(load).astype(np.int64)
    out = taken.wh + assessed
    up, estimated = given.wh.copy(), taken.estimated_wh + given.estimated_wh
    there = np.where(taken.expected > 0, taken.present / np.maximum(taken.expected, 1), 1.0)
    measured = np.where(taken.wh > 0, (taken.wh - taken.estimated_wh) * there, 0.0)
    likely = taken.wh + load + taken.missing_wh + taken.shift_wh - given.wh - given.missing_wh - given.shift_wh
    variance = taken.variance + given.variance
    variance[Part.ASSESSED] += (relative * load) ** 2
    limit, moves = np.maximum(taken.limit_wh, given.limit_wh), np.maximum(taken.moves, given.moves)
    missing = taken.missing_wh + given.missing_wh
    anything = (taken.present > 0) | (assessed > 0) | (taken.expected == 0)
    complete = (own_in.expected > 0) & (own_in.present == own_in.expected)
    is_phase = np.array([level is Level.PHASE for level in tree.levels], np.bool_)
    for children in generations(tree.parent):
        up_to, phase = tree.parent[children], is_phase[children]
        metered = complete[:, children] & ~phase  # phases cut the transformer's consumers up; their meters are parts of its own

        def add(total: Any, of_meter: Any, of_below: Any, up_to: Int32 = up_to, metered: Any = metered, children: Int32 = children) -> None:
            at: Any = (..., up_to)
            np.add.at(total, at, np.where(metered, of_meter[..., children], of_below[..., children]))

        add(out, own_in.wh, out)
        add(up, own_out.wh, up)
        add(estimated, own_in.estimated_wh, estimated)
        # what is metered only further down leaves the wires between unmetered: it does not count as metered at this boundary
        add(measured, own_in.wh - own_in.estimated_wh, np.where(is_phase, measured, 0.0))
        add(likely, own_in.wh - own_out.wh, likely)
        add(variance, own_in.variance + own_out.variance, variance)
        add(missing, np.zeros_like(missing), missing)
        add(moves, np.zeros_like(moves), moves)
        to: Any = (..., up_to)
        np.maximum.at(limit, to, np.where(metered, np.maximum(own_in.limit_wh, own_out.limit_wh)[:, children], limit[:, children]))
        np.logical_and.at(anything, to, metered | anything[:, children])
    _doubt_nodes(tree, own_in, own_out, complete, likely, missing, moves, variance)
    _share_three_phase(tree, taken, out, likely, variance, assessed)
    return _Below(out, up, estimated, measured, likely, limit, moves, variance, missing, assessed, anything)


def _doubt_nodes(
    tree: Tree, own_in: _Side, own_out: _Side, complete: npt.NDArray[np.bool_], likely: Float64, missing: Float64, moves: Float64, variance: Float64
) -> None:  # fmt: skip
    """Nodes that stand alone because the records contradict themselves: half of what they take is missing at each node that may feed them, and at
    those above it up to the next meter; their coverage falls."""
    taken = np.where(complete, own_in.wh - own_out.wh, likely)
    for child, above in zip(tree.maybe_child.tolist(), tree.maybe_parent.tolist(), strict=True):
        half = taken[:, child] / 2
        unmetered = np.ones(half.shape, np.bool_)
        while above >= 0 and unmetered.any():
            passed = np.where(unmetered, half, 0.0)
            likely[:, above] += passed
            missing[:, above] += passed
            variance[Part.MAPPING, :, above] += passed**2
            moves[:, above] += passed != 0
            unmetered &= ~complete[:, above]
            above = int(tree.parent[above])


def _share_three_phase(tree: Tree, taken: _Side, out: Int64, likely: Float64, variance: Float64, assessed: Int64) -> None:
    """Three-phase consumers hang on the transformer itself: each of its phases is assessed a third of them, a quarter more or less."""
    for phase in tree.at(Level.PHASE):
        above = tree.parent[phase]
        if above >= 0:
            third = taken.wh[:, above] // 3
            out[:, phase] += third
            assessed[:, phase] += third
            likely[:, phase] += third
            variance[Part.ASSESSED, :, phase] += (UNEVEN * third) ** 2


def _settle(tree: Tree, below: _Below, own_in: _Side, own_out: _Side, inside: float) -> Account:
    complete = (own_in.expected > 0) & (own_in.present == own_in.expected)
    known = complete & below.anything
    in_wh, out_wh = own_in.wh + below.up_wh, below.out_wh + own_out.wh
    likely = own_in.wh - own_out.wh - below.likely_out
    spread = np.sqrt(below.variance + own_in.variance + own_out.variance)
    limit = np.maximum(below.limit_wh, np.maximum(own_in.limit_wh, own_out.limit_wh))
    width = half_width(spread, Part.MAPPING, limit, below.moves, inside)
    out_truly = np.divide(
        below.measured, below.out_wh + below.missing_wh, out=np.ones(likely.shape), where=(below.out_wh + below.missing_wh) > 0
    )
    in_truly = np.divide(own_in.wh - own_in.estimated_wh, own_in.wh, out=np.ones(likely.shape), where=own_in.wh > 0)
    both = in_wh + out_wh
    estimated = below.estimated_wh + own_in.estimated_wh + own_out.estimated_wh
    return Account(
        tree=tree,
        in_wh=np.where(complete, in_wh, MISSING64),
        out_wh=np.where(below.anything, out_wh, MISSING64),
        loss_wh=np.where(known, in_wh - out_wh, MISSING64),
        likely_wh=np.where(known, likely, np.nan),
        low_wh=np.where(known, likely - width, np.nan),
        high_wh=np.where(known, likely + width, np.nan),
        spread_wh=spread,
        limit_wh=limit,
        moves=below.moves,
        coverage=np.where(known, np.clip(np.minimum(out_truly, in_truly), 0.0, 1.0), 0.0),
        estimated_share=np.divide(estimated, both, out=np.zeros(likely.shape), where=both > 0),
        missing_wh=below.missing_wh,
        assessed_wh=below.assessed_wh,
    )


def _sums(node: Int32, nodes: int, meters: MeterTotals, errors: Errors, interval_s: int) -> tuple[Any, ...]:
    spans = meters.wh.shape[0]
    counted = [np.zeros((spans, nodes), np.int64) for _ in range(4)]
    missing_wh, usual_there, limit_wh = (np.zeros((spans, nodes)) for _ in range(3))
    variance, doubt = np.zeros((len(Part), spans, nodes)), np.zeros((4, spans, nodes))
    _add_meters(
        node, meters.wh, meters.estimated_wh, meters.missing, meters.present, meters.estimated, meters.usual_there, meters.usual_missing,
        meters.step, errors.class_limit, errors.clock_s, errors.step_wh, errors.wrong_node, errors.estimated, errors.gap, errors.unknown,
        float(interval_s), *counted, usual_there, missing_wh, limit_wh, variance, doubt,
    )  # fmt: skip
    return (*counted, missing_wh, limit_wh, variance, doubt)


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
