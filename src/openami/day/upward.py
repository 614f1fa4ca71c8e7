"""What stands above a shard on a day: nodes that other shards' feeders may hang on too, and who feeds whom over the whole deployment.

In: the registry's nodes (all shards'), the substation of each feeder, what the folder `network` says. Out: `Upward`; of a shard's tree, its `Place`s.

What always holds: every shard that has something below such a node, or its meter, finds the same node; what feeds such a node is one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..losses.above import UPPER, Place
from ..losses.network import Edge, Level, Tree, holds
from ..readings import Int64
from ..registry import ShardIndex


@dataclass(frozen=True, slots=True)
class Upward:
    """Who feeds whom on a day. fed_by: child -> the one node that feeds it, by the folder where that speaks of it, else by the registry; level: of
    every node that the registry or the folder knows; held, elsewhere: the registry's feeders and transformers of this shard and of others; leaves:
    all feeders, and the transformers that the folder hangs; serials: meters of this shard that the folder hangs; strangers, nowhere: node -> what
    the folder hangs there that is a meter of another shard, or nothing that is known."""

    fed_by: Mapping[str, str]
    level: Mapping[str, Level]
    held: frozenset[str]
    elsewhere: frozenset[str]
    leaves: tuple[str, ...]
    serials: frozenset[str]
    strangers: Mapping[str, frozenset[str]]
    nowhere: Mapping[str, frozenset[str]]

    def chain(self, name: str) -> Iterator[tuple[str, str]]:
        """(child, the node that feeds it), from `name` up; a ring is gone round once."""
        seen = {name}
        while (above := self.fed_by.get(name)) is not None and above in self.level and above not in seen:
            yield name, above
            seen.add(above)
            name = above


def upward(
    index: ShardIndex, day: date, edges: tuple[Edge, ...], drawn: Mapping[str, Level], substation: Mapping[str, str], nowhere: frozenset[str]
) -> Upward:  # fmt: skip
    """edges, drawn: those of the folder, and the levels of its nodes; substation: of each feeder by name, "" = none; nowhere: children of edges that
    are neither node nor meter."""
    feeders = set(index.feeder[index.feeder >= 0].tolist())
    held = {index.feeders[k] for k in feeders}
    held |= {name for name, of in zip(index.transformers, index.transformer_feeder.tolist(), strict=True) if of in feeders}
    level = dict.fromkeys((name for name in substation.values() if name), Level.SUBSTATION)
    level |= dict.fromkeys(index.feeders, Level.FEEDER) | dict.fromkeys(index.transformers, Level.TRANSFORMER) | {**drawn}
    said = {edge.child for edge in edges}
    fed_by = {name: above for name, above in substation.items() if above and level[above] is Level.SUBSTATION and name not in said}
    fed_by |= {
        name: index.feeders[of] for name, of in zip(index.transformers, index.transformer_feeder.tolist(), strict=True) if name not in said
    }
    claims: dict[str, set[str]] = {}
    for edge in edges:
        if holds(edge, day):
            claims.setdefault(edge.child, set()).add(edge.parent)
    fed_by |= {child: next(iter(parents)) for child, parents in claims.items() if len(parents) == 1}
    own = frozenset(index.serials) if said else frozenset()
    strangers: dict[str, set[str]] = {}
    unknown: dict[str, set[str]] = {}
    for child, parents in claims.items():
        if child not in level and child not in own and len(parents) == 1:
            (unknown if child in nowhere else strangers).setdefault(next(iter(parents)), set()).add(child)
    return Upward(
        fed_by, level, frozenset(held), frozenset((*index.feeders, *index.transformers)) - held,
        (*index.feeders, *(name for name in index.transformers if name in said)), own & said, _frozen(strangers), _frozen(unknown),
    )  # fmt: skip


def _frozen(found: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(own) for name, own in found.items()}


def places_above(tree: Tree, up: Upward, below: Int64, load_wh: np.ndarray) -> tuple[Place, ...]:
    """The nodes above a shard that it has something to tell of. below: int64 [node], its meters below each node; load_wh: float64 [node]."""
    feeds: dict[str, set[str]] = {}
    ours, theirs = set[str](), set(up.strangers)
    for leaf in up.leaves:
        for child, above in up.chain(leaf):
            feeds.setdefault(above, set()).add(child)
            (ours if leaf in up.held else theirs).add(above)
    for name, meters in up.strangers.items():
        feeds.setdefault(name, set()).update(meters)
        theirs |= {above for _, above in up.chain(name)}
    for name, unknown in up.nowhere.items():
        feeds.setdefault(name, set()).update(unknown)
    for serial in up.serials:
        if (at := up.fed_by.get(serial)) in up.level and at not in up.held:
            feeds.setdefault(str(at), set()).add(serial)
    seat = {name: k for k, name in enumerate(tree.names)}
    shared = {name for name, k in seat.items() if tree.levels[k] in UPPER or name in theirs}
    shared |= {name for name in seat if name in up.elsewhere}
    shared |= {above for name in sorted(shared) for _, above in up.chain(name) if above in seat}
    told = up.held | up.serials | ours
    maybe: dict[str, set[str]] = {}
    for child, above in zip(tree.maybe_child.tolist(), tree.maybe_parent.tolist(), strict=True):
        maybe.setdefault(tree.names[child], set()).add(tree.names[above])
    found = []
    for name, k in seat.items():
        if name in shared and (below[k] > 0 or tree.own_meter[k] >= 0 or name in ours):
            above = tree.names[tree.parent[k]] if tree.parent[k] >= 0 else ""
            hangs = feeds.get(name, set())
            found.append(
                Place(
                    name, tree.levels[k], above, frozenset(maybe.get(name, ())), frozenset(hangs), frozenset((hangs & told) - shared),
                    bool(tree.own_meter[k] >= 0), float(load_wh[k]),
                )
            )  # fmt: skip
    return tuple(found)
