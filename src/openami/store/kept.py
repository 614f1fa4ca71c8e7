"""Single rows out of the lake's files: a file's columns are read when they are first asked for, and kept, because its content never changes.

What always holds: kept are at most KEPT_BYTES of columns and ORDERS_KEPT orders of keys, the longest unused goes first; files whose metadata say
that their rows follow the same order (`roll`) share one column of keys; calls may come from several threads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from ..readings import Int64
from .blocks import WAY_OUT, read_rows
from .places import opened, parquet_file

KEPT_BYTES = 2**30
"""A week's statements, and a day's charges and notices, of a million accounts are some 0.6 GB of columns."""
ORDERS_KEPT, PLACES_KEPT = 64, 65_536
ORDER = b"roll"
CODED = ("reasons",)
"""Columns of long texts, few of them different: kept as one of each."""


class KeptRows:
    """Columns of files that were asked for, and the places of their keys."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str], _Keys] = OrderedDict()
        self._places: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, path: str, key: str, value: str, columns: Sequence[str] | None) -> dict[str, Any] | None:
        """`columns` (None = all) of the first row of a file whose column `key` (text) is `value`, of those that the file has; None = there is no such
        row. DataError where it is damaged."""
        file = self._file(path, columns)
        at = self._place(path, file, key, value)
        return None if at < 0 else _row(file, at, columns)

    def row_beside(self, path: str, other: str, key: str, value: str, columns: Sequence[str] | None) -> dict[str, Any] | None:
        """As `row`, of a file without that key, whose rows stand in the order of the file `other`."""
        at = self._place(other, self._file(other, ()), key, value)
        return None if at < 0 else _row(self._file(path, columns), at, columns)

    def passing(self, path: str, key: str, value: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """As `row`, out of the row group that holds it, and not kept: many days are asked for once, and would push out the latest, which all
        ask for."""
        with self._lock:
            kept = self._files.get(path)
        if kept is not None and (kept.whole or all(name in kept.columns for name in columns)):
            return self.row(path, key, value, columns)
        try:
            with parquet_file(opened(path)) as file:
                found = file.schema_arrow.names
                at = self._place(path, _File((file.schema_arrow.metadata or {}).get(ORDER, path.encode()).decode()), key, value)
                if at < 0:
                    return None
                group = 0
                while at >= (rows := file.metadata.row_group(group).num_rows):
                    at, group = at - rows, group + 1
                own = file.read_row_group(group, [name for name in columns if name in found], use_threads=False).slice(at, 1)
                return dict(own.to_pylist()[0])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); {WAY_OUT}") from error

    def _place(self, path: str, file: _File, key: str, value: str) -> int:
        """Where in the file's order `value` stands, -1 = nowhere; somebody who was asked for is asked for again, of the days before."""
        asked = file.order, key, value
        with self._lock:
            known = self._places.get(asked)
        if known is None:
            known = self._keys_of(path, file, key).place(value)
            with self._lock:
                self._places[asked] = known
                while len(self._places) > PLACES_KEPT:
                    self._places.popitem(last=False)
        return known

    def _file(self, path: str, columns: Sequence[str] | None) -> _File:
        """The file with at least these columns read, None = all."""
        with self._lock:
            kept = self._files.get(path)
            if kept is not None:
                self._files.move_to_end(path)
                if kept.whole or (columns is not None and all(name in kept.columns for name in columns)):
                    return kept
        lacking = None if columns is None else [name for name in columns if kept is None or name not in kept.columns]
        rows = read_rows(path, lacking, [name for name in lacking or () if name in CODED])
        read = {name: rows[name].combine_chunks() if name in rows.column_names else None for name in lacking or rows.column_names}
        order = (rows.schema.metadata or {}).get(ORDER, path.encode()).decode()
        with self._lock:
            if path not in self._files:  # it may have been the longest unused meanwhile
                self._files[path] = _File(order)
            file = self._files[path]
            file.whole |= columns is None
            for name, column in ((kept.columns if kept else {}) | read).items():
                if name not in file.columns:
                    file.columns[name] = column
                    file.octets += column.nbytes if column is not None else 0
                    self._held += column.nbytes if column is not None else 0
            while self._held > self._most and len(self._files) > 1:
                self._held -= self._files.popitem(last=False)[1].octets
        return file

    def _keys_of(self, path: str, file: _File, key: str) -> _Keys:
        name = file.order, key
        with self._lock:
            if name in self._keys:
                self._keys.move_to_end(name)
                return self._keys[name]
        rows = read_rows(path, [key])
        if not rows.num_columns:
            raise DataError(f"{path} has no column {key}; {WAY_OUT}")
        found = _Keys.of(rows[key])
        with self._lock:
            self._keys[name] = found
            while len(self._keys) > ORDERS_KEPT:
                self._keys.popitem(last=False)
        return found


@dataclass(slots=True)
class _File:
    """order: what tells the order of its rows from others; columns: by name, None = it has none of that name; octets: their size; whole: all of its
    columns are there."""

    order: str
    whole: bool = False
    columns: dict[str, pa.Array | None] = field(default_factory=dict)
    octets: int = 0


@dataclass(frozen=True, slots=True)
class _Keys:
    """values: in order; at: the places of them, where they do not stand in order in the file."""

    values: pa.Array
    at: Int64 | None

    @staticmethod
    def of(column: pa.ChunkedArray) -> _Keys:
        values = column.cast(pa.string()).combine_chunks() if len(column) else pa.array([], pa.string())
        ordered = len(values) < 2 or bool(pc.all(pc.less_equal(values.slice(0, len(values) - 1), values.slice(1))).as_py())
        if ordered:
            return _Keys(values, None)
        at = pc.sort_indices(values)
        return _Keys(values.take(at), at.to_numpy().astype(np.int64))

    def place(self, value: str) -> int:
        """Where `value` stands first, -1 = nowhere."""
        found = bisect_left(range(len(self.values)), value, key=lambda k: self.values[k].as_py())
        if found == len(self.values) or self.values[found].as_py() != value:
            return -1
        return found if self.at is None else int(self.at[found])


def _row(file: _File, at: int, columns: Sequence[str] | None) -> dict[str, Any]:
    wanted = list(file.columns) if columns is None else columns
    return {name: column[at].as_py() for name in wanted if (column := file.columns.get(name)) is not None}
