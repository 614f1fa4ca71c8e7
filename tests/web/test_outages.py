"""The pages of outages over a real, small town in which a transformer's homes gasped and breathed within a quarter of an hour."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest

from api.houses import House, build, darken
from openami.day.found import Found, OutageRow
from openami.web.control_room.exports import as_file


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = build(tmp_path_factory.mktemp("outages"))
    darken(made, made.own["transformer"])
    return made


@pytest.fixture
def found(house: House) -> OutageRow:
    (one,) = Found(house.site.lake).outages(house.site.lake.days("validated")[-1])
    return one


def address(one: OutageRow) -> str:
    return f"/room/outages/{one.day}/{one.shard}/{one.number}"


def test_the_week_shows_the_outage_on_its_line_in_its_list_and_by_day(house: House, found: OutageRow) -> None:
    page = house.browser("operator").get("/room/outages?lang=en").text
    assert f'href="{address(found)}' in page
    assert "1 outage, 0 open." in page
    for words in ("Planned and unplanned, by day", "Announced outages", "MAIFI", "Asia/Kolkata"):
        assert words in page
    assert page.count("20:00") >= 1 or page.count("18:00") >= 1, "a single day is told in hours"


@pytest.mark.parametrize("lang", ["en", "hi"])
def test_one_outage_names_who_was_out(house: House, found: OutageRow, lang: str) -> None:
    page = house.browser("operator").get(f"{address(found)}?lang={lang}").text
    for serial, _ in Found(house.site.lake).outage_customers(found):
        assert serial in page
    assert found.planned


def test_files_have_the_same_rows(house: House, found: OutageRow) -> None:
    browser = house.browser("operator")
    (row,) = csv.DictReader(io.StringIO(browser.get("/room/outages.csv").text))
    assert (row["node"], row["customers"], row["planned"]) == (found.node, str(found.customers), "True")
    customers = list(csv.DictReader(io.StringIO(browser.get(f"{address(found)}/customers.csv").text)))
    assert len(customers) == found.customers
    assert browser.get(f"{address(found)}/customers.csv?format=parquet").content[:4] == b"PAR1"


def test_a_week_without_outages_is_a_file_with_its_header() -> None:
    assert bytes(as_file([], "outages", "csv", ("day", "node")).body) == b"day,node\r\n"


def test_an_outage_outside_the_reach_is_not_there(house: House, found: OutageRow) -> None:
    own = house.browser("operator-own")
    assert own.get(address(found)).status_code == 200
    assert house.browser("operator").get(f"/room/outages/{found.day}/{found.shard}/99").status_code == 404
    assert house.browser("operator").get(f"/room/outages/{date(2020, 1, 1)}/0/0").status_code == 404
    assert house.browser("consumer-own").get(address(found)).status_code == 403
