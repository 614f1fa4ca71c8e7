"""A search for a sequence of events that ends in a cut which the rules forbid: what they forbid is written here a second time, plainly."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from openami.control.order import Event, Order, State, What, advance, decided
from openami.day import Site
from openami.fleet.town import Town
from openami.payments.event import Event as PaymentEvent
from openami.payments.event import Kind
from openami.store.complaints import About, Complaints
from openami.store.deployment import Folder
from openami.store.order_book import OrderBook
from openami.store.outbox import Outbox
from openami.store.supply_rows import SupplyRows
from openami.supply.complaints import answer
from openami.supply.guard import SupplyGuard
from openami.supply.paying import payment_desk
from openami.supply.worker import SupplyWorker

from .houses import DAYS, FIRST, POLICY, Phones, at, in_order, owing, worker_of

HOUR = 3600
QUICK = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target)
"""A failure is told as it was found: making it smaller would take minutes of closed towns."""
NEVER_ASKED = 10
"""As if everything had stood in the way."""


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
            self.owed = {day: -self._closing_paise(day) for day in self.site.lake.days("statements")}
            self.now, self.phones, self.up = at(self.site, FIRST, "09:00"), Phones(), True
            self.paid: dict[int, int] = {}
            self.pending, self.flags, self.cut = False, {"life_support": False, "dispute_open": False, "kill_switch_on": False}, False
            self.complaints: list[str] = []
            self.nearest = -NEVER_ASKED
            self.up_since: int | None = None
            self.looked_s = 0
            self.delivered_s: int | None = None
            in_order(self.site, self.now)
            self._new_worker()

        def teardown(self) -> None:
            """Tells Hypothesis how near the search came, so that it goes on from the sequences in which most was in order."""
            if currently_in_test_context():
                event("a cut left" if self.cut else "no cut left")
                target(float(self.nearest), label="how little stood in the way of a cut")
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

        @rule()
        def complains(self) -> None:
            made = Complaints(self.site.rows.database).make(self.account, About.AMOUNT, "too much", secrets.token_hex(12), self.now)
            self.complaints.append(made.id)

        @precondition(lambda self: self.complaints)
        @rule()
        def a_clerk_answers(self) -> None:
            answer(self.site, self.complaints.pop(), "looked into", self.now, "asha")

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

        @rule()
        def a_day_passes(self) -> None:
            self.time_passes(24 * HOUR + 60)
            self.step()

        @invariant()
        def the_guard_allows_nothing_that_is_forbidden(self) -> None:
            """Asked after every event, so that no sequence needs a clerk who asks in the right second."""
            if self.looked_s:
                order = Order("asked", What.DISCONNECT, self.account, self.meter, self.now, who="asha", why="dues")
                decision, _ = SupplyGuard(self.site).ask(order, self.now)
                forbidden = self._forbidden()
                self.nearest = max(self.nearest, -len(forbidden))
                assert not decision.allowed or forbidden == [], "the guard would allow a cut that the rules forbid"

        @rule()
        def a_cut_is_tried(self) -> None:
            self.a_clerk_orders_the_cut()
            self.the_head_end_sends_what_it_may()

        def _closing_paise(self, day: date) -> int:
            """As the consumer was told; nothing was paid on the closed days."""
            rows = self.site.lake.read("statements", day, 0, columns=["account", "closing_paise"]).to_pydict()
            return int(rows["closing_paise"][rows["account"].index(self.account)])

        def _forbidden(self) -> list[str]:
            """Karnataka's rules and the guarantees, as a clerk would check them by hand."""
            local = self.site.calendar.local(self.now)
            closed_s = self.site.calendar.day_start(min(local.date(), FIRST.replace(day=FIRST.day + DAYS)))
            checks = {
                "hours": 10 <= local.hour < 17,
                "nothing owed": sum(self.paid.values()) <= max((d, owed) for d, owed in self.owed.items() if d < local.date())[1],
                "not told a day before": self.delivered_s is not None and self.now - self.delivered_s >= 24 * HOUR,
                "old readings": self.now - closed_s <= 30 * HOUR,
                "payment on its way": not self.pending,
                "channel": self.up_since is not None and self.now - self.up_since >= 24 * HOUR and self.now - self.looked_s <= 1800,
            }
            checks["complaint"] = not self.complaints
            return [name for name, fine in checks.items() if not fine] + [name for name, on in self.flags.items() if on]

    return Supply


@pytest.mark.parametrize("examples", [12])
def test_no_sequence_of_events_ends_in_a_cut_that_the_rules_forbid(closed: tuple[Path, Town], examples: int) -> None:
    quiet = settings(max_examples=examples, stateful_step_count=20, deadline=None, phases=QUICK, suppress_health_check=list(HealthCheck))
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
