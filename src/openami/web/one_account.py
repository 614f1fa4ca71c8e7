"""One account's page out of a large town: its own rows of the closed days, found by its place in the roll; nothing of anybody else is unfolded.

The answers are `OpenedTown.consumer`'s (tested on the same town), but that the meter was last heard when the head-end says so; that one reads
whole days, which a town of some thousand meters bears. Tables stay as Arrow columns, as many as TABLES_KEPT, by their file, which never changes.
What always holds: a day that cannot be read is left out of the week and is an error where it was asked for.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..billing.tariff import load_tariffs
from ..day import Site
from ..day.charge import PAISE, TO_DATE
from ..day.quantities import TO_DATE_WH
from ..errors import DataError
from ..money import TransferRow
from ..readings import IMPORT_WH, MISSING
from ..registry import Account, PaymentMode
from ..store.ledger_tables import ledger_row
from ..store.rows import account as account_table
from ..store.rows import contact, meter, usage_point
from . import townbook as tb
from .control_room.curves import day_column

LARGE = 20_000
"""From so many meters on a town is asked for one account's rows alone."""
TABLES_KEPT = 160
LOOKED_S = 1.0
"""For how long the list of a table's files holds."""
WEEK, BACK_DAYS = 7, 31


@dataclass
class OneAccount:
    """The read side of single accounts of one data folder. Calls may come from several threads."""

    site: Site
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _tables: OrderedDict[tuple[str, str], pa.Table] = field(default_factory=OrderedDict, repr=False)
    _files: dict[str, tuple[float, dict[tuple[date, int], list[str]]]] = field(default_factory=dict, repr=False)

    def consumer(self, number: str, day: date) -> tb.Consumer | None:
        """As `TownReader.consumer`; None where there is no such account. DataError where `day` cannot be read."""
        held = self._held(number)
        if held is None:
            return None
        account, place = held
        shard, days = place.shard, sorted({d for d, _ in self._list("statements")})
        readable = [d for d in reversed(days) if self._row("statements", d, shard, number) is not None][:1]
        latest = readable[0] if readable else day
        now = self._row("statements", latest, shard, number)
        if now is None:
            return None
        notice = self._beside("notices", latest, shard, number)
        due = self._due(latest, shard, number)
        tariff = load_tariffs().on(account.tariff, day)
        until = self._readings_until(now, days, shard, number)
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
            statement=self._statement(account, shard, day),
            week=tuple(self._cost(number, shard, day - timedelta(days=k), days) for k in range(WEEK - 1, -1, -1)),
            readings_until=until,
            supply=tb.Supply(None, self._last_heard(place, days), due is not None, _withheld(due) if due else ()),
        )

    # ---- rows

    def _held(self, number: str) -> tuple[Account, Any] | None:
        query = (
            sa.select(account_table, meter.c.serial, meter.c.shard, meter.c.index, usage_point.c.transformer)
            .join(usage_point, sa.and_(usage_point.c.name == account_table.c.usage_point, usage_point.c.until.is_(None)))
            .join(meter, meter.c.serial == usage_point.c.meter)
            .where(account_table.c.number == number)
        )
        with self.site.rows.begin() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        named = {column.name: row._mapping[column.name] for column in account_table.c}
        return Account(**{**named, "payment_mode": PaymentMode(row.payment_mode)}), row

    def _list(self, table: str) -> dict[tuple[date, int], list[str]]:
        now = time.monotonic()
        kept = self._files.get(table)
        if kept is None or now - kept[0] > LOOKED_S:
            there = self.site.lake.place.has_table(table)
            kept = self._files[table] = (now, self.site.lake.all_files(table) if there else {})
        return kept[1]

    def _table(self, table: str, day: date, shard: int) -> pa.Table | None:
        paths = self._list(table).get((day, shard))
        if not paths:
            return None
        key = (table, paths[-1])
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        coded = ["tariff"] if table in ("charges", "usage") else []
        found = self.site.lake.read(table, day, shard, coded=coded).combine_chunks()
        with self._lock:
            self._tables[key] = found
            while len(self._tables) > TABLES_KEPT:
                self._tables.popitem(last=False)
        return found

    def _place(self, day: date, shard: int, number: str) -> int | None:
        """The account's row in the tables of a day: their roll is in the order of the numbers."""
        table = self._table("statements", day, shard)
        if table is None or not table.num_rows:
            return None
        names = table["account"].chunk(0)
        low, high = 0, len(names)
        while low < high:
            middle = (low + high) // 2
            if names[middle].as_py() < number:
                low = middle + 1
            else:
                high = middle
        return low if low < len(names) and names[low].as_py() == number else None

    def _row(self, table: str, day: date, shard: int, number: str) -> dict[str, Any] | None:
        place = self._place(day, shard, number)
        found = self._table(table, day, shard) if place is not None else None
        return None if found is None or place is None else {name: found[name][place].as_py() for name in found.column_names}

    _beside = _row
    """Of any table that follows the same roll."""

    def _due(self, day: date, shard: int, number: str) -> dict[str, Any] | None:
        table = self._table("due", day, shard)
        if table is None or not table.num_rows:
            return None
        place = pc.index(table["account"], number).as_py()
        return None if place < 0 else {name: table[name][place].as_py() for name in table.column_names}

    # ---- answers

    def _statement(self, account: Account, shard: int, day: date) -> tb.Statement | None:
        row = self._row("statements", day, shard, account.number)
        if row is None:
            return None
        tariff = load_tariffs().on(account.tariff, day)
        notes = {line.name: line.verify or None for line in tariff.lines}
        charged = self._beside("charges", day, shard, account.number) or {}
        used = self._beside("usage", day, shard, account.number) or {}
        lines = tuple(
            tb.ChargeLine(line, tb.Words(tariff.label(line, "en"), tariff.label(line, "hi")), amount, notes.get(line))
            for line, amount in ((name.removesuffix(PAISE), value) for name, value in charged.items() if name.endswith(PAISE))
            if line != TO_DATE and amount
        )
        parts = [value for name, value in used.items() if name.endswith(TO_DATE_WH) and value is not None]
        return tb.Statement(
            day=day,
            opening_paise=row["opening_paise"],
            recharges_paise=tuple(t.amount_paise for t in self._transfers(account.number, day) if t.kind == "recharge"),
            lines=lines,
            closing_paise=row["closing_paise"],
            wh=None if row["held"] else row["wh"],
            estimated_wh=row["estimated_wh"],
            missing_intervals=row["missing_slots"],
            month_wh=sum(parts) if parts else None,
            adjustments_paise=row["adjustments_paise"],
        )

    def _transfers(self, number: str, day: date) -> list[TransferRow]:
        own = sa.select(ledger_row.c.transfer_id).where(ledger_row.c.account == number, ledger_row.c.day == day)
        with self.site.rows.begin() as connection:
            if connection.execute(own.limit(1)).first() is None:
                return []
        return [t for t in self.site.rows.transfers(day, day) if t.account == number]

    def _cost(self, number: str, shard: int, day: date, days: list[date]) -> tb.DayCost:
        try:
            row = self._row("statements", day, shard, number) if day in days else None
        except DataError:
            row = None
        if row is None:
            return tb.DayCost(day, None, None, False)
        return tb.DayCost(day, None if row["held"] else row["wh"], row["charges_paise"], row["estimated_wh"] > 0)

    def _readings_until(self, now: dict[str, Any], days: list[date], shard: int, number: str) -> datetime | None:
        """The end of the last truly metered interval in the balance; looked for over a month."""
        if now["measured_until"] is not None:
            return self._local(int(now["measured_until"].timestamp()))
        for day in days[-BACK_DAYS:][::-1]:
            row = self._row("statements", day, shard, number)
            if row is not None and row["measured_until"] is not None:
                return self._local(int(row["measured_until"].timestamp()))
        return None

    def _last_heard(self, place: Any, days: list[date]) -> datetime | None:
        """When the head-end heard the meter last; where it never ran, the end of the latest interval that came within a week."""
        with self.site.rows.begin() as connection:
            heard = connection.execute(sa.select(contact.c.heard_s).where(contact.c.serial == place.serial)).scalar()
        if heard is not None:
            return self._local(int(heard))
        for day in days[-WEEK:][::-1]:
            values, _ = day_column(self.site, "raw", place.shard, place.index, day, IMPORT_WH.name)
            there = np.flatnonzero(values != MISSING)
            if there.size:
                return self._local(self.site.calendar.stamp(day, int(there[-1])))
        return None

    def _local(self, at_s: int) -> datetime:
        return self.site.calendar.local(at_s)


def _withheld(due: dict[str, Any]) -> tuple[tb.Reason, ...]:
    return tuple(tb.Reason(r["code"], tb.Words(r["en"], r["hi"])) for r in json.loads(due["reasons"]) if r["ok"] is not True)
