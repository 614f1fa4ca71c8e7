"""The control room over a real, small town: lists by key, reach, orders looked at and asked for once, corrections, saved filters, files."""

from __future__ import annotations

import io
import re
import time
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import openami
from api.houses import House, build
from openami.control.order import Order, State, What
from openami.store.complaints import Complaints
from openami.store.heard import Heard, MeterEvent
from openami.store.lookup import Reach
from openami.store.order_book import OrderBook
from openami.supply.guard import SupplyGuard
from openami.web.charts_wide import MAP_HEIGHT, MAP_WIDTH, Area, _squares, tree_map
from openami.web.closed_days import read_day
from openami.web.control_room.saved import ours
from openami.web.control_room.standing import reckon_now
from openami.web.control_room.trail import ACTIONS
from openami.web.renewed import Kept

PAGES = ["", "/network", "/meters", "/orders", "/events", "/exceptions", "/losses", "/suspects", "/mapping", "/outages", "/complaints"]
PAGES += ["/service-levels", "/quality", "/tariffs", "/tariffs/BR-DS2", "/statements", "/statements?state=below"]

SOURCE = Path(openami.__file__).parent


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> House:
    return build(tmp_path_factory.mktemp("room"))


@pytest.fixture
def operator(house):
    return house.browser("operator")


def form_of(page: str) -> str:
    return re.search(r'name="csrf_token" value="([^"]+)"', page)[1]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("lang", ["en", "hi"])
def test_every_page_is_there_in_both_languages_and_runs_only_our_script(operator, path, lang):
    answer = operator.get(f"/room{path}", params={"lang": lang, **dict(re.findall(r"(\w+)=(\w+)", path))})
    assert answer.status_code == 200
    assert f'<html lang="{lang}">' in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_who_does_not_see_the_town_does_not_see_the_room(house):
    assert house.browser("consumer-own").get("/room").status_code == 403
    assert house.browser().get("/room").status_code in (303, 401)


def test_an_operator_of_a_division_sees_only_its_feeder(house):
    page = house.browser("operator-own").get("/room/network").text
    assert f">{house.own['feeder']}</a>" in page
    assert f">{house.other['feeder']}</a>" not in page
    assert house.browser("operator-own").get(f"/room/network/{house.other['feeder']}").status_code == 404
    assert house.browser("operator-own").get(f"/room/meters/{house.other['meter']}").status_code == 404
    assert house.other["meter"] not in house.browser("operator-own").get("/room/exceptions").text


def test_the_days_summary_counts_every_interval_once(house):
    day = house.site.lake.days("validated")[-1]
    stands = read_day(house.site, day)
    meters = sum(f.meters for f in stands.feeders)
    assert meters == len(house.gate.lookup.meters(Reach(everything=True), "", 500))
    assert all(f.metered + f.estimated + f.missing == f.expected == f.meters * stands.slots for f in stands.feeders)


def test_an_old_answer_is_given_at_once_and_renewed_behind():
    now, asked = [0.0], []
    kept: Kept[int] = Kept(renew_s=2.0, clock=lambda: now[0])

    def reckon() -> int:
        asked.append(1)
        return len(asked)

    assert [kept.get("k", reckon), kept.get("k", reckon)] == [1, 1]
    now[0] = 5.0
    assert kept.get("k", reckon) == 1
    kept._pool.shutdown(wait=True)
    assert kept.get("k", reckon) == 2


def test_lists_go_on_by_key_without_telling_anybody_twice(house, operator, monkeypatch):
    from openami.web.control_room import routes

    monkeypatch.setattr(routes, "ROWS", 20)
    seen, at = [], "/room/meters"
    while at:
        page = operator.get(at).text
        seen += re.findall(r'name="meter" value="([^"]+)"', page)
        onward = re.search(r'href="([^"]+)" rel="next"', page)
        at = onward[1].replace("&amp;", "&") if onward else ""
    assert seen == sorted({row["serial"] for row in house.gate.lookup.meters(Reach(everything=True), "", 500)})


def test_a_cursor_that_was_not_made_here_is_refused_in_words(operator):
    answer = operator.get("/room/meters?cursor=nonsense&lang=en")
    assert (answer.status_code, "Begin the list again." in answer.text) == (404, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/meters?text=%00", 422),
        ("/meters?text=%EE%80%80", 200),
        ("/meters?text=A%20B", 200),
        ("/orders?meter=%00", 422),
        ("/events?meter=%00", 422),
    ],
)
def test_letters_that_no_serial_has_find_nothing(operator, path, status):
    assert operator.get(f"/room{path}").status_code == status


@pytest.mark.parametrize(
    ("path", "given", "status", "said"),
    [
        ("/orders", {"what": "read", "key": "K" * 12, "meter": "NOBODY"}, 404, "There is no meter NOBODY here for you."),
        ("/orders/NOTHING/withdraw", {}, 404, "There is no order NOTHING."),
        ("/proposals/NOTHING", {"answer": "approve"}, 404, "There is no proposal NOTHING."),
        ("/orders/look", {"what": "read", "serials": "A\0B"}, 422, "“Meters” holds a character that cannot be kept."),
    ],
)
def test_what_is_not_there_to_be_changed_is_said_in_words(operator, path, given, status, said):
    form = form_of(operator.get("/room/orders").text)
    answer = operator.post(f"/room{path}?lang=en", data={"csrf_token": form, "why": "to see what is said"} | given)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(("path", "first"), [("/room/orders/NOTHING", "/room"), ("/meters/NOTHING", "/")])
def test_what_went_wrong_leads_back_to_where_one_was(operator, path, first):
    main = operator.get(path).text.split("<main")[1]
    assert re.findall(r'href="([^"?]+)', main)[0] == first


def test_a_stale_page_is_told_what_has_happened_meanwhile(house, operator):
    """A withdrawn order is withdrawn again, a sent form comes again with another meter."""
    form, book = form_of(operator.get("/room/orders").text), OrderBook(house.site.rows)
    book.ask(Order("O-stale", What.CLOCK, "", house.own["meter"], house.gate.now_s, who="test", why="to withdraw twice"))
    path, given = "/room/orders/O-stale/withdraw?lang=en", {"csrf_token": form, "why": "changed our mind"}
    assert operator.post(path, data=given).status_code == 303
    again = operator.post(path, data=given | {"csrf_token": form_of(operator.get("/room/orders").text)})
    assert (again.status_code, "cannot be withdrawn any more" in again.text) == (409, True)
    asked = {"csrf_token": form, "key": "stale-form-1", "what": "read", "why": "the consumer asks"}
    assert operator.post("/room/orders", data=asked | {"meter": house.own["meter"]}).status_code == 303
    other = operator.post("/room/orders?lang=en", data=asked | {"meter": house.other["meter"]})
    assert (other.status_code, "This form was sent before" in other.text) == (409, True)


@pytest.mark.parametrize(
    "given", [{"value": "-5"}, {"value": "1e9"}, {"value": "nan"}, {"value": "9" * 9 + "0"}, {"value": ""}, {"begins": "25:00"}]
)
def test_what_no_interval_can_hold_is_not_written(house, operator, given):
    day, serial = house.site.lake.days("validated")[-1], house.own["meter"]
    path = f"/room/exceptions/{serial}"
    plain = {
        "csrf_token": form_of(operator.get(path).text),
        "day": day.isoformat(),
        "begins": "00:15",
        "value": "5",
        "why": "to see it refused",
    }
    assert operator.post(path, data=plain | given).status_code == 422
    assert "to see it refused" not in operator.get(f"{path}?day={day}").text


def test_an_account_leads_to_its_meter(house, operator):
    assert operator.get(f"/room/meters?text={house.own['account']}").headers["location"] == f"/room/meters/{house.own['meter']}"


def test_an_order_is_looked_at_and_asked_for_once_however_often_the_button_is_pressed(house, operator):
    form = form_of(operator.get("/room/orders").text)
    look = operator.post("/room/orders/look", data={"csrf_token": form, "what": "read", "serials": f"{house.own['meter']} NOBODY"}).text
    assert "NOBODY" in look
    assert house.own["meter"] in look
    book = OrderBook(house.site.rows)
    before = len(book.of_meter(house.own["meter"]))
    key = re.search(r'name="key" value="([^"]+)"', look)[1]
    asked = {"csrf_token": form, "key": key, "what": "read", "meter": house.own["meter"], "why": "the consumer asks"}
    assert [operator.post("/room/orders", data=asked).status_code for _ in range(2)] == [303, 303]
    assert len(book.of_meter(house.own["meter"])) == before + 1


def test_many_disconnections_wait_for_a_second_person_who_is_another_one(house, operator):
    serials = [row["serial"] for row in house.gate.lookup.meters(Reach(everything=True), "", 12)]
    form = form_of(operator.get("/room/orders").text)
    look = operator.post("/room/orders/look", data={"csrf_token": form, "what": "disconnect", "serials": " ".join(serials)}).text
    assert "a second person must agree" in look
    key = re.search(r'name="key" value="([^"]+)"', look)[1]
    operator.post("/room/orders", data={"csrf_token": form, "key": key, "what": "disconnect", "meter": serials, "why": "dues of a year"})
    made = next(one for one in house.gate.proposals.page(None, 10) if one.who == "operator")
    own = operator.post(f"/room/proposals/{made.id}", data={"csrf_token": form, "answer": "approve"})
    assert (own.status_code, house.gate.proposals.find(made.id).state) == (409, "waiting")
    assert "This proposal is your own" in own.text
    second = house.browser("operator-second")
    form = form_of(second.get("/room/orders").text)
    assert second.post(f"/room/proposals/{made.id}", data={"csrf_token": form, "answer": "refuse"}).status_code == 303
    assert house.gate.proposals.find(made.id).state == "refused"


@pytest.mark.parametrize(("what", "said"), [("disconnect", True), ("read", False)])
def test_a_look_says_which_meters_serve_no_account_and_so_are_never_cut(house, operator, what, said):
    there = house.gate.lookup.meters(Reach(everything=True), "", 100)
    bare = [row["serial"] for row in there if row["account"] is None]
    form = form_of(operator.get("/room/orders").text)
    asked = {"csrf_token": form, "what": what, "serials": " ".join([house.own["meter"], *bare])}
    look = operator.post("/room/orders/look", data=asked).text
    assert bare
    assert (f"No consumer's account is known for {', '.join(bare)}: the guard lets none of them be cut." in look) is said
    guard = SupplyGuard(house.site)
    assert not any(guard.ask(Order(f"O-{one}", What.DISCONNECT, "", one, house.gate.now_s), house.gate.now_s)[0].allowed for one in bare)


def test_a_form_of_another_session_changes_nothing(house, operator):
    assert operator.post("/room/orders/O-0/withdraw", data={"csrf_token": "x" * 43, "why": "to see"}).status_code == 403
    assert OrderBook(house.site.rows).order("O-0").state is State.REQUESTED


def test_an_auditor_looks_and_changes_nothing(house):
    auditor = house.browser("auditor")
    page = auditor.get("/room/meters").text
    assert "orders/look" not in page
    assert (
        auditor.post("/room/orders/look", data={"csrf_token": form_of(page), "what": "read", "serials": house.own["meter"]}).status_code
        == 403
    )


def test_a_correction_is_kept_with_its_reason_and_the_day_reckoned_again(house, operator):
    day, serial = house.site.lake.days("validated")[-1], house.own["meter"]
    path = f"/room/exceptions/{serial}"
    form = form_of(operator.get(f"{path}?day={day}").text)
    given = {"csrf_token": form, "day": day.isoformat(), "begins": "00:00", "value": "777", "why": "read on the display"}
    assert operator.post(path, data=given | {"why": ""}).status_code == 422
    assert operator.post(path, data=given).status_code == 303
    page = operator.get(f"{path}?day={day}").text
    assert "read on the display" in page
    assert ">777</td>" in page
    assert "interval to 00:15, 777 Wh" in page


def test_events_are_listed_by_what_they_are_about(house, operator):
    now_s = int(time.time())
    Heard(house.site.rows).note([MeterEvent(house.own["meter"], now_s - 60, 251, 83, True, "meter cover opened", now_s, "push")])
    assert "meter cover opened" in operator.get("/room/events?kind=tamper&lang=en").text
    assert "meter cover opened" not in operator.get("/room/events?kind=supply&lang=en").text


def test_events_are_told_in_the_readers_language_and_what_has_no_words_as_it_came(house, operator):
    serial, now_s = house.other["meter"], int(time.time())
    told = ["voltage too low", "over: voltage too low", "voltage too low: over", "over: <b>status bit 91</b>"]
    Heard(house.site.rows).note([MeterEvent(serial, now_s - k, 1000 + k, 99, True, text, now_s, "push") for k, text in enumerate(told)])
    page = operator.get(f"/room/events?meter={serial}&lang=hi").text
    assert page.count("वोल्टेज बहुत कम") == 3
    assert page.count("वोल्टेज बहुत कम: समाप्त") == 2
    assert '<span lang="en">&lt;b&gt;status bit 91&lt;/b&gt;</span>: समाप्त' in page


def test_a_programs_reason_for_an_order_is_told_in_the_readers_language_and_a_persons_as_it_was_written(house, operator):
    book, now_s = OrderBook(house.site.rows), house.gate.now_s
    for number, (who, why) in enumerate([("supply", "below zero since 2025-12-01"), ("asha", "below zero since 2025-12-02")]):
        book.ask(Order(f"O-why-{number}", What.CLOCK, "", house.own["meter"], now_s, who=who, why=why))
    page = operator.get(f"/room/orders?meter={house.own['meter']}&lang=hi").text
    assert "2025-12-01 से शून्य से नीचे" in page
    assert "below zero since 2025-12-02" in page


def test_days_and_losses_come_as_files(house, operator):
    text = operator.get(f"/room/meters/{house.own['meter']}/days.csv").text.splitlines()
    assert text[0].startswith("meter,day,import_wh")
    assert len(text) == 1 + len(house.site.lake.days("validated"))
    rows = pq.read_table(io.BytesIO(operator.get("/room/losses.csv?format=parquet").content))
    assert {"in_wh", "loss_wh", "coverage"} <= set(rows.column_names)
    assert rows.num_rows > 2


def test_a_saved_list_comes_back_and_leads_nowhere_else(operator):
    form = form_of(operator.get("/room").text)
    operator.post("/room/filters", data={"csrf_token": form, "name": "Spikes", "address": "/room/exceptions?check=spike"})
    assert "★ Spikes" in operator.get("/room").text
    assert operator.post("/room/filters", data={"csrf_token": form, "name": "Away", "address": "//evil.example/room"}).status_code == 422
    assert not any(map(ours, ("//x/room", "https://x/room", "/roomy", "/room\\..", "/me")))


def test_areas_of_a_tree_map_are_as_large_as_their_sizes_and_fill_the_whole():
    sizes = [50.0, 20.0, 20.0, 7.0, 2.0, 1.0]
    found = _squares(sizes, MAP_WIDTH, MAP_HEIGHT)
    whole = MAP_WIDTH * MAP_HEIGHT
    assert [w * h * sum(sizes) / whole for _, _, w, h in found] == pytest.approx(sizes)
    assert all(x >= 0 and y >= 0 and x + w <= MAP_WIDTH + 1e-6 and y + h <= MAP_HEIGHT + 1e-6 for x, y, w, h in found)
    assert "<script>" not in tree_map("m", "t", "d", [Area(1.0, "<script>", "n", "/x", "m0")])


def test_a_complaint_is_answered_once_and_the_consumer_is_told(house, operator):
    number = house.made_for("POST", "/complaints/", house.own)["id"]
    page = operator.get("/room/complaints")
    assert number in page.text
    sent = {"csrf_token": form_of(page.text), "reply": "read again: the meter is right"}
    address = f"/room/complaints/{number}"
    assert operator.post(address, data=sent | {"reply": " no "}).status_code == 422
    assert [operator.post(address, data=sent).status_code for _ in range(2)] == [303, 303], "pressed twice"
    assert number not in operator.get("/room/complaints").text
    again = operator.post(f"{address}?lang=hi", data=sent | {"reply": "another word"})
    assert (again.status_code, "पहले ही" in again.text) == (409, True)
    (kept,) = (one for one in Complaints(house.site.rows.database).of_account(house.own["account"]) if one.id == number)
    assert kept.answer == "read again: the meter is right"
    assert "read again: the meter is right" in house.browser("consumer-own").get(f"/my/{house.own['account']}/help").text


def test_complaints_of_another_division_hide_none_of_ones_own(house, monkeypatch):
    """However many wait elsewhere: the reach is part of the question, not a sieve behind its first page."""
    monkeypatch.setattr("openami.web.control_room.complaints.ROWS", 1)
    foreign = house.made_for("POST", "/complaints/", house.other)["id"]
    house.made_for("POST", "/complaints/", house.other)
    own = [house.made_for("POST", "/complaints/", house.own)["id"] for _ in range(2)]
    division, seen, address = house.browser("operator-own"), [], "/room/complaints"
    while address:
        page = division.get(address).text
        seen += re.findall(r"<small>(G[0-9A-F]{10})</small>", page)
        onward = re.search(r'href="([^"]+)" rel="next"', page)
        address = onward and onward[1].replace("&amp;", "&")
    assert foreign not in seen
    assert set(own) <= set(seen)
    assert len(seen) == len(set(seen))
    assert division.post(f"/room/complaints/{foreign}", data={"csrf_token": form_of(page), "reply": "not mine"}).status_code == 404


def test_whatever_the_trail_writes_down_has_words():
    """The third argument of each `note` that is written out, on pages, in the API and at the command line."""
    sources = [*(SOURCE / "web").rglob("*.py"), SOURCE / "cli" / "people.py", SOURCE / "supply" / "complaints.py"]
    written = {
        code for path in sources for code in re.findall(r'(?:note|Entry)\([^"\n]*"([a-z_]+(?:\.[a-z_]+)?)"', path.read_text("utf-8"))
    }
    assert {"sign_in", "people.division", "complaint.answer"} <= written
    assert written <= set(ACTIONS)


def test_the_trail_is_told_in_the_readers_language(house):
    page = house.browser("auditor")
    page.get(f"/consumers/{house.own['account']}")
    assert "खाता देखा" in page.get("/room/audit?lang=hi").text


def test_the_wall_says_that_its_days_are_past_and_not_when_they_are_not(house, operator, monkeypatch):
    said = "The latest closed day is"
    assert said in operator.get("/room?lang=en").text
    monkeypatch.setattr("openami.web.control_room.routes.BEHIND", timedelta(days=100_000))
    assert said not in operator.get("/room?lang=en").text


def test_a_divisions_wall_counts_its_own_orders_and_is_silent_about_frames(house):
    """What is the whole deployment's alone is left out, never told as nothing."""
    own, whole = (
        reckon_now(house.site, reach, house.gate.now_s) for reach in (Reach(feeders=frozenset({house.own["feeder"]})), Reach(True))
    )
    asked = house.gate.lookup.orders(Reach(feeders=frozenset({house.own["feeder"]})), None, 500)
    assert 0 < sum(own.orders.values()) == len(asked) < sum(whole.orders.values())
    page = house.browser("operator-own").get("/room?lang=en").text
    assert "In quarantine" not in page
    assert "Of the whole deployment" in page
    assert "In quarantine" in house.browser("operator").get("/room?lang=en").text
