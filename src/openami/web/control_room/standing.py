"""How the head-end stands now: reckoned once, kept, and renewed behind the reader's back.

What always holds: nobody waits for a renewal but the first who asks; the age of what is shown stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ...day import Site
from ...headend.levels import SILENT_S
from ...headend.status import LevelClock, level_clocks
from ...store.heard import Heard
from ...store.journal_at import open_journal
from ...store.lookup import NOTHING, Reach
from ...store.order_book import UNSETTLED, OrderBook
from ...store.rows import contact, meter, meter_order, usage_point
from ..renewed import Kept

LISTED = 12


@dataclass(frozen=True, slots=True)
class Quiet:
    serial: str
    feeder: str
    transformer: str | None
    heard_s: int | None


@dataclass(frozen=True, slots=True)
class NowStanding:
    """at_s: when it was looked. heard_any: the head-end has heard any meter at all; silent, never: how many, None where it never ran here;
    orders: state -> how many; stuck: orders that wait with a problem; refused: cause -> frames; dark: meters whose last word of a day was a gasp."""

    at_s: int
    levels: tuple[LevelClock, ...]
    meters: int
    heard_any: bool
    silent: int | None
    never: int | None
    quiet: tuple[Quiet, ...]
    orders: dict[str, int]
    stuck: int
    refused: dict[str, int]
    frames: int
    dark: tuple[tuple[str, int], ...] = ()

    @property
    def in_flight(self) -> int:
        return sum(count for state, count in self.orders.items() if state in UNSETTLED)


def reckon_now(site: Site, reach: Reach, now_s: int) -> NowStanding:
    """Levels, silent meters, orders, quarantine and outages as they are now, within `reach` where they can be told by feeder."""
    here = sa.true() if reach.everything else usage_point.c.feeder.in_(sorted(reach.feeders))
    placed = meter.join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
    spoke = contact.c.heard_s.is_not(None)
    late = contact.c.heard_s <= now_s - SILENT_S
    with site.rows.begin() as connection:

        def count(query: Any) -> int:
            return int(connection.execute(query).scalar_one())

        whole = reach.everything
        source = sa.select(sa.func.count()).select_from(meter if whole else placed).where(sa.true() if whole else here)
        told = sa.select(sa.func.count()).select_from(contact if whole else placed.join(contact, contact.c.serial == meter.c.serial))
        meters, heard, silent = count(source), count(told.where(spoke, here if not whole else spoke)), count(told.where(spoke, late, here))
        rows = connection.execute(
            sa.select(contact.c.serial, usage_point.c.feeder, usage_point.c.transformer, contact.c.heard_s)
            .join(usage_point, sa.and_(usage_point.c.meter == contact.c.serial, usage_point.c.until.is_(None)))
            .where(spoke, late, here)
            .order_by(contact.c.heard_s)
            .limit(LISTED)
        ).all()
        at_order = sa.and_(usage_point.c.meter == meter_order.c.meter, usage_point.c.until.is_(None))
        asked = meter_order if whole else meter_order.join(usage_point, at_order)
        by_state = sa.select(meter_order.c.state, sa.func.count()).select_from(asked).where(here).group_by(meter_order.c.state)
        orders = {str(state): int(number) for state, number in connection.execute(by_state.order_by(meter_order.c.state))}
        waits = (meter_order.c.state.in_(UNSETTLED), meter_order.c.problem != "")
        stuck = count(sa.select(sa.func.count()).select_from(asked).where(here, *waits))
    book, note = OrderBook(site.rows), Heard(site.rows)
    refused, frames = _frames(site)
    return NowStanding(
        now_s,
        level_clocks(note, book, site.calendar, now_s),
        meters,
        heard > 0,
        silent if heard else None,
        meters - heard if heard else None,
        tuple(Quiet(*row) for row in rows),
        orders,
        stuck,
        refused if reach.everything else {},
        frames,
        dark_places(site, note, reach, now_s - SILENT_S, now_s),
    )


def dark_places(site: Site, heard: Heard, reach: Reach, first_s: int, last_s: int) -> tuple[tuple[str, int], ...]:
    """(transformer, meters whose last word between two times was a last gasp), the most first."""
    last: dict[str, tuple[int, int]] = {}
    for event in heard.events(first_s, last_s, bits=(85, 86)):
        if event.serial not in last:
            last[event.serial] = (event.bit, event.at_s)
    out = [serial for serial, (bit, _) in last.items() if bit == 85]
    found: dict[str, int] = {}
    for at in range(0, len(out), 500):
        query = sa.select(usage_point.c.transformer, usage_point.c.feeder).where(
            usage_point.c.meter.in_(out[at : at + 500]), usage_point.c.until.is_(None)
        )
        with site.rows.begin() as connection:
            for row in connection.execute(query):
                if reach.everything or row.feeder in reach.feeders:
                    found[row.transformer or row.feeder] = found.get(row.transformer or row.feeder, 0) + 1
    return tuple(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _frames(site: Site) -> tuple[dict[str, int], int]:
    journal = open_journal(site.folder, site.deployment)
    try:
        return journal.causes(), journal.frames()
    finally:
        journal.close()


@dataclass
class Standing:
    """Kept for one app. site: the data folder as it lies there now."""

    site: Callable[[], Site]
    _now: Kept[NowStanding] = field(default_factory=Kept)

    def now(self, reach: Reach, now_s: Callable[[], int]) -> NowStanding:
        site = self.site()
        return self._now.get((id(site), reach.everything, reach.feeders), lambda: reckon_now(site, reach or NOTHING, now_s()))
