"""Does everybody count the same money? The gateway's daily file against the ledger (statements against the ledger: `day/books.py`).

What always holds: what agrees is not listed, and what differs is listed once, with its cause and both amounts; nothing is put right here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .ledger import Book, Row


class Cause(StrEnum):
    NOT_POSTED = "not_posted"  # the gateway has it, the ledger has not: the consumer paid and has nothing
    NOT_AT_GATEWAY = "not_at_gateway"  # the ledger has it, the gateway has not: money that never came
    AMOUNT = "amount"
    ACCOUNT = "account"
    REVERSED_HERE = "reversed_here"  # the gateway has it as paid, the ledger has taken it back
    TWICE_IN_FILE = "twice_in_file"


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """A settled payment in the gateway's file; `payment_id` is the ledger's transfer id."""

    payment_id: str
    account: str
    amount_paise: int


@dataclass(frozen=True, slots=True)
class Difference:
    """theirs, ours: paise, None where a side does not have it."""

    payment_id: str
    account: str
    cause: Cause
    theirs_paise: int | None
    ours_paise: int | None


def against_gateway(file: Sequence[GatewayRow], rows: Iterable[Row]) -> list[Difference]:
    """Differences between a gateway's file and the ledger's rows of the same payments (and their reversals), by payment id."""
    posted: dict[str, Row] = {}
    undone: set[str] = set()
    for row in rows:
        transfer = row.transfer
        if transfer.kind == "reversal" or (transfer.refers_to and transfer.transfer_id == f"{transfer.refers_to}:reversed"):
            undone.add(transfer.refers_to)
        elif transfer.debit is Book.GATEWAY:
            posted[transfer.transfer_id] = row
    times = Counter(item.payment_id for item in file)
    found: list[Difference] = []
    for item in {item.payment_id: item for item in file}.values():
        difference = _difference(item, posted.get(item.payment_id), item.payment_id in undone)
        found += [difference] if difference else []
        if times[item.payment_id] > 1:
            found.append(Difference(item.payment_id, item.account, Cause.TWICE_IN_FILE, item.amount_paise, None))
    for payment_id, row in posted.items():
        if payment_id not in times and payment_id not in undone:
            found.append(Difference(payment_id, row.transfer.account, Cause.NOT_AT_GATEWAY, None, row.transfer.amount_paise))
    return sorted(found, key=lambda difference: (difference.payment_id, difference.cause))


def _difference(item: GatewayRow, row: Row | None, undone: bool) -> Difference | None:
    ours = row.transfer.amount_paise if row else None
    if row is None:
        cause = Cause.NOT_POSTED
    elif undone:
        cause = Cause.REVERSED_HERE
    elif row.transfer.account != item.account:
        cause = Cause.ACCOUNT
    elif ours != item.amount_paise:
        cause = Cause.AMOUNT
    else:
        return None
    return Difference(item.payment_id, item.account, cause, item.amount_paise, ours)
