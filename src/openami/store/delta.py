"""The Delta Lake tables of one place: which files every (day, shard) has in which version, and how a table changes by one commit.

What always holds: a commit is atomic, so that a reader sees the version before it or after it, never both; a table's log is read again only
where it has changed; a table that is there and cannot be opened is a DataError, never an empty one.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from ..errors import DataError, RequestError
from .places import Local, LogState, Place, State, place_at

KEYS = ("day", "shard")
COMMIT_ATTEMPTS = 20
EARLIER_KEPT = 16
KEEP_DAYS = 760
"""How long earlier versions can be asked for: two years, to which a claim may reach back, and a month."""
PROPERTIES = {
    "delta.logRetentionDuration": f"interval {KEEP_DAYS} days",
    "delta.deletedFileRetentionDuration": f"interval {KEEP_DAYS} days",
}
"""Of every table; Delta Lake's own are 30 and 7 days, after which an earlier version could no longer be opened."""


COMMIT = re.compile(r"\d{20}\.json")
PLACE = re.compile(r"/day=(?P<day>[0-9-]+)/shard=(?P<shard>[0-9]+)/[^/]+$")


@dataclasses.dataclass(frozen=True, slots=True)
class _Contents:
    """One version of a table: the types of its columns, its files by (day, shard), and by shard of each day, days in order."""

    version: int
    types: dict[str, pa.DataType]
    files: dict[tuple[date, int], list[str]]
    days: dict[date, dict[int, list[str]]]


class Tables:
    """The tables of one place, by name."""

    def __init__(self, where: Path | Place) -> None:
        """where: a folder, or a place elsewhere. InputError where Delta Lake cannot name the files of it."""
        self.place = place_at(where)
        self._committing = threading.Lock()
        self._kept: dict[str, tuple[LogState | State, _Contents]] = {}
        self._earlier: OrderedDict[tuple[str, int], dict[tuple[date, int], list[str]]] = OrderedDict()
        self._mine = threading.local()

    @property
    def root(self) -> Path:
        """The folder, where the lake is one on this machine."""
        if isinstance(self.place, Local):
            return self.place.root
        raise RequestError(f"the lake {self.place} is no folder of this machine; go through `place`")

    def commit(self, table: str, day: date, schema: pa.Schema, adds: dict[int, AddAction], *, adding: bool = False) -> None:
        """Make written files, one per shard, visible in place of those (day, shard)s' older ones, or (`adding`) beside them. Another writer's
        commit in between is met by trying again: writers of different (day, shard)s never touch the same rows."""
        wanted = Schema.from_arrow(schema.append(pa.field("day", pa.date32())).append(pa.field("shard", pa.int32())))
        filters = [("day", "=", day.isoformat()), ("shard", "in", [str(shard) for shard in adds])]
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                with self._committing:
                    delta = self._open_or_create(table, wanted)
                    delta.create_write_transaction(
                        list(adds.values()),
                        mode="append" if adding else "overwrite",
                        schema=delta.schema(),
                        partition_by=list(KEYS),
                        partition_filters=None if adding else filters,
                    )
                return
            except CommitFailedError:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                time.sleep(0.02 * (attempt + 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def files(self, table: str, day: date, version: int | None = None) -> dict[int, list[str]]:
        """The files of `day` by shard, as one version of the table has them: for readers of many shards, who open the log once."""
        if version is None:
            return self._contents(table).days.get(day, {})
        return {shard: paths for (own, shard), paths in self.all_files(table, version).items() if own == day}

    def all_files(self, table: str, version: int | None = None) -> dict[tuple[date, int], list[str]]:
        """The files of every (day, shard) of a table. The answer is kept for as long as nothing in the table's log changes; of earlier versions,
        which never change, the last EARLIER_KEPT."""
        return self._contents(table).files if version is None else self._earlier_files(table, version)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, this thread looks once at each table's log: a page is of one version of a table, and pays once for the look."""
        if getattr(self._mine, "seen", None) is not None:
            yield
            return
        self._mine.seen = {}
        try:
            yield
        finally:
            self._mine.seen = None

    def _contents(self, table: str) -> _Contents:
        """What the table holds now, or when this thread's `reading` looked first. DataError where it cannot be opened."""
        seen: dict[str, _Contents] | None = getattr(self._mine, "seen", None)
        if seen is None:
            return self._contents_now(table)
        if table not in seen:
            seen[table] = self._contents_now(table)
        return seen[table]

    def _has(self, table: str) -> bool:
        """`place.has_table`, without a look at a table that this thread's `reading` has seen."""
        return table in (getattr(self._mine, "seen", None) or ()) or self.place.has_table(table)

    def _contents_now(self, table: str) -> _Contents:
        mark, kept = self.place.log_mark(table), self._kept.get(table)
        if mark is not None and kept is not None and kept[0] == mark:
            return kept[1]
        delta = self._open(table, None)
        files = self._listed(delta)
        types = {field.name: field.type for field in pa.schema(delta.schema().to_arrow())}
        found = _Contents(int(delta.version()), types, files, {})
        for day, shard in sorted(files):
            found.days.setdefault(day, {})[shard] = files[day, shard]
        if mark is not None:
            self._kept[table] = mark, found
        return found

    def _earlier_files(self, table: str, version: int) -> dict[tuple[date, int], list[str]]:
        found = self._earlier.get((table, version)) or self._listed(self._open(table, version))
        self._earlier[table, version] = found
        while len(self._earlier) > EARLIER_KEPT:
            with suppress(KeyError):  # another thread may have emptied it meanwhile
                self._earlier.popitem(last=False)
        return found

    def _listed(self, delta: DeltaTable) -> dict[tuple[date, int], list[str]]:
        found: dict[tuple[date, int], list[str]] = {}
        for path in sorted(map(self.place.file, delta.file_uris())):
            if place := PLACE.search(path):
                found.setdefault((date.fromisoformat(place["day"]), int(place["shard"])), []).append(path)
        return found

    def tables(self) -> list[str]:
        """The tables that are there, by name."""
        return self.place.tables()

    def has(self, table: str, day: date, shard: int) -> bool:
        """Whether (day, shard) is in `table`; a table that is there and cannot be opened is a DataError, never a no."""
        return self.place.has_table(table) and (day, shard) in self.all_files(table)

    def content(self, table: str, day: date, shard: int) -> str:
        """Names what (day, shard) of `table` holds now: another content has another name, and is never again called like this one."""
        return ",".join(Path(path).name for path in self.all_files(table).get((day, shard), []))

    def days(self, table: str) -> list[date]:
        """The days that `table` has, in order; none where there is no such table yet."""
        return [*self._contents(table).days] if self._has(table) else []

    def version(self, table: str) -> int:
        return self._contents(table).version

    def commits_since_checkpoint(self, table: str) -> int:
        """How many commits opening a table has to read one by one."""
        names = [name for name, _, _ in self.place.log_state(table) or ()]
        last = max((name.split(".")[0] for name in names if ".checkpoint." in name), default="")
        return sum(name.endswith(".json") and name.split(".")[0] > last for name in names)

    def opened(self, table: str, version: int | None = None) -> DeltaTable:
        """The Delta table itself, for whoever keeps it in order. DataError where there is none, or not that version."""
        return self._open(table, version)

    def _open(self, table: str, version: int | None) -> DeltaTable:
        folder = self.place.uri(table)
        self._need_whole_commits(table)
        try:
            return DeltaTable(folder, version=version, storage_options=self.place.options)
        except TableNotFoundError:
            raise DataError(f"no table {folder}; nothing has been closed into this data folder yet") from None
        except (DeltaError, OSError) as error:
            if version is not None and version > (newest := self.version(table)):
                raise DataError(f"table {folder} has no version {version} yet; its newest is {newest}") from error
            raise DataError(f"table {folder} cannot be opened ({short_reason(error)}); restore its _delta_log from a backup") from error

    def _need_whole_commits(self, table: str) -> None:
        """DataError where a commit holds nothing, as after a power failure: Delta Lake would go on as if what it made visible had never been."""
        if empty := next((name for name, size, _ in self.place.log_state(table) or () if size == 0 and COMMIT.fullmatch(name)), None):
            raise DataError(f"table {self.place.uri(table)} cannot be opened ({empty} is empty); restore its _delta_log from a backup")

    def _open_or_create(self, table: str, wanted: Schema) -> DeltaTable:
        """The table, made or widened so that it has every column of `wanted` (a day of clock change has more slots than the others)."""
        folder, options = self.place.uri(table), self.place.options
        self._need_whole_commits(table)
        if not DeltaTable.is_deltatable(folder, options):
            return DeltaTable.create(
                folder, wanted, partition_by=list(KEYS), mode="ignore", configuration=PROPERTIES, storage_options=options
            )
        delta = DeltaTable(folder, storage_options=options)
        known = {field.name: field.type for field in delta.schema().fields}
        for field in wanted.fields:
            if known.get(field.name, field.type) != field.type:
                raise RequestError(f"column {field.name} of table {table} is {known[field.name]}, these rows have it as {field.type}")
        if fresh := [field for field in wanted.fields if field.name not in known]:
            delta.alter.add_columns(fresh)
        return delta


def short_reason(error: BaseException) -> str:
    """The machine's own word for it, or the error's first sentence or so without the colours that delta-rs paints into it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]
