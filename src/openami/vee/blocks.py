"""The compiled loops behind `kernel`: blocks of meters through checks, estimates and the finished day's checks.

A block of `BLOCK` meters is copied into scratch memory `[slot, meter of the block]` that stays in cache: `wv` the values, `wq` the quality
bits, and `state`, a few rows per meter. Checks run along contiguous rows; only a meter with something against it is looked at by column.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ..readings import MISSING64, Quality
from .rules import Row

BLOCK = 512
_NONE = np.int32(-(2**31))

# Quality bits and limit rows as plain integers: a compiled function freezes module constants, and knows nothing of enumerations.
_MISSING, _DUPLICATE, _SPIKE, _SUM = (
    np.uint32(Quality.MISSING),
    np.uint32(Quality.DUPLICATE),
    np.uint32(Quality.SPIKE),
    np.uint32(Quality.SUM),
)
_HIGH_LOW, _PLAUSIBILITY = np.uint32(Quality.HIGH_LOW), np.uint32(Quality.PLAUSIBILITY)
_FROZEN, _ZERO, _REVERSE = np.uint32(Quality.FROZEN), np.uint32(Quality.ZERO), np.uint32(Quality.REVERSE)
_VOLTAGE, _DRIFT = np.uint32(Quality.VOLTAGE_ENERGY), np.uint32(Quality.CLOCK_DRIFT)
_INACTIVE, _EXCHANGE = np.uint32(Quality.INACTIVE_METER), np.uint32(Quality.METER_EXCHANGE)
_OUTAGE, _EDITED = np.uint32(Quality.OUTAGE), np.uint32(Quality.EDITED)
_LINEAR, _LIKE_DAY = np.uint32(Quality.ESTIMATED_LINEAR), np.uint32(Quality.ESTIMATED_LIKE_DAY)
_PROFILE, _SCALED = np.uint32(Quality.ESTIMATED_CLASS_PROFILE), np.uint32(Quality.SCALED_TO_REGISTER)
_GOOD = np.uint32(0)
_UNUSABLE = np.uint32(Quality.MISSING | Quality.DUPLICATE | Quality.PLAUSIBILITY)
_PITCH = BLOCK + 16  # a row of scratch memory: not a power of two, so that a meter's column does not fall into one cache set

_LOW, _HIGH, _SPIKE_MILLI, _SPIKE_MIN = Row.LOW_WH, Row.HIGH_WH, Row.SPIKE_MILLI, Row.SPIKE_WH_MIN
_FROZEN_MIN, _ZERO_MIN, _SUM_TOLERANCE = Row.FROZEN_RUN_MIN, Row.ZERO_RUN_MIN, Row.SUM_TOLERANCE_WH
_USAGE_MIN, _USAGE_MAX, _USAGE_WH = Row.USAGE_MILLI_MIN, Row.USAGE_MILLI_MAX, Row.USAGE_WH_MIN
_VOLTAGE_MAX, _VOLTAGE_WH, _REVERSE_WH = Row.VOLTAGE_CV_MAX, Row.VOLTAGE_WH_MIN, Row.REVERSE_WH_MIN
_DRIFT_MAX, _INACTIVE_WH, _LINEAR_MAX = Row.DRIFT_S_MAX, Row.INACTIVE_WH_MIN, Row.LINEAR_SLOTS_MAX
_BITS, _RULE_SET = Row.ESTIMATE_BITS, Row.RULE_SET


def _compiled(function):  # type: ignore[no-untyped-def]
    """njit with the room's settings: no GIL, kept on disk, and division as in NumPy (no hidden test for zero: every divisor here is positive)."""
    return nb.njit(nogil=True, cache=True, error_model="numpy")(function)


@_compiled
def run_blocks(  # type: ignore[no-untyped-def]
    values, table, conflict, outage, inactive, edited, voltage, export, drift, exchange, like, profile, register, usual,
    validated, quality, unfilled, counts,
):  # fmt: skip
    slots, meters = values.shape
    wv, wq = np.empty((slots, _PITCH), np.int32), np.empty((slots, _PITCH), np.uint32)
    state, seen = np.empty((9, _PITCH), np.int32), np.zeros((2, 2048), np.int64)
    total, empty = np.empty(_PITCH, np.int64), np.empty(_PITCH, np.int32)
    for first in range(0, meters, BLOCK):
        n = min(BLOCK, meters - first)
        _check_block(values, table, conflict, outage, inactive, edited, voltage, export, drift, exchange, first, n, wv, wq, state)
        _fill_block(table, like, profile, register, usual, first, n, wv, wq, total, empty)
        _finish_block(table, register, usual, first, n, wq, total, empty, unfilled)
        _store_block(first, n, wv, wq, validated, quality, seen)
    _count_bits(seen, counts)


@_compiled
def validate_blocks(values, table, conflict, outage, inactive, edited, voltage, export, drift, exchange, quality):  # type: ignore[no-untyped-def]
    slots, meters = values.shape
    wv, wq = np.empty((slots, _PITCH), np.int32), np.empty((slots, _PITCH), np.uint32)
    state = np.empty((9, _PITCH), np.int32)
    for first in range(0, meters, BLOCK):
        n = min(BLOCK, meters - first)
        _check_block(values, table, conflict, outage, inactive, edited, voltage, export, drift, exchange, first, n, wv, wq, state)
        for t in range(slots):
            _copy(wq[t], quality[t, first : first + n])


@_compiled
def estimate_blocks(values, before, table, like, profile, register, usual, validated, quality, unfilled, counts):  # type: ignore[no-untyped-def]
    slots, meters = values.shape
    wv, wq = np.empty((slots, _PITCH), np.int32), np.empty((slots, _PITCH), np.uint32)
    total, empty, seen = np.empty(_PITCH, np.int64), np.empty(_PITCH, np.int32), np.zeros((2, 2048), np.int64)
    for first in range(0, meters, BLOCK):
        n = min(BLOCK, meters - first)
        for t in range(slots):
            for i in range(n):
                v, q = values[t, first + i], before[t, first + i]
                wv[t, i] = np.int32(0) if v == _NONE and q & _OUTAGE else v
                wq[t, i] = q
        _fill_block(table, like, profile, register, usual, first, n, wv, wq, total, empty)
        _finish_block(table, register, usual, first, n, wq, total, empty, unfilled)
        _store_block(first, n, wv, wq, validated, quality, seen)
    _count_bits(seen, counts)


@_compiled
def _check_block(values, table, conflict, outage, inactive, edited, voltage, export, drift, exchange, first, n, wv, wq, state):  # type: ignore[no-untyped-def]
    """Copy a block into scratch and run its checks. Rows of `state`: 0-2 the three highest usable values, 3 what stands before the first slot, 4-5
    the run of equal values and the longest, 6-7 the same of zeros, 8 what excuses a zero in this slot."""
    last = first + n
    low, high = table[_LOW, first:last], table[_HIGH, first:last]
    state[:, :n] = 0
    state[0:4, :n] = _NONE
    for t in range(values.shape[0]):
        _bounds(values[t, first:last], low, high, wv[t], wq[t])
        if conflict.size:
            _mark_where(conflict[t, first:last], wv[t], wq[t], _DUPLICATE)
        state[8, :n] = 0
        if inactive.size:
            _mark_inactive(inactive[t, first:last], table[_INACTIVE_WH, first:last], wv[t], wq[t], state[8])
        if outage.size:
            _mark_outage(outage[t, first:last], wv[t], wq[t], state[8])
        if voltage.size:
            _mark_voltage(voltage[t, first:last], table[_VOLTAGE_MAX, first:last], table[_VOLTAGE_WH, first:last], wv[t], wq[t])
        if export.size:
            _mark_reverse(export[t, first:last], table[_REVERSE_WH, first:last], wq[t], state[8])
        if edited.size:
            _mark_where(edited[t, first:last], wv[t], wq[t], _EDITED)
        _highest(wv[t], wq[t], n, state)
        _equal_runs(wv[t], wv[t - 1] if t else state[3], n, state[4], state[5])
        _zero_runs(wv[t], state[8], n, state[6], state[7])
    _mark_meters(table, inactive, export, drift, exchange, first, n, wv, wq, state)
    if outage.size:
        for t in range(values.shape[0]):
            for i in range(n):
                if wv[t, i] == _NONE and wq[t, i] & _OUTAGE:
                    wv[t, i] = 0


@_compiled
def _bounds(row, low, high, wv, wq):  # type: ignore[no-untyped-def]
    """Missing and plausibility, and the copy into scratch."""
    for i in range(row.size):
        v = row[i]
        bad = _PLAUSIBILITY if (v < low[i]) | (v > high[i]) else _GOOD
        wv[i] = v
        wq[i] = _MISSING if v == _NONE else bad


@_compiled
def _mark_where(mask, wv, wq, bit):  # type: ignore[no-untyped-def]
    for i in range(mask.size):
        wq[i] |= bit if mask[i] & (wv[i] != _NONE) else _GOOD


@_compiled
def _mark_inactive(mask, wh_min, wv, wq, excused):  # type: ignore[no-untyped-def]
    for i in range(mask.size):
        excused[i] |= mask[i]
        wq[i] |= _INACTIVE if mask[i] & (wv[i] > wh_min[i]) else _GOOD


@_compiled
def _mark_outage(mask, wv, wq, excused):  # type: ignore[no-untyped-def]
    for i in range(mask.size):
        excused[i] |= mask[i]
        wq[i] = (wq[i] & ~_MISSING) | _OUTAGE if mask[i] else wq[i]


@_compiled
def _mark_voltage(voltage, cv_max, wh_min, wv, wq):  # type: ignore[no-untyped-def]
    for i in range(voltage.size):
        wq[i] |= _VOLTAGE if (wv[i] > wh_min[i]) & (voltage[i] != _NONE) & (voltage[i] < cv_max[i]) else _GOOD


@_compiled
def _mark_reverse(export, wh_min, wq, excused):  # type: ignore[no-untyped-def]
    for i in range(export.size):
        excused[i] |= export[i] > 0
        wq[i] |= _REVERSE if export[i] > wh_min[i] else _GOOD


@_compiled
def _highest(wv, wq, n, state):  # type: ignore[no-untyped-def]
    """The three highest usable values so far."""
    top1, top2, top3 = state[0], state[1], state[2]
    for i in range(n):
        v = wv[i] if (wq[i] & _UNUSABLE) == 0 else _NONE
        rest = min(top1[i], v)
        top1[i] = max(top1[i], v)
        top3[i] = max(top3[i], min(top2[i], rest))
        top2[i] = max(top2[i], rest)


@_compiled
def _equal_runs(wv, before, n, run, longest):  # type: ignore[no-untyped-def]
    """Lengths of the runs of equal values that are not zero, and the longest of each meter so far."""
    for i in range(n):
        v = wv[i]
        kept = run[i] + np.int32(1) if v == before[i] else np.int32(1)
        run[i] = kept if (v != 0) & (v != _NONE) else np.int32(0)
        longest[i] = max(longest[i], run[i])


@_compiled
def _zero_runs(wv, excused, n, zeros, longest):  # type: ignore[no-untyped-def]
    """The same of zeros that nothing excuses."""
    for i in range(n):
        zeros[i] = zeros[i] + np.int32(1) if (wv[i] == 0) & (excused[i] == 0) else np.int32(0)
        longest[i] = max(longest[i], zeros[i])


@_compiled
def _mark_meters(table, inactive, export, drift, exchange, first, n, wv, wq, state):  # type: ignore[no-untyped-def]
    """What needs a meter's whole day: spike, frozen, zero, clock drift, exchange. Few meters get past the tests."""
    slots = wv.shape[0]
    for i in range(n):
        m = first + i
        highest, third = np.int64(state[0, i]), np.int64(state[2, i])
        if third > 0 and (highest - third) * 1000 > third * table[_SPIKE_MILLI, m] and highest >= table[_SPIKE_MIN, m]:
            for t in range(slots):
                v = np.int64(wv[t, i])
                if not wq[t, i] & _UNUSABLE and (v - third) * 1000 > third * table[_SPIKE_MILLI, m] and v >= table[_SPIKE_MIN, m]:
                    wq[t, i] |= _SPIKE
        if state[5, i] >= table[_FROZEN_MIN, m]:
            _mark_runs(wv, wq, i, table[_FROZEN_MIN, m])
        if state[7, i] >= table[_ZERO_MIN, m]:
            _mark_zeros(wv, wq, inactive, export, i, m, table[_ZERO_MIN, m])
        if drift.size and abs(np.int64(drift[m])) > table[_DRIFT_MAX, m]:
            for t in range(slots):
                wq[t, i] |= _DRIFT
        if exchange.size and 0 <= exchange[m] < slots:
            wq[exchange[m], i] |= _EXCHANGE


@_compiled
def _mark_runs(wv, wq, i, run_min):  # type: ignore[no-untyped-def]
    slots = wv.shape[0]
    start = 0
    for t in range(1, slots + 1):
        if t == slots or wv[t, i] != wv[start, i]:
            if t - start >= run_min and wv[start, i] != 0 and wv[start, i] != _NONE:
                for k in range(start, t):
                    wq[k, i] |= _FROZEN
            start = t


@_compiled
def _mark_zeros(wv, wq, inactive, export, i, m, run_min):  # type: ignore[no-untyped-def]
    """Runs of zeros. A slot that is excused (outage, disconnected, energy flows out) ends a run."""
    slots = wv.shape[0]
    start = -1
    for t in range(slots + 1):
        zero = (
            t < slots
            and wv[t, i] == 0
            and not wq[t, i] & _OUTAGE
            and not (inactive.size and inactive[t, m])
            and not (export.size and export[t, m] > 0)
        )
        if zero and start < 0:
            start = t
        if not zero and start >= 0:
            if t - start >= run_min:
                for k in range(start, t):
                    wq[k, i] |= _ZERO
            start = -1


@_compiled
def _fill_block(table, like, profile, register, usual, first, n, wv, wq, total, empty):  # type: ignore[no-untyped-def]
    """Estimate what is not usable, meter by meter, and scale the estimates to the register. Leaves in `total` what each meter's day adds up to, in
    `empty` how many slots have no value."""
    slots = wv.shape[0]
    words = (slots + 63) // 64
    unusable, gaps, scratch = np.zeros((words, _PITCH), np.uint64), np.empty(slots, np.int16), np.empty((2, slots), np.int64)
    total[:n], empty[:n] = 0, 0
    for t in range(slots):
        _find_gaps(table[_BITS, first : first + n], wv[t], wq[t], np.uint64(1) << np.uint64(t % 64), unusable[t // 64])
        _add_sound(n, wv[t], total, empty)
    for i in range(n):
        count = _list_gaps(unusable, i, words, gaps)
        if count == 0:
            continue
        m, mine, low, high = first + i, gaps[:count], table[_LOW, first + i], table[_HIGH, first + i]
        holes = empty[i] > count
        _fill_linear(mine, table[_LINEAR_MAX, m], low, high, i, wv, wq)
        if like.size:
            _fill_like(mine, like, low, high, i, m, wv, wq)
        if profile.size:
            _fill_profile(mine, profile, table[_RULE_SET, m], usual[m] if usual.size else MISSING64, high, i, wv, wq)
        if register.size and register[m] != MISSING64 and not holes:
            _scale(mine, register[m] - total[i], high, i, wv, wq, scratch)
        for t in mine:
            if wv[t, i] != _NONE:
                total[i] += wv[t, i]
                empty[i] -= 1


@_compiled
def _find_gaps(bits, wv, wq, mark, unusable):  # type: ignore[no-untyped-def]
    """Mark the meters whose value in this slot is not used, and take the value away."""
    for i in range(bits.size):
        bad = ((wq[i] & np.uint32(bits[i])) != 0) & ((wq[i] & _EDITED) == 0)
        unusable[i] |= mark if bad else np.uint64(0)
        wv[i] = _NONE if bad else wv[i]


@_compiled
def _add_sound(n, wv, total, empty):  # type: ignore[no-untyped-def]
    for i in range(n):
        total[i] += np.int64(wv[i]) if wv[i] != _NONE else np.int64(0)
        empty[i] += np.int32(wv[i] == _NONE)


@_compiled
def _list_gaps(unusable, i, words, gaps):  # type: ignore[no-untyped-def]
    """A meter's marked slots into `gaps`, rising; gives how many."""
    count = 0
    for word in range(words):
        left, t = unusable[word, i], 64 * word
        while left:
            if left & np.uint64(0xFF) == 0:
                left >>= np.uint64(8)
                t += 8
                continue
            if left & np.uint64(1):
                gaps[count] = t
                count += 1
            left >>= np.uint64(1)
            t += 1
    return count


@_compiled
def _fill_linear(gaps, slots_max, low, high, i, wv, wq):  # type: ignore[no-untyped-def]
    """Gaps up to `slots_max`, from their neighbours; a neighbour with an outage does not count; one neighbour: flat."""
    slots = wv.shape[0]
    k = 0
    while k < gaps.size:
        t = np.int64(gaps[k])
        end = t + 1
        k += 1
        while k < gaps.size and gaps[k] == end:
            end += 1
            k += 1
        left = t > 0 and not wq[t - 1, i] & _OUTAGE and wv[t - 1, i] != _NONE
        right = end < slots and not wq[end, i] & _OUTAGE and wv[end, i] != _NONE
        if end - t > slots_max or not (left or right):
            continue
        a = np.int64(wv[t - 1, i]) if left else np.int64(wv[end, i])
        b = np.int64(wv[end, i]) if right else a
        parts = end - t + 1
        for slot in range(t, end):
            # a + (b - a) x step / parts, to the nearest Wh, halves up: floor((2 x numerator + parts) / (2 x parts))
            v = (2 * (a * parts + (b - a) * (slot - t + 1)) + parts) // (2 * parts)
            if low <= v <= high:
                wv[slot, i] = v
                wq[slot, i] |= _LINEAR


@_compiled
def _fill_like(gaps, like, low, high, i, m, wv, wq):  # type: ignore[no-untyped-def]
    for t in gaps:
        if wv[t, i] == _NONE and like[t, m] != _NONE and low <= like[t, m] <= high:
            wv[t, i] = like[t, m]
            wq[t, i] |= _LIKE_DAY


@_compiled
def _fill_profile(gaps, profile, rule_set, usual, high, i, wv, wq):  # type: ignore[no-untyped-def]
    """The class's average consumer, brought to the meter's own usual day where that is known."""
    total = np.int64(0)
    for t in range(profile.shape[0]):
        total += profile[t, rule_set] if profile[t, rule_set] != _NONE else 0
    for t in gaps:
        p = np.int64(profile[t, rule_set])
        if wv[t, i] == _NONE and p != _NONE:
            if usual >= 0 and total > 0:
                p = (2 * p * usual + total) // (2 * total)
            if 0 <= p <= high:
                wv[t, i] = p
                wq[t, i] |= _PROFILE


@_compiled
def _scale(gaps, rest, high, i, wv, wq, scratch):  # type: ignore[no-untyped-def]
    """Make the estimates carry exactly `rest`, what the register has beyond the readings, by largest remainder; or leave them, where that cannot be.

    It cannot where a slot is still empty, an estimate is negative, the readings alone exceed the register, or an estimate would leave its limits."""
    share, remainder, n = scratch[0], scratch[1], gaps.size
    total = np.int64(0)
    if rest < 0 or rest >= 2**31:
        return
    for k in range(n):
        remainder[k] = wv[gaps[k], i]
        if remainder[k] < 0:  # MISSING is negative too
            return
        total += remainder[k]
    if total == 0:
        remainder[:n] = 1
        total = np.int64(n)
    left = rest
    for k in range(n):
        product = rest * remainder[k]
        share[k] = product // total
        remainder[k] = product - share[k] * total
        left -= share[k]
    for _ in range(left):
        best = 0
        for k in range(1, n):
            if remainder[k] > remainder[best]:
                best = k
        remainder[best] = -1
        share[best] += 1
    for k in range(n):
        if share[k] > high:
            return
    for k in range(n):
        wv[gaps[k], i] = share[k]
        wq[gaps[k], i] |= _SCALED


@_compiled
def _finish_block(table, register, usual, first, n, wq, total, empty, unfilled):  # type: ignore[no-untyped-def]
    """The finished day: what stayed empty, and its sum against the register and the usual day."""
    slots = wq.shape[0]
    for i in range(n):
        m = first + i
        unfilled[m] = empty[i]
        bits = _GOOD
        if register.size and register[m] != MISSING64:
            over = total[i] - register[m]
            if over > table[_SUM_TOLERANCE, m] or (empty[i] == 0 and -over > table[_SUM_TOLERANCE, m]):
                bits |= _SUM
        if usual.size and usual[m] != MISSING64 and usual[m] >= table[_USAGE_WH, m] and empty[i] == 0:
            thousandfold = total[i] * 1000
            if thousandfold < usual[m] * table[_USAGE_MIN, m] or thousandfold > usual[m] * table[_USAGE_MAX, m]:
                bits |= _HIGH_LOW
        if bits:
            for t in range(slots):
                wq[t, i] |= bits


@_compiled
def _store_block(first, n, wv, wq, validated, quality, seen):  # type: ignore[no-untyped-def]
    """Copy a block out, and count how often each combination of the low and of the high bits came: `seen` [2, 2048]."""
    for t in range(wv.shape[0]):
        _copy(wv[t], validated[t, first : first + n])
        _copy(wq[t], quality[t, first : first + n])
        for i in range(n):
            q = wq[t, i]
            if q:
                seen[0, q & np.uint32(0x7FF)] += 1
                seen[1, q >> np.uint32(11) & np.uint32(0x7FF)] += 1


@_compiled
def _copy(row, out):  # type: ignore[no-untyped-def]
    """A loop, because an assignment between slices takes four times as long."""
    for i in range(out.size):
        out[i] = row[i]


@_compiled
def _count_bits(seen, counts):  # type: ignore[no-untyped-def]
    """From combinations of bits to the 22 bits themselves."""
    for half in range(2):
        for combination in range(2048):
            for bit in range(11):
                if combination >> bit & 1:
                    counts[11 * half + bit] += seen[half, combination]
