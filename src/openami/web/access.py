"""Who may do what: roles, their rights, and the reach of each person; pure, so that the whole table can be read and tested at once.

What always holds: a role has the rights that its work needs and no more; what lies outside somebody's reach is answered as if it were not there
(404), what a role may never do is refused (403); a program has at most the rights of its own role, and of the person for whom it acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from ..store.lookup import NOTHING, Reach
from ..store.people import GrantKind


class Role(StrEnum):
    CONSUMER = "consumer"
    INSTALLER = "installer"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"
    PARTNER = "partner"


class Right(StrEnum):
    """What can be asked of the house. The words are also the scopes of OAuth tokens."""

    TOWN = "town"  # balance of feeders and transformers, service levels, silent meters
    FRAMES = "frames"  # quarantine, bytes included
    METERS = "meters"  # usage points, meters, readings, quality, events
    ACCOUNTS = "accounts"  # accounts, statements, explanations, payments
    ORDERS = "orders"  # orders and how they stand
    ORDER = "orders:write"  # ask for orders, withdraw them, agree to another person's
    CONSENTS = "consents"  # let a partner see one's own account, and end it
    AUDIT = "audit"  # the audit trail
    PEOPLE = "people"  # who may sign in, and with which role
    WEBHOOKS = "webhooks"  # who is told what happens


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.CONSUMER: frozenset({Right.METERS, Right.ACCOUNTS, Right.ORDERS, Right.CONSENTS}),
    Role.INSTALLER: frozenset({Right.METERS, Right.ORDERS}),
    Role.OPERATOR: frozenset({Right.TOWN, Right.FRAMES, Right.METERS, Right.ACCOUNTS, Right.ORDERS, Right.ORDER}),
    Role.AUDITOR: frozenset({Right.TOWN, Right.FRAMES, Right.METERS, Right.ACCOUNTS, Right.ORDERS, Right.AUDIT}),
    Role.ADMIN: frozenset({Right.TOWN, Right.AUDIT, Right.PEOPLE, Right.WEBHOOKS}),
    Role.PARTNER: frozenset({Right.METERS, Right.ACCOUNTS}),
}
SECOND_FACTOR = frozenset({Role.OPERATOR, Role.AUDITOR, Role.ADMIN})
"""Roles that sign in with a TOTP code beside their password."""
STAFF = frozenset({Role.INSTALLER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN})
WHOLE = frozenset({Right.FRAMES, Right.AUDIT})
"""Rights over what cannot be cut by feeder: they need the whole deployment as reach."""

DISCONNECTS_ALONE, DISCONNECTS_WINDOW_S = 10, 3600
"""How many disconnections one person may ask for alone within an hour; more needs a second person."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who is asking. name: of the person; program: through which OAuth client, "" = by hand; address: from where."""

    name: str
    role: Role
    rights: frozenset[Right]
    reach: Reach
    language: str = "en"
    program: str = ""
    address: str = ""
    session: str = field(default="", repr=False)

    def may(self, right: Right) -> bool:
        return right in self.rights and (right not in WHOLE or self.reach.everything)

    def sees_point(self, point: str, feeder: str) -> bool:
        return self.reach.has_point(point, feeder)

    def sees_account(self, number: str, feeder: str) -> bool:
        return self.reach.has_account(number, feeder)

    def sees_feeder(self, name: str) -> bool:
        return self.reach.everything or name in self.reach.feeders

    @property
    def acts(self) -> str:
        """As the audit trail names who acts."""
        return f"{self.name} by {self.program}" if self.program and self.program != self.name else self.name


def rights_of(role: str, scopes: Iterable[str] | None = None) -> frozenset[Right]:
    """The rights of a role, cut to `scopes` where a token names them; of an unknown role none."""
    own = RIGHTS[Role(role)] if role in list(Role) else frozenset[Right]()
    return own if scopes is None else own & {Right(scope) for scope in scopes if scope in list(Right)}


def reach_of(
    role: str,
    grants: Iterable[tuple[GrantKind, str]],
    divisions: Mapping[str, list[str]],
    accounts: Mapping[str, tuple[str, date]],
    shared: Mapping[str, frozenset[str]] | None = None,
) -> Reach:
    """What a person of `role` may see.

    divisions: name -> feeders; accounts: account -> (usage point, since), a consumer's own or a partner's by consent; shared: of a partner,
    account -> purposes of the consents that hold. A consumer sees readings from the day on which the account began: what was before is another
    person's life.
    """
    held = list(grants)
    if role in (Role.OPERATOR, Role.AUDITOR, Role.ADMIN):
        if role == Role.ADMIN or (GrantKind.ALL, "*") in held:
            return Reach(everything=True)
        return Reach(feeders=frozenset(f for kind, name in held if kind is GrantKind.DIVISION for f in divisions.get(name, ())))
    if role == Role.INSTALLER:
        return Reach(points={subject: None for kind, subject in held if kind is GrantKind.JOB})
    if role == Role.CONSUMER:
        return Reach(points=_points(accounts, accounts), accounts=frozenset(accounts))
    if role == Role.PARTNER:
        by_purpose = shared or {}
        readable = [number for number in accounts if "readings" in by_purpose.get(number, ())]
        return Reach(
            points=_points(accounts, readable), accounts=frozenset(number for number in accounts if "bills" in by_purpose.get(number, ()))
        )
    return NOTHING


def _points(accounts: Mapping[str, tuple[str, date]], chosen: Iterable[str]) -> dict[str, date | None]:
    """usage point -> the earliest day from which one of the accounts has it."""
    found: dict[str, date | None] = {}
    for number in chosen:
        point, since = accounts[number]
        before = found.get(point)
        found[point] = since if before is None else min(before, since)
    return found
