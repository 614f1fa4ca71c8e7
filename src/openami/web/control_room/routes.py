"""The control room's pages: who asks, for what, which page is filled.

What always holds: reading needs the right to see the town; each list goes on by key; what lies outside the reach is answered as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from heapq import nlargest
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.responses import RedirectResponse

from ...control.order import State
from ...day import Site
from ...day.running import open_day
from ...readings import CHECKS
from ...registry import NodeKind
from ...store.supply_rows import SupplyRows
from ..access import Right, Who
from ..api.words import key_of, page_of
from ..failures import NotThere, NotUsable
from ..gate import Gate, gate_of, needs
from ..pages import Console
from ..parameters import SHORTEST_REASON, Choice, Cursor, Day, Lang, letters
from ..reader import LakeTown
from ..running import RunningDay
from . import lists
from .curves import bars
from .figures import days_figure, demand_figure
from .names import SAYERS
from .saved import saved_filters
from .standing import Standing

if TYPE_CHECKING:
    from .quality import QualityDays

router = APIRouter(prefix="/room")
NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._:-]{0,99}$"
ROWS, WORST = 50, 12
BEHIND = timedelta(days=3)
"""How old the latest closed day may be before the wall says that its clocks speak of other days."""
SPANS = {"month": 31, "quarter": 92, "year": 366, "all": 100_000}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
}
"""The safe headers' policy, and our own script and its requests beside it: live figures and keys."""

Name = Annotated[str, Path(pattern=NAME)]
Sees = Annotated[Who, Depends(needs(Right.TOWN))]
SeesMeters = Annotated[Who, Depends(needs(Right.METERS))]
SeesOrders = Annotated[Who, Depends(needs(Right.ORDERS))]


@dataclass(frozen=True)
class Room:
    """What the pages stand on. site: the data folder as it lies there now."""

    town: LakeTown
    standing: Standing
    quality: QualityDays

    def site(self) -> Site:
        return self.town.site


def room_of(request: Request) -> Room:
    room: Room = request.app.state.room
    return room


def site_of(request: Request) -> Site:
    return room_of(request).site()


def open_control_room(app: FastAPI, town: LakeTown) -> None:
    """Adds `/room` to a console."""
    from . import acting, complaints, exports, levels, losses, outages, people, quality, statements, tariffs
    from .quality import QualityDays

    app.state.room, app.state.town = Room(town, Standing(lambda: town.site), QualityDays(lambda: town.site)), town
    app.state.running = RunningDay()
    app.include_router(router)
    app.include_router(acting.looking)
    for part in (acting, losses, levels, quality, outages, complaints, tariffs, statements, exports, people):
        app.include_router(part.router)


def page(request: Request, template: str, day: date | None = None, status: int = 200, **answer: Any) -> Response:
    """A page of the room: with its links, the reader's saved filters, and our script allowed."""
    console: Console = request.app.state.console
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    shown = {**SAYERS, "local": console.local, "saved": saved_filters(request), "here": here[:200] if request.method == "GET" else "/room"}
    shown |= {"days_figure": days_figure, "demand_figure": demand_figure, **answer}
    made = console.page(request, f"room/{template}", day, status=status, **shown)
    made.headers.update(HEADERS)
    return made


def changing(request: Request, who: Who, form: str, why: str | None = None) -> Gate:
    """The gate, for a form of this very session. why: the reason that it must give, None = it needs none."""
    gate = gate_of(request)
    gate.check_form(request, who, form)
    if why is not None:
        reason(why)
    return gate


def reason(why: str) -> str:
    """What was given as a reason, for the audit trail."""
    if letters(why) < SHORTEST_REASON:
        raise NotUsable("why", why)
    return why.strip()


def staff(who: Who) -> Who:
    """The control room is for those who see the town: others are sent away as by any page that is not theirs."""
    if not who.may(Right.TOWN):
        raise NotThere("page", "room")
    return who


def closed_day(request: Request, day: str) -> date:
    console: Console = request.app.state.console
    return console.day(day)


@router.get("", response_model=None)
def wall(request: Request, who: Sees, day: Day = "", lang: Lang = "") -> Response:
    """The wall."""
    room, gate = room_of(request), gate_of(request)
    asked = closed_day(request, day)
    stands, now = room.town.closed(asked), room.standing.now(who.reach, lambda: gate.now_s)
    feeders, latest = [one for one in stands.feeders if who.sees_feeder(one.name)], site_of(request).lake.days("validated")[-1]
    known = (one for one in stands.transformers.values() if one.figures.loss_wh is not None and who.sees_feeder(one.feeder))
    worst = nlargest(WORST, known, key=lambda one: one.figures.loss_wh or 0)
    found: dict[str, Any] = {
        "stands": stands,
        "now": now,
        "feeders": feeders,
        "worst": worst,
        "hidden": max(0, len(feeders) - lists.WALL_FEEDERS),
        "runs": open_day(site_of(request), gate.now_s),
        "behind": latest if site_of(request).calendar.local(now.at_s).date() - latest > BEHIND else None,
    }
    return page(request, "wall.html", asked, **found, most=lists.WALL_FEEDERS)


@router.get("/network", response_model=None)
def network(request: Request, who: Sees, day: Day = "", lang: Lang = "") -> Response:
    """All feeders."""
    asked = closed_day(request, day)
    stands = room_of(request).town.closed(asked)
    return page(request, "network.html", asked, feeders=[one for one in stands.feeders if who.sees_feeder(one.name)], slots=stands.slots)


@router.get("/network/{feeder}", response_model=None)
def feeder(request: Request, who: Sees, feeder: Name, day: Day = "", lang: Lang = "") -> Response:
    """A feeder's demand and its transformers."""
    asked, room = closed_day(request, day), room_of(request)
    stands = room.town.closed(asked)
    own = next((one for one in stands.feeders if one.name == feeder and who.sees_feeder(feeder)), None)
    if own is None:
        raise NotThere("feeder", feeder)
    node = stands.node(feeder)
    below = node.transformers if node else ()
    return page(request, "feeder.html", asked, it=own, below=below, demand=lists.demand(room.site(), stands, NodeKind.FEEDER, feeder))


@router.get("/transformers/{name}", response_model=None)
def transformer(request: Request, who: Sees, name: Name, day: Day = "", cursor: Cursor = None, lang: Lang = "") -> Response:
    """A transformer's demand against its rating, and its meters."""
    asked, room = closed_day(request, day), room_of(request)
    stands = room.town.closed(asked)
    own = stands.transformers.get(name)
    if own is None or not who.sees_feeder(own.feeder):
        raise NotThere("transformer", name)
    after = key_of(cursor, str)
    rows = gate_of(request).lookup.meters(who.reach, after[0] if after else "", ROWS + 1, under=name)
    kept, onward = page_of(rows, ROWS, lambda row: (row["serial"],))
    demand = lists.demand(room.site(), stands, NodeKind.TRANSFORMER, name)
    return page(request, "transformer.html", asked, it=own, demand=demand, rows=kept, onward=onward)


@router.get("/meters", response_model=None)
def meters(request: Request, who: Sees, text: Choice = "", feeder: Choice = "", cursor: Cursor = None, lang: Lang = "") -> Response:
    """Meters by the beginning of their serial; an account or usage point leads to its meter at once."""
    staff(who)
    gate, text = gate_of(request), text.strip()
    if text and (found := lists.exactly(gate, who, text)) is not None:
        return RedirectResponse(f"/room/meters/{found}" + (f"?lang={lang}" if lang else ""), 303)
    after = key_of(cursor, str)
    rows = lists.meters_from(gate, who, text, feeder, after[0] if after else "", ROWS + 1)
    kept, onward = page_of(rows, ROWS, lambda row: (row["serial"],))
    return page(request, "meters.html", rows=kept, onward=onward, text=text, feeder=feeder)


@router.get("/meters/{serial}", response_model=None)
def meter(request: Request, who: Sees, serial: Name, span: Choice = "year", lang: Lang = "") -> Response:
    """One meter: its curve, events, orders, keys' state, contact."""
    staff(who)
    if span not in SPANS:
        raise NotUsable("span", span)
    gate, site = gate_of(request), site_of(request)
    found = gate.lookup.meter(who.reach, serial)
    if found is None:
        raise NotThere("meter", serial)
    days = site.lake.days("validated")[-SPANS[span] :]
    curve = bars(site, found["shard"], found["index"], days)
    asked: dict[str, Any] = {
        "events": gate.lookup.events(who.reach, None, 20, serial=serial),
        "orders": gate.lookup.orders(who.reach, None, 20, serial=serial),
        "keys": lists.keys_of(site, serial),
        "contact": lists.contact_of(site, serial),
        "registers": lists.last_registers(site, serial),
    }
    return page(request, "meter.html", it=found, span=span, spans=list(SPANS), curve=curve, last=days[-1] if days else "", **asked)


@router.get("/orders", response_model=None)
def orders(request: Request, who: Sees, state: Choice = "", meter: Choice = "", cursor: Cursor = None, lang: Lang = "") -> Response:
    """Orders, the latest first, what waits for a second person, and who is at risk of a cut."""
    staff(who)
    if state and state not in list(State):
        raise NotUsable("state", state)
    gate, site = gate_of(request), site_of(request)
    rows = gate.lookup.orders(who.reach, key_of(cursor, int, str), ROWS + 1, serial=meter.strip(), state=state)
    kept, onward = page_of(rows, ROWS, lambda row: (row["requested_s"], row["order_id"]))
    counts = room_of(request).standing.now(who.reach, lambda: gate.now_s).orders
    reasons = lists.reasons_of(SupplyRows(site.rows.database), site, [row["order_id"] for row in kept])
    waiting = lists.waiting(gate, who)
    at_risk = lists.at_risk(site, gate, who) if not (state or meter or cursor) else []
    return page(
        request,
        "orders.html",
        rows=kept,
        onward=onward,
        state=state,
        meter=meter,
        counts=counts,
        reasons=reasons,
        waiting=waiting,
        at_risk=at_risk,
        may_order=who.may(Right.ORDER),
    )


@router.get("/orders/{order_id}", response_model=None)
def order(request: Request, who: Sees, order_id: Name, lang: Lang = "") -> Response:
    """All that has happened to an order, and what the guard said."""
    staff(who)
    found = gate_of(request).lookup.order(who.reach, order_id)
    if found is None:
        raise NotThere("order", order_id)
    site = site_of(request)
    reasons = lists.reasons_of(SupplyRows(site.rows.database), site, [order_id]).get(order_id)
    return page(request, "order.html", it=found, reasons=reasons, may_order=who.may(Right.ORDER), open_states=lists.WITHDRAWABLE)


@router.get("/events", response_model=None)
def events(request: Request, who: SeesMeters, meter: Choice = "", kind: Choice = "", cursor: Cursor = None, lang: Lang = "") -> Response:
    """What meters told about themselves, the latest first."""
    staff(who)
    if kind not in ("", *lists.EVENT_KINDS):
        raise NotUsable("kind", kind)
    after = key_of(cursor, int, str, int, int, bool)
    rows = lists.events(gate_of(request), site_of(request), who, after, ROWS + 1, meter.strip(), kind)
    kept, onward = page_of(rows, ROWS, lambda r: (r["at_s"], r["serial"], r["code"], r["bit"], bool(r["occurred"])))
    return page(request, "events.html", rows=kept, onward=onward, meter=meter, kind=kind, event_kinds=list(lists.EVENT_KINDS))


@router.get("/exceptions", response_model=None)
def exceptions(
    request: Request, who: SeesMeters, day: Day = "", check: Choice = "", feeder: Choice = "", cursor: Cursor = None, lang: Lang = ""
) -> Response:
    """Meters of a day of which an interval failed a check, in the registry's order."""
    staff(who)
    known = {str(q.name).lower(): q for q in CHECKS}
    if check and check not in known:
        raise NotUsable("check", check)
    asked, room = closed_day(request, day), room_of(request)
    stands = room.town.closed(asked)
    after = key_of(cursor, int, int)
    rows = lists.exceptions(room.site(), stands, who, int(known[check]) if check else 0, feeder, after or (-1, -1), ROWS + 1)
    kept, onward = page_of(rows, ROWS, lambda row: (row["shard"], row["index"]))
    return page(request, "exceptions.html", asked, rows=kept, onward=onward, check=check, feeder=feeder, checks=stands.checks, known=known)


@router.get("/exceptions/{serial}", response_model=None)
def exception(request: Request, who: SeesMeters, serial: Name, day: Day = "", lang: Lang = "") -> Response:
    """A meter's day, interval by interval, as it came and as it stands, with a form for each correction."""
    staff(who)
    asked, site = closed_day(request, day), site_of(request)
    found = gate_of(request).lookup.meter(who.reach, serial)
    if found is None:
        raise NotThere("meter", serial)
    slots = lists.slots(site, found, asked)
    edits = lists.edits(site, found, asked)
    return page(request, "exception.html", asked, it=found, slots=slots, edits=edits, may_edit=who.may(Right.ORDER))
