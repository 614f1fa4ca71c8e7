"""Complaints that wait for an answer, the oldest first, and the answer, which the consumer is told.

What always holds: a complaint stands as it was written; it is answered once; who answered stands in the audit trail.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response
from fastapi.responses import RedirectResponse

from ...store.complaints import Complaints
from ...supply.complaints import ANSWER_MOST
from ..access import Right, Who
from ..api import complaints as told
from ..api.words import Refused
from ..consumer.care import ABOUT
from ..failures import NotUsable
from ..gate import FormToken, needs
from ..once import ActsOnce
from ..parameters import PLAIN, Cursor, Lang, letters
from .routes import NAME, ROWS, changing, page, site_of, staff

router = APIRouter(prefix="/room/complaints", route_class=ActsOnce)
Name = Annotated[str, Path(pattern=NAME)]
Reply = Annotated[str, Form(max_length=ANSWER_MOST, pattern=PLAIN)]
SeesAccounts = Annotated[Who, Depends(needs(Right.ACCOUNTS))]
Answers = Annotated[Who, Depends(needs(Right.ORDER))]
SHORTEST_ANSWER = 5


@router.get("", response_model=None)
def complaints(request: Request, who: SeesAccounts, cursor: Cursor = None, lang: Lang = "") -> Response:
    """What waits; with a form under each for whoever may answer."""
    rows, onward = told.waiting(request, staff(who), ROWS, cursor)
    shown: dict[str, Any] = {"rows": rows, "onward": onward, "kinds": ABOUT, "least": SHORTEST_ANSWER, "most": ANSWER_MOST}
    made = page(request, "complaints.html", may_answer=who.may(Right.ORDER), **shown)
    made.headers["cache-control"] = "private, no-store"
    return made


@router.post("/{number}", response_model=None)
def answer(request: Request, who: Answers, number: Name, reply: Reply = "", form: FormToken = "") -> Response:
    """Answer it and close it; pressed twice, it is one answer."""
    changing(request, who, form)
    words = " ".join(reply.split())
    if letters(words) < SHORTEST_ANSWER:
        raise NotUsable("reply", reply)
    try:
        told.answer_complaint(request, who, number, told.Answered.model_construct(answer=words))
    except Refused:
        kept = Complaints(site_of(request).rows.database).find(number, who.reach)
        if kept is None or kept.answer != words:
            raise
    return RedirectResponse("/room/complaints", 303)
