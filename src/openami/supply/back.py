"""Supply for those who owe nothing any more, however that came about: money at the counter, a credit, a reading put right, an arrear taken back.

What always holds: whoever was cut was cut for money, since the guard allows no other cut; what the payment desk orders in a payment's own
transaction is not ordered here too; a reconnection that was given up is ordered anew, once a day; a cut that has not left is the guard's to end.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ..control.order import RELAY, Order, State, What
from ..day.site import Site
from ..payments.reconnection import OVER
from ..store.order_book import OrderBook
from ..store.rows import meter_order
from ..store.sql import among
from .facts import MACHINE
from .paying import owed_after_paise

AT_ONCE = 500
"""Of how many accounts the balance is looked up together."""
LEFT = tuple(str(state) for state in (State.SENT, State.UNKNOWN, State.ACCEPTED, State.CONFIRMED))


def bring_back(site: Site, now_s: int) -> int:
    """Order supply for every account that was cut and owes nothing now; gives how many."""
    with site.rows.begin() as connection:
        cut = _cut(connection)
    made = 0
    for at in range(0, len(accounts := sorted(cut)), AT_ONCE):
        part = accounts[at : at + AT_ONCE]
        with site.rows.begin() as connection:
            owed = owed_after_paise(site, connection, part, now_s)
        made += _order(site, [account for account in part if owed.get(account) == 0], now_s)
    return made


def _order(site: Site, accounts: Collection[str], now_s: int) -> int:
    """Behind the payment desk's lock, and looked at anew: a payment may have ordered the same meanwhile."""
    if not accounts:
        return 0
    day, book = site.calendar.local(now_s).date(), OrderBook(site.rows)
    made = 0
    with site.rows.database.begin(writing=True, lock="payments") as connection:
        for account, (name, meter) in _cut(connection, accounts).items():
            why = f"nothing is owed any more: {name}"
            order = Order(f"back:{name}:{day}", What.CONNECT, account, meter, now_s, who=MACHINE, why=why)
            made += book.ask_in(connection, order).requested_s == now_s  # an older one is today's that was given up
    return made


def _cut(connection: sa.Connection, accounts: Collection[str] | None = None) -> dict[str, tuple[str, str]]:
    """account -> (order, meter) of those (None = all) whose newest relay order that was not given up is a cut that has left."""
    cut, newer = meter_order.alias("cut"), meter_order.alias("newer")
    behind = sa.or_(
        newer.c.requested_s > cut.c.requested_s, sa.and_(newer.c.requested_s == cut.c.requested_s, newer.c.order_id > cut.c.order_id)
    )
    relay = (newer.c.meter == cut.c.meter, newer.c.what.in_([str(what) for what in RELAY]), newer.c.state.not_in(OVER))
    query = sa.select(cut.c.account, cut.c.order_id, cut.c.meter).where(
        cut.c.what == str(What.DISCONNECT),
        cut.c.state.in_(LEFT),
        cut.c.account != "",
        ~sa.exists().where(*relay, behind),
    )
    if accounts is not None:
        query = query.where(among(connection, cut.c.account, accounts))
    return {row.account: (row.order_id, row.meter) for row in connection.execute(query)}
