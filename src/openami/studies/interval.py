"""Are the intervals of the losses honest? A constructed substation of real households, metered with errors that are drawn anew in every run;
how often does the 90 % interval cover the loss that truly was.

Every run: one substation, two feeders, each in a shard of its own, 12 transformers of 20 to 40 homes (shipped households, each run other ones on
other days), technical and some commercial loss. The substation is reckoned from the shards' sums, to its feeders' heads and (its area) to the homes.
Then the meters: errors within their class, clocks off, intervals missing, silent meters, gaps estimated from the day before, meters registered at the
wrong transformer. The interval knows the rates at which these happen, never the draws. Other settings change the network or one of the rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..fleet.households import load_households, true_consumption
from ..losses.above import Place, Share, account_and_share, join
from ..losses.account import Account
from ..losses.metered import Errors, MeterTotals, measured, totals, usual
from ..losses.network import Float64, Level, Tree, children_first
from ..readings import MISSING, Bool, Int32, Quality, UInt32

FEEDERS = 2
KINDS = (Level.TRANSFORMER, Level.FEEDER, Level.SUBSTATION)
AREA = "substation area"
LEVELS = (*(str(level) for level in KINDS), AREA)
SPANS = ("hour", "day", "all days")


@dataclass(frozen=True, slots=True)
class Setting:
    """A network and how it is metered. homes: fewest and most of a transformer; class_*: limits as shares; clock_s: standard deviation of clocks;
    wrong: share of homes registered at a wrong transformer of their feeder; silent, gap: share of homes silent for a day, with 4 to 24 hours of it
    estimated; lost: share of single intervals missing."""

    name: str = "as usual"
    transformers: int = 12
    homes: tuple[int, int] = (20, 40)
    days: int = 7
    interval_s: int = 900
    class_home: float = 0.01
    class_transformer: float = 0.0075
    class_feeder: float = 0.005
    clock_s: float = 60.0
    wrong: float = 0.01
    silent: float = 0.01
    gap: float = 0.04
    lost: float = 0.005

    @property
    def slots(self) -> int:
        """Intervals of a day."""
        return 86400 // self.interval_s


USUAL = Setting()
OTHERS = (
    Setting("half-hours", interval_s=1800),
    Setting("four weeks", days=28),
    Setting("4 transformers", transformers=4),
    Setting("5 to 12 homes each", homes=(5, 12)),
    Setting("nothing missing, all places right", wrong=0.0, silent=0.0, gap=0.0, lost=0.0),
    Setting("all places right", wrong=0.0),
    Setting("1 place in 500 wrong", wrong=0.002),
    Setting("1 place in 20 wrong", wrong=0.05),
    Setting("three times as much missing", silent=0.03, gap=0.12, lost=0.015),
    Setting("homes of class 2, transformers 0.5, feeders 0.2", class_home=0.02, class_transformer=0.005, class_feeder=0.002),
    Setting("homes of class 0.5, transformers and feeders 2", class_home=0.005, class_transformer=0.02, class_feeder=0.02),
    Setting("clocks five minutes off", clock_s=300.0),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """A constructed span of days. homes_wh: float64 [slot, home]; into_wh: float64 [slot, node], what truly came into transformers, feeders and
    substation, in the tree's order; hangs, registered: int [home], the true transformer and the registry's."""

    homes_wh: Float64
    into_wh: Float64
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


def runs(count: int, seed: int = 20260101, setting: Setting = USUAL) -> Iterator[list[Covered]]:
    """`count` independent runs, each from a seed of its own."""
    metered = load_households().metered_wh
    quarters = true_consumption(metered.reshape(len(metered), -1))
    homes = quarters.reshape(len(quarters), -1, setting.interval_s // 900).sum(axis=2, dtype=np.int32)
    for run in range(count):
        yield one_run(homes, np.random.default_rng([seed, run]), setting)


def one_run(homes: Int32, rng: np.random.Generator, setting: Setting = USUAL) -> list[Covered]:
    truth = construct(homes, rng, setting)
    values, quality = meter(truth, rng, setting)
    tree = registered_tree(truth, setting)
    shards = [Shard.of(tree, feeder, values, quality, setting) for feeder in range(FEEDERS)]
    found = []
    for span, slots in zip(SPANS, (3600 // setting.interval_s, setting.slots, len(values)), strict=True):
        told = [shard.account(span, setting) for shard in shards]
        above = join([share for _, share in told])
        true = true_losses(truth, parents(setting), slots, told[0][0].loss_wh.shape[0])
        for level in KINDS[:2]:
            each = [
                (account, shard.nodes[[tree.levels[k] is level for k in shard.nodes]])
                for (account, _), shard in zip(told, shards, strict=True)
            ]
            found.append(_compare(str(level), span, each, [true[:, nodes] for _, nodes in each]))
        if above is not None:
            top, of_area = np.zeros(1, np.int64), true.sum(axis=1, keepdims=True)
            found.append(_compare(str(Level.SUBSTATION), span, [(above.wires, top)], [true[:, -1:]]))
            found.append(_compare(AREA, span, [(above.area, top)], [of_area]))
    return found


@dataclass(frozen=True, slots=True)
class Shard:
    """One feeder's meters, and in the first shard the substation's own. nodes: its transformers and its feeder, int64; by_span: the totals of the
    first day's hours, of the first day, and of all days."""

    tree: Tree
    nodes: npt.NDArray[np.int64]
    errors: Errors
    by_span: dict[str, MeterTotals]
    metered: bool

    @staticmethod
    def of(tree: Tree, feeder: int, values: Int32, quality: UInt32, setting: Setting) -> Shard:
        nodes = np.append(np.flatnonzero(tree.parent == setting.transformers + feeder), setting.transformers + feeder)
        owned = np.append(nodes, [tree.parent.size - 1] if feeder == 0 else [])
        homes = np.flatnonzero(np.isin(tree.meter_node, nodes))
        columns = np.concatenate([homes, tree.own_meter[owned.astype(np.int64)]])
        own = np.full(tree.parent.size, -1, np.int32)
        own[owned.astype(np.int64)] = np.arange(homes.size, columns.size)
        part = replace(tree, own_meter=own, meter_node=tree.meter_node[columns])
        values, quality, consumers = values[:, columns], quality[:, columns], np.arange(homes.size)
        first = slice(0, setting.slots)
        known = known_errors(tree, setting, columns)
        errors = measured(known, values[first], consumers, usual(values[first], consumers), setting.interval_s)
        days = [slice(begin, begin + setting.slots) for begin in range(0, len(values), setting.slots)]
        by_day = [totals(values[day], quality[day], setting.slots, usual(values[day], consumers)) for day in days]
        hours = totals(values[first], quality[first], 3600 // setting.interval_s, usual(values[first], consumers))
        whole = by_day[0]
        for each in by_day[1:]:
            whole = whole.plus(each)
        return Shard(part, nodes, errors, dict(zip(SPANS, (hours, by_day[0], whole), strict=True)), feeder == 0)

    def account(self, span: str, setting: Setting) -> tuple[Account, Share]:
        heads = frozenset(self.tree.names[k] for k in np.flatnonzero(self.tree.parent == self.tree.parent.size - 1).tolist())
        place = Place(
            self.tree.names[-1], Level.SUBSTATION, feeds=heads, told=heads & {self.tree.names[k] for k in self.nodes}, metered=self.metered
        )
        return account_and_share(self.tree, [place], self.by_span[span], self.errors, setting.interval_s)


def parents(setting: Setting) -> Int32:
    """Of transformers, feeders and the substation: a feeder takes every second transformer."""
    transformers = setting.transformers + np.arange(setting.transformers) % FEEDERS
    return np.concatenate([transformers, np.full(FEEDERS, setting.transformers + FEEDERS), [-1]]).astype(np.int32)


def construct(homes: Int32, rng: np.random.Generator, setting: Setting = USUAL) -> Truth:
    """Some days of a substation from households [household, slot]."""
    count, length = setting.transformers, setting.days * setting.slots
    sizes = rng.integers(setting.homes[0], setting.homes[1] + 1, count)
    chosen = rng.integers(0, len(homes), sizes.sum())
    start = rng.integers(0, homes.shape[1] // setting.slots - setting.days, sizes.sum()) * setting.slots
    used = np.stack([homes[h, s : s + length + 1] for h, s in zip(chosen, start, strict=True)], axis=1).astype(np.float64)
    registered = np.repeat(np.arange(count), sizes).astype(np.int32)
    wrong = rng.random(registered.size) < setting.wrong
    sister = (registered + FEEDERS * rng.integers(1, max(count // FEEDERS, 2), registered.size)) % count
    hangs = np.where(wrong, sister, registered).astype(np.int32)
    below = np.zeros((len(used), count))
    np.add.at(below.T, hangs, used.T)
    stolen = np.where(rng.random(count) < 0.3, rng.uniform(0.02, 0.2, count), 0.0)
    technical = 0.02 + 0.03 * below / np.maximum(below.mean(axis=0), 1.0)
    into = below * (1 + technical + stolen) + 20.0
    feeders = np.stack([into[:, k::FEEDERS].sum(axis=1) for k in range(FEEDERS)], axis=1) * 1.02 + 300.0
    return Truth(used, np.concatenate([into, feeders, feeders.sum(axis=1, keepdims=True) * 1.01 + 500.0], axis=1), hangs, registered)


def meter(truth: Truth, rng: np.random.Generator, setting: Setting = USUAL) -> tuple[Int32, UInt32]:
    """What the meters make of it, [slot, meter]: homes, then each node's own; with the quality that VEE would give."""
    true = np.concatenate([truth.homes_wh, truth.into_wh], axis=1)
    homes = truth.homes_wh.shape[1]
    limit = _limits(homes, setting)
    ahead = np.clip(rng.normal(0, setting.clock_s / setting.interval_s, true.shape[1]), -0.9, 0.9)
    before = np.concatenate([true[:1], true[:-1]])
    after = np.concatenate([true[1:], true[-1:]])
    shifted = (1 - np.abs(ahead)) * true + np.where(ahead > 0, ahead * after, -ahead * before)
    counted = np.cumsum(shifted * (1 + rng.uniform(-limit, limit)), axis=0)
    values = np.diff(np.floor(counted), axis=0, prepend=0).astype(np.int32)[:-1]
    quality = np.zeros(values.shape, np.uint32)
    _estimate_gaps(values, quality, homes, rng, setting)
    values[:, :homes][_lost(homes, rng, setting)] = MISSING
    return values, quality


def _limits(homes: int, setting: Setting) -> Float64:
    """Class limits of homes, then of the nodes' own meters."""
    levels = [(homes, setting.class_home), (setting.transformers, setting.class_transformer), (FEEDERS + 1, setting.class_feeder)]
    return np.concatenate([np.full(count, limit) for count, limit in levels])


def _lost(homes: int, rng: np.random.Generator, setting: Setting) -> Bool:
    lost: Bool = rng.random((setting.days * setting.slots, homes)) < setting.lost
    for day in range(setting.days):
        lost[day * setting.slots : (day + 1) * setting.slots, rng.random(homes) < setting.silent] = True
    return lost


def _estimate_gaps(values: Int32, quality: UInt32, homes: int, rng: np.random.Generator, setting: Setting) -> None:
    """Gaps of 4 to 24 hours, filled as VEE fills them: with the day before."""
    for day in range(setting.days):
        for home in np.flatnonzero(rng.random(homes) < setting.gap):
            slots = int(rng.integers(setting.slots // 6, setting.slots + 1))
            begin = day * setting.slots + int(rng.integers(0, setting.slots - slots + 1))
            source = begin - setting.slots if day else begin + setting.slots
            values[begin : begin + slots, home] = values[source : source + slots, home]
            quality[begin : begin + slots, home] = Quality.ESTIMATED_LIKE_DAY


def registered_tree(truth: Truth, setting: Setting = USUAL) -> Tree:
    homes, parent = truth.registered.size, parents(setting)
    levels = np.repeat(np.array(KINDS), (setting.transformers, FEEDERS, 1)).tolist()
    return Tree(
        names=tuple(f"N{k:02d}" for k in range(parent.size)),
        levels=tuple(Level(level) for level in levels),
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.arange(homes, homes + parent.size, dtype=np.int32),
        rating_kva=np.full(parent.size, np.nan),
        meter_node=np.concatenate([truth.registered, np.full(parent.size, -1)]).astype(np.int32),
        maybe_meter=np.zeros(0, np.int32),
        maybe_node=np.zeros(0, np.int32),
        maybe_share=np.zeros(0),
    )


def known_errors(tree: Tree, setting: Setting, columns: npt.NDArray[np.integer]) -> Errors:
    """What is known of the meters in these columns: their classes and the rates of the rest."""
    meters = tree.meter_node.size
    errors = Errors.alike(columns.size, setting.class_home, setting.clock_s, 1.0, setting.wrong)
    errors.class_limit[:] = _limits(meters - tree.own_meter.size, setting)[columns]
    errors.wrong_node[np.isin(columns, tree.own_meter)] = 0.0
    return errors


def true_losses(truth: Truth, parent: Int32, slots_per_span: int, spans: int) -> Float64:
    """[span, node]: what truly came in less what truly went out to those who truly hang there."""
    lost = truth.into_wh.copy()
    np.subtract.at(lost.T, truth.hangs, truth.homes_wh.T)
    below = parent >= 0
    np.subtract.at(lost.T, parent[below], truth.into_wh.T[below])
    cut = lost[: spans * slots_per_span]
    return np.asarray(cut.reshape(spans, slots_per_span, -1).sum(axis=1))


def _compare(level: str, span: str, accounts: list[tuple[Account, npt.NDArray[np.int64]]], true: list[Float64]) -> Covered:
    """accounts: with the nodes that are asked for; true: their losses [span, node]."""
    inside, known, widths = 0, 0, list[Float64]()
    for (reckoned, nodes), lost in zip(accounts, true, strict=True):
        there, low, high = (getattr(reckoned, name)[:, nodes] for name in ("known", "low_wh", "high_wh"))
        inside += int(((low <= lost) & (lost <= high) & there).sum())
        known += int(there.sum())
        widths.append(((high - low) / 2)[there] / reckoned.in_wh[:, nodes][there])
    return Covered(level, span, inside, known, float(np.concatenate(widths).mean()))
