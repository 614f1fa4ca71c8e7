"""Where energies say that a meter hangs: all meters of a place explain together what it took, and every other meter is asked what it would add.

A place's energy is the sum of what hangs there and what is lost or stolen. So, in steps between neighbouring slots,

    place = sum of coefficient x meter + rest        1: hangs here; more: hangs here and counts too little; 0: hangs elsewhere

Where there are days enough, a step is what is left of it beside the usual step of its hour. Members' coefficients are found in one least-squares
fit; that of any other meter follows from the fit's rest and from the part of its steps which the members cannot make up. What thieves take is noise
in this, so hours and days in which a place's rest is loud weigh less, and so do steps in which members' readings had to be put in. How far a
coefficient speaks for "here" against "elsewhere" is the ratio of two densities, each as wide as the error and what energies never tell, and each with
a broad foot: no single coefficient decides. The error is the fit's, times what the meter itself shows at the places where it does not hang.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..readings import MISSING, Bool, Int32
from .network import Float64

PAIRS_MIN = 48
RIDGE = 0.02
WEIGHING_ROUNDS = 3
GAP_SHORT = 3
USUAL_DAYS = 7
SPREAD = 0.1
"""Standard deviation of a coefficient beyond the fit's own error: meters' classes, wires' losses, a neighbour with the same habits."""
FOLLOWS, FOLLOWS_PLACES = 2.0, 10
"""Steps that follow one another are not independent: variances are this much larger than the fit's, as far as so many places' coefficients of a meter
that hangs at none of them do not say otherwise."""
ELSEWHERE_MOST = 4.0
"""A coefficient of more standard errors elsewhere is likeness, not noise."""
FOOT, FOOT_WIDTH = 0.002, 20.0
"""Share and width of the broad foot that both densities stand on."""


@dataclass(slots=True)
class Energies:
    """Steps of meters float32 [step, meter] and places [step, place]; known: of places; told: meters that say enough; hour, day: which slot of the
    day and which day each step leads to; gaps: bool [step, meter], a reading beside it was put in. fitted: what was found of a place for the members
    that it was fitted with."""

    steps: np.ndarray
    place_steps: np.ndarray
    known: Bool
    told: Bool
    hour: np.ndarray
    day: np.ndarray
    gaps: Bool
    fitted: dict[int, tuple[bytes, Float64, Float64]]

    @staticmethod
    def of(wh: Int32, node_wh: Int32, slots_per_day: int | None = None) -> Energies:
        """wh: int32 [slot, meter]; node_wh: int32 [slot, place], the place's own meter; MISSING where there is none. slots_per_day: None = hours are
        not told apart. A short gap of a meter is put in on the straight line between the readings beside it, a longer one at its own mean of that
        slot of the day; a gap of a place is left out."""
        if wh.shape[0] != node_wh.shape[0]:
            raise RequestError(f"readings {wh.shape} and places {node_wh.shape}; give the same slots")
        per_day = slots_per_day or len(wh) + 1
        there, node_there = wh != MISSING, node_wh != MISSING
        both, slot = there[1:] & there[:-1], np.arange(1, max(len(wh), 1))
        return Energies(
            _beside_usual(np.diff(_filled(wh, there, slots_per_day or 1), axis=0), slot % per_day),
            np.diff(np.where(node_there, node_wh, 0).astype(np.float32), axis=0),
            node_there[1:] & node_there[:-1],
            both.sum(axis=0) >= PAIRS_MIN,
            slot % per_day if slots_per_day else np.zeros(slot.size, int),
            slot // per_day,
            ~both,
            {},
        )

    def scores(self, at: Int32, maybe: Float64 | None = None) -> Float64:
        """Log likelihood ratio [meter, place] of "hangs here" against "hangs elsewhere"; 0 where nothing can be told.

        at: int32 [meter], where each counts now, -1 = nowhere; maybe: float64 [meter, place], the probability with which a meter that counts nowhere
        is fitted with a place's members (0 = it is not). Places whose members are as they were are not fitted again.
        """
        if at.size != self.steps.shape[1]:
            raise RequestError(f"readings of {self.steps.shape[1]} meters, {at.size} placed; give the same meters")
        coefficient, variance = np.zeros((2, at.size, self.place_steps.shape[1]))
        variance += np.inf
        for place in range(self.place_steps.shape[1]):
            rows = self.known[:, place]
            if rows.sum() < PAIRS_MIN:
                continue
            share = np.where(at == place, 1.0, 0.0)
            if maybe is not None:
                share = np.where(at < 0, maybe[:, place], share)
            if (share > 0).sum() > rows.sum() / 2:
                share = np.where(at == place, 1.0, 0.0)
            mark = share.tobytes()
            if place not in self.fitted or self.fitted[place][0] != mark:
                self.fitted[place] = (mark, *self._fit(place, rows, share))
            _, own, variance[:, place] = self.fitted[place]
            coefficient[:, place] = np.where(share > 0, np.minimum(own, 1.0), own)
        return np.where(self.told[:, None], _for_here(coefficient, variance * _noise_elsewhere(coefficient, variance, at)), 0.0)

    def _fit(self, place: int, rows: Bool, share: Float64) -> tuple[Float64, Float64]:
        """Coefficients of all meters at a place and their variances [meter], infinite where a meter does not move. share: float64 [meter], what
        a member's coefficient is drawn to a little; 0 = no member."""
        hour, day = self.hour[rows], self.day[rows]
        x = self.steps if rows.all() else _beside_usual(self.steps[rows], hour)
        y = _beside_usual(self.place_steps[rows, place][:, None], hour)[:, 0]
        members = np.flatnonzero(share)
        own = x[:, members]
        put_in = self.gaps[:, members][rows].astype(np.float32) @ own.var(axis=0)
        weight = np.ones(len(y), np.float32)
        for _ in range(WEIGHING_ROUNDS):
            inverse, b = _least_squares(own, y, weight, share[members])
            weight = _quiet(y - own @ b.astype(np.float32), hour, day, put_in)
        inverse, b = _least_squares(own, y, weight, share[members])
        rest = y - own @ b.astype(np.float32)
        weighed = x * weight[:, None]
        power = np.einsum("ij,ij->j", x, weighed).astype(np.float64)
        shared = (weighed.T @ own).astype(np.float64)
        left = np.maximum(power - np.einsum("ij,ij->i", shared @ inverse, shared), 1e-3 * power) + 1e-9
        spread2 = float(np.mean((weight * rest) ** 2, dtype=np.float64)) * len(y) / max(len(y) - members.size, 1)
        coefficient, variance = (weighed.T @ rest).astype(np.float64) / left, spread2 / left
        coefficient[members], variance[members] = b, spread2 * np.diag(inverse)
        return coefficient, np.where(power > 1.0, variance, np.inf)


def energy_scores(wh: Int32, node_wh: Int32, at: Int32, slots_per_day: int | None = None) -> Float64:
    """`Energies.scores` of readings that are asked once. RequestError where slots or meters do not fit."""
    return Energies.of(wh, node_wh, slots_per_day).scores(at)


def _filled(wh: Int32, there: Bool, per_day: int) -> np.ndarray:
    filled = np.where(there, wh, 0).astype(np.float32)
    for slot in range(min(per_day, len(wh))):
        own, known = filled[slot::per_day], there[slot::per_day]
        if not known.all():
            mean = own.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
            filled[slot::per_day] = np.where(known, own, mean)
    for length in range(1, GAP_SHORT + 1):
        inside = there[: -length - 1] & there[length + 1 :]
        for k in range(1, length + 1):
            inside &= ~there[k : k - length - 1]
        at, meter = np.nonzero(inside)
        before, after = filled[at, meter], filled[at + length + 1, meter]
        for k in range(1, length + 1):
            filled[at + k, meter] = before + (after - before) * k / (length + 1)
    return filled


def _beside_usual(steps: np.ndarray, hour: np.ndarray) -> np.ndarray:
    """Steps [step, ...] less their mean of each slot of the day, for slots that are there on `USUAL_DAYS` days at least."""
    count = np.bincount(hour)
    if count.max(initial=0) < USUAL_DAYS:
        return steps
    rest = steps.copy()
    for slot in np.flatnonzero(count >= USUAL_DAYS):
        rest[hour == slot] -= steps[hour == slot].mean(axis=0)
    return rest


def _least_squares(own: np.ndarray, y: np.ndarray, weight: np.ndarray, share: Float64) -> tuple[Float64, Float64]:
    """The inverse of the weighed Gram matrix, with a ridge towards `share`, and the coefficients."""
    weighed = own * weight[:, None]
    gram = (weighed.T @ own).astype(np.float64)
    ridge = RIDGE * np.diag(gram) + 1e-6
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    return inverse, inverse @ ((weighed.T @ y).astype(np.float64) + ridge * share)


def _quiet(rest: np.ndarray, hour: np.ndarray, day: np.ndarray, put_in: np.ndarray) -> np.ndarray:
    """Weights of steps, mean 1: one over the rest's variance at that slot of the day and, beside it, on that day, which are never taken below a tenth
    of the usual; less where readings were put in, whose variance is `put_in`."""
    square = rest.astype(np.float64) ** 2
    weight = np.ones(rest.size)
    for group in (hour, day - day.min(initial=0)):
        variance = np.bincount(group, weight * square) / np.maximum(np.bincount(group), 1)
        weight /= np.maximum(variance, 0.1 * variance.mean() + 1e-6)[group]
    weight /= 1 + put_in / max(float(square.mean()), 1e-6)
    return np.asarray(weight / weight.mean(), np.float32)


def _noise_elsewhere(coefficient: Float64, variance: Float64, at: Int32) -> Float64:
    """What variances are to be multiplied with, [meter, 1]: the mean square of a meter's coefficients in standard errors where it is not registered,
    without the largest, which may be the place where it hangs."""
    square = np.where(np.arange(coefficient.shape[1]) == at[:, None], 0.0, np.minimum(coefficient**2 / variance, ELSEWHERE_MOST**2))
    places = np.maximum((square > 0).sum(axis=1) - 1, 0)
    noise = (square.sum(axis=1) - square.max(axis=1, initial=0.0) + FOLLOWS * FOLLOWS_PLACES) / (places + FOLLOWS_PLACES)
    return np.asarray(np.maximum(noise, 1.0)[:, None])


def _for_here(coefficient: Float64, variance: Float64) -> Float64:
    """Log of the ratio of densities around 1 and around 0; 0 where the variance is infinite."""
    wide = np.where(np.isfinite(variance), variance, 1.0) + SPREAD**2

    def density(distance: Float64) -> Float64:
        return np.asarray((1 - FOOT) * np.exp(-0.5 * distance**2 / wide) / np.sqrt(2 * np.pi * wide) + FOOT / FOOT_WIDTH)

    return np.asarray(np.where(np.isfinite(variance), np.log(density(coefficient - 1) / density(coefficient)), 0.0))
