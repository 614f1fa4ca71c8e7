"""What a person does from the control room: orders after a look at what they would do, withdrawals, decisions as the second person, readings
corrected, filters saved.

What always holds: each form carries its session's token; an order is looked at before it is asked for, needs a reason, and is asked for once however
often the button is pressed; the guard is asked for every disconnection all the same; all of it stands in the audit trail.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from ...control.order import What
from ...day.edit import Correction, correct, slot_of
from ...errors import InputError
from ..access import DISCONNECTS_ALONE, Right, Who
from ..api import work
from ..api.words import Refused
from ..failures import NotThere, NotUsable
from ..gate import FormToken, needs
from ..once import ActsOnce, Filled
from ..parameters import PLAIN, Figures, Given, LatinFigures, letters
from . import lists
from .routes import NAME, changing, closed_day, page, reason, site_of
from .saved import keep_filters, ours, saved_filters

router = APIRouter(prefix="/room", route_class=ActsOnce)
looking = APIRouter(prefix="/room", route_class=Filled)
Name = Annotated[str, Path(pattern=NAME)]
Long = Annotated[str, LatinFigures, Form(max_length=50_000, pattern=PLAIN)]
Many = Annotated[tuple[Annotated[str, LatinFigures, Field(pattern=PLAIN)], ...], Form()]
Orders = Annotated[Who, Depends(needs(Right.ORDER))]
Sees = Annotated[Who, Depends(needs(Right.TOWN))]
KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
FIGURE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
WH_MOST = 1e9
"""A gigawatt-hour in one interval: what no meter here can have counted."""


@looking.post("/orders/look", response_model=None)
def look(request: Request, who: Orders, what: Given = "", serials: Long = "", meter: Many = (), form: FormToken = "") -> Response:
    """What an order to these meters would do: who they are, what is not there, whether a second person is needed. Nothing is asked for yet."""
    gate = changing(request, who, form)
    if what not in work.ASKED_FROM_CONSOLE:
        raise NotUsable("what", what)
    asked = list(dict.fromkeys([*meter, *re.split(r"[\s,;]+", serials.strip())]))
    asked = [serial for serial in asked if serial]
    if not asked or len(asked) > work.METERS_MOST:
        raise NotUsable("meters", str(len(asked)))
    there = gate.lookup.meters_named(who.reach, asked)
    known = {row["serial"] for row in there}
    since_s = gate.now_s - 3600
    already = gate.lookup.asked_by(who.name, What.DISCONNECT, since_s) if what == What.DISCONNECT else 0
    found: dict[str, Any] = {
        "what": what,
        "there": sorted(there, key=lambda row: row["serial"]),
        "absent": [serial for serial in asked if serial not in known],
        "second": what == What.DISCONNECT and already + len(there) > DISCONNECTS_ALONE,
        "alone": DISCONNECTS_ALONE,
        "key": secrets.token_urlsafe(16),
    }
    return page(request, "look.html", **found)


@router.post("/orders", response_model=None)
def ask(
    request: Request, who: Orders, what: Given = "", meter: Many = (), why: Given = "", key: Given = "", form: FormToken = ""
) -> Response:
    """Ask for it. The key came with the look: pressed twice, it is one order."""
    changing(request, who, form, why)
    if what not in work.ASKED_FROM_CONSOLE:
        raise NotUsable("what", what)
    if not KEY.fullmatch(key) or not 0 < len(meter) <= work.METERS_MOST:
        raise NotUsable("meters", str(len(meter)))
    asked = work.Asked.model_construct(what=what, meters=list(meter), why=why.strip())
    work.once(request, who, key, asked.model_dump(), 202, lambda: work.ask_for(request, who, asked))
    return RedirectResponse("/room/orders", 303)


@router.post("/orders/{order_id}/withdraw", response_model=None)
def withdraw(request: Request, who: Orders, order_id: Name, why: Given = "", form: FormToken = "") -> Response:
    """Take an order back that has not left."""
    changing(request, who, form, why)
    work.withdraw(request, who, order_id, work.Withdrawn.model_construct(why=why.strip()))
    return RedirectResponse(f"/room/orders/{order_id}", 303)


@router.post("/proposals/{number}", response_model=None)
def decide(request: Request, who: Orders, number: Name, answer: Given = "", form: FormToken = "") -> Response:
    """Agree to another person's proposal, or refuse it."""
    changing(request, who, form)
    if answer not in ("approve", "refuse"):
        raise NotUsable("answer", answer)
    work.decide(request, who, number, work.Decided(approve=answer == "approve"))
    return RedirectResponse("/room/orders", 303)


@router.post("/exceptions/{serial}", response_model=None)
def edit(
    request: Request,
    who: Orders,
    serial: Name,
    day: Figures = "",
    begins: Figures = "",
    value: Figures = "",
    back: Given = "",
    seen: Figures = "",
    why: Given = "",
    form: FormToken = "",
) -> Response:
    """Correct one interval, or take earlier corrections of it back; the day is reckoned again. seen: how many corrections of the day the page
    showed."""
    gate = changing(request, who, form)
    if not day or back not in ("", "1"):
        raise NotUsable("day" if not day else "form", day)
    asked = closed_day(request, day)
    found = gate.lookup.meter(who.reach, serial)
    if found is None:
        raise NotThere("meter", serial)
    told = reason(why)
    if seen and seen != str(len(lists.edits(site_of(request), found, asked))):
        raise Refused(409, "reading-state", seen)
    wanted = Correction(serial, asked, begins, None if back else _watt_hours(value))
    try:
        slot_of(site_of(request), wanted)
    except InputError:
        raise NotUsable("begins", begins) from None
    correct(site_of(request), [wanted], who.acts, told, gate.now_s * 1_000_000)
    gate.note(who, request, "reading.edit", f"{serial} {asked} {begins}", told)
    return RedirectResponse(f"/room/exceptions/{serial}?day={asked}", 303)


def _watt_hours(given: str) -> float:
    """What an interval may hold: 0 or more, below WH_MOST."""
    plain = given.strip().replace(",", ".")
    if not FIGURE.fullmatch(plain) or float(plain) >= WH_MOST:
        raise NotUsable("value", given)
    return float(plain)


@looking.post("/filters", response_model=None)
def save(request: Request, who: Sees, name: Given = "", address: Given = "", form: FormToken = "") -> Response:
    """Keep a list under a name; an empty address takes it away."""
    changing(request, who, form)
    name = name.strip()[:40]
    if not letters(name):
        raise NotUsable("list-name", name)
    if address and not ours(address):
        raise NotUsable("address", address)
    kept = [one for one in saved_filters(request) if one[0] != name]
    answer = RedirectResponse(address or "/room", 303)
    keep_filters(request, answer, [*kept, (name, address)] if address else kept)
    return answer
