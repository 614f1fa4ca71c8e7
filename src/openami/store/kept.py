"""Single rows out of the lake's files: a file is read once and its columns are kept, because its content never changes.

What always holds: what is kept is at most KEPT_BYTES, the longest unused goes first; a file whose key column is not in order is searched from its
beginning; calls may come from several threads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .blocks import read_rows

KEPT_BYTES = 256 * 2**20


class KeptRows:
    """Columns of files that were asked for, with whether their key is in order."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most, self._held = most_bytes, 0
        self._kept: OrderedDict[tuple[str, ...], tuple[pa.Table, bool]] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, path: str, key: str, value: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """`columns` of the first row of a file whose column `key` (text) is `value`; None = there is none. DataError where it is damaged."""
        rows, ordered = self._rows(path, key, columns)
        at = _place(rows[key], value) if ordered else pc.index(rows[key], value).as_py()
        return None if at < 0 else {name: rows[name][at].as_py() for name in rows.column_names if name in columns}

    def _rows(self, path: str, key: str, columns: Sequence[str]) -> tuple[pa.Table, bool]:
        name = (path, key, *columns)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        rows = read_rows(path, list(dict.fromkeys([key, *columns]))).combine_chunks()
        keys = rows[key].cast(pa.string()) if rows.num_rows else pa.chunked_array([pa.array([], pa.string())])
        rows = rows.set_column(rows.column_names.index(key), key, keys)
        ordered = rows.num_rows < 2 or bool(pc.all(pc.less_equal(keys.slice(0, rows.num_rows - 1), keys.slice(1))).as_py())
        with self._lock:
            if name not in self._kept:
                self._kept[name] = rows, ordered
                self._held += rows.nbytes
            while self._held > self._most and len(self._kept) > 1:
                _, (old, _) = self._kept.popitem(last=False)
                self._held -= old.nbytes
        return rows, ordered


def _place(keys: pa.ChunkedArray, value: str) -> int:
    """Where `value` stands among ordered keys, -1 = nowhere."""
    at = bisect_left(range(len(keys)), value, key=lambda k: keys[k].as_py())
    return at if at < len(keys) and keys[at].as_py() == value else -1
