"""What HTTP asks of every route: methods, forms, tags, slow and foreign bodies; and who counts as one asker."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from openami.store.heard import Heard, Mark
from openami.store.journal import Refusal
from openami.store.journal_at import open_journal
from openami.store.order_book import OrderBook
from openami.web.api import live
from openami.web.api.around import best
from openami.web.api.words import KINDS
from openami.web.hooks import SETTLED_S
from openami.web.limits import Bounded

from .houses import House

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module", autouse=True)
def patient(house: House) -> None:
    house.unlimited()


def _key() -> dict[str, str]:
    return {"idempotency-key": os.urandom(8).hex()}


def _ask(house: House) -> str:
    """An order of its own."""
    body = {"what": "clock", "meters": [house.own["meter"]], "why": "asked for by the test"}
    return str(house.client("operator").post("/api/v1/orders", json=body, headers=_key()).json()["orders"][0])


def test_head_is_get_without_the_body(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/meters/{house.own['meter']}"
    plain, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == plain.headers["etag"]
    assert head.headers["content-length"] == plain.headers["content-length"]
    assert house.client().head(path).status_code == 401
    assert client.head("/api/v1/nowhere").status_code == 404


def test_options_and_a_method_that_is_not_there_name_those_that_are(house: House) -> None:
    client = house.client("operator")
    told = client.options("/api/v1/orders")
    assert (told.status_code, told.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert "access-control-allow-origin" not in told.headers
    assert client.options("/api/v1/nowhere").status_code == 404
    refused = client.put("/api/v1/meters", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "it takes GET" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        (ARROW, ARROW),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/html, */*;q=0.1", "application/json"),
        ("", "application/json"),
    ],
)
def test_readings_come_in_the_form_that_is_liked_best(house: House, accept: str, kind: str) -> None:
    answer = house.client("operator").get(f"/api/v1/meters/{house.own['meter']}/readings", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert "Accept" in answer.headers.get_list("vary", split_commas=True)


@pytest.mark.parametrize("accept", ["application/xml", "application/json;q=0", "nonsense"])
def test_a_form_that_there_is_not_is_refused(house: House, accept: str) -> None:
    client = house.client("operator")
    refused = client.get(f"/api/v1/meters/{house.own['meter']}", headers={"accept": accept})
    assert (refused.status_code, refused.headers["content-type"]) == (406, "application/problem+json")
    asked = client.get(f"/api/v1/meters/{house.own['meter']}/readings?format=csv", headers={"accept": accept})
    assert asked.headers["content-type"].startswith("text/csv")


@given(
    st.lists(st.tuples(st.sampled_from(["a/b", "a/*", "*/*", "c/d"]), st.sampled_from(["", ";q=0", ";q=0.3", ";q=1", ";q=x"])), max_size=4)
)
def test_nothing_is_chosen_that_weighs_nothing(ranges: list[tuple[str, str]]) -> None:
    found = best(", ".join(kind + weight for kind, weight in ranges), ["a/b", "c/d"])
    assert found in (None, "a/b", "c/d")
    if ranges and all(weight in (";q=0", ";q=x") for _, weight in ranges):
        assert found is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 202),
    ],
)
def test_a_body_is_json_and_says_so(house: House, headers: dict[str, str], status: int) -> None:
    body = f'{{"what": "clock", "meters": ["{house.own["meter"]}"], "why": "asked for by the test"}}'
    answer = house.client("operator").post("/api/v1/orders", content=body.encode(), headers=headers | _key())
    assert answer.status_code == status


def test_a_body_that_is_no_text_is_refused_with_a_sentence(house: House) -> None:
    answer = house.client("operator").post("/api/v1/orders", content=b"\xff\xfe{", headers={"content-type": "application/json"} | _key())
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the body is not JSON in UTF-8")


@pytest.mark.parametrize("why", ["\0\0\0\0\0", "\0aaaaa", "aaaaa\0"])
def test_a_reason_holds_no_nul(house: House, why: str) -> None:
    body = {"what": "clock", "meters": [house.own["meter"]], "why": why}
    assert house.client("operator").post("/api/v1/orders", json=body, headers=_key()).status_code == 422


def test_tags_of_every_form_hold_until_something_changes(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/meters/{house.own['meter']}/readings"
    for form in ("json", "csv", "arrow"):
        tag = client.get(path, params={"format": form}).headers["etag"]
        for held in (tag, f"W/{tag}", f'"another", {tag}', "*"):
            answer = client.get(path, params={"format": form}, headers={"if-none-match": held})
            assert (answer.status_code, answer.content) == (304, b"")
        assert client.get(path, params={"format": form}, headers={"if-none-match": '"another"'}).status_code == 200


def test_packed_bytes_have_a_tag_of_their_own_which_names_the_same_state(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/meters/{house.own['meter']}/readings"
    plain, brotli, gzip = (client.get(path, headers={"accept-encoding": coding}) for coding in ("identity", "br", "gzip"))
    tag = plain.headers["etag"].strip('"')
    assert [one.headers["etag"] for one in (brotli, gzip)] == [f'"{tag}-br"', f'"{tag}-gzip"']
    for coding in ("br", "gzip"):
        meant = f'"{tag}-{coding}"'
        again = client.get(path, headers={"accept-encoding": coding, "if-none-match": f'"another", {meant}'})
        assert (again.status_code, again.headers["etag"]) == (304, meant)
        assert client.get(path, headers={"if-match": meant}).status_code == 200
    assert client.get(path, headers={"if-match": f'"{tag}-zstd"'}).status_code == 412


def test_who_means_another_state_of_a_thing_changes_nothing(house: House) -> None:
    client, number = house.client("operator"), _ask(house)
    seen, body = client.get(f"/api/v1/orders/{number}").headers["etag"], {"why": "decided on what was seen"}
    for meant in ('"another"', f"W/{seen}"):
        refused = client.post(f"/api/v1/orders/{number}/withdraw", json=body, headers={"if-match": meant})
        assert (refused.status_code, refused.json()["title"]) == (412, "Not as it was meant")
        assert client.get(f"/api/v1/orders/{number}", headers={"if-match": meant}).status_code == 412
    assert OrderBook(house.site.rows).order(number).state == "requested"
    done = client.post(f"/api/v1/orders/{number}/withdraw", json=body, headers={"if-match": seen})
    assert done.json()["state"] == "cancelled"
    assert client.get(f"/api/v1/orders/{number}", headers={"if-match": seen}).status_code == 412


def test_a_problem_names_what_was_asked(house: House) -> None:
    told = house.client("operator").get("/api/v1/meters/NOT-THERE").json()
    assert told["instance"] == "/api/v1/meters/NOT-THERE"
    assert {"type", "title", "status", "detail", "instance", "errors"} == set(told)


def test_many_tokens_of_one_person_are_one_asker(house: House) -> None:
    limit = house.api.state.limit
    before = limit.burst, limit.per_minute
    limit._buckets.clear()
    limit.burst, limit.per_minute = 3, 1
    try:
        known = [house.client("operator").get("/api/v1/me").status_code for _ in range(4)]
        strangers = [house.client().get("/api/v1/me", headers={"authorization": f"Bearer {k}"}).status_code for k in range(4)]
        another = house.client("auditor").get("/api/v1/me").status_code
    finally:
        limit.burst, limit.per_minute = before
        limit._buckets.clear()
    assert (known, strangers, another) == ([200] * 3 + [429], [401] * 3 + [429], 200)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def app(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def ask() -> None:
        parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive():
            return next(parts, None) or await asyncio.Event().wait()

        await Bounded(app, within_s=0.01)({"type": "http"}, receive, app)

    with pytest.raises(HTTPException) as refused:
        asyncio.run(ask())
    assert refused.value.status_code == 408


def test_frames_that_come_while_somebody_turns_pages_neither_repeat_nor_hide_others(house: House) -> None:
    client, path = house.client("operator"), "/api/v1/quarantine"
    _refuse(house, *range(1_000, 1_005))
    before = [row["number"] for row in client.get(path, params={"limit": 500}).json()["items"]]
    seen, cursor, late = [], None, iter([(1_005, 1_006, 1_007), (900,), (1_008,)])
    while True:
        page = client.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["number"] for row in page["items"]]
        if (cursor := page["next"]) is None:
            break
        _refuse(house, *next(late, ()))
    assert len(seen) == len(set(seen))
    assert [number for number in seen if number in before] == before
    assert set(seen) - set(before) <= {"900-0"}


def _refuse(house: House, *batches: int) -> None:
    journal = open_journal(house.site.folder, house.site.deployment)
    journal.refuse([Refusal(batch, 0, "malformed", "no frame", None, 1_764_700_000_000_000, b"") for batch in batches])
    journal.close()


def test_a_days_levels_are_told_with_how_they_were_met(house: House) -> None:
    client, day = house.client("operator"), "2025-12-01"
    begins_s = house.site.calendar.day_start(date(2025, 12, 2))
    Heard(house.site.rows).mark([Mark(kind="block_load", since_s=begins_s, at_s=begins_s + 3600, due=400, done=390)])
    found = {row["name"]: row for row in client.get(f"/api/v1/service-levels/{day}").json()}
    row = found["block load within 8 hours"]
    assert (row["due"], row["done"], row["lacking"], row["met"]) == (400, 390, 0, True)
    assert (row["begins"], row["ends"]) == ("2025-12-02T00:00:00+05:30", "2025-12-02T08:00:00+05:30")
    assert client.get("/api/v1/service-levels/9999-12-31").status_code == 404


def test_days_from_one_on_go_to_the_latest(house: House) -> None:
    client, path = house.client("operator"), f"/api/v1/meters/{house.own['meter']}/readings"
    days = {"": 1, "from=2025-12-01": 2, "to=2025-12-01": 1, "from=2025-12-02": 1, "from=2027-01-01": 0, "from=2025-12-01&to=2025-12-02": 2}
    for asked, many in days.items():
        assert len(client.get(f"{path}?{asked}").json()["readings"]) == 96 * many, asked


def test_a_live_stream_can_be_gone_on_with_from_its_first_line(house: House) -> None:
    """Whoever is cut off before the first step has an id to go on from, and hears of what happened meanwhile."""
    client = house.unlimited().client("operator")
    begun = client.get("/api/v1/live?seconds=0").text
    first = next(line.removeprefix("id: ") for line in begun.splitlines() if line.startswith("id: "))
    number = house.made_for("POST", "/withdraw", house.own)["order"]
    assert client.post(f"/api/v1/orders/{number}/withdraw", json={"why": "while nobody listened"}).status_code == 200
    clock = house.gate.clock
    house.gate.clock = lambda: clock() + SETTLED_S + 1
    try:
        after = client.get("/api/v1/live?seconds=0", headers={"last-event-id": first}).text
    finally:
        house.gate.clock = clock
    assert number in after


def test_a_stream_that_has_nothing_to_say_gives_a_sign_of_life(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SIGN_OF_LIFE_S", 0.0)
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    told = house.client("operator").get("/api/v1/live?seconds=1").text
    assert "\n:\n\n" in told


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip;q=0, br;q=0", None), ("br;q=0, gzip", "gzip"), ("gzip;q=0.5, br;q=1.0", "br"), ("gzip; q=0", None)]
)
def test_a_coding_that_is_refused_is_not_used(house: House, accepted: str, coding: str | None) -> None:
    answer = house.client("operator").get("/api/v1/meters", headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    assert "Accept-Encoding" in answer.headers["vary"]


def test_the_description_is_an_address_as_any_other(house: House) -> None:
    client = house.client()
    client.headers["accept-encoding"] = "identity"
    head = client.head("/api/v1/openapi.json")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", client.get("/api/v1/openapi.json").headers["etag"])
    assert client.options("/api/v1/openapi.json").headers["allow"] == "GET, HEAD, OPTIONS"
    assert client.delete("/api/v1/openapi.json").headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_problem_is_kept_nowhere_and_says_its_language(house: House) -> None:
    for answer in (
        house.client().get("/api/v1/meters"),
        house.client("operator").get("/api/v1/meters/NOPE"),
        house.client().get("/api/v2/meters"),
    ):
        assert (answer.headers["cache-control"], answer.headers["content-language"]) == ("no-store", "en")
        assert answer.json()["instance"] == answer.url.path


def test_a_token_that_is_none_is_told_so_and_nothing_is_said_of_one_that_was_not_shown(house: House) -> None:
    assert house.client().get("/api/v1/me").headers["www-authenticate"] == 'Bearer realm="openami"'
    shown = house.client().get("/api/v1/me", headers={"authorization": "Bearer x"})
    assert shown.headers["www-authenticate"] == 'Bearer realm="openami", error="invalid_token"'


def test_a_field_that_comes_twice_is_refused_and_nothing_is_ordered(house: House) -> None:
    """Of two readers of one body, the one that takes the first name and the one that takes the last would see two orders."""
    body = f'{{"what": "disconnect", "what": "read", "meters": ["{house.own["meter"]}"], "why": "which of them?"}}'
    headers = _key() | {"content-type": "application/json"}
    client = house.client("operator")
    answer = client.post("/api/v1/orders", content=body, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (422, "the field 'what' comes more than once; give it once")
    assert "which of them?" not in client.get("/api/v1/orders?limit=500").text


def test_a_cursor_goes_on_with_its_own_list_alone(house: House) -> None:
    client = house.client("operator")
    onward = client.get("/api/v1/meters?limit=1").json()["next"]
    assert client.get(f"/api/v1/meters?limit=1&cursor={onward}").status_code == 200
    for other in ("usage-points", "accounts", "people"):
        asker = house.client("admin") if other == "people" else client
        assert asker.get(f"/api/v1/{other}?cursor={onward}").json()["type"] == "urn:openami:problem:cursor"


def test_a_list_of_a_day_goes_on_with_it_when_another_day_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client, town = house.client("operator"), house.api.state.town
    days = town.days()
    monkeypatch.setattr(town, "days", lambda: days[:1])
    first = client.get("/api/v1/losses?limit=1").json()
    monkeypatch.setattr(town, "days", lambda: days)
    second = client.get(f"/api/v1/losses?limit=1&cursor={first['next']}").json()
    assert {row["day"] for row in first["items"] + second["items"]} == {days[0].isoformat()}
    crossed = client.get(f"/api/v1/losses?limit=1&day={days[-1]}&cursor={first['next']}")
    assert (crossed.status_code, crossed.json()["type"]) == (404, "urn:openami:problem:cursor")


def test_an_answer_that_shows_a_secret_once_is_kept_nowhere(house: House) -> None:
    body, key = {"url": "https://127.0.0.1/told", "events": ["day.closed"]}, _key()
    for _ in range(2):
        answer = house.client("admin").post("/api/v1/webhooks", json=body, headers=key)
        assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    house.client("admin").delete(f"/api/v1/webhooks/{answer.json()['id']}")


def test_every_kind_of_problem_is_in_the_documentation() -> None:
    root = Path(__file__).resolve().parents[2]
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((root / "src/openami/web/api").glob("*.py")))
    kinds = set(re.findall(r"Refused\(\s*\d{3},\s*\"([a-z-]+)\"", source)) | set(KINDS.values()) | {"not-there"}
    told = set(re.findall(r"^\| \d{3} \| `([a-z-]+)` \|", (root / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert kinds == told
