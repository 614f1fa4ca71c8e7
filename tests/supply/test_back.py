"""Who owes nothing any more gets supply back, whichever way the money came."""

from __future__ import annotations

from openami.control.order import Order, What
from openami.day import Site
from openami.fleet.town import Town
from openami.payments.event import Event as PaymentEvent
from openami.payments.event import Kind
from openami.prepaid.ledger import Book, Transfer
from openami.store.ledger import Ledger
from openami.store.order_book import OrderBook
from openami.supply.back import bring_back
from openami.supply.due import needed_paise
from openami.supply.paying import payment_desk

from .houses import FIRST, Phones, at, in_order, owing
from .test_due import CUT_DAY, play


def cut_all(site: Site) -> int:
    """Everybody who owes is cut, and the relays stand open; gives the time."""
    in_order(site, at(site, FIRST, "08:00"))
    cut_s = play(site, Phones())
    stands(site, What.DISCONNECT, "confirmed")
    return cut_s


def stands(site: Site, what: What, state: str) -> None:
    with site.rows.begin(writing=True) as connection:
        connection.exec_driver_sql(f"UPDATE meter_order SET state = '{state}' WHERE what = '{what}'")


def back(site: Site) -> list[Order]:
    return [order for order in OrderBook(site.rows).recent() if order.what is What.CONNECT]


def credit(site: Site, account: str, paise: int, now_s: int, kind: str = "credit") -> None:
    debit = Book.GATEWAY if kind == "recharge" else Book.SUSPENSE
    transfer = Transfer(f"{kind}-{account}-{now_s}", account, CUT_DAY, kind, debit, Book.BALANCE, paise)
    assert Ledger(site.rows.database).post_all([transfer], now_s).rows


def test_money_at_the_counter_and_a_credit_bring_supply_back_and_too_little_does_not(site: Site, town: Town) -> None:
    now_s = cut_all(site) + 600
    paid, credited, short = owing(town)[:3]
    for account, kind, paise in ((paid, "recharge", 1000_00), (credited, "credit", 1000_00), (short, "recharge", 1)):
        credit(site, account, paise, now_s, kind)
    assert needed_paise(site, paid, now_s + 60) == 100_00, "nothing is owed, so what a recharge must be at least"
    assert bring_back(site, now_s + 60) == 2
    assert sorted(order.account for order in back(site)) == [paid, credited]
    assert bring_back(site, now_s + 120) == 0


def test_what_a_payment_has_ordered_is_not_ordered_twice(site: Site, town: Town) -> None:
    now_s, account = cut_all(site) + 600, owing(town)[0]
    payment_desk(site, lambda: now_s).take(PaymentEvent("upi", "E1", "P1", Kind.PAID, account, needed_paise(site, account, now_s), now_s))
    assert bring_back(site, now_s + 60) == 0
    assert [order.order_id for order in back(site)] == ["reconnect:upi:P1"]


def test_a_reconnection_that_was_given_up_is_ordered_again_on_the_next_day_only(site: Site, town: Town) -> None:
    now_s, account = cut_all(site) + 600, owing(town)[0]
    credit(site, account, 1000_00, now_s)
    assert bring_back(site, now_s) == 1
    stands(site, What.CONNECT, "failed")
    assert bring_back(site, now_s + 120) == 0
    assert bring_back(site, now_s + 86_400) == 1
