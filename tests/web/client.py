"""The test client, without its notice about the next name of its HTTP library; and a console that somebody has signed in to."""

import tempfile
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

from fastapi import FastAPI

from openami.store.keys import MasterKey
from openami.store.people import GrantKind, People
from openami.store.rows import Rows
from openami.store.sessions import Sessions
from openami.web import TownReader, create_app
from openami.web.gate import Gate, Ground

PASSWORD = "a long enough password"


def backing() -> Ground:
    """A registry database of its own, for towns that have none."""
    folder = tempfile.mkdtemp(prefix="openami-test-")
    return Ground(Rows(Path(folder) / "registry.db", create=True), MasterKey(bytes(range(32))))


def console(town: TownReader, gate: Gate | None = None) -> FastAPI:
    """The app, with one operator of the whole town, `operator`, whose password is PASSWORD and who needs no code."""
    gate = gate or Gate(backing())
    people: People = gate.people
    if people.find("operator") is None:
        people.add("operator", "operator", gate.now_s, password=PASSWORD)
        people.grant("operator", GrantKind.ALL)
    return create_app(town, gate)


def entered(app: FastAPI, name: str = "operator", **how: bool) -> TestClient:
    """A client in whose browser `name` has signed in."""
    gate: Gate = app.state.gate
    client = TestClient(app, **how)
    client.cookies.set("openami-session", Sessions(gate.backing.rows).begin(name, gate.now_s, "testclient"))
    return client


def signed_in(town: TownReader, **how: bool) -> TestClient:
    return entered(console(town), **how)


__all__ = ["PASSWORD", "TestClient", "backing", "console", "entered", "signed_in"]
