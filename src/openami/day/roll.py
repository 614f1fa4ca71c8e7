"""The roll of a shard: who is charged on a day, as arrays in the order of the account numbers.

Everything that the close does per account goes over these arrays; only making the roll looks at accounts one by one. What was known the day
before is brought into today's order by `Before`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..readings import Bool, Int32, Int64
from ..registry import Account, PaymentMode, ShardIndex

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
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
        segment: accounts that began before it are charged together, from it on."""
        found = []
        for code, name in sorted(enumerate(self.tariffs), key=lambda each: each[1]):
            own = np.flatnonzero(self.tariff == code)
            start = np.maximum(self.since[own], (first_day(name) - EPOCH).days)
            found += [(name, EPOCH + timedelta(days=day), own[start == day]) for day in np.unique(start).tolist()]
        return found

    def repeated(self, at: Int64, times: int) -> pa.ChunkedArray:
        """The numbers of the accounts `at`, `times` over. As plain strings: a dictionary of this size costs ten times as much to write."""
        own = self.numbers.take(pa.array(at))
        return pa.chunked_array([own] * times, pa.string())


def make_roll(accounts: list[Account], index: ShardIndex, day: date) -> Roll:
    """The roll from registry rows. accounts: in the order of their numbers; only those at a consumer's usage point of the shard are taken."""
    column = {name: k for k, name in enumerate(index.usage_points) if name and index.is_consumer[k]}
    held = [a for a in accounts if a.usage_point in column and a.since <= day]
    tariffs = tuple(sorted({a.tariff for a in held}))
    code = {name: k for k, name in enumerate(tariffs)}
    meter = np.array([column[a.usage_point] for a in held], np.int64)
    return Roll(
        numbers=pa.array([a.number for a in held], pa.string()),
        meter=meter,
        load_w=index.connected_load_w[meter],
        prepaid=np.array([a.payment_mode is PaymentMode.PREPAID for a in held], np.bool_),
        tariffs=tariffs,
        tariff=np.array([code[a.tariff] for a in held], np.int32),
        since=np.array([(a.since - EPOCH).days for a in held], np.int32),
        mode_since=np.array([(a.mode_since - EPOCH).days for a in held], np.int32),
        opening_paise=np.array([a.opening_paise for a in held], np.int64),
    )


class Before:
    """An earlier table with a row per account, read in the order of `numbers`."""

    def __init__(self, numbers: pa.Array, rows: pa.Table | None) -> None:
        self._rows, self._count = rows, len(numbers)
        if rows is None:
            self._same, self._at = False, np.full(self._count, -1, np.int64)
            return
        known = rows["account"].combine_chunks()
        if pa.types.is_dictionary(known.type):
            known = known.cast(pa.string())
        self._same = known.equals(numbers)
        self._at = np.arange(self._count) if self._same else pc.fill_null(pc.index_in(numbers, known), -1).to_numpy().astype(np.int64)

    @property
    def known(self) -> Bool:
        """bool [account]: whether the earlier table has the account."""
        return np.asarray(self._at >= 0, np.bool_)

    def column(self, name: str, otherwise: npt.NDArray[np.generic] | int) -> npt.NDArray[np.generic]:
        """A column of numbers or truths, `otherwise` for accounts that the table does not have, and where it is null a number's lowest."""
        if self._rows is None:
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
