"""A day that is not closed yet: its losses by the hour from what has come, provisional, and the true ones once all has come."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all, collect
from openami.day import running as a_day
from openami.day.findings import record
from openami.day.found import Found
from openami.day.network import FOLDER
from openami.day.running import open_day, running
from openami.readings import IMPORT_WH, MISSING

from .sites import FIRST, copy_of, make_site, make_town, pushes

SECOND = FIRST + timedelta(days=1)
DAY_SLOTS, NOON = 96, 48
LATE, AHEAD = 3, 4


@pytest.fixture(scope="module")
def noon(tmp_path_factory) -> Site:
    """The first day is closed. Of the second its meters told until 12:15, one until 09:00, and one, whose clock is ahead, until the evening."""
    town = make_town(seed=9)

    def silent(number: int, slot: int) -> bool:
        told = {LATE: 36, AHEAD: 80}.get(number, NOON + 1)
        return slot >= DAY_SLOTS + told

    site = make_site(tmp_path_factory.mktemp("noon") / "data", town, pushes(town, silent))
    collect(site)
    close_all(site, days=[FIRST])
    record(site)
    return site


def at(site: Site, slots: int) -> int:
    """A while after so many intervals of the second day have ended."""
    return site.calendar.day_start(SECOND) + slots * site.calendar.interval_s + 300


def test_hours_that_ended_are_told_and_the_last_as_far_as_it_came(noon):
    found = running(noon, at(noon, NOON + 1))
    assert found is not None
    assert (found.day, found.as_of_s) == (SECOND, noon.calendar.stamp(SECOND, NOON))
    (feeder,) = {one.node for one in found.hours() if one.level == "feeder"}
    hours = [one for one in found.hours() if one.node == feeder]
    assert [one.hour for one in hours] == list(range(13))
    assert all(one.low_wh < one.likely_wh < one.high_wh for one in hours)
    assert list(found.of(feeder).hours()) == hours
    assert list(found.hours(7)) == list(found.hours())[7:]
    (so_far,) = (one for one in found.so_far if one.node == feeder)
    assert so_far.in_wh == sum(one.in_wh for one in hours)
    index = noon.index_of(0, SECOND)
    values = noon.lake.read_blocks("raw", SECOND, 0)[IMPORT_WH.name].values[: NOON + 1]
    assert so_far.in_wh == int(values[:, index.is_feeder].sum())
    assert {one.level for one in found.so_far} == {"feeder", "transformer", "substation area"}


def test_what_has_not_come_is_missing_and_widens_the_interval(noon):
    found = running(noon, at(noon, NOON + 1))
    before, after = (next(one for one in found.hours() if one.level == "transformer" and one.hour == hour) for hour in (8, 9))
    assert before.coverage == 1.0
    assert after.coverage < 1.0
    assert (before.spread_wh["missing"], after.spread_wh["missing"] > 0) == (0.0, True)
    assert after.likely_wh < after.loss_wh, "the silent meter is expected to use something"


def test_a_clock_that_is_ahead_tells_of_no_hour_before_its_time(noon):
    assert running(noon, at(noon, 40)).as_of_s == noon.calendar.stamp(SECOND, 39)
    assert running(noon, at(noon, 0)) is None


def test_a_clock_that_is_a_day_ahead_begins_no_day(noon, tmp_path):
    """Raw of the second day is there while the first one runs, and still in the first minutes of the second."""
    site = copy_of(noon, tmp_path)
    shutil.rmtree(site.lake.root / "closes")
    for slots, last in ((NOON - DAY_SLOTS, NOON - 1), (0, DAY_SLOTS - 1)):
        found = running(site, at(site, slots))
        assert found is not None
        assert (found.day, found.as_of_s) == (FIRST, site.calendar.stamp(FIRST, last))


def test_an_unmetered_load_counts_for_the_hours_that_have_passed(noon, tmp_path):
    site = copy_of(noon, tmp_path)
    (dt,) = (t.name for t in site.rows.transformers())
    before = running(site, at(site, NOON))
    (site.folder.root / FOLDER).mkdir()
    (site.folder.root / FOLDER / "assessed.csv").write_text(f"node,kwh_per_day\n{dt},24\nSS-1 33/11 kV,48\n")
    after = running(site, at(site, NOON))
    for level in ("transformer", "substation area"):
        one, other = (next(each for each in found.so_far if each.level == level) for found in (before, after))
        assert one.loss_wh - other.loss_wh == 12_000
        assert other.coverage < one.coverage, "of the substation's own load the feeders' heads see nothing"


def test_once_all_has_come_it_is_the_closed_days_account(noon, tmp_path):
    """The same kernels: of a day without gaps nothing is provisional about the energies."""
    site = copy_of(noon, tmp_path)
    blocks = site.lake.read_blocks("validated", FIRST, 0)
    assert not (blocks[IMPORT_WH.name].values == MISSING).any()
    found = running(site, at(site, 0), FIRST)
    kept = {(one.level, one.node, one.hour): one for node in ("DT-01", "F1") for one in Found(site.lake).hours(FIRST, node)}
    own = {(one.level, one.node, one.hour): one for one in found.hours() if one.node in ("DT-01", "F1")}
    assert own.keys() == kept.keys()
    for key, one in own.items():
        assert (one.in_wh, one.out_wh, one.loss_wh) == (kept[key].in_wh, kept[key].out_wh, kept[key].loss_wh)


def test_an_impossible_reading_is_not_taken(noon, tmp_path):
    site = copy_of(noon, tmp_path)
    blocks = site.lake.read_blocks("raw", SECOND, 0)
    index = site.index_of(0, SECOND)
    home = int(np.flatnonzero(index.is_consumer)[0])
    values = blocks[IMPORT_WH.name].values
    was, values[0, home] = int(values[0, home]), -5_000_000
    site.lake.write_blocks("raw", list(blocks.values()))
    one, other = (next(each for each in running(each, at(each, NOON)).hours() if each.level == "transformer") for each in (noon, site))
    assert one.out_wh - other.out_wh == was


def test_the_day_that_is_not_closed_yet_is_the_one_asked_for(noon, tmp_path):
    site = copy_of(noon, tmp_path)
    assert open_day(site, at(site, NOON)) == SECOND
    close_all(site)
    assert open_day(site, at(site, NOON)) is None
    assert running(site, at(site, DAY_SLOTS)) is None
    told = CliRunner().invoke(app, ["losses", "now", "--data", str(site.folder.root)])
    assert told.exit_code != 0


def test_the_command_says_that_it_is_provisional_and_of_when(noon):
    told = CliRunner().invoke(app, ["losses", "now", "--data", str(noon.folder.root)], catch_exceptions=False)
    assert "2025-12-02, provisional, as of 2025-12-02 20:00" in told.output.splitlines()[0]
    rows = CliRunner().invoke(app, ["losses", "now", "--hours", "--json", "--data", str(noon.folder.root)], catch_exceptions=False)
    first = json.loads(rows.output.splitlines()[0])
    assert (first["provisional"], first["as_of"], first["hour"]) == (True, "2025-12-02T20:00:00+05:30", 0)


def test_whoever_sees_other_feeders_sees_nothing(noon):
    assert running(noon, at(noon, NOON)).seen_by(frozenset({"F9"})).places == ()


def test_a_day_long_past_does_not_run_and_is_not_asked_for(noon, monkeypatch):
    asked = []
    monkeypatch.setattr(noon.lake, "days", lambda table: [FIRST - timedelta(days=k) for k in range(1000, 0, -1)])
    monkeypatch.setattr(noon.lake, "files", lambda table, day: {0: []})
    monkeypatch.setattr(a_day, "is_closed", lambda lake, day, shard: not asked.append(day))
    assert open_day(noon, at(noon, NOON)) is None
    assert asked == [FIRST - timedelta(days=k) for k in range(1, a_day.DAYS_LOOKED + 1)]


def test_a_meter_of_today_that_has_sent_nothing_yet_stops_nothing(noon, tmp_path):
    site = copy_of(noon, tmp_path)
    meters = site.rows.meters()
    new = replace(meters[0], serial="NEW0000001", system_title=b"NEWTITLE", index=len(meters))
    site.rows.add_registry((), (), [new], (), (), ())
    site = Site.open(site.folder)
    assert site.index_of(0, SECOND).meters == len(meters) + 1
    assert [*running(site, at(site, NOON)).so_far] == [*running(noon, at(noon, NOON)).so_far]
