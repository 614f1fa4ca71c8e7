"""On the shipped real households: every documented defect is found, few good readings are marked, and estimates carry no energy away."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openami import vee
from openami.bench.households import ALL_ZERO, NEGATIVE, findings, heat_pump, planted, sound_days, swiss, wrongly_marked
from openami.bench.masking import BLOCKS, NAIVE, hidden, scores
from openami.bench.vee_report import write_report
from openami.cli import app
from openami.errors import StorageError
from openami.readings import CHECKS, Quality

FOUND = findings()
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_every_documented_defect_is_in_the_list():
    """The README of the data set: 15 negative readings and spikes of one meter, six dead meters, three long zero runs, one of 49 equal values."""
    assert [(f.where, f.readings) for f in FOUND if f.check is Quality.PLAUSIBILITY] == [(str(NEGATIVE), 15)]
    assert [f.where for f in FOUND if f.check is Quality.SPIKE] == [str(NEGATIVE)]
    assert [f.where for f in FOUND if f.readings == 4704] == [str(household) for household in ALL_ZERO]
    assert len([f for f in FOUND if f.defect.startswith("a zero run")]) == 3
    assert [f.readings for f in FOUND if f.check is Quality.FROZEN] == [49]


@pytest.mark.parametrize("defect", FOUND, ids=lambda f: f"{f.check.name}-{f.where}")
def test_a_documented_defect_is_found_by_its_check(defect):
    """A zero run's ends that reach less than half a day into a day may stay unmarked; nothing else may."""
    most_unmarked = 2 * 47 if defect.defect.startswith("a zero run") else 0
    assert defect.readings - most_unmarked <= defect.found <= defect.readings


def test_with_a_known_load_the_spikes_are_implausible_too():
    ids, days = swiss()
    broken = int(np.flatnonzero(ids == NEGATIVE)[0])
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    bits = vee.run(days[32], vee.meter_limits(rules, np.full(len(ids), 14_000), 15)).quality[93, broken]
    assert days[32, 93, broken] == 47_050
    assert int(bits) == Quality.PLAUSIBILITY | Quality.ESTIMATED_LINEAR


MARKED_AT_MOST = {
    ("Swiss households, 15 min", Quality.SPIKE): 0.0002,
    ("Swiss households, 15 min", Quality.HIGH_LOW): 0.03,
    ("London households, 30 min", Quality.SPIKE): 0.0001,
}


def test_few_good_readings_are_marked():
    """docs/results/vee.md has the shares; a check that is not in the table here marks nothing that is good."""
    for wrong in wrongly_marked():
        assert wrong.share <= MARKED_AT_MOST.get((wrong.what, wrong.check), 0.0), wrong


def test_a_planted_fault_is_marked_wherever_it_is_and_nowhere_else():
    faults = planted(seed=2)
    assert all(f.readings == f.found > 0 for f in faults if f.defect == "planted"), faults
    assert all(f.found == 0 for f in faults if f.defect == "elsewhere"), faults


def test_every_check_is_shown_to_find_something():
    """Out of day is decided before the grid (tests/day, tests/cases), an outage explains and accuses nobody."""
    shown = {f.check for f in FOUND} | {f.check for f in planted(seed=1)}
    assert shown == set(CHECKS) - {Quality.OUT_OF_DAY, Quality.OUTAGE}


def test_days_of_23_and_25_hours_are_whole_and_doubled_rows_change_nothing():
    clock = heat_pump()
    assert clock.days == {92: 3, 96: 957, 100: 2}
    assert (clock.doubled, clock.conflicts, clock.missing) == (200, 0, 0)
    assert clock.missing_by_clock_alone == 12


@pytest.mark.parametrize("hours", BLOCKS.values())
def test_estimates_scaled_to_the_register_carry_no_energy_away(hours):
    """And are nearer to the truth than carrying the last reading forward, as is VEE without a register."""
    found = scores(hours)
    assert found["like days, scaled to the register"].bias == 0.0
    assert found["VEE, with register"].bias == 0.0
    assert found["VEE, with register"].mae_wh < 0.75 * found[NAIVE].mae_wh
    assert found["VEE, no register"].mae_wh < 0.90 * found[NAIVE].mae_wh


def test_a_twentieth_of_the_readings_is_hidden():
    shape = sound_days()[0].shape
    for block in (1, 8, 96):
        share = np.mean([hidden(np.random.default_rng(seed), shape, block).mean() for seed in range(20)])
        assert 0.04 < share < 0.06


def test_the_page_of_the_documentation_is_what_the_command_writes(tmp_path):
    answer = CliRunner().invoke(app, ["report", "vee", "--out", str(tmp_path)])
    assert answer.exit_code == 0
    for name in ("vee.md", "vee.svg"):
        assert (tmp_path / name).read_text("utf-8") == (RESULTS / name).read_text("utf-8"), (
            "run `openami report vee` and look at what changed"
        )


def test_another_seed_hides_other_readings():
    assert scores(0, seed=3) != scores(0, seed=1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="give a writable folder"):
        write_report(tmp_path / "file" / "results")
