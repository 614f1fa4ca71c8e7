"""The network that the energy audit reckons on: the registry's transformers and feeders, and what the folder `network` of a data folder adds.

    nodes.csv      name,level,rating_kva          substations, phases, divisions ..., or another rating; levels as `losses.network.Level`
    edges.csv      child,parent,since,until       a node, or a meter by its serial number, is fed from a node; dates, until = the first day no more
    meters.csv     meter,node,since,until         the meter that measures a node
    assessed.csv   node,kwh_per_day               an unmetered load below a node (pump sets, street light)

Each file may be left out; what a file says of a child or a node stands in place of what the registry says. What always holds: a line that cannot
be read is an InputError that names it; records that contradict themselves, or speak of what nobody knows, are faults of the tree, and the rest is
reckoned; of a node that feeds other shards too (upward.py) a shard gives its share, and no account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from ..losses.above import Place, Share, account_and_share, sums_and_share
from ..losses.account import Account, Assessed
from ..losses.metered import Errors, MeterTotals
from ..losses.network import (
    Edge,
    Fault,
    Level,
    Node,
    Tree,
    around,
    children_first,
    generations,
    holds,
    only,
    tree_of_index,
    tree_on,
    with_substations,
)
from ..losses.sums import Sums
from ..readings import Int32, Int64
from ..registry import ShardIndex
from ..store.rows import meter
from ..store.sql import among
from .site import Site
from .upward import Upward, places_above, upward
from .written import read_written

FOLDER = "network"
ALWAYS = date.min


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the folder says; empty where it is not there. nowhere: names in it that are neither node nor meter, as far as was asked (`drawn_of`)."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    meters: tuple[Edge, ...] = ()
    assessed: tuple[tuple[str, float], ...] = ()
    nowhere: frozenset[str] = frozenset()

    @property
    def mark(self) -> str:
        """Tells this from any other that the folder may say."""
        said = repr((self.nodes, self.edges, self.meters, self.assessed, sorted(self.nowhere)))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def read_network(folder: Path) -> Drawn:
    """The files of a folder. InputError where a line cannot be read: file, line and what it should be."""
    return Drawn(
        read_written(folder / "nodes.csv", _node, "name,level,rating_kva as DT-1,transformer,100"),
        read_written(folder / "edges.csv", lambda row: _edge(row, "child", "parent"), "child,parent,since,until as DT-1,F-1,2020-01-01,"),
        read_written(
            folder / "meters.csv", lambda row: _edge(row, "meter", "node"), "meter,node,since,until as XMA0000001,DT-1,2020-01-01,"
        ),
        read_written(folder / "assessed.csv", _load, "node,kwh_per_day as DT-1,12.5"),
    )


def drawn_of(site: Site) -> Drawn:
    """The folder `network` of a site, with what of it nobody knows."""
    found = read_network(site.folder.root / FOLDER)
    if not (found.edges or found.meters):
        return found
    known = {node.name for node in found.nodes} | {t.name for t in site.rows.transformers()}
    for one in site.rows.feeders():
        known |= {one.name, one.substation}
    asked = {edge.child for edge in (*found.edges, *found.meters)} - known
    if not asked:
        return found
    with site.rows.begin() as connection:
        rows = connection.execute(sa.select(meter.c.serial).where(among(connection, meter.c.serial, sorted(asked))))
        return replace(found, nowhere=frozenset(asked - {row.serial for row in rows}))


@dataclass(frozen=True, slots=True)
class Network:
    """A shard's tree on a day. own: positions of its own nodes, int64; feeder_of: each node's feeder by name, "" above feeders; assessed_wh: float64
    [node], a day's unmetered load; above: nodes of the tree that may feed other shards too; supply: the tree without substations that only the
    registry names, and without what hangs on nodes of which other shards tell: whose outages can be told here; unplaced: int64, meters that hang
    nowhere, and are a doubt at the topmost nodes as soon as they count anything."""

    tree: Tree
    own: Int64
    feeder_of: tuple[str, ...]
    assessed_wh: np.ndarray
    above: tuple[Place, ...]
    supply: Tree
    unplaced: Int64

    def fits(self, wh: Int32) -> bool:
        """Whether the network is the same on these readings [slot, meter]: the same meters count without a place."""
        return np.array_equal(_counting(self.unplaced, wh), self.unplaced[np.isin(self.unplaced, self.tree.maybe_meter)])

    def account(
        self, taken: MeterTotals, given: MeterTotals | None, errors: Errors, interval_s: int, assessed: Assessed | None
    ) -> tuple[Account, Share]:
        """The account of every node on these totals, and the shard's share in the nodes above."""
        return account_and_share(self.tree, self.above, taken, errors, interval_s, given, assessed)

    def sums(
        self, taken: MeterTotals, given: MeterTotals | None, errors: Errors, interval_s: int, assessed: Assessed | None
    ) -> tuple[Tree, Sums, Sums, Share]:
        """The same before it is settled (`losses.above.sums_and_share`)."""
        return sums_and_share(self.tree, self.above, taken, errors, interval_s, given, assessed)

    def assessed(self, spans: int) -> Assessed | None:
        """The unmetered loads, spread evenly over `spans` spans of the day; None where there is none."""
        return Assessed(np.repeat(self.assessed_wh[None, :] / spans, spans, axis=0)) if self.assessed_wh.any() else None


def network_of(site: Site, index: ShardIndex, day: date, wh: Int32 | None = None, drawn: Drawn | None = None) -> Network:
    """A shard's network on a day, with every fault of its records. wh: [slot, meter]: a meter without a place is told of where it counts anything.
    drawn: what stands in the folder, if it was read already."""
    found = drawn_of(site) if drawn is None else drawn
    ratings = [Node(t.name, Level.TRANSFORMER, float(t.rating_kva)) for t in site.rows.transformers()]
    said = {edge.child for edge in found.edges}
    substation = {f.name: f.substation for f in site.rows.feeders() if f.name not in said}
    up = upward(index, day, found.edges, {node.name: node.level for node in found.nodes}, substation, found.nowhere)
    by_registry = not (found.nodes or found.edges or found.meters)
    tree = tree_of_index(index) if by_registry else _together(found, index, ratings, day, up)
    own = _own_nodes(tree, index, _meters_below(tree))
    names = {tree.names[k] for k in own.tolist()}
    faults = [f for f in tree.faults if f.kind not in ("meter_missing", "rating") or f.who in names - up.elsewhere]
    if by_registry:
        faults += [
            Fault("rating", node.name, f"{node.name} is rated {node.rating_kva:g} kVA; its loading is not told")
            for node in ratings
            if node.name in names and node.rating_kva is not None and not node.rating_kva > 0
        ]
    tops = [k for k in own.tolist() if tree.parent[k] < 0 and tree.levels[k] is not Level.TRANSFORMER]
    unplaced = _unplaced(tree, index) if tops else np.zeros(0, np.int64)
    counting = unplaced[:0] if wh is None else _counting(unplaced, wh)
    tree, homeless = _with_unplaced(replace(tree, faults=tuple(faults)), index, tops, counting)
    faults = [f for f in tree.faults if f.who not in {own.who for own in homeless}] + homeless
    supply = tree
    tree, unknown = _with_nowhere(with_substations(replace(tree, faults=tuple(faults)), substation), found, own, day)
    load, nobodys = _loads(found, tree, up)
    above = places_above(tree, up, _meters_below(tree), load)
    shared, held = np.isin(np.array(tree.names), [place.name for place in above]), np.isin(np.arange(len(tree.names)), own)
    inside, kept = around(tree, held, shared)
    load[shared | ~inside] = 0.0  # told once: by its own shard, or where the shares are joined
    whole = only(replace(tree, faults=(*tree.faults, *unknown, *nobodys)), kept)
    of_its_own = np.flatnonzero((held & ~shared)[kept])
    return Network(whole, of_its_own, _feeders(whole), load[kept], above, _without_others(supply, above), unplaced)


def _counting(meters: Int64, wh: Int32) -> Int64:
    """Which of these meters count anything."""
    return meters[(wh[:, meters] > 0).any(axis=0)]


def _without_others(tree: Tree, above: tuple[Place, ...]) -> Tree:
    """The tree without the edges to nodes of which other shards tell too."""
    names = {place.name for place in above}
    shared = {place.name for place in above if place.feeds - place.told - names}
    open_ = np.array([name in shared for name in tree.names] + [False], np.bool_)
    parent = np.where(open_[tree.parent], -1, tree.parent).astype(np.int32)
    return replace(tree, parent=parent, below_first=children_first(parent))


def _loads(found: Drawn, tree: Tree, up: Upward) -> tuple[np.ndarray, list[Fault]]:
    """A day's unmetered load of each node, and what is assessed at none."""
    load, place, faults = np.zeros(len(tree.names)), {name: k for k, name in enumerate(tree.names)}, []
    for name, wh_per_day in found.assessed:
        if name in place:
            load[place[name]] += wh_per_day
        elif name not in up.level:
            faults.append(Fault("orphan_node", name, f"the assessed load of {name} is at no node; it counts nowhere"))
    return load, faults


def _with_nowhere(tree: Tree, found: Drawn, own: Int64, day: date) -> tuple[Tree, list[Fault]]:
    """The tree with what the folder hangs on this shard's nodes and nobody knows counted there as absent; beside it, a sentence on each such name."""
    place, faults = {tree.names[k]: k for k in own.tolist()}, []
    absent = np.zeros(len(tree.names), np.int32)
    for edge in found.edges:
        if edge.child in found.nowhere and holds(edge, day):
            where = f"edges.csv: {edge.child} hangs on {edge.parent}, and is no meter and no node that is known"
            faults.append(Fault("nowhere", edge.child, f"{where}; it lowers the coverage there, as large as what else hangs there"))
            if edge.parent in place:
                absent[place[edge.parent]] += 1
    faults += [
        Fault(
            "nowhere",
            edge.child,
            f"meters.csv: {edge.child} is to measure {edge.parent}, and is no meter that is known; it measures nothing",
        )
        for edge in found.meters
        if edge.child in found.nowhere and holds(edge, day)
    ]
    return (replace(tree, absent=absent) if absent.any() else tree), faults


def _together(found: Drawn, index: ShardIndex, ratings: list[Node], day: date, up: Upward) -> Tree:
    """The registry's nodes of this shard, over and beside them what the folder says, and what feeds all these."""
    held = set(index.feeder[index.feeder >= 0].tolist())
    dts = [k for k, f in enumerate(index.transformer_feeder.tolist()) if f in held]
    rated = {node.name: node for node in (*ratings, *found.nodes)}
    nodes = [node for node in found.nodes if node.name not in up.elsewhere]  # those come by `_beyond`, where this shard needs them
    nodes += [*(rated[index.transformers[k]] for k in dts), *(Node(index.feeders[f], Level.FEEDER) for f in sorted(held))]
    nodes += _beyond(found, {node.name for node in nodes}, index, rated, up)
    said = {edge.child for edge in found.edges}
    edges = [*found.edges]
    edges += [
        Edge(node.name, up.fed_by[node.name], ALWAYS) for node in nodes if node.level is Level.TRANSFORMER and _by_registry(node, said, up)
    ]
    measured, measuring = {edge.parent for edge in found.meters}, {edge.child for edge in found.meters if holds(edge, day)}
    own = [*found.meters]
    for k, serial in enumerate(index.serials):
        dt, feeder = int(index.transformer[k]), int(index.feeder[k])
        place = index.transformers[dt] if dt >= 0 and not index.is_feeder[k] else index.feeders[feeder] if feeder >= 0 else None
        if place is None or serial in measuring:
            continue
        if index.is_consumer[k] and serial not in said:
            edges.append(Edge(serial, place, ALWAYS))
        elif (index.is_transformer[k] or index.is_feeder[k]) and place not in measured:
            own.append(Edge(serial, place, ALWAYS))
    return _as_registered(tree_on(day, nodes, edges, own, index.serials), index, dts, day)


def _by_registry(node: Node, said: set[str], up: Upward) -> bool:
    return node.name not in said and node.name in up.fed_by


def _beyond(found: Drawn, known: set[str], index: ShardIndex, rated: Mapping[str, Node], up: Upward) -> list[Node]:
    """Nodes of other shards, and substations, that the folder has feed what is this shard's, or that a meter of this shard measures."""
    serials = up.serials | ({edge.child for edge in found.meters} & set(index.serials))
    starts = [*(up.held | up.serials), *(edge.parent for edge in found.meters if edge.child in serials)]
    needed = dict.fromkeys(name for start in starts for step in up.chain(start) for name in step)
    needed |= dict.fromkeys(starts)
    return [rated.get(name, Node(name, up.level[name])) for name in sorted(needed) if name in up.level and name not in known]


def _as_registered(tree: Tree, index: ShardIndex, dts: list[int], day: date) -> Tree:
    """What the folder leaves without a place may still hang where the registry says: a half doubt there."""
    at = {name: k for k, name in enumerate(tree.names)}
    named = {fault.who for fault in tree.faults if fault.kind in ("cycle", "two_parents", "orphan_node")}
    faults, children, parents = list(tree.faults), tree.maybe_child.tolist(), tree.maybe_parent.tolist()
    for k in dts:
        child, feeder = at[index.transformers[k]], at[index.feeders[index.transformer_feeder[k]]]
        if tree.parent[child] >= 0:
            continue
        if (child, feeder) not in zip(children, parents, strict=True):
            children.append(child)
            parents.append(feeder)
        if tree.names[child] not in named:
            faults.append(Fault("orphan_node", tree.names[child], f"{tree.names[child]} is fed from nowhere on {day}; it stands alone"))
    meters, nodes, shares = tree.maybe_meter.tolist(), tree.maybe_node.tolist(), tree.maybe_share.tolist()
    doubted = set(meters)
    for m in np.flatnonzero((tree.meter_node < 0) & index.is_consumer & (index.feeder >= 0)).tolist():
        dt = int(index.transformer[m])
        place = at.get(index.transformers[dt] if dt >= 0 else index.feeders[index.feeder[m]])
        if m not in doubted and place is not None:
            meters.append(m)
            nodes.append(place)
            shares.append(0.5)
    return replace(
        tree,
        faults=tuple(faults),
        maybe_meter=np.array(meters, np.int32),
        maybe_node=np.array(nodes, np.int32),
        maybe_share=np.array(shares, np.float64),
        maybe_child=np.array(children, np.int32),
        maybe_parent=np.array(parents, np.int32),
    )


def _unplaced(tree: Tree, index: ShardIndex) -> Int64:
    """The meters that hang nowhere, not even in doubt, and measure no node."""
    placed = index.is_consumer | index.is_transformer | index.is_feeder | (tree.meter_node >= 0)
    placed[[*tree.own_meter[tree.own_meter >= 0].tolist(), *tree.maybe_meter.tolist()]] = True
    return np.flatnonzero(~placed)


def _with_unplaced(tree: Tree, index: ShardIndex, tops: list[int], unplaced: Int64) -> tuple[Tree, list[Fault]]:
    """The tree with these meters, which count and hang nowhere, as a doubt at the topmost nodes of the shard: each may hang below any of them, or be
    no consumer's at all, as likely. Beside it, who they are."""
    if not unplaced.size:
        return tree, []
    where = tree.names[tops[0]] if len(tops) == 1 else f"{len(tops)} nodes from {tree.names[tops[0]]} to {tree.names[tops[-1]]}"
    said = f"hangs nowhere; its energy counts at no node, and lowers the coverage of {where}"
    return replace(
        tree,
        maybe_meter=np.concatenate([tree.maybe_meter, np.repeat(unplaced, len(tops)).astype(np.int32)]),
        maybe_node=np.concatenate([tree.maybe_node, np.tile(tops, unplaced.size).astype(np.int32)]),
        maybe_share=np.concatenate([tree.maybe_share, np.full(unplaced.size * len(tops), 1 / (len(tops) + 1))]),
    ), [Fault("orphan_meter", index.serials[k], f"meter {index.serials[k]} {said}") for k in unplaced.tolist()]


def _meters_below(tree: Tree) -> Int64:
    """How many consumers' meters hang below each node, int64 [node]."""
    count = np.bincount(tree.meter_node[tree.meter_node >= 0], minlength=len(tree.names)).astype(np.int64)
    for group in generations(tree.parent):
        np.add.at(count, tree.parent[group], count[group])
    return count


def _own_nodes(tree: Tree, index: ShardIndex, below: Int64) -> Int64:
    held = set(index.feeder[index.feeder >= 0].tolist())
    names = {index.feeders[k] for k in held} | {index.transformers[k] for k, f in enumerate(index.transformer_feeder.tolist()) if f in held}
    return np.array([k for k, name in enumerate(tree.names) if name in names or below[k] or tree.own_meter[k] >= 0], np.int64)


def _feeders(tree: Tree) -> tuple[str, ...]:
    found = []
    for k in range(len(tree.names)):
        while k >= 0 and tree.levels[k] is not Level.FEEDER:
            k = int(tree.parent[k])
        found.append(tree.names[k] if k >= 0 else "")
    return tuple(found)


def _node(row: dict[str, str]) -> Node:
    if row["level"] not in set(Level):
        raise ValueError(f"{row['level']!r} is no level; it is {', '.join(Level)}")
    return Node(_named(row["name"]), Level(row["level"]), float(row["rating_kva"]) if row["rating_kva"] else None)


def _edge(row: dict[str, str], child: str, parent: str) -> Edge:
    begin = date.fromisoformat(row["since"]) if row["since"] else ALWAYS
    end = date.fromisoformat(row["until"]) if row["until"] else None
    if end is not None and end <= begin:
        raise ValueError(f"it holds on no day, from {begin} on and before {end}")
    return Edge(_named(row[child]), _named(row[parent]), begin, end)


def _load(row: dict[str, str]) -> tuple[str, float]:
    wh = 1e3 * float(row["kwh_per_day"])
    if not 0 <= wh < float("inf"):
        raise ValueError(f"{row['kwh_per_day']} kWh a day is no load")
    return _named(row["node"]), wh


def _named(text: str) -> str:
    if not text:
        raise ValueError("a name is empty")
    return text
