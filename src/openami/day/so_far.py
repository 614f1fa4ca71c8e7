"""What a shard's nodes took and gave so far on a day that is not closed: sums of nodes, of which accounts are made when they are looked at.

In: `raw` of a (day, shard) up to an interval, the shard's network and what is known of its meters' errors. Out: `SoFar`; readings are let go of.

What always holds: it is the account that a closed day would have of the same readings (`audit.py`), whatever of it was kept; an impossible reading
counts as none; who speaks of a node whose meter lacks an interval says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import numpy as np

from ..losses.above import Above, Share, join
from ..losses.account import Account, Assessed, settle
from ..losses.metered import Errors, MeterTotals, measured, totals, usual
from ..losses.network import Level, Tree
from ..losses.sums import Sums, lacking
from ..readings import EXPORT_WH, IMPORT_WH, MISSING, MISSING64, Int32, Int64, UInt32
from ..registry import ShardIndex
from ..store.blocks import BlockFile, dense_quality, estimates_in
from .found import NodeAccount, account_at
from .network import Network
from .shares import above_kinds
from .site import Site


@dataclass(frozen=True, slots=True)
class Readings:
    """What has come of a (day, shard) up to an interval, int32 [slot, meter], MISSING where nothing has, and its quality bits, None where no value is
    an estimate. given: None where the shard exports nothing; a meter that never does gives 0."""

    taken: Int32
    given: Int32 | None
    taken_quality: UInt32 | None = None
    given_quality: UInt32 | None = None


def slots_told(site: Site, day: date, shard: int) -> int:
    """How many intervals there are up to the last of which somebody's import is told; 0 where none is."""
    return max((BlockFile(path).told(IMPORT_WH.name) for path in site.lake.files("raw", day).get(shard, ())), default=0)


def read_so_far(site: Site, day: date, shard: int, slots: int, meters: int) -> Readings | None:
    """The first `slots` intervals, of so many meters: who came since the file was written is missing. None where no import has come."""
    taken, given = (_values(site, day, shard, channel, slots, meters) for channel in (IMPORT_WH.name, EXPORT_WH.name))
    if taken is None:
        return None
    if given is not None:
        given[:, (given == MISSING).all(axis=0)] = 0
    if not any(estimates_in(path) for path in site.lake.files("raw_quality", day).get(shard, ())):
        return Readings(taken, given)
    marks = site.lake.read("raw_quality", day, shard)
    whole = site.calendar.slots(day), taken.shape[1]
    dense = [None if each is None else dense_quality(marks, name, whole)[:slots] for name, each in _by_name(taken, given)]
    return Readings(taken, given, *dense)


def _by_name(taken: Int32, given: Int32 | None) -> tuple[tuple[str, Int32 | None], ...]:
    return (IMPORT_WH.name, taken), (EXPORT_WH.name, given)


def _values(site: Site, day: date, shard: int, channel: str, slots: int, meters: int) -> Int32 | None:
    for path in site.lake.files("raw", day).get(shard, ()):
        file = BlockFile(path)
        if channel in file.channels:
            block = np.full((slots, max(meters, file.meters(channel))), MISSING, np.int32)
            file.values(channel, partial(_first, block))
            np.copyto(block, MISSING, where=block < 0)
            return block
    return None


def _first(block: Int32, shape: tuple[int, int]) -> Int32:
    """The part of a block that a file has the values of."""
    return block[:, : shape[1]]


@dataclass(frozen=True, slots=True)
class Sum:
    """Nodes' sums over spans, before they are settled. own, below: [span, node]; lacks: int64 [span, node], of how many nodes below the meter lacks
    intervals; share: in what stands above, lacks_above: the same of its places."""

    tree: Tree
    own: Sums
    below: Sums
    lacks: Int64
    share: Share
    lacks_above: Int64

    def account(self, nodes: list[int] | None = None) -> Account:
        """Settled; of all nodes or of some."""
        at = slice(None) if nodes is None else nodes
        return settle(self.tree, self.own.at(at), self.below.at(at))


@dataclass(frozen=True, slots=True)
class SoFar:
    """A shard's nodes. whole: from midnight on, account: the same settled; hourly: by the hour."""

    network: Network
    whole: Sum
    account: Account
    hourly: Sum

    @property
    def hours(self) -> int:
        return len(self.hourly.own.known)

    def at(self, k: int) -> NodeAccount:
        """One node from midnight on."""
        return self._told(self.account, 0, k, k, self.whole, None)

    def by_hour(self, k: int) -> list[NodeAccount]:
        """Its hours."""
        account = self.hourly.account([k])
        return [self._told(account, hour, 0, k, self.hourly, hour) for hour in range(self.hours)]

    def _told(self, account: Account, span: int, at: int, k: int, of: Sum, hour: int | None) -> NodeAccount:
        tree = self.network.tree
        found = account_at(account, span, at, str(tree.levels[k]), tree.names[k], self.network.feeder_of[k], hour)
        return replace(found, own_lacks=bool(tree.own_meter[k] >= 0 and not of.own.known[span, k]), below_lack=int(of.lacks[span, k]))


def add_up(site: Site, day: date, index: ShardIndex, network: Network, errors: Errors, came: Readings) -> SoFar:
    """The sums of a shard. errors: known before the day."""
    slots, interval_s = len(came.taken), site.calendar.interval_s
    consumers = np.flatnonzero(index.is_consumer)
    usual_taken = usual(came.taken, consumers)
    usual_given = None if came.given is None else usual(came.given, consumers)
    found = measured(errors, came.taken, consumers, usual_taken, interval_s)
    of_day = site.calendar.slots(day)
    passed = replace(network, above=tuple(replace(place, load_wh=place.load_wh * slots / of_day) for place in network.above))

    def over(per_span: int) -> Sum:
        taken, given = totals(came.taken, came.taken_quality, per_span, usual_taken), None
        if came.given is not None and usual_given is not None:
            given = totals(came.given, came.given_quality, per_span, usual_given)
        within = np.diff(np.append(np.arange(0, slots, per_span), slots))
        load = Assessed(within[:, None] * network.assessed_wh[None, :] / of_day) if network.assessed_wh.any() else None
        return _sum(passed, taken, given, found, interval_s, load)

    whole = over(slots)
    return SoFar(network, whole, whole.account(), over(max(1, 60 // site.deployment.interval_minutes)))


def _sum(network: Network, taken: MeterTotals, given: MeterTotals | None, errors: Errors, interval_s: int, load: Assessed | None) -> Sum:
    tree, own, below, share = network.sums(taken, given, errors, interval_s, load)
    metered = (tree.own_meter >= 0) & np.array([level is not Level.PHASE for level in tree.levels], np.bool_)
    lacks = lacking(tree, own.known, metered)
    seat = {name: k for k, name in enumerate(tree.names)}
    return Sum(tree, own, below, lacks, share, lacks[:, [seat[place.name] for place in network.above]])


@dataclass(frozen=True, slots=True)
class AboveSoFar:
    """What stands above shards, joined from their sums. whole, hourly: from midnight on, and by the hour; kinds: (level, account's name, node)."""

    whole: Above
    hourly: Above
    lacks: tuple[Int64, Int64]
    kinds: tuple[tuple[str, str, int], ...]

    @property
    def hours(self) -> int:
        return len(self.hourly.area.loss_wh)

    def at(self, k: int) -> NodeAccount:
        """One row from midnight on."""
        return self._told(self.whole, 0, k, self.lacks[0], None)

    def by_hour(self, k: int) -> list[NodeAccount]:
        """Its hours."""
        return [self._told(self.hourly, hour, k, self.lacks[1], hour) for hour in range(self.hours)]

    def _told(self, found: Above, span: int, k: int, lacks: Int64, hour: int | None) -> NodeAccount:
        level, which, node = self.kinds[k]
        whole = bool(found.wires.in_wh[span, node] != MISSING64)
        told = account_at(getattr(found, which), span, node, level, self.name(k), self.feeder(k), hour)
        unseen = 0 if which == "area" and whole else int(lacks[span, node])  # an area goes from a whole meter straight to the consumers
        return replace(told, own_lacks=bool(found.metered[node]) and not whole, below_lack=unseen)

    def name(self, k: int) -> str:
        return self.whole.wires.tree.names[self.kinds[k][2]]

    def feeder(self, k: int) -> str:
        return self.name(k) if self.whole.wires.tree.levels[self.kinds[k][2]] is Level.FEEDER else ""


def joined(parts: list[SoFar]) -> AboveSoFar | None:
    """The nodes above these shards; None where there are none."""
    whole, hourly = (join([sums.share for sums in each]) for each in _both(parts))
    if whole is None or hourly is None:
        return None
    lacks = [_lacks(found, sums) for found, sums in zip((whole, hourly), _both(parts), strict=True)]
    return AboveSoFar(whole, hourly, (lacks[0], lacks[1]), tuple(above_kinds(whole)))


def _both(parts: list[SoFar]) -> tuple[list[Sum], list[Sum]]:
    return [part.whole for part in parts], [part.hourly for part in parts]


def _lacks(found: Above, parts: list[Sum]) -> Int64:
    tree = found.wires.tree
    seat = {name: k for k, name in enumerate(tree.names)}
    below = np.zeros(found.wires.in_wh.shape, np.int64)
    for part in parts:
        for k, place in enumerate(part.share.places):
            below[:, seat[place.name]] += part.lacks_above[:, k]
    return lacking(tree, found.wires.in_wh != MISSING64, found.metered, below)
