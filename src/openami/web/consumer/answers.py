"""What the consumer's pages need beyond `townbook`: the balance as it shows now, the hours of a day with their rates, and what the other tariff
would have cost.

In: a data folder (`Site`), the account's row and its meter's (`store.lookup`). Out: small values, money in paise, energies in Wh. Nothing here
writes. None = unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from ...billing.bill import bill
from ...billing.charge import Segment, segment
from ...billing.tariff import Tariff, TariffBook, load_tariffs
from ...billing.tou import fold, tou_index
from ...control.order import RELAY, State, What
from ...day import Site
from ...errors import RequestError
from ...readings import CHANNEL_BY_NAME, ESTIMATED_BITS, MISSING, Int32
from ...store.ledger import Ledger
from ..api.readings import Series, read_series, read_values
from ..townbook import Consumer, DayCost, Words

Row = dict[str, Any]
MINUTES_A_DAY = 1440
READ_BACK = frozenset({State.CONFIRMED, State.SUPPLIED})
"""States of an order in which the relay was read as it was asked for."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One local hour. wh: what was read or estimated in it, None = nothing; whole: every interval of it is there; estimated: any of it is;
    period: position in the tariff's periods."""

    start: datetime
    wh: int | None
    whole: bool
    estimated: bool
    period: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A period of the tariff's clock. times_mille: thousandths of the plain rate; add_mp: milli-paise on each unit; spans: (start, end) in
    minutes of the day; wh: the day's units in it."""

    name: Words
    times_mille: int
    add_mp: int
    spans: tuple[tuple[int, int], ...]
    wh: int


@dataclass(frozen=True, slots=True)
class OneDay:
    """hours in order; rates empty where the tariff has one rate all day; wh: None = nothing was read."""

    day: date
    hours: tuple[Hour, ...]
    rates: tuple[Rate, ...]
    wh: int | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The same units from `first` to `last` on two tariffs, whole bill each, in paise. missing: intervals without a value, in neither."""

    first: date
    last: date
    wh: int
    missing: int
    own_paise: int
    title: Words
    name: str
    other_paise: int

    @property
    def saved_paise(self) -> int:
        """What the other tariff would have saved; < 0 = it would have cost more."""
        return self.own_paise - self.other_paise


def shown_paise(site: Site, found: Consumer, now_s: int) -> int:
    """The balance as it shows now: the latest statement's, and what was paid in since."""
    try:
        closing = (found.balance_as_of.date() - timedelta(days=1), found.balance_paise)
        return Ledger(site.rows.database).shown_paise(now_s, {found.account: closing})[found.account]
    except RequestError:  # an account that the ledger has never seen
        return found.balance_paise


def supply_on(found: Consumer, orders: list[Row]) -> bool | None:
    """Whether the relay is closed, as it was last read back from the meter; None = it never was, so unknown. orders: newest first."""
    if found.supply.connected is not None:
        return found.supply.connected
    for order in orders:
        if order["state"] in READ_BACK and order["what"] in RELAY:
            return bool(order["what"] == What.CONNECT)
    return None


def mean_paise(week: tuple[DayCost, ...]) -> int | None:
    """What a day cost on average, of the week's days on which anything was taken (as `prepaid.low_balance` counts); None where on none."""
    known = [d.charge_paise for d in week if d.charge_paise]
    return sum(known) // len(known) if known else None


def lasting_days(amount_paise: int, week: tuple[DayCost, ...]) -> int | None:
    """For how many days an amount lasts at the week's use; None = cannot be told."""
    mean = mean_paise(week)
    return amount_paise // mean if mean and mean > 0 and amount_paise > 0 else None


def one_day(site: Site, row: Row, meter: Row, day: date) -> OneDay:
    """The meter's day by local hours, each with its place on the tariff's clock. InputError where the tariff does not hold on `day`."""
    tariff = load_tariffs().on(row["tariff"], day)
    series = _series(site, meter, tariff, [day])
    index = tou_index(tariff, site.calendar, day)
    hours: list[Hour] = []
    for k, (end_s, value, bits) in enumerate(zip(series.ends, series.values, series.quality, strict=True)):
        begin = site.calendar.local(end_s - site.calendar.interval_s)
        start, known = begin.replace(minute=0), value != MISSING
        estimated = known and bool(bits & int(ESTIMATED_BITS))
        if hours and hours[-1].start == start:
            last = hours[-1]
            wh = last.wh if not known else value + (last.wh or 0)
            hours[-1] = Hour(start, wh, last.whole and known, last.estimated or estimated, last.period)
        else:
            hours.append(Hour(start, value if known else None, known, estimated, int(index[k])))
    known_wh = [h.wh for h in hours if h.wh is not None]
    return OneDay(day, tuple(hours), _rates(site, tariff, day, index, series), sum(known_wh) if known_wh else None)


def _rates(site: Site, tariff: Tariff, day: date, index: Any, series: Series) -> tuple[Rate, ...]:
    rule = tariff.time_of_use
    if rule is None:
        return ()
    minutes = site.calendar.interval_minutes
    starts = [site.calendar.local(end - site.calendar.interval_s) for end in series.ends]
    found = []
    for k, period in enumerate(rule.periods):
        spans: list[tuple[int, int]] = []
        for slot in np.flatnonzero(index == k):
            at = starts[slot].hour * 60 + starts[slot].minute
            if spans and spans[-1][1] == at:
                spans[-1] = (spans[-1][0], at + minutes)
            else:
                spans.append((at, at + minutes))
        wh = sum(v for v, own in zip(series.values, index, strict=True) if own == k and v != MISSING)
        found.append(Rate(Words(period.name, period.hi or period.name), period.times_mille, period.add_mp, tuple(_joined(spans)), wh))
    return tuple(found)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """23:00-24:00 and 00:00-09:00 are one span over midnight."""
    if len(spans) > 1 and spans[0][0] == 0 and spans[-1][1] == MINUTES_A_DAY:
        return [*spans[1:-1], (spans[-1][0], spans[0][1])]
    return spans


def what_if(site: Site, row: Row, meter: Row, day: date) -> tuple[WhatIf, ...]:
    """The billing period up to `day` on each tariff that the account could have instead: the same measured units, the whole bill of both.

    Only days with stored readings count, on both sides. Empty where there is no such tariff, or either needs what is not known here."""
    book = load_tariffs()
    own = _part(site, book, row, row["tariff"], day)
    if own is None or own.tariff.needs_demand or own.tariff.needs_contract or not meter["connected_load_w"]:
        return ()
    days = [own.first + timedelta(days=k) for k in range((day - own.first).days + 1)]
    values = read_values(site, meter["shard"], meter["index"], CHANNEL_BY_NAME[own.tariff.channel], days)
    known = [value for value in values if value != MISSING]
    own_paise = _bill_paise(site, own, values, days, row, meter)
    found = []
    for name in alternatives(book, row["tariff"]):
        part = _part(site, book, row, name, day)
        if part is None or part.first != own.first or part.tariff.channel != own.tariff.channel:
            continue
        if part.tariff.needs_demand or part.tariff.needs_contract:
            continue
        found.append(
            WhatIf(
                own.first,
                day,
                sum(known),
                len(values) - len(known),
                own_paise,
                Words(part.tariff.title_en, part.tariff.title_hi),
                name,
                _bill_paise(site, part, values, days, row, meter),
            )
        )
    return tuple(found)


def alternatives(book: TariffBook, name: str) -> list[str]:
    """Tariffs of the same category: their names differ by a suffix ("BR-DS2", "BR-DS2-TOU")."""
    return [other for other in book.names if other != name and (other.startswith(f"{name}-") or name.startswith(f"{other}-"))]


def _part(site: Site, book: TariffBook, row: Row, name: str, day: date) -> Segment | None:
    """The billing period's part in which the tariff holds on `day`, from the account's first day in it of which readings are stored."""
    versions = [t for t in book.versions(name) if t.since <= day < t.until]
    if not versions:
        return None
    part = segment(book, name, day).starting(max(row["since"], row["mode_since"]))
    stored = [d for d in site.lake.days("validated") if part.first <= d <= day]
    return part.starting(stored[0]) if stored else None


def _bill_paise(site: Site, part: Segment, values: list[int], days: list[date], row: Row, meter: Row) -> int:
    periods = len(part.tariff.periods)
    energy, at = np.zeros((periods, 1), np.int64), 0
    block: Int32 = np.array(values, np.int32)[:, None]
    for day in days:
        index = tou_index(part.tariff, site.calendar, day)
        energy += fold(block[at : at + index.size], index, periods)[0]
        at += index.size
    printed = bill(
        part.tariff,
        energy,
        part.days_to(days[-1]),
        part.days_in_period,
        np.array([meter["connected_load_w"]], np.int64),
        np.array([row["payment_mode"] == "prepaid"]),
        span_days=part.span_days,
    )
    return int(printed.total_paise[0])


def _series(site: Site, meter: Row, tariff: Tariff, days: list[date]) -> Series:
    return read_series(site, meter["shard"], meter["index"], CHANNEL_BY_NAME[tariff.channel], days, "validated")
