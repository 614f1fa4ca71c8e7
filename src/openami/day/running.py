"""The energy account of a day that is not closed yet, by the hour, from what has come so far.

In: `raw` of the day, as the collector has it by now (a worker collects every minute). Out: `Running`; nothing is written.

What always holds: it is provisional, and says of when it is; what has not come yet is missing, not lost: it widens the interval and lowers the
coverage; an interval that nobody has told of yet, or that has not ended, stands in no hour; readings are as the meters gave them, not validated; what
a `Course` kept is what it would reckon anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from typing import Any, overload

from ..losses.metered import Errors
from ..registry import ShardIndex
from ..store.rosters import Change
from .closes import is_closed
from .found import NodeAccount, from_the_top
from .meter_errors import Said, known_errors, read_errors
from .network import FOLDER, Drawn, Network, drawn_of, network_of
from .site import Site
from .so_far import AboveSoFar, SoFar, add_up, joined, read_so_far, slots_told

DAYS_LOOKED = 7


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a day that runs; its accounts are made when they are asked for."""

    level: str
    node: str
    feeder: str
    of: SoFar | AboveSoFar
    k: int


class Rows(Sequence[NodeAccount]):
    """Accounts from midnight on, each made when it is looked at."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> NodeAccount: ...
    @overload
    def __getitem__(self, at: slice) -> list[NodeAccount]: ...
    def __getitem__(self, at: int | slice) -> NodeAccount | list[NodeAccount]:
        if isinstance(at, slice):
            return [one.of.at(one.k) for one in self._places[at]]
        return self._places[at].of.at(self._places[at].k)


@dataclass(frozen=True, slots=True)
class Running:
    """A day as it stands. as_of_s: end of the last interval that somebody has told of [UTC s]; places: every node, from the top; doubts: what is
    wrong with the network's records."""

    day: date
    as_of_s: int
    places: tuple[Place, ...]
    doubts: tuple[str, ...]

    @property
    def so_far(self) -> Rows:
        """Every node from midnight until then."""
        return Rows(self.places)

    def hours(self, first: int = 0) -> Iterator[NodeAccount]:
        """Every node by the hour, from the first-th of all hours on; the last hour is as far as it has come."""
        for one in self.places:
            if first < one.of.hours:
                yield from one.of.by_hour(one.k)[first:]
            first = max(0, first - one.of.hours)

    def of(self, node: str) -> Running:
        """The same of one node alone: of its wires, its area, or both."""
        return replace(self, places=tuple(one for one in self.places if one.node == node))

    def seen_by(self, feeders: Set[str] | None) -> Running:
        """The same for whoever sees these feeders only; None = all."""
        return self if feeders is None else replace(self, places=tuple(one for one in self.places if one.feeder in feeders), doubts=())


def open_day(site: Site, now_s: int) -> date | None:
    """The last day of which readings have come to a shard that has not closed it, an interval of it having ended by `now_s`: a clock that is days
    ahead begins none. None where there is none among the latest DAYS_LOOKED: every wall asks, and what is older does not run."""
    lake = site.lake
    begun = islice((day for day in reversed(lake.days("raw")) if _ended(site, day, now_s)), DAYS_LOOKED)
    return next((day for day in begun if any(not is_closed(lake, day, shard) for shard in lake.files("raw", day))), None)


def running(site: Site, now_s: int, day: date | None = None) -> Running | None:
    """The account of a day so far (None = of `open_day`); None where nothing has come of an interval that ended by `now_s`."""
    return Course(site).at(now_s, day)


@dataclass(frozen=True, slots=True)
class _Records:
    """What is said of a day's network beside readings, and the marks that tell whether it is still the same."""

    marks: tuple[Any, ...]
    change: Change
    drawn: Drawn
    said: Said


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard as it was reckoned. made_from: names what of; errors: known before the day."""

    made_from: tuple[Any, ...]
    index: ShardIndex
    network: Network
    errors: Errors
    found: SoFar


@dataclass
class Course:
    """A site's running day, reckoned on from the time before: what of a shard has not changed is not read again. For one caller at a time."""

    site: Site
    _day: date | None = field(default=None, repr=False)
    _records: _Records | None = field(default=None, repr=False)
    _told: dict[int, tuple[str, int]] = field(default_factory=dict, repr=False)
    _shards: dict[int, _Shard] = field(default_factory=dict, repr=False)
    _last: tuple[tuple[Any, ...], Running] | None = field(default=None, repr=False)

    def at(self, now_s: int, day: date | None = None) -> Running | None:
        """As `running`."""
        with self.site.reading():
            asked = day or open_day(self.site, now_s)
            if asked != self._day:
                self._day, self._records, self._told, self._shards, self._last = asked, None, {}, {}, None
            return None if asked is None else self._of(asked, now_s)

    def _of(self, day: date, now_s: int) -> Running | None:
        site = self.site
        came = {shard: self._content(day, shard) for shard in sorted(site.lake.files("raw", day))}
        for shard, content in came.items():
            if self._told.get(shard, ("", 0))[0] != content:
                self._told[shard] = content, slots_told(site, day, shard)
        slots = min(max((self._told[shard][1] for shard in came), default=0), _ended(site, day, now_s))
        if not slots:
            return None
        records = self._records_now(day)
        made_from = (slots, tuple(came.items()), records.marks)
        if self._last is None or self._last[0] != made_from:
            self._shards = {shard: one for shard in came if (one := self._shard(day, shard, (slots, came[shard]), records)) is not None}
            self._records = records
            self._last = made_from, self._joined(day, slots)
        return self._last[1]

    def _content(self, day: date, shard: int) -> str:
        """Names what has come of a (day, shard)."""
        return ";".join(self.site.lake.content(table, day, shard) for table in ("raw", "raw_quality"))

    def _records_now(self, day: date) -> _Records:
        """What is said of the network now; as it was while nothing that it is read from has changed."""
        site, folder = self.site, self.site.folder.root / FOLDER
        files = [(path.name, path.stat()) for path in sorted(folder.glob("*.csv"))]
        looks = site.lake.version("mapping_doubts") if site.lake.place.has_table("mapping_doubts") else -1
        change = site.rosters.newest()
        marks = change, looks, tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in files)
        if self._records is not None and self._records.marks == marks:
            return self._records
        return _Records(marks, change, drawn_of(site), read_errors(folder))

    def _shard(self, day: date, shard: int, came: tuple[int, str], records: _Records) -> _Shard | None:
        """A shard with what has come of it; as it was while neither that nor what is said of it has changed."""
        before, made_from = self._shards.get(shard), (*came, records.marks)
        if before is not None and before.made_from == made_from:
            return before
        site, same = self.site, before is not None and before.made_from[-1] == records.marks
        index = before.index if before is not None and same else site.index_of(shard, day)
        readings = read_so_far(site, day, shard, came[0], index.meters)
        if readings is None:
            return None
        network, errors = (before.network, before.errors) if before is not None and same else (None, None)
        if network is None or not network.fits(readings.taken):
            network, errors = network_of(site, index, day, readings.taken, records.drawn), None
        if errors is None:
            errors = known_errors(site, index, network.tree, day, records.said)
        return _Shard(made_from, index, network, errors, add_up(site, day, index, network, errors, readings))

    def _joined(self, day: date, slots: int) -> Running:
        parts = [one.found for one in self._shards.values()]
        places = [
            Place(str(tree.levels[k]), tree.names[k], part.network.feeder_of[k], part, k)
            for part in parts
            for tree in (part.network.tree,)
            for k in part.network.own.tolist()
        ]
        doubts = dict.fromkeys(fault.sentence for part in parts for fault in part.network.tree.faults)
        if (above := joined(parts)) is not None:
            places += [Place(kind, above.name(k), above.feeder(k), above, k) for k, (kind, _, _) in enumerate(above.kinds)]
            doubts |= dict.fromkeys(above.whole.doubts) | dict.fromkeys(above.hourly.doubts)
        ordered = sorted(places, key=lambda one: from_the_top((one.level, one.node)))
        return Running(day, self.site.calendar.stamp(day, slots - 1), tuple(ordered), tuple(doubts))


def _ended(site: Site, day: date, now_s: int) -> int:
    """How many intervals of the day have ended: a clock that is ahead tells of none before its time."""
    return max(0, min(site.calendar.slots(day), (now_s - site.calendar.day_start(day)) // site.calendar.interval_s))
