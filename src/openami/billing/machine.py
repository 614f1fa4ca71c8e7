"""The arithmetic of a bill, compiled: one pass over the accounts, line after line, in int64.

Amounts are paise, rates milli-paise, energies Wh: Wh x milli-paise per kWh = millionths of a paisa. Products that could pass 63 bits
go through a 128-bit division (`share`), so the result is exact for any account that can exist. `tests/billing/reference.py` says
the same in fractions.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from ..readings import Bool, Int64

I64 = Any  # a compiled int64 scalar, which Python's types cannot say
NO_LIMIT = 2**62
PER_UNIT, FIXED, DEMAND, TIME_OF_USE, PERCENT, FREE_UNITS, MINIMUM, ROUNDING = range(8)
OP, PAYMENT, OVER_WH, UP_TO_WH, OVER_W, UP_TO_W, NEEDS_LOAD, OF, A, B, C, FIRST, LAST, FIELDS = range(14)
_CONNECTION, _KW, _KVA, _LOAD_BAND, _CONSUMPTION_BAND = range(5)
_MICRO = 1_000_000


@nb.njit(nogil=True, cache=True)
def run(
    code: Int64,
    slabs: Int64,
    periods: Int64,
    energy_wh: Int64,
    span: Int64,
    load_w: Int64,
    prepaid: Bool,
    demand_va: Int64,
    contract_va: Int64,
    amount: Int64,
    refused: Bool,
) -> None:
    """Fills amount [line, account] and refused [account]; `span` = (days, days in the period). Inputs as in `bill`."""
    lines, accounts = amount.shape
    days, in_period = span[0], span[1]
    free_limit = np.int64(0)
    for k in range(lines):
        if code[k, OP] == FREE_UNITS:
            free_limit = code[k, A]
    value, free = np.zeros(lines, np.int64), np.zeros(lines, np.int64)
    hours = np.zeros(energy_wh.shape[0], np.int64)
    for i in range(accounts):
        wh = np.int64(0)
        bad = False
        for p in range(hours.size):
            hours[p] = energy_wh[p, i]
            bad |= hours[p] < 0
            wh += hours[p]
        load = load_w[i]
        for k in range(lines):
            bad |= code[k, NEEDS_LOAD] != 0 and load <= 0
            if code[k, OP] == DEMAND or (code[k, OP] == FIXED and code[k, A] == _KVA):
                bad |= contract_va[i] <= 0 or demand_va[i] < 0
        refused[i] = bad
        if bad:
            continue
        given = min(wh, free_limit)
        for k in range(lines):
            value[k] = 0
            free[k] = 0
            row = code[k]
            if not _applies(row, prepaid[i], wh, load):
                continue
            op = row[OP]
            if op == PER_UNIT:
                value[k] = _divide(per_unit(slabs, row[FIRST], row[LAST], row[A], wh, wh), _MICRO)
                if given > 0:
                    free[k] = _divide(per_unit(slabs, row[FIRST], row[LAST], row[A], given, wh), _MICRO)
            elif op == FIXED:
                value[k] = _fixed(slabs, row, wh, load, contract_va[i], days, in_period)
            elif op == DEMAND:
                value[k] = _demand(row, demand_va[i], contract_va[i], days, in_period)
            elif op == TIME_OF_USE:
                value[k] = _time_of_use(row, periods, hours, wh, _sum(value, row[OF]))
                if given > 0:
                    free[k] = share(value[k], given, wh)
            elif op == PERCENT:
                value[k] = _divide(_sum(value, row[OF]) * row[A], 100_000)
                if given > 0:
                    free[k] = _divide(_sum(free, row[OF]) * row[A], 100_000)
            elif op == FREE_UNITS:
                if wh <= row[A]:
                    value[k] = -_sum(value, row[OF] | row[B])
                elif row[C] != 0:
                    value[k] = -_sum(free, row[OF])
            elif op == MINIMUM:
                quantity = load if row[B] != 0 else np.int64(1000)
                value[k] = max(np.int64(0), share(row[A] * days, quantity, in_period * _MICRO) - _sum(value, row[OF]))
            elif op == ROUNDING:
                before = _sum(value, (np.int64(1) << k) - 1)
                value[k] = _divide(before, row[A]) * row[A] - before
        for k in range(lines):
            amount[k, i] = value[k]


@nb.njit(nogil=True, cache=True, inline="always")
def _applies(row: Int64, prepaid: I64, wh: I64, load: I64) -> I64:
    if (row[PAYMENT] == 1 and not prepaid) or (row[PAYMENT] == 2 and prepaid):
        return False
    return row[OVER_WH] < wh <= row[UP_TO_WH] and row[OVER_W] < load <= row[UP_TO_W]


@nb.njit(nogil=True, cache=True)
def per_unit(slabs: Int64, first: I64, last: I64, whole: I64, wh: I64, all_wh: I64) -> I64:
    """Millionths of a paisa for `wh`, of an account that consumed `all_wh` (which decides the slab of a whole-bill rate)."""
    total, below = np.int64(0), np.int64(0)
    for s in range(first, last):
        if whole != 0:
            if all_wh <= slabs[s, 0]:
                return wh * slabs[s, 1]
        else:
            total += max(np.int64(0), min(wh, slabs[s, 0]) - below) * slabs[s, 1]
            below = slabs[s, 0]
    return total


@nb.njit(nogil=True, cache=True)
def _fixed(slabs: Int64, row: Int64, wh: I64, load: I64, contract_va: I64, days: I64, in_period: I64) -> I64:
    per, s = row[A], row[FIRST]
    quantity = np.int64(1000)
    if per in (_KW, _KVA):
        quantity = load if per == _KW else contract_va
        quantity = (quantity + row[B] - 1) // row[B] * row[B]
    elif per == _LOAD_BAND:
        while load > slabs[s, 0]:
            s += 1
    elif per == _CONSUMPTION_BAND:
        while wh > slabs[s, 0]:
            s += 1
    return share(slabs[s, 1] * days, quantity, in_period * _MICRO)


@nb.njit(nogil=True, cache=True)
def _demand(row: Int64, recorded_va: I64, contract_va: I64, days: I64, in_period: I64) -> I64:
    floor = contract_va * row[B]  # thousandths of a VA
    billing = max(recorded_va * 1000, floor)
    excess = max(np.int64(0), billing - contract_va * 1000)
    weighted = (billing - excess) * 1000 + excess * row[C]  # millionths of a VA
    return share(row[A] * days, weighted, in_period * _MICRO * _MICRO)


@nb.njit(nogil=True, cache=True)
def _time_of_use(row: Int64, periods: Int64, hours: Int64, wh: I64, base: I64) -> I64:
    weighted = np.int64(0)
    column = 0 if row[A] != 0 else 1
    for p in range(hours.size):
        weighted += hours[p] * (periods[p, column] - (1000 if column == 0 else 0))
    if column == 1:
        return _divide(weighted, _MICRO)
    return share(base, weighted, wh * 1000) if wh > 0 else np.int64(0)


@nb.njit(nogil=True, cache=True)
def _sum(value: Int64, mask: I64) -> I64:
    total = np.int64(0)
    for k in range(value.size):
        if (mask >> k) & 1:
            total += value[k]
    return total


@nb.njit(nogil=True, cache=True)
def _divide(numerator: I64, denominator: I64) -> I64:
    """numerator / denominator, halves away from zero; denominator > 0."""
    size = abs(numerator)
    quotient = size // denominator
    rest = size - quotient * denominator
    if rest >= denominator - rest:
        quotient += 1
    return quotient if numerator >= 0 else -quotient


@nb.njit(nogil=True, cache=True)
def share(a: I64, b: I64, c: I64) -> I64:
    """a x b / c, halves away from zero, exact: the product may need 126 bits, the result must fit 63; c > 0."""
    if a == 0 or b == 0:
        return np.int64(0)
    if abs(float(a)) * abs(float(b)) < 9.0e18:
        return _divide(a * b, c)
    negative = (a < 0) != (b < 0)
    x, y, d = np.uint64(abs(a)), np.uint64(abs(b)), np.uint64(c)
    low_bits, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low_bits, x >> half, y & low_bits, y >> half
    p00, p01, p10, p11 = x0 * y0, x0 * y1, x1 * y0, x1 * y1
    middle = (p00 >> half) + (p01 & low_bits) + (p10 & low_bits)
    low = (middle << half) | (p00 & low_bits)
    high = p11 + (p01 >> half) + (p10 >> half) + (middle >> half)
    quotient, rest = np.uint64(0), high % d
    for bit in range(64):  # schoolbook: rest < d < 2**63, so twice the rest still fits
        rest = (rest << np.uint64(1)) | ((low >> np.uint64(63 - bit)) & np.uint64(1))
        quotient = quotient << np.uint64(1)
        if rest >= d:
            rest -= d
            quotient |= np.uint64(1)
    if rest >= d - rest:
        quotient += np.uint64(1)
    return -np.int64(quotient) if negative else np.int64(quotient)
