"""One account's page: its own rows of the closed days, found by its number; nothing of anybody else is unfolded.

What always holds: a day that cannot be read is left out of the week and of what the balance is told from, and is an error where it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..billing.tariff import load_tariffs
from ..day import Site
from ..day.charge import PAISE, TO_DATE
from ..day.quantities import TO_DATE_WH
from ..errors import DataError
from ..readings import IMPORT_WH, MISSING
from ..registry import Account, PaymentMode
from ..store.ledger_tables import ledger_row
from ..store.rows import account as account_table
from ..store.rows import contact, meter, usage_point
from . import townbook as tb
from .one_meter import day_column

WEEK, BACK_DAYS = 7, 31
STATEMENT = (
    "opening_paise",
    "closing_paise",
    "charges_paise",
    "adjustments_paise",
    "wh",
    "estimated_wh",
    "missing_slots",
    "held",
    "measured_until",
)
STATED = ("recharges_paise", "charges_paise", "adjustments_paise", "closing_paise", "wh", "estimated_wh", "held")
Row = dict[str, Any]
Stated = Callable[[date], Row | None]
"""An account's row of a day's statements, read once; None = it has none. DataError where it cannot be read."""


@dataclass
class OneAccount:
    """The read side of single accounts of one data folder. Calls may come from several threads."""

    site: Site
    hurt: Callable[[date, DataError], None]
    """Told of a day that cannot be read where the page stands without it."""

    def consumer(self, number: str, day: date) -> tb.Consumer | None:
        """As `TownReader.consumer`; None where there is no such account. DataError where `day` cannot be read."""
        held = self._held(number)
        if held is None:
            return None
        account, place = held

        @cache
        def stated(day: date) -> Row | None:
            return self._row("statements", day, place.shard, number, STATEMENT)

        statement = self._statement(account, place.shard, day, stated(day))
        latest, now = next(self._backwards(stated), (day, None))
        if now is None:
            return None
        notice = self._row("notices", latest, place.shard, number, ("level", "days_left"), beside="statements")
        due = self._row("due", latest, place.shard, number, ("reasons",))
        tariff = load_tariffs().on(account.tariff, day)
        return tb.Consumer(
            account=number,
            name=account.consumer_name,
            language=account.language,
            meter=place.serial,
            usage_point=account.usage_point,
            transformer=place.transformer,
            tariff=account.tariff,
            tariff_title=tb.Words(tariff.title_en, tariff.title_hi),
            payment_mode=account.payment_mode,
            balance_paise=now["closing_paise"],
            balance_as_of=self._local(self.site.calendar.day_start(latest + timedelta(days=1))),
            days_left=notice["days_left"] if notice else None,
            low=bool(notice and notice["level"] >= 0),
            statement=statement,
            week=tuple(self._cost(day - timedelta(days=k), stated) for k in range(WEEK - 1, -1, -1)),
            readings_until=self._readings_until(stated),
            supply=tb.Supply(None, heard_at(self.site, place, place.heard_s), due is not None, withheld(due["reasons"]) if due else ()),
        )

    def stated(self, number: str, day: date) -> tb.StatedDay | None:
        """As `TownReader.stated`. DataError where the day cannot be read."""
        held = self._held(number)
        row = held and self.site.lake.passing_row("statements", day, held[1].shard, number, STATED)
        if not row:
            return None
        return tb.StatedDay(
            day=day,
            taken_paise=row["charges_paise"] + row["adjustments_paise"],
            recharged_paise=row["recharges_paise"],
            closing_paise=row["closing_paise"],
            wh=None if row["held"] else row["wh"],
            estimated_wh=row["estimated_wh"],
        )

    def look(self, day: date) -> None:
        """Read the columns that homes of `day` are made of before anybody asks: with them, one account of each shard is told."""
        for shard in self.site.rows.shards():
            with self.site.rows.begin() as connection:
                number = connection.execute(_ONE_OF, {"shard": shard}).scalar()
            if number is not None:
                self.consumer(str(number), day)

    # ---- rows

    def _held(self, number: str) -> tuple[Account, Any] | None:
        with self.site.rows.begin() as connection:
            row = connection.execute(_HELD, {"key": number}).first()
        if row is None:
            return None
        named = {column.name: row._mapping[column.name] for column in account_table.c}
        return Account(**{**named, "payment_mode": PaymentMode(row.payment_mode)}), row

    def _row(self, table: str, day: date, shard: int, number: str, columns: Sequence[str] | None, beside: str = "") -> Row | None:
        return self.site.lake.row(table, day, shard, number, columns, beside=beside)

    def _backwards(self, stated: Stated) -> Iterator[tuple[date, Row]]:
        """The account's statements that can be read, the latest first."""
        for day in reversed(self.site.lake.days("statements")):
            row = self._unless_hurt(day, stated)
            if row is not None:
                yield day, row

    def _unless_hurt(self, day: date, stated: Stated) -> Row | None:
        try:
            return stated(day)
        except DataError as error:
            self.hurt(day, error)
            return None

    # ---- answers

    def _statement(self, account: Account, shard: int, day: date, row: Row | None) -> tb.Statement | None:
        """row: the account's of the day's statements."""
        if row is None:
            return None
        number = account.number
        tariff = load_tariffs().on(account.tariff, day)
        notes = {line.name: line.verify or None for line in tariff.lines}
        charged = self._row("charges", day, shard, number, None, beside="statements") or {}
        used = self._row("usage", day, shard, number, None) or {}
        lines = tuple(
            tb.ChargeLine(line, tb.Words(tariff.label(line, "en"), tariff.label(line, "hi")), amount, notes.get(line))
            for line, amount in ((name.removesuffix(PAISE), value) for name, value in charged.items() if name.endswith(PAISE))
            if line != TO_DATE and amount
        )
        parts = [value for name, value in used.items() if name.endswith(TO_DATE_WH) and value is not None]
        return tb.Statement(
            day=day,
            opening_paise=row["opening_paise"],
            recharges_paise=self._recharges(number, day),
            lines=lines,
            closing_paise=row["closing_paise"],
            wh=None if row["held"] else row["wh"],
            estimated_wh=row["estimated_wh"],
            missing_intervals=row["missing_slots"],
            month_wh=sum(parts) if parts else None,
            adjustments_paise=row["adjustments_paise"],
        )

    def _recharges(self, number: str, day: date) -> tuple[int, ...]:
        """What was recharged on a day, in the order in which it was posted."""
        with self.site.rows.begin() as connection:
            return tuple(int(paise) for (paise,) in connection.execute(_RECHARGES, {"key": number, "on": day}))

    def _cost(self, day: date, stated: Stated) -> tb.DayCost:
        row = self._unless_hurt(day, stated)
        if row is None:
            return tb.DayCost(day, None, None, False)
        return tb.DayCost(day, None if row["held"] else row["wh"], row["charges_paise"], row["estimated_wh"] > 0)

    def _readings_until(self, stated: Stated) -> datetime | None:
        """The end of the last truly metered interval in the balance; looked for over a month."""
        for _, row in islice(self._backwards(stated), BACK_DAYS):
            if row["measured_until"] is not None:
                return self._local(int(row["measured_until"].timestamp()))
        return None

    def _local(self, at_s: int) -> datetime:
        return self.site.calendar.local(at_s)


# Built once: they are asked for every page.
_KEY: sa.BindParameter[Any] = sa.bindparam("key")
_HELD = (
    sa.select(account_table, meter.c.serial, meter.c.shard, meter.c.index, usage_point.c.transformer, contact.c.heard_s)
    .join(usage_point, sa.and_(usage_point.c.name == account_table.c.usage_point, usage_point.c.until.is_(None)))
    .join(meter, meter.c.serial == usage_point.c.meter)
    .outerjoin(contact, contact.c.serial == meter.c.serial)
    .where(account_table.c.number == _KEY)
)
_ONE_OF = (
    sa.select(account_table.c.number)
    .join(usage_point, sa.and_(usage_point.c.name == account_table.c.usage_point, usage_point.c.until.is_(None)))
    .join(meter, meter.c.serial == usage_point.c.meter)
    .where(meter.c.shard == sa.bindparam("shard"))
    .limit(1)
)
_RECHARGES = (
    sa.select(ledger_row.c.amount_paise)
    .where(ledger_row.c.account == _KEY, ledger_row.c.day == sa.bindparam("on"), ledger_row.c.kind == "recharge")
    .order_by(ledger_row.c.number)
)
_HEARD = sa.select(contact.c.heard_s).where(contact.c.serial == _KEY)


def last_heard(site: Site, place: Any) -> datetime | None:
    """When the head-end heard a meter last (`place`: its serial, shard and index); where it never ran, the end of the latest interval that came
    within a week."""
    with site.rows.begin() as connection:
        heard_s = connection.execute(_HEARD, {"key": place.serial}).scalar()
    return heard_at(site, place, heard_s)


def heard_at(site: Site, place: Any, heard_s: int | None) -> datetime | None:
    """As `last_heard`, of a meter of which the head-end's own note is known: None = it has none."""
    if heard_s is not None:
        return site.calendar.local(int(heard_s))
    for day in reversed(site.lake.days("raw")[-WEEK:]):
        try:
            values, _ = day_column(site, "raw", place.shard, place.index, day, IMPORT_WH.name)
        except DataError:
            continue
        there = np.flatnonzero(values != MISSING)
        if there.size:
            return site.calendar.local(site.calendar.stamp(day, int(there[-1])))
    return None


def withheld(reasons: str) -> tuple[tb.Reason, ...]:
    """The guard's reasons against a cut, unknown facts among them, out of a row of `due`."""
    return tuple(tb.Reason(r["code"], tb.Words(r["en"], r["hi"])) for r in json.loads(reasons) if r["ok"] is not True)
