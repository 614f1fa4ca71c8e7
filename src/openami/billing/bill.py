"""`B`: the whole bill of a billing period to date, for all accounts at once, in integer arithmetic.

What always holds:
- a line is computed from quantities and from printed lines before it, and rounded half up once, to the paisa: whoever holds the
  printed bill and the tariff can recompute every line on paper;
- the total is the sum of the printed lines;
- an account with an input missing (unknown load, negative energy) is `refused`: its lines are 0 and nobody may post them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..money import round_half_up
from ..readings import Bool, Int64
from . import machine as m
from .tariff import Demand, Fixed, FixedPer, FreeUnits, Line, Minimum, Payment, Percent, PerUnit, Rounding, Slab, Tariff, TimeOfUse


@dataclass(frozen=True, slots=True)
class Bill:
    """`amount_paise` int64 [line, account]: > 0 is owed, < 0 is a rebate or a subsidy; `refused` bool [account]: could not be billed."""

    lines: tuple[str, ...]
    amount_paise: Int64
    refused: Bool

    @property
    def total_paise(self) -> Int64:
        """int64 [account]: the sum of the lines."""
        return np.asarray(self.amount_paise.sum(axis=0), np.int64)

    def line(self, name: str) -> Int64:
        """int64 [account] of one line by name."""
        return np.asarray(self.amount_paise[self.lines.index(name)], np.int64)


def bill(
    tariff: Tariff,
    energy_wh: Int64,
    days: int,
    days_in_month: int,
    connected_load_w: Int64,
    prepaid: Bool,
    *,
    span_days: int | None = None,
    demand_va: Int64 | None = None,
    contract_va: Int64 | None = None,
) -> Bill:
    """The bill of a billing period from its first day to date.

    energy_wh: int64 [tou_period, account] in Wh (VAh where the tariff is per kVAh), to date, periods as in `tariff.periods`.
    days: days to date, of days_in_month in the whole billing period (which may be two or three months long).
    connected_load_w: int64 [account], sanctioned load [W], 0 = unknown; prepaid: bool [account].
    span_days: days of the period in which this tariff holds, if it does not hold for all of it: slabs and free units shrink with it.
    demand_va, contract_va: int64 [account], recorded maximum demand to date and contract demand [VA]; only where a line is per kVA.
    Raises RequestError for shapes that do not fit, or for a demand that the tariff needs and nobody gave.
    """
    span = days_in_month if span_days is None else span_days
    if not 0 <= days <= span <= days_in_month:
        raise RequestError(
            f"{days} days to date, {span} days of tariff {tariff.name}, {days_in_month} days in the period: they must rise in this order"
        )
    accounts = connected_load_w.size
    if energy_wh.shape != (len(tariff.periods), accounts) or prepaid.shape != (accounts,):
        raise RequestError(
            f"tariff {tariff.name} has periods {', '.join(tariff.periods)} and there are {accounts} loads, "
            f"but energy is {energy_wh.shape} and prepaid {prepaid.shape}; fold the day blocks with this tariff's tou_index"
        )
    nothing = np.zeros(accounts, np.int64)
    demand = _given(tariff, "recorded maximum demand (demand_va)", demand_va, tariff.needs_demand, nothing)
    contract = _given(tariff, "contract demand (contract_va)", contract_va, tariff.needs_contract, nothing)
    program = _program(tariff, span, days_in_month)
    amount, refused = np.zeros((len(tariff.lines), accounts), np.int64), np.zeros(accounts, np.bool_)
    m.run(
        program.code,
        program.slabs,
        program.periods,
        np.ascontiguousarray(energy_wh, np.int64),
        np.array([days, days_in_month], np.int64),
        np.ascontiguousarray(connected_load_w, np.int64),
        np.ascontiguousarray(prepaid, np.bool_),
        demand,
        contract,
        amount,
        refused,
    )
    return Bill(tariff.line_names, amount, refused)


def _given(tariff: Tariff, what: str, value: Int64 | None, needed: bool, nothing: Int64) -> Int64:
    if value is None:
        if needed:
            raise RequestError(f"tariff {tariff.name} charges per kVA, so it needs each account's {what}")
        return nothing
    if value.shape != nothing.shape:
        raise RequestError(f"{what} is {value.shape}, but there are {nothing.size} accounts")
    return np.ascontiguousarray(value, np.int64)


@dataclass(frozen=True)
class _Program:
    """A tariff as the machine reads it: `code` int64 [line, field], `slabs` int64 [slab, (up_to, rate)], `periods` int64 [period, (times, add)]."""

    code: npt.NDArray[np.int64]
    slabs: npt.NDArray[np.int64]
    periods: npt.NDArray[np.int64]


@lru_cache(maxsize=512)
def _program(tariff: Tariff, span_days: int, days_in_month: int) -> _Program:
    code = np.zeros((len(tariff.lines), m.FIELDS), np.int64)
    table: list[tuple[int, int]] = []

    def put(slabs: tuple[Slab, ...], scaled: bool) -> tuple[int, int]:
        start = len(table)
        table.extend((m.NO_LIMIT if s.up_to is None else _share(s.up_to, scaled), s.rate_mp) for s in slabs)
        return start, len(table)

    def _share(limit: int, scaled: bool) -> int:
        return round_half_up(limit * span_days, days_in_month) if scaled else limit

    for k, line in enumerate(tariff.lines):
        row, when = code[k], line.when
        row[m.PAYMENT] = (Payment.ANY, Payment.PREPAID, Payment.POSTPAID).index(when.payment)
        row[m.OVER_WH] = -1 if when.over_wh is None else _share(when.over_wh, True)
        row[m.UP_TO_WH] = m.NO_LIMIT if when.up_to_wh is None else _share(when.up_to_wh, True)
        row[m.OVER_W] = -1 if when.over_w is None else when.over_w
        row[m.UP_TO_W] = m.NO_LIMIT if when.up_to_w is None else when.up_to_w
        row[m.NEEDS_LOAD] = _needs_load(line)
        row[m.OF] = _mask(tariff, getattr(line.rule, "of", ()))
        match line.rule:
            case PerUnit(slabs=slabs, whole=whole):
                row[m.OP], row[m.A] = m.PER_UNIT, whole
                row[m.FIRST], row[m.LAST] = put(slabs, True)
            case Fixed(per=per, slabs=slabs, step=step):
                row[m.OP], row[m.A], row[m.B] = m.FIXED, list(FixedPer).index(per), step
                row[m.FIRST], row[m.LAST] = put(slabs, per is FixedPer.CONSUMPTION_BAND)
            case Demand(rate_mp=rate, floor_mille=floor, excess_mille=excess):
                row[m.OP], row[m.A], row[m.B], row[m.C] = m.DEMAND, rate, floor, excess
            case TimeOfUse() as tou:
                row[m.OP], row[m.A] = m.TIME_OF_USE, tou.multiplies
            case Percent(percent_milli=percent):
                row[m.OP], row[m.A] = m.PERCENT, percent
            case FreeUnits(limit_wh=limit, within=within, keep_beyond=kept):
                row[m.OP], row[m.A], row[m.B], row[m.C] = m.FREE_UNITS, _share(limit, True), _mask(tariff, within), kept
            case Minimum(rate_mp=rate, per=per):
                row[m.OP], row[m.A], row[m.B] = m.MINIMUM, rate, per is FixedPer.KW
            case Rounding(to_paise=to):
                row[m.OP], row[m.A] = m.ROUNDING, to
    periods = tariff.time_of_use.periods if tariff.time_of_use else ()
    return _Program(
        code,
        np.array(table or [(m.NO_LIMIT, 0)], np.int64),
        np.array([(p.times_mille, p.add_mp) for p in periods] or [(1000, 0)], np.int64),
    )


def _mask(tariff: Tariff, names: tuple[str, ...]) -> int:
    return sum(1 << tariff.line_names.index(name) for name in names)


def _needs_load(line: Line) -> bool:
    per = getattr(line.rule, "per", None)
    return per in (FixedPer.KW, FixedPer.LOAD_BAND) or line.when.over_w is not None or line.when.up_to_w is not None
