"""Postpaid accounts: when a bill is due, what lateness costs, what a deposit earns, and which deposit stops a disconnection.

What always holds: surcharge and interest are simple, by days, and rounded half up once; the policy is effective-dated data with its sources
(`data/postpaid.toml`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from ..readings import Int64


@dataclass(frozen=True, slots=True)
class PostpaidPolicy:
    """bill_by_day: day of the following month by which a bill is issued; days_to_pay: from its issue; late_milli_per_month: surcharge in
    thousandths of a percent of the overdue amount a month of 30 days; deposit_milli_per_year: interest on the deposit, 365 days;
    dues_instalments, deposit_instalments: parts offered on a change to postpaid; verify: one sentence for every unconfirmed number."""

    name: str
    since: date
    until: date
    bill_by_day: int
    days_to_pay: int
    late_milli_per_month: int
    deposit_milli_per_year: int
    dues_instalments: int
    deposit_instalments: int
    source: str
    verify: str


_NUMBERS = (
    "bill_by_day",
    "days_to_pay",
    "late_milli_per_month",
    "deposit_milli_per_year",
    "dues_instalments",
    "deposit_instalments",
)


def postpaid_policy(name: str, day: date) -> PostpaidPolicy:
    """The shipped policy `name` as it holds on `day`. Raises InputError for an unknown name or a day outside its dates."""
    book = _book()
    if name not in book:
        raise InputError(f"there is no postpaid policy {name!r}; known are {', '.join(sorted(book))}")
    for policy in book[name]:
        if policy.since <= day < policy.until:
            return policy
    raise InputError(f"postpaid policy {name} holds from {book[name][0].since} until {book[name][-1].until}, not on {day}; add a version")


@lru_cache(maxsize=1)
def _book() -> dict[str, tuple[PostpaidPolicy, ...]]:
    data = tomllib.loads(resources.files(__package__).joinpath("data/postpaid.toml").read_text("utf-8"))
    return {name: _versions(name, tables) for name, tables in data.items()}


def _versions(name: str, tables: list[dict[str, Any]]) -> tuple[PostpaidPolicy, ...]:
    versions = []
    for k, table in enumerate(tables):
        wrong = [key for key in _NUMBERS if type(table.get(key)) is not int or table[key] < 0]
        if wrong or set(table) - {*_NUMBERS, "since", "until", "source", "verify"} or not (table.get("source") or table.get("verify")):
            raise InputError(
                f"postpaid.toml, {name}, version {k + 1}: give whole numbers from 0 on for {', '.join(_NUMBERS)}, and a source"
            )
        numbers = {key: table[key] for key in _NUMBERS}
        text = {key: table.get(key, "") for key in ("source", "verify")}
        versions.append(PostpaidPolicy(name=name, since=table["since"], until=table["until"], **numbers, **text))
    for before, after in pairwise(versions):
        if before.until != after.since:
            what = "gap" if before.until < after.since else "overlap"
            raise InputError(f"postpaid.toml, {name}: {what} between the versions until {before.until} and from {after.since}")
    return tuple(versions)


def due_on(policy: PostpaidPolicy, issued: date) -> date:
    """The last day on which a bill that was issued on `issued` can be paid in time."""
    return issued + timedelta(days=policy.days_to_pay)


def issue_by(policy: PostpaidPolicy, period_end: date) -> date:
    """The day by which the bill of a period that ended before `period_end` (exclusive, the first of a month) must be issued."""
    return period_end.replace(day=policy.bill_by_day)


def protest_deposit(claim_paise: Int64, last_six_bills_paise: Int64) -> Int64:
    """What stops a disconnection when deposited under protest (Electricity Act 2003, section 56(1), proviso): the lesser of the claim and
    the average of the last six months' bills. claim int64 [account], bills int64 [6, account]; int64 [account], halves up."""
    if last_six_bills_paise.shape != (6, *claim_paise.shape):
        raise RequestError(f"{claim_paise.size} claims, but bills are {last_six_bills_paise.shape}; give the last six months [6, account]")
    return np.asarray(np.minimum(claim_paise, (last_six_bills_paise.sum(axis=0) + 3) // 6), np.int64)


def late_surcharge(policy: PostpaidPolicy, overdue_paise: Int64, days_late: Int64) -> Int64:
    """int64 [account] paise: simple, by days, for overdue amounts >= 0 and days >= 0 (negative days cost nothing)."""
    return _simple(overdue_paise, np.maximum(days_late, 0), policy.late_milli_per_month, 30)


def deposit_interest(policy: PostpaidPolicy, deposit_paise: Int64, days_held: Int64) -> Int64:
    """int64 [account] paise that a deposit >= 0 has earned in so many days."""
    return _simple(deposit_paise, np.maximum(days_held, 0), policy.deposit_milli_per_year, 365)


def _simple(amount_paise: Int64, days: Int64, percent_milli: int, of_days: int) -> Int64:
    """amount x percent x days / of_days, half up; amounts up to a hundred crore rupees and a hundred years stay within 63 bits."""
    divisor = 100_000 * of_days
    whole, rest = np.divmod(amount_paise * percent_milli, 100_000 * of_days)
    return np.asarray(whole * days + (2 * rest * days + divisor) // (2 * divisor), np.int64)
