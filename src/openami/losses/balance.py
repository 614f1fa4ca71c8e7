"""The energy balance of every transformer and feeder, per hour and per day.

In: validated Wh [slot, meter] with its quality, and who hangs where. Out: int64 Wh [hour, node], and the counts from which
the coverage follows.

What always holds: loss = in - out, to the Wh, wherever both are known, and `MISSING64` elsewhere; a day is the sum of its hours.
LT loss = transformer - consumers; feeder loss = feeder - its transformers - the consumers who hang on the feeder directly
(the loss definitions of Indian energy audit tenders; CEA's AT&C method starts above them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from ..readings import ESTIMATED_BITS, MISSING, Int32, Int64, UInt32
from ..registry import ShardIndex

Float64 = npt.NDArray[np.float64]

MISSING64 = np.int64(-(2**63))
"""No value, in every int64 array of this room."""
MAD_TO_SIGMA = 1.4826
SPREAD_MIN = 0.005


@dataclass(frozen=True, slots=True)
class Flow:
    """One side of a balance. All int64 [span, node]: energy [Wh] that was present, the part of it that was estimated, and how many
    meter intervals there should be, were present, and were estimated."""

    wh: Int64
    estimated_wh: Int64
    expected: Int64
    present: Int64
    estimated: Int64

    def measured_share(self) -> Float64:
        """Share of the side that was truly metered, 0..1 [span, node]: (energy not estimated / energy) x (intervals present / expected).

        Missing intervals are taken to weigh like the others. Without energy only the intervals speak; with nothing expected it is 1.
        """
        truly = np.where(self.wh > 0, _ratio(self.wh - self.estimated_wh, self.wh), _ratio(self.present - self.estimated, self.present))
        there = _ratio(self.present, self.expected)
        share = np.where(self.present > 0, truly, 1.0) * there
        return np.clip(np.where(self.expected == 0, 1.0, share), 0.0, 1.0)

    def over_day(self) -> Flow:
        """The same side with its spans added to one: [1, node]."""
        return Flow(*(part.sum(axis=0, keepdims=True) for part in self.parts()))

    def parts(self) -> tuple[Int64, Int64, Int64, Int64, Int64]:
        return self.wh, self.estimated_wh, self.expected, self.present, self.estimated


@dataclass(frozen=True, slots=True)
class NodeBalance:
    """In, out and loss of nodes [span, node], int64 [Wh], `MISSING64` where unknown.

    in_wh: the node's own meter; unknown unless every one of its intervals in the span is present.
    out_wh: what hangs below. For a transformer the sum of the consumers' present intervals, unknown only if none is present;
    what missing consumers used then counts as loss, and `coverage` says how much is missing. For a feeder, unknown unless
    every transformer below is known.
    loss_wh: in - out, unknown where either is. It may be negative.
    source, sink: the counts behind in and out.
    """

    names: tuple[str, ...]
    in_wh: Int64
    out_wh: Int64
    loss_wh: Int64
    source: Flow
    sink: Flow

    def coverage(self) -> Float64:
        """Share of the balance that was truly metered, 0..1 [span, node]: the weaker of its two sides (`Flow.measured_share`)."""
        return np.minimum(self.source.measured_share(), self.sink.measured_share())

    def estimated_share(self) -> Float64:
        """Share of the energy in and out that was estimated, 0..1 [span, node]; NaN where there was no energy at all."""
        return _ratio(self.source.estimated_wh + self.sink.estimated_wh, self.source.wh + self.sink.wh)

    def loss_share(self) -> Float64:
        """Loss / in [span, node], NaN where unknown or nothing came in. Show it only beside `coverage`."""
        known = (self.loss_wh != MISSING64) & (self.in_wh > 0)
        return np.where(known, _ratio(self.loss_wh, np.where(known, self.in_wh, 0)), np.nan)

    def over_day(self) -> NodeBalance:
        """The day of these hours, [1, node]: known where every hour is known."""
        return NodeBalance(
            names=self.names,
            in_wh=_sum_if_all(self.in_wh),
            out_wh=_sum_if_all(self.out_wh),
            loss_wh=_sum_if_all(self.loss_wh),
            source=self.source.over_day(),
            sink=self.sink.over_day(),
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """One shard's day: transformers and feeders per hour [hour, node] and for the day [1, node]."""

    shard: int
    transformer_feeder: Int32
    transformers: NodeBalance
    feeders: NodeBalance
    transformers_day: NodeBalance
    feeders_day: NodeBalance


def balance(index: ShardIndex, validated: Int32, quality: UInt32, slots_per_hour: int) -> Balance:
    """The balance of one shard's day.

    validated: int32 [slot, meter], import [Wh], MISSING where there is none; quality: uint32, same shape, of `Quality` bits.
    A day of 23 or 25 hours has as many hours here; a last hour that is cut short counts as one.
    Raises ValueError when the shapes do not fit the index.
    """
    if validated.shape != quality.shape or validated.ndim != 2 or validated.shape[1] != index.meters:
        raise ValueError(
            f"balance of shard {index.shard}: values {validated.shape} and quality {quality.shape} "
            f"must both be [slot, {index.meters} meters]"
        )
    if slots_per_hour < 1:
        raise ValueError(f"slots_per_hour must be 1 or more, got {slots_per_hour}")

    def flow(node: Int32, nodes: int) -> Flow:
        return Flow(*_sum_by_node(validated, quality, node, nodes, slots_per_hour))

    none = np.int32(-1)
    dts, feeders = len(index.transformers), len(index.feeders)
    own_dt = flow(np.where(index.is_transformer, index.transformer, none), dts)
    consumers = flow(np.where(index.is_consumer, index.transformer, none), dts)
    own_feeder = flow(np.where(index.is_feeder, index.feeder, none), feeders)
    direct = flow(np.where(index.is_consumer & (index.transformer < 0), index.feeder, none), feeders)

    out_known = (consumers.present > 0) | (consumers.expected == 0)
    transformers = _node(index.transformers, own_dt, consumers, out_known)
    below = Flow(*(_sum_by_parent(part, index.transformer_feeder, more) for part, more in zip(own_dt.parts(), direct.parts(), strict=True)))
    unknown = (transformers.in_wh == MISSING64).astype(np.int64)
    unknown_below = _sum_by_parent(unknown, index.transformer_feeder, np.zeros((len(unknown), feeders), np.int64))
    direct_known = (direct.present > 0) | (direct.expected == 0)
    by_feeder = _node(index.feeders, own_feeder, below, (unknown_below == 0) & direct_known)
    return Balance(
        shard=index.shard,
        transformer_feeder=index.transformer_feeder,
        transformers=transformers,
        feeders=by_feeder,
        transformers_day=transformers.over_day(),
        feeders_day=by_feeder.over_day(),
    )


def _node(names: tuple[str, ...], source: Flow, sink: Flow, sink_known: npt.NDArray[np.bool_]) -> NodeBalance:
    source_known = (source.expected > 0) & (source.present == source.expected)
    in_wh = np.where(source_known, source.wh, MISSING64)
    out_wh = np.where(sink_known, sink.wh, MISSING64)
    loss_wh = np.where(source_known & sink_known, source.wh - sink.wh, MISSING64)
    return NodeBalance(names, in_wh, out_wh, loss_wh, source, sink)


def _sum_by_parent(nodes: Int64, parent: Int32, more: Int64) -> Int64:
    """`more` [hour, parent] and the nodes [hour, node] of each parent, added."""
    total = more.T.copy()
    np.add.at(total, parent, nodes.T)
    return np.ascontiguousarray(total.T)


def _sum_if_all(hours: Int64) -> Int64:
    known = (hours != MISSING64).all(axis=0, keepdims=True)
    return np.where(known, np.where(hours == MISSING64, 0, hours).sum(axis=0, keepdims=True), MISSING64)


def _ratio(part: Int64, whole: Int64) -> Float64:
    """part / whole as float64, NaN where whole is not positive."""
    positive = whole > 0
    result: Float64 = np.where(positive, part / np.where(positive, whole, 1), np.nan)
    return result


def _sum_by_node(values: Int32, quality: UInt32, node: Int32, nodes: int, slots_per_hour: int) -> tuple[Int64, Int64, Int64, Int64, Int64]:
    """Wh, estimated Wh, intervals expected, present, estimated: int64 [hour, node]. A meter whose node is -1 counts nowhere."""
    slots = values.shape[0]
    hours = (slots + slots_per_hour - 1) // slots_per_hour
    own = np.flatnonzero(node >= 0)
    wh, estimated_wh, present, estimated = (np.zeros((hours, nodes), np.int64) for _ in range(4))
    starts = np.flatnonzero((np.diff(own, prepend=-2) != 1) | (np.diff(node[own], prepend=-1) != 0))
    ends = np.append(starts[1:], own.size) - 1
    runs = np.stack([own[starts], own[ends] + 1, node[own[starts]]], axis=1) if own.size else np.empty((0, 3), np.int64)
    _add_by_node(values, quality, runs, slots_per_hour, wh, estimated_wh, present, estimated)
    in_hour = np.minimum(slots_per_hour, slots - slots_per_hour * np.arange(hours))
    expected = in_hour[:, None] * np.bincount(node[own], minlength=nodes)[None, :].astype(np.int64)
    return wh, estimated_wh, expected, present, estimated


@njit(nogil=True, cache=True)
def _add_by_node(
    values: Int32, quality: UInt32, runs: Int64, slots_per_hour: int, wh: Int64, estimated_wh: Int64, present: Int64, estimated: Int64
) -> None:
    """Adds runs of meters side by side that hang below one node: (first meter, the one after the last, node)."""
    for slot in range(values.shape[0]):
        hour = slot // slots_per_hour
        for k in range(runs.shape[0]):
            first, end, n = runs[k, 0], runs[k, 1], runs[k, 2]
            row, marks = values[slot, first:end], quality[slot, first:end]
            energy, there, any_mark = np.int64(0), np.int32(0), np.uint32(0)
            for i in range(row.size):
                known = row[i] != MISSING
                energy += np.int64(row[i]) if known else np.int64(0)
                there += np.int32(1) if known else np.int32(0)
                any_mark |= marks[i]
            wh[hour, n] += energy
            present[hour, n] += there
            if any_mark & ESTIMATED_BITS:
                for i in range(row.size):
                    if row[i] != MISSING and marks[i] & ESTIMATED_BITS:
                        estimated_wh[hour, n] += row[i]
                        estimated[hour, n] += 1


def loss_outliers(loss_share: Float64) -> Float64:
    """Robust z of each node's loss share among its peers: (x - median) / (1.4826 x MAD); float64, shape of the input.

    The spread is taken as half a percentage point at least, because meters of accuracy class 1 cannot tell smaller differences.
    NaN where the share is NaN (unknown) or fewer than five peers are known. A transformer above about +3.5 loses unlike its
    peers; below -3.5, some of its consumers are fed from elsewhere (Iglewicz and Hoaglin's usual limit).
    """
    known = np.isfinite(loss_share)
    if known.sum() < 5:
        return np.full(loss_share.shape, np.nan)
    centre = np.median(loss_share[known])
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(loss_share[known] - centre))), SPREAD_MIN)
    return np.where(known, (loss_share - centre) / spread, np.nan)
