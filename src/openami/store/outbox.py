"""The outbox: every message that consumers are owed, and what became of it. The disconnection guard believes nothing else.

What always holds: a message is made once by its id, however often it is asked for; "sending" is written before it leaves; only a delivery that
somebody reported is a delivery; the addresses lie in a table of their own and in no log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ..errors import RequestError
from .sql import TEXT, Database, among, insert, metadata, put

LEASE_S = 120
"""How long one who sends may take; behind that the message is sent again, under the same id."""
AGAIN_FIRST_S, AGAIN_LAST_S, ATTEMPTS_MAX = 30, 3600, 12

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("notice_id", TEXT, primary_key=True),
    sa.Column("account", TEXT, nullable=False),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("language", TEXT, nullable=False),
    sa.Column("text", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("sender", TEXT, nullable=False),
    sa.Column("sent_s", sa.BigInteger),
    sa.Column("delivered_s", sa.BigInteger),
    sa.Column("problem", TEXT, nullable=False),
)
sa.Index("outbox_state", outbox.c.state, outbox.c.not_before_s)
sa.Index("outbox_account", outbox.c.account, outbox.c.kind, outbox.c.delivered_s)
notice_address = sa.Table(
    "notice_address",
    metadata,
    sa.Column("account", TEXT, sa.ForeignKey("account.number"), primary_key=True),
    sa.Column("address", TEXT, nullable=False),
)


class Stands(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"  # written before it leaves: found so after a restart, nobody knows whether it left
    SENT = "sent"  # the carrier took it
    DELIVERED = "delivered"  # the carrier reports that it arrived
    FAILED = "failed"  # given up, or the carrier reports that it cannot arrive


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. kind: as "low_balance", "before_cut", "cut"; language: of the text; sender: which carrier took it; times: UTC seconds."""

    notice_id: str
    account: str
    kind: str
    language: str
    text: str
    made_s: int
    state: Stands = Stands.WAITING
    attempts: int = 0
    sender: str = ""
    sent_s: int | None = None
    delivered_s: int | None = None
    problem: str = ""


class Outbox:
    """The outbox of one deployment's database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, notices: Iterable[Notice]) -> int:
        """Messages to be sent; those that are there already by their ids stay as they are. Gives how many were new."""
        with self.database.begin(writing=True, lock="outbox") as connection:
            return self.put_in(connection, notices)

    def put_in(self, connection: sa.Connection, notices: Iterable[Notice]) -> int:
        """`put` in a transaction that is open: the message and its cause, or neither."""
        new = 0
        for notice in notices:
            row = {name: getattr(notice, name) for name in ("notice_id", "account", "kind", "language", "text", "made_s")}
            row |= {"state": str(Stands.WAITING), "attempts": 0, "not_before_s": notice.made_s, "sender": "", "problem": ""}
            made = insert(connection, outbox).values(row).on_conflict_do_nothing(index_elements=["notice_id"])
            new += connection.execute(made.returning(outbox.c.notice_id)).first() is not None
        return new

    def take(self, now_s: int, limit: int = 500) -> list[tuple[Notice, str | None]]:
        """Messages to send now, each marked as being sent, with the account's address (None = nobody knows one)."""
        own = outbox.c
        open_ = own.state.in_([str(Stands.WAITING), str(Stands.SENDING)])
        query = sa.select(outbox, notice_address.c.address).outerjoin(notice_address, notice_address.c.account == own.account)
        query = query.where(open_, own.not_before_s <= now_s).order_by(own.not_before_s, own.notice_id).limit(limit)
        with self.database.begin(writing=True, lock="outbox") as connection:
            found = [(_notice(row), row.address) for row in connection.execute(query)]
            values = {"state": str(Stands.SENDING), "attempts": own.attempts + 1, "not_before_s": now_s + LEASE_S}
            ids = [notice.notice_id for notice, _ in found]
            connection.execute(outbox.update().where(own.notice_id.in_(ids)).values(values))
        return found

    def taken(self, notice_id: str, sender: str, now_s: int) -> None:
        """The carrier has it. A report of its delivery that came before is not undone."""
        mine = (outbox.c.notice_id == notice_id, outbox.c.state == str(Stands.SENDING))
        self._change(mine, {"state": str(Stands.SENT), "sender": sender, "sent_s": now_s, "problem": ""})

    def failed(self, notice: Notice, problem: str, now_s: int) -> None:
        """It could not be sent: again later, with growing distance, until it is given up."""
        tried = notice.attempts + 1
        over = tried >= ATTEMPTS_MAX
        again_s = now_s + min(AGAIN_LAST_S, AGAIN_FIRST_S * 2 ** (tried - 1))
        mine = (outbox.c.notice_id == notice.notice_id, outbox.c.state == str(Stands.SENDING))
        state = Stands.FAILED if over else Stands.WAITING
        self._change(mine, {"state": str(state), "not_before_s": again_s, "problem": problem[:300]})

    def report(self, notice_id: str, arrived: bool, at_s: int, problem: str = "", carrier: str = "") -> None:
        """What a carrier reports of a message, once: the first word on its arrival stands. RequestError where there is no such message, it never
        left, or it was another carrier who took it (`carrier`: who reports, "" = a person hands the report in)."""
        with self.database.begin(writing=True, lock="outbox") as connection:
            row = connection.execute(sa.select(outbox).where(outbox.c.notice_id == notice_id)).first()
            if row is None or row.attempts == 0:
                raise RequestError(f"message {notice_id} was never sent, so nothing of its delivery can be believed; see its id")
            if carrier and row.sender not in ("", carrier):
                raise RequestError(f"message {notice_id} was taken by another carrier than {carrier}, who alone can report on it")
            if row.delivered_s is not None:
                return
            values = {"state": str(Stands.DELIVERED), "delivered_s": max(at_s, row.made_s), "problem": ""}
            if not arrived:
                values = {"state": str(Stands.FAILED), "problem": problem[:300] or "the carrier reports that it did not arrive"}
            connection.execute(outbox.update().where(outbox.c.notice_id == notice_id).values(values))

    def delivered_s(self, since_s: Mapping[str, int], kind: str, to_s: int) -> dict[str, int]:
        """account -> when the first message of `kind` made since its `since_s` was delivered to it, of those to whom one was by `to_s`."""
        own, found = outbox.c, dict[str, int]()
        with self.database.begin() as connection:
            mine = (among(connection, own.account, since_s), own.kind == kind, own.delivered_s <= to_s)
            for row in connection.execute(sa.select(own.account, own.made_s, own.delivered_s).where(*mine)):
                if row.made_s >= since_s[row.account]:
                    found[row.account] = min(found.get(row.account, row.delivered_s), row.delivered_s)
        return found

    def known(self, notice_ids: Iterable[str]) -> set[str]:
        """Which of these are there."""
        with self.database.begin() as connection:
            return set(connection.execute(sa.select(outbox.c.notice_id).where(outbox.c.notice_id.in_(list(notice_ids)))).scalars())

    def of_account(self, account: str, limit: int = 100) -> list[Notice]:
        """An account's messages, newest first."""
        return self._read(sa.select(outbox).where(outbox.c.account == account), limit)

    def recent(self, limit: int = 100) -> list[Notice]:
        return self._read(sa.select(outbox), limit)

    def counts(self) -> dict[tuple[str, str], int]:
        """(kind, state) -> how many."""
        query = sa.select(outbox.c.kind, outbox.c.state, sa.func.count()).group_by(outbox.c.kind, outbox.c.state)
        with self.database.begin() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}

    def set_addresses(self, addresses: Mapping[str, str]) -> None:
        """Where accounts' messages go: phones' numbers, as the carrier wants them."""
        rows = [{"account": account, "address": address} for account, address in addresses.items()]
        with self.database.begin(writing=True, lock="outbox") as connection:
            put(connection, notice_address, rows, ("account",), ("address",))

    def _change(self, mine: tuple[Any, ...], values: dict[str, Any]) -> None:
        with self.database.begin(writing=True, lock="outbox") as connection:
            connection.execute(outbox.update().where(*mine).values(values))

    def _read(self, query: sa.Select[Any], limit: int) -> list[Notice]:
        with self.database.begin() as connection:
            return [
                _notice(row) for row in connection.execute(query.order_by(outbox.c.made_s.desc(), outbox.c.notice_id.desc()).limit(limit))
            ]


def _notice(row: Any) -> Notice:
    told = {name: getattr(row, name) for name in ("notice_id", "account", "kind", "language", "text", "made_s")}
    rest = {name: getattr(row, name) for name in ("attempts", "sender", "sent_s", "delivered_s", "problem")}
    return Notice(**told, **rest, state=Stands(row.state))
