"""What a program from outside expects of an OpenID Connect provider beside codes and tokens: prompts, ages, scopes that shrink, and the end."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from openami.store.clients import Client
from openami.store.sessions import STAFF_IDLE_S

from .houses import BASE, House
from .test_oauth import BACK, FIELD, _agreed, _proof, _told, _trade

PROGRAM = "outside-app"


@pytest.fixture(scope="module")
def asked(house: House) -> dict[str, str]:
    """What a program asks for."""
    house.unlimited()
    house.gate.people.add(PROGRAM, "consumer", house.gate.now_s)
    house.gate.clients.add(Client(PROGRAM, "An app from outside", (BACK,), ("meters", "accounts"), False))
    return {
        "response_type": "code",
        "client_id": PROGRAM,
        "redirect_uri": BACK,
        "scope": "openid offline_access meters accounts",
        "state": "s1",
        "code_challenge": _proof()[1],
        "code_challenge_method": "S256",
    }


def _tokens(house: House, scope: str = "openid offline_access meters accounts", **changes: str) -> dict[str, str]:
    verifier, challenge = _proof()
    code = _agreed(house, "consumer-own", PROGRAM, challenge, scope, **changes)["code"]
    given = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": verifier, "client_id": PROGRAM}
    answer: dict[str, str] = _trade(house, **given, code=code).json()
    return answer


def _bearer(house: House, token: str, method: str, path: str):
    return house.client().request(method, path, headers={"authorization": f"Bearer {token}"})


def test_who_has_not_signed_in_is_told_where_nobody_may_be_asked(house: House, asked: dict[str, str]) -> None:
    there = house.browser().get("/oauth/authorize?" + urlencode(asked | {"prompt": "none"})).headers["location"]
    assert _told(there) == {"x": "1", "error": "login_required", "state": "s1", "iss": BASE}


@pytest.mark.parametrize("more", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "600"}])
def test_who_signed_in_too_long_ago_signs_in_again_and_comes_back(house: House, asked: dict[str, str], more: dict[str, str]) -> None:
    before = house.gate.clock
    house.gate.clock = lambda: before() - 700
    try:
        browser = house.browser("consumer-own")
    finally:
        house.gate.clock = before
    there = urlsplit(browser.get("/oauth/authorize?" + urlencode(asked | more)).headers["location"])
    assert there.path == "/sign-in"
    onward = parse_qs(there.query)["next"][0]
    assert parse_qs(urlsplit(onward).query) == parse_qs(urlencode(asked))
    assert house.browser("consumer-own").get(onward).status_code == 200


def test_who_must_sign_in_anew_for_this_does_so_however_lately_they_did(house: House, asked: dict[str, str]) -> None:
    there = house.browser("consumer-own").get("/oauth/authorize?" + urlencode(asked | {"max_age": "0"}))
    assert there.headers["location"].startswith("/sign-in?next=")


def test_an_id_token_says_when_its_person_signed_in(house: House, asked: dict[str, str]) -> None:
    keys = KeySet.import_key_set(house.client().get("/oauth/jwks").json())
    claims = jwt.decode(_tokens(house)["id_token"], keys, algorithms=["ES256"]).claims
    assert 0 <= house.gate.now_s - claims["auth_time"] < STAFF_IDLE_S


def test_a_parameter_that_comes_twice_is_refused(house: House, asked: dict[str, str]) -> None:
    browser = house.browser("consumer-own")
    twice = browser.get("/oauth/authorize?" + urlencode(asked) + "&scope=meters")
    assert _told(twice.headers["location"])["error"] == "invalid_request"
    address = browser.get(
        "/oauth/authorize?" + urlencode(asked | {"redirect_uri": "https://evil.example/"}) + "&" + urlencode({"redirect_uri": BACK})
    )
    assert (address.status_code, address.headers.get("location")) == (422, None)


def test_a_token_may_be_asked_for_with_less_and_never_with_more(house: House, asked: dict[str, str]) -> None:
    def anew(refresh: str, scope: str):
        return _trade(house, grant_type="refresh_token", client_id=PROGRAM, refresh_token=refresh, scope=scope)

    refresh = _tokens(house, "openid offline_access meters")["refresh_token"]
    assert anew(refresh, "meters accounts").json()["error"] == "invalid_scope"
    less = anew(refresh, "meters").json()
    assert (less["scope"], "id_token" in less) == ("meters", False)
    assert _bearer(house, less["access_token"], "GET", "/oauth/userinfo").status_code == 403
    assert anew(less["refresh_token"], "").json()["scope"] == "openid offline_access meters"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_somebody_is_is_told_for_openid_alone(house: House, asked: dict[str, str], method: str) -> None:
    known = _bearer(house, _tokens(house)["access_token"], method, "/oauth/userinfo")
    assert known.json()["sub"] == "consumer-own"
    without = _bearer(house, _tokens(house, "meters")["access_token"], method, "/oauth/userinfo")
    assert (without.status_code, 'error="insufficient_scope"' in without.headers["www-authenticate"]) == (403, True)


def test_an_access_token_is_not_said_to_be_ended(house: House, asked: dict[str, str]) -> None:
    answer = house.client().post("/oauth/revoke", data={"client_id": PROGRAM, "token": _tokens(house)["access_token"]})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")


def test_a_program_ends_the_session_of_its_own_person_at_once(house: House, asked: dict[str, str]) -> None:
    browser = house.browser("consumer-own")
    end = {"id_token_hint": _tokens(house)["id_token"], "post_logout_redirect_uri": BACK, "state": "s2"}
    answer = browser.get("/oauth/end-session?" + urlencode(end))
    assert _told(answer.headers["location"]) == {"x": "1", "state": "s2"}
    assert browser.get("/me").status_code == 303


def test_anybody_else_is_asked_before_they_are_signed_out(house: House, asked: dict[str, str]) -> None:
    browser = house.browser("consumer-other")
    end = {"id_token_hint": _tokens(house)["id_token"], "client_id": PROGRAM, "post_logout_redirect_uri": BACK}
    led = browser.post("/oauth/end-session", data=end)  # as a program may send it, too
    page = browser.get(led.headers["location"])
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"]
    assert browser.get("/me").status_code == 200
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(page.text)}
    assert browser.post("/oauth/end-session", data=form | {"csrf_token": "another's"}).status_code == 403
    assert browser.post("/oauth/end-session", data=form).headers["location"] == BACK
    assert browser.get("/me").status_code == 303


@pytest.mark.parametrize("signed_in", ["", "consumer-own"])
def test_after_the_end_nobody_is_sent_to_a_strangers_address(house: House, asked: dict[str, str], signed_in: str) -> None:
    end = {"id_token_hint": _tokens(house)["id_token"], "post_logout_redirect_uri": "https://evil.example/"}
    answer = house.browser(signed_in).get("/oauth/end-session?" + urlencode(end))
    assert answer.headers["location"] == "/sign-in"


def test_a_consumer_who_signs_in_by_phone_goes_on_to_what_the_program_asked(house: House, asked: dict[str, str]) -> None:
    """From the program to sign-in, to the phone's page, through the code, and back to the question with all that was asked, a long state too."""
    phone, browser = "98765 00077", house.browser()
    house.gate.people.add_phone(phone, house.own["account"])
    way = browser.get("/oauth/authorize?" + urlencode(asked | {"state": "s" * 500, "nonce": "n" * 200})).headers["location"]
    link = next(one for one in browser.get(way + "&lang=en").text.split('"') if one.startswith("/sign-in/phone"))
    form = dict(FIELD.findall(browser.get(link.replace("&amp;", "&")).text))
    shown = browser.post("/sign-in/phone", data={name: value.replace("&amp;", "&") for name, value in form.items()} | {"phone": phone})
    code = re.search(r"the code is shown here: (\d{6})", shown.text)
    assert code is not None
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(shown.text)}
    onward = browser.post("/sign-in/code", data=form | {"phone": phone, "code": code[1]}).headers["location"]
    page = browser.get(onward)
    assert page.status_code == 200
    assert "An app from outside" in page.text
    assert "s" * 500 in page.text
