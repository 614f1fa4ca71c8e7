"""How well are a meter's transformer and phase found, against noise and span? Real households on a constructed low-voltage network: eight
transformers of 30 homes on one feeder, voltages by the wires' drops (linear: each home lowers all on its line, by the wire that they share).

One home in twenty stands at a wrong transformer in the registry; no phase is registered. 2 % of readings are missing. 49 days of households
exist: a longer span goes on with each household's days from another day on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..fleet.households import load_households, true_consumption
from ..losses.mapping import find_places, prior, proposals
from ..losses.network import Float64
from ..readings import MISSING, Int32

TRANSFORMERS, HOMES, PHASES = 8, 30, 3
WRONG, LOST = 0.05, 0.02
SLOTS = 48
SPANS_DAYS = (7, 30, 90)
NOISES_V = (0.1, 0.5, 1.5)
OHM_PER_HOME, OHM_TRANSFORMER = 0.012, 0.015


@dataclass(frozen=True, slots=True)
class Town:
    """wh: [slot, home]; transformer, phase, registered: int32 [home]; volts [slot, home], transformer_volts [slot, transformer, phase]: float64."""

    wh: Int32
    transformer: Int32
    phase: Int32
    registered: Int32
    volts: Float64
    transformer_volts: Float64


@dataclass(frozen=True, slots=True)
class Score:
    """transformer_right, phase_right: share of homes whose most probable place is the true one; found: share of the planted wrong homes that are
    proposed to the right place; precision: share of proposals that are right (NaN without any)."""

    evidence: str
    days: int
    noise_v: float
    transformer_right: float
    found: float
    precision: float
    phase_right: float


def town(seed: int, days: int) -> Town:
    rng = np.random.default_rng([seed, days])
    metered = load_households().metered_wh
    sound = true_consumption(metered.reshape(len(metered), -1)).reshape(len(metered), 49, SLOTS, 2).sum(axis=3)
    homes = TRANSFORMERS * HOMES
    chosen = rng.choice(len(sound), homes, replace=False)
    first = rng.integers(0, 49, homes)
    sequence = np.arange(days)
    at = np.where(sequence < 49, sequence, (sequence + 17 + first[:, None]) % 49) if days > 49 else np.broadcast_to(sequence, (homes, days))
    wh = np.take_along_axis(sound[chosen], np.asarray(at)[:, :, None], axis=1).reshape(homes, -1).T.astype(np.int32)
    transformer = np.repeat(np.arange(TRANSFORMERS), HOMES).astype(np.int32)
    phase = rng.integers(0, PHASES, homes).astype(np.int32)
    wrong = rng.random(homes) < WRONG
    registered = np.where(wrong, (transformer + rng.integers(1, TRANSFORMERS, homes)) % TRANSFORMERS, transformer).astype(np.int32)
    volts, own = _volts(wh, transformer, phase, rng)
    return Town(np.ascontiguousarray(wh), transformer, phase, registered, volts, own)


def _volts(wh: Int32, transformer: Int32, phase: Int32, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Line-to-neutral volts of homes and of transformers' phases; the medium voltage wanders by itself and differs a little between phases."""
    slots, homes = wh.shape
    amps = wh * 2 / 230.0
    wander = np.cumsum(rng.normal(0, 0.35, slots))
    common = 238 + wander - np.convolve(wander, np.ones(96) / 96, "same")
    own = common[:, None, None] + rng.normal(0, 0.15, (slots, 1, PHASES)).cumsum(axis=0) * 0.1
    own = np.repeat(own, TRANSFORMERS, axis=1)
    volts = np.empty((slots, homes))
    for dt in range(TRANSFORMERS):
        for p in range(PHASES):
            on = np.flatnonzero((transformer == dt) & (phase == p))
            own[:, dt, p] -= OHM_TRANSFORMER * amps[:, on].sum(axis=1)
            place = np.arange(1, on.size + 1) * OHM_PER_HOME * 2
            shared = np.minimum(place[:, None], place[None, :]) + np.diag(np.full(on.size, 0.05))
            volts[:, on] = own[:, dt, p][:, None] - amps[:, on] @ shared
    return volts, own


def observe(built: Town, noise_v: float, seed: int) -> tuple[Int32, Int32, Int32, Int32]:
    """What meters tell: homes' Wh and volts (0.01 V), and of the transformers' phases volts and Wh; [slot, ...]."""
    rng = np.random.default_rng([seed, int(noise_v * 1000)])
    slots, homes = built.wh.shape
    lost = rng.random((slots, homes)) < LOST
    wh = np.where(lost, MISSING, np.rint(built.wh * (1 + rng.uniform(-0.01, 0.01, homes)))).astype(np.int32)
    volts = np.rint(10 * (built.volts + rng.normal(0, noise_v, built.volts.shape))).astype(np.int32) * 10
    by_phase = np.zeros((slots, TRANSFORMERS * PHASES))
    np.add.at(by_phase.T, built.transformer * PHASES + built.phase, built.wh.T)
    by_phase += 30 + 0.03 * by_phase**2 / by_phase.mean(axis=0)
    own = built.transformer_volts.reshape(slots, -1)
    own_v = np.rint(10 * (own + rng.normal(0, noise_v, own.shape))).astype(np.int32) * 10
    return wh, np.where(lost, MISSING, volts).astype(np.int32), own_v, np.rint(by_phase).astype(np.int32)


def score(built: Town, noise_v: float, evidence: str, seed: int) -> Score:
    """One study; evidence: voltage, energy, or both. Every phase of every transformer is a place; a transformer is the sum of its phases."""
    wh, volts, own_v, by_phase = observe(built, noise_v, seed)
    group = np.repeat(np.arange(TRANSFORMERS), PHASES).astype(np.int32)
    use_v, use_e = evidence in ("voltage", "both"), evidence in ("energy", "both")
    found = find_places(
        prior(built.registered, group),
        volts if use_v else None,
        own_v if use_v else None,
        wh if use_e else None,
        by_phase if use_e else None,
        slots_per_day=SLOTS,
    )
    by_transformer = found.of_group(group)
    told = proposals(by_transformer, built.registered)
    wrong = built.registered != built.transformer
    right = [p for p in told if built.transformer[p.meter] == p.to]
    return Score(
        evidence=evidence,
        days=len(wh) // SLOTS,
        noise_v=noise_v,
        transformer_right=float((by_transformer.argmax(axis=1) == built.transformer).mean()),
        found=len(right) / max(int(wrong.sum()), 1),
        precision=len(right) / len(told) if told else float("nan"),
        phase_right=float((found.probability.argmax(axis=1) == built.transformer * PHASES + built.phase).mean()),
    )


def grid(seeds: range, days: tuple[int, ...] = SPANS_DAYS, noises_v: tuple[float, ...] = NOISES_V) -> Iterator[Score]:
    """Every span, noise and evidence, the mean over seeds (a mean of precisions leaves out runs without proposals)."""
    for span in days:
        towns = [(seed, town(seed, span)) for seed in seeds]
        for noise in noises_v:
            for evidence in ("voltage", "energy", "both"):
                runs = [score(built, noise, evidence, seed) for seed, built in towns]
                values = {name: [getattr(run, name) for run in runs] for name in ("transformer_right", "found", "precision", "phase_right")}
                yield Score(evidence, span, noise, **{name: _mean(each) for name, each in values.items()})


def _mean(values: list[float]) -> float:
    known = [v for v in values if v == v]
    return sum(known) / len(known) if known else float("nan")
