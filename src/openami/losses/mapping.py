"""The true network: on which transformer and phase a meter really hangs, from voltages that move together and energies that add up.

In: readings over days, [slot, meter], of the homes and of the nodes (transformers, or their phases). Out: for each meter and each place the
probability that it hangs there (`posterior`), and `Proposal`s where the registry says otherwise. A person accepts them; nothing is changed here.

    voltage   neighbours' voltages move with their node's; the noise of each is its own
    energy    what a node took is the sum of those that hang there: mapping_energy.py

Both work on differences between neighbouring slots, so that the daily shape, which all share, does not speak. Scores are logarithms of
likelihoods and may be added. Slots are not independent of one another: a score of voltages counts `WEIGHT` of its nominal strength.

What always holds: a meter has one place, so its probabilities add up to 1; without evidence they are the prior; missing readings count in nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..readings import MISSING, Bool, Int32
from .mapping_energy import PAIRS_MIN, Energies
from .network import Float64

WEIGHT = 0.15
PRIOR_REGISTRY = 0.97
NOWHERE = 0.02
"""Probability that a meter's energies reach no place that is asked: another feeder, or readings that are not what flowed."""
MAYBE_MIN = 0.1
PROPOSE_MIN = 0.9
SETTLE_MIN = 0.99
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Proposal:
    """`meter` (column) hangs on place `to` rather than on `now` (-1 = the registry does not say); confidence: probability of `to`;
    voltage, energy: how much each speaks for it (log likelihood against `now`, or against the runner-up), 0 where it is not there."""

    meter: int
    now: int
    to: int
    confidence: float
    voltage: float
    energy: float


def steps(values: Int32) -> tuple[Float64, Bool]:
    """Differences between neighbouring slots [step, meter] and where both are there; 0 where not."""
    there = values != MISSING
    both = there[1:] & there[:-1]
    return np.where(both, values[1:].astype(np.float64) - values[:-1], 0.0), both


def voltage_scores(volts: Int32, reference: Int32) -> Float64:
    """Log likelihood [meter, place] that a meter hangs at a place, from the correlation of voltage steps; 0 in a row that has too few pairs.

    volts: int32 [slot, meter], reference: int32 [slot, place], both in the same unit, MISSING where there is none. Where transformers do not
    tell their voltages, `consensus` makes references from those who hang there. Steps beyond six times a meter's usual step are cut to that:
    an outage moves all voltages alike.
    """
    if volts.shape[0] != reference.shape[0]:
        raise RequestError(f"voltages of {volts.shape[0]} and references of {reference.shape[0]} slots; give the same slots")
    x, x_there = _level(*steps(volts))
    r, r_there = _level(*steps(reference))
    pairs = x_there.T.astype(np.float64) @ r_there
    own, theirs = (x**2).T @ r_there, x_there.T.astype(np.float64) @ (r**2)
    correlation = (x.T @ r) / np.sqrt(np.maximum(own * theirs, 1e-12))
    score = -0.5 * WEIGHT * pairs * np.log1p(-(np.clip(correlation, 0.0, 0.9999) ** 2))
    return np.where((pairs >= PAIRS_MIN) & (own > 0) & (theirs > 0), score, 0.0)


def consensus(volts: Int32, at: Int32, places: int) -> Int32:
    """Each place's voltage as the middle of those that hang there by the registry, int32 [slot, place]; MISSING where fewer than three tell."""
    reference = np.full((volts.shape[0], places), MISSING, np.int32)
    for place in range(places):
        own = volts[:, at == place]
        there = own != MISSING
        enough = there.sum(axis=1) >= 3
        if enough.any():
            told = np.where(there, own, np.nan)[enough]
            reference[enough, place] = np.rint(np.nanmedian(told, axis=1)).astype(np.int32)
    return reference


def prior(registered: Int32, group: Int32, sure: float = PRIOR_REGISTRY, allowed: Bool | None = None) -> Float64:
    """What is believed beforehand, [meter, place], rows add up to 1.

    group: int32 [place], what the registry names: each place itself, or the transformer of each of its phases. registered: int32 [meter], that
    name, -1 = nothing: then all places are alike. The registered group has probability `sure`, shared by its places; the others share the rest.
    allowed: bool [meter, place], places that come into question (of the same feeder, say); the registered ones always do.
    """
    mine = registered[:, None] == group[None, :]
    open_ = np.ones(mine.shape, np.bool_) if allowed is None else allowed | mine
    others = open_ & ~mine
    count, rest = mine.sum(axis=1, keepdims=True), others.sum(axis=1, keepdims=True)
    inside = np.where(rest > 0, sure, 1.0) / np.maximum(count, 1)
    outside = np.where(count > 0, (1 - sure) / np.maximum(rest, 1), 1.0 / np.maximum(rest, 1))
    return np.asarray(np.where(mine, inside, np.where(others, outside, 0.0)))


def posterior(scores: Float64, before: Float64) -> Float64:
    """Probabilities [meter, place] that add up to 1, from scores and what was believed before (`prior`)."""
    with np.errstate(divide="ignore"):
        logs = scores + np.log(before)
    logs -= logs.max(axis=1, keepdims=True)
    weight = np.exp(logs)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Places:
    """Probabilities [meter, place] and the scores that made them."""

    probability: Float64
    voltage: Float64
    energy: Float64

    def of_group(self, group: Int32) -> Float64:
        """Probabilities of groups of places, [meter, group]: a transformer's is the sum of its phases'."""
        total = np.zeros((len(self.probability), int(group.max()) + 1))
        np.add.at(total.T, group, self.probability.T)
        return total


def doubt(probability: Float64, registered: Int32) -> Float64:
    """Probability that a meter is not where the registry has it, [meter]: what `Errors.wrong_node` wants. 1 where the registry is silent."""
    placed = np.maximum(registered, 0)
    return np.where(registered >= 0, 1 - probability[np.arange(registered.size), placed], 1.0)


def find_places(
    before: Float64,
    volts: Int32 | None = None,
    reference: Int32 | None = None,
    wh: Int32 | None = None,
    node_wh: Int32 | None = None,
    rounds: int = ROUNDS,
    slots_per_day: int | None = None,
) -> Places:
    """Where every meter hangs, from voltages, from energies, or from both; before: [meter, place] as `prior` makes it.

    Meters that are surely somewhere are put there before the others are asked again, twelve `rounds` at most: one wrong meter spoils the rest of
    two places, and the consensus of both. Without a reference the consensus of those who hang there stands for it. Voltages, arrays as for
    `voltage_scores`; energies and slots_per_day as for `Energies.of`. Where nothing fits (`NOWHERE`), what was believed before stands.
    """
    places = before.shape[1]
    at = np.where(before.max(axis=1) > 0.5, before.argmax(axis=1), -1).astype(np.int32)
    nothing = np.zeros(before.shape)
    voltage = voltage_scores(volts, reference) if volts is not None and reference is not None else nothing
    energies = Energies.of(wh, node_wh, slots_per_day) if wh is not None and node_wh is not None else None
    maybe = np.where(before >= MAYBE_MIN, before, 0.0)
    for _ in range(rounds):
        if volts is not None and reference is None:
            voltage = voltage_scores(volts, consensus(volts, at, places))
        energy = energies.scores(at, maybe) if energies is not None else nothing
        probability = _or_nowhere(voltage + energy, before)
        best = probability.argmax(axis=1).astype(np.int32)
        moved = np.where(probability.max(axis=1) >= SETTLE_MIN, best, at).astype(np.int32)
        if (moved == at).all():
            break
        at = moved
    return Places(probability, voltage, energy)


def _or_nowhere(scores: Float64, before: Float64) -> Float64:
    """`posterior` with one more place that nobody asks; what falls to it goes back to what was believed before."""
    meters = len(scores)
    more = posterior(
        np.concatenate([scores, np.zeros((meters, 1))], axis=1),
        np.concatenate([before * (1 - NOWHERE), np.full((meters, 1), NOWHERE)], axis=1),
    )
    return np.asarray(more[:, :-1] + more[:, -1:] * before)


def proposals(probability: Float64, registered: Int32, confidence_min: float = PROPOSE_MIN, found: Places | None = None) -> list[Proposal]:
    """Meters that most probably hang elsewhere than registered, the surest first. found: where the scores come from, if they are of the same
    places; without it the proposals do not say what speaks for them."""
    best = probability.argmax(axis=1)
    confidence = probability.max(axis=1)
    made = []
    for meter in np.flatnonzero((best != registered) & (confidence >= confidence_min)):
        to, now = int(best[meter]), int(registered[meter])
        against = now if now >= 0 else int(np.argsort(probability[meter])[-2]) if probability.shape[1] > 1 else to
        said = [float(each[meter, to] - each[meter, against]) for each in (found.voltage, found.energy)] if found else [0.0, 0.0]
        made.append(Proposal(int(meter), now, to, float(confidence[meter]), said[0], said[1]))
    return sorted(made, key=lambda p: (-p.confidence, p.meter))


def _level(x: Float64, there: npt.NDArray[np.bool_]) -> tuple[Float64, Bool]:
    """Steps cut at six times the usual one, less their mean."""
    count = np.maximum(there.sum(axis=0), 1)
    usual = np.abs(x).sum(axis=0) / count
    cut = np.clip(x, -6 * usual, 6 * usual)
    return np.where(there, cut - cut.sum(axis=0) / count, 0.0), there
