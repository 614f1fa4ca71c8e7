"""The door: passwords, second factors, lock-out, forms, sessions, phones, demo people, and what stands in the trail of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
from fastapi.testclient import TestClient

from openami.store.clients import Client
from openami.store.people import FREE_EVERYWHERE, SignIn
from openami.store.sessions import STAFF_IDLE_S
from openami.web import once
from openami.web.app import TRIES_AT_ONCE
from openami.web.demo_people import DEMO_PEOPLE, PHONE
from openami.web.once import SAME_CLICK_S

from .houses import BASE, House, enter

PASSWORD = "a long enough password"
GUARD_S = 60.0
FORM = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture
def door(house: House):
    """A browser at the sign-in page, with its clock in hand and its form token."""
    now = [1_800_000_000.0]
    before, house.gate.clock = house.gate.clock, lambda: now[0]
    house.app.state.tries.clock = lambda: now[0]
    house.app.state.tries._buckets.clear()
    browser = house.browser()
    yield browser, now
    house.gate.clock = before


def _person(house: House, name: str, role: str = "operator", totp: bool = True) -> str:
    return house.gate.people.add(name, role, 0, password=PASSWORD, totp=totp) or ""


def _enter(browser, name: str, password: str = PASSWORD, code: str = "", **more: str):
    form = FORM.search(browser.get("/sign-in?lang=en").text)[1]
    return browser.post("/sign-in?lang=en", data={"name": name, "password": password, "code": code, "csrf_token": form} | more)


def test_password_and_code_open_the_door_and_one_alone_does_not(house: House, door) -> None:
    browser, now = door
    secret = _person(house, "two-factors")
    wanted = _enter(browser, "two-factors").text
    assert "six digits" in wanted
    assert 'maxlength="60" value="two-factors"' in wanted, "typed once"
    assert _enter(browser, "two-factors", "wrong password", pyotp.TOTP(secret).at(int(now[0]))).status_code == 401
    entered = _enter(browser, "two-factors", code=pyotp.TOTP(secret).at(int(now[0])), next="/meters?day=2025-12-01")
    assert (entered.status_code, entered.headers["location"]) == (303, "/meters?day=2025-12-01")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert browser.get("/me").status_code == 200


def test_a_code_works_once(house: House, door) -> None:
    browser, now = door
    secret = _person(house, "once-only")
    code = pyotp.TOTP(secret).at(int(now[0]))
    assert _enter(browser, "once-only", code=code).status_code == 303
    assert _enter(house.browser(), "once-only", code=code).status_code == 401


def _twice(browser, sent: dict[str, str], path: str = "/sign-in"):
    """The same form twice at once, before either answer has reached the browser; who each session is of."""
    cookie = browser.cookies["openami-form"]
    clicks = [TestClient(browser.app, base_url=BASE, cookies={"openami-form": cookie}, follow_redirects=False) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patient, ThreadPoolExecutor(2) as pool:
        patient.setattr(once, "PATIENCE_S", GUARD_S)
        answers = list(pool.map(lambda click: click.post(path, data=sent), clicks))
    assert [a.status_code for a in answers] == [303, 303]
    return [click.get("/me?lang=en").status_code for click in clicks], clicks[0]


def test_a_double_click_with_a_code_that_works_once_signs_in(house: House, door) -> None:
    browser, now = door
    secret = _person(house, "clicks-twice")
    form = FORM.search(browser.get("/sign-in?lang=en").text)[1]
    cookie = browser.cookies["openami-form"]
    sent = {"name": "clicks-twice", "password": PASSWORD, "code": pyotp.TOTP(secret).at(int(now[0])), "csrf_token": form}
    opened, _ = _twice(browser, sent)
    assert opened == [200, 200]
    assert _enter(house.browser(), "clicks-twice", code=sent["code"]).status_code == 401, "another browser's replay"
    again = browser.post("/sign-in?lang=en", data=sent | {"password": "another password"})
    assert again.status_code == 401, "filled in otherwise"
    now[0] += SAME_CLICK_S + 1
    browser.cookies.set("openami-form", cookie)
    assert browser.post("/sign-in?lang=en", data=sent).status_code == 401, "no click is that slow"


def test_a_double_click_with_a_phones_code_signs_in(house: House, door) -> None:
    browser, now = door
    now[0] += 900
    house.gate.people.add_phone("9876500099", house.own["account"])
    code = house.gate.people.make_code("9876500099", int(now[0]))
    sent = {"phone": "9876500099", "code": code, "csrf_token": FORM.search(browser.get("/sign-in/phone").text)[1]}
    assert _twice(browser, sent, "/sign-in/code")[0] == [200, 200]


def test_a_second_click_after_the_first_has_answered_goes_the_same_way(house: House, door) -> None:
    """The form's cookie is gone by then; of somebody who signed in a while ago such a form is refused as ever."""
    browser, now = door
    _person(house, "clicks-late", totp=False)
    sent = {"name": "clicks-late", "password": PASSWORD, "code": "", "csrf_token": FORM.search(browser.get("/sign-in").text)[1]}
    assert browser.post("/sign-in", data=sent | {"next": "/meters"}).status_code == 303
    kept = browser.cookies["openami-session"]
    again = browser.post("/sign-in", data=sent | {"next": "/meters"})
    assert (again.status_code, again.headers["location"]) == (303, "/meters")
    assert browser.cookies["openami-session"] == kept
    foreign = browser.post("/sign-in", data=sent, headers={"origin": "https://elsewhere.example"})
    assert foreign.status_code == 403
    now[0] += SAME_CLICK_S + 1
    assert browser.post("/sign-in", data=sent).status_code == 403


def test_a_name_that_is_not_there_is_answered_like_one_that_is(house: House, door) -> None:
    browser, _ = door
    _person(house, "is-there", "installer", totp=False)
    tried = {name: [_enter(browser, name, "wrong password") for _ in range(7)] for name in ("is-there", "is-not-there")}
    assert [a.status_code for a in tried["is-there"]] == [a.status_code for a in tried["is-not-there"]] == [401] * 4 + [429] * 3
    assert "Wait 60 seconds" in tried["is-there"][-1].text


def test_a_locked_name_opens_again_after_its_time_and_not_before(house: House, door) -> None:
    browser, now = door
    _person(house, "locked-out", "installer", totp=False)
    for _ in range(5):
        _enter(browser, "locked-out", "wrong password")
    house.app.state.tries._buckets.clear()
    assert _enter(browser, "locked-out").status_code == 429
    now[0] += 61
    assert _enter(browser, "locked-out").status_code == 303


def test_a_program_does_not_come_through_the_page(house: House, door) -> None:
    """Its secret is no second factor, and a person at a page may be the second person."""
    browser, _ = door
    _person(house, "a-program", "operator", totp=False)
    house.gate.clients.add(Client("a-program", "A program", (), ("orders:write",), True))
    assert _enter(browser, "a-program").status_code == 401
    assert house.gate.people.check_secret("a-program", PASSWORD)


def test_strangers_do_not_lock_anybody_out_of_their_own_place(house: House, door) -> None:
    browser, now = door
    _person(house, "at-home", "installer", totp=False)
    people, now_s = house.gate.people, int(now[0])
    assert _enter(browser, "at-home").status_code == 303
    outcomes = [people.sign_in("at-home", "guessed", None, now_s, f"198.51.100.{k}").outcome for k in range(FREE_EVERYWHERE)]
    assert outcomes[-1] is SignIn.LOCKED
    assert people.sign_in("at-home", PASSWORD, None, now_s, "203.0.113.9").outcome is SignIn.LOCKED
    assert _enter(browser, "at-home").status_code == 303


def test_a_new_session_ends_the_one_before_with_tls_too(house: House, door) -> None:
    _, _ = door
    _person(house, "signs-in-again", "installer", totp=False)
    browser = TestClient(house.app, base_url="https://testserver", follow_redirects=False)
    assert _enter(browser, "signs-in-again").status_code == 303
    before = browser.cookies["__Host-openami-session"]
    assert _enter(browser, "signs-in-again").status_code == 303
    assert house.gate.sessions.find(before, house.gate.now_s) is None
    assert house.gate.sessions.find(browser.cookies["__Host-openami-session"], house.gate.now_s) is not None


def test_one_address_does_not_try_for_ever(house: House, door) -> None:
    browser, _ = door
    answers = [_enter(browser, f"name-{k}", "wrong password") for k in range(TRIES_AT_ONCE + 1)]
    assert [a.status_code for a in answers] == [401] * TRIES_AT_ONCE + [429]


@pytest.mark.parametrize("onward", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/sign-out"])
def test_nobody_is_sent_to_another_site(house: House, door, onward: str) -> None:
    browser, _ = door
    name = f"goes-home-{len(onward)}-{sum(map(ord, onward))}"
    _person(house, name, "installer", totp=False)
    assert _enter(browser, name, next=onward).headers["location"] == "/"


def test_a_form_of_another_site_or_session_changes_nothing(house: House, door) -> None:
    browser, _ = door
    name = "own-forms"
    _person(house, name, "installer", totp=False)
    form = FORM.search(browser.get("/sign-in").text)[1]
    sent = {"name": name, "password": PASSWORD, "csrf_token": form}
    for origin in ("https://evil.example", "null", "http://[x", "http://[::1]x]", f"{BASE}.evil.example", BASE.partition("://")[2]):
        assert browser.post("/sign-in", data=sent, headers={"origin": origin}).status_code == 403, origin
    assert browser.post("/sign-in", data=sent, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert browser.post("/sign-in", data=sent | {"csrf_token": "0" * 64}).status_code == 403
    assert house.browser().post("/sign-in", data=sent).status_code == 403
    assert browser.post("/sign-in", data=sent, headers={"origin": BASE}).status_code == 303


def test_a_session_ends_when_it_was_idle_and_says_so_in_the_readers_language(house: House, door) -> None:
    browser, now = door
    _person(house, "fell-asleep", "installer", totp=False)
    _enter(browser, "fell-asleep")
    form = FORM.search(browser.get("/me").text)[1]
    now[0] += STAFF_IDLE_S + 1
    answer = browser.post("/sign-out?lang=hi", data={"csrf_token": form})
    assert answer.status_code == 401
    assert "कुछ भी बदला नहीं गया" in answer.text
    assert browser.get("/me").headers["location"].startswith("/sign-in?next=/me")


def test_a_session_is_worth_nothing_after_signing_out(house: House, door) -> None:
    browser, _ = door
    _person(house, "signs-out", "installer", totp=False)
    _enter(browser, "signs-out")
    kept = browser.cookies["openami-session"]
    browser.post("/sign-out", data={"csrf_token": FORM.search(browser.get("/me").text)[1]})
    browser.cookies.set("openami-session", kept)
    assert browser.get("/me").status_code == 303


def test_a_phone_with_several_accounts_gets_a_code_that_works_once(house: House, door) -> None:
    browser, _ = door
    page = browser.get("/sign-in/phone").text
    page = browser.post("/sign-in/phone?lang=en", data={"phone": PHONE, "csrf_token": FORM.search(page)[1]}).text
    code = re.search(r"shown here: (\d{6})", page)[1]
    sent = {"phone": PHONE, "code": code, "csrf_token": FORM.search(page)[1]}
    assert browser.post("/sign-in/code", data=sent).status_code == 303
    mine = browser.get("/me?lang=en").text
    assert house.own["account"] in mine
    assert mine.count("/my/") == 2
    assert house.browser().post("/sign-in/code", data=sent).status_code == 403  # another browser's form
    late = house.browser()
    form = FORM.search(late.get("/sign-in/phone").text)[1]
    assert late.post("/sign-in/code", data=sent | {"csrf_token": form}).status_code == 401


def test_a_phone_that_is_not_known_is_told_the_same(house: House, door) -> None:
    browser, now = door
    now[0] += 60
    page = browser.get("/sign-in/phone?lang=en").text
    known = browser.post("/sign-in/phone?lang=en", data={"phone": "9000000001", "csrf_token": FORM.search(page)[1]})
    assert "If this number is known" in known.text
    assert "shown here" not in known.text
    wrong = browser.post("/sign-in/phone?lang=hi", data={"phone": "12", "csrf_token": FORM.search(page)[1]})
    assert (wrong.status_code, "यह फ़ोन नंबर नहीं है" in wrong.text) == (422, True)


def test_over_tls_cookies_belong_to_tls_and_this_host_alone(house: House) -> None:
    browser = TestClient(house.app, base_url="https://testserver", follow_redirects=False)
    (cookie,) = browser.get("/sign-in").headers.get_list("set-cookie")
    name, *rest = cookie.lower().split("; ")
    assert name.startswith("__host-openami-form=")
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= set(rest)


def test_codes_that_nobody_uses_come_ever_more_slowly(house: House) -> None:
    people, phone = house.gate.people, "9333333333"
    people.add_phone(phone, house.own["account"])
    sent = {at_s: code for at_s in range(0, 3600, 30) if (code := people.make_code(phone, at_s))}
    assert list(sent) == [0, 30, 60, 90, 120, 180, 300, 540, 1020, 1980]
    assert people.sign_in_by_code(phone, sent[1980], 1981).outcome is SignIn.DONE
    assert people.make_code(phone, 1982), "who has used a code is trusted again"


def test_codes_are_not_guessed_at_many_phones_from_one_address(house: House, door) -> None:
    browser, now = door
    now[0] += 3600
    form = FORM.search(browser.get("/sign-in/phone").text)[1]
    tried = [
        browser.post("/sign-in/code", data={"phone": f"90000001{k:02}", "code": "000000", "csrf_token": form}).status_code
        for k in range(TRIES_AT_ONCE + 1)
    ]
    assert tried == [401] * TRIES_AT_ONCE + [429]
    now[0] += 3600


@pytest.mark.parametrize("path", ["/sign-in", "/api/v1/orders"])
def test_a_body_in_pieces_is_bounded_too(house: House, path: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(400):
            yield b"x" * 1024

    headers = {"content-type": "application/x-www-form-urlencoded" if path == "/sign-in" else "application/json"}
    answer = house.client("operator").post(path, content=pieces(), headers=headers | {"idempotency-key": "12345678"})
    assert answer.status_code == 413


def test_demo_people_are_one_click_away_in_a_simulated_town_and_nowhere_else(house: House, door) -> None:
    browser, _ = door
    page = browser.get("/sign-in?lang=en").text
    for name in DEMO_PEOPLE:
        other = house.browser()
        form = FORM.search(other.get("/sign-in").text)[1]
        assert f'value="{name}"' in page
        assert other.post("/sign-in/demo", data={"person": name, "csrf_token": form}).status_code == 303
        assert other.get("/", follow_redirects=True).status_code == 200
    elsewhere = {"host": "a-page-whose-name-points-here.example"}
    assert "demo-operator" not in browser.get("/sign-in", headers=elsewhere).text
    assert browser.post("/sign-in/demo", data={"person": "demo-operator", "csrf_token": form}, headers=elsewhere).status_code == 404
    house.gate.demo = False
    assert "demo-operator" not in browser.get("/sign-in").text
    assert browser.post("/sign-in/demo", data={"person": "demo-operator", "csrf_token": FORM.search(page)[1]}).status_code == 404
    house.gate.demo = True


def test_signing_in_and_failing_to_stand_in_the_trail_without_the_secret(house: House, door) -> None:
    browser, _ = door
    _person(house, "in-the-trail", "installer", totp=False)
    _enter(browser, "in-the-trail", "my secret guess 1")
    _enter(browser, "in-the-trail")
    lines = [entry for _, entry in house.gate.trail.latest(2, action="sign_in")]
    assert [(e.who, e.outcome, e.address) for e in lines] == [("in-the-trail", "done", "testclient"), ("", "refused", "testclient")]
    assert "my secret guess 1" not in repr(house.gate.trail.latest(1000))


def test_a_lock_holds_for_all_processes_together(house: House) -> None:
    """Two consoles over one folder, as `serve --processes 2` has them: five wrong tries are five, wherever they were made."""
    consoles = [house.gate, enter(house.folder).gate]
    now_s = house.gate.now_s
    tried = [consoles[k % 2].people.sign_in("operator-other", "not the password", None, now_s, "192.0.2.9").outcome for k in range(6)]
    assert tried == [SignIn.WRONG] * 4 + [SignIn.LOCKED] * 2
