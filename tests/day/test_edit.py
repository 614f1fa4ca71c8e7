"""A correction by a person: never lost, whatever is closed again; who and why are kept; facts explain what readings alone cannot."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close, close_all, collect
from openami.day.adjust import waiting
from openami.day.closes import revision
from openami.day.edit import Correction, correct, slot_of
from openami.day.known import usual_of
from openami.errors import InputError
from openami.fleet.town import Town
from openami.readings import IMPORT_WH, MISSING, MISSING64, Calendar, DayBlock, Quality
from openami.store.audit import AuditTrail
from openami.store.deployment import Folder
from openami.store.facts import Told, edits_of, tell_facts
from openami.store.history import History
from openami.store.lake import Lake
from openami.vee import load_rules
from openami.vee.facts import FactKind

from .sites import FIRST, make_site, make_town, pushes

SECOND = FIRST + timedelta(days=1)
SLOT, NOW_US = 50, 1_764_700_000_000_000
BEGINS = "12:30"
MUTE = range(30, 34)
"""Slots that meter 3 does not send."""


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    root = tmp_path_factory.mktemp("edits") / "data"
    site = make_site(root, town, pushes(town, lambda number, slot: number == 3 and slot in MUTE))
    collect(site)
    close_all(site, days=[FIRST])
    site.rows.close()
    return root


@pytest.fixture
def site(tmp_path: Path, closed: Path) -> Site:
    return Site.open(Folder(Path(shutil.copytree(closed, tmp_path / "data"))))


def serial_of(site: Site, index: int) -> str:
    return next(meter.serial for meter in site.rows.meters() if meter.index == index)


def validated(site: Site, day: date = FIRST) -> DayBlock:
    return site.lake.read_blocks("validated", day, 0)[IMPORT_WH.name]


def correction(site: Site, value: float | None, index: int = 0) -> Correction:
    return Correction(serial_of(site, index), FIRST, BEGINS, value)


def test_a_correction_holds_and_its_price_is_an_adjustment(site):
    before = validated(site).values[SLOT, 0]
    assert correct(site, [correction(site, 4_000.0)], "R. Officer", "read on site", NOW_US) == 1
    after = validated(site)
    assert (after.values[SLOT, 0], int(after.quality[SLOT, 0]) & Quality.EDITED) == (4_000, Quality.EDITED)
    assert site.lake.read_blocks("raw", FIRST, 0)[IMPORT_WH.name].values[SLOT, 0] == before
    assert waiting(site, 0, SECOND).num_rows > 0


def test_a_correction_is_not_lost_when_the_day_is_closed_again(site):
    correct(site, [correction(site, 4_000.0)], "R. Officer", "read on site", NOW_US)
    collect(site)
    close(site, FIRST, 0)
    close_all(site)
    assert validated(site).values[SLOT, 0] == 4_000


def test_a_correction_taken_back_leaves_the_reading_as_it_came(site):
    before = validated(site).values[SLOT, 0]
    correct(site, [correction(site, 4_000.0)], "R. Officer", "read on site", NOW_US)
    correct(site, [correction(site, None)], "S. Officer", "wrong meter", NOW_US + 1)
    after = validated(site)
    assert (after.values[SLOT, 0], int(after.quality[SLOT, 0]) & Quality.EDITED) == (before, 0)
    assert [(e.person, e.value) for e in edits_of(site.lake, FIRST, 0, IMPORT_WH.name)] == [("R. Officer", 4_000), ("S. Officer", None)]


def test_who_and_why_are_in_the_audit_trail(site):
    correct(site, [correction(site, 4_000.0)], "R. Officer", "read on site", NOW_US)
    ((_, entry),) = AuditTrail(site.rows).latest(9, action="reading.edit")
    assert (entry.who, entry.subject) == ("R. Officer", f"{serial_of(site, 0)} {FIRST} {BEGINS} import_wh")
    assert "read on site" in entry.why


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Correction("XMA9999999", FIRST, BEGINS, 1.0), "no meter"),
        (Correction("", FIRST, "12:31", 1.0), "no interval that begins"),
        (Correction("", FIRST, BEGINS, float("nan")), "no reading"),
        (Correction("", FIRST, BEGINS, 1.0, "watts"), "no channel"),
    ],
)
def test_a_correction_of_what_is_not_there_writes_nothing(site, wrong, says):
    wrong = wrong if wrong.serial else Correction(serial_of(site, 0), wrong.day, wrong.begins, wrong.value, wrong.channel)
    with pytest.raises(InputError, match=says):
        correct(site, [correction(site, 1.0), wrong], "R. Officer", "read on site", NOW_US)
    assert not site.lake.has("edits", FIRST, 0)


def test_a_fact_that_comes_after_the_close_is_reckoned_by_the_next_one(site):
    """Slots without a reading are estimated until an outage explains them; then they are zero, and nobody pays for them."""
    assert (validated(site).quality[MUTE, 3] & np.uint32(Quality.MISSING)).all()
    shape = validated(site).values.shape
    tell_facts(site.lake, FIRST, 0, shape, [Told(FactKind.OUTAGE, 3, MUTE[0], MUTE[-1], 1, "event 101", NOW_US)])
    close_all(site)
    after = validated(site)
    assert after.values[MUTE, 3].tolist() == [0, 0, 0, 0]
    assert set(after.quality[MUTE, 3].tolist()) == {int(Quality.OUTAGE)}
    assert revision(site.lake, FIRST, 0) == 1


def test_estimates_are_scaled_to_a_register_that_is_told(site):
    known = site.lake.read_blocks("raw", FIRST, 0)[IMPORT_WH.name].values[:, 3]
    register = int(known[known != MISSING].sum()) + 1_234
    tell_facts(
        site.lake, FIRST, 0, validated(site).values.shape, [Told(FactKind.REGISTER, 3, 0, 95, register, "daily load", 1, IMPORT_WH.name)]
    )
    close(site, FIRST, 0)
    after = validated(site)
    assert int(after.values[:, 3].sum()) == register
    assert (after.quality[MUTE, 3] & np.uint32(Quality.SCALED_TO_REGISTER)).all()


def test_the_history_of_a_corrected_day_is_behind_until_rebuilt(site):
    history = History(site.lake)
    history.rebuild()
    correct(site, [correction(site, 4_000.0)], "R. Officer", "read on site", NOW_US)
    assert history.behind() == [(FIRST, 0)]
    history.rebuild()
    assert history.meter(IMPORT_WH.name, 0, 0, FIRST, FIRST).values[0, SLOT] == 4_000


def test_the_second_time_of_a_25_hour_day_is_another_slot(site):
    """02:30 comes twice on 26 October 2025 in Zurich."""
    site.deployment = type(site.deployment)(
        **{f: getattr(site.deployment, f) for f in site.deployment.__slots__} | {"zone": "Europe/Zurich"}
    )
    assert site.calendar == Calendar("Europe/Zurich", 15)
    day = date(2025, 10, 26)
    first, second = (slot_of(site, Correction("", day, "02:30", 1.0, fold=fold)) for fold in (False, True))
    assert (first, second) == (10, 14)
    with pytest.raises(InputError, match="twice"):
        slot_of(site, Correction("", day, "05:30", 1.0, fold=True))


def told_weeks(lake: Lake, day: date, weeks: dict[int, list[int]]) -> None:
    """Statements of three meters, `weeks` before `day`; a negative number is a day with a gap."""
    for back, wh in weeks.items():
        columns = {
            "meter": pa.array([0, 1, 2], pa.int32()),
            "wh": [abs(each) for each in wh],
            "missing_slots": [int(each < 0) for each in wh],
        }
        lake.replace("statements", day - timedelta(weeks=back), 0, pa.table(columns))


def test_the_usual_day_is_the_median_of_the_same_weekday_without_gaps(tmp_path):
    lake, day = Lake(tmp_path / "lake"), date(2026, 2, 1)
    told_weeks(lake, day, {1: [10, 100, -7], 2: [30, -900, -7], 3: [20, 300, -7]})
    assert usual_of(lake, day, 0, 4).tolist() == [20, 100, MISSING64, MISSING64]
    assert usual_of(lake, day, 0, 1).tolist() == [20]


def test_one_week_is_no_habit(tmp_path):
    lake, day = Lake(tmp_path / "lake"), date(2026, 2, 1)
    told_weeks(lake, day, {1: [10, 100, 7], 5: [10, 100, 7]})
    assert usual_of(lake, day, 0, 3) is None


def run(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words))
    assert answer.exception is None, answer.output
    return answer.output


def test_the_commands_correct_a_reading_and_keep_the_lake(site):
    where = ("--data", str(site.folder.root))
    said = run("edit", serial_of(site, 0), str(FIRST), BEGINS, "4000", "--by", "R. Officer", "--reason", "read on site", *where)
    assert said.strip().endswith("the day was reckoned again")
    assert validated(site).values[SLOT, 0] == 4_000
    assert "is kept" in run("lake", "pin", "validated", "1", "--why", "order 17", *where)
    assert "files would go" in run("lake", "sweep", "--keep-days", "0", "--dry-run", *where)
    assert "removed" in run("lake", "sweep", "--keep-days", "0", *where)
    assert site.lake.read("validated", FIRST, 0, version=1).num_rows > 0
    assert "merged nothing" in run("lake", "tidy", *where)
    assert "nothing retired" in run("lake", "retire", "--before", "2019-01-01", *where)
    assert validated(site).values[SLOT, 0] == 4_000


def test_a_meter_is_judged_by_the_rules_of_its_tariffs_category():
    book = load_rules()
    assert [book.class_of(c) for c in ("domestic", "commercial", "industrial", "agriculture", "street light")] == [
        "domestic",
        "non_domestic",
        "non_domestic",
        "agriculture",
        "any",
    ]
