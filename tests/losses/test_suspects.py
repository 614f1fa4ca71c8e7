"""Suspects: what is planted is found and explained, what is innocent is said, what cannot be told counts nothing, inspections are learnt from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openami.errors import RequestError
from openami.losses.features import COLUMN, NAMES, Features, Watched, drop_per_amp, features
from openami.losses.suspects import EVIDENCE, Model, contributions, learn, probabilities, strengths, suspects, worth
from openami.readings import MISSING, MISSING64

PER_DAY, DAYS, HOMES = 48, 42, 20
PROFILE = 200 + 150 * np.sin(np.arange(PER_DAY) / PER_DAY * 2 * np.pi - 2)


def households(seed: int, homes: int = HOMES) -> np.ndarray:
    """True Wh [slot, home]: a common shape, every home's size and switching."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 2.0, homes)
    base = np.tile(PROFILE, DAYS)[:, None] * size
    kettle = rng.binomial(1, 0.15, (len(base), homes)) * rng.gamma(4, 150, (len(base), homes))
    return base * rng.gamma(12, 1 / 12, base.shape) + kettle


def watched(steal=None, metered: bool = True, seed: int = 1) -> Watched:
    true = households(seed)
    counted = true.copy()
    if steal is not None:
        steal(counted)
    into = np.rint(true.sum(axis=1) * 1.02 + np.random.default_rng(seed).normal(0, 15, len(true))).astype(np.int64)[:, None]
    return Watched(
        np.rint(counted).astype(np.int32), np.zeros(HOMES, np.int32), into if metered else np.full_like(into, MISSING64), PER_DAY
    )


def h1(counted):
    counted[14 * PER_DAY :, 3] *= 0.3


def h2(counted):
    counted.reshape(DAYS, PER_DAY, -1)[14:, 10:30, 3] = 0


def h3(counted):
    counted[14 * PER_DAY :, 3] *= np.random.default_rng(5).uniform(0.1, 0.8, len(counted) - 14 * PER_DAY)


def h5(counted):
    days = counted.reshape(DAYS, PER_DAY, -1)
    days[14:, :, 3] = days[14:, :, 3].mean(axis=1, keepdims=True)


def h6(counted):
    days = counted.reshape(DAYS, PER_DAY, -1)
    days[:, :, 3] = days[:, ::-1, 3].copy()


@pytest.mark.parametrize(
    ("steal", "evidence"),
    [(h1, "in_step"), (h1, "drop_found"), (h2, "idle"), (h2, "stands"), (h3, "drop_found"), (h5, "same"), (h6, "phantom")],
)
def test_each_shape_leaves_its_evidence(steal, evidence):
    found = features(watched(steal), PROFILE)
    k = [e.name for e in EVIDENCE].index(evidence)
    strong = strengths(found.values)[:, k]
    assert strong[3] > 0.25
    assert strong[3] > 2 * np.delete(strong, 3).max()


@pytest.mark.parametrize("steal", [h1, h2, h3])
def test_the_thief_comes_first_with_evidence_and_innocent_explanations(steal):
    found = features(watched(steal), PROFILE)
    first, second = suspects(Model.cold(), found, 2)
    assert first.meter == 3
    assert first.probability > 2 * second.probability
    assert first.worth_wh == pytest.approx(first.probability * first.stolen_wh)
    assert len(first.evidence) == len(first.innocent) >= 1
    assert all("{" not in sentence and "nan" not in sentence for sentence in first.evidence)


@pytest.mark.parametrize("steal", [h1, h2, h3])
def test_what_is_missing_is_estimated_within_half(steal):
    true = households(1)
    truly = np.rint(true[:, 3]).sum() - watched(steal).wh[:, 3].sum()
    told = features(watched(steal), PROFILE).stolen_wh[3]
    assert 0.4 * truly / 28 < told < 1.6 * truly / 28


def test_honest_homes_are_left_alone():
    found = features(watched(), PROFILE)
    assert probabilities(Model.cold(), found.values).max() < 0.1


def test_without_the_transformers_meter_its_features_are_unknown_and_nothing_breaks():
    found = features(watched(h1, metered=False), PROFILE)
    for name in ("node_excess", "joint_slope", "joint_t", "idle_excess", "idle_t", "drop_matched"):
        assert np.isnan(found.values[:, COLUMN[name]]).all()
    assert np.argmax(probabilities(Model.cold(), found.values)) == 3  # its fall alone
    assert found.stolen_wh[3] > 0


def test_a_silent_meter_accuses_nobody():
    chunk = watched()
    wh = chunk.wh.copy()
    wh[:, 5] = MISSING
    found = features(replace(chunk, wh=wh), PROFILE)
    assert np.isnan(found.mean_wh[5])
    assert worth(Model.cold(), found)[1][5] < worth(Model.cold(), features(watched(h1), PROFILE))[1][3]


def test_cuts_do_not_matter():
    """Two transformers in one chunk, or each in its own."""
    a, b = watched(h1, seed=1), watched(h2, seed=2)
    both = Watched(
        np.concatenate([a.wh, b.wh], axis=1),
        np.repeat([0, 1], HOMES).astype(np.int32),
        np.concatenate([a.into_wh, b.into_wh], axis=1),
        PER_DAY,
    )
    whole, first = features(both, PROFILE), features(a, PROFILE)
    exact = [COLUMN[name] for name in NAMES if name not in ("drop", "drop_t", "drop_matched")]
    assert whole.values[:HOMES, exact].tobytes() == first.values[:, exact].tobytes()


def test_a_doubtful_place_is_a_mapping_question_first():
    chunk = replace(watched(h1), doubt=np.where(np.arange(HOMES) == 3, 0.95, 0.01).astype(np.float32))
    assert suspects(Model.cold(), features(chunk, PROFILE), 1)[0].first.startswith("settle on which transformer")


def test_tamper_events_and_voltage_count():
    given = np.zeros(HOMES, np.float32)
    given[7] = 3.0
    plain = probabilities(Model.cold(), features(watched(), PROFILE).values)
    tampered = probabilities(Model.cold(), features(replace(watched(), tamper=given, volt_drop=given), PROFILE).values)
    assert tampered[7] > 10 * plain[7]
    assert np.delete(tampered, 7) == pytest.approx(np.delete(plain, 7))


def test_volts_per_registered_ampere():
    rng = np.random.default_rng(2)
    amps = rng.gamma(1, 4000, (500, 2)).astype(np.int32)
    node = np.full((500, 2), 24_000, np.int32)
    volts = (24_000 - amps * np.array([0.02, 0.02])).astype(np.int32)
    half = amps.copy()
    half[:, 1] //= 2  # the second one registers half
    slope = drop_per_amp(volts, half, node)
    assert slope[0] == pytest.approx(0.2, rel=0.02)
    assert slope[1] == pytest.approx(0.4, rel=0.02)
    assert np.isnan(drop_per_amp(volts, np.zeros_like(amps), node)).all()


def inspections(count: int, seed: int):
    """Features of made-up visits in which only standing still tells."""
    rng = np.random.default_rng(seed)
    values = np.zeros((count, len(NAMES)), np.float32)
    values[:, COLUMN["lag1"]], values[:, COLUMN["variation"]], values[:, COLUMN["shape"]] = 0.5, 0.9, 0.3
    values[:, COLUMN["roughness"]] = 1.0
    values[:, COLUMN["missing"]] = 0.05
    values[:, COLUMN["idle_share"]] = rng.uniform(0, 0.5, count)
    values[:, COLUMN["drop_t"]] = rng.uniform(-15, 0, count)
    guilty = rng.random(count) < np.where(values[:, COLUMN["idle_share"]] > 0.25, 0.7, 0.05)
    return values, guilty


def test_inspections_move_the_weights_towards_what_they_found():
    values, guilty = inspections(600, 1)
    cold, learnt = Model.cold(), learn(values, guilty, boost=False)
    names = [e.name for e in EVIDENCE]
    assert learnt.weights[names.index("stands")] > cold.weights[names.index("stands")] + 0.5
    assert learnt.weights[names.index("drop")] < cold.weights[names.index("drop")] - 0.5
    assert learnt.weights[names.index("in_step")] == pytest.approx(cold.weights[names.index("in_step")], abs=1e-6)
    assert (learnt.weights >= 0).all()
    assert learnt.labels == 600


def test_few_inspections_move_little():
    values, guilty = inspections(5, 1)
    assert learn(values, guilty).weights == pytest.approx(Model.cold().weights, abs=1.0)
    assert learn(values, guilty).boost is None


def test_boosting_joins_with_enough_inspections_and_is_the_same_each_time():
    values, guilty = inspections(600, 1)
    unseen, truth = inspections(400, 2)
    models = [learn(values, guilty) for _ in range(2)]
    told = [probabilities(model, unseen) for model in models]
    assert told[0].tobytes() == told[1].tobytes()
    assert told[0][truth].mean() > 2 * told[0][~truth].mean()


def test_contributions_add_up_to_the_log_odds():
    found = features(watched(h1), PROFILE)
    cold = Model.cold()
    logit = cold.base + sum(contributions(cold, found.values)[3].values())
    assert probabilities(cold, found.values)[3] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(RequestError, match="whole days"):
        Watched(np.zeros((50, 2), np.int32), np.zeros(2, np.int32), np.zeros((50, 1), np.int64), PER_DAY)
    with pytest.raises(RequestError, match="inspections"):
        learn(np.zeros((5, 3), np.float32), np.zeros(5, np.bool_))


def test_no_features_no_suspects():
    empty = Features(np.zeros((0, len(NAMES)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert suspects(Model.cold(), empty, 10) == []


def without_memory(seed: int, missing_share: float = 0.0) -> Watched:
    """Honest homes, number 5 of which jumps about; and what a hook before the meters takes, as a share."""
    true = households(seed)
    rng = np.random.default_rng(seed)
    true[:, 5] = rng.gamma(4, 150, len(true))
    into = np.rint(true.sum(axis=1) * (1 + missing_share)).astype(np.int64)[:, None]
    return Watched(np.rint(true).astype(np.int32), np.zeros(HOMES, np.int32), into, PER_DAY)


def test_a_strange_curve_accuses_nobody_whose_transformer_misses_nothing():
    closed, losing = features(without_memory(1), PROFILE), features(without_memory(1, 0.2), PROFILE)
    noise = [e.name for e in EVIDENCE].index("noise")
    assert strengths(losing.values)[5, noise] > 0.3
    assert strengths(closed.values)[5, noise] == 0
    assert probabilities(Model.cold(), closed.values)[5] < 0.03
    assert worth(Model.cold(), closed)[1].max() < worth(Model.cold(), losing)[1][5]


@pytest.mark.parametrize("times", [1, 10])
def test_what_a_silent_meter_uses_makes_its_neighbours_no_thieves(times):
    """However much that is: it told nothing by which one could know."""
    chunk = without_memory(1)
    wh, into_wh = chunk.wh.copy(), chunk.into_wh + (times - 1) * chunk.wh[:, [7]]
    wh[:, 7] = MISSING
    found = features(replace(chunk, wh=wh, into_wh=into_wh), PROFILE)
    noise = [e.name for e in EVIDENCE].index("noise")
    assert strengths(found.values)[5, noise] == 0


def test_what_one_meters_curve_explains_is_no_reason_to_suspect_another():
    found = features(watched(h1), PROFILE)
    share = found.values[:, COLUMN["missing"]]
    assert share[3] == pytest.approx(found.values[3, COLUMN["node_excess"]], rel=1e-3)
    assert np.delete(share, 3).max() < 0.8 * share[3]
