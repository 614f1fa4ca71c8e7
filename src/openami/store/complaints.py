"""What consumers complain of, and what became of it; a dispute about an amount also becomes a fact that the disconnection guard reads.

What always holds: what was written stays as it was written, and a form that is sent twice counts once.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

import sqlalchemy as sa

from ..errors import RequestError
from .lookup import Reach, accounts_within
from .rows import account, usage_point
from .sql import TEXT, Database, among, metadata

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
EVERYBODYS = Reach(everything=True)


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
        """Written down; the same form again, or the same words while they wait for an answer, give what was made of it."""
        waiting = sa.and_(complaint.c.about == str(about), complaint.c.text == text, complaint.c.closed_s.is_(None))
        same = sa.and_(complaint.c.account == number, sa.or_(complaint.c.phone_id == phone_id, waiting))
        with self.database.begin(writing=True, lock="complaints") as connection:
            known = connection.execute(sa.select(complaint).where(same)).first()
            if known is None:
                row: dict[str, object] = {"id": f"G{secrets.token_hex(5).upper()}", "account": number, "about": str(about), "text": text}
                row |= {"phone_id": phone_id, "made_s": now_s, "answer": ""}
                connection.execute(complaint.insert(), row)
                known = connection.execute(sa.select(complaint).where(complaint.c.id == row["id"])).one()
        return _read(known)

    def close(self, complaint_id: str, answer: str, now_s: int) -> Complaint:
        """Answered; once. RequestError where there is no such complaint, or it is closed."""
        with self.database.begin(writing=True, lock="complaints") as connection:
            return self.close_in(connection, complaint_id, answer, now_s)

    def close_in(self, connection: sa.Connection, complaint_id: str, answer: str, now_s: int) -> Complaint:
        """`close` in a transaction that is open."""
        found = connection.execute(sa.select(complaint).where(complaint.c.id == complaint_id)).first()
        if found is None or found.closed_s is not None:
            how = "was closed already" if found is not None else "is not there"
            raise RequestError(f"complaint {complaint_id} {how}; see `openami complaints list`")
        connection.execute(complaint.update().where(complaint.c.id == complaint_id).values(closed_s=now_s, answer=answer))
        return replace(_read(found), closed_s=now_s, answer=answer)

    def find(self, complaint_id: str, reach: Reach = EVERYBODYS) -> Complaint | None:
        """None where there is none, or it lies outside the reach."""
        with self.database.begin() as connection:
            found = connection.execute(sa.select(complaint).where(complaint.c.id == complaint_id, _within(reach))).first()
        return None if found is None else _read(found)

    def open(self, after: tuple[int, str] | None = None, limit: int | None = None, reach: Reach = EVERYBODYS) -> list[Complaint]:
        """Those not yet answered, the oldest first. after: (made_s, id) of the last one seen; limit: None = all."""
        key = sa.tuple_(complaint.c.made_s, complaint.c.id)
        wanted = [complaint.c.closed_s.is_(None), _within(reach)] + ([key > sa.tuple_(*map(sa.literal, after))] if after else [])
        query = sa.select(complaint).where(*wanted).order_by(complaint.c.made_s, complaint.c.id).limit(limit)
        with self.database.begin() as connection:
            return [_read(row) for row in connection.execute(query)]

    def disputing(self, accounts: Collection[str]) -> set[str]:
        """Of these accounts, those with an open dispute."""
        with self.database.begin() as connection:
            own = (among(connection, complaint.c.account, accounts), complaint.c.closed_s.is_(None))
            query = sa.select(complaint.c.account).where(*own, complaint.c.about.in_([str(about) for about in DISPUTES]))
            return set(connection.execute(query).scalars())

    def of_account(self, number: str, limit: int = 50) -> list[Complaint]:
        """Newest first."""
        query = sa.select(complaint).where(complaint.c.account == number).order_by(complaint.c.made_s.desc(), complaint.c.id).limit(limit)
        with self.database.begin() as connection:
            return [_read(row) for row in connection.execute(query)]


def _within(reach: Reach) -> sa.ColumnElement[bool]:
    if reach.everything:
        return sa.true()
    here = sa.and_(usage_point.c.name == account.c.usage_point, usage_point.c.until.is_(None))
    return complaint.c.account.in_(sa.select(account.c.number).join(usage_point, here).where(accounts_within(reach)))


def _read(row: sa.Row[tuple[object, ...]]) -> Complaint:
    return Complaint(row.id, row.account, About(row.about), row.text, row.made_s, row.closed_s, row.answer)
