"""The desk: takes what gateways say of payments and posts it to the ledger; says what there is to be paid; gives money back.

What always holds: an event, its posting and what follows from it (a reconnection's order) are one transaction; an event counts once by its id;
a payment is posted under `<gateway>:<payment id>` once, and its reversal under `<gateway>:<payment id>:reversed` once; what is refused leaves
nothing behind but a line in the log, with ids and the cause and no names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.ledger import Book, Transfer, reversal
from ..prepaid.recharge import RechargePolicy
from ..prepaid.recharge import refused as recharge_refused
from ..registry import PaymentMode
from ..store.ledger import Ledger, append, as_row
from ..store.ledger_tables import bill, ledger_row, payment, payment_event
from ..store.rows import account as registry_account
from ..store.sql import Database, upsert
from .event import AMOUNT_MAX_PAISE, Event, Kind, State, meaning

log = logging.getLogger(__name__)
FAILED_STAYS_S = 3 * 86_400
REFUSALS = {
    "account": "there is no such account",
    "amount": "the amount is not the one that was asked for",
    "conflict": "this id was used for something else",
    "least": "the amount is below the smallest recharge",
    "step": "the amount is not in the steps that recharges have",
    "use": "the amount does not last for the days that a recharge must",
}


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


AfterPosting = Callable[[sa.Connection, Sequence[Posted]], None]


@dataclass(frozen=True, slots=True)
class Payable:
    """What an account may pay: of a postpaid one its dues and when they are due, of a prepaid one what is below zero (0: any recharge)."""

    account: str
    name: str
    mode: PaymentMode
    amount_paise: int
    bill_id: str
    due: date | None


class PaymentDesk:
    """One deployment's. after_posting: what follows from payments, in their transaction; balance_paise: what an account's balance shows now,
    None = what the ledger alone knows; now_s: the clock."""

    def __init__(
        self,
        database: Database,
        zone: str,
        *,
        after_posting: AfterPosting | None = None,
        balance_paise: Callable[[str], int] | None = None,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self.database, self.ledger = database, Ledger(database)
        self._zone, self._after, self.now_s = ZoneInfo(zone), after_posting, now_s
        self._balance = balance_paise or (lambda number: self.ledger.standing(number).balance_paise)

    # -- taking -----------------------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> Outcome:
        """Take one event, whose signature was found true."""
        return self.take_all([event])[0]

    def take_all(self, events: Sequence[Event]) -> list[Outcome]:
        """Take events, in one transaction; a refused one stops none of the others."""
        now = self.now_s()
        with self.database.begin(writing=True, lock="payments") as connection:
            posted: list[Posted] = []
            outcomes = [self._take(connection, event, now, posted) for event in events]
            if posted and self._after is not None:
                self._after(connection, posted)
        for outcome in outcomes:
            if outcome.cause:
                log.warning("%s: event %s refused: %s", outcome.event.gateway, outcome.event.event_id, outcome.cause)
        return outcomes

    def _take(self, connection: sa.Connection, event: Event, now: int, posted: list[Posted]) -> Outcome:
        known = connection.execute(
            sa.select(payment_event.c.digest).where(payment_event.c.gateway == event.gateway, payment_event.c.event_id == event.event_id)
        ).scalar()
        if known is not None:
            return Outcome(event, "already") if bytes(known) == event.digest else Outcome(event, "refused", "conflict")
        asked = connection.execute(sa.select(payment).where(*_is(event))).first()
        if asked is not None and (cause := _differs(event, asked.account, asked.amount_paise)):
            return Outcome(event, "refused", cause)
        mode = connection.execute(sa.select(registry_account.c.payment_mode).where(registry_account.c.number == event.account)).scalar()
        if mode is None:
            return Outcome(event, "refused", "account")
        said = [Kind(k) for k in connection.execute(sa.select(payment_event.c.kind).where(*_of(event))).scalars()]
        told = {name: getattr(event, name) for name in ("gateway", "event_id", "payment_id", "account", "amount_paise", "happened_s")}
        connection.execute(payment_event.insert(), told | {"kind": event.kind.value, "received_s": now, "digest": event.digest})
        state = meaning([*said, event.kind])
        if state in (State.PAID, State.REVERSED):
            self._post(connection, event, PaymentMode(mode), state, now, posted)
        row = {"gateway": event.gateway, "payment_id": event.payment_id, "account": event.account, "amount_paise": event.amount_paise}
        row |= {"asked_s": asked.asked_s if asked is not None else now, "state": state.value}
        connection.execute(
            upsert(connection, payment, row | {"settled_s": None if state is State.PENDING else now}, "gateway", "payment_id")
        )
        return Outcome(event, "taken", state=state)

    def _post(self, connection: sa.Connection, event: Event, mode: PaymentMode, state: State, now: int, posted: list[Posted]) -> None:
        """The payment, unless it is posted, and its reversal, unless that is."""
        name = transfer_id(event.gateway, event.payment_id)
        found = connection.execute(sa.select(ledger_row).where(ledger_row.c.transfer_id == name)).first()
        kind, book = ("recharge", Book.BALANCE) if mode is PaymentMode.PREPAID else ("payment", Book.DUES)
        own = (
            as_row(found).transfer if found else Transfer(name, event.account, self.day(now), kind, Book.GATEWAY, book, event.amount_paise)
        )
        wanted = [] if found else [own]
        if state is State.REVERSED:
            back = connection.execute(sa.select(sa.func.sum(ledger_row.c.amount_paise)).where(ledger_row.c.refers_to == name)).scalar()
            whole = reversal(own, f"{name}:reversed", self.day(now))
            left = own.amount_paise - int(back or 0)  # some of it may have been refunded before
            wanted += [] if left == 0 else [whole if left == own.amount_paise else replace(whole, kind="refund", amount_paise=left)]
        posting = append(connection, wanted, now)
        if posting.refused:
            raise RequestError(f"payment {name} cannot be posted: {posting.refused[0].cause}; see the ledger of account {event.account}")
        posted += [Posted(row.transfer, row.posted_s) for row in posting.rows if row.transfer is own and state is State.PAID]

    # -- asking -----------------------------------------------------------------------------------------------------------------

    def start(self, gateway: str, payment_id: str, account: str, amount_paise: int, policy: RechargePolicy | None = None) -> State:
        """Write down that a payment is asked for, before the gateway is; again with the same content changes nothing. RequestError by name where
        the account is not known, the amount is none that is accepted, or the id is used."""
        cause = "" if 0 < amount_paise <= AMOUNT_MAX_PAISE else "amount"
        if not cause and policy is not None:
            cause = recharge_refused(policy, amount_paise, None)
        with self.database.begin(writing=True, lock="payments") as connection:
            mine = (payment.c.gateway == gateway, payment.c.payment_id == payment_id)
            known = connection.execute(sa.select(payment).where(*mine)).first()
            if known is not None:
                if (known.account, known.amount_paise) == (account, amount_paise):
                    return State(known.state)
                cause = "conflict"
            numbered = sa.select(registry_account.c.number).where(registry_account.c.number == account)
            if not cause and connection.execute(numbered).first() is None:
                cause = "account"
            if cause:
                raise RequestError(f"payment {payment_id} of {amount_paise} paise to account {account} is refused: {REFUSALS[cause]}")
            row = {"gateway": gateway, "payment_id": payment_id, "account": account, "amount_paise": amount_paise}
            connection.execute(payment.insert(), row | {"asked_s": self.now_s(), "state": State.PENDING.value})
        return State.PENDING

    def state(self, gateway: str, payment_id: str) -> State | None:
        """Of a payment; None = never heard of it."""
        with self.database.begin() as connection:
            mine = (payment.c.gateway == gateway, payment.c.payment_id == payment_id)
            found = connection.execute(sa.select(payment.c.state).where(*mine)).scalar()
        return None if found is None else State(found)

    def open_payments(self, gateway: str, asked_before_s: int, limit: int = 1000) -> list[tuple[str, str, int]]:
        """(payment id, account, paise) of payments that may still be paid, the longest first: what the poll asks about. A failed one is asked
        about for three days: money has come behind a failure before."""
        own, recent = payment.c.gateway == gateway, payment.c.asked_s > asked_before_s - FAILED_STAYS_S
        waits = sa.or_(payment.c.state == State.PENDING.value, sa.and_(payment.c.state == State.FAILED.value, recent))
        query = sa.select(payment.c.payment_id, payment.c.account, payment.c.amount_paise).order_by(payment.c.asked_s)
        with self.database.begin() as connection:
            return [tuple(row) for row in connection.execute(query.where(own, waits, payment.c.asked_s <= asked_before_s).limit(limit))]

    def payable(self, account: str) -> Payable:
        """What an account may pay now; RequestError where there is no such account."""
        with self.database.begin() as connection:
            found = connection.execute(sa.select(registry_account).where(registry_account.c.number == account)).first()
            latest = connection.execute(sa.select(bill).where(bill.c.account == account).order_by(bill.c.due.desc()).limit(1)).first()
        if found is None:
            raise RequestError(f"there is no account {account}; see its number")
        mode = PaymentMode(found.payment_mode)
        owed = -self._balance(account) if mode is PaymentMode.PREPAID else -self.ledger.standing(account).dues_paise
        bill_id, due = (latest.bill_id, latest.due) if latest is not None and mode is PaymentMode.POSTPAID else ("", None)
        return Payable(account, masked(found.consumer_name), mode, max(owed, 0), bill_id, due)

    def refund(self, gateway: str, payment_id: str, refund_id: str, amount_paise: int) -> Transfer:
        """Post that money goes back through the gateway, before the gateway is asked to send it; never more than was paid, in all refunds
        together. The same refund again changes nothing. RequestError by name otherwise."""
        name, now = transfer_id(gateway, payment_id), self.now_s()
        with self.database.begin(writing=True, lock="payments") as connection:
            found = connection.execute(sa.select(ledger_row).where(ledger_row.c.transfer_id == name)).first()
            if found is None:
                raise RequestError(
                    f"payment {name} is not posted, so nothing of it can be refunded; reconcile with the gateway's file first"
                )
            paid = as_row(found).transfer
            back = [as_row(r).transfer for r in connection.execute(sa.select(ledger_row).where(ledger_row.c.refers_to == name))]
            wanted = Transfer(f"{name}:{refund_id}", paid.account, self.day(now), "refund", paid.credit, paid.debit, amount_paise, name)
            same = [t for t in back if t.transfer_id == wanted.transfer_id]
            if same and same[0].amount_paise == amount_paise:
                return same[0]
            left = paid.amount_paise - sum(t.amount_paise for t in back)
            if not 0 < amount_paise <= left or same:
                raise RequestError(f"{amount_paise} paise of payment {name} cannot be refunded: {left} of {paid.amount_paise} are left")
            append(connection, [wanted], now)
        return wanted

    def day(self, at_s: int) -> date:
        """The local day of an instant: money counts for the day on which we know it."""
        return datetime.fromtimestamp(at_s, self._zone).date()


def transfer_id(gateway: str, payment_id: str) -> str:
    """Under which id a payment is posted."""
    return f"{gateway}:{payment_id}"


def masked(name: str) -> str:
    """A consumer's name as a payer may see it: the first letter of each word."""
    return " ".join(f"{word[0]}***" for word in name.split())


def _is(event: Event) -> tuple[sa.ColumnElement[bool], ...]:
    return payment.c.gateway == event.gateway, payment.c.payment_id == event.payment_id


def _of(event: Event) -> tuple[sa.ColumnElement[bool], ...]:
    return payment_event.c.gateway == event.gateway, payment_event.c.payment_id == event.payment_id


def _differs(event: Event, account: str, amount_paise: int) -> str:
    if event.account != account:
        return "conflict"
    return "" if event.amount_paise == amount_paise else "amount"
