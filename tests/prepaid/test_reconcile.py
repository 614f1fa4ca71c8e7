"""Differences between gateway, ledger and statements are all named, and nothing else is."""

from __future__ import annotations

import pytest

from openami.prepaid.ledger import reversal
from openami.prepaid.reconcile import Cause, GatewayRow, against_gateway

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
