"""The roll: what was known the day before comes into today's order; accounts are grouped as they are charged."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from openami.day.moved import Moved
from openami.day.roll import Before, Roll
from openami.registry import EPOCH


def roll(numbers: list[str], tariff: list[int], since: list[date]) -> Roll:
    count = len(numbers)
    days = np.array([(day - EPOCH).days for day in since], np.int32)
    zeros = np.zeros(count, np.int64)
    return Roll(
        pa.array(numbers), np.arange(count), zeros, np.ones(count, np.bool_), ("B", "A"), np.array(tariff, np.int32), days, days, zeros
    )


NUMBERS = pa.array(["a", "b", "c"])


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "x", "a"], []])
def test_yesterdays_numbers_in_todays_order(order: list[str]) -> None:
    rows = pa.table({"account": pa.array(order, pa.string()), "paise": pa.array([ord(n) for n in order], pa.int64())})
    before = Before(NUMBERS, rows)
    assert before.known.tolist() == [n in order for n in "abc"]
    assert before.column("paise", -1).tolist() == [ord(n) if n in order else -1 for n in "abc"]


def test_without_yesterday_everything_is_the_stated_value() -> None:
    before = Before(NUMBERS, None)
    assert before.known.tolist() == [False] * 3
    assert before.column("paise", 7).tolist() == [7, 7, 7]


def test_a_date_that_is_null_is_the_lowest_number() -> None:
    rows = pa.table({"account": ["c", "b", "a"], "since": pa.array([date(2025, 1, 2), None, EPOCH], pa.date32())})
    lowest = np.iinfo(np.int32).min
    assert Before(NUMBERS, rows).column("since", lowest).tolist() == [0, lowest, (date(2025, 1, 2) - EPOCH).days]


def test_accounts_as_dictionary_are_found_too() -> None:
    rows = pa.table({"account": pa.array(["b", "a"]).dictionary_encode(), "paise": [1, 2]})
    assert Before(NUMBERS, rows).column("paise", 0).tolist() == [2, 1, 0]


def test_who_began_before_the_segment_is_charged_together() -> None:
    first = date(2025, 12, 1)
    own = roll(["p", "q", "r", "s"], [0, 1, 1, 1], [date(2025, 12, 5), date(2020, 1, 1), first, date(2025, 12, 9)])
    found = [(name, start, at.tolist()) for name, start, _, at in own.groups(lambda name: first)]
    assert found == [("A", first, [1, 2]), ("A", date(2025, 12, 9), [3]), ("B", date(2025, 12, 5), [0])]


def test_what_moved_is_found_by_account_and_the_last_recharge_of_several_holds() -> None:
    own = roll(["p", "q", "r"], [0, 0, 0], [date(2025, 12, 5)] * 3)
    accounts, paise = pa.array(["q", "elsewhere", "q", "p", "q"]), np.array([100, 7, 200, -30, -5], np.int64)
    moved = Moved(accounts, paise, np.array([True, True, True, False, False]))
    assert moved.sums(own).tolist() == [-30, 295, 0]
    assert moved.recharges(own).tolist() == [0, 200, 0]
