"""The console as an ASGI application: routes that check who asks and for what, ask the town, and fill a page.

What always holds: nothing is shown to anybody who has not signed in; what lies outside a person's reach is answered as if it were not there;
every answer carries a strict content policy (no script at all, nothing from elsewhere); what a person got wrong is said in their language, with
what would be right (404 and 422 pages); our own failures say so and nothing more.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import date
from importlib import resources
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from .. import __version__
from ..errors import InputError, OpenAMIError
from ..readings import Quality
from ..registry import NodeKind
from . import sign_in, tables
from .access import STAFF, Right, Role, Who
from .api.words import NOTHING_THERE, Missing, Refused, kind_of, problem
from .control_room.names import SAYERS
from .failures import NotThere, NotUsable
from .gate import SAFE_METHODS, ForeignForm, Gate, NotAllowed, NotSignedIn, needs
from .limits import Bounded, Limit
from .packing import Packed
from .pages import Console
from .parameters import READ, Choice, Day, Lang
from .townbook import Consumer, MeterDay, MeterQuery, MeterState, TownReader

log = logging.getLogger(__name__)
T = TypeVar("T")

SAFE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STATIC_TYPES = {
    "openami.css": "text/css; charset=utf-8",
    "consumer.js": "text/javascript; charset=utf-8",
    "room.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SAYS = {"evidence_says": SAYERS["evidence_says"]}
"""How a suspect's evidence is told, in the reader's language."""
PAGE_ROWS = 50
MOST = 12, 24
"""Feeders, and transformers of each, on the town's page; a feeder's own page has all of it, the control room's network all feeders."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$"

Name = Annotated[str, Path(pattern=NAME)]
Offset = Annotated[int, Query(ge=0, le=100_000_000)]
SeesTown = Annotated[Who, Depends(needs(Right.TOWN))]
SeesFrames = Annotated[Who, Depends(needs(Right.FRAMES))]
SeesMeters = Annotated[Who, Depends(needs(Right.METERS))]
SeesAccounts = Annotated[Who, Depends(needs(Right.ACCOUNTS))]
SignedIn = Annotated[Who, Depends(needs())]
TRIES_PER_MINUTE, TRIES_AT_ONCE = 10, 20
"""Of signing in, from one address."""


def create_app(town: TownReader, gate: Gate, send_code: sign_in.Sender | None = None, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The console of one town. gate: who may come in; send_code: how consumers get their one-time codes, None = they cannot; lifespan: what
    runs beside it."""
    app = FastAPI(title="OpenAMI", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Bounded)
    app.add_middleware(Packed, minimum_size=500)
    app.add_middleware(_SafeHeaders)
    console = Console(town, {name: _static_version(name) for name in STATIC_TYPES})
    app.state.gate, app.state.console, app.state.send_code = gate, console, send_code
    app.state.room = None  # `house` opens the control room, which needs the whole data folder
    app.state.has_consumer_pages = False  # `house` adds them: they need more than a town
    app.state.tries = Limit(TRIES_PER_MINUTE, TRIES_AT_ONCE, gate.clock)
    app.include_router(sign_in.router)
    app.include_router(sign_in.own)
    _town_pages(app, town, console)
    _meter_pages(app, town, console)
    _money_pages(app, town, console, gate)
    _static_files(app, console)
    _failures(app, console)
    return app


def _town_pages(app: FastAPI, town: TownReader, console: Console) -> None:
    @app.api_route("/", methods=READ, response_model=None)
    def overview(request: Request, who: SignedIn, day: Day = "", lang: Lang = "") -> Response:
        if not who.may(Right.TOWN):
            return RedirectResponse(_home(request, who), 303)
        if not town.days():
            return console.page(request, "empty.html", None)
        asked = console.day(day)
        return console.page(request, "overview.html", asked, town=town.overview(asked, _feeders(who)), most=MOST, **SAYS)

    @app.api_route("/transformers/{name}", methods=READ, response_model=None)
    def transformer(request: Request, who: SeesTown, name: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.transformer(name, asked)
        if found is None or not who.sees_feeder(found.node.feeder):
            raise NotThere("transformer", name)
        return console.page(request, "transformer.html", asked, it=found, **SAYS)

    @app.api_route("/transformers/{name}/hours.csv", methods=READ, response_model=None)
    def transformer_csv(who: SeesTown, name: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = town.transformer(name, asked)
        if found is None or not who.sees_feeder(found.node.feeder):
            raise NotThere("transformer", name)
        return _csv(tables.hours(name, found.hours), f"{name}-{asked}.csv")

    @app.api_route("/feeders/{name}", methods=READ, response_model=None)
    def feeder(request: Request, who: SeesTown, name: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.feeder(name, asked) if who.sees_feeder(name) else None
        if found is None:
            raise NotThere("feeder", name)
        return console.page(request, "feeder.html", asked, it=found)

    @app.api_route("/feeders/{name}/hours.csv", methods=READ, response_model=None)
    def feeder_csv(who: SeesTown, name: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = town.feeder(name, asked) if who.sees_feeder(name) else None
        if found is None:
            raise NotThere("feeder", name)
        return _csv(tables.hours(name, found.hours), f"{name}-{asked}.csv")

    @app.api_route("/quarantine", methods=READ, response_model=None)
    def quarantine(request: Request, who: SeesFrames, cause: Choice = "", offset: Offset = 0, lang: Lang = "") -> Response:
        found = town.quarantine(cause or None, offset, PAGE_ROWS)
        return console.page(request, "quarantine.html", None, it=found, cause=cause, offset=offset, limit=PAGE_ROWS)

    @app.api_route("/health", methods=READ)
    def health() -> dict[str, str | int | None]:
        days = town.days()
        return {"status": "ok", "version": __version__, "days": len(days), "last_day": days[-1].isoformat() if days else None}


def _meter_pages(app: FastAPI, town: TownReader, console: Console) -> None:
    @app.api_route("/meters", methods=READ, response_model=None)
    def meters(
        request: Request,
        who: SeesMeters,
        day: Day = "",
        text: Choice = "",
        state: MeterState = MeterState.ALL,
        kind: Choice = "",
        feeder: Choice = "",
        transformer: Choice = "",
        check: Choice = "",
        offset: Offset = 0,
        lang: Lang = "",
    ) -> Response:
        if not who.may(Right.TOWN):
            return RedirectResponse(_home(request, who), 303)
        asked = console.day(day)
        query = MeterQuery(
            day=asked,
            feeders=_feeders(who),
            text=text.strip(),
            state=state,
            kind=_one_of("kind", kind, {k.value: k for k in NodeKind}),
            transformer=transformer or None,
            feeder=feeder or None,
            check=_one_of("check", check, {str(q.name).lower(): q for q in Quality}),
            offset=offset,
            limit=PAGE_ROWS,
        )
        return console.page(request, "meters.html", asked, it=town.meters(query), query=query)

    @app.api_route("/meters/{serial}", methods=READ, response_model=None)
    def meter(request: Request, who: SeesMeters, serial: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = _own_meter(who, town.meter(serial, asked), asked)
        if found is None:
            raise NotThere("meter", serial)
        return console.page(request, "meter.html", asked, it=found, **SAYS)

    @app.api_route("/meters/{serial}/day.csv", methods=READ, response_model=None)
    def meter_csv(who: SeesMeters, serial: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = _own_meter(who, town.meter(serial, asked), asked)
        if found is None:
            raise NotThere("meter", serial)
        return _csv(tables.readings(found), f"{serial}-{asked}.csv")


def _money_pages(app: FastAPI, town: TownReader, console: Console, gate: Gate) -> None:
    @app.api_route("/consumers/{account}", methods=READ, response_model=None)
    def consumer(request: Request, who: SeesAccounts, account: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.consumer(account, asked)
        if found is None or not _sees_account(who, town, found, asked):
            raise NotThere("account", account)
        if who.role in STAFF:
            gate.note(who, request, "account.read", account)
        page = console.page(request, "consumer.html", asked, own_language=found.language, it=found)
        page.headers["cache-control"] = "private, no-store"
        return page

    @app.api_route("/due", methods=READ, response_model=None)
    def due(request: Request, who: SeesAccounts, day: Day = "", offset: Offset = 0, lang: Lang = "") -> Response:
        if not who.may(Right.TOWN):
            return RedirectResponse(_home(request, who), 303)
        asked = console.day(day)
        found = town.due(asked, _feeders(who), offset, PAGE_ROWS)
        return console.page(request, "due.html", asked, it=found, offset=offset, limit=PAGE_ROWS)


def _home(request: Request, who: Who) -> str:
    """Where somebody starts who does not see the town: a consumer's own pages, the one account, or the page of one's own."""
    if who.role is Role.CONSUMER and request.app.state.has_consumer_pages and who.reach.accounts:
        return "/my"
    return f"/consumers/{next(iter(who.reach.accounts))}" if len(who.reach.accounts) == 1 else "/me"


def _feeders(who: Who) -> frozenset[str] | None:
    """The feeders within the reach, None = all."""
    return None if who.reach.everything else who.reach.feeders


def _own_meter(who: Who, found: MeterDay | None, day: date) -> MeterDay | None:
    """The meter's day, if it is within the reach: a consumer does not see the days of whoever had the account before."""
    if found is None or not who.sees_point(found.row.usage_point, found.row.feeder):
        return None
    first = who.reach.first_day(found.row.usage_point, found.row.feeder)
    return None if first is not None and day < first else found


def _sees_account(who: Who, town: TownReader, found: Consumer, day: date) -> bool:
    if who.reach.everything or found.account in who.reach.accounts:
        return True
    meter = town.meter(found.meter, day) if who.reach.feeders else None
    return meter is not None and who.sees_account(found.account, meter.row.feeder)


def _static_files(app: FastAPI, console: Console) -> None:
    @app.api_route("/static/{name}", methods=READ, response_model=None)
    def static(request: Request, name: str) -> Response:
        """A file, to be kept for ever under its own version alone: while consoles of two releases stand side by side, a page of one may fetch
        from the other, and what came then must not stay."""
        if name not in STATIC_TYPES:
            raise HTTPException(404)
        body = resources.files(__package__).joinpath("static", name).read_bytes()
        own = request.query_params.get("v") == console.static[name]
        headers = {"cache-control": "public, max-age=31536000, immutable" if own else "no-store"}
        return Response(body, media_type=STATIC_TYPES[name], headers=headers)


def _failures(app: FastAPI, console: Console) -> None:
    @app.exception_handler(NotThere)
    def not_there(request: Request, failure: NotThere) -> Response:
        return console.failure(request, 404, failure)

    @app.exception_handler(Refused)
    def refused_in_words(request: Request, failure: Refused) -> Response:
        """What a program would be told, in the words for people."""
        told = NotThere(failure.thing, failure.name) if isinstance(failure, Missing) else NotUsable(failure.kind, failure.detail)
        return console.failure(request, failure.status, told)

    @app.exception_handler(NotSignedIn)
    def not_signed_in(request: Request, failure: NotSignedIn) -> Response:
        if request.method in SAFE_METHODS:
            return sign_in.sign_in_for(request, request.query_params.get("lang", ""))
        return console.failure(request, 401, failure, sign_in.page_before(request))

    @app.exception_handler(NotAllowed)
    @app.exception_handler(ForeignForm)
    def not_allowed(request: Request, failure: Exception) -> Response:
        return console.failure(request, 403, failure)

    @app.exception_handler(InputError)
    def not_accepted(request: Request, failure: InputError) -> Response:
        return console.failure(request, 422, failure)

    @app.exception_handler(NotUsable)
    @app.exception_handler(RequestValidationError)
    def not_usable(request: Request, failure: NotUsable | RequestValidationError) -> Response:
        return console.failure(request, 422, failure)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, failure: StarletteHTTPException) -> Response:
        if request.url.path.startswith("/api/"):  # an address that is not even the API's: a line break in it, another version
            return problem(Refused(failure.status_code, kind_of(failure.status_code), NOTHING_THERE), request.url.path)
        page = console.failure(request, failure.status_code, failure)
        page.headers.update(failure.headers or {})
        return page

    @app.exception_handler(OpenAMIError)
    def our_store(request: Request, failure: OpenAMIError) -> Response:
        log.error("%s cannot be answered: %s", request.url.path, failure)
        return console.failure(request, 503, failure)

    @app.exception_handler(Exception)
    def our_fault(request: Request, failure: Exception) -> Response:
        page = console.failure(request, 500, failure)
        page.headers.update(SAFE_HEADERS)
        return page


def _one_of(name: str, given: str, known: dict[str, T]) -> T | None:
    if not given:
        return None
    if given not in known:
        raise NotUsable(name, given)
    return known[given]


def _csv(text: str, filename: str) -> Response:
    return Response(text, media_type="text/csv; charset=utf-8", headers={"content-disposition": f'attachment; filename="{filename}"'})


def _static_version(name: str) -> str:
    return hashlib.sha256(resources.files(__package__).joinpath("static", name).read_bytes()).hexdigest()[:12]


class _SafeHeaders:
    """Adds SAFE_HEADERS to every answer that does not bring its own, and asks browsers to stay on TLS where it is spoken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                headers = [(k.encode(), v.encode()) for k, v in SAFE_HEADERS.items() if k.encode() not in given]
                if scope.get("scheme") == "https":
                    headers.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)
