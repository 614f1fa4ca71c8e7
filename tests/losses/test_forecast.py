"""Tomorrow's demand and how a transformer fares: quantiles in order, what is unknown stays unknown, numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.losses.forecast import QUANTILES, Boosted, classical, pinball, recalibrated, seasonal_naive
from openami.losses.loading import headroom, loading, outside_limits, peak_shares, unbalance
from openami.readings import MISSING, MISSING64


def demand(days: int, seed: int = 1):
    """A load that follows heat, weekday and hour, and its temperature with one day more."""
    rng = np.random.default_rng(seed)
    hour = np.arange(24)
    warm = 28 + 6 * np.sin((hour - 9) / 24 * 2 * np.pi) + np.repeat(rng.normal(0, 4, days + 1), 24).reshape(-1, 24)
    weekend = (np.arange(days) % 7 >= 5)[:, None]
    load = 100 + 20 * np.sin((hour - 12) / 24 * 2 * np.pi) + 4 * np.maximum(warm[:-1] - 24, 0) - 15 * weekend + rng.normal(0, 2, (days, 24))
    return load, warm


def test_pinball_by_hand():
    told = np.array([[8.0], [12.0]])
    assert pinball(np.array([10.0]), told, (0.1, 0.9)) == pytest.approx((0.1 * 2 + 0.1 * 2) / 2)
    assert np.isnan(pinball(np.array([np.nan]), told, (0.1, 0.9)))


@pytest.mark.parametrize("method", ["seasonal_naive", "classical", "boosted"])
def test_quantiles_hold_what_they_promise_and_never_cross(method):
    load, warm = demand(200)
    model = Boosted.train(load[:170], warm[:171], rounds=60) if method == "boosted" else None
    inside = []
    for day in range(180, 200):
        if model is not None:
            told = model.predict(load[:day], warm[: day + 1])
        else:
            told = seasonal_naive(load[:day]) if method == "seasonal_naive" else classical(load[:day], warm[: day + 1])
        assert told.shape == (len(QUANTILES), 24)
        assert (np.diff(told, axis=0) >= 0).all()
        inside.append((told[0] <= load[day]) & (load[day] <= told[-1]))
    assert 0.65 < np.mean(inside) < 0.99


def test_knowing_the_heat_beats_last_week():
    load, warm = demand(200)
    losses = [[], []]
    for day in range(180, 200):
        for kept, told in zip(losses, (seasonal_naive(load[:day]), classical(load[:day], warm[: day + 1])), strict=True):
            kept.append(pinball(load[day], told))
    assert np.mean(losses[1]) < 0.5 * np.mean(losses[0])


def test_recalibrated_quantiles_hold_what_they_say_after_habits_changed():
    """Told far too narrow and too low: after a few weeks of that the band holds nine of ten."""
    rng = np.random.default_rng(3)
    actual = 100 + rng.normal(0, 10, (200, 24))
    told = np.repeat((90 + np.array([-3, -1, 0, 1, 3.0]))[:, None], 24, axis=1)
    past = np.repeat(told[None], 200, axis=0)
    moved = np.stack([recalibrated(told, past[:k], actual[:k]) for k in range(60, 200)])
    inside = (moved[:, 0] <= actual[60:]) & (actual[60:] <= moved[:, -1])
    assert 0.86 < inside.mean() < 0.94
    assert ((told[0] <= actual) & (actual <= told[-1])).mean() < 0.3
    assert (np.diff(moved, axis=1) >= 0).all()


def test_few_days_move_nothing_and_gaps_count_in_nothing():
    told = np.repeat(np.arange(5.0)[:, None], 4, axis=1)
    actual = np.full((30, 4), 9.0)
    past = np.repeat(told[None], 30, axis=0)
    assert recalibrated(told, past[:10], actual[:10]) is told
    gappy = actual.copy()
    gappy[::2] = np.nan
    assert recalibrated(told, past, gappy).tolist() == recalibrated(told, past, actual).tolist()
    with pytest.raises(RequestError, match="quantile, slot"):
        recalibrated(told, past, actual[:5])


def test_too_little_history_is_unknown_or_naive():
    load, warm = demand(60)
    assert np.isnan(seasonal_naive(load[:6])).all()
    assert np.array_equal(classical(load[:30], warm[:31]), seasonal_naive(load[:30]))
    with pytest.raises(RequestError, match="91 are needed"):
        Boosted.train(load[:40], warm[:41])


def test_gaps_do_not_spread():
    load, warm = demand(120)
    load[100:, 5] = np.nan
    load[np.random.default_rng(1).random(load.shape) < 0.05] = np.nan
    told = classical(load, warm)
    assert np.isfinite(np.delete(told, 5, axis=1)).mean() > 0.9


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match=r"\[day, slot\]"):
        classical(np.zeros((70, 24)), np.zeros((70, 23)))


def wide(*values: float):
    return np.array(values, np.int64)[:, None]


def test_loading_by_hand():
    """A 100 kVA transformer in half hours: 40, 60 and 20 kVAh are 80, 120 and 40 kVA."""
    found = loading(wide(38_000, 54_000, 19_000), wide(40_000, 60_000, 20_000), np.array([100.0]), 1800)
    assert found.peak_share[0] == pytest.approx(1.2)
    assert found.mean_share[0] == pytest.approx(0.8)
    assert found.over_hours[0] == 0.5
    assert found.power_factor[0] == pytest.approx(111 / 120)
    assert np.isnan(found.hot_spot_c[0])


def test_at_rated_load_and_twenty_degrees_the_winding_ages_normally():
    """55 K + 23 K above 20 degrees is 98: rate 1."""
    steady = np.full((96, 1), 50_000, np.int64)
    found = loading(steady, steady, np.array([100.0]), 1800, np.full(96, 20.0))
    assert found.hot_spot_c[0] == pytest.approx(98.0)
    assert found.ageing[0] == pytest.approx(1.0)


def test_a_negative_rating_tells_nothing_and_gaps_lower_coverage():
    found = loading(wide(1, MISSING64, 1), wide(1, MISSING64, 1), np.array([np.nan]), 1800)
    assert np.isnan(found.peak_share[0])
    assert np.isnan(found.over_hours[0])
    assert found.coverage[0] == pytest.approx(2 / 3)
    with pytest.raises(RequestError, match="ratings"):
        loading(wide(1), wide(1), np.array([1.0, 2.0]), 1800)


def test_unbalance_by_hand():
    phases = np.array([[[100, 100, 100]], [[150, 100, 50]], [[0, 0, 0]], [[MISSING64, 1, 1]]], np.int64)
    assert unbalance(phases)[:2, 0].tolist() == [0.0, 0.5]
    assert np.isnan(unbalance(phases)[2:]).all()


def test_voltage_outside_limits():
    volts = np.array([[23_000, 21_000], [24_500, MISSING], [23_000, MISSING], [21_500, MISSING]], np.int32)
    low, high = outside_limits(volts, 230.0)
    assert (low.tolist(), high.tolist()) == ([0.25, 1.0], [0.25, 0.0])


def test_headroom_by_hand():
    """48 equal half hours of 10 kW under 50 kVA: 47.5 kW of rating; solar adds the demand it feeds, vehicles what is left."""
    found = headroom(np.full((48, 1), 5_000, np.int64), np.array([50.0]), 48)
    assert (found.solar_kw[0], found.vehicle_kw[0], found.day_kw[0]) == (pytest.approx(57.5), pytest.approx(37.5), pytest.approx(37.5))
    full = headroom(np.full((48, 1), 50_000, np.int64), np.array([50.0]), 48)
    assert full.vehicle_kw[0] == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_peak_shares_add_up(meters, categories, seed):
    rng = np.random.default_rng(seed)
    wh = rng.integers(1, 1000, (12, meters)).astype(np.int32)
    wh[rng.random(wh.shape) < 0.2] = MISSING
    shares = peak_shares(wh, rng.integers(0, categories, meters).astype(np.int32), categories, 3)
    assert np.isnan(shares).all() or shares.sum() == pytest.approx(1.0)
