"""The money part of closing a (day, shard): energy to date by time-of-use period, the day's charge lines, the daily statement.

What always holds: a statement's closing balance = opening + recharges - charges, and the next day's opening is this closing; a day's charge is
the bill to date today less the bill to date yesterday, so the days add up to the month; where more of a day is missing, or only
known from other consumers' profile, than the rules allow, its energy waits (charged 0 Wh, `held`) and is charged when it is known, by adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ..billing.bill import Bill, bill
from ..billing.charge import Segment, charge, segment, within_free_units
from ..billing.tariff import load_tariffs
from ..billing.tou import fold, tou_index
from ..errors import DataError
from ..prepaid.statement import daily_statements
from ..readings import ESTIMATED_BITS, IMPORT_WH, MISSING, Bool, DayBlock, Int32, Int64, Quality
from ..registry import Account, PaymentMode, ShardIndex
from ..vee import load_rules
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


@dataclass(frozen=True, slots=True)
class _Accounts:
    """The accounts of a shard that hold on a day, in account order, and their meters' columns in the day block."""

    accounts: list[Account]
    meter: Int64
    load_w: Int64
    prepaid: Bool

    def starts(self) -> list[tuple[str, date]]:
        """(tariff, first day of the account), each once."""
        return sorted({(a.tariff, a.since) for a in self.accounts})

    def of(self, tariff: str, since: date) -> Int64:
        return np.array([k for k, a in enumerate(self.accounts) if a.tariff == tariff and a.since == since], np.int64)


def charge_day(site: Site, index: ShardIndex, validated: dict[str, DayBlock]) -> Charged:
    """Charge every account of a shard for one validated day, given by channel name (a tariff says which channel it prices). Reads the usage
    and statements of the day before. DataError where a tariff's channel was never read, or the day before is open and not closed."""
    energy = validated[IMPORT_WH.name]
    day, shard = energy.day, energy.shard
    _need_the_day_before(site, day, shard)
    own = _accounts(site, index, day)
    doubt = _doubt(energy, own.meter, load_rules().on(day, "domestic").billing_missing_share_max)
    usage_before = _usage_before(site, day, shard)
    book = load_tariffs()
    groups = []
    for name, start in own.starts():
        part = segment(book, name, day).starting(start)
        tou = tou_index(part.tariff, site.calendar, day)
        groups.append(_charge_group(own, own.of(name, start), part, day, (_priced(validated, part, shard), tou), doubt.held, usage_before))
    merged = _merge(own, groups)
    statements = _statements(site, own, day, shard, merged)
    columns = {
        "wh": pa.array(np.where(energy.values == MISSING, 0, energy.values).sum(axis=0, dtype=np.int64)[own.meter]),
        "estimated_wh": pa.array(doubt.estimated_wh),
        "missing_slots": pa.array(doubt.missing_slots),
        "held": pa.array(doubt.held),
        "within_free_units": pa.array(merged.within_free_units),
        "connected_load_w": pa.array(own.load_w),
        "measured_until": _measured_until(site, energy, own.meter),
        **_carried(site, own, day, shard, statements, (doubt.estimated_wh > 0) | (doubt.missing_slots > 0)),
    }
    for name, column in columns.items():
        statements = statements.append_column(name, column)
    return Charged(merged.usage, merged.charges, statements)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Per account: energy that is estimated [Wh], intervals without any value, and whether the day's energy waits."""

    estimated_wh: Int64
    missing_slots: Int32
    held: Bool


def _doubt(energy: DayBlock, meter: Int64, missing_share_max: float) -> _Doubt:
    estimated = np.where(energy.quality & ESTIMATED_BITS, energy.values, 0).sum(axis=0, dtype=np.int64)[meter]
    missing = (energy.values == MISSING).sum(axis=0)[meter].astype(np.int32)
    unfounded = missing_or_profile(energy).sum(axis=0)[meter]
    return _Doubt(estimated, missing, np.asarray(unfounded > missing_share_max * energy.values.shape[0], np.bool_))


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
    own: _Accounts,
    at: Int64,
    part: Segment,
    day: date,
    priced: tuple[DayBlock, Int64],
    held: Bool,
    usage_before: dict[tuple[str, str, str], int],
) -> _Group:
    """priced: the day block that the tariff prices, and the time-of-use period of each of its slots."""
    block, tou = priced
    day_wh, _ = fold(block.values[:, own.meter[at]], tou, len(part.tariff.periods))
    day_wh[:, held[at]] = 0
    numbers = [own.accounts[k].number for k in at]
    before_wh = _before_wh(usage_before, part, numbers, day)
    to_date_wh = before_wh + day_wh
    load_w, prepaid = own.load_w[at], own.prepaid[at]
    lines = charge(part, day, before_wh, day_wh, load_w, prepaid)
    to_date = bill(part.tariff, to_date_wh, part.days_to(day), part.days_in_period, load_w, prepaid, span_days=part.span_days)
    return _Group(
        at,
        _usage_rows(part, numbers, day_wh, to_date_wh),
        _charge_rows(part.tariff.name, numbers, lines, to_date),
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


def _merge(own: _Accounts, groups: list[_Group]) -> _Merged:
    charged = np.zeros(len(own.accounts), np.int64)
    pending, free = np.zeros(len(own.accounts), np.bool_), np.zeros(len(own.accounts), np.bool_)
    for group in groups:
        charged[group.at], pending[group.at], free[group.at] = group.charged_paise, group.refused, group.within_free_units
    usage = pa.concat_tables([USAGE.empty_table(), *(g.usage for g in groups)])
    charges = pa.concat_tables([CHARGES.empty_table(), *(g.charges for g in groups)])
    return _Merged(usage, charges, charged, pending, free)


def _priced(validated: dict[str, DayBlock], part: Segment, shard: int) -> DayBlock:
    """The day block that a tariff prices: kWh or kVAh."""
    if part.tariff.channel not in validated:
        raise DataError(
            f"tariff {part.tariff.name} prices {part.tariff.channel}, which no meter of shard {shard} has sent; "
            "give the accounts another tariff, or the meters a layout with that channel"
        )
    return validated[part.tariff.channel]


def missing_or_profile(energy: DayBlock) -> Bool:
    """Intervals [slot, meter] of which the consumer's own meter says nothing: no value at all, or the average of other consumers."""
    profile = (energy.quality & np.uint32(Quality.ESTIMATED_CLASS_PROFILE)) != 0
    return np.asarray((energy.values == MISSING) | profile, np.bool_)


def _measured_until(site: Site, energy: DayBlock, meter: Int64) -> pa.Array:
    """The end of each account's last interval that was truly metered on this day [UTC]; null where there is none."""
    metered = (energy.values != MISSING) & ((energy.quality & ESTIMATED_BITS) == 0)
    slots = energy.values.shape[0]
    last = np.where(metered.any(axis=0), slots - 1 - np.argmax(metered[::-1], axis=0), -1)[meter]
    end_us = (site.calendar.day_start(energy.day) + (last + 1) * site.calendar.interval_s).astype(np.int64) * 1_000_000
    return pa.array(end_us, mask=last < 0).cast(pa.timestamp("us", "UTC"))


def _carried(site: Site, own: _Accounts, day: date, shard: int, statements: pa.Table, uncertain: Bool) -> dict[str, pa.Array]:
    """What a statement carries on from the day before: `below_since` (the first day at whose end the balance was below zero, and has been
    since; null = it is not below) and `uncertain_to_date` (an estimate or a gap is in the month's reckoning)."""
    yesterday = day - timedelta(days=1)
    before: dict[str, tuple[date | None, bool]] = {}
    if site.lake.has("statements", yesterday, shard):
        rows = site.lake.read("statements", yesterday, shard).select(["account", "below_since", "uncertain_to_date"])
        before = {r["account"]: (r["below_since"], r["uncertain_to_date"]) for r in rows.to_pylist()}
    below, doubt = [], []
    for k, account in enumerate(own.accounts):
        since, doubtful = before.get(account.number, (None, False))
        below.append((since or day) if statements["closing_paise"][k].as_py() < 0 else None)
        doubt.append(bool(uncertain[k]) or (doubtful and day.day != 1))
    return {"below_since": pa.array(below, pa.date32()), "uncertain_to_date": pa.array(doubt, pa.bool_())}


def _accounts(site: Site, index: ShardIndex, day: date) -> _Accounts:
    column = {name: k for k, name in enumerate(index.usage_points) if name and index.is_consumer[k]}
    held = [a for a in site.rows.accounts() if a.usage_point in column and a.since <= day]
    meter = np.array([column[a.usage_point] for a in held], np.int64)
    prepaid = np.array([a.payment_mode is PaymentMode.PREPAID for a in held], np.bool_)
    return _Accounts(held, meter, index.connected_load_w[meter], prepaid)


def _need_the_day_before(site: Site, day: date, shard: int) -> None:
    """Balances and energy to date go on from the day before: without it they would start anew, and nobody would notice."""
    yesterday = day - timedelta(days=1)
    for table in ("statements", "usage"):
        if yesterday >= site.deployment.first_day and not site.lake.has(table, yesterday, shard):
            raise DataError(f"{table} of {yesterday} (shard {shard}) are not there, and {day} goes on from them; close {yesterday} first")


def _usage_before(site: Site, day: date, shard: int) -> dict[tuple[str, str, str], int]:
    """(account, tariff, period) -> energy of the segment to the end of the day before [Wh]; empty where nothing is known."""
    yesterday = day - timedelta(days=1)
    if not site.lake.has("usage", yesterday, shard):
        return {}
    rows = site.lake.read("usage", yesterday, shard)
    keys = zip(rows["account"].to_pylist(), rows["tariff"].to_pylist(), rows["period"].to_pylist(), strict=True)
    return dict(zip(keys, rows["to_date_wh"].to_pylist(), strict=True))


def _before_wh(usage: dict[tuple[str, str, str], int], part: Segment, numbers: list[str], day: date) -> Int64:
    """int64 [period, account]: the segment's energy before `day`; a segment that begins on `day` starts from nothing."""
    if part.first == day:
        return np.zeros((len(part.tariff.periods), len(numbers)), np.int64)
    name = part.tariff.name
    return np.array([[usage.get((n, name, p), 0) for n in numbers] for p in part.tariff.periods], np.int64)


def _usage_rows(part: Segment, numbers: list[str], day_wh: Int64, to_date_wh: Int64) -> pa.Table:
    periods = part.tariff.periods
    return pa.table(
        {
            "account": pa.array(numbers * len(periods)),
            "tariff": pa.array([part.tariff.name] * day_wh.size, pa.string()),
            "period": pa.array([p for p in periods for _ in numbers], pa.string()),
            "day_wh": pa.array(day_wh.ravel()),
            "to_date_wh": pa.array(to_date_wh.ravel()),
        }
    )


def _charge_rows(name: str, numbers: list[str], lines: Bill, to_date: Bill) -> pa.Table:
    return pa.table(
        {
            "account": pa.array(numbers * len(lines.lines)),
            "tariff": pa.array([name] * lines.amount_paise.size, pa.string()),
            "line": pa.array([line for line in lines.lines for _ in numbers], pa.string()),
            "amount_paise": pa.array(lines.amount_paise.ravel()),
            "to_date_paise": pa.array(to_date.amount_paise.ravel()),
        }
    )


def _statements(site: Site, own: _Accounts, day: date, shard: int, charged: _Merged) -> pa.Table:
    """account, meter, opening_paise, recharges_paise, charges_paise, closing_paise, pending."""
    yesterday = day - timedelta(days=1)
    closing: dict[str, int] = {}
    if site.lake.has("statements", yesterday, shard):
        rows = site.lake.read("statements", yesterday, shard)
        closing = dict(zip(rows["account"].to_pylist(), rows["closing_paise"].to_pylist(), strict=True))
    recharged: dict[str, int] = {}
    for transfer in site.rows.transfers(day, day):
        recharged[transfer.account] = recharged.get(transfer.account, 0) + transfer.amount_paise
    numbers = [a.number for a in own.accounts]
    statements = daily_statements(
        np.array([closing.get(a.number, a.opening_paise) for a in own.accounts], np.int64),
        np.array([recharged.get(n, 0) for n in numbers], np.int64),
        charged.charged_paise[None, :],
        ("charge",),
        charged.pending,
    )
    return pa.table(
        {
            "account": pa.array(numbers, pa.string()),
            "meter": pa.array(own.meter.astype(np.int32)),
            "opening_paise": pa.array(statements.opening_paise),
            "recharges_paise": pa.array(statements.recharges_paise),
            "charges_paise": pa.array(statements.charges_paise),
            "closing_paise": pa.array(statements.closing_paise),
            "pending": pa.array(statements.pending),
        }
    )
