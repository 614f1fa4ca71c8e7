"""Orders against a simulated meter on a real socket: done is what was read back, nothing is sent twice, nothing is forgotten over a restart."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from openami.control.order import Event, State, What
from openami.cosem.operations import ControlState, DisconnectControl, ImageTransfer
from openami.errors import RequestError
from openami.headend import session as sessions
from openami.headend.orders import REFUSALS_MAX
from openami.headend.session import UTILITY, Denied, SilentMeter
from openami.store.order_book import SETTLED, OrderBook
from served import ServedMeter

from .orders_town import SERIAL, Town, no

IMAGE = bytes(range(1, 201)) * 3
WISH = {"identifier": "SIM-2.00", "size": len(IMAGE), "sha256": hashlib.sha256(IMAGE).hexdigest()}
CALENDAR = {"name": "0904544f5532", "seasons": "0100", "weeks": "0100", "days": "0100"}
KINDS = [
    (What.DISCONNECT, {}),
    (What.LOAD_LIMIT, {"limit_w": 3000, "over_s": 60}),
    (What.CLOCK, {}),
    (What.CALENDAR, CALENDAR),
    (What.KEYS, {"client": UTILITY}),
    (What.IMAGE, WISH),
]
NAMES = [str(what) for what, _ in KINDS]


@pytest.fixture
def meter():
    with ServedMeter(days=1, months=0, control_mode=4) as served:
        yield served


@pytest.fixture
def town(tmp_path, meter):
    made = Town(tmp_path, meter, {WISH["sha256"]: IMAGE})
    yield made
    made.rows.close()


def run(work):
    return asyncio.run(work)


def events(order):
    return [step.event for step in order.steps]


def stands(town, what, wish):
    """Whether the meter itself, not over the wire, is as the order wanted."""
    device = town.meter.device
    if what in (What.DISCONNECT, What.CONNECT):
        wanted = ControlState.CONNECTED if what is What.CONNECT else ControlState.DISCONNECTED
        return device.objects[70, "0.0.96.3.10.255"].state is wanted
    if what is What.LOAD_LIMIT:
        limiter = device.objects[71, "0.0.17.0.0.255"].attributes
        return (limiter[4].value, limiter[6].value) == (wish["limit_w"], wish["over_s"])
    if what is What.CLOCK:
        return abs(device.clock.offset_s) <= 5
    if what is What.CALENDAR:
        return device.objects[20, "0.0.13.0.0.255"].attributes[2].value == b"TOU2"
    if what is What.KEYS:
        return device.setups[UTILITY].security.keys.ek != town.meter.identity.keys.ek
    return device.objects[1, "1.0.0.2.0.255"].attributes[2].value == wish["identifier"].encode()


def spoil(town, what):
    """The meter stands otherwise, so that the order has something to do."""
    if what is What.CLOCK:
        town.meter.device.clock.offset_s = 900


@pytest.mark.parametrize(("what", "wish"), KINDS, ids=NAMES)
def test_an_order_is_done_when_the_meter_shows_it(town, what, wish):
    spoil(town, what)
    town.order(what, **wish)
    assert not stands(town, what, wish)
    order = run(town.desk.carry("o1"))
    assert (order.state, order.done) == (State.CONFIRMED, True)
    assert stands(town, what, wish)
    assert events(order).count(Event.SEND) == 1
    assert town.desk.due() == []


@pytest.mark.parametrize(("what", "wish"), KINDS[:4], ids=NAMES[:4])
def test_what_stands_as_asked_is_not_sent(town, what, wish):
    """New keys are always new, and an image that runs is known by its version (below); for all others:"""
    spoil(town, what)
    town.order(what, **wish)
    run(town.desk.carry("o1"))
    town.order(what, "o2", **wish)
    order = run(town.desk.carry("o2"))
    assert events(order) == [Event.ALLOW, Event.READ_AS_ASKED]


class Killed(BaseException):
    """kill -9, as far as it can be played within one process."""


def killed_at(monkeypatch, number, before):
    """The process dies at its `number`-th writing of a step, before or behind it."""
    count, original = [0], OrderBook.record

    def record(book, was, becomes):
        count[0] += 1
        if count[0] == number and before:
            raise Killed
        after = original(book, was, becomes)
        if count[0] == number:
            raise Killed
        return after

    monkeypatch.setattr(OrderBook, "record", record)
    return count


ONCE = {What.DISCONNECT: (70, 1), What.CONNECT: (70, 2), What.KEYS: (64, 2)}


@pytest.mark.parametrize("before", [True, False], ids=["before writing", "after writing"])
@pytest.mark.parametrize(("what", "wish"), KINDS, ids=NAMES)
def test_killed_at_every_step_it_ends_as_ordered_and_nothing_is_sent_twice(tmp_path, monkeypatch, what, wish, before):
    for number in range(1, 20):
        with ServedMeter(days=1, months=0, control_mode=4) as meter, monkeypatch.context() as patch:
            town = Town(tmp_path / f"{number}", meter, {WISH["sha256"]: IMAGE})
            spoil(town, what)
            town.order(what, **wish)
            count = killed_at(patch, number, before)
            try:
                run(town.desk.carry("o1"))
            except Killed:
                patch.undo()
            town.restart()
            order = run(town.until_settled())
            assert order.state is State.CONFIRMED, (number, events(order))
            assert stands(town, what, wish)
            if what in ONCE:
                assert town.asked_of_meter("action", *ONCE[what]) == 1, (number, events(order))
            if what is What.IMAGE:
                assert town.asked_of_meter("action", 18, 1) == 1, "announced again"
                assert town.asked_of_meter("action", 18, 2) == 5, "a block was sent twice"
                assert town.asked_of_meter("action", 18, 4) == 1, "activated twice"
            town.rows.close()
            if count[0] < number:
                return
    raise AssertionError("an order has more steps than this test looks at")


def answers_lost_at(monkeypatch, number):
    """The `number`-th answer of the meter is lost, and the line with it."""
    count, original = [0], sessions.MeterSession._receive

    async def receive(session, wait_s, step):
        chunk = await original(session, wait_s, step)
        count[0] += 1
        if count[0] == number:
            await session._hang_up()
            raise SilentMeter(f"the line broke while {step}")
        return chunk

    monkeypatch.setattr(sessions.MeterSession, "_receive", receive)
    return count


@pytest.mark.parametrize(("what", "wish"), KINDS, ids=NAMES)
def test_with_any_answer_lost_it_ends_as_ordered_and_nothing_is_sent_twice(tmp_path, monkeypatch, what, wish):
    for number in range(1, 60):
        with ServedMeter(days=1, months=0, control_mode=4) as meter, monkeypatch.context() as patch:
            town = Town(tmp_path / f"{number}", meter, {WISH["sha256"]: IMAGE})
            spoil(town, what)
            town.order(what, **wish)
            count = answers_lost_at(patch, number)
            order = run(town.until_settled())
            assert order.state is State.CONFIRMED, (number, events(order))
            assert stands(town, what, wish)
            if what in ONCE:
                assert town.asked_of_meter("action", *ONCE[what]) == 1, (number, events(order))
            if what is What.IMAGE:
                assert town.asked_of_meter("action", 18, 2) == 5, (number, "a block was sent twice")
                assert town.asked_of_meter("action", 18, 4) == 1
            town.rows.close()
            if count[0] < number:
                return
    raise AssertionError("a conversation has more answers than this test looks at")


def test_a_meter_that_is_away_keeps_its_order(town):
    town.meter.vanish()
    town.order(What.DISCONNECT)
    order = run(town.desk.carry("o1"))
    due = town.book.due("o1")
    assert order.state is State.ALLOWED
    assert "cannot connect" in due.problem
    assert town.meter.now_s < due.not_before_s <= town.meter.now_s + 15
    assert town.desk.due() == []
    town.restart()
    town.meter.appear()
    town.meter.now_s = due.not_before_s
    assert [one.order_id for one in town.desk.due()] == ["o1"]
    assert run(town.desk.carry("o1")).state is State.CONFIRMED


def test_read_now_answers_in_the_note_of_its_last_step_and_sends_nothing(town):
    town.order(What.READ)
    order = run(town.desk.carry("o1"))
    assert (order.state, events(order).count(Event.SEND)) == (State.CONFIRMED, 0)
    note = order.steps[-1].note
    assert (note.startswith("import "), "Wh" in note, "clock" in note) == (True, True, True)


def test_distances_grow_and_end_at_a_quarter_of_an_hour(town):
    town.meter.vanish()
    town.order(What.CLOCK)
    distances = []
    for _ in range(12):
        run(town.desk.carry("o1"))
        distances.append(town.book.due("o1").not_before_s - town.meter.now_s)
        town.meter.now_s += 2_000
    assert distances[0] <= 15
    assert all(450 <= one <= 1_350 for one in distances[-3:])


@pytest.mark.parametrize("mode", [1, 3, 5, 6])
def test_ready_is_not_connected(tmp_path, mode):
    with ServedMeter(days=1, months=0, control_mode=mode) as meter:
        town = Town(tmp_path, meter)
        town.order(What.DISCONNECT)
        run(town.desk.carry("o1"))
        town.order(What.CONNECT, "o2")
        order = run(town.desk.carry("o2"))
        assert (order.state, order.done) == (State.READY, False)
        assert "closes: " in order.steps[-1].note
        meter.now_s += 15
        assert run(town.desk.carry("o2")).state is State.READY
        if mode in (1, 3):
            meter.device.objects[70, "0.0.96.3.10.255"].press_button(meter.now_s)
        meter.now_s += 15
        assert run(town.desk.carry("o2")).state is State.CONFIRMED
        assert town.asked_of_meter("action", 70, 2) == 1
        town.rows.close()


def test_a_meter_in_ready_is_not_sent_the_reconnection_that_it_would_refuse(tmp_path):
    with ServedMeter(days=1, months=0, control_mode=6) as meter:
        relay = meter.device.objects[70, "0.0.96.3.10.255"]
        relay.disconnect_locally(meter.now_s)
        town = Town(tmp_path, meter)
        town.order(What.CONNECT)
        assert events(run(town.desk.carry("o1"))) == [Event.ALLOW, Event.READ_READY]
        meter.now_s += 31
        assert run(town.desk.carry("o1")).state is State.CONFIRMED
        town.rows.close()


def test_the_guard_is_asked_and_its_reasons_stay(town):
    town.guard = no
    town.order(What.DISCONNECT)
    order = run(town.desk.carry("o1"))
    assert (order.state, order.steps[-1].note) == (State.REFUSED, "life_support")
    assert town.asked_of_meter("action", 70) == 0


def test_the_guard_is_asked_again_before_a_cut_is_sent_again(town):
    """The first sending is lost, the consumer pays, the second is not allowed any more."""
    town.order(What.DISCONNECT)
    town.meter.vanish()
    run(town.desk.carry("o1"))
    town.guard = no
    town.meter.appear()
    assert run(town.desk.carry("o1")).state is State.REFUSED
    assert town.asked_of_meter("action", 70) == 0


def test_without_a_guard_nothing_is_cut(town):
    town.desk._guard = None
    town.order(What.DISCONNECT)
    order = run(town.desk.carry("o1"))
    assert order.state is State.REQUESTED
    assert "no guard to ask" in town.book.due("o1").problem


def test_a_newer_relay_order_takes_the_place_of_one_that_has_not_left(town):
    town.meter.vanish()
    town.order(What.DISCONNECT)
    run(town.desk.carry("o1"))
    town.meter.now_s += 1
    town.order(What.CONNECT, "o2")
    assert town.book.order("o1").state is State.CANCELLED
    assert town.book.order("o1").steps[-1].note == "superseded by o2"


def test_a_cut_whose_answer_was_lost_is_not_repeated_behind_a_newer_reconnection(town, monkeypatch):
    """Cut sent, never carried out, answer lost; then paid: the reconnection finds the supply on, and the cut is not sent again."""
    monkeypatch.setattr(DisconnectControl, "act", lambda *_: (_ for _ in ()).throw(OSError))
    town.order(What.DISCONNECT)
    assert run(town.desk.carry("o1")).state is State.UNKNOWN
    monkeypatch.undo()
    town.meter.now_s += 60
    town.order(What.CONNECT, "o2")
    for one in town.book.unsettled():
        run(town.desk.carry(one.order_id))
    assert [town.book.order(one).state for one in ("o1", "o2")] == [State.CANCELLED, State.CONFIRMED]
    assert town.asked_of_meter("action", 70) == 0


def test_a_meter_that_says_yes_and_does_not_is_given_up_in_the_end(town, monkeypatch):
    original = DisconnectControl.act

    def lies(relay, member, parameters, now_s):
        outcome = original(relay, member, parameters, now_s)
        relay.state = ControlState.CONNECTED
        return outcome

    monkeypatch.setattr(DisconnectControl, "act", lies)
    town.order(What.DISCONNECT)
    order = run(town.until_settled())
    assert order.state is State.FAILED
    assert "says yes and shows otherwise" in order.steps[-1].note
    assert events(order).count(Event.SEND) == REFUSALS_MAX


def test_a_relay_that_takes_no_orders_is_given_up(tmp_path):
    with ServedMeter(days=1, months=0, control_mode=0) as meter:
        town = Town(tmp_path, meter)
        town.order(What.DISCONNECT)
        order = run(town.until_settled())
        assert order.state is State.FAILED
        assert "temporary failure" in order.steps[-1].note
        town.rows.close()


@pytest.mark.parametrize(
    ("what", "wish", "words"),
    [
        (What.LOAD_LIMIT, {}, "must say limit_w"),
        (What.LOAD_LIMIT, {"limit_w": "as much as she likes"}, "limit_w of a load_limit order must be a whole number of watts"),
        (What.CALENDAR, CALENDAR | {"days": "zz"}, "days of a calendar order must be A-XDR in hexadecimal"),
        (What.KEYS, {"client": 17}, "client of a keys order must be one of 32, 48, 64, 80"),
        (What.IMAGE, {"identifier": "X", "size": 5, "sha256": WISH["sha256"]}, "is not the one ordered"),
    ],
)
def test_an_order_that_cannot_be_carried_out_fails_with_its_reason(town, what, wish, words):
    town.order(what, **wish)
    order = run(town.desk.carry("o1"))
    assert order.state is State.FAILED
    assert words in order.steps[-1].note


def test_the_same_order_again_is_one_order_and_another_under_its_id_is_refused(town):
    first = town.order(What.CLOCK)
    run(town.desk.carry("o1"))
    assert town.desk.ask(first).state is State.CONFIRMED
    with pytest.raises(RequestError, match="is there already and is another one"):
        town.order(What.DISCONNECT)


def test_two_processes_cannot_take_the_same_step(town):
    town.order(What.CLOCK)
    seen = town.book.order("o1")
    run(town.desk.carry("o1"))
    with pytest.raises(RequestError, match="has moved on from requested meanwhile"):
        town.desk._record(seen, Event.ALLOW)


def test_both_keys_are_kept_until_the_meter_proves_the_new_ones(town, monkeypatch):
    """Transfer lost on the way: the old keys go on to hold, and the same new ones are sent again."""
    town.order(What.KEYS, client=UTILITY)
    with monkeypatch.context() as patch:
        patch.setattr(sessions.MeterSession, "action", _loses_the_line)
        assert run(town.desk.carry("o1")).state is State.UNKNOWN
    own, coming = town.lines.contacts.association_keys(SERIAL, UTILITY)
    assert own is None
    assert coming.order_id == "o1"
    town.restart()
    assert run(town.until_settled()).state is State.CONFIRMED
    proved, none = town.lines.contacts.association_keys(SERIAL, UTILITY)
    assert (proved.ek, proved.ak, none) == (coming.ek, coming.ak, None)
    town.order(What.CLOCK, "o2")
    assert run(town.desk.carry("o2")).state is State.CONFIRMED, "the next order goes under the new keys"


async def _loses_the_line(session, ref, parameters):
    await session._hang_up()
    raise SilentMeter("the line broke")


def test_a_second_key_change_waits_for_the_first(town):
    town.order(What.KEYS, client=UTILITY)
    with pytest.raises(RequestError, match="has a key change that is not settled"):
        town.order(What.KEYS, "o2", client=UTILITY)


def test_keys_that_the_meter_refuses_are_dropped(town, monkeypatch):
    async def refuses(session, ref, parameters):
        raise Denied("no", "read write denied")

    town.order(What.KEYS, client=UTILITY)
    with monkeypatch.context() as patch:
        patch.setattr(sessions.MeterSession, "action", refuses)
        assert run(town.desk.carry("o1")).state is State.FAILED
    assert town.lines.contacts.association_keys(SERIAL, UTILITY) == (None, None)


def test_an_image_that_the_meter_finds_bad_is_not_activated(tmp_path):
    blank = b"\xff" * 300
    wish = {"identifier": "BAD", "size": 300, "sha256": hashlib.sha256(blank).hexdigest()}
    with ServedMeter(days=1, months=0) as meter:
        town = Town(tmp_path, meter, {wish["sha256"]: blank})
        town.order(What.IMAGE, **wish)
        order = run(town.until_settled())
        assert order.state is State.FAILED
        assert "refused the image" in order.steps[-1].note
        assert town.asked_of_meter("action", 18, 4) == 0
        town.rows.close()


def test_an_image_that_somebody_else_put_there_is_not_activated(town, monkeypatch):
    """The meter verifies another name than ours."""
    original = ImageTransfer._verify

    def verify(image, parameters):
        image.identifier = b"OTHER"
        return original(image, parameters)

    monkeypatch.setattr(ImageTransfer, "_verify", verify)
    town.order(What.IMAGE, **WISH)
    order = run(town.until_settled())
    assert order.state is State.FAILED
    assert town.asked_of_meter("action", 18, 4) == 0


def test_an_image_whose_version_runs_already_is_not_sent(town):
    town.order(What.IMAGE, **WISH, version="SIM-1.00")
    assert events(run(town.desk.carry("o1"))) == [Event.ALLOW, Event.READ_AS_ASKED]
    assert {State.CONFIRMED} <= SETTLED
