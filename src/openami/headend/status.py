"""How a deployment's head-end stands, read from the data folder by anybody: service levels and their clocks, silent meters, orders, what is refused.

    status = read_status(folder, now_s);  status.as_json()

What always holds: it only reads; what is not known is None, never 0; a head-end that was killed shows by the age of its state file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from ..errors import DataError
from ..readings import Calendar
from ..store.contacts import Contacts
from ..store.deployment import Folder
from ..store.heard import Heard, Mark
from ..store.journal_at import open_journal
from ..store.order_book import OrderBook
from ..store.rows import Rows
from .levels import SILENT_S, Level, Standing, service_levels, silent, standing_of

log = logging.getLogger("openami.headend")
STATE_FILE = "headend.json"
ALIVE_S = 20
"""A state file older than this is of a head-end that is not running, or hangs."""
RELAY_BACK_S = 86_400
KIND_OF_LEVEL = {"block_load": "block_load", "daily_load": "daily", "billing": "billing"}
KINDS_OF_A_DAY = ("block_load", "daily_load")


@dataclass(frozen=True, slots=True)
class LevelClock:
    """A service level and its clock. since_s: since when it runs, UTC seconds; standing: None = nothing was due."""

    level: Level
    since_s: int
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Silent:
    """A meter not heard for a day. problem: why it could not be asked, "" = nobody has tried."""

    serial: str
    heard_s: int
    problem: str


@dataclass(frozen=True, slots=True)
class HeadendStatus:
    """at_s: when it was read. alive: the head-end has written its state within the last seconds; state: what it wrote (see `whole.Headend`), None =
    none was ever here. orders: state -> how many; refused: cause -> frames in quarantine;
    not_stored: cause -> frames refused and not stored, since the folder began."""

    at_s: int
    alive: bool
    state: dict[str, Any] | None
    meters: int
    levels: tuple[LevelClock, ...]
    silent: tuple[Silent, ...]
    never_heard: tuple[str, ...]
    orders: dict[str, int]
    refused: dict[str, int]
    not_stored: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        levels = [
            {
                "name": one.level.name,
                "kind": one.level.kind,
                "share": one.level.share,
                "within_s": one.level.within_s,
                "verify": one.level.verify,
                "since_s": one.since_s,
                **({} if one.standing is None else {k: v for k, v in asdict(one.standing).items() if k != "level"}),
            }
            for one in self.levels
        ]
        return {
            "at_s": self.at_s,
            "alive": self.alive,
            "headend": self.state,
            "meters": self.meters,
            "levels": levels,
            "silent": [asdict(one) for one in self.silent],
            "never_heard": list(self.never_heard),
            "orders": self.orders,
            "refused": self.refused,
            "not_stored": self.not_stored,
        }


def read_status(folder: Folder, now_s: int) -> HeadendStatus:
    """Everything at once; DataError where the folder holds no deployment."""
    deployment = folder.load()
    rows = Rows.of(folder)
    try:
        serials = [meter.serial for meter in rows.meters()]
        contacts = Contacts(rows).contacts()
        heard_s = {serial: one.heard_s for serial, one in contacts.items() if one.heard_s is not None}
        quiet, never = silent(serials, heard_s, now_s, SILENT_S)
        problems = {serial: one.problem for serial, one in contacts.items()}
        book = OrderBook(rows)
        levels = level_clocks(Heard(rows), book, deployment.calendar, now_s)
        orders = book.counts()
    finally:
        rows.close()
    state = read_state(folder)
    return HeadendStatus(
        now_s,
        state is not None and bool(state.get("running")) and now_s - int(state.get("at_s", 0)) <= ALIVE_S,
        state,
        len(serials),
        levels,
        tuple(Silent(serial, at_s, problems.get(serial, "")) for serial, at_s in quiet),
        tuple(never),
        orders,
        _refused(folder),
        not_stored(folder),
    )


def read_state(folder: Folder) -> dict[str, Any] | None:
    """What the head-end wrote of itself last; None where it never did."""
    try:
        found = json.loads(folder.journal.with_name(STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_state(folder: Folder, state: Mapping[str, Any]) -> None:
    """What a head-end writes of itself; no secret is in it. A disk that refuses is told: the journal goes on, or says so itself."""
    path = folder.journal.with_name(STATE_FILE)
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_text(json.dumps(state, indent=1), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        log.warning("the state file %s cannot be written (%s); the journal goes on", path, error.strerror)


def not_stored(folder: Folder) -> dict[str, int]:
    """cause -> frames that were refused and not stored, since the folder began (`gate.py`), as far as the head-end wrote it down."""
    told = (read_state(folder) or {}).get("not_stored", {})
    return {cause: count for cause, count in told.items() if isinstance(count, int)} if isinstance(told, dict) else {}


def level_clocks(heard: Heard, book: OrderBook, calendar: Calendar, now_s: int) -> tuple[LevelClock, ...]:
    """Every service level at its latest clock: the last midnight, the month's beginning, the relay orders of the last day."""
    today = calendar.local(now_s).date()
    midnight_s, month_s = calendar.day_start(today), calendar.day_start(today.replace(day=1))
    clocks = []
    for level in service_levels():
        if level.kind == "relay_order":
            clocks.append(LevelClock(level, now_s - RELAY_BACK_S, _relay(level, book.relay_times(now_s - RELAY_BACK_S, now_s), now_s)))
        elif level.kind in KIND_OF_LEVEL:
            clocks.append(_clock(heard, level, month_s if level.kind == "billing" else midnight_s, now_s))
    return tuple(clocks)


def day_clocks(heard: Heard, calendar: Calendar, day: date, now_s: int) -> tuple[LevelClock, ...]:
    """The levels of what a day's readings owe: their clocks ran from the midnight that ended `day`."""
    midnight_s = calendar.day_start(day + timedelta(days=1))
    return tuple(_clock(heard, level, midnight_s, now_s) for level in service_levels() if level.kind in KINDS_OF_A_DAY)


def _clock(heard: Heard, level: Level, since_s: int, now_s: int) -> LevelClock:
    return LevelClock(level, since_s, _marked(level, since_s, heard.marks(KIND_OF_LEVEL[level.kind], since_s), now_s))


def _marked(level: Level, since_s: int, marks: Iterable[Mark], now_s: int) -> Standing | None:
    known = [one for one in marks if one.at_s <= min(now_s, since_s + level.within_s)]
    return standing_of(level, since_s, known[-1].due, known[-1].done, now_s) if known else None


def _relay(level: Level, times: list[tuple[int, int | None]], now_s: int) -> Standing | None:
    """Each order has its own clock: one still inside it is due, but not late. left_s: of the youngest that is not done."""
    if not times:
        return None
    done = sum(1 for asked, at in times if at is not None and at - asked <= level.within_s)
    open_s = [asked + level.within_s - now_s for asked, at in times if at is None and now_s - asked < level.within_s]
    needed = -(-len(times) * round(level.share * 10_000) // 10_000)
    lacking = max(0, needed - done)
    left_s = max(open_s, default=0)
    met = True if lacking == 0 else (None if lacking <= len(open_s) else False)
    return Standing(level, len(times), done, left_s, lacking, met, lacking * 3600 / left_s if met is None and left_s else 0.0)


def _refused(folder: Folder) -> dict[str, int]:
    try:
        journal = open_journal(folder, folder.load())
    except DataError:
        return {}
    try:
        return journal.causes()
    finally:
        journal.close()
