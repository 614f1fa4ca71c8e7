"""Orders to meters and all that happened to them, as SQL rows.

What always holds: an order is asked for once by its id, however often it is handed in; every step is on disk when `record` returns, so that what
is written as sent was written before it left; two processes cannot take the same step of the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..control.order import END, RELAY, Event, Order, State, Step, What, advance
from ..errors import RequestError
from .rows import Rows, meter_order, order_step

SETTLED = frozenset({*END, State.CONFIRMED})
"""States in which nothing more is asked of the meter."""
NOT_LEFT = frozenset({State.REQUESTED, State.ALLOWED})


@dataclass(frozen=True, slots=True)
class Due:
    """When an order is tried again. attempts: conversations that ended without a step; problem: why the last one did."""

    attempts: int = 0
    not_before_s: int = 0
    problem: str = ""


class OrderBook:
    """The orders of a registry database."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def ask(self, order: Order) -> Order:
        """Write down a new order; the same one again changes nothing and gives it as it stands.

        A relay order that has not left yet is cancelled by a newer one for the same meter. RequestError where the id belongs to another order.
        """
        with self._rows.begin(writing=True) as connection:
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
            row = {name: getattr(order, name) for name in ("order_id", "account", "meter", "requested_s", "who", "why", "wish")}
            row |= {"what": str(order.what), "state": str(order.state), "attempts": 0, "not_before_s": order.requested_s, "problem": ""}
            connection.execute(meter_order.insert(), row)
            return order

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

    def due(self, order_id: str) -> Due:
        with self._rows.begin() as connection:
            row = connection.execute(sa.select(meter_order).where(meter_order.c.order_id == order_id)).first()
        return Due() if row is None else Due(row.attempts, row.not_before_s, row.problem)

    def unsettled(self, now_s: int | None = None) -> list[Order]:
        """Orders that the meter must still be asked about, oldest first; with `now_s` only those whose time has come."""
        query = sa.select(meter_order.c.order_id).where(meter_order.c.state.not_in([str(state) for state in SETTLED]))
        if now_s is not None:
            query = query.where(meter_order.c.not_before_s <= now_s)
        with self._rows.begin() as connection:
            ids = [row.order_id for row in connection.execute(query.order_by(meter_order.c.requested_s, meter_order.c.order_id))]
            return [order for one in ids if (order := self._load(connection, one)) is not None]

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
        query = sa.select(meter_order.c.order_id).where(meter_order.c.meter == serial)
        with self._rows.begin() as connection:
            ids = [row.order_id for row in connection.execute(query.order_by(meter_order.c.requested_s, meter_order.c.order_id))]
            return [order for one in ids if (order := self._load(connection, one)) is not None]

    def _load(self, connection: sa.Connection, order_id: str) -> Order | None:
        row = connection.execute(sa.select(meter_order).where(meter_order.c.order_id == order_id)).first()
        if row is None:
            return None
        told = connection.execute(sa.select(order_step).where(order_step.c.order_id == order_id).order_by(order_step.c.number))
        steps = tuple(Step(s.at_s, Event(s.event), State(s.state), s.note) for s in told)
        what, state = What(row.what), State(row.state)
        return Order(
            row.order_id, what, row.account, row.meter, row.requested_s, state, steps=steps, wish=row.wish, who=row.who, why=row.why
        )

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


def _step_row(order_id: str, number: int, step: Step) -> dict[str, Any]:
    told = {"order_id": order_id, "number": number, "at_s": step.at_s, "note": step.note}
    return told | {"event": str(step.event), "state": str(step.state)}
