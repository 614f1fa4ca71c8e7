"""What makes the pages an app: the manifest, the service worker that keeps the last pages, and the headers that let them in.

What always holds: scripts come from this site alone and none stands in a page; what the service worker keeps is gone with signing out; a page
from there says how old it is (`static/consumer.js`).
"""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..parameters import READ, Lang
from ..wording import LANGUAGES, language

router = APIRouter(prefix="/my", include_in_schema=False)
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; manifest-src 'self'; connect-src 'self'; worker-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The content policy of these pages: as everywhere, and scripts, manifest and worker of our own."""


@router.api_route("/app.webmanifest", methods=READ)
def manifest(request: Request, lang: Lang = "") -> Response:
    """How a phone installs it."""
    code = lang if lang in LANGUAGES else "hi"
    say, static = language(code).say, request.app.state.console.static
    told = {
        "name": say("Electricity: balance and use"),
        "short_name": say("Electricity"),
        "id": "/my",
        "start_url": "/my",
        "scope": "/my",
        "display": "standalone",
        "lang": code,
        "background_color": "#ffffff",
        "theme_color": "#12405c",
        "icons": [{"src": f"/static/icon.svg?v={static['icon.svg']}", "sizes": "any", "type": "image/svg+xml", "purpose": "any"}],
        "shortcuts": [{"name": say("Recharge"), "url": "/my/recharge"}],
    }
    return JSONResponse(told, media_type="application/manifest+json", headers={"cache-control": "public, max-age=3600"})


@router.api_route("/sw.js", methods=READ)
def worker() -> Response:
    """Asked again by the browser on its own; a changed one takes the place of the old."""
    body = resources.files("openami.web").joinpath("static", "worker.js").read_bytes()
    headers = {"cache-control": "no-cache", "service-worker-allowed": "/my", "content-security-policy": POLICY}
    return Response(body, media_type="text/javascript; charset=utf-8", headers=headers)
