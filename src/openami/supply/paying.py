"""The payment desk of a deployment, with what follows from a payment: the reconnection's order, in the payment's own transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import sqlalchemy as sa

from ..day.books import shown_balance_paise, shown_balances_paise
from ..day.site import Site
from ..errors import InputError
from ..payments.desk import PaymentDesk
from ..payments.reconnection import Reconnections
from ..prepaid.recharge import RechargePolicy, recharge_policy
from ..registry import PaymentMode
from ..store.ledger_tables import ledger_head
from ..store.rows import account as registry_account
from ..store.sql import among

ANY_RECHARGE = RechargePolicy("none", 0, 1, 0, (), False, "", "no recharge rules are known for this policy: what is owed must be paid")


def payment_desk(site: Site, now_s: Callable[[], int] = lambda: int(time.time())) -> PaymentDesk:
    """For webhooks, polls and clerks. A cut account that pays enough gets its order at once."""
    try:
        policy = recharge_policy(site.deployment.policy)
    except InputError:
        policy = ANY_RECHARGE

    return PaymentDesk(
        site.rows.database,
        site.deployment.zone,
        after_posting=Reconnections(
            site.rows.database, policy, lambda connection, numbers: owed_after_paise(site, connection, numbers, now_s())
        ),
        balance_paise=lambda number: shown_balance_paise(site, number, now_s()),
        now_s=now_s,
    )


def owed_after_paise(site: Site, connection: sa.Connection, numbers: Collection[str], now_s: int) -> dict[str, int]:
    """What accounts owe after what was posted in this transaction: prepaid ones the shown balance below zero, postpaid ones their dues."""
    own, head = registry_account.c, ledger_head.c
    query = sa.select(own.number, own.payment_mode, head.balance_paise, head.dues_paise).join(ledger_head, head.account == own.number)
    after = {row.number: row for row in connection.execute(query.where(among(connection, own.number, numbers)))}
    prepaid = [number for number, row in after.items() if row.payment_mode != PaymentMode.POSTPAID.value]
    stands = {number: -row.dues_paise for number, row in after.items()}
    # The shown balance reads by another connection, which does not see this transaction yet: what it adds is the difference of the heads.
    with site.rows.database.reading(), site.rows.begin() as outside:
        heads = sa.select(head.account, head.balance_paise).where(among(outside, head.account, prepaid))
        before = {row.account: row.balance_paise for row in outside.execute(heads)}
        for number, shown in shown_balances_paise(site, prepaid, now_s).items():
            stands[number] = -(shown + after[number].balance_paise - before[number])
    return {number: max(0, paise) for number, paise in stands.items()}
