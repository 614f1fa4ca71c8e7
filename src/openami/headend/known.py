"""The meters and their keys as the database had them last, beside the journal: with them a head-end takes pushes before the database answers.

What always holds: it is derived, and written anew while the database answers; keys lie in it wrapped by the master key, as they lie in the database;
one that is torn or not there makes everybody unknown, and nobody wrongly known.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..registry import Meter
from ..store.contacts import Contacts
from ..store.deployment import Folder
from ..store.keys import MasterKey
from ..store.rows import Rows
from .admission import Correspondent, correspondents

FILE = "meters.parquet"
KEYS = pa.list_(pa.struct([("ek", pa.binary()), ("ak", pa.binary())]))
SCHEMA = pa.schema(
    [
        ("serial", pa.string()),
        ("system_title", pa.binary()),
        ("maker", pa.string()),
        ("model", pa.string()),
        ("shard", pa.int32()),
        ("index", pa.int32()),
        ("security_control", pa.int16()),
        ("phases", pa.int16()),
        ("keys", KEYS),
    ]
)
"""keys: those that hold, and behind them those under way."""


def remember(folder: Folder, rows: Rows) -> None:
    """Write them down, for their owner alone, in one rename."""
    meters, wrapped, changed = rows.meters(), rows.wrapped_keys(), Contacts(rows).push_keys()
    columns = {name: [getattr(meter, name) for meter in meters] for name in SCHEMA.names[:-1]}
    keys = []
    for meter in meters:
        later = changed.get(meter.serial)
        held = (later.proved[-1].ek, later.proved[-1].ak) if later and later.proved else wrapped[meter.serial]
        coming = [(later.coming.ek, later.coming.ak)] if later and later.coming else []
        keys.append([{"ek": ek, "ak": ak} for ek, ak in (held, *coming)])
    path = _path(folder)
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pq.write_table(pa.table({**columns, "keys": keys}, schema=SCHEMA), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def recall(folder: Folder, master: MasterKey) -> dict[bytes, Correspondent]:
    """system title -> meter and keys, as they were known last; empty where that was never written, or cannot be read."""
    try:
        table = pq.read_table(_path(folder), schema=SCHEMA)
    except (OSError, pa.ArrowException):
        return {}
    meters, wrapped, coming = [], {}, {}
    for row in table.to_pylist():
        (first, *later) = [(one["ek"], one["ak"]) for one in row.pop("keys")]
        meters.append(Meter(**row))
        wrapped[row["serial"]], coming[row["serial"]] = first, later
    return correspondents(meters, wrapped, master, coming)


def _path(folder: Folder) -> Path:
    return folder.journal.with_name(FILE)
