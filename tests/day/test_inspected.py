"""Inspections: kept for good with what was known before them, put right by another row, and learnt from; nothing personal is."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, suspected
from openami.day.findings import record
from openami.day.inspected import inspect, learnt
from openami.errors import InputError, RequestError
from openami.losses.features import COLUMN, NAMES
from openami.losses.suspects import EVIDENCE, Model, probabilities
from openami.store.audit import AuditTrail
from openami.store.inspections import Inspection, Inspections, Result, inspection

from .sites import FIRST, copy_of, make_audited

AFTER = FIRST + timedelta(days=2)
NOW_S = 1_900_000_000


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    return make_audited(tmp_path_factory.mktemp("inspected") / "data", seed=8)


@pytest.fixture
def site(closed, tmp_path):
    return copy_of(closed, tmp_path)


def home(site: Site, number: int = 0) -> str:
    index = site.index_of(0, FIRST)
    return index.serials[int(np.flatnonzero(index.is_consumer)[number])]


def visits(count: int, guilty_when_idle: bool) -> list[Inspection]:
    """Visits in which standing still for hours is the sign of a thief, or of nobody."""
    rng = np.random.default_rng(4)
    made = []
    for k in range(count):
        idle = bool(rng.random() < 0.5)
        features = {"idle_share": 0.5 if idle else 0.0, "drop_t": 0.0, "lag1": 0.5, "variation": 0.9, "doubt": 0.0}
        result = Result.THEFT if idle == guilty_when_idle else Result.INNOCENT
        made.append(Inspection(f"M{k}", FIRST, result, k % 10 == 0, "F1", features, "someone", "", 1))
    return made


def test_a_visit_is_kept_with_what_was_known_before_it(site):
    visit = inspect(site, home(site), AFTER, Result.THEFT, "R. Inspector", "a wire before the meter", NOW_S)
    assert Inspections(site.rows).current() == [visit]
    assert {"night", "size", "doubt"} <= visit.features.keys() <= COLUMN.keys()
    (_, entry), *_ = AuditTrail(site.rows).latest(1, action="inspection")
    assert (entry.who, entry.subject) == ("R. Inspector", home(site))


def test_what_was_measured_on_the_day_itself_is_not_known_before_it(site):
    assert inspect(site, home(site), FIRST, Result.INNOCENT, "R. Inspector", "", NOW_S).features == {}


def test_a_visit_that_is_yet_to_come_is_refused(site):
    with pytest.raises(InputError, match="yet to come"):
        inspect(site, home(site), date(2030, 3, 19), Result.THEFT, "R. Inspector", "", NOW_S)
    assert Inspections(site.rows).current() == []


def test_only_a_consumers_meter_is_visited(site):
    index = site.index_of(0, FIRST)
    for serial in ("NO-SUCH", index.serials[int(np.flatnonzero(index.is_transformer)[0])]):
        with pytest.raises(InputError, match=f"{serial} is no consumer's meter on"):
            inspect(site, serial, AFTER, Result.THEFT, "R. Inspector", "", NOW_S)


def test_the_newest_word_of_a_visit_holds_and_the_earlier_one_stays(site):
    rows = Inspections(site.rows)
    inspect(site, home(site), AFTER, Result.THEFT, "R. Inspector", "", NOW_S)
    inspect(site, home(site), AFTER, Result.FAULT, "R. Inspector", "the terminal was burnt", NOW_S + 100)
    assert [v.result for v in rows.current()] == [Result.FAULT]
    assert [v.result for v in rows.current(known_by_s=NOW_S + 50)] == [Result.THEFT]
    with pytest.raises(RequestError, match="never changed"), site.rows.begin(writing=True) as connection:
        connection.execute(inspection.delete())


def test_what_visits_found_changes_the_ranking(site):
    """The same two meters, one that stands still and one whose use fell: who comes first is what inspections say."""
    values = np.zeros((2, len(NAMES)), np.float32)
    values[:, COLUMN["lag1"]], values[:, COLUMN["variation"]], values[:, COLUMN["missing"]] = 0.5, 0.9, 0.05
    values[0, COLUMN["idle_share"]], values[1, COLUMN["drop_t"]] = 0.4, -14.0
    cold = probabilities(learnt(site), values)
    assert cold[1] > cold[0]
    for visit in visits(120, guilty_when_idle=True):
        Inspections(site.rows).note(visit)
    taught = learnt(site)
    told = probabilities(taught, values)
    assert told[0] > told[1]
    assert taught.labels == 120


def test_nobody_at_home_teaches_nothing(site):
    for visit in visits(20, guilty_when_idle=True):
        Inspections(site.rows).note(Inspection(**{**{n: getattr(visit, n) for n in visit.__slots__}, "result": Result.NO_ACCESS}))
    assert learnt(site).labels == 0


def test_the_next_look_goes_by_what_was_learnt(site, monkeypatch):
    """Nobody in this town is suspected: what is seen is the model that its homes are held against."""
    used = []
    monkeypatch.setattr(suspected, "suspects", lambda model, found, most: used.append(model) or [])
    for visit in visits(120, guilty_when_idle=False):
        Inspections(site.rows).note(visit)
    record(site, anew=True)
    assert {model.base for model in used} == {learnt(site).base}
    assert learnt(site).base != Model.cold().base


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["NOBODY", "theft", "--by", "R"], "NOBODY is no consumer's meter"),
        (["{home}", "guilty", "--by", "R"], "theft or fault or innocent"),
        (["{home}", "theft"], "needs the person who made it"),
        (["{home}"], "which meter and what was found"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(site, words, said):
    asked = [word.format(home=home(site)) for word in words]
    told = CliRunner().invoke(app, ["losses", "inspected", *asked, "--day", AFTER.isoformat(), "--data", str(site.folder.root)])
    assert isinstance(told.exception, InputError)
    assert said in str(told.exception)


def test_the_command_writes_a_visit_and_shows_it(site):
    words = ["losses", "inspected", home(site), "innocent", "--by", "R. Inspector", "--day", AFTER.isoformat(), "--at-random"]
    assert CliRunner().invoke(app, [*words, "--data", str(site.folder.root)]).exit_code == 0
    (line,) = CliRunner().invoke(app, ["losses", "inspections", "--json", "--data", str(site.folder.root)]).output.splitlines()
    row = json.loads(line)
    assert (row["serial"], row["result"], row["at_random"]) == (home(site), "innocent", True)


PERSONAL = (
    "name",
    "caste",
    "religion",
    "income",
    "tariff",
    "categor",
    "address",
    "phone",
    "language",
    "payment",
    "balance",
    "area",
    "gender",
)


def test_nothing_personal_is_a_feature_or_an_evidence():
    said = " ".join([*NAMES, *(e.name for e in EVIDENCE), *inspection.columns.keys()])
    assert [word for word in PERSONAL if word in said] == []
