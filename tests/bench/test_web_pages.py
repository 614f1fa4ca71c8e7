"""No page that reads of meters or accounts is forgotten by `bench web`."""

import re

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.houses import build
from openami.bench.web_pages import PAGES

OF_NOBODY = {
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/api/v1/openapi.json",
    "/health",
    "/my/app.webmanifest",
    "/my/sw.js",
    "/oauth/jwks",
    "/static/{}",
    "/sign-in",
    "/sign-in/external",
    "/sign-in/external/back",
    "/sign-in/phone",
}
"""They read nothing of a meter or an account."""
OF_ONESELF = {"/api/v1/me", "/my", "/my/recharge", "/oauth/authorize", "/oauth/end-session", "/oauth/userinfo"}
"""Who is asked, and where one's own pages are."""
NOT_IN_THE_TOWN = {
    "/api/v1/losses/areas",
    "/api/v1/orders/{}",
    "/api/v1/tariffs/{}",
    "/api/v1/webhooks/{}",
    "/api/v1/webhooks/{}/deliveries",
    "/my/{}/recharge/{}",
    "/room/orders/{}",
    "/room/outages/{}/{}/{}",
    "/room/outages/{}/{}/{}/customers.csv",
    "/room/people/{}",
    "/room/tariffs/{}",
}
"""Of one thing, which the town has none of or which is of no meter."""


def shape(path: str) -> str:
    return re.sub(r"[^/]*{[^/]*", "{}", path.partition("?")[0])


def addresses(app: FastAPI, before: str = "") -> set[str]:
    routes = (one for one in iter_route_contexts(app.routes) if isinstance(one.original_route, APIRoute) and "GET" in (one.methods or ()))
    return {shape(before + (one.path or "")) for one in routes}


def test_every_address_is_asked_for_or_of_nobody(tmp_path):
    house = build(tmp_path / "town")
    there = addresses(house.app) | addresses(house.api, "/api/v1")
    asked = {shape(page) for pages in PAGES.values() for page in pages}
    assert there - asked == (OF_NOBODY | OF_ONESELF | NOT_IN_THE_TOWN)
    assert asked <= there
