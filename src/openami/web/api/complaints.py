"""Complaints that wait for an answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from ...errors import RequestError
from ...store.complaints import Complaint, Complaints
from ...supply.complaints import ANSWER_MOST, answer
from ..access import STAFF, Right, Who
from ..gate import address_of, gate_of
from .words import (
    NOT_MODIFIED,
    SENTENCE,
    Answer,
    Cursor,
    Limit,
    Missing,
    Page,
    Refused,
    api_needs,
    documented,
    key_of,
    page_of,
    site_of,
    town_of,
)

router = APIRouter()
Number = Annotated[str, Path(pattern=r"^G[0-9A-F]{10}$")]
SeesAccounts = Annotated[Who, Depends(api_needs(Right.ACCOUNTS))]
Answers = Annotated[Who, Depends(api_needs(Right.ORDER))]


class Complained(Answer):
    """A consumer's complaint. disputes: while it is open, supply is not cut; closed, answer: null and "" while it is open."""

    number: str
    account: str
    about: str
    text: str
    made: datetime
    disputes: bool
    closed: datetime | None
    answer: str


class Answered(BaseModel):
    """What the consumer is told."""

    model_config = ConfigDict(extra="forbid", strict=True)
    answer: str = Field(min_length=5, max_length=ANSWER_MOST, pattern=SENTENCE)


@router.get("/complaints", responses=documented(403, 404, success=NOT_MODIFIED))
def complaints(request: Request, who: SeesAccounts, limit: Limit = 100, cursor: Cursor = None) -> Page[Complained]:
    """Those not yet answered of the accounts that may be seen, the oldest first."""
    if who.role not in STAFF:
        raise Refused(403, "not-allowed", "complaints of others are for staff; your own are on your page")
    rows, onward = waiting(request, who, limit, cursor)
    return Page(items=[_told(request, one) for one in rows], next=onward)


def waiting(request: Request, who: Who, limit: int, cursor: str | None) -> tuple[list[Complaint], str | None]:
    """A page of what waits for an answer within the reach, and the cursor behind it."""
    rows = Complaints(site_of(request).rows.database).open(key_of(cursor, int, str), limit + 1, who.reach)
    return page_of(rows, limit, lambda one: (one.made_s, one.id))


@router.post("/complaints/{number}/answer", responses=documented(400, 404, 409))
def answer_complaint(request: Request, who: Answers, number: Number, given: Answered) -> Complained:
    """Answer a complaint and close it; the consumer is told, and a dispute no longer stands in the way of a cut."""
    gate, site = gate_of(request), site_of(request)
    if Complaints(site.rows.database).find(number, who.reach) is None:
        raise Missing("complaint", number)
    try:
        closed = answer(site, number, given.answer, gate.now_s, who.acts, str(who.role), address_of(request))
    except RequestError as error:
        raise Refused(409, "complaint-state", str(error)) from error
    return _told(request, closed)


def _told(request: Request, one: Complaint) -> Complained:
    local = town_of(request).calendar.local
    closed = None if one.closed_s is None else local(one.closed_s)
    return Complained(
        number=one.id,
        account=one.account,
        about=str(one.about),
        text=one.text,
        made=local(one.made_s),
        disputes=one.disputes,
        closed=closed,
        answer=one.answer,
    )
