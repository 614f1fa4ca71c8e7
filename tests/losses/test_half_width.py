"""The half width of an interval: its known corners, and the share of drawn errors that it holds."""

from __future__ import annotations

import numpy as np
import pytest

from openami.losses.half_width import NORMAL_90, half_width
from openami.losses.metered import Errors, measured, usual
from openami.readings import MISSING

MAPPING = 1


def width(plain: float, moved: float = 0.0, limit: float = 0.0, moves: float = 0.0) -> float:
    """plain, moved: standard deviations; the rectangle's own comes on top."""
    spread = np.array([[np.hypot(plain, limit / 3**0.5)], [moved]])
    return float(half_width(spread, MAPPING, np.array([limit]), np.array([moves]))[0])


def test_normal_errors_have_the_normal_width():
    assert width(10.0) == pytest.approx(10 * NORMAL_90, rel=2e-3)


def test_one_meters_class_alone_is_a_rectangle():
    assert width(0.0, limit=100.0) == pytest.approx(90.0, rel=4e-3)


def test_many_moves_are_normal():
    assert width(3.0, moved=4.0, moves=50.0) == pytest.approx(5 * NORMAL_90, rel=2e-3)


def test_what_happens_once_in_a_hundred_times_hardly_widens():
    assert width(10.0, moved=30.0, moves=0.01) < 1.1 * width(10.0)


def test_nothing_known_to_err_is_no_width():
    assert width(0.0) == 0.0


@pytest.mark.parametrize(
    ("plain", "mean_size", "limit", "moves"),
    [(10.0, 0.0, 30.0, 0.0), (10.0, 20.0, 0.0, 0.3), (10.0, 40.0, 0.0, 0.6), (5.0, 20.0, 40.0, 2.0), (20.0, 10.0, 10.0, 6.0)],
)
def test_nine_drawn_errors_in_ten_lie_inside(plain, mean_size, limit, moves):
    """Moves of skewed sizes, as consumers have them, to both sides."""
    rng = np.random.default_rng(1)
    draws, skew = 200_000, 0.8
    count = rng.poisson(moves, draws)
    size = mean_size * np.exp(rng.normal(-(skew**2) / 2, skew, int(count.sum()))) * rng.choice([-1.0, 1.0], int(count.sum()))
    jumps = np.bincount(np.repeat(np.arange(draws), count), weights=size, minlength=draws)
    off = rng.normal(0, plain, draws) + rng.uniform(-limit, limit, draws) + jumps
    moved = mean_size * np.exp(skew**2 / 2) * moves**0.5
    held = np.mean(np.abs(off) <= width(plain, moved, limit, moves))
    assert held == pytest.approx(0.9, abs=0.02)


def day(swing: float) -> np.ndarray:
    """48 half-hours of 100 homes of two sizes; each four hours of a home stand still, one block from the next by a factor of up to `swing`."""
    rng = np.random.default_rng(2)
    blocks = rng.uniform(1 / swing, swing, (6, 100)) * np.where(np.arange(100) % 2, 300, 100)
    return np.repeat(blocks, 8, axis=0).astype(np.int32)


def test_restless_homes_make_gaps_less_sure():
    calm, restless = (measured(Errors.alike(100), day(s), np.arange(100), usual(day(s), np.arange(100)), 1800) for s in (1.1, 3.0))
    assert calm.gap < 0.3 < restless.gap
    assert calm.estimated < calm.gap
    assert calm.unknown == pytest.approx(0.5, abs=0.1)  # half the homes take three times what the others take


def test_too_few_whole_homes_say_nothing():
    values = day(3.0)
    values[5, 29:] = MISSING
    known = Errors.alike(100)
    assert measured(known, values, np.arange(100), usual(values, np.arange(100)), 1800) is known
