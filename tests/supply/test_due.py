"""From a low balance to the order of a cut: told first, judged on what is known, and each refusal by its rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest

from openami.control.order import Event, Order, State, What, advance, decided
from openami.day import Site
from openami.errors import RequestError
from openami.fleet.town import Town
from openami.payments.event import Event as PaymentEvent
from openami.payments.event import Kind
from openami.store.order_book import OrderBook
from openami.store.outbox import Outbox, Stands
from openami.store.proposals import Proposals
from openami.store.supply_rows import SupplyRows
from openami.supply.due import allowed_but_for_number, needed_paise, order_proposal
from openami.supply.guard import SupplyGuard, replay
from openami.supply.paying import payment_desk
from openami.supply.settings import Settings

from .houses import FIRST, Phones, at, in_order, owing, worker_of

TOLD_DAY, CUT_DAY = FIRST + timedelta(days=1), FIRST + timedelta(days=3)


def play(site: Site, phones: Phones, settings: Settings | None = None, cut_at: str = "11:30", up: bool = True) -> int:
    """A morning on which people are told, its reports, and the noon on which they may be cut; gives that noon."""
    worker = worker_of(site, phones, settings, up)
    told_s, cut_s = at(site, TOLD_DAY, "08:00"), at(site, CUT_DAY, cut_at)
    worker.step(told_s)
    phones.report(Outbox(site.rows.database), told_s + 60)
    worker.step(cut_s)
    return cut_s


def cuts(site: Site) -> list[str]:
    return sorted(order.account for order in OrderBook(site.rows).recent() if order.what is What.DISCONNECT)


def against(site: Site, account: str) -> str:
    return SupplyRows(site.rows.database).decisions(account)[0].against


def test_who_was_told_in_time_is_ordered_to_be_cut(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    play(site, Phones())
    assert cuts(site) == owing(town)
    assert all(one.allowed for one in (SupplyRows(site.rows.database).decisions(a)[0] for a in owing(town)))


def test_many_are_asked_for_as_each_one_alone(site: Site, town: Town) -> None:
    """Accounts that are known and in every sort of trouble, one without its meter's name, and one that is nobody's."""
    in_order(site, at(site, FIRST, "08:00"))
    cut_s = play(site, Phones())
    SupplyRows(site.rows.database).tell(owing(town)[0], "life_support", True, cut_s, "asha", "an oxygen concentrator")
    points = {point.name: point.meter for point in town.points}
    orders = [Order(f"x{a.number}", What.DISCONNECT, a.number, points[a.usage_point], cut_s, who="asha") for a in town.accounts]
    orders += [replace(orders[0], order_id="y", meter=""), replace(orders[0], order_id="z", account="0"), replace(orders[1], account="")]
    guard = SupplyGuard(site)
    together = guard.ask_all(orders, cut_s)
    assert together == [guard.ask(order, cut_s) for order in orders]
    assert len({decision.allowed for decision, _ in together}) == 2


def test_nobody_is_told_twice_of_one_fall(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    worker = worker_of(site, phones, Settings())
    for day in range(1, 3):
        worker.step(at(site, FIRST + timedelta(days=day), "08:00"))
        worker_of(site, phones, Settings()).step(at(site, FIRST + timedelta(days=day), "09:00"))
    assert sorted(n.account for n in phones.took if n.kind == "before_cut") == owing(town)


def test_the_notice_says_when_at_the_earliest_and_how_much_in_the_accounts_language(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    worker_of(site, phones).step(at(site, TOLD_DAY, "08:00"))
    languages = {account.number: account.language for account in town.accounts}
    for notice in (n for n in phones.took if n.kind == "before_cut"):
        assert notice.language == languages[notice.account]
        assert ("कृपया" in notice.text) is (notice.language == "hi")
        assert "2025-12-03 10:00" in notice.text, "24 hours behind the notice, within the hours"
        assert "100.00" in notice.text, "in steps of 100 rupees"


def test_without_a_reported_delivery_nobody_is_cut(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    phones.off = set(owing(town)[1:])
    play(site, phones)
    assert cuts(site) == owing(town)[:1]
    assert against(site, owing(town)[1]) == "notice_delivered"


def test_a_carrier_that_was_down_delays_the_cut(site: Site) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    phones.down = True
    play(site, phones)
    assert cuts(site) == []
    states = {one.state for one in Outbox(site.rows.database).recent() if one.kind == "before_cut"}
    assert states == {Stands.WAITING}


def test_a_failed_message_is_an_answer_that_refuses(site: Site, town: Town) -> None:
    """Case 1 of the failures people met: supply cut without an SMS."""
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    phones.off = set(owing(town))
    play(site, phones)
    assert cuts(site) == []


Change = Callable[[Site, str, int], None]


def _tell(name: str, value: bool) -> Change:
    return lambda site, account, now_s: SupplyRows(site.rows.database).tell(account, name, value, now_s, "test", "test")


def _begun(site: Site, account: str, now_s: int) -> None:
    payment_desk(site, lambda: now_s).start("upi", "P1", account, 500_00)


def _no_pulse(site: Site, account: str, now_s: int) -> None:
    SupplyRows(site.rows.database).pulse("upi", False, now_s)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_tell("life_support", True), "life_support"),
        (_tell("dispute_open", True), "dispute"),
        (_tell("kill_switch_on", True), "kill_switch"),
        (_tell("migration_settled", False), "migration_settled"),
        (_begun, "payment_in_flight"),
        (_no_pulse, "payment_channel"),
    ],
)
def test_what_protects_refuses_by_its_name(site: Site, town: Town, change: Change, why: str) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    account, phones = owing(town)[0], Phones()
    worker = worker_of(site, phones, Settings())
    worker.step(at(site, TOLD_DAY, "08:00"))
    phones.report(Outbox(site.rows.database), at(site, TOLD_DAY, "08:01"))
    worker.step(at(site, CUT_DAY, "10:30"))
    now_s = at(site, CUT_DAY, "11:00")
    change(site, account, now_s)
    meter = next(p.meter for a in town.accounts if a.number == account for p in town.points if p.name == a.usage_point)
    decision, _ = SupplyGuard(site).ask(Order("x", What.DISCONNECT, account, meter, now_s, who="clerk"), now_s)
    assert [reason.code for reason in decision.against] == [why]


def test_nothing_that_nobody_told_is_taken_as_known(site: Site, town: Town) -> None:
    play(site, Phones())
    assert {"life_support?", "dispute?"} <= set(against(site, owing(town)[0]).split())
    assert cuts(site) == []


def test_readings_that_are_old_refuse(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    worker_of(site, Phones()).step(at(site, CUT_DAY + timedelta(days=4), "11:30"))
    assert "balance_fresh" in against(site, owing(town)[0])


def test_a_payment_before_the_order_leaves_ends_it(site: Site, town: Town) -> None:
    """The guard is asked again at the second of sending, with the balance of that second."""
    in_order(site, at(site, FIRST, "08:00"))
    cut_s, account = play(site, Phones()), owing(town)[0]
    need = needed_paise(site, account, cut_s)
    payment_desk(site, lambda: cut_s).take(PaymentEvent("upi", "E1", "P1", Kind.PAID, account, need, cut_s))
    order = next(order for order in OrderBook(site.rows).recent() if order.account == account and order.what is What.DISCONNECT)
    assert order.state is State.CANCELLED
    decision, _ = SupplyGuard(site).ask(order, cut_s + 1)
    assert {"floor_balance", "grace_below_floor", "notice_delivered"} <= {reason.code for reason in decision.against}


def test_every_kept_decision_is_made_again_alike(site: Site) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    play(site, Phones())
    kept = SupplyRows(site.rows.database).decisions(limit=1000)
    assert {one.allowed for one in kept} == {True, False}
    for one in kept:
        assert replay(site, one.number)[1].same


def test_a_milder_step_comes_first_and_is_lifted_when_paid(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    mild, phones = Settings(True, 50, 1), Phones()
    cut_s, book = play(site, phones, mild, "10:30"), OrderBook(site.rows)
    assert cuts(site) == []
    limits = {order.account: order for order in book.recent() if order.what is What.LOAD_LIMIT}
    assert sorted(limits) == owing(town)
    loads = {a.number: p.connected_load_w for a in town.accounts for p in town.points if p.name == a.usage_point}
    assert all(json.loads(order.wish)["limit_w"] <= loads[account] // 2 for account, order in limits.items())
    for order in limits.values():
        _done(book, order, cut_s + 5)
    worker_of(site, phones, mild).step(cut_s + 1800)
    assert cuts(site) == [], "an hour under the limit first"
    paid, late_s = owing(town)[0], cut_s + 3700
    payment_desk(site, lambda: late_s).take(PaymentEvent("upi", "E1", "P1", Kind.PAID, paid, 1000_00, late_s))
    worker_of(site, phones, mild).step(late_s)
    assert cuts(site) == owing(town)[1:]
    lifted = [order for order in book.recent() if order.order_id.startswith("lift:")]
    assert [(order.account, json.loads(order.wish)["limit_w"]) for order in lifted] == [(paid, loads[paid])]


def _done(book: OrderBook, order: Order, now_s: int) -> None:
    for event in (Event.ALLOW, Event.SEND, Event.ACTION_OK, Event.READ_AS_ASKED):
        order = book.record(order, advance(order, event, now_s))


def test_a_large_batch_needs_two_people_also_in_small_portions(site: Site, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    phones = Phones()
    cut_s = play(site, phones, Settings())
    policy = _policy_above(site, 2, monkeypatch)
    meters = allowed_but_for_number(policy, cut_s)
    assert len(meters) == len(owing(town))
    book, guard = OrderBook(site.rows), SupplyGuard(policy)
    orders = [book.ask(Order(f"alone{k}", What.DISCONNECT, "", meter, cut_s, who="asha", why="dues")) for k, meter in enumerate(meters[:3])]
    assert [guard(order, cut_s).allowed for order in orders] == [False, False, False]
    made = Proposals(site.rows).make("disconnect", tuple(meters[3:]), "asha", "dues", cut_s)
    with pytest.raises(RequestError, match="is waiting"):
        order_proposal(site, made, cut_s)
    with pytest.raises(RequestError, match="your own"):
        Proposals(site.rows).decide(made.id, True, "asha", cut_s)
    approved = Proposals(site.rows).decide(made.id, True, "ravi", cut_s)
    assert order_proposal(site, approved, cut_s) == 3
    assert [guard(order, cut_s).allowed for order in book.recent() if order.order_id.startswith(made.id)] == [True, True, True]


def _policy_above(site: Site, above: int, patch: pytest.MonkeyPatch) -> Site:
    """The site under rules whose number that needs two people is `above`."""
    from openami.control import policy as policies

    book = policies.load_policies()
    held = book.on(site.deployment.policy, date(2025, 12, 4))
    rules = held.rules | {"two_people": replace(held.rules["two_people"], values={"above": above})}
    patch.setitem(book.policies, "TWO", (replace(held, name="TWO", rules=rules),))
    return Site(site.folder, replace(site.deployment, policy="TWO"), site.rows, site.lake)


def test_cuts_of_the_last_hour_count_towards_the_caps(site: Site, town: Town) -> None:
    in_order(site, at(site, FIRST, "08:00"))
    cut_s, book, guard = play(site, Phones()), OrderBook(site.rows), SupplyGuard(site)
    first, *others = [book.order(o.order_id) for o in reversed(book.recent()) if o.what is What.DISCONNECT]
    feeders = {a.number: p.feeder for a in town.accounts for p in town.points if p.name == a.usage_point}
    loads = {a.number: p.connected_load_w for a in town.accounts for p in town.points if p.name == a.usage_point}
    sent = decided(first, guard(first, cut_s), cut_s)
    book.record(first, advance(sent, Event.SEND, cut_s))
    _, facts = guard.ask(others[0], cut_s + 10)
    same = feeders[first.account] == feeders[others[0].account]
    assert (facts.feeder_cuts_last_hour, facts.power_cut_last_hour_w) == (int(same), loads[first.account])
    _, later = guard.ask(others[0], cut_s + 3601)
    assert (later.feeder_cuts_last_hour, later.power_cut_last_hour_w) == (0, 0)
