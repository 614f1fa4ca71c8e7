"""The ledger as a kernel over rows: double entry, append-only, idempotent by transfer id, hash-chained per account, bitemporal.

What always holds:
- a posted row is never changed or removed; what was wrong is put right by another row that `refers_to` it;
- every row moves one amount from one book to another, so debits equal credits after every row;
- posting the same transfer again changes nothing, and a different one under the same id is refused;
- the rows of one account form a chain: each one's hash covers its content and the hash before, so no row can be changed, dropped or
  slipped in unseen; and a row belongs to a day (`day`) and to the instant at which we knew it (`posted_s`), so "what did the balance
  show then?" has one answer.

Storage is not here: `post` takes what the store knows of the accounts (`Heads`) and gives the rows to append.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Book(StrEnum):
    """Where money of an account stands. `balance`: the consumer's prepaid balance (credit = the consumer's money); `dues`: postpaid
    bills not yet paid and `arrears`: what is owed from before (debit = owed); `deposit`: held for the consumer; the others are ours."""

    BALANCE = "balance"
    DUES = "dues"
    ARREARS = "arrears"
    DEPOSIT = "deposit"
    GATEWAY = "gateway"
    CHARGES = "charges"
    INTEREST = "interest"
    SUSPENSE = "suspense"


OF_THE_CONSUMER = (Book.BALANCE, Book.DUES, Book.ARREARS, Book.DEPOSIT)
FIRST_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A movement of `amount_paise` > 0 from `debit` to `credit` of one account, for local day `day`; `kind` says what it is (recharge,
    charge, adjustment, reversal, instalment, conversion ...); `refers_to`: the transfer that it corrects or reverses."""

    transfer_id: str
    account: str
    day: date
    kind: str
    debit: Book
    credit: Book
    amount_paise: int
    refers_to: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A posted transfer: its number in the account's chain (from 0), when it was posted (UTC seconds), and its hash."""

    transfer: Transfer
    number: int
    posted_s: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an account's chain: how many rows there are, the last one's hash and instant."""

    rows: int = 0
    hash: bytes = FIRST_HASH
    posted_s: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    transfer: Transfer
    cause: str


@dataclass(frozen=True, slots=True)
class Posting:
    """The outcome of a batch: rows to append, in order; ids that were posted already with the same content; refused transfers with
    their causes; and the accounts' new heads."""

    rows: tuple[Row, ...]
    already: tuple[str, ...]
    refused: tuple[Refusal, ...]
    heads: Mapping[str, Head]


Find = Callable[[str], Transfer | None]


def post(transfers: Iterable[Transfer], heads: Mapping[str, Head], find: Find, is_reversed: Callable[[str], bool], now_s: int) -> Posting:
    """Post a batch, transfer by transfer; a refused one does not stop its neighbours.

    heads: of the accounts touched (one that is missing has no rows); find: a posted transfer by id, or None; is_reversed: whether a
    posted transfer has been reversed. A chain is in the order of knowing: a row that comes while the clock stands before the account's last
    row (it was set back) carries that row's instant, for money that has come must not wait for a clock.
    """
    new: dict[str, Transfer] = {}
    reversed_now: set[str] = set()
    ends = dict(heads)
    rows: list[Row] = []
    already: list[str] = []
    refused: list[Refusal] = []
    for transfer in transfers:
        known = new.get(transfer.transfer_id) or find(transfer.transfer_id)
        if known == transfer:
            already.append(transfer.transfer_id)
            continue
        target = (new.get(transfer.refers_to) or find(transfer.refers_to)) if transfer.refers_to else None
        head = ends.get(transfer.account, Head())
        undone = transfer.refers_to in reversed_now or (target is not None and is_reversed(transfer.refers_to))
        cause = _cause(transfer, known, target, undone)
        if cause:
            refused.append(Refusal(transfer, cause))
            continue
        new[transfer.transfer_id] = transfer
        reversed_now |= {transfer.refers_to} if transfer.kind == "reversal" else set()
        posted_s = max(now_s, head.posted_s)
        row = Row(transfer, head.rows, posted_s, chain(head.hash, transfer, head.rows, posted_s))
        ends[transfer.account] = Head(head.rows + 1, row.hash, posted_s)
        rows.append(row)
    return Posting(tuple(rows), tuple(already), tuple(refused), {a: h for a, h in ends.items() if h != heads.get(a)})


def _cause(transfer: Transfer, known: Transfer | None, target: Transfer | None, undone: bool) -> str:
    """Why a transfer cannot be posted; "" if it can."""
    if known is not None:
        return "conflict"  # another content under a posted id
    if not transfer.transfer_id or not transfer.account:
        return "unnamed"
    if transfer.amount_paise <= 0:
        return "amount"
    if transfer.debit == transfer.credit:
        return "books"
    if transfer.kind == "reversal" and not transfer.refers_to:
        return "reference"
    if transfer.refers_to:
        if target is None or target.account != transfer.account:
            return "reference"
        if transfer.kind == "reversal":
            if undone:
                return "reversed"
            opposite = (target.debit, target.credit, target.amount_paise) == (transfer.credit, transfer.debit, transfer.amount_paise)
            return "" if opposite and target.kind != "reversal" else "reversal"
    return ""


def reversal(posted: Transfer, transfer_id: str, day: date) -> Transfer:
    """The transfer that undoes `posted`, on `day`."""
    return Transfer(transfer_id, posted.account, day, "reversal", posted.credit, posted.debit, posted.amount_paise, posted.transfer_id)


def chain(before: bytes, transfer: Transfer, number: int, posted_s: int) -> bytes:
    """SHA-256 over the hash before and the row's content; every field is written with its length, so no two rows read alike."""
    link = chaining(what_it_is(transfer.day, transfer.kind, transfer.debit, transfer.credit), transfer.refers_to, posted_s)
    return link(before, transfer.transfer_id, transfer.account, transfer.amount_paise, number)


def what_it_is(day: date, kind: str, debit: Book, credit: Book) -> bytes:
    """The part of a row's content that many rows of a batch share."""
    return _field(day.isoformat()) + _field(kind) + _field(debit.value) + _field(credit.value)


def chaining(what: bytes, refers_to: str, posted_s: int) -> Callable[[bytes, str, str, int, int], bytes]:
    """What hashes rows that share these fields, for those who append millions; `what` from `what_it_is`. It takes the hash before, the transfer's
    id, the account, the amount in paise and the row's number."""
    sha256, refers, posted, numbers = hashlib.sha256, _field(refers_to), _field(str(posted_s)), _NUMBERS

    def link(before: bytes, transfer_id: str, account: str, amount_paise: int, number: int) -> bytes:
        name, own, amount = transfer_id.encode(), account.encode(), b"%d" % amount_paise
        place = numbers[number] if number < len(numbers) else _field(str(number))
        return sha256(
            b"%b%b%b%b%b%b%b%b%b%b%b"
            % (before, _LENGTHS(len(name)), name, _LENGTHS(len(own)), own, what, _LENGTHS(len(amount)), amount, refers, place, posted)
        ).digest()

    return link


def _field(text: str) -> bytes:
    data = text.encode()
    return _LENGTHS(len(data)) + data


_LENGTHS = struct.Struct(">I").pack
_NUMBERS = [_field(str(number)) for number in range(1000)]


def broken_row(rows: Sequence[Row], head: Head | None = None) -> int | None:
    """The position of the first row of one account's chain that does not follow from the rows before it; None if all do.

    head: the end of the chain as it was kept elsewhere; a chain that stops short of it breaks at its end.
    """
    before, account, posted_s = FIRST_HASH, "", 0
    for k, row in enumerate(rows):
        account = account or row.transfer.account
        whole = row.number == k and row.transfer.account == account and row.posted_s >= posted_s
        if not whole or row.hash != chain(before, row.transfer, k, row.posted_s):
            return k
        before, posted_s = row.hash, row.posted_s
    if head is not None and (head.rows, head.hash) != (len(rows), before):
        return len(rows)
    return None


def balance_paise(rows: Iterable[Row], book: Book, to_day: date | None = None, known_at_s: int | None = None) -> int:
    """Credits less debits of `book` over `rows`: of days up to `to_day` (None: all), as known at `known_at_s` (None: now)."""
    total = 0
    for row in rows:
        transfer = row.transfer
        if (to_day is None or transfer.day <= to_day) and (known_at_s is None or row.posted_s <= known_at_s):
            total += transfer.amount_paise * ((transfer.credit == book) - (transfer.debit == book))
    return total


def trial_balance(rows: Iterable[Row]) -> dict[Book, int]:
    """Credits less debits of every book, over all accounts in `rows`: they sum to 0."""
    held = list(rows)
    return {book: balance_paise(held, book) for book in Book}
