"""What a closed day says of each meter, counted by the close: the table `meter_day`, a row per meter in the order of the shard's index.

    meter, kind, feeder, transformer     which, and where it hung on that day (null = nowhere)
    received, estimated, missing, flagged     slots of import_wh that it sent, that hold an estimate, nothing, or failed a check
    marks                                every quality bit of the day; last_slot: the last slot that it sent, null = none
    wh                                   the energy of the day, null = nothing is known

Consoles and lists go by these columns, so that no page unfolds a day block of a million meters.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa

from ..readings import IMPORT_WH, MISSING, DayBlock, Int32, Quality
from ..registry import NodeKind, ShardIndex
from ..vee.tally import Tally, marks, tally
from .site import Site

TABLE = "meter_day"
WORDS = ("kind", "feeder", "transformer")
"""Columns of words; read as dictionaries they are numbers."""


def meter_rows(index: ShardIndex, energy: DayBlock, counted: Tally) -> pa.Table:
    """The rows of a validated day of import_wh, whose tally is `counted`."""
    found = marks(energy.values, energy.quality)
    kind = np.select([index.is_consumer, index.is_transformer, index.is_feeder], [0, 1, 2], -1).astype(np.int32)
    return pa.table(
        {
            "meter": pa.array(np.arange(index.meters, dtype=np.int32)),
            "kind": _coded(kind, [str(one) for one in (NodeKind.CONSUMER, NodeKind.TRANSFORMER, NodeKind.FEEDER)]),
            "feeder": _coded(index.feeder, index.feeders),
            "transformer": _coded(index.transformer, index.transformers),
            "received": pa.array(found.received),
            "estimated": pa.array(found.estimated),
            "missing": pa.array(found.missing),
            "flagged": pa.array(found.flagged),
            "marks": pa.array(found.bits.view(np.int32)),
            "last_slot": pa.array(found.last_received, mask=found.last_received < 0),
            "wh": pa.array(counted.wh, mask=found.missing == len(energy.values)),
        }
    )


def _coded(codes: Int32, names: Sequence[str]) -> pa.Array:
    """Words by their codes, -1 = null, with no more words than there are on the rows."""
    used = np.zeros(len(names) + 1, np.bool_)
    used[codes] = True  # -1 is the last one
    own = np.flatnonzero(used[:-1])
    place = np.zeros(len(names) + 1, np.int32)
    place[own] = np.arange(own.size)
    words = pa.array([names[k] for k in own.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(place[codes], mask=codes < 0), words)


def meter_day(site: Site, day: date, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
    """`columns` (None = all) of the rows of a closed (day, shard), words as dictionaries; of one that was closed before there was this table they are
    counted now. DataError where it is not closed or damaged."""
    if site.lake.has(TABLE, day, shard):
        coded = [word for word in WORDS if columns is None or word in columns]
        return site.lake.read(TABLE, day, shard, columns=columns, coded=coded)
    block = site.lake.read_blocks("validated", day, shard)[IMPORT_WH.name]
    index = site.index_of(shard, day)
    lacking = ((0, 0), (0, index.meters - block.values.shape[1]))  # meters that came since
    values = np.pad(block.values, lacking, constant_values=MISSING)
    quality = np.pad(block.quality, lacking, constant_values=np.uint32(Quality.MISSING))
    rows = meter_rows(index, DayBlock(day, shard, IMPORT_WH, values, quality), tally(values, quality))
    return rows if columns is None else rows.select(columns)
