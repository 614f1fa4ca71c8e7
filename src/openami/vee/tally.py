"""Whole days counted in one pass: what a day says of each meter, the average of days, the average meter of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba as nb
import numpy as np

from ..readings import ESTIMATED_BITS, MISSING, Bool, Int32, Int64, Quality, UInt32

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


def mean_meter(values: Int32, own: Bool) -> Int32:
    """The average of the meters `own` (bool [meter]) in each slot of int32 [slot, meter]: int32 [slot], rounded down, over values that are
    there and not negative; MISSING where there is none."""
    out = np.full(values.shape[0], MISSING, np.int32)
    _mean_row(values, own, out)
    return out


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
def _mean_row(values: Int32, own: Bool, out: Int32) -> None:
    for t in range(values.shape[0]):
        total, count = np.int64(0), np.int64(0)
        for m in range(values.shape[1]):
            v = values[t, m]
            if own[m] and v >= 0:  # MISSING is negative
                total += v
                count += 1
        if count > 0:
            out[t] = total // count
