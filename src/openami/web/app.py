"""The console as an ASGI application: routes that check their parameters, ask the town, and fill a page.

What always holds: nothing here writes; every answer carries a strict content policy (no script at all, nothing from elsewhere);
what a person got wrong is said in their language, with what would be right (404 and 422 pages); our own failures say so and nothing more.
"""

from __future__ import annotations

import hashlib
import logging
from importlib import resources
from typing import Annotated, TypeVar

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import OpenAMIError
from ..readings import Quality
from ..registry import NodeKind
from . import tables
from .pages import Console, NotThere, NotUsable
from .townbook import MeterQuery, MeterState, TownReader

log = logging.getLogger(__name__)
T = TypeVar("T")

SAFE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STATIC_TYPES = {"openami.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
READ = ["GET", "HEAD"]
PAGE_ROWS = 50
LANGUAGE_ASKED = r"^(en|hi)?$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$"

Name = Annotated[str, Path(pattern=NAME)]
Lang = Annotated[str, Query(pattern=LANGUAGE_ASKED)]
Day = Annotated[str, Query(max_length=10)]
Offset = Annotated[int, Query(ge=0, le=100_000_000)]
Choice = Annotated[str, Query(max_length=40)]


def create_app(town: TownReader) -> FastAPI:
    """The console of one town."""
    app = FastAPI(title="OpenAMI", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(_SafeHeaders)
    console = Console(town, {name: _static_version(name) for name in STATIC_TYPES})
    _town_pages(app, town, console)
    _meter_pages(app, town, console)
    _money_pages(app, town, console)
    _static_files(app)
    _failures(app, console)
    return app


def _town_pages(app: FastAPI, town: TownReader, console: Console) -> None:
    @app.api_route("/", methods=READ, response_model=None)
    def overview(request: Request, day: Day = "", lang: Lang = "") -> Response:
        if not town.days():
            return console.page(request, "empty.html", None)
        asked = console.day(day)
        return console.page(request, "overview.html", asked, town=town.overview(asked))

    @app.api_route("/transformers/{name}", methods=READ, response_model=None)
    def transformer(request: Request, name: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.transformer(name, asked)
        if found is None:
            raise NotThere("transformer", name)
        return console.page(request, "transformer.html", asked, it=found)

    @app.api_route("/transformers/{name}/hours.csv", methods=READ, response_model=None)
    def transformer_csv(name: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = town.transformer(name, asked)
        if found is None:
            raise NotThere("transformer", name)
        return _csv(tables.hours(name, found.hours), f"{name}-{asked}.csv")

    @app.api_route("/feeders/{name}", methods=READ, response_model=None)
    def feeder(request: Request, name: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.feeder(name, asked)
        if found is None:
            raise NotThere("feeder", name)
        return console.page(request, "feeder.html", asked, it=found)

    @app.api_route("/feeders/{name}/hours.csv", methods=READ, response_model=None)
    def feeder_csv(name: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = town.feeder(name, asked)
        if found is None:
            raise NotThere("feeder", name)
        return _csv(tables.hours(name, found.hours), f"{name}-{asked}.csv")

    @app.api_route("/quarantine", methods=READ, response_model=None)
    def quarantine(request: Request, cause: Choice = "", offset: Offset = 0, lang: Lang = "") -> Response:
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
        asked = console.day(day)
        query = MeterQuery(
            day=asked,
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
    def meter(request: Request, serial: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.meter(serial, asked)
        if found is None:
            raise NotThere("meter", serial)
        return console.page(request, "meter.html", asked, it=found)

    @app.api_route("/meters/{serial}/day.csv", methods=READ, response_model=None)
    def meter_csv(serial: Name, day: Day = "") -> Response:
        asked = console.day(day)
        found = town.meter(serial, asked)
        if found is None:
            raise NotThere("meter", serial)
        return _csv(tables.readings(found), f"{serial}-{asked}.csv")


def _money_pages(app: FastAPI, town: TownReader, console: Console) -> None:
    @app.api_route("/consumers/{account}", methods=READ, response_model=None)
    def consumer(request: Request, account: Name, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        found = town.consumer(account, asked)
        if found is None:
            raise NotThere("account", account)
        page = console.page(request, "consumer.html", asked, own_language=found.language, it=found)
        page.headers["cache-control"] = "private, no-store"
        return page

    @app.api_route("/due", methods=READ, response_model=None)
    def due(request: Request, day: Day = "", lang: Lang = "") -> Response:
        asked = console.day(day)
        return console.page(request, "due.html", asked, it=town.due(asked))


def _static_files(app: FastAPI) -> None:
    @app.api_route("/static/{name}", methods=READ, response_model=None)
    def static(name: str) -> Response:
        if name not in STATIC_TYPES:
            raise HTTPException(404)
        body = resources.files(__package__).joinpath("static", name).read_bytes()
        return Response(body, media_type=STATIC_TYPES[name], headers={"cache-control": "public, max-age=31536000, immutable"})


def _failures(app: FastAPI, console: Console) -> None:
    @app.exception_handler(NotThere)
    def not_there(request: Request, failure: NotThere) -> Response:
        return console.failure(request, 404, failure)

    @app.exception_handler(NotUsable)
    @app.exception_handler(RequestValidationError)
    def not_usable(request: Request, failure: NotUsable | RequestValidationError) -> Response:
        return console.failure(request, 422, failure)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, failure: StarletteHTTPException) -> Response:
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
    """Adds SAFE_HEADERS to every answer, and asks browsers to stay on TLS where it is spoken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k.encode(), v.encode()) for k, v in SAFE_HEADERS.items()]
                if scope.get("scheme") == "https":
                    headers.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)
