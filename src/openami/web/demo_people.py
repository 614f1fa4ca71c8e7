"""The people of a simulated town: one for each role, made when they are first needed, so that a visitor can look at the house through every door.

What always holds: there are none in a folder whose meters are real; their passwords come of the folder's own master key, so no two folders share
one and none is written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..control.order import What
from ..errors import RequestError
from ..store.clients import Client
from ..store.lookup import Reach
from ..store.people import GrantKind, Person
from .access import SECOND_FACTOR, Right, Role
from .gate import Gate
from .wording import marked

PHONE = "+91 98765 43210"
"""Of the demo consumer; a number that is in every picture of a phone, and sends nothing."""


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """title: as the sign-in page names them; grants: their reach; "first" stands for the first account, point or feeder of the town."""

    role: Role
    title: str
    grants: tuple[tuple[GrantKind, str], ...]


DEMO_PEOPLE: dict[str, DemoPerson] = {
    "demo-operator": DemoPerson(Role.OPERATOR, marked("Operator, the whole town"), ((GrantKind.ALL, "*"),)),
    "demo-division": DemoPerson(Role.OPERATOR, marked("Operator of one division"), ((GrantKind.DIVISION, "North"),)),
    "demo-auditor": DemoPerson(Role.AUDITOR, marked("Auditor, reads only"), ((GrantKind.ALL, "*"),)),
    "demo-admin": DemoPerson(Role.ADMIN, marked("Administrator"), ()),
    "demo-installer": DemoPerson(Role.INSTALLER, marked("Installer with two jobs"), ((GrantKind.JOB, "first"),)),
    "demo-consumer": DemoPerson(Role.CONSUMER, marked("Consumer with two meters"), ((GrantKind.ACCOUNT, "first"),)),
}
PARTNER = "demo-partner"


def enter_as(gate: Gate, name: str) -> Person:
    """The demo person, made if there is none yet."""
    make_demo_people(gate)
    found = gate.people.find(name)
    if found is None:
        raise RequestError(f"there is no demo person {name}")
    return found


def make_demo_people(gate: Gate) -> dict[str, tuple[str, str | None]]:
    """All of them, in a simulated town; gives those that were made just now: name -> (password, TOTP secret or None)."""
    if not gate.demo:
        return {}
    people, lookup = gate.people, gate.lookup
    there = {person.name for person in people.all()}
    made: dict[str, tuple[str, str | None]] = {}
    if DEMO_PEOPLE.keys() <= there:
        return made
    everything = gate.described(Person("", Role.ADMIN, "en", 0, False, False)).reach
    points = _told_most(gate, everything)
    feeders = [row["name"] for row in lookup.feeders()]
    people.set_division("North", feeders[:1])
    for name, who in DEMO_PEOPLE.items():
        if name in there:
            continue
        password = demo_password(gate, name)
        made[name] = (password, people.add(name, who.role, gate.now_s, password=password, totp=who.role in SECOND_FACTOR))
        for kind, subject in who.grants:
            if subject != "first":
                people.grant(name, kind, subject)
                continue
            for row in points:
                people.grant(name, kind, row["account"] if kind is GrantKind.ACCOUNT else row["name"])
    for row in points:
        people.add_phone(PHONE, row["account"])
    if PARTNER not in there:
        people.add(PARTNER, Role.PARTNER, gate.now_s, password=demo_password(gate, PARTNER))
        gate.clients.add(Client(PARTNER, "Energy Advice (demo)", (), (Right.METERS, Right.ACCOUNTS), True))
    return made


def _told_most(gate: Gate, everything: Reach) -> list[dict[str, Any]]:
    """Two consumers' usage points: first those whose supply came back, of whom there is the most to see."""
    restored = [row["account"] for row in gate.lookup.orders(everything, None, 100) if row["what"] == What.CONNECT and row["account"]]
    points = gate.lookup.usage_points(everything, "", 1000, kind="consumer")
    rank = {account: k for k, account in enumerate(reversed(restored))}
    return sorted(points, key=lambda row: -rank.get(row["account"], -1))[:2]


def demo_password(gate: Gate, name: str) -> str:
    return gate.backing.master.mac("demo password", name.encode()).hex()[:16]
