"""Roll-ups: demand per slot of every transformer, feeder, division and of the whole company, its peak, load factor and completeness.

In: validated Wh of a shard, as a block or column by column as a file gives them, and the node of each meter. Out: `Rollup`.

What always holds: demands are exact int64 sums of the readings that are there; a reading that is not there is counted (`missing`), never
taken as 0 unseen, so a peak always comes with its completeness; whatever way a shard is cut, `together` of the parts is the roll-up of the
whole; a parent is the sum of its children (`over`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..readings import MISSING, MISSING64, Int32, Int64

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rollup:
    """Nodes of one level over one day.

    demand_wh: int64 [slot, node], the energy of the readings that are there; missing: int64 [slot, node], how many are not;
    meters: int64 [node], how many meters the node has. A node without meters has demand 0 and no peak.
    """

    demand_wh: Int64
    missing: Int64
    meters: Int64

    @property
    def energy_wh(self) -> Int64:
        """int64 [node]: the day's energy."""
        return np.asarray(self.demand_wh.sum(axis=0), np.int64)

    @property
    def peak_wh(self) -> Int64:
        """int64 [node]: the highest demand of an interval [Wh in that interval]; `MISSING64` where the node has no reading at all."""
        return np.where(self._any(), self.demand_wh.max(axis=0), MISSING64)

    @property
    def peak_slot(self) -> Int64:
        """int64 [node]: the slot of the peak, the first of equal ones; -1 where the node has no reading at all."""
        return np.where(self._any(), self.demand_wh.argmax(axis=0), -1)

    def peak_w(self, interval_minutes: int) -> Int64:
        """int64 [node]: the peak as average power over its interval [W], halves rounded down; `MISSING64` as in `peak_wh`."""
        return np.where(self._any(), self.peak_wh * 60 // interval_minutes, MISSING64)

    @property
    def load_factor(self) -> Float64:
        """float64 [node]: average demand / peak demand, NaN where there is no positive peak."""
        peak = np.where(self._any(), self.demand_wh.max(axis=0), 0)
        return np.where(peak > 0, self.energy_wh / np.where(peak > 0, peak * len(self.demand_wh), 1), np.nan)

    @property
    def completeness(self) -> Float64:
        """float64 [node]: the share of the node's readings that are there; NaN for a node without meters."""
        expected = self.meters * len(self.demand_wh)
        return np.where(expected > 0, 1 - self.missing.sum(axis=0) / np.where(expected > 0, expected, 1), np.nan)

    def over(self, parent: npt.NDArray[np.integer], parents: int) -> Rollup:
        """The level above: parent [node] gives each node's parent of `parents`, -1 = counts nowhere. RequestError where it does not fit."""
        nodes = self.meters.size
        if parent.shape != (nodes,) or (nodes and int(parent.max()) >= parents):
            raise RequestError(f"{nodes} nodes, but their parents are {parent.shape} of {parents}; give each node one parent, or -1")
        own = np.flatnonzero(parent >= 0)
        demand, missing = (np.zeros((parents, len(self.demand_wh)), np.int64) for _ in range(2))
        np.add.at(demand, parent[own], self.demand_wh.T[own])
        np.add.at(missing, parent[own], self.missing.T[own])
        meters = np.bincount(parent[own], self.meters[own], parents).astype(np.int64)
        return Rollup(np.ascontiguousarray(demand.T), np.ascontiguousarray(missing.T), meters)

    def _any(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.missing.sum(axis=0) < self.meters * len(self.demand_wh), np.bool_)


def rollup(values: Int32, node: Int32, nodes: int) -> Rollup:
    """A day block by node. values: int32 [slot, meter] in Wh, MISSING where there is none; node: int32 [meter], -1 = counts nowhere.
    Raises RequestError where they do not fit."""
    return rollup_columns(list(np.ascontiguousarray(values)), node, nodes)


def rollup_columns(columns: Sequence[Int32], node: Int32, nodes: int) -> Rollup:
    """The same from one int32 array [meter] per slot, as Parquet gives them, without stacking them first."""
    if any(column.shape != node.shape for column in columns) or (node.size and int(node.max()) >= nodes):
        raise RequestError(f"slot columns of {columns[0].shape}, nodes of {node.shape} up to {nodes}; give every meter a node, or -1")
    demand, missing = np.zeros((len(columns), nodes), np.int64), np.zeros((len(columns), nodes), np.int64)
    for slot, column in enumerate(columns):
        _add_slot(column, node, demand[slot], missing[slot])
    meters = np.bincount(node[node >= 0], minlength=nodes).astype(np.int64)
    return Rollup(demand, missing, meters)


def together(parts: Sequence[Rollup]) -> Rollup:
    """Parts of the same level, of different meters (cuts of a shard, or shards), added. RequestError for none, or other shapes."""
    if len({part.demand_wh.shape for part in parts}) != 1:
        raise RequestError(f"roll-ups of shapes {sorted({p.demand_wh.shape for p in parts})} cannot be added; give one level of one day")
    return Rollup(sum_of([p.demand_wh for p in parts]), sum_of([p.missing for p in parts]), sum_of([p.meters for p in parts]))


def sum_of(arrays: Sequence[Int64]) -> Int64:
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total


@nb.njit(nogil=True, cache=True)
def _add_slot(column: Int32, node: Int32, demand: Int64, missing: Int64) -> None:
    """One slot of all meters. Meters of a node mostly stand together: their sum is kept until the node changes."""
    at, total = np.int32(-1), np.int64(0)
    for m in range(column.size):
        if node[m] != at:
            if at >= 0:
                demand[at] += total
            at, total = node[m], np.int64(0)
        value = column[m]
        if value != MISSING:
            total += value
        elif at >= 0:
            missing[at] += 1
    if at >= 0:
        demand[at] += total
