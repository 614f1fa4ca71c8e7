"""How good the estimates are: sound readings of the shipped households are hidden and estimated again.

Days 21 to 48 of the households without a documented defect; like days are the same weekday of the three weeks before, the register is the
day's true energy, the class profile is the average of the other meters on that day. The same seed hides the same readings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..readings import MISSING, Bool, Int32, Int64
from ..vee import MeterLimits, load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.estimate import class_profile, like_day, linear, scale_to_register
from .households import SLOTS, sound_days

SHARE = 0.05
FIRST_DAY, LAST_DAY = 21, 49
NAIVE = "carry the last reading forward"
BLOCKS = {"single readings": 1, "blocks of 2 hours": 8, "blocks of 6 hours": 24, "whole days": SLOTS}


@dataclass(frozen=True, slots=True)
class Score:
    """mae_wh: mean absolute error of a hidden reading; bias: (estimated - true) energy as a share of the true, of all hidden readings that
    could be estimated; hidden, filled: readings."""

    mae_wh: float
    bias: float
    hidden: int
    filled: int


@dataclass(frozen=True, slots=True)
class _Case:
    """One day with gaps. raw, like: int32 [slot, meter]; gap: bool, same shape; profile: int32 [slot, 1]; register: int64 [meter]."""

    raw: Int32
    gap: Bool
    like: Int32
    profile: Int32
    register: Int64
    limits: MeterLimits


def hidden(rng: np.random.Generator, shape: tuple[int, ...], block: int) -> Bool:
    """bool [slot, meter]: about `SHARE` of it True, in blocks of `block` slots. A block as long as the day hides whole days."""
    slots, meters = shape
    if block >= slots:
        return np.broadcast_to(rng.random(meters) < SHARE, (slots, meters)).copy()
    starts = rng.random((slots, meters)) < SHARE / block
    mask = np.zeros((slots, meters), np.bool_)
    for k in range(block):
        mask[k:] |= starts[: slots - k]
    return mask


def carried_forward(values: Int32, before: Int32) -> Int32:
    """The naive estimate: the last reading that came; `before` [meter] is the one of the day before."""
    out = values.copy()
    for t in range(len(out)):
        out[t] = np.where(out[t] == MISSING, out[t - 1] if t else before, out[t])
    return out


def scores(block: int, seed: int = 1) -> dict[str, Score]:
    """Every estimator on the same hidden readings, by name; `block` in slots of a quarter hour."""
    days = sound_days()
    rng = np.random.default_rng(seed)
    rules = load_rules().on(date(2026, 1, 1), "domestic")
    limits = meter_limits(rules, np.zeros(days.shape[2], np.int64), 15)
    errors: dict[str, list[Int64]] = {}
    filled: dict[str, list[Bool]] = {}
    truth: list[Int64] = []
    for d in range(FIRST_DAY, LAST_DAY):
        case = _case(days, d, hidden(rng, days[d].shape, block), limits)
        truth.append(days[d][case.gap].astype(np.int64))
        for name, method in METHODS.items():
            values = carried_forward(case.raw, days[d - 1, -1]) if name == NAIVE else method(case)
            found = values[case.gap]
            there = found != MISSING
            errors.setdefault(name, []).append(np.where(there, found.astype(np.int64) - truth[-1], 0))
            filled.setdefault(name, []).append(there)
    true = np.concatenate(truth)
    return {name: _score(np.concatenate(parts), np.concatenate(filled[name]), true) for name, parts in errors.items()}


def _case(days: Int32, d: int, gap: Bool, limits: MeterLimits) -> _Case:
    raw = np.where(gap, MISSING, days[d]).astype(np.int32)
    profile = class_profile(raw, ~gap, np.zeros(raw.shape[1], np.int32), 1)
    return _Case(raw, gap, like_day(days[[d - 7, d - 14, d - 21]]), profile, days[d].sum(axis=0, dtype=np.int64), limits)


def _score(errors: Int64, filled: Bool, true: Int64) -> Score:
    count = int(filled.sum())
    mae = float(np.abs(errors).sum() / max(count, 1))
    return Score(mae, float(errors.sum() / max(true[filled].sum(), 1)), filled.size, count)


def _like(case: _Case) -> Int32:
    return np.where(case.gap, case.like, case.raw)


def _profile(case: _Case) -> Int32:
    return np.where(case.gap, np.broadcast_to(case.profile, case.raw.shape), case.raw)


METHODS: dict[str, Callable[[_Case], Int32]] = {
    NAIVE: lambda case: carried_forward(case.raw, case.raw[0]),
    "linear alone": lambda case: linear(case.raw, case.gap, np.zeros_like(case.gap), SLOTS),
    "like days alone": _like,
    "class profile alone": _profile,
    "like days, scaled to the register": lambda case: scale_to_register(_like(case), case.gap, case.register)[0],
    "VEE, no register": lambda case: vee_run(case.raw, case.limits, like_day=case.like, class_profile=case.profile).validated,
    "VEE, with register": lambda case: (
        vee_run(case.raw, case.limits, like_day=case.like, class_profile=case.profile, register_wh=case.register).validated
    ),
}
