"""Events of a batch taken together: everything that is known of them read at once, decided in memory, written at once.

What always holds: the outcome is that of taking them one by one, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.ledger import Book, Transfer, reversal
from ..registry import PaymentMode
from ..store.ledger import append, as_row
from ..store.ledger_tables import ledger_row, payment, payment_event
from ..store.rows import account as registry_account
from ..store.sql import among, put
from .event import APART, Event, Kind, State, meaning


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one event: "taken", "already", or "refused" with its cause; state: of the payment now."""

    event: Event
    result: str
    cause: str = ""
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """A payment that was posted just now."""

    transfer: Transfer
    posted_s: int


def book_of(mode: PaymentMode) -> Book:
    """Where an account's money comes in, and is taken back from."""
    return Book.BALANCE if mode is PaymentMode.PREPAID else Book.DUES


REVERSED = "reversed"


def transfer_id(gateway: str, payment_id: str) -> str:
    """Under which id a payment is posted; what takes it back stands under this one and `:reversed`, or a refund's id."""
    return f"{gateway}{APART}{payment_id}"


@dataclass
class Known:
    """What is known of a batch's events, and what is to be written; keys are (gateway, id), of transfers their ids.

    asked: account, amount and instant of a payment; said: what was said of it; given_back: what later transfers took of one."""

    digests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    asked: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
    said: dict[tuple[str, str], set[Kind]] = field(default_factory=dict)
    modes: dict[str, PaymentMode] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    given_back: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    wanted: list[Transfer] = field(default_factory=list)

    @classmethod
    def of(cls, connection: sa.Connection, events: Sequence[Event]) -> Known:
        known = cls()
        for gateway in {event.gateway for event in events}:
            own = [event for event in events if event.gateway == gateway]
            ids, payments = {event.event_id for event in own}, {event.payment_id for event in own}
            told = payment_event.c
            mine = sa.or_(among(connection, told.event_id, ids), among(connection, told.payment_id, payments))
            for row in connection.execute(
                sa.select(told.event_id, told.payment_id, told.kind, told.digest).where(told.gateway == gateway, mine)
            ):
                known.digests[gateway, row.event_id] = bytes(row.digest)
                known.said.setdefault((gateway, row.payment_id), set()).add(Kind(row.kind))
            own_payments = sa.select(payment).where(payment.c.gateway == gateway, among(connection, payment.c.payment_id, payments))
            for row in connection.execute(own_payments):
                known.asked[gateway, row.payment_id] = (row.account, row.amount_paise, row.asked_s)
        numbers, names = {event.account for event in events}, {transfer_id(event.gateway, event.payment_id) for event in events}
        accounts = sa.select(registry_account.c.number, registry_account.c.payment_mode)
        accounts = accounts.where(among(connection, registry_account.c.number, numbers))
        known.modes = {row.number: PaymentMode(row.payment_mode) for row in connection.execute(accounts)}
        back = sa.and_(ledger_row.c.refers_to != "", among(connection, ledger_row.c.refers_to, names))
        for row in connection.execute(sa.select(ledger_row).where(sa.or_(among(connection, ledger_row.c.transfer_id, names), back))):
            if row.transfer_id in names:
                known.transfers[row.transfer_id] = as_row(row).transfer
            else:
                known.given_back[row.refers_to] = known.given_back.get(row.refers_to, 0) + row.amount_paise
        return known

    def take(self, event: Event, day: date, now_s: int) -> Outcome:
        """Decide on one event, and remember what follows."""
        told, own = (event.gateway, event.event_id), (event.gateway, event.payment_id)
        if (digest := self.digests.get(told)) is not None:
            return Outcome(event, "already") if digest == event.digest else Outcome(event, "refused", "conflict")
        account, amount_paise, asked_s = self.asked.get(own, (event.account, event.amount_paise, now_s))
        posted = self.transfers.get(transfer_id(*own))
        other = posted is not None and (posted.account, posted.amount_paise, posted.debit) != (account, amount_paise, Book.GATEWAY)
        cause = "conflict" if other or event.account != account else "amount" if event.amount_paise != amount_paise else ""
        if cause or event.account not in self.modes:
            return Outcome(event, "refused", cause or "account")
        self.digests[told], self.asked[own] = event.digest, (account, amount_paise, asked_s)
        said = self.said.setdefault(own, set())
        said.add(event.kind)
        row = {
            name: getattr(event, name) for name in ("gateway", "event_id", "payment_id", "account", "amount_paise", "happened_s", "digest")
        }
        self.events.append(row | {"kind": event.kind.value, "received_s": now_s})
        self.states[own] = state = meaning(said)
        if state in (State.PAID, State.REVERSED):
            self._post(event, state, day)
        return Outcome(event, "taken", state=state)

    def _post(self, event: Event, state: State, day: date) -> None:
        """The payment, unless it is posted, and what takes it back, unless nothing of it is left."""
        name = transfer_id(event.gateway, event.payment_id)
        book = book_of(self.modes[event.account])
        if name not in self.transfers:
            kind = "recharge" if book is Book.BALANCE else "payment"
            self.transfers[name] = Transfer(name, event.account, day, kind, Book.GATEWAY, book, event.amount_paise)
            self.wanted.append(self.transfers[name])
        own = self.transfers[name]
        left = own.amount_paise - self.given_back.get(name, 0)  # some of it may have been refunded before
        if state is State.REVERSED and left:
            whole = reversal(own, f"{name}{APART}{REVERSED}", day)
            same = left == own.amount_paise and own.credit is book  # a conversion in between has carried the money into the other book
            self.wanted.append(whole if same else replace(whole, kind="refund", debit=book, amount_paise=left))
            self.given_back[name] = own.amount_paise

    def write(self, connection: sa.Connection, now_s: int) -> list[Posted]:
        """Everything that was decided; gives the payments that were posted and stand."""
        if not self.events:
            return []
        put(connection, payment_event, self.events)
        rows = [
            dict(zip(("gateway", "payment_id", "account", "amount_paise", "asked_s"), (*own, *self.asked[own]), strict=True))
            | {"state": state.value, "settled_s": None if state is State.PENDING else now_s}
            for own, state in self.states.items()
        ]
        put(connection, payment, rows, ("gateway", "payment_id"), ("state", "settled_s"))
        posting = append(connection, self.wanted, now_s)
        if posting.refused:
            first = posting.refused[0]
            raise RequestError(
                f"payment {first.transfer.transfer_id} cannot be posted: {first.cause}; see the ledger of {first.transfer.account}"
            )
        stand = {transfer_id(*own) for own, state in self.states.items() if state is State.PAID}
        return [Posted(row.transfer, row.posted_s) for row in posting.rows if row.transfer.transfer_id in stand]
