"""Meters by what they are called: a part of a serial, a usage point or an account number, among a million.

What always holds: what is found is what the registry says now; its names are kept as arrays until something in it changes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..day import Site
from ..readings import Int64
from ..registry import NEVER
from ..store.rosters import Change

Shard = tuple[Int64, tuple[pa.Array, ...]]
"""The index of a meter in each row, its serial, and the usage point and account that it has now, in small letters (null = none)."""


@dataclass
class ByName:
    """Of one data folder. Calls may come from several threads."""

    site: Site
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _kept: tuple[Change, dict[int, Shard]] | None = field(default=None, repr=False)

    def holding(self, text: str) -> dict[int, Int64]:
        """shard -> indexes of the meters that have, or hang at something that has, `text` in its name, in small or large letters."""
        found = {}
        for shard, (index, names) in self._names().items():
            held = np.zeros(index.size, np.bool_)
            for column in names:
                held |= pc.fill_null(pc.match_substring(column, text.lower()), False).to_numpy(zero_copy_only=False)
            if held.any():
                found[shard] = np.unique(index[held])
        return found

    def look(self) -> None:
        """Read the names, so that nobody waits for it."""
        self._names()

    def _names(self) -> dict[int, Shard]:
        with self._lock:
            newest = self.site.rosters.newest()
            if self._kept is None or self._kept[0] != newest:  # who changes it meanwhile makes another change, so it is read again
                self._kept = newest, {shard: self._names_of(shard) for shard in self.site.rows.shards()}
            return self._kept[1]

    def _names_of(self, shard: int) -> Shard:
        rows = self.site.rosters.of(shard).rows
        now = pc.equal(rows["until"], NEVER)
        names = (rows["serial"], *(pc.if_else(now, rows[name], None) for name in ("point", "account")))
        return rows["index"].to_numpy().astype(np.int64), tuple(pc.utf8_lower(column).combine_chunks() for column in names)
