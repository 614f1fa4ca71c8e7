"""Sessions of people who have signed in with a browser.

What always holds: the token is known to the browser alone (here lies its digest); a session ends when it was idle too long, when it is too old,
and when its person signs out or is disabled; a form's token is bound to its session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from .people import Person, person
from .rows import Rows
from .sql import TEXT, metadata

IDLE_S = {"consumer": 30 * 86_400}
LONGEST_S = {"consumer": 90 * 86_400}
STAFF_IDLE_S, STAFF_LONGEST_S = 30 * 60, 12 * 3600
SEEN_EVERY_S = 60

session = sa.Table(
    "session",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False, index=True),
    sa.Column("began_s", sa.BigInteger, nullable=False),
    sa.Column("seen_s", sa.BigInteger, nullable=False),
    sa.Column("address", TEXT, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Session:
    person: Person
    began_s: int


class Sessions:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def begin(self, name: str, now_s: int, address: str) -> str:
        """A new session; gives its token, which is shown to nobody else. Ended ones of anybody are swept out."""
        token = secrets.token_urlsafe(32)
        with self._rows.begin(writing=True) as connection:
            connection.execute(session.delete().where(session.c.began_s < now_s - max(LONGEST_S.values())))
            row = {"digest": _digest(token), "name": name, "began_s": now_s, "seen_s": now_s, "address": address}
            connection.execute(session.insert(), row)
        return token

    def find(self, token: str, now_s: int, *, seen: bool = True) -> Session | None:
        """Whose it is, or None where it is unknown or over. Marks it as `seen`, at most once a minute."""
        with self._rows.begin() as connection:
            row = connection.execute(_FIND, {"token_digest": _digest(token)}).first()
        if row is None or row.disabled:
            return None
        over = now_s - row.seen_s > IDLE_S.get(row.role, STAFF_IDLE_S) or now_s - row.began_s > LONGEST_S.get(row.role, STAFF_LONGEST_S)
        if over:
            self.end(token)
            return None
        if seen and now_s - row.seen_s >= SEEN_EVERY_S:
            with self._rows.begin(writing=True) as connection:
                connection.execute(session.update().where(session.c.digest == _digest(token)).values(seen_s=now_s))
        whose = Person(row.name, row.role, row.language, row.since_s, row.totp_wrapped is not None, False)
        return Session(whose, row.began_s)

    def end(self, token: str) -> None:
        with self._rows.begin(writing=True) as connection:
            connection.execute(session.delete().where(session.c.digest == _digest(token)))

    def end_all(self, name: str) -> int:
        """All sessions of a person; how many there were."""
        with self._rows.begin(writing=True) as connection:
            return int(connection.execute(session.delete().where(session.c.name == name)).rowcount)


_FIND = sa.select(session, person).join(person).where(session.c.digest == sa.bindparam("token_digest"))
"""Built once: it is asked for every page."""


def form_token(token: str) -> str:
    """What a form of this session must bring along."""
    return hmac.new(token.encode(), b"openami form", hashlib.sha256).hexdigest()


def is_form_token(token: str, given: str) -> bool:
    return hmac.compare_digest(form_token(token).encode(), given.encode())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
