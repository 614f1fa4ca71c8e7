"""Postpaid: due dates, surcharge and interest by days, the deposit under protest."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import InputError, RequestError
from openami.money import round_half_up
from openami.prepaid.postpaid import deposit_interest, due_on, issue_by, late_surcharge, postpaid_policy, protest_deposit

UP = postpaid_policy("UP", date(2026, 6, 1))


def column(*values):
    return np.array(values, np.int64)


def test_a_bill_of_may_is_issued_by_the_tenth_of_june_and_due_fifteen_days_later():
    issued = issue_by(UP, date(2026, 6, 1))
    assert (issued, due_on(UP, issued)) == (date(2026, 6, 10), date(2026, 6, 25))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**11), st.integers(-5, 36_500))
def test_surcharge_and_interest_are_exact(amount, days):
    counted = max(days, 0)
    for got, share in (
        (late_surcharge(UP, column(amount), column(days)), Fraction(1250, 100_000 * 30)),
        (deposit_interest(UP, column(amount), column(days)), Fraction(6000, 100_000 * 365)),
    ):
        exact = amount * counted * share
        assert int(got[0]) == round_half_up(exact.numerator, exact.denominator)


def test_the_deposit_under_protest_is_the_lesser_of_claim_and_six_months_average():
    bills = np.array([[100, 100], [100, 100], [100, 100], [100, 100], [100, 100], [103, 103]])
    assert protest_deposit(column(5000, 40), bills).tolist() == [101, 40]  # 603 / 6 = 100.5


def test_five_months_of_bills_are_refused():
    with pytest.raises(RequestError, match="give the last six months"):
        protest_deposit(column(1), np.zeros((5, 1), np.int64))


def test_an_unknown_policy_or_day_is_refused():
    with pytest.raises(InputError, match="no postpaid policy 'XX'; known are BR, UP"):
        postpaid_policy("XX", date(2026, 6, 1))
    with pytest.raises(InputError, match="UP holds from 2026-05-01 until 2027-04-01, not on 2025-01-01"):
        postpaid_policy("UP", date(2025, 1, 1))
