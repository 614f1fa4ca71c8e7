"""What daily and billing registers say about days, told to VEE: how much each meter's register rose from midnight to midnight.

What always holds: a rise is told once; a register that says otherwise later is told again, and the newest word holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from ..readings import IMPORT_WH, MISSING64
from ..store.facts import facts_of, tell_rises
from ..store.heard import Heard
from ..vee.facts import FactKind
from .site import Site

SOURCE = "daily register"


def tell_registers(site: Site, days: Sequence[date] | None = None, shards: Sequence[int] | None = None) -> int:
    """Tell the rises of the registers that were not told yet, of every open day and shard or of those named; gives how many. `close_all` does it
    before it closes: the sum check goes by them."""
    heard, calendar, told = Heard(site.rows), site.calendar, 0
    for day in site.deployment.open_days if days is None else days:
        first_s, last_s = calendar.day_start(day), calendar.day_start(day + timedelta(days=1))
        for shard in site.rows.shards() if shards is None else shards:
            meter, rises = heard.register_differences(shard, first_s, last_s)
            if not meter.size:
                continue
            fresh = np.full(int(meter.max()) + 1, MISSING64, np.int64)
            fresh[meter] = rises
            if (facts := facts_of(site.lake, day, shard, IMPORT_WH.name)) is not None:
                own = facts.of(FactKind.REGISTER)
                held = own.meter < fresh.size
                known = np.full(fresh.size, MISSING64, np.int64)
                known[own.meter[held]] = own.value[held]
                fresh[fresh == known] = MISSING64
            told += tell_rises(site.lake, day, shard, IMPORT_WH.name, fresh, SOURCE, time.time_ns() // 1000)
    return told
