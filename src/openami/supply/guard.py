"""The guard as the head-end asks it: the facts of this second, the policy of today, and every answer kept with its reasons and inputs.

What always holds: the answer is in the database before it is given; the same record gives the same answer again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..control.guard import Decision, decide
from ..control.order import Order
from ..control.policy import load_policies
from ..control.record import Again, again, against_text, facts_text, reasons_text
from ..control.rules import Facts
from ..day.site import Site
from ..errors import InputError
from ..store.deployment import Folder
from ..store.supply_rows import Kept, SupplyRows
from .facts import facts_of_all


@dataclass
class SupplyGuard:
    """For `Headend(guard=...)` and for the worker. One of a process; it reads the facts anew each time."""

    site: Site

    @classmethod
    def of(cls, folder: Folder) -> SupplyGuard:
        return cls(Site.open(folder))

    def __call__(self, order: Order, now_s: int) -> Decision:
        """May this order's supply be cut now? Kept, whatever the answer."""
        decision, facts = self.ask(order, now_s)
        self.keep(order, decision, facts)
        return decision

    def ask(self, order: Order, now_s: int) -> tuple[Decision, Facts]:
        """The answer without keeping it, and what it rests on."""
        return self.ask_all([order], now_s)[0]

    def ask_all(self, orders: Sequence[Order], now_s: int) -> list[tuple[Decision, Facts]]:
        """`ask` for each of many orders, as if it were the only one."""
        now = self.site.calendar.local(now_s)
        policy = load_policies().on(self.site.deployment.policy, now.date())
        return [(decide(policy, facts, now), facts) for facts in facts_of_all(self.site, orders, now_s)]

    def keep(self, order: Order, decision: Decision, facts: Facts) -> int:
        """Gives the decision's number."""
        return SupplyRows(self.site.rows.database).keep(_row(order, decision, facts))

    def keep_changed(self, answers: Sequence[tuple[Order, Decision, Facts]]) -> None:
        """Keep of many answers those that are a yes, or differ from the newest that is kept of their account."""
        rows = SupplyRows(self.site.rows.database)
        before = rows.newest([order.account for order, _, _ in answers])
        rows.keep_all([_row(*one) for one in answers if one[1].allowed or before.get(one[0].account) != (False, against_text(one[1]))])


def _row(order: Order, decision: Decision, facts: Facts) -> dict[str, Any]:
    row = {"at_s": int(decision.now_local.timestamp()), "account": order.account, "meter": order.meter, "order_id": order.order_id}
    row |= {"policy": decision.policy, "allowed": decision.allowed, "against": against_text(decision)}
    return row | {"facts": facts_text(facts), "reasons": reasons_text(decision)}


def replay(site: Site, number: int) -> tuple[Kept, Again]:
    """A kept decision made again. InputError where there is none of that number."""
    kept = SupplyRows(site.rows.database).decision(number)
    if kept is None:
        raise InputError(f"there is no decision {number}; see `openami supply decisions`")
    return kept, again(load_policies(), kept.policy, site.calendar.local(kept.at_s), kept.facts, kept.reasons)


def folder_guard(folder: Folder) -> Callable[[Order, int], Decision]:
    """The guard of a data folder, for a head-end. The folder is opened when it is first asked."""
    opened: list[SupplyGuard] = []

    def ask(order: Order, now_s: int) -> Decision:
        if not opened:
            opened.append(SupplyGuard.of(folder))
        return opened[0](order, now_s)

    return ask
