"""Orders to meters and all that happened to them, as SQL rows.

What always holds: an order is asked for once by its id, however often it is handed in; every step is on disk when `record` returns, so that what
is written as sent was written before it left; two processes cannot take the same step of the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..control.order import END, RELAY, Event, Order, State, Step, What, advance
from ..errors import RequestError
from .rows import Rows, meter_order, order_step
from .sql import among, hold, put

SETTLED = frozenset({*END, State.CONFIRMED})
"""States in which nothing more is asked of the meter."""
UNSETTLED = tuple(str(state) for state in State if state not in SETTLED)
"""Named one by one, so that an index on the state finds them among millions that are settled."""
NOT_LEFT = frozenset({State.REQUESTED, State.ALLOWED})


@dataclass(frozen=True, slots=True)
class Due:
    """When an order is tried again. attempts: conversations that ended without a step; problem: why the last one did."""

    attempts: int = 0
    not_before_s: int = 0
    problem: str = ""


class Waiting(NamedTuple):
    """An order whose time has come, in short."""

    order_id: str
    meter: str
    requested_s: int
    what: str


class OrderBook:
    """The orders of a registry database."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def ask(self, order: Order) -> Order:
        """Write down a new order; the same one again changes nothing and gives it as it stands.

        A relay order that has not left yet is cancelled by a newer one for the same meter. RequestError where the id belongs to another order.
        """
        with self._rows.begin(writing=True) as connection:
            return self.ask_in(connection, order)

    def ask_in(self, connection: sa.Connection, order: Order) -> Order:
        """`ask` in a transaction that is open: the order and its cause, or neither."""
        hold(connection, "rows")
        known = self._load(connection, order.order_id)
        if known is not None:
            same = (known.what, known.meter, known.account, known.wish) == (order.what, order.meter, order.account, order.wish)
            if not same:
                raise RequestError(
                    f"order {order.order_id} is there already and is another one ({known.what} of {known.meter}); give a new id"
                )
            return known
        if order.what in RELAY:
            self._supersede(connection, order)
        connection.execute(meter_order.insert(), _order_row(order))
        return order

    def ask_all_in(self, connection: sa.Connection, orders: Sequence[Order]) -> None:
        """`ask_in` for many new relay orders, read and written together; those whose meter has an order that has not left, or that are there
        already, go one by one."""
        hold(connection, "rows")
        own, ids, meters = meter_order.c, [order.order_id for order in orders], {order.meter for order in orders}
        waiting = sa.and_(among(connection, own.meter, meters), own.state.in_([str(state) for state in NOT_LEFT]))
        known = connection.execute(sa.select(own.order_id, own.meter).where(sa.or_(among(connection, own.order_id, ids), waiting))).all()
        taken = {row.order_id for row in known}, {row.meter for row in known}
        fresh: dict[str, Order] = {}
        for order in orders:
            if order.order_id not in taken[0] and order.meter not in taken[1]:
                fresh.setdefault(order.meter, order)
        if fresh:
            put(connection, meter_order, [_order_row(order) for order in fresh.values()])
        for order in orders:
            if fresh.get(order.meter) is not order:
                self.ask_in(connection, order)

    def record(self, before: Order, after: Order) -> Order:
        """Write down what has happened between `before`, as it was read from here, and `after`; a step resets the attempts. Nothing has happened
        = nothing is written.

        RequestError where the order has moved on meanwhile: somebody else works on it, and nothing may be sent on this one's view of it.
        """
        if after.steps == before.steps:
            return after
        with self._rows.begin(writing=True) as connection:
            steps = connection.execute(sa.select(sa.func.count()).where(order_step.c.order_id == before.order_id)).scalar_one()
            own = (meter_order.c.order_id == before.order_id, meter_order.c.state == str(before.state))
            changed = connection.execute(
                meter_order.update().where(*own).values(state=str(after.state), attempts=0, not_before_s=0, problem="")
            )
            if changed.rowcount != 1 or steps != len(before.steps):
                raise RequestError(f"order {before.order_id} has moved on from {before.state} meanwhile; read it again before going on")
            new = [_step_row(before.order_id, k, step) for k, step in enumerate(after.steps) if k >= len(before.steps)]
            if new:
                connection.execute(order_step.insert(), new)
        return after

    def postpone(self, order_id: str, due: Due) -> None:
        """Nothing has happened to the order but an attempt."""
        with self._rows.begin(writing=True) as connection:
            values = {"attempts": due.attempts, "not_before_s": due.not_before_s, "problem": due.problem}
            connection.execute(meter_order.update().where(meter_order.c.order_id == order_id).values(**values))

    def order(self, order_id: str) -> Order:
        """As it stands; RequestError where there is none."""
        with self._rows.begin() as connection:
            found = self._load(connection, order_id)
        if found is None:
            raise RequestError(f"there is no order {order_id}; ask for it first")
        return found

    def orders(self, order_ids: Collection[str]) -> list[Order]:
        """Those of these that are there, oldest first."""
        query = sa.select(meter_order).order_by(meter_order.c.requested_s, meter_order.c.order_id)
        with self._rows.begin() as connection:
            return _orders(connection, query.where(among(connection, meter_order.c.order_id, order_ids)))

    def due(self, order_id: str) -> Due:
        with self._rows.begin() as connection:
            row = connection.execute(sa.select(meter_order).where(meter_order.c.order_id == order_id)).first()
        return Due() if row is None else Due(row.attempts, row.not_before_s, row.problem)

    def unsettled(self, now_s: int | None = None) -> list[Order]:
        """Orders that the meter must still be asked about, oldest first; with `now_s` only those whose time has come."""
        query = sa.select(meter_order).where(meter_order.c.state.in_(UNSETTLED))
        if now_s is not None:
            query = query.where(meter_order.c.not_before_s <= now_s)
        with self._rows.begin() as connection:
            return _orders(connection, query.order_by(meter_order.c.requested_s, meter_order.c.order_id))

    def due_now(self, now_s: int, limit: int = 10_000) -> list[Waiting]:
        """What should be carried now, reconnections before all else, then the longest wanted: cheap enough to be asked several times a second."""
        own = meter_order.c
        query = sa.select(own.order_id, own.meter, own.requested_s, own.what).where(own.state.in_(UNSETTLED), own.not_before_s <= now_s)
        first = sa.case((own.what == str(What.CONNECT), 0), else_=1)
        with self._rows.begin() as connection:
            return [Waiting(*row) for row in connection.execute(query.order_by(first, own.requested_s, own.order_id).limit(limit))]

    def counts(self) -> dict[str, int]:
        """state -> number of orders."""
        query = sa.select(meter_order.c.state, sa.func.count()).group_by(meter_order.c.state).order_by(meter_order.c.state)
        with self._rows.begin() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def recent(self, limit: int = 100, unsettled: bool = False) -> list[Order]:
        """The newest orders, newest first; unsettled: only those that are not."""
        query = sa.select(meter_order).order_by(meter_order.c.requested_s.desc(), meter_order.c.order_id.desc()).limit(limit)
        if unsettled:
            query = query.where(meter_order.c.state.in_(UNSETTLED))
        with self._rows.begin() as connection:
            return _orders(connection, query)

    def relay_times(self, first_s: int, last_s: int) -> list[tuple[int, int | None]]:
        """(requested_s, confirmed_s or None) of the relay orders asked for between two times that were not refused or cancelled."""
        own, done = meter_order.c, order_step.c
        confirmed = (
            sa.select(done.order_id, sa.func.min(done.at_s).label("at_s"))
            .where(done.state == str(State.CONFIRMED))
            .group_by(done.order_id)
            .subquery()
        )
        query = (
            sa.select(own.requested_s, confirmed.c.at_s)
            .outerjoin(confirmed, confirmed.c.order_id == own.order_id)
            .where(
                own.requested_s.between(first_s, last_s),
                own.what.in_([str(what) for what in RELAY]),
                own.state.not_in([str(State.REFUSED), str(State.CANCELLED)]),
            )
        )
        with self._rows.begin() as connection:
            return [(int(row[0]), None if row[1] is None else int(row[1])) for row in connection.execute(query.order_by(own.requested_s))]

    def newer_relay_order(self, order: Order) -> str | None:
        """The id of the newest relay order of the same meter behind `order`, whatever became of it; None = there is none."""
        at, number = meter_order.c.requested_s, meter_order.c.order_id
        behind = sa.or_(at > order.requested_s, sa.and_(at == order.requested_s, number > order.order_id))
        query = sa.select(number).where(meter_order.c.meter == order.meter, meter_order.c.what.in_([str(what) for what in RELAY]), behind)
        with self._rows.begin() as connection:
            found = connection.execute(query.order_by(at.desc(), number.desc()).limit(1)).scalar()
        return None if found is None else str(found)

    def of_meter(self, serial: str) -> list[Order]:
        """All orders of a meter, oldest first."""
        return self.of_meters([serial]).get(serial, [])

    def of_meters(self, serials: Collection[str]) -> dict[str, list[Order]]:
        """`of_meter`, by meter, of those that have any."""
        query = sa.select(meter_order).order_by(meter_order.c.requested_s, meter_order.c.order_id)
        found: dict[str, list[Order]] = {}
        with self._rows.begin() as connection:
            for order in _orders(connection, query.where(among(connection, meter_order.c.meter, serials))):
                found.setdefault(order.meter, []).append(order)
        return found

    def _load(self, connection: sa.Connection, order_id: str) -> Order | None:
        found = _orders(connection, sa.select(meter_order).where(meter_order.c.order_id == order_id))
        return found[0] if found else None

    def _supersede(self, connection: sa.Connection, newer: Order) -> None:
        states = [str(state) for state in NOT_LEFT]
        query = sa.select(meter_order.c.order_id).where(
            meter_order.c.meter == newer.meter, meter_order.c.state.in_(states), meter_order.c.what.in_([str(what) for what in RELAY])
        )
        for row in connection.execute(query).all():
            older = self._load(connection, row.order_id)
            if older is None:
                continue
            at_s = max(newer.requested_s, older.steps[-1].at_s if older.steps else older.requested_s)
            ended = advance(older, Event.WITHDRAW, at_s, f"superseded by {newer.order_id}")
            connection.execute(order_step.insert(), _step_row(older.order_id, len(older.steps), ended.steps[-1]))
            connection.execute(meter_order.update().where(meter_order.c.order_id == older.order_id).values(state=str(ended.state)))


def _orders(connection: sa.Connection, query: sa.Select[Any]) -> list[Order]:
    """The orders of a query of `meter_order`, with their steps."""
    rows, steps = connection.execute(query).all(), dict[str, list[Step]]()
    if rows:
        own = among(connection, order_step.c.order_id, [row.order_id for row in rows])
        for s in connection.execute(sa.select(order_step).where(own).order_by(order_step.c.order_id, order_step.c.number)):
            steps.setdefault(s.order_id, []).append(Step(s.at_s, Event(s.event), State(s.state), s.note))
    return [
        Order(
            row.order_id,
            What(row.what),
            row.account,
            row.meter,
            row.requested_s,
            State(row.state),
            steps=tuple(steps.get(row.order_id, ())),
            wish=row.wish,
            who=row.who,
            why=row.why,
        )
        for row in rows
    ]


def _step_row(order_id: str, number: int, step: Step) -> dict[str, Any]:
    told = {"order_id": order_id, "number": number, "at_s": step.at_s, "note": step.note}
    return told | {"event": str(step.event), "state": str(step.state)}


def _order_row(order: Order) -> dict[str, Any]:
    row = {name: getattr(order, name) for name in ("order_id", "account", "meter", "requested_s", "who", "why", "wish")}
    return row | {"what": str(order.what), "state": str(order.state), "attempts": 0, "not_before_s": order.requested_s, "problem": ""}
