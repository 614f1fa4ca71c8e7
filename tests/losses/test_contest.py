"""The method that told the last four weeks best tells tomorrow."""

from __future__ import annotations

import numpy as np
import pytest

from openami.losses.contest import BOOSTING, CLASSICAL, NAIVE, choose

HOURS = np.arange(3)


def weekly(days: int) -> np.ndarray:
    """Each weekday its own load, drawn once: a week ago is all there is to know."""
    return np.random.default_rng(1).uniform(20, 80, (7, 3))[np.arange(days) % 7] + np.random.default_rng(2).normal(0, 0.1, (days, 3))


def drifting(days: int) -> np.ndarray:
    """A level that wanders from day to day: yesterday says most."""
    return (
        200 + np.cumsum(np.random.default_rng(3).normal(0, 4, days))[:, None] + 5 * HOURS + np.random.default_rng(4).normal(0, 1, (days, 3))
    )


def tent(days: int) -> np.ndarray:
    """Yesterday says all, but not by a straight line: high follows the middle, low follows both ends."""
    level = np.empty(days)
    level[0] = 0.3123
    for day in range(1, days):
        level[day] = 1.999 * min(level[day - 1], 1 - level[day - 1])
    return 100 + 50 * level[:, None] + HOURS


@pytest.fixture(scope="module")
def of_tent():
    return choose(tent(200))


@pytest.mark.parametrize(
    ("load", "days", "method"), [(weekly, 13, ""), (weekly, 20, NAIVE), (weekly, 60, CLASSICAL), (drifting, 100, CLASSICAL)]
)
def test_as_much_as_the_days_allow_is_chosen(load, days, method):
    assert choose(load(days)).method == method


def test_the_best_of_the_last_four_weeks_is_chosen(of_tent):
    assert of_tent.method == BOOSTING == next(iter(of_tent.scores))
    assert of_tent.scores[BOOSTING] < 0.5 * min(of_tent.scores[NAIVE], of_tent.scores[CLASSICAL])


def test_scores_are_told_best_first_and_quantiles_do_not_cross(of_tent):
    assert set(of_tent.scores) == {NAIVE, CLASSICAL, BOOSTING}
    assert list(of_tent.scores.values()) == sorted(of_tent.scores.values())
    assert (np.diff(of_tent.told, axis=0) >= 0).all()


def test_boosting_stays_away_where_it_is_not_asked_or_days_are_unknown():
    gaps = tent(200)
    gaps[:120] = np.nan
    assert BOOSTING not in choose(tent(200), boosting=False).scores
    assert BOOSTING not in choose(gaps).scores


def test_a_few_days_are_told_by_the_most_they_allow():
    assert choose(weekly(20)).scores == {}
    assert np.abs(choose(weekly(20)).told[2] - weekly(21)[-1]).max() < 1
