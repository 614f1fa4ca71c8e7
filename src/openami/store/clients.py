"""Programs that sign in by OAuth 2: where they may send people back to, their codes and refresh tokens, and the keys that sign tokens.

What always holds: a code works once, for ten minutes at most, and only for the program, address and proof key it was made for; a refresh token
works once, and using a spent one again ends the whole family; what is secret lies here as a digest, or wrapped.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from ..errors import RequestError
from .keys import MasterKey
from .people import person
from .rows import Rows
from .sql import TEXT, metadata

CODE_LIVES_S = 120
REFRESH_LIVES_S = 30 * 86_400
LOOPBACK = re.compile(r"http://(?P<host>127\.0\.0\.1|\[::1\])(:(?P<port>[0-9]{1,5}))?(?P<rest>([/?][!-~]*)?)")
"""By number: what `localhost` leads to, another may decide (RFC 8252, 8.3)."""

oauth_client = sa.Table(
    "oauth_client",
    metadata,
    sa.Column("name", TEXT, sa.ForeignKey("person.name"), primary_key=True),
    sa.Column("title", TEXT, nullable=False),
    sa.Column("redirects", TEXT, nullable=False),
    sa.Column("scopes", TEXT, nullable=False),
    sa.Column("confidential", sa.Boolean, nullable=False),
)
oauth_code = sa.Table(
    "oauth_code",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("client", TEXT, sa.ForeignKey("oauth_client.name"), nullable=False),
    sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False),
    sa.Column("redirect", TEXT, nullable=False),
    sa.Column("challenge", TEXT, nullable=False),
    sa.Column("scopes", TEXT, nullable=False),
    sa.Column("nonce", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("signed_in_s", sa.BigInteger),
)
oauth_refresh = sa.Table(
    "oauth_refresh",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("family", TEXT, nullable=False, index=True),
    sa.Column("client", TEXT, sa.ForeignKey("oauth_client.name"), nullable=False),
    sa.Column("name", TEXT, sa.ForeignKey("person.name"), nullable=False),
    sa.Column("scopes", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("spent", sa.Boolean, nullable=False),
)
signing_key = sa.Table(
    "signing_key",
    metadata,
    sa.Column("kid", TEXT, primary_key=True),
    sa.Column("since_s", sa.BigInteger, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Client:
    """A program. redirects: addresses to which a person may be sent back; confidential: it has a secret."""

    name: str
    title: str
    redirects: tuple[str, ...]
    scopes: tuple[str, ...]
    confidential: bool

    def may_send_back_to(self, address: str) -> bool:
        """Whether an address is one of its own, letter by letter. Of a program without a secret the port of this very device may be any: such a
        program listens on what is free when it starts (RFC 8252, 7.3)."""
        if address in self.redirects:
            return True
        asked = None if self.confidential else LOOPBACK.fullmatch(address)
        if asked is None or not 0 < int(asked["port"] or 80) < 1 << 16:
            return False
        own = (LOOPBACK.fullmatch(one) for one in self.redirects)
        return any(one is not None and one.group("host", "rest") == asked.group("host", "rest") for one in own)


@dataclass(frozen=True, slots=True)
class Given:
    """What a code or a refresh token stands for. signed_in_s: when the person did, None = not known any more."""

    client: str
    name: str
    scopes: tuple[str, ...]
    nonce: str = ""
    redirect: str = ""
    challenge: str = ""
    signed_in_s: int | None = None


class Clients:
    def __init__(self, rows: Rows, master: MasterKey) -> None:
        self.rows, self._master = rows, master

    def add(self, client: Client) -> None:
        """`client.name` is the name of a person row (its role, its grants and its secret are there)."""
        row = {"name": client.name, "title": client.title, "redirects": json.dumps(client.redirects), "scopes": " ".join(client.scopes)}
        with self.rows.begin(writing=True) as connection:
            if connection.execute(sa.select(oauth_client.c.name).where(oauth_client.c.name == client.name)).first():
                raise RequestError(f"the program {client.name} is there already")
            connection.execute(oauth_client.insert(), row | {"confidential": client.confidential})

    def find(self, name: str) -> Client | None:
        """None also where it is disabled."""
        query = sa.select(oauth_client).join(person).where(oauth_client.c.name == name, ~person.c.disabled)
        with self.rows.begin() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return Client(row.name, row.title, tuple(json.loads(row.redirects)), tuple(row.scopes.split()), bool(row.confidential))

    def make_code(self, given: Given, now_s: int) -> str:
        code = secrets.token_urlsafe(32)
        row = {name: getattr(given, name) for name in ("client", "name", "redirect", "challenge", "nonce", "signed_in_s")}
        with self.rows.begin(writing=True) as connection:
            connection.execute(oauth_code.delete().where(oauth_code.c.made_s < now_s - CODE_LIVES_S))
            connection.execute(oauth_code.insert(), row | {"digest": _digest(code), "scopes": " ".join(given.scopes), "made_s": now_s})
        return code

    def use_code(self, code: str, now_s: int) -> Given | None:
        """What the code stands for, once; None where it is unknown, used or too old. A code that comes again was stolen by one of the two:
        the refresh tokens that came of it end (RFC 6749, 4.1.2)."""
        with self.rows.begin(writing=True) as connection:
            row = connection.execute(oauth_code.delete().where(oauth_code.c.digest == _digest(code)).returning(*oauth_code.c)).first()
            if row is None:
                connection.execute(oauth_refresh.delete().where(oauth_refresh.c.family == family_of(code)))
        if row is None or now_s - row.made_s > CODE_LIVES_S:
            return None
        return Given(row.client, row.name, tuple(row.scopes.split()), row.nonce, row.redirect, row.challenge, row.signed_in_s)

    def make_refresh(self, given: Given, now_s: int, family: str = "") -> str:
        token = secrets.token_urlsafe(32)
        row = {"digest": _digest(token), "family": family or secrets.token_hex(16), "client": given.client, "name": given.name}
        with self.rows.begin(writing=True) as connection:
            connection.execute(oauth_refresh.delete().where(oauth_refresh.c.made_s < now_s - REFRESH_LIVES_S))
            connection.execute(oauth_refresh.insert(), row | {"scopes": " ".join(given.scopes), "made_s": now_s, "spent": False})
        return token

    def use_refresh(self, token: str, client: str, now_s: int, wanted: tuple[str, ...] = ()) -> tuple[Given, str] | None:
        """(what it stands for, its family), once. A spent token that comes again was stolen by one of the two: its family ends. RequestError, and
        nothing is spent, where more is `wanted` than its scopes."""
        with self.rows.begin(writing=True) as connection:
            row = connection.execute(sa.select(oauth_refresh).where(oauth_refresh.c.digest == _digest(token))).first()
            if row is None or row.client != client or now_s - row.made_s > REFRESH_LIVES_S:
                return None
            if row.spent:
                connection.execute(oauth_refresh.delete().where(oauth_refresh.c.family == row.family))
                return None
            if beyond := sorted(set(wanted) - set(row.scopes.split())):
                raise RequestError(f"{beyond[0]} is not among the scopes of this refresh token; ask for fewer, or sign in anew")
            connection.execute(oauth_refresh.update().where(oauth_refresh.c.digest == row.digest).values(spent=True))
        return Given(row.client, row.name, tuple(row.scopes.split())), row.family

    def revoke(self, token: str, client: str) -> None:
        """End the family of a refresh token of `client`; nothing happens where it is unknown."""
        with self.rows.begin(writing=True) as connection:
            own = (oauth_refresh.c.digest == _digest(token), oauth_refresh.c.client == client)
            family = connection.execute(sa.select(oauth_refresh.c.family).where(*own)).scalar()
            if family is not None:
                connection.execute(oauth_refresh.delete().where(oauth_refresh.c.family == family))

    def revoke_all(self, name: str) -> None:
        """End all refresh tokens and codes that act for a person, and a program's own."""
        with self.rows.begin(writing=True) as connection:
            for table in (oauth_refresh, oauth_code):
                connection.execute(table.delete().where(sa.or_(table.c.name == name, table.c.client == name)))

    def signing_keys(self) -> list[tuple[str, bytes, int]]:
        """(key id, private key in PEM, since when it is there), newest first."""
        with self.rows.begin() as connection:
            rows = connection.execute(sa.select(signing_key).order_by(signing_key.c.since_s.desc(), signing_key.c.kid)).all()
        return [(row.kid, self._master.unwrap_secret(row.wrapped), row.since_s) for row in rows]

    def add_signing_key(self, kid: str, pem: bytes, now_s: int) -> None:
        with self.rows.begin(writing=True) as connection:
            connection.execute(signing_key.insert(), {"kid": kid, "since_s": now_s, "wrapped": self._master.wrap_secret(pem)})


def family_of(code: str) -> str:
    """The family of refresh tokens that a code begins; who has only the family's name cannot make the code of it."""
    return _digest(f"family of {code}").hex()[:32]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
