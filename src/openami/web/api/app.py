"""The API as an application of its own, mounted by the console: its routes, its failures as problems, its limits, its description."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Scope

from ... import __version__
from ...day import Site
from ...errors import OpenAMIError
from ..gate import ForeignForm, Gate, NotAllowed, NotSignedIn
from ..hooks import Figures
from ..limits import Limit
from ..running import RunningDay
from ..townbook import TownReader
from . import bulk, complaints, inspections, live, losses, money, network, readings, sharing, work
from .around import Limited, Methods, Tagged, acceptable, allowed
from .bounds import why_not
from .description import described
from .words import NOT_NOW, NOTHING_THERE, Refused, each_field_once, kind_of, only_known_parameters, problem

log = logging.getLogger(__name__)
BY_TAG = {
    "network": network,
    "losses": losses,
    "readings": readings,
    "bulk": bulk,
    "accounts": money,
    "complaints": complaints,
    "inspections": inspections,
    "orders": work,
    "sharing": sharing,
    "live": live,
}
PARTS = tuple(BY_TAG.values())
ROUTES = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]
PER_MINUTE, AT_ONCE = 600, 200
DESCRIPTION = "/openapi.json"


def create_api(town: TownReader, site: Callable[[], Site], gate: Gate, limit: Limit | None = None) -> FastAPI:
    """site: the data folder as it lies there now; limit: how often anybody may ask, None = 600 a minute, 200 at once."""
    api = FastAPI(
        title="OpenAMI",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(only_known_parameters), Depends(each_field_once), Depends(acceptable)],
        redirect_slashes=False,
    )
    api.state.town, api.state.site, api.state.gate = town, site, gate
    api.state.figures, api.state.running = Figures(), RunningDay()
    api.state.limit = limit or Limit(PER_MINUTE, AT_ONCE, gate.clock)
    for tag, part in BY_TAG.items():
        api.include_router(part.router, tags=[tag])
    api.openapi = lambda: described(api, ROUTES)  # type: ignore[method-assign]

    @api.get(DESCRIPTION, include_in_schema=False)
    def description() -> dict[str, Any]:
        return api.openapi()

    api.add_middleware(Tagged, gate=gate)
    api.add_middleware(Limited, limit=api.state.limit, gate=gate)
    api.add_middleware(Methods, of_path=_methods)
    _failures(api)
    return api


def _failures(api: FastAPI) -> None:
    @api.exception_handler(Refused)
    def refused(request: Request, failure: Refused) -> Response:
        return _told(request, failure)

    @api.exception_handler(NotSignedIn)
    def not_signed_in(request: Request, failure: NotSignedIn) -> Response:
        sentence = "this needs a token (Authorization: Bearer ...) or a session that is still open; get one and try again"
        wrong = ', error="invalid_token"' if "authorization" in request.headers else ""  # RFC 6750, 3.1: only of one that was shown
        return _told(request, Refused(401, "not-signed-in", sentence, {"www-authenticate": f'Bearer realm="openami"{wrong}'}))

    @api.exception_handler(NotAllowed)
    def not_allowed(request: Request, failure: NotAllowed) -> Response:
        return _told(
            request,
            Refused(403, "not-allowed", f"your role, or this token, does not have the right {str(failure.right)!r}; nothing was changed"),
        )

    @api.exception_handler(ForeignForm)
    def foreign(request: Request, failure: ForeignForm) -> Response:
        return _told(request, Refused(403, "form-token", "a session's request to change something needs its form token in X-Form-Token"))

    @api.exception_handler(RequestValidationError)
    def not_usable(request: Request, failure: RequestValidationError) -> Response:
        errors = [{"where": ".".join(str(part) for part in e["loc"])[:120], "why": why_not(e)[:300]} for e in failure.errors()]
        first = errors[0]
        return _told(request, Refused(422, "not-usable", f"{first['where']} {first['why']}", None, errors))

    @api.exception_handler(HTTPException)
    def http(request: Request, failure: HTTPException) -> Response:
        sentences = {
            404: NOTHING_THERE,
            405: f"this address does not take this method; it takes {allowed(_methods(request.scope))}",
            400: "the body is not JSON in UTF-8; see the description at /api/v1/openapi.json",
        }
        headers = {name.lower(): value for name, value in (failure.headers or {}).items()}
        if failure.status_code == 405:
            headers["allow"] = allowed(_methods(request.scope))
        sentence = sentences.get(failure.status_code, str(failure.detail))
        return _told(request, Refused(failure.status_code, kind_of(failure.status_code), sentence, headers))

    @api.exception_handler(OpenAMIError)
    def our_store(request: Request, failure: OpenAMIError) -> Response:
        log.error("%s cannot be answered: %s", request.url.path, failure)
        return _told(request, NOT_NOW)

    @api.exception_handler(Exception)
    def our_fault(request: Request, failure: Exception) -> Response:
        return _told(
            request, Refused(500, "our-mistake", "something went wrong on our side; nothing was changed; the operator's log says more")
        )


def _told(request: Request, refused: Refused) -> Response:
    return problem(refused, request.url.path)


def _methods(scope: Scope) -> set[str]:
    """The methods that the address takes, over all routes that have its path; none = there is no such address."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return {method for route in ROUTES if route.path_regex.match(path) for method in route.methods or ()} or (
        {"GET"} if path == DESCRIPTION else set()
    )
