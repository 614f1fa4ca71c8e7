"""What the API says of itself: OpenAPI 3.1, with each field's meaning and an example, what each route needs, and what webhooks are told.

What always holds: whatever is asked or answered is described in words; a route's rights are those that it checks; an example fits what it is an
example of.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import Field

from ... import __version__
from ..access import Right
from .bounds import CHOICE
from .fields import told
from .words import JSON, PROBLEM, TITLES, Answer, Problem

ABOUT = """Everything that the consoles of an OpenAMI deployment know, for programs.

Energies are integer Wh, money is integer paise, instants are ISO 8601 with their offset, a day is a local calendar day of the deployment's zone;
null = unknown or absent, never 0. A unit stands last in a field's name.

**Lists** come in pages: give `next` as `cursor` to go on; rows that are added meanwhile neither repeat nor hide others.
**Problems** are `application/problem+json` (RFC 9457). Answers to GET carry an **ETag**: `If-None-Match` saves the answer, `If-Match` makes a change
depend on what was seen (412). POST routes that make something need an **Idempotency-Key**. HEAD and OPTIONS are answered everywhere, but HEAD of the
live stream. A parameter or field that is not described here is refused, never passed over."""
TAGS = {
    "network": "Usage points, meters, losses, service levels, quarantine.",
    "losses": "Losses of substations and above, and of the day that is not closed yet.",
    "readings": "Readings, their quality, events.",
    "bulk": "Readings of many meters in one request.",
    "accounts": "Accounts, statements and why they say so, payments, tariffs.",
    "complaints": "What consumers complain of.",
    "inspections": "What visits to meters found.",
    "orders": "Orders to meters, second persons, the audit trail.",
    "sharing": "Who is asking, people, consents, webhooks.",
    "live": "What happens, as it happens.",
}
SCOPES = {
    Right.TOWN: "balance of feeders and transformers, service levels, live figures",
    Right.FRAMES: "quarantine",
    Right.METERS: "usage points, meters, readings, events",
    Right.ACCOUNTS: "accounts, statements, payments",
    Right.ORDERS: "orders and how they stand",
    Right.ORDER: "ask for orders, withdraw them",
    Right.CONSENTS: "let a partner see one's own account, and end it",
    Right.AUDIT: "the audit trail",
    Right.PEOPLE: "who may sign in",
    Right.WEBHOOKS: "who is told what happens",
}
HEADERS = {
    "ETag": ("The tag of this answer.", "string"),
    "RateLimit-Limit": ("How many requests may come at once.", "integer"),
    "RateLimit-Remaining": ("How many more may come at once now.", "integer"),
    "RateLimit-Reset": ("Seconds until the next one may.", "integer"),
    "Retry-After": ("Seconds to wait.", "integer"),
    "Idempotency-Replayed": ("true = this request was done before; the answer is that of then.", "string"),
    "WWW-Authenticate": ("How to sign in.", "string"),
}
LIMITS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


class StepTold(Answer):
    """A step of an order."""

    order_id: str
    what: str
    meter: str
    event: str
    state: str
    at_s: int = Field(description="When it happened, in UTC seconds since 1970.", examples=[1767592200])
    note: str


class DayTold(Answer):
    """A day that was closed, or closed again."""

    day: str = Field(json_schema_extra={"format": "date"})
    version: int = Field(description="Of the balance; the higher one is the later.", examples=[7])


class OrderStepEvent(Answer):
    """`order.step`: something has happened to an order."""

    type: str = Field(pattern=r"^order\.step$", examples=["order.step"], description="What happened.")
    id: str = Field(description="The event's id, the same however often it comes.", examples=["A0123456789ab:XMB0000124-2"])
    data: StepTold = Field(description="The step.")


class DayClosedEvent(Answer):
    """`day.closed`: a day's readings were checked, charged and balanced."""

    type: str = Field(pattern=r"^day\.closed$", examples=["day.closed"], description="What happened.")
    id: str = Field(description="The event's id, the same however often it comes.", examples=["day-2025-12-02-7"])
    data: DayTold = Field(description="The day.")


def described(api: FastAPI, own: list[APIRoute]) -> dict[str, Any]:
    """The whole document, made once. own: the API's routes, as their chapters have them."""
    if api.openapi_schema is None:
        found = get_openapi(
            title="OpenAMI",
            version=__version__,
            openapi_version="3.1.0",
            routes=api.routes,
            description=ABOUT,
            servers=[{"url": "/api/v1"}],
            tags=[{"name": name, "description": what} for name, what in TAGS.items()],
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        _components(found)
        routes = {(method.lower(), route.path): route for route in own for method in route.methods or ()}
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                _operation(operation, method, routes[method, path])
        for name, schema in found["components"]["schemas"].items():
            for field, of in schema.get("properties", {}).items():
                _field(of, name, field)
        found["webhooks"] = {kind: _webhook(kind, model.__name__) for kind, model in TOLD.items()}
        api.openapi_schema = found
    return api.openapi_schema


TOLD: dict[str, type[Answer]] = {"order.step": OrderStepEvent, "day.closed": DayClosedEvent}


def _components(found: dict[str, Any]) -> None:
    parts = found.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    models: list[type[Answer]] = [Problem, *TOLD.values()]
    for model in models:
        made = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= made.pop("$defs", {})
        schemas[model.__name__] = made
    parts["responses"] = {str(status): _problem(status) for status in TITLES if status not in (405, 500)}
    parts["headers"] = {name: {"description": what, "schema": {"type": kind}} for name, (what, kind) in HEADERS.items()}
    flow = {"tokenUrl": "/oauth/token", "refreshUrl": "/oauth/token", "scopes": {str(right): what for right, what in SCOPES.items()}}
    parts["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token from /oauth/token."},
        "oauth2": {
            "type": "oauth2",
            "description": "How to come by a token: for people by code with PKCE (S256), for programs by their own secret.",
            "flows": {"authorizationCode": flow | {"authorizationUrl": "/oauth/authorize"}, "clientCredentials": flow},
        },
    }
    found["security"] = [{"bearer": []}]


def _operation(operation: dict[str, Any], method: str, route: APIRoute) -> None:
    """A route in words: its summary, what it needs, its parameters, and all that it may answer."""
    operation["operationId"] = route.name
    operation["summary"] = re.split(r"[.;:]", operation["description"], maxsplit=1)[0]
    rights = sorted({str(right) for one in route.dependant.dependencies for right in getattr(one.call, "rights", ())})
    operation["security"] = [{"bearer": []}, {"oauth2": rights}]
    for parameter in operation.get("parameters", []):
        _field(parameter["schema"], "path" if parameter["in"] == "path" else "", parameter["name"])
        parameter["description"] = parameter["schema"].pop("description", parameter.get("description", ""))
    responses = operation["responses"]
    always = {406, 412} if method == "get" else {412}
    always |= {400, 408, 413, 415} if "requestBody" in operation else set()
    for status in sorted({str(one) for one in always} | {one for one in responses if one >= "400"}):
        responses[status] = {"$ref": f"#/components/responses/{status}"}
    keyed = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
    for status in [one for one in responses if one < "400"]:
        tagged = method == "get" and route.name != "live"
        more = (["ETag"] if tagged else []) + (["Idempotency-Replayed"] if keyed else [])
        responses[status]["headers"] = _headers(*LIMITS, *more)


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem(status: int) -> dict[str, Any]:
    """An answer that is not a success, for all routes that may give it."""
    more = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": TITLES[status], "headers": _headers(*LIMITS, *more), "content": content}


def _field(schema: dict[str, Any], model: str, field: str) -> None:
    """What a field or parameter means, with an example, and its choices as a list."""
    known = told(model, field)
    if known is not None:
        schema.setdefault("description", known[0])
        if known[1] is not None and "examples" not in schema and _fits(known[1], schema):
            schema["examples"] = [known[1]]
    for one in (schema, schema.get("items", {}), *schema.get("anyOf", [])):
        if choice := CHOICE.fullmatch(one.get("pattern", "")):
            one["enum"] = [word.replace("\\", "") for word in choice[1].split("|")]
            del one["pattern"]


def _fits(example: Any, schema: dict[str, Any]) -> bool:
    """Whether it has the form that is asked for here; the same name may stand for a number of another form in another route."""
    patterns = [one["pattern"] for one in (schema, *schema.get("anyOf", [])) if "pattern" in one]
    return not patterns or (isinstance(example, str) and any(re.search(pattern, example) for pattern in patterns))


def _webhook(kind: str, schema: str) -> dict[str, Any]:
    said = {
        "webhook-id": "The event's id.",
        "webhook-timestamp": "When it was sent, in UTC seconds since 1970.",
        "webhook-signature": "`v1,` and the base64 of HMAC-SHA-256 over `{webhook-id}.{webhook-timestamp}.{body}`; one for each secret that holds, "
        "apart by spaces.",
    }
    parameters = [
        {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}} for name, what in said.items()
    ]
    return {
        "post": {
            "operationId": kind.replace(".", "_"),
            "summary": f"{kind}, as it is told to those who subscribed",
            "tags": ["sharing"],
            "security": [],
            "parameters": parameters,
            "requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}},
            "responses": {"2XX": {"description": "Taken. Anything else: it comes again."}},
        }
    }
