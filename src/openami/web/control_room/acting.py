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

from ...control.order import What
from ...day.edit import Correction, correct
from ...errors import InputError
from ..access import DISCONNECTS_ALONE, Right, Who
from ..api import work
from ..api.words import Refused
from ..failures import NotThere, NotUsable
from ..gate import FormToken, gate_of, needs
from .routes import NAME, closed_day, page, site_of
from .saved import keep_filters, ours, saved_filters

router = APIRouter(prefix="/room")
Name = Annotated[str, Path(pattern=NAME)]
Text = Annotated[str, Form(max_length=300)]
Long = Annotated[str, Form(max_length=50_000)]
Many = Annotated[tuple[str, ...], Form()]
Orders = Annotated[Who, Depends(needs(Right.ORDER))]
Sees = Annotated[Who, Depends(needs(Right.TOWN))]
KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
SHORTEST_REASON = 5


@router.post("/orders/look", response_model=None)
def look(request: Request, who: Orders, what: Text = "", serials: Long = "", meter: Many = (), form: FormToken = "") -> Response:
    """What an order to these meters would do: who they are, what is not there, whether a second person is needed. Nothing is asked for yet."""
    gate = gate_of(request)
    gate.check_form(request, who, form)
    if what not in work.ASKED_FROM_CONSOLE:
        raise NotUsable("what", what)
    asked = list(dict.fromkeys([*meter, *re.split(r"[\s,;]+", serials.strip())]))
    asked = [serial for serial in asked if serial]
    if not asked or len(asked) > work.METERS_MOST:
        raise NotUsable("meters", str(len(asked)))
    there = gate.lookup.meters_named(who.reach, asked)
    known = {row["serial"] for row in there}
    since_s = gate.now_s - 3600
    already = gate.lookup.asked_by(who.acts, What.DISCONNECT, since_s) if what == What.DISCONNECT else 0
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
def ask(request: Request, who: Orders, what: Text = "", meter: Many = (), why: Text = "", key: Text = "", form: FormToken = "") -> Response:
    """Ask for it. The key came with the look: pressed twice, it is one order."""
    gate_of(request).check_form(request, who, form)
    if what not in work.ASKED_FROM_CONSOLE:
        raise NotUsable("what", what)
    if len(why.strip()) < SHORTEST_REASON:
        raise NotUsable("why", why)
    if not KEY.fullmatch(key) or not 0 < len(meter) <= work.METERS_MOST:
        raise NotUsable("meters", str(len(meter)))
    asked = work.Asked.model_construct(what=what, meters=list(meter), why=why.strip())
    try:
        work.once(request, who, key, asked.model_dump(), 202, lambda: work.ask_for(request, who, asked))
    except Refused as refusal:
        raise InputError(refusal.detail) from refusal
    return RedirectResponse("/room/orders", 303)


@router.post("/orders/{order_id}/withdraw", response_model=None)
def withdraw(request: Request, who: Orders, order_id: Name, why: Text = "", form: FormToken = "") -> Response:
    """Take an order back that has not left."""
    gate_of(request).check_form(request, who, form)
    if len(why.strip()) < SHORTEST_REASON:
        raise NotUsable("why", why)
    try:
        work.withdraw(request, who, order_id, work.Withdrawn.model_construct(why=why.strip()))
    except Refused as refusal:
        raise (NotThere("order", order_id) if refusal.status == 404 else InputError(refusal.detail)) from refusal
    return RedirectResponse(f"/room/orders/{order_id}", 303)


@router.post("/proposals/{number}", response_model=None)
def decide(request: Request, who: Orders, number: Name, answer: Text = "", form: FormToken = "") -> Response:
    """Agree to another person's proposal, or refuse it."""
    gate_of(request).check_form(request, who, form)
    if answer not in ("approve", "refuse"):
        raise NotUsable("answer", answer)
    try:
        work.decide(request, who, number, work.Decided(approve=answer == "approve"))
    except Refused as refusal:
        raise (NotThere("proposal", number) if refusal.status == 404 else InputError(refusal.detail)) from refusal
    return RedirectResponse("/room/orders", 303)


@router.post("/exceptions/{serial}", response_model=None)
def edit(
    request: Request,
    who: Orders,
    serial: Name,
    day: Text = "",
    begins: Text = "",
    value: Text = "",
    back: Text = "",
    why: Text = "",
    form: FormToken = "",
) -> Response:
    """Correct one interval, or take earlier corrections of it back; the day is reckoned again."""
    gate = gate_of(request)
    gate.check_form(request, who, form)
    asked = closed_day(request, day)
    if gate.lookup.meter(who.reach, serial) is None:
        raise NotThere("meter", serial)
    if len(why.strip()) < SHORTEST_REASON:
        raise NotUsable("why", why)
    given: float | None = None
    if not back:
        try:
            given = float(value.replace(",", "."))
        except ValueError:
            raise NotUsable("value", value) from None
    correct(site_of(request), [Correction(serial, asked, begins, given)], who.acts, why.strip(), gate.now_s * 1_000_000)
    gate.note(who, request, "reading.edit", f"{serial} {asked} {begins}", why.strip())
    return RedirectResponse(f"/room/exceptions/{serial}?day={asked}", 303)


@router.post("/filters", response_model=None)
def save(request: Request, who: Sees, name: Text = "", address: Text = "", form: FormToken = "") -> Response:
    """Keep a list under a name; an empty address takes it away."""
    gate_of(request).check_form(request, who, form)
    name = name.strip()[:40]
    if not name or (address and not ours(address)):
        raise NotUsable("name" if not name else "address", name if not name else address)
    kept = [one for one in saved_filters(request) if one[0] != name]
    answer = RedirectResponse(address or "/room", 303)
    keep_filters(request, answer, [*kept, (name, address)] if address else kept)
    return answer
