"""The tables of money and energy told line by line: long rows for pages, judges and adjustments, from a row per account.

The same in SQL is `charges` joined to the `statements` of its (day, shard) by `meter`; see docs/analysts.md.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..store.lake import Lake
from .charge import PAISE, TO_DATE

LINES = pa.schema({"account": pa.string(), "tariff": pa.string(), "line": pa.string(), "amount_paise": pa.int64()})


def charge_lines(lake: Lake, day: date, shard: int) -> pa.Table:
    """account, tariff, line, amount_paise: every line of every account's day as it was told, lines of 0 included; DataError where there is none."""
    names = lake.read("statements", day, shard, columns=["account"])["account"].combine_chunks()
    return long_lines(names, lake.read("charges", day, shard, coded=["tariff"]))


def long_lines(names: pa.Array, charges: pa.Table, nonzero: bool = False) -> pa.Table:
    """The same of a table of `charges` whose accounts are `names`; nonzero: without lines of 0."""
    parts = [LINES.empty_table()]
    tariff = _words(charges["tariff"])
    for column in charges.column_names:
        line = column.removesuffix(PAISE)
        if line in (column, TO_DATE):
            continue
        amount = charges[column].combine_chunks()
        there = pc.is_valid(amount)
        if nonzero:
            there = pc.and_(there, pc.not_equal(pc.fill_null(amount, 0), 0))
        own = pa.table({"account": names, "tariff": tariff, "line": pa.repeat(line, len(names)), "amount_paise": amount})
        parts.append(own.filter(there).cast(LINES))
    return pa.concat_tables(parts)


def bills_to_date(lake: Lake, day: date, shard: int) -> pa.Table:
    """account, tariff, to_date_paise: the whole bill of the segment as the day told it."""
    rows = lake.read("charges", day, shard, columns=["tariff", TO_DATE + PAISE])
    names = lake.read("statements", day, shard, columns=["account"])["account"]
    return rows.add_column(0, "account", names)


def _words(column: pa.ChunkedArray) -> pa.Array:
    """A column of words, be it coded or plain, as plain strings."""
    found = column.unify_dictionaries().combine_chunks() if pa.types.is_dictionary(column.type) else column.combine_chunks()
    if not pa.types.is_dictionary(found.type):
        return found
    if not len(found):
        return pa.array([], pa.string())
    return found.dictionary.take(pa.array(found.indices.to_numpy(zero_copy_only=False).astype(np.int32)))
