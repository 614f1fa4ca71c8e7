"""The energy account of closed days: every transformer's and feeder's loss with its interval, and what of the network's records is in doubt.

Reckoned from `validated` and the registry when it is asked for; nothing is written (`findings.py` keeps what consoles show).
What the meters' errors are taken to be: meter_errors.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ..losses.account import Account
from ..losses.metered import Errors, MeterTotals, totals, usual
from ..losses.months import Joined, join
from ..readings import EXPORT_WH, IMPORT_WH, DayBlock
from ..registry import ShardIndex
from .meter_errors import errors_of, read_errors
from .network import FOLDER, Network, network_of, read_network
from .site import Site


@dataclass(frozen=True, slots=True)
class Audit:
    """A shard's span of days. joined: one row per node; nodes: the rows that are this shard's own; doubts: what is wrong with the
    network's records, as sentences, each once."""

    shard: int
    days: tuple[date, ...]
    joined: Joined
    nodes: tuple[int, ...]
    doubts: tuple[str, ...]


def audit(site: Site, days: list[date]) -> Iterator[Audit]:
    """The account of each shard over `days`, which must be closed (DataError names a day that is not)."""
    drawn, said = read_network(site.folder.root / FOLDER), read_errors(site.folder.root / FOLDER)
    for shard in sorted(site.lake.files("validated", days[0])):
        accounts, doubts, ours = [], dict[str, None](), set[str]()
        held: tuple[Network, MeterTotals, MeterTotals | None, Errors, int] | None = None
        for day in days:
            index = site.index_of(shard, day)
            blocks = site.lake.read_blocks("validated", day, shard)
            energy = blocks[IMPORT_WH.name]
            network, taken, given = network_of(site, index, day, energy.values, drawn), totals_of(energy, index), given_of(blocks, index)
            ours |= {network.tree.names[k] for k in network.own.tolist()}
            doubts |= dict.fromkeys(fault.sentence for fault in network.tree.faults)
            if held is not None and _same(held[0], network) and (held[2] is None) == (given is None):
                both = held[2].plus(given) if held[2] is not None and given is not None else None
                held = network, held[1].plus(taken), both, held[3], held[4] + 1
                continue
            if held is not None:
                accounts.append(_account(site, *held))
            held = network, taken, given, errors_of(site, index, network.tree, energy, said), 1
        if held is not None:
            accounts.append(_account(site, *held))
            joined = join(accounts)
            yield Audit(shard, tuple(days), joined, tuple(k for k, name in enumerate(joined.names) if name in ours), tuple(doubts))


def _account(site: Site, network: Network, taken: MeterTotals, given: MeterTotals | None, errors: Errors, days: int) -> Account:
    assessed = network.assessed(1)
    load = None if assessed is None else replace(assessed, wh=assessed.wh * days)
    return network.account(taken, given, errors, site.calendar.interval_s, load)


def totals_of(block: DayBlock, index: ShardIndex, slots_per_span: int | None = None) -> MeterTotals:
    """Each meter's totals over spans of a day block; None = the whole day."""
    whole = len(block.values) if slots_per_span is None else slots_per_span
    return totals(block.values, block.quality, whole, usual(block.values, np.flatnonzero(index.is_consumer)))


def given_of(blocks: dict[str, DayBlock], index: ShardIndex, slots_per_span: int | None = None) -> MeterTotals | None:
    """Exports, where the shard has any: a meter without that channel exports nothing, which is not the same as a gap."""
    if EXPORT_WH.name not in blocks:
        return None
    block = blocks[EXPORT_WH.name]
    silent = (block.values == np.iinfo(np.int32).min).all(axis=0)
    return totals_of(replace(block, values=np.where(silent[None, :], 0, block.values).astype(np.int32)), index, slots_per_span)


PLACES = ("parent", "own_meter", "meter_node", "maybe_meter", "maybe_node", "maybe_child", "maybe_parent")
"""What two days must have alike to be reckoned together."""


def _same(one: Network, other: Network) -> bool:
    return (
        one.tree.names == other.tree.names
        and np.array_equal(one.assessed_wh, other.assessed_wh)
        and all(np.array_equal(getattr(one.tree, name), getattr(other.tree, name)) for name in PLACES)
    )
