"""Technical loss where no network model is known: a constant part and a part that grows with the square of the current.

In: what came into a node and what was lost there, slot by slot. Out: `Fitted`: no-load loss, the square laws' coefficients, and what is left.

    loss = no_load + square x in^2 + apart x (sum of consumers' squares) + even x registered + rest

The first three are what iron and wires lose (I2R): the wires that all share by the square of the sum, each consumer's own by its own square.
Consumers are not at their peaks together, so the latter goes with the load itself when they are many; without it, it would be taken for theft. Theft
and meters that count short go with the load (`even`) or with nothing (`rest`), so they stay commercial. It is a fit: a thief who takes only at the
peak looks like wires, and the interval says how far that can go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from .half_width import NORMAL_90
from .network import Float64

SLOTS_MIN = 96
ROUNDS = 30
HUBER = 1.5
MODEL_ERROR = 0.05
"""Relative standard deviation for what the square laws leave out (reactive power, where along the wires the load sits): on seven low-voltage networks
the fit is 7 % low to 5 % high, 1 % low on the average (docs/results/losses-physics.md)."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """no_load_w [W]; square_per_w: loss [W] per W^2 of power coming in; apart_per_w: per W^2 of consumers' squares; even: what is lost evenly for
    each W that consumers register, with its standard error; technical_wh, its 90 % interval, and commercial_wh = loss - technical of the slots that
    were fitted [Wh]; slots: how many."""

    no_load_w: float
    square_per_w: float
    apart_per_w: float
    even: float
    even_error: float
    technical_wh: float
    technical_low_wh: float
    technical_high_wh: float
    commercial_wh: float
    slots: int


def fit(
    in_w: Float64,
    loss_w: Float64,
    interval_s: int,
    registered_w: Float64 | None = None,
    fixed_no_load_w: float | None = None,
    squares_w2: Float64 | None = None,
) -> Fitted | None:
    """in_w, loss_w: average power of each slot [W], NaN where unknown. None where fewer than 96 slots are known or the load never changes.

    registered_w: what the consumers' meters count as taken [W]; None: take it that nothing is lost evenly (no theft). squares_w2: the sum of the
    squares of what each of them took [W^2]; None: take it that all use all wires. fixed_no_load_w: the transformer's no-load loss where its plate or
    its make is known. Coefficients are never negative; single slots weigh little (Huber). The interval holds what the noise allows and `MODEL_ERROR`
    for what the formula leaves out. RequestError where the shapes differ.
    """
    if in_w.shape != loss_w.shape or in_w.ndim != 1:
        raise RequestError(f"in {in_w.shape} and loss {loss_w.shape} must be one value each per slot")
    known = np.isfinite(in_w) & np.isfinite(loss_w)
    for given in (registered_w, squares_w2):
        known = known & np.isfinite(given) if given is not None else known
    x, y = in_w[known], loss_w[known]
    if x.size < SLOTS_MIN or np.ptp(x) < 1e-6 * max(float(np.abs(x).max()), 1.0):
        return None
    laws = {"square": x**2}
    if squares_w2 is not None:
        laws["apart"] = squares_w2[known]
    if fixed_no_load_w is None:
        laws["no_load"] = np.ones_like(x)
    if registered_w is not None:
        laws["even"] = registered_w[known]
    design = np.stack(list(laws.values()), axis=1)
    coefficients, covariance = _robust(design, y - (fixed_no_load_w or 0.0))
    told = {"no_load": fixed_no_load_w or 0.0, "apart": 0.0, "even": 0.0} | dict(zip(laws, coefficients.tolist(), strict=True))
    error = float(covariance[-1, -1] ** 0.5) if registered_w is not None else 0.0
    hours, lost = interval_s / 3600, float(y.sum()) * interval_s / 3600
    physical = design.sum(axis=0) * hours * [name != "even" for name in laws]
    technical = float(physical @ coefficients) + (fixed_no_load_w or 0.0) * x.size * hours
    half = NORMAL_90 * float(physical @ covariance @ physical + (MODEL_ERROR * technical) ** 2) ** 0.5
    return Fitted(
        told["no_load"], told["square"], told["apart"], told["even"], error, technical, max(technical - half, 0.0), technical + half,
        lost - technical, int(x.size),
    )  # fmt: skip


def _robust(design: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Non-negative least squares with Huber's weights: coefficients and their covariance (slots that follow one another are alike, so errors are
    reckoned in groups of a day's sixteenth: Newey and West's idea in its plainest form)."""
    from scipy.optimize import nnls

    size = np.maximum(np.abs(design).max(axis=0), 1e-12)
    scaled = design / size
    weight = np.ones(y.size)
    coefficients = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        found, _ = nnls(scaled * root[:, None], y * root)
        left = y - scaled @ found
        spread = 1.4826 * float(np.median(np.abs(left))) or 1e-9
        weight = np.minimum(1.0, HUBER * spread / np.maximum(np.abs(left), 1e-12))
        if np.allclose(found, coefficients, rtol=1e-6, atol=1e-12):
            break
        coefficients = found
    inverse = np.linalg.pinv((scaled * weight[:, None]).T @ scaled)
    groups = _in_groups(scaled * (weight * left)[:, None])
    covariance = inverse @ (groups.T @ groups) @ inverse
    return found / size, covariance / np.outer(size, size)


def _in_groups(scores: Float64, length: int = 24) -> Float64:
    whole = len(scores) // length * length
    parts = scores[:whole].reshape(-1, length, scores.shape[1]).sum(axis=1)
    return np.concatenate([parts, scores[whole:].sum(axis=0, keepdims=True)])
