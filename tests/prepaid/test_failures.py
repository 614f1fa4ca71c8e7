"""The failures that people met, on the side of the money: the text tables of tests/cases/prepaid/failures.txt."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from openami.billing import bill, load_tariffs, segment
from openami.billing.charge import adjustment
from openami.billing.explain import Account, explain_day
from openami.billing.tariff import Condition, PerUnit, Slab
from openami.prepaid.conversion import Money, Settled, daily_instalment, instalments, to_postpaid, to_prepaid

TABLES = Path(__file__).parent.parent / "cases" / "prepaid" / "failures.txt"
NAMES = ("convert", "instalment", "parts", "adjust", "day")
BOOKS = ("balance", "dues", "arrears", "deposit", "credit")


def rows(table):
    """The rows of a table by column name; a line of one word opens a table, its next line names the columns."""
    current, header = "", []
    for line in TABLES.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("#") or not line.strip():
            continue
        if len(cells) == 1:
            current, header = line.strip(), []
        elif current == table:
            if header:
                yield dict(zip(header, cells, strict=True))
            header = header or cells


def named(table):
    return [pytest.param(row, id=f"{row['failure']} {row['note']}"[:60]) for row in rows(table)]


def paise(text):
    return int(Decimal(text) * 100)


def column(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("row", named("convert"))
def test_converted(row):
    money = Money(*(column(paise(row[book])) for book in BOOKS))
    flags = {name: np.array([row["lacks"] != name]) for name in ("old_balance", "deposit", "last_reading_billed", "no_payment_in_flight")}
    result = (to_prepaid if row["to"] == "prepaid" else to_postpaid)(money, Settled(**flags))
    assert bool(result.converted[0]) is (row["lacks"] == "-")
    assert [int(getattr(result.after, f"{book}_paise")[0]) for book in BOOKS] == [paise(row[f"{book}'"]) for book in BOOKS]
    assert result.after.rupees_paise.tolist() == money.rupees_paise.tolist()


@pytest.mark.parametrize("row", named("instalment"))
def test_taken_for_arrears(row):
    taken = daily_instalment(column(paise(row["arrears"])), column(paise(row["a day"])), paise(row["cap"]), column(int(row["days missed"])))
    assert taken.tolist() == [paise(row["taken"])]


@pytest.mark.parametrize("row", named("parts"))
def test_asked_for_in_parts(row):
    parts = instalments(column(paise(row["amount"])), int(row["parts"]))[:, 0].tolist()
    assert (parts[0], parts[-1], sum(parts)) == (paise(row["first"]), paise(row["last"]), paise(row["amount"]))


@pytest.mark.parametrize("row", named("adjust"))
def test_put_right(row):
    part = segment(load_tariffs(), "TN-HT1", date(2025, 10, 31))
    (energy,) = (line for line in part.tariff.lines if line.name == "energy")

    def billed(rate):
        own = replace(energy, rule=PerUnit((Slab(None, paise(rate) * 1000),), whole=False), when=Condition())
        tariff = replace(part.tariff, lines=(own,))
        units = column(int(row["units"]) * 1000)[None, :]
        return bill(tariff, units, 31, 31, column(1000), np.array([False]))

    assert adjustment(billed(row["right rate"]), billed(row["billed rate"])).total_paise.tolist() == [paise(row["posted"])]


@pytest.mark.parametrize("row", named("day"))
def test_a_days_cost_says_what_was_passed(row):
    day = date(2025, 10, int(row["day"]))
    wh = [int(row[name]) * 1000 for name in ("units before", "today")]
    tree = explain_day(segment(load_tariffs(), "KL-LT1A", day), day, Account((wh[0],), (wh[1],), (0,), 2000, prepaid=False))
    passed = [dict(node.quantities)["limit_wh"] // 1000 for node in tree.children if node.code.startswith("crossed.")]
    assert tree.amount_paise == paise(row["costs"])
    assert sorted(set(passed)) == ([] if row["passes"] == "-" else [int(row["passes"])])


def test_every_failure_has_its_tables():
    """All ten: here, or in the guard's table."""
    here = {row["failure"] for name in NAMES for row in rows(name)}
    guard = (TABLES.parents[1] / "control" / "failures.txt").read_text("utf-8")
    there = {line.rsplit("|", 1)[1].split(":")[0].strip() for line in guard.splitlines() if line.count("|") == 4}
    assert {str(k) for k in range(1, 11)} <= here | there
    assert here == {"1", "4", "5", "6", "7", "8", "10"}
