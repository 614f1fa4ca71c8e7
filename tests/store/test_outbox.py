"""The outbox: once by id, sent again after a crash, delivered only where a carrier says so. What was told and decided only grows."""

from __future__ import annotations

import json

import pytest

from openami.errors import InputError, RequestError
from openami.store.outbox import AGAIN_FIRST_S, ATTEMPTS_MAX, LEASE_S, Notice, Outbox, Stands
from openami.store.sql import Database
from openami.store.supply_rows import ANYBODY, SupplyRows

NOW = 1_764_700_000


def notice(number: int = 1, kind: str = "before_cut", account: str = "A", made_s: int = NOW) -> Notice:
    return Notice(f"N{number}", account, kind, "hi", "बैलेंस समाप्त", made_s)


def state(box: Outbox, number: int = 1) -> Stands:
    return next(one.state for one in box.recent() if one.notice_id == f"N{number}")


def test_a_message_is_made_once(database: Database) -> None:
    box = Outbox(database)
    assert [box.put([notice(), notice()]), box.put([notice()])] == [1, 0]
    assert len(box.recent()) == 1


def test_what_leaves_is_marked_before_and_is_not_given_to_two(database: Database) -> None:
    box = Outbox(database)
    box.put([notice()])
    assert [one.notice_id for one, _ in box.take(NOW)] == ["N1"]
    assert box.take(NOW) == []
    assert state(box) is Stands.SENDING


def test_one_that_was_cut_off_while_sending_is_sent_again_under_its_id(database: Database) -> None:
    box = Outbox(database)
    box.put([notice()])
    box.take(NOW)
    assert box.take(NOW + LEASE_S - 1) == []
    assert [one.notice_id for one, _ in Outbox(database).take(NOW + LEASE_S)] == ["N1"]


def test_a_failure_is_tried_again_later_and_given_up_in_the_end(database: Database) -> None:
    box, now = Outbox(database), NOW
    box.put([notice()])
    for k in range(ATTEMPTS_MAX):
        ((one, _),) = box.take(now)
        box.failed(one, "no route", now)
        if k == 0:
            assert box.take(now + AGAIN_FIRST_S - 1) == []
        now += 7200
    assert (state(box), box.take(now)) == (Stands.FAILED, [])


def test_only_a_reported_delivery_counts_and_the_first_report_stands(database: Database) -> None:
    box = Outbox(database)
    box.put([notice()])
    box.take(NOW)
    box.taken("N1", "sms", NOW + 1)
    assert box.delivered_s({"A": NOW}, "before_cut", NOW + 99) == {}
    box.report("N1", True, NOW + 5)
    box.report("N1", False, NOW + 6)
    assert (state(box), box.delivered_s({"A": NOW}, "before_cut", NOW + 99)) == (Stands.DELIVERED, {"A": NOW + 5})
    assert box.delivered_s({"A": NOW}, "before_cut", NOW + 4) == {}
    assert box.delivered_s({"A": NOW + 1}, "before_cut", NOW + 99) == {}


def test_a_report_may_overtake_the_carriers_answer(database: Database) -> None:
    box = Outbox(database)
    box.put([notice()])
    box.take(NOW)
    box.report("N1", True, NOW + 1)
    box.taken("N1", "sms", NOW + 2)
    assert state(box) is Stands.DELIVERED


def test_a_report_on_what_never_left_is_not_believed(database: Database) -> None:
    box = Outbox(database)
    box.put([notice()])
    for name in ("N1", "N2"):
        with pytest.raises(RequestError, match=f"{name} was never sent"):
            box.report(name, True, NOW)


def test_the_newest_word_on_a_fact_holds_and_an_account_goes_before_anybody(database: Database) -> None:
    rows = SupplyRows(database)
    rows.tell("A", "life_support", True, NOW, "asha", "oxygen at home")
    rows.tell(ANYBODY, "life_support", False, NOW, "asha", "register of November")
    rows.tell(ANYBODY, "dispute_open", False, NOW, "asha", "register of November")
    assert rows.told("A") == {"life_support": True, "dispute_open": False}
    rows.tell("A", "life_support", False, NOW, "ravi", "moved away")
    assert rows.told("A") == {"life_support": False, "dispute_open": False}
    assert rows.told("B") == {"life_support": False, "dispute_open": False}


@pytest.mark.parametrize(("name", "value", "who"), [("life", True, "x"), ("life_support", "yes", "x"), ("life_support", True, " ")])
def test_a_fact_that_is_none_is_refused(database: Database, name: str, value: bool | str, who: str) -> None:
    with pytest.raises(InputError, match=name):
        SupplyRows(database).tell("A", name, value, NOW, who, "why")


def test_decisions_and_what_was_told_only_grow(database: Database) -> None:
    rows = SupplyRows(database)
    told = {"at_s": NOW, "account": "A", "meter": "M", "order_id": "O", "policy": "BR", "allowed": False, "against": "dispute"}
    number = rows.keep(told | {"facts": json.dumps({}), "reasons": "[]"})
    kept = rows.decision(number)
    assert kept is not None
    assert (kept.number, kept.against, rows.decisions("A")[0]) == (number, "dispute", kept)
    rows.tell("A", "life_support", True, NOW, "asha", "oxygen")
    for table in ("supply_decision", "supply_told"):
        with pytest.raises(RequestError, match="never changed or removed"), database.begin(writing=True) as connection:
            connection.exec_driver_sql(f"UPDATE {table} SET account = 'B'")


def test_a_channel_that_was_down_is_up_only_since_it_came_back(database: Database) -> None:
    rows = SupplyRows(database)
    for up, at in ((True, 10), (True, 20), (False, 30), (True, 40), (True, 50)):
        rows.pulse("upi", up, at)
    assert rows.pulses() == {"upi": (40, 50)}
