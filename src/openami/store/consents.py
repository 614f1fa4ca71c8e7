"""Consents: a consumer lets a partner's program see an account, for a purpose and a time, and may take it back at any moment.

What always holds: a consent is never deleted, only ended, so that it can be shown later what was allowed when.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from .people import person
from .rows import Rows, account
from .sql import TEXT, metadata

PURPOSES = ("readings", "bills")

consent = sa.Table(
    "consent",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("account", TEXT, sa.ForeignKey(account.c.number), nullable=False, index=True),
    sa.Column("partner", TEXT, sa.ForeignKey(person.c.name), nullable=False, index=True),
    sa.Column("purposes", TEXT, nullable=False),
    sa.Column("given_by", TEXT, sa.ForeignKey(person.c.name), nullable=False),
    sa.Column("given_s", sa.BigInteger, nullable=False),
    sa.Column("until_s", sa.BigInteger, nullable=False),
    sa.Column("ended_s", sa.BigInteger),
)


@dataclass(frozen=True, slots=True)
class Consent:
    """given_s, until_s: from when to when [UTC s]; ended_s: when it was taken back, None = it was not."""

    id: str
    account: str
    partner: str
    purposes: tuple[str, ...]
    given_by: str
    given_s: int
    until_s: int
    ended_s: int | None = None

    def holds(self, now_s: int) -> bool:
        return self.ended_s is None and self.given_s <= now_s < self.until_s


class Consents:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def give(self, number: str, partner: str, purposes: tuple[str, ...], given_by: str, now_s: int, until_s: int) -> Consent:
        made = Consent(f"C{secrets.token_hex(8)}", number, partner, purposes, given_by, now_s, until_s)
        row = {name: getattr(made, name) for name in ("id", "account", "partner", "given_by", "given_s", "until_s")}
        with self._rows.begin(writing=True) as connection:
            connection.execute(consent.insert(), row | {"purposes": " ".join(purposes)})
        return made

    def end(self, number: str, now_s: int) -> None:
        """From now on it holds no more; once."""
        with self._rows.begin(writing=True) as connection:
            connection.execute(consent.update().where(consent.c.id == number, consent.c.ended_s.is_(None)).values(ended_s=now_s))

    def find(self, number: str) -> Consent | None:
        found = self._all(consent.c.id == number)
        return found[0] if found else None

    def of_accounts(self, numbers: list[str]) -> list[Consent]:
        return self._all(consent.c.account.in_(numbers))

    def of_partner(self, partner: str, now_s: int) -> list[Consent]:
        """Those that hold now."""
        holding = (consent.c.ended_s.is_(None), consent.c.given_s <= now_s, consent.c.until_s > now_s)
        return self._all(consent.c.partner == partner, *holding)

    def _all(self, *wanted: sa.ColumnElement[bool]) -> list[Consent]:
        query = sa.select(consent).where(*wanted).order_by(consent.c.given_s.desc(), consent.c.id)
        with self._rows.begin() as connection:
            return [
                Consent(r.id, r.account, r.partner, tuple(r.purposes.split()), r.given_by, r.given_s, r.until_s, r.ended_s)
                for r in connection.execute(query)
            ]
