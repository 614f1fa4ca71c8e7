"""Closed days billed: what postpaid accounts were charged for becomes their bill, with its due date, in the ledger.

What always holds: a bill is exactly the statements of its days, adjustments among them; it begins with the first day that was not billed or settled
before, so that no day is left out and none is billed twice; prepaid days are never billed (`ledger settle` takes them).
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..errors import DataError, InputError
from ..prepaid.postpaid import due_on, postpaid_policy
from ..registry import PaymentMode
from ..store.ledger_bills import issue_bills
from ..store.ledger_tables import ledger_head
from .site import Site

TAKEN = ("account", "opening_paise", "recharges_paise", "closing_paise")


def bill_through(site: Site, last: date, issued: date, now_s: int) -> int:
    """Bill every account that is postpaid on `last` up to that local day; due by the deployment's policy of the day of issue. Gives how many bills
    were made. DataError where a day that is to be billed is not closed, InputError where `last` is not over when the bill is issued."""
    if last >= issued:
        raise InputError(f"days up to {last} cannot be billed on {issued}; give days that are over")
    policy, made = postpaid_policy(site.deployment.policy, issued), 0
    for first, numbers in sorted(_unbilled(site, last).items()):
        days = (first + timedelta(days=k) for k in range((last - first).days + 1))
        taken = pa.concat_tables([_taken(site, day, shard) for day in days for shard in site.rows.shards()])
        total = taken.group_by("account").aggregate([("paise", "sum")])
        own = total.filter(pc.is_in(total["account"], pa.array(numbers, pa.string()))).sort_by("account")
        amounts = np.asarray(own["paise_sum"].to_numpy(), np.int64)
        made += issue_bills(site.rows.database, own["account"].to_pylist(), amounts, (first, last), issued, due_on(policy, issued), now_s)
    return made


def _unbilled(site: Site, last: date) -> dict[date, list[str]]:
    """Accounts by the first day that is still to be billed."""
    with site.rows.begin() as connection:
        query = sa.select(ledger_head.c.account, ledger_head.c.charged_to).where(ledger_head.c.charged_to.is_not(None))
        charged_to = {row.account: row.charged_to for row in connection.execute(query)}
    found = defaultdict(list)
    for account in site.rows.accounts(last):
        if account.payment_mode is PaymentMode.POSTPAID:
            done = charged_to.get(account.number, date.min)
            first = max(done + timedelta(days=1), account.since, account.mode_since, site.deployment.first_day)
            if first <= last:
                found[first].append(account.number)
    return found


def _taken(site: Site, day: date, shard: int) -> pa.Table:
    """account, paise: what a day's statements took."""
    if not site.lake.has("statements", day, shard):
        raise DataError(f"{day} of shard {shard} is not closed, so it cannot be billed; close it first, or bill up to an earlier day")
    rows = site.lake.read("statements", day, shard, columns=TAKEN)
    paise = pc.subtract(pc.add(rows["opening_paise"], rows["recharges_paise"]), rows["closing_paise"])
    return pa.table({"account": rows["account"].cast(pa.string()), "paise": paise})
