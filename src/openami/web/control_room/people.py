"""Who may sign in and with which role, and the audit trail: for administrators, the trail for auditors too.

What always holds: whatever is changed here needs a reason and stands in the trail; passwords and second factors are made by us, shown once, kept by
nobody; nobody changes their own role, grants or access, so that an administrator cannot lock the door from within.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any

import pyotp
import segno
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from ...errors import InputError, RequestError
from ...store.lookup import Reach
from ...store.people import GrantKind, Person
from ..access import SECOND_FACTOR, Right, Role, Who
from ..api.words import key_of, page_of
from ..failures import NotThere, NotUsable
from ..gate import FormToken, Gate, gate_of, needs
from ..once import ActsOnce
from ..parameters import Cursor, Given, Lang, Words
from ..wording import LANGUAGES
from .routes import changing, page

router = APIRouter(prefix="/room", route_class=ActsOnce)
ROWS = 100
STAFF_ROLES = (Role.INSTALLER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN)
"""Whom this page makes: consumers come by their phone, programs by `openami people add --program`."""
CHANGES = ("disable", "enable", "password", "second_factor", "grant", "revoke")
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._@-]{1,60}$")]
SeesTrail = Annotated[Who, Depends(needs(Right.AUDIT))]
KeepsPeople = Annotated[Who, Depends(needs(Right.PEOPLE))]


@router.get("/audit", response_model=None)
def audit(
    request: Request, reader: SeesTrail, who: Words = "", subject: Words = "", action: Words = "", cursor: Cursor = None, lang: Lang = ""
) -> Response:
    """The audit trail, the latest line first."""
    before = key_of(cursor, int)
    rows = gate_of(request).trail.latest(ROWS + 1, before[0] if before else None, who or None, action or None, subject or None)
    kept, onward = page_of(rows, ROWS, lambda line: (line[0],))
    return _private(page(request, "audit.html", rows=kept, onward=onward, asked={"who": who, "subject": subject, "action": action}))


@router.get("/people", response_model=None)
def people(request: Request, who: KeepsPeople, cursor: Cursor = None, lang: Lang = "") -> Response:
    """Everybody who may sign in, but consumers: they come by their phone, and there may be a million of them."""
    gate, after = gate_of(request), key_of(cursor, str)
    rows = gate.people.of_roles(*STAFF_ROLES, Role.PARTNER, after=after[0] if after else "", limit=ROWS + 1)
    kept, onward = page_of(rows, ROWS, lambda row: (row[0].name,))
    return _private(page(request, "people.html", rows=kept, onward=onward, roles=STAFF_ROLES, divisions=gate.people.divisions()))


@router.post("/people", response_model=None)
def add(
    request: Request,
    who: KeepsPeople,
    name: Given = "",
    role: Given = "",
    reach: Given = "",
    language: Given = "",
    why: Given = "",
    form: FormToken = "",
) -> Response:
    """A new person; the password, and the second factor where the role has one, are shown on the answer and never again."""
    gate = changing(request, who, form, why)
    if role not in STAFF_ROLES or language not in LANGUAGES:
        raise NotUsable("role", role) if role not in STAFF_ROLES else NotUsable("language", language)
    kind, subject = _grant(gate, reach) if reach else (None, "")
    password = secrets.token_urlsafe(12)
    try:
        secret = gate.people.add(name.strip(), role, gate.now_s, password=password, totp=Role(role) in SECOND_FACTOR, language=language)
    except InputError:
        raise NotUsable("person", name) from None
    except RequestError:
        raise NotUsable("person_there", name) from None
    if kind is not None:
        gate.people.grant(name.strip(), kind, subject)
    gate.note(who, request, "people.add", name.strip(), f"as {role}{' for ' + reach if reach else ''}: {why.strip()}")
    return _person(request, gate, name.strip(), password=password, secret=secret)


@router.get("/people/{name}", response_model=None)
def person(request: Request, who: KeepsPeople, name: Name, lang: Lang = "") -> Response:
    """One of them: what was granted, and what was done with and by this name lately."""
    return _person(request, gate_of(request), name)


@router.post("/people/{name}", response_model=None)
def change(
    request: Request, who: KeepsPeople, name: Name, what: Given = "", reach: Given = "", why: Given = "", form: FormToken = ""
) -> Response:
    """One change to one person, other than oneself. What they have open is ended where it was a matter of trust."""
    gate = changing(request, who, form, why)
    if gate.people.find(name) is None:
        raise NotThere("person", name)
    if name == who.name:
        raise NotUsable("oneself", name)
    if what not in CHANGES:
        raise NotUsable("what", what)
    shown = _changes(gate, name, reach)[what]()
    if what in ("disable", "password", "second_factor", "revoke"):
        gate.end_open(name)
    gate.note(who, request, f"people.{what}", name, f"{reach + ': ' if what in ('grant', 'revoke') else ''}{why.strip()}")
    return _person(request, gate, name, **shown) if shown else RedirectResponse(f"/room/people/{name}", 303)


def _changes(gate: Gate, name: str, reach: str) -> dict[str, Callable[[], dict[str, str]]]:
    """What each change does; it gives what is to be shown once."""

    def new_password() -> dict[str, str]:
        password = secrets.token_urlsafe(12)
        gate.people.set_password(name, password)
        return {"password": password}

    def granting(do: Callable[[str, GrantKind, str], None]) -> dict[str, str]:
        do(name, *_grant(gate, reach))
        return {}

    def disabling(disabled: bool) -> dict[str, str]:
        gate.people.disable(name, disabled)
        return {}

    return {
        "disable": lambda: disabling(True),
        "enable": lambda: disabling(False),
        "password": new_password,
        "second_factor": lambda: {"secret": gate.people.new_totp(name)},
        "grant": lambda: granting(gate.people.grant),
        "revoke": lambda: granting(gate.people.revoke),
    }


def _grant(gate: Gate, reach: str) -> tuple[GrantKind, str]:
    """ "all:*", "division:North", "job:UP-00001", "account:2000000001"; of something that there is."""
    kind, _, subject = reach.strip().partition(":")
    there = {
        GrantKind.ALL: lambda: subject == "*",
        GrantKind.DIVISION: lambda: subject in gate.people.divisions(),
        GrantKind.JOB: lambda: gate.lookup.usage_point(Reach(everything=True), subject) is not None,
        GrantKind.ACCOUNT: lambda: bool(gate.lookup.points_of([subject])),
    }
    if kind not in list(GrantKind) or not there[GrantKind(kind)]():
        raise NotUsable("reach", reach)
    return GrantKind(kind), subject


def _person(request: Request, gate: Gate, name: str, password: str = "", secret: str | None = None) -> Response:
    found: Person | None = gate.people.find(name)
    if found is None:
        raise NotThere("person", name)
    uri = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="OpenAMI") if secret else ""
    told: dict[str, Any] = {
        "it": found,
        "grants": [f"{kind}:{subject}" for kind, subject in gate.people.grants(name)],
        "divisions": gate.people.divisions(),
        "about": gate.trail.latest(20, subject=name),
        "done": gate.trail.latest(20, who=name),
        "password": password,
        "secret": secret,
        # our own drawing of a text of our own: nothing of a person's is markup in it
        "code": Markup(segno.make(uri).svg_inline(scale=4, border=2, dark="#000", light="#fff")) if uri else "",  # noqa: S704
    }
    return _private(page(request, "person.html", **told))


def _private(answer: Response) -> Response:
    answer.headers["cache-control"] = "private, no-store"
    return answer
