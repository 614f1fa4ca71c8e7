"""What stands above shards: each shard adds up what its own feeders take and give, and the sums are joined; readings never are.

In: a `Share` of each shard, made by `account_and_share`: sums at the nodes whose feeders may lie in other shards too. Out: `Above`, two accounts of
every such node: `wires`, from its own meter to the next meters below it (a substation's incomer against its feeders' heads), and `area`, all
the way to the consumers.

What always holds: sums joined are the sums of the whole, wherever it is cut into shards; each meter counts once (what a feeder's head errs stands in
the loss of its own wires, and cancels out of the area above it); a node of which a shard has not told yet has no wires' loss, and is named.
Of a node without a meter of its own, or of which not all has been told, the area is that of the feeders with heads: the others lower its coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import RequestError
from ..readings import Bool, Int32
from .account import Account, settle
from .half_width import INSIDE
from .metered import Errors, MeterTotals
from .network import Float64, Level, Tree, children_first, generations
from .sums import Assessed, Part, Strays, Sums, climb, consumers, own_meters

UPPER = (Level.COMPANY, Level.DIVISION, Level.SUBSTATION)
"""Levels whose nodes stand above shards by their nature."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node above shards as a shard's records know it. parent, maybe: names of the node that feeds it ("" = none) and of those that may; feeds:
    all that hangs on it, told: what of that this shard tells, by name; metered: its own meter is one of this shard's; load_wh: a day's
    unmetered load on the node itself."""

    name: str
    level: Level
    parent: str = ""
    maybe: frozenset[str] = frozenset()
    feeds: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    metered: bool = False
    load_wh: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one shard knows of nodes above it, [span, place]. own: their own meters; wires: what leaves them to the next meters; area: to the
    consumers; heads: those of the nodes next below that have a meter of their own, and headed: what hangs below these, to the consumers."""

    places: tuple[Place, ...]
    own: Sums
    wires: Sums
    area: Sums
    heads: Sums
    headed: Sums


SUMS = ("own", "wires", "area", "heads", "headed")


@dataclass(frozen=True, slots=True)
class Above:
    """The nodes above shards. metered: bool [node], which have a meter of their own: the wires' loss of the others is unknown; doubts: what is not
    told, as sentences."""

    wires: Account
    area: Account
    metered: Bool
    doubts: tuple[str, ...]


def account_and_share(
    tree: Tree, above: Sequence[Place], imported: MeterTotals, errors: Errors, interval_s: int, exported: MeterTotals | None = None,
    assessed: Assessed | None = None,
) -> tuple[Account, Share]:  # fmt: skip
    """The account of a shard's tree, which ends below the nodes `above`, and the shard's share in those. RequestError where arrays do not fit."""
    cut, own, wires, share = sums_and_share(tree, above, imported, errors, interval_s, exported, assessed)
    return settle(cut, own, wires), share


def sums_and_share(
    tree: Tree, above: Sequence[Place], imported: MeterTotals, errors: Errors, interval_s: int, exported: MeterTotals | None = None,
    assessed: Assessed | None = None,
) -> tuple[Tree, Sums, Sums, Share]:  # fmt: skip
    """The same before it is settled: the tree as it ends, its nodes' own meters, what leaves them downward, and the share. Whoever asks for few
    nodes, or for few hours, settles these alone."""
    place = {name: k for k, name in enumerate(tree.names)}
    if missing := [one.name for one in above if one.name not in place]:
        raise RequestError(f"{missing[0]} is no node of the tree; give the nodes above with it")
    at = np.array([place[one.name] for one in above], np.int32)
    cut = _cut(tree, at)
    own = own_meters(cut, imported, exported, errors, interval_s)
    direct, strays = consumers(cut, imported, exported, errors, interval_s, assessed)
    wires = climb(cut, own, direct, strays)
    heads, headed = (Sums.nothing(len(imported.wh), at.size) for _ in range(2))
    heads.known[...] = False
    if not at.size:
        return cut, own, wires, Share((), heads, heads, heads, heads, headed)
    through = climb(cut, own, direct, through=True)
    seat = np.full(len(tree.names), -1, np.int32)
    seat[at] = np.arange(at.size)
    children = np.flatnonzero((cut.parent >= 0) & (seat[cut.parent] >= 0)).astype(np.int32)
    _add_heads(heads, headed, seat[cut.parent[children]], own, through, own.known[:, children], children)
    plain = _without(wires, strays).at(at)
    return cut, own, wires, Share(tuple(above), own.at(at), plain, through.at(at), heads, headed)


def join(shares: Sequence[Share], inside: float = INSIDE) -> Above | None:
    """The accounts of the nodes above, from every shard's share over the same spans; None where no shard knows such a node."""
    places = [one for share in shares for one in share.places]
    if not places:
        return None
    if len({share.own.known.shape[0] for share in shares if share.places}) > 1:
        raise RequestError("shares of other spans cannot be joined; give all shards' of one day")
    tree = _tree_above(places)
    seat = {name: k for k, name in enumerate(tree.names)}
    spans = next(share.own.known.shape[0] for share in shares if share.places)
    own, wires, area, heads, headed = (Sums.nothing(spans, len(seat)) for _ in SUMS)
    own.known[...], heads.known[...] = False, False
    doubts, measured_by = list[str](), set[str]()
    for share in shares:
        at = np.array([seat[one.name] for one in share.places], np.int32)
        if not at.size:
            continue
        wires.add(at, share.wires)
        area.add(at, share.area)
        _add_heads(heads, headed, at, share.heads, share.headed, share.heads.known)
        for k, one in enumerate(share.places):
            if one.metered and one.name in measured_by:
                doubts.append(f"{one.name} has meters of its own in two shards; the first one counts")
            elif one.metered:
                measured_by.add(one.name)
                own.add(at[k : k + 1], share.own, picked=np.array([k], np.int32))
                own.known[:, at[k]] = share.own.known[:, k]
    _add_loads(places, seat, wires, area)
    told, said = _told(places, seat, tree)
    wires.known[...] &= told >= 1
    doubts += said
    metered = np.array([name in measured_by for name in tree.names], np.bool_)
    between = settle(tree, own, climb(tree, own, wires), inside)
    return Above(between, _area(tree, own, area, heads, headed, told, inside), metered, tuple(dict.fromkeys(doubts)))


def _area(tree: Tree, own: Sums, area: Sums, heads: Sums, headed: Sums, told: Float64, inside: float) -> Account:
    """From the topmost meters that are whole to the consumers below them."""
    through = climb(tree, own, replace(area, known=area.known & (told >= 1)), through=True)
    whole = own.known & through.known
    for children in generations(tree.parent):
        up_to = tree.parent[children]
        _add_heads(heads, headed, up_to, own, through, whole[:, children], children)
        _add_heads(heads, headed, up_to, heads.at(children), headed.at(children), heads.known[:, children] & ~whole[:, children])
    passed_over = through.down_wh + through.missing_wh - headed.down_wh - headed.missing_wh
    headed = replace(headed, missing_wh=headed.missing_wh + np.maximum(passed_over, 0.0))
    top, below = _chosen(whole, own, heads), _chosen(whole, through, headed)
    found = settle(tree, top, replace(below, known=below.known & top.known), inside)
    return replace(found, coverage=found.coverage * _told_below(tree, told))


def _add_heads(heads: Sums, headed: Sums, to: np.ndarray, more: Sums, below: Sums, where: Bool, picked: Int32 | None = None) -> None:
    """Adds nodes that have a meter, and what hangs below them (`picked` as in `Sums.add`); a node is known to have heads as soon as one of them is
    whole."""
    known = heads.known.copy()
    heads.add(to, more, where, picked)
    headed.add(to, below, where, picked)
    at: Any = (slice(None), to)
    np.logical_or.at(known, at, where)
    heads.known[...] = known


def _chosen(where: Bool, one: Sums, other: Sums) -> Sums:
    return Sums(*(np.where(where, getattr(one, each.name), getattr(other, each.name)) for each in fields(Sums)))


def _without(below: Sums, strays: Strays) -> Sums:
    """Sums before the doubt between sisters was added: it is none at the parent."""
    variance = below.variance.copy()
    variance[Part.MAPPING] -= strays.variance_wh2
    return replace(below, variance=variance, moves=below.moves - strays.moves)


def _cut(tree: Tree, above: np.ndarray) -> Tree:
    """The tree without what feeds the nodes above: they are its tops, and who may feed them is asked where shares are joined."""
    parent = tree.parent.copy()
    parent[above] = -1
    stays = ~np.isin(tree.maybe_child, above)
    return replace(
        tree,
        parent=parent,
        below_first=children_first(parent),
        maybe_child=tree.maybe_child[stays],
        maybe_parent=tree.maybe_parent[stays],
    )


def _tree_above(places: Sequence[Place]) -> Tree:
    first: dict[str, Place] = {}
    for one in places:
        first.setdefault(one.name, one)
    seat = {name: k for k, name in enumerate(first)}
    parent = np.array([seat.get(one.parent, -1) for one in first.values()], np.int32)
    maybe = [(seat[one.name], seat[name]) for one in first.values() for name in sorted(one.maybe) if name in seat]
    nobody = np.zeros(0, np.int32)
    return Tree(
        names=tuple(first),
        levels=tuple(one.level for one in first.values()),
        parent=parent,
        below_first=children_first(parent),
        own_meter=np.full(len(seat), -1, np.int32),
        rating_kva=np.full(len(seat), np.nan),
        meter_node=nobody,
        maybe_meter=nobody,
        maybe_node=nobody,
        maybe_share=np.zeros(0),
        maybe_child=np.array([child for child, _ in maybe], np.int32),
        maybe_parent=np.array([above for _, above in maybe], np.int32),
    )


def _add_loads(places: Sequence[Place], seat: dict[str, int], *below: Sums) -> None:
    """Unmetered loads on the nodes themselves, once each, spread evenly over the spans (in place)."""
    loads = {one.name: one.load_wh for one in places if one.load_wh}
    for name, wh in loads.items():
        for each in below:
            load = wh / len(each.known)
            each.down_wh[:, seat[name]] += round(load)
            each.assessed_wh[:, seat[name]] += round(load)
            each.likely_wh[:, seat[name]] += load
            each.variance[Part.ASSESSED, :, seat[name]] += (Assessed(np.zeros(0)).relative * load) ** 2


def _told(places: Sequence[Place], seat: dict[str, int], tree: Tree) -> tuple[Float64, list[str]]:
    """What share of all that hangs on each node has told, float64 [node], and a sentence on each of which not all has."""
    feeds: list[set[str]] = [set() for _ in seat]
    told: list[set[str]] = [set() for _ in seat]
    for one in places:
        feeds[seat[one.name]] |= one.feeds
        told[seat[one.name]] |= one.told
    share, said = np.ones(len(seat)), list[str]()
    for k, name in enumerate(tree.names):
        silent = {each for each in feeds[k] - told[k] if each not in seat}
        if silent:
            share[k] = 1 - len(silent) / len(feeds[k])
            first, *more = sorted(silent)
            some = f"{first} and {len(more)} more" if more else first
            said.append(
                f"{name} feeds {some}, of which nothing is told: the loss of its wires is unknown, and its area is that of the others"
            )
    return share, said


def _told_below(tree: Tree, told: Float64) -> Float64:
    """The share told of each node and of all below it."""
    found, weight = told.copy(), np.ones(told.size)
    for children in generations(tree.parent):
        np.add.at(found, tree.parent[children], found[children])
        np.add.at(weight, tree.parent[children], weight[children])
    return found / weight
