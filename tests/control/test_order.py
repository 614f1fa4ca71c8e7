"""The life of an order: every pair of state and event is in the table or refused; no cut without a fresh decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openami.control import decide, load_policies
from openami.control.guard import DECISION_AGE_S
from openami.control.order import (
    END,
    TABLE,
    TOLD,
    Closing,
    Event,
    Order,
    State,
    What,
    advance,
    closing,
    decided,
    possible,
    reading,
)
from openami.errors import RequestError

from .scenarios import in_order_at

NOON = datetime(2025, 10, 8, 12, 0, tzinfo=ZoneInfo("Asia/Kolkata"))
NOON_S = int(NOON.timestamp())


def decision(now=NOON, **changes):
    facts = replace(in_order_at(now), **({"balance_paise": -100, "below_floor_since": date(2025, 9, 1)} | changes))
    return decide(load_policies().on("BR", now.date()), facts, now)


def order(what, state=State.REQUESTED):
    return Order("o1", what, "A1", "M1", NOON_S, state)


@pytest.mark.parametrize(("what", "state", "event"), [*product(What, State, Event)])
def test_every_pair_is_in_the_table_or_refused(what, state, event):
    held = replace(order(what, state), decision=decision(), decided_s=NOON_S)
    if (state, event) in TABLE[what]:
        assert advance(held, event, NOON_S).state is TABLE[what][state, event]
    else:
        with pytest.raises(RequestError, match=f"{event} is not possible there; possible are"):
            advance(held, event, NOON_S)


@pytest.mark.parametrize(("what", "state"), [*product(What, State)])
def test_only_an_end_has_no_way_out(what, state):
    held = order(what, state)
    reachable = set(TABLE[what].values()) | {State.REQUESTED}
    if state in reachable:
        assert held.done == (not possible(held))


def test_a_cut_that_the_guard_refuses_keeps_its_reasons():
    after = decided(order(What.DISCONNECT), decision(life_support=True), NOON_S)
    assert (after.state, after.steps[-1].note) == (State.REFUSED, "life_support")


def test_a_cut_is_not_allowed_without_the_guard():
    with pytest.raises(RequestError, match="allowed by the guard alone"):
        advance(order(What.DISCONNECT), Event.ALLOW, NOON_S)


def test_a_cut_is_not_sent_on_an_old_decision_but_after_asking_again():
    allowed = decided(order(What.DISCONNECT), decision(), NOON_S)
    late = NOON_S + DECISION_AGE_S
    with pytest.raises(RequestError, match="ask it again before sending"):
        advance(allowed, Event.SEND, late)
    again = decided(allowed, decision(NOON + timedelta(seconds=DECISION_AGE_S)), late)
    assert advance(again, Event.SEND, late).state is State.SENT


def test_a_decision_of_the_last_minute_is_not_acted_upon_after_hours():
    last = NOON.replace(hour=17, minute=29)
    allowed = decided(order(What.DISCONNECT), decision(last), int(last.timestamp()))
    with pytest.raises(RequestError, match="has expired"):
        advance(allowed, Event.SEND, int(last.timestamp()) + 60)


def test_a_payment_between_decision_and_sending_refuses_when_asked_again():
    allowed = decided(order(What.DISCONNECT), decision(), NOON_S)
    assert decided(allowed, decision(payment_in_flight=True), NOON_S).state is State.REFUSED


def test_a_decision_of_another_time_is_not_used():
    with pytest.raises(RequestError, match="a decision is used at its own time"):
        decided(order(What.DISCONNECT), decision(), NOON_S + 60)


def test_a_reconnection_asks_nobody():
    with pytest.raises(RequestError, match="nothing has to be asked"):
        decided(order(What.CONNECT), decision(), NOON_S)


def test_a_meter_that_waits_for_the_button_is_not_done_before_voltage_is_seen():
    held = order(What.CONNECT)
    for event in (Event.ALLOW, Event.SEND, Event.ACTION_OK, reading(What.CONNECT, 2, False)):
        held = advance(held, event, NOON_S)
    assert held.state is State.READY
    held = advance(held, reading(What.CONNECT, 1, True), NOON_S)
    assert (held.state, held.done) == (State.CONFIRMED, False)
    assert advance(held, Event.VOLTAGE_SEEN, NOON_S).done


@pytest.mark.parametrize(
    ("what", "control_state", "output", "event"),
    [
        (What.CONNECT, 1, True, Event.READ_AS_ASKED),
        (What.CONNECT, 1, False, Event.READ_OTHERWISE),
        (What.CONNECT, 2, False, Event.READ_READY),
        (What.CONNECT, 0, False, Event.READ_OTHERWISE),
        (What.DISCONNECT, 0, False, Event.READ_AS_ASKED),
        (What.DISCONNECT, 0, True, Event.READ_OTHERWISE),
        (What.DISCONNECT, 2, False, Event.READ_OTHERWISE),
    ],
)
def test_both_states_must_agree(what, control_state, output, event):
    assert reading(what, control_state, output) is event


@pytest.mark.parametrize("what", [what for what in What if what is not What.READ])
def test_an_order_whose_answer_was_lost_is_only_read(what):
    held = replace(order(what, State.SENT), decision=decision(), decided_s=NOON_S)
    lost = advance(held, Event.NO_ANSWER, NOON_S)
    assert lost.state is State.UNKNOWN
    meters_own_word = {Event.GIVE_UP} if what is What.IMAGE else {Event.VOLTAGE_SEEN}
    assert {event for event in possible(lost) if not event.startswith("read_")} <= meters_own_word


@pytest.mark.parametrize("what", What)
def test_what_is_on_its_way_ends_in_an_answer_or_in_unknown(what):
    for state in (State.SENT, State.ACTIVATING):
        assert set(possible(order(what, state))) in ({Event.ACTION_OK, Event.ACTION_FAILED, Event.NO_ANSWER}, set())


def test_a_reading_sends_nothing():
    assert {Event.SEND, Event.ACTIVATE}.isdisjoint(event for _, event in TABLE[What.READ])


def test_an_image_is_activated_only_when_it_is_verified():
    ways_in = {state for (state, event), after in TABLE[What.IMAGE].items() if after is State.ACTIVATING}
    assert ways_in == {State.VERIFIED}
    verified_by = {event for (state, event), after in TABLE[What.IMAGE].items() if after is State.VERIFIED}
    assert verified_by == {Event.READ_VERIFIED, Event.ACTION_FAILED}


def test_an_event_before_the_last_one_is_refused():
    with pytest.raises(RequestError, match="before its last step"):
        advance(order(What.CONNECT), Event.ALLOW, NOON_S - 1)


def test_each_control_mode_has_its_sentence():
    assert [closing(mode) for mode in (1, 2, 3, 4, 6, 5, None)] == [
        Closing.BUTTON,
        Closing.AT_ONCE,
        Closing.BUTTON,
        Closing.AT_ONCE,
        Closing.METER_DELAY,
        Closing.UNKNOWN,
        Closing.UNKNOWN,
    ]
    assert all(en.endswith(".") and hi.endswith("।") for en, hi in TOLD.values())


class SearchForAForbiddenCut(RuleBasedStateMachine):
    """Time passes, money comes and goes, orders are asked for and sent; no cut leaves but on facts that allow it at that moment or at most
    DECISION_AGE_S before, and within the legal hours and days."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON.replace(hour=10, minute=58)
        self.balance = -100
        self.order = order(What.DISCONNECT)
        self.order = replace(self.order, requested_s=int(self.now.timestamp()))
        self.asked_balance: int | None = None
        self.asked_at: datetime | None = None
        self.sent: list[tuple[datetime, datetime | None, int | None]] = []

    @property
    def now_s(self) -> int:
        return int(self.now.timestamp())

    @rule(minutes=st.sampled_from([1, 4, 6, 60, 300, 1440]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(paise=st.integers(-200, 300))
    def money_moves(self, paise):
        self.balance += paise

    @precondition(lambda self: Event.ALLOW in possible(self.order) or self.order.state is State.ALLOWED)
    @rule()
    def the_guard_is_asked(self):
        self.asked_balance, self.asked_at = self.balance, self.now
        self.order = decided(self.order, decision(self.now, balance_paise=self.balance), self.now_s)

    @precondition(lambda self: self.order.state is State.ALLOWED)
    @rule()
    def somebody_sends(self):
        try:
            self.order = advance(self.order, Event.SEND, self.now_s)
        except RequestError:
            return
        self.sent.append((self.now, self.asked_at, self.asked_balance))

    @precondition(lambda self: self.order.state is State.SENT)
    @rule(event=st.sampled_from([Event.ACTION_OK, Event.NO_ANSWER, Event.ACTION_FAILED]))
    def the_meter_answers(self, event):
        self.order = advance(self.order, event, self.now_s)

    @precondition(lambda self: self.order.state is State.UNKNOWN)
    @rule(event=st.sampled_from([Event.READ_AS_ASKED, Event.READ_OTHERWISE]))
    def the_meter_is_read(self, event):
        self.order = advance(self.order, event, self.now_s)

    @precondition(lambda self: self.order.state in END or self.order.state in (State.ACCEPTED, State.CONFIRMED))
    @rule()
    def another_order(self):
        self.order = Order("o2", What.DISCONNECT, "A1", "M1", self.now_s)

    @invariant()
    def no_forbidden_cut_was_sent(self):
        for sent_at, asked_at, balance in self.sent:
            assert balance is not None
            assert balance < 0
            assert asked_at is not None
            assert timedelta(0) <= sent_at - asked_at < timedelta(seconds=DECISION_AGE_S)
            assert "11:00" <= sent_at.strftime("%H:%M") < "17:30"
            assert sent_at.weekday() != 6


TestSearch = SearchForAForbiddenCut.TestCase
TestSearch.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_local_time_and_utc_agree():
    assert datetime.fromtimestamp(NOON_S, UTC) == NOON
