"""The order that a payment brings about: an account whose supply was cut gets it back when enough is paid.

What always holds: the order is asked for in the payment's own transaction, so either both are there or neither; once a payment by its id; an
account that is not cut gets no order. What was paid since the cut counts together, less what was taken back; for how many days a part payment brings
supply back stands in the order's wish; where the policy says "once", there is no second one before what the first left owed is paid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ..control.order import RELAY, Order, State, What
from ..prepaid.ledger import Book
from ..prepaid.recharge import FOR_GOOD, RechargePolicy, reconnected_days
from ..store.ledger_tables import ledger_row
from ..store.order_book import OrderBook
from ..store.rows import Rows, meter_order, usage_point
from ..store.rows import account as registry_account
from ..store.sql import Database, among
from .taking import Posted

OVER = tuple(str(state) for state in (State.REFUSED, State.CANCELLED, State.FAILED))


class Reconnections:
    """For `PaymentDesk(after_posting=...)`. owed_paise: what an account owes after its payment (<= 0: nothing)."""

    def __init__(self, database: Database, policy: RechargePolicy, owed_paise: Callable[[sa.Connection, str], int]) -> None:
        self._book, self._policy, self._owed = OrderBook(Rows(database)), policy, owed_paise

    def __call__(self, connection: sa.Connection, posted: Sequence[Posted]) -> None:
        orders = []
        cut = self._cut(connection, sorted({each.transfer.account for each in posted}))
        for each in posted:
            account = each.transfer.account
            if account not in cut:
                continue
            meter, cut_s = cut[account]
            paid = _paid(connection, account, cut_s)
            owed = self._owed(connection, account) + paid
            days = reconnected_days(self._policy, owed, paid, _had_part_payment(connection, account, cut_s))
            if days == 0:
                continue
            del cut[account]
            name, wish = (
                f"reconnect:{each.transfer.transfer_id}",
                "" if days == FOR_GOOD else json.dumps({"days": days, "left_paise": owed - paid}),
            )
            why = f"paid: {each.transfer.transfer_id}" + ("" if days == FOR_GOOD else f"; a part of what was owed, for {days} days")
            orders.append(Order(name, What.CONNECT, account, meter, each.posted_s, wish=wish, who="payments", why=why))
        if orders:
            self._book.ask_all_in(connection, orders)

    def _cut(self, connection: sa.Connection, accounts: Sequence[str]) -> dict[str, tuple[str, int]]:
        """account -> (meter, when its cut was asked for), of those whose newest relay order that was not given up is a disconnection."""
        point = sa.and_(usage_point.c.name == registry_account.c.usage_point, usage_point.c.until.is_(None))
        meters = sa.select(registry_account.c.number, usage_point.c.meter).join(usage_point, point)
        found = {row.number: row.meter for row in connection.execute(meters.where(registry_account.c.number.in_(accounts)))}
        own = meter_order.c
        query = sa.select(own.meter, own.what, own.requested_s).where(
            own.meter.in_(sorted(set(found.values()))), own.what.in_([str(what) for what in RELAY]), own.state.not_in(OVER)
        )
        newest = {row.meter: row for row in connection.execute(query.order_by(own.requested_s, own.order_id))}
        cut = {meter: row.requested_s for meter, row in newest.items() if row.what == str(What.DISCONNECT)}
        return {account: (meter, cut[meter]) for account, meter in found.items() if meter in cut}


@dataclass(frozen=True, slots=True)
class Part:
    """Supply that came back by a part payment: when it was ordered (UTC seconds), for how many days, and what was still owed then."""

    at_s: int
    days: int
    left_paise: int


def part_payment(connection: sa.Connection, accounts: Collection[str]) -> dict[str, Part]:
    """By account, of those whose newest reconnection that was not given up is by a part payment."""
    own = meter_order.c
    query = sa.select(own.account, own.requested_s, own.wish).where(
        among(connection, own.account, accounts), own.what == str(What.CONNECT), own.state.not_in(OVER)
    )
    newest = {row.account: row for row in connection.execute(query.order_by(own.requested_s, own.order_id))}
    wishes = {account: json.loads(row.wish or "{}") for account, row in newest.items()}
    return {
        account: Part(newest[account].requested_s, wish["days"], wish["left_paise"]) for account, wish in wishes.items() if "days" in wish
    }


def _had_part_payment(connection: sa.Connection, account: str, cut_s: int) -> bool:
    """Whether a part payment had brought supply back and what it left owed was not paid before this cut."""
    part = part_payment(connection, [account]).get(account)
    return part is not None and _paid(connection, account, part.at_s + 1, cut_s) < part.left_paise


def _paid(connection: sa.Connection, account: str, since_s: int, until_s: int = 1 << 40) -> int:
    """What gateways brought from `since_s` until before `until_s`, less what went back [paise]."""
    own = ledger_row.c
    signed = sa.case((own.debit == Book.GATEWAY.value, own.amount_paise), else_=-own.amount_paise)
    moved = sa.or_(own.debit == Book.GATEWAY.value, own.credit == Book.GATEWAY.value)
    query = sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(
        own.account == account, own.posted_s >= since_s, own.posted_s < until_s, moved
    )
    return int(connection.execute(query).scalar_one())
