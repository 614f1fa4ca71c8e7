"""Readings, corrections, payments and reversals in any order, late or twice: the balance ends the same, and the rows still tie."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.billing import bill, load_tariffs, segment
from openami.billing.charge import adjustment
from openami.prepaid.ledger import Book, Transfer, balance_paise, broken_row, reversal, trial_balance

from .test_ledger import Store

PART = segment(load_tariffs(), "BR-DS2", date(2025, 10, 31))
LAST = date(2025, 10, 31)


def to_date(wh_by_day):
    """The bill of the month with the energy that is known."""
    energy = np.array([[sum(wh_by_day.values())]])
    return bill(PART.tariff, energy, 31, 31, np.array([2000]), np.array([True]))


class House:
    """One account: what is known of each day (the highest revision counts), what was posted, and the ledger."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int]] = {}
        self.posted = to_date({})
        self.store = Store()
        self.charges = 0
        for line, paise in zip(self.posted.lines, self.posted.amount_paise[:, 0].tolist(), strict=True):
            self.post_charge(line, paise)

    def post_charge(self, line: str, paise: int) -> None:
        if paise:
            self.charges += 1
            debit, credit = (Book.BALANCE, Book.CHARGES) if paise > 0 else (Book.CHARGES, Book.BALANCE)
            self.store.post(Transfer(f"{line}:{self.charges}", "A", LAST, "charge", debit, credit, abs(paise)))

    def reading(self, day: int, wh: int, revision: int) -> None:
        if revision < self.known.get(day, (-1, 0))[0]:
            return
        self.known[day] = (revision, wh)
        now = to_date({d: value for d, (_, value) in self.known.items()})
        change = adjustment(now, self.posted)
        for line, paise in zip(change.lines, change.amount_paise[:, 0].tolist(), strict=True):
            self.post_charge(line, paise)
        self.posted = now


@st.composite
def months(draw):
    days = draw(st.lists(st.integers(1, 31), min_size=1, max_size=8, unique=True))
    readings = [("reading", day, draw(st.integers(0, 60_000)), revision) for day in days for revision in range(draw(st.integers(1, 3)))]
    payments = [("payment", f"p{k}", draw(st.integers(1, 10**6))) for k in range(draw(st.integers(0, 4)))]
    events = readings + payments
    return events, draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=5))))


@settings(max_examples=60, deadline=None)
@given(months(), st.integers(0, 3))
def test_any_order_duplication_and_delay_ends_in_the_same_balance(month, reversed_payments):
    events, arrived = month
    house = House()
    for kind, *what in arrived:
        if kind == "reading":
            house.reading(*what)
        else:
            house.store.post(Transfer(what[0], "A", LAST, "recharge", Book.GATEWAY, Book.BALANCE, what[1]))
        assert sum(trial_balance(house.store.rows).values()) == 0
    paid = {event[1]: event[2] for event in events if event[0] == "payment"}
    for name in list(paid)[:reversed_payments]:
        back = reversal(Transfer(name, "A", LAST, "recharge", Book.GATEWAY, Book.BALANCE, paid.pop(name)), f"back:{name}", LAST)
        house.store.post(back, back)
    last = {day: wh for _, day, wh, _ in sorted((e for e in events if e[0] == "reading"), key=lambda e: e[3])}
    assert balance_paise(house.store.rows, Book.BALANCE) == sum(paid.values()) - int(to_date(last).total_paise[0])
    assert broken_row(house.store.of("A"), house.store.heads.get("A")) is None
