"""What is known of a meter's day beside its readings: outages, disconnection, an exchange, its clock, its register; as the arrays that `run` takes.

In: facts as columns, a row each, as people, event logs, orders and register readings tell them. Out: one array per kind, None where nobody
tells anything. What always holds: of two facts of the same kind about the same thing the one made later holds, of the same moment the later
in the list; a fact that is taken back counts as never told; the order in which facts came changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..readings import MISSING64, Bool, Int32, Int64


class FactKind(IntEnum):
    """outage, inactive: slots `first` to `last` were without supply, or the meter stood disconnected; exchange: the meter was exchanged in slot
    `first`; clock: its clock was `value` seconds from ours; register: its register rose by `value` [Wh] over the day."""

    OUTAGE = 1
    INACTIVE = 2
    EXCHANGE = 3
    CLOCK = 4
    REGISTER = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one day block. All [fact]: kind int8 (`FactKind`), meter int32 (dense index), first and last int32 (slots, both included),
    value int64 (MISSING64 = taken back), made_us int64 (UTC microseconds)."""

    kind: npt.NDArray[np.int8]
    meter: Int32
    first: Int32
    last: Int32
    value: Int64
    made_us: Int64

    def of(self, kind: FactKind) -> Facts:
        """Those of one kind, oldest first."""
        own = np.flatnonzero(self.kind == kind)
        own = own[np.argsort(self.made_us[own], kind="stable")]
        return Facts(self.kind[own], self.meter[own], self.first[own], self.last[own], self.value[own], self.made_us[own])


class Known(TypedDict):
    """Arguments of `run` of the same names."""

    outage: Bool | None
    inactive: Bool | None
    exchange_slot: Int32 | None
    drift_s: Int32 | None
    register_wh: Int64 | None


def known_of(facts: Facts, slots: int, meters: int) -> Known:
    """The facts as `run`'s arguments for a block of `slots` and `meters`. InputError names a fact that lies outside it."""
    wrong = (facts.meter < 0) | (facts.meter >= meters) | (facts.first < 0) | (facts.last >= slots) | (facts.first > facts.last)
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"a fact of meter {facts.meter[k]}, slots {facts.first[k]} to {facts.last[k]}, lies outside the block of {slots} slots and "
            f"{meters} meters; tell it of the day and the shard that it belongs to"
        )
    return Known(
        outage=_spans(facts.of(FactKind.OUTAGE), slots, meters),
        inactive=_spans(facts.of(FactKind.INACTIVE), slots, meters),
        exchange_slot=_exchange(facts.of(FactKind.EXCHANGE), meters),
        drift_s=_drift(facts.of(FactKind.CLOCK), meters),
        register_wh=_register(facts.of(FactKind.REGISTER), meters),
    )


def _spans(own: Facts, slots: int, meters: int) -> Bool | None:
    """bool [slot, meter]: True where a span holds. A span taken back clears what was told of exactly these slots."""
    if not own.meter.size:
        return None
    place = own.meter.astype(np.int64) * slots * slots + own.first.astype(np.int64) * slots + own.last
    last_told = np.unique(place[::-1], return_index=True)[1]
    told = place.size - 1 - last_told
    told = told[own.value[told] != MISSING64]
    edges = np.zeros((slots + 1, meters), np.int32)
    np.add.at(edges, (own.first[told], own.meter[told]), 1)
    np.add.at(edges, (own.last[told] + 1, own.meter[told]), -1)
    spans: Bool = np.cumsum(edges, axis=0)[:slots] > 0
    return spans


def _exchange(own: Facts, meters: int) -> Int32 | None:
    if not own.meter.size:
        return None
    found = np.full(meters, -1, np.int32)
    found[own.meter] = np.where(own.value == MISSING64, -1, own.first)
    return found


def _drift(own: Facts, meters: int) -> Int32 | None:
    if not own.meter.size:
        return None
    found = np.zeros(meters, np.int32)
    found[own.meter] = np.where(own.value == MISSING64, 0, np.clip(own.value, -(2**31) + 1, 2**31 - 1))
    return found


def _register(own: Facts, meters: int) -> Int64 | None:
    if not own.meter.size:
        return None
    found = np.full(meters, MISSING64, np.int64)
    found[own.meter] = own.value
    return found
