"""Tomorrow's demand of a transformer or feeder, slot by slot, with quantiles.

In: the days so far, float64 [day, slot], NaN where unknown, and, where there is one, a temperature of the same shape with one day more. Out:
float64 [quantile, slot], never crossing. Issued at midnight: the whole day before is known.

    seasonal_naive   the same weekday a week ago, spread as its errors were
    classical        a ridge regression per slot on yesterday, a week ago, the last weekdays' mean, and heat and cold; spread likewise
    Boosted          gradient boosting (LightGBM, the extra `suspects`), one model per quantile
    recalibrated     any of them, its quantiles moved by how its own last days came out: conformal, so that they hold what they say as habits drift

What always holds: a quantile is never below a lower one; a slot of which too little is known is NaN, never invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, RequestError
from .network import Float64

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WEEK = 7
MEMORY_DAYS = 400
SPREAD_DAYS = 84
TRAIN_DAYS_MIN = 56
HELD_OUT_DAYS = 35
RECENT_DAYS, RECENT_DAYS_MIN, HALF_LIFE_DAYS = 56, 14, 7.0
"""How far back a method's own errors count when it is recalibrated, how few days are too few, and after how many days an error counts half."""
COOL_C, WARM_C = 16.0, 24.0
RIDGE = 1e-3


def pinball(actual: Float64, told: Float64, quantiles: tuple[float, ...] = QUANTILES) -> float:
    """Mean pinball loss over quantiles and known slots, in the series' unit. actual: [slot ...], told: [quantile, slot ...]. NaN without any."""
    losses = []
    for q, each in zip(quantiles, told, strict=True):
        over = actual - each
        losses.append(np.where(over >= 0, q * over, (q - 1) * over))
    whole = np.stack(losses)
    return float(np.nanmean(whole)) if np.isfinite(whole).any() else float("nan")


def seasonal_naive(history: Float64, quantiles: tuple[float, ...] = QUANTILES) -> Float64:
    """The day after the last of `history`."""
    _fits(history)
    if len(history) < WEEK:
        return np.full((len(quantiles), history.shape[1]), np.nan)
    errors = history[WEEK:] - history[:-WEEK]
    return _spread(history[-WEEK], errors[-SPREAD_DAYS:], quantiles)


def classical(history: Float64, temperature: Float64 | None = None, quantiles: tuple[float, ...] = QUANTILES) -> Float64:
    """The day after the last of `history`; temperature: [day + 1, slot], its last row tomorrow's. Falls back on `seasonal_naive` for a slot with
    fewer than 56 days to learn from."""
    _fits(history, temperature)
    naive = seasonal_naive(history, quantiles)
    if len(history) < TRAIN_DAYS_MIN:
        return naive
    inputs = _inputs(history, temperature)[-MEMORY_DAYS - 1 :]
    target = history[-MEMORY_DAYS:]
    told = naive.copy()
    for slot in range(history.shape[1]):
        x, y = inputs[-len(target) - 1 : -1, slot], target[:, slot]
        known = np.isfinite(x).all(axis=1) & np.isfinite(y)
        if known.sum() < TRAIN_DAYS_MIN or not np.isfinite(inputs[-1, slot]).all():
            continue
        centre, size = x[known].mean(axis=0), np.maximum(x[known].std(axis=0), 1e-9)
        design = np.concatenate([np.ones((len(x), 1)), (x - centre) / size], axis=1)
        gram = design[known].T @ design[known] + RIDGE * known.sum() * np.diag([0.0] + [1.0] * x.shape[1])
        w = np.linalg.solve(gram, design[known].T @ y[known])
        point = float(np.concatenate([[1.0], (inputs[-1, slot] - centre) / size]) @ w)
        errors = (y - design @ w)[-SPREAD_DAYS:]
        told[:, slot] = point + np.quantile(errors[np.isfinite(errors)], quantiles) if np.isfinite(errors).sum() >= WEEK else np.nan
    return np.sort(told, axis=0)


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trained models, one per quantile; scale: the series' mean, by which everything is divided; widen: by how much the outer quantiles are drawn
    away from the middle, so that on the last five weeks, which the models did not learn from, they hold what they promise (a conformal step)."""

    quantiles: tuple[float, ...]
    models: tuple[Any, ...]
    scale: float
    widen: float = 1.0

    @staticmethod
    def train(
        history: Float64, temperature: Float64 | None = None, quantiles: tuple[float, ...] = QUANTILES, seed: int = 1, rounds: int = 200
    ) -> Boosted:
        """On the days so far; temperature: [day + 1, slot] or of the same days. RequestError where there are fewer than 91 days to learn from;
        InputError where LightGBM is missing."""
        _fits(history, temperature)
        try:
            import lightgbm
        except ImportError:
            raise InputError("gradient boosting needs LightGBM; install it with: pip install 'openami[suspects]'") from None
        days, slots = history.shape
        scale = float(np.nanmean(np.abs(history))) or 1.0
        rows = _rows(history / scale, temperature)[:days].reshape(days * slots, -1)
        target = (history / scale).reshape(-1)
        known = np.isfinite(target) & np.isfinite(rows[:, :3]).any(axis=1)
        if known.sum() < (TRAIN_DAYS_MIN + HELD_OUT_DAYS) * slots:
            raise RequestError(f"{int(known.sum()) // slots} days are known, {TRAIN_DAYS_MIN + HELD_OUT_DAYS} are needed to train")
        kept = known & (np.arange(known.size) < (days - HELD_OUT_DAYS) * slots)
        data = lightgbm.Dataset(rows[kept].astype(np.float32), target[kept])
        settings = {
            "objective": "quantile",
            "learning_rate": 0.06, "num_leaves": 31, "min_data_in_leaf": 40, "feature_fraction": 0.9,
            "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1, "seed": seed,
            "deterministic": True, "force_col_wise": True, "verbosity": -1,
        }  # fmt: skip
        models = tuple(lightgbm.train({**settings, "alpha": q}, data, num_boost_round=rounds) for q in quantiles)
        aside = known & ~kept
        raw = np.stack([model.predict(rows[aside].astype(np.float32)) for model in models])
        return Boosted(quantiles, models, scale, _widening(np.sort(raw, axis=0), target[aside], quantiles))

    def predict(self, history: Float64, temperature: Float64 | None = None) -> Float64:
        """The day after the last of `history`, which must begin on the same day as what was learnt from: days of the week are counted from it."""
        _fits(history, temperature)
        rows = _rows(history / self.scale, temperature)[-1].astype(np.float32)
        raw = np.sort(np.stack([model.predict(rows) for model in self.models]), axis=0) * self.scale
        middle = raw[len(raw) // 2]
        return np.asarray(middle + self.widen * (raw - middle))


def recalibrated(told: Float64, past_told: Float64, past_actual: Float64, quantiles: tuple[float, ...] = QUANTILES) -> Float64:
    """`told` [quantile, slot], with each quantile moved to where it should have lain on the method's own last days (conformalised quantile regression
    after Romano, Patterson and Candes, 2019, one-sided for each quantile, with weights that fall with age for a demand that drifts).

    past_told: [day, quantile, slot], as told at the midnight before each day; past_actual: [day, slot], NaN where unknown; both in order, up to the
    day before. Errors are measured in widths of the band of their slot. Fewer than fourteen known days move nothing. RequestError where they do not
    fit.
    """
    if past_told.shape[1:] != told.shape or past_actual.shape != (len(past_told), told.shape[1]) or len(told) != len(quantiles):
        raise RequestError(
            f"told {told.shape}, past {past_told.shape}, actual {past_actual.shape}; give [quantile, slot], [day, quantile, slot], [day, slot]"
        )
    past, actual = past_told[-RECENT_DAYS:], past_actual[-RECENT_DAYS:]
    known = np.isfinite(actual) & np.isfinite(past).all(axis=1)
    if known.any(axis=1).sum() < RECENT_DAYS_MIN:
        return told
    weight = np.broadcast_to(0.5 ** (np.arange(len(actual))[::-1, None] / HALF_LIFE_DAYS), actual.shape)[known]
    width, now = np.maximum(past[:, -1] - past[:, 0], 1e-9), np.maximum(told[-1] - told[0], 1e-9)
    moved = [told[k] + now * _weighted_quantile(((actual - past[:, k]) / width)[known], weight, q) for k, q in enumerate(quantiles)]
    return np.asarray(np.sort(np.stack(moved), axis=0))


def _weighted_quantile(values: Float64, weight: Float64, q: float) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, q * reached[-1])])


def _widening(raw: Float64, actual: Float64, quantiles: tuple[float, ...]) -> float:
    """The factor by which the band between the outermost quantiles must grow or shrink to hold its share of what truly came."""
    if not actual.size:
        return 1.0
    middle = raw[len(raw) // 2]
    needed = np.maximum((middle - actual) / np.maximum(middle - raw[0], 1e-9), (actual - middle) / np.maximum(raw[-1] - middle, 1e-9))
    return float(np.clip(np.quantile(needed, quantiles[-1] - quantiles[0]), 0.5, 4.0))


def _fits(history: Float64, temperature: Float64 | None = None) -> None:
    if history.ndim != 2 or (temperature is not None and (temperature.shape[1:] != history.shape[1:] or len(temperature) < len(history))):
        shape = None if temperature is None else temperature.shape
        raise RequestError(f"history {history.shape}, temperature {shape}; give [day, slot], and [day + 1, slot] for the temperature")


def _spread(centre: Float64, errors: Float64, quantiles: tuple[float, ...]) -> Float64:
    """Quantiles of the errors of each slot around its centre; NaN where fewer than seven errors are known."""
    told = np.full((len(quantiles), centre.size), np.nan)
    for slot in range(centre.size):
        known = errors[np.isfinite(errors[:, slot]), slot]
        if known.size >= WEEK:
            told[:, slot] = centre[slot] + np.quantile(known, quantiles)
    return told


def _lag(history: Float64, days: int) -> Float64:
    """Row d: what was known `days` before day d, for each day and the one after the last."""
    lagged = np.full((len(history) + 1, history.shape[1]), np.nan)
    lagged[days:] = history[: len(history) + 1 - days]
    return lagged


def _inputs(history: Float64, temperature: Float64 | None) -> Float64:
    """[day + 1, slot, input]: yesterday, a week ago, mean of the last four such weekdays, yesterday's mean, whether yesterday and today are alike
    in the week, and heat and cold."""
    day, week = _lag(history, 1), _lag(history, WEEK)
    weekdays = np.stack([_lag(history, WEEK * k) for k in range(1, 5)])
    with np.errstate(invalid="ignore"):
        four = np.where(
            np.isfinite(weekdays).sum(axis=0) > 0, np.nansum(weekdays, axis=0) / np.maximum(np.isfinite(weekdays).sum(axis=0), 1), np.nan
        )
    day_before_week = _lag(history, WEEK + 1) if len(history) > WEEK else np.full_like(day, np.nan)
    columns = [
        np.where(np.isfinite(day), day, week),
        np.where(np.isfinite(week), week, four),
        four,
        np.where(np.isfinite(day_before_week), day_before_week, four),
    ]
    if temperature is not None and len(temperature) > len(history):
        warm = temperature[: len(history) + 1]
        before = _lag(temperature[: len(history)], 1)
        columns += [np.maximum(COOL_C - warm, 0), np.maximum(warm - WARM_C, 0), np.nan_to_num(warm - before), (warm - 20) ** 2 / 20]
    return np.stack(columns, axis=2)


def _rows(history: Float64, temperature: Float64 | None) -> Float64:
    """[day + 1, slot, input] for trees: lags, recent means, place in day and week, temperature now and before."""
    days, slots = len(history) + 1, history.shape[1]
    weekdays = np.stack([_lag(history, WEEK * k) for k in range(1, 5)])
    there = np.isfinite(weekdays).sum(axis=0)
    four = np.where(there > 0, np.nansum(weekdays, axis=0) / np.maximum(there, 1), np.nan)
    yesterday = _lag(history, 1)
    known = np.isfinite(yesterday)
    mean = np.where(known.any(axis=1), np.nansum(yesterday, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)
    slot = np.broadcast_to(np.arange(slots), (days, slots))
    weekday = np.broadcast_to((np.arange(days) % WEEK)[:, None], (days, slots))
    season = np.broadcast_to((np.arange(days) % 365.25)[:, None], (days, slots))
    last = np.broadcast_to(yesterday[:, -1:], (days, slots))
    columns = [
        yesterday,
        _lag(history, WEEK),
        four,
        _lag(history, 2),
        np.broadcast_to(mean[:, None], (days, slots)),
        last,
        slot,
        weekday,
        season,
    ]
    if temperature is not None:
        warm = np.full((days, slots), np.nan)
        warm[: len(temperature)] = temperature[:days]
        columns += [
            warm,
            _lag(warm[:-1], 1),
            np.broadcast_to(np.nanmean(np.where(np.isfinite(warm), warm, 0), axis=1)[:, None], (days, slots)),
        ]
    return np.stack(columns, axis=2).astype(np.float64)
