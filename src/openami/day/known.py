"""What VEE is told of a (day, shard) beside its raw readings: whose rules each meter is judged by, facts, and people's edits.

What always holds: an edit holds on every close from when it was made; what a close went by (`goes_by`) changes with every reading, fact and
edit of the day, so a day closed before they came is known to be reckoned again.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..billing.tariff import load_tariffs
from ..readings import EXPORT_WH, IMPORT_WH, MISSING64, Int32, Int64
from ..registry import ShardIndex
from ..store.facts import edits_of, facts_of
from ..store.lake import Lake
from ..vee import RuleBook, RuleSet
from ..vee.checks import usual_day
from ..vee.edit import apply_edits
from ..vee.facts import known_of
from .roll import Roll

TOLD = ("facts", "edits")
DOMESTIC, NETWORK = 0, 1
"""Positions of the first two rule sets of a day."""
WEEKS, WEEKS_MIN = (4, 3, 2, 1), 2


def goes_by(lake: Lake, day: date, shard: int) -> str:
    """Names all that closing (day, shard) goes by: its raw readings, and the facts and edits that there are of it."""
    return ";".join([lake.content("raw", day, shard), *(_so_far(lake, table, day, shard) for table in TOLD if lake.has(table, day, shard))])


def _so_far(lake: Lake, table: str, day: date, shard: int) -> str:
    """How much there is of a table that is only added to, and its newest row: the same however its files are merged."""
    made = lake.read(table, day, shard, columns=["made"])["made"].cast(pa.int64())
    return f"{table} {len(made)} {pc.max(made)}"


def rules_of(book: RuleBook, day: date, index: ShardIndex, roll: Roll) -> tuple[list[RuleSet], Int64]:
    """The rule sets of a (day, shard), the first that of domestic consumers and the second that of the network's own meters, and for each meter
    which one it is judged by: a consumer's by the category of its tariff, a meter without an account as domestic."""
    sets = [book.on(day, "domestic"), book.on(day, "network")]
    rule_of_meter = np.where(index.is_consumer, DOMESTIC, NETWORK).astype(np.int64)
    place = {"domestic": DOMESTIC}
    tariffs = load_tariffs().tariffs
    for code, name in enumerate(roll.tariffs):
        category = tariffs[name][0].category if name in tariffs else "domestic"
        consumer_class = book.class_of(category)
        if consumer_class not in place:
            place[consumer_class] = len(sets)
            sets.append(book.on(day, consumer_class))
        rule_of_meter[roll.meter[roll.tariff == code]] = place[consumer_class]
    return sets, rule_of_meter


def net_metered_of(roll: Roll, day: date) -> Int64:
    """The meters of the accounts whose tariff sets exports off on that day. Import and export have registers of their own there, so that neither
    may be negative, but an export is no fault."""
    book = load_tariffs()
    held = [any(t.net_metering is not None and t.since <= day < t.until for t in book.tariffs.get(name, ())) for name in roll.tariffs]
    return roll.meter[np.array(held, np.bool_)[roll.tariff]]


def told_of(lake: Lake, day: date, shard: int, channel: str, raw: dict[str, Int32]) -> tuple[Int32, dict[str, Any]]:
    """The raw values of a channel with people's edits in them, and what else `vee.run` takes of what is known: `edited`, the facts, and for
    imported energy the exported and the usual day's."""
    values, known = raw[channel], dict[str, Any]()
    if edits := edits_of(lake, day, shard, channel):
        values, known["edited"] = apply_edits(values, edits)
    if (facts := facts_of(lake, day, shard, channel)) is not None:
        known |= known_of(facts, *values.shape)
    if channel == IMPORT_WH.name:
        known["usual_wh"] = usual_of(lake, day, shard, values.shape[1])
        known |= {"export_wh": raw[EXPORT_WH.name]} if EXPORT_WH.name in raw else {}
    return values, known


def usual_of(lake: Lake, day: date, shard: int, meters: int) -> Int64 | None:
    """The usual imported energy of such a day, int64 [meter]: the median of the same weekday of four weeks before, as the statements of those days
    told it, of days without a gap; MISSING64 where there is none. None with fewer than `WEEKS_MIN` of those weeks: one week is no habit."""
    found = []
    for back in WEEKS:
        earlier = day - timedelta(weeks=back)
        if lake.has("statements", earlier, shard):
            rows = lake.read("statements", earlier, shard, columns=["meter", "wh", "missing_slots"])
            meter, wh = rows["meter"].to_numpy(), rows["wh"].fill_null(int(MISSING64)).to_numpy()
            own = (meter < meters) & (rows["missing_slots"].to_numpy() == 0)
            total = np.full(meters, MISSING64, np.int64)
            total[meter[own]] = wh[own]
            found.append(total)
    return usual_day(np.stack(found)) if len(found) >= WEEKS_MIN else None
