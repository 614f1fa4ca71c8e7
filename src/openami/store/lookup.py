"""Registry, orders and transfers by name and by page, within what the asker may reach.

What always holds: a page goes on where the one before ended, by key and not by counting, so a million rows are read as quickly as a hundred and
none is told twice; what lies outside the reach is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from .ledger_tables import ledger_row
from .rows import Rows, account, feeder, meter, meter_order, order_step, transformer, usage_point
from .sql import TEXT

MANY = 500
meter_event = sa.table(
    "meter_event",
    sa.column("serial", TEXT),
    sa.column("at_s", sa.BigInteger),
    sa.column("code", sa.Integer),
    sa.column("bit", sa.Integer),
    sa.column("occurred", sa.Boolean),
    sa.column("text", TEXT),
    sa.column("received_s", sa.BigInteger),
)
"""What is read here of what meters told (`heard.py` has the table)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What somebody may see. everything: the whole deployment; feeders: all on them; points: usage points, each from a day on (None = always);
    accounts: those whose money may be seen."""

    everything: bool = False
    feeders: frozenset[str] = frozenset()
    points: Mapping[str, date | None] = field(default_factory=dict)
    accounts: frozenset[str] = frozenset()

    def has_point(self, point: str, on_feeder: str) -> bool:
        return self.everything or on_feeder in self.feeders or point in self.points

    def has_account(self, number: str, on_feeder: str) -> bool:
        return self.everything or on_feeder in self.feeders or number in self.accounts

    def first_day(self, point: str, on_feeder: str) -> date | None:
        """From which day on readings of the point may be seen; None = all."""
        return None if self.everything or on_feeder in self.feeders else self.points.get(point)


NOTHING = Reach()


class Lookup:
    """Rows are mappings of plain values, by the column's name."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def usage_points(
        self, reach: Reach, after: str, limit: int, *, on_feeder: str = "", under: str = "", kind: str = ""
    ) -> list[dict[str, Any]]:
        """Usage points as they are now (no end date), in order of name, from behind `after`."""
        wanted = [usage_point.c.until.is_(None), usage_point.c.name > after, _points(reach)]
        wanted += [
            c == v for c, v in ((usage_point.c.feeder, on_feeder), (usage_point.c.transformer, under), (usage_point.c.kind, kind)) if v
        ]
        query = (
            sa.select(usage_point, account.c.number.label("account"))
            .outerjoin(account, account.c.usage_point == usage_point.c.name)
            .where(*wanted)
            .order_by(usage_point.c.name)
            .limit(limit)
        )
        return self._all(query)

    def usage_point(self, reach: Reach, name: str) -> dict[str, Any] | None:
        query = (
            sa.select(usage_point, account.c.number.label("account"))
            .outerjoin(account, account.c.usage_point == usage_point.c.name)
            .where(usage_point.c.name == name, usage_point.c.until.is_(None), _points(reach))
        )
        return self._first(query)

    def meters(self, reach: Reach, after: str, limit: int, *, on_feeder: str = "", under: str = "") -> list[dict[str, Any]]:
        """Meters with the usage point at which they hang now, in order of serial, from behind `after`."""
        wanted = [usage_point.c.meter > after, _points(reach)]
        wanted += [c == v for c, v in ((usage_point.c.feeder, on_feeder), (usage_point.c.transformer, under)) if v]
        return self._all(_METERS.where(*wanted).order_by(usage_point.c.meter).limit(limit))  # the indexes of points stand in this order

    def meters_up_to(self, reach: Reach, most: int, *, on_feeder: str = "", under: str = "") -> int:
        """How many meters `meters` would give, counted no further than `most`."""
        own = usage_point.c
        wanted = [own.until.is_(None), own.meter > "", _points(reach)]
        wanted += [c == v for c, v in ((own.feeder, on_feeder), (own.transformer, under)) if v]
        some = sa.select(own.meter).where(*wanted).limit(most).subquery()
        return int(self._all(sa.select(sa.func.count().label("meters")).select_from(some))[0]["meters"])

    def meter(self, reach: Reach, serial: str) -> dict[str, Any] | None:
        found = self._first(_METER, key=serial)
        return found if found is not None and reach.has_point(found["usage_point"], found["feeder"]) else None

    def meters_at(self, reach: Reach, point: str) -> list[dict[str, Any]]:
        """The meters that a usage point has had, oldest first: `meter`, `since`, `until` (None = it is there now); none outside the reach."""
        if self.usage_point(reach, point) is None:
            return []
        own = usage_point.c
        return self._all(sa.select(own.meter, own.since, own.until).where(own.name == point).order_by(own.since))

    def meters_named(self, reach: Reach, serials: list[str]) -> list[dict[str, Any]]:
        """Those of `serials` that there are, within the reach."""
        found: list[dict[str, Any]] = []
        for at in range(0, len(serials), MANY):
            found += self._all(_METERS.where(meter.c.serial.in_(serials[at : at + MANY]), _points(reach)))
        return found

    def accounts(self, reach: Reach, after: str, limit: int, *, mode: str = "") -> list[dict[str, Any]]:
        """Accounts with their point's feeder and meter, without names, in order of number, from behind `after`."""
        wanted = [account.c.number > after, accounts_within(reach)] + ([account.c.payment_mode == mode] if mode else [])
        return self._all(_ACCOUNTS.where(*wanted).order_by(account.c.number).limit(limit))

    def account_numbers(self, reach: Reach) -> list[str]:
        """The numbers of all accounts within a reach that is not everything, in no order: found by their feeders, not among all."""
        here = sa.and_(usage_point.c.name == account.c.usage_point, usage_point.c.until.is_(None))
        on = sa.select(account.c.number).join(usage_point, here).where(usage_point.c.feeder.in_(sorted(reach.feeders)))
        return [*{*reach.accounts, *(row["number"] for row in self._all(on))}]

    def account(self, reach: Reach, number: str) -> dict[str, Any] | None:
        found = self._first(_ACCOUNT, key=number)
        return found if found is not None and reach.has_account(found["number"], found["feeder"]) else None

    def account_and_meter(self, reach: Reach, number: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """An account and the meter at its point, as `account` and `meter` give them, in one question."""
        found = self._first(_ACCOUNT_AND_METER, key=number)
        if (
            found is None
            or not reach.has_account(found["number"], found["feeder"])
            or not reach.has_point(found["usage_point"], found["feeder"])
        ):
            return None
        own = {name.removeprefix(OWN): value for name, value in found.items() if name.startswith(OWN)}
        return {name: value for name, value in found.items() if not name.startswith(OWN)}, own

    def points_of(self, numbers: list[str]) -> dict[str, tuple[str, date]]:
        """account -> (usage point, the day from which the account has it)."""
        if len(numbers) == 1:
            rows = self._all(_POINT_OF, key=numbers[0])
        else:
            query = sa.select(account.c.number, account.c.usage_point, account.c.since)
            parts = [numbers[at : at + MANY] for at in range(0, len(numbers), MANY)]
            rows = [row for part in parts for row in self._all(query.where(account.c.number.in_(part)))]
        return {row["number"]: (row["usage_point"], row["since"]) for row in rows}

    def transfers(self, number: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The ledger of an account, newest first; before: only rows with a smaller number."""
        query = sa.select(ledger_row).where(ledger_row.c.account == number)
        if before is not None:
            query = query.where(ledger_row.c.number < before)
        return self._all(query.order_by(ledger_row.c.number.desc()).limit(limit))

    def orders(self, reach: Reach, after: tuple[int, str] | None, limit: int, *, serial: str = "", state: str = "") -> list[dict[str, Any]]:
        """Orders, newest first; after: (requested_s, order_id) of the last one seen."""
        if serial and not state and after is None:
            found = self._all(_ORDERS_OF, key=serial, most=limit)
            return [row for row in found if reach.has_point(row["usage_point"], row["feeder"])]
        wanted = [_points(reach)] + [c == v for c, v in ((meter_order.c.meter, serial), (meter_order.c.state, state)) if v]
        if after is not None:
            wanted.append(sa.tuple_(meter_order.c.requested_s, meter_order.c.order_id) < sa.tuple_(*map(sa.literal, after)))
        query = _ORDERS.where(*wanted).order_by(meter_order.c.requested_s.desc(), meter_order.c.order_id.desc()).limit(limit)
        return self._all(query)

    def orders_changed(
        self, reach: Reach, after: tuple[int, str], until_s: int, limit: int, *, serial: str = "", state: str = ""
    ) -> list[dict[str, Any]]:
        """Orders by their last change (being asked for, or a step), the longest ago first, with it as `changed_s`; behind (changed_s, order_id), not
        after `until_s`."""
        wanted = [_points(reach)] + [c == v for c, v in ((meter_order.c.meter, serial), (meter_order.c.state, state)) if v]
        other, own = order_step.alias(), order_step.c.order_id == meter_order.c.order_id
        last = sa.select(sa.func.max(other.c.number)).where(other.c.order_id == meter_order.c.order_id).scalar_subquery()
        ways = (
            (order_step.c.at_s, _ORDERS.join(order_step, own), order_step.c.number == last),
            (meter_order.c.requested_s, _ORDERS, ~sa.exists().where(own)),
        )
        found: list[dict[str, Any]] = []
        for changed_s, rows, so in ways:  # one after the other, so that each goes along the index of its time
            behind = sa.tuple_(changed_s, meter_order.c.order_id) > sa.tuple_(*map(sa.literal, after))
            rows = rows.add_columns(changed_s.label("changed_s")).where(so, changed_s.between(after[0], until_s), behind, *wanted)
            found += self._all(rows.order_by(changed_s, meter_order.c.order_id).limit(limit))
        return sorted(found, key=lambda row: (row["changed_s"], row["order_id"]))[:limit]

    def order(self, reach: Reach, order_id: str) -> dict[str, Any] | None:
        """With its steps, oldest first, under "steps"."""
        found = self._first(_ORDERS.where(meter_order.c.order_id == order_id, _points(reach)))
        if found is not None:
            query = sa.select(order_step).where(order_step.c.order_id == order_id).order_by(order_step.c.number)
            found["steps"] = self._all(query)
        return found

    def steps_after(self, at_s: int, order_id: str, number: int, until_s: int, limit: int) -> list[dict[str, Any]]:
        """What has happened to orders of any meter behind (at_s, order_id, number) and not after `until_s`, oldest first, with the order's meter and
        kind."""
        behind = sa.tuple_(order_step.c.at_s, order_step.c.order_id, order_step.c.number) > sa.tuple_(
            sa.literal(at_s), sa.literal(order_id), sa.literal(number)
        )
        query = (
            sa.select(order_step, meter_order.c.meter, meter_order.c.what)
            .join(meter_order)
            .where(behind, order_step.c.at_s <= until_s)
            .order_by(order_step.c.at_s, order_step.c.order_id, order_step.c.number)
            .limit(limit)
        )
        return self._all(query)

    def events(self, reach: Reach, after: tuple[int, str, int, int, bool] | None, limit: int, *, serial: str = "") -> list[dict[str, Any]]:
        """What meters told about themselves, latest first; after: (at_s, serial, code, bit, occurred) of the last one seen."""
        key = (meter_event.c.at_s, meter_event.c.serial, meter_event.c.code, meter_event.c.bit, meter_event.c.occurred)
        wanted = [_points(reach)] + ([meter_event.c.serial == serial] if serial else [])
        if after is not None:
            wanted.append(sa.tuple_(*key) < sa.tuple_(*map(sa.literal, after)))
        return self._all(_EVENTS.where(*wanted).order_by(*(column.desc() for column in key)).limit(limit))

    def events_heard(
        self, reach: Reach, after: tuple[int, str, int, int, int, bool], until_s: int, limit: int, *, serial: str = ""
    ) -> list[dict[str, Any]]:
        """What meters told about themselves in the order in which we heard of it; behind (received_s, serial, at_s, code, bit, occurred), not after
        `until_s`."""
        own = meter_event.c
        key = (own.received_s, own.serial, own.at_s, own.code, own.bit, own.occurred)
        wanted = [own.received_s.between(after[0], until_s), sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after)), _points(reach)]
        wanted += [own.serial == serial] if serial else []
        return self._all(_EVENTS.where(*wanted).order_by(*key).limit(limit))

    def asked_by(self, who: str, what: str, since_s: int) -> int:
        """How many orders of a kind somebody has asked for since then, by hand or by programs (`Who.acts`). Inside a transaction that holds back
        whoever asks for orders, none is added between this and its end."""
        theirs = sa.or_(meter_order.c.who == who, meter_order.c.who.startswith(f"{who} by ", autoescape=True))
        query = sa.select(sa.func.count()).where(theirs, meter_order.c.what == what, meter_order.c.requested_s >= since_s)
        with self._rows.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def in_flight(self) -> dict[str, int]:
        """state -> how many orders are in it."""
        query = sa.select(meter_order.c.state, sa.func.count().label("orders")).group_by(meter_order.c.state)
        return {row["state"]: row["orders"] for row in self._all(query)}

    def feeders(self) -> list[dict[str, Any]]:
        return self._all(sa.select(feeder).order_by(feeder.c.name))

    def transformers(self, on_feeder: str = "") -> list[dict[str, Any]]:
        query = sa.select(transformer).order_by(transformer.c.name)
        return self._all(query.where(transformer.c.feeder == on_feeder) if on_feeder else query)

    def _all(self, query: sa.Select[Any], **given: Any) -> list[dict[str, Any]]:
        with self._rows.begin() as connection:
            return [dict(row._mapping) for row in connection.execute(query, given)]

    def _first(self, query: sa.Select[Any], **given: Any) -> dict[str, Any] | None:
        found = self._all(query if given else query.limit(1), **given)
        return found[0] if found else None


_PLACE = (
    usage_point.c.name.label("usage_point"),
    usage_point.c.kind,
    usage_point.c.feeder,
    usage_point.c.transformer,
    usage_point.c.phase,
    usage_point.c.connected_load_w,
    usage_point.c.since,
)
_METERS = (
    sa.select(
        meter.c.serial,
        meter.c.maker,
        meter.c.model,
        meter.c.phases,
        meter.c.accuracy_class,
        meter.c.shard,
        meter.c.index,
        *_PLACE,
        account.c.number.label("account"),
    )
    .join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
    .outerjoin(account, account.c.usage_point == usage_point.c.name)
)
_ACCOUNTS = sa.select(
    account.c.number,
    account.c.usage_point,
    account.c.language,
    account.c.tariff,
    account.c.payment_mode,
    account.c.since,
    account.c.mode_since,
    usage_point.c.meter,
    usage_point.c.feeder,
    usage_point.c.transformer,
).join(usage_point, sa.and_(usage_point.c.name == account.c.usage_point, usage_point.c.until.is_(None)))
_EVENTS = sa.select(meter_event).join(usage_point, sa.and_(usage_point.c.meter == meter_event.c.serial, usage_point.c.until.is_(None)))
_ORDERS = sa.select(meter_order, usage_point.c.feeder, usage_point.c.name.label("usage_point")).join(
    usage_point, sa.and_(usage_point.c.meter == meter_order.c.meter, usage_point.c.until.is_(None))
)

# Built once: they are asked for every page of one meter or account.
_KEY: sa.BindParameter[Any] = sa.bindparam("key")
_METER = _METERS.where(meter.c.serial == _KEY).limit(1)
_ACCOUNT = _ACCOUNTS.where(account.c.number == _KEY).limit(1)
OWN = "own "
"""Before what is the meter's, in rows of an account and its meter."""
_ACCOUNT_AND_METER = _ACCOUNT.add_columns(*(column.label(f"{OWN}{column.key}") for column in _METERS.selected_columns)).join(
    meter, meter.c.serial == usage_point.c.meter
)
_POINT_OF = sa.select(account.c.number, account.c.usage_point, account.c.since).where(account.c.number == _KEY)
_ORDERS_OF = (
    _ORDERS.where(meter_order.c.meter == _KEY)
    .order_by(meter_order.c.requested_s.desc(), meter_order.c.order_id.desc())
    .limit(sa.bindparam("most"))
)


def _points(reach: Reach) -> Any:
    if reach.everything:
        return sa.true()
    return sa.or_(usage_point.c.feeder.in_(sorted(reach.feeders)), usage_point.c.name.in_(sorted(reach.points)))


def accounts_within(reach: Reach) -> Any:
    """The condition on rows of `account` and their `usage_point` that the reach puts."""
    if reach.everything:
        return sa.true()
    return sa.or_(usage_point.c.feeder.in_(sorted(reach.feeders)), account.c.number.in_(sorted(reach.accounts)))
