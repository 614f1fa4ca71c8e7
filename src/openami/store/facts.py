"""What people and devices tell about closed and open days beside the readings: facts and edits, as rows of the lake that are only ever added.

    facts   channel ("" = of the meter, whatever the channel), meter, kind (name of a `FactKind`), first_slot, last_slot, value, source, made
    edits   channel, meter, slot, value (null = earlier edits of the slot are taken back), person, reason, made

What always holds: a row is never changed or removed by anything but retention, so closing a day again finds every edit that was ever made;
two who write at the same time both succeed; who, why and when stand in the row itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..readings import CHANNEL_BY_NAME, MISSING, MISSING64, Int64
from ..vee.edit import Edit, apply_edits
from ..vee.facts import FactKind, Facts
from .lake import Lake

FACTS = pa.schema(
    [
        ("channel", pa.string()),
        ("meter", pa.int32()),
        ("kind", pa.string()),
        ("first_slot", pa.int16()),
        ("last_slot", pa.int16()),
        ("value", pa.int64()),
        ("source", pa.string()),
        ("made", pa.timestamp("us", "UTC")),
    ]
)
EDITS = pa.schema(
    [
        ("channel", pa.string()),
        ("meter", pa.int32()),
        ("slot", pa.int16()),
        ("value", pa.int32()),
        ("person", pa.string()),
        ("reason", pa.string()),
        ("made", pa.timestamp("us", "UTC")),
    ]
)


@dataclass(frozen=True, slots=True)
class Told:
    """One fact of one meter and day. value: None = taken back; 1 where the kind needs none (outage, inactive, exchange). channel: "" = of the
    meter, a register's own where it is of one. source: who says so, as "event 101" or "order 17"; made_us: UTC microseconds."""

    kind: FactKind
    meter: int
    first_slot: int
    last_slot: int
    value: int | None
    source: str
    made_us: int
    channel: str = ""


def tell_facts(lake: Lake, day: date, shard: int, shape: tuple[int, int], told: Sequence[Told]) -> None:
    """Add facts about a (day, shard) of `shape` (slots, meters). InputError where one lies outside it, has no source, or names no channel of ours."""
    slots, meters = shape
    for fact in told:
        if not (0 <= fact.meter < meters and 0 <= fact.first_slot <= fact.last_slot < slots):
            raise InputError(
                f"a fact ({fact.kind.name.lower()}) of meter {fact.meter}, slots {fact.first_slot} to {fact.last_slot} is outside {day} of shard "
                f"{shard}, which has {slots} slots and {meters} meters"
            )
        if not fact.source.strip():
            raise InputError(f"a fact ({fact.kind.name.lower()}) of meter {fact.meter} has no source; say who tells it")
        if fact.channel and fact.channel not in CHANNEL_BY_NAME:
            raise InputError(f"there is no channel {fact.channel!r}; known are {', '.join(CHANNEL_BY_NAME)}")
    if told:
        columns = [
            [fact.channel for fact in told],
            [fact.meter for fact in told],
            [fact.kind.name.lower() for fact in told],
            [fact.first_slot for fact in told],
            [fact.last_slot for fact in told],
            [fact.value for fact in told],
            [fact.source for fact in told],
            [fact.made_us for fact in told],
        ]
        lake.append("facts", day, shard, _rows(columns, FACTS))


def tell_rises(lake: Lake, day: date, shard: int, channel: str, rise_wh: Int64, source: str, made_us: int) -> int:
    """Add what the registers of a whole (day, shard) rose by: int64 [meter], MISSING64 = not known, which tells nothing. Gives how many were told.
    For a shard of many meters; the same facts as by `tell_facts`. InputError where there is no source or no such channel."""
    if not source.strip() or channel not in CHANNEL_BY_NAME:
        raise InputError(f"registers of channel {channel!r} told by {source!r}: give a channel of ours and say who tells it")
    meter = np.flatnonzero(rise_wh != MISSING64).astype(np.int32)
    if meter.size:
        count, slot = meter.size, pa.array(np.zeros(meter.size, np.int16))
        words = [pa.repeat(pa.scalar(word), count) for word in (channel, FactKind.REGISTER.name.lower(), source)]
        made = pa.array(np.full(count, made_us, np.int64)).cast(pa.timestamp("us", "UTC"))
        columns = [words[0], pa.array(meter), words[1], slot, slot, pa.array(rise_wh[meter]), words[2], made]
        lake.append("facts", day, shard, pa.table(columns, schema=FACTS))
    return int(meter.size)


def facts_of(lake: Lake, day: date, shard: int, channel: str) -> Facts | None:
    """The facts that hold for a channel of a (day, shard): its own and those of the meters; None where there is none."""
    if not lake.has("facts", day, shard):
        return None
    rows = lake.read("facts", day, shard)
    rows = rows.filter(pc.is_in(rows["channel"], pa.array(["", channel])))
    kinds = {kind.name.lower(): int(kind) for kind in FactKind}
    return Facts(
        kind=_coded(rows["kind"], kinds),
        meter=rows["meter"].to_numpy(),
        first=rows["first_slot"].to_numpy().astype(np.int32),
        last=rows["last_slot"].to_numpy().astype(np.int32),
        value=rows["value"].fill_null(int(MISSING64)).to_numpy(),
        made_us=rows["made"].cast(pa.int64()).to_numpy(),
    )


def make_edits(lake: Lake, day: date, shard: int, shape: tuple[int, int], channel: str, edits: Sequence[Edit]) -> None:
    """Add a person's edits to a (day, shard) of `shape` (slots, meters). They hold from its next close on, on every close. InputError where one
    has no person or no reason, lies outside, or gives no reading."""
    if channel not in CHANNEL_BY_NAME:
        raise InputError(f"there is no channel {channel!r}; known are {', '.join(CHANNEL_BY_NAME)}")
    apply_edits(np.full(shape, MISSING, np.int32), edits)  # refuses what could never be applied, before it is written
    if edits:
        columns = [
            [channel] * len(edits),
            [edit.meter for edit in edits],
            [edit.slot for edit in edits],
            [edit.value for edit in edits],
            [edit.person.strip() for edit in edits],
            [edit.reason.strip() for edit in edits],
            [edit.made_us for edit in edits],
        ]
        lake.append("edits", day, shard, _rows(columns, EDITS))


def edits_of(lake: Lake, day: date, shard: int, channel: str) -> list[Edit]:
    """Every edit of a channel of a (day, shard), oldest first, those included that later ones have replaced."""
    if not lake.has("edits", day, shard):
        return []
    rows = lake.read("edits", day, shard)
    rows = rows.filter(pc.equal(rows["channel"], channel))
    rows = rows.set_column(rows.column_names.index("made"), "made", rows["made"].cast(pa.int64()))
    found = [Edit(r["meter"], r["slot"], r["value"], r["person"], r["reason"], r["made"]) for r in rows.to_pylist()]
    return sorted(found, key=lambda edit: edit.made_us)


def _coded(names: pa.ChunkedArray, codes: dict[str, int]) -> npt.NDArray[np.int8]:
    """The number of each name."""
    encoded = names.combine_chunks().dictionary_encode()
    known = np.array([codes[name] for name in encoded.dictionary.to_pylist()], np.int8)
    return known[encoded.indices.to_numpy()] if len(encoded) else np.zeros(0, np.int8)


def _rows(columns: list[Any], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
