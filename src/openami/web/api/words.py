"""What all routes of the API share: problems (RFC 9457), pages by cursor, parameters with their bounds, and what a route documents.

What always holds: an answer that is not a success is `application/problem+json` with one clear sentence; a parameter that a route does not know
is refused, never passed over; a cursor is opaque, and one that was not made here is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from fastapi import Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ...day import Site
from ..access import Right, Who
from ..gate import SAFE_METHODS, gate_of, needs
from ..townbook import TownReader

T = TypeVar("T")
R = TypeVar("R")
JSON, PROBLEM = "application/json", "application/problem+json"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"
NAMES = NAME.removesuffix("$") + "(," + NAME[1:-1] + "){0,499}$"
CURSOR = r"^[A-Za-z0-9_-]{1,400}$"
SENTENCE = r"^[^\x00]*[^\s\x00\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff][^\x00]*$"
"""A text with a letter in it that can be seen, and without NUL, which no database takes."""
PAGE_MOST = 500
DAYS_MOST = 366
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
INSTANT = re.compile(DAY.pattern + r"[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})")

Limit = Annotated[int, Query(ge=1, le=PAGE_MOST, description="How many at most.")]
Cursor = Annotated[str | None, Query(pattern=CURSOR, description="`next` of the page before.")]


def _plain_day(given: object) -> object:
    """Only a date as it is written, 2026-01-31: no number of seconds, no time behind it."""
    if isinstance(given, str) and not DAY.fullmatch(given):
        raise ValueError("write a day as 2026-01-31")
    return given


def _plain_instant(given: object) -> object:
    """Only an instant with its offset; a blank stands for the plus that an address makes a blank of."""
    if isinstance(given, str) and not INSTANT.fullmatch(given := given.replace(" ", "+")):
        raise ValueError("write an instant as 2026-01-31T09:30:00+05:30")
    return given


def _whole(given: object) -> object:
    """237.0 is an integer in JSON as 237 is; "237" and true are not."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


Day = Annotated[date, BeforeValidator(_plain_day)]
Since = Annotated[
    datetime | None,
    BeforeValidator(_plain_instant),
    Query(description="Only what is new since then, the oldest first; an instant with its offset.", examples=["2026-01-31T09:30:00Z"]),
]
Whole = Annotated[int, BeforeValidator(_whole)]


class Answer(BaseModel):
    """Of every answer: exactly the fields that are documented."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """What went wrong, and what would be right (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(default="", description="The address that was asked, as a URI reference.")
    errors: list[dict[str, str]] = Field(default=[], description="Where in the request: `where` and `why`.")


class Page(Answer, Generic[T]):
    """Some rows, and the cursor of the next page."""

    items: list[T]
    next: str | None


class Followed(Page[T], Generic[T]):
    """A page of a list that `since` follows."""

    later: str | None


class Refused(Exception):
    """An answer that is not a success. kind: the problem's word; detail: the sentence."""

    def __init__(
        self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None, errors: list[dict[str, str]] | None = None
    ):
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers, self.errors = status, kind, detail, headers, errors


class Missing(Refused):
    """What is not there, or is somebody else's: the same sentence for both. thing: "meter", "order" ...; name: as it was asked for."""

    def __init__(self, thing: str, name: str) -> None:
        super().__init__(404, "not-there", f"there is no {thing} {name} here for you; look at the list".replace("  ", " "))
        self.thing, self.name = thing, name


TITLES = {
    400: "Cannot be read",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not there",
    405: "Not possible here",
    406: "Not in this form",
    409: "Not in this state",
    408: "Too slow",
    412: "Not as it was meant",
    413: "Too much at once",
    415: "Not in this form",
    422: "Cannot be used",
    429: "Too often",
    500: "Our mistake",
    503: "Not available now",
}


NOT_NOW = Refused(503, "not-available", "the stored data cannot be read just now; nothing was changed; try again", {"retry-after": "30"})
KINDS = {400: "not-readable", 404: "no-address", 405: "no-method", 408: "too-slow", 413: "too-much"}
"""The problems that HTTP alone has found."""
NOTHING_THERE = "there is nothing at this address; /api/v1/openapi.json lists what there is"


def kind_of(status: int) -> str:
    return KINDS.get(status, "not-possible")


def problem(refused: Refused, instance: str = "") -> JSONResponse:
    body: dict[str, Any] = {"type": f"urn:openami:problem:{refused.kind}", "title": TITLES.get(refused.status, "Not possible")}
    body |= {"status": refused.status, "detail": refused.detail, "instance": quote(instance), "errors": refused.errors or []}
    headers = {"cache-control": "no-store", "content-language": "en"} | (refused.headers or {})
    return JSONResponse(body, refused.status, media_type=PROBLEM, headers=headers)


def documented(*statuses: int, success: dict[int | str, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """The responses of a route: its own problems beside those that every route has."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    every = {401, 403, 422, 429, 503} | set(statuses)
    found: dict[int | str, dict[str, Any]] = {s: {"description": TITLES[s], "content": {PROBLEM: schema}} for s in sorted(every)}
    return found | (success or {})


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "As it was: the ETag still holds."}}


# -- who ------------------------------------------------------------------------------------------------------------------------------


def api_needs(*rights: Right) -> Any:
    """As `gate.needs`, and: a session's own request to change something brings its form token in `X-Form-Token`."""
    check = needs(*rights)

    def checked(request: Request) -> Who:
        who = check(request)
        if request.method not in SAFE_METHODS and who.session:
            gate_of(request).check_form(request, who, request.headers.get("x-form-token", ""))
        return who

    checked.rights = rights  # type: ignore[attr-defined]  # as the description tells them
    return checked


def town_of(request: Request) -> TownReader:
    town: TownReader = request.app.state.town
    return town


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site()
    return site


async def only_known_parameters(request: Request) -> None:
    """Refuses a query parameter that the route does not have: a misspelt filter must not answer with everything. Notes which list it is."""
    LIST.set(hashlib.sha256(request.url.path.encode()).hexdigest()[:8])
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params}
    if unknown := sorted(set(request.query_params) - known):
        raise Refused(
            422, "unknown-parameter", f"there is no parameter {unknown[0][:60]!r} here; known are {', '.join(sorted(known)) or 'none'}"
        )
    if twice := [name for name in request.query_params if len(request.query_params.getlist(name)) > 1]:
        raise Refused(422, "parameter-twice", f"the parameter {twice[0]!r} comes more than once; give it once")


async def each_field_once(request: Request) -> None:
    """Refuses a body in which a name stands twice: of two meanings of one order, none is carried out (RFC 8259, 4)."""
    if request.method in SAFE_METHODS or not (body := await request.body()):
        return

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise Refused(422, "field-twice", f"the field {twice[0][:60]!r} comes more than once; give it once")
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return  # what is no JSON the route's own reader refuses


# -- pages ----------------------------------------------------------------------------------------------------------------------------


LIST: ContextVar[str] = ContextVar("list", default="")
"""Which list of the API is asked for, as its cursors carry it: one list's cursor means nothing in another, and would skip rows there."""


def cursor_of(*key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([LIST.get(), *key], default=str).encode()).decode().rstrip("=")


def key_of(cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """What a cursor holds; None for none. Refused where it is not one of this list's."""
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(found, list) or found[:1] != [LIST.get()] or [type(part) for part in found[1:]] != list(kinds):
            raise ValueError
        found = found[1:]
        if any(isinstance(part, int) and not -(2**62) < part < 2**62 for part in found) or "\x00" in json.dumps(found).replace(
            "\\u0000", "\x00"
        ):
            raise ValueError
    except (ValueError, UnicodeDecodeError):
        raise Refused(404, "cursor", "there is no page behind this cursor: it is not one of this list; begin without one") from None
    return tuple(found)


def page_of(rows: Sequence[T], limit: int, key: Any) -> tuple[list[T], str | None]:
    """(at most `limit` rows, the cursor behind them); `rows` was asked for with one more than the limit. key: row -> what to go on from."""
    kept = list(rows[:limit])
    return kept, cursor_of(*key(kept[-1])) if len(rows) > limit else None


def followed(
    items: list[T], onward: str | None, start: tuple[Any, ...], rows: Sequence[R], key: Callable[[R], tuple[Any, ...]]
) -> Followed[T]:
    """A page of what is new. rows: those that `items` tell; start: the key behind which it begins, from which it goes on while there is nothing."""
    return Followed(items=items, next=onward, later=onward or cursor_of(*(key(rows[-1]) if rows else start)))


def day_asked(day: date | None, of_cursor: str | None, days: Sequence[date]) -> date | None:
    """The day of a list: as asked for, or of the page before, else the latest; None where there is no such day. A list that was begun goes on
    with its own day when another one is closed meanwhile."""
    begun = next((one for one in days if one.isoformat() == of_cursor), None)
    if of_cursor is not None and (begun is None or day not in (None, begun)):
        raise Refused(404, "cursor", "there is no page behind this cursor: it is of another day; begin without one")
    asked = day or begun or (days[-1] if days else None)
    return asked if asked in days else None


def day_range(first: date | None, last: date | None, days: tuple[date, ...], most: int = DAYS_MOST) -> list[date]:
    """The closed days from `first` to `last`, both included. `last` left out = the latest; `first` left out = the one day. Refused where the range is
    upside down, or holds more than `most` closed days."""
    if not days:
        return []
    end = last or max(days[-1], first or days[-1])
    begin = first or end
    if end < begin:
        raise Refused(404, "range", f"there is no day here: `to` {end} is before `from` {begin}; give them in order")
    found = [day for day in days if begin <= day <= end]
    if len(found) > most:
        raise Refused(422, "range", f"from {begin} to {end} are {len(found)} days, {most} can be given at once; ask for them in parts")
    return found
