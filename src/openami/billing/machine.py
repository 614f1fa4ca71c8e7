"""The arithmetic of a bill, compiled: blocks of accounts, line after line, in int64.

Amounts are paise, rates milli-paise, energies Wh: Wh x milli-paise per kWh = millionths of a paisa. Products that could pass 63 bits
go through a 128-bit division (`share`), so the result is exact for any account that can exist. `tests/billing/reference.py` says
the same in fractions. A block's lines stay in the first-level cache; what a line is, is decided once a block, not once an account.
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
_BLOCK = 256


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
    free_limit, needs_load, needs_kva = np.int64(0), False, False
    for k in range(lines):
        if code[k, OP] == FREE_UNITS:
            free_limit = code[k, A]
        needs_load |= code[k, NEEDS_LOAD] != 0
        needs_kva |= code[k, OP] == DEMAND or (code[k, OP] == FIXED and code[k, A] == _KVA)
    free, work = np.zeros((lines, _BLOCK), np.int64), np.zeros((5, _BLOCK), np.int64)
    for low in range(0, accounts, _BLOCK):
        high = min(accounts, low + _BLOCK)
        hours, load, contract, demand = energy_wh[:, low:high], load_w[low:high], contract_va[low:high], demand_va[low:high]
        block, bad, wh, given = amount[:, low:high], refused[low:high], work[0, : high - low], work[1, : high - low]
        wh[:] = 0
        for p in range(hours.shape[0]):
            for i in range(wh.size):
                bad[i] |= hours[p, i] < 0
                wh[i] += hours[p, i]
        for i in range(wh.size):
            bad[i] |= (needs_load and load[i] <= 0) or (needs_kva and (contract[i] <= 0 or demand[i] < 0))
            given[i] = min(wh[i], free_limit)
        for k in range(lines):
            _line(
                code,
                k,
                slabs,
                periods,
                hours,
                span,
                load,
                contract,
                demand,
                free_limit > 0,
                work[:, : high - low],
                block,
                free[:, : high - low],
            )
            _where_it_applies(code, k, prepaid[low:high], wh, load, block[k], free[k, : high - low])
        for k in range(lines):
            for i in range(wh.size):
                if bad[i]:
                    block[k, i] = 0


@nb.njit(nogil=True, cache=True)
def _line(
    code: Int64,
    k: I64,
    slabs: Int64,
    periods: Int64,
    hours: Int64,
    span: Int64,
    load: Int64,
    contract: Int64,
    demand: Int64,
    with_free: I64,
    work: Int64,
    amount: Int64,
    free: Int64,
) -> None:
    """Line k of a block, into amount[k] and free[k], which is what the line would be for the free units alone.

    work: (units, free units, sum of the lines it refers to, the same of `free`, weighted units), each [account of the block]."""
    op, wh, given, base, free_base, weighted = code[k, OP], work[0], work[1], work[2], work[3], work[4]
    out = amount[k]
    free[k, :] = 0
    _sum(amount, code[k, OF] | (code[k, B] if op == FREE_UNITS else 0), base)
    if op == PER_UNIT:
        _per_units(slabs, code, k, wh, wh, out)
        if with_free:
            _per_units(slabs, code, k, given, wh, free[k])
    elif op == FIXED:
        _fixed(slabs, code, k, wh, load, contract, span, out)
    elif op == DEMAND:
        _demand(code, k, demand, contract, span, out)
    elif op == TIME_OF_USE:
        _weigh(code, k, periods, hours, weighted)
        _time_of_use(code, k, weighted, wh, base, out)
        for i in range(out.size):
            free[k, i] = share(out[i], given[i], wh[i]) if given[i] > 0 else 0
    elif op == PERCENT:
        _sum(free, code[k, OF], free_base)
        for i in range(out.size):
            out[i] = _percent(base[i] * code[k, A])
            free[k, i] = _percent(free_base[i] * code[k, A])
    elif op == FREE_UNITS:
        _sum(free, code[k, OF], free_base)
        for i in range(out.size):
            beyond = -free_base[i] if code[k, C] != 0 else 0
            out[i] = -base[i] if wh[i] <= code[k, A] else beyond
    elif op == MINIMUM:
        for i in range(out.size):
            quantity = load[i] if code[k, B] != 0 else np.int64(1000)
            out[i] = max(np.int64(0), share(code[k, A] * span[0], quantity, span[1] * _MICRO) - base[i])
    elif op == ROUNDING:
        _sum(amount, (np.int64(1) << k) - 1, base)
        for i in range(out.size):
            out[i] = _divide(base[i], code[k, A]) * code[k, A] - base[i]


@nb.njit(nogil=True, cache=True)
def _where_it_applies(code: Int64, k: I64, prepaid: Bool, wh: Int64, load: Int64, amount: Int64, free: Int64) -> None:
    """Zero where the line's condition does not hold; a line without a condition is left alone."""
    payment, over, up_to, over_w, up_to_w = code[k, PAYMENT], code[k, OVER_WH], code[k, UP_TO_WH], code[k, OVER_W], code[k, UP_TO_W]
    if payment == 0 and over < 0 and up_to == NO_LIMIT and over_w < 0 and up_to_w == NO_LIMIT:
        return
    for i in range(amount.size):
        paid = payment == 0 or (payment == 1) == prepaid[i]
        if not (paid and over < wh[i] <= up_to and over_w < load[i] <= up_to_w):
            amount[i] = 0
            free[i] = 0


@nb.njit(nogil=True, cache=True)
def _per_units(slabs: Int64, code: Int64, k: I64, wh: Int64, all_wh: Int64, out: Int64) -> None:
    """Paise for `wh`, of accounts that consumed `all_wh` (which decides the slab of a whole-bill rate)."""
    first, last = code[k, FIRST], code[k, LAST]
    if last == first + 1:
        rate = slabs[first, 1]
        for i in range(out.size):
            out[i] = _millionths(wh[i] * rate)
    elif code[k, A] != 0:
        for i in range(out.size):
            s = first
            while all_wh[i] > slabs[s, 0]:
                s += 1
            out[i] = _millionths(wh[i] * slabs[s, 1])
    else:
        out[:] = 0
        below = np.int64(0)
        for s in range(first, last):
            for i in range(out.size):
                out[i] += max(np.int64(0), min(wh[i], slabs[s, 0]) - below) * slabs[s, 1]
            below = slabs[s, 0]
        for i in range(out.size):
            out[i] = _millionths(out[i])


@nb.njit(nogil=True, cache=True)
def _fixed(slabs: Int64, code: Int64, k: I64, wh: Int64, load: Int64, contract_va: Int64, span: Int64, out: Int64) -> None:
    per, first, step = code[k, A], code[k, FIRST], code[k, B]
    for i in range(out.size):
        s, quantity = first, np.int64(1000)
        if per in (_KW, _KVA):
            quantity = load[i] if per == _KW else contract_va[i]
            quantity = (quantity + step - 1) // step * step
        elif per == _LOAD_BAND:
            while load[i] > slabs[s, 0]:
                s += 1
        elif per == _CONSUMPTION_BAND:
            while wh[i] > slabs[s, 0]:
                s += 1
        out[i] = share(slabs[s, 1] * span[0], quantity, span[1] * _MICRO)


@nb.njit(nogil=True, cache=True)
def _demand(code: Int64, k: I64, recorded_va: Int64, contract_va: Int64, span: Int64, out: Int64) -> None:
    for i in range(out.size):
        billing = max(recorded_va[i] * 1000, contract_va[i] * code[k, B])  # thousandths of a VA
        excess = max(np.int64(0), billing - contract_va[i] * 1000)
        weighted = (billing - excess) * 1000 + excess * code[k, C]  # millionths of a VA
        out[i] = share(code[k, A] * span[0], weighted, span[1] * _MICRO * _MICRO)


@nb.njit(nogil=True, cache=True)
def _weigh(code: Int64, k: I64, periods: Int64, hours: Int64, weighted: Int64) -> None:
    """Wh x (thousandths more or less than the base), or Wh x milli-paise added, summed over the periods."""
    weighted[:] = 0
    for p in range(hours.shape[0]):
        weight = periods[p, 0] - 1000 if code[k, A] != 0 else periods[p, 1]
        for i in range(hours.shape[1]):
            weighted[i] += hours[p, i] * weight


@nb.njit(nogil=True, cache=True)
def _time_of_use(code: Int64, k: I64, weighted: Int64, wh: Int64, base: Int64, out: Int64) -> None:
    if code[k, A] == 0:
        for i in range(out.size):
            out[i] = _millionths(weighted[i])
    else:
        for i in range(out.size):
            out[i] = share(base[i], weighted[i], wh[i] * 1000) if wh[i] > 0 else 0


@nb.njit(nogil=True, cache=True)
def _sum(value: Int64, mask: I64, out: Int64) -> None:
    """out[account] = the sum of the lines whose bit is set in `mask`."""
    out[:] = 0
    for k in range(value.shape[0]):
        if (mask >> k) & 1:
            for i in range(value.shape[1]):
                out[i] += value[k, i]


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
def _millionths(numerator: I64) -> I64:
    """`_divide` by a million: a divisor that the compiler knows costs a multiplication instead of a division."""
    size = np.uint64(abs(numerator))
    whole = np.int64((size + np.uint64(500_000)) // np.uint64(1_000_000))
    return whole if numerator >= 0 else -whole


@nb.njit(nogil=True, cache=True)
def _percent(numerator: I64) -> I64:
    """`_divide` by 100,000, thousandths of a percent."""
    size = np.uint64(abs(numerator))
    whole = np.int64((size + np.uint64(50_000)) // np.uint64(100_000))
    return whole if numerator >= 0 else -whole


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
