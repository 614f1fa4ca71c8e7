"""Every account's every day is derived to the paisa: months, tariffs and payment modes that change, exports, demand, late readings, gaps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from openami.billing.tree import Node
from openami.day import Site, close_all
from openami.day.books import settle_charges
from openami.day.why import Why, why
from openami.errors import DataError, InputError
from openami.readings import MISSING
from openami.registry import PaymentMode
from openami.store.heard import Heard, RegisterReading
from openami.store.ledger_conversion import convert

from .homes import Home, even, number, read, site_of, told

FIRST = date(2026, 3, 30)
DAYS = [FIRST + timedelta(days=k) for k in range(4)]
"""The month and Bihar's tariff change between the second day and the third."""
POSTPAID = PaymentMode.POSTPAID
HOMES = [
    Home("BR-DS2", opening_paise=500_00),
    Home("BR-DS2-TOU", 12_000, opening_paise=-3_00),
    Home("KL-LT1A", 2000, POSTPAID),
    Home("TN-HT1", 10_000, POSTPAID),
    Home("BR-NDS2", 3000),
    Home("BR-DS1", 0),
]
LATE, GAPPY, CONVERTED, UNKNOWN_LOAD = 0, 1, 4, 5
SOLAR = [Home("OD-DOM", 11_000), Home("GJ-RGP", 3000), Home("GJ-RGP", 3000, POSTPAID)]
MARCH = [date(2026, 3, 29) + timedelta(days=k) for k in range(3)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Home LATE told six hours of the second day only after it was closed; GAPPY lacks an hour; CONVERTED went to postpaid on the third day."""
    site = site_of(tmp_path_factory.mktemp("why") / "data", HOMES, FIRST, len(DAYS))
    whole = even(300, 900, 400, 3900, 290, 200)
    late = whole.copy()
    late[30:42, LATE] = MISSING
    late[10:12, GAPPY] = MISSING
    for k, day in enumerate(DAYS):
        read(site, day, {"import_wh": late if k == 1 else whole, "import_vah": whole + 10})
        if k == 2:
            settle_charges(site, DAYS[1])
            who = {"who": "clerk", "why": "order 7", "numbers": [number(CONVERTED)]}
            assert convert(site.rows.database, "c7", POSTPAID, day, 1_774_000_000, **who).finished
            come = late.copy()
            come[:, LATE] = whole[:, LATE] + 40  # more than was estimated
            close_all(site, days=[day])
            read(site, DAYS[1], {"import_wh": come, "import_vah": whole + 10})
        close_all(site, days=DAYS[: k + 1])
    midnight = site.calendar.day_start(DAYS[0])
    Heard(site.rows).note(
        registers=[
            RegisterReading("daily", midnight + 86_400 * k, "M2", 1_000_000 + k * int(whole[:, 2].sum()), None, None, None, "{}", 0, "pull")
            for k in (0, 1)
        ]
    )
    return site


@pytest.fixture(scope="module")
def solar(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = site_of(tmp_path_factory.mktemp("solar") / "data", SOLAR, MARCH[0], 3)
    for day in MARCH:
        read(site, day, {"import_wh": even(100, 300, 300), "export_wh": even(200, 0, 0)})
    close_all(site)
    return site


def all_of(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from all_of(child)


def codes(found: Why) -> set[str]:
    return {node.code for node in all_of(found.tree)}


def ties(site: Site, k: int, day: date) -> Why:
    found = why(site, number(k), day)
    row = told(site, "statements", day, k)
    assert found.tree.amount_paise == int(row["opening_paise"]) + int(row["recharges_paise"]) - int(row["closing_paise"])
    for node in all_of(found.tree):
        assert not node.children or node.amount_paise == sum(child.amount_paise for child in node.children), node.code
    return found


@pytest.mark.parametrize("day", DAYS, ids=str)
@pytest.mark.parametrize("k", range(len(HOMES)), ids=[home.tariff for home in HOMES])
def test_any_accounts_any_day_sums_to_its_statement(site: Site, k: int, day: date) -> None:
    found = ties(site, k, day)
    assert (found.change is None) is (day == FIRST or k == UNKNOWN_LOAD)
    if found.change is not None:
        before = why(site, number(k), day - timedelta(days=1))
        assert found.charge is not None
        assert before.charge is not None
        assert found.change.amount_paise == found.charge.amount_paise - before.charge.amount_paise


@pytest.mark.parametrize("day", MARCH, ids=str)
@pytest.mark.parametrize("k", range(len(SOLAR)))
def test_net_metered_and_time_of_use_days_sum_too(solar: Site, k: int, day: date) -> None:
    found = ties(solar, k, day)
    if k == 0:
        assert {"netting.normal", "netting.solar", "netting.peak"} <= codes(found)
        assert ("settlement.bank" in codes(found)) is (day == MARCH[2])
    else:
        assert any(code.startswith("time_of_use.hours.") for code in codes(found))


def test_a_day_put_right_later_shows_both_what_was_told_and_what_is_known(site: Site) -> None:
    found = ties(site, LATE, DAYS[1])
    assert {"as_told", "posted_later"} <= codes(found)
    assert "adjustments" in codes(ties(site, LATE, DAYS[3]))
    (later,) = (node for node in all_of(found.tree) if node.code == "posted_later")
    (posted,) = (node for node in all_of(why(site, number(LATE), DAYS[3]).tree) if node.code == "adjustments")
    assert later.amount_paise == -posted.amount_paise
    assert len(posted.children) > 1


def test_estimates_and_registers_are_named(site: Site) -> None:
    assert "readings.estimated_linear" in codes(ties(site, GAPPY, DAYS[1]))
    (register,) = (node for node in all_of(ties(site, 2, FIRST).tree) if node.code == "readings.register")
    assert "1000 -> " in register.en
    assert "मध्यरात्रि" in register.hi


def test_the_part_that_a_day_is_billed_in_and_the_mode_are_those_of_that_day(site: Site) -> None:
    before, after = ties(site, CONVERTED, DAYS[1]), ties(site, CONVERTED, DAYS[3])
    assert [one.payment_mode for one in (before, after)] == [PaymentMode.PREPAID, PaymentMode.POSTPAID]
    words = {one.day: next(node.en for node in all_of(one.tree) if node.code == "tariff") for one in (before, after)}
    assert "2026-03-01 - 2026-03-31; prepaid" in words[DAYS[1]]
    assert "2026-04-01 - 2026-04-30; postpaid" in words[DAYS[3]]


def test_without_a_load_it_says_why_nothing_is_charged(site: Site) -> None:
    found = ties(site, UNKNOWN_LOAD, DAYS[1])
    assert (found.tree.amount_paise, found.charge) == (0, None)
    assert "pending" in codes(found)


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "hi"])
def test_text_json_and_html_hold_every_step(site: Site, language: str) -> None:
    found = why(site, number(1), DAYS[1])
    steps = [getattr(node, language) for node in all_of(found.tree)]
    assert all(step in found.text(language) for step in steps)
    assert json.loads(json.dumps(found.to_json()))["taken"]["amount_paise"] == found.tree.amount_paise
    page = Balanced()
    page.feed(found.html(language))
    assert page.open == []
    assert found.html(language).count("<li>") >= len(steps)


def test_what_does_not_follow_is_not_told(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's load was put right, and with it the statement's: no load makes what was charged."""
    stored = site.lake.row

    def forged(table: str, *where: Any, **more: Any) -> dict[str, Any] | None:
        row = stored(table, *where, **more)
        return row | {"fixed_paise": row["energy_paise"]} if table == "charges" and row is not None else row

    monkeypatch.setattr(site.lake, "row", forged)
    with pytest.raises(DataError, match=r"differs in fixed.*openami close --day 2026-03-31 --shard 0"):
        why(site, number(2), DAYS[1])


def test_who_and_when_must_be_there(site: Site) -> None:
    with pytest.raises(InputError, match="there is no account 77"):
        why(site, "77", FIRST)
    with pytest.raises(InputError, match="was not charged for 2026-02-01; closed days are 2026-03-30 to 2026-04-02"):
        why(site, number(0), date(2026, 2, 1))
