"""A search for a sequence of events that ends in a cut which the rules forbid: what they forbid is written here a second time, plainly."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from openami.control.order import Event, Order, State, What, advance, decided
from openami.day import Site
from openami.fleet.town import Town
from openami.payments.event import Event as PaymentEvent
from openami.payments.event import Kind
from openami.store.deployment import Folder
from openami.store.order_book import OrderBook
from openami.store.outbox import Outbox
from openami.store.supply_rows import SupplyRows
from openami.supply.guard import SupplyGuard
from openami.supply.paying import payment_desk
from openami.supply.worker import SupplyWorker

from .houses import DAYS, FIRST, POLICY, Phones, at, in_order, owing, worker_of

HOUR = 3600


def machine(root: Path, town: Town) -> Callable[[], RuleBasedStateMachine]:
    class Supply(RuleBasedStateMachine):
        """One household that owes, all that may happen around it, and a head-end that sends whatever it is allowed to."""

        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp(prefix="openami-supply-"))
            shutil.copytree(root, self.folder / "town")
            opened = Site.open(Folder(self.folder / "town"))
            self.site = Site(opened.folder, replace(opened.deployment, policy=POLICY), opened.rows, opened.lake)
            self.account = owing(town)[0]
            self.meter = next(p.meter for a in town.accounts if a.number == self.account for p in town.points if p.name == a.usage_point)
            self.owed = -next(a.opening_paise for a in town.accounts if a.number == self.account)
            self.now, self.phones, self.up = at(self.site, FIRST, "09:00"), Phones(), True
            self.paid: dict[int, int] = {}
            self.pending, self.flags, self.cut = False, {"life_support": False, "dispute_open": False, "kill_switch_on": False}, False
            self.up_since: int | None = None
            self.looked_s = 0
            self.delivered_s: int | None = None
            in_order(self.site, self.now)
            self._new_worker()

        def teardown(self) -> None:
            self.site.rows.close()
            shutil.rmtree(self.folder)

        def _new_worker(self) -> None:
            """As after a restart: nothing is left but the database."""
            self.worker: SupplyWorker = worker_of(self.site, self.phones)
            self.worker._asked = lambda gateway, now_s: self.up

        @initialize(later=st.booleans())
        def first_morning(self, later: bool) -> None:
            """Told on the first morning; half of the searches begin a day later, when a cut is near."""
            self.now = at(self.site, FIRST, "34:30")
            self.step()
            if later:
                self.carrier_reports()
                self.time_passes(24 * HOUR + 60)
                self.step()

        @rule(seconds=st.sampled_from([60, 1700, 3 * HOUR, 5 * HOUR, 24 * HOUR, 24 * HOUR + 60]))
        def time_passes(self, seconds: int) -> None:
            self.now = min(self.now + seconds, at(self.site, FIRST, "110:00"))

        @rule()
        def step(self) -> None:
            due = self.now >= self.worker._next.get("pulse", 0)
            self.worker.step(self.now)
            if due:
                self.looked_s = self.now
                self.up_since = None if not self.up else self.now if self.up_since is None else self.up_since

        @rule()
        def restart(self) -> None:
            self._new_worker()

        @rule()
        def carrier_reports(self) -> None:
            self.phones.report(Outbox(self.site.rows.database), self.now)
            if self.delivered_s is None and any(n.account == self.account and n.kind == "before_cut" for n in self.phones.took):
                self.delivered_s = self.now

        @rule(rupees=st.sampled_from([1, 50, 100, 1000]))
        def pay(self, rupees: int) -> None:
            number = len(self.paid)
            self._told(number, Kind.PAID, rupees * 100)
            self.paid[number] = rupees * 100

        @precondition(lambda self: any(self.paid.values()))
        @rule()
        def payment_is_taken_back(self) -> None:
            number = max(n for n, paise in self.paid.items() if paise)
            self._told(number, Kind.REVERSED, self.paid[number])
            self.paid[number] = 0

        def _told(self, number: int, kind: Kind, paise: int) -> None:
            event = PaymentEvent("upi", f"E{number}{kind}", f"P{number}", kind, self.account, paise, self.now)
            payment_desk(self.site, lambda: self.now).take(event)

        @rule()
        def payment_begins(self) -> None:
            payment_desk(self.site, lambda: self.now).start("upi", "begun", self.account, 100_00)
            self.pending = True

        @rule(name=st.sampled_from(["life_support", "dispute_open", "kill_switch_on"]), value=st.booleans())
        def somebody_tells(self, name: str, value: bool) -> None:
            SupplyRows(self.site.rows.database).tell(self.account, name, value, self.now, "test", "test")
            self.flags[name] = value

        @rule(up=st.booleans())
        def channel(self, up: bool) -> None:
            self.up = up

        @rule()
        def a_clerk_orders_the_cut(self) -> None:
            name = f"clerk{len(OrderBook(self.site.rows).of_meter(self.meter))}"
            OrderBook(self.site.rows).ask(Order(name, What.DISCONNECT, self.account, self.meter, self.now, who="asha", why="dues"))

        @rule()
        def the_head_end_sends_what_it_may(self) -> None:
            """As its desk does: the guard is asked right before a cut leaves."""
            book, guard = OrderBook(self.site.rows), SupplyGuard(self.site)
            for waiting in book.due_now(self.now):
                order = book.order(waiting.order_id)
                if order.meter != self.meter or order.what is not What.DISCONNECT or order.state not in (State.REQUESTED, State.ALLOWED):
                    continue
                order = book.record(order, decided(order, guard(order, self.now), self.now))
                if order.state is State.ALLOWED:
                    book.record(order, advance(order, Event.SEND, self.now))
                    assert self._forbidden() == [], "a cut left that the rules forbid"
                    self.cut = True

        def _forbidden(self) -> list[str]:
            """Karnataka's rules and the guarantees, as a clerk would check them by hand."""
            local = self.site.calendar.local(self.now)
            closed_s = self.site.calendar.day_start(min(local.date(), FIRST.replace(day=FIRST.day + DAYS)))
            checks = {
                "hours": 10 <= local.hour < 17,
                "nothing owed": sum(self.paid.values()) <= self.owed,
                "not told a day before": self.delivered_s is not None and self.now - self.delivered_s >= 24 * HOUR,
                "old readings": self.now - closed_s <= 30 * HOUR,
                "payment on its way": not self.pending,
                "channel": self.up_since is not None and self.now - self.up_since >= 24 * HOUR and self.now - self.looked_s <= 1800,
            }
            return [name for name, fine in checks.items() if not fine] + [name for name, on in self.flags.items() if on]

    return Supply


@pytest.mark.parametrize("examples", [8])
def test_no_sequence_of_events_ends_in_a_cut_that_the_rules_forbid(closed: tuple[Path, Town], examples: int) -> None:
    quiet = settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine(*closed), settings=quiet)


def test_the_search_reaches_cuts(closed: tuple[Path, Town]) -> None:
    """Else it would prove nothing: the straight way through the machine ends in a cut, and with a word about life support in none."""
    for told, cut in ((False, True), (True, False)):
        one = machine(*closed)()
        one.first_morning(False)
        one.carrier_reports()
        one.time_passes(24 * HOUR + 60)
        one.somebody_tells("life_support", told)
        one.step()
        one.the_head_end_sends_what_it_may()
        assert one.cut is cut
        one.teardown()
