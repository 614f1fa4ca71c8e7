"""A small town with two closed days, its whole web app, and clients in whose hands the tokens of its people lie."""

from __future__ import annotations

import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

import sqlalchemy as sa
from argon2 import PasswordHasher
from fastapi import FastAPI

from day.sites import DAYS, FIRST, make_site, pushes
from openami.control.order import Order, What
from openami.day import Site, close_all, collect
from openami.day.findings import record
from openami.day.found import Found, OutageRow
from openami.fleet.town import build_town, measure
from openami.registry import NodeKind
from openami.store.complaints import About, Complaints
from openami.store.deployment import Folder
from openami.store.heard import Heard, MeterEvent
from openami.store.lookup import Reach
from openami.store.order_book import OrderBook
from openami.store.people import GrantKind
from openami.store.rows import usage_point
from openami.store.sessions import form_token
from openami.web.access import Right
from openami.web.demo_people import make_demo_people
from openami.web.gate import Gate
from openami.web.house import open_house
from openami.web.reader import LakeTown
from openami.web.tokens import ACCESS_LIVES_S

BASE = "http://testserver"
EVERYTHING = tuple(str(right) for right in Right)
FRAMES_LOST = 40
CONSUMERS = 40
"""Enough for two feeders."""
GASP, BREATH, DARK_S = 85, 86, 120
"""The bits of a last gasp and a first breath, and how long it was dark between them."""


@dataclass
class House:
    """app: the whole web app; own, other: two accounts with their meters and usage points, on different feeders."""

    app: FastAPI
    gate: Gate
    site: Site
    folder: Path
    own: dict[str, str]
    other: dict[str, str]

    def token(
        self, name: str, scopes: tuple[str, ...] = EVERYTHING, program: str = "", issuer: str = BASE, lives_s: int = ACCESS_LIVES_S
    ) -> str:
        assert self.gate.tokens is not None
        return self.gate.tokens.access(issuer, name, program, scopes, lives_s)

    @property
    def api(self) -> FastAPI:
        """The API, as it is mounted."""
        mounted: FastAPI = next(route.app for route in self.app.routes if getattr(route, "path", "") == "/api/v1")  # type: ignore[attr-defined]
        return mounted

    def browser(self, name: str = "", **how: bool) -> TestClient:
        """A browser in which `name` has signed in; "" = nobody."""
        made = TestClient(self.app, base_url=BASE, follow_redirects=False, **how)
        if name:
            token = self.gate.sessions.begin(name, self.gate.now_s, "testclient")
            made.cookies.set("openami-session", token)
            made.headers["x-form-token"] = form_token(token)
        return made

    def made_for(self, method: str, path: str, held: dict[str, str]) -> dict[str, str]:
        """A thing of its own for a route that uses one up."""
        gate = self.gate
        if method == "POST" and path.endswith("/withdraw"):
            number = f"T-{secrets.token_hex(4)}"
            OrderBook(self.site.rows).ask(
                Order(number, What.CLOCK, held["account"], held["meter"], gate.now_s, who="test", why="to withdraw")
            )
            return {"order": number}
        if path.endswith("/decision"):
            return {"id": gate.proposals.make("disconnect", (held["meter"],), "operator-second", "to decide on", gate.now_s).id}
        if "/complaints/" in path:
            return {
                "id": Complaints(self.site.rows.database)
                .make(held["account"], About.AMOUNT, f"too much, {secrets.token_hex(4)}", secrets.token_hex(12), gate.now_s)
                .id
            }
        if "/consents/" in path:
            of = "own" if held is self.own else "other"
            return {
                "id": gate.consents.give(held["account"], f"partner-{of}", ("bills",), f"consumer-{of}", gate.now_s, gate.now_s + 60).id
            }
        if "/webhooks/" in path:
            made = gate.webhooks.add("https://example.org/", ("day.closed",), "test", gate.now_s)[0].id
            gate.webhooks.hand_over("days", "0", [("day.closed", f"day-{made}", {})], gate.now_s)
            return {"id": made, "event": f"day-{made}"}
        return {}

    def unlimited(self) -> House:
        """For whoever asks a thousand times: the rate limit is another test's."""
        self.api.state.limit.burst = self.api.state.limit.per_minute = 10**9
        return self

    def client(self, name: str = "", **how: bool) -> TestClient:
        """A client with the token of `name`; "" = nobody's."""
        made = TestClient(self.app, base_url=BASE, follow_redirects=False, **how)
        if name:
            made.headers["authorization"] = f"Bearer {self.token(name)}"
        return made


def build(root: Path) -> House:
    """As `openami demo` leaves it, but without sockets; people of every role, and an order, a proposal and a consent to look at."""
    town = build_town(5, CONSUMERS, FIRST, DAYS, ("BR-DS2", "BR-DS2-TOU"))
    measure(town)
    site = make_site(root, town, pushes(town, lambda number, slot: number == 3 and slot < FRAMES_LOST))
    collect(site)
    close_all(site)
    house = enter(root)
    make_demo_people(house.gate)
    _people(house.gate, house.own, house.other)
    for k, held in enumerate((house.own, house.other)):
        OrderBook(site.rows).ask(
            Order(f"O-{k}", What.CONNECT, held["account"], held["meter"], house.gate.now_s - 60, who="test", why="to look at")
        )
        house.gate.proposals.make("disconnect", (held["meter"],), "operator-second", "to look at", house.gate.now_s)
    return house


def darken(house: House, *transformers: str) -> list[OutageRow]:
    """The last day's homes of these transformers gasped and breathed within two minutes, as was announced; gives the outages that are found of it,
    in the order of the transformers."""
    site = house.site
    day = site.lake.days("validated")[-1]
    at_s = site.calendar.day_start(day) + 20 * 3600 + 100
    homes = [p.meter for p in site.rows.usage_points() if p.transformer in transformers and p.kind is NodeKind.CONSUMER]
    words = [(serial, at_s + bit_s, bit) for serial in homes for bit, bit_s in ((GASP, 0), (BREATH, DARK_S))]
    Heard(site.rows).note(events=[MeterEvent(serial, when, 0, bit, True, "supply", when, "push") for serial, when, bit in words])
    begins, ends = (site.calendar.local(at_s + off).isoformat() for off in (-300, 600))
    told = "".join(f"{name},{begins},{ends}\n" for name in transformers)
    (site.folder.root / "announced_outages.csv").write_text(f"node,start,end\n{told}")
    record(site, [day], anew=True)
    found = {row.node: row for row in Found(site.lake).outages(day)}
    return [found[name] for name in transformers]


def charged(house: House) -> tuple[str, str]:
    """A person and their account, from which the last day took most: whose home has its chart."""
    day = house.site.lake.days("statements")[-1]
    taken = [
        row for shard in house.site.lake.files("statements", day) for row in house.site.lake.read("statements", day, shard).to_pylist()
    ]
    account = max(taken, key=lambda row: row["charges_paise"])["account"]
    if house.gate.people.find("consumer-charged") is None:
        house.gate.people.add("consumer-charged", "consumer", house.gate.now_s)
        house.gate.people.grant("consumer-charged", GrantKind.ACCOUNT, account)
    return "consumer-charged", account


def handed_over(house: House) -> str:
    """The account of `consumer-moved`, whose usage point has had another consumer's meter since the last day."""
    reach = Reach(everything=True)
    account, giver = house.gate.lookup.accounts(reach, "", 6)[3:6:2]
    if house.gate.people.find("consumer-moved") is None:
        name, day = usage_point.c.name, house.site.lake.days("validated")[-1]
        with house.site.rows.begin(writing=True) as connection:
            held = dict(connection.execute(sa.select(usage_point).where(name == account["usage_point"])).one()._mapping)
            both = usage_point.update().where(name.in_([account["usage_point"], giver["usage_point"]]))
            connection.execute(both.values(until=day))
            connection.execute(usage_point.insert(), held | {"meter": giver["meter"], "since": day})
        house.gate.people.add("consumer-moved", "consumer", house.gate.now_s)
        house.gate.people.grant("consumer-moved", GrantKind.ACCOUNT, account["number"])
    return str(account["number"])


def enter(root: Path) -> House:
    """The web app over a folder that `build` has made."""
    town = LakeTown(Folder(root))
    app = open_house(town)
    gate: Gate = app.state.gate
    gate.webhook_hosts = ("127.0.0.1",)
    gate.hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    rows = gate.lookup.accounts(Reach(everything=True), "", 1000)
    elsewhere = next(row for row in rows if row["feeder"] != rows[0]["feeder"])
    own, other = (
        {"account": r["number"], "meter": r["meter"], "point": r["usage_point"], "feeder": r["feeder"], "transformer": r["transformer"]}
        for r in (rows[0], elsewhere)
    )
    return House(app, gate, town.site, root, own, other)


def _people(gate: Gate, own: dict[str, str], other: dict[str, str]) -> None:
    people, now_s = gate.people, gate.now_s
    people.set_division("own", [own["feeder"]])
    people.set_division("other", [other["feeder"]])
    for which, held in (("own", own), ("other", other)):
        for role, kind, subject in (
            ("consumer", GrantKind.ACCOUNT, held["account"]),
            ("installer", GrantKind.JOB, held["point"]),
            ("operator", GrantKind.DIVISION, which),
        ):
            people.add(f"{role}-{which}", role, now_s)
            people.grant(f"{role}-{which}", kind, subject)
        people.add(f"partner-{which}", "partner", now_s)
        gate.consents.give(held["account"], f"partner-{which}", ("bills", "readings"), f"consumer-{which}", now_s, now_s + 86_400)
    for role in ("operator", "auditor", "admin"):
        people.add(role, role, now_s)
        people.grant(role, GrantKind.ALL)
    people.add("operator-second", "operator", now_s)
    people.grant("operator-second", GrantKind.ALL)
