"""Over HTTP: signed messages only, every refusal by name, and a gateway that misbehaves changes no balance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import InputError
from openami.payments.client import GatewayClient
from openami.payments.daily_file import read_daily_file, reconcile
from openami.payments.desk import PaymentDesk
from openami.payments.event import Kind, read_event
from openami.payments.gateways import load_gateways
from openami.payments.http import BODY_MAX, payments_router
from openami.payments.signing import HEADER, doubt, sign
from openami.payments.simulator import Misbehaviour, Simulator
from openami.prepaid.reconcile import Cause

from .conftest import GATEWAY, NOW, SECRET, Clock, event, message


@pytest.fixture
def app(desk: PaymentDesk) -> FastAPI:
    app = FastAPI()
    app.include_router(payments_router(desk, {"upi": GATEWAY}))
    return app


@pytest.fixture
def post(app: FastAPI) -> Iterator[Callable[..., Any]]:
    with TestClient(app) as client:
        yield lambda body, headers, path="/payments/upi/events": client.post(path, content=body, headers=headers)


def balance(desk: PaymentDesk) -> int:
    return desk.ledger.standing("A").balance_paise


def test_a_signed_event_is_taken_and_a_replay_of_it_posts_nothing(post, desk: PaymentDesk, clock: Clock) -> None:
    body, headers = message(event())
    assert post(body, headers).json() == {"result": "taken", "state": "paid"}
    assert post(body, headers).json()["result"] == "already"
    clock.now_s += 301
    answer = post(body, headers)
    assert (answer.status_code, answer.json()["cause"]) == (401, "stale")
    assert balance(desk) == 500_00


@pytest.mark.parametrize(
    ("change", "status", "cause"),
    [
        (lambda body, headers: (body, {}), 401, "unsigned"),
        (lambda body, headers: (body, {HEADER: "t=1,v1="}), 401, "forged"),
        (lambda body, headers: (body.replace(b"50000", b"90000"), headers), 401, "forged"),
        (lambda body, headers: message(event(), b"somebody else's secret"), 401, "forged"),
        (lambda body, headers: message(event(), at_s=NOW + 301), 401, "stale"),
        (lambda body, headers: message(event(), amount_paise=0), 422, "malformed"),
        (lambda body, headers: message(event(), amount_paise=500.5), 422, "malformed"),
        *(
            (lambda body, headers, paise=paise: message(event(), amount_paise=paise), 422, "malformed")
            for paise in (-1, 10**10 + 1, 10**4000, float("nan"), float("inf"), 1e3, "50000", True, None, [1])
        ),
        (lambda body, headers: ((two := body[:-1] + b', "amount_paise": 1}'), {HEADER: sign(SECRET, two, NOW)}), 422, "malformed"),
        (lambda body, headers: message(event(), currency="USD"), 422, "malformed"),
        (lambda body, headers: message(event(), happened_s=NOW + 301), 422, "malformed"),
        (lambda body, headers: message(event(payment="p1:reversed")), 422, "malformed"),
        (lambda body, headers: message(event(), at_s=NOW - 301), 401, "stale"),
        (lambda body, headers: (body, {HEADER: f"{headers[HEADER]},t=1"}), 401, "unsigned"),
        (lambda body, headers: message(event(), kind="gift"), 422, "malformed"),
        (lambda body, headers: message(event(), event_id="x\n"), 422, "malformed"),
        (lambda body, headers: message(event(account="nobody")), 404, "account"),
        (lambda body, headers: (b"x" * (BODY_MAX + 1), headers), 413, "malformed"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_is_posted(post, desk: PaymentDesk, change, status: int, cause: str) -> None:
    answer = post(*change(*message(event())))
    assert (answer.status_code, answer.json()["cause"]) == (status, cause)
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.ledger.rows("A") == []


def test_a_gateway_that_is_not_ours_is_told_so(post) -> None:
    answer = post(*message(event()), path="/payments/other/events")
    assert (answer.status_code, answer.json()["cause"]) == (404, "gateway")


def test_a_database_that_is_away_asks_to_be_told_again(post, desk: PaymentDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(desk.database.engine.dialect, "do_execute", _away(desk))
        assert post(*message(event())).status_code == 503
    assert post(*message(event())).json()["result"] == "taken"


def _away(desk: PaymentDesk) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise desk.database.engine.dialect.loaded_dbapi.OperationalError("disk I/O error")

    return refuse


def test_a_bill_is_fetched_with_the_name_masked(post) -> None:
    body = json.dumps({"account": "P"}).encode()
    told = post(body, {HEADER: sign(SECRET, body, NOW)}, "/payments/upi/bill").json()
    assert told == {"account": "P", "name": "A*** D***", "mode": "postpaid", "amount_paise": 0, "bill_id": None, "due": None}
    body = json.dumps({"account": "Z"}).encode()
    assert post(body, {HEADER: sign(SECRET, body, NOW)}, "/payments/upi/bill").status_code == 404
    assert post(body, {}, "/payments/upi/bill").json()["cause"] == "unsigned"


# A gateway that misbehaves


MISBEHAVING = {
    "copies": Misbehaviour(copies=3),
    "out of order": Misbehaviour(copies=2, shuffled=True),
    "failed is told first": Misbehaviour(failed_first=True, shuffled=True),
    "webhooks lost": Misbehaviour(lost=0.6),
    "forged": Misbehaviour(forged=0.5),
    "old": Misbehaviour(stale=0.5),
    "wrong amounts": Misbehaviour(wrong_amount=0.5),
    "all of it": Misbehaviour(2, 0.0, True, 0.3, 0.2, 0.2, 0.2, True),
}


@pytest.mark.parametrize("how", MISBEHAVING.values(), ids=MISBEHAVING)
def test_whatever_the_gateway_does_the_poll_and_the_file_put_it_right(
    app: FastAPI, desk: PaymentDesk, clock: Clock, how: Misbehaviour, tmp_path: Path
) -> None:
    payments = {f"p{k}": 100 + k for k in range(12)}
    taken_back = ("p3", "p7")

    async def run() -> Simulator:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://us") as client:

            async def send(body: bytes, headers: dict[str, str]) -> int:
                return (await client.post("/payments/upi/events", content=body, headers=headers)).status_code

            simulator = Simulator(GATEWAY, send, now_s=clock)
            simulator.how = how
            for name, paise in payments.items():
                desk.start("upi", name, "A", paise)
                await simulator.collect(name, "A", paise)
            for name in taken_back:
                await simulator.reverse(name)
            await simulator.flush()
            return simulator

    simulator = asyncio.run(run())
    told = {r.transfer.amount_paise for r in desk.ledger.rows("A")}
    assert told <= set(payments.values())
    clock.now_s += 61

    def answer(request: httpx.Request) -> httpx.Response:
        assert doubt((SECRET,), request.headers.get(HEADER), request.content, clock()) == ""
        return httpx.Response(200, json=simulator.status(json.loads(request.content)["payment_id"]))

    client = GatewayClient(GATEWAY, desk, httpx.MockTransport(answer))
    client.poll()
    client.close()
    (tmp_path / "day.csv").write_text(simulator.daily_file())
    differences = reconcile(desk.database, "upi", desk.day(clock()), read_daily_file(tmp_path / "day.csv", "upi"))
    # A reversal that was told to nobody can only be seen in the gateway's file.
    unseen = {f"upi:{name}" for name in taken_back if desk.ledger.find(f"upi:{name}:reversed") is None}
    assert {(d.payment_id, d.cause) for d in differences} == {(name, Cause.NOT_AT_GATEWAY) for name in unseen}
    assert balance(desk) == sum(paise for name, paise in payments.items() if name not in taken_back or f"upi:{name}" in unseen)
    assert list(desk.ledger.broken()) == []
    assert sum(desk.ledger.trial_balance().values()) == 0


# The file


def test_every_difference_is_listed_with_its_cause(desk: PaymentDesk, tmp_path: Path) -> None:
    for k, name in enumerate(("same", "amount", "account", "gone", "back")):
        desk.take(event(k, name))
    desk.take(event(9, "back", Kind.REVERSED))
    rows = ["same,A,50000", "amount,A,1", "account,B,50000", "back,A,50000", "never,A,7", "never,A,7"]
    (tmp_path / "f.csv").write_text("payment_id,account,amount_paise\n" + "\n".join(rows) + "\n")
    found = reconcile(desk.database, "upi", desk.day(NOW), read_daily_file(tmp_path / "f.csv", "upi"))
    assert [(d.payment_id, str(d.cause), d.theirs_paise, d.ours_paise) for d in found] == [
        ("upi:account", "account", 50000, 50000),
        ("upi:amount", "amount", 1, 50000),
        ("upi:back", "reversed_here", 50000, 50000),
        ("upi:gone", "not_at_gateway", None, 50000),
        ("upi:never", "not_posted", 7, None),
        ("upi:never", "twice_in_file", 7, None),
    ]


def test_the_file_of_another_day_is_refused_by_name(desk: PaymentDesk, clock: Clock, tmp_path: Path) -> None:
    desk.take(event(1, "first"))
    first = desk.day(clock.now_s)
    clock.now_s += 86_400
    desk.take(event(2, "second"))
    file = tmp_path / "f.csv"
    file.write_text("payment_id,account,amount_paise\nfirst,A,50000\n")
    rows = read_daily_file(file, "upi")
    assert reconcile(desk.database, "upi", first, rows) == []
    with pytest.raises(InputError, match=f"but some of {first}"):
        reconcile(desk.database, "upi", desk.day(clock.now_s), rows)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("payment_id,account\n1,A\n", "no column amount_paise"),
        ("payment_id,account,amount_paise\n1,A,5\n2,A,5.0\n", "line 3"),
        ("payment_id,account,amount_paise\n,A,5\n", "line 2"),
        ("payment_id,account,amount_paise\n1,A,5\n2,A", "line 3"),
        ("payment_id,account,amount_paise,currency\n1,A,5,INR\n2,A,5,USD\n", "line 3: its currency"),
        ("", "no column"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_line(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(InputError, match=why):
        read_daily_file(tmp_path / "f.csv", "upi")


# Messages and settings


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_sentence(body: bytes) -> None:
    with pytest.raises(InputError, match=r"^the message"):
        read_event("upi", b"\x00" + body, NOW)


@given(st.binary(max_size=60), st.text(max_size=40))
def test_nobody_signs_by_chance(body: bytes, header: str) -> None:
    assert doubt((SECRET,), header, body, NOW) in ("unsigned", "forged")


def test_either_of_two_secrets_is_believed_while_one_is_changed() -> None:
    assert doubt((b"new", b"old"), sign(b"old", b"x", NOW), b"x", NOW) == ""
    assert doubt((b"new",), sign(b"old", b"x", NOW), b"x", NOW) == "forged"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[upi]\nsecrets = ["hush, this is a secret"]', "stands in the file itself"),
        ('[upi]\nsecrets = ["env:NOT_THERE"]', "NOT_THERE"),
        ('[upi]\nsecrets = ["env:SHORT"]', "16 or more"),
        ('[upi]\naddress = "ftp://x"\nsecrets = ["env:GOOD"]', "http"),
        ("[upi]", "references"),
        ('[UPI]\nsecrets = ["env:GOOD"]', "small letters"),
        ("[upi", "cannot be read"),
    ],
)
def test_settings_of_gateways_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    monkeypatch.setenv("SHORT", "abc")
    monkeypatch.setenv("GOOD", "x" * 32)
    (tmp_path / "payments.toml").write_text(text)
    with pytest.raises(InputError, match=why) as error:
        load_gateways(tmp_path)
    assert "hush" not in str(error.value)


def test_a_gateway_shows_its_secret_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_gateways(tmp_path) == {}
    monkeypatch.setenv("GOOD", "x" * 32)
    (tmp_path / "payments.toml").write_text('[upi]\naddress = "http://localhost:1/"\nsecrets = ["env:GOOD"]')
    gateway = load_gateways(tmp_path)["upi"]
    assert (gateway.address, gateway.secrets) == ("http://localhost:1", (b"x" * 32,))
    assert "xxx" not in repr(gateway)
