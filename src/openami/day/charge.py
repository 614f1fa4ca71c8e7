"""The money part of closing a (day, shard): energy to date by time-of-use period, the day's charge lines, the daily statement.

What always holds: a statement's closing balance = opening + recharges - charges, and the next day's opening is this closing; a day's charge is
the bill to date today less the bill to date yesterday, so the days add up to the month; where more of a day is missing, or only
known from other consumers' profile, than the rules allow, its energy waits (charged 0 Wh, `held`). Charging it when it becomes known, as an
adjustment posted to the account, is not built: closing the day again gives the true energy and replaces the day's rows (decision 0007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..billing.bill import Bill, bill
from ..billing.charge import Segment, adjustment, segment, within_free_units
from ..billing.tariff import load_tariffs
from ..billing.tou import fold, tou_index
from ..errors import DataError
from ..prepaid.statement import daily_statements
from ..readings import IMPORT_WH, Bool, DayBlock, Int32, Int64
from ..vee import load_rules
from ..vee.tally import tally
from .roll import EPOCH, Before, Roll
from .site import Site


@dataclass(frozen=True, slots=True)
class Charged:
    """Rows of a (day, shard).

    usage: account, tariff, period, day_wh, to_date_wh. charges: account, tariff, line, amount_paise (of the day), to_date_paise (of the
    billing period). statements: account, meter, the balance before and after, energy, what was estimated or missing, `held`, and `pending`
    (the bill could not be computed: nothing is charged).
    """

    usage: pa.Table
    charges: pa.Table
    statements: pa.Table


USAGE = pa.schema({"account": pa.string(), "tariff": pa.string(), "period": pa.string(), "day_wh": pa.int64(), "to_date_wh": pa.int64()})
CHARGES = pa.schema(
    {"account": pa.string(), "tariff": pa.string(), "line": pa.string(), "amount_paise": pa.int64(), "to_date_paise": pa.int64()}
)


def charge_day(site: Site, roll: Roll, validated: dict[str, DayBlock]) -> Charged:
    """Charge every account of a shard for one validated day, given by channel name (a tariff says which channel it prices). Reads the usage
    and statements of the day before. DataError where a tariff's channel was never read, or the day before is open and not closed."""
    energy = validated[IMPORT_WH.name]
    day, shard = energy.day, energy.shard
    _need_the_day_before(site, day, shard)
    doubt = _doubt(energy, roll.meter, load_rules().on(day, "domestic").billing_missing_share_max)
    usage_before = _yesterday(site, "usage", day, shard)
    book = load_tariffs()
    groups = []
    for name, start, at in roll.groups(lambda name: segment(book, name, day).first):
        part = segment(book, name, day).starting(start)
        tou = tou_index(part.tariff, site.calendar, day)
        groups.append(_charge_group(roll, at, part, day, (_priced(validated, part, shard), tou), doubt.held, usage_before))
    merged = _merge(roll, groups)
    before = Before(roll.numbers, _yesterday(site, "statements", day, shard))
    statements = _statements(site, roll, day, merged, before)
    columns = {
        "wh": pa.array(doubt.wh),
        "estimated_wh": pa.array(doubt.estimated_wh),
        "missing_slots": pa.array(doubt.missing_slots),
        "held": pa.array(doubt.held),
        "within_free_units": pa.array(merged.within_free_units),
        "connected_load_w": pa.array(roll.load_w),
        "measured_until": _measured_until(site, doubt.last_metered, day),
        **_carried(day, before, statements["closing_paise"].to_numpy(), (doubt.estimated_wh > 0) | (doubt.missing_slots > 0)),
    }
    for name, column in columns.items():
        statements = statements.append_column(name, column)
    return Charged(merged.usage, merged.charges, statements)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Per account: the day's energy and what of it is estimated [Wh], intervals without any value, the last interval that was truly metered
    (-1 = none), and whether the day's energy waits."""

    wh: Int64
    estimated_wh: Int64
    missing_slots: Int32
    last_metered: Int32
    held: Bool


def _doubt(energy: DayBlock, meter: Int64, missing_share_max: float) -> _Doubt:
    found = tally(energy.values, energy.quality)
    held = found.unfounded[meter] > missing_share_max * energy.values.shape[0]
    return _Doubt(found.wh[meter], found.estimated_wh[meter], found.missing[meter], found.last_metered[meter], np.asarray(held, np.bool_))


@dataclass(frozen=True, slots=True)
class _Group:
    """Accounts `at` (positions) that share tariff and start, charged together."""

    at: Int64
    usage: pa.Table
    charges: pa.Table
    charged_paise: Int64
    refused: Bool
    within_free_units: Bool


def _charge_group(
    roll: Roll,
    at: Int64,
    part: Segment,
    day: date,
    priced: tuple[DayBlock, Int64],
    held: Bool,
    usage_before: pa.Table | None,
) -> _Group:
    """priced: the day block that the tariff prices, and the time-of-use period of each of its slots."""
    block, tou = priced
    all_wh, _ = fold(block.values, tou, len(part.tariff.periods))
    day_wh = all_wh[:, roll.meter[at]]
    day_wh[:, held[at]] = 0
    before_wh = _before_wh(usage_before, part, roll.numbers.take(pa.array(at)), day)
    to_date_wh = before_wh + day_wh
    load_w, prepaid = roll.load_w[at], roll.prepaid[at]
    span = part.span_days
    to_date = bill(part.tariff, to_date_wh, part.days_to(day), part.days_in_period, load_w, prepaid, span_days=span)
    until_yesterday = bill(part.tariff, before_wh, part.days_to(day) - 1, part.days_in_period, load_w, prepaid, span_days=span)
    lines = adjustment(to_date, until_yesterday)
    return _Group(
        at,
        _usage_rows(roll, at, part, day_wh, to_date_wh),
        _charge_rows(roll, at, part.tariff.name, lines, to_date),
        lines.total_paise,
        lines.refused,
        within_free_units(part, to_date_wh.sum(axis=0), prepaid),
    )


@dataclass(frozen=True, slots=True)
class _Merged:
    """All groups of a shard, per account again."""

    usage: pa.Table
    charges: pa.Table
    charged_paise: Int64
    pending: Bool
    within_free_units: Bool


def _merge(roll: Roll, groups: list[_Group]) -> _Merged:
    charged = np.zeros(len(roll), np.int64)
    pending, free = np.zeros(len(roll), np.bool_), np.zeros(len(roll), np.bool_)
    for group in groups:
        charged[group.at], pending[group.at], free[group.at] = group.charged_paise, group.refused, group.within_free_units
    if not groups:
        return _Merged(USAGE.empty_table(), CHARGES.empty_table(), charged, pending, free)
    usage = pa.concat_tables([g.usage for g in groups]).unify_dictionaries()
    charges = pa.concat_tables([g.charges for g in groups]).unify_dictionaries()
    return _Merged(usage, charges, charged, pending, free)


def _priced(validated: dict[str, DayBlock], part: Segment, shard: int) -> DayBlock:
    """The day block that a tariff prices: kWh or kVAh."""
    if part.tariff.channel not in validated:
        raise DataError(
            f"tariff {part.tariff.name} prices {part.tariff.channel}, which no meter of shard {shard} has sent; "
            "give the accounts another tariff, or the meters a layout with that channel"
        )
    return validated[part.tariff.channel]


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
    for table in ("statements", "usage"):
        if yesterday >= site.deployment.first_day and not site.lake.has(table, yesterday, shard):
            raise DataError(f"{table} of {yesterday} (shard {shard}) are not there, and {day} goes on from them; close {yesterday} first")


def _yesterday(site: Site, table: str, day: date, shard: int) -> pa.Table | None:
    """A table's rows of the day before; None where there are none."""
    yesterday = day - timedelta(days=1)
    return site.lake.read(table, yesterday, shard) if site.lake.has(table, yesterday, shard) else None


def _before_wh(usage: pa.Table | None, part: Segment, numbers: pa.Array, day: date) -> Int64:
    """int64 [period, account]: the segment's energy before `day`; a segment that begins on `day` starts from nothing."""
    periods = part.tariff.periods
    if part.first == day or usage is None:
        return np.zeros((len(periods), len(numbers)), np.int64)
    own = usage.filter(pc.equal(usage["tariff"], part.tariff.name))
    found = [Before(numbers, own.filter(pc.equal(own["period"], period))).column("to_date_wh", 0) for period in periods]
    return np.asarray(found, np.int64)


def _usage_rows(roll: Roll, at: Int64, part: Segment, day_wh: Int64, to_date_wh: Int64) -> pa.Table:
    periods = part.tariff.periods
    return pa.table(
        {
            "account": roll.repeated(at, len(periods)),
            "tariff": _each((part.tariff.name,), day_wh.size),
            "period": _each(periods, len(at)),
            "day_wh": pa.array(day_wh.ravel()),
            "to_date_wh": pa.array(to_date_wh.ravel()),
        }
    )


def _charge_rows(roll: Roll, at: Int64, name: str, lines: Bill, to_date: Bill) -> pa.Table:
    return pa.table(
        {
            "account": roll.repeated(at, len(lines.lines)),
            "tariff": _each((name,), lines.amount_paise.size),
            "line": _each(lines.lines, len(at)),
            "amount_paise": pa.array(lines.amount_paise.ravel()),
            "to_date_paise": pa.array(to_date.amount_paise.ravel()),
        }
    )


def _each(words: Sequence[str], times: int) -> pa.Array:
    """Each word `times` times, one after the other, as a dictionary."""
    return pa.DictionaryArray.from_arrays(pa.array(np.repeat(np.arange(len(words), dtype=np.int32), times)), pa.array(words, pa.string()))


def _statements(site: Site, roll: Roll, day: date, charged: _Merged, before: Before) -> pa.Table:
    """account, meter, opening_paise, recharges_paise, charges_paise, closing_paise, pending."""
    statements = daily_statements(
        np.where(before.known, before.column("closing_paise", 0), roll.opening_paise).astype(np.int64),
        transferred(site, roll, day),
        charged.charged_paise[None, :],
        ("charge",),
        charged.pending,
    )
    return pa.table(
        {
            "account": roll.numbers,
            "meter": pa.array(roll.meter.astype(np.int32)),
            "opening_paise": pa.array(statements.opening_paise),
            "recharges_paise": pa.array(statements.recharges_paise),
            "charges_paise": pa.array(statements.charges_paise),
            "closing_paise": pa.array(statements.closing_paise),
            "pending": pa.array(statements.pending),
        }
    )


def transferred(site: Site, roll: Roll, day: date) -> Int64:
    """int64 [account]: the sum of the day's transfers [paise]."""
    total = np.zeros(len(roll), np.int64)
    if rows := site.rows.transfers(day, day):
        at = pc.fill_null(pc.index_in(pa.array([row.account for row in rows]), roll.numbers), -1).to_numpy()
        np.add.at(total, at[at >= 0], np.array([row.amount_paise for row in rows], np.int64)[at >= 0])
    return total
