"""Conversion either way keeps every rupee, and waits until the old account is settled; arrears are never taken at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.prepaid.conversion import Money, Settled, daily_instalment, instalments, to_postpaid, to_prepaid


def column(*values):
    return np.array(values, np.int64)


def money(balance=0, dues=0, arrears=0, deposit=0, credit=0):
    return Money(column(balance), column(dues), column(arrears), column(deposit), column(credit))


def settled(accounts=1, **changes):
    flags = dict.fromkeys(("old_balance", "deposit", "last_reading_billed", "no_payment_in_flight"), True) | changes
    return Settled(**{key: np.full(accounts, value) for key, value in flags.items()})


def test_a_credit_of_11954_rupees_is_the_opening_balance():
    """DOMAIN failure 1: it was not carried over, and supply was cut three days later."""
    result = to_prepaid(money(credit=11_954_00, deposit=500_00), settled())
    assert result.after.balance_paise.tolist() == [12_454_00]


def test_old_dues_become_arrears_and_never_a_negative_balance():
    result = to_prepaid(money(dues=3_000_00, deposit=500_00), settled())
    assert (result.after.balance_paise[0], result.after.arrears_paise[0], result.after.dues_paise[0]) == (0, 2_500_00, 0)


@pytest.mark.parametrize(
    ("missing", "cause"),
    [
        ("old_balance", "old balance not known"),
        ("deposit", "deposit not known"),
        ("last_reading_billed", "the old meter's last reading is not billed"),
        ("no_payment_in_flight", "a payment is under way"),
    ],
)
def test_nothing_is_converted_before_it_is_settled(missing, cause):
    before = money(credit=11_954_00)
    result = to_prepaid(before, settled(**{missing: False}))
    assert not result.converted[0]
    assert result.causes(0) == (cause,)
    assert result.after.credit_paise.tolist() == [11_954_00]


def test_a_negative_prepaid_balance_becomes_dues_and_arrears_stay_arrears():
    result = to_postpaid(money(balance=-800_00, arrears=300_00), settled())
    assert (result.after.balance_paise[0], result.after.dues_paise[0], result.after.arrears_paise[0]) == (0, 800_00, 300_00)


AMOUNT = st.integers(0, 10**10)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-(10**10), 10**10), AMOUNT, AMOUNT, AMOUNT, AMOUNT, st.booleans()), min_size=1, max_size=8))
def test_rupees_before_are_rupees_after_either_way_and_back(rows):
    balance, dues, arrears, deposit, credit, known = zip(*rows, strict=True)
    before = Money(column(*balance), column(*dues), column(*arrears), column(*deposit), column(*credit))
    flags = Settled(np.array(known), *(np.ones(len(rows), bool) for _ in range(3)))
    for first, second in ((to_prepaid, to_postpaid), (to_postpaid, to_prepaid)):
        there = first(before, flags)
        back = second(there.after, flags)
        assert there.after.rupees_paise.tolist() == before.rupees_paise.tolist()
        assert back.after.rupees_paise.tolist() == before.rupees_paise.tolist()
        assert there.converted.tolist() == list(known)


def test_ten_instalments_of_dues_and_four_of_the_deposit_add_up():
    assert instalments(column(1_000_03), 10)[:, 0].tolist() == [100_01] * 3 + [100_00] * 7
    assert instalments(column(1_500_00), 4).sum() == 1_500_00


def test_no_instalments_are_refused():
    with pytest.raises(RequestError, match="0 instalments"):
        instalments(column(1), 0)


def test_arrears_for_300_days_are_not_taken_at_once():
    """DOMAIN failure 5: after forty days on which nothing was taken, a day still takes at most the cap."""
    left, taken = column(3_000_00), []
    for missed in [40] + [0] * 3:
        today = daily_instalment(left, column(10_00), 25_00, column(missed))
        left = left - today
        taken.append(int(today[0]))
    assert taken == [25_00, 10_00, 10_00, 10_00]


@settings(max_examples=100, deadline=None)
@given(AMOUNT, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 400))
def test_an_instalment_is_never_above_cap_or_what_is_left(arrears, agreed, cap, missed):
    today = int(daily_instalment(column(arrears), column(agreed), cap, column(missed))[0])
    assert 0 <= today <= min(arrears, cap)
