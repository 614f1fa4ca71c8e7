"""What became of orders, told to consumers: after a cut, after a payment, while a meter waits for its button, when it cannot be reached, when it is
light again.

What always holds: each is told once, by the order's id and what there is to tell; a message is in the outbox before anybody sends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import sqlalchemy as sa

from ..control.order import Order, State, What
from ..day.books import shown_balance_paise
from ..day.site import Site
from ..money import rupees
from ..notices.texts import sentence
from ..store.order_book import OrderBook
from ..store.outbox import Notice, Outbox
from ..store.rows import account as registry_account
from ..store.rows import meter_order
from .chain import Chain, Stage, chains_of
from .due import needed_paise

LOOKED_BACK_S = 3 * 86_400
FOLLOWED = (What.CONNECT, What.DISCONNECT, What.LOAD_LIMIT)
KIND = {
    Stage.ORDERED: "coming",
    Stage.SENT: "coming",
    Stage.ACCEPTED: "coming",
    Stage.METER_DELAY: "closing",
    Stage.BUTTON: "closing",
    Stage.OUT_OF_REACH: "out_of_reach",
    Stage.CLOSED: "back",
    Stage.LIGHT: "back",
    Stage.FAILED: "not_back",
}
CUT_WHY = {"en": "the balance is below the limit.", "hi": "बैलेंस सीमा से नीचे है।"}


def follow(site: Site, now_s: int, seen: dict[str, tuple[str, str]] | None = None) -> int:
    """Put into the outbox what there is to tell of the orders of the last days; gives how many messages are new. seen: (state, problem) of orders
    that were followed before, changed here, so that only what has moved is looked at."""
    own, known = meter_order.c, {} if seen is None else seen
    query = sa.select(own.order_id, own.state, own.problem).where(own.what.in_([str(what) for what in FOLLOWED]))
    query = query.where(own.requested_s > now_s - LOOKED_BACK_S, own.account != "").order_by(own.requested_s, own.order_id)
    with site.rows.begin() as connection:
        stands = {row.order_id: (row.state, row.problem) for row in connection.execute(query)}
    book = OrderBook(site.rows)
    orders = book.orders([one for one, how in stands.items() if known.get(one) != how])
    known.clear()
    known.update(stands)
    if not orders:
        return 0
    languages = _languages(site, {order.account for order in orders})
    notices = [*_reconnections(site, orders, languages, now_s), *_others(site, orders, languages, now_s)]
    return Outbox(site.rows.database).put(notices) if notices else 0


def _languages(site: Site, accounts: set[str]) -> dict[str, str]:
    own = registry_account.c
    with site.rows.begin() as connection:
        found = connection.execute(sa.select(own.number, own.language).where(own.number.in_(sorted(accounts))))
        return {row.number: row.language for row in found}


def _reconnections(site: Site, orders: list[Order], languages: dict[str, str], now_s: int) -> Iterator[Notice]:
    for chain in chains_of(site.rows, [order for order in orders if order.what is What.CONNECT]):
        kind = KIND.get(chain.stage)
        if kind is not None and chain.account in languages:
            yield _of(chain, kind, languages[chain.account], now_s)


def _of(chain: Chain, kind: str, language: str, now_s: int) -> Notice:
    return Notice(f"{kind}:{chain.order_id}", chain.account, kind, language, chain.told(language), now_s)


def _others(site: Site, orders: list[Order], languages: dict[str, str], now_s: int) -> Iterator[Notice]:
    """After a cut, under a limit, and when the limit is lifted."""
    for order in orders:
        if order.what is What.CONNECT or order.state is not State.CONFIRMED or order.account not in languages:
            continue
        language, done_s = languages[order.account], order.steps[-1].at_s
        if order.what is What.LOAD_LIMIT:
            kind = "limit_lifted" if order.order_id.startswith("lift:") else "load_limit"
            yield Notice(f"{kind}:{order.order_id}", order.account, kind, language, _limited(site, order, kind, language, now_s), now_s)
            continue
        at = f"{site.calendar.local(done_s):%Y-%m-%d %H:%M}"
        need = rupees(needed_paise(site, order.account, now_s))
        text = sentence("cut", language, at=at, reason=CUT_WHY["hi" if language == "hi" else "en"], need=need)
        yield Notice(f"cut:{order.order_id}", order.account, "cut", language, text, now_s)


def _limited(site: Site, order: Order, kind: str, language: str, now_s: int) -> str:
    if kind == "limit_lifted":
        return sentence(kind, language)
    balance = rupees(shown_balance_paise(site, order.account, now_s))
    return sentence(kind, language, balance=balance, limit_w=json.loads(order.wish).get("limit_w"))
