"""What supply is decided on and what was decided: facts that people told, decisions of the guard with their inputs, the pulse of payment channels.

What always holds: what was told and what was decided only grows (triggers hold it); the newest word on a fact holds; a decision carries
everything that it rested on, so that it can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..errors import InputError
from .sql import TEXT, Database, among, metadata, put, upsert

ANYBODY = "*"
"""In place of an account: whoever nothing was told of by number."""
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
FACTS = {
    "kill_switch_on": bool,
    "life_support": bool,
    "dispute_open": bool,
    "deposited_under_protest": bool,
    "dues_shown_continuously": bool,
    "migration_settled": bool,
    "written_notice_on": str,
}
"""What people tell, and of which type; a date is written as 2025-12-01."""

supply_told = sa.Table(
    "supply_told",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("account", TEXT, nullable=False),
    sa.Column("name", TEXT, nullable=False),
    sa.Column("value", TEXT, nullable=False),
    sa.Column("at_s", sa.BigInteger, nullable=False),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("why", TEXT, nullable=False),
)
sa.Index("supply_told_account", supply_told.c.account, supply_told.c.name)
supply_decision = sa.Table(
    "supply_decision",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("at_s", sa.BigInteger, nullable=False, index=True),
    sa.Column("account", TEXT, nullable=False, index=True),
    sa.Column("meter", TEXT, nullable=False),
    sa.Column("order_id", TEXT, nullable=False, index=True),
    sa.Column("policy", TEXT, nullable=False),
    sa.Column("allowed", sa.Boolean, nullable=False),
    sa.Column("against", TEXT, nullable=False),
    sa.Column("facts", TEXT, nullable=False),
    sa.Column("reasons", TEXT, nullable=False),
)
# up_since_s: null = it is down. seen_s: when it was last looked at.
channel_pulse = sa.Table(
    "channel_pulse",
    metadata,
    sa.Column("channel", TEXT, primary_key=True),
    sa.Column("up_since_s", sa.BigInteger),
    sa.Column("seen_s", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision as it was stored. against: codes that stood in the way, "?" behind one that was not known; facts, reasons: JSON."""

    number: int
    at_s: int
    account: str
    meter: str
    order_id: str
    policy: str
    allowed: bool
    against: str
    facts: str
    reasons: str


class SupplyRows:
    """These tables in one deployment's database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- what people tell -------------------------------------------------------------------------------------------------------

    def tell(self, account: str, name: str, value: bool | str, at_s: int, who: str, why: str) -> None:
        """One fact of an account, or of `ANYBODY`; InputError where the fact is none, has another type, or nobody answers for it."""
        with self.database.begin(writing=True, lock="supply") as connection:
            self.tell_in(connection, account, name, value, at_s, who, why)

    def tell_in(self, connection: sa.Connection, account: str, name: str, value: bool | str, at_s: int, who: str, why: str) -> None:
        """`tell` in a transaction that is open."""
        if name not in FACTS or type(value) is not FACTS[name]:
            raise InputError(f"{name} = {value!r} is no fact that is told; there are {', '.join(FACTS)}, each yes or no, or a date")
        if not who.strip() or not why.strip():
            raise InputError(f"{name} of {account} needs somebody who tells it, and why")
        row = {"account": account, "name": name, "value": json.dumps(value), "at_s": at_s, "who": who, "why": why}
        connection.execute(supply_told.insert(), row)

    def told(self, account: str) -> dict[str, Any]:
        """name -> value, as it was last told of an account, or else of `ANYBODY`."""
        return self.told_of([account])[account]

    def told_of(self, accounts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """`told`, by account."""
        by_account: dict[str, dict[str, Any]] = {}
        with self.database.begin() as connection:
            own = among(connection, supply_told.c.account, [ANYBODY, *accounts])
            for row in connection.execute(sa.select(supply_told).where(own).order_by(supply_told.c.id)):
                by_account.setdefault(row.account, {})[row.name] = json.loads(row.value)
        return {account: by_account.get(ANYBODY, {}) | by_account.get(account, {}) for account in accounts}

    def history(self, account: str) -> list[dict[str, Any]]:
        """All that was ever told of an account, oldest first."""
        query = sa.select(supply_told).where(supply_told.c.account == account).order_by(supply_told.c.id)
        with self.database.begin() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    # -- what was decided -------------------------------------------------------------------------------------------------------

    def keep(self, kept: dict[str, Any]) -> int:
        """One decision; gives its number."""
        with self.database.begin(writing=True, lock="supply") as connection:
            made = connection.execute(supply_decision.insert().returning(supply_decision.c.id), kept)
            return int(made.scalar_one())

    def keep_all(self, kept: Sequence[dict[str, Any]]) -> None:
        """Decisions, all of them or none."""
        if kept:
            with self.database.begin(writing=True, lock="supply") as connection:
                put(connection, supply_decision, kept)

    def newest(self, accounts: Sequence[str]) -> dict[str, tuple[bool, str]]:
        """account -> (allowed, against) of its newest decision, of those that have one."""
        own = supply_decision.c
        with self.database.begin() as connection:
            last = sa.select(sa.func.max(own.id)).where(among(connection, own.account, accounts)).group_by(own.account)
            found = connection.execute(sa.select(own.account, own.allowed, own.against).where(own.id.in_(last)))
            return {row.account: (row.allowed, row.against) for row in found}

    def decision(self, number: int) -> Kept | None:
        with self.database.begin() as connection:
            row = connection.execute(sa.select(supply_decision).where(supply_decision.c.id == number)).first()
        return None if row is None else Kept(*row)

    def decisions(self, account: str | None = None, allowed: bool | None = None, limit: int = 100) -> list[Kept]:
        """Newest first."""
        query = sa.select(supply_decision).order_by(supply_decision.c.id.desc()).limit(limit)
        if account is not None:
            query = query.where(supply_decision.c.account == account)
        if allowed is not None:
            query = query.where(supply_decision.c.allowed == allowed)
        with self.database.begin() as connection:
            return [Kept(*row) for row in connection.execute(query)]

    # -- the pulse --------------------------------------------------------------------------------------------------------------

    def pulse(self, channel: str, up: bool, at_s: int) -> None:
        """A payment channel was looked at: it worked or not."""
        with self.database.begin(writing=True, lock="supply") as connection:
            before = connection.execute(sa.select(channel_pulse).where(channel_pulse.c.channel == channel)).first()
            since = (before.up_since_s if before is not None and before.up_since_s is not None else at_s) if up else None
            row = {"channel": channel, "up_since_s": since, "seen_s": at_s}
            connection.execute(upsert(connection, channel_pulse, row, "channel"))

    def pulses(self) -> dict[str, tuple[int | None, int]]:
        """channel -> (since when it works or None, when it was last looked at)."""
        with self.database.begin() as connection:
            return {row.channel: (row.up_since_s, row.seen_s) for row in connection.execute(sa.select(channel_pulse))}
