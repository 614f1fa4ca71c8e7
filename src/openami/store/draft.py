"""Files that are made for one day and become visible together."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import date
from types import TracebackType
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from ..errors import DataError, RequestError, StorageError
from ..readings import DayBlock
from .blocks import plain_schema, quality_to_table, write_rows
from .delta import Tables, short_reason
from .slots import slot_schema, write_slots


@dataclasses.dataclass(frozen=True, slots=True)
class _Laid:
    """A file that nobody sees yet. placed: done when it is synced and has its name."""

    schema: pa.Schema
    add: AddAction
    placed: Future[None] | None


class Draft:
    """Files of one day that are being made: each is synced behind its writer's back and seen by nobody until `commit`, which waits until all are, and
    makes all of a table's files visible in one version, table after table in the order of their first file. Left without a commit, the files are
    taken back.

    Shards may write side by side; the same (table, shard) twice keeps the last."""

    def __init__(self, tables: Tables, day: date, *, adding: bool = False) -> None:
        self._tables, self._day, self._adding = tables, day, adding
        self._files: dict[str, dict[int, _Laid]] = {}
        self._lock = threading.Lock()
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def write(self, table: str, shard: int, rows: pa.Table | Sequence[pa.Table]) -> None:
        """Write `rows` as the new content of (day, shard) in `table`; of several tables each starts a row group of its own."""
        parts = [rows] if isinstance(rows, pa.Table) else list(rows)
        if untyped := [field.name for field in parts[0].schema if pa.types.is_null(field.type)]:
            raise RequestError(f"column {untyped[0]} of table {table} has no type, as of an empty list; give its array a type")
        self._write(
            table, shard, plain_schema(parts[0].schema), sum(part.num_rows for part in parts), lambda target: write_rows(target, parts)
        )

    def _write(self, table: str, shard: int, schema: pa.Schema, rows: int, write: Callable[[Any], None]) -> None:
        name = f"day={self._day.isoformat()}/shard={shard}/{uuid.uuid4().hex}.parquet"
        try:
            size, put_in_place = self._tables.place.lay(f"{table}/{name}", write)
        except (OSError, pa.ArrowException) as error:
            raise self._refused(table, f"shard {shard}", error) from error
        add = AddAction(
            path=name,
            size=size,
            partition_values={"day": self._day.isoformat(), "shard": str(shard)},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": rows}),
        )
        self._keep(table, shard, _Laid(schema, add, self._syncing.submit(put_in_place)))

    def _keep(self, table: str, shard: int, laid: _Laid) -> None:
        with self._lock:
            before = self._files.setdefault(table, {}).get(shard)
            self._files[table][shard] = laid
        if before:
            self._take_back(table, before)

    def _take_back(self, table: str, laid: _Laid) -> None:
        if laid.placed is not None:
            wait([laid.placed])  # one that could not be placed has left nothing
        self._tables.place.discard(f"{table}/{laid.add.path}")

    def _settle(self) -> None:
        """Wait until every file is synced and has its name."""
        for table, shards in self._files.items():
            for shard, laid in shards.items():
                try:
                    if laid.placed is not None:
                        laid.placed.result()
                except OSError as error:
                    raise self._refused(table, f"shard {shard}", error) from error

    def write_blocks(self, table: str, blocks: Sequence[DayBlock]) -> None:
        """Day blocks of one shard, values into `table`, their quality bits into `<table>_quality`."""
        shard, (slots, _) = blocks[0].shard, blocks[0].values.shape
        self.write(f"{table}_quality", shard, [quality_to_table(block) for block in blocks])
        rows = sum(block.values.shape[1] for block in blocks)
        self._write(table, shard, slot_schema(slots), rows, lambda target: write_slots(target, blocks))

    def hand_over(self) -> bytes:
        """What was written, for a draft of the same day that commits it, perhaps in another process (`adopt`). No longer ours to take back."""
        self._settle()
        handed = [
            {
                "table": table,
                "shard": shard,
                "schema": base64.b64encode(laid.schema.serialize()).decode(),
                "add": dataclasses.asdict(laid.add),
            }
            for table, shards in self._files.items()
            for shard, laid in shards.items()
        ]
        self._files.clear()
        return json.dumps(handed).encode()

    def adopt(self, handed: bytes) -> None:
        """Take over files that another draft of this day has written; the same (table, shard) twice keeps the last."""
        for one in json.loads(handed):
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(one["schema"])))
            self._keep(one["table"], one["shard"], _Laid(schema, AddAction(**one["add"]), None))

    def commit(self) -> dict[str, int]:
        """Make everything visible; gives each table's version. A failure leaves the tables that were not reached as they were."""
        self._settle()
        versions = {}
        for table in list(self._files):
            shards = self._files[table]
            schema = pa.unify_schemas([laid.schema for laid in shards.values()])
            try:
                self._tables.commit(table, self._day, schema, {shard: laid.add for shard, laid in shards.items()}, adding=self._adding)
            except (OSError, pa.ArrowException) as error:
                raise self._refused(table, f"shards {_some(shards)}", error) from error
            except DeltaError as error:
                folder = self._tables.place.uri(table)
                raise DataError(f"table {folder} refuses the commit ({short_reason(error)}); check its _delta_log or restore it") from error
            del self._files[table]  # visible now: no longer ours to take back
            versions[table] = self._tables.version(table)
        return versions

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for table, shards in self._files.items():
            for laid in shards.values():
                self._take_back(table, laid)
        self._files.clear()
        self._syncing.shutdown()

    def _refused(self, table: str, where: str, error: Exception) -> StorageError:
        return StorageError(
            f"{table} of {self._day} ({where}) cannot be written below {self._tables.place} ({short_reason(error)}); "
            "free space or give a writable data folder"
        )


def _some(shards: Iterable[int]) -> str:
    names = [str(shard) for shard in sorted(shards)]
    return ", ".join(names if len(names) < 5 else [*names[:4], f"... ({len(names)} of them)"])
