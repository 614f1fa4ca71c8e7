"""Outages of a (day, shard): what meters told of their supply, and their silence, made into signs, outages, rows, and facts for VEE.

Gasps and breaths are bits 85 and 86 of the status word and events 101 and 102 of the log. Silence is read from the intervals: a meter that counted
and then has no value for a whole interval. A meter that counts a whole interval has supply. What is announced stands in the data folder, in
`announced_outages.csv`: node, start and end (ISO times with their offset), a line each under these three words.

What always holds: VEE is told only of outages in which a customer gasped, that are over, and only of whole intervals in which that customer counted
nothing; what is told is told once, and taken back where later word says otherwise. An outage that only silence speaks of is shown, never told: it may
be the meters' network that failed, and a zero in its place would be a guess.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..losses.network import Tree, with_fuses
from ..losses.outages import NEVER, SERVICE, Outage, Sign, Signs, find_outages, with_node_meters
from ..losses.reliability import MOMENTARY_S, Planned, is_planned, outage_slots
from ..readings import IMPORT_WH, MISSING, MISSING64, Bool, Int32
from ..registry import ShardIndex
from ..store.blocks import BlockFile
from ..store.facts import Told, tell_facts
from ..store.heard import Heard, MeterEvent
from ..vee.facts import FactKind
from .network import FOLDER, Drawn, network_of, read_network
from .site import Site
from .written import read_written

SOURCE = "outage"
GASP_CODE, BREATH_CODE = 101, 102
BITS = {85: Sign.GASP, 86: Sign.BREATH}
CODES = {GASP_CODE: Sign.GASP, BREATH_CODE: Sign.BREATH}
ANNOUNCED = "announced_outages.csv"
BEFORE_DAYS, AFTER_DAYS = 2, 3
"""An outage that began up to so many days earlier still counts in a day; word of its end is waited for so long."""


@dataclass(frozen=True, slots=True)
class DayOutages:
    """Outages that touch a (day, shard), of its index and tree. begun: those that began on the day."""

    index: ShardIndex
    tree: Tree
    outages: list[Outage]
    begun: list[Outage]


def supply_events(site: Site, first: date, last: date) -> list[MeterEvent]:
    """What meters told of their supply around the days, all shards: newest first."""
    heard = Heard(site.rows)
    calendar = site.calendar
    between = calendar.day_start(first - timedelta(days=BEFORE_DAYS)), calendar.day_start(last + timedelta(days=AFTER_DAYS + 1)) - 1
    return heard.events(*between, bits=tuple(BITS)) + heard.events(*between, codes=tuple(CODES))


def outages_of(site: Site, day: date, shard: int, events: Sequence[MeterEvent], drawn: Drawn | None = None) -> DayOutages:
    """The outages that touch a (day, shard). Silence is read from `raw`, where the day has any. drawn: as for `network_of`."""
    index = site.index_of(shard, day)
    tree, calendar = with_fuses(network_of(site, index, day, drawn=drawn).supply, site.rows.phases(shard, day)), site.calendar
    start_s, end_s = calendar.day_start(day), calendar.day_start(day + timedelta(days=1))
    wh = _raw_wh(site, day, shard)
    signs = _signs(index, events, start_s, end_s)
    if wh is not None:
        near = _gasps(tree, signs, len(wh), start_s, calendar.interval_s)
        signs = signs.plus(_read_from(tree, wh, near, start_s, calendar.interval_s))
    found = find_outages(tree, signs)
    if wh is not None:
        found = [one for outage in found if (one := _without_counting(outage, wh, start_s, calendar.interval_s)) is not None]
    touching = [o for o in found if o.start_s < end_s and (o.end_s is None or o.end_s > start_s)]
    return DayOutages(index, tree, touching, [o for o in touching if o.start_s >= start_s])


def tell_outages(site: Site, days: Sequence[date], shards: Sequence[int]) -> int:
    """Tell VEE of the outages of `days`, before they are closed; gives how many facts were told or taken back. Nothing is told twice."""
    if not days or not (events := supply_events(site, min(days), max(days))):
        return 0
    told, calendar = 0, site.calendar
    for day in days:
        from_s = calendar.day_start(day - timedelta(days=BEFORE_DAYS))
        near = [e for e in events if from_s <= e.at_s < calendar.day_start(day + timedelta(days=AFTER_DAYS + 1))]
        if any(e.at_s < calendar.day_start(day + timedelta(days=1)) for e in near):
            for shard in shards:
                if site.lake.has("raw", day, shard):
                    told += _tell(site, day, shard, near)
    return told


def _tell(site: Site, day: date, shard: int, events: Sequence[MeterEvent]) -> int:
    found = outages_of(
        site, day, shard, events, Drawn()
    )  # by the registry alone: a slip in the folder `network` must not keep a day from closing
    wh = _raw_wh(site, day, shard)
    slots, calendar = site.calendar.slots(day), site.calendar
    sure = [o for o in found.outages if o.gasps and o.end_s is not None]
    whole, _ = outage_slots(
        [with_node_meters(found.tree, o) for o in sure], found.index.meters, calendar.day_start(day), slots, calendar.interval_s
    )
    if wh is not None:
        whole &= ~((wh != MISSING) & (wh > 0))
    wanted, known = _runs(whole), _known(site, day, shard)
    now_us = time.time_ns() // 1000
    facts = [Told(FactKind.OUTAGE, *run, 1, SOURCE, now_us) for run in sorted(wanted - known)]
    facts += [Told(FactKind.OUTAGE, *run, None, SOURCE, now_us) for run in sorted(known - wanted)]
    tell_facts(site.lake, day, shard, (slots, found.index.meters), facts)
    return len(facts)


def _runs(whole: Bool) -> set[tuple[int, int, int]]:
    """(meter, first slot, last slot) of each run of True in [slot, meter]."""
    runs = set()
    for meter in np.flatnonzero(whole.any(axis=0)).tolist():
        edge = np.diff(np.concatenate([[0], whole[:, meter].astype(np.int8), [0]]))
        runs |= {(meter, int(a), int(b) - 1) for a, b in zip(np.flatnonzero(edge == 1), np.flatnonzero(edge == -1), strict=True)}
    return runs


def _known(site: Site, day: date, shard: int) -> set[tuple[int, int, int]]:
    """What was told before and not taken back."""
    if not site.lake.has("facts", day, shard):
        return set()
    rows = site.lake.read("facts", day, shard)
    rows = rows.filter(pc.and_(pc.equal(rows["source"], SOURCE), pc.equal(rows["kind"], FactKind.OUTAGE.name.lower()))).sort_by("made")
    last = {(r["meter"], r["first_slot"], r["last_slot"]): r["value"] for r in rows.to_pylist()}
    return {run for run, value in last.items() if value is not None}


def _signs(index: ShardIndex, events: Sequence[MeterEvent], start_s: int, end_s: int) -> Signs:
    """Gasps and breaths of the shard's meters; a restored event 101 is a breath too."""
    column = {serial: k for k, serial in enumerate(index.serials)}
    rows = []
    for e in events:
        at = column.get(e.serial)
        sign = BITS.get(e.bit) or CODES.get(e.code)
        if at is not None and sign is not None:
            rows.append((at, e.at_s, sign if e.occurred or e.code == BREATH_CODE else Sign.BREATH))
    meter, at_s, kind = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    return Signs(meter.astype(np.int32), at_s, kind.astype(np.int8))


def _gasps(tree: Tree, signs: Signs, slots: int, start_s: int, interval_s: int) -> list[tuple[int, np.ndarray]]:
    """(slot, meters) wherever somebody gasped in the day: those around the one who did."""
    gasps = np.flatnonzero(signs.sign == Sign.GASP)
    clusters = {
        (int(tree.meter_node[m]), int(at - start_s) // interval_s) for m, at in zip(signs.meter[gasps], signs.at_s[gasps], strict=True)
    }
    return [(slot, _around(tree, node)) for node, slot in sorted(clusters) if node >= 0 and 0 <= slot < slots]


def _read_from(tree: Tree, wh: Int32, near: list[tuple[int, np.ndarray]], start_s: int, interval_s: int) -> Signs:
    """What the intervals say. Energy counted in an interval in which somebody around gasps is no word of supply at its end: it may have come
    before."""
    counted = (wh != MISSING) & (wh > 0)
    alive = counted.copy()
    for slot, meters in near:
        alive[slot, meters] = False
    return _silence(tree, wh, counted, alive, start_s, interval_s).plus(_counts_again(alive, near, start_s, interval_s))


def _silence(tree: Tree, wh: Int32, counted: Bool, alive: Bool, start_s: int, interval_s: int) -> Signs:
    """A meter that counted in one interval and has no value in the next is silent from the end of the first; one that counts again has supply
    by the end of that interval: it may have come back in its middle."""
    none = wh == MISSING
    hangs = (tree.meter_node >= 0)[None, :]
    falls_slot, falls = np.nonzero(counted[:-1] & none[1:] & hangs)
    back_slot, back = np.nonzero(none[:-1] & alive[1:] & hangs)
    at = np.concatenate([start_s + (falls_slot + 1) * interval_s, start_s + (back_slot + 2) * interval_s]).astype(np.int64)
    sign = np.concatenate([np.full(falls.size, Sign.SILENT), np.full(back.size, Sign.SPOKE)]).astype(np.int8)
    return Signs(np.concatenate([falls, back]).astype(np.int32), at, sign)


def _counts_again(alive: Bool, near: list[tuple[int, np.ndarray]], start_s: int, interval_s: int) -> Signs:
    """For each meter around one that gasped: the end of its first whole interval with energy after that gasp, as word that it has supply: where a
    breath is lost, this ends its outage."""
    meters, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for slot, below in near:
        later = alive[slot + 1 :, below]
        if later.size:
            some = later.any(axis=0)
            meters.append(below[some])
            ends.append(start_s + (slot + 1 + later.argmax(axis=0)[some] + 1) * interval_s)
    meter = np.concatenate(meters).astype(np.int32)
    return Signs(meter, np.concatenate(ends).astype(np.int64), np.full(meter.size, Sign.SPOKE, np.int8))


def _around(tree: Tree, node: int) -> np.ndarray:
    """The meters of a node, of its sisters, and on the node above them."""
    above = int(tree.parent[node])
    beside = (above >= 0) & (np.isin(tree.meter_node, np.flatnonzero(tree.parent == above)) | (tree.meter_node == above))
    return np.flatnonzero((tree.meter_node == node) | beside)


def _without_counting(outage: Outage, wh: Int32, start_s: int, interval_s: int) -> Outage | None:
    """The outage without customers who counted energy in an interval that lies wholly within it: they were not out. None where nobody is left.
    The interval that ends just when supply is known to be back is no such one: it is how that is known."""
    slots = len(wh)
    begins = start_s + np.arange(slots, dtype=np.int64) * interval_s
    own = wh[:, outage.meters]
    inside = (begins >= outage.start_s)[:, None] & ((begins + interval_s)[:, None] < outage.back_s[None, :])
    stays = ~((own != MISSING) & (own > 0) & inside).any(axis=0)
    if stays.all():
        return outage
    return (
        replace(outage, meters=outage.meters[stays], back_s=outage.back_s[stays], gasps=min(outage.gasps, int(stays.sum())))
        if stays.any()
        else None
    )


def _raw_wh(site: Site, day: date, shard: int) -> Int32 | None:
    """Raw imported energy [slot, meter]; None where the day has none."""
    for path in site.lake.all_files("raw").get((day, shard), []) if site.lake.place.has_table("raw") else []:
        file = BlockFile(path)
        if IMPORT_WH.name in file.channels:
            return file.values(IMPORT_WH.name)
    return None


def outage_tables(site: Site, day: date, found: DayOutages) -> dict[str, pa.Table]:
    """Rows of `outages`, `outage_customers` and `reliability` of a (day, shard), as `found.py` reads them: outages where they began."""
    outages, customers = [], []
    calendar = announced(site, found.tree)
    for number, o in enumerate(found.begun):
        outages.append({"number": number, **_outage_row(site, day, found, o, calendar)})
        for meter, back in zip(o.meters.tolist(), o.back_s.tolist(), strict=True):
            customers.append(
                {"number": number, "serial": found.index.serials[meter], "feeder": _feeder(found.index, meter), "back": _at(back)}
            )
    served: dict[str, int] = {}
    for meter in np.flatnonzero(found.index.is_consumer).tolist():
        served[_feeder(found.index, meter)] = served.get(_feeder(found.index, meter), 0) + 1
    reliability = [{"feeder": feeder, "customers": count} for feeder, count in sorted(served.items())]
    made = (("outages", outages, OUTAGES), ("outage_customers", customers, CUSTOMERS), ("reliability", reliability, SERVED))
    return {name: pa.Table.from_pylist(rows, schema) for name, rows, schema in made}


INSTANT = pa.timestamp("us", "UTC")
OUTAGES = pa.schema(
    [
        ("number", pa.int32()), ("level", pa.string()), ("node", pa.string()), ("feeder", pa.string()), ("start", INSTANT), ("end", INSTANT),
        ("located", INSTANT), ("customers", pa.int32()), ("gasps", pa.int32()), ("evidence", pa.string()), ("interruptions", pa.int32()),
        ("momentary", pa.int32()), ("customer_minutes", pa.float64()), ("planned", pa.bool_()),
    ]
)  # fmt: skip
CUSTOMERS = pa.schema([("number", pa.int32()), ("serial", pa.string()), ("feeder", pa.string()), ("back", INSTANT)])
SERVED = pa.schema([("feeder", pa.string()), ("customers", pa.int32())])


def _outage_row(site: Site, day: date, found: DayOutages, o: Outage, calendar: list[Planned]) -> dict[str, object]:
    """An open outage counts up to the end of the day after its own."""
    until = site.calendar.day_start(day + timedelta(days=2))
    lengths = np.minimum(o.back_s, until) - o.start_s
    sustained = lengths > MOMENTARY_S
    return {
        "level": o.level(found.tree),
        "node": found.index.serials[o.meters[0]] if o.node == SERVICE else found.tree.names[o.node],
        "feeder": _feeder(found.index, int(o.meters[0])),
        "start": _at(o.start_s),
        "end": _at(o.end_s),
        "located": _at(o.found_s),
        "customers": o.customers,
        "gasps": o.gasps,
        "evidence": "gasp" if o.gasps else "silence",
        "interruptions": int(sustained.sum()),
        "momentary": int((~sustained).sum()),
        "customer_minutes": float(lengths[sustained].sum()) / 60,
        "planned": is_planned(found.tree, o, calendar),
    }


def announced(site: Site, tree: Tree) -> list[Planned]:
    """The announced outages of the tree's nodes. InputError names the line that cannot be read; nodes of other shards are passed over."""
    place = {name: k for k, name in enumerate(tree.names)}
    return [Planned(place[node], start_s, end_s) for node, start_s, end_s in announcements(site) if node in place]


def announced_nowhere(site: Site) -> list[str]:
    """A sentence on each name in the announcements that is no node anywhere: a slip of the pen would make a planned outage an unplanned one."""
    known = {f.name for f in site.rows.feeders()} | {n.name for n in read_network(site.folder.root / FOLDER).nodes}
    for transformer in site.rows.transformers():
        known |= {transformer.name, *(f"{transformer.name} {phase}" for phase in "RYB")}
    names = dict.fromkeys(node for node, _, _ in announcements(site))
    return [
        f"{ANNOUNCED}: {name} is no feeder, transformer, phase or other node; nothing is planned there"
        for name in names
        if name not in known
    ]


def announcements(site: Site) -> list[tuple[str, int, int]]:
    """All that is announced, in the order of the starts: node, start and end [UTC seconds]. InputError names the line that cannot be read."""
    form = "node,start,end as DT-1,2026-01-31T10:00+05:30,2026-01-31T12:00+05:30"
    return sorted(read_written(site.folder.root / ANNOUNCED, _announcement, form), key=lambda one: one[1:])


def _announcement(row: dict[str, str]) -> tuple[str, int, int]:
    start, end = datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])
    if start.tzinfo is None or end.tzinfo is None or end <= start:
        raise ValueError("times need an offset, and the end comes after the start")
    return row["node"], int(start.timestamp()), int(end.timestamp())


def _at(at_s: int | None) -> int | None:
    """UTC microseconds; None where there is no end."""
    return None if at_s is None or at_s >= NEVER else at_s * 1_000_000


def _feeder(index: ShardIndex, meter: int) -> str:
    at = int(index.feeder[meter])
    return index.feeders[at] if at >= 0 else ""


def events_mark(events: Sequence[MeterEvent]) -> str:
    """Names what was told so far: changes with every event that comes."""
    return f"events {len(events)} {max((e.received_s for e in events), default=int(MISSING64))}"
