"""Payment mode is a dated attribute: each day is charged by the mode that it had, whatever was ordered since."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from openami.billing import load_tariffs, segment
from openami.day import Site, close_all, collect
from openami.day.adjust import reclose
from openami.day.books import settle_charges
from openami.day.buffers import Buffers
from openami.registry import PaymentMode
from openami.store.ledger_conversion import convert

from .sites import make_site, make_town, pushes

FIRST, SECOND = date(2025, 12, 1), date(2025, 12, 2)


@pytest.fixture
def converted(tmp_path: Path) -> tuple[Site, str]:
    """The first day is closed; then one account is made postpaid from the second on, whose readings are there and not closed."""
    town = make_town()
    site = make_site(tmp_path / "town", town, pushes(town))
    collect(site)
    close_all(site, days=[FIRST])
    settle_charges(site, FIRST)
    number = town.accounts[0].number
    done = convert(site.rows.database, "c1", PaymentMode.POSTPAID, SECOND, 1_764_700_000, who="clerk", why="order 1", numbers=[number])
    assert done.finished
    return site, number


def line(site: Site, day: date, number: str, name: str) -> int | None:
    names = site.lake.read("statements", day, 0, columns=["account"])["account"].to_pylist()
    return site.lake.read("charges", day, 0)[name][names.index(number)].as_py()


def test_the_roll_of_a_day_has_the_mode_of_that_day(converted: tuple[Site, str]) -> None:
    site, number = converted
    modes = {day: next(a for a in site.rows.accounts(day) if a.number == number) for day in (FIRST, SECOND)}
    assert [modes[day].payment_mode for day in (FIRST, SECOND)] == [PaymentMode.PREPAID, PaymentMode.POSTPAID]
    assert modes[SECOND].mode_since == SECOND


def test_a_day_before_the_conversion_reckoned_again_costs_the_same(converted: tuple[Site, str]) -> None:
    site, _ = converted
    assert reclose(site, FIRST, 0, Buffers()).num_rows == 0


def test_the_part_after_the_conversion_is_a_bill_of_its_own_without_the_prepaid_discount(converted: tuple[Site, str]) -> None:
    site, number = converted
    close_all(site)
    names = site.lake.read("usage", SECOND, 0, columns=["account"])["account"].to_pylist()
    usage = site.lake.read("usage", SECOND, 0).slice(names.index(number), 1).to_pylist()[0]
    part = segment(load_tariffs(), usage["tariff"], SECOND).starting(SECOND)
    assert all(usage[f"{period}_to_date_wh"] == usage[f"{period}_wh"] for period in part.tariff.periods)
    assert part.span_days == 30
    assert line(site, SECOND, number, "prepaid_discount_paise") in (0, None)
    assert timedelta(days=1) == SECOND - FIRST
