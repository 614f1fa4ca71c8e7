"""What consumers complain of, and what became of it; a dispute about an amount also becomes a fact that the disconnection guard reads.

What always holds: what was written stays as it was written, and a form that is sent twice counts once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from .rows import account
from .sql import TEXT, Database, metadata

complaint = sa.Table(
    "complaint",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("account", TEXT, sa.ForeignKey(account.c.number), nullable=False, index=True),
    sa.Column("about", TEXT, nullable=False),
    sa.Column("text", TEXT, nullable=False),
    sa.Column("phone_id", TEXT, nullable=False, unique=True),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("closed_s", sa.BigInteger),
    sa.Column("answer", TEXT, nullable=False),
)


class About(StrEnum):
    """AMOUNT and PAYMENT are disputes: while one is open, supply is not cut for lack of balance."""

    AMOUNT = "amount"
    PAYMENT = "payment"
    SUPPLY = "supply"
    METER = "meter"
    OTHER = "other"


DISPUTES = frozenset({About.AMOUNT, About.PAYMENT})


@dataclass(frozen=True, slots=True)
class Complaint:
    """phone_id: under which the form was sent, so that it counts once; made_s, closed_s: UTC seconds, None = open; answer: "" = none yet."""

    id: str
    account: str
    about: About
    text: str
    made_s: int
    closed_s: int | None
    answer: str

    @property
    def disputes(self) -> bool:
        """Whether it keeps supply from being cut now."""
        return self.about in DISPUTES and self.closed_s is None


class Complaints:
    def __init__(self, database: Database) -> None:
        self.database = database

    def make(self, number: str, about: About, text: str, phone_id: str, now_s: int) -> Complaint:
        """Written down; the same form again gives what was made of it."""
        with self.database.begin(writing=True, lock="complaints") as connection:
            known = connection.execute(sa.select(complaint).where(complaint.c.phone_id == phone_id, complaint.c.account == number)).first()
            if known is None:
                row: dict[str, object] = {"id": f"G{secrets.token_hex(5).upper()}", "account": number, "about": str(about), "text": text}
                row |= {"phone_id": phone_id, "made_s": now_s, "answer": ""}
                connection.execute(complaint.insert(), row)
                known = connection.execute(sa.select(complaint).where(complaint.c.id == row["id"])).one()
        return _read(known)

    def close(self, complaint_id: str, answer: str, now_s: int) -> None:
        """Answered; once."""
        with self.database.begin(writing=True, lock="complaints") as connection:
            mine = (complaint.c.id == complaint_id, complaint.c.closed_s.is_(None))
            connection.execute(complaint.update().where(*mine).values(closed_s=now_s, answer=answer))

    def of_account(self, number: str, limit: int = 50) -> list[Complaint]:
        """Newest first."""
        query = sa.select(complaint).where(complaint.c.account == number).order_by(complaint.c.made_s.desc(), complaint.c.id).limit(limit)
        with self.database.begin() as connection:
            return [_read(row) for row in connection.execute(query)]


def _read(row: sa.Row[tuple[object, ...]]) -> Complaint:
    return Complaint(row.id, row.account, About(row.about), row.text, row.made_s, row.closed_s, row.answer)
