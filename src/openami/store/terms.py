"""On what terms an account is charged from which day: its tariff, and its contract demand.

What always holds: a term is never changed or removed (triggers hold it); of a day the newest word holds; the tariff in the account's own row is the
last one that was told; what was never told is the tariff of that row since the account began, and a contract demand equal to the sanctioned load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from ..errors import RequestError
from .rows import account
from .sql import TEXT, Database, metadata

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
VA_MAX = 1_000_000_000
BEGAN = "as it began"
"""Why of the row that tells an account's first tariff; it is written with the first change."""
account_term = sa.Table(
    "account_term",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), nullable=False),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("tariff", TEXT),
    sa.Column("contract_va", sa.BigInteger),
    sa.Column("told_s", sa.BigInteger, nullable=False),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("why", TEXT, nullable=False),
)
sa.Index("account_term_account", account_term.c.account, account_term.c.since)


@dataclass(frozen=True, slots=True)
class Change:
    """What is told of an account from the local day `since` on. tariff, contract_va: None = as before."""

    account: str
    since: date
    tariff: str | None = None
    contract_va: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """An account's terms on a day. tariff: None = the registry's; contract_va: None = the sanctioned load; since: the day from which just these
    hold, None = since the account began; until: the day from which others hold, None = none were told."""

    tariff: str | None
    contract_va: int | None
    since: date | None
    until: date | None = None


class TermBook:
    """The terms of one deployment's accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: tuple[int | None, date, Mapping[str, Terms]] = (None, date.min, {})

    def tell(self, changes: Iterable[Change], told_s: int, who: str, why: str) -> int:
        """All or none; gives how many were new (the same told again is not). RequestError by name where there is no such account, it begins later,
        nothing is told, or a contract demand is none."""
        told = 0
        with self._database.begin(writing=True, lock="terms") as connection:
            for change in changes:
                own = _checked(connection, change)
                rows = _rows(connection, account_term.c.account == change.account)
                before = _on(rows, change.since).get(change.account, Terms(None, None, None))
                now = (before.tariff or own.tariff, before.contract_va)
                if (change.tariff or now[0], change.contract_va or now[1]) == now:
                    continue
                if not rows:
                    first = {"account": change.account, "since": own.since, "tariff": own.tariff, "contract_va": None}
                    connection.execute(account_term.insert(), first | {"told_s": told_s, "who": who, "why": BEGAN})
                row = {"account": change.account, "since": change.since, "tariff": change.tariff, "contract_va": change.contract_va}
                connection.execute(account_term.insert(), row | {"told_s": told_s, "who": who, "why": why})
                newest = _on(_rows(connection, account_term.c.account == change.account), date.max)[change.account]
                if newest.tariff is not None and newest.tariff != own.tariff:
                    connection.execute(account.update().where(account.c.number == change.account).values(tariff=newest.tariff))
                told += 1
        return told

    def on(self, day: date) -> Mapping[str, Terms]:
        """account -> its terms on a local day, of those of whom anything was told; kept for the next shard of the day until a word is added."""
        with self._database.begin() as connection:
            newest = connection.scalar(sa.select(sa.func.max(account_term.c.id)))
            kept = self._kept
            if kept[:2] != (newest, day):
                kept = self._kept = newest, day, _on(_rows(connection, sa.true()), day)
            return kept[2]

    def of(self, number: str, day: date) -> Terms | None:
        """An account's terms on a local day; None where nothing was told of it."""
        with self._database.begin() as connection:
            return _on(_rows(connection, account_term.c.account == number), day).get(number)

    def history(self, number: str) -> list[Any]:
        """What was told of an account, by day: since, tariff, contract_va, told_s, who, why. RequestError where there is no such account."""
        with self._database.begin() as connection:
            if connection.execute(sa.select(account.c.number).where(account.c.number == number)).first() is None:
                raise RequestError(f"there is no account {number}; see its number")
            return _rows(connection, account_term.c.account == number)


def _checked(connection: sa.Connection, change: Change) -> Any:
    """The account's row."""
    own = connection.execute(sa.select(account).where(account.c.number == change.account)).first()
    if own is None:
        raise RequestError(f"there is no account {change.account}; see its number")
    if change.since < own.since:
        raise RequestError(f"account {change.account} begins on {own.since}; its terms cannot change on {change.since}")
    if change.tariff is None and change.contract_va is None:
        raise RequestError(f"of account {change.account} nothing is told for {change.since}; give a tariff or a contract demand")
    if change.contract_va is not None and not 0 < change.contract_va <= VA_MAX:
        raise RequestError(f"a contract demand of {change.contract_va} VA of account {change.account} is none; give one above zero")
    return own


def _rows(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Any]:
    own = account_term.c
    return list(connection.execute(sa.select(account_term).where(which).order_by(own.account, own.since, own.id)))


def _on(rows: Iterable[Any], day: date) -> dict[str, Terms]:
    """Of each account, its rows in order: what holds on a day, by the newest word on each thing. What changes nothing begins nothing, and neither
    does what a later word of the same day took back."""
    found: dict[str, Terms] = {}
    for (name, since), words in groupby(rows, lambda row: (row.account, row.since)):
        before = found.get(name)
        after = before or Terms(None, None, None)
        for row in words:
            began = before is None and row.why == BEGAN
            after = Terms(row.tariff or after.tariff, row.contract_va or after.contract_va, None if began else since)
        if before is None:
            found[name] = after if since <= day else Terms(None, None, None, since)
        elif before.until is None and (after.tariff, after.contract_va) != (before.tariff, before.contract_va):
            found[name] = after if since <= day else replace(before, until=since)
    return found
