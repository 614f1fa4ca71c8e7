"""Outages of the town, planted by seed: a fuse, a transformer, a feeder, and a moment that nobody's clock on the wall notices.

All lie in the last evening, one after the other. What always holds: whoever hangs below truly takes nothing while it is dark, and the meters above
count accordingly; a fifth of the last gasps and of the first breaths is lost on the way; the same seed plants the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np

from .households import SLOTS_PER_DAY
from .town import Town, flow_again

LOST_SHARE = 0.2
BREATH_DELAY_S = 40
SLOT_S = 900
LONG_S = 2_160
"""So long that an interval lies wholly in it, and another between one outage and the next."""
FUSE_HOMES_MIN = 3
"""A fuse whose single-phase homes are fewer is not told from these homes' own."""


@dataclass(frozen=True, slots=True)
class Dark:
    """An outage that truly is. level: phase (a fuse), transformer or feeder; node: as the audit names it; meters: consumers, by number in the town;
    start_s, end_s: UTC seconds; planned: announced beforehand; gasps, breaths: when those whose word arrives speak (by number, UTC seconds)."""

    level: str
    node: str
    meters: tuple[int, ...]
    start_s: int
    end_s: int
    planned: bool
    gasps: dict[int, int]
    breaths: dict[int, int]

    @property
    def momentary(self) -> bool:
        """Shorter than five minutes (IEEE 1366)."""
        return self.end_s - self.start_s < 300


def plant_outages(town: Town, mute: Set[int]) -> list[Dark]:
    """Choose the places, and let the town be dark there (changes its energies). mute: meters whose word never comes, by number."""
    rng = np.random.default_rng([town.seed, 9])
    midnight_s = town.calendar.day_start(town.first_day) + (town.days - 1) * SLOTS_PER_DAY * SLOT_S
    planted = []
    for level, node, meters, clock_s, length_s, planned in _places(town, rng):
        start_s = midnight_s + clock_s + int(rng.integers(10, 50))
        end_s = start_s + length_s
        heard = np.array([m for m in meters if m not in mute], np.int64)
        gasping, breathing = (np.sort(rng.permutation(heard)[round(LOST_SHARE * heard.size) :]).tolist() for _ in range(2))
        gasps = {m: start_s + int(rng.integers(0, 4)) for m in gasping}
        breaths = {m: end_s + int(rng.integers(1, BREATH_DELAY_S)) for m in breathing}
        planted.append(Dark(level, node, meters, start_s, end_s, planned, gasps, breaths))
    _darken(town, planted)
    return planted


def _places(town: Town, rng: np.random.Generator) -> Iterator[tuple[str, str, tuple[int, ...], int, int, bool]]:
    """Level, node, consumers, start by the clock [s], length [s], planned. A place that a small town does not have is left out."""
    below = [np.flatnonzero(town.true_transformer == k) for k in range(len(town.transformers))]
    order = rng.permutation(len(town.transformers)).tolist()
    fused, switched, blinked = (order[k % len(order)] for k in range(3))
    single = {p: [int(m) for m in below[fused] if town.points[m].phase == p] for p in "RYB"}
    phase = max(single, key=lambda p: len(single[p]))
    name = town.transformers[fused].name
    if len(single[phase]) >= FUSE_HOMES_MIN:
        yield "phase", f"{name} {phase}", tuple(single[phase]), _clock(21, 2), LONG_S, False
    yield "transformer", town.transformers[switched].name, tuple(below[switched].tolist()), _clock(22, 1), LONG_S, True
    on_feeder = [k for k, t in enumerate(town.transformers) if t.feeder == town.transformers[fused].feeder]
    if len(on_feeder) > 1:
        whole = np.sort(np.concatenate([below[k] for k in on_feeder]))
        yield "feeder", town.transformers[fused].feeder, tuple(whole.tolist()), _clock(23, 1), LONG_S, False
    yield "transformer", town.transformers[blinked].name, tuple(below[blinked].tolist()), _clock(23, 50), 100, False


def _clock(hour: int, minute: int) -> int:
    return 3_600 * hour + 60 * minute


def with_supply(town: Town, outage: Dark) -> np.ndarray:
    """The share of each slot in which there is supply, float64 [slot]."""
    begins = town.calendar.day_start(town.first_day) + SLOT_S * np.arange(town.slots, dtype=np.int64)
    dark = np.minimum(outage.end_s, begins + SLOT_S) - np.maximum(outage.start_s, begins)
    return np.asarray(1 - np.maximum(dark, 0) / SLOT_S)


def _darken(town: Town, planted: list[Dark]) -> None:
    alive = np.ones((len(town.transformers), town.slots))
    for outage in planted:
        share, own = with_supply(town, outage), list(outage.meters)
        for wh in (town.true_wh, town.metered_wh):
            wh[own] = np.rint(wh[own] * share).astype(np.int32)
        for k, transformer in enumerate(town.transformers):
            if outage.node in (transformer.name, transformer.feeder):
                alive[k] *= share
    flow_again(town, alive)
