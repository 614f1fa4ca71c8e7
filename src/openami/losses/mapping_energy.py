"""Where energies say that a meter hangs: all meters of a place explain together what it took, and every other meter is asked what it would add.

A place's energy is the sum of what hangs there and what is lost or stolen. So, in steps between neighbouring slots,

    place = sum of coefficient x meter + rest        1: hangs here; more: hangs here and counts too little; 0: hangs elsewhere

Members' coefficients are found in one least-squares fit; that of any other meter follows from the fit's rest and from the part of its steps which the
members cannot make up. What thieves take is noise in this, so hours in which a place's rest is loud weigh less. How far a coefficient speaks for
"here" against "elsewhere" is the ratio of two densities, each as wide as the fit's error and what energies never tell, and each with a broad foot: no
single coefficient decides.
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
SPREAD = 0.1
"""Standard deviation of a coefficient beyond the fit's own error: meters' classes, wires' losses, a neighbour with the same habits."""
FOLLOWS = 2.0
"""Steps that follow one another are not independent: variances are this much larger."""
FOOT, FOOT_WIDTH = 0.002, 20.0
"""Share and width of the broad foot that both densities stand on."""


@dataclass(slots=True)
class Energies:
    """Steps of meters float32 [step, meter] and places [step, place]; known: of places; told: meters that say enough; hour: which slot of the day
    each step leads to. fitted: what was found of a place for the members that it was fitted with."""

    steps: np.ndarray
    place_steps: np.ndarray
    known: Bool
    told: Bool
    hour: np.ndarray
    fitted: dict[int, tuple[bytes, Float64, Float64]]

    @staticmethod
    def of(wh: Int32, node_wh: Int32, slots_per_day: int | None = None) -> Energies:
        """wh: int32 [slot, meter]; node_wh: int32 [slot, place], the place's own meter; MISSING where there is none. slots_per_day: None = hours are
        not told apart. A gap of a meter is put in at its own mean of that slot of the day; a gap of a place is left out."""
        if wh.shape[0] != node_wh.shape[0]:
            raise RequestError(f"readings {wh.shape} and places {node_wh.shape}; give the same slots")
        per_day = slots_per_day or 1
        there, node_there = wh != MISSING, node_wh != MISSING
        return Energies(
            np.diff(_filled(wh, there, per_day), axis=0),
            np.diff(np.where(node_there, node_wh, 0).astype(np.float32), axis=0),
            node_there[1:] & node_there[:-1],
            (there[1:] & there[:-1]).sum(axis=0) >= PAIRS_MIN,
            np.arange(1, max(len(wh), 1)) % per_day,
            {},
        )

    def scores(self, at: Int32, maybe: Float64 | None = None) -> Float64:
        """Log likelihood ratio [meter, place] of "hangs here" against "hangs elsewhere"; 0 where nothing can be told.

        at: int32 [meter], where each counts now, -1 = nowhere; maybe: float64 [meter, place], the probability with which a meter that counts nowhere
        is fitted with a place's members (0 = it is not). Places whose members are as they were are not fitted again.
        """
        if at.size != self.steps.shape[1]:
            raise RequestError(f"readings of {self.steps.shape[1]} meters, {at.size} placed; give the same meters")
        found = np.zeros((at.size, self.place_steps.shape[1]))
        for place in range(found.shape[1]):
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
            _, coefficient, variance = self.fitted[place]
            found[:, place] = _for_here(np.where(share > 0, np.minimum(coefficient, 1.0), coefficient), variance)
        return np.where(self.told[:, None], found, 0.0)

    def _fit(self, place: int, rows: Bool, share: Float64) -> tuple[Float64, Float64]:
        """Coefficients of all meters at a place and their variances [meter], infinite where a meter does not move. share: float64 [meter], what
        a member's coefficient is drawn to a little; 0 = no member."""
        x = self.steps if rows.all() else self.steps[rows]
        y, hour = self.place_steps[rows, place], self.hour[rows]
        members = np.flatnonzero(share)
        own = x[:, members]
        weight = np.ones(len(y), np.float32)
        for _ in range(WEIGHING_ROUNDS):
            inverse, b = _least_squares(own, y, weight, share[members])
            weight = _quiet_hours(y - own @ b.astype(np.float32), hour)
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
    return filled


def _least_squares(own: np.ndarray, y: np.ndarray, weight: np.ndarray, share: Float64) -> tuple[Float64, Float64]:
    """The inverse of the weighed Gram matrix, with a ridge towards `share`, and the coefficients."""
    weighed = own * weight[:, None]
    gram = (weighed.T @ own).astype(np.float64)
    ridge = RIDGE * np.diag(gram) + 1e-6
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    return inverse, inverse @ ((weighed.T @ y).astype(np.float64) + ridge * share)


def _quiet_hours(rest: np.ndarray, hour: np.ndarray) -> np.ndarray:
    """Weights of steps, mean 1: one over the rest's variance at that slot of the day, which is never taken below a tenth of the usual."""
    count = np.maximum(np.bincount(hour), 1)
    variance = np.bincount(hour, rest.astype(np.float64) ** 2) / count
    weight = 1 / np.maximum(variance, 0.1 * variance.mean() + 1e-6)[hour]
    return np.asarray(weight / weight.mean(), np.float32)


def _for_here(coefficient: Float64, variance: Float64) -> Float64:
    """Log of the ratio of densities around 1 and around 0; 0 where the variance is infinite."""
    wide = np.where(np.isfinite(variance), variance, 1.0) * FOLLOWS + SPREAD**2

    def density(distance: Float64) -> Float64:
        return np.asarray((1 - FOOT) * np.exp(-0.5 * distance**2 / wide) / np.sqrt(2 * np.pi * wide) + FOOT / FOOT_WIDTH)

    return np.asarray(np.where(np.isfinite(variance), np.log(density(coefficient - 1) / density(coefficient)), 0.0))
