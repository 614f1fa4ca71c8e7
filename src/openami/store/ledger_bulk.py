"""Many accounts at once: the ledger opened, charges brought in, deposits told, prepaid and postpaid converted.

What always holds: one call is one transaction, whole or not at all; every row that it appends is chained as a single one would be; calling it
again with what it has done already appends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.ledger import FIRST_HASH, OF_THE_CONSUMER, Book, chaining, what_it_is
from ..readings import Bool, Int64
from ..registry import PaymentMode
from .ledger_tables import account, ledger_head, ledger_row
from .sql import Database, among, load, load_columns, raw_rows

Columns = tuple[Any, ...]
"""Columns of a table, in its order: a list of values, or one value that all rows share."""
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
    """Heads of many accounts, in the order of their numbers, and the rows that are to be appended behind them. charged_to: int64, the day's
    ordinal (`date.toordinal`), 0 = none."""

    numbers: list[str]
    rows: list[int]
    hashes: list[bytes]
    posted_s: list[int]
    books: dict[Book, Int64]
    charged_to: Int64
    balance_known: Bool
    deposit_known: Bool
    mode: list[str]
    new: list[Columns] = field(default_factory=list)

    def add(
        self, at: Int64, paise: Int64, kind: str, books: tuple[Book, Book], day: date, prefix: str, now_s: int, refers_to: str = ""
    ) -> None:
        """Move `paise` [at] from books[0] to books[1] of the accounts at positions `at` (a negative amount the other way, 0 not at all); the
        transfer's id is the prefix, the account and its row's number in the chain."""
        for way, pair in ((1, books), (-1, books[::-1])):
            moves = np.flatnonzero(np.sign(paise) == way)
            if moves.size:
                self._add(at[moves].tolist(), (way * paise[moves]).tolist(), kind, pair, day, prefix, now_s, refers_to)
        for book, sign in ((books[0], -1), (books[1], 1)):
            if book in self.books:
                np.add.at(self.books[book], at, sign * paise)

    def _add(
        self, at: list[int], paise: list[int], kind: str, books: tuple[Book, Book], day: date, prefix: str, now_s: int, refers_to: str
    ) -> None:
        """The one loop over every row: what rows share is made before it."""
        what, (debit, credit) = what_it_is(day, kind, *books), (book.value for book in books)
        usual = chaining(what, refers_to, now_s)
        rows, hashes, times = self.rows, self.hashes, self.posted_s
        names = [self.numbers[k] for k in at]
        ids, places, instants, digests = list[str](), list[int](), list[int](), list[bytes]()
        for k, name, amount in zip(at, names, paise, strict=True):
            number, posted_s, link = rows[k], now_s, usual
            if times[k] > now_s:  # the clock was set back
                posted_s = times[k]
                link = chaining(what, refers_to, posted_s)
            transfer_id = f"{prefix}:{name}:{number}"
            hashes[k] = digest = link(hashes[k], transfer_id, name, amount, number)
            rows[k], times[k] = number + 1, posted_s
            ids.append(transfer_id)
            places.append(number)
            instants.append(posted_s)
            digests.append(digest)
        self.new.append((ids, names, places, day.isoformat(), kind, debit, credit, paise, refers_to, instants, digests))

    @property
    def appended(self) -> int:
        """How many rows are to be appended."""
        return sum(len(columns[0]) for columns in self.new)

    def save(self, connection: sa.Connection, positions: Int64) -> None:
        """Append the new rows, and write down where the accounts at `positions` stand now."""
        for columns in self.new:
            load_columns(connection, ledger_row, columns)
        self.new.clear()
        at = positions.tolist()
        if not at:
            return
        charged = self.charged_to[positions]
        days = {day: date.fromordinal(day).isoformat() if day else None for day in np.unique(charged).tolist()}
        ends = (
            [self.rows[k] for k in at],
            [self.hashes[k] for k in at],
            [self.posted_s[k] for k in at],
            *(self.books[book][positions].tolist() for book in OF_THE_CONSUMER),
            [days[day] for day in charged.tolist()],
            self.balance_known[positions].tolist(),
            self.deposit_known[positions].tolist(),
            [self.numbers[k] for k in at],
        )
        _move_heads(connection, ends)


def _move_heads(connection: sa.Connection, ends: Columns) -> None:
    """Write whole heads, their columns in the order of `_ends`, over the ones that are there."""
    names = [column.name for column in _ends.c if column.name != "account"]
    if connection.dialect.name == "sqlite":
        change = ", ".join(f'"{name}" = ?' for name in names)
        connection.exec_driver_sql(f"UPDATE ledger_head SET {change} WHERE account = ?", list(zip(*ends, strict=True)))  # noqa: S608 - our own names
        return
    _ends.create(connection, checkfirst=False)
    load_columns(connection, _ends, ends)
    statement = ledger_head.update().values({name: _ends.c[name] for name in names})
    connection.execute(statement.where(ledger_head.c.account == _ends.c.account))
    _ends.drop(connection, checkfirst=False)


def heads(connection: sa.Connection, numbers: Sequence[str] | None = None, chunk: int = CHUNK) -> Iterator[Heads]:
    """Heads of these accounts (None: of all), locked, some at a time, by number. RequestError names one that is not there."""
    columns = (*ledger_head.c, account.c.payment_mode.label("mode"))
    query = sa.select(*columns).join(account, account.c.number == ledger_head.c.account).order_by(ledger_head.c.account)
    query = query.with_for_update(of=ledger_head)
    if numbers is None:
        last = ""
        while found := raw_rows(connection, query.where(ledger_head.c.account > last).limit(chunk)):
            yield _heads(found)
            last = found[-1][0]
        return
    ordered = sorted(set(numbers))
    for at in range(0, len(ordered), chunk):
        part = ordered[at : at + chunk]
        found = raw_rows(connection, query.where(among(connection, ledger_head.c.account, part)))
        if len(found) != len(part):
            raise RequestError(f"there is no account {(set(part) - {row[0] for row in found}).pop()} in the ledger; see its number")
        yield _heads(found)


def _heads(found: Sequence[Any]) -> Heads:
    by = dict(zip([*(column.name for column in ledger_head.c), "mode"], zip(*found, strict=True), strict=True))
    ordinals = {day: _ordinal(day) for day in set(by["charged_to"])}
    return Heads(
        list(by["account"]),
        list(by["rows"]),
        list(map(bytes, by["hash"])),
        list(by["posted_s"]),
        {book: np.array(by[f"{book}_paise"], np.int64) for book in OF_THE_CONSUMER},
        np.array([ordinals[day] for day in by["charged_to"]], np.int64),
        np.array(by["balance_known"], np.bool_),
        np.array(by["deposit_known"], np.bool_),
        list(by["mode"]),
    )


def _ordinal(day: date | str | None) -> int:
    """As the driver has it: text on SQLite."""
    return 0 if day is None else (date.fromisoformat(day) if isinstance(day, str) else day).toordinal()


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
            np.zeros(size, np.int64),
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
            fresh = part.charged_to < through.toordinal()
            for own, kind in ((fresh, "charges"), (~fresh, "adjustment")):
                at = np.flatnonzero(own)
                part.add(at, open_paise[at], kind, (Book.BALANCE, Book.CHARGES), through, f"{kind}:{through}", now_s)
            part.charged_to[fresh] = through.toordinal()
            appended += part.appended
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
    return {number: int(paise) for number, paise in raw_rows(connection, query)}


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
