"""Losses above feeders, and of a day that runs, over HTTP and in the control room: to whom, of when, and page by page."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from typer.testing import CliRunner

from day.sites import DAYS, FIRST
from openami.cli import app as cli
from openami.day import running as a_day
from openami.day.findings import record
from openami.readings import MISSING
from openami.web import running as kept
from openami.web.control_room import losses as room
from openami.web.control_room import routes
from openami.web.running import RunningDay

from .houses import House, enter

LAST = FIRST + timedelta(days=DAYS - 1)
SUBSTATION = "SS-1 33/11 kV"


@pytest.fixture
def recorded(house: House, tmp_path: Path) -> House:
    """A copy of the house with the energy audit's findings."""
    copied = enter(Path(shutil.copytree(house.folder, tmp_path / "recorded")))
    record(copied.site)
    return copied


@pytest.fixture
def runs(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The house as if its last day were not closed yet."""

    def open_day(site: object, now_s: int) -> date:
        return LAST

    monkeypatch.setattr(a_day, "open_day", open_day)
    monkeypatch.setattr(room, "open_day", open_day)
    monkeypatch.setattr(routes, "open_day", open_day)
    for app in (house.api, house.app):
        app.state.running = RunningDay()
    yield house
    for app in (house.api, house.app):
        app.state.running = RunningDay()


def test_substations_are_told_to_whoever_sees_all_feeders(recorded: House) -> None:
    (area,) = recorded.client("operator").get("/api/v1/losses/areas").json()["items"]
    assert (area["level"], area["name"], area["hour"]) == ("substation area", SUBSTATION, None)
    assert area["low_wh"] < area["likely_wh"] < area["high_wh"]
    assert area["loss_wh"] == area["in_wh"] - area["out_wh"]
    heads = recorded.client("operator").get("/api/v1/losses?kind=feeder").json()["items"]
    assert area["in_wh"] == sum(one["in_wh"] for one in heads)
    assert recorded.client("operator-own").get("/api/v1/losses/areas").json()["items"] == []
    assert recorded.client("operator").get("/api/v1/losses/areas?day=2020-01-01").status_code == 404
    assert SUBSTATION in recorded.browser("operator").get("/room/losses?lang=en").text


def test_a_day_that_runs_is_provisional_and_says_of_when(runs: House) -> None:
    told = runs.client("operator").get("/api/v1/losses/now").json()
    assert (told["day"], told["provisional"]) == (LAST.isoformat(), True)
    assert told["as_of"] == runs.site.calendar.local(runs.site.calendar.day_start(LAST + timedelta(days=1))).isoformat()
    assert [one["level"] for one in told["items"]][:2] == ["substation area", "feeder"]
    hours = runs.client("operator").get(f"/api/v1/losses/now?hours=true&name={runs.own['feeder']}").json()["items"]
    assert [one["hour"] for one in hours] == list(range(24))


def test_the_rows_of_a_day_that_runs_come_in_pages(runs: House) -> None:
    client, seen, onward = runs.client("operator"), [], ""
    while onward is not None:
        page = client.get(f"/api/v1/losses/now?limit=2{onward and f'&cursor={onward}'}").json()
        seen += page["items"]
        onward = page["next"]
    assert seen == client.get("/api/v1/losses/now").json()["items"]
    assert len(seen) > 2


def test_who_sees_one_feeder_sees_that_one_run(runs: House) -> None:
    rows = runs.client("operator-own").get("/api/v1/losses/now").json()["items"]
    assert {one["name"] for one in rows if one["level"] == "feeder"} == {runs.own["feeder"]}
    assert not [one for one in rows if one["level"] == "substation area"]
    browser = runs.browser("operator-own")
    assert runs.own["feeder"] in browser.get("/room/running?lang=en").text
    assert browser.get(f"/room/running?node={runs.other['feeder']}").status_code == 404


@pytest.mark.parametrize(("lang", "said"), [("en", "Provisional, as of 00:00"), ("hi", "अस्थायी, 00:00 तक")])
def test_the_room_shows_the_day_that_runs(runs: House, lang: str, said: str) -> None:
    browser = runs.browser("operator")
    assert "/room/running" in browser.get(f"/room/losses?lang={lang}").text
    page = browser.get(f"/room/running?lang={lang}").text
    assert said in page
    assert SUBSTATION in page
    assert "band-figure" in browser.get(f"/room/running?node={runs.own['feeder']}&lang={lang}").text


def test_the_wall_leads_to_the_day_that_runs_and_to_substations(runs: House) -> None:
    page = runs.browser("operator").get("/room?lang=en").text
    assert "So far on Tue 2 Dec 2025" in page
    assert "/room/areas" in page


def test_a_file_of_the_day_that_runs_has_every_node_or_one_by_the_hour(runs: House) -> None:
    browser, feeder = runs.browser("operator"), runs.own["feeder"]
    told = list(csv.DictReader(io.StringIO(browser.get("/room/running.csv").text)))
    assert {SUBSTATION, feeder, runs.own["transformer"]} <= {row["node"] for row in told}
    hours = list(csv.DictReader(io.StringIO(browser.get(f"/room/running.csv?node={feeder}").text)))
    assert [(row["node"], row["hour"]) for row in hours] == [(feeder, str(hour)) for hour in range(24)]
    assert f"/room/running.csv?node={feeder}" in browser.get(f"/room/running?node={feeder}").text


def test_a_substation_is_told_by_the_hour_on_a_page_and_in_a_file(recorded: House) -> None:
    browser, asked = recorded.browser("operator"), quote_plus(SUBSTATION)
    assert f"node={asked}" in browser.get("/room/losses?lang=en").text
    page = browser.get(f"/room/areas?node={asked}&lang=en")
    assert (page.status_code, "band-figure" in page.text) == (200, True)
    hours = list(csv.DictReader(io.StringIO(browser.get(f"/room/areas.csv?node={asked}").text)))
    (whole,) = csv.DictReader(io.StringIO(browser.get("/room/areas.csv").text))
    assert sum(int(row["loss_wh"]) for row in hours) == int(whole["loss_wh"])


def test_a_substation_is_not_told_to_a_division(recorded: House) -> None:
    browser = recorded.browser("operator-own")
    assert SUBSTATION not in browser.get("/room/areas?lang=en").text
    answer = browser.get(f"/room/areas?node={quote_plus(SUBSTATION)}&lang=en")
    assert (answer.status_code, "here for you" in answer.text) == (404, True)
    assert browser.get("/room/areas.csv").text.splitlines() == [",".join(room.COLUMNS)]


def counted(asked: list[int]) -> type:
    """A course that notes of when it is asked."""

    class Counted:
        def __init__(self, site: object) -> None:
            self.site = site

        def at(self, now_s: int) -> int:
            asked.append(now_s)
            return now_s

    return Counted


def test_it_is_reckoned_ahead_so_that_nobody_waits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every four minutes while nobody looks, every minute while somebody does."""
    asked, now = list[int](), [0.0]
    monkeypatch.setattr(kept, "Course", counted(asked))
    day = RunningDay(clock=lambda: now[0])
    for second in range(0, 501, 5):
        now[0] = second
        day.ahead(house.site, second)
    assert asked == [0, 240, 480]
    assert day.of(house.site, 501) == 480
    for second in range(505, 901, 5):
        now[0] = second
        day.ahead(house.site, second)
    assert asked == [0, 240, 480, 540, 600, 660, 720, 780], "nobody has looked for five minutes"


def test_it_is_reckoned_once_a_minute_however_many_ask(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the reader's back; but nobody is shown what is ten minutes old."""
    asked, now = list[int](), [0.0]
    monkeypatch.setattr(kept, "Course", counted(asked))
    day = RunningDay(clock=lambda: now[0])

    def of(now_s: int) -> object:
        now[0] = now_s
        return day.of(house.site, now_s)

    assert [of(0), of(30), of(59)] == [0, 0, 0]
    assert of(60) == 0, "what there is, while it is renewed"
    day._kept._pool.shutdown(wait=True)
    assert of(61) == 60
    assert of(700) == 700
    assert asked == [0, 60, 700]


def test_without_such_a_day_there_is_none(house: House) -> None:
    assert house.client("operator").get("/api/v1/losses/now").status_code == 404
    for lang, said in (("en", "No reading has come yet of a day that is not closed"), ("hi", "जो दिन बंद नहीं हुआ")):
        for name in ("running", "running.csv"):
            page = house.browser("operator").get(f"/room/{name}?lang={lang}")
            assert (page.status_code, said in page.text) == (404, True)


@pytest.mark.parametrize(
    ("lang", "own", "below"),
    [
        ("en", "Its own meter has not told of all of it: the loss is unknown.", "Meters below that have not told of all of it: 1."),
        ("hi", "इसके अपने मीटर ने पूरे समय की रीडिंग नहीं दी: हानि अज्ञात है।", "नीचे के जिन मीटरों ने पूरे समय की रीडिंग नहीं दी: 1।"),
    ],
)
def test_whose_meter_lacks_an_interval_is_said(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: str, own: str, below: str
) -> None:
    """A transformer's meter of 03:00 to 03:15; its feeder then counts what hangs below it."""
    copied = enter(Path(shutil.copytree(house.folder, tmp_path / "lacking")))
    index = copied.site.index_of(0, LAST)
    blocks = copied.site.lake.read_blocks("raw", LAST, 0)
    dt = index.is_transformer.nonzero()[0][0]
    blocks["import_wh"].values[12, dt] = MISSING
    copied.site.lake.write_blocks("raw", list(blocks.values()))
    monkeypatch.setattr(a_day, "open_day", lambda site, now_s: LAST)
    name = index.transformers[index.transformer[dt]]
    feeder = index.feeders[index.transformer_feeder[index.transformer[dt]]]
    browser, client = copied.browser("operator"), copied.client("operator")
    assert own in browser.get(f"/room/running?node={name}&lang={lang}").text
    page = browser.get(f"/room/running?node={feeder}&lang={lang}").text
    assert below in page
    assert own not in page
    (row,) = client.get(f"/api/v1/losses/now?name={feeder}").json()["items"]
    assert (row["own_meter_lacks"], row["meters_below_lacking"]) == (False, 1)
    hours = client.get(f"/api/v1/losses/now?name={name}&hours=true").json()["items"]
    assert [one["hour"] for one in hours if one["own_meter_lacks"]] == [3]
    told = CliRunner().invoke(cli, ["losses", "now", "--data", str(copied.folder)])
    assert told.output.count("its own meter has not told of every interval: the loss is unknown") == 1
    assert told.output.count("meters below that have not told of every interval: 1; what they measure is counted further down") == 1
