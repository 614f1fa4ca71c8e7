"""The ledger: idempotent, append-only, chained, and the same in whatever order and number its transfers arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.prepaid.ledger import (
    Book,
    Head,
    Row,
    Transfer,
    balance_paise,
    broken_row,
    post,
    reversal,
    trial_balance,
)

DAY = date(2025, 10, 3)


class Store:
    """Rows in memory, as a store would keep them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.heads: dict[str, Head] = {}

    def post(self, *transfers: Transfer, now_s: int = 1000):
        posting = post(transfers, self.heads, self.find, self.is_reversed, now_s)
        self.rows += posting.rows
        self.heads |= posting.heads
        return posting

    def find(self, transfer_id: str) -> Transfer | None:
        return next((row.transfer for row in self.rows if row.transfer.transfer_id == transfer_id), None)

    def is_reversed(self, transfer_id: str) -> bool:
        return any(row.transfer.kind == "reversal" and row.transfer.refers_to == transfer_id for row in self.rows)

    def of(self, account: str) -> list[Row]:
        return [row for row in self.rows if row.transfer.account == account]


def recharge(name="r1", amount=500_00, account="A", day=DAY):
    return Transfer(name, account, day, "recharge", Book.GATEWAY, Book.BALANCE, amount)


def charge(name="c1", amount=120_00, account="A", day=DAY):
    return Transfer(name, account, day, "charge", Book.BALANCE, Book.CHARGES, amount)


def test_a_transfer_is_posted_once_however_often_it_comes():
    store = Store()
    assert len(store.post(recharge(), recharge()).rows) == 1
    again = store.post(recharge())
    assert (again.rows, again.already) == ((), ("r1",))
    assert balance_paise(store.rows, Book.BALANCE) == 500_00


def test_another_content_under_the_same_id_is_refused():
    store = Store()
    store.post(recharge())
    assert [refusal.cause for refusal in store.post(recharge(amount=900_00)).refused] == ["conflict"]
    assert balance_paise(store.rows, Book.BALANCE) == 500_00


@pytest.mark.parametrize(
    ("transfer", "cause"),
    [
        (recharge(amount=0), "amount"),
        (recharge(amount=-5), "amount"),
        (recharge(name=""), "unnamed"),
        (recharge(account=""), "unnamed"),
        (replace(recharge(), credit=Book.GATEWAY), "books"),
        (replace(recharge(), kind="reversal"), "reference"),
        (replace(recharge(), refers_to="nothing"), "reference"),
    ],
)
def test_what_cannot_be_posted_is_refused_and_its_neighbours_are_not(transfer, cause):
    posting = Store().post(charge("before"), transfer, charge("after"))
    assert [refusal.cause for refusal in posting.refused] == [cause]
    assert [row.transfer.transfer_id for row in posting.rows] == ["before", "after"]


def test_a_reversal_undoes_once_and_exactly():
    store = Store()
    store.post(recharge(), charge())
    back = reversal(recharge(), "v1", DAY)
    assert store.post(replace(back, amount_paise=1)).refused[0].cause == "reversal"
    assert len(store.post(back).rows) == 1
    assert store.post(replace(back, transfer_id="v2")).refused[0].cause == "reversed"
    assert store.post(reversal(back, "v3", DAY)).refused[0].cause == "reversal"
    assert balance_paise(store.rows, Book.BALANCE) == -120_00


def test_a_reversal_of_another_account_is_refused():
    store = Store()
    store.post(recharge())
    assert store.post(replace(reversal(recharge(), "v1", DAY), account="B")).refused[0].cause == "reference"


def test_two_reversals_in_one_batch_undo_once():
    store = Store()
    store.post(recharge())
    posting = store.post(reversal(recharge(), "v1", DAY), reversal(recharge(), "v2", DAY))
    assert [refusal.cause for refusal in posting.refused] == ["reversed"]


def test_what_the_balance_showed_then():
    """Two dates: the day a row is for, and the instant at which we knew it."""
    store = Store()
    store.post(recharge(day=date(2025, 10, 1)), now_s=1000)
    store.post(charge(day=date(2025, 10, 2)), now_s=2000)
    late = Transfer("a1", "A", date(2025, 10, 2), "adjustment", Book.CHARGES, Book.BALANCE, 20_00, "c1")
    store.post(late, now_s=3000)
    assert balance_paise(store.rows, Book.BALANCE, known_at_s=2500) == 380_00
    assert balance_paise(store.rows, Book.BALANCE) == 400_00
    assert balance_paise(store.rows, Book.BALANCE, to_day=date(2025, 10, 1)) == 500_00
    assert balance_paise(store.rows, Book.BALANCE, to_day=date(2025, 10, 2), known_at_s=2500) == 380_00


def test_a_clock_that_was_set_back_holds_no_money_up_and_turns_no_order_round():
    store = Store()
    store.post(recharge(), now_s=2000)
    assert [row.posted_s for row in store.post(charge(), now_s=1999).rows] == [2000]
    assert broken_row(store.of("A"), store.heads["A"]) is None


@pytest.mark.parametrize("tamper", ["amount", "drop_middle", "drop_last", "swap", "account"])
def test_a_changed_chain_is_seen(tamper):
    store = Store()
    store.post(recharge(), charge("c1"), charge("c2"), charge("c3"))
    rows = store.of("A")
    assert broken_row(rows, store.heads["A"]) is None
    match tamper:
        case "amount":
            rows[1] = replace(rows[1], transfer=replace(rows[1].transfer, amount_paise=1))
            expected = 1
        case "drop_middle":
            del rows[1]
            expected = 1
        case "drop_last":
            del rows[3]
            expected = 3
        case "swap":
            rows[1], rows[2] = rows[2], rows[1]
            expected = 1
        case _:
            rows[2] = replace(rows[2], transfer=replace(rows[2].transfer, account="B"))
            expected = 2
    assert broken_row(rows, store.heads["A"]) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transfer_id", "x"),
        ("day", date(2020, 1, 1)),
        ("kind", "gift"),
        ("debit", Book.SUSPENSE),
        ("credit", Book.SUSPENSE),
        ("amount_paise", 1),
        ("refers_to", "x"),
    ],
)
def test_a_change_of_any_field_is_seen(name, value):
    store = Store()
    store.post(recharge(), charge())
    rows = store.of("A")
    rows[1] = replace(rows[1], transfer=replace(rows[1].transfer, **{name: value}))
    assert broken_row(rows) == 1


def test_a_row_that_was_posted_at_another_time_is_seen():
    store = Store()
    store.post(recharge(), now_s=1000)
    assert broken_row([replace(store.rows[0], posted_s=999)]) == 0


BOOKS = st.sampled_from(list(Book))
TRANSFERS = st.lists(
    st.builds(
        Transfer,
        st.sampled_from("abcdefghij"),
        st.sampled_from("AB"),
        st.just(DAY),
        st.just("adjustment"),
        BOOKS,
        BOOKS,
        st.integers(-1, 10**9),
    ),
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(TRANSFERS, st.lists(st.integers(0, 19), max_size=4))
def test_debits_equal_credits_after_every_batch_however_it_is_cut(transfers, cuts):
    whole, pieces = Store(), Store()
    whole.post(*transfers)
    edges = sorted({0, len(transfers), *(cut for cut in cuts if cut < len(transfers))})
    for a, b in pairwise(edges):
        pieces.post(*transfers[a:b])
        assert sum(trial_balance(pieces.rows).values()) == 0
    assert pieces.rows == whole.rows
    assert all(broken_row(whole.of(account), whole.heads.get(account)) is None for account in "AB")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_order_and_duplication_ends_in_the_same_balances(data):
    transfers = [recharge(f"r{k}", 100 + k) for k in range(5)] + [charge(f"c{k}", 10 + k) for k in range(5)]
    arrived = data.draw(st.permutations(transfers + data.draw(st.lists(st.sampled_from(transfers), max_size=6))))
    store = Store()
    store.post(*arrived)
    assert trial_balance(store.rows)[Book.BALANCE] == sum(100 + k - 10 - k for k in range(5))
