"""How good the estimates are: sound readings are hidden and estimated again, of the shipped households or of any others.

From the 22nd day on, of days that are whole; like days are the same weekday of the three weeks before, the register is the day's true energy,
the class profile is the average of the other meters on that day. The same seed hides the same readings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..readings import MISSING, MISSING64, Bool, Int32, Int64
from ..vee import MeterLimits, load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.estimate import class_profile, like_day, linear, scale_to_register
from ..vee.rules import Row
from .households import sound_days

SHARE = 0.05
FIRST_DAY = 21
NAIVE = "carry the last reading forward"
BLOCKS = {"single readings": 0, "blocks of 2 hours": 2, "blocks of 6 hours": 6, "whole days": 24}
"""Hours; 0 = one reading."""


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
    """Days with gaps, side by side. raw, like: int32 [slot, day x meter]; gap: bool, same shape; profile: int32 [slot, day], of the meters of that
    day; before: int32 [day x meter], the last reading of the day before; register: int64 [day x meter]."""

    raw: Int32
    gap: Bool
    like: Int32
    profile: Int32
    before: Int32
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


def scores(hours: int, seed: int = 1, days: Int32 | None = None, minutes: int = 15) -> dict[str, Score]:
    """Every estimator on the same hidden readings, by name. hours: of a gap, as in `BLOCKS`.

    days: int32 [day, slot, meter] of intervals of `minutes`; None = the sound days of the shipped Swiss households."""
    days = sound_days() if days is None else days
    block = max(1, hours * 60 // minutes)
    rng = np.random.default_rng(seed)
    gap = [hidden(rng, day.shape, block) & (day != MISSING).all(axis=0) for day in days[FIRST_DAY:]]
    case = _case(days, np.concatenate(gap, axis=1), minutes)
    true = side_by_side(days[FIRST_DAY:])[case.gap].astype(np.int64)
    return {name: _score(method(case)[case.gap], true) for name, method in METHODS.items()}


def side_by_side(days: Int32) -> Int32:
    """[day, slot, meter] as [slot, day x meter]: no check or estimate of a day looks at another, so many days are one block."""
    return np.ascontiguousarray(days.transpose(1, 0, 2).reshape(days.shape[1], -1))


def _case(days: Int32, gap: Bool, minutes: int) -> _Case:
    count, meters = len(days) - FIRST_DAY, days.shape[2]
    true = side_by_side(days[FIRST_DAY:])
    raw = np.where(gap, MISSING, true).astype(np.int32)
    day_of = np.repeat(np.arange(count, dtype=np.int32), meters)
    rules = load_rules().on(date(2026, 1, 1), "domestic")
    limits = meter_limits([rules] * count, np.zeros(count * meters, np.int64), minutes, rule_of_meter=day_of)
    before = days[FIRST_DAY - 1 : -1, -1].ravel()
    like = like_day(np.stack([side_by_side(days[FIRST_DAY - ago : len(days) - ago]) for ago in (7, 14, 21)]))
    profile = class_profile(raw, raw != MISSING, day_of, count)
    register = np.where((true != MISSING).all(axis=0), true.sum(axis=0, dtype=np.int64), MISSING64)
    return _Case(raw, gap, like, profile, before, register, limits)


def _score(found: Int32, true: Int64) -> Score:
    filled = found != MISSING
    errors = np.where(filled, found.astype(np.int64) - true, 0)
    count = int(filled.sum())
    return Score(float(np.abs(errors).sum() / max(count, 1)), float(errors.sum() / max(true[filled].sum(), 1)), filled.size, count)


def _like(case: _Case) -> Int32:
    return np.where(case.gap, case.like, case.raw)


def _profile(case: _Case) -> Int32:
    return np.where(case.gap, case.profile[:, case.limits.table[Row.RULE_SET]], case.raw)


METHODS: dict[str, Callable[[_Case], Int32]] = {
    NAIVE: lambda case: carried_forward(case.raw, case.before),
    "linear alone": lambda case: linear(case.raw, case.gap, np.zeros_like(case.gap), len(case.raw)),
    "like days alone": _like,
    "class profile alone": _profile,
    "like days, scaled to the register": lambda case: scale_to_register(_like(case), case.gap, case.register)[0],
    "VEE, no register": lambda case: vee_run(case.raw, case.limits, like_day=case.like, class_profile=case.profile).validated,
    "VEE, with register": lambda case: (
        vee_run(case.raw, case.limits, like_day=case.like, class_profile=case.profile, register_wh=case.register).validated
    ),
}
