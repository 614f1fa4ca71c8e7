"""The meter's proof: its register at two midnights, what was charged in between day by day, and a signature; as a page, a file and paper.

What always holds: a proof says what the meter's own register showed and invents nothing; file and paper carry the same signed statement, which
anybody can check with our public keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from ...store.heard import Heard, RegisterReading
from ..failures import NotUsable
from ..parameters import READ, Day, Lang
from ..townbook import StatedDay
from ..wording import language
from .here import Here, OwnAccount
from .paper import DAYS_MOST, on_paper

router = APIRouter(prefix="/my", include_in_schema=False)
NEAR_DAYS = 3


@dataclass(frozen=True, slots=True)
class Proof:
    """What the meter's own register showed at the midnights of `first` and `last`, and what was charged for in between. start, end: None = that
    register was not read; statements: of the days that are closed, oldest first, none where `registers_only`; of: how many days there are."""

    first: date
    last: date
    meter: str
    start: RegisterReading | None
    end: RegisterReading | None
    statements: tuple[StatedDay, ...]
    of: int

    @property
    def grown_wh(self) -> int | None:
        """By how much the register went up; None where one of them was not read."""
        if self.start is None or self.end is None or self.start.import_wh is None or self.end.import_wh is None:
            return None
        return self.end.import_wh - self.start.import_wh

    @property
    def registers_only(self) -> bool:
        """More days than are told one by one: nothing is said of what was charged."""
        return self.of > DAYS_MOST

    @property
    def charged_wh(self) -> int | None:
        """None where a day of them is not known."""
        known = [s.wh for s in self.statements if s.wh is not None]
        return sum(known) if len(known) == self.of else None

    @property
    def estimated_wh(self) -> int:
        return sum(s.estimated_wh for s in self.statements)

    @property
    def charge_paise(self) -> int | None:
        """None where nothing is said of it."""
        return None if self.registers_only else sum(s.taken_paise for s in self.statements)


@dataclass(frozen=True, slots=True)
class Held:
    """A meter that measured here from `since` until before `until` (None = still). first, last: the register nearest to its first and its last
    midnight, within NEAR_DAYS; None = not read, or it is still here."""

    meter: str
    since: date
    until: date | None
    first: RegisterReading | None
    last: RegisterReading | None


@router.api_route("/{account}/proof", methods=READ, response_model=None)
def proof_page(own: OwnAccount, first: Day = "", last: Day = "", lang: Lang = "") -> Response:
    """Register at the start and at the end, and the same as a signed file and on paper."""
    found = _proof(own, first, last)
    return own.page(
        "proof.html", None, proof=found, meters=handed_over(own), signed=_signed(own, found), local=own.console.local, days_most=DAYS_MOST
    )


@router.api_route("/{account}/proof.json", methods=READ, response_model=None)
def proof_file(own: OwnAccount, first: Day = "", last: Day = "") -> Response:
    """The statement, and its signature (a JWS over the same content; our keys are at /oauth/jwks)."""
    found = _proof(own, first, last)
    return JSONResponse({"statement": _told(own, found), "jws": _signed(own, found)}, headers=_to_keep(own, found, "json"))


@router.api_route("/{account}/proof.pdf", methods=READ, response_model=None)
def proof_paper(own: OwnAccount, first: Day = "", last: Day = "", lang: Lang = "") -> Response:
    """The same on paper, in the reader's language, with the signed statement attached and as a code that a phone can read."""
    found, issuer = _proof(own, first, last), own.gate.issuer(own.request)
    body = on_paper(
        language(own.language), own.account, found, handed_over(own), _signed(own, found), issuer, own.console.local(own.gate.now_s)
    )
    return Response(body, media_type="application/pdf", headers=_to_keep(own, found, "pdf"))


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


def _proof(own: Here, first: str, last: str) -> Proof:
    """Of the whole days from `first` to `last`; without them the month of the last closed day, as far as it is closed."""
    days = own.days()
    end = own.day(last)
    start = own.day(first) if first else max(days[0], end.replace(day=1))
    if start > end:
        raise NotUsable("range", f"{start} – {end}")
    calendar, serial = own.site.calendar, str(own.row["meter"])
    at = (calendar.day_start(start), calendar.day_start(end + timedelta(days=1)))
    registers = Heard(own.site.rows)
    edges = [next(iter(registers.registers("daily", s, s, serial)), None) for s in at]
    of = (end - start).days + 1
    told = [own.town.stated(own.account, day) for day in days if start <= day <= end] if of <= DAYS_MOST else []
    return Proof(start, end, serial, edges[0], edges[1], tuple(s for s in told if s is not None), of)


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
        "days_charged": len(found.statements),
    }


def _signed(own: Here, found: Proof) -> str:
    tokens = own.gate.tokens
    return tokens.statement(own.gate.issuer(own.request), own.account, _told(own, found)) if tokens is not None else ""


def _to_keep(own: Here, found: Proof, kind: str) -> dict[str, str]:
    name = f"{own.account}-{found.first}-{found.last}.{kind}"
    return {"content-disposition": f'attachment; filename="{name}"', "cache-control": "private, no-store"}
