"""The whole web app of a data folder: the console, sign-in, OAuth and the API behind one gate."""

from __future__ import annotations

from fastapi import FastAPI

from . import external, oauth
from .api import create_api
from .app import create_app
from .demo_people import make_demo_people
from .gate import Gate
from .reader import LakeTown
from .settings import code_sender, load_settings


def open_house(town: LakeTown) -> FastAPI:
    """The app of `town`, as its folder's `sign_in.toml` says. In a simulated town the demo people are made."""
    settings = load_settings(town.folder.root)
    gate = Gate(town, demo=town.folder.is_simulated(), public_url=settings.public_url)
    if gate.tokens is not None:
        gate.tokens.external = settings.external
    if gate.demo:
        make_demo_people(gate)
    gate.webhook_hosts = settings.webhook_hosts
    app = create_app(town, gate, code_sender(settings.send_codes))
    app.include_router(oauth.router)
    app.include_router(external.router)
    app.mount("/api/v1", create_api(town, lambda: town.site, gate))
    return app


__all__ = ["open_house"]
