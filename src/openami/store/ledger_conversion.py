"""Prepaid and postpaid, from one to the other, for one account or a state's: one transaction, rupees before = rupees after.

What always holds: an account whose old balance, deposit, charges to the day before or payment under way is not settled keeps its mode and is
named with its causes; run again under the same id, a conversion takes only what is left, and is finished when nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.conversion import CAUSES, Conversion, Money, Settled, to_postpaid, to_prepaid
from ..prepaid.ledger import Book
from ..readings import Int64
from ..registry import PaymentMode
from .ledger_bulk import Heads, heads
from .ledger_tables import account, conversion, conversion_refusal, payment, payment_mode
from .sql import Database, among, load


@dataclass(frozen=True, slots=True)
class Converted:
    """Of one run: how many accounts changed their mode, how many could not, and what all of them have with us before and after."""

    converted: int
    refused: int
    rupees_before_paise: int
    rupees_after_paise: int

    @property
    def finished(self) -> bool:
        return self.refused == 0


def convert(
    database: Database,
    conversion_id: str,
    to: PaymentMode,
    day: date,
    now_s: int,
    *,
    who: str,
    why: str,
    numbers: Sequence[str] | None = None,
) -> Converted:
    """Convert accounts (None: all that are of the other mode) to `to` from local day `day` on.

    RequestError where the id belongs to another conversion, an account is not there, or the rupees would not tie (nothing is done then).
    """
    held: Int64 = np.zeros(2, np.int64)
    converted = left = 0
    with database.begin(writing=True, lock="conversion", long=True) as connection:
        _begin(connection, conversion_id, to, day, now_s, who, why)
        connection.execute(conversion_refusal.delete().where(conversion_refusal.c.conversion_id == conversion_id))
        under_way = set(connection.execute(sa.select(payment.c.account).where(payment.c.state == "pending")).scalars())
        for part in heads(connection, numbers):
            before, after, done, refused = _convert(connection, part, conversion_id, to, day, now_s, under_way, numbers is not None)
            held += (before, after)
            converted += done
            left += refused
        if held[0] != held[1]:
            raise RequestError(f"conversion {conversion_id} would change {held[0]} paise into {held[1]}; nothing is converted")
        own = conversion.c.conversion_id == conversion_id
        connection.execute(conversion.update().where(own).values(converted=conversion.c.converted + converted, refused=left))
    return Converted(converted, left, int(held[0]), int(held[1]))


def refusals(database: Database, conversion_id: str, limit: int = 100) -> list[tuple[str, tuple[str, ...]]]:
    """What still stands in the way: (account, causes in words), by account."""
    query = sa.select(conversion_refusal).where(conversion_refusal.c.conversion_id == conversion_id).order_by(conversion_refusal.c.account)
    with database.begin() as connection:
        found = connection.execute(query.limit(limit)).all()
    return [(row.account, tuple(text for bit, text in CAUSES.items() if row.cause & bit)) for row in found]


def _begin(connection: sa.Connection, conversion_id: str, to: PaymentMode, day: date, now_s: int, who: str, why: str) -> None:
    known = connection.execute(sa.select(conversion).where(conversion.c.conversion_id == conversion_id)).first()
    if known is None:
        row = {"conversion_id": conversion_id, "mode": to.value, "day": day, "who": who, "why": why, "began_s": now_s}
        connection.execute(conversion.insert(), row | {"converted": 0, "refused": 0})
    elif (known.mode, known.day) != (to.value, day):
        raise RequestError(f"conversion {conversion_id} is one to {known.mode} from {known.day} on; give another id")


def _convert(
    connection: sa.Connection, part: Heads, conversion_id: str, to: PaymentMode, day: date, now_s: int, under_way: set[str], named: bool
) -> tuple[int, int, int, int]:
    """Convert what can be of some accounts; gives their rupees before and after, and how many were and were not converted."""
    at = np.flatnonzero([mode != to.value for mode in part.mode])
    money = _money(part, at)
    billed = np.array(part.charged_to[at] >= (day - timedelta(days=1)).toordinal(), np.bool_)
    free = np.array([part.numbers[k] not in under_way for k in at.tolist()], np.bool_)
    settled = Settled(part.balance_known[at], part.deposit_known[at], billed, free)
    result = (to_prepaid if to is PaymentMode.PREPAID else to_postpaid)(money, settled)
    before = sum(int(books.sum()) for books in part.books.values())
    _move(part, at, money, result, day, now_s, conversion_id)
    after = sum(int(books.sum()) for books in part.books.values())
    done = at[result.converted]
    part.save(connection, done)
    left = at[~result.converted]
    refused = {"conversion_id": [conversion_id] * left.size, "account": [part.numbers[k] for k in left.tolist()]}
    load(connection, conversion_refusal, refused | {"cause": result.cause[~result.converted].astype(np.int64)})
    if done.size:
        one_by_one = [part.numbers[k] for k in done.tolist()] if named else None
        _change_mode(connection, conversion_id, to, day, now_s, (part.numbers[0], part.numbers[-1]), one_by_one, int(done.size))
    return before, after, int(done.size), int(left.size)


def _change_mode(
    connection: sa.Connection,
    conversion_id: str,
    to: PaymentMode,
    day: date,
    now_s: int,
    span: tuple[str, str],
    named: list[str] | None,
    count: int,
) -> None:
    """The accounts of `span` that are not refused (of them the `named`; None = all) get the new mode, and a row that says since when."""
    refused = sa.select(conversion_refusal.c.account).where(
        conversion_refusal.c.conversion_id == conversion_id, conversion_refusal.c.account >= span[0]
    )
    own = [account.c.number >= span[0], account.c.number <= span[1], account.c.payment_mode != to.value, account.c.number.not_in(refused)]
    own += [] if named is None else [among(connection, account.c.number, named)]
    row = sa.select(
        account.c.number,
        *(
            sa.literal(value, payment_mode.c[name].type)
            for name, value in (("since", day), ("decided_s", now_s), ("mode", to.value), ("conversion_id", conversion_id))
        ),
    ).where(*own)
    connection.execute(payment_mode.insert().from_select(["account", "since", "decided_s", "mode", "conversion_id"], row))
    changed = connection.execute(sa.update(account).where(*own).values(payment_mode=to.value, mode_since=day)).rowcount
    if changed != count:
        raise RequestError(
            f"conversion {conversion_id} found {changed} accounts where it read {count}; others changed them, so run it again"
        )


def _money(part: Heads, at: Int64) -> Money:
    """The books of the accounts at `at` as the kernel knows them: dues that are in credit are what was paid in advance."""
    balance, dues, arrears, deposit = (part.books[book][at] for book in (Book.BALANCE, Book.DUES, Book.ARREARS, Book.DEPOSIT))
    return Money(balance, np.maximum(-dues, 0), -arrears, deposit, np.maximum(dues, 0))


def _move(part: Heads, at: Int64, before: Money, result: Conversion, day: date, now_s: int, conversion_id: str) -> None:
    """The transfers that make `before` what the conversion found; all of them go through the balance."""
    after, prefix = result.after, f"conversion:{conversion_id}"
    own = (before.credit_paise - before.dues_paise) - (after.credit_paise - after.dues_paise)
    for book, paise in (
        (Book.DEPOSIT, before.deposit_paise - after.deposit_paise),
        (Book.DUES, own),
        (Book.ARREARS, after.arrears_paise - before.arrears_paise),
    ):
        part.add(at, np.asarray(paise, np.int64), "conversion", (book, Book.BALANCE), day, prefix, now_s)
