"""Outages, for a person who answers for supply: a week on a line, planned and unplanned by day, one outage with everybody who was out.

What always holds: an outage outside the reach is not there; who was out is named only to those who may see meters; times are the deployment's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from ...day.found import Found, OutageRow
from ...day.outages import announcements
from ..access import Right, Who
from ..charts_wide import Lane, lanes
from ..failures import NotThere
from ..gate import gate_of
from ..pages import Console
from ..parameters import Choice, Day, Lang
from ..wording import Language
from .exports import as_file
from .losses import feeders_of
from .routes import Sees, closed_day, page, room_of

router = APIRouter(prefix="/room")
DAYS, LANES_MOST, LISTED, TICKS_MOST = 7, 40, 300, 4
Number = Annotated[int, Path(ge=0, le=10**9)]
COLUMNS = (
    "day", "level", "node", "feeder", "start", "end", "customers", "gasps", "evidence", "planned", "interruptions", "momentary", "customer_minutes",
)  # fmt: skip


@router.get("/outages", response_model=None)
def outages(request: Request, who: Sees, day: Day = "", lang: Lang = "") -> Response:
    """A week's outages as lanes, by day and as a list, with the indices of IEEE 1366; what is announced; and who is without supply now."""
    asked, room, gate = closed_day(request, day), room_of(request), gate_of(request)
    first, found = asked - timedelta(days=DAYS - 1), Found(room.site().lake)
    rows = found.outages(first, asked, feeders=feeders_of(who))
    console: Console = request.app.state.console
    calendar = room.site().calendar
    begins = min([*(row.day for row in rows), asked])
    edges = [calendar.day_start(begins + timedelta(days=k)) for k in range((asked - begins).days + 2)]

    def drawn(words: Language, name: str, title: str) -> object:
        return _lanes(words, name, title, rows, edges, console)

    stands = room.town.closed(asked)
    seen = {name for name in stands.names if who.sees_feeder(name)} | {
        t.name for t in stands.transformers.values() if who.sees_feeder(t.feeder)
    }
    told = [one for one in announcements(room.site()) if who.reach.everything or one[0] in seen]
    now = room.standing.now(who.reach, lambda: gate.now_s)
    return page(
        request, "outages.html", asked, rows=rows[:LISTED], lanes_figure=drawn, first=first, begins=begins, dark=now.dark, seen_s=now.at_s,
        index=found.reliability(first, asked, feeders=feeders_of(who)),
        unannounced=found.reliability(first, asked, feeders=feeders_of(who), planned=False),
        by_day=_by_day(rows), announced=[one for one in told if one[2] >= calendar.day_start(first)][:LISTED],
    )  # fmt: skip


@router.get("/outages.csv", response_model=None)
def outages_file(request: Request, who: Sees, day: Day = "", format: Choice = "csv") -> Response:
    """The same week as a file; instants are UTC."""
    asked = closed_day(request, day)
    found = Found(room_of(request).site().lake).outages(asked - timedelta(days=DAYS - 1), asked, feeders=feeders_of(who))
    rows = [{name: _plain(getattr(row, name)) for name in COLUMNS} for row in found]
    return as_file(rows, f"outages-{asked}", format, COLUMNS)


@router.get("/outages/{day}/{shard}/{number}", response_model=None)
def outage(request: Request, who: Sees, day: date, shard: Number, number: Number, lang: Lang = "") -> Response:
    """One outage, and who was out until when."""
    found = Found(room_of(request).site().lake)
    row = _one(found, who, day, shard, number)
    customers = sorted(found.outage_customers(row), key=lambda one: (one[1] is not None, -(one[1].timestamp() if one[1] else 0), one[0]))
    back = [(at.timestamp() - row.start.timestamp()) / 60 for _, at in customers if at is not None]
    named = customers[:LISTED] if who.may(Right.METERS) else []
    return page(request, "outage.html", closed_day(request, day.isoformat()), o=row, customers=named, back=sorted(back))


@router.get("/outages/{day}/{shard}/{number}/customers.csv", response_model=None)
def outage_file(request: Request, who: Sees, day: date, shard: Number, number: Number, format: Choice = "csv") -> Response:
    """Who was out; instants are UTC, an empty end is not known."""
    found = Found(room_of(request).site().lake)
    row = _one(found, who, day, shard, number)
    if not who.may(Right.METERS):
        raise NotThere("page", row.node)
    told = found.outage_customers(row)
    rows = [{"node": row.node, "meter": serial, "start": row.start.isoformat(), "end": _plain(back)} for serial, back in told]
    return as_file(rows, f"outage-{day}-{shard}-{number}", format, ("node", "meter", "start", "end"))


def _one(found: Found, who: Who, day: date, shard: int, number: int) -> OutageRow:
    rows = found.outages(day, feeders=feeders_of(who))
    row = next((row for row in rows if (row.shard, row.number) == (shard, number)), None)
    if row is None:
        raise NotThere("page", f"{day} {shard} {number}")
    return row


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _by_day(rows: Sequence[OutageRow]) -> list[tuple[date, list[tuple[int, float]]]]:
    """Each day with outages: how many and their customer minutes, announced ones and the others."""
    found = []
    for day in sorted({row.day for row in rows}):
        both = [[row for row in rows if row.day == day and row.planned is planned] for planned in (True, False)]
        found.append((day, [(len(own), sum(row.customer_minutes for row in own)) for own in both]))
    return found


def _lanes(words: Language, name: str, title: str, rows: Sequence[OutageRow], edges: list[int], console: Console) -> object:
    """From the first day that has an outage; hours along a single day, days along more."""
    start, end = edges[0], edges[-1]

    def share(at: datetime) -> float:
        return min(1.0, max(0.0, (at.timestamp() - start) / (end - start)))

    shown = sorted(rows, key=lambda one: -one.customers)[:LANES_MOST]
    data = [
        Lane(
            one.node + " · " + words.say_n("%(n)s customer", "%(n)s customers", one.customers),
            share(one.start),
            1.0 if one.end is None else share(one.end),
            one.end is None,
        )
        for one in sorted(shown, key=lambda one: one.start)
    ]
    single = len(edges) == 2
    marks = (
        [start + k * (end - start) // TICKS_MOST for k in range(TICKS_MOST + 1)] if single else edges[:: -(-len(edges) // (TICKS_MOST + 1))]
    )
    ticks = [((mark - start) / (end - start), f"{console.local(mark):{'%H:%M' if single else '%d.%m.'}}") for mark in marks]
    text = words.say_n(
        "%(n)s outage, %(open)s open.", "%(n)s outages, %(open)s of them open.", len(rows), open=sum(one.end is None for one in rows)
    )
    return lanes(name, title, text, data, ticks)
