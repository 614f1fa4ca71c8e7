"""`openami people`: who may sign in is kept on the machine itself, and each change stands in the trail."""

from __future__ import annotations

import io
import json
import re
from urllib.parse import urlencode

import pyotp
import pytest

from openami.cli.people import people as command
from openami.errors import InputError, RequestError

from .houses import House

PASSWORD = "a long enough password"


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def say(*words: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
        capsys.readouterr()
        command([*words, "--data", str(house.folder)], standalone_mode=False)
        return capsys.readouterr().out

    from typer.main import get_command

    command_ = get_command(command)
    monkeypatch.setattr(f"{__name__}.command", command_)
    return say


def test_an_operator_is_added_with_a_second_factor_that_works(house: House, run) -> None:
    said = run("add", "asha", "--role", "operator", "--division", "own", "--why", "new in the office")
    secret = re.search(r"second factor: (\S+)", said)[1]
    now_s = house.gate.now_s
    assert house.gate.people.sign_in("asha", PASSWORD, pyotp.TOTP(secret).at(now_s), now_s).person.name == "asha"
    (row,) = [row for row in json.loads(run("list", "--json")) if row["name"] == "asha"]
    assert (row["role"], row["grants"], row["totp"]) == ("operator", ["division:own"], True)
    assert "people.add" in run("audit", "--subject", "asha")
    assert "new in the office" in run("audit", "--subject", "asha")


def test_a_program_gets_a_secret_that_is_shown_once(house: House, run) -> None:
    said = run("add", "planner", "--role", "auditor", "--program", "-")
    secret = re.search(r"client_secret (\S+)", said)[1]
    answer = house.client().post("/oauth/token", data={"grant_type": "client_credentials"}, auth=("planner", secret))
    assert answer.status_code == 200
    assert secret not in run("list", "--json") + run("audit", "--subject", "planner")


def test_a_program_that_cannot_keep_a_secret_gets_none_and_asks_a_person(house: House, run) -> None:
    with pytest.raises(InputError, match="--program ADDRESS"):
        run("add", "phone-of-asha", "--role", "consumer", "--program", "-", "--public")
    assert "secret" not in run("add", "phone-of-asha", "--role", "consumer", "--program", "in.example.app:/back", "--public")
    asked = {"client_id": "phone-of-asha", "redirect_uri": "in.example.app:/back", "response_type": "code", "scope": "meters"}
    asked |= {"code_challenge": "c" * 43, "code_challenge_method": "S256"}
    page = house.browser("consumer-own").get("/oauth/authorize?" + urlencode(asked))
    assert "form-action 'self' in.example.app:;" in page.headers["content-security-policy"]
    own = house.client().post("/oauth/token", data={"grant_type": "client_credentials", "client_id": "phone-of-asha"})
    assert own.json()["error"] == "unauthorized_client"


def test_who_is_disabled_is_out(house: House, run) -> None:
    run("add", "leaver", "--role", "installer", "--job", house.own["point"])
    browser = house.browser("leaver")
    assert browser.get("/me").status_code == 200
    assert "1 sessions ended" in run("disable", "leaver")
    assert browser.get("/me").status_code == 303
    assert "may sign in again" in run("enable", "leaver")


def test_the_trail_is_whole_and_says_so(house: House, run) -> None:
    assert run("audit", "--check") == "the audit trail is whole\n"


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        (("add", "x", "--role", "king"), InputError, "'king' is no role"),
        (("add", "x", "--role", "operator", "--division", "West"), InputError, "there is no division West"),
        (("add", "not a name", "--role", "installer"), InputError, "cannot be a person's name"),
        (("disable", "nobody-here"), RequestError, "there is no person nobody-here"),
        (("grant", "operator", "everything"), InputError, "is no grant"),
        (("division", "West", "F99"), InputError, "there is no feeder F99"),
        (("phone", "12", "2000000001"), InputError, "a phone number has ten digits"),
        (("audit", "--limit", "0"), InputError, "give 1 or more"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(run, words: tuple[str, ...], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        run(*words)
