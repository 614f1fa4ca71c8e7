"""How far to both sides of the likely loss the true one lies nine times in ten.

In: the parts of the spread, the largest single rectangular limit among the meters, and how many meters are expected to hang elsewhere.
Out: the interval's half width, float64.

A spread alone does not tell it. Where one meter's class decides, a rectangle has no foot beyond its limit: 1.645 standard deviations would
cover 95 %. Where a meter rarely hangs elsewhere, but then with its whole energy, the spread is wide and nine in ten may lie close. So

    off = normal part + rectangle of the largest limit + as many moved meters as it happens (Poisson), each of a normal size

and the half width is where that distribution holds the wanted share (JCGM 101, GUM supplement 1, asks for the distribution; this is its closed
form where each part is one of these).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Float64 = npt.NDArray[np.float64]
NORMAL_90 = 1.6448536269514722
INSIDE, INSIDE_MOST = 0.9, 0.95
MANY = 12.0
"""As many expected moves and more: their sum is normal."""
SKEWED = 0.2
"""Consumers' sizes are skewed: nine moves in ten move less than normal sizes of the same spread would, by that share of one move's variance."""
WIDEST = 4.0
"""No such distribution has nine in ten beyond so many standard deviations (Chebyshev: 3.2)."""
_STEPS = 14


def half_width(spread_wh: Float64, mapping: int, limit_wh: Float64, moves: Float64, inside: float = INSIDE) -> Float64:
    """The half width [Wh], of the shape of `limit_wh`. spread_wh: float64 [part, ...], standard deviations; mapping: which part is the moves';
    limit_wh: the largest rectangular limit, contained in the spread; moves: how many meters are expected to hang elsewhere, contained in the
    spread too; inside: the share to be covered, at most `INSIDE_MOST`."""
    variance = (spread_wh**2).sum(axis=0)
    moved = spread_wh[mapping] ** 2
    plain = np.maximum(variance - moved - limit_wh**2 / 3, 0.0)
    found = np.empty(variance.size)
    _solve(plain.ravel(), moved.ravel(), limit_wh.ravel().astype(np.float64), moves.ravel().astype(np.float64), inside, found)
    return found.reshape(variance.shape)


@njit(nogil=True, cache=True, error_model="numpy")
def _solve(plain: Any, moved: Any, limit: Any, moves: Any, inside: float, found: Any) -> None:
    """Halving and the secant in turn: the share covered grows with the width."""
    for k in range(found.size):
        spread = math.sqrt(plain[k] + moved[k] + limit[k] ** 2 / 3)
        low, high = 0.0, WIDEST * spread
        below, above = -inside, 1.0 - inside
        for step in range(_STEPS):
            if high - low <= 2e-3 * spread:
                break
            width = (low * above - high * below) / (above - below) if step % 2 else (low + high) / 2
            over = _covered(width, plain[k], moved[k], limit[k], moves[k]) - inside
            if over < 0:
                low, below = width, over
            else:
                high, above = width, over
        found[k] = (low * above - high * below) / (above - below)


@njit(nogil=True, cache=True, error_model="numpy")
def _covered(width: float, plain: float, moved: float, limit: float, moves: float) -> float:
    """The probability to be off by `width` at most; plain, moved: variances."""
    if moves >= MANY or moves <= 0 or moved <= 0:
        return float(_within(width, math.sqrt(plain + moved), limit))
    share, told, each, k = math.exp(-moves), 0.0, moved / moves, 0
    while share > 1e-6 or k < moves:
        told += share * _within(width, math.sqrt(plain + max(k - SKEWED, 0.0) * each), limit)
        k += 1
        share *= moves / k
    return float(told)


@njit(nogil=True, cache=True, error_model="numpy")
def _within(width: float, spread: float, limit: float) -> float:
    """The probability that a normal and a rectangular error together are off by `width` at most."""
    if limit <= 0.05 * spread:
        return math.erf(width / math.sqrt(2 * (spread**2 + limit**2 / 3))) if spread > 0 else 1.0
    spread = max(spread, 1e-3 * limit)
    ends = _area((width + limit) / spread) - _area((width - limit) / spread)
    return float(spread / limit * ends - 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _area(x: float) -> float:
    """The integral of the normal distribution up to x."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2.0))) + math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
