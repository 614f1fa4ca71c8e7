"""The disconnection guard as the head-end asks it: what the platform knows of an order's account at this moment, judged by the deployment's policy.

What always holds: nothing is known that was not looked up for this very order: a fact that nobody keeps yet (is a life-support device there, does
recharging work, was the notice delivered) stays unknown, and the guard refuses on it; so does an account that the last close does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pyarrow.compute as pc

from ..billing.tariff import load_tariffs
from ..control.guard import Decision, decide
from ..control.order import Order
from ..control.policy import load_policies
from ..control.rules import Facts
from ..registry import Account, PaymentMode
from ..store.deployment import Folder
from .site import Site

Guard = Callable[[Order, int], Decision]


def folder_guard(folder: Folder) -> Guard:
    """The guard of a data folder. It reads registry and statements anew each time that it is asked."""

    def ask(order: Order, now_s: int) -> Decision:
        site = Site.open(folder)
        try:
            now = site.calendar.local(now_s)
            return decide(load_policies().on(site.deployment.policy, now.date()), facts_of(site, order, now.date()), now)
        finally:
            site.rows.close()

    return ask


def facts_of(site: Site, order: Order, today: date) -> Facts:
    """What is known of the order's account; of an order without an account, of the one at its meter's usage point. Unknown stays None."""
    points = [
        p.name for p in site.rows.usage_points() if p.meter == order.meter and p.since <= today and (p.until is None or today < p.until)
    ]
    found = [a for a in site.rows.accounts() if a.usage_point in points]
    if order.account:
        found = [a for a in found if a.number == order.account]
    if len(found) != 1:
        return Facts()
    account = found[0]
    statement = _newest_statement(site, account, today)
    known: dict[str, Any] = {"payment_mode": account.payment_mode.value, "converted_on": account.mode_since, "batch_size": 1}
    if statement is None:
        return Facts(**known)
    tariff = load_tariffs().on(account.tariff, statement["day"])
    return Facts(
        **known,
        category=tariff.category,
        sanctioned_load_w=statement["connected_load_w"],
        balance_paise=statement["closing_paise"] if account.payment_mode is PaymentMode.PREPAID else None,
        balance_as_of=statement["measured_until"],
        below_floor_since=statement["below_since"],
        estimate_in_reckoning=statement["uncertain_to_date"],
        within_free_units=statement["within_free_units"],
    )


def _newest_statement(site: Site, account: Account, today: date) -> dict[str, Any] | None:
    """The last closed day's statement of an account, with its day; None where no day before today tells of it."""
    for back in range(1, site.deployment.days + 1):
        day = min(today, site.deployment.open_days[-1] + timedelta(days=1)) - timedelta(days=back)
        for shard in site.rows.shards():
            if not site.lake.has("statements", day, shard):
                continue
            rows = site.lake.read("statements", day, shard)
            own = rows.filter(pc.equal(rows["account"].cast("string"), account.number))
            if own.num_rows:
                return {**own.to_pylist()[0], "day": day}
    return None
