"""Are the intervals of the losses honest? A constructed feeder of real households, metered with errors that are drawn anew in every run;
how often does the 90 % interval cover the loss that truly was.

Every run: one feeder, 12 transformers of 20 to 40 homes (shipped households, each run other ones on other days), technical and some
commercial loss. Then the meters: errors within their class, clocks off, intervals missing, silent meters, gaps estimated from the day
before, meters registered at the wrong transformer. The interval knows the rates at which these happen, never the draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..fleet.households import SLOTS_PER_DAY, load_households, true_consumption
from ..losses.account import Account, Errors, MeterTotals, account, totals, usual
from ..losses.network import Float64, Level, Tree, children_first
from ..readings import MISSING, Bool, Int32, Quality, UInt32

TRANSFORMERS = 12
DAYS = 7
CLASS_HOME, CLASS_TRANSFORMER, CLASS_FEEDER = 0.01, 0.0075, 0.005
CLOCK_S, WRONG, SILENT, GAP, LOST = 60.0, 0.01, 0.01, 0.04, 0.005
SPANS = ("hour", "day", "week")


@dataclass(frozen=True, slots=True)
class Truth:
    """A constructed week. homes_wh: float64 [slot, home]; into_wh: float64 [slot, transformer]; feeder_wh: float64 [slot]; hangs, registered:
    int [home], the true transformer and the registry's."""

    homes_wh: Float64
    into_wh: Float64
    feeder_wh: Float64
    hangs: Int32
    registered: Int32


@dataclass(frozen=True, slots=True)
class Covered:
    """One run: for each (level, span) how many intervals covered the true loss, how many there were, and their mean half width as a share of
    what came in."""

    level: str
    span: str
    inside: int
    intervals: int
    half_width_share: float


def runs(count: int, seed: int = 20260101) -> Iterator[list[Covered]]:
    """`count` independent runs, each from a seed of its own."""
    metered = load_households().metered_wh
    homes = true_consumption(metered.reshape(len(metered), -1))
    for run in range(count):
        yield one_run(homes, np.random.default_rng([seed, run]))


def one_run(homes: Int32, rng: np.random.Generator) -> list[Covered]:
    truth = construct(homes, rng)
    values, quality = meter(truth, rng)
    tree = registered_tree(truth)
    errors = known_errors(tree, values.shape[1])
    by_day = [
        totals(values[d : d + SLOTS_PER_DAY], quality[d : d + SLOTS_PER_DAY], SLOTS_PER_DAY, _usual(values[d : d + SLOTS_PER_DAY], truth))
        for d in range(0, DAYS * SLOTS_PER_DAY, SLOTS_PER_DAY)
    ]
    first = slice(0, SLOTS_PER_DAY)
    hours = totals(values[first], quality[first], 4, _usual(values[first], truth))
    week: MeterTotals = by_day[0]
    for day in by_day[1:]:
        week = week.plus(day)
    found = []
    for span, meters, slots in (("hour", hours, 4), ("day", by_day[0], SLOTS_PER_DAY), ("week", week, DAYS * SLOTS_PER_DAY)):
        reckoned = account(tree, meters, errors, 900)
        found += _compare(span, reckoned, true_losses(truth, slots, reckoned.loss_wh.shape[0]))
    return found


def construct(homes: Int32, rng: np.random.Generator) -> Truth:
    """A week of a feeder from households [household, slot]."""
    sizes = rng.integers(20, 41, TRANSFORMERS)
    chosen = rng.integers(0, len(homes), sizes.sum())
    start = rng.integers(0, 42, sizes.sum()) * SLOTS_PER_DAY
    length = DAYS * SLOTS_PER_DAY
    used = np.stack([homes[h, s : s + length + 1] for h, s in zip(chosen, start, strict=True)], axis=1).astype(np.float64)
    registered = np.repeat(np.arange(TRANSFORMERS), sizes).astype(np.int32)
    wrong = rng.random(registered.size) < WRONG
    hangs = np.where(wrong, (registered + rng.integers(1, TRANSFORMERS, registered.size)) % TRANSFORMERS, registered).astype(np.int32)
    below = np.zeros((len(used), TRANSFORMERS))
    np.add.at(below.T, hangs, used.T)
    stolen = np.where(rng.random(TRANSFORMERS) < 0.3, rng.uniform(0.02, 0.2, TRANSFORMERS), 0.0)
    technical = 0.02 + 0.03 * below / np.maximum(below.mean(axis=0), 1.0)
    into = below * (1 + technical + stolen) + 20.0
    return Truth(used, into, into.sum(axis=1) * 1.02 + 300.0, hangs, registered)


def meter(truth: Truth, rng: np.random.Generator) -> tuple[Int32, UInt32]:
    """What the meters make of it, [slot, meter]: homes, transformers, the feeder; with the quality that VEE would give."""
    true = np.concatenate([truth.homes_wh, truth.into_wh, truth.feeder_wh[:, None]], axis=1)
    homes = truth.homes_wh.shape[1]
    limit = np.concatenate([np.full(homes, CLASS_HOME), np.full(TRANSFORMERS, CLASS_TRANSFORMER), [CLASS_FEEDER]])
    ahead = np.clip(rng.normal(0, CLOCK_S / 900, true.shape[1]), -0.9, 0.9)
    before = np.concatenate([true[:1], true[:-1]])
    after = np.concatenate([true[1:], true[-1:]])
    shifted = (1 - np.abs(ahead)) * true + np.where(ahead > 0, ahead * after, -ahead * before)
    counted = np.cumsum(shifted * (1 + rng.uniform(-limit, limit)), axis=0)
    values = np.diff(np.floor(counted), axis=0, prepend=0).astype(np.int32)[:-1]
    quality = np.zeros(values.shape, np.uint32)
    _estimate_gaps(values, quality, homes, rng)
    values[:, :homes][_lost(values.shape[0], homes, rng)] = MISSING
    return values, quality


def _lost(slots: int, homes: int, rng: np.random.Generator) -> Bool:
    lost: Bool = rng.random((slots, homes)) < LOST
    for day in range(DAYS):
        lost[day * SLOTS_PER_DAY : (day + 1) * SLOTS_PER_DAY, rng.random(homes) < SILENT] = True
    return lost


def _estimate_gaps(values: Int32, quality: UInt32, homes: int, rng: np.random.Generator) -> None:
    """Gaps of 4 to 24 hours, filled as VEE fills them: with the day before."""
    for day in range(DAYS):
        for home in np.flatnonzero(rng.random(homes) < GAP):
            slots = int(rng.integers(16, 97))
            begin = day * SLOTS_PER_DAY + int(rng.integers(0, SLOTS_PER_DAY - slots + 1))
            source = begin - SLOTS_PER_DAY if day else begin + SLOTS_PER_DAY
            values[begin : begin + slots, home] = values[source : source + slots, home]
            quality[begin : begin + slots, home] = Quality.ESTIMATED_LIKE_DAY


def registered_tree(truth: Truth) -> Tree:
    homes = truth.registered.size
    parent = np.concatenate([np.full(TRANSFORMERS, TRANSFORMERS), [-1]]).astype(np.int32)
    return Tree(
        names=(*(f"T{k:02d}" for k in range(TRANSFORMERS)), "F"),
        levels=(Level.TRANSFORMER,) * TRANSFORMERS + (Level.FEEDER,),
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.arange(homes, homes + TRANSFORMERS + 1, dtype=np.int32),
        rating_kva=np.full(TRANSFORMERS + 1, np.nan),
        meter_node=np.concatenate([truth.registered, np.full(TRANSFORMERS + 1, -1)]).astype(np.int32),
        maybe_meter=np.zeros(0, np.int32),
        maybe_node=np.zeros(0, np.int32),
        maybe_share=np.zeros(0),
    )


def known_errors(tree: Tree, meters: int) -> Errors:
    """What is known of the meters: their classes and the rates of the rest."""
    errors = Errors.alike(meters, CLASS_HOME, CLOCK_S, 1.0, WRONG)
    errors.class_limit[tree.own_meter[:TRANSFORMERS]] = CLASS_TRANSFORMER
    errors.class_limit[tree.own_meter[TRANSFORMERS]] = CLASS_FEEDER
    errors.wrong_node[tree.own_meter] = 0.0
    return errors


def true_losses(truth: Truth, slots_per_span: int, spans: int) -> Float64:
    """[span, node]: what truly came in less what truly went out to those who truly hang there."""
    used = np.zeros(truth.into_wh.shape)
    np.add.at(used.T, truth.hangs, truth.homes_wh.T)
    lost = np.concatenate([truth.into_wh - used, (truth.feeder_wh - truth.into_wh.sum(axis=1))[:, None]], axis=1)
    cut = lost[: spans * slots_per_span]
    return np.asarray(cut.reshape(spans, slots_per_span, -1).sum(axis=1))


def _usual(values: Int32, truth: Truth) -> Float64:
    return usual(values, np.arange(truth.registered.size))


def _compare(span: str, reckoned: Account, true: Float64) -> list[Covered]:
    found = []
    for level in (Level.TRANSFORMER, Level.FEEDER):
        nodes = reckoned.tree.at(level)
        known = reckoned.known[:, nodes]
        inside = (reckoned.low_wh[:, nodes] <= true[:, nodes]) & (true[:, nodes] <= reckoned.high_wh[:, nodes])
        width = (reckoned.high_wh - reckoned.low_wh)[:, nodes][known] / 2
        share = float((width / reckoned.in_wh[:, nodes][known]).mean())
        found.append(Covered(level, span, int((inside & known).sum()), int(known.sum()), share))
    return found
