"""The network of one shard as it stood on one day: a tree of nodes with their own meters, and which meter hangs where.

In: nodes, dated edges, dated metering points. Out: `Tree`, arrays over nodes and over the shard's dense meter index, and `faults`.

What always holds: what contradicts itself is named in `faults` and taken out of the reckoning; everything else is computed. No fault
raises. A meter or node that two parents claim on one day counts at neither in the ledger and stands as a half doubt at both, and so does
a node whose edge was cut because it lay on a ring: whoever may feed it knows less of its own loss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from math import inf

import numpy as np
import numpy.typing as npt

from ..readings import Int32
from ..registry import ShardIndex

Float64 = npt.NDArray[np.float64]


class Level(StrEnum):
    """What a node is. Phases hang below transformers; consumers are not nodes, they are meters that hang on one."""

    COMPANY = "company"
    DIVISION = "division"
    SUBSTATION = "substation"
    FEEDER = "feeder"
    TRANSFORMER = "transformer"
    PHASE = "phase"


@dataclass(frozen=True, slots=True)
class Node:
    """A place where energy is reckoned. rating_kva: None = unknown."""

    name: str
    level: Level
    rating_kva: float | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """`child` (a node's name or a meter's serial) is fed from node `parent`, from `since` on and before `until`."""

    child: str
    parent: str
    since: date
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the network's records. kind: cycle, orphan_meter, orphan_node, two_parents, rating, meter_missing, nowhere;
    who: the node or meter; sentence: what, where, and what was done about it."""

    kind: str
    who: str
    sentence: str


def _nobody() -> Int32:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Tree:
    """One shard's network on one day.

    names, levels: of the nodes; parent: int32 [node], -1 at a root; below_first: int32 [node], nodes ordered so that every child comes
    before its parent; own_meter: int32 [node], the column of the node's own meter, -1 = none; rating_kva: float64 [node], NaN = unknown.
    meter_node: int32 [meter], the node on which a consumer's meter hangs, -1 = none (a node's own meter, or an orphan).
    maybe_meter, maybe_node, maybe_share: where else a doubtful meter may hang, int32, int32, float64 [candidate], probability.
    maybe_child, maybe_parent: nodes that stand alone and may hang below another, each by a half chance, int32 [candidate].
    absent: int32 [node], how many the records hang on the node that nobody knows; None = nowhere any.
    """

    names: tuple[str, ...]
    levels: tuple[Level, ...]
    parent: Int32
    below_first: Int32
    own_meter: Int32
    rating_kva: Float64
    meter_node: Int32
    maybe_meter: Int32
    maybe_node: Int32
    maybe_share: Float64
    faults: tuple[Fault, ...] = ()
    maybe_child: Int32 = field(default_factory=_nobody)
    maybe_parent: Int32 = field(default_factory=_nobody)
    absent: Int32 | None = None

    def at(self, level: Level) -> Int32:
        """Positions of the nodes of a level, int32."""
        return np.array([k for k, own in enumerate(self.levels) if own is level], np.int32)

    def children(self, node: int) -> Int32:
        return np.flatnonzero(self.parent == node).astype(np.int32)


def tree_on(day: date, nodes: Sequence[Node], edges: Iterable[Edge], own_meters: Iterable[Edge], serials: Sequence[str]) -> Tree:
    """The network as it stood on `day`.

    edges: who is fed from where; own_meters: `child` is the serial of the meter that measures node `parent`; serials: the shard's meters in
    the order of their index. A node that stands twice counts once, as it stands first.
    """
    named: dict[str, Node] = {}
    for node in nodes:
        named.setdefault(node.name, node)
    at = {name: k for k, name in enumerate(named)}
    column = {serial: k for k, serial in enumerate(serials)}
    faults: list[Fault] = []
    edges = list(edges)
    parent, orphaned, torn = _node_parents(day, edges, at, faults)
    parents_of_meter = _claims(day, edges, column)
    own_meter = _own_meters(day, own_meters, at, column, list(named.values()), faults)
    meter_node, maybe = _hang_meters(serials, parents_of_meter, at, set(own_meter.tolist()), faults)
    rating = np.array([_rating(node, faults) for node in named.values()], np.float64)
    torn += _cut_cycles(parent, list(named), faults)
    faults += [Fault("orphan_node", name, f"{name} is fed from {above}, which is no node; it stands alone") for name, above in orphaned]
    return Tree(
        names=tuple(named),
        levels=tuple(node.level for node in named.values()),
        parent=parent,
        below_first=children_first(parent),
        own_meter=own_meter,
        rating_kva=rating,
        meter_node=meter_node,
        maybe_meter=np.array([m for m, _ in maybe], np.int32),
        maybe_node=np.array([n for _, n in maybe], np.int32),
        maybe_share=np.full(len(maybe), 0.5),
        faults=tuple(faults),
        maybe_child=np.array([child for child, _ in torn], np.int32),
        maybe_parent=np.array([above for _, above in torn], np.int32),
    )


def tree_of_index(index: ShardIndex) -> Tree:
    """The two levels that the registry knows, transformers and feeders, as a tree: transformers first, feeders after them. Nodes of other
    shards stand in it without meters; that is no fault."""
    dts, feeders = len(index.transformers), len(index.feeders)
    own = np.full(dts + feeders, -1, np.int32)
    for mask, place, offset in ((index.is_transformer, index.transformer, 0), (index.is_feeder, index.feeder, dts)):
        columns = np.flatnonzero(mask & (place >= 0))
        own[place[columns] + offset] = columns
    names = index.transformers + index.feeders
    here = np.unique(index.feeder[index.feeder >= 0])
    ours = np.concatenate([np.isin(index.transformer_feeder, here), np.isin(np.arange(feeders), here)])
    hangs = np.where(index.transformer >= 0, index.transformer, np.where(index.feeder >= 0, index.feeder + dts, -1))
    missing = [
        Fault("meter_missing", names[k], f"{names[k]} has no meter of its own; its loss is unknown")
        for k in np.flatnonzero((own < 0) & ours)
    ]
    return Tree(
        names=names,
        levels=(Level.TRANSFORMER,) * dts + (Level.FEEDER,) * feeders,
        parent=np.concatenate([index.transformer_feeder + dts, np.full(feeders, -1)]).astype(np.int32),
        below_first=np.arange(dts + feeders, dtype=np.int32),
        own_meter=own,
        rating_kva=np.full(dts + feeders, np.nan),
        meter_node=np.where(index.is_consumer, hangs, -1).astype(np.int32),
        maybe_meter=np.zeros(0, np.int32),
        maybe_node=np.zeros(0, np.int32),
        maybe_share=np.zeros(0),
        faults=tuple(missing),
    )


def with_fuses(tree: Tree, phase: Mapping[int, str]) -> Tree:
    """The same tree with a node for each phase of a transformer on which two or more single-phase meters hang, "DT-1 R": what a fuse feeds.
    phase: "R", "Y" or "B" by meter; others stay where they are, and so do meters that hang on phases already."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for meter, own in phase.items():
        node = int(tree.meter_node[meter])
        if node >= 0 and len(own) == 1 and tree.levels[node] is Level.TRANSFORMER:
            groups[node, own].append(meter)
    known = set(tree.names)
    fuses = {key: meters for key, meters in sorted(groups.items()) if len(meters) > 1 and f"{tree.names[key[0]]} {key[1]}" not in known}
    if not fuses:
        return tree
    hangs, nodes = tree.meter_node.copy(), len(tree.names)
    levels = [*tree.levels, *(Level.PHASE for _ in fuses)]
    for k, meters in enumerate(fuses.values()):
        hangs[meters] = nodes + k
    parent = np.concatenate([tree.parent, np.array([node for node, _ in fuses], np.int32)])
    return replace(
        tree,
        names=(*tree.names, *(f"{tree.names[node]} {own}" for node, own in fuses)),
        levels=tuple(levels),
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.concatenate([tree.own_meter, np.full(len(fuses), -1, np.int32)]),
        rating_kva=np.concatenate([tree.rating_kva, np.full(len(fuses), np.nan)]),
        meter_node=hangs,
    )


def with_substations(tree: Tree, substation: Mapping[str, str]) -> Tree:
    """The same tree with the substations that feed its feeders. substation: by the feeder's name; a feeder that is fed from a node already, or of
    which the records contradict themselves, stays where it is, and so does one whose substation has the name of another kind of node, or is itself
    fed from the feeder: both are named."""
    at, torn = {name: k for k, name in enumerate(tree.names)}, set(tree.maybe_child.tolist())
    parent, fresh, faults = tree.parent.copy(), dict[str, int](), list(tree.faults)
    for k, (name, level) in enumerate(zip(tree.names, tree.levels, strict=True)):
        above = substation.get(name, "")
        if level is not Level.FEEDER or parent[k] >= 0 or k in torn or not above:
            continue
        if above in at and tree.levels[at[above]] is not Level.SUBSTATION:
            faults.append(
                Fault("orphan_node", name, f"the substation of {name} has the name of {tree.levels[at[above]]} {above}; it stands alone")
            )
            continue
        if above in at and k in _feeding(at[above], parent):
            faults.append(Fault("cycle", name, f"{name} feeds its own substation {above}; it is taken to be fed from nowhere"))
            continue
        parent[k] = at[above] if above in at else fresh.setdefault(above, len(at) + len(fresh))
    count = len(fresh)
    parent = np.concatenate([parent, np.full(count, -1, np.int32)]).astype(np.int32)
    return replace(
        tree,
        names=(*tree.names, *fresh),
        levels=(*tree.levels, *(Level.SUBSTATION for _ in fresh)),
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.concatenate([tree.own_meter, np.full(count, -1, np.int32)]),
        rating_kva=np.concatenate([tree.rating_kva, np.full(count, np.nan)]),
        absent=None if tree.absent is None else np.concatenate([tree.absent, np.zeros(count, np.int32)]),
        faults=tuple(faults),
    )


def around(tree: Tree, own: npt.NDArray[np.bool_], above: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """What the account of nodes `own` takes from the tree, both bool [node]: they and all that hangs below them (of those that stand `above` other
    trees too, only what is own), and, to be kept beside these, what feeds them, where doubtful meters may hang, and the sisters of them all."""
    inside = own.copy()
    for children in reversed(generations(tree.parent)):
        up_to = tree.parent[children]
        inside[children] |= inside[up_to] & ~above[up_to]
    kept = inside | above
    kept[tree.maybe_node] = True
    for one, other in ((tree.maybe_child, tree.maybe_parent), (tree.maybe_parent, tree.maybe_child)):
        kept[other[inside[one]]] = True
    for children in generations(tree.parent):
        kept[tree.parent[children[kept[children]]]] = True
    feeding = np.zeros(kept.size, np.bool_)
    feeding[tree.parent[kept & (tree.parent >= 0)]] = True
    return inside, kept | ((tree.parent >= 0) & feeding[tree.parent])


def only(tree: Tree, kept: npt.NDArray[np.bool_]) -> Tree:
    """The tree of some nodes, bool [node], in their order; all faults stay."""
    at = np.full(kept.size + 1, -1, np.int32)
    at[:-1][kept] = np.arange(int(kept.sum()))
    where = np.flatnonzero(kept).tolist()
    parent = at[tree.parent[kept]]
    meters, children = kept[tree.maybe_node], kept[tree.maybe_child] & kept[tree.maybe_parent]
    return replace(
        tree,
        names=tuple(tree.names[k] for k in where),
        levels=tuple(tree.levels[k] for k in where),
        parent=parent,
        below_first=children_first(parent),
        own_meter=tree.own_meter[kept],
        rating_kva=tree.rating_kva[kept],
        meter_node=at[tree.meter_node],
        maybe_meter=tree.maybe_meter[meters],
        maybe_node=at[tree.maybe_node[meters]],
        maybe_share=tree.maybe_share[meters],
        maybe_child=at[tree.maybe_child[children]],
        maybe_parent=at[tree.maybe_parent[children]],
        absent=None if tree.absent is None else tree.absent[kept],
    )


def _feeding(node: int, parent: Int32) -> list[int]:
    """The nodes above a node."""
    found = []
    while (node := int(parent[node])) >= 0:
        found.append(node)
    return found


def children_first(parent: Int32) -> Int32:
    """An order of the nodes in which every child stands before its parent; parent must have no cycle."""
    return np.argsort(-_depth(parent), kind="stable").astype(np.int32)


def generations(parent: Int32) -> list[Int32]:
    """The nodes that have a parent, in groups of the same depth, the deepest first."""
    depth = _depth(parent)
    return [np.flatnonzero(depth == each).astype(np.int32) for each in range(int(depth.max(initial=0)), 0, -1)]


def _depth(parent: Int32) -> Int32:
    depth = np.zeros(parent.size, np.int32)
    climb = parent.copy()
    while (climb >= 0).any():
        depth += climb >= 0
        climb = np.where(climb >= 0, parent[climb], -1)
    return depth


def holds(edge: Edge, day: date) -> bool:
    """Whether the edge stands on `day`."""
    return edge.since <= day and (edge.until is None or day < edge.until)


def _node_parents(
    day: date, edges: list[Edge], at: dict[str, int], faults: list[Fault]
) -> tuple[Int32, list[tuple[str, str]], list[tuple[int, int]]]:
    """Each node's parent; nodes whose parent is none, with its name; nodes that two claim, with those who may feed them."""
    claims = _claims(day, edges, at)
    parent, orphaned, torn = np.full(len(at), -1, np.int32), list[tuple[str, str]](), list[tuple[int, int]]()
    for name, parents in claims.items():
        if len(parents) > 1:
            faults.append(Fault("two_parents", name, f"{name} is fed from {' and '.join(parents)} on {day}; it counts below neither"))
            torn += [(at[name], at[each]) for each in parents if each in at and each != name]
        elif parents[0] in at:
            parent[at[name]] = at[parents[0]]
        else:
            orphaned.append((name, parents[0]))
    return parent, orphaned, torn


def _claims(day: date, edges: Iterable[Edge], known: dict[str, int]) -> dict[str, list[str]]:
    """child -> its parents of that day, each once, in the order in which they stand."""
    found: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        if edge.child in known and holds(edge, day) and edge.parent not in found[edge.child]:
            found[edge.child].append(edge.parent)
    return {child: parents for child, parents in found.items() if parents}


def _own_meters(
    day: date, own_meters: Iterable[Edge], at: dict[str, int], column: dict[str, int], nodes: list[Node], faults: list[Fault]
) -> Int32:
    own = np.full(len(at), -1, np.int32)
    held = [edge for edge in own_meters if holds(edge, day) and edge.parent in at and edge.child in column]
    claims = _claims(day, held, column)
    for serial, places in claims.items():
        if len(places) > 1:
            said = f"meter {serial} measures {' and '.join(places)} on {day}; it counts for none of them"
            faults.append(Fault("two_parents", serial, said))
    for edge in held:
        if len(claims[edge.child]) > 1:
            continue
        if own[at[edge.parent]] >= 0:
            faults.append(Fault("two_parents", edge.parent, f"{edge.parent} has two meters of its own on {day}; the first one counts"))
            continue
        own[at[edge.parent]] = column[edge.child]
    for node in nodes:
        if own[at[node.name]] < 0 and node.level in (Level.FEEDER, Level.TRANSFORMER):
            faults.append(
                Fault("meter_missing", node.name, f"{node.level} {node.name} has no meter on {day}; its loss is counted with its parent's")
            )
    return own


def _hang_meters(
    serials: Sequence[str], parents: dict[str, list[str]], at: dict[str, int], own: set[int], faults: list[Fault]
) -> tuple[Int32, list[tuple[int, int]]]:
    hangs, maybe = np.full(len(serials), -1, np.int32), []
    for k, serial in enumerate(serials):
        claimed = parents.get(serial, [])
        known = [at[name] for name in claimed if name in at]
        if len(claimed) > 1:
            faults.append(
                Fault("two_parents", serial, f"meter {serial} hangs on {' and on '.join(claimed)} on one day; it counts at neither")
            )
            maybe += [(k, node) for node in known]
        elif known:
            hangs[k] = known[0]
        elif k not in own:
            where = f"on {claimed[0]}, which is no node" if claimed else "nowhere"
            faults.append(Fault("orphan_meter", serial, f"meter {serial} hangs {where}; its energy counts at no node"))
    return hangs, maybe


def _rating(node: Node, faults: list[Fault]) -> float:
    if node.rating_kva is None:
        return np.nan
    if not 0 < node.rating_kva < inf:
        faults.append(Fault("rating", node.name, f"{node.name} is rated {node.rating_kva:g} kVA; its loading is not told"))
        return np.nan
    return float(node.rating_kva)


def _cut_cycles(parent: Int32, names: list[str], faults: list[Fault]) -> list[tuple[int, int]]:
    """Cuts every edge that lies on a cycle (in place): its nodes stand alone. The edges that were cut, but a node's with itself."""
    cut = list[tuple[int, int]]()
    state = np.zeros(parent.size, np.int8)  # 0 = not seen, 1 = on the present path, 2 = done
    for start in range(parent.size):
        path, node = [], start
        while node >= 0 and state[node] == 0:
            state[node] = 1
            path.append(node)
            node = int(parent[node])
        if node >= 0 and state[node] == 1:
            ring = path[path.index(node) :]
            said = " > ".join(names[k] for k in [*ring, node])
            faults += [
                Fault("cycle", names[k], f"{names[k]} feeds itself ({said}); the ring is cut and each of its nodes stands alone")
                for k in ring
            ]
            cut += [(k, int(parent[k])) for k in ring if parent[k] != k]
            parent[ring] = -1
        state[path] = 2
    return cut
