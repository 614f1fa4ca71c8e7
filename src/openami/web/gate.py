"""The gate: who is behind a request, by session cookie or bearer token, and whether what they send is their own doing.

What always holds: a request that changes something comes from our own pages (form token and origin) or carries a bearer token; a person who was
disabled is nobody from that moment; what was refused stands in the audit trail.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from fastapi import Form, Request, Response

from ..store.audit import AuditTrail, Entry
from ..store.clients import Clients
from ..store.consents import Consents
from ..store.keys import MasterKey
from ..store.lookup import Lookup
from ..store.people import People, Person
from ..store.proposals import KeptAnswers, Proposals
from ..store.rows import Rows
from ..store.sessions import Session, Sessions, form_token, is_form_token
from ..store.webhooks import Webhooks
from .access import Right, Role, Who, reach_of, rights_of
from .tokens import Tokens

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_FIELD = "csrf_token"
"""Under a name that scanners know as what it is."""
FormToken = Annotated[str, Form(alias=FORM_FIELD, max_length=300)]
NUMBER = re.compile(r"[A-Za-z0-9_-]{16}")
FORM_COOKIE_S = 3600
SOMEBODYS_PROGRAM = "external program"
"""Whoever holds a token of the external issuer that does not name its program: no person at a page."""


class Backing(Protocol):
    """What sign-in stands on: a registry database and the key that wraps its secrets. Both may change when a data folder is replaced."""

    @property
    def rows(self) -> Rows: ...

    @property
    def master(self) -> MasterKey: ...


@dataclass(frozen=True)
class Ground:
    """A backing that does not change."""

    rows: Rows
    master: MasterKey


class NotSignedIn(Exception):
    """Nobody, or a session that is over."""


class NotAllowed(Exception):
    """Somebody whose role may not do this."""

    def __init__(self, right: Right) -> None:
        super().__init__(right)
        self.right = right


class ForeignForm(Exception):
    """A request to change something that did not come from a page of ours, or from one that is too old."""


@dataclass
class Gate:
    """Of one app. clock: UTC seconds; demo: a simulated town, whose demo people may be entered with one click; public_url: the address under
    which the app is reached, "" = as each request says."""

    backing: Backing
    demo: bool = False
    public_url: str = ""
    clock: Callable[[], float] = time.time
    tokens: Tokens | None = None
    webhook_hosts: tuple[str, ...] = ()
    hasher: PasswordHasher | None = None

    def __post_init__(self) -> None:
        if self.tokens is None:
            self.tokens = Tokens(lambda: self.clients, self.clock)

    @property
    def now_s(self) -> int:
        return int(self.clock())

    @property
    def people(self) -> People:
        return People(self.backing.rows, self.backing.master, self.hasher)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.backing.rows)

    @property
    def clients(self) -> Clients:
        return Clients(self.backing.rows, self.backing.master)

    @property
    def consents(self) -> Consents:
        return Consents(self.backing.rows)

    @property
    def proposals(self) -> Proposals:
        return Proposals(self.backing.rows)

    @property
    def answers(self) -> KeptAnswers:
        return KeptAnswers(self.backing.rows, self.backing.master)

    @property
    def trail(self) -> AuditTrail:
        return AuditTrail(self.backing.rows)

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.backing.rows, self.backing.master)

    @property
    def lookup(self) -> Lookup:
        return Lookup(self.backing.rows)

    # ---- who

    def who(self, request: Request) -> Who | None:
        """By bearer token if there is one, else by the session's cookie."""
        kept: Who | None = getattr(request.state, "who", None)
        if kept is None:
            kept = self._by_token(request) if "authorization" in request.headers else self._by_session(request)
            request.state.who = kept
        return kept

    def still(self, request: Request) -> Who | None:
        """Who is behind a request that has gone on for a while, as they are now. No sign of life: a page left open does not keep a session."""
        return self._by_token(request) if "authorization" in request.headers else self._by_session(request, seen=False)

    def _by_session(self, request: Request, *, seen: bool = True) -> Who | None:
        token = request.cookies.get(cookie_name(request))
        found: Session | None = self.sessions.find(token, self.now_s, seen=seen) if token else None
        if found is None or token is None or found.person.role == Role.PARTNER:
            return None
        return replace(self.described(found.person), address=address_of(request), session=token)

    def _by_token(self, request: Request) -> Who | None:
        kind, _, token = request.headers["authorization"].partition(" ")
        claims = self.tokens.verify(token.strip(), self.issuer(request)) if self.tokens and kind.lower() == "bearer" else None
        if claims is None:
            return None
        person = self.people.by_external(claims.subject) if claims.external else self.people.find(claims.subject)
        program = self.people.find(claims.client) if claims.client and not claims.external else None
        if person is None or person.disabled or (program is not None and program.disabled):
            return None
        program_name = claims.client or (SOMEBODYS_PROGRAM if claims.external else "")
        return replace(self.described(person, claims.scopes), program=program_name, address=address_of(request))

    def described(self, person: Person, scopes: tuple[str, ...] | None = None) -> Who:
        """The person with rights and reach, as they are now."""
        people, lookup = self.people, self.lookup
        if person.role == Role.CONSUMER:  # no grant but of an account reaches anything
            own = people.accounts_of(person.name)
            reach = reach_of(person.role, (), {}, own)
            return Who(person.name, Role(person.role), rights_of(person.role, scopes), reach, person.language)
        grants = people.grants(person.name)
        accounts: dict[str, frozenset[str]] = {}
        if person.role == Role.PARTNER:
            for consent in self.consents.of_partner(person.name, self.now_s):
                accounts[consent.account] = accounts.get(consent.account, frozenset()) | frozenset(consent.purposes)
        points = lookup.points_of(list(accounts))
        divisions = people.divisions() if grants else {}
        reach = reach_of(person.role, grants, divisions, points, accounts)
        return Who(person.name, Role(person.role), rights_of(person.role, scopes), reach, person.language)

    def end_open(self, name: str) -> int:
        """End what somebody has open: sessions in browsers, and what programs hold to go on in their name. Gives how many sessions there were."""
        self.clients.revoke_all(name)
        return self.sessions.end_all(name)

    # ---- whether it is their own doing

    def check_origin(self, request: Request) -> None:
        """ForeignForm where the browser says that another site sent this."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ForeignForm
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != (urlsplit(self.public_url).netloc or request.url.netloc):
            raise ForeignForm

    def check_form(self, request: Request, who: Who | None, given: str) -> None:
        """ForeignForm unless `given` is the form token of this session, or before sign-in of this browser."""
        self.check_origin(request)
        if who is not None and who.session:
            if not is_form_token(who.session, given.partition(".")[0]):
                raise ForeignForm
            return
        cookie = request.cookies.get(cookie_name(request, "form"), "")
        if not cookie or not hmac.compare_digest(self._before(cookie).encode(), given.encode()):
            raise ForeignForm

    def form_token(self, request: Request, who: Who | None) -> str:
        """What a form on the page must bring along, with a number of its own (`once.py`); `keep_form_cookie` goes with it where nobody has signed in
        yet."""
        if who is not None and who.session:
            return f"{form_token(who.session)}.{secrets.token_urlsafe(12)}"
        cookie = request.cookies.get(cookie_name(request, "form"), "")
        request.state.form_cookie = cookie if len(cookie) == 43 else secrets.token_urlsafe(32)
        return self._before(request.state.form_cookie)

    def keep_form_cookie(self, request: Request, response: Response) -> None:
        cookie = getattr(request.state, "form_cookie", None)
        if cookie is not None:
            set_cookie(request, response, "form", cookie, FORM_COOKIE_S)

    def _before(self, cookie: str) -> str:
        return self.backing.master.mac("form", cookie.encode()).hex()

    # ---- small parts

    def note(self, who: Who | None, request: Request, action: str, subject: str = "", why: str = "", outcome: str = "done") -> None:
        """A line in the audit trail."""
        name, role = (who.acts, str(who.role)) if who else ("", "")
        self.trail.note(Entry(self.now_s, name, role, action, subject[:200], why[:500], address_of(request), outcome))

    def base_url(self, request: Request) -> str:
        """Under which address we are, for what is signed and for where programs and people are sent back to. Without `public_url` as the request
        says, where it names this machine by number; a name that anybody can write into a request is not believed, but answered with the number."""
        if self.public_url:
            return self.public_url
        there, port = request.scope.get("server") or (request.url.hostname, request.url.port)
        asked = request.url.hostname or ""
        if is_loopback(asked) or asked == there:
            return f"{request.url.scheme}://{request.url.netloc}"
        host = f"[{there}]" if ":" in str(there) else str(there)
        return f"{request.url.scheme}://{host}" + (f":{port}" if port not in (None, 80 if request.url.scheme == "http" else 443) else "")

    def issuer(self, request: Request) -> str:
        return self.base_url(request)


def gate_of(request: Request) -> Gate:
    """The gate of the app that answers the request, also where it is mounted in another one."""
    gate: Gate = request.app.state.gate
    return gate


def needs(*rights: Right) -> Callable[[Request], Who]:
    """A dependency: whoever has one of `rights`. NotSignedIn, NotAllowed otherwise."""

    def check(request: Request) -> Who:
        gate = gate_of(request)
        who = gate.who(request)
        if who is None:
            raise NotSignedIn
        if rights and not any(who.may(right) for right in rights):
            gate.note(who, request, f"{request.method} {_route(request)}", "", "", "refused")
            raise NotAllowed(rights[0])
        return who

    return check


def _route(request: Request) -> str:
    """The route's pattern, so that no name of a thing or a person is in it."""
    route = request.scope.get("route")
    return str(getattr(route, "path", request.url.path))


def number_of(token: str) -> str:
    """The number of the form that brought a token along; "" = it has none."""
    number = token.partition(".")[2]
    return number if NUMBER.fullmatch(number) else ""


def address_of(request: Request) -> str:
    """Where the request came from: the peer's address; behind a proxy uvicorn puts in what the proxy says, if it is told to trust it."""
    return request.client.host if request.client else ""


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def cookie_name(request: Request, purpose: str = "session") -> str:
    """With TLS the prefix that browsers hold to this host and to TLS."""
    return f"__Host-openami-{purpose}" if request.url.scheme == "https" else f"openami-{purpose}"


def set_cookie(request: Request, response: Response, purpose: str, value: str, max_age_s: int | None) -> None:
    response.set_cookie(
        cookie_name(request, purpose),
        value,
        max_age=max_age_s,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="lax",
        path="/",
    )


def drop_cookie(request: Request, response: Response, purpose: str) -> None:
    response.delete_cookie(cookie_name(request, purpose), path="/", httponly=True, secure=request.url.scheme == "https", samesite="lax")
