"""The order that a payment brings about: an account whose supply was cut gets it back when enough is paid.

What always holds: the order is asked for in the payment's own transaction, so either both are there or neither; once a payment by its id; an
account that is not cut gets no order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ..control.order import RELAY, Order, State, What
from ..prepaid.recharge import RechargePolicy, reconnected_days
from ..store.order_book import OrderBook
from ..store.rows import Rows, meter_order, usage_point
from ..store.rows import account as registry_account
from ..store.sql import Database
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
            account, paid = each.transfer.account, each.transfer.amount_paise
            if account not in cut or reconnected_days(self._policy, self._owed(connection, account) + paid, paid, False) == 0:
                continue
            name = f"reconnect:{each.transfer.transfer_id}"
            order = Order(
                name, What.CONNECT, account, cut.pop(account), each.posted_s, who="payments", why=f"paid: {each.transfer.transfer_id}"
            )
            orders.append(order)
        if orders:
            self._book.ask_all_in(connection, orders)

    def _cut(self, connection: sa.Connection, accounts: Sequence[str]) -> dict[str, str]:
        """account -> meter, of those whose newest relay order that was not given up is a disconnection."""
        point = sa.and_(usage_point.c.name == registry_account.c.usage_point, usage_point.c.until.is_(None))
        meters = sa.select(registry_account.c.number, usage_point.c.meter).join(usage_point, point)
        found = {row.number: row.meter for row in connection.execute(meters.where(registry_account.c.number.in_(accounts)))}
        own = meter_order.c
        query = sa.select(own.meter, own.what).where(
            own.meter.in_(sorted(set(found.values()))), own.what.in_([str(what) for what in RELAY]), own.state.not_in(OVER)
        )
        newest = {row.meter: row.what for row in connection.execute(query.order_by(own.requested_s, own.order_id))}
        return {account: meter for account, meter in found.items() if newest.get(meter) == str(What.DISCONNECT)}
