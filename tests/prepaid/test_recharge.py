"""Recharges and part payments: the text tables of tests/cases/prepaid/recharge.txt."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from openami.errors import InputError
from openami.prepaid.recharge import FOR_GOOD, recharge_policy, reconnected_days, refused

TABLES = Path(__file__).parent.parent / "cases" / "prepaid" / "recharge.txt"


def rows(table):
    current = ""
    for line in TABLES.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 1:
            current = line.strip() if line.strip() in {"accept", "reconnect"} else current
        elif current == table and cells[0] != "policy":
            yield cells


def paise(text):
    return int(Decimal(text) * 100)


@pytest.mark.parametrize(("policy", "amount", "use", "cause", "note"), list(rows("accept")))
def test_accepted_or_refused(policy, amount, use, cause, note):
    assert refused(recharge_policy(policy), paise(amount), None if use == "-" else paise(use)) == cause, note


@pytest.mark.parametrize(("policy", "owed", "paid", "had", "days", "note"), list(rows("reconnect")))
def test_reconnected_for(policy, owed, paid, had, days, note):
    expected = FOR_GOOD if days == "for good" else int(days)
    assert reconnected_days(recharge_policy(policy), paise(owed), paise(paid), had == "yes") == expected, note


def test_the_tables_are_read():
    assert (len(list(rows("accept"))), len(list(rows("reconnect")))) == (9, 10)


def test_an_unknown_policy_names_those_that_are_known():
    with pytest.raises(InputError, match="no recharge policy 'XX'; known are BR, KA, UP, WB"):
        recharge_policy("XX")
