"""Benchmark data: days of the shipped real households, as many meters as wanted, with seeded noise and defects at stated rates.

2 % of readings missing (four in five of them alone, the rest in runs of 6 hours), 0.1 % spikes (40 times the reading), 0.5 % of meters
stuck for the whole day. Registers are those of the day as it was before its defects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..fleet.households import load_households
from ..readings import MISSING, Bool, Int32, Int64

MISSING_SHARE = 0.02
SPIKE_SHARE = 0.001
STUCK_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class BenchDay:
    """One shard's half-hourly day. wh, like_wh (the same households a week before), voltage_cv, export_wh: int32 [48, meter];
    conflict, outage, inactive: bool, same shape. [meter]: register_wh, usual_wh, load_w: int64; drift_s, exchange_slot: int32."""

    wh: Int32
    like_wh: Int32
    voltage_cv: Int32
    export_wh: Int32
    conflict: Bool
    outage: Bool
    inactive: Bool
    register_wh: Int64
    usual_wh: Int64
    load_w: Int64
    drift_s: Int32
    exchange_slot: Int32


@lru_cache(maxsize=1)
def _half_hours() -> Int32:
    """int32 [household x day from the eighth on, 2 (day, a week before), 48], sound days only."""
    shipped = load_households().metered_wh
    halves = shipped.reshape(*shipped.shape[:2], 48, 2).sum(axis=3)
    pairs = np.stack([halves[:, 7:], halves[:, :-7]], axis=2).reshape(-1, 2, 48)
    sound = (pairs.min(axis=(1, 2)) >= 0) & (pairs.sum(axis=2) > 1000).all(axis=1)
    return np.ascontiguousarray(pairs[sound].astype(np.int32))


def bench_day(meters: int, seed: int) -> BenchDay:
    """A day of `meters` meters; the same seed gives the same day."""
    rng = np.random.default_rng(seed)
    real = _half_hours()
    own = rng.integers(0, len(real), meters)
    noise = rng.gamma(20, 0.05, (48, meters)).astype(np.float32)
    wh = np.rint(real[own, 0].T * noise).astype(np.int32)
    like = np.ascontiguousarray(real[own, 1].T)
    register = wh.sum(axis=0, dtype=np.int64)
    _spoil(wh, rng)
    loads = np.maximum(1000, 500 * np.ceil(real[own, 0].max(axis=1) * 2 / 500)).astype(np.int64)
    rare = rng.random((48, meters), dtype=np.float32)
    return BenchDay(
        wh=wh,
        like_wh=like,
        voltage_cv=(23_000 + 500 * (rare - 0.5)).astype(np.int32),
        export_wh=np.zeros((48, meters), np.int32),
        conflict=(rare < 0.0001) & (wh != MISSING),
        outage=rare > 0.9995,
        inactive=np.broadcast_to(rng.random(meters) < 0.002, (48, meters)).copy(),
        register_wh=register,
        usual_wh=like.sum(axis=0, dtype=np.int64),
        load_w=loads,
        drift_s=rng.integers(-120, 120, meters).astype(np.int32),
        exchange_slot=np.where(rng.random(meters) < 0.0005, 20, -1).astype(np.int32),
    )


def _spoil(wh: Int32, rng: np.random.Generator) -> None:
    """Put the defects in."""
    slots, meters = wh.shape
    chance = rng.random((slots, meters), dtype=np.float32)
    stuck = rng.random(meters) < STUCK_SHARE
    wh[:, stuck] = np.maximum(wh[0, stuck], 1)
    wh[chance > 1 - SPIKE_SHARE] *= 40
    wh[chance < 0.8 * MISSING_SHARE] = MISSING
    silent = rng.random(meters) < 0.2 * MISSING_SHARE * slots / 12
    first = rng.integers(0, slots - 12)
    wh[first : first + 12, silent] = MISSING
