"""What a shard keeps of a day for nodes above it: the table `loss_share`, and the accounts made of all shards' rows.

A row: a node, hour (null = the whole day) and part (own, wires, area, heads, headed: `losses.above.Share`) with its sums; what the shard's records
say of the node (`losses.above.Place`) stands in the row of the whole day's part `own`. What always holds: nothing joined is kept, so that the
accounts are always those of the shards' rows as they are now, and a shard that has not told yet is missed, not passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..losses.above import SUMS, UPPER, Above, Place, Share, join
from ..losses.account import Account
from ..losses.network import Level
from ..losses.sums import Part, Sums
from ..readings import MISSING64
from ..store.lake import Lake

TABLE = "loss_share"
AREA = " area"
"""Behind a level: a node with all that hangs below it, down to the consumers."""
PLAIN = tuple(field.name for field in fields(Sums) if field.name != "variance")
WORDS = (("level", pa.string()), ("parent", pa.string()), ("maybe", pa.string()), ("feeds", pa.string()), ("told", pa.string()))
SCHEMA = pa.schema(
    [
        ("node", pa.string()), ("hour", pa.int32()), ("part", pa.string()), *WORDS, ("metered", pa.bool_()), ("load_wh", pa.float64()),
        *((name, pa.bool_() if name == "known" else pa.int64() if name in PLAIN[:4] else pa.float64()) for name in PLAIN),
        *((f"variance_{part.name.lower()}_wh2", pa.float64()) for part in Part),
    ]
)  # fmt: skip


def share_rows(share: Share, *, hourly: bool) -> pa.Table:
    """Rows of `loss_share`, for the whole day or for its hours."""
    parts = []
    for name in SUMS:
        sums: Sums = getattr(share, name)
        spans, count = sums.known.shape
        said = share.places if name == "own" and not hourly else ()
        hour = np.repeat(np.arange(spans, dtype=np.int32), count)
        columns: dict[str, object] = {
            "node": [one.name for one in share.places] * spans,
            "hour": pa.array(hour, mask=np.full(hour.size, not hourly)),
            "part": [name] * (spans * count),
            **{word: _said(said, word, count * spans) for word in ("level", "parent", "maybe", "feeds", "told", "metered", "load_wh")},
            **{each: getattr(sums, each).ravel() for each in PLAIN},
            **{f"variance_{part.name.lower()}_wh2": sums.variance[part].ravel() for part in Part},
        }
        parts.append(pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA))
    return pa.concat_tables(parts)


def _said(places: Sequence[Place], word: str, rows: int) -> list[object]:
    """What the records say of each place; nothing in rows that do not carry it."""
    values = [getattr(one, word) for one in places]
    return [json.dumps(sorted(value)) if isinstance(value, frozenset) else value for value in values] or [None] * rows


def share_of(rows: pa.Table, *, hourly: bool) -> Share | None:
    """A shard's share again; None where it has none, or none by the hour."""
    own = rows.filter(pc.and_(pc.equal(rows["part"], "own"), pc.is_null(rows["hour"]))).to_pylist()
    places = tuple(
        Place(
            name=row["node"],
            level=Level(row["level"]),
            parent=row["parent"],
            maybe=frozenset(json.loads(row["maybe"])),
            feeds=frozenset(json.loads(row["feeds"])),
            told=frozenset(json.loads(row["told"])),
            metered=row["metered"],
            load_wh=row["load_wh"],
        )
        for row in own
    )
    asked = rows.filter(pc.is_valid(rows["hour"]) if hourly else pc.is_null(rows["hour"]))
    if not places or not asked.num_rows:
        return None
    return Share(places, *(_sums(asked.filter(pc.equal(asked["part"], name)), len(places)) for name in SUMS))


def _sums(rows: pa.Table, places: int) -> Sums:
    def shaped(name: str) -> np.ndarray:
        return np.array(rows[name].to_numpy()).reshape(-1, places)

    return Sums(**{name: shaped(name) for name in PLAIN}, variance=np.stack([shaped(f"variance_{part.name.lower()}_wh2") for part in Part]))


def above_of(lake: Lake, day: date, *, hourly: bool = False) -> Above | None:
    """The nodes above shards on a day that was recorded; None where there is none."""
    if not lake.place.has_table(TABLE):
        return None
    files = lake.files(TABLE, day)
    shares = [share for shard in sorted(files) if (share := share_of(lake.read(TABLE, day, shard), hourly=hourly)) is not None]
    return join(shares)


def above_rows(found: Above, *, hourly: bool) -> Iterator[dict[str, Any]]:
    """Rows as those of `loss_account`: of each node with a meter its wires, and of each substation, division and company its area."""
    tree = found.wires.tree
    for kind, which, k in above_kinds(found):
        name = tree.names[k]
        feeder = name if tree.levels[k] is Level.FEEDER else ""
        for span in range(len(found.area.loss_wh)):
            row = figures(getattr(found, which), span, k)
            yield {"level": kind, "node": name, "feeder": feeder, "hour": span if hourly else None, **row}


def above_kinds(found: Above) -> Iterator[tuple[str, str, int]]:
    """The accounts that are told of the nodes above shards: level, which account (`wires` or `area`), node."""
    for k, level in enumerate(found.wires.tree.levels):
        if found.metered[k] or level not in UPPER:
            yield str(level), "wires", k
        if level in UPPER:
            yield f"{level}{AREA}", "area", k


def figures(account: Account, span: int, node: int) -> dict[str, Any]:
    """The figures of one node and span, None where unknown, as columns of `loss_account`."""

    def whole(value: np.int64) -> int | None:
        return None if value == MISSING64 else int(value)

    def real(value: np.float64) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        **{name: whole(getattr(account, name)[span, node]) for name in ("in_wh", "out_wh", "loss_wh")},
        **{
            name: real(getattr(account, name)[span, node])
            for name in ("likely_wh", "low_wh", "high_wh", "estimated_share", "limit_wh", "moves")
        },
        "coverage": float(np.nan_to_num(account.coverage[span, node])),
        **{f"spread_{part.name.lower()}_wh": float(account.spread_wh[part, span, node]) for part in Part},
    }
