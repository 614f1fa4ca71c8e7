"""Accounts of several spans put together by node: a month in which the network changed.

In: `Account`s of one span each, one for every stretch of days with the same network. Out: `Joined`, a row per node name.

What always holds: energies are added; a node is known only where it is known in every stretch in which it stands. Parts of the spread that err the
same way all the time (class, mapping, assessed loads) are added, the others in the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..readings import MISSING64, Int64
from .account import Account, Part
from .half_width import INSIDE, half_width
from .network import Float64, Level

LASTING = (Part.CLASS, Part.MAPPING, Part.ASSESSED)


@dataclass(frozen=True, slots=True)
class Joined:
    """All [node]: energies [Wh] as in `Account`, MISSING64 or NaN where unknown; spread_wh: float64 [part, node], limit_wh, moves: as
    there; coverage weighed by energy."""

    names: tuple[str, ...]
    levels: tuple[Level, ...]
    in_wh: Int64
    out_wh: Int64
    loss_wh: Int64
    likely_wh: Float64
    low_wh: Float64
    high_wh: Float64
    spread_wh: Float64
    limit_wh: Float64
    moves: Float64
    coverage: Float64


def join(accounts: Sequence[Account], inside: float = INSIDE) -> Joined:
    """The accounts of following spans as one. RequestError where there is none, or one has more than one span."""
    if not accounts or any(each.loss_wh.shape[0] != 1 for each in accounts):
        raise RequestError("give one account or more, each of a single span")
    levels: dict[str, Level] = {}
    for each in accounts:
        for name, level in zip(each.tree.names, each.tree.levels, strict=True):
            levels.setdefault(name, level)
    at = {name: k for k, name in enumerate(levels)}
    energies = np.zeros((3, len(at)), np.int64)
    likely, weight, covered = np.zeros(len(at)), np.zeros(len(at)), np.zeros(len(at))
    known = np.ones((3, len(at)), np.bool_)
    limit, moves = np.zeros(len(at)), np.zeros(len(at))
    steady, squared = np.zeros((len(Part), len(at))), np.zeros((len(Part), len(at)))
    for each in accounts:
        place = np.array([at[name] for name in each.tree.names], np.int64)
        for row, values in enumerate((each.in_wh[0], each.out_wh[0], each.loss_wh[0])):
            there = values != MISSING64
            energies[row, place] += np.where(there, values, 0)
            known[row, place] &= there
        likely[place] += np.nan_to_num(each.likely_wh[0])
        steady[:, place] += each.spread_wh[:, 0]
        squared[:, place] += each.spread_wh[:, 0] ** 2
        limit[place] += each.limit_wh[0]
        moves[place] = np.maximum(moves[place], each.moves[0])
        energy = np.maximum(np.where(each.in_wh[0] != MISSING64, each.in_wh[0], 0), 1).astype(np.float64)
        weight[place] += energy
        covered[place] += energy * each.coverage[0]
    lasting = np.isin(np.arange(len(Part)), [int(p) for p in LASTING])[:, None]
    spread = np.where(lasting, steady, np.sqrt(squared))
    width = half_width(spread, Part.MAPPING, limit, moves, inside)
    likely = np.where(known[2], likely, np.nan)
    into, out, loss = np.where(known, energies, MISSING64)
    return Joined(
        tuple(at), tuple(levels.values()), into, out, loss, likely, likely - width, likely + width, spread, limit, moves,
        covered / np.maximum(weight, 1),
    )  # fmt: skip
