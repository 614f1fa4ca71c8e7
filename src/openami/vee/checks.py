"""The checks of VEE, one function each, as they are defined; `kernel` runs the same fused.

In: readings int32 `[slot, meter]` [Wh], MISSING where there is none, and what the check needs beside them. Out: bool, True = failed;
`[slot, meter]` for a check of readings, `[meter]` for a check of whole days. A check that cannot judge (nothing to compare with) fails nothing.
Limits given as "[meter] or one number" may be either. The definitions are those of the EEI VEE practice unless a line says otherwise.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt

from ..readings import MISSING, MISSING64, Bool, Calendar, Int32, Int64

Limit = int | float | npt.NDArray[np.number]
"""[meter] or one number."""


def missing(wh: Int32, outage: Bool) -> Bool:
    """No value came, and no outage explains it: an interval without supply is not missing."""
    failed: Bool = (wh == MISSING) & ~outage
    return failed


def duplicate(wh: Int32, conflict: Bool) -> Bool:
    """Two different values claim the slot; `conflict` is what the day grid saw when it wrote them. Which is true cannot be told."""
    failed: Bool = conflict & (wh != MISSING)
    return failed


def plausibility(wh: Int32, connected_load_w: npt.NDArray[np.integer], hours: float, factor: Limit, net_metered: Bool) -> Bool:
    """Outside 0 <= Wh <= connected load x hours x factor.

    Load 0 = unknown: no upper bound. Negative down to the same bound only where net-metered."""
    most = np.minimum(np.asarray(connected_load_w, np.int64) * hours * factor, 2**31 - 1).astype(np.int64)
    high = np.where(np.asarray(connected_load_w) > 0, most, 2**31 - 1)
    low = np.where(net_metered, -high, 0)
    failed: Bool = (wh != MISSING) & ((wh < low) | (wh > high))
    return failed


def spike(wh: Int32, usable: Bool, tolerance: Limit, wh_min: Limit) -> Bool:
    """Intervals that stand out from their own day: (value - third highest) / third highest > tolerance.

    usable: the readings that count (there, not claimed twice, plausible). A day with fewer than three, or with a third highest of zero or less,
    cannot be judged. Values below wh_min never fail: one appliance, on a quiet day. Tolerance counts to a thousandth."""
    if wh.shape[0] < 3:
        return np.zeros(wh.shape, np.bool_)
    third = np.sort(np.where(usable, wh, MISSING), axis=0)[-3].astype(np.int64)
    over = (wh.astype(np.int64) - third) * 1000 > third * np.round(np.asarray(tolerance) * 1000).astype(np.int64)
    failed: Bool = usable & (third > 0) & over & (wh >= wh_min)
    return failed


def frozen(wh: Int32, run_min: Limit) -> Bool:
    """Every reading of a run of at least run_min equal non-zero readings within the day.

    Meters that count in 10 Wh repeat innocently, so run_min must be hours: docs/vee.md has what was measured."""
    failed: Bool = (wh != MISSING) & (wh != 0) & (_run_lengths(wh) >= run_min)
    return failed


def zero(wh: Int32, excused: Bool, run_min: Limit) -> Bool:
    """Every reading of a run of at least run_min zeros. `excused` explains a zero and ends a run: an outage or a disconnected meter (Texas), or
    energy that flows out, for the sun feeds the house and the meter is alive."""
    marked = np.where(wh == 0, np.where(excused, 2, 1), 0).astype(np.int32)
    failed: Bool = (marked == 1) & (_run_lengths(marked) >= run_min)
    return failed


def register_sum(wh: Int32, register_wh: Int64, tolerance_wh: Limit) -> Bool:
    """Days [meter] whose intervals do not add up to the register's difference (sum check).

    With a slot missing only an excess can be told. A register of MISSING64 judges nothing."""
    total, incomplete = _totals(wh)
    over = total - np.where(register_wh == MISSING64, total, register_wh)
    failed: Bool = (over > tolerance_wh) | (~incomplete & (-over > tolerance_wh))
    return failed


def high_low(wh: Int32, usual_wh: Int64, ratio_min: Limit, ratio_max: Limit, wh_min: Limit) -> Bool:
    """Days [meter] outside ratio_min..ratio_max times the usual day (`usual_day`); not judged when incomplete, or when the usual day is below wh_min.

    Ratios count to a thousandth."""
    total, incomplete = _totals(wh)
    judged = (usual_wh != MISSING64) & (usual_wh >= wh_min) & ~incomplete
    usual = np.where(judged, usual_wh, 0)
    low, high = (np.round(np.asarray(r) * 1000).astype(np.int64) for r in (ratio_min, ratio_max))
    failed: Bool = judged & ((total * 1000 < usual * low) | (total * 1000 > usual * high))
    return failed


def usual_day(days_wh: Int64) -> Int64:
    """The usual energy of such a day [meter]: the median of the same weekday's totals, int64 [day, meter].

    MISSING64 = unknown; so is the result where no day is known. Of an even
    number the lower of the two middle days, so that it is a day that really was."""
    ordered = np.sort(np.where(days_wh == MISSING64, np.iinfo(np.int64).max, days_wh), axis=0)
    known = (days_wh != MISSING64).sum(axis=0)
    at = np.maximum(known - 1, 0) // 2
    median = np.take_along_axis(ordered, at[None, :], axis=0)[0] if days_wh.shape[0] else known.astype(np.int64)
    return np.where(known > 0, median, MISSING64).astype(np.int64)


def voltage_energy(wh: Int32, voltage_cv: Int32, voltage_cv_max: Limit, wh_min: Limit) -> Bool:
    """Energy without voltage: the sibling channels disagree. voltage_cv [0.01 V], MISSING = not judged."""
    failed: Bool = (wh > wh_min) & (voltage_cv != MISSING) & (voltage_cv < voltage_cv_max)
    return failed


def reverse(export_wh: Int32, wh_min: Limit, net_metered: Bool) -> Bool:
    """Energy flows out where nothing is net-metered: a reversed connection, or generation that nobody has registered."""
    failed: Bool = (export_wh > wh_min) & ~net_metered
    return failed


def clock_drift(drift_s: Int32, s_max: Limit) -> Bool:
    """Meters [meter] whose clock is further than s_max from ours, either way: their intervals are shifted."""
    failed: Bool = np.abs(drift_s.astype(np.int64)) > s_max
    return failed


def inactive_meter(wh: Int32, inactive: Bool, wh_min: Limit) -> Bool:
    """Energy from a meter that stands disconnected (or was taken down)."""
    failed: Bool = inactive & (wh > wh_min)
    return failed


def meter_exchange(exchange_slot: Int32, slots: int) -> Bool:
    """The slot [slot, meter] in which a meter was exchanged: its reading holds parts of two meters. -1 = no exchange."""
    failed: Bool = np.arange(slots)[:, None] == exchange_slot[None, :]
    return failed


def out_of_day(stamp_s: Int64, calendar: Calendar, first: date, days: int) -> Bool:
    """Stamps [reading], UTC seconds, that are no end of an interval of the `days` days from `first`.

    Decided before the grid, which has no slot for them."""
    failed: Bool = calendar.locate(stamp_s, first, days)[1] < 0
    return failed


def _totals(wh: Int32) -> tuple[Int64, Bool]:
    there = wh != MISSING
    return np.where(there, wh, 0).sum(axis=0, dtype=np.int64), ~there.all(axis=0)


def _run_lengths(values: Int32) -> npt.NDArray[np.int64]:
    """For each slot the length of the run of equal values that it is in, along the slots."""
    slots = values.shape[0]
    forward, backward = np.ones(values.shape, np.int64), np.ones(values.shape, np.int64)
    for t in range(1, slots):
        forward[t] += np.where(values[t] == values[t - 1], forward[t - 1], 0)
    for t in range(slots - 2, -1, -1):
        backward[t] += np.where(values[t] == values[t + 1], backward[t + 1], 0)
    return forward + backward - 1
