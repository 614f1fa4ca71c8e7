"""The control room's people and audit trail: an administrator adds, changes and closes; an auditor reads; nobody locks themselves out."""

from __future__ import annotations

import re

import pyotp
import pytest

from openami.store.people import SignIn

from .houses import House

WHY = "for the test of this page"


@pytest.fixture
def admin(house: House):
    return house.browser("admin")


def _form(page: str) -> str:
    return re.search(r'name="csrf_token" value="([^"]+)"', page)[1]


def _send(client, path: str, **given: str):
    return client.post(path, data={"csrf_token": _form(client.get("/room/people").text), "why": WHY} | given)


def _once(page: str) -> list[str]:
    return re.findall(r"<dd><code>([^<]+)</code>", page)


def test_whoever_is_added_comes_in_with_what_was_shown_once(house, admin):
    answer = _send(admin, "/room/people?lang=en", name="meera", role="operator", reach="division:own", language="hi")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private, no-store"
    password, secret = _once(answer.text)
    people, now_s = house.gate.people, house.gate.now_s
    assert people.sign_in("meera", password, pyotp.TOTP(secret).at(now_s), now_s).outcome is SignIn.DONE
    assert people.grants("meera") == [("division", "own")]
    assert people.find("meera").language == "hi"
    assert password not in admin.get("/room/people/meera").text
    line = house.gate.trail.latest(1, subject="meera", action="people.add")[0][1]
    assert (line.who, line.why) == ("admin", f"as operator for division:own: {WHY}")
    assert _send(admin, "/room/people?lang=en", name="meera", role="auditor", language="en").status_code == 422


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b", "role": "operator"}, "cannot be a person"),
        ({"name": "x1", "role": "consumer"}, "cannot be used for"),
        ({"name": "x1", "role": "operator", "reach": "division:nowhere"}, "cannot be granted"),
        ({"name": "x1", "role": "installer", "reach": "job:UP-NOWHERE"}, "cannot be granted"),
        ({"name": "x1", "role": "operator", "language": "xx"}, "cannot be used for “Language”"),
        ({"name": "x1", "role": "operator", "why": "x"}, "Give a reason"),
    ],
)
def test_what_cannot_be_is_said_and_nobody_is_added(house, admin, given, said):
    answer = _send(admin, "/room/people?lang=en", **{"language": "en"} | given)
    assert answer.status_code == 422
    assert said in answer.text
    assert house.gate.people.find("x1") is None


def test_what_is_changed_holds_at_once_and_stands_in_the_trail(house, admin):
    house.gate.people.add("ravi", "operator", house.gate.now_s, password="a first password")
    token = house.gate.sessions.begin("ravi", house.gate.now_s, "test")
    _send(admin, "/room/people/ravi", what="grant", reach="division:other")
    assert house.gate.people.grants("ravi") == [("division", "other")]
    assert house.gate.sessions.find(token, house.gate.now_s) is not None
    _send(admin, "/room/people/ravi", what="revoke", reach="division:other")
    assert house.gate.people.grants("ravi") == []
    assert house.gate.sessions.find(token, house.gate.now_s) is None
    (password,) = _once(_send(admin, "/room/people/ravi", what="password").text)
    assert house.gate.people.sign_in("ravi", password, None, house.gate.now_s).outcome is SignIn.DONE
    _send(admin, "/room/people/ravi", what="disable")
    assert house.gate.people.find("ravi").disabled
    _send(admin, "/room/people/ravi", what="enable")
    assert not house.gate.people.find("ravi").disabled
    done = [line.action for _, line in house.gate.trail.latest(9, subject="ravi")]
    assert done == ["people.enable", "people.disable", "people.password", "people.revoke", "people.grant"]


def test_nobody_changes_their_own_access(house, admin):
    answer = _send(admin, "/room/people/admin?lang=en", what="disable")
    assert answer.status_code == 422
    assert "Nobody changes their own access" in answer.text
    assert not house.gate.people.find("admin").disabled


def test_a_form_of_another_session_changes_nobody(house, admin):
    answer = admin.post("/room/people/operator", data={"csrf_token": "0" * 64, "what": "disable", "why": WHY})
    assert answer.status_code == 403
    assert not house.gate.people.find("operator").disabled


def test_the_trail_is_read_by_who_and_what_and_goes_on_by_key(house):
    auditor = house.browser("auditor")
    for k in range(120):
        house.gate.note(None, _Request(), "test.line", f"thing-{k:03d}")
    page = auditor.get("/room/audit?action=test.line&lang=en").text
    assert "thing-119" in page
    assert "thing-019" not in page
    onward = re.search(r'href="(/room/audit[^"]+)" rel="next"', page)[1].replace("&amp;", "&")
    assert "thing-019" in auditor.get(onward).text
    assert "No line." in auditor.get("/room/audit?who=nobody-at-all&lang=en").text


class _Request:
    """As much of a request as a line of the trail asks for."""

    client = None
