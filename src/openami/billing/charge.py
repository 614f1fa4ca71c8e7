"""A day's charge: what the bill of the period to date says today, less what it said yesterday.

What always holds: charges of a segment's days add up to its bill, line by line, to the paisa; a change of tariff inside a billing
period starts a new segment, whose slabs and free units shrink with its days; a late or corrected reading is charged by
`adjustment`, the difference between what the bill now says and what was posted, never by an edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ..errors import RequestError
from ..money import round_half_up
from ..readings import Bool, Int64
from .bill import Bill, bill
from .tariff import FreeUnits, Payment, Tariff, TariffBook


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a billing period, from `first` until `until` (exclusive), in which one snapshot of a tariff holds.

    days_in_period: of the whole billing period; energies to date are summed from `first` on.
    """

    tariff: Tariff
    first: date
    until: date
    days_in_period: int

    @property
    def span_days(self) -> int:
        return (self.until - self.first).days

    def starting(self, day: date, until: date | None = None) -> Segment:
        """The same segment for accounts whose supply, payment mode or terms began on `day`, inside it, or end with the day before `until`: only the
        days between are charged, and slabs and free units shrink with them. A day before the segment, or an end behind it, changes nothing."""
        if day >= self.until:
            raise RequestError(
                f"{day} is after the segment {self.first} until {self.until} of tariff {self.tariff.name}; take a later segment"
            )
        return Segment(self.tariff, max(self.first, day), min(self.until, until or self.until), self.days_in_period)

    def days_to(self, day: date) -> int:
        """How many days of the segment have passed when `day` ends."""
        if not self.first <= day < self.until:
            raise RequestError(f"{day} is not in the segment {self.first} until {self.until} of tariff {self.tariff.name}")
        return (day - self.first).days + 1


def segment(book: TariffBook, name: str, day: date) -> Segment:
    """The segment in which `day` lies. Billing periods are whole calendar months: of two or three months they begin in April, June ...
    or April, July ... Raises InputError as `TariffBook.on` does."""
    tariff = book.on(name, day)
    months = tariff.period_months
    month = 12 * day.year + day.month - 1
    start_month = month - (month - 3) % months
    start, end = _first_of(start_month), _first_of(start_month + months)
    return Segment(tariff, max(start, tariff.since), min(end, tariff.until), (end - start).days)


def _first_of(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def segments(book: TariffBook, name: str, first: date, last: date) -> tuple[Segment, ...]:
    """All segments that hold any day from `first` to `last` (both included), in order."""
    found: list[Segment] = []
    day = first
    while day <= last:
        found.append(segment(book, name, day))
        day = max(found[-1].until, day + timedelta(days=1))
    return tuple(found)


def within_free_units(part: Segment, to_date_wh: Int64, prepaid: Bool) -> Bool:
    """Whether the consumption of the segment to date, int64 [account] Wh, is still within free units that the tariff gives this account:
    bool [account], False where there are none. The disconnection guard asks it."""
    inside = np.zeros(to_date_wh.shape, np.bool_)
    for line in part.tariff.lines:
        if isinstance(line.rule, FreeUnits):
            limit = round_half_up(line.rule.limit_wh * part.span_days, part.days_in_period)
            given = {Payment.ANY: np.ones_like(prepaid), Payment.PREPAID: prepaid, Payment.POSTPAID: ~prepaid}[line.when.payment]
            inside |= given & (to_date_wh <= limit)
    return inside


def charge(
    part: Segment,
    day: date,
    before_wh: Int64,
    day_wh: Int64,
    connected_load_w: Int64,
    prepaid: Bool,
    *,
    demand_before_va: Int64 | None = None,
    demand_va: Int64 | None = None,
    contract_va: Int64 | None = None,
) -> Bill:
    """What `day` costs: B(segment to day) - B(segment to the day before), per line.

    before_wh, day_wh: int64 [tou_period, account], the segment's energy before this day and on it; demand_*_va: maximum demand of the
    segment before this day and including it. An account that either bill refuses is refused.
    """
    days = part.days_to(day)

    def to_date(energy_wh: Int64, count: int, demand: Int64 | None) -> Bill:
        return bill(
            part.tariff,
            energy_wh,
            count,
            part.days_in_period,
            connected_load_w,
            prepaid,
            span_days=part.span_days,
            demand_va=demand,
            contract_va=contract_va,
        )

    if days == 1 and demand_before_va is None and demand_va is not None:
        demand_before_va = demand_va * 0  # nothing was recorded before the first day
    return adjustment(to_date(before_wh + day_wh, days, demand_va), to_date(before_wh, days - 1, demand_before_va))


def adjustment(now: Bill, posted: Bill) -> Bill:
    """What is still to be posted so that `posted` becomes `now`, per line: a day's charge, or the correction of a late reading.

    Refused where either is. Both must have the same lines (the same segment); raises RequestError else.
    """
    if now.lines != posted.lines or now.amount_paise.shape != posted.amount_paise.shape:
        raise RequestError(
            f"bills of different segments: lines {', '.join(now.lines)} against {', '.join(posted.lines)}; compare within a segment"
        )
    refused = now.refused | posted.refused
    amount = now.amount_paise - posted.amount_paise
    if refused.any():
        amount[:, refused] = 0
    return Bill(now.lines, amount, refused)
