"""Many accounts at once: the ledger opened, charges brought in, deposits told, prepaid and postpaid converted.

What always holds: one call is one transaction, whole or not at all; every row that it appends is chained as a single one would be; calling it
again with what it has done already appends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.ledger import FIRST_HASH, OF_THE_CONSUMER, Book, chained, what_it_is
from ..readings import Bool, Int64
from ..registry import PaymentMode
from .ledger_tables import account, ledger_head, ledger_row
from .sql import Database, load

CHUNK = 100_000
NET = tuple(f"{book}_paise" for book in OF_THE_CONSUMER)
_ends = sa.Table(
    "ledger_end",
    sa.MetaData(),
    *(column._copy() for column in ledger_head.c if column.name != "account"),
    sa.Column("account", ledger_head.c.account.type, primary_key=True),
    prefixes=["TEMPORARY"],
)


@dataclass
class Heads:
    """Heads of many accounts, in the order of their numbers, and the rows that are to be appended behind them."""

    numbers: list[str]
    rows: list[int]
    hashes: list[bytes]
    posted_s: list[int]
    books: dict[Book, Int64]
    charged_to: list[date | None]
    balance_known: Bool
    deposit_known: Bool
    mode: list[str]
    new: dict[str, list[Any]] = field(default_factory=lambda: {column.name: [] for column in ledger_row.c})

    def add(
        self, at: Int64, paise: Int64, kind: str, books: tuple[Book, Book], day: date, prefix: str, now_s: int, refers_to: str = ""
    ) -> None:
        """Move `paise` [at] from books[0] to books[1] of the accounts at positions `at` (a negative amount the other way, 0 not at all); the
        transfer's id is the prefix, the account and its row's number in the chain."""
        ways = {1: (*books, what_it_is(day, kind, *books)), -1: (*books[::-1], what_it_is(day, kind, *books[::-1]))}
        new = self.new
        for k, amount in zip(at.tolist(), paise.tolist(), strict=True):
            if amount == 0:
                continue
            debit, credit, what = ways[1 if amount > 0 else -1]
            number, name = self.rows[k], self.numbers[k]
            transfer_id = f"{prefix}:{name}:{number}"
            posted_s = max(now_s, self.posted_s[k])
            digest = chained(self.hashes[k], transfer_id, name, what, abs(amount), refers_to, number, posted_s)
            for column, value in (
                ("transfer_id", transfer_id),
                ("account", name),
                ("number", number),
                ("debit", debit.value),
                ("credit", credit.value),
                ("amount_paise", abs(amount)),
                ("posted_s", posted_s),
                ("hash", digest),
            ):
                new[column].append(value)
            self.rows[k], self.hashes[k], self.posted_s[k] = number + 1, digest, posted_s
        appended = len(new["transfer_id"]) - len(new["kind"])
        for column, value in (("day", day), ("kind", kind), ("refers_to", refers_to)):
            new[column] += [value] * appended
        for book, sign in ((books[0], -1), (books[1], 1)):
            if book in self.books:
                np.add.at(self.books[book], at, sign * paise)

    def save(self, connection: sa.Connection, positions: Int64) -> None:
        """Append the new rows, and write down where the accounts at `positions` stand now."""
        load(connection, ledger_row, self.new)
        for values in self.new.values():
            values.clear()
        at = positions.tolist()
        ends: dict[str, Any] = {
            "account": [self.numbers[k] for k in at],
            "rows": [self.rows[k] for k in at],
            "hash": [self.hashes[k] for k in at],
            "posted_s": [self.posted_s[k] for k in at],
            "charged_to": [self.charged_to[k] for k in at],
            "balance_known": self.balance_known[positions],
            "deposit_known": self.deposit_known[positions],
        }
        update_from(connection, ends | {f"{book}_paise": held[positions] for book, held in self.books.items()})


def update_from(connection: sa.Connection, columns: Mapping[str, Any]) -> None:
    """Write whole heads, given by column, over the ones that are there."""
    _ends.create(connection, checkfirst=False)
    load(connection, _ends, columns)
    change = ledger_head.update().values({name: _ends.c[name] for name in columns if name != "account"})
    connection.execute(change.where(ledger_head.c.account == _ends.c.account))
    _ends.drop(connection, checkfirst=False)


def heads(connection: sa.Connection, numbers: Sequence[str] | None = None, chunk: int = CHUNK) -> Iterator[Heads]:
    """Heads of these accounts (None: of all), locked, some at a time, by number. RequestError names one that is not there."""
    columns = (*ledger_head.c, account.c.payment_mode.label("mode"))
    query = sa.select(*columns).join(account, account.c.number == ledger_head.c.account).order_by(ledger_head.c.account)
    query = query.with_for_update(of=ledger_head)
    if numbers is None:
        last = ""
        while found := connection.execute(query.where(ledger_head.c.account > last).limit(chunk)).all():
            yield _heads(found)
            last = found[-1].account
        return
    ordered = sorted(set(numbers))
    for at in range(0, len(ordered), 5000):
        part = ordered[at : at + 5000]
        found = connection.execute(query.where(ledger_head.c.account.in_(part))).all()
        if len(found) != len(part):
            raise RequestError(f"there is no account {(set(part) - {row.account for row in found}).pop()} in the ledger; see its number")
        yield _heads(found)


def _heads(found: Sequence[Any]) -> Heads:
    by = dict(zip(found[0]._fields, zip(*found, strict=True), strict=True))
    return Heads(
        list(by["account"]),
        list(by["rows"]),
        list(map(bytes, by["hash"])),
        list(by["posted_s"]),
        {book: np.array(by[f"{book}_paise"], np.int64) for book in OF_THE_CONSUMER},
        list(by["charged_to"]),
        np.array(by["balance_known"], np.bool_),
        np.array(by["deposit_known"], np.bool_),
        list(by["mode"]),
    )


def open_accounts(connection: sa.Connection, now_s: int) -> int:
    """Give every account that has none its head and its opening balance as a first row; gives how many.

    A prepaid account's balance is known, and it holds no deposit; what a postpaid one owes, and its deposit, must be told (`tell`).
    """
    without = sa.select(account).where(~sa.exists().where(ledger_head.c.account == account.c.number)).order_by(account.c.number)
    found = connection.execute(without).all()
    for at in range(0, len(found), CHUNK):
        part = found[at : at + CHUNK]
        size = len(part)
        prepaid = np.array([row.payment_mode == PaymentMode.PREPAID.value for row in part], np.bool_)
        opened = Heads(
            [row.number for row in part],
            [0] * size,
            [FIRST_HASH] * size,
            [0] * size,
            {book: np.zeros(size, np.int64) for book in OF_THE_CONSUMER},
            [None] * size,
            prepaid,
            prepaid,
            [row.payment_mode for row in part],
        )
        columns: dict[str, Any] = {"account": opened.numbers, "rows": opened.rows, "hash": opened.hashes, "posted_s": opened.posted_s}
        load(
            connection,
            ledger_head,
            columns
            | dict.fromkeys(NET, np.zeros(size, np.int64))
            | {"charged_to": [None] * size, "balance_known": prepaid, "deposit_known": prepaid},
        )
        opening = np.array([row.opening_paise for row in part], np.int64)
        since = np.array([row.since.toordinal() for row in part])
        for day in np.unique(since[opening != 0]).tolist():
            own = np.flatnonzero((since == day) & (opening != 0))
            opened.add(own, opening[own], "opening", (Book.SUSPENSE, Book.BALANCE), date.fromordinal(day), "opening", now_s)
        opened.save(connection, np.flatnonzero(opening))
    return len(found)


def settle(database: Database, through: date, numbers: Sequence[str], charged_paise: Int64, now_s: int) -> int:
    """Bring the charges of the statements up to `through` into the ledger; gives how many rows it took.

    charged_paise: int64 [account], all charges of the account up to that day since it began, as the lake has them now. What is posted is the
    difference to what the ledger holds: the days since the last time as `charges`, and where that time was the same day, or a later one, as
    `adjustment`. So it does not matter how often, in which order or how late it is called: the ledger ends with what the statements say.
    """
    if charged_paise.shape != (len(numbers),):
        raise RequestError(f"{len(numbers)} accounts, but charges are {charged_paise.shape}; give one sum for each")
    wanted = dict(zip(numbers, charged_paise.tolist(), strict=True))
    appended = 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        for part in heads(connection, numbers):
            posted = _charged(connection, part.numbers)
            open_paise = np.array([wanted[name] - posted.get(name, 0) for name in part.numbers], np.int64)
            fresh = np.array([day is None or day < through for day in part.charged_to], np.bool_)
            for own, kind in ((fresh, "charges"), (~fresh, "adjustment")):
                at = np.flatnonzero(own)
                part.add(at, open_paise[at], kind, (Book.BALANCE, Book.CHARGES), through, f"{kind}:{through}", now_s)
            part.charged_to = [through if new else day for new, day in zip(fresh.tolist(), part.charged_to, strict=True)]
            appended += len(part.new["transfer_id"])
            part.save(connection, np.flatnonzero(fresh | (open_paise != 0)))
    return appended


def _charged(connection: sa.Connection, numbers: Sequence[str]) -> dict[str, int]:
    """What the ledger has charged to prepaid balances, by account."""
    signed = sa.case((ledger_row.c.debit == Book.BALANCE.value, ledger_row.c.amount_paise), else_=-ledger_row.c.amount_paise)
    pair = (Book.BALANCE.value, Book.CHARGES.value)
    query = (
        sa.select(ledger_row.c.account, sa.func.sum(signed))
        .where(ledger_row.c.debit.in_(pair), ledger_row.c.credit.in_(pair))
        .where(ledger_row.c.account >= numbers[0], ledger_row.c.account <= numbers[-1])
        .group_by(ledger_row.c.account)
    )
    return {number: int(paise) for number, paise in connection.execute(query)}


def tell(database: Database, numbers: Sequence[str], dues_paise: Int64, deposit_paise: Int64, day: date, now_s: int) -> int:
    """What accounts brought from before: dues (> 0 owed, < 0 paid in advance) and deposit held; int64 [account]. Told once an account: one whose
    balance and deposit are known already is left alone. Gives how many were taken in."""
    given = {name: (int(d), int(s)) for name, d, s in zip(numbers, dues_paise, deposit_paise, strict=True)}
    taken = 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        for part in heads(connection, numbers):
            dues, deposit = (np.array([given[name][k] for name in part.numbers], np.int64) for k in (0, 1))
            at = np.flatnonzero(~part.balance_known)
            part.add(at, dues[at], "opening", (Book.DUES, Book.SUSPENSE), day, "brought-dues", now_s)
            held = np.flatnonzero(~part.deposit_known)
            part.add(held, deposit[held], "opening", (Book.SUSPENSE, Book.DEPOSIT), day, "brought-deposit", now_s)
            changed = np.union1d(at, held)
            part.balance_known[at] = True
            part.deposit_known[held] = True
            part.save(connection, changed)
            taken += changed.size
    return taken
