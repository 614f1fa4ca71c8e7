"""Differences between gateway, ledger and statements are all named, and nothing else is."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from openami.errors import RequestError
from openami.prepaid.ledger import reversal
from openami.prepaid.reconcile import Cause, GatewayRow, against_gateway, against_statements

from .test_ledger import DAY, Store, charge, recharge


def test_what_agrees_is_not_listed():
    store = Store()
    store.post(recharge("p1", 100), charge("c1", 30))
    assert against_gateway([GatewayRow("p1", "A", 100)], store.rows) == []


@pytest.mark.parametrize(
    ("file", "cause", "theirs", "ours"),
    [
        ([GatewayRow("p1", "A", 100), GatewayRow("p2", "A", 50)], Cause.NOT_POSTED, 50, None),
        ([], Cause.NOT_AT_GATEWAY, None, 100),
        ([GatewayRow("p1", "A", 90)], Cause.AMOUNT, 90, 100),
        ([GatewayRow("p1", "B", 100)], Cause.ACCOUNT, 100, 100),
        ([GatewayRow("p1", "A", 100), GatewayRow("p1", "A", 100)], Cause.TWICE_IN_FILE, 100, None),
    ],
)
def test_each_difference_is_named_with_both_amounts(file, cause, theirs, ours):
    store = Store()
    store.post(recharge("p1", 100))
    assert [(d.cause, d.theirs_paise, d.ours_paise) for d in against_gateway(file, store.rows)] == [(cause, theirs, ours)]


def test_a_payment_that_was_taken_back_here():
    store = Store()
    store.post(recharge("p1", 100), reversal(recharge("p1", 100), "v1", DAY))
    assert [d.cause for d in against_gateway([GatewayRow("p1", "A", 100)], store.rows)] == [Cause.REVERSED_HERE]
    assert against_gateway([], store.rows) == []


def test_statements_tie_to_the_ledger():
    store = Store()
    store.post(recharge("p1", 100), recharge("p2", 50, account="B"), charge("c1", 30), recharge("p3", 7, day=date(2025, 10, 4)))
    assert against_statements(["A", "B"], np.array([100, 50]), store.rows, DAY) == []
    assert against_statements(["A", "B"], np.array([100, 40]), store.rows, DAY) == [("B", 40, 50)]
    assert against_statements(["A"], np.array([100]), store.rows, DAY) == [("B", 0, 50)]


def test_recharges_of_other_accounts_are_refused():
    with pytest.raises(RequestError, match=r"2 accounts, but recharges are \(1,\)"):
        against_statements(["A", "B"], np.array([1]), [], DAY)
