"""Whole days counted in one pass: what a day says of each meter, the average of days, the average meters of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from ..readings import ESTIMATED_BITS, MISSING, Int32, Int64, Quality, UInt32

_ESTIMATED = np.uint32(ESTIMATED_BITS)
_PROFILE = np.uint32(Quality.ESTIMATED_CLASS_PROFILE)


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
    for t in range(values.shape[0]):
        for m in range(values.shape[1]):
            v, q = values[t, m], quality[t, m]
            if v == MISSING:
                missing[m] += 1
                unfounded[m] += 1
                continue
            wh[m] += v
            if q & _ESTIMATED:
                estimated_wh[m] += v
                unfounded[m] += (q & _PROFILE) != 0
            else:
                last_metered[m] = t


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
