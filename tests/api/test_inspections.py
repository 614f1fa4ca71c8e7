"""What visits found, through the API: written once, by whom, within the reach; what cannot be meant is refused."""

from __future__ import annotations

import os

import pytest

from .houses import House

NOTE = "a wire before the meter"


def _write(house: House, asker: str, **more: object):
    body = {"meter": house.own["meter"], "result": "theft", "day": "2025-12-03", "note": NOTE} | more
    return house.client(asker).post("/api/v1/inspections", json=body, headers={"idempotency-key": os.urandom(8).hex()})


@pytest.fixture(scope="module", autouse=True)
def patient(house: House) -> None:
    house.unlimited()


def test_a_visit_is_written_read_and_attributed(house: House) -> None:
    made = _write(house, "operator", who="R. Inspector", at_random=True)
    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["meter"], told["result"], told["who"], told["note"]) == (house.own["meter"], "theft", "R. Inspector", NOTE)
    assert told["at_random"]
    assert told["features"] > 0
    assert told in house.client("auditor").get("/api/v1/inspections").json()["items"]
    lines = house.client("auditor").get("/api/v1/audit", params={"action": "inspection.write"}).json()["items"]
    assert (lines[0]["who"], lines[0]["subject"]) == ("operator", house.own["meter"])


def test_the_newest_word_of_a_day_holds(house: House) -> None:
    for result in ("theft", "fault"):
        _write(house, "operator", result=result, day="2025-12-04")
    items = house.client("operator").get("/api/v1/inspections").json()["items"]
    assert [one["result"] for one in items if one["day"] == "2025-12-04"] == ["fault"]


def test_pages_give_every_visit_once(house: House) -> None:
    for day in ("2025-12-05", "2025-12-06", "2025-12-07"):
        _write(house, "operator", day=day)
    client, seen, cursor = house.client("operator"), [], None
    whole = client.get("/api/v1/inspections").json()["items"]
    while len(seen) <= len(whole):
        page = client.get("/api/v1/inspections", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        if (cursor := page["next"]) is None:
            break
    assert seen == whole


def test_what_lies_out_of_reach_is_not_there(house: House) -> None:
    assert _write(house, "operator-own", meter=house.other["meter"]).status_code == 404
    _write(house, "operator", meter=house.other["meter"])
    items = house.client("operator-own").get("/api/v1/inspections").json()["items"]
    assert {one["feeder"] for one in items} == {house.own["feeder"]}


@pytest.mark.parametrize("who", ["consumer-own", "installer-own", "partner-own", "auditor"])
def test_nobody_else_writes(house: House, who: str) -> None:
    assert _write(house, who).status_code == 403


@pytest.mark.parametrize("who", ["consumer-own", "installer-own", "partner-own", "admin"])
def test_nobody_else_reads(house: House, who: str) -> None:
    assert house.client(who).get("/api/v1/inspections").status_code == 403


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"day": "2999-01-01"}, 409),
        ({"result": "guilty"}, 422),
        ({"day": "yesterday"}, 422),
        ({"who": " "}, 422),
        ({"at_random": "yes"}, 422),
    ],
)
def test_what_cannot_be_meant_is_refused(house: House, wrong: dict[str, str], status: int) -> None:
    assert _write(house, "operator", **wrong).status_code == status


def test_the_control_rooms_form_writes_todays_visit(house: House) -> None:
    browser = house.browser("operator")
    given = {"meter": house.own["meter"], "result": "wrong_place", "note": NOTE, "csrf_token": browser.headers["x-form-token"]}
    assert browser.post("/room/suspects", data=given).status_code == 303
    newest = house.client("operator").get("/api/v1/inspections").json()["items"][0]
    assert (newest["meter"], newest["result"], newest["who"]) == (house.own["meter"], "wrong_place", "operator")
    assert browser.post("/room/suspects", data=given | {"result": "guilty"}).status_code in (400, 404, 422)
    assert browser.post("/room/suspects", data=given | {"csrf_token": "no"}).status_code == 403
    assert house.browser("operator-own").get("/room/suspects").status_code == 200
