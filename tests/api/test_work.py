"""What the API does, and does once: orders, second persons, idempotency, withdrawals, cursors, forms of readings, limits, the trail."""

from __future__ import annotations

import csv
import io
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from openami.control.order import Event, Order, What, advance
from openami.errors import StorageError
from openami.store.order_book import OrderBook
from openami.store.people import GrantKind
from openami.web.access import DISCONNECTS_ALONE
from openami.web.api import live
from openami.web.hooks import SETTLED_S
from openami.web.limits import Limit

from .houses import House

WHY = "asked for by the test"


def _key() -> dict[str, str]:
    return {"idempotency-key": os.urandom(8).hex()}


def _ask(house: House, who: str, what: str, meters: list[str], **more: object):
    body = {"what": what, "meters": meters, "why": WHY} | more
    return house.client(who).post("/api/v1/orders", json=body, headers=_key())


@pytest.fixture(scope="module", autouse=True)
def patient(house: House) -> None:
    house.unlimited()


def test_a_request_that_is_sent_twice_acts_once(house: House) -> None:
    client, key = house.client("operator"), _key()
    body = {"what": "clock", "meters": [house.own["meter"]], "why": WHY}
    first, again = (client.post("/api/v1/orders", json=body, headers=key) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/api/v1/orders", json=body | {"why": "another reason"}, headers=key)
    assert other.status_code == 409
    assert "another request" in other.json()["detail"]


def test_requests_that_come_at_once_under_one_key_act_once(house: House) -> None:
    client, key = house.client("operator"), _key()
    body = {"what": "clock", "meters": [house.own["meter"]], "why": WHY}
    with ThreadPoolExecutor(8) as many:
        answers = [*many.map(lambda _: client.post("/api/v1/orders", json=body, headers=key), range(8))]
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.text for answer in answers}) == 1


def test_an_order_stands_in_the_book_and_in_the_trail_with_who_and_why(house: House) -> None:
    (number,) = _ask(house, "operator", "connect", [house.own["meter"]]).json()["orders"]
    found = house.client("auditor").get(f"/api/v1/orders/{number}").json()
    assert (found["what"], found["meter"], found["who"], found["why"]) == ("connect", house.own["meter"], "operator", WHY)
    (line,) = house.client("auditor").get("/api/v1/audit", params={"subject": number}).json()["items"]
    assert (line["who"], line["action"], line["why"], line["address"]) == ("operator", "order.connect", WHY, "testclient")
    assert house.gate.trail.broken_at() is None


def test_many_disconnections_wait_for_a_second_person(house: House) -> None:
    meters = [row["serial"] for row in house.client("operator").get("/api/v1/meters?limit=40").json()["items"]][: DISCONNECTS_ALONE + 1]
    taken = _ask(house, "operator", "disconnect", meters).json()
    assert taken["orders"] == []
    decision = f"/api/v1/proposals/{taken['proposal']}/decision"
    own = house.client("operator").post(decision, json={"approve": True})
    assert own.status_code == 409
    assert "second person" in own.json()["detail"]
    assert house.client("operator-second").post(decision, json={"approve": True}).json()["state"] == "approved"
    orders = house.client("operator").get("/api/v1/orders", params={"limit": 500}).json()["items"]
    made = [o for o in orders if o["order_id"].startswith(taken["proposal"])]
    assert {o["meter"] for o in made} == set(meters)
    assert {o["who"] for o in made} == {"operator, agreed by operator-second"}
    again = house.client("operator-second").post(decision, json={"approve": True})
    assert again.status_code == 409


def test_the_limit_cannot_be_passed_in_small_steps_nor_by_many_at_once(house: House) -> None:
    meters = [row["serial"] for row in house.client("operator").get("/api/v1/meters?limit=40").json()["items"]]
    with ThreadPoolExecutor(8) as many:
        answers = [*many.map(lambda meter: _ask(house, "operator-own", "disconnect", [meter]), meters)]
    alone = [a for a in answers if a.status_code == 202 and a.json()["orders"]]
    assert len(alone) == DISCONNECTS_ALONE


def test_by_hand_and_by_programs_is_one_person(house: House) -> None:
    """Ten by hand and ten by each of many programs would be as many as somebody has programs."""
    meters = [row["serial"] for row in house.client("operator").get("/api/v1/meters?limit=40").json()["items"]]
    for k, meter in enumerate(meters[: DISCONNECTS_ALONE + 1]):
        client = house.client()
        client.headers["authorization"] = f"Bearer {house.token('operator-other', program='' if k % 2 else f'program-{k}')}"
        own = [row["serial"] for row in client.get("/api/v1/meters?limit=40").json()["items"]]
        body = {"what": "disconnect", "meters": [own[k % len(own)]], "why": WHY}
        answer = client.post("/api/v1/orders", json=body, headers=_key()).json()
        assert bool(answer["orders"]) == (k < DISCONNECTS_ALONE), (k, meter)


def test_a_decision_and_its_orders_stand_together_or_not_at_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = house.gate
    made = gate.proposals.make("disconnect", (house.own["meter"],), "operator", WHY, gate.now_s)

    def broken(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(OrderBook, "ask_in", broken)
        answer = house.client("operator-second").post(f"/api/v1/proposals/{made.id}/decision", json={"approve": True})
        assert answer.status_code == 503
    assert gate.proposals.find(made.id).state == "waiting"
    after = house.client("operator-second").post(f"/api/v1/proposals/{made.id}/decision", json={"approve": True})
    assert after.json()["state"] == "approved"
    assert house.client("operator").get(f"/api/v1/orders/{made.id}:{house.own['meter']}").status_code == 200


def test_an_order_that_names_a_meter_out_of_reach_makes_none(house: House) -> None:
    before = house.client("operator").get("/api/v1/orders", params={"limit": 500}).json()["items"]
    refused = _ask(house, "operator-own", "clock", [house.own["meter"], house.other["meter"]])
    assert refused.status_code == 404
    assert house.client("operator").get("/api/v1/orders", params={"limit": 500}).json()["items"] == before


def test_what_has_left_cannot_be_withdrawn(house: House) -> None:
    (number,) = _ask(house, "operator", "clock", [house.own["meter"]]).json()["orders"]
    client = house.client("operator")
    assert client.post(f"/api/v1/orders/{number}/withdraw", json={"why": WHY}).json()["state"] == "cancelled"
    again = client.post(f"/api/v1/orders/{number}/withdraw", json={"why": WHY})
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]


def test_pages_give_every_row_once_and_end(house: House) -> None:
    client, seen, cursor = house.client("operator"), [], None
    while True:
        page = client.get("/api/v1/meters", params={"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["serial"] for row in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == sorted(set(seen))
    assert len(seen) == len(client.get("/api/v1/meters?limit=500").json()["items"])


def test_readings_are_the_same_in_every_form(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/meters/{house.own['meter']}/readings"
    asked = {"from": "2025-12-01", "to": "2025-12-02"}
    plain = client.get(path, params=asked).json()
    rows = list(csv.reader(io.StringIO(client.get(path, params=asked | {"format": "csv"}).text)))[1:]
    table = pa.ipc.open_stream(client.get(path, params=asked | {"format": "arrow"}).content).read_all()
    values = [r["value"] for r in plain["readings"]]
    assert len(values) == 2 * 96
    assert [int(r[1]) if r[1] else None for r in rows] == values == table["value"].to_pylist()
    assert table.schema.field("value").metadata[b"unit"] == b"Wh"
    assert plain["readings"][0]["end"] == "2025-12-01T00:15:00+05:30"


def test_quality_tells_only_what_is_not_plain(house: House) -> None:
    client = house.client("operator")
    marked = [
        (serial, row)
        for serial in (m["serial"] for m in client.get("/api/v1/meters?limit=500").json()["items"])
        for row in client.get(f"/api/v1/meters/{serial}/quality", params={"from": "2025-12-01", "to": "2025-12-02"}).json()
    ]
    assert marked
    assert all(row["quality"] for _, row in marked)
    assert any("missing" in row["quality"] for _, row in marked)


def test_an_explanation_is_the_statements_charge_to_the_paisa(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/accounts/{house.own['account']}/statements"
    (day,) = client.get(path, params={"from": "2025-12-02", "to": "2025-12-02"}).json()
    why = client.get(f"{path}/2025-12-02/explanation").json()
    assert why["amount_paise"] == day["charge_paise"] == sum(line["amount_paise"] for line in day["lines"])

    def adds_up(node: dict) -> None:
        if node["children"]:
            assert node["amount_paise"] == sum(child["amount_paise"] for child in node["children"])
        for child in node["children"]:
            adds_up(child)

    adds_up(why)


def test_an_etag_saves_the_second_answer(house: House) -> None:
    client = house.client("operator")
    first = client.get("/api/v1/tariffs?day=2025-12-01")
    again = client.get("/api/v1/tariffs?day=2025-12-01", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_misspelt_filter_is_refused_and_not_passed_over(house: House) -> None:
    refused = house.client("operator").get("/api/v1/meters?fedeer=F1")
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert "'fedeer'" in refused.json()["detail"]


def test_a_session_needs_its_form_token_to_change_anything(house: House) -> None:
    browser = house.browser("operator")
    body = {"what": "clock", "meters": [house.own["meter"]], "why": WHY}
    assert browser.post("/api/v1/orders", json=body, headers=_key()).status_code == 202
    del browser.headers["x-form-token"]
    assert browser.post("/api/v1/orders", json=body, headers=_key()).status_code == 403


def test_a_token_has_at_most_its_scopes(house: House) -> None:
    client = house.client()
    client.headers["authorization"] = f"Bearer {house.token('operator', ('meters',))}"
    assert client.get("/api/v1/meters").status_code == 200
    assert client.get("/api/v1/accounts").status_code == 403


def test_a_disabled_person_is_nobody_at_once(house: House) -> None:
    house.gate.people.add("leaves-soon", "auditor", house.gate.now_s)
    client = house.client("leaves-soon")
    assert client.get("/api/v1/me").status_code == 200
    house.gate.people.disable("leaves-soon")
    assert client.get("/api/v1/me").status_code == 401


def test_a_consent_opens_an_account_and_its_end_closes_it(house: House) -> None:
    house.gate.people.add("partner-new", "partner", house.gate.now_s)
    partner, consumer, path = house.client("partner-new"), house.client("consumer-own"), f"/api/v1/accounts/{house.own['account']}"
    assert partner.get(path).status_code == 404
    body = {"account": house.own["account"], "partner": "partner-new", "purposes": ["bills"], "days": 3}
    made = consumer.post("/api/v1/consents", json=body, headers=_key()).json()
    assert partner.get(path).status_code == 200
    assert partner.get(f"/api/v1/meters/{house.own['meter']}").status_code == 404
    assert consumer.post(f"/api/v1/consents/{made['id']}/end").json()["holds"] is False
    assert partner.get(path).status_code == 404


def test_who_looks_at_an_account_stands_in_the_trail(house: House) -> None:
    house.client("auditor").get(f"/api/v1/accounts/{house.other['account']}")
    lines = house.client("admin").get("/api/v1/audit", params={"subject": house.other["account"], "action": "account.read"}).json()["items"]
    assert "auditor" in {line["who"] for line in lines}


def test_live_figures_come_as_events(house: House) -> None:
    answer = house.client("operator").get("/api/v1/live?seconds=0")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: figures\ndata: {" in answer.text


def test_a_stream_ends_with_the_right_to_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    people = house.gate.people
    people.add("may-no-longer", "auditor", house.gate.now_s)
    people.grant("may-no-longer", GrantKind.ALL)
    with house.client("may-no-longer").stream("GET", "/api/v1/live?seconds=0") as answer:
        assert answer.status_code == 200
    before = live._still
    asked = []

    def taken_away(request) -> bool:
        asked.append(before(request))
        people.revoke("may-no-longer", GrantKind.ALL)
        return before(request)

    monkeypatch.setattr(live, "_still", taken_away)
    with house.client("may-no-longer").stream("GET", "/api/v1/live?seconds=3600") as answer:
        assert "event: figures" in "".join(answer.iter_text())
    assert asked == [True]


def test_a_step_written_into_a_second_that_was_told_is_not_passed_over(house: House) -> None:
    """Two processes write; what sorts before the last one told, in the same second, comes later."""
    lookup, now_s = house.gate.lookup, house.gate.now_s + 40_000
    told = [row["at_s"] for row in lookup.steps_after(now_s, "", 0, now_s - SETTLED_S, 10)]
    assert told == []
    for number in ("S-2", "S-1"):
        OrderBook(house.site.rows).ask(Order(number, What.CLOCK, "", house.own["meter"], now_s, who="test", why="to be told"))
        standing = OrderBook(house.site.rows).order(number)
        OrderBook(house.site.rows).record(standing, advance(standing, Event.WITHDRAW, now_s, "by the test"))
    assert lookup.steps_after(now_s - 1, "", 0, now_s + 1 - SETTLED_S, 10) == []
    assert [row["order_id"] for row in lookup.steps_after(now_s - 1, "", 0, now_s, 10)] == ["S-1", "S-2"]


def test_a_bucket_empties_and_fills_again() -> None:
    now = [0.0]
    limit = Limit(per_minute=60, burst=3, clock=lambda: now[0])
    assert [limit.take("a").allowed for _ in range(4)] == [True, True, True, False]
    assert limit.take("b").allowed
    now[0] = 1.0
    assert limit.take("a").allowed


def test_who_asks_too_often_is_told_when_to_come_back(house: House) -> None:
    limit, client = house.api.state.limit, house.client("operator")
    before = limit.burst, limit.per_minute
    limit.burst, limit.per_minute = 2, 1
    answers = [client.get("/api/v1/me") for _ in range(3)]
    limit.burst, limit.per_minute = before
    assert [a.status_code for a in answers][-1] == 429
    assert int(answers[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/api/v1/accounts/%0A", "/api/v1/orders/a%0Ab", "/api/v2/accounts"])
def test_an_address_that_is_not_the_apis_is_told_as_a_problem(house, path):
    answer = house.client("operator").get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/readings?from=2025-13-01&to=2025-12-02", "query.from is not a day; write it as 2026-01-31"),
        ("/readings?from=1764547200", "query.from is not a day; write it as 2026-01-31"),
        ("/readings?format=xls", "query.format is not one of json, csv, arrow"),
        ("/events?limit=501", "query.limit must be at most 500"),
        ("/events?limit=many", "query.limit is not a whole number"),
    ],
)
def test_what_is_out_of_bounds_is_told_with_what_would_be_right(house: House, path: str, said: str) -> None:
    answer = house.client("operator").get(f"/api/v1/meters/{house.own['meter']}{path}")
    assert (answer.status_code, answer.json()["detail"]) == (422, said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"what": "explode", "meters": ["A"], "why": "to see it"}, "body.what is not one of disconnect, connect, clock, read"),
        ({"what": "clock", "meters": [], "why": "to see it"}, "body.meters is too short: at least 1 of them"),
        ({"what": "clock", "meters": ["A"], "why": "no"}, "body.why is too short: at least 5 letters"),
        ({"what": "clock", "meters": ["A b"], "why": "to see it"}, "body.meters.0 is not a name; use 1 to 40 letters, digits and . _ -"),
        ({"what": "clock", "meters": ["A"], "why": "to see it", "x": 1}, "body.x is not known here; leave it out"),
        ({"what": "clock", "meters": ["A"]}, "body.why is missing; give it"),
    ],
)
def test_a_body_that_cannot_be_used_is_told_where(house: House, body: dict[str, object], said: str) -> None:
    answer = house.client("operator").post("/api/v1/orders", json=body, headers={"idempotency-key": "to-see-it"})
    assert (answer.status_code, answer.json()["detail"]) == (422, said)


def test_an_order_that_is_listed_can_be_read(house: House) -> None:
    """Also one that the supply rooms made: their ids hold a space."""
    OrderBook(house.site.rows).ask(
        Order("connect of test", What.CLOCK, "", house.own["meter"], house.gate.now_s, who="test", why="to read")
    )
    assert house.client("operator").get("/api/v1/orders/connect of test").json()["order_id"] == "connect of test"
