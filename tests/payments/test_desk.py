"""The desk: one payment is one posting, whatever is said of it, how often and in which order."""

from __future__ import annotations

import itertools
from datetime import date

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.payments.daily_file import reconcile
from openami.payments.desk import PaymentDesk
from openami.payments.event import Event, Kind, State, meaning
from openami.prepaid.ledger import Book, Transfer
from openami.prepaid.recharge import recharge_policy
from openami.registry import PaymentMode
from openami.store.ledger import Ledger
from openami.store.ledger_bulk import settle
from openami.store.ledger_conversion import convert
from openami.store.sql import Database

from .conftest import NOW, START, Clock, add_accounts, event


def posted(desk: PaymentDesk, account: str = "A") -> list[tuple[str, str, int]]:
    return [(r.transfer.transfer_id, r.transfer.kind, r.transfer.amount_paise) for r in desk.ledger.rows(account)]


def sound(ledger: Ledger) -> bool:
    return list(ledger.broken()) == [] and sum(ledger.trial_balance().values()) == 0


def test_a_payment_is_posted_once_by_whatever_it_is_told(desk: PaymentDesk) -> None:
    assert [desk.take(event()).result, desk.take(event()).result] == ["taken", "already"]
    assert desk.take(event(2)).result == "taken"  # told again under another id: known, and posted already
    assert posted(desk) == [("upi:p1", "recharge", 500_00)]
    assert desk.state("upi", "p1") is State.PAID
    assert sound(desk.ledger)


def test_a_payment_counts_for_the_local_day_on_which_we_know_it(desk: PaymentDesk, clock: Clock) -> None:
    desk.take(event(1, "p1"))
    clock.now_s += 600
    desk.take(event(2, "p2"))
    assert [row.transfer.day for row in desk.ledger.rows("A")] == [date(2025, 12, 2), date(2025, 12, 3)]


def test_what_is_told_again_on_another_day_is_not_posted_again(desk: PaymentDesk, clock: Clock) -> None:
    desk.take(event(1))
    clock.now_s += 86_400
    assert desk.take(event(2)).result == "taken"
    assert len(posted(desk)) == 1


def test_a_reversal_that_comes_first_waits_for_its_payment(desk: PaymentDesk) -> None:
    assert desk.take(event(2, kind=Kind.REVERSED)).state is State.PENDING
    assert posted(desk) == []
    assert desk.take(event(1)).state is State.REVERSED
    assert [kind for _, kind, _ in posted(desk)] == ["recharge", "reversal"]
    assert desk.ledger.standing("A").balance_paise == 0


def test_paid_after_failed_is_paid_and_failed_after_paid_is_nothing(desk: PaymentDesk) -> None:
    assert desk.take(event(1, kind=Kind.FAILED)).state is State.FAILED
    assert desk.take(event(2)).state is State.PAID
    assert desk.take(event(3, kind=Kind.FAILED)).state is State.PAID
    assert len(posted(desk)) == 1


def test_a_postpaid_account_pays_its_dues(desk: PaymentDesk) -> None:
    desk.take(event(account="P"))
    standing = desk.ledger.standing("P")
    assert (standing.balance_paise, standing.dues_paise) == (0, 500_00)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (event(2, "p2", account="nobody"), "account"),
        (event(2, paise=500_01), "amount"),
        (event(2, account="B"), "conflict"),
        (event(1, paise=1), "conflict"),
        (event(1, "p2"), "conflict"),
    ],
    ids=["unknown account", "wrong amount", "wrong account", "event id with another amount", "event id of another payment"],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_posted(desk: PaymentDesk, told: Event, cause: str) -> None:
    desk.start("upi", "p1", "A", 500_00)
    desk.take(event(1))
    outcome = desk.take(told)
    assert (outcome.result, outcome.cause) == ("refused", cause)
    assert posted(desk) == [("upi:p1", "recharge", 500_00)]
    assert posted(desk, "B") == []


def test_a_payment_in_another_amount_than_asked_for_is_refused(desk: PaymentDesk) -> None:
    desk.start("upi", "p1", "A", 499_00)
    assert desk.take(event()).cause == "amount"
    assert desk.state("upi", "p1") is State.PENDING
    assert posted(desk) == []


def test_a_refused_event_stops_none_of_its_batch(desk: PaymentDesk) -> None:
    results = desk.take_all([event(1, "p1"), event(2, "p2", account="nobody"), event(3, "p3", account="B")])
    assert [o.result for o in results] == ["taken", "refused", "taken"]


def test_what_follows_from_a_payment_stands_or_falls_with_it(desk: PaymentDesk, clock: Clock) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    broken = PaymentDesk(desk.database, "Asia/Kolkata", after_posting=fail, now_s=clock)
    with pytest.raises(ZeroDivisionError):
        broken.take(event())
    assert posted(desk) == []
    assert desk.take(event()).result == "taken"


# Asking


def test_asking_for_the_same_payment_twice_asks_once(desk: PaymentDesk) -> None:
    assert [desk.start("upi", "p1", "A", 5) for _ in range(2)] == [State.PENDING] * 2
    assert desk.open_payments("upi", NOW) == [("p1", "A", 5)]
    with pytest.raises(RequestError, match="used for something else"):
        desk.start("upi", "p1", "A", 6)


@pytest.mark.parametrize(
    ("account", "paise", "why"),
    [("nobody", 100_00, "no such account"), ("A", 0, "amount"), ("A", -5, "amount"), ("A", 99_00, "smallest"), ("A", 150_00, "steps")],
)
def test_a_payment_that_would_not_be_accepted_is_not_asked_for(desk: PaymentDesk, account: str, paise: int, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        desk.start("upi", "p1", account, paise, recharge_policy("KA"))
    assert desk.open_payments("upi", NOW) == []


def test_what_there_is_to_pay(desk: PaymentDesk) -> None:
    found = desk.payable("A")
    assert (found.name, found.amount_paise, found.bill_id) == ("A*** D***", 0, "")
    with pytest.raises(RequestError, match="no account Z"):
        desk.payable("Z")


# Refunds


def test_no_more_is_refunded_than_was_paid(desk: PaymentDesk) -> None:
    desk.take(event())
    for _ in range(2):
        desk.refund("upi", "p1", "f1", 200_00)
    with pytest.raises(RequestError, match="30000 of 50000 are left"):
        desk.refund("upi", "p1", "f2", 300_01)
    with pytest.raises(RequestError, match="are left"):
        desk.refund("upi", "p1", "f1", 100_00)
    with pytest.raises(RequestError, match="not posted"):
        desk.refund("upi", "p9", "f1", 1)
    assert desk.ledger.standing("A").balance_paise == 300_00


@pytest.mark.parametrize("refund_id", ["reversed", "", "a:b"])
def test_a_refund_takes_no_other_rows_id(desk: PaymentDesk, refund_id: str) -> None:
    desk.take(event())
    with pytest.raises(RequestError, match="ids have no"):
        desk.refund("upi", "p1", refund_id, 100_00)
    desk.take(event(2, kind=Kind.REVERSED))
    assert posted(desk) == [("upi:p1", "recharge", 500_00), ("upi:p1:reversed", "reversal", 500_00)]


@pytest.mark.parametrize(("account", "paise", "cause"), [("A", 500_00, ""), ("A", 400_00, "conflict"), ("B", 500_00, "conflict")])
def test_what_a_clerk_posted_under_a_payments_id_is_it_or_stands_in_its_way(
    desk: PaymentDesk, account: str, paise: int, cause: str
) -> None:
    desk.ledger.post_all([Transfer("upi:p1", account, START, "recharge", Book.GATEWAY, Book.BALANCE, paise)])
    outcomes = desk.take_all([event(), event(2, "p2", account="P")])
    assert [outcome.cause for outcome in outcomes] == [cause, ""]  # and its neighbour is taken
    assert posted(desk, account) == [("upi:p1", "recharge", paise)]


def test_a_reversal_takes_back_only_what_was_not_refunded(desk: PaymentDesk) -> None:
    desk.take(event())
    desk.refund("upi", "p1", "f1", 200_00)
    desk.take(event(2, kind=Kind.REVERSED))
    desk.take(event(3, kind=Kind.REVERSED))
    assert desk.ledger.standing("A").balance_paise == 0
    assert sound(desk.ledger)


def test_after_a_conversion_a_payment_is_taken_back_from_the_book_that_has_its_money(desk: PaymentDesk, database: Database) -> None:
    desk.take(event())
    settle(database, date(2025, 12, 31), ["A"], np.zeros(1, np.int64), NOW)
    assert convert(database, "C", PaymentMode.POSTPAID, date(2026, 1, 1), NOW + 1, who="w", why="y", numbers=["A"]).converted == 1
    desk.take(event(2, kind=Kind.REVERSED))
    standing = desk.ledger.standing("A")
    assert (standing.balance_paise, standing.dues_paise) == (0, 0)
    assert sound(desk.ledger)
    assert reconcile(database, "upi", date(2025, 12, 2), []) == []


# Any order

KINDS = st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=4)
NUMBER = itertools.count()


@given(KINDS, st.randoms(use_true_random=False))
def test_the_meaning_does_not_depend_on_the_order(kinds, rng):
    shuffled = kinds + rng.sample(kinds, rng.randrange(len(kinds)))
    rng.shuffle(shuffled)
    assert meaning(shuffled) is meaning(kinds)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payments=st.lists(st.tuples(st.integers(1, 10**7), KINDS), min_size=1, max_size=4), rng=st.randoms(use_true_random=False))
def test_any_order_duplication_and_delay_ends_in_the_same_balance(desk: PaymentDesk, clock: Clock, payments, rng) -> None:
    number = f"H{next(NUMBER)}"
    add_accounts(desk.database, number)
    said = [
        Event("upi", f"{number}-{k}-{n}", f"{number}-{k}", kind, number, paise, NOW)
        for k, (paise, kinds) in enumerate(payments)
        for n, kind in enumerate(kinds)
    ]
    arrived = said + rng.sample(said, rng.randrange(len(said)))
    rng.shuffle(arrived)
    while arrived:
        batch, arrived = arrived[: (size := rng.randint(1, 4))], arrived[size:]
        clock.now_s += rng.randint(0, 90_000)
        assert all(outcome.result in ("taken", "already") for outcome in desk.take_all(batch))
        assert sum(desk.ledger.trial_balance().values()) == 0
    want = sum(paise for paise, kinds in payments if meaning(kinds) is State.PAID)
    assert desk.ledger.standing(number).balance_paise == want
    assert list(desk.ledger.broken()) == []
