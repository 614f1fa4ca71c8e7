"""The energy account of a day that is not closed yet, by the hour, from what has come so far.

In: `raw` of the day, as the collector has it by now (a worker collects every minute). Out: `Running`; nothing is written.

What always holds: it is provisional, and says of when it is; what has not come yet is missing, not lost: it widens the interval and lowers the
coverage; an interval that nobody has told of yet, or that has not ended, stands in no hour; readings are as the meters gave them, not validated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, islice

import numpy as np

from ..losses.above import Share, join
from ..losses.account import Account, Assessed
from ..readings import EXPORT_WH, IMPORT_WH, MISSING, DayBlock, Quality
from .audit import given_of, totals_of
from .closes import is_closed
from .found import NodeAccount, from_the_top, node_account
from .meter_errors import Said, errors_of, read_errors
from .network import FOLDER, Drawn, Network, drawn_of, network_of
from .shares import above_rows, figures
from .site import Site

DAYS_LOOKED = 7


@dataclass(frozen=True, slots=True)
class Hours:
    """A node by the hour. count: of its hours; at: the account of one, made when it is asked for."""

    level: str
    node: str
    feeder: str
    count: int
    at: Callable[[int], NodeAccount]


@dataclass(frozen=True, slots=True)
class Running:
    """A day as it stands. as_of_s: end of the last interval that somebody has told of [UTC s]; so_far: every node from midnight until then; by_hour:
    the same nodes, whose last hour is as far as it has come; doubts: what is wrong with the network's records."""

    day: date
    as_of_s: int
    so_far: tuple[NodeAccount, ...]
    by_hour: tuple[Hours, ...]
    doubts: tuple[str, ...]

    def hours(self, node: str | None = None, first: int = 0) -> Iterator[NodeAccount]:
        """Hours of a node, None = of all, from the first-th on. A million meters have 400,000 of them, of which few are looked at."""
        places = ((one, hour) for one in self.by_hour if node in (None, one.node) for hour in range(one.count))
        return (one.at(hour) for one, hour in islice(places, first, None))

    def seen_by(self, feeders: Set[str] | None) -> Running:
        """The same for whoever sees these feeders only; None = all."""
        if feeders is None:
            return self
        so_far = tuple(one for one in self.so_far if one.feeder in feeders)
        return replace(self, so_far=so_far, by_hour=tuple(one for one in self.by_hour if one.feeder in feeders), doubts=())


def open_day(site: Site, now_s: int) -> date | None:
    """The last day of which readings have come to a shard that has not closed it, an interval of it having ended by `now_s`: a clock that is days
    ahead begins none. None where there is none among the latest DAYS_LOOKED: every wall asks, and what is older does not run."""
    lake = site.lake
    begun = islice((day for day in reversed(lake.days("raw")) if _ended(site, day, now_s)), DAYS_LOOKED)
    return next((day for day in begun if any(not is_closed(lake, day, shard) for shard in lake.files("raw", day))), None)


def running(site: Site, now_s: int, day: date | None = None) -> Running | None:
    """The account of a day so far (None = of `open_day`); None where nothing has come of an interval that ended by `now_s`."""
    asked = day or open_day(site, now_s)
    if asked is None:
        return None
    blocks = {shard: _came(site, asked, shard) for shard in sorted(site.lake.files("raw", asked))}
    slots = min(max((_told(own[IMPORT_WH.name]) for own in blocks.values() if own), default=0), _ended(site, asked, now_s))
    if not slots:
        return None
    drawn, said = drawn_of(site), read_errors(site.folder.root / FOLDER)
    rows, by_hour = list[NodeAccount](), list[Hours]()
    shares: list[tuple[Share, Share]] = []
    doubts = dict[str, None]()
    for shard, own in blocks.items():
        if own:
            network, (whole, hourly), both = _shard(site, asked, shard, own, slots, drawn, said)
            rows += [_account(network, whole, k, 0, None) for k in network.own.tolist()]
            by_hour += [_hours(network, hourly, k) for k in network.own.tolist()]
            shares.append(both)
            doubts |= dict.fromkeys(fault.sentence for fault in network.tree.faults)
    if (above := join([whole for whole, _ in shares])) is not None:
        rows += [node_account([row]) for row in above_rows(above, hourly=False)]
        doubts |= dict.fromkeys(above.doubts)
    if (above := join([hourly for _, hourly in shares])) is not None:
        told = sorted((node_account([row]) for row in above_rows(above, hourly=True)), key=lambda one: (*_place(one), one.hour or 0))
        for _, same in groupby(told, _place):
            own_hours = tuple(same)
            by_hour.append(Hours(own_hours[0].level, own_hours[0].node, own_hours[0].feeder, len(own_hours), own_hours.__getitem__))
    as_of_s = site.calendar.stamp(asked, slots - 1)
    return Running(asked, as_of_s, tuple(sorted(rows, key=_place)), tuple(sorted(by_hour, key=_place)), tuple(doubts))


def _place(one: NodeAccount | Hours) -> tuple[int, str, str]:
    return from_the_top((one.level, one.node))


def _shard(
    site: Site, day: date, shard: int, came: dict[str, DayBlock], slots: int, drawn: Drawn, said: Said
) -> tuple[Network, tuple[Account, Account], tuple[Share, Share]]:
    """A shard's network, its accounts of the first intervals and by hour, and its shares in what stands above it."""
    index = site.index_of(shard, day)
    blocks = {name: _until(block, slots, index.meters) for name, block in came.items()}
    energy = blocks[IMPORT_WH.name]
    network = network_of(site, index, day, energy.values, drawn)
    errors = errors_of(site, index, network.tree, energy, said)
    of_day = site.calendar.slots(day)
    network = replace(network, above=tuple(replace(place, load_wh=place.load_wh * slots / of_day) for place in network.above))
    found = []
    for per_span in (slots, max(1, 60 // site.deployment.interval_minutes)):
        taken, given = totals_of(energy, index, per_span), given_of(blocks, index, per_span)
        within = np.diff(np.append(np.arange(0, slots, per_span), slots))
        load = Assessed(within[:, None] * network.assessed_wh[None, :] / of_day) if network.assessed_wh.any() else None
        found.append(network.account(taken, given, errors, site.calendar.interval_s, load))
    (whole, share), (hours, by_hour) = found
    return network, (whole, hours), (share, by_hour)


def _account(network: Network, account: Account, k: int, span: int, hour: int | None) -> NodeAccount:
    place = {"level": str(network.tree.levels[k]), "node": network.tree.names[k], "feeder": network.feeder_of[k], "hour": hour}
    return node_account([{**place, **figures(account, span, k)}])


def _hours(network: Network, account: Account, k: int) -> Hours:
    level, node, feeder = str(network.tree.levels[k]), network.tree.names[k], network.feeder_of[k]
    return Hours(level, node, feeder, len(account.loss_wh), lambda hour: _account(network, account, k, hour, hour))


def _came(site: Site, day: date, shard: int) -> dict[str, DayBlock]:
    """What has come of the energies of a (day, shard); nothing where no import has."""
    blocks = site.lake.read_blocks("raw", day, shard)
    return {name: blocks[name] for name in (IMPORT_WH.name, EXPORT_WH.name) if name in blocks} if IMPORT_WH.name in blocks else {}


def _told(block: DayBlock) -> int:
    """How many intervals there are up to the last that somebody has told of."""
    return int(np.flatnonzero((block.values != MISSING).any(axis=1)).max(initial=-1)) + 1


def _ended(site: Site, day: date, now_s: int) -> int:
    """How many intervals of the day have ended: a clock that is ahead tells of none before its time."""
    return max(0, min(site.calendar.slots(day), (now_s - site.calendar.day_start(day)) // site.calendar.interval_s))


def _until(block: DayBlock, slots: int, meters: int) -> DayBlock:
    """The first intervals of a block, of so many meters (those that came since it was written are missing), without what none can have counted."""
    since = ((0, 0), (0, max(0, meters - block.values.shape[1])))
    values = np.pad(block.values[:slots], since, constant_values=MISSING)
    quality = np.pad(block.quality[:slots], since, constant_values=np.uint32(Quality.MISSING))
    return replace(block, values=np.where(values < 0, MISSING, values), quality=quality)
