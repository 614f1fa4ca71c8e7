"""Our own address: what a request writes into its Host field steers nothing that is signed, and nobody's way back."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest

from .houses import BASE, House

FOREIGN = {"host": "evil.example"}


def _claims(token: str) -> dict[str, str]:
    body = token.split(".")[1]
    found: dict[str, str] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_a_foreign_name_is_nobodys_issuer(house: House) -> None:
    """Neither in what programs are told of us, nor in a statement that we sign."""
    told = house.client().get("/.well-known/openid-configuration", headers=FOREIGN).json()
    assert told["issuer"] == BASE
    assert all("evil" not in str(value) for value in told.values())
    proof = house.browser("consumer-own").get(f"/my/{house.own['account']}/proof.json", headers=FOREIGN)
    assert "evil" not in proof.text
    tokens = house.gate.tokens
    assert tokens is not None
    assert tokens.verify(house.token("operator", issuer="http://evil.example"), BASE) is None
    asked = {"authorization": f"Bearer {house.token('operator', issuer='http://evil.example')}"} | FOREIGN
    assert house.client().get("/api/v1/me", headers=asked).status_code == 401


@pytest.mark.parametrize("path", ["/", "/my", "/room/orders", "/sign-in"])
def test_nobody_is_sent_away_and_no_cookie_is_given_away(house: House, path: str) -> None:
    answer = house.client().get(path, headers=FOREIGN)
    assert "evil.example" not in answer.headers.get("location", "") + answer.text
    assert "domain" not in answer.headers.get("set-cookie", "").lower()


def test_this_machine_by_its_number_is_itself(house: House) -> None:
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        told = house.client().get("/.well-known/openid-configuration", headers={"host": host}).json()
        assert told["issuer"] == f"http://{host}"
