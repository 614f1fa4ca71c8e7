"""AT&C loss by year's method, and the quarterly account: sums to the kWh and paisa, doubts said, nothing clamped that the method does not clamp."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import InputError
from openami.losses.atc import Books, atc, load_methods, method_of, together
from openami.losses.quarterly import COLUMNS, FeederBooks, Quarter, quarterly_account

OLD, NEW = method_of(2019), method_of(2024)
PLAIN = Books(purchased=1_000, sold=800, revenue=500_000, debtors_open=100_000, debtors_close=150_000, metered_kwh=760, spread_kwh=10)


def test_the_formula_by_hand():
    """BE = 800 / 1000, CE = (500000 + 100000 - 150000) / 500000 = 0.9: AT&C = 1 - 0.72."""
    found = atc(PLAIN, NEW)
    assert found.billing_efficiency == pytest.approx(0.8)
    assert found.collection_efficiency == pytest.approx(0.9)
    assert found.percent == pytest.approx(28.0)
    assert found.coverage == pytest.approx(0.95)
    assert (found.low, found.high) == (pytest.approx(27.1), pytest.approx(28.9))  # 10 kWh of 1000, at 0.9


def test_arrears_collected_lift_the_efficiency_above_one_only_where_the_method_lets_them():
    collected = replace(PLAIN, debtors_close=0)
    assert atc(collected, OLD).collection_efficiency == 1.0
    assert atc(collected, NEW).collection_efficiency == pytest.approx(1.2)
    assert atc(collected, OLD).collection_uncapped == pytest.approx(1.2)
    assert atc(collected, NEW).percent == pytest.approx((1 - 0.8 * 1.2) * 100)


def test_open_access_is_left_out_since_2022():
    wheeling = replace(PLAIN, purchased=1_200, sold=1_000, open_access=200)
    assert atc(wheeling, OLD).billing_efficiency == pytest.approx(1000 / 1200)
    assert atc(wheeling, NEW).billing_efficiency == pytest.approx(0.8)


def test_subsidy_counts_when_it_is_received():
    owed = replace(PLAIN, subsidy_booked=100_000, subsidy_received=40_000, subsidy_arrears=30_000, debtors_open=0, debtors_close=0)
    assert atc(owed, OLD).realised_paise == 440_000
    assert atc(owed, NEW).realised_paise == 470_000


def test_methods_by_year():
    assert method_of(2021).collection_capped
    assert not method_of(2023).collection_capped
    assert all(m.verify for m in load_methods())
    with pytest.raises(InputError, match="no AT&C method is known for 2001-02"):
        method_of(2001)


@pytest.mark.parametrize(
    ("books", "said"),
    [
        (Books(0, 0, 0), "no AT&C loss can be told"),
        (Books(100, 120, 1), "comes from elsewhere"),
        (Books(100, 80, 10, subsidy_booked=11), "more subsidy"),
        (Books(100, 80, 10, metered_kwh=81), "more energy is metered"),
        (Books(100, 80, 10, written_off=-5), "written_off is negative"),
    ],
)
def test_odd_books_are_doubted_not_refused(books, said):
    assert any(said in doubt for doubt in atc(books, NEW).doubts)


def test_more_sold_than_bought_is_not_clamped():
    percent = atc(Books(100, 120, 1_000), NEW).percent
    assert percent is not None
    assert percent < 0


books_strategy = st.builds(Books, *(st.integers(0, 10**9) for _ in range(15)))


@given(st.lists(books_strategy, min_size=1, max_size=6))
def test_a_parent_is_the_sum_of_its_children_in_any_order(parts):
    assert together(parts) == together(reversed(parts))
    assert together(parts).sold == sum(p.sold for p in parts)


FEEDERS = [
    FeederBooks("F1", "North", PLAIN, 100, {"domestic": 700, "agriculture": 100}),
    FeederBooks("F2", "North", replace(PLAIN, purchased=2_000), 50, {"domestic": 800}),
    FeederBooks("F3", "South", replace(PLAIN, revenue=0), 10, {"industry": 800}),
]


def tables(text: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[]]
    for row in csv.reader(text.splitlines()):
        if row:
            found[-1].append(row)
        else:
            found.append([])
    return found


def test_the_quarterly_account_adds_up():
    head, entities, categories = tables(quarterly_account("D", Quarter(2025, 4), FEEDERS, NEW))
    assert ["due", "2026-05-15"] in head
    assert entities[0] == list(COLUMNS)
    rows = {(r[0], r[1]): dict(zip(COLUMNS, r, strict=True)) for r in entities[1:]}
    assert [key[0] for key in rows] == ["discom", "division", "feeder", "feeder", "division", "feeder"]
    assert int(rows["division", "North"]["input_kwh"]) == 3_000
    assert int(rows["discom", "D"]["input_kwh"]) == 4_000
    assert rows["feeder", "F1"]["atc_percent"] == "28.00"
    assert rows["feeder", "F3"]["atc_percent"] == ""
    assert "no revenue" in rows["feeder", "F3"]["doubts"]
    assert categories[1:] == [["agriculture", "100", "4.17"], ["domestic", "1500", "62.50"], ["industry", "800", "33.33"]]


def test_categories_that_do_not_add_up_are_said():
    text = quarterly_account("D", Quarter(2025, 1), [replace(FEEDERS[0], category_kwh={"domestic": 1})], NEW)
    assert "categories add up to 1 kWh" in text


def test_bad_accounts_are_refused():
    with pytest.raises(InputError, match="F1 stands more than once"):
        quarterly_account("D", Quarter(2025, 1), [FEEDERS[0], FEEDERS[0]], NEW)
    with pytest.raises(InputError, match="no feeder"):
        quarterly_account("D", Quarter(2025, 1), [], NEW)
    with pytest.raises(InputError, match="no quarter 5"):
        Quarter(2025, 5)


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [
        (1, date(2025, 4, 1), date(2025, 6, 30)),
        (2, date(2025, 7, 1), date(2025, 9, 30)),
        (3, date(2025, 10, 1), date(2025, 12, 31)),
        (4, date(2026, 1, 1), date(2026, 3, 31)),
    ],
)
def test_quarters_of_the_financial_year(number, first, last):
    assert (Quarter(2025, number).first, Quarter(2025, number).last) == (first, last)
