"""A payment brings a cut account its order, in the payment's own transaction, and nobody else any."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from openami.control.order import Order, State, What
from openami.payments.desk import PaymentDesk
from openami.payments.event import Kind
from openami.payments.event import State as Taken
from openami.payments.reconnection import Reconnections
from openami.prepaid.recharge import RechargePolicy, recharge_policy
from openami.registry import Account, Feeder, Meter, NodeKind, PaymentMode, UsagePoint
from openami.store.order_book import OrderBook
from openami.store.rows import Rows
from openami.store.sql import Database

from .conftest import NOW, START, Clock, event

METERS = {"A": "MA", "B": "MB"}


@pytest.fixture
def book(database: Database) -> OrderBook:
    """A's supply is cut, B's is not."""
    rows = Rows(database)
    meters = [Meter(m, m.encode().ljust(8), "XMA", "XMA-1P", 0, k, 0x20, 1) for k, m in enumerate(METERS.values())]
    points = [UsagePoint(f"UP-{a}", NodeKind.CONSUMER, m, "F", None, "R", 1000, date(2025, 12, 1)) for a, m in METERS.items()]
    accounts = [Account(a, f"UP-{a}", "", "hi", "BR-DS2", PaymentMode.PREPAID, START, START, 0) for a in METERS]
    rows.add_registry([Feeder("F", "S")], [], meters, points, accounts, [])
    book = OrderBook(rows)
    book.ask(Order("cut", What.DISCONNECT, "A", "MA", NOW - 1000))
    return book


def desk(database: Database, clock: Clock, policy: RechargePolicy, owed_paise: int = 0) -> PaymentDesk:
    return PaymentDesk(
        database,
        "Asia/Kolkata",
        after_posting=Reconnections(database, policy, lambda connection, accounts: dict.fromkeys(accounts, owed_paise)),
        now_s=clock,
    )


def connects(book: OrderBook, meter: str) -> list[tuple[str, State]]:
    return [(order.order_id, order.state) for order in book.of_meter(meter) if order.what is What.CONNECT]


def test_who_was_cut_and_pays_gets_one_order(database: Database, book: OrderBook, clock: Clock) -> None:
    paid = desk(database, clock, recharge_policy("BR"))
    for number in (1, 1, 2):
        paid.take(event(number))
    paid.take(event(3, "p2", account="B"))
    assert connects(book, "MA") == [("reconnect:upi:p1", State.REQUESTED)]
    assert connects(book, "MB") == []
    assert book.order("cut").state is State.CANCELLED  # it had not left yet


def test_an_order_that_has_left_is_followed_by_the_other(database: Database, book: OrderBook, clock: Clock) -> None:
    with database.begin(writing=True) as connection:
        connection.exec_driver_sql("UPDATE meter_order SET state = 'confirmed' WHERE order_id = 'cut'")
    desk(database, clock, recharge_policy("BR")).take_all([event(1, "p1"), event(2, "p2")])
    assert connects(book, "MA") == [("reconnect:upi:p1", State.REQUESTED)]
    assert book.order("cut").state is State.CONFIRMED


@pytest.mark.parametrize(("owed_after_paise", "orders"), [(600_00, 0), (400_00, 1), (0, 1)])
def test_too_little_brings_nothing_back(database: Database, book: OrderBook, clock: Clock, owed_after_paise: int, orders: int) -> None:
    """Uttar Pradesh's rule: half of what was owed, at least. 500 rupees are paid."""
    desk(database, clock, recharge_policy("UP"), owed_after_paise).take(event())
    assert len(connects(book, "MA")) == orders


def test_what_is_paid_in_two_parts_counts_together(database: Database, book: OrderBook, clock: Clock) -> None:
    """1,000 rupees were owed: 500 are half of them and bring supply back for three days; 400 alone would not."""
    owed = {"paise": 600_00}
    own = PaymentDesk(
        database,
        "Asia/Kolkata",
        after_posting=Reconnections(database, recharge_policy("UP"), lambda connection, accounts: dict.fromkeys(accounts, owed["paise"])),
        now_s=clock,
    )
    own.take(replace(event(1, "p1"), amount_paise=400_00))
    assert connects(book, "MA") == []
    owed["paise"] = 500_00
    own.take(replace(event(2, "p2"), amount_paise=100_00))
    (order,) = (order for order in book.of_meter("MA") if order.what is What.CONNECT)
    assert json.loads(order.wish) == {"days": 3, "left_paise": 500_00}
    assert "for 3 days" in order.why


def test_a_chargeback_after_the_reconnection_takes_the_money_back_and_asks_for_nothing(
    database: Database, book: OrderBook, clock: Clock
) -> None:
    own = desk(database, clock, recharge_policy("BR"))
    own.take(event(1, "p1"))
    own.take(event(2, "p1", Kind.REVERSED))
    own.take(event(3, "p1", Kind.PAID))  # told again, after it was taken back
    assert own.state("upi", "p1") is Taken.REVERSED
    assert own.ledger.standing("A").balance_paise == 0
    assert connects(book, "MA") == [("reconnect:upi:p1", State.REQUESTED)]


def test_what_was_taken_back_does_not_count_as_paid(database: Database, book: OrderBook, clock: Clock) -> None:
    """Uttar Pradesh: 500 of 1,000 rupees would bring supply back for three days; of the first 400, none stayed."""
    own = desk(database, clock, recharge_policy("UP"), 900_00)
    own.take(replace(event(1, "p1"), amount_paise=400_00))
    own.take(replace(event(2, "p1", Kind.REVERSED), amount_paise=400_00))
    own.take(replace(event(3, "p2"), amount_paise=100_00))
    assert connects(book, "MA") == []


def cut_again(book: OrderBook, database: Database, at_s: int) -> None:
    """What was on its way has come about, and then the days are over."""
    with database.begin(writing=True) as connection:
        connection.exec_driver_sql("UPDATE meter_order SET state = 'confirmed'")
    book.ask(Order(f"cut{at_s}", What.DISCONNECT, "A", "MA", at_s))
    with database.begin(writing=True) as connection:
        connection.exec_driver_sql("UPDATE meter_order SET state = 'confirmed'")


@pytest.mark.parametrize(("rest_paise", "again"), [(0, False), (499_99, False), (500_00, True)])
def test_a_part_payment_helps_once_until_what_it_left_is_paid(
    database: Database, book: OrderBook, clock: Clock, rest_paise: int, again: bool
) -> None:
    desk(database, clock, recharge_policy("UP"), 500_00).take(event(1, "p1"))
    assert len(connects(book, "MA")) == 1
    if rest_paise:
        clock.now_s += 10
        desk(database, clock, ANY, 10**9).take(replace(event(2, "rest"), amount_paise=rest_paise))
    clock.now_s += 3 * 86_400
    cut_again(book, database, clock.now_s)
    clock.now_s += 10
    desk(database, clock, recharge_policy("UP"), 500_00).take(replace(event(3, "p3"), amount_paise=500_00))
    assert ("reconnect:upi:p3" in [name for name, _ in connects(book, "MA")]) is again


ANY = RechargePolicy("none", 0, 1, 0, (), False, "", "a test")
