"""Tokens: the whole way of a program by code and proof key, by its own secret, with refresh; through another issuer; and every way it must fail."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa
from joserfc import jwt
from joserfc.jwk import KeySet

from openami.store.clients import Client, Given
from openami.store.people import DIGEST_MARK, SignIn, person
from openami.web.app import TRIES_AT_ONCE
from openami.web.tokens import SIGNS_AFTER_S, UNKNOWN_AGAIN_S, External, Tokens

from .houses import BASE, House

BACK = "https://app.example/back?x=1"
SECRET = "the secret of a program"
FIELD = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@pytest.fixture(scope="module")
def programs(house: House) -> House:
    house.unlimited()
    people, clients, now_s = house.gate.people, house.gate.clients, house.gate.now_s
    for name, confidential in (("reader", True), ("phone-app", False)):
        people.add(name, "auditor" if confidential else "consumer", now_s, password=SECRET if confidential else None)
        clients.add(Client(name, f"The {name}", (BACK,), ("meters", "accounts"), confidential))
    people.grant("reader", "all")  # type: ignore[arg-type]
    return house


def _proof() -> tuple[str, str]:
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _agreed(
    house: House, who: str, client: str, challenge: str, scope: str = "meters openid offline_access", **changes: str
) -> dict[str, str]:
    """What the person's browser is sent back with."""
    asked = {"response_type": "code", "client_id": client, "redirect_uri": BACK, "scope": scope, "state": "s1", "nonce": "n1"}
    asked |= {"code_challenge": challenge, "code_challenge_method": "S256"} | changes
    browser = house.browser(who)
    page = browser.get(f"/oauth/authorize?{urlencode(asked)}")
    if page.status_code == 303:
        return _told(page.headers["location"])
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(page.text)}
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"]
    return _told(browser.post("/oauth/authorize", data=form | {"agree": "yes"}).headers["location"])


def _told(location: str) -> dict[str, str]:
    assert location.startswith("https://app.example/back?x=1&")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def _trade(house: House, **given: str):
    return house.client().post("/oauth/token", data=given)


def test_the_whole_way_of_a_program_without_a_secret(programs: House) -> None:
    verifier, challenge = _proof()
    told = _agreed(programs, "consumer-own", "phone-app", challenge)
    assert (told["state"], told["iss"]) == ("s1", BASE)
    given = {
        "grant_type": "authorization_code",
        "code": told["code"],
        "redirect_uri": BACK,
        "code_verifier": verifier,
        "client_id": "phone-app",
    }
    body = _trade(programs, **given).json()
    client = programs.client()
    client.headers["authorization"] = f"Bearer {body['access_token']}"
    me = client.get("/api/v1/me").json()
    assert (me["name"], me["program"], me["rights"]) == ("consumer-own", "phone-app", ["meters"])
    assert client.get(f"/api/v1/meters/{programs.own['meter']}").status_code == 200
    assert client.get(f"/api/v1/meters/{programs.other['meter']}").status_code == 404
    assert client.get("/oauth/userinfo").json()["sub"] == "consumer-own"
    tokens = Tokens(
        lambda: programs.gate.clients,
        programs.gate.clock,
        External(BASE, "-", "phone-app", "", ""),
        lambda url: client.get(urlsplit(url).path).json(),
    )
    assert tokens.verify_identity(body["id_token"], "n1") == "consumer-own"
    assert tokens.verify_identity(body["id_token"], "n2") is None


def test_a_code_works_once_and_only_with_its_proof(programs: House) -> None:
    verifier, challenge = _proof()
    good = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": verifier, "client_id": "phone-app"}
    for change in (
        {"code_verifier": _proof()[0]},
        {"redirect_uri": "https://app.example/other"},
        {"client_id": "no-such-program"},
        {"code_verifier": ""},
    ):
        code = _agreed(programs, "consumer-own", "phone-app", challenge)["code"]
        assert _trade(programs, **(good | {"code": code} | change)).status_code in (400, 401)
    code = _agreed(programs, "consumer-own", "phone-app", challenge)["code"]
    assert _trade(programs, **good, code=code).status_code == 200
    assert _trade(programs, **good, code=code).json()["error"] == "invalid_grant"


def test_a_code_that_comes_again_ends_what_came_of_it(programs: House) -> None:
    verifier, challenge = _proof()
    good = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": verifier, "client_id": "phone-app"}
    code = _agreed(programs, "consumer-own", "phone-app", challenge)["code"]
    refresh = _trade(programs, **good, code=code).json()["refresh_token"]
    assert _trade(programs, **good, code=code).status_code == 400
    again = _trade(programs, grant_type="refresh_token", refresh_token=refresh, client_id="phone-app")
    assert again.json()["error"] == "invalid_grant"


def test_what_somebody_has_open_ends_with_their_password(programs: House) -> None:
    verifier, challenge = _proof()
    code = _agreed(programs, "consumer-own", "phone-app", challenge)["code"]
    good = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": verifier, "client_id": "phone-app"}
    refresh = _trade(programs, **good, code=code).json()["refresh_token"]
    programs.gate.end_open("consumer-own")
    assert _trade(programs, grant_type="refresh_token", refresh_token=refresh, client_id="phone-app").status_code == 400


def test_wrong_secrets_do_not_hold_up_the_right_one(programs: House) -> None:
    tries = programs.app.state.tries
    tries._buckets.clear()
    asked = {"grant_type": "client_credentials", "client_id": "reader"}
    answers = [_trade(programs, **asked, client_secret="guessed").status_code for _ in range(TRIES_AT_ONCE + 1)]
    assert answers == [401] * TRIES_AT_ONCE + [429]
    assert _trade(programs, **asked, client_secret=SECRET).status_code == 200
    tries._buckets.clear()
    lines = [entry for _, entry in programs.gate.trail.latest(50, None, None, "oauth.token", "reader") if entry.outcome == "refused"]
    assert len(lines) == TRIES_AT_ONCE


def test_a_secret_lies_as_a_keyed_digest_once_it_was_given(programs: House) -> None:
    assert _trade(programs, grant_type="client_credentials", client_id="reader", client_secret=SECRET).status_code == 200
    with programs.site.rows.begin() as connection:
        kept = connection.execute(sa.select(person.c.password_hash).where(person.c.name == "reader")).scalar_one()
    assert kept.startswith(DIGEST_MARK)
    assert SECRET not in kept
    assert not programs.gate.people.check_secret("reader", kept)
    assert programs.gate.people.sign_in("reader", SECRET, None, 0).outcome is SignIn.WRONG


def test_a_new_key_is_known_before_it_signs_and_the_one_before_stays_good(programs: House) -> None:
    """Two processes of one deployment, each with keys of its own memory."""
    now = [programs.gate.clock()]
    here, there = (Tokens(lambda: programs.gate.clients, lambda: now[0]) for _ in range(2))
    before = here.access(BASE, "ann", "", ())
    assert there.verify(before, BASE) is not None
    made = here.new_key()
    now[0] += UNKNOWN_AGAIN_S
    soon = here.access(BASE, "ann", "", ())
    assert jwt.decode(soon, KeySet.import_key_set(here.jwks())).header["kid"] != made
    assert made in {key["kid"] for key in here.jwks()["keys"]}
    now[0] += SIGNS_AFTER_S
    later = here.access(BASE, "ann", "", ())
    assert jwt.decode(later, KeySet.import_key_set(here.jwks())).header["kid"] == made
    assert [tokens.verify(one, BASE) is not None for tokens in (here, there) for one in (before, soon, later)] == [True] * 6


def test_an_issuer_that_does_not_answer_is_not_asked_for_every_stranger(programs: House) -> None:
    asked: list[str] = []

    def away(url: str) -> dict[str, str]:
        asked.append(url)
        raise OSError("no answer")

    tokens = Tokens(lambda: programs.gate.clients, programs.gate.clock, External("https://id.example", "a", "c", "s", "t"), away)
    assert [tokens.verify(f"no.token.{k}", BASE) for k in range(5)] == [None] * 5
    assert len(asked) == 1


def test_a_refresh_token_works_once_and_a_stolen_one_ends_the_family(programs: House) -> None:
    verifier, challenge = _proof()
    code = _agreed(programs, "consumer-own", "phone-app", challenge)["code"]
    given = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": verifier, "client_id": "phone-app"}
    first = _trade(programs, **given).json()["refresh_token"]
    refresh = {"grant_type": "refresh_token", "client_id": "phone-app"}
    second = _trade(programs, **refresh, refresh_token=first).json()["refresh_token"]
    assert _trade(programs, **refresh, refresh_token=first).status_code == 400
    assert _trade(programs, **refresh, refresh_token=second).status_code == 400


LOCAL = ("http://127.0.0.1/back?x=1", "http://[::1]:4000/back")


@pytest.fixture(scope="module")
def local(programs: House) -> House:
    """Two programs on a computer, one of which has a secret."""
    for name, confidential in (("desk-app", False), ("desk-server", True)):
        programs.gate.people.add(name, "consumer", programs.gate.now_s, password=SECRET if confidential else None)
        programs.gate.clients.add(Client(name, name, (*LOCAL, "http://localhost/back"), ("meters",), confidential))
    return programs


@pytest.mark.parametrize(
    ("back", "policy"),
    [("http://127.0.0.1:51999/back?x=1", "http://127.0.0.1:51999"), ("http://[::1]:65535/back", "http:"), (LOCAL[0], "http://127.0.0.1")],
)
def test_a_program_on_ones_own_computer_listens_at_any_port(local: House, back: str, policy: str) -> None:
    verifier, challenge = _proof()
    asked = {"response_type": "code", "client_id": "desk-app", "redirect_uri": back, "scope": "meters", "state": "s"}
    asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    browser = local.browser("consumer-own")
    page = browser.get(f"/oauth/authorize?{urlencode(asked)}")
    assert f"form-action 'self' {policy};" in page.headers["content-security-policy"]
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(page.text)}
    location = browser.post("/oauth/authorize", data=form | {"agree": "yes"}).headers["location"]
    assert location.startswith(back + ("&" if "?" in back else "?"))
    given = {"grant_type": "authorization_code", "code": parse_qs(urlsplit(location).query)["code"][0], "client_id": "desk-app"}
    given["code_verifier"] = verifier
    assert _trade(local, **given, redirect_uri=back).status_code == 200


def test_the_port_belongs_to_the_code(local: House) -> None:
    """The code of one port cannot be traded with the name of another."""
    client = local.gate.clients.find("desk-app")
    assert client is not None
    verifier, challenge = _proof()
    stands_for = Given("desk-app", "consumer-own", ("meters",), "", "http://127.0.0.1:5000/back?x=1", challenge, None)
    code = local.gate.clients.make_code(stands_for, local.gate.now_s)
    given = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "client_id": "desk-app"}
    assert client.may_send_back_to("http://127.0.0.1:5001/back?x=1")
    assert _trade(local, **given, redirect_uri="http://127.0.0.1:5001/back?x=1").status_code == 400


@pytest.mark.parametrize(
    "back",
    [
        "http://127.0.0.1:5000/other",
        "http://127.0.0.1:5000/back?x=2",
        "http://127.0.0.1:5000@evil.example/back?x=1",
        "http://127.0.0.1.evil.example/back?x=1",
        "http://127.0.0.1:70000/back?x=1",
        "http://127.0.0.1:0/back?x=1",
        "http://127.0.0.1:/back?x=1",
        "http://127.0.0.2:5000/back?x=1",
        "https://127.0.0.1:5000/back?x=1",
        "http://localhost:5000/back",
        "http://127.0.0.1:5000/back?x=1#there",
        "http://127.0.0.1:5000/back?x=1\n",
    ],
)
def test_only_the_port_may_be_another_and_only_of_a_program_without_a_secret(local: House, back: str) -> None:
    for name, address in (("desk-app", back), ("desk-server", "http://127.0.0.1:5000/back?x=1")):
        asked = {"response_type": "code", "client_id": name, "redirect_uri": address, "code_challenge": _proof()[1]}
        answer = local.browser("consumer-own").get(f"/oauth/authorize?{urlencode(asked)}")
        assert (answer.status_code, "location" in answer.headers) == (422, False), address


def test_an_address_that_is_not_the_programs_is_never_used(programs: House) -> None:
    _, challenge = _proof()
    asked = {"response_type": "code", "client_id": "phone-app", "redirect_uri": "https://evil.example/", "code_challenge": challenge}
    answer = programs.browser("consumer-own").get(f"/oauth/authorize?{urlencode(asked)}")
    assert answer.status_code == 422
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "surprise"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"request": "a.b.c"}, "request_not_supported"),
        ({"request_uri": "https://app.example/request"}, "request_uri_not_supported"),
        ({"prompt": "none"}, "consent_required"),
    ],
)
def test_a_wrong_request_is_told_to_the_program(programs: House, change: dict[str, str], error: str) -> None:
    assert _agreed(programs, "consumer-own", "phone-app", _proof()[1], **change)["error"] == error


def test_a_program_with_a_secret_reads_for_itself_and_not_without(programs: House) -> None:
    right = programs.client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=("reader", SECRET))
    assert right.json()["scope"] == "accounts meters"
    client = programs.client()
    client.headers["authorization"] = f"Bearer {right.json()['access_token']}"
    assert client.get("/api/v1/accounts").status_code == 200
    assert client.get("/api/v1/audit").status_code == 403  # the role has it, the program did not register it
    wrong = programs.client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=("reader", "a wrong secret"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"] == 'Basic realm="openami"'
    public = _trade(programs, grant_type="client_credentials", client_id="phone-app")
    assert public.json()["error"] == "unauthorized_client"


@pytest.mark.parametrize(
    "bad", ["", "x.y.z", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcGVyYXRvciJ9.", "with key of others", "expired", "for others", "id token"]
)
def test_a_token_that_is_not_ours_or_not_for_us_opens_nothing(programs: House, bad: str) -> None:
    gate, now = programs.gate, programs.gate.clock
    assert gate.tokens is not None
    stranger = Tokens(lambda: programs.gate.clients, now)
    made = {
        "with key of others": lambda: _forged(),
        "expired": lambda: programs.token("operator", lives_s=-3600),
        "for others": lambda: programs.token("operator", issuer="https://other.example"),
        "id token": lambda: stranger.identity(BASE, "operator", "openami", "", "operator"),
    }
    client = programs.client()
    client.headers["authorization"] = f"Bearer {made[bad]() if bad in made else bad}"
    assert client.get("/api/v1/me").status_code == 401


def _forged() -> str:
    from joserfc import jwt
    from joserfc.jwk import ECKey

    claims = {"iss": BASE, "aud": "openami", "sub": "operator", "scope": "town", "exp": 4_000_000_000}
    return jwt.encode({"alg": "ES256", "typ": "at+jwt"}, claims, ECKey.generate_key("P-256"))


def test_people_of_another_issuer_come_in_if_they_are_linked(programs: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other issuer is a second house's provider, or rather this one's under another name: discovery, code, proof, ID token, all real."""
    gate, other = programs.gate, programs.client()
    assert gate.tokens is not None
    gate.people.add("console-of-theirs", "consumer", 0, password=SECRET)
    gate.clients.add(Client("console-of-theirs", "Console", (f"{BASE}/sign-in/external/back",), (), True))
    monkeypatch.setattr(gate.tokens, "external", External(BASE, "openami", "console-of-theirs", SECRET, "Company"))
    monkeypatch.setattr(gate.tokens, "_fetch", lambda url: other.get(urlsplit(url).path).json())
    monkeypatch.setattr(
        "openami.web.external.httpx.post", lambda url, data, auth, timeout: other.post(urlsplit(url).path, data=data, auth=auth)
    )
    gate.people.link("installer-own", "consumer-own")
    visitor = programs.browser()
    assert "Company" in visitor.get("/sign-in?lang=en").text
    away = visitor.get("/sign-in/external?next=/me").headers["location"]
    at_issuer = programs.browser("consumer-own")
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(at_issuer.get(away.removeprefix(BASE)).text)}
    back = at_issuer.post("/oauth/authorize", data=form | {"agree": "yes"}).headers["location"]
    stranger = programs.browser().get(back.removeprefix(BASE))
    assert stranger.headers["location"].startswith("/sign-in?problem=external")
    away = visitor.get("/sign-in/external?next=/me").headers["location"]
    form = {name: value.replace("&amp;", "&") for name, value in FIELD.findall(at_issuer.get(away.removeprefix(BASE)).text)}
    back = at_issuer.post("/oauth/authorize", data=form | {"agree": "yes"}).headers["location"]
    assert visitor.get(back.removeprefix(BASE)).headers["location"] == "/me"
    assert "installer-own" in visitor.get("/me").text
    gate.people.link("installer-own", None)
