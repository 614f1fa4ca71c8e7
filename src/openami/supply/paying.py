"""The payment desk of a deployment, with what follows from a payment: the reconnection's order, in the payment's own transaction."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from ..day.books import shown_balance_paise
from ..day.site import Site
from ..errors import InputError
from ..payments.desk import PaymentDesk
from ..payments.reconnection import Reconnections
from ..prepaid.recharge import RechargePolicy, recharge_policy
from ..registry import PaymentMode
from ..store.ledger_tables import ledger_head
from ..store.rows import account as registry_account

ANY_RECHARGE = RechargePolicy("none", 0, 1, 0, (), False, "", "no recharge rules are known for this policy: what is owed must be paid")


def payment_desk(site: Site, now_s: Callable[[], int] = lambda: int(time.time())) -> PaymentDesk:
    """For webhooks, polls and clerks. A cut account that pays enough gets its order at once."""
    try:
        policy = recharge_policy(site.deployment.policy)
    except InputError:
        policy = ANY_RECHARGE

    def owed_paise(connection: sa.Connection, number: str) -> int:
        return _owed_after(site, connection, number, now_s())

    return PaymentDesk(
        site.rows.database,
        site.deployment.zone,
        after_posting=Reconnections(site.rows.database, policy, owed_paise),
        balance_paise=lambda number: shown_balance_paise(site, number, now_s()),
        now_s=now_s,
    )


def _owed_after(site: Site, connection: sa.Connection, number: str, now_s: int) -> int:
    """What an account owes after what was posted in this transaction: of a prepaid one the shown balance below zero, of a postpaid one its dues."""
    own = registry_account.c
    mode = connection.execute(sa.select(own.payment_mode).where(own.number == number)).scalar_one()
    head = connection.execute(sa.select(ledger_head).where(ledger_head.c.account == number)).one()
    if mode == PaymentMode.POSTPAID.value:
        return max(0, -int(head.dues_paise))
    # The shown balance reads by another connection, which does not see this transaction yet: what it adds is the difference of the heads.
    with site.rows.begin() as outside:
        before = outside.execute(sa.select(ledger_head.c.balance_paise).where(ledger_head.c.account == number)).scalar_one()
    return max(0, -(shown_balance_paise(site, number, now_s) + int(head.balance_paise) - int(before)))
