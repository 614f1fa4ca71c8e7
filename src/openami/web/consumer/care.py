"""What a consumer can say and prove: complaints and disputes, the messages that were sent, and the meter's proof.

What always holds: an open dispute about an amount stands between the account and any cut, from the moment it is written; a proof says what the
meter's own register showed, and is signed with a key that anybody can check.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Response
from fastapi.responses import JSONResponse, RedirectResponse

from ...store.complaints import DISPUTES, About, Complaints
from ...store.heard import Heard, RegisterReading
from ...store.outbox import Notice, Outbox
from ...store.supply_rows import SupplyRows
from ..pages import NotUsable
from .here import Here, OwnAccount

router = APIRouter(prefix="/my", include_in_schema=False)
READ = ["GET", "HEAD"]
TEXT_MOST = 1000
SHOWN_ALERTS = 20
NEAR_DAYS = 3
PHONE_ID = re.compile(r"[0-9a-f]{24}")
Text = Annotated[str, Form(max_length=2000)]
Day = Annotated[str, Query(max_length=10)]
Lang = Annotated[str, Query(pattern=r"^(en|hi)?$")]


def _mark(message: str) -> str:
    return message


ABOUT = {
    About.AMOUNT: _mark("The amount taken is wrong"),
    About.PAYMENT: _mark("I paid, and it is not in the balance"),
    About.SUPPLY: _mark("There is no electricity"),
    About.METER: _mark("Something is wrong with the meter"),
    About.OTHER: _mark("Something else"),
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the meter's own register showed at the midnights of `first` and `last`, and what was charged for in between. start, end: None = that
    register was not read; grown_wh: None where one is missing; charged_wh: None where a day of them is not known."""

    first: date
    last: date
    meter: str
    start: RegisterReading | None
    end: RegisterReading | None
    charged_wh: int | None
    estimated_wh: int
    charge_paise: int
    days: int

    @property
    def grown_wh(self) -> int | None:
        if self.start is None or self.end is None or self.start.import_wh is None or self.end.import_wh is None:
            return None
        return self.end.import_wh - self.start.import_wh


@dataclass(frozen=True, slots=True)
class Held:
    """A meter that measured here from `since` until before `until` (None = still). first, last: the register nearest to its first and its last
    midnight, within NEAR_DAYS; None = not read, or it is still here."""

    meter: str
    since: date
    until: date | None
    first: RegisterReading | None
    last: RegisterReading | None


def handed_over(own: Here) -> list[Held]:
    """The meters of this place, oldest first, within the account's time."""
    found = []
    registers, calendar = Heard(own.site.rows), own.site.calendar
    for row in own.gate.lookup.meters_at(own.who.reach, str(own.row["usage_point"])):
        if row["until"] is not None and row["until"] <= own.row["since"]:
            continue
        begin = calendar.day_start(row["since"])
        early = registers.registers("daily", begin, begin + NEAR_DAYS * 86_400, row["meter"])
        late: list[RegisterReading] = []
        if row["until"] is not None:
            end = calendar.day_start(row["until"])
            late = registers.registers("daily", end - NEAR_DAYS * 86_400, end, row["meter"])
        found.append(Held(row["meter"], row["since"], row["until"], early[0] if early else None, late[-1] if late else None))
    return found


def alerts_of(own: Here) -> list[Notice]:
    """The messages that the account was sent, newest first."""
    return Outbox(own.site.rows.database).of_account(own.account, SHOWN_ALERTS)


# ---- complaints


@router.api_route("/{account}/help", methods=READ, response_model=None)
def help_page(own: OwnAccount, about: Annotated[str, Query(max_length=20)] = "", lang: Lang = "") -> Response:
    return _help(own, about if about in list(About) else "")


@router.post("/{account}/help", response_model=None)
def complain(own: OwnAccount, about: Text = "", text: Text = "", phone_id: Text = "", form: Text = "", lang: Lang = "") -> Response:
    """Written down, once; a dispute is told to the guard at once."""
    own.gate.check_form(own.request, own.who, form)
    words = " ".join(text.split())
    if about not in list(About):
        return _help(own, "", "about", words)
    if not words or len(words) > TEXT_MOST:
        return _help(own, about, "text" if not words else "long", words)
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


# ---- proof


@router.api_route("/{account}/proof", methods=READ, response_model=None)
def proof_page(own: OwnAccount, first: Day = "", last: Day = "", lang: Lang = "") -> Response:
    """Register at the start and at the end, and the same as a signed file."""
    found = _proof(own, first, last)
    return own.page("proof.html", None, proof=found, meters=handed_over(own), signed=_signed(own, found), local=own.console.local)


@router.api_route("/{account}/proof.json", methods=READ, response_model=None)
def proof_file(own: OwnAccount, first: Day = "", last: Day = "") -> Response:
    """The statement, and its signature (a JWS over the same content; our keys are at /oauth/jwks)."""
    found = _proof(own, first, last)
    headers = {
        "content-disposition": f'attachment; filename="{own.account}-{found.first}-{found.last}.json"',
        "cache-control": "private, no-store",
    }
    return JSONResponse({"statement": _told(own, found), "jws": _signed(own, found)}, headers=headers)


def _proof(own: Here, first: str, last: str) -> Proof:
    """Of the whole days from `first` to `last`; without them the month of the last closed day, as far as it is closed."""
    days = own.days()
    end = own.day(last)
    start = own.day(first) if first else max(days[0], end.replace(day=1))
    if start > end or (end - start).days > 366:
        raise NotUsable("day", f"{first} {last}")
    calendar, serial = own.site.calendar, str(own.row["meter"])
    at = (calendar.day_start(start), calendar.day_start(end + timedelta(days=1)))
    registers = Heard(own.site.rows)
    edges = [next(iter(registers.registers("daily", s, s, serial)), None) for s in at]
    statements = [own.consumer(day).statement for day in days if start <= day <= end]
    known = [s for s in statements if s is not None]
    whole = len(known) == (end - start).days + 1 and all(s.wh is not None for s in known)
    return Proof(
        start,
        end,
        serial,
        edges[0],
        edges[1],
        sum(s.wh or 0 for s in known) if whole else None,
        sum(s.estimated_wh for s in known),
        sum(s.charge_paise + s.adjustments_paise for s in known),
        len(known),
    )


def _told(own: Here, found: Proof) -> dict[str, Any]:
    def register(one: RegisterReading | None) -> dict[str, Any] | None:
        return None if one is None else {"at": own.console.local(one.stamp_s).isoformat(), "import_wh": one.import_wh, "source": one.source}

    return {
        "account": own.account,
        "meter": found.meter,
        "first_day": found.first.isoformat(),
        "last_day": found.last.isoformat(),
        "register_start": register(found.start),
        "register_end": register(found.end),
        "register_difference_wh": found.grown_wh,
        "charged_wh": found.charged_wh,
        "estimated_wh": found.estimated_wh,
        "charge_paise": found.charge_paise,
        "days_charged": found.days,
    }


def _signed(own: Here, found: Proof) -> str:
    tokens = own.gate.tokens
    return tokens.statement(own.gate.issuer(own.request), own.account, _told(own, found)) if tokens is not None else ""
