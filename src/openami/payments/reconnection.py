"""The order that a payment brings about: an account whose supply was cut gets it back when enough is paid.

What always holds: the order is asked for in the payment's own transaction, so either both are there or neither; once a payment by its id; an
account that is not cut gets no order. What was paid since the cut counts together, less what was taken back; for how many days a part payment brings
supply back stands in the order's wish; where the policy says "once", there is no second one before what the first left owed is paid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
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
END_S = 1 << 40
Owed = Callable[[sa.Connection, Collection[str]], Mapping[str, int]]


class Reconnections:
    """For `PaymentDesk(after_posting=...)`. owed_paise: what accounts owe after their payments (<= 0: nothing)."""

    def __init__(self, database: Database, policy: RechargePolicy, owed_paise: Owed) -> None:
        self._book, self._policy, self._owed = OrderBook(Rows(database)), policy, owed_paise

    def __call__(self, connection: sa.Connection, posted: Sequence[Posted]) -> None:
        cut = self._cut(connection, {each.transfer.account for each in posted})
        if not cut:
            return
        left = self._owed(connection, cut)
        short = {account: cut_s for account, (_, cut_s) in cut.items() if left[account] > 0} if self._policy.part_payments else {}
        paid = _paid(connection, {account: (cut_s, END_S) for account, cut_s in short.items()})
        once = _had_part_payment(connection, short) if short else set()
        orders = []
        for each in posted:
            account = each.transfer.account
            if account not in cut:
                continue
            given = paid.get(account, 0)
            days = reconnected_days(self._policy, left[account] + given, given, account in once)
            if days:
                meter, _ = cut.pop(account)
                orders.append(_order(each, meter, days, left[account]))
        if orders:
            self._book.ask_all_in(connection, orders)

    def _cut(self, connection: sa.Connection, accounts: Collection[str]) -> dict[str, tuple[str, int]]:
        """account -> (meter, when its cut was asked for), of those whose newest relay order that was not given up is a disconnection."""
        point = sa.and_(usage_point.c.name == registry_account.c.usage_point, usage_point.c.until.is_(None))
        meters = sa.select(registry_account.c.number, usage_point.c.meter).join(usage_point, point)
        found = {row.number: row.meter for row in connection.execute(meters.where(among(connection, registry_account.c.number, accounts)))}
        own = meter_order.c
        query = sa.select(own.meter, own.what, own.requested_s).where(
            among(connection, own.meter, found.values()), own.what.in_([str(what) for what in RELAY]), own.state.not_in(OVER)
        )
        newest = {row.meter: row for row in connection.execute(query.order_by(own.requested_s, own.order_id))}
        cut = {meter: row.requested_s for meter, row in newest.items() if row.what == str(What.DISCONNECT)}
        return {account: (meter, cut[meter]) for account, meter in found.items() if meter in cut}


def _order(paid: Posted, meter: str, days: int, left_paise: int) -> Order:
    transfer, part = paid.transfer, days != FOR_GOOD
    wish = json.dumps({"days": days, "left_paise": left_paise}) if part else ""
    why = f"paid: {transfer.transfer_id}" + (f"; a part of what was owed, for {days} days" if part else "")
    name = f"reconnect:{transfer.transfer_id}"
    return Order(name, What.CONNECT, transfer.account, meter, paid.posted_s, wish=wish, who="payments", why=why)


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


def _had_part_payment(connection: sa.Connection, cut_s: Mapping[str, int]) -> set[str]:
    """Those whose supply a part payment had brought back, and who had not paid what it left owed before this cut."""
    parts = part_payment(connection, cut_s)
    paid = _paid(connection, {account: (part.at_s + 1, cut_s[account]) for account, part in parts.items()})
    return {account for account, part in parts.items() if paid[account] < part.left_paise}


def _paid(connection: sa.Connection, spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """What gateways brought to each account in its span (from, until before; UTC seconds), less what went back [paise]."""
    paid = dict.fromkeys(spans, 0)
    if not spans:
        return paid
    own, first_s = ledger_row.c, min(since_s for since_s, _ in spans.values())
    moved = sa.or_(own.debit == Book.GATEWAY.value, own.credit == Book.GATEWAY.value)
    query = sa.select(own.account, own.posted_s, own.debit, own.amount_paise)
    query = query.where(among(connection, own.account, spans), own.posted_s >= first_s, moved)
    for row in connection.execute(query):
        since_s, until_s = spans[row.account]
        if since_s <= row.posted_s < until_s:
            paid[row.account] += row.amount_paise if row.debit == Book.GATEWAY.value else -row.amount_paise
    return paid
