"""A gateway's file of a day against the ledger: what differs is listed, nothing is put right by itself.

The file is CSV with a header: payment_id, account, amount_paise, and perhaps more columns, which are passed over (but for a currency other than
rupees). What the ledger is compared with is every payment through this gateway whose local day is the file's, and whatever the file names, of
whatever day. A file that has none of the day's payments, but other days', is that of another day.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import InputError
from ..prepaid.ledger import Book
from ..prepaid.reconcile import Difference, GatewayRow, against_gateway
from ..store.ledger import as_row
from ..store.ledger_tables import ledger_row
from ..store.sql import Database
from .event import CURRENCY
from .taking import transfer_id

COLUMNS = ("payment_id", "account", "amount_paise")
MANY = 5000


def read_daily_file(path: Path, gateway: str) -> list[GatewayRow]:
    """Its rows, under the ledger's ids. InputError names the file, the line and what is wrong."""
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise InputError(f"{path}: there is no column {', '.join(missing)}; the first line names {', '.join(COLUMNS)}")
            for row in reader:
                amount = row["amount_paise"] or ""
                if not row["payment_id"] or not row["account"] or not amount.isascii() or not amount.isdigit():
                    raise InputError(
                        f"{path}, line {reader.line_num}: give payment_id, account and a whole amount_paise; nothing was compared"
                    )
                if (row.get("currency") or CURRENCY) != CURRENCY:
                    raise InputError(f"{path}, line {reader.line_num}: its currency is not {CURRENCY}; nothing was compared")
                rows.append(GatewayRow(transfer_id(gateway, row["payment_id"]), row["account"], int(amount)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); give the gateway's file of a day as CSV in UTF-8") from None
    return rows


def reconcile(database: Database, gateway: str, day: date, file: Sequence[GatewayRow]) -> list[Difference]:
    """The differences, by payment id. InputError where the file is that of another day."""
    first, behind = f"{gateway}:", f"{gateway};"  # ";" is the character behind ":"
    ours = sa.and_(ledger_row.c.transfer_id >= first, ledger_row.c.transfer_id < behind)
    found = {}
    with database.begin(long=True) as connection:
        for row in connection.execute(sa.select(ledger_row).where(ours, ledger_row.c.day == day)):
            found[row.transfer_id] = row
        named = sorted({item.payment_id for item in file} - found.keys())
        for at in range(0, len(named), MANY):
            query = sa.select(ledger_row).where(ledger_row.c.transfer_id.in_(named[at : at + MANY]))
            found |= {row.transfer_id: row for row in connection.execute(query)}
        if elsewhere := _of_another_day(found.values(), {item.payment_id for item in file}, day):
            raise InputError(f"the file has none of the payments of {day}, but some of {elsewhere}; give the file of {day}")
        ids = sorted(found)
        for at in range(0, len(ids), MANY):
            query = sa.select(ledger_row).where(ledger_row.c.refers_to.in_(ids[at : at + MANY]))
            found |= {row.transfer_id: row for row in connection.execute(query)}
    return against_gateway(file, [as_row(row) for row in found.values()])


def _of_another_day(rows: Iterable[Any], named: set[str], day: date) -> str:
    """The days of the payments that the file names, where it names none of those that we have of `day`; else ""."""
    paid = [row for row in rows if row.debit == Book.GATEWAY.value]
    if not any(row.day == day for row in paid) or any(row.day == day and row.transfer_id in named for row in paid):
        return ""
    return ", ".join(sorted({str(row.day) for row in paid if row.transfer_id in named}))
