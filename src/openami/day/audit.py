"""The energy account of closed days: every node's loss with its interval, and what of the network's records is in doubt.

Reckoned from `validated` and the registry when it is asked for; nothing is written (`findings.py` keeps what consoles show).
What the meters' errors are taken to be: meter_errors.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ..losses.above import UPPER, Above, Share
from ..losses.above import join as join_shares
from ..losses.account import Account
from ..losses.metered import Errors, MeterTotals, totals, usual
from ..losses.months import Joined, join
from ..readings import EXPORT_WH, IMPORT_WH, DayBlock
from ..registry import ShardIndex
from .meter_errors import errors_of, read_errors
from .network import FOLDER, Network, drawn_of, network_of
from .site import Site


@dataclass(frozen=True, slots=True)
class Audit:
    """A span of days of a shard, or of what stands above shards. joined: one row per node; nodes: the rows to be told; doubts: what is wrong with the
    network's records, as sentences, each once; area: the rows are of nodes with all that hangs below them, down to the consumers."""

    joined: Joined
    nodes: tuple[int, ...]
    doubts: tuple[str, ...]
    area: bool = False


def audit(site: Site, days: list[date]) -> Iterator[Audit]:
    """The account of each shard over `days`, which must be closed (DataError names a day that is not), and behind them those of what stands above."""
    drawn, said = drawn_of(site), read_errors(site.folder.root / FOLDER)
    shares: dict[date, list[Share]] = {day: [] for day in days}
    for shard in sorted(site.lake.files("validated", days[0])):
        accounts, doubts, ours = [], dict[str, None](), set[str]()
        held: _Stretch | None = None
        for day in days:
            index = site.index_of(shard, day)
            blocks = site.lake.read_blocks("validated", day, shard)
            energy = blocks[IMPORT_WH.name]
            network = network_of(site, index, day, energy.values, drawn)
            errors = errors_of(site, index, network.tree, energy, said)
            own = _Stretch(network, totals_of(energy, index), given_of(blocks, index), errors, 1)
            shares[day].append(own.account(site)[1])
            ours |= {network.tree.names[k] for k in network.own.tolist()}
            doubts |= dict.fromkeys(fault.sentence for fault in network.tree.faults)
            if held is not None and held.goes_on(own):
                held = held.plus(own)
                continue
            accounts += [] if held is None else [held.account(site)[0]]
            held = own
        if held is not None:
            joined = join([*accounts, held.account(site)[0]])
            yield Audit(joined, tuple(k for k, name in enumerate(joined.names) if name in ours), tuple(doubts))
    yield from _above([found for day in days if (found := join_shares(shares[day])) is not None])


def _above(days: list[Above]) -> Iterator[Audit]:
    """The nodes above shards over days: those with a meter by their wires, substations, divisions and the company by their area too."""
    if not days:
        return
    wires, area = join([one.wires for one in days]), join([one.area for one in days])
    metered = {name for one in days for name, has in zip(one.wires.tree.names, one.metered.tolist(), strict=True) if has}
    told = tuple(k for k, name in enumerate(wires.names) if name in metered or wires.levels[k] not in UPPER)
    yield Audit(wires, told, tuple(dict.fromkeys(sentence for one in days for sentence in one.doubts)))
    yield Audit(area, tuple(k for k, level in enumerate(area.levels) if level in UPPER), (), area=True)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Days that follow each other on the same network, each meter's totals added."""

    network: Network
    taken: MeterTotals
    given: MeterTotals | None
    errors: Errors
    days: int

    def goes_on(self, other: _Stretch) -> bool:
        return _same(self.network, other.network) and (self.given is None) == (other.given is None)

    def plus(self, other: _Stretch) -> _Stretch:
        given = self.given.plus(other.given) if self.given is not None and other.given is not None else None
        return replace(self, network=other.network, taken=self.taken.plus(other.taken), given=given, days=self.days + other.days)

    def account(self, site: Site) -> tuple[Account, Share]:
        assessed = self.network.assessed(1)
        load = None if assessed is None else replace(assessed, wh=assessed.wh * self.days)
        return self.network.account(self.taken, self.given, self.errors, site.calendar.interval_s, load)


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
