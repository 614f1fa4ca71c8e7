"""The pages of outages over a real, small town in which a transformer's homes gasped and breathed within a quarter of an hour."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest

from api.houses import House, build
from openami.day.findings import record
from openami.day.found import Found, OutageRow
from openami.registry import NodeKind
from openami.store.heard import Heard, MeterEvent

GASP, BREATH, LENGTH_S = 85, 86, 120


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = build(tmp_path_factory.mktemp("outages"))
    site = made.site
    day = site.lake.days("validated")[-1]
    at_s = site.calendar.day_start(day) + 20 * 3600 + 100
    homes = [p.meter for p in site.rows.usage_points() if p.transformer == made.own["transformer"] and p.kind is NodeKind.CONSUMER]
    words = [(serial, at_s + bit_s, bit) for serial in homes for bit, bit_s in ((GASP, 0), (BREATH, LENGTH_S))]
    Heard(site.rows).note(events=[MeterEvent(serial, when, 0, bit, True, "supply", when, "push") for serial, when, bit in words])
    begins, ends = (site.calendar.local(at_s + off).isoformat() for off in (-300, 600))
    (site.folder.root / "announced_outages.csv").write_text(f"node,start,end\n{made.own['transformer']},{begins},{ends}\n")
    record(site, [day], anew=True)
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
    assert "1 outages, 0 of them open." in page
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


def test_an_outage_outside_the_reach_is_not_there(house: House, found: OutageRow) -> None:
    own = house.browser("operator-own")
    assert own.get(address(found)).status_code == 200
    assert house.browser("operator").get(f"/room/outages/{found.day}/{found.shard}/99").status_code == 404
    assert house.browser("operator").get(f"/room/outages/{date(2020, 1, 1)}/0/0").status_code == 404
    assert house.browser("consumer-own").get(address(found)).status_code == 403
