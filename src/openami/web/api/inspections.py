"""What visits to meters found: the labels that the suspicions of the energy audit learn from.

What always holds: a visit is written down once for an idempotency key, with who was there and in the audit trail who wrote it; it is kept with what
was known before it; it is put right by writing it again.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ...day.inspected import inspect
from ...errors import InputError
from ...store.inspections import Inspection, Inspections, Result
from ..access import Right, Who
from ..gate import gate_of
from .words import (
    NAME,
    NOT_MODIFIED,
    SENTENCE,
    Answer,
    Cursor,
    Day,
    Limit,
    Missing,
    Page,
    Refused,
    api_needs,
    documented,
    key_of,
    page_of,
    site_of,
)
from .work import Key, once

router = APIRouter()
SeesVisits = Annotated[Who, Depends(api_needs(Right.METERS))]
WritesVisits = Annotated[Who, Depends(api_needs(Right.ORDER))]
PLAIN = r"^[^\x00]*$"
WHO_MOST, NOTE_MOST = 60, 300


class Visit(Answer):
    """What a visit found, as it is known now. result: theft, fault, innocent, wrong_place or no_access; at_random: chosen by lot, not by suspicion;
    features: how many features of the days before are kept with it, 0 = nothing was measured; who: the person who visited."""

    meter: str
    day: date
    result: Result
    at_random: bool
    feeder: str
    features: int
    who: str
    note: str
    made: datetime


class Visited(BaseModel):
    """What is to be written down. day: left out = today; who: left out = the person who asks."""

    model_config = ConfigDict(extra="forbid")
    meter: str = Field(pattern=NAME)
    result: Result
    day: Day | None = None
    at_random: StrictBool = False
    who: str | None = Field(default=None, min_length=1, max_length=WHO_MOST, pattern=SENTENCE)
    note: str = Field(default="", max_length=NOTE_MOST, pattern=PLAIN)


@router.get("/inspections", responses=documented(403, 404, success=NOT_MODIFIED))
def inspections(request: Request, who: SeesVisits, limit: Limit = 100, cursor: Cursor = None) -> Page[Visit]:
    """What visits found on the feeders that may be seen, the latest day first; for staff who see the town."""
    if not who.may(Right.TOWN):
        raise Refused(403, "not-allowed", "what visits found is for staff")
    after = key_of(cursor, str, str)
    rows = Inspections(site_of(request).rows).current(feeders=None if who.reach.everything else who.reach.feeders)
    if after is not None:
        rows = [v for v in rows if v.day.isoformat() < after[0] or (v.day.isoformat() == after[0] and v.serial > after[1])]
    kept, onward = page_of(rows, limit, lambda v: (v.day.isoformat(), v.serial))
    return Page(items=[_told(request, v) for v in kept], next=onward)


@router.post("/inspections", status_code=201, response_model=Visit, responses=documented(400, 404, 409))
def write_inspection(request: Request, who: WritesVisits, given: Visited, key: Key) -> Response:
    """Write down what a visit found; the next look for suspects learns from it. Of a meter's visit on a day the newest word holds."""
    return once(request, who, key, given.model_dump(mode="json"), 201, lambda: _told(request, write_visit(request, who, given)))


def write_visit(request: Request, who: Who, given: Visited) -> Inspection:
    """The visit, written down. Refused where the meter is not there for `who`, or the day cannot be one of a visit."""
    gate, site = gate_of(request), site_of(request)
    if gate.lookup.meter(who.reach, given.meter) is None:
        raise Missing("meter", given.meter)
    now_s = gate.now_s
    day = given.day or site.calendar.local(now_s).date()
    try:
        visit = inspect(site, given.meter, day, given.result, given.who or who.name, given.note, now_s, at_random=given.at_random)
    except InputError as error:
        raise Refused(409, "no-visit", str(error)) from error
    gate.note(who, request, "inspection.write", given.meter, f"{day}: {given.result}, visited by {visit.who}")
    return visit


def _told(request: Request, visit: Inspection) -> Visit:
    same = {name: getattr(visit, name) for name in ("day", "result", "at_random", "feeder", "who", "note")}
    return Visit(meter=visit.serial, features=len(visit.features), made=site_of(request).calendar.local(visit.made_s), **same)
