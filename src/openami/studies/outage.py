"""Are outages found where they are? Outages planted on a constructed town, a fifth of the last gasps and first breaths lost on the way, false
gasps besides: the place that is told, how late, and what it does to SAIFI and SAIDI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..losses.network import Level, Tree, children_first
from ..losses.outages import SERVICE, Outage, Sign, Signs, find_outages
from ..losses.reliability import Indices, indices
from ..readings import Bool

FEEDERS, TRANSFORMERS, PHASES, HOMES = 6, 15, 3, 12
DAY_S = 86_400
LOST, FALSE_A_DAY = 0.2, 0.002
DELAY_S = 8.0
SHARES = {"service": 0.25, Level.PHASE: 0.25, Level.TRANSFORMER: 0.35, Level.FEEDER: 0.15}


@dataclass(frozen=True, slots=True)
class Planted:
    """An outage that truly was: node (SERVICE = a single meter), its meters, from start_s to end_s."""

    node: int
    meters: np.ndarray
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Judged:
    """One planted outage beside what was found. level_right, node_right; delay_s from its start until it was located (None = not found);
    customers_off: customers told less customers out."""

    level: str
    level_right: bool
    node_right: bool
    delay_s: int | None
    customers: int
    customers_off: int


def town() -> Tree:
    """Feeders, transformers, phases and homes; a phase's fuse is its node."""
    phases, dts = FEEDERS * TRANSFORMERS * PHASES, FEEDERS * TRANSFORMERS
    parent = np.concatenate(
        [
            np.arange(phases) // PHASES + phases,
            np.arange(dts) // TRANSFORMERS + phases + dts,
            np.full(FEEDERS, phases + dts + FEEDERS),
            [-1],
        ]
    )
    names = [f"P{k}" for k in range(phases)] + [f"T{k}" for k in range(dts)] + [f"F{k}" for k in range(FEEDERS)] + ["S"]
    levels = [Level.PHASE] * phases + [Level.TRANSFORMER] * dts + [Level.FEEDER] * FEEDERS + [Level.SUBSTATION]
    return Tree(
        tuple(names), tuple(levels), parent.astype(np.int32), children_first(parent.astype(np.int32)), np.full(len(names), -1, np.int32),
        np.full(len(names), np.nan), (np.arange(phases * HOMES) // HOMES).astype(np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0),
    )  # fmt: skip


def plant(tree: Tree, days: int, a_day: int, rng: np.random.Generator) -> list[Planted]:
    """`a_day` outages each day, at least ten minutes apart, none inside another; a fifth of them momentary."""
    found: list[Planted] = []
    for day in range(days):
        for k, start in enumerate(np.sort(rng.choice(np.arange(0, DAY_S - 4000, 900), a_day, replace=False))):
            level = rng.choice(list(SHARES), p=list(SHARES.values()))
            length = int(rng.integers(30, 240)) if rng.random() < 0.2 else int(rng.gamma(2.0, 1500) + 360)
            begin = day * DAY_S + int(start) + k
            found.append(_one(tree, str(level), begin, begin + length, rng))
    return [p for k, p in enumerate(found) if not any(_overlap(p, q) for q in found[:k])]


def _one(tree: Tree, level: str, begin: int, end: int, rng: np.random.Generator) -> Planted:
    if level == "service":
        return Planted(SERVICE, rng.integers(0, tree.meter_node.size, 1), begin, end)
    node = int(rng.choice(tree.at(Level(level))))
    at = tree.meter_node.copy()
    under = np.zeros(at.size, np.bool_)
    while (at >= 0).any():
        under |= at == node
        at = np.where(at >= 0, tree.parent[np.maximum(at, 0)], -1)
    return Planted(node, np.flatnonzero(under), begin, end)


def _overlap(a: Planted, b: Planted) -> bool:
    return a.start_s < b.end_s + 600 and b.start_s < a.end_s + 600 and bool(np.intersect1d(a.meters, b.meters).size)


def hear(tree: Tree, planted: list[Planted], days: int, rng: np.random.Generator) -> Signs:
    """What arrives: gasps and breaths with delays, a share lost; false gasps followed by a breath; a word from everybody every half hour
    while it has supply. Who has none gives no word and no false gasp."""
    meter: list[np.ndarray] = []
    at: list[np.ndarray] = []
    sign: list[np.ndarray] = []

    def add(who: np.ndarray, when: np.ndarray, what: Sign) -> None:
        meter.append(who)
        at.append(when)
        sign.append(np.full(who.size, what))

    for p in planted:
        gasping, breathing = (p.meters[rng.random(p.meters.size) >= LOST] for _ in range(2))
        add(gasping, p.start_s + np.minimum(rng.exponential(DELAY_S, gasping.size), 55).astype(np.int64), Sign.GASP)
        add(breathing, p.end_s + np.minimum(rng.exponential(DELAY_S, breathing.size), 55).astype(np.int64), Sign.BREATH)
        late = p.meters if p.end_s - p.start_s > 1800 else p.meters[:0]
        add(late, p.start_s + rng.integers(60, 1860, late.size), Sign.SILENT)
        spoken = p.end_s + rng.integers(60, 1860, p.meters.size)
        add(p.meters, spoken, Sign.SPOKE)
    false = np.flatnonzero(rng.random(tree.meter_node.size * days) < FALSE_A_DAY)
    when = (false // tree.meter_node.size) * DAY_S + rng.integers(0, DAY_S - 60, false.size)
    has = _has_supply(planted, false % tree.meter_node.size, when)
    add(false[has] % tree.meter_node.size, when[has], Sign.GASP)
    add(false[has] % tree.meter_node.size, when[has] + 20, Sign.SPOKE)
    who, arrives, what = np.concatenate(meter), np.concatenate(at), np.concatenate(sign)
    possible = (what != Sign.SPOKE) | _has_supply(planted, who, arrives)
    return Signs(who[possible].astype(np.int32), arrives[possible].astype(np.int64), what[possible].astype(np.int8))


def _has_supply(planted: list[Planted], meter: np.ndarray, at_s: np.ndarray) -> Bool:
    """Whether each of these meters has supply at these moments, [event]."""
    dark = np.zeros(meter.size, np.bool_)
    for p in planted:
        dark |= (p.start_s <= at_s) & (at_s < p.end_s) & np.isin(meter, p.meters)
    return ~dark


def judge(tree: Tree, planted: list[Planted], found: list[Outage]) -> Iterator[Judged]:
    for p in planted:
        level = "service" if p.node == SERVICE else str(tree.levels[p.node])
        near = [f for f in found if p.start_s <= f.start_s <= p.start_s + 120 and np.intersect1d(f.meters, p.meters).size]
        if not near:
            yield Judged(level, False, False, None, int(p.meters.size), -int(p.meters.size))
            continue
        best = max(near, key=lambda f: np.intersect1d(f.meters, p.meters).size)
        told = int(sum(f.customers for f in near))
        yield Judged(
            level, best.level(tree) == level, best.node == p.node, best.found_s - p.start_s, int(p.meters.size), told - int(p.meters.size)
        )


@dataclass(frozen=True, slots=True)
class Run:
    judged: list[Judged]
    false: int
    told: Indices
    true: Indices


def one_run(seed: int, days: int = 10, a_day: int = 12, window_s: int = 30) -> Run:
    """`days` days of a town; the same seed gives the same events."""
    rng = np.random.default_rng(seed)
    tree = town()
    planted = plant(tree, days, a_day, rng)
    signs = hear(tree, planted, days, rng)
    found = find_outages(tree, signs, window_s=window_s)
    true = [Outage(p.node, p.meters.astype(np.int32), p.start_s, np.full(p.meters.size, p.end_s), p.start_s, 0) for p in planted]
    span = (tree.meter_node.size, 0, days * DAY_S)
    real = sum(any(p.start_s <= f.start_s <= p.start_s + 120 and np.intersect1d(f.meters, p.meters).size for p in planted) for f in found)
    return Run(list(judge(tree, planted, found)), len(found) - real, indices(found, *span), indices(true, *span))
