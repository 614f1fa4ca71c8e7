"""A tariff and a contract demand that change inside a month: each day is charged by its own, the month splits, and what was told stays told."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from openami.day import Site, close_all
from openami.day.adjust import reclose
from openami.day.buffers import Buffers
from openami.day.terms import tell_terms
from openami.day.why import why
from openami.errors import InputError, RequestError
from openami.registry import PaymentMode
from openami.store.terms import Change, Terms

from .homes import Home, even, number, read, site_of, told

FIRST = date(2025, 12, 1)
DAYS = [FIRST + timedelta(days=k) for k in range(4)]
THIRD = DAYS[2]
FACTORY, HOME, STEADY = 0, 1, 2
NOW_S = 1_766_000_000


def site_at(root: Path) -> Site:
    """A factory with 500 kW, a home on Kerala's tariff, and another that stays as it is."""
    homes = [Home("TN-HT1", 500_000, PaymentMode.POSTPAID), Home("KL-LT1A", 2000), Home("KL-LT1A", 2000)]
    site = site_of(root / "data", homes, FIRST, len(DAYS))
    for day in DAYS:
        read(site, day, {"import_wh": even(20_000, 200, 200), "import_vah": even(21_000, 210, 210)})
    return site


def tell(site: Site, k: int, since: date, tariff: str | None = None, contract_va: int | None = None) -> int:
    return site.terms.tell([Change(number(k), since, tariff, contract_va)], 1_764_000_000, "asha", "order 7")


def lines(site: Site, day: date, k: int) -> dict[str, int]:
    """Without what other tariffs' lines leave empty."""
    found = told(site, "charges", day, k)
    return {name: int(value) for name, value in found.items() if name.endswith("_paise") and value is not None}  # type: ignore[call-overload]


@pytest.fixture
def changed(tmp_path: Path) -> Site:
    """The factory's contract demand is 100 kVA from the third day on; the home becomes a Bihar home that day; both were told in time."""
    site = site_at(tmp_path)
    assert tell(site, FACTORY, THIRD, contract_va=100_000) == 1
    assert tell(site, HOME, THIRD, tariff="BR-DS2") == 1
    close_all(site)
    return site


def test_each_day_has_the_contract_demand_that_held_then(changed: Site) -> None:
    assert [told(changed, "usage", day, FACTORY)["contract_va"] for day in DAYS] == [500_000, 500_000, 100_000, 100_000]
    demand = [lines(changed, day, FACTORY)["demand_paise"] for day in DAYS]
    assert all(abs(paise - 450 * 608_00 / 31) <= 1 for paise in demand[:2]), "90 % of 500 kVA, by days"
    assert all(abs(paise - 90 * 608_00 / 31) <= 1 for paise in demand[2:]), "90 % of 100 kVA is more than the 42 that were recorded"


def test_each_day_has_the_tariff_that_held_then_and_the_month_splits(changed: Site) -> None:
    assert [told(changed, "usage", day, HOME)["tariff"] for day in DAYS] == ["KL-LT1A", "KL-LT1A", "BR-DS2", "BR-DS2"]
    account = changed.rows.account(number(HOME))
    assert account is not None
    assert account.tariff == "BR-DS2", "the registry shows the newest"
    found = why(changed, number(HOME), THIRD)
    assert "2025-12-03 - 2025-12-31" in found.tree.children[1].children[0].en
    assert found.tree.children[1].children[1].en == "Tariff and contract demand of this account since 2025-12-03"
    assert "2025-12-01 - 2025-12-02" in why(changed, number(HOME), DAYS[0]).tree.children[1].children[0].en


def test_a_change_that_is_told_late_is_posted_and_what_was_told_stays(changed: Site, tmp_path: Path) -> None:
    late = site_at(tmp_path / "late")
    close_all(late)
    before = [lines(late, day, HOME) for day in DAYS]
    tell(late, FACTORY, THIRD, contract_va=100_000)
    tell(late, HOME, THIRD, tariff="BR-DS2")
    posted = reclose(late, FIRST, 0, Buffers())
    assert [lines(late, day, HOME) for day in DAYS] == before
    for k in (FACTORY, HOME):
        own = sum(row["amount_paise"] for row in posted.to_pylist() if row["account"] == number(k))
        in_time = sum(sum(lines(changed, day, k).values()) - lines(changed, day, k)["to_date_paise"] for day in DAYS)
        told_then = sum(sum(lines(late, day, k).values()) - lines(late, day, k)["to_date_paise"] for day in DAYS)
        assert told_then + own == in_time
        assert why(late, number(k), THIRD).tree.amount_paise == sum(lines(late, THIRD, k).values()) - lines(late, THIRD, k)["to_date_paise"]
    assert number(STEADY) not in {row["account"] for row in posted.to_pylist()}


def test_what_is_told_again_is_not_new_and_nothing_is_told_of_nobody(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    assert [tell(site, FACTORY, THIRD, contract_va=100_000) for _ in range(2)] == [1, 0]
    assert tell(site, HOME, THIRD, tariff="KL-LT1A") == 0, "it has it already"
    for change, message in (
        (Change("77", THIRD, "KL-LT1A"), "there is no account 77"),
        (Change(number(0), date(2020, 1, 1), "KL-LT1A"), "begins on"),
        (Change(number(0), THIRD), "nothing is told"),
        (Change(number(0), THIRD, None, 0), "a contract demand of 0 VA"),
    ):
        with pytest.raises(RequestError, match=message):
            site.terms.tell([Change(number(1), THIRD, "BR-DS2"), change], 0, "asha", "order")
    assert number(1) not in site.terms.on(THIRD), "all or none"


def test_terms_on_a_day_are_the_newest_word(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    book = site.terms
    tell(site, HOME, DAYS[1], contract_va=5_000)
    tell(site, HOME, DAYS[3], tariff="BR-DS2")
    tell(site, HOME, DAYS[1], contract_va=6_000)
    own = [book.on(day)[number(HOME)] for day in DAYS]
    assert own[0] == Terms("KL-LT1A", None, None, DAYS[1])
    assert own[1:3] == [Terms("KL-LT1A", 6_000, DAYS[1], DAYS[3])] * 2
    assert own[3] == Terms("BR-DS2", 6_000, DAYS[3])


def test_a_word_that_was_taken_back_splits_no_month(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    assert [tell(site, HOME, THIRD, tariff="BR-DS2"), tell(site, HOME, THIRD, tariff="KL-LT1A")] == [1, 1]
    assert [site.terms.on(day)[number(HOME)] for day in DAYS] == [Terms("KL-LT1A", None, None)] * len(DAYS)
    close_all(site)
    assert lines(site, DAYS[3], HOME) == lines(site, DAYS[3], STEADY)


def test_a_late_word_is_reckoned_at_once_and_telling_it_again_posts_nothing(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    close_all(site)
    change = Change(number(HOME), THIRD, "BR-DS2")
    told_, posted = tell_terms(site, [change], "asha", "order 7", NOW_S)
    assert told_ == 1
    assert posted > 0
    assert tell_terms(site, [change], "asha", "order 7", NOW_S) == (0, 0)
    for day in DAYS:
        assert why(site, number(HOME), day).tariff == ("BR-DS2" if day >= THIRD else "KL-LT1A")


def test_banked_units_are_not_lost_without_a_word(tmp_path: Path) -> None:
    site = site_of(tmp_path / "data", [Home("OD-DOM", 3000)], FIRST, len(DAYS))
    for day in DAYS:
        read(site, day, {"import_wh": even(20), "export_wh": even(400)})
    close_all(site)
    change = Change(number(0), THIRD, "BR-DS2")
    with pytest.raises(InputError, match=r"kWh banked under OD-DOM at the end of 2025-12-02 .* --bank-settled"):
        tell_terms(site, [change], "asha", "moved", NOW_S)
    assert site.terms.history(number(0)) == []
    assert tell_terms(site, [change], "asha", "moved; paid as C-9", NOW_S, bank_settled=True)[0] == 1
