"""Who steals? A network of 5,373 customers: real households on SimBench 1-MVLV-rural-all-0 with planted thieves of six shapes.

Each run draws anew: which household each customer is (scaled to the customer's yearly energy in SimBench; there are more customers than households,
so each has its weeks in an order of its own and its clock up to half an hour off: no two are alike), 2 % thieves of each shape h1 to h6 who begin
on a day of the first half, 1 % customers registered at a wrong transformer, 2 % of readings missing, meters wrong within class 1. Wires lose what
the power flow says (fitted per low-voltage network on a sample of slots). The shapes (numbering after Jokar et al., 2016), x the true reading:

    h1 a x, a of U(.1,.8)   h2 nothing for 4 to 12 h a day   h3 g x, g of U(.1,.8) anew each slot
    h4 g mean(x)            h5 mean(x)                       h6 the day reversed; h5 and h6 keep the day's energy
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import InputError
from ..fleet.households import load_households, true_consumption
from ..losses.features import COLUMN, Features, Watched, features
from ..losses.grid import Grid, wire_losses
from ..losses.mapping import PROPOSE_MIN, Places, doubt, find_places, prior, proposals
from ..losses.metered import Float32
from ..losses.network import Float64
from ..losses.pandapower_grid import grid_of
from ..losses.suspects import Model, learn, probabilities, worth
from ..readings import MISSING, MISSING64, Bool, Int32, Int64

CODE = "1-MVLV-rural-all-0"
PER_DAY, DAYS = 48, 49
SHAPES = ("h1", "h2", "h3", "h4", "h5", "h6")
EACH, WRONG, LOST = 0.02, 0.01, 0.02
FLOW_SLOTS = 48
VISITS = 0.01
INSPECTED_RANDOM, INSPECTED_TOP = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Network:
    """grid; customers' load rows with yearly mean [W]; transformer of each customer (-1: on medium voltage); group of each wire."""

    grid: Grid
    mean_w: Float64
    transformer: Int32
    transformers: int
    wire_group: Int32


@dataclass(frozen=True, slots=True)
class Town:
    """registered: int32 [slot, customer] as meters tell; into_wh: int64 [slot, transformer]; node: int32 [customer] by the registry; shape: int8
    [customer], 0 = honest, k = SHAPES[k - 1]; stolen_wh: float64 [customer] a day, while stealing; moved: registered at a wrong transformer."""

    registered: Int32
    into_wh: Int64
    node: Int32
    shape: Any
    stolen_wh: Float64
    moved: Bool


@lru_cache(maxsize=1)
def network() -> Network:
    """SimBench's network (needs the extra `grid`)."""
    try:
        import simbench
    except ImportError:
        raise InputError("SimBench's networks need the extra `grid`: pip install 'openami[grid]'") from None
    net = simbench.get_simbench_net(f"{CODE}-sw")
    profiles = net.profiles["load"]
    share = {name: float(profiles[f"{name}_pload"].mean()) for name in net.load.profile.unique()}
    mean = net.load.p_mw.to_numpy(float) * 1e6 * np.array([share[p] for p in net.load.profile])
    subnets = sorted({s for s in net.load.subnet if s.startswith("LV")})
    at = {name: k for k, name in enumerate(subnets)}
    net.sgen = net.sgen.iloc[:0]
    grid = grid_of(net)
    lines = net.line[net.line.in_service & ~net.line.index.isin(net.switch[~net.switch.closed & (net.switch.et == "l")].element)]
    return Network(
        grid, mean, np.array([at.get(s, -1) for s in net.load.subnet], np.int32), len(subnets),
        np.array([at.get(s, -1) for s in lines.subnet], np.int32),
    )  # fmt: skip


def town(seed: int, days: int = DAYS) -> Town:
    rng = np.random.default_rng(seed)
    net = network()
    true = _curves(net, rng)[: days * PER_DAY]
    wires = _wires(net, true, rng)
    shape = np.zeros(true.shape[1], np.int8)
    chosen = rng.choice(true.shape[1], int(EACH * true.shape[1]) * len(SHAPES), replace=False)
    for k in range(len(SHAPES)):
        shape[chosen[k :: len(SHAPES)]] = k + 1
    counted, stolen = _steal(true, shape, days, rng)
    counted = counted * (1 + rng.uniform(-0.01, 0.01, true.shape[1]))
    into = np.zeros((len(true), net.transformers))
    on = net.transformer >= 0
    np.add.at(into.T, net.transformer[on], true.T[on])
    into = (into + wires(into)) * (1 + rng.uniform(-0.0075, 0.0075, net.transformers))
    registered = np.diff(np.floor(np.cumsum(counted, axis=0)), axis=0, prepend=0).astype(np.int32)
    registered[_lost(registered.shape, rng)] = MISSING
    node = net.transformer.copy()
    moved = on & (rng.random(node.size) < WRONG)
    node[moved] = (node[moved] + rng.integers(1, net.transformers, int(moved.sum()))) % net.transformers
    return Town(registered, np.rint(into).astype(np.int64), node, shape, stolen, moved)


def _curves(net: Network, rng: np.random.Generator) -> Float64:
    """True Wh [half hour, customer]: a household each, scaled to the customer's mean; its weeks in an order of their own and its clock up to half an
    hour off, so that no two customers are alike: there are more customers than households."""
    metered = load_households().metered_wh
    true = true_consumption(metered.reshape(len(metered), -1))
    true = true[true.mean(axis=1) > 10]
    customers, week = net.mean_w.size, 7 * PER_DAY * 2
    household = rng.integers(0, len(true), customers)
    weeks = rng.permuted(np.broadcast_to(np.arange(DAYS // 7), (customers, DAYS // 7)), axis=1)
    quarter = (weeks[:, :, None] * week + np.arange(week)).reshape(customers, -1) + rng.integers(-2, 3, customers)[:, None]
    curves = true[household[:, None], quarter % true.shape[1]].reshape(customers, -1, 2).sum(axis=2).T.astype(np.float64)
    return np.asarray(curves * (net.mean_w / 2 / curves.mean(axis=0)))


def _wires(net: Network, true: Float64, rng: np.random.Generator) -> Any:
    """What each low-voltage network's wires lose [Wh] for what flows in [Wh], by a square law fitted to power flows of some slots."""
    slots = rng.choice(len(true), FLOW_SLOTS, replace=False)
    power = true[slots] * 2
    lost = wire_losses(net.grid, power, 0.3 * power, net.wire_group)
    flows = np.zeros((FLOW_SLOTS, net.transformers))
    on = net.transformer >= 0
    np.add.at(flows.T, net.transformer[on], power.T[on])
    square = (lost * flows**2).sum(axis=0) / np.maximum((flows**4).sum(axis=0), 1e-9)
    return lambda into: square * (into * 2) ** 2 / 2


def _steal(true: Float64, shape: Any, days: int, rng: np.random.Generator) -> tuple[Float64, Float64]:
    counted, stolen = true.copy(), np.zeros(true.shape[1])
    for m in np.flatnonzero(shape):
        begin = int(rng.integers(0, days // 2))
        x = true[begin * PER_DAY :, m].reshape(-1, PER_DAY)
        g = rng.uniform(0.1, 0.8, x.shape)
        first, hours = int(rng.integers(0, PER_DAY)), int(rng.integers(8, 25))
        window = (np.arange(PER_DAY) - first) % PER_DAY < hours
        told = {
            1: x * rng.uniform(0.1, 0.8), 2: np.where(window, 0.0, x), 3: g * x, 4: g * x.mean(),
            5: np.full_like(x, 1.0) * x.mean(axis=1, keepdims=True),
            6: x[:, ::-1],
        }[int(shape[m])]  # fmt: skip
        counted[begin * PER_DAY :, m] = told.ravel()
        stolen[m] = max((x.sum() - told.sum()) / len(x), 0.0)
    return counted, stolen


def _lost(shape: tuple[int, int], rng: np.random.Generator) -> Bool:
    """A fifth of what is missing in runs of six hours, the rest alone."""
    lost: Bool = rng.random(shape) < LOST * 0.8
    begins = np.argwhere(rng.random(shape) < LOST * 0.2 / 12)
    for slot, meter in begins:
        lost[slot : slot + 12, meter] = True
    return lost


def watch(built: Town, found: Places | None = None) -> Features:
    """Features of a town; found: where its customers seem to hang (`places`), None = without transformers' meters."""
    there = built.registered != MISSING
    profile = (np.where(there, built.registered, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)).reshape(-1, PER_DAY).mean(axis=0)
    into = built.into_wh if found else np.full_like(built.into_wh, MISSING64)
    return features(Watched(built.registered, built.node, into, PER_DAY, doubt=doubts(built, found) if found else None), profile)


def places(built: Town) -> Places:
    """Where customers hang, from energies: asked before anybody is called a suspect."""
    into = built.into_wh.astype(np.int32)
    before = prior(built.node, np.arange(into.shape[1], dtype=np.int32), sure=1 - WRONG)
    return find_places(before, wh=built.registered, node_wh=into, rounds=3, slots_per_day=PER_DAY)


def doubts(built: Town, found: Places) -> Float32:
    """Probability that a customer hangs elsewhere than registered; 0 on medium voltage."""
    return np.where(built.node >= 0, doubt(found.probability, built.node), 0.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Placed:
    """How many customers stand at a wrong transformer; of them doubted by more than half, and proposed to the right one; their share of the wrongly
    registered energy; proposals that are wrong; and honest customers at their right place doubted by more than half. sure: (confidence, right?) of
    every other place that is believed by more than half, also of those that are not sure enough to be proposed."""

    wrong: int
    doubted: int
    right: int
    energy_share: float
    mistaken: int
    doubted_wrongly: int
    sure: tuple[tuple[float, bool], ...]


def placed(built: Town, found: Places) -> Placed:
    true, doubted = network().transformer, doubts(built, found) > 0.5
    wrong = (built.node >= 0) & (built.node != true)
    likely = [p for p in proposals(found.probability, built.node, 0.5) if built.node[p.meter] >= 0]
    told = [p for p in likely if p.confidence >= PROPOSE_MIN]
    right = [p.meter for p in told if p.to == true[p.meter]]
    used = np.where(built.registered != MISSING, built.registered, 0).sum(axis=0, dtype=np.int64)
    share = float(used[right].sum() / max(int(used[wrong].sum()), 1))
    return Placed(
        int(wrong.sum()),
        int((wrong & doubted).sum()),
        len(right),
        share,
        len(told) - len(right),
        int((doubted & ~wrong & (built.shape == 0)).sum()),
        tuple((p.confidence, bool(p.to == true[p.meter])) for p in likely),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """One method on one town. auc: by shape, thieves of it against the honest; auc_all: all who take energy (h1 to h4); precision: guilty of any
    shape among the 1 % visited; recovered: their share of all energy stolen, of which the best 1 % could reach
    `possible`."""

    method: str
    metered: bool
    seed: int
    auc: dict[str, float]
    auc_all: float
    precision: float
    recovered: float
    possible: float


def results(seeds: list[int]) -> Iterator[Result | Placed]:
    """Every method on every seed's town, with and without transformers' meters; the learning ones have learnt from inspections of two other towns.
    Before each town's results, how well its customers' places were found."""
    learnt = {}
    towns = [inspected(10_000 + k) for k in range(2)]
    for metered in (True, False):
        values, guilty = np.concatenate([v[metered] for v, _ in towns]), np.concatenate([g[metered] for _, g in towns])
        learnt[metered] = learn(values, guilty, boost=False), learn(values, guilty)
    for seed in seeds:
        built = town(seed)
        found_places = places(built)
        yield placed(built, found_places)
        for metered in (True, False):
            found = watch(built, found_places if metered else None)
            if metered:
                forest = isolation_forest(found.values, seed)  # of habits alone: the same without transformers' meters
            weighed, boosted = learnt[metered]
            methods = {
                "cold start": (probabilities(Model.cold(), found.values), worth(Model.cold(), found)[1]),
                "evidence, learnt": (probabilities(weighed, found.values), worth(weighed, found)[1]),
                "evidence + boosting": (probabilities(boosted, found.values), worth(boosted, found)[1]),
                "balance rule": (balance_rule(built, found, metered=metered),) * 2,
                "isolation forest": (forest,) * 2,
            }
            for name, (probability, value) in methods.items():
                yield judge(name, built, probability, value, seed, metered=metered)


def inspected(seed: int) -> tuple[dict[bool, Float32], dict[bool, Bool]]:
    """A town's inspections, with and without transformers' meters: a tenth of the customers at random, and the tenth that the cold start suspects
    most."""
    built = town(seed)
    rng = np.random.default_rng(seed)
    at_random = rng.random(built.shape.size) < INSPECTED_RANDOM
    values, guilty = {}, {}
    found_places = places(built)
    for metered in (True, False):
        found = watch(built, found_places if metered else None)
        chosen = at_random.copy()
        chosen[np.argsort(-worth(Model.cold(), found)[1])[: int(INSPECTED_TOP * chosen.size)]] = True
        values[metered], guilty[metered] = found.values[chosen], built.shape[chosen] > 0
    return values, guilty


def judge(name: str, built: Town, probability: Float64, value: Float64, seed: int, *, metered: bool) -> Result:
    honest = built.shape == 0
    auc = {s: _auc(probability[honest], probability[built.shape == k + 1]) for k, s in enumerate(SHAPES)}
    visited = np.argsort(-value, kind="stable")[: int(VISITS * value.size)]
    return Result(
        name, metered, seed, auc, _auc(probability[honest], probability[(built.shape > 0) & (built.shape < 5)]),
        float((built.shape[visited] > 0).mean()), float(built.stolen_wh[visited].sum() / built.stolen_wh.sum()), best_possible(built),
    )  # fmt: skip


def best_possible(built: Town) -> float:
    """The share of the energy that the best 1 % of visits could recover."""
    best = np.sort(built.stolen_wh)[::-1][: int(VISITS * built.stolen_wh.size)]
    return float(best.sum() / built.stolen_wh.sum())


def balance_rule(built: Town, found: Features, *, metered: bool) -> Float64:
    """What a utility does by hand: transformers with the highest loss first, on them those who use least for their size."""
    small = -np.nan_to_num(found.values[:, COLUMN["size"]])
    if not metered:
        return np.asarray(small, np.float64)
    there = np.where(built.registered != MISSING, built.registered, 0).sum(axis=0)
    out = np.bincount(built.node[built.node >= 0], there[built.node >= 0], built.into_wh.shape[1])
    into = built.into_wh.sum(axis=0)
    share = (into - out) / np.maximum(into, 1)
    return np.asarray(np.where(built.node >= 0, share[built.node], 0.0) + 0.02 * np.tanh(small))


def isolation_forest(values: Float32, seed: int) -> Float64:
    from sklearn.ensemble import IsolationForest

    own = values[
        :,
        [
            COLUMN[n]
            for n in ("night", "lag1", "variation", "shape", "repeated", "roughness", "regularity", "idle_share", "size", "drop", "drop_t")
        ],
    ]
    filled = np.where(np.isnan(own), np.nanmedian(own, axis=0), own)
    forest = IsolationForest(n_estimators=200, random_state=seed, n_jobs=1).fit(filled)
    return np.asarray(-forest.score_samples(filled))


def _auc(honest: Float64, guilty: Float64) -> float:
    """Probability that a guilty one scores above an honest one, ties half (Mann and Whitney)."""
    both = np.concatenate([honest, guilty])
    order = np.sort(both)
    rank = (np.searchsorted(order, guilty, "left") + np.searchsorted(order, guilty, "right") + 1) / 2
    return float((rank.sum() - guilty.size * (guilty.size + 1) / 2) / (honest.size * guilty.size))
