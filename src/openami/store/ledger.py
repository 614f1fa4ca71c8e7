"""The ledger in SQL: what `prepaid.ledger` decides, kept for good.

What always holds: rows are appended only, in one chain an account, and triggers refuse anything else; a transfer is posted once by its id; an
account's head is locked while rows are appended behind it, so two who post at once stand one after the other; what is refused is named and
nothing of it is posted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from ..errors import RequestError
from ..money import TransferRow
from ..prepaid.ledger import FIRST_HASH, OF_THE_CONSUMER, Book, Head, Posting, Refusal, Row, Transfer, broken_row, post
from .ledger_tables import account, ledger_head, ledger_row
from .sql import Database, among, load, put, raw_rows, rows_of

MANY = 5000
CAUSES = {
    "account": "there is no such account",
    "conflict": "it is posted with other content; a posted row is never changed: post an adjustment under another id",
    "unnamed": "it has no id or no account",
    "amount": "its amount is not above zero",
    "books": "it moves money from a book to itself",
    "reference": "what it refers to is not a posted transfer of this account",
    "reversal": "it does not undo exactly what it refers to",
    "reversed": "what it refers to is reversed already",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands: the end of its chain, and credits less debits of its four books in paise (what is owed is negative);
    charged_to: the last day whose charges are in the ledger, None = none are."""

    head: Head
    balance_paise: int
    dues_paise: int
    arrears_paise: int
    deposit_paise: int
    charged_to: date | None

    @property
    def rupees_paise(self) -> int:
        """What the consumer has with us in all, debts taken off."""
        return self.balance_paise + self.dues_paise + self.arrears_paise + self.deposit_paise


class Ledger:
    """The ledger of one deployment's database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- posting ----------------------------------------------------------------------------------------------------------------

    def post(self, transfers: Iterable[Transfer], now_s: int | None = None) -> Posting:
        """Post what can be posted, one by one; a refused transfer does not stop its neighbours and is named in the outcome (`CAUSES`).

        now_s: UTC seconds, None = now. A row is never posted before the row that stands before it: after a clock went back, an account's
        rows carry the last instant that it saw.
        """
        given = list(transfers)
        try:
            return self._post(given, now_s)
        except RequestError:  # on PostgreSQL the same id can be posted to another account meanwhile: look again, once
            return self._post(given, now_s)

    def post_all(self, transfers: Iterable[Transfer], now_s: int | None = None) -> Posting:
        """All or nothing: RequestError names the first that is refused."""
        given = list(transfers)
        now = int(time.time()) if now_s is None else now_s
        with self.database.begin(writing=self.database.is_sqlite) as connection:
            posting = append(connection, given, now)
            if posting.refused:
                first = posting.refused[0]
                raise RequestError(refusal_text(first, self._find(connection, first.transfer.transfer_id)))
        return posting

    def _post(self, transfers: list[Transfer], now_s: int | None) -> Posting:
        now = int(time.time()) if now_s is None else now_s
        with self.database.begin(writing=self.database.is_sqlite) as connection:  # on PostgreSQL the accounts' heads are the locks
            return append(connection, transfers, now)

    # -- reading ----------------------------------------------------------------------------------------------------------------

    def find(self, transfer_id: str) -> Row | None:
        """A posted transfer by its id."""
        with self.database.begin() as connection:
            return self._find(connection, transfer_id)

    def rows(self, number: str) -> list[Row]:
        """An account's chain, from its first row."""
        with self.database.begin() as connection:
            query = sa.select(ledger_row).where(ledger_row.c.account == number).order_by(ledger_row.c.number)
            return [as_row(found) for found in connection.execute(query)]

    def standing(self, number: str) -> Standing:
        """Where an account stands now; RequestError where there is none."""
        with self.database.begin() as connection:
            found = connection.execute(sa.select(ledger_head).where(ledger_head.c.account == number)).first()
        if found is None:
            raise RequestError(f"there is no account {number} in the ledger; see its number")
        books = (found.balance_paise, found.dues_paise, found.arrears_paise, found.deposit_paise)
        return Standing(Head(found.rows, bytes(found.hash), found.posted_s), *books, found.charged_to)

    def balance_paise(
        self, number: str, book: Book = Book.BALANCE, to_day: date | None = None, known_at_s: int | None = None, charges: bool = True
    ) -> int:
        """Credits less debits of one account's book: of days up to `to_day` (None: all), as known at `known_at_s` (None: now); without
        `charges` what was charged is left out, as a statement's recharges are counted."""
        signed = ledger_row.c.amount_paise * _sign(book)
        query = sa.select(sa.func.coalesce(sa.func.sum(signed), 0)).where(ledger_row.c.account == number, _touches(book))
        if to_day is not None:
            query = query.where(ledger_row.c.day <= to_day)
        if known_at_s is not None:
            query = query.where(ledger_row.c.posted_s <= known_at_s)
        if not charges:
            query = query.where(_is_move())
        with self.database.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def shown_paise(self, at_s: int, closing: Mapping[str, tuple[date, int] | None]) -> dict[str, int]:
        """What consumers' balances showed at an instant, by account: the closing balance of the last day that was closed by then (`closing`: of each
        account that day and its statement's balance, as it stood then; None = no day was), and what was paid in since and known by then."""
        since = sorted(closing, key=lambda number: _first_open(closing[number]))
        shown = {number: closed[1] for number, closed in closing.items() if closed is not None}
        with self.database.begin() as connection:
            if len(shown) < len(closing):
                fresh = among(connection, account.c.number, [number for number, closed in closing.items() if closed is None])
                opening = sa.select(account.c.number, account.c.opening_paise).where(fresh)
                shown |= {row.number: int(row.opening_paise) for row in connection.execute(opening)}
            for first, numbers in groupby(since, key=lambda number: _first_open(closing[number])):
                own = [*numbers]
                given: dict[str, Any] = {"at": at_s, "first": first}
                if len(own) == 1:
                    moved, given = _MOVED_OF_ONE, given | {"number": own[0]}
                else:
                    moved = _MOVED.where(among(connection, ledger_row.c.account, own))
                for number, paise in connection.execute(moved, given):
                    shown[number] += int(paise)
        return shown

    def moves(self, first: date, last: date) -> list[TransferRow]:
        """What moved balances other than charges and openings on the days from `first` to `last`, both included, by day and id."""
        query = sa.select(ledger_row).where(ledger_row.c.day.between(first, last), _touches(Book.BALANCE), _is_move())
        with self.database.begin() as connection:
            found = connection.execute(query.order_by(ledger_row.c.day, ledger_row.c.transfer_id))
            return [
                TransferRow(r.transfer_id, r.account, r.day, r.kind, r.amount_paise * (1 if r.credit == Book.BALANCE else -1))
                for r in found
            ]

    def moved(self, day: date) -> tuple[Sequence[str], Sequence[int], Sequence[bool]]:
        """The same of one day, in the order of each account's chain, for many: the accounts, what each balance gained [paise], and whether it was by
        a recharge."""
        row, gained = ledger_row.c, ledger_row.c.credit == Book.BALANCE.value
        paise = sa.case((gained, row.amount_paise), else_=-row.amount_paise)
        query = sa.select(row.account, paise, sa.and_(gained, row.kind == "recharge"))
        query = query.where(row.day == day, _touches(Book.BALANCE), _is_move()).order_by(row.account, row.number)
        with self.database.begin() as connection:
            account, moved, recharge = zip(*found, strict=True) if (found := raw_rows(connection, query)) else ((), (), ())
        return account, moved, recharge

    def trial_balance(self, to_day: date | None = None) -> dict[Book, int]:
        """Credits less debits of every book over all accounts: they sum to 0."""
        total = sa.func.sum(ledger_row.c.amount_paise)
        query = sa.select(ledger_row.c.debit, ledger_row.c.credit, total).group_by(ledger_row.c.debit, ledger_row.c.credit)
        if to_day is not None:
            query = query.where(ledger_row.c.day <= to_day)
        books = dict.fromkeys(Book, 0)
        with self.database.begin(long=True) as connection:
            for debit, credit, paise in connection.execute(query):
                books[Book(debit)] -= int(paise)
                books[Book(credit)] += int(paise)
        return books

    def broken(self) -> Iterator[tuple[str, str]]:
        """Accounts whose rows do not form a chain up to their head, or whose head does not stand where the rows put it: (account, what)."""
        with self.database.begin(long=True) as connection:
            heads = {found.account: found for found in connection.execute(sa.select(ledger_head))}
            query = sa.select(ledger_row).order_by(ledger_row.c.account, ledger_row.c.number).execution_options(yield_per=MANY)
            for number, found in groupby(connection.execute(query), key=lambda row: row.account):
                rows = [as_row(row) for row in found]
                if what := _broken(rows, heads.pop(number, None)):
                    yield number, what
            for number, head in heads.items():
                if what := _broken([], head):
                    yield number, what

    def _find(self, connection: sa.Connection, transfer_id: str) -> Row | None:
        found = connection.execute(sa.select(ledger_row).where(ledger_row.c.transfer_id == transfer_id)).first()
        return None if found is None else as_row(found)


def append(connection: sa.Connection, transfers: Sequence[Transfer], now_s: int) -> Posting:
    """Post a batch inside the caller's transaction, with the heads of its accounts locked."""
    known: dict[str, Transfer] = {}
    undone: set[str] = set()
    heads: dict[str, Any] = {}
    for at in range(0, len(transfers), MANY):
        part = transfers[at : at + MANY]
        numbers = sorted({t.account for t in part} - heads.keys())
        heads |= {row.account: row for row in connection.execute(_locked(connection, numbers))}
    for at in range(0, len(transfers), MANY):
        part = transfers[at : at + MANY]
        ids = {t.transfer_id for t in part} | {t.refers_to for t in part if t.refers_to}
        found = connection.execute(sa.select(ledger_row).where(among(connection, ledger_row.c.transfer_id, ids)))
        known |= {row.transfer_id: as_row(row).transfer for row in found}
        if referred := {t.refers_to for t in part if t.refers_to}:
            reversals = sa.select(ledger_row.c.refers_to).where(
                ledger_row.c.kind == "reversal", ledger_row.c.refers_to != "", among(connection, ledger_row.c.refers_to, referred)
            )
            undone |= set(connection.execute(reversals).scalars())
    nobody = [t for t in transfers if t.account and t.account not in heads]
    chained = {number: Head(h.rows, bytes(h.hash), h.posted_s) for number, h in heads.items()}
    posting = post((t for t in transfers if not t.account or t.account in heads), chained, known.get, undone.__contains__, now_s)
    _write(connection, posting)
    return Posting(posting.rows, posting.already, (*(Refusal(t, "account") for t in nobody), *posting.refused), posting.heads)


def _locked(connection: sa.Connection, numbers: Sequence[str]) -> sa.Select[Any]:
    own = among(connection, ledger_head.c.account, numbers)
    return sa.select(ledger_head).where(own).order_by(ledger_head.c.account).with_for_update()


def _write(connection: sa.Connection, posting: Posting) -> None:
    rows = posting.rows
    if not rows:
        return
    columns = [_values(row) for row in rows]
    if len(rows) > MANY:
        load(connection, ledger_row, {name: [values[name] for values in columns] for name in columns[0]})
    else:
        put(connection, ledger_row, columns)
    moved: dict[str, dict[str, int]] = {}
    for row in rows:
        books = moved.setdefault(row.transfer.account, {f"{book}_paise": 0 for book in OF_THE_CONSUMER})
        for book, sign in ((row.transfer.debit, -1), (row.transfer.credit, 1)):
            if book in OF_THE_CONSUMER:
                books[f"{book}_paise"] += sign * row.transfer.amount_paise
    ends = [
        {"account": number, "rows": head.rows, "hash": head.hash, "posted_s": head.posted_s, **moved[number]}
        for number, head in posting.heads.items()
    ]
    if connection.dialect.name == "sqlite":
        given = {name: sa.bindparam(f"new_{name}", type_=ledger_head.c[name].type) for name in ends[0]}
        connection.execute(_moved(given), [{f"new_{name}": value for name, value in end.items()} for end in ends])
    else:
        connection.execute(_moved(rows_of(ledger_head, ends).c))


def _moved(given: Any) -> sa.Update:
    """Heads go to their new ends, and their books by what was moved."""
    values = {name: given[name] for name in ("rows", "hash", "posted_s")}
    values |= {name: ledger_head.c[name] + given[name] for name in (f"{book}_paise" for book in OF_THE_CONSUMER)}
    return ledger_head.update().where(ledger_head.c.account == given["account"]).values(values)


def _values(row: Row) -> dict[str, Any]:
    t = row.transfer
    told = {"transfer_id": t.transfer_id, "account": t.account, "number": row.number, "day": t.day, "kind": t.kind}
    told |= {"debit": t.debit.value, "credit": t.credit.value, "amount_paise": t.amount_paise, "refers_to": t.refers_to}
    return told | {"posted_s": row.posted_s, "hash": row.hash}


def as_row(found: Any) -> Row:
    """A row of the table as the kernel knows it. ValueError where it holds a book that is none."""
    transfer = Transfer(
        found.transfer_id,
        found.account,
        found.day,
        found.kind,
        Book(found.debit),
        Book(found.credit),
        found.amount_paise,
        found.refers_to,
    )
    return Row(transfer, found.number, found.posted_s, bytes(found.hash))


def as_transfer(row: TransferRow) -> Transfer:
    """A registry's transfer row in double entry: recharges and refunds stand against the gateway, all else against the suspense book."""
    other = Book.GATEWAY if row.kind in ("recharge", "refund", "reversal") else Book.SUSPENSE
    debit, credit = (other, Book.BALANCE) if row.amount_paise >= 0 else (Book.BALANCE, other)
    kind = "refund" if row.kind == "reversal" else row.kind
    return Transfer(row.transfer_id, row.account, row.day, kind, debit, credit, abs(row.amount_paise))


def refusal_text(refusal: Refusal, posted: Row | None = None) -> str:
    """One sentence: which transfer, why it is refused, and what stands under its id if something does."""
    t, held = refusal.transfer, ""
    if posted is not None:
        held = f" (posted as {posted.transfer.amount_paise} paise to account {posted.transfer.account} on {posted.transfer.day})"
    what = f"transfer {t.transfer_id or '(no id)'} of {t.amount_paise} paise to account {t.account or '(none)'}"
    return f"{what} is refused: {CAUSES[refusal.cause]}{held}"


def _broken(rows: list[Row], head: Any) -> str:
    if head is None:
        return "it has rows, but no head"
    at = broken_row(rows, Head(head.rows, bytes(head.hash), head.posted_s))
    if at is not None:
        return f"its chain breaks at row {at}"
    for book in OF_THE_CONSUMER:
        stands = sum(r.transfer.amount_paise * ((r.transfer.credit is book) - (r.transfer.debit is book)) for r in rows)
        if stands != getattr(head, f"{book}_paise"):
            return f"its rows put {book} at {stands} paise, its head at {getattr(head, f'{book}_paise')}"
    return ""


def _first_open(closing: tuple[date, int] | None) -> date:
    return date.min if closing is None else closing[0] + timedelta(days=1)


def _sign(book: Book) -> sa.ColumnElement[int]:
    return sa.case((ledger_row.c.credit == book.value, 1), else_=-1)


def _touches(book: Book) -> sa.ColumnElement[bool]:
    return sa.or_(ledger_row.c.debit == book.value, ledger_row.c.credit == book.value)


def _is_move() -> sa.ColumnElement[bool]:
    """Neither a charge nor the balance that an account began with: what a statement shows between its opening and its charges."""
    charged = sa.or_(ledger_row.c.debit == Book.CHARGES.value, ledger_row.c.credit == Book.CHARGES.value)
    return sa.and_(sa.not_(charged), ledger_row.c.kind != "opening")


_MOVED = (
    sa.select(ledger_row.c.account, sa.func.sum(ledger_row.c.amount_paise * _sign(Book.BALANCE)))
    .where(_touches(Book.BALANCE), _is_move(), ledger_row.c.posted_s <= sa.bindparam("at"), ledger_row.c.day >= sa.bindparam("first"))
    .group_by(ledger_row.c.account)
)
_MOVED_OF_ONE = _MOVED.where(ledger_row.c.account == sa.bindparam("number"))
"""Built once: it is asked for every page of an account."""

__all__ = ["CAUSES", "FIRST_HASH", "Ledger", "Standing", "append", "as_row", "as_transfer", "refusal_text"]
