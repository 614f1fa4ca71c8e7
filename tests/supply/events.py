"""All that may happen around a street of homes, as a machine that Hypothesis drives: after every event the guard is asked about every home under
every rule book, and the clerk checks each yes."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openami.control.guard import Decision, decide
from openami.control.order import Event, Order, State, What, advance, decided
from openami.control.policy import load_policies
from openami.payments.event import Event as PaymentEvent
from openami.payments.event import Kind
from openami.registry import PaymentMode
from openami.store.complaints import About, Complaints
from openami.store.ledger_conversion import convert
from openami.store.order_book import OrderBook
from openami.store.outbox import Outbox
from openami.store.proposals import Proposals
from openami.store.supply_rows import ANYBODY, SupplyRows
from openami.supply.complaints import answer
from openami.supply.guard import SupplyGuard
from openami.supply.paying import payment_desk
from openami.supply.worker import SupplyWorker

from .clerk import BOOKS, DAY_S, Behind, Diary, File, Home, forbidden
from .houses import Phones, at, worker_of
from .street import FIRST, STREET, Street

MEMORY = Path("/dev/shm")
"""Where there is one, copies of the street live in memory: a search writes often."""
MORNING, NOON = "58:30", "83:30"
"""Thursday at half past ten, when people are told; Friday at half past eleven, when cuts may be thought of."""
HOUR = 3600
A_HOME = st.integers(0, len(STREET) - 1)
PROTECTED = {
    "life_support": True,
    "dispute_open": True,
    "kill_switch_on": True,
    "migration_settled": False,
    "deposited_under_protest": True,
}
"""What a person may tell, and which word protects."""
PREPAID, POSTPAID = 0, 8
"""The homes of which a proposal is asked."""
SHARES = {"half": 55, "most": 80, "all": 100, "more": 120}


@dataclass(frozen=True, slots=True)
class Morning:
    """With what a search begins. later: the street with one more closed day; ripe: a day after people were told, when a cut is near; untold: what
    nobody has told of every other home; served: the day of postpaid homes' written notice; shown: whether their arrears were shown all the time."""

    later: bool
    policy: str
    ripe: bool
    untold: str | None
    served: str
    shown: bool


class World:
    """A copy of the street on a morning, its clock, and what the clerk has written down of it."""

    def __init__(self, street: Street, morning: Morning) -> None:
        self.street, self.policy, self.proposals = street, morning.policy, list[tuple[str, bool]]()
        self.folder = Path(tempfile.mkdtemp(prefix="openami-street-", dir=MEMORY if MEMORY.is_dir() else None))
        town = street.town
        self.meters = {a.number: next(p.meter for p in town.points if p.name == a.usage_point) for a in town.accounts}
        self.loads = {a.number: next(p.connected_load_w for p in town.points if p.name == a.usage_point) for a in town.accounts}
        self.numbers = [town.accounts[home.k].number for home in STREET]
        self.spare = [a.number for a in town.accounts if a.number not in self.numbers]
        self.phones, self.up, self.seen, self.diary = Phones(), True, set[str](), Diary()
        if morning in street.mornings:
            root, told = street.mornings[morning]
            self.site = street.copy(root, self.folder, morning.policy)
            self.now, self.phones.took, self.seen, self.diary, self.files = deepcopy(told)
            self.restart()
        else:
            self._begin(morning)

    def _begin(self, morning: Morning) -> None:
        """Live through it once, and keep it for the next one who begins so."""
        self.site = self.street.copy(self.street.roots[morning.later], self.folder, morning.policy)
        self.now = at(self.site, FIRST, MORNING)
        self.files = [self._file(home) for home in STREET]
        Outbox(self.site.rows.database).set_addresses({number: f"9{number[1:]}" for number in self.meters})
        self.restart()
        for fact in ("life_support", "dispute_open"):
            for k in range(1, len(STREET), 2) if fact == morning.untold else (None,):
                self.tell(k, fact, False)
        postpaid = (("written_notice_on", morning.served), ("deposited_under_protest", False), ("dues_shown_continuously", morning.shown))
        for k, home in enumerate(STREET):
            for name, value in postpaid if home.prepaid_since is None else ():
                self.tell(k, name, value)
        self.step()
        if morning.ripe:
            self.report(True, True)
            self.now = at(self.site, FIRST, NOON)
            self.step()
        kept = self.street.roots[0].parent / f"morning{len(self.street.mornings)}"
        self.site.rows.close()
        shutil.copytree(self.folder, kept, symlinks=True)
        self.street.mornings[morning] = kept, deepcopy((self.now, self.phones.took, self.seen, self.diary, self.files))
        self.site = self.street.opened(self.folder, morning.policy)
        self.restart()

    def close(self) -> None:
        self.site.rows.close()
        shutil.rmtree(self.folder)

    def restart(self) -> None:
        """Nothing is left but the database."""
        self.worker: SupplyWorker = worker_of(self.site, self.phones)
        self.worker._asked = lambda gateway, now_s: self.up

    @property
    def local(self) -> datetime:
        return self.site.calendar.local(self.now)

    @property
    def last_closed(self) -> date:
        return max(self.files[0].closing)

    def shown_paise(self, file: File) -> int:
        return file.closing[max(day for day in file.closing if day < self.local.date())] + sum(file.paid.values())

    def step(self) -> None:
        """The worker's step, and what a bystander sees of it: when channels were looked at, and which cuts were asked for."""
        due = self.now >= self.worker._next.get("pulse", 0)
        self.worker.step(self.now)
        if due:
            self.diary.looked_s = self.now
            self.diary.up_since = None if not self.up else self.now if self.diary.up_since is None else self.diary.up_since
        for order in OrderBook(self.site.rows).recent():
            if order.what is What.DISCONNECT and order.order_id not in self.seen:
                self.seen.add(order.order_id)
                self.diary.asked.append((order.requested_s, order.who))

    def tell(self, k: int | None, name: str, value: bool | str) -> None:
        """A person tells a fact of a home, or of everybody."""
        SupplyRows(self.site.rows.database).tell(ANYBODY if k is None else self.numbers[k], name, value, self.now, "asha", "seen")
        (self.diary.everybody if k is None else self.files[k].told)[name] = value

    def report(self, all_kinds: bool, arrived: bool) -> None:
        """The carrier reports what it took, or all of it but what is told before a cut."""
        for notice in [n for n in self.phones.took if all_kinds or n.kind != "before_cut"]:
            Outbox(self.site.rows.database).report(notice.notice_id, arrived, self.now)
            if notice.kind == "before_cut" and arrived:
                file = self.files[self.numbers.index(notice.account)]
                file.notice_s = self.now if file.notice_s is None else file.notice_s
            self.phones.took.remove(notice)

    def ask_for(self, name: str, number: str, who: str) -> Order:
        self.seen.add(name)
        order = Order(name, What.DISCONNECT, number, self.meters[number], self.now, who=who, why="dues")
        self.diary.asked.append((self.now, who))
        return OrderBook(self.site.rows).ask(order)

    def behind(self, order: Order, asked: bool) -> Behind:
        """An approved proposal's cuts go together, with two people behind them; else everything that the same one asked for in a day."""
        if order.order_id.split(":")[0] in [name for name, agreed in self.proposals if agreed]:
            return Behind(len(STREET), 2)
        mine = sum(who == order.who and order.requested_s - DAY_S <= at_s <= order.requested_s for at_s, who in self.diary.asked)
        return Behind(mine + (not asked), 0 if order.who == "supply" else 1)

    def pay(self, k: int, name: str, kind: Kind, paise: int) -> None:
        word = PaymentEvent("upi", f"E{name}{kind}", name, kind, self.numbers[k], paise, self.now)
        payment_desk(self.site, lambda: self.now).take(word)

    def _file(self, home: Home) -> File:
        town, number = self.street.town, self.street.town.accounts[home.k].number
        days = self.site.lake.days("statements")
        told = {day: _row(self.site.lake.read("statements", day, 0), number) for day in days}
        used = town.metered_wh[home.k].reshape(town.days, -1).sum(axis=1).cumsum().tolist()
        begins = max(FIRST.replace(day=1), home.prepaid_since or home.began, home.began)
        free_wh = 125_000 * (FIRST.replace(month=12, day=31) - begins).days // 31 + 125_000 // 31
        closing = {day: int(row["closing_paise"]) for day, row in told.items()}
        charged = {day: int(row["charges_paise"]) for day, row in told.items()}
        return File(home, self.loads[number], closing, charged, dict(zip(days, used, strict=False)), free_wh)


def _row(table: object, number: str) -> dict[str, object]:
    rows = table.to_pylist()  # type: ignore[attr-defined]
    return next(row for row in rows if row["account"] == number)


INCIDENTS = (
    *(f"told {name}" for name in PROTECTED),
    "all kill_switch_on",
    *("nothing", "complaint", "begun", "conversion", "channel", "hours 7", "hours 19", "hours 24", "hours 30", "low 24"),
    *("many 2", "others 1", "others 2", "proposed once", "proposed twice", "paid half", "paid all"),
)
"""What may happen first."""


class Lost(AssertionError):
    """A cut that the rules forbid: it left, or the guard would let it."""


def machine(street: Street) -> type[Supply]:
    """The machine that plays in `street`."""
    return type("SupplyHere", (Supply,), {"street": street})


class Supply(RuleBasedStateMachine):
    """The street on two or three days in December, and a head-end that sends whatever it is allowed to."""

    street: ClassVar[Street]
    world: World

    def teardown(self) -> None:
        if hasattr(self, "world"):
            if currently_in_test_context():
                event("a cut left" if self.world.diary.cuts else "no cut left")
            self.world.close()

    @initialize(
        later=st.booleans(),
        policy=st.sampled_from(["KA", "UP"]),
        ripe=st.sampled_from([True, True, True, False]),
        untold=st.sampled_from([None, None, "life_support", "dispute_open"]),
        served=st.sampled_from(["2025-11-19", "2025-11-27"]),
        shown=st.booleans(),
        incident=st.sampled_from(INCIDENTS),
        k=A_HOME,
    )
    def first_morning(
        self, later: bool, policy: str, ripe: bool, untold: str | None, served: str, shown: bool, incident: str, k: int
    ) -> None:
        """And something happens at once, while all else is in order."""
        self.world = World(self.street, Morning(later, policy, ripe, untold, served, shown))
        self._happens(incident, k)

    def _happens(self, incident: str, k: int) -> None:
        what, _, how = incident.partition(" ")
        match what:
            case "told":
                self.world.tell(k, how, PROTECTED[how])
            case "all":
                self.world.tell(None, how, PROTECTED[how])
            case "complaint":
                self.complains(k)
            case "begun":
                self.a_payment_begins(k)
            case "conversion":
                self.a_conversion_is_refused(k)
            case "channel":
                self.nobody_can_pay_for_a_while()
            case "hours" | "low":
                if what == "low":
                    self.world.report(False, True)
                self.time_passes(int(how) * HOUR, "works")
            case "many":
                self.a_clerk_orders_many(int(how))
            case "others":
                self.others_are_cut(int(how))
            case "proposed":
                self.the_whole_street_is_proposed(how == "twice")
            case "paid" if self._open():
                if how == "half":
                    self.a_cut_is_tried(k)
                self.pay(k, how)

    # -- time, processes, carriers ----------------------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([60, 1700, 3 * HOUR, 7 * HOUR, 19 * HOUR, 24 * HOUR]),
        worker=st.sampled_from(["works", "begins anew", "is down"]),
    )
    def time_passes(self, seconds: int, worker: str) -> None:
        world = self.world
        world.now = min(world.now + seconds, at(world.site, FIRST, "140:00"))
        if worker == "begins anew":
            world.restart()
        if worker != "is down":
            world.step()

    @rule()
    def nobody_can_pay_for_a_while(self) -> None:
        world = self.world
        for world.up in (False, True):
            world.now += 300
            world.step()

    @rule(all_kinds=st.booleans(), arrived=st.sampled_from([True, True, False]))
    def carrier_reports(self, all_kinds: bool, arrived: bool) -> None:
        self.world.report(all_kinds, arrived)

    # -- money ------------------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Whether money of today is not yet in a statement."""
        return self.world.local.date() > self.world.last_closed

    @precondition(_open)
    @rule(k=A_HOME, share=st.sampled_from(sorted(SHARES)))
    def pay(self, k: int, share: str) -> None:
        world, file = self.world, self.world.files[k]
        owed = -world.shown_paise(file) if file.prepaid else 5000_00 - sum(file.paid.values())
        paise, name = max(100, owed * SHARES[share] // 100), f"P{len(world.seen)}:{secrets.token_hex(4)}"
        world.pay(k, name, Kind.PAID, paise)
        file.paid[name] = paise
        file.paid_since_cut += paise
        whole = owed + file.paid_since_cut - paise
        if file.cut_s is not None and world.policy == "UP" and file.back_until is None and owed > paise:
            days = next((days for percent, days in ((75, 7), (50, 3)) if file.paid_since_cut * 100 >= whole * percent), 0)
            file.back_until = date.fromordinal(world.local.date().toordinal() + days) if days else None

    @precondition(lambda self: any(file.paid for file in self.world.files))
    @rule()
    def a_payment_is_taken_back(self) -> None:
        k = next(k for k, file in enumerate(self.world.files) if file.paid)
        file = self.world.files[k]
        name, paise = file.paid.popitem()
        self.world.pay(k, name, Kind.REVERSED, paise)
        file.back_until = None

    @rule(k=A_HOME)
    def a_payment_begins(self, k: int) -> None:
        name = f"B{secrets.token_hex(4)}"
        payment_desk(self.world.site, lambda: self.world.now).start("upi", name, self.world.numbers[k], 100_00)
        self.world.files[k].begun[name] = self.world.now

    @precondition(lambda self: any(file.begun for file in self.world.files))
    @rule()
    def a_payment_fails(self) -> None:
        k = next(k for k, file in enumerate(self.world.files) if file.begun)
        name, _ = self.world.files[k].begun.popitem()
        self.world.pay(k, name, Kind.FAILED, 100_00)

    @rule(k=A_HOME)
    def a_conversion_is_refused(self, k: int) -> None:
        """Nobody's deposit is known, so nobody can be converted; the refusal stands."""
        world = self.world
        to = PaymentMode.POSTPAID if world.files[k].prepaid else PaymentMode.PREPAID
        name, number = f"C{secrets.token_hex(4)}", world.numbers[k]
        done = convert(world.site.rows.database, name, to, world.local.date(), world.now, who="asha", why="order", numbers=[number])
        assert (done.converted, done.refused) == (0, 1)
        world.files[k].unsettled = True

    # -- people -----------------------------------------------------------------------------------------------------------------

    @rule(k=st.sampled_from([None, *range(len(STREET))]), name=st.sampled_from(sorted(PROTECTED)))
    def somebody_tells_what_protects(self, k: int | None, name: str) -> None:
        self.world.tell(k, name, PROTECTED[name])

    @rule(k=st.sampled_from([None, *range(len(STREET))]), name=st.sampled_from(sorted(PROTECTED)))
    def somebody_takes_it_back(self, k: int | None, name: str) -> None:
        self.world.tell(k, name, not PROTECTED[name])

    @rule(k=A_HOME)
    def complains(self, k: int) -> None:
        world = self.world
        form = secrets.token_hex(12)  # the same words would be the complaint that waits already
        made = Complaints(world.site.rows.database).make(world.numbers[k], About.AMOUNT, f"too much, {form}", form, world.now)
        world.files[k].complaints.append(made.id)

    @precondition(lambda self: any(file.complaints for file in self.world.files))
    @rule()
    def a_clerk_answers(self) -> None:
        file = next(file for file in self.world.files if file.complaints)
        answer(self.world.site, file.complaints.pop(), "looked into", self.world.now, "asha")

    # -- cuts -------------------------------------------------------------------------------------------------------------------

    @rule(count=st.sampled_from([1, 2, 3]))
    def a_clerk_orders_many(self, count: int) -> None:
        for number in self.world.spare[:count]:
            self.world.ask_for(f"many{len(self.world.seen)}", number, "asha")

    @rule(count=st.sampled_from([1, 2, 3]))
    def others_are_cut(self, count: int) -> None:
        """By somebody else, elsewhere on the feeder."""
        book = OrderBook(self.world.site.rows)
        for number in self.world.spare[-count:]:
            order = self.world.ask_for(f"other{len(self.world.seen)}", number, "ravi")
            order = book.record(order, decided(order, self._yes(), self.world.now))
            book.record(order, advance(order, Event.SEND, self.world.now))
            self.world.diary.cuts.append((self.world.now, self.world.loads[number]))

    def _yes(self) -> Decision:
        """Of another town's guard."""
        return Decision(True, (), "elsewhere", self.world.local, self.world.local + timedelta(minutes=5))

    @rule(agrees=st.booleans())
    def the_whole_street_is_proposed(self, agrees: bool) -> None:
        world, proposals = self.world, Proposals(self.world.site.rows)
        made = proposals.make("disconnect", tuple(world.meters[number] for number in world.numbers), "asha", "dues", world.now)
        if agrees:
            proposals.decide(made.id, True, "ravi", world.now)
        world.proposals.append((made.id, agrees))

    @rule()
    def the_head_end_sends_what_it_may(self) -> None:
        """As its desk does: the guard is asked right before a cut leaves."""
        world = self.world
        book, guard = OrderBook(world.site.rows), SupplyGuard(world.site)
        for waiting in book.due_now(world.now):
            order = book.order(waiting.order_id)
            if order.account not in world.numbers or order.what is not What.DISCONNECT:
                continue
            if order.state not in (State.REQUESTED, State.ALLOWED):
                continue
            order = book.record(order, decided(order, guard(order, world.now), world.now))
            if order.state is State.ALLOWED:
                book.record(order, advance(order, Event.SEND, world.now))
                self._left(order)

    def _left(self, order: Order) -> None:
        world = self.world
        file = world.files[world.numbers.index(order.account)]
        why = forbidden(BOOKS[world.policy], world.diary, file, world.local, world.now, world.behind(order, asked=True))
        if why:
            raise Lost(f"a cut left that the rules forbid: {', '.join(why)}")
        file.cut_s, file.paid_since_cut, file.back_until = world.now, 0, None
        world.diary.cuts.append((world.now, file.load_w))

    @rule(k=A_HOME)
    def a_cut_is_tried(self, k: int) -> None:
        self.world.ask_for(f"clerk{len(self.world.seen)}", self.world.numbers[k], "asha")
        self.the_head_end_sends_what_it_may()

    @invariant()
    def the_guard_allows_nothing_that_is_forbidden(self) -> None:
        """Asked after every event about every home, alone and under each proposal, by every rule book: no search needs a clerk who asks in the
        right second."""
        if not hasattr(self, "world"):
            return
        world = self.world
        asked = [(k, f"asked:{world.meters[number]}") for k, number in enumerate(world.numbers)]
        asked += [(k, f"{name}:{world.meters[world.numbers[k]]}") for name, _ in world.proposals[-1:] for k in (PREPAID, POSTPAID)]
        orders = [
            Order(name, What.DISCONNECT, world.numbers[k], world.meters[world.numbers[k]], world.now, who="asha", why="dues")
            for k, name in asked
        ]
        answers = SupplyGuard(world.site).ask_all(orders, world.now)
        for (k, _), order, (_, facts) in zip(asked, orders, answers, strict=True):
            for name, book in BOOKS.items():
                if decide(load_policies().on(name, world.local.date()), facts, world.local).allowed:
                    why = forbidden(book, world.diary, world.files[k], world.local, world.now, world.behind(order, asked=False))
                    if why:
                        raise Lost(f"{name}, {STREET[k].name}: the guard would allow a cut that the rules forbid: {', '.join(why)}")
