"""The registry of the bench `day`, as a deployment has it on any day but its first: a roster kept for each shard (`store/rosters.py`), and SQL, where
one meter in a thousand has changed since the last close.

Loading ten million meters into SQL would take longer than all the rest, and a close asks SQL only for what has changed. So SQL holds all feeders and
transformers, the meters that will change, and the first shard whole, from which a roster is also read anew (`registry_cpu_s_per_million_meters`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..day.roll import Roll
from ..day.site import Site
from ..readings import Int32, Int64
from ..registry import EPOCH, NEVER, ROSTER, NodeKind, PaymentMode, ShardIndex
from ..store.rosters import Rosters
from ..store.rows import account, feeder, meter, transformer, usage_point
from ..store.sql import among, load
from . import Line, line

CHANGED = 1000
"""One meter in so many has changed since the day before was closed."""
KINDS = (NodeKind.CONSUMER, NodeKind.TRANSFORMER, NodeKind.FEEDER)


def register(site: Site, arrays: list[tuple[ShardIndex, Roll]]) -> None:
    """Give a site the registry of `arrays`, one of them for each shard, whose feeders and transformers get names of their own."""
    with site.rows.database.begin(writing=True, long=True) as connection:
        for shard, (index, roll) in enumerate(arrays):
            rows = roster_rows(shard, index, roll)
            on = [_named(shard, index.feeders[k]) for k in index.transformer_feeder.tolist()]
            load(connection, feeder, {"name": [_named(shard, n) for n in index.feeders], "substation": ["SS"] * len(index.feeders)})
            names = [_named(shard, n) for n in index.transformers]
            load(connection, transformer, {"name": names, "feeder": on, "rating_kva": [100] * len(on)})
            _into_sql(connection, shard, rows if shard == 0 else rows.take(pa.array(_changing(index.meters))))
    knows = site.rosters.newest()
    for shard, (index, roll) in enumerate(arrays):
        site.rosters.keep(shard, knows, roster_rows(shard, index, roll))


def change(site: Site, sizes: list[int]) -> None:
    """Change the registry of one meter in `CHANGED` of every shard, to what it was: it has to be read again all the same."""
    with site.rows.begin(writing=True) as connection:
        for shard, size in enumerate(sizes):
            own = among(connection, usage_point.c.meter, [_serial(shard, k) for k in _changing(size).tolist()])
            connection.execute(sa.update(usage_point).where(own).values(connected_load_w=usage_point.c.connected_load_w))


def read_anew(bench: str, site: Site, meters: int) -> Iterator[Line]:
    """Lines about reading the first shard's roster from SQL, as the first close does, and from its file, as every other does; both are compared."""
    found = []
    for mode, rosters in (("all of it from SQL", Rosters(site.rows, site.folder.root / "anew")), ("kept", site.rosters)):
        start = time.process_time()
        found.append(rosters.of(0))
        size = found[-1].index_on(EPOCH).meters
        took_s = time.process_time() - start
        yield line(bench, "registry_cpu_s_per_million_meters", took_s / size * 1e6, "s", size, meters=meters, mode=mode)
    if not _plain(found[0].rows).equals(_plain(found[1].rows)):
        raise RuntimeError("the roster that is kept is not the one that SQL gives: a figure would be of no worth")


def roster_rows(shard: int, index: ShardIndex, roll: Roll) -> pa.Table:
    """The rows of a shard's roster (`ROSTER`): a place and at most one account for each meter, since the accounts began."""
    place, count = np.arange(index.meters), index.meters
    has = np.full(count, -1, np.int64)
    has[roll.meter] = np.arange(len(roll))
    own, has_none = pa.array(has, mask=has < 0), has < 0
    kind = np.select([index.is_consumer, index.is_transformer], [0, 1], 2)
    since, none = np.full(count, int(roll.since[0]), np.int32), np.full(count, NEVER, np.int32)
    serials = pa.array([_serial(shard, k) for k in range(count)])
    columns = {
        "index": place.astype(np.int32),
        "serial": serials,
        "point": pc.binary_join_element_wise("U", serials, ""),
        "kind": _coded(kind, [str(one) for one in KINDS]),
        "feeder": _coded(index.feeder, [_named(shard, name) for name in index.feeders]),
        "transformer": _coded(index.transformer, [_named(shard, name) for name in index.transformers]),
        "load_w": index.connected_load_w,
        "since": since,
        "until": none,
        "account": pc.binary_join_element_wise(str(shard), roll.numbers, "-").take(own),
        "tariff": _coded(np.where(has_none, -1, roll.tariff[has]), list(roll.tariffs)),
        "mode": _coded(np.where(has_none, -1, 0), [PaymentMode.PREPAID.value]),
        "begun": np.where(has_none, none, since),
        "mode_since": np.where(has_none, none, since),
        "opening_paise": np.where(has_none, 0, roll.opening_paise[has]),
        "by_account": np.concatenate([roll.meter, np.flatnonzero(has_none)]).astype(np.int32),
    }
    return pa.table([columns[field.name] for field in ROSTER], schema=ROSTER)


def _plain(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in ROSTER])).combine_chunks()


def _changing(meters: int) -> Int64:
    return np.arange(CHANGED // 2, meters, CHANGED)


def _serial(shard: int, index: int) -> str:
    return f"M{shard:03d}{index:06d}"


def _named(shard: int, name: str) -> str:
    return f"S{shard:03d}{name}"


def _coded(codes: Int32 | Int64, names: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(names, pa.string()))


def _into_sql(connection: sa.Connection, shard: int, rows: pa.Table) -> None:
    count, since = rows.num_rows, date.fromordinal(EPOCH.toordinal() + int(rows["since"][0].as_py()))
    serials, same = rows["serial"], {"maker": ["XMA"] * count, "model": ["XMA-1P"] * count, "security_control": [0x30] * count}
    titles = pa.array([name.encode()[-8:] for name in serials.to_pylist()], pa.binary())
    place = {"serial": serials, "system_title": titles, "shard": [shard] * count, "index": rows["index"], "phases": [1] * count}
    load(connection, meter, place | same)
    points = {name: rows[name].cast(pa.string()) for name in ("kind", "feeder", "transformer")} | {"name": rows["point"], "meter": serials}
    dates = {"since": [since] * count, "until": [None] * count}
    load(connection, usage_point, points | dates | {"phase": ["R"] * count, "connected_load_w": rows["load_w"]})
    held = rows.filter(pc.is_valid(rows["account"]))
    own = {"number": held["account"], "usage_point": held["point"], "opening_paise": held["opening_paise"]}
    money = {"tariff": held["tariff"].cast(pa.string()), "payment_mode": held["mode"].cast(pa.string())}
    words = {"consumer_name": "Consumer", "language": "hi", "since": since, "mode_since": since}
    load(connection, account, own | money | {name: [word] * held.num_rows for name, word in words.items()})
