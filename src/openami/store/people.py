"""People and programs that may sign in: roles, grants, passwords, one-time passwords, phones, and what they tried.

What always holds: passwords lie here as Argon2id alone, TOTP secrets wrapped with the master key, phone numbers as a keyed digest; a TOTP code
works once; a name that does not exist is answered as slowly, and locked out as soon, as one that does; a row is disabled, never deleted,
because the audit trail names it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any

import pyotp
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..errors import InputError, RequestError
from .keys import MasterKey
from .rows import Rows, account
from .sql import TEXT, among, metadata

FREE_FAILURES, FREE_EVERYWHERE = 5, 50
FIRST_LOCK_S, LONGEST_LOCK_S = 60, 3600
"""After five failures from one address a name is locked there for a minute, after each further one for twice as long, up to an hour. After fifty from
anywhere it is locked everywhere, but where it was signed in before: nobody is kept out of their own place by strangers."""
HOME_S = 90 * 86_400
"""How long an address counts as one where a name was signed in."""
DIGEST_MARK = "hmac-sha-256:"
"""Before the keyed digest of a program's secret, where a person's password hash would be."""
TOTP_PERIOD_S = 30
CODE_DIGITS, CODE_LIVES_S, CODE_TRIES, CODE_EVERY_S = 6, 300, 5, 30
PASSWORD_SHORTEST, PASSWORD_LONGEST = 10, 200

person = sa.Table(
    "person",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("role", TEXT, nullable=False),
    sa.Column("language", TEXT, nullable=False),
    sa.Column("password_hash", TEXT),
    sa.Column("totp_wrapped", sa.LargeBinary),
    sa.Column("totp_step", sa.BigInteger, nullable=False),
    sa.Column("phone_digest", sa.LargeBinary, unique=True),
    sa.Column("external_subject", TEXT, unique=True),
    sa.Column("since_s", sa.BigInteger, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Index("person_role", "role", "name"),
)
person_grant = sa.Table(
    "person_grant",
    metadata,
    sa.Column("name", TEXT, sa.ForeignKey("person.name"), primary_key=True),
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("subject", TEXT, primary_key=True),
)
division = sa.Table(
    "division",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), primary_key=True),
)
account_phone = sa.Table(
    "account_phone",
    metadata,
    sa.Column("phone_digest", sa.LargeBinary, primary_key=True),
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
)
sign_in_failure = sa.Table(
    "sign_in_failure",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("locked_until_s", sa.BigInteger, nullable=False),
)
one_time_code = sa.Table(
    "one_time_code",
    metadata,
    sa.Column("phone_digest", sa.LargeBinary, primary_key=True),
    sa.Column("code_digest", sa.LargeBinary, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
)


class GrantKind(StrEnum):
    """ALL: the whole deployment (subject "*"). DIVISION: its feeders. JOB: one usage point. ACCOUNT: one account."""

    ALL = "all"
    DIVISION = "division"
    JOB = "job"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Person:
    """Who may sign in. role: a word of `web.access.Role`; totp: a second factor is set; disabled: may no longer."""

    name: str
    role: str
    language: str
    since_s: int
    totp: bool
    disabled: bool


class SignIn(StrEnum):
    """What came of an attempt. CODE_WANTED: the password is right, the TOTP code is missing."""

    DONE = "done"
    WRONG = "wrong"
    LOCKED = "locked"
    CODE_WANTED = "code_wanted"


@dataclass(frozen=True, slots=True)
class Attempt:
    """outcome, and who it was (only when DONE); again_s: seconds until a locked name may try again."""

    outcome: SignIn
    person: Person | None = None
    again_s: int = 0


# Built once: they are asked for every page.
_GRANTS = sa.select(person_grant).where(person_grant.c.name == sa.bindparam("of")).order_by(person_grant.c.kind, person_grant.c.subject)
_OWN = sa.union(
    sa.select(account_phone.c.account)
    .join(person, person.c.phone_digest == account_phone.c.phone_digest)
    .where(person.c.name == sa.bindparam("of")),
    sa.select(person_grant.c.subject).where(person_grant.c.name == sa.bindparam("of"), person_grant.c.kind == str(GrantKind.ACCOUNT)),
).subquery()
_ACCOUNTS_OF = (
    sa.select(account.c.number, account.c.usage_point, account.c.since)
    .join(_OWN, _OWN.c.account == account.c.number)
    .order_by(account.c.number)
)


class People:
    """Those who may sign in to one deployment. Times are UTC seconds, given by the caller."""

    def __init__(self, rows: Rows, master: MasterKey, hasher: PasswordHasher | None = None) -> None:
        self._rows, self._master, self._hasher = rows, master, hasher or PasswordHasher()

    def add(self, name: str, role: str, now_s: int, *, password: str | None = None, totp: bool = False, language: str = "en") -> str | None:
        """A new person or program; gives the TOTP secret (base32) where one was wanted. RequestError where the name is taken."""
        secret = pyotp.random_base32() if totp else None
        row = {
            "name": _name(name),
            "role": role,
            "language": language,
            "password_hash": None if password is None else self._hash(password),
            "totp_wrapped": self._master.wrap_secret(secret.encode()) if secret else None,
            "totp_step": 0,
            "since_s": now_s,
            "disabled": False,
        }
        with self._rows.begin(writing=True) as connection:
            if connection.execute(sa.select(person.c.name).where(person.c.name == name)).first():
                raise RequestError(f"{name} is there already; choose another name, or change that one")
            connection.execute(person.insert(), row)
        return secret

    def set_password(self, name: str, password: str) -> None:
        self._change(name, password_hash=self._hash(password))

    def new_totp(self, name: str) -> str:
        """A new TOTP secret (base32); the old one is worth nothing from now on."""
        secret = pyotp.random_base32()
        self._change(name, totp_wrapped=self._master.wrap_secret(secret.encode()), totp_step=0)
        return secret

    def disable(self, name: str, disabled: bool = True) -> None:
        self._change(name, disabled=disabled)

    def link(self, name: str, external_subject: str | None) -> None:
        """Who this is at the external issuer."""
        self._change(name, external_subject=external_subject)

    def find(self, name: str) -> Person | None:
        return self._one(person.c.name == name)

    def by_external(self, subject: str) -> Person | None:
        return self._one(person.c.external_subject == subject)

    def all(self) -> list[Person]:
        with self._rows.begin() as connection:
            return [_person(row) for row in connection.execute(sa.select(person).order_by(person.c.name))]

    def of_roles(self, *roles: str, after: str = "", limit: int | None = None) -> list[tuple[Person, list[tuple[GrantKind, str]]]]:
        """Those of these roles by name, from behind `after`, each with what was granted to them: however many others there are."""
        own = sa.select(person).where(person.c.role.in_(roles), person.c.name > after).order_by(person.c.name).limit(limit)
        with self._rows.begin() as connection:
            found = [_person(row) for row in connection.execute(own)]
            granted: dict[str, list[tuple[GrantKind, str]]] = {one.name: [] for one in found}
            given = sa.select(person_grant).where(among(connection, person_grant.c.name, granted))
            for row in connection.execute(given.order_by(person_grant.c.name, person_grant.c.kind, person_grant.c.subject)):
                granted[row.name].append((GrantKind(row.kind), row.subject))
        return [(one, granted[one.name]) for one in found]

    # ---- what a person may reach

    def grant(self, name: str, kind: GrantKind, subject: str = "*") -> None:
        """Once, however often. RequestError where there is no such person."""
        with self._rows.begin(writing=True) as connection:
            if not connection.execute(sa.select(person.c.name).where(person.c.name == name)).first():
                raise RequestError(f"there is no person {name}; add them first")
            own = (person_grant.c.name == name, person_grant.c.kind == str(kind), person_grant.c.subject == subject)
            if not connection.execute(sa.select(person_grant.c.name).where(*own)).first():
                connection.execute(person_grant.insert(), {"name": name, "kind": str(kind), "subject": subject})

    def revoke(self, name: str, kind: GrantKind, subject: str = "*") -> None:
        with self._rows.begin(writing=True) as connection:
            own = (person_grant.c.name == name, person_grant.c.kind == str(kind), person_grant.c.subject == subject)
            connection.execute(person_grant.delete().where(*own))

    def grants(self, name: str) -> list[tuple[GrantKind, str]]:
        with self._rows.begin() as connection:
            return [(GrantKind(row.kind), row.subject) for row in connection.execute(_GRANTS, {"of": name})]

    def set_division(self, name: str, feeders: list[str]) -> None:
        """A division is a set of feeders; none = there is no such division any more."""
        with self._rows.begin(writing=True) as connection:
            connection.execute(division.delete().where(division.c.name == name))
            if feeders:
                connection.execute(division.insert(), [{"name": name, "feeder": feeder} for feeder in feeders])

    def divisions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with self._rows.begin() as connection:
            for row in connection.execute(sa.select(division).order_by(division.c.name, division.c.feeder)):
                found.setdefault(row.name, []).append(row.feeder)
        return found

    # ---- signing in

    def sign_in(self, name: str, password: str, code: str | None, now_s: int, address: str = "") -> Attempt:
        """With a name, a password, and a TOTP code where one is set. A right password without its code counts as no failure. address: where
        from."""
        if again := self._kept_out(f"name:{name}", address, now_s):
            return Attempt(SignIn.LOCKED, again_s=again)
        with self._rows.begin() as connection:
            row = connection.execute(sa.select(person).where(person.c.name == name)).first()
        known = row is not None and row.password_hash is not None and not row.disabled
        right = self._matches(row.password_hash if row is not None and known else _dummy(self._hasher), password) and known
        if row is None or not right:
            return self._wrong(f"name:{name}", address, now_s)
        if row.totp_wrapped is not None:
            if not code:
                return Attempt(SignIn.CODE_WANTED)
            if not self._use_totp(row, code, now_s):
                return self._wrong(f"name:{name}", address, now_s)
        self._at_home(f"name:{name}", address, now_s)
        if self._hasher.check_needs_rehash(row.password_hash):
            self._change(name, password_hash=self._hasher.hash(password))
        return Attempt(SignIn.DONE, _person(row))

    def check_secret(self, name: str, secret: str) -> bool:
        """Whether this is the program's client secret. It is long and random, so nobody guesses it and nobody can lock the program out; once it was
        given, a keyed digest of it lies here, which costs next to nothing to compare."""
        with self._rows.begin() as connection:
            known = connection.execute(sa.select(person.c.password_hash).where(person.c.name == name, ~person.c.disabled)).scalar() or ""
        own = DIGEST_MARK + self._digest("secret", f"{name}:{secret}").hex()
        if known.startswith(DIGEST_MARK):
            return hmac.compare_digest(known.encode(), own.encode())
        if not self._matches(known, secret):
            return False
        self._change(name, password_hash=own)
        return True

    def _use_totp(self, row: Any, code: str, now_s: int) -> bool:
        """Whether the code is of this half minute or a neighbour's, and newer than the last one that was used: it is used up then."""
        totp = pyotp.TOTP(self._master.unwrap_secret(row.totp_wrapped).decode())
        for step in range(now_s // TOTP_PERIOD_S - 1, now_s // TOTP_PERIOD_S + 2):
            if hmac.compare_digest(totp.at(step * TOTP_PERIOD_S).encode(), code.strip().encode()):
                with self._rows.begin(writing=True) as connection:
                    newer = person.update().where(person.c.name == row.name, person.c.totp_step < step).values(totp_step=step)
                    return bool(connection.execute(newer).rowcount)
        return False

    # ---- consumers: a phone and a one-time code

    def add_phone(self, phone: str, account: str) -> None:
        """The account may be seen from this phone; one phone may have several."""
        digest = self._digest("phone", _phone(phone))
        with self._rows.begin(writing=True) as connection:
            own = (account_phone.c.phone_digest == digest, account_phone.c.account == account)
            if not connection.execute(sa.select(account_phone.c.account).where(*own)).first():
                connection.execute(account_phone.insert(), {"phone_digest": digest, "account": account})

    def remove_phone(self, phone: str, account: str) -> None:
        digest = self._digest("phone", _phone(phone))
        with self._rows.begin(writing=True) as connection:
            own = (account_phone.c.phone_digest == digest, account_phone.c.account == account)
            connection.execute(account_phone.delete().where(*own))

    def accounts_of(self, name: str) -> dict[str, tuple[str, date]]:
        """The accounts of a consumer, those of the phone, as they are now, and those granted: number -> (usage point, the day from which the account
        has it), in order."""
        with self._rows.begin() as connection:
            return {row.number: (row.usage_point, row.since) for row in connection.execute(_ACCOUNTS_OF, {"of": name})}

    def make_code(self, phone: str, now_s: int) -> str | None:
        """A fresh one-time code for a phone that has an account; None where it has none, had a code within the last half minute, or had five that
        nobody used: then codes come ever more slowly, so that nobody can fill another's phone. The caller answers the same."""
        digest = self._digest("phone", _phone(phone))
        if self._locked(f"unused:{digest.hex()}", now_s):
            return None
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        with self._rows.begin(writing=True) as connection:
            if not connection.execute(sa.select(account_phone.c.account).where(account_phone.c.phone_digest == digest)).first():
                return None
            made = connection.execute(sa.select(one_time_code.c.made_s).where(one_time_code.c.phone_digest == digest)).scalar()
            if made is not None and now_s - made < CODE_EVERY_S:
                return None
            connection.execute(one_time_code.delete().where(one_time_code.c.phone_digest == digest))
            row = {"phone_digest": digest, "code_digest": self._digest("code", code), "made_s": now_s, "tries": 0}
            connection.execute(one_time_code.insert(), row)
        self._failed(f"unused:{digest.hex()}", now_s)
        return code

    def sign_in_by_code(self, phone: str, code: str, now_s: int, address: str = "") -> Attempt:
        """With the code that was sent to the phone: once, within five minutes, in at most five tries."""
        digest = self._digest("phone", _phone(phone))
        if again := self._kept_out(f"phone:{digest.hex()}", address, now_s):
            return Attempt(SignIn.LOCKED, again_s=again)
        with self._rows.begin(writing=True) as connection:
            row = connection.execute(sa.select(one_time_code).where(one_time_code.c.phone_digest == digest)).first()
            alive = row is not None and now_s - row.made_s <= CODE_LIVES_S and row.tries < CODE_TRIES
            right = row is not None and alive and hmac.compare_digest(row.code_digest, self._digest("code", code.strip()))
            if right:
                connection.execute(one_time_code.delete().where(one_time_code.c.phone_digest == digest))
            elif row is not None:
                connection.execute(one_time_code.update().where(one_time_code.c.phone_digest == digest).values(tries=row.tries + 1))
        if not right:
            return self._wrong(f"phone:{digest.hex()}", address, now_s)
        self._at_home(f"phone:{digest.hex()}", address, now_s)
        self._forget(f"unused:{digest.hex()}")
        return Attempt(SignIn.DONE, self._consumer(digest, now_s))

    def _consumer(self, digest: bytes, now_s: int) -> Person | None:
        known = self._one(person.c.phone_digest == digest)
        if known is not None:
            return None if known.disabled else known
        name = f"consumer-{secrets.token_hex(6)}"
        row = {"name": name, "role": "consumer", "language": "hi", "totp_step": 0, "phone_digest": digest, "since_s": now_s}
        with self._rows.begin(writing=True) as connection:
            connection.execute(person.insert(), row | {"disabled": False})
        return self.find(name)

    # ---- failures

    def _locked(self, what: str, now_s: int) -> int:
        query = sa.select(sign_in_failure.c.locked_until_s).where(sign_in_failure.c.digest == self._digest("failure", what))
        with self._rows.begin() as connection:
            until = connection.execute(query).scalar()
        return max(0, (until or 0) - now_s)

    def _kept_out(self, what: str, address: str, now_s: int) -> int:
        """For how many seconds yet `what` is locked for this address; 0 = not at all."""
        here = self._locked(f"{what} at {address}", now_s)
        return here or (0 if self._locked(f"{what} home {address}", now_s) else self._locked(what, now_s))

    def _wrong(self, what: str, address: str, now_s: int) -> Attempt:
        everywhere = self._failed(what, now_s, FREE_EVERYWHERE)
        here = self._failed(f"{what} at {address}", now_s)
        return here if here.outcome is SignIn.LOCKED else everywhere

    def _at_home(self, what: str, address: str, now_s: int) -> None:
        """Forget the failures, and remember the place: kept as one more row of the same table, whose lock only ever lets in."""
        for one in (what, f"{what} at {address}"):
            self._forget(one)
        home = {"digest": self._digest("failure", f"{what} home {address}"), "failures": 0, "locked_until_s": now_s + HOME_S}
        with self._rows.begin(writing=True) as connection:
            connection.execute(sign_in_failure.delete().where(sign_in_failure.c.digest == home["digest"]))
            connection.execute(sign_in_failure.insert(), home)

    def _failed(self, what: str, now_s: int, free: int = FREE_FAILURES) -> Attempt:
        digest = self._digest("failure", what)
        with self._rows.begin(writing=True) as connection:
            failures = (
                connection.execute(sa.select(sign_in_failure.c.failures).where(sign_in_failure.c.digest == digest)).scalar() or 0
            ) + 1
            beyond = failures - free
            lock_s = min(LONGEST_LOCK_S, FIRST_LOCK_S * 2 ** min(beyond, 10)) if beyond >= 0 else 0
            connection.execute(sign_in_failure.delete().where(sign_in_failure.c.digest == digest))
            connection.execute(
                sign_in_failure.insert(), {"digest": digest, "failures": failures, "locked_until_s": now_s + lock_s if lock_s else 0}
            )
        return Attempt(SignIn.LOCKED, again_s=lock_s) if lock_s else Attempt(SignIn.WRONG)

    def _forget(self, what: str) -> None:
        with self._rows.begin(writing=True) as connection:
            connection.execute(sign_in_failure.delete().where(sign_in_failure.c.digest == self._digest("failure", what)))

    # ---- small parts

    def _digest(self, purpose: str, text: str) -> bytes:
        return self._master.mac(f"people.{purpose}", text.encode())

    def _hash(self, password: str) -> str:
        if not PASSWORD_SHORTEST <= len(password) <= PASSWORD_LONGEST:
            raise InputError(f"a password has {PASSWORD_SHORTEST} to {PASSWORD_LONGEST} characters; this one has {len(password)}")
        return self._hasher.hash(password)

    def _matches(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password[: PASSWORD_LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return False

    def _change(self, name: str, **values: Any) -> None:
        with self._rows.begin(writing=True) as connection:
            if not connection.execute(person.update().where(person.c.name == name).values(**values)).rowcount:
                raise RequestError(f"there is no person {name}; `openami people list` shows who there is")

    def _one(self, wanted: Any) -> Person | None:
        with self._rows.begin() as connection:
            row = connection.execute(sa.select(person).where(wanted)).first()
        return None if row is None else _person(row)


@lru_cache(maxsize=4)
def _dummy(hasher: PasswordHasher) -> str:
    """A hash that no password matches, for names that are not there."""
    return hasher.hash(secrets.token_hex(16))


def _person(row: Any) -> Person:
    return Person(row.name, row.role, row.language, row.since_s, row.totp_wrapped is not None, bool(row.disabled))


def _name(name: str) -> str:
    if not 1 <= len(name) <= 60 or not all(c.isascii() and (c.isalnum() or c in "._@-") for c in name):
        raise InputError(f"{name[:60]!r} cannot be a person's name: use 1 to 60 letters, digits and . _ @ -")
    return name


def _phone(text: str) -> str:
    """Ten digits of an Indian mobile number, or + and 8 to 15 digits; spaces and hyphens are left out. InputError otherwise."""
    kept = "".join(c for c in text if c not in " -()")
    digits = kept.removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or not 8 <= len(digits) <= 15:
        raise InputError("a phone number has ten digits, or + and 8 to 15 digits")
    if not kept.startswith("+") and len(digits) == 10:
        digits = "91" + digits
    return "+" + digits
