"""The whole web app of a data folder: the console, sign-in, OAuth, the API and what gateways tell, behind one gate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from ..notices.senders import load_senders
from ..payments.desk import PaymentDesk
from ..payments.gateways import Gateway, load_gateways
from ..payments.http import payments_router
from ..store.lookup import Reach
from ..store.outbox import Outbox
from ..supply.paying import payment_desk
from . import external, oauth
from .access import SECOND_FACTOR
from .ahead import Ahead
from .api import create_api
from .app import create_app
from .carriers import carriers_router, signing
from .consumer.recharge import Payer
from .consumer.routes import add_consumer_pages
from .control_room import open_control_room
from .demo_people import DEMO_PEOPLE, PARTNER, demo_password
from .gate import Gate
from .hooks import Hooks
from .reader import LakeTown
from .settings import code_sender, load_settings


def open_house(town: LakeTown) -> FastAPI:
    """The app of `town`, as its folder's `sign_in.toml` and `gateways.toml` say. While it runs, it tells webhooks what happens, and
    reads the latest day ahead; `app.state.ahead.begin()` does so before it runs."""
    settings = load_settings(town.folder.root)
    gate = Gate(town, demo=town.folder.is_simulated(), public_url=settings.public_url, webhook_hosts=settings.webhook_hosts)
    if gate.tokens is not None:
        gate.tokens.external = settings.external
    hooks = Hooks(gate, lambda: town.site)
    api = create_api(town, lambda: town.site, gate)
    ahead = Ahead(
        town,
        (
            lambda: app.state.room.standing.now(Reach(everything=True), lambda: gate.now_s),
            lambda: app.state.console.make_out(),
            town.look_at_names,
            town.look_at_a_meter,
            api.openapi,
            lambda: _find_the_way(app),
        ),
        (lambda: api.state.running.ahead(town.site, gate.now_s),),
    )

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        for beside in (hooks, ahead):
            beside.start()
        yield
        for beside in (hooks, ahead):
            await run_in_threadpool(beside.stop)

    app = create_app(town, gate, code_sender(settings.send_codes), running)
    app.state.ahead = ahead
    gateways = load_gateways(town.folder.root)
    add_consumer_pages(app, town, _payer(town, gateways))  # first of all: the pages asked for most
    app.include_router(oauth.router)
    app.include_router(external.router)
    app.mount("/api/v1", api)
    if gateways:
        app.include_router(payments_router(payment_desk(town.site), gateways))
    if carriers := signing(load_senders(town.folder.root)):
        app.include_router(carriers_router(lambda: Outbox(town.site.rows.database), carriers, lambda: gate.now_s))
    open_control_room(app, town)
    app.state.running = api.state.running  # one reckoning for pages and programs
    return app


def _payer(town: LakeTown, gateways: Mapping[str, Gateway]) -> Payer:
    """How consumers pay: by the first gateway that can be asked; in a simulated town that has none, by one of ours that moves no money."""

    def desk() -> PaymentDesk:
        return payment_desk(town.site)

    asked = next((one for one in gateways.values() if one.address), None)
    if asked is None and town.folder.is_simulated():
        return Payer(Gateway("simulated", "", (town.master.mac("gateway", b"simulated"),)), desk, simulated=True)
    return Payer(asked, desk)


def _find_the_way(app: FastAPI) -> None:
    """Ask for what is not there: the framework puts a route together when an address is first compared with it."""

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for path in ("/nowhere", "/api/v1/nowhere"):
                await client.get(path)

    asyncio.run(ask())


def demo_credentials(app: FastAPI) -> list[tuple[str, str]]:
    """(name, password) of the demo people who need no second factor, and of the demo program; empty where the meters are real."""
    gate: Gate = app.state.gate
    if not gate.demo:
        return []
    by_name = [name for name, one in DEMO_PEOPLE.items() if one.role not in SECOND_FACTOR]
    return [(name, demo_password(gate, name)) for name in (*by_name, PARTNER)]
