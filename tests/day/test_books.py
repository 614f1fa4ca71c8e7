"""Statements in the lake and the ledger in SQL count the same money, and what a balance showed has one answer."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all, collect
from openami.day.books import note_totals, settle_charges, shown_balance_paise, untied
from openami.errors import DataError, RequestError
from openami.money import TransferRow
from openami.registry import PaymentMode
from openami.store.ledger import Ledger
from openami.store.ledger_conversion import convert
from openami.store.ledger_tables import control_total

from .sites import FIRST, make_site, make_town, pushes

SECOND = FIRST + timedelta(days=1)
NOON_S = 43_200


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return pushes(make_town())


@pytest.fixture
def site(tmp_path: Path, frames: list[bytes]) -> Site:
    site = make_site(tmp_path / "data", make_town(), frames)
    collect(site)
    close_all(site)
    return site


def statements(site: Site, day=SECOND) -> dict[str, dict[str, int]]:
    return {row["account"]: row for row in site.lake.read("statements", day, 0).to_pylist()}


def test_statements_and_ledger_tie_and_what_does_not_is_named(site: Site) -> None:
    assert untied(site, FIRST) == untied(site, SECOND) == []
    note_totals(site, SECOND, 1000)
    number = next(iter(statements(site)))
    site.rows.post([TransferRow("late", number, SECOND, "recharge", 5)])
    assert [(each.what, each.ledger_paise - each.statements_paise) for each in untied(site, SECOND)] == [(f"account {number}", 5)]


def test_a_close_notes_the_totals_of_its_day_once(site: Site) -> None:
    with site.rows.begin() as connection:
        noted = connection.execute(sa.select(control_total.c.day, control_total.c.shard, control_total.c.accounts).order_by("day")).all()
    assert [tuple(row) for row in noted] == [(day, 0, len(statements(site, day))) for day in (FIRST, SECOND)]
    assert [note_totals(site, day) for day in (FIRST, SECOND)] == [0, 0]


def test_charges_brought_in_put_the_ledger_where_the_statements_stand(site: Site) -> None:
    ledger = Ledger(site.rows.database)
    for through in (FIRST, SECOND, SECOND):
        settle_charges(site, through, 2_000_000_000)
    for number, row in statements(site).items():
        assert ledger.standing(number).balance_paise == row["closing_paise"]
    assert settle_charges(site, SECOND, 2_000_000_000) == 0
    assert list(ledger.broken()) == []
    assert untied(site, FIRST) == untied(site, SECOND) == []
    with pytest.raises(DataError, match="is not closed"):
        settle_charges(site, SECOND + timedelta(days=1))


def test_what_a_balance_showed_then(site: Site) -> None:
    number = next(iter(statements(site)))
    first, second = (statements(site, day)[number] for day in (FIRST, SECOND))
    start = site.calendar.day_start(FIRST)
    assert shown_balance_paise(site, number, start) == first["opening_paise"]
    assert shown_balance_paise(site, number, start + NOON_S) == first["opening_paise"] + first["recharges_paise"]
    assert shown_balance_paise(site, number, start + 86_400) == first["closing_paise"]
    assert shown_balance_paise(site, number, start + 86_400 + NOON_S) == first["closing_paise"] + second["recharges_paise"]
    note_totals(site, FIRST, start + 86_400 + 3600)  # told an hour after midnight only
    assert shown_balance_paise(site, number, start + 86_400) == first["opening_paise"] + first["recharges_paise"]
    assert shown_balance_paise(site, number, start + 86_400 + 3600) == first["closing_paise"]
    with pytest.raises(RequestError, match="no account 0"):
        shown_balance_paise(site, "0", start)


def test_a_town_goes_postpaid_with_its_last_readings_and_its_rupees(site: Site) -> None:
    database, third = site.rows.database, SECOND + timedelta(days=1)
    assert convert(database, "c", PaymentMode.POSTPAID, third, 2_000_000_000, who="clerk", why="order").converted == 0
    settle_charges(site, SECOND, 2_000_000_000)
    done = convert(database, "c", PaymentMode.POSTPAID, third, 2_000_000_001, who="clerk", why="order")
    assert done.finished
    assert done.rupees_before_paise == done.rupees_after_paise
    ledger = Ledger(database)
    for number, row in statements(site).items():
        assert (ledger.standing(number).balance_paise, ledger.standing(number).dues_paise) == (0, row["closing_paise"])


def test_the_clerks_commands(site: Site) -> None:
    data, number = ["--data", str(site.folder.root)], next(iter(statements(site)))

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*words, *data])
        return result.exit_code, result.stdout

    assert run("ledger", "check")[1].endswith("everything ties\n")
    assert run("ledger", "note")[1] == "0 totals noted\n", "the close has noted them"
    assert "rows posted" in run("ledger", "settle", "--through", str(SECOND))[1]
    code, told = run("ledger", "show", number, "--at", f"{FIRST}T14:05", "--json")
    first = statements(site, FIRST)[number]
    assert (code, json.loads(told)["shown_paise"]) == (0, first["opening_paise"] + first["recharges_paise"])
    assert run("ledger", "show", number)[1].count("charges") >= 1
    words = ("ledger", "convert", "c1", "--to", "postpaid", "--day", str(SECOND + timedelta(days=1)), "--who", "clerk", "--why", "order 7")
    assert run(*words)[1].startswith("20 converted, 0 not")
    file = site.folder.root / "day.csv"
    file.write_text("payment_id,account,amount_paise\np1,1,5\n")
    code, told = run("payments", "reconcile", str(file), "--gateway", "upi", "--day", str(FIRST))
    assert (code, told.splitlines()[-1]) == (1, "1 payments in the file, 1 differences")
