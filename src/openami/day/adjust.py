"""After the close: readings that came late or were corrected, and days that had been held, reckoned again and charged as adjustments.

What always holds: what a consumer was told (statements, charges, notices, due) is never edited; `validated`, `usage` and `balance` of the days
that are touched are written anew, as later versions; for every account, day and line, the charge as told plus its adjustments is what the day
costs by what is known now, so days and adjustments add up to the month whatever came in whatever order. Reckoning again without anything new
posts nothing, so a stop at any point is mended by doing it again.

An adjustment is posted to the first day of the shard that is not closed yet, into the table `adjustments`, and is part of that day's statement:

    account, tariff, line, amount_paise (> 0 = taken), for_day (the day that it puts right), revision (of that day, see closes.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..readings import IMPORT_WH
from ..vee import load_rules
from ..vee.tally import tally
from .balance import balance_rows
from .buffers import Buffers
from .charge import charge_rows, doubt_of, reckon, usage_rows
from .closes import closed_by, closes_rows, last_closed, revision
from .known import goes_by
from .lines import LINES, long_lines
from .meter_day import TABLE as METER_DAY
from .meter_day import meter_rows
from .roll import MARK, Roll
from .site import Site
from .validate import validate

ADJUSTMENTS = pa.schema([*LINES, pa.field("for_day", pa.date32()), pa.field("revision", pa.int32())])


def reclose(site: Site, day: date, shard: int, buffers: Buffers) -> pa.Table:
    """Reckon a closed (day, shard) and what follows from it again, and post the differences; gives the rows that were posted now. The days after
    it are validated again where a day that has changed is among their like days, and charged again up to the last closed one: energy to date
    goes on from day to day."""
    last = last_closed(site.lake, day, shard)
    days = [day + timedelta(days=k) for k in range((last - day).days + 1)]
    changed = {d for d in days if d == day or closed_by(site.lake, d, shard) != goes_by(site.lake, d, shard)}
    by = {d: goes_by(site.lake, d, shard) for d in days}
    found = [_again(site, d, shard, buffers, changed) for d in days]
    posted = pa.concat_tables(found)
    if len(posted):
        _post(site, last + timedelta(days=1), shard, posted)
    for d in reversed(days):  # the first one last: until then a restart begins with it again
        _write(site, d, shard, {"closes": closes_rows(by[d], revision(site.lake, d, shard) + 1)})
    return posted


def waiting(site: Site, shard: int, day: date) -> pa.Table:
    """The adjustments that are posted to `day`, none where there are none."""
    return site.lake.read("adjustments", day, shard) if site.lake.has("adjustments", day, shard) else ADJUSTMENTS.empty_table()


def _again(site: Site, day: date, shard: int, buffers: Buffers, changed: set[date]) -> pa.Table:
    """One day reckoned again: its tables of energy written anew, and its adjustments that are still to be posted."""
    index, roll = site.registry_of(shard, day)
    like_days = load_rules().on(day, "domestic").like_day_days
    with site.lake.draft(day) as draft:
        anew = any(day - timedelta(days=back) in changed for back in range(like_days + 1))
        validated = validate(site, day, index, roll, buffers) if anew else site.lake.read_blocks("validated", day, shard)
        energy = validated[IMPORT_WH.name]
        counted = tally(energy.values, energy.quality)
        if anew:
            draft.write_blocks("validated", list(validated.values()))
            draft.write("balance", shard, balance_rows(site, index, energy))
            draft.write(METER_DAY, shard, meter_rows(index, energy, counted))
        money = reckon(site, roll, validated, doubt_of(roll, energy, counted).held)
        draft.write("usage", shard, usage_rows(roll, money))
        draft.commit()
    due = pa.concat_tables([_difference(site, day, shard, roll, charge_rows(roll, money)), _negated(_posted_for(site, day, shard))])
    summed = due.group_by(["account", "tariff", "line"], use_threads=False).aggregate([("amount_paise", "sum")])
    summed = summed.rename_columns(["account", "tariff", "line", "amount_paise"]).filter(pc.field("amount_paise") != 0)
    summed = summed.sort_by([("account", "ascending"), ("tariff", "ascending"), ("line", "ascending")])
    number = revision(site.lake, day, shard) + 1
    return (
        summed.append_column("for_day", pa.array([day] * len(summed), pa.date32()))
        .append_column("revision", pa.array(np.full(len(summed), number, np.int32)))
        .cast(ADJUSTMENTS)
    )


def _difference(site: Site, day: date, shard: int, roll: Roll, now: pa.Table) -> pa.Table:
    """What the day costs now less what was told, as long rows; accounts of which nothing is different are left out where that is seen at once."""
    told = site.lake.read("charges", day, shard, coded=["tariff"])
    names = site.lake.read("statements", day, shard, columns=["account"])["account"].combine_chunks()
    mine = roll.numbers
    if (told.schema.metadata or {}).get(MARK) == roll.mark and sorted(told.column_names) == sorted(now.column_names):
        touched = np.zeros(len(roll), np.bool_)
        for column in told.column_names:
            before, after = _comparable(told[column]), _comparable(now[column])
            touched |= pc.fill_null(pc.not_equal(before, after), True).to_numpy(zero_copy_only=False) & _either(before, after)
        own = pa.array(touched)
        told, now, names, mine = told.filter(own), now.filter(own), names.filter(own), mine.filter(own)
    return pa.concat_tables([long_lines(mine, now, nonzero=True), _negated(long_lines(names, told, nonzero=True))])


def _comparable(column: pa.ChunkedArray) -> pa.Array:
    plain = column.unify_dictionaries().combine_chunks() if pa.types.is_dictionary(column.type) else column.combine_chunks()
    return plain.cast(pa.string()) if pa.types.is_dictionary(plain.type) else plain


def _either(one: pa.Array, other: pa.Array) -> np.ndarray:
    """bool: where at least one of two is not null."""
    return np.asarray(pc.or_(pc.is_valid(one), pc.is_valid(other)).to_numpy(zero_copy_only=False))


def _posted_for(site: Site, day: date, shard: int) -> pa.Table:
    """The adjustments of `day` that have been posted so far, to whichever later day."""
    posted: Sequence[pa.Table] = [LINES.empty_table()]
    if site.lake.place.has_table("adjustments"):
        for own_day, own_shard in sorted(site.lake.all_files("adjustments")):
            if own_shard == shard and own_day > day:
                rows = site.lake.read("adjustments", own_day, shard)
                posted = [*posted, rows.filter(pc.equal(rows["for_day"], pa.scalar(day))).select(LINES.names).cast(LINES)]
    return pa.concat_tables(posted)


def _negated(rows: pa.Table) -> pa.Table:
    at = rows.schema.get_field_index("amount_paise")
    return rows.set_column(at, "amount_paise", pc.negate(rows["amount_paise"]))


def _post(site: Site, day: date, shard: int, rows: pa.Table) -> None:
    """Add rows to what is posted to `day`, which is not closed."""
    _write(site, day, shard, {"adjustments": pa.concat_tables([waiting(site, shard, day), rows])})


def _write(site: Site, day: date, shard: int, tables: dict[str, pa.Table]) -> None:
    with site.lake.draft(day) as draft:
        for name, rows in tables.items():
            draft.write(name, shard, rows)
        draft.commit()
