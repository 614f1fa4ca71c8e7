"""Postpaid in the ledger: bills with their due dates, what is still owed of each, lateness, the deposit; and old arrears paid off day by day.

What always holds: a bill is posted once, under its id; money pays the oldest bill first; surcharge, interest and instalments of a day are posted
once however often the day is run; arrears are never taken faster than was agreed and capped, whatever happened on the days between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.conversion import daily_instalment, instalments
from ..prepaid.ledger import Book
from ..prepaid.postpaid import PostpaidPolicy, deposit_interest, late_surcharge
from ..readings import Int64
from .ledger_bulk import Heads, heads
from .ledger_tables import arrears_agreement, bill, ledger_row
from .sql import Database, load, upsert


@dataclass(frozen=True, slots=True)
class Open:
    """A bill, and what is still owed of it."""

    bill_id: str
    kind: str
    issued: date
    due: date
    amount_paise: int
    owed_paise: int


def issue_bills(
    database: Database, numbers: Sequence[str], amount_paise: Int64, span: tuple[date, date], issued: date, due: date, now_s: int
) -> int:
    """Bill accounts for the local days of `span` (both included): dues are owed, to be paid by `due`. int64 [account],
    > 0 owed, < 0 in the consumer's favour. Gives how many bills were new: one whose days are billed already is left alone."""
    if amount_paise.shape != (len(numbers),):
        raise RequestError(f"{len(numbers)} accounts, but amounts are {amount_paise.shape}; give one for each")
    first, last = span
    wanted, new = dict(zip(numbers, amount_paise.tolist(), strict=True)), 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        for part in heads(connection, numbers):
            at = np.flatnonzero(part.charged_to < first.toordinal())
            amounts = np.array([wanted[part.numbers[k]] for k in at.tolist()], np.int64)
            part.add(at, amounts, "bill", (Book.DUES, Book.CHARGES), issued, f"bill:{last}", now_s)
            part.charged_to[at] = last.toordinal()
            size, named = at.size, [part.numbers[k] for k in at.tolist()]
            same = {"kind": "energy", "first_day": first, "last_day": last, "issued": issued, "due": due}
            columns = {"bill_id": [f"bill:{last}:{name}" for name in named], "account": named, "amount_paise": amounts}
            load(connection, bill, columns | {name: [value] * size for name, value in same.items()})
            part.save(connection, at)
            new += size
    return new


def demand_deposit(database: Database, account: str, amount_paise: int, count: int, first_due: date, issued: date) -> None:
    """Ask for a deposit in `count` monthly parts (30 days apart), which add up exactly. Nothing is owed on the ledger until it is paid."""
    parts = instalments(np.array([amount_paise], np.int64), count)[:, 0].tolist()
    with database.begin(writing=True) as connection:
        for k, part in enumerate(parts):
            row = {
                "bill_id": f"deposit:{issued}:{account}:{k + 1}",
                "account": account,
                "kind": "deposit",
                "first_day": issued,
                "last_day": issued,
            }
            row |= {"issued": issued, "due": first_due + timedelta(days=30 * k), "amount_paise": part}
            connection.execute(upsert(connection, bill, row, "bill_id"))


def open_bills(database: Database, account: str) -> list[Open]:
    """An account's energy bills of which something is owed, the oldest first: money pays the oldest, so what is owed lies on the newest."""
    with database.begin() as connection:
        part = next(heads(connection, [account]))
        return _open(connection, account, int(-part.books[Book.DUES][0]))


def _open(connection: sa.Connection, account: str, owed_paise: int) -> list[Open]:
    query = sa.select(bill).where(bill.c.account == account, bill.c.kind == "energy").order_by(bill.c.due.desc(), bill.c.bill_id.desc())
    found = []
    for row in connection.execute(query):
        if owed_paise <= 0:
            break
        owed = min(max(row.amount_paise, 0), owed_paise)
        owed_paise -= owed
        found += [Open(row.bill_id, row.kind, row.issued, row.due, row.amount_paise, owed)] if owed else []
    return found[::-1]


def charge_lateness(database: Database, policy: PostpaidPolicy, day: date, now_s: int) -> int:
    """Late surcharge up to `day` for every bill that is overdue, simple, by days, from its due date or the day of the last surcharge on; on dues,
    not on surcharges before. Gives how many accounts were charged."""
    charged = 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        for part in heads(connection):
            at = np.flatnonzero(part.books[Book.DUES] < 0)
            before = _last(connection, "late_surcharge")
            amounts = np.zeros(at.size, np.int64)
            for n, k in enumerate(at.tolist()):
                name = part.numbers[k]
                late = [b for b in _open(connection, name, int(-part.books[Book.DUES][k])) if b.due < day]
                days = [(day - max(b.due, before.get(name, b.due))).days for b in late]
                owed = np.array([b.owed_paise for b in late], np.int64)
                amounts[n] = int(late_surcharge(policy, owed, np.array(days, np.int64)).sum()) if late else 0
            part.add(at, amounts, "late_surcharge", (Book.DUES, Book.INTEREST), day, f"late:{day}", now_s)
            charged += _save(connection, part, at[amounts != 0])
    return charged


def pay_deposit_interest(database: Database, policy: PostpaidPolicy, day: date, since: date, now_s: int) -> int:
    """Interest on every deposit up to `day`, from the day of the last interest (never before `since`) on. Gives how many accounts were paid."""
    paid = 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        before = _last(connection, "deposit_interest")
        for part in heads(connection):
            at = np.flatnonzero(part.books[Book.DEPOSIT] > 0)
            days = np.array([(day - max(since, before.get(part.numbers[k], since))).days for k in at.tolist()], np.int64)
            amounts = deposit_interest(policy, part.books[Book.DEPOSIT][at], days)
            part.add(at, amounts, "deposit_interest", (Book.INTEREST, Book.DEPOSIT), day, f"interest:{day}", now_s)
            paid += _save(connection, part, at[amounts != 0])
    return paid


def agree(database: Database, account: str, since: date, daily_paise: int, cap_paise: int) -> None:
    """Old arrears are paid off from the prepaid balance by so much a day from `since` on, never more than the cap in a day."""
    if daily_paise <= 0 or cap_paise < daily_paise:
        raise RequestError(
            f"{daily_paise} paise a day with a cap of {cap_paise} cannot be agreed; give an amount above zero and a cap not below it"
        )
    with database.begin(writing=True) as connection:
        row = {"account": account, "since": since, "daily_paise": daily_paise, "cap_paise": cap_paise}
        connection.execute(upsert(connection, arrears_agreement, row, "account", "since"))


def take_instalments(database: Database, day: date, now_s: int) -> int:
    """Take the agreed instalments of `day`, with what was missed before up to the cap. Gives of how many accounts."""
    taken = 0
    with database.begin(writing=database.is_sqlite, long=True) as connection:
        query = sa.select(arrears_agreement).where(arrears_agreement.c.since <= day).order_by(arrears_agreement.c.since)
        agreed = {row.account: row for row in connection.execute(query)}
        if not agreed:
            return 0
        before = _last(connection, "instalment")
        for part in heads(connection, list(agreed)):
            terms = [agreed[name] for name in part.numbers]
            open_days = np.array([(day - max(t.since - timedelta(days=1), before.get(t.account, date.min))).days for t in terms], np.int64)
            daily = np.array([t.daily_paise for t in terms], np.int64)
            amounts = np.zeros(len(terms), np.int64)
            for cap in {t.cap_paise for t in terms}:
                own = np.flatnonzero([t.cap_paise == cap for t in terms])
                amounts[own] = daily_instalment(-part.books[Book.ARREARS][own], daily[own], cap, open_days[own] - 1)
            at = np.flatnonzero((open_days > 0) & (amounts > 0))
            part.add(at, amounts[at], "instalment", (Book.BALANCE, Book.ARREARS), day, f"instalment:{day}", now_s)
            taken += _save(connection, part, at)
    return taken


def _save(connection: sa.Connection, part: Heads, at: Int64) -> int:
    part.save(connection, at)
    return int(at.size)


def _last(connection: sa.Connection, kind: str) -> dict[str, date]:
    """The last day of rows of a kind, by account."""
    query = sa.select(ledger_row.c.account, sa.func.max(ledger_row.c.day)).where(ledger_row.c.kind == kind).group_by(ledger_row.c.account)
    return {row[0]: row[1] for row in connection.execute(query)}
