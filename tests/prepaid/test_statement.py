"""Statements, notices, and who is due."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.money import ChargeRow
from openami.prepaid import daily_statements, due_for_disconnection, load_notice_policies, low_balance, notice_text

MONEY = st.integers(-(10**12), 10**12)


def column(*values):
    return np.array(values, np.int64)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(MONEY, MONEY, MONEY, MONEY), min_size=1, max_size=9))
def test_opening_plus_recharges_less_charges_is_closing(rows):
    opening, recharges, first, second = (column(*values) for values in zip(*rows, strict=True))
    result = daily_statements(opening, recharges, np.stack([first, second]), ("energy", "subsidy"))
    assert result.closing_paise.tolist() == [a + b - c - d for a, b, c, d in rows]


def test_a_pending_account_is_charged_nothing_and_says_so():
    result = daily_statements(column(500, 500), column(0, 0), np.array([[100, 0]]), ("energy",), np.array([False, True]))
    assert result.closing_paise.tolist() == [400, 500]
    assert result.pending.tolist() == [False, True]


def test_a_pending_account_with_a_charge_is_refused():
    with pytest.raises(RequestError, match="account at position 1 is pending, yet it has a charge"):
        daily_statements(column(0, 0), column(0, 0), np.array([[1, 1]]), ("energy",), np.array([False, True]))


def test_charges_of_other_accounts_are_refused():
    with pytest.raises(RequestError, match=r"2 opening balances, but recharges are \(2,\) and charges \(1, 3\)"):
        daily_statements(column(0, 0), column(0, 0), np.zeros((1, 3), np.int64), ("energy",))


def test_charge_rows_leave_out_zeros():
    result = daily_statements(column(0, 0), column(0, 0), np.array([[5, 0], [-2, 0]]), ("energy", "subsidy"))
    day = date(2025, 10, 1)
    assert list(result.charge_rows(("A", "B"), day)) == [ChargeRow("A", day, "energy", 5), ChargeRow("A", day, "subsidy", -2)]


BR = load_notice_policies()["BR"]


@pytest.mark.parametrize(
    ("balance", "a_day", "told", "level", "send"),
    [
        (100_00, 10_00, -1, -1, False),  # ten days left
        (70_00, 10_00, -1, 0, True),  # seven days left
        (70_00, 10_00, 0, 0, False),  # told already
        (30_00, 10_00, 0, 1, True),  # three days left
        (0, 10_00, 1, 2, True),  # nothing left
        (-50_00, 10_00, -1, 2, True),  # the gravest level is told, not three at once
        (100_00, 0, -1, -1, False),  # no use: it lasts, and days cannot be said
        (-1, 0, -1, 2, True),
    ],
)
def test_bihar_levels(balance, a_day, told, level, send):
    result = low_balance(BR, column(balance), np.array([[a_day], [a_day]]), column(0), np.array([told], np.int8), np.array([True]))
    assert (int(result.level[0]), bool(result.send[0])) == (level, send)


def test_days_that_cost_nothing_do_not_make_a_balance_last():
    """The free units were used up yesterday: at 155.52 a day 1,864.87 lasts eleven days, not eighty-three."""
    recent = np.array([[155_52, 0, 20_00]] + [[0, 0, 0 if k % 2 else -10_00] for k in range(6)])
    result = low_balance(BR, column(1864_87, 1864_87, 30_00), recent, column(0, 0, 0), np.full(3, -1, np.int8), np.ones(3, bool))
    assert result.days_left.tolist() == [11, -1, -1], "nothing taken, and more given than taken: it cannot be said"


def test_percent_of_the_last_recharge():
    up = load_notice_policies()["UP"]
    balances = column(301_00, 300_00, 100_00, 0, 300_00)
    recharge = column(1000_00, 1000_00, 1000_00, 1000_00, 0)
    result = low_balance(up, balances, np.zeros((1, 5), np.int64), recharge, np.full(5, -1, np.int8), np.ones(5, bool))
    assert result.level.tolist() == [-1, 0, 1, 2, -1]


def test_a_postpaid_account_gets_no_notice():
    result = low_balance(BR, column(-100), np.array([[10]]), column(0), np.array([-1], np.int8), np.array([False]))
    assert result.level.tolist() == [-1]


def test_the_text_names_the_balance_and_the_days_in_both_languages():
    assert "₹70.00, enough for about 7 days" in notice_text(BR.levels[0], "en", 70_00, 7)
    assert "₹70.00 है, जो हाल की खपत के अनुसार लगभग 7 दिन" in notice_text(BR.levels[0], "hi", 70_00, 7)
    assert "low: ₹70.00" in notice_text(BR.levels[0], "en", 70_00, -1)


def test_due_is_below_the_floor_only_and_never_for_old_arrears():
    closing = column(-1_00, 0, -500_00, -500_00, -900_00, -900_00)
    prepaid = np.array([True, True, True, False, True, True])
    pending = np.array([False, False, False, False, True, False])
    arrears = column(0, 0, 0, 0, 0, 900_00)
    due = due_for_disconnection(closing, prepaid, pending, arrears)
    assert due.account.tolist() == [2, 0]
    assert due.shortfall_paise.tolist() == [500_00, 1_00]
    assert due_for_disconnection(closing, prepaid, pending, arrears, floor_paise=-300_00).account.tolist() == [2]
