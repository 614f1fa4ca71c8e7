"""The desk: takes what gateways say of payments and posts it to the ledger; says what there is to be paid; gives money back.

What always holds: an event, its posting and what follows from it (a reconnection's order) are one transaction; an event counts once by its id;
a payment is posted under `<gateway>:<payment id>` once, and its reversal under `<gateway>:<payment id>:reversed` once; what is refused leaves
nothing behind but a line in the log, with ids and the cause and no names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ..errors import RequestError
from ..prepaid.ledger import Transfer
from ..prepaid.recharge import RechargePolicy
from ..prepaid.recharge import refused as recharge_refused
from ..registry import PaymentMode
from ..store.ledger import Ledger, append, as_row
from ..store.ledger_tables import bill, ledger_row, payment
from ..store.rows import account as registry_account
from ..store.sql import Database
from .event import AMOUNT_MAX_PAISE, APART, Event, State
from .taking import REVERSED, Known, Outcome, Posted, book_of, transfer_id

log = logging.getLogger(__name__)
FAILED_STAYS_S = 3 * 86_400
REFUSALS = {
    "account": "there is no such account",
    "amount": "the amount is not the one that was asked for",
    "conflict": "this id was used for something else",
    "id": f"an id has no {APART!r} in it",
    "least": "the amount is below the smallest recharge",
    "step": "the amount is not in the steps that recharges have",
    "use": "the amount does not last for the days that a recharge must",
}


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
            known = Known.of(connection, events)
            outcomes = [known.take(event, self.day(now), now) for event in events]
            posted = known.write(connection, now)
            if posted and self._after is not None:
                self._after(connection, posted)
        for outcome in outcomes:
            if outcome.cause:
                log.warning("%s: event %s refused: %s", outcome.event.gateway, outcome.event.event_id, outcome.cause)
        return outcomes

    # -- asking -----------------------------------------------------------------------------------------------------------------

    def start(self, gateway: str, payment_id: str, account: str, amount_paise: int, policy: RechargePolicy | None = None) -> State:
        """Write down that a payment is asked for, before the gateway is; again with the same content changes nothing. RequestError by name where
        the account is not known, the amount is none that is accepted, or the id is used."""
        cause = "id" if APART in payment_id else "" if 0 < amount_paise <= AMOUNT_MAX_PAISE else "amount"
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

    def asked_for(self, gateway: str, payment_id: str) -> tuple[str, int, State] | None:
        """(account, paise, state) of a payment that was asked for; None = never heard of it."""
        with self.database.begin() as connection:
            mine = (payment.c.gateway == gateway, payment.c.payment_id == payment_id)
            found = connection.execute(sa.select(payment.c.account, payment.c.amount_paise, payment.c.state).where(*mine)).first()
        return None if found is None else (found.account, found.amount_paise, State(found.state))

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
        if APART in payment_id or APART in refund_id or refund_id in ("", REVERSED):
            raise RequestError(
                f"refund {refund_id!r} of payment {payment_id!r}: ids have no {APART!r} in them, and no refund is called {REVERSED}"
            )
        with self.database.begin(writing=True, lock="payments") as connection:
            found = connection.execute(sa.select(ledger_row).where(ledger_row.c.transfer_id == name)).first()
            if found is None:
                raise RequestError(
                    f"payment {name} is not posted, so nothing of it can be refunded; reconcile with the gateway's file first"
                )
            paid = as_row(found).transfer
            back = [as_row(r).transfer for r in connection.execute(sa.select(ledger_row).where(ledger_row.c.refers_to == name))]
            own = registry_account.c
            mode = PaymentMode(connection.execute(sa.select(own.payment_mode).where(own.number == paid.account)).scalar_one())
            wanted = Transfer(f"{name}:{refund_id}", paid.account, self.day(now), "refund", book_of(mode), paid.debit, amount_paise, name)
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


def masked(name: str) -> str:
    """A consumer's name as a payer may see it: the first letter of each word."""
    return " ".join(f"{word[0]}***" for word in name.split())
