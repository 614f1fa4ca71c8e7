"""The roll of a shard: who is charged on a day, as arrays in the order of the account numbers.

Everything that the close does per account goes over these arrays. What was known the day
before is brought into today's order by `Before`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..readings import Bool, Int32, Int64
from ..registry import EPOCH, Accounts, ShardIndex
from ..store.lake import Lake

MARK = b"roll"
"""Under this word the tables of an account's day say (in their files' metadata) which roll their rows follow."""


@dataclass(frozen=True)
class Roll:
    """The accounts of a shard that hold on a day. All arrays [account], numbers ascending.

    meter: the column in the day block; load_w: sanctioned load [W], 0 = unknown; tariff: position in `tariffs`; since, mode_since: days
    from 1970, the account's start and the start of its payment mode; opening_paise: its balance before the first statement.
    """

    numbers: pa.Array
    meter: Int64
    load_w: Int64
    prepaid: Bool
    tariffs: tuple[str, ...]
    tariff: Int32
    since: Int32
    mode_since: Int32
    opening_paise: Int64

    def __len__(self) -> int:
        return len(self.numbers)

    def groups(self, first_day: Callable[[str], date]) -> list[tuple[str, date, Int64]]:
        """(tariff, day from which its accounts are charged, their positions), by name and day. first_day gives the first day of a tariff's
        segment: accounts whose supply and payment mode began before it are charged together, from it on."""
        found = []
        for code, name in sorted(enumerate(self.tariffs), key=lambda each: each[1]):
            own = np.flatnonzero(self.tariff == code)
            start = np.maximum(np.maximum(self.since[own], self.mode_since[own]), (first_day(name) - EPOCH).days)
            found += [(name, EPOCH + timedelta(days=day), own[start == day]) for day in np.unique(start).tolist()]
        return found

    @cached_property
    def mark(self) -> bytes:
        """Tells this roll's numbers and their order from any other's, so that tables in the same order need not be compared name by name."""
        whole = pa.concat_arrays([self.numbers])  # from its first byte on, whatever it was cut from
        return hashlib.sha256(b"".join(bytes(buffer) for buffer in whole.buffers() if buffer is not None)).hexdigest().encode()

    def marked(self, rows: pa.Table) -> pa.Table:
        """`rows`, one for each account in this order, saying so."""
        return rows.replace_schema_metadata({MARK: self.mark})


def make_roll(accounts: Accounts, index: ShardIndex) -> Roll:
    """The roll of the accounts that hold on a day, with the sanctioned loads of their meters."""
    return Roll(load_w=index.connected_load_w[accounts.meter], **{field.name: getattr(accounts, field.name) for field in fields(accounts)})


class Before:
    """An earlier table with a row per account, read in the order of a roll. `rows` without a column `account` follow the roll `numbers`."""

    def __init__(self, numbers: pa.Array, rows: pa.Table | None) -> None:
        self._rows, self._count = rows, len(numbers)
        if rows is None:
            self._same, self._at = False, np.full(self._count, -1, np.int64)
            return
        known = rows["account"].combine_chunks() if "account" in rows.column_names else numbers
        if pa.types.is_dictionary(known.type):
            known = known.cast(pa.string())
        self._same = known.equals(numbers)
        self._at = np.arange(self._count) if self._same else pc.fill_null(pc.index_in(numbers, known), -1).to_numpy().astype(np.int64)

    @staticmethod
    def of(lake: Lake, table: str, day: date, shard: int, roll: Roll, columns: Sequence[str]) -> Before:
        """Columns of a table of `day`, none of whose rows is known where the table does not have that day. The names of the accounts are read
        only where the roll has changed since; a table without them follows the statements of its day."""
        if not lake.has(table, day, shard):
            return Before(roll.numbers, None)
        rows = lake.read(table, day, shard, columns=columns, coded=[name for name in columns if name == "tariff"])
        if rows.num_columns and (rows.schema.metadata or {}).get(MARK) == roll.mark:
            return Before(roll.numbers, rows)
        names = lake.read(table, day, shard, columns=["account"])
        if not names.num_columns:
            names = lake.read("statements", day, shard, columns=["account"])
        return Before(roll.numbers, rows.append_column("account", names["account"]))

    @property
    def known(self) -> Bool:
        """bool [account]: whether the earlier table has the account."""
        return np.asarray(self._at >= 0, np.bool_)

    def column(self, name: str, otherwise: npt.NDArray[np.generic] | int) -> npt.NDArray[np.generic]:
        """A column of numbers or truths, `otherwise` for accounts that the table does not have and where there is no such column; where it is
        null, a number's lowest."""
        if self._rows is None or name not in self._rows.column_names:
            return np.broadcast_to(np.asarray(otherwise), self._count).copy()
        column = self._rows[name].combine_chunks()
        if pa.types.is_date32(column.type):
            column = column.cast(pa.int32())
        if column.null_count:
            column = pc.fill_null(column, np.iinfo(column.type.to_pandas_dtype()).min)
        values = column.to_numpy(zero_copy_only=False)
        if self._same:
            return np.asarray(values)
        return np.where(self._at >= 0, values[np.maximum(self._at, 0)] if values.size else 0, otherwise)

    def equals(self, name: str, word: str) -> Bool:
        """bool [account]: where a column of words, as a dictionary, says `word`."""
        if self._rows is None or name not in self._rows.column_names:
            return np.zeros(self._count, np.bool_)
        column = self._rows[name].unify_dictionaries().combine_chunks()
        words = column.dictionary.to_pylist()
        code = column.indices.to_numpy(zero_copy_only=False)
        found = code == (words.index(word) if word in words else -1)
        return np.asarray(
            found if self._same else found[np.maximum(self._at, 0)] & (self._at >= 0) if found.size else self._at >= 0, np.bool_
        )
