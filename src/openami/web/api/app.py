"""The API as an application of its own, mounted by the console: its routes, its failures as problems, its limits, its description."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ...day import Site
from ...errors import OpenAMIError
from ..gate import ForeignForm, Gate, NotAllowed, NotSignedIn, address_of
from ..limits import BODY_MOST, Limit
from ..townbook import TownReader
from . import complaints, inspections, live, money, network, readings, sharing, work
from .bounds import why_not
from .words import NOTHING_THERE, Problem, Refused, only_known_parameters, problem

log = logging.getLogger(__name__)
PARTS = (network, readings, money, complaints, inspections, work, sharing, live)
PER_MINUTE, AT_ONCE = 600, 200


def create_api(town: TownReader, site: Callable[[], Site], gate: Gate, limit: Limit | None = None) -> FastAPI:
    """site: the data folder as it lies there now; limit: how often anybody may ask, None = 600 a minute, 200 at once."""
    api = FastAPI(
        title="OpenAMI",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(only_known_parameters)],
        redirect_slashes=False,
    )
    api.state.town, api.state.site, api.state.gate = town, site, gate
    api.state.limit = limit or Limit(PER_MINUTE, AT_ONCE, gate.clock)
    for part in PARTS:
        api.include_router(part.router)
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]

    @api.get("/openapi.json", include_in_schema=False)
    def description() -> dict[str, Any]:
        return api.openapi()

    api.add_middleware(_Tagged)
    api.add_middleware(_Limited, limit=api.state.limit, gate=gate)
    _failures(api)
    return api


def _failures(api: FastAPI) -> None:
    @api.exception_handler(Refused)
    def refused(request: Request, failure: Refused) -> Response:
        return problem(failure)

    @api.exception_handler(NotSignedIn)
    def not_signed_in(request: Request, failure: NotSignedIn) -> Response:
        sentence = "this needs a token (Authorization: Bearer ...) or a session that is still open; get one and try again"
        return problem(Refused(401, "not-signed-in", sentence, {"www-authenticate": 'Bearer realm="openami"'}))

    @api.exception_handler(NotAllowed)
    def not_allowed(request: Request, failure: NotAllowed) -> Response:
        return problem(
            Refused(403, "not-allowed", f"your role, or this token, does not have the right {str(failure.right)!r}; nothing was changed")
        )

    @api.exception_handler(ForeignForm)
    def foreign(request: Request, failure: ForeignForm) -> Response:
        return problem(Refused(403, "form-token", "a session's request to change something needs its form token in X-Form-Token"))

    @api.exception_handler(RequestValidationError)
    def not_usable(request: Request, failure: RequestValidationError) -> Response:
        errors = [{"where": ".".join(str(part) for part in e["loc"])[:120], "why": why_not(e)[:300]} for e in failure.errors()]
        first = errors[0]
        return problem(Refused(422, "not-usable", f"{first['where']} {first['why']}", None, errors))

    @api.exception_handler(HTTPException)
    def http(request: Request, failure: HTTPException) -> Response:
        sentences = {
            404: NOTHING_THERE,
            405: "this address does not take this method",
        }
        headers = {name.lower(): value for name, value in (failure.headers or {}).items()}
        if failure.status_code == 405:
            headers["allow"] = ", ".join(sorted(_methods(request.scope)))
        return problem(
            Refused(failure.status_code, f"http-{failure.status_code}", sentences.get(failure.status_code, str(failure.detail)), headers)
        )

    @api.exception_handler(OpenAMIError)
    def our_store(request: Request, failure: OpenAMIError) -> Response:
        log.error("%s cannot be answered: %s", request.url.path, failure)
        return problem(
            Refused(503, "not-available", "the stored data cannot be read just now; nothing was changed; try again", {"retry-after": "30"})
        )

    @api.exception_handler(Exception)
    def our_fault(request: Request, failure: Exception) -> Response:
        return problem(Refused(500, "our-mistake", "something went wrong on our side; nothing was changed; the operator's log says more"))


def _methods(scope: Scope) -> set[str]:
    """The methods that the address takes, over all routes that have its path."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    own = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return {method for route in own for method in route.methods or ()}


def _described(api: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, with the security schemes and the problem's schema."""
    if api.openapi_schema is None:
        found = get_openapi(
            title="OpenAMI",
            version=__version__,
            openapi_version="3.1.0",
            routes=api.routes,
            description="The open AMI platform. Instants are ISO 8601 with their offset; energies are Wh, money is paise; null = unknown or absent.",
            servers=[{"url": "/api/v1"}],
        )
        parts = found.setdefault("components", {})
        schemas = parts.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token from /oauth/token."}
        }
        found["security"] = [{"bearer": []}]
        for path in found["paths"].values():
            for operation in path.values():
                operation["security"] = [{"bearer": []}]
        api.openapi_schema = found
    return api.openapi_schema


class _Limited:
    """Refuses those who ask too often (429), and bodies that are too large (413); says how much is left (RateLimit fields)."""

    def __init__(self, app: ASGIApp, limit: Limit, gate: Gate) -> None:
        self._app, self._limit, self._gate = app, limit, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        asker = request.headers.get("authorization") or request.cookies.get("openami-session") or address_of(request)
        standing = self._limit.take(hashlib.sha256(asker.encode()).hexdigest()[:32])
        told = [(b"ratelimit-limit", b"%d" % standing.limit), (b"ratelimit-remaining", b"%d" % standing.left)]
        told.append((b"ratelimit-reset", b"%d" % standing.again_s))

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *told]
            await send(message)

        length = request.headers.get("content-length", "0")
        if not standing.allowed:
            sentence = f"too many requests at once; wait {standing.again_s} s"
            await problem(Refused(429, "too-often", sentence, {"retry-after": str(standing.again_s)}))(scope, receive, telling)
        elif length.isdigit() and int(length) > BODY_MOST:
            await problem(Refused(413, "too-much", f"a body may have {BODY_MOST} bytes; ask in parts"))(scope, receive, telling)
        else:
            await self._app(scope, receive, telling)


class _Tagged:
    """An ETag for every JSON answer to GET, and 304 where the asker has it already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        held = Request(scope).headers.get("if-none-match", "")
        begun: Message | None = None
        body: list[bytes] = []

        async def tagging(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                if message["status"] == 200 and headers.get(b"content-type", b"").startswith(b"application/json"):
                    begun = message
                else:
                    await send(message)
                return
            if begun is None:
                await send(message)
                return
            body.append(message.get("body", b""))
            if message.get("more_body"):
                return
            whole = b"".join(body)
            tag = b'"' + hashlib.sha256(whole).hexdigest()[:32].encode() + b'"'
            kept = [*begun["headers"], (b"etag", tag), (b"cache-control", b"private, no-cache")]
            if tag.decode() in [one.strip().removeprefix("W/") for one in held.split(",")]:
                kept = [(name, value) for name, value in kept if name not in (b"content-length", b"content-type")]
                await send({**begun, "status": 304, "headers": kept})
                await send({"type": "http.response.body", "body": b""})
                return
            await send({**begun, "headers": kept})
            await send({"type": "http.response.body", "body": whole})

        await self._app(scope, receive, tagging)
