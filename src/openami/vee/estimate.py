"""The estimates, one function each, as they are defined; `kernel` runs the same fused.

In: values `[slot, meter]`, masks of what to fill. Out: new arrays. An estimate is a whole number of Wh; a slot that a method cannot fill
stays MISSING, for the next method. Methods in their order: linear, like day, class profile; then the scaling to the register.
"""

from __future__ import annotations

import numpy as np

from ..readings import MISSING, MISSING64, Bool, Int32, Int64


def like_day(days: Int32) -> Int32:
    """The average of the same slot of like days (method 15 of NEM12; Texas takes the last three days of the same kind).

    days: int32 [day, slot, meter], validated values, MISSING where a day has none. Returns int32 [slot, meter], the mean of what is there
    to the nearest whole, halves up; MISSING where no day has the slot, and everywhere when no day is handed in."""
    there = days != MISSING
    count = there.sum(axis=0, dtype=np.int64)
    total = np.where(there, days, 0).sum(axis=0, dtype=np.int64)
    mean = (2 * total + count) // np.maximum(2 * count, 1)
    return np.where(count > 0, mean, MISSING).astype(np.int32)


def class_profile(values: Int32, usable: Bool, rule_of_meter: Int32, rule_sets: int) -> Int32:
    """The average consumer of each rule set: int32 [slot, rule set], the mean of its usable readings; MISSING where a set has none in a slot.

    values int32, usable bool [slot, meter]; rule_of_meter [meter] as given to `meter_limits`."""
    slots = values.shape[0]
    profile = np.full((slots, rule_sets), MISSING, np.int32)
    for k in range(rule_sets):
        own = rule_of_meter == k
        count = usable[:, own].sum(axis=1, dtype=np.int64)
        total = np.where(usable[:, own], values[:, own], 0).sum(axis=1, dtype=np.int64)
        profile[:, k] = np.where(count > 0, (2 * total + count) // np.maximum(2 * count, 1), MISSING)
    return profile


def linear(values: Int32, gap: Bool, outage: Bool, slots_max: int) -> Int32:
    """Interpolate gaps of up to `slots_max` slots between their neighbours (NEM12 method 17; California: up to two hours).

    values: int32 [slot, meter]; gap, outage: bool, same shape. A neighbour that had an outage, or lies outside the day, does not count;
    with one neighbour left the gap is flat, with none it stays MISSING. Returns a new array, MISSING in every gap that was not filled."""
    slots = values.shape[0]
    out = np.where(gap, MISSING, values).astype(np.int32)
    usable = ~gap & ~outage & (values != MISSING)
    for m in np.flatnonzero(gap.any(axis=0)):
        for first, last in _runs(gap[:, m]):
            left = int(values[first - 1, m]) if first > 0 and usable[first - 1, m] else None
            right = int(values[last, m]) if last < slots and usable[last, m] else None
            if last - first > slots_max or (left is None and right is None):
                continue
            a = left if left is not None else right
            b = right if right is not None else left
            parts = last - first + 1
            for step in range(1, parts):
                out[first + step - 1, m] = (2 * (a * parts + (b - a) * step) + parts) // (2 * parts)  # type: ignore[operator]
    return out


def scale_to_register(values: Int32, estimated: Bool, register_wh: Int64) -> tuple[Int32, Bool]:
    """Scale the estimates so that every meter's day adds up to its register's difference exactly (NEM12 method 24).

    values: int32 [slot, meter]; estimated: bool, same shape; register_wh: int64 [meter], MISSING64 where there is none.
    Shares are by size of estimate, even where all are zero, and whole by largest remainder (ties: the earlier slot). Returns new values and
    bool [meter], True = scaled. Left alone: no register,
    nothing estimated, a slot still MISSING, a negative estimate, readings above the register."""
    out, scaled = values.copy(), np.zeros(values.shape[1], np.bool_)
    for m in np.flatnonzero(estimated.any(axis=0) & (register_wh != MISSING64)):
        mine = estimated[:, m]
        weights = values[mine, m].astype(np.int64)
        rest = int(register_wh[m]) - int(values[~mine, m].sum(dtype=np.int64))
        if (values[:, m] == MISSING).any() or (weights < 0).any() or not 0 <= rest < 2**31:
            continue
        if not weights.any():
            weights = np.ones_like(weights)
        shares, remainders = np.divmod(rest * weights, int(weights.sum()))
        first = np.argsort(-remainders, kind="stable")[: rest - int(shares.sum())]
        shares[first] += 1
        out[mine, m] = shares
        scaled[m] = True
    return out, scaled


def _runs(mask: Bool) -> list[tuple[int, int]]:
    """The runs of True in a row of slots, as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
