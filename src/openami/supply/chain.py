"""From payment to light: paid, posted, ordered, sent, accepted, ready at the meter, relay closed, voltage seen, each with its time.

A chain is read from the rows that the payment desk, the ledger and the head-end's desk have written, so nothing has to be kept in step with them and
a restart loses nothing. What always holds: its times never go back; what has not been seen is None, never assumed.

A meter with a keypad could be let on by a token (STS, IEC 62055-41) where no network reaches it. `Chain.token` is the place for it; nothing fills it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from ..control.order import TOLD, Closing, Event, Order, State, What, closing
from ..errors import RequestError
from ..notices.texts import sentence
from ..store.ledger_tables import ledger_row, payment_event
from ..store.order_book import OrderBook
from ..store.rows import Rows, meter_order

ORDER_OF = "reconnect:"
"""What stands before a payment's transfer id in the id of the order that it brings about (`payments/reconnection.py`)."""
MODE = re.compile(r"control mode (\d+)")


class Stage(StrEnum):
    ORDERED = "ordered"
    OUT_OF_REACH = "out_of_reach"
    SENT = "sent"
    ACCEPTED = "accepted"
    METER_DELAY = "meter_delay"
    BUTTON = "button"
    CLOSED = "closed"
    LIGHT = "light"
    REPLACED = "replaced"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chain:
    """One reconnection. Times are UTC seconds, None = not seen. payment_id: "" where somebody ordered it without a payment; problem: why the last
    conversation led nowhere; token: of a meter with a keypad, never there yet."""

    order_id: str
    account: str
    meter: str
    payment_id: str
    paid_s: int | None
    posted_s: int | None
    ordered_s: int
    sent_s: int | None
    accepted_s: int | None
    ready_s: int | None
    closed_s: int | None
    light_s: int | None
    stage: Stage
    closing: Closing
    problem: str
    token: str | None = None

    @property
    def took_s(self) -> int | None:
        """From payment (or order) to the relay read back as closed."""
        first = self.paid_s if self.paid_s is not None else self.ordered_s
        return None if self.closed_s is None else self.closed_s - first

    def told(self, language: str) -> str:
        """What the consumer is told at this stage."""
        if self.stage in (Stage.METER_DELAY, Stage.BUTTON):
            return TOLD[self.closing][1 if language == "hi" else 0]
        kinds = {Stage.CLOSED: "back", Stage.LIGHT: "back", Stage.OUT_OF_REACH: "out_of_reach", Stage.FAILED: "not_back"}
        return sentence(kinds.get(self.stage, "coming"), language)


def chain_of(rows: Rows, order_id: str) -> Chain:
    """RequestError where there is no such reconnection."""
    order = OrderBook(rows).order(order_id)
    if order.what is not What.CONNECT:
        raise RequestError(f"order {order_id} is no reconnection ({order.what}); name one that is")
    return chains_of(rows, [order])[0]


def chains(rows: Rows, since_s: int, limit: int = 1000) -> list[Chain]:
    """The reconnections asked for since then, newest first."""
    own = meter_order.c
    query = sa.select(own.order_id).where(own.what == str(What.CONNECT), own.requested_s >= since_s)
    with rows.begin() as connection:
        ids = list(connection.execute(query.order_by(own.requested_s.desc(), own.order_id.desc()).limit(limit)).scalars())
    book = OrderBook(rows)
    return chains_of(rows, [book.order(one) for one in ids])


def chains_of(rows: Rows, orders: Iterable[Order]) -> list[Chain]:
    """The chains of reconnections, with what is known of their payments."""
    given = list(orders)
    transfers = {o.order_id: o.order_id.removeprefix(ORDER_OF) for o in given if o.order_id.startswith(ORDER_OF)}
    with rows.begin() as connection:
        posted = sa.select(ledger_row.c.transfer_id, ledger_row.c.posted_s).where(ledger_row.c.transfer_id.in_(list(transfers.values())))
        posted_s = {row.transfer_id: int(row.posted_s) for row in connection.execute(posted)}
        own = payment_event.c
        ids = [transfer.partition(":")[2] for transfer in transfers.values()]
        paid = sa.select(own.gateway, own.payment_id, sa.func.min(own.happened_s)).where(own.payment_id.in_(ids), own.kind == "paid")
        paid_s = {f"{row[0]}:{row[1]}": int(row[2]) for row in connection.execute(paid.group_by(own.gateway, own.payment_id))}
    book = OrderBook(rows)
    return [_chain(order, transfers.get(order.order_id, ""), paid_s, posted_s, book.due(order.order_id).problem) for order in given]


def _chain(order: Order, transfer: str, paid_s: dict[str, int], posted_s: dict[str, int], problem: str) -> Chain:
    at = {state: next((step.at_s for step in order.steps if step.state is state), None) for state in State}
    closes = closing_of(order)
    accepted_s = next((step.at_s for step in order.steps if step.event is Event.ACTION_OK), None)
    return Chain(
        order.order_id,
        order.account,
        order.meter,
        transfer,
        paid_s.get(transfer),
        posted_s.get(transfer),
        order.requested_s,
        at[State.SENT],
        accepted_s,
        at[State.READY],
        at[State.CONFIRMED] or at[State.SUPPLIED],
        at[State.SUPPLIED],
        _stage(order, closes, problem),
        closes,
        problem,
    )


def closing_of(order: Order) -> Closing:
    """How the meter closes, by the control mode that it last showed."""
    modes = [found[1] for step in reversed(order.steps) if (found := MODE.search(step.note))]
    return closing(int(modes[0])) if modes else Closing.UNKNOWN


def _stage(order: Order, closes: Closing, problem: str) -> Stage:
    if order.state is State.SUPPLIED:
        return Stage.LIGHT
    if order.state is State.CONFIRMED:
        return Stage.CLOSED
    if order.state in (State.CANCELLED, State.REFUSED):
        return Stage.REPLACED
    if order.state is State.FAILED:
        return Stage.REPLACED if "superseded" in order.steps[-1].note else Stage.FAILED
    if order.state is State.READY:
        return Stage.METER_DELAY if closes is Closing.METER_DELAY else Stage.BUTTON
    if problem:
        return Stage.OUT_OF_REACH
    if order.state is State.ACCEPTED:
        return Stage.ACCEPTED
    return Stage.SENT if order.state in (State.SENT, State.UNKNOWN) else Stage.ORDERED
