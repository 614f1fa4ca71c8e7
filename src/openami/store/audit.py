"""The audit trail: who did what, to what, why, and from where; a chain of rows that only grows.

What always holds: no row is changed or removed (triggers of the database refuse it: `migrations/versions/people_0001.py`); each row carries
the SHA-256 over the row before it and its own words, so that a row changed behind the database's back is found (`AuditTrail.broken_at`); no
row holds a password, a code, a key or a consumer's name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from .rows import Rows
from .sql import TEXT, metadata

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
audit_trail = sa.Table(
    "audit_trail",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("at_s", sa.BigInteger, nullable=False),
    sa.Column("who", TEXT, nullable=False, index=True),
    sa.Column("role", TEXT, nullable=False),
    sa.Column("action", TEXT, nullable=False),
    sa.Column("subject", TEXT, nullable=False, index=True),
    sa.Column("why", TEXT, nullable=False),
    sa.Column("address", TEXT, nullable=False),
    sa.Column("outcome", TEXT, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. at_s: UTC seconds; who: a person's or client's name, "" = nobody signed in; action: as "order.ask"; subject: what it was done
    to; why: the reason given, "" where none is asked for; address: where the request came from; outcome: "done", "refused", "waiting"."""

    at_s: int
    who: str
    role: str
    action: str
    subject: str = ""
    why: str = ""
    address: str = ""
    outcome: str = "done"


class AuditTrail:
    """The audit trail of one registry database."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def note(self, entry: Entry) -> int:
        """One line more; gives its number."""
        with self._rows.begin(writing=True) as connection:
            return note_in(connection, entry)

    def latest(
        self, limit: int, before: int | None = None, who: str | None = None, action: str | None = None, subject: str | None = None
    ) -> list[tuple[int, Entry]]:
        """(number, line), newest first, at most `limit`; before: only lines older than this number."""
        wanted = [
            audit_trail.c[name] == value for name, value in (("who", who), ("action", action), ("subject", subject)) if value is not None
        ]
        if before is not None:
            wanted.append(audit_trail.c.id < before)
        query = sa.select(audit_trail).where(*wanted).order_by(audit_trail.c.id.desc()).limit(limit)
        with self._rows.begin() as connection:
            return [(row.id, _entry(row)) for row in connection.execute(query)]

    def broken_at(self) -> int | None:
        """The number of the first line that is not what was written, or whose predecessor is gone; None = the chain is whole."""
        chain = b""
        with self._rows.begin() as connection:
            for row in connection.execute(sa.select(audit_trail).order_by(audit_trail.c.id)):
                chain = _link(chain, _entry(row))
                if chain != row.chain:
                    return int(row.id)
        return None


def note_in(connection: sa.Connection, entry: Entry) -> int:
    """One line more, within a writing transaction: what is done and that it was done stand or fall together."""
    last = connection.execute(sa.select(audit_trail.c.chain).order_by(audit_trail.c.id.desc()).limit(1)).scalar()
    values = asdict(entry) | {"chain": _link(last or b"", entry)}
    made = connection.execute(audit_trail.insert().returning(audit_trail.c.id), values)
    return int(made.scalar_one())


def _link(before: bytes, entry: Entry) -> bytes:
    return hashlib.sha256(before + json.dumps(asdict(entry), sort_keys=True, ensure_ascii=False).encode()).digest()


def _entry(row: Any) -> Entry:
    return Entry(row.at_s, row.who, row.role, row.action, row.subject, row.why, row.address, row.outcome)
