"""Which method tells this load's tomorrow best? Its own last four weeks decide: each day told at its midnight by each method, scored, and the best
of them told on.

In: the days so far, float64 [day, slot], NaN where unknown. Out: `Chosen`, with every method's score. Boosting is trained once, on what was known
before those four weeks, and told on with the model that was scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from .forecast import (
    HELD_OUT_DAYS,
    QUANTILES,
    RECENT_DAYS_MIN,
    TRAIN_DAYS_MIN,
    WEEK,
    Boosted,
    classical,
    pinball,
    recalibrated,
    seasonal_naive,
)
from .network import Float64

JUDGED_DAYS = 28
BOOSTING_DAYS_MIN = TRAIN_DAYS_MIN + HELD_OUT_DAYS + JUDGED_DAYS
NAIVE, CLASSICAL, BOOSTING = "seasonal naive", "classical", "gradient boosting"


@dataclass(frozen=True, slots=True)
class Chosen:
    """method: "" = too few days are known; told: float64 [quantile, slot], NaN where it cannot be told; scores: each method's pinball loss as a
    share of the mean demand over the judged days, best first; empty where there are too few days to compare."""

    method: str
    told: Float64
    scores: dict[str, float]


def choose(history: Float64, boosting: bool = True) -> Chosen:
    """The day after the last of `history` by the best method. Two weeks are wanted for seasonal naive, eight for classical, seventeen for gradient
    boosting, which takes part where `boosting` and LightGBM is installed. Where fewer than fourteen days can be compared, the most that the days
    allow is taken."""
    if len(history) < 2 * WEEK:
        return Chosen("", np.full((len(QUANTILES), history.shape[1]), np.nan), {})
    methods = _methods(history, boosting)
    past = {name: _at_each_midnight(tell, history, TRAIN_DAYS_MIN if name != NAIVE else 2 * WEEK) for name, tell in methods.items()}
    days = min(len(each) for each in past.values())
    scores = _scores({name: each[len(each) - days :] for name, each in past.items()}, history[len(history) - days :])
    method = next(iter(scores)) if scores else list(methods)[-1]
    told = methods[method](history)
    if len(past[method]):
        told = recalibrated(told, past[method], history[len(history) - len(past[method]) :])
    return Chosen(method, told, scores)


def _methods(history: Float64, boosting: bool) -> dict[str, Callable[[Float64], Float64]]:
    """Those that so many days allow, the most demanding last."""
    found: dict[str, Callable[[Float64], Float64]] = {NAIVE: seasonal_naive}
    if len(history) >= TRAIN_DAYS_MIN:
        found[CLASSICAL] = classical
    before = history[: len(history) - JUDGED_DAYS]
    known_days = np.isfinite(before).any(axis=1).sum() if len(before) else 0
    if boosting and find_spec("lightgbm") and len(history) >= BOOSTING_DAYS_MIN and known_days >= BOOSTING_DAYS_MIN - JUDGED_DAYS + WEEK:
        found[BOOSTING] = Boosted.train(before).predict
    return found


def _at_each_midnight(tell: Callable[[Float64], Float64], history: Float64, days_min: int) -> Float64:
    """[day, quantile, slot] of the last judged days."""
    first = max(len(history) - JUDGED_DAYS, days_min)
    told = [tell(history[:day]) for day in range(first, len(history))]
    return np.stack(told) if told else np.zeros((0, len(QUANTILES), history.shape[1]))


def _scores(past: dict[str, Float64], actual: Float64) -> dict[str, float]:
    """Best first; each day recalibrated by those before it, over slots that every method told."""
    moved = {
        name: np.stack([recalibrated(day, each[:k], actual[:k]) for k, day in enumerate(each)]) for name, each in past.items() if len(each)
    }
    if len(moved) < len(past):
        return {}
    judged = np.isfinite(actual) & np.all([np.isfinite(each).all(axis=1) for each in moved.values()], axis=0)
    if judged.any(axis=1).sum() < RECENT_DAYS_MIN:
        return {}
    true = np.where(judged, actual, np.nan)
    mean = max(abs(float(np.nanmean(true))), 1e-9)
    scores = {name: pinball(true, each.swapaxes(0, 1)) / mean for name, each in moved.items()}
    return dict(sorted(scores.items(), key=lambda item: item[1]))
