"""Where meters really hang: found from voltages and energies, proposed with confidence, silent where nothing speaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.losses.mapping import consensus, doubt, find_places, posterior, prior, proposals, steps, voltage_scores
from openami.losses.mapping_energy import Energies, _noise_elsewhere, energy_scores
from openami.readings import MISSING
from openami.studies.mapping import score, town


def small_town(seed: int = 1, slots: int = 400, homes: int = 12, places: int = 3):
    """Homes' Wh and volts (0.01 V), places' Wh and volts, and where they hang."""
    rng = np.random.default_rng(seed)
    at = np.arange(homes, dtype=np.int32) % places
    wh = rng.gamma(0.5, 400, (slots, homes)).astype(np.int32)
    node = np.stack([wh[:, at == p].sum(axis=1) for p in range(places)], axis=1) + rng.integers(0, 40, (slots, places))
    own_v = 24_000 - node // 10 + rng.normal(0, 40, (slots, places)).cumsum(axis=0).astype(int) // 5
    volts = own_v[:, at] - wh // 60 + rng.integers(-10, 11, (slots, homes))
    return wh, volts.astype(np.int32), node.astype(np.int32), own_v.astype(np.int32), at


def one_wrong(at):
    registered = at.copy()
    registered[4] = (at[4] + 1) % 3
    return registered


@pytest.mark.parametrize("evidence", ["voltage", "energy", "consensus", "both"])
def test_a_wrong_home_is_proposed_to_where_it_hangs(evidence):
    wh, volts, node, own_v, at = small_town()
    registered = one_wrong(at)
    use_v = {"volts": volts, "reference": own_v} if evidence in ("voltage", "both") else {"volts": volts} if evidence == "consensus" else {}
    use_e = {"wh": wh, "node_wh": node} if evidence in ("energy", "both") else {}
    found = find_places(prior(registered, np.arange(3)), **use_v, **use_e)
    (told,) = proposals(found.probability, registered, found=found)
    assert (told.meter, told.now, told.to) == (4, registered[4], at[4])
    assert told.confidence > 0.99
    assert (told.energy > 0) == bool(use_e)
    assert (told.voltage > 0) == bool(use_v)


def test_without_evidence_the_registry_stands():
    registered = np.array([0, 1, 2, -1], np.int32)
    found = find_places(prior(registered, np.arange(3)))
    assert found.probability[:3].argmax(axis=1).tolist() == [0, 1, 2]
    assert found.probability[3].tolist() == pytest.approx([1 / 3] * 3)
    assert proposals(found.probability, registered) == []
    assert doubt(found.probability, registered).tolist() == pytest.approx([0.03, 0.03, 0.03, 1.0])


def test_a_place_that_does_not_come_into_question_is_never_proposed():
    wh, volts, node, own_v, at = small_town()
    registered = one_wrong(at)
    allowed = np.ones((12, 3), np.bool_)
    allowed[4, at[4]] = False
    found = find_places(prior(registered, np.arange(3), allowed=allowed), volts, own_v, wh, node)
    assert found.probability[4, at[4]] == 0.0


def test_phases_of_the_registered_transformer_share_its_probability():
    before = prior(np.array([1], np.int32), np.array([0, 0, 1, 1], np.int32), sure=0.9)
    assert before.tolist() == [pytest.approx([0.05, 0.05, 0.45, 0.45])]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_probabilities_add_up_to_one(meters, places, seed):
    rng = np.random.default_rng(seed)
    registered = rng.integers(-1, places, meters).astype(np.int32)
    before = prior(registered, np.arange(places))
    assert before.sum(axis=1) == pytest.approx(np.ones(meters))
    assert posterior(rng.normal(0, 500, (meters, places)), before).sum(axis=1) == pytest.approx(np.ones(meters))


def test_steps_across_a_gap_do_not_count():
    x, there = steps(np.array([[1], [4], [MISSING], [9], [10]], np.int32))
    assert x[:, 0].tolist() == [3, 0, 0, 1]
    assert there[:, 0].tolist() == [True, False, False, True]


def test_dead_and_missing_meters_score_nothing():
    wh, volts, node, own_v, at = small_town()
    volts[:, 0], wh[:, 0] = 24_000, 0
    volts[:, 1], wh[:, 1] = MISSING, MISSING
    own_v[:, 2], node[:, 2] = MISSING, MISSING
    assert not voltage_scores(volts, own_v)[[0, 1]].any()
    assert not voltage_scores(volts, own_v)[:, 2].any()
    assert not energy_scores(wh, node, at)[[0, 1]].any()
    assert not energy_scores(wh, node, at)[:, 2].any()


def thieves_at_work(slots: int = 960, homes: int = 30, places: int = 3):
    """Two thieves at each place: half of each reading is told; home 7 stands at a wrong place; some readings are missing."""
    rng = np.random.default_rng(11)
    at = np.arange(homes, dtype=np.int32) % places
    true = rng.gamma(0.5, 400, (slots, homes))
    node = np.stack([true[:, at == p].sum(axis=1) for p in range(places)], axis=1) * 1.03
    told = true.copy()
    told[:, :6] *= rng.uniform(0.1, 0.8, (slots, 6))
    wh = np.where(rng.random(told.shape) < 0.02, MISSING, told).astype(np.int32)
    registered = at.copy()
    registered[7] = (at[7] + 1) % places
    return wh, node.astype(np.int32), at, registered


def test_a_wrong_place_is_found_by_energies_while_thieves_are_at_work():
    wh, node, at, registered = thieves_at_work()
    found = find_places(prior(registered, np.arange(3)), wh=wh, node_wh=node, slots_per_day=48)
    assert [(p.meter, p.to) for p in proposals(found.probability, registered)] == [(7, at[7])]


def test_readings_that_flowed_nowhere_are_not_moved_anywhere():
    wh, node, at, _ = thieves_at_work()
    wh[:, 7] = wh[::-1, 7]  # a curve that no transformer has seen
    found = find_places(prior(at, np.arange(3)), wh=wh, node_wh=node, slots_per_day=48)
    assert proposals(found.probability, at) == []
    assert doubt(found.probability, at)[7] < 0.5


def test_a_short_gap_is_put_in_on_a_straight_line_and_a_long_one_by_its_slot():
    wh = np.tile(np.array([[10], [20], [40], [80]], np.int32), (4, 1))
    wh[5:7], wh[9:13] = MISSING, MISSING
    held = Energies.of(wh, wh.copy(), slots_per_day=4)
    assert held.steps[4:7, 0].tolist() == pytest.approx([70 / 3] * 3)  # 10 to 80 in three steps
    assert held.steps[9:11, 0].tolist() == [20, 40]
    assert held.gaps[:, 0].nonzero()[0].tolist() == [4, 5, 6, 8, 9, 10, 11, 12]


def test_the_usual_day_says_nothing_of_a_place():
    """From a week on: a home whose every day is the same moves no step, however large its days are."""
    day = np.random.default_rng(1).integers(0, 5000, 48)
    wh = np.stack([np.tile(day, 8), np.random.default_rng(2).integers(0, 5000, 8 * 48)], axis=1).astype(np.int32)
    held = Energies.of(wh, wh.copy(), slots_per_day=48)
    assert np.abs(held.steps[:, 0]).max() < 0.01
    assert np.abs(held.steps[:, 1]).max() > 100


def test_a_meter_that_seems_to_hang_everywhere_hangs_nowhere_for_sure():
    """The same coefficient speaks less where the meter's coefficients elsewhere are loud too."""
    quiet, loud = np.full((1, 60), 0.01), np.full((1, 60), 0.4)
    variance, at = np.full((1, 60), 0.01), np.zeros(1, np.int32)
    assert _noise_elsewhere(quiet, variance, at)[0, 0] == pytest.approx(1.0)
    assert _noise_elsewhere(loud, variance, at)[0, 0] > 10
    one = quiet.copy()
    one[0, 7] = 1.0  # where it may hang: the largest does not count
    assert _noise_elsewhere(one, variance, at)[0, 0] == pytest.approx(1.0)


def test_consensus_wants_three():
    volts = np.array([[10, 20, 40, 5, 6], [MISSING, 20, 40, 5, 6]], np.int32)
    at = np.array([0, 0, 0, 1, 1], np.int32)
    assert consensus(volts, at, 2).tolist() == [[20, MISSING], [MISSING, MISSING]]


def test_other_slots_are_refused():
    with pytest.raises(RequestError, match="same slots"):
        voltage_scores(np.zeros((5, 2), np.int32), np.zeros((6, 2), np.int32))
    with pytest.raises(RequestError, match="same slots"):
        energy_scores(np.zeros((5, 2), np.int32), np.zeros((6, 2), np.int32), np.zeros(2, np.int32))


def test_the_study_finds_what_was_planted_and_nothing_else():
    """Real households, a week: the report has spans, noises and seeds."""
    told = score(town(3, 7), 0.1, "both", 3)
    assert told.transformer_right >= 0.99
    assert told.found >= 0.9
    assert told.precision == 1.0
    assert told.phase_right >= 0.97
