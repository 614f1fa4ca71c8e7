"""The roll of a shard: who is charged on a day, as arrays in the order of the account numbers.

Everything that the close does per account goes over these arrays. What was known the day
before is brought into today's order by `Before`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from ..readings import Bool, Int32, Int64
from ..registry import EPOCH, NEVER, Accounts, ShardIndex
from ..store.blocks import WAY_OUT
from ..store.lake import Lake
from ..store.terms import Terms

MARK = b"roll"
"""Under this word the tables of an account's day say (in their files' metadata) which roll their rows follow."""


@dataclass(frozen=True)
class Roll:
    """The accounts of a shard that hold on a day. All arrays [account], numbers ascending.

    meter: the column in the day block; load_w: sanctioned load [W], 0 = unknown; tariff: position in `tariffs`; since, mode_since: days
    from 1970, the account's start and the start of its payment mode; opening_paise: its balance before the first statement. contract_va: contract
    demand [VA], None = everybody's is the sanctioned load; terms_since, terms_until: days from 1970, since when tariff and contract demand are these,
    and the day from which others are known to hold (`NEVER` = none); None = everybody's since the account began.
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
    contract_va: Int64 | None = None
    terms_since: Int32 | None = None
    terms_until: Int32 | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def groups(self, first_day: Callable[[str], date]) -> list[tuple[str, date, date | None, Int64]]:
        """(tariff, day from which its accounts are charged, day from which they are charged otherwise or None, their positions), by name and days.
        first_day gives the first day of a tariff's segment: accounts whose supply, payment mode and terms began before it are charged together,
        from it on."""
        until = np.full(len(self), NEVER, np.int32) if self.terms_until is None else self.terms_until
        found, began = [], np.maximum(self.since, self.mode_since)
        if self.terms_since is not None:
            began = np.maximum(began, self.terms_since)
        for code, name in sorted(enumerate(self.tariffs), key=lambda each: each[1]):
            own = np.flatnonzero(self.tariff == code)
            start = np.maximum(began[own], (first_day(name) - EPOCH).days)
            for day in np.unique(start).tolist():
                there = own[start == day]
                for end in np.unique(until[there]).tolist():
                    over = None if end == NEVER else EPOCH + timedelta(days=end)
                    found.append((name, EPOCH + timedelta(days=day), over, there[until[there] == end]))
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


def with_terms(roll: Roll, terms: Mapping[str, Terms]) -> Roll:
    """The roll with the tariffs and contract demands that were told of its accounts (`TermBook.on` the day)."""
    at = pc.index_in(pa.array([*terms], pa.string()), roll.numbers).to_pylist() if terms else []
    own = [(k, one) for k, one in zip(at, terms.values(), strict=True) if k is not None]
    if not own:
        return roll
    names = sorted({*roll.tariffs, *(one.tariff for _, one in own if one.tariff is not None)})
    tariff = np.array([names.index(name) for name in roll.tariffs], np.int32)[roll.tariff]
    contract_va, since, until = roll.load_w.copy(), roll.since.copy(), np.full(len(roll), NEVER, np.int32)
    for k, one in own:
        tariff[k] = tariff[k] if one.tariff is None else names.index(one.tariff)
        contract_va[k] = contract_va[k] if one.contract_va is None else one.contract_va
        since[k] = since[k] if one.since is None else (one.since - EPOCH).days
        until[k] = NEVER if one.until is None else (one.until - EPOCH).days
    used = np.unique(tariff)
    tariffs = tuple(names[code] for code in used.tolist())
    code = np.searchsorted(used, tariff).astype(np.int32)
    return replace(roll, tariffs=tariffs, tariff=code, contract_va=contract_va, terms_since=since, terms_until=until)


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
    def of(lake: Lake, table: str, day: date, shard: int, roll: Roll, columns: Sequence[str], needed: Sequence[str] = ()) -> Before:
        """Columns of a table of `day`, none of whose rows is known where the table does not have that day. The names of the accounts are read
        only where the roll has changed since; a table without them follows the statements of its day. DataError where one of `needed` is lacking."""
        if not lake.has(table, day, shard):
            return Before(roll.numbers, None)
        rows = lake.read(table, day, shard, columns=columns, coded=[name for name in columns if name == "tariff"], needed=needed)
        if rows.num_columns and (rows.schema.metadata or {}).get(MARK) == roll.mark:
            return Before(roll.numbers, rows)
        names = lake.read(table, day, shard, columns=["account"])
        if not names.num_columns:
            names = lake.read("statements", day, shard, columns=["account"])
        if not names.num_columns:
            raise DataError(f"statements of {day} (shard {shard}) do not name their accounts; {WAY_OUT}")
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
