"""The money part of closing a (day, shard): energy to date by time-of-use period, the day's charge lines, the daily statement.

What always holds: a statement's closing balance = opening + recharges - charges - adjustments, and the next day's opening is this closing; a
day's charge is the bill to date today less the bill to date yesterday, so the days add up to the month; where more of a day is missing, or
only known from other consumers' profile, than the rules allow, its energy waits (charged 0 Wh, `held`) until readings come; then it is
charged as an adjustment (adjust.py, decision 0007).

Every table has a row per account, in the order of the roll, and says so in its metadata (`Roll.mark`):

    usage        account, meter, tariff, and the columns of quantities.py
    charges      meter, tariff; `<line>_paise` of the day for each line of the tariffs, null where an account's tariff has no such line;
                 `to_date_paise`, the whole bill of the segment to date
    statements   account, meter, the balance before and after, energy, what was estimated or missing, `held`, and `pending` (the bill could not
                 be computed: nothing is charged)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..billing.bill import Bill, bill
from ..billing.charge import Segment, adjustment, segment, within_free_units
from ..billing.tariff import SETTLEMENT, load_tariffs
from ..errors import DataError, InputError
from ..prepaid.statement import daily_statements
from ..readings import IMPORT_WH, Bool, DayBlock, Int32, Int64
from ..registry import EPOCH
from ..vee import load_rules
from ..vee.tally import Tally
from .moved import Moved
from .quantities import CONTRACT, DEMAND, WH, Quantities, carried, quantities
from .roll import Before, Roll
from .site import Site

CARRIED = ("closing_paise", "below_since", "uncertain_to_date")
PAISE = "_paise"
TO_DATE = "to_date"


@dataclass(frozen=True, slots=True)
class Charged:
    """Rows of a (day, shard), as above."""

    usage: pa.Table
    charges: pa.Table
    statements: pa.Table


def charge_day(site: Site, roll: Roll, validated: dict[str, DayBlock], counted: Tally, moved: Moved) -> Charged:
    """Charge every account of a shard for one validated day, given by channel name (a tariff says which channel it prices), and `counted`, the tally
    of its imported energy; `moved`: the day's transfers. Reads the usage and statements of the day before. DataError where a tariff's channel was
    never read, or the day before is open and not closed."""
    energy = validated[IMPORT_WH.name]
    day, shard = energy.day, energy.shard
    doubt = doubt_of(roll, energy, counted)
    money = reckon(site, roll, validated, doubt.held)
    before = Before.of(site.lake, "statements", day - timedelta(days=1), shard, roll, CARRIED, CARRIED)
    statements = _statements(site, roll, day, shard, money, before, moved)
    columns = {
        "wh": pa.array(doubt.wh),
        "estimated_wh": pa.array(doubt.estimated_wh),
        "missing_slots": pa.array(doubt.missing_slots),
        "held": pa.array(doubt.held),
        "within_free_units": pa.array(money.within_free_units),
        "connected_load_w": pa.array(roll.load_w),
        "measured_until": _measured_until(site, doubt.last_metered, day),
        **_carried(day, before, statements["closing_paise"].to_numpy(), (doubt.estimated_wh > 0) | (doubt.missing_slots > 0)),
    }
    for name, column in columns.items():
        statements = statements.append_column(name, column)
    return Charged(usage_rows(roll, money), charge_rows(roll, money), roll.marked(statements))


@dataclass(frozen=True, slots=True)
class Doubt:
    """Per account: the day's energy and what of it is estimated [Wh], intervals without any value, the last interval that was truly metered
    (-1 = none), and whether the day's energy waits."""

    wh: Int64
    estimated_wh: Int64
    missing_slots: Int32
    last_metered: Int32
    held: Bool


def doubt_of(roll: Roll, energy: DayBlock, counted: Tally) -> Doubt:
    """What is known and not known of each account's day."""
    missing_share_max = load_rules().on(energy.day, "domestic").billing_missing_share_max
    meter = roll.meter
    held = np.asarray(counted.unfounded[meter] > missing_share_max * energy.values.shape[0], np.bool_)
    return Doubt(counted.wh[meter], counted.estimated_wh[meter], counted.missing[meter], counted.last_metered[meter], held)


@dataclass(slots=True)
class Money:
    """What a day costs the accounts of a roll, all [account]: columns of energy and of lines by name, with where they hold (an account's tariff
    has the period or line); the sum of the lines, the bill of the segment to date, whether the bill could not be computed, whether free units
    still cover it."""

    columns: dict[str, tuple[Int64, Bool | None]]
    charged_paise: Int64
    to_date_paise: Int64
    pending: Bool
    within_free_units: Bool

    @staticmethod
    def none(accounts: int) -> Money:
        paise, truth = np.zeros((2, accounts), np.int64), np.zeros((2, accounts), np.bool_)
        return Money({}, paise[0], paise[1], truth[0], truth[1])

    def put(self, name: str, own: slice | Int64, values: Int64) -> None:
        """`values` of the accounts `own` into the column `name`."""
        if isinstance(own, slice):
            self.columns[name] = values, None
            return
        accounts = self.charged_paise.size
        column, known = self.columns.setdefault(name, (np.zeros(accounts, np.int64), np.zeros(accounts, np.bool_)))
        column[own] = values
        if known is not None:
            known[own] = True

    def arrays(self, ending: str) -> dict[str, pa.Array]:
        """The columns whose name ends so, in the order of the tariffs' lines, null where an account does not have them."""
        own = {name: column for name, column in self.columns.items() if name.endswith(ending)}
        return {name: pa.array(values) if known is None else pa.array(values, mask=~known) for name, (values, known) in own.items()}


def reckon(site: Site, roll: Roll, validated: dict[str, DayBlock], held: Bool) -> Money:
    """Energy and charges of a validated day; reads the usage of the day before. `held`: whose energy of the day waits. The same day reckoned again
    from the same readings gives the same."""
    energy = validated[IMPORT_WH.name]
    day, book = energy.day, load_tariffs()
    _need_the_day_before(site, day, energy.shard)
    groups = [
        (at, segment(book, name, day).starting(start, until))
        for name, start, until, at in roll.groups(lambda name: segment(book, name, day).first)
    ]
    columns = ["meter", "tariff", *dict.fromkeys(name for _, part in groups for name in carried(part.tariff))]
    before = Before.of(site.lake, "usage", day - timedelta(days=1), energy.shard, roll, columns, columns[:2])
    money = Money.none(len(roll))
    for at, part in groups:
        own = slice(None) if at.size == len(roll) else at
        taken = quantities(site, part, validated, roll.meter[own], own, held[own], before)
        _reckon_group(money, roll, own, part, day, taken)
    return money


def _reckon_group(money: Money, roll: Roll, own: slice | Int64, part: Segment, day: date, taken: Quantities) -> None:
    """Accounts `own` (positions) that share tariff and start, charged together."""
    load_w, prepaid = roll.load_w[own], roll.prepaid[own]
    contract_va = None
    if part.tariff.needs_contract:
        contract_va = load_w if roll.contract_va is None else roll.contract_va[own]
        money.put(CONTRACT, own, contract_va)

    def whole(energy_wh: Int64, days: int, demand_va: Int64 | None) -> Bill:
        own_demand = {"demand_va": demand_va, "contract_va": contract_va}
        return bill(part.tariff, energy_wh, days, part.days_in_period, load_w, prepaid, span_days=part.span_days, **own_demand)

    to_date = whole(taken.to_date_wh, part.days_to(day), taken.demand_va)
    lines = adjustment(to_date, whole(taken.before_wh, part.days_to(day) - 1, taken.demand_before_va))
    for name, column in taken.columns.items():
        money.put(name, own, column)
    for k, name in enumerate(lines.lines):
        if name in (TO_DATE, SETTLEMENT):
            raise InputError(f"tariff {part.tariff.name} has a line {name!r}, which is the name of a column of ours; call it otherwise")
        money.put(name + PAISE, own, lines.amount_paise[k])
    charged, so_far = lines.total_paise, to_date.total_paise
    if taken.settled_paise is not None:
        settlement = np.where(lines.refused, 0, -taken.settled_paise)
        money.put(SETTLEMENT + PAISE, own, settlement)
        charged, so_far = charged + settlement, so_far + settlement
    money.charged_paise[own], money.to_date_paise[own] = charged, so_far
    money.pending[own] = lines.refused
    money.within_free_units[own] = within_free_units(part, taken.to_date_wh.sum(axis=0), prepaid)


def usage_rows(roll: Roll, money: Money) -> pa.Table:
    """The rows of `usage`."""
    columns = {"account": roll.numbers, "meter": _meters(roll), "tariff": _tariffs(roll), **money.arrays(WH), **money.arrays(DEMAND)}
    return roll.marked(pa.table(columns | money.arrays(CONTRACT)))


def charge_rows(roll: Roll, money: Money) -> pa.Table:
    """The rows of `charges`."""
    columns = {"meter": _meters(roll), "tariff": _tariffs(roll), **money.arrays(PAISE)}
    return roll.marked(pa.table(columns | {TO_DATE + PAISE: pa.array(money.to_date_paise)}))


def _meters(roll: Roll) -> pa.Array:
    return pa.array(roll.meter.astype(np.int32))


def _tariffs(roll: Roll) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(roll.tariff), pa.array(roll.tariffs, pa.string()))


def _measured_until(site: Site, last: Int32, day: date) -> pa.Array:
    """The end of each account's last interval that was truly metered on this day [UTC]; null where there is none."""
    end_us = (site.calendar.day_start(day) + (last + 1) * np.int64(site.calendar.interval_s)) * 1_000_000
    return pa.array(end_us, mask=last < 0).cast(pa.timestamp("us", "UTC"))


def _carried(day: date, before: Before, closing_paise: Int64, uncertain: Bool) -> dict[str, pa.Array]:
    """What a statement carries on from the day before: `below_since` (the first day at whose end the balance was below zero, and has been
    since; null = it is not below) and `uncertain_to_date` (an estimate or a gap is in the month's reckoning)."""
    today, never = (day - EPOCH).days, np.iinfo(np.int32).min
    since = before.column("below_since", never)
    below = np.where(since == never, today, since).astype(np.int32)
    doubt = uncertain if day.day == 1 else uncertain | before.column("uncertain_to_date", 0).astype(np.bool_)
    return {"below_since": pa.array(below, mask=closing_paise >= 0).cast(pa.date32()), "uncertain_to_date": pa.array(doubt)}


def _need_the_day_before(site: Site, day: date, shard: int) -> None:
    """Balances and energy to date go on from the day before: without it they would start anew, and nobody would notice."""
    yesterday = day - timedelta(days=1)
    for table in ("closes", "statements", "usage"):
        if yesterday >= site.deployment.first_day and not site.lake.has(table, yesterday, shard):
            raise DataError(f"{table} of {yesterday} (shard {shard}) are not there, and {day} goes on from them; close {yesterday} first")


def _statements(site: Site, roll: Roll, day: date, shard: int, money: Money, before: Before, moved: Moved) -> pa.Table:
    """account, meter, opening_paise, recharges_paise, charges_paise, adjustments_paise, closing_paise, pending."""
    statements = daily_statements(
        np.where(before.known, before.column("closing_paise", 0), roll.opening_paise).astype(np.int64),
        moved.sums(roll),
        money.charged_paise[None, :],
        ("charge",),
        money.pending,
        adjusted(site, roll, day, shard),
    )
    return pa.table(
        {
            "account": roll.numbers,
            "meter": _meters(roll),
            "opening_paise": pa.array(statements.opening_paise),
            "recharges_paise": pa.array(statements.recharges_paise),
            "charges_paise": pa.array(statements.charges_paise),
            "adjustments_paise": pa.array(statements.adjustments_paise),
            "closing_paise": pa.array(statements.closing_paise),
            "pending": pa.array(statements.pending),
        }
    )


def adjusted(site: Site, roll: Roll, day: date, shard: int) -> Int64:
    """int64 [account]: the sum of the adjustments posted to `day` [paise], > 0 = taken."""
    total = np.zeros(len(roll), np.int64)
    if site.lake.has("adjustments", day, shard):
        rows = site.lake.read("adjustments", day, shard, columns=["account", "amount_paise"])
        at = pc.fill_null(pc.index_in(rows["account"].combine_chunks(), roll.numbers), -1).to_numpy()
        np.add.at(total, at[at >= 0], rows["amount_paise"].to_numpy()[at >= 0])
    return total
