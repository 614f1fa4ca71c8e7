"""Who gets what: every route asked by every kind of person, compared with the table in docs/access.md, which this test also writes.

    OPENAMI_WRITE_TABLE=1 pytest tests/api/test_access.py

`own` and `other` stand for what lies within and outside of the asker's reach; "-" where the route names nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from .houses import House, build, darken

TABLE = Path(__file__).resolve().parents[2] / "docs" / "access.md"
ASKERS = {
    "nobody": "",
    "consumer": "consumer-own",
    "installer": "installer-own",
    "partner": "partner-own",
    "division": "operator-own",
    "operator": "operator",
    "auditor": "auditor",
    "admin": "admin",
}
BODIES = {
    "/orders": {"what": "clock", "meters": ["{meter}"], "why": "to compare with the table"},
    "/orders/{order_id}/withdraw": {"why": "to compare with the table"},
    "/proposals/{number}/decision": {"approve": False},
    "/complaints/{number}/answer": {"answer": "looked into"},
    "/inspections": {"meter": "{meter}", "result": "innocent", "day": "2025-12-03"},
    "/consents": {"account": "{account}", "partner": "partner-own", "purposes": ["bills"], "days": 3},
    "/webhooks": {"url": "http://127.0.0.1:9/", "events": ["day.closed"]},
    "/webhooks/{number}/secret": {},
}
FORMS = {
    "/room/complaints/{number}": {"reply": "looked into"},
    "/room/suspects": {"meter": "{meter}", "result": "innocent"},
    "/me/consents": {"account": "{account}", "partner": "partner-own", "purpose": "bills", "days": "3"},
}
NOBODYS = {
    "/api/v1/tariffs/{name}",
    "/room/tariffs/{name}",
    "/static/{name}",
    "/room/people/{name}",
    "/api/v1/service-levels/{day}",
    "/api/v1/webhooks/{number}",
    "/api/v1/webhooks/{number}/deliveries",
    "/api/v1/webhooks/{number}/deliveries/{event}/again",
    "/api/v1/webhooks/{number}/secret",
}
"""Routes that name what belongs to no consumer."""
PAGES_THAT_DO = {"/sign-in", "/sign-in/demo", "/sign-in/phone", "/sign-in/code", "/oauth/token", "/oauth/revoke"}
"""POST routes that nobody signed in is meant to use; they have tests of their own."""
HEAD = """# Who gets what

Written by `tests/api/test_access.py` from real answers, and compared with them on every run. Rows are routes, columns are who asks: **own** is what
lies within the asker's reach, **other** what does not; a dash stands where a route names nothing of its own. 200, 201, 202 and 204: done. 303: sent
to the sign-in page, or to one's own. 401: not signed in. 403: not for this role. 404: not there, or not for you: nobody can tell which.
409, 422: allowed, and refused for another reason (nothing to withdraw, one's own proposal, an address that may not be told).
"""
NAMED = re.compile(r"{(\w+)}")


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of whatever the app answers, HEAD left out; what is mounted in it is another app's."""
    found = [one for one in iter_route_contexts(app.routes) if isinstance(one.original_route, APIRoute)]
    return [(method, one.path or "") for one in found for method in one.methods or () if method != "HEAD"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    house = build(tmp_path_factory.mktemp("table") / "data").unlimited()
    outages = darken(house, house.own["transformer"], house.other["transformer"])
    for held, one in zip((house.own, house.other), outages, strict=True):
        held |= {"shard": str(one.shard), "outage": str(one.number)}
    lines = [HEAD, "## The API", "", _heading()]
    lines += [_row(house, method, f"/api/v1{path}", api=True) for method, path in sorted(_routes(house.api))]
    lines += ["", "## Pages", "", _heading()]
    pages = sorted(_routes(house.app), key=lambda one: (one[1], one[0]))
    lines += [_row(house, method, path, api=False) for method, path in pages if path not in PAGES_THAT_DO or method == "GET"]
    return "\n".join(lines) + "\n"


def _heading() -> str:
    names = " | ".join(ASKERS)
    return f"| route | what | {names} |\n|---|---|{'---|' * len(ASKERS)}"


def _row(house: House, method: str, path: str, *, api: bool) -> str:
    sent = BODIES.get(path.removeprefix("/api/v1"), "") if method == "POST" else ""
    named = (NAMED.search(path) is not None and path not in NOBODYS) or NAMED.search(str(sent)) is not None or path in FORMS
    lines = []
    for which in ("own", "other") if named else ("-",):
        answers = [str(_ask(house, method, path, who, which, api=api)) for who in ASKERS.values()]
        lines.append(f"| {method} {path} | {which} | {' | '.join(answers)} |")
    return "\n".join(lines)


def _ask(house: House, method: str, path: str, who: str, which: str, *, api: bool) -> int:
    held = house.other if which == "other" else house.own
    fresh = house.made_for(method, path, held)
    names = held | fresh
    values = {
        "serial": names["meter"],
        "number": held["outage"] if "outages" in path else fresh.get("id", names["account"]),
        "shard": held["shard"],
        "account": names["account"],
        "order_id": fresh.get("order", "O-0" if held is house.own else "O-1"),
        "day": "2025-12-02",
        "feeder": held["feeder"],
        "event": fresh.get("event", ""),
        "payment_id": f"W{24 * '0'}",
        "name": _name(path, held),
    }
    url = NAMED.sub(lambda found: values[found[1]], path)
    if url.endswith("/tariffs"):
        url += "?day=2025-12-01"
    if url.endswith("/live"):
        url += "?seconds=0"
    body = BODIES.get(path.removeprefix("/api/v1"))
    client = house.client(who) if api else house.browser(who)
    given = (
        {"json": _filled(body, names), "headers": {"idempotency-key": os.urandom(8).hex()}} if body is not None and method == "POST" else {}
    )
    if method == "POST" and not api:
        given = {"data": _filled(FORMS.get(path, {}), names) | {"csrf_token": client.headers.get("x-form-token", "")}}
    return client.request(method, url, **given).status_code


def _name(path: str, held: dict[str, str]) -> str:
    if "usage-points" in path:
        return held["point"]
    if "transformers" in path:
        return held["transformer"]
    if "/losses/" in path:
        return held["feeder"]
    if "/room/people" in path:
        return "operator-second"
    return "BR-DS2" if "tariffs" in path else held["feeder"] if "feeders" in path else "openami.css"


def _filled(body: Any, names: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {key: _filled(value, names) for key, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, names) for value in body]
    return body.format(**names) if isinstance(body, str) else body


def test_every_route_answers_every_role_as_the_table_says(table: str) -> None:
    if os.environ.get("OPENAMI_WRITE_TABLE"):
        TABLE.write_text(table, encoding="utf-8")
    known = TABLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in table.splitlines() if line not in known] == [], (
        "docs/access.md is behind; write it anew and read the difference"
    )
    assert [line for line in known if line not in table.splitlines()] == []


def test_nobody_gets_anything_but_the_door(table: str) -> None:
    open_to_all = (
        "/health",
        "/static/",
        "/my/app.webmanifest",
        "/my/sw.js",
        "/sign-in",
        "/.well-known/",
        "/oauth/jwks",
        "/api/v1/openapi.json",
    )
    for line in table.splitlines():
        found = re.match(r"\| \w+ (\S+) \| \S+ \| (\d+) ", line)
        if found and not found[1].startswith(open_to_all):
            assert found[2] in ("303", "401"), line


def test_what_is_somebody_elses_is_not_there_for_a_consumer(table: str) -> None:
    """404, never 403, wherever the consumer's role has the route at all."""
    others = [line.split(" | ") for line in table.splitlines() if " | other | " in line]
    checked = 0
    for cells, own in ((c, o) for c in others for o in [_of_own(table, c[0])]):
        if own is not None and own[3] in ("200", "201", "202"):
            assert cells[3] == "404", cells[0]
            checked += 1
    assert checked >= 12


def _of_own(table: str, route: str) -> list[str] | None:
    return next((line.split(" | ") for line in table.splitlines() if line.startswith(f"{route} | own | ")), None)
