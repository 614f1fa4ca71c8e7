"""Whole days counted in one pass: what a day says of each meter, the average of days, the average meters of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from ..readings import CHECK_BITS, ESTIMATED_BITS, MISSING, Int32, Int64, Quality, UInt32

_ESTIMATED = np.uint32(ESTIMATED_BITS)
_PROFILE = np.uint32(Quality.ESTIMATED_CLASS_PROFILE)
_MISSED = np.uint32(Quality.MISSING)
_FAILED = np.uint32(CHECK_BITS & ~np.uint32(Quality.MISSING))
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Tally:
    """All [meter]. wh, estimated_wh: int64 sums of the values that are there, and of those that are estimated; missing: int32 slots without a
    value; unfounded: int32 slots of which the meter itself says nothing (no value, or other consumers' average); last_metered: int32, the
    last slot with a value that is no estimate, -1 = none."""

    wh: Int64
    estimated_wh: Int64
    missing: Int32
    unfounded: Int32
    last_metered: Int32


def tally(values: Int32, quality: UInt32) -> Tally:
    """values: int32 [slot, meter], MISSING where there is none; quality: uint32, same shape, `Quality` bits. ValueError where they differ."""
    if values.shape != quality.shape:
        raise ValueError(f"values are {values.shape}, their quality {quality.shape}; give those of one day block")
    meters = values.shape[1]
    found = Tally(
        wh=np.zeros(meters, np.int64),
        estimated_wh=np.zeros(meters, np.int64),
        missing=np.zeros(meters, np.int32),
        unfounded=np.zeros(meters, np.int32),
        last_metered=np.full(meters, -1, np.int32),
    )
    _count(values, quality, found.wh, found.estimated_wh, found.missing, found.unfounded, found.last_metered)
    return found


@nb.njit(nogil=True, cache=True)
def _count(values: Int32, quality: UInt32, wh: Int64, estimated_wh: Int64, missing: Int32, unfounded: Int32, last_metered: Int32) -> None:
    """Some meters at a time, whose sums stay in the first-level cache while their slots go by; each loop over few arrays, eight values at once."""
    for first in range(0, values.shape[1], _AT_ONCE):
        own = slice(first, first + _AT_ONCE)
        for t in range(values.shape[0]):
            row, bits = values[t, own], quality[t, own]
            _count_energy(row, bits, wh[own], estimated_wh[own])
            _count_gaps(row, bits, missing[own], unfounded[own])
            _note_last(row, bits, np.int32(t), last_metered[own])


@nb.njit(nogil=True, cache=True)
def _count_energy(row: Int32, bits: UInt32, wh: Int64, estimated_wh: Int64) -> None:
    for i in range(row.size):
        v = np.int64(row[i]) if row[i] != MISSING else np.int64(0)
        wh[i] += v
        estimated_wh[i] += v if bits[i] & _ESTIMATED else np.int64(0)


@nb.njit(nogil=True, cache=True)
def _count_gaps(row: Int32, bits: UInt32, missing: Int32, unfounded: Int32) -> None:
    for i in range(row.size):
        missing[i] += np.int32(row[i] == MISSING)
        unfounded[i] += np.int32((row[i] == MISSING) | ((bits[i] & _PROFILE) != 0))


@nb.njit(nogil=True, cache=True)
def _note_last(row: Int32, bits: UInt32, t: np.int32, last: Int32) -> None:
    for i in range(row.size):
        last[i] = t if (row[i] != MISSING) & ((bits[i] & _ESTIMATED) == 0) else last[i]


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known against the values of each meter, all [meter]. received, estimated, missing, flagged: int32 slots that the meter sent, that hold
    an estimate, that hold nothing, that failed a check other than "missing"; bits: uint32, every bit that any of its slots has; last_received: int32,
    the last slot that it sent, -1 = none."""

    received: Int32
    estimated: Int32
    missing: Int32
    flagged: Int32
    bits: UInt32
    last_received: Int32


def marks(values: Int32, quality: UInt32) -> Marks:
    """Of a validated day, as for `tally`. A slot was sent where its quality does not say "missing"."""
    if values.shape != quality.shape:
        raise ValueError(f"values are {values.shape}, their quality {quality.shape}; give those of one day block")
    meters = values.shape[1]
    received, estimated, missing, flagged = np.zeros((4, meters), np.int32)
    found = Marks(received, estimated, missing, flagged, np.zeros(meters, np.uint32), np.full(meters, -1, np.int32))
    _mark(values, quality, received, estimated, missing, flagged, found.bits, found.last_received)
    return found


@nb.njit(nogil=True, cache=True)
def _mark(
    values: Int32, quality: UInt32, received: Int32, estimated: Int32, missing: Int32, flagged: Int32, bits: UInt32, last_received: Int32
) -> None:
    for t in range(values.shape[0]):
        for m in range(values.shape[1]):
            q = quality[t, m]
            if values[t, m] == MISSING:
                missing[m] += 1
            if q & _MISSED == 0:
                received[m] += 1
                last_received[m] = t
            if q != 0:
                bits[m] |= q
                estimated[m] += (q & _ESTIMATED) != 0
                flagged[m] += (q & _FAILED) != 0


def mean_of_days(days: Sequence[Int32], into: Int32 | None = None) -> Int32:
    """`estimate.like_day` without stacking the days: int32 [slot, meter] each; the mean of what is there to the nearest whole, halves up,
    MISSING where no day has the slot. One day is its own mean, and is given back as it is. into: where to put it, which may be one of the
    days; None = a fresh array. ValueError without a day."""
    if not days:
        raise ValueError("the average of no day is none; leave it out")
    if len(days) == 1:
        return days[0]
    out = np.empty_like(days[0]) if into is None else into
    _mean(tuple(np.ascontiguousarray(day) for day in days), out)
    return out


def mean_meters(values: Int32, group: npt.NDArray[np.integer], groups: int) -> Int32:
    """The average of the meters of each group in each slot of int32 [slot, meter]: int32 [slot, group], rounded down, over values that are
    there and not negative; MISSING where there is none. group: [meter], 0 .. groups - 1, or negative = in none."""
    total, count = np.zeros((values.shape[0], groups), np.int64), np.zeros((values.shape[0], groups), np.int64)
    starts = np.flatnonzero(np.diff(group, prepend=-2))
    runs = np.stack([starts, np.append(starts[1:], group.size), group[starts]], axis=1).astype(np.int64)
    _add_runs(values, runs[runs[:, 2] >= 0], total, count)
    return np.where(count > 0, total // np.maximum(count, 1), MISSING).astype(np.int32)


@nb.njit(nogil=True, cache=True)
def _mean(days: tuple[Int32, ...], out: Int32) -> None:
    for t in range(out.shape[0]):
        for m in range(out.shape[1]):
            total, count = np.int64(0), np.int64(0)
            for day in days:
                v = day[t, m]
                there = v != MISSING
                total += v if there else 0
                count += there
            out[t, m] = (2 * total + count) // (2 * count) if count > 0 else MISSING


@nb.njit(nogil=True, cache=True)
def _add_runs(values: Int32, runs: Int64, total: Int64, count: Int64) -> None:
    """Adds runs of meters side by side that are in one group: (first, the one after the last, group)."""
    for t in range(values.shape[0]):
        for k in range(runs.shape[0]):
            row = values[t, runs[k, 0] : runs[k, 1]]
            energy, there = np.int64(0), np.int32(0)
            for i in range(row.size):
                good = row[i] >= 0  # MISSING is negative
                energy += np.int64(row[i]) if good else np.int64(0)
                there += np.int32(1) if good else np.int32(0)
            total[t, runs[k, 2]] += energy
            count[t, runs[k, 2]] += there
