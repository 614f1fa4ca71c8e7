"""Postpaid bills, lateness and deposits, and old arrears taken day by day: each once, however often it is run."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from openami.errors import RequestError
from openami.prepaid.ledger import Book, Transfer
from openami.prepaid.postpaid import due_on, postpaid_policy
from openami.registry import PaymentMode
from openami.store.ledger import Ledger
from openami.store.ledger_bills import (
    agree,
    charge_lateness,
    demand_deposit,
    issue_bills,
    open_bills,
    pay_deposit_interest,
    take_instalments,
)
from openami.store.ledger_bulk import tell
from openami.store.ledger_conversion import convert
from openami.store.sql import Database

from .test_ledger import START, accounts, add

NOVEMBER, DECEMBER = (date(2025, 11, 1), date(2025, 11, 30)), (date(2025, 12, 1), date(2025, 12, 31))
POLICY = postpaid_policy("BR", date(2026, 1, 1))


@pytest.fixture
def ledger(database: Database) -> Ledger:
    ledger = add(database, *accounts("P", "Q", mode=PaymentMode.POSTPAID))
    tell(database, ["P", "Q"], np.zeros(2, np.int64), np.array([1000_00, 0]), START, 10)
    for span, issued, paise in ((NOVEMBER, date(2025, 12, 5), 300_00), (DECEMBER, date(2026, 1, 5), 200_00)):
        for _ in range(2):
            issue_bills(database, ["P", "Q"], np.array([paise, 100_00]), span, issued, due_on(POLICY, issued), 20)
    return ledger


def pay(ledger: Ledger, paise: int, name: str = "x") -> None:
    ledger.post([Transfer(name, "P", date(2026, 1, 6), "payment", Book.GATEWAY, Book.DUES, paise)], 30)


def test_a_span_is_billed_once_and_money_pays_the_oldest_bill(ledger: Ledger) -> None:
    assert ledger.standing("P").dues_paise == -500_00
    pay(ledger, 350_00)
    assert [(b.bill_id, b.due, b.owed_paise) for b in open_bills(ledger.database, "P")] == [
        ("bill:2025-12-31:P", date(2026, 1, 20), 150_00)
    ]
    pay(ledger, 200_00, "more")
    assert open_bills(ledger.database, "P") == []
    assert ledger.standing("P").dues_paise == 50_00
    assert list(ledger.broken()) == []


def test_lateness_costs_its_days_once(ledger: Ledger) -> None:
    """300 rupees since 20 December at 1.25 % in 30 days: 10 days are 1.25 rupees, and a surcharge bears none itself."""
    assert [charge_lateness(ledger.database, POLICY, date(2025, 12, 30), 40) for _ in range(2)] == [2, 0]
    assert ledger.standing("P").dues_paise == -501_25
    pay(ledger, 501_25)
    assert charge_lateness(ledger.database, POLICY, date(2026, 1, 9), 50) == 1
    assert ledger.standing("P").dues_paise == 0
    assert list(ledger.broken()) == []


def test_a_deposit_earns_its_days_once(ledger: Ledger) -> None:
    """1000 rupees at 6 % a year: 73 days are 12 rupees."""
    for _ in range(2):
        pay_deposit_interest(ledger.database, POLICY, START + timedelta(days=73), START, 40)
    assert ledger.standing("P").deposit_paise == 1012_00


def test_a_deposit_is_asked_for_in_parts_that_add_up(ledger: Ledger) -> None:
    demand_deposit(ledger.database, "Q", 1000_01, 4, date(2026, 2, 1), date(2026, 1, 10))
    assert [b.owed_paise for b in open_bills(ledger.database, "Q")] == [100_00, 100_00]  # nothing is owed of a demand
    assert ledger.standing("Q").deposit_paise == 0


def test_arrears_for_three_hundred_days_are_never_taken_at_once(database: Database) -> None:
    ledger = add(database, *accounts("R", mode=PaymentMode.POSTPAID))
    tell(database, ["R"], np.array([3000_00]), np.array([0]), START, 10)
    issue_bills(database, ["R"], np.array([0]), (START, START), START, due_on(POLICY, START), 20)
    convert(database, "c", PaymentMode.PREPAID, START + timedelta(days=1), 30, who="clerk", why="x")
    assert (ledger.standing("R").balance_paise, ledger.standing("R").arrears_paise) == (0, -3000_00)
    first = START + timedelta(days=2)
    agree(database, "R", first, 10_00, 30_00)
    assert [take_instalments(database, day, 40) for day in (first - timedelta(days=1), first, first)] == [0, 1, 0]
    assert ledger.standing("R").arrears_paise == -2990_00
    take_instalments(database, first + timedelta(days=200), 50)
    assert ledger.standing("R").arrears_paise == -2960_00
    assert ledger.standing("R").rupees_paise == -3000_00
    with pytest.raises(RequestError, match="cannot be agreed"):
        agree(database, "R", first, 10_00, 5_00)
    assert list(ledger.broken()) == []
