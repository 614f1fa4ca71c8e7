"""What a consumer can say and was told: complaints and disputes, and the messages that were sent.

What always holds: an open dispute about an amount stands between the account and any cut, from the moment it is written.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse

from ...store.complaints import DISPUTES, About, Complaints
from ...store.outbox import Notice, Outbox
from ...store.supply_rows import SupplyRows
from ..failures import NotUsable
from ..gate import FormToken
from ..once import ActsOnce
from ..parameters import PLAIN, READ, Choice, Lang, letters
from ..wording import marked
from .here import Here, OwnAccount

router = APIRouter(prefix="/my", include_in_schema=False, route_class=ActsOnce)
TEXT_MOST = 1000
SHOWN_ALERTS = 20
PHONE_ID = re.compile(r"[0-9a-f]{24}")
Text = Annotated[str, Form(max_length=2000, pattern=PLAIN)]


ABOUT = {
    About.AMOUNT: marked("The amount taken is wrong"),
    About.PAYMENT: marked("I paid, and it is not in the balance"),
    About.SUPPLY: marked("There is no electricity"),
    About.METER: marked("Something is wrong with the meter"),
    About.OTHER: marked("Something else"),
}


def alerts_of(own: Here) -> list[Notice]:
    """The messages that the account was sent, newest first."""
    return Outbox(own.site.rows.database).of_account(own.account, SHOWN_ALERTS)


@router.api_route("/{account}/help", methods=READ, response_model=None)
def help_page(own: OwnAccount, about: Choice = "", lang: Lang = "") -> Response:
    return _help(own, about if about in list(About) else "")


@router.post("/{account}/help", response_model=None)
def complain(own: OwnAccount, about: Text = "", text: Text = "", phone_id: Text = "", form: FormToken = "", lang: Lang = "") -> Response:
    """Written down, once; a dispute is told to the guard at once."""
    own.gate.check_form(own.request, own.who, form)
    words = " ".join(text.split())
    if about not in list(About):
        return _help(own, "", "about", words)
    if not letters(words) or len(words) > TEXT_MOST:
        return _help(own, about, "text" if not letters(words) else "long", words)
    if not PHONE_ID.fullmatch(phone_id):
        raise NotUsable("form", phone_id)
    made = Complaints(own.site.rows.database).make(own.account, About(about), words, phone_id, own.gate.now_s)
    if made.disputes:
        facts = SupplyRows(own.site.rows.database)
        if facts.told(own.account).get("dispute_open") is not True:
            facts.tell(own.account, "dispute_open", True, own.gate.now_s, own.who.name, f"complaint {made.id}")
    own.gate.note(own.who, own.request, "complaint.make", made.id, str(made.about))
    return RedirectResponse(own.url("help") + "#made", 303)


def _help(own: Here, about: str, problem: str = "", text: str = "") -> Response:
    return own.page(
        "help.html",
        None,
        status=422 if problem else 200,
        kinds=ABOUT,
        disputes=DISPUTES,
        about=about,
        problem=problem,
        text=text[:TEXT_MOST],
        text_most=TEXT_MOST,
        phone_id=secrets.token_hex(12),
        made=Complaints(own.site.rows.database).of_account(own.account),
        local=own.console.local,
    )
