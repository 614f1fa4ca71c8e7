"""What the tables have of one account's day, and what its bill went by.

What always holds: meter, sanctioned load and payment mode are those of that day, the tariff is the one that it was charged by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow.compute as pc
import sqlalchemy as sa

from ..billing.charge import Segment, segment
from ..billing.notes import Account as Facts
from ..billing.tariff import Tariff, load_tariffs
from ..errors import InputError
from ..registry import Account, PaymentMode
from ..store.rows import meter, usage_point
from ..store.terms import Terms
from .charge import PAISE, TO_DATE
from .metered import Intervals, estimated_wh, intervals_of
from .quantities import BANK, CONTRACT, DEMAND, EXPORT, EXPORT_SEGMENT, TO_DATE_WH, WH
from .site import Site


@dataclass(frozen=True, slots=True)
class Told:
    """What the tables have of an account's day, and where it was. posted_for: what was posted for this day since, (line, paise, day of posting);
    posted_to: what was posted to it for earlier days, (line, paise, the day that it puts right); terms: what was told of its
    tariff and contract demand."""

    account: Account
    day: date
    meter: str
    shard: int
    column: int
    load_w: int
    tariff: Tariff
    statement: dict[str, Any]
    charges: dict[str, int]
    terms: Terms
    usage: dict[str, Any]
    intervals: Intervals
    posted_for: tuple[tuple[str, int, date], ...]
    posted_to: tuple[tuple[str, int, date], ...]

    @property
    def part(self) -> Segment:
        """The part of the billing period that the day was billed in."""
        first = segment(load_tariffs(), self.tariff.name, self.day)
        began = max(self.account.since, self.account.mode_since, self.terms.since or self.account.since, first.first)
        return first.starting(began, self.terms.until)

    @staticmethod
    def of(site: Site, number: str, day: date) -> Told | None:
        """None where the account was not charged on that day; InputError where there is no such account."""
        account = site.rows.account(number, day)
        if account is None:
            raise InputError(f"there is no account {number}; see its number")
        for serial, shard, column, load_w in _places(site, account, day):
            statement = site.lake.row("statements", day, shard, number, None)
            if statement is None:
                continue
            usage, charges = (site.lake.row(t, day, shard, number, None, beside="statements") or {} for t in ("usage", "charges"))
            lines = {name.removesuffix(PAISE): paise for name, paise in charges.items() if name.endswith(PAISE) and paise is not None}
            lines.pop(TO_DATE)
            tariff = load_tariffs().on(usage["tariff"], day)
            intervals = intervals_of(site, tariff.channel, day, shard, column)
            posted = (tuple(_posted(site, number, shard, day, same)) for same in (False, True))
            terms = site.terms.of(number, day) or Terms(None, None, None)
            return Told(account, day, serial, shard, column, load_w, tariff, statement, lines, terms, usage, intervals, *posted)
        return None


def _places(site: Site, account: Account, day: date) -> list[tuple[str, int, int, int]]:
    """(meter, shard, column, sanctioned load) of the account's usage point on a day."""
    held = (usage_point.c.since <= day, sa.or_(usage_point.c.until.is_(None), usage_point.c.until > day))
    query = sa.select(meter.c.serial, meter.c.shard, meter.c.index, usage_point.c.connected_load_w)
    query = query.join(usage_point, usage_point.c.meter == meter.c.serial).where(usage_point.c.name == account.usage_point, *held)
    with site.rows.begin() as connection:
        return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]


def _posted(site: Site, number: str, shard: int, day: date, to_it: bool) -> Iterator[tuple[str, int, date]]:
    """Adjustments of an account: those that were posted to `day`, each with the day it puts right, or (`to_it` False) those for it, each with the
    day of its posting."""
    for own, own_shard in sorted(site.lake.all_files("adjustments")) if site.lake.place.has_table("adjustments") else ():
        if own_shard == shard and (own == day if to_it else own > day):
            rows = site.lake.read("adjustments", own, shard)
            rows = rows.filter(pc.equal(rows["account"], number))
            for line, paise, for_day in zip(*(rows[name].to_pylist() for name in ("line", "amount_paise", "for_day")), strict=True):
                if to_it or for_day == day:
                    yield line, paise, for_day if to_it else own


def facts_of(site: Site, told: Told, load_w: int) -> Facts:
    """What the bill went by, out of `usage`, and how much of it is estimated."""
    usage, periods = told.usage, told.tariff.periods

    def column(ending: str) -> tuple[int, ...]:
        return tuple(usage.get(period + ending) or 0 for period in periods)

    day_wh, exported = column(WH), column(EXPORT)
    netted = told.tariff.net_metering is not None
    return Facts(
        tuple(a - b for a, b in zip(column(TO_DATE_WH), day_wh, strict=True)),
        day_wh,
        tuple(min(a, b) for a, b in zip(estimated_wh(site, told.tariff, told.day, told.intervals), day_wh, strict=True)),
        load_w,
        told.account.payment_mode is PaymentMode.PREPAID,
        _demand_before(site, told),
        usage.get(DEMAND) or 0,
        (usage.get(CONTRACT) or load_w) if told.tariff.needs_contract else 0,
        tuple(a - b for a, b in zip(column(EXPORT_SEGMENT), exported, strict=True)) if netted else (),
        exported if netted else (),
        column(BANK) if netted else (),
    )


def _demand_before(site: Site, told: Told) -> int:
    """The segment's recorded maximum demand before the day [VA]."""
    yesterday = told.day - timedelta(days=1)
    if not told.tariff.needs_demand or told.part.first >= told.day or not site.lake.has("usage", yesterday, told.shard):
        return 0
    rows = site.lake.read("usage", yesterday, told.shard, columns=["account", "tariff", DEMAND])
    at = pc.index(rows["account"], told.account.number).as_py()
    same = at >= 0 and DEMAND in rows.column_names and rows["tariff"][at].as_py() == told.tariff.name
    return int(rows[DEMAND][at].as_py() or 0) if same else 0
