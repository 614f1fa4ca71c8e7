"""How long what is known stays known: earlier versions, old days, and the small files of tables that only grow.

What always holds: nothing is removed that the current version of a table holds, that any version of the last `keep_days` held, or that a
pinned version holds; so a statement can be explained, and "what did we know then?" answered, for as long as retention says. Raw and validated
days go only when a person retires them, and never days that are younger than `KEEP_DAYS`.

Delta Lake forgets on its own after a month, and forgets which files it has taken out after a week. Tables are therefore made with
`PROPERTIES`, and `tidy` gives them to tables that lack them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ..errors import DataError, InputError
from .delta import KEEP_DAYS, PROPERTIES
from .lake import Lake

ADDED_TO = ("facts", "edits", "pins")
FILES_MAX = 8
"""A (day, shard) of a table that is added to is merged when it has more files than this."""
COMMITS_MAX = 50
PINS = pa.schema([("table", pa.string()), ("version", pa.int64()), ("why", pa.string())])


@dataclass(frozen=True, slots=True)
class Tidied:
    """What `tidy` did: merged = (day, shard)s whose files became one, by table; shortened = tables whose log got a checkpoint."""

    merged: dict[str, int]
    shortened: tuple[str, ...]


def tidy(lake: Lake) -> Tidied:
    """Merge the small files of tables that are added to, and write checkpoints, so that opening a table stays quick. No row changes and no version
    goes."""
    merged, shortened = {}, []
    for table in lake.tables():
        delta = _open(lake, table)
        lacking = {name: value for name, value in PROPERTIES.items() if delta.metadata().configuration.get(name) != value}
        if lacking:
            delta.alter.set_table_properties(lacking)
        if table in ADDED_TO:
            merged[table] = _merge(lake, table, delta)
        if lake.commits_since_checkpoint(table) > COMMITS_MAX:
            _open(lake, table).create_checkpoint()
            shortened.append(table)
    return Tidied({table: count for table, count in merged.items() if count}, tuple(shortened))


def _merge(lake: Lake, table: str, delta: DeltaTable) -> int:
    many = [place for place, files in lake.all_files(table).items() if len(files) > FILES_MAX]
    for day, shard in many:
        delta.optimize.compact(partition_filters=[("day", "=", day.isoformat()), ("shard", "=", str(shard))])
    return len(many)


def pin(lake: Lake, table: str, version: int, why: str, on: date) -> None:
    """Keep a version of a table whatever its age: for what a person or a court may ask, as what was known when a supply was cut. `on`: the local
    day of the pinning. DataError where there is no such version."""
    _open(lake, table, version)
    lake.append("pins", on, 0, pa.table([[table], [version], [why]], schema=PINS))


def pinned(lake: Lake, table: str) -> list[int]:
    """The versions of a table that are pinned."""
    found = set()
    for day, shard in lake.all_files("pins") if "pins" in lake.tables() else ():
        rows = lake.read("pins", day, shard)
        found |= {version for name, version in zip(rows["table"].to_pylist(), rows["version"].to_pylist(), strict=True) if name == table}
    return sorted(found)


def sweep(lake: Lake, keep_days: int = KEEP_DAYS, *, dry_run: bool = False) -> dict[str, list[str]]:
    """Remove the files that only versions older than `keep_days` held, and those that no commit ever named (a draft of a process that was killed)
    and that are as old; gives them by table. dry_run: only tell. InputError for a negative age."""
    if keep_days < 0:
        raise InputError(f"keep_days = {keep_days} is negative; give 0 or more")
    swept = {}
    for table in lake.tables():
        delta, keep = _open(lake, table), pinned(lake, table)
        try:
            swept[table] = delta.vacuum(
                retention_hours=24 * keep_days, dry_run=dry_run, enforce_retention_duration=False, full=True, keep_versions=keep or None
            )
        except DeltaError as error:
            said = " ".join(str(error).split())[:200]
            raise DataError(f"table {lake.place.uri(table)} cannot be swept ({said}); nothing of it was removed") from error
    return {table: sorted(files) for table, files in swept.items() if files}


def retire(lake: Lake, before: date, today: date, tables: Sequence[str] | None = None) -> dict[str, int]:
    """Take the days before `before` out of the tables (None = all but the pins); gives how many days of each. Their files stay for earlier versions
    until `sweep`. InputError where `before` is younger than `KEEP_DAYS`: a claim may reach back two years (Electricity Act, section 56)."""
    youngest = today - timedelta(days=KEEP_DAYS)
    if before > youngest:
        raise InputError(f"days are kept for {KEEP_DAYS} days; on {today} only those before {youngest} can be retired, not before {before}")
    retired = {}
    for table in lake.tables() if tables is None else tables:
        if table == "pins":
            continue
        old = [day for day in lake.days(table) if day < before]
        if old:
            _open(lake, table).delete(f"day < '{before.isoformat()}'")
            retired[table] = len(old)
    return retired


def _open(lake: Lake, table: str, version: int | None = None) -> DeltaTable:
    return lake.opened(table, version)
