"""Raw -> validated -> charges and statements -> balance: one (day, shard) at a time.

What always holds: closing reads only its shard's raw, the validated days just before and the money of the day before, so shards run side by
side; a day that is not closed yet is closed anew as a whole after any stop, with the same result; a day that is closed keeps what its
consumers were told: readings that come later are charged by adjustments (adjust.py); nobody is charged for an interval that has neither a
reading nor an estimate.

A (day, shard) is closed once the table `closes` has it: it is committed last, and names the file of raw readings that the close went by.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import chain

from ..errors import DataError
from ..readings import IMPORT_WH
from ..store.draft import Draft
from ..vee.tally import tally
from .adjust import reclose
from .balance import balance_rows
from .books import note_totals, totals_of
from .buffers import Buffers
from .charge import charge_day
from .closes import closed_by, closes_rows, is_closed
from .known import goes_by
from .meter_day import TABLE as METER_DAY
from .meter_day import meter_rows
from .moved import Moved, moved_on
from .outages import tell_outages
from .registered import tell_registers
from .site import Site
from .tell import tell
from .validate import validate

_own = threading.local()


def close_all(
    site: Site,
    progress: Callable[[int], None] | None = None,
    threads: int = 2,
    *,
    days: Sequence[date] | None = None,
    shards: Sequence[int] | None = None,
    elsewhere: Callable[[Sequence[tuple[date, int]]], Iterator[bytes]] | None = None,
) -> Counter[str]:
    """Close every open day that has raw readings and is not closed, shards side by side, days in order (a day needs the statements of the day
    before), or only the `days` and `shards` that are named. A day's shards become visible together. Before that, closed days whose raw readings
    have changed since are reckoned again, and what they cost more or less is posted as adjustments. Gives how many (day, shard) were `closed`,
    how many shards were `reckoned` again and how many `adjustments` were posted.

    elsewhere: closes (day, shard)s on another engine and gives what was written, in their order (`stages.py`)."""
    own = site.rows.shards() if shards is None else shards
    wanted = site.deployment.open_days if days is None else days
    done: Counter[str] = Counter()
    tell_outages(site, wanted, own)
    with ThreadPoolExecutor(threads, thread_name_prefix="close") as pool:
        list(pool.map(lambda shard: tell_registers(site, wanted, [shard]), own))
        for posted in pool.map(lambda shard: reclose_changed(site, shard, wanted), own):
            if posted is not None:
                done.update(reckoned=1, adjustments=posted)
        for day in wanted:
            with site.lake.draft(day) as draft:
                there = [shard for shard in own if site.lake.has("raw", day, shard)]
                ready = [shard for shard in there if not is_closed(site.lake, day, shard)]
                totals: dict[int, dict[str, int]] = {}
                moved = moved_on(site, day) if ready and elsewhere is None else None
                here = pool.map(
                    lambda shard, day=day, draft=draft, totals=totals, moved=moved: totals.update(
                        {shard: close_shard(site, draft, day, shard, moved)}
                    ),
                    ready if elsewhere is None else (),
                )
                there_made = elsewhere([(day, shard) for shard in ready]) if elsewhere else iter(())
                for _ in chain(here, map(draft.adopt, there_made)):
                    done["closed"] += 1
                    if progress:
                        progress(1)
                if progress and len(there) > len(ready):
                    progress(len(there) - len(ready))
                draft.commit()
            if ready:
                note_totals(site, day, _told_s(site, day), ready, totals)
    return done


def _told_s(site: Site, day: date) -> int | None:
    """When a day that is closed now counts as told: now; in a simulated deployment, whose days may be long past, at its own end."""
    return None if site.deployment.seed is None else site.calendar.day_start(day + timedelta(days=1))


def close(site: Site, day: date, shard: int) -> int:
    """One (day, shard) from raw readings to statements and losses; where it is closed already, reckoned again from the readings and the registry as
    they are now, with adjustments for what is different: gives how many were posted. DataError where there are no raw readings."""
    if is_closed(site.lake, day, shard):
        return len(reclose(site, day, shard, _buffers()))
    with site.lake.draft(day) as draft:
        close_shard(site, draft, day, shard)
        draft.commit()
    return 0


def reclose_changed(site: Site, shard: int, days: Sequence[date]) -> int | None:
    """Reckon a shard's closed days again from the first of `days` on whose raw readings are not those that it was closed by; gives how many
    adjustments were posted, None where nothing has changed."""
    for day in days:
        raw = closed_by(site.lake, day, shard)
        if raw is not None and site.lake.has("raw", day, shard) and raw != goes_by(site.lake, day, shard):
            return len(reclose(site, day, shard, _buffers()))
    return None


def close_shard(site: Site, draft: Draft, day: date, shard: int, moved: Moved | None = None) -> dict[str, int]:
    """A (day, shard) closed for the first time, written into a draft of the day; gives the totals of its statements (`books.totals_of`). moved: the
    day's transfers, where they are read already."""
    if not site.lake.has("raw", day, shard):
        raise DataError(f"raw has no {day} of shard {shard}; collect its readings first, or name another day")
    index, roll = site.registry_of(shard, day)
    raw = goes_by(site.lake, day, shard)
    validated = validate(site, day, index, roll, _buffers())
    draft.write_blocks("validated", list(validated.values()))
    energy = validated[IMPORT_WH.name]
    counted = tally(energy.values, energy.quality)
    moved = moved_on(site, day) if moved is None else moved
    charged = charge_day(site, roll, validated, counted, moved)
    draft.write("usage", shard, charged.usage)
    draft.write("charges", shard, charged.charges)
    draft.write("statements", shard, charged.statements)
    told = tell(site, day, shard, roll, charged.statements, moved)
    draft.write("notices", shard, told.notices)
    draft.write("due", shard, told.due)
    draft.write("balance", shard, balance_rows(site, index, energy))
    draft.write(METER_DAY, shard, meter_rows(index, energy, counted))
    draft.write("closes", shard, closes_rows(raw, 0))
    return totals_of(charged.statements)


def _buffers() -> Buffers:
    """This thread's, for as long as it lives."""
    if not hasattr(_own, "buffers"):
        _own.buffers = Buffers()
    found: Buffers = _own.buffers
    return found
