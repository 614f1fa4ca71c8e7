"""What daily and billing registers say about days, told to VEE: how much each meter's register rose from midnight to midnight.

What always holds: a rise is told once; a register that says otherwise later is told again, and the newest word holds; where nothing has come of a
day's two midnights since it was told, no register is read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from ..readings import IMPORT_WH, MISSING64, Int64
from ..store.facts import facts_of, tell_rises
from ..store.heard import Heard, RegistersTold
from ..vee.facts import FactKind
from .site import Site

SOURCE = "daily register"


def tell_registers(site: Site, days: Sequence[date] | None = None, shards: Sequence[int] | None = None) -> int:
    """Tell the rises of the registers that were not told yet, of every open day and shard or of those named; gives how many. `close_all` does it
    before it closes: the sum check goes by them."""
    heard, calendar = Heard(site.rows), site.calendar
    wanted = site.deployment.open_days if days is None else days
    ends = {day: (calendar.day_start(day), calendar.day_start(day + timedelta(days=1))) for day in wanted}
    additions = heard.additions({stamp for both in ends.values() for stamp in both})  # before the rows that they count
    ends = {day: both for day, both in ends.items() if all(stamp in additions for stamp in both)}
    told = 0
    for shard in site.rows.shards() if shards is None else shards:
        before, now = heard.told(shard), []
        for day, both in ends.items():
            added = sum(additions[stamp] for stamp in both)
            if (last := before.get(both)) and last.additions == added and (last.rises == 0 or site.lake.has("facts", day, shard)):
                continue
            meter, rises = heard.register_differences(shard, *both)
            told += _tell(site, day, shard, meter, rises)
            now.append(RegistersTold(*both, added, meter.size))
        heard.note_told(shard, now)
    return told


def _tell(site: Site, day: date, shard: int, meter: Int64, rises: Int64) -> int:
    """Tell the rises of a (day, shard) that are not known yet, or are known otherwise; gives how many."""
    if not meter.size:
        return 0
    fresh = np.full(int(meter[-1]) + 1, MISSING64, np.int64)
    fresh[meter] = rises
    if (facts := facts_of(site.lake, day, shard, IMPORT_WH.name)) is not None:
        own = facts.of(FactKind.REGISTER)
        held = own.meter < fresh.size
        known = np.full(fresh.size, MISSING64, np.int64)
        known[own.meter[held]] = own.value[held]
        fresh[fresh == known] = MISSING64
    return tell_rises(site.lake, day, shard, IMPORT_WH.name, fresh, SOURCE, time.time_ns() // 1000)
