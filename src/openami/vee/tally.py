"""What a validated day says of each meter, counted in one pass: energy, what of it is estimated, what is missing, until when it was metered."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np

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
