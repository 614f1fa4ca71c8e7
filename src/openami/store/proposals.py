"""What one person has proposed and a second must agree to; and answers kept under idempotency keys, so that a request sent twice acts once.

What always holds: nobody decides on what they proposed themselves; a proposal is decided once; a key that comes again with another request is
refused, with the same one it gets the same answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..errors import RequestError
from .keys import MasterKey
from .rows import Rows
from .sql import TEXT, metadata

ANSWERS_KEPT_S = 86_400
BEING_DONE = 0
"""The status of a request that was claimed and has no answer yet."""
PROPOSAL_LIVES_S = 86_400

proposal = sa.Table(
    "proposal",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("what", TEXT, nullable=False),
    sa.Column("subjects", TEXT, nullable=False),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("why", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("state", TEXT, nullable=False, index=True),
    sa.Column("decided_by", TEXT),
    sa.Column("decided_s", sa.BigInteger),
)
kept_answer = sa.Table(
    "kept_answer",
    metadata,
    sa.Column("who", TEXT, primary_key=True),
    sa.Column("key", TEXT, primary_key=True),
    sa.Column("request_digest", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", TEXT, nullable=False),
    sa.Column("at_s", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """subjects: meters' serial numbers; state: "waiting", "approved", "refused"; one that waited a day is as good as refused."""

    id: str
    what: str
    subjects: tuple[str, ...]
    who: str
    why: str
    made_s: int
    state: str = "waiting"
    decided_by: str | None = None
    decided_s: int | None = None


class Proposals:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def make(self, what: str, subjects: tuple[str, ...], who: str, why: str, now_s: int) -> Proposal:
        made = Proposal(f"P{secrets.token_hex(8)}", what, subjects, who, why, now_s)
        row = {name: getattr(made, name) for name in ("id", "what", "who", "why", "made_s", "state")}
        with self._rows.begin(writing=True) as connection:
            connection.execute(proposal.insert(), row | {"subjects": json.dumps(subjects)})
        return made

    def find(self, number: str) -> Proposal | None:
        with self._rows.begin() as connection:
            row = connection.execute(sa.select(proposal).where(proposal.c.id == number)).first()
        return None if row is None else _proposal(row)

    def page(self, after: tuple[int, str] | None, limit: int) -> list[Proposal]:
        """Newest first; after: (made_s, id) of the last one seen."""
        query = sa.select(proposal).order_by(proposal.c.made_s.desc(), proposal.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(sa.tuple_(proposal.c.made_s, proposal.c.id) < sa.tuple_(*map(sa.literal, after)))
        with self._rows.begin() as connection:
            return [_proposal(row) for row in connection.execute(query)]

    def decide(
        self, number: str, approve: bool, who: str, now_s: int, act: Callable[[sa.Connection, Proposal], None] | None = None
    ) -> Proposal:
        """RequestError where it is not there, is decided already, is too old, or was made by `who`. act: what follows from an approval, in the same
        transaction: either both stand, or neither."""
        with self._rows.begin(writing=True) as connection:
            row = connection.execute(sa.select(proposal).where(proposal.c.id == number)).first()
            if row is None:
                raise RequestError(f"there is no proposal {number}")
            if row.who == who:
                raise RequestError(f"proposal {number} is your own; a second person must decide on it")
            if row.state != "waiting":
                raise RequestError(f"proposal {number} was {row.state} already")
            if now_s - row.made_s > PROPOSAL_LIVES_S:
                raise RequestError(f"proposal {number} has waited for more than a day; propose it anew")
            values = {"state": "approved" if approve else "refused", "decided_by": who, "decided_s": now_s}
            connection.execute(proposal.update().where(proposal.c.id == number).values(**values))
            after = _proposal(connection.execute(sa.select(proposal).where(proposal.c.id == number)).one())
            if approve and act is not None:
                act(connection, after)
            return after


class KeptAnswers:
    """Answers under idempotency keys, for a day; wrapped, because an answer may hold a secret that is shown once."""

    def __init__(self, rows: Rows, master: MasterKey) -> None:
        self._rows, self._master = rows, master

    def claim(self, who: str, key: str, digest: bytes, now_s: int) -> tuple[int, Any] | None:
        """(status, answer) of the same request before; status BEING_DONE = somebody is at it. None = it is new and now the asker's to do, who must
        `keep` its answer or `release` it. RequestError where the key belongs to another request."""
        own = sa.and_(kept_answer.c.who == who, kept_answer.c.key == key)
        with self._rows.begin(writing=True) as connection:
            connection.execute(kept_answer.delete().where(kept_answer.c.at_s <= now_s - ANSWERS_KEPT_S))
            row = connection.execute(sa.select(kept_answer).where(own)).first()
            if row is None:
                mine = {"who": who, "key": key, "request_digest": digest, "status": BEING_DONE, "answer": "null", "at_s": now_s}
                connection.execute(kept_answer.insert(), mine)
                return None
        if row.request_digest != digest:
            raise RequestError("this idempotency key was used for another request; give a new key")
        return row.status, json.loads(row.answer if row.status == BEING_DONE else self._master.unwrap_secret(bytes.fromhex(row.answer)))

    def keep(self, who: str, key: str, status: int, answer: Any) -> None:
        """What came of a request that was claimed."""
        own = sa.and_(kept_answer.c.who == who, kept_answer.c.key == key)
        wrapped = self._master.wrap_secret(json.dumps(answer).encode()).hex()
        with self._rows.begin(writing=True) as connection:
            connection.execute(kept_answer.update().where(own).values(status=status, answer=wrapped))

    def release(self, who: str, key: str) -> None:
        """A request that was claimed and refused: it may come again under the same key."""
        own = sa.and_(kept_answer.c.who == who, kept_answer.c.key == key, kept_answer.c.status == BEING_DONE)
        with self._rows.begin(writing=True) as connection:
            connection.execute(kept_answer.delete().where(own))


def _proposal(row: Any) -> Proposal:
    return Proposal(
        row.id, row.what, tuple(json.loads(row.subjects)), row.who, row.why, row.made_s, row.state, row.decided_by, row.decided_s
    )
