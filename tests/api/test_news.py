"""What is new since then: nothing is lost between two rounds, nothing comes twice, and what came late is new however old it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import openami
from openami.control.order import Event, Order, What, advance
from openami.errors import InputError, RequestError
from openami.store.heard import Heard, MeterEvent
from openami.store.order_book import OrderBook
from openami.web.api.readings import HEARD_WITHIN_S
from openami.web.hooks import SETTLED_S

from .houses import BASE, House

ALREADY_S = 600


@pytest.fixture
def ami(house: House, monkeypatch: pytest.MonkeyPatch):
    house.unlimited()
    monkeypatch.setattr("openami.client.PAGE", 2)
    with openami.Client(BASE, token=house.token("operator"), http=house.client()) as client:
        yield client


def _at(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _heard(house: House, meter: str, *times: tuple[int, int]) -> None:
    """Events of (when it happened, when we heard of it), UTC seconds."""
    Heard(house.site.rows).note(events=[MeterEvent(meter, at_s, 0, 7, True, f"heard {got_s}", got_s, "push") for at_s, got_s in times])


def test_events_are_new_by_when_we_heard_of_them(house: House, ami) -> None:
    now_s, meter = house.gate.now_s - ALREADY_S, house.own["meter"]
    _heard(house, meter, *((now_s - 3600 * k, now_s + k) for k in range(5)), (now_s + 1, now_s - 1))
    told, later = ami.news("/events", _at(now_s))
    assert [one["text"] for one in told] == [f"heard {now_s + k}" for k in range(5)]
    assert ami.news("/events", _at(now_s), later) == ([], later)
    _heard(house, meter, (now_s - 90_000, now_s + 4), (now_s - 80_000, now_s + 9), (now_s + 5, house.gate.now_s - HEARD_WITHIN_S + 30))
    told, later = ami.news("/events", _at(now_s), later)
    assert [one["text"] for one in told] == [f"heard {now_s + 9}"], "the first is behind us by its time, the last is not old enough"
    assert ami.news(f"/meters/{house.other['meter']}/events", _at(now_s))[0] == []


def test_an_order_is_new_each_time_that_something_happens_to_it(house: House, ami) -> None:
    book, now_s = OrderBook(house.site.rows), house.gate.now_s - ALREADY_S
    held = next(one for one in ami.meters() if one["account"] and one["serial"] not in (house.own["meter"], house.other["meter"]))
    orders = [
        book.ask(Order(f"N-{k}", What.CLOCK, held["account"], held["serial"], now_s + k, who="test", why="to be followed"))
        for k in range(3)
    ]
    asked, since = {"meter": held["serial"]}, _at(now_s)
    told, later = ami.news("/orders", since, **asked)
    own = [one["order_id"] for one in told if one["order_id"].startswith("N-")]
    assert own == ["N-0", "N-1", "N-2"]
    book.record(orders[1], advance(orders[1], Event.WITHDRAW, house.gate.now_s - SETTLED_S, "not needed"))
    told, later = ami.news("/orders", since, later, **asked)
    assert [(one["order_id"], one["state"]) for one in told] == [("N-1", "cancelled")]
    assert ami.news("/orders", since, later, **asked) == ([], later)
    assert [one["order_id"] for one in ami.news("/orders", since, state="requested", **asked)[0] if one["order_id"][:2] == "N-"] == [
        "N-0",
        "N-2",
    ]


def test_a_step_of_this_moment_waits_until_nobody_can_write_before_it(house: House, ami) -> None:
    later_s = house.gate.now_s + 600
    OrderBook(house.site.rows).ask(
        Order("N-soon", What.CLOCK, house.other["account"], house.other["meter"], later_s, who="test", why="not settled yet")
    )
    assert "N-soon" not in {one["order_id"] for one in ami.news("/orders", _at(later_s - 900))[0]}


def test_a_division_is_told_of_its_own(house: House) -> None:
    now_s = house.gate.now_s - ALREADY_S
    _heard(house, house.own["meter"], (now_s - 50, now_s - 50))
    _heard(house, house.other["meter"], (now_s - 51, now_s - 51))
    with openami.Client(BASE, token=house.token("operator-own"), http=house.unlimited().client()) as division:
        told, _ = division.news("/events", _at(now_s - 60))
        assert {house.own["meter"]} <= {one["meter"] for one in told}
        assert house.other["meter"] not in {one["meter"] for one in told}
        assert {one["meter"] for one in division.news("/orders", _at(0))[0]} <= {one["serial"] for one in division.meters()}


def test_the_cursor_of_one_direction_means_nothing_in_the_other(house: House, ami) -> None:
    for path in ("/events", "/orders"):
        onward = ami.get(path, limit=1)["next"]
        assert onward
        assert ami.get(path, limit=1)["later"] is None
        with pytest.raises(RequestError, match="begin without one"):
            ami.news(path, "2025-12-01T00:00:00Z", onward)
        with pytest.raises(RequestError, match="begin without one"):
            ami.get(path, cursor=ami.news(path, "2025-12-01T00:00:00Z")[1])


@pytest.mark.parametrize("since", ["2025-12-01", "2025-12-01T00:00:00", "1764547200", "yesterday", "2025-13-01T00:00:00Z"])
def test_an_instant_without_an_offset_is_none(ami, since: str) -> None:
    with pytest.raises(InputError, match=r"query\.since is not an instant with its offset; write it as 2026-01-31T09:30:00\+05:30"):
        ami.news("/events", since)


def test_a_plus_that_the_address_made_a_blank_of_is_understood(house: House, ami) -> None:
    answer = house.client("operator").get("/api/v1/events?since=2025-12-01T00:00:00+05:30")
    assert answer.status_code == 200, answer.text
