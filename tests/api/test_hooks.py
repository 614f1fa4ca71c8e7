"""Webhooks: told what happened, signed, again until it is taken, and never to an address inside."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from openami.control.order import Order, What
from openami.store.order_book import OrderBook
from openami.store.webhooks import KEPT_S, OLD_SECRET_HOLDS_S
from openami.web import outward
from openami.web.hooks import SETTLED_S, Hooks
from openami.web.outward import Forbidden, Target, direct_client, target_of

from .houses import House


class Listener(HTTPServer):
    """Takes what it is told, after refusing it once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.refuse = 1


class Taker(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        refused = self.server.refuse > 0
        self.server.refuse -= 1
        if not refused:
            self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(500 if refused else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def listener():
    server = Listener()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_step_of_an_order_is_told_signed_and_again_until_it_is_taken(house: House, listener: Listener) -> None:
    gate, now = house.unlimited().gate, [house.gate.now_s + 5]
    before, gate.clock = gate.clock, lambda: now[0]
    url = f"http://127.0.0.1:{listener.server_port}/told"
    made = house.client("admin").post(
        "/api/v1/webhooks", json={"url": url, "events": ["order.step"]}, headers={"idempotency-key": os.urandom(8).hex()}
    )
    secret = base64.b64decode(made.json()["secret"].removeprefix("whsec_"))
    hooks = Hooks(gate, lambda: house.site)
    hooks.look()
    number = f"H-{os.urandom(4).hex()}"
    OrderBook(house.site.rows).ask(
        Order(number, What.CLOCK, house.own["account"], house.own["meter"], now[0] + 5, who="test", why="to be told")
    )
    now[0] += 10
    body = {"why": "withdrawn by the test"}
    assert house.client("operator").post(f"/api/v1/orders/{number}/withdraw", json=body).status_code == 200
    assert hooks.look() == 0  # another process may yet write into this second
    now[0] += SETTLED_S
    assert hooks.look() == 1
    assert hooks.look() == 0
    assert hooks.deliver() == 0
    assert hooks.deliver() == 0
    now[0] += 6
    assert hooks.deliver() == 1
    ((headers, told),) = listener.taken
    assert json.loads(told)["data"]["order_id"] == number
    assert json.loads(told)["data"]["state"] == "cancelled"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + told
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    assert house.client("admin").delete(f"/api/v1/webhooks/{made.json()['id']}").status_code == 204
    gate.webhooks.leave(hooks.name)
    gate.clock = before


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://localhost/",
        "https://user:secret@example.org/",
        "https://example.org:22/",
        "https://[::ffff:127.0.0.1]/",
        "https://",
        "https://[",
    ],
)
def test_nothing_is_told_to_an_address_inside(url: str) -> None:
    with pytest.raises(Forbidden):
        target_of(url, ())


def test_an_address_inside_may_be_allowed_by_name() -> None:
    assert target_of("http://10.0.0.1:9000/told?a=1", ("10.0.0.1",)) == Target("http://10.0.0.1:9000/told?a=1", "10.0.0.1:9000", "10.0.0.1")


class Names:
    """Stands for the DNS of somebody who answers otherwise each time: first an address of the open Internet, then one inside."""

    SOCK_STREAM = socket.SOCK_STREAM

    def __init__(self, *answers: str) -> None:
        self.answers = [*answers]

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.answers.pop(0), port))]


def test_what_was_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outward, "socket", Names("93.184.215.14", "127.0.0.1"))
    found = target_of("https://hooks.example:8443/told", ())
    assert found == Target("https://93.184.215.14:8443/told", "hooks.example:8443", "hooks.example")
    with pytest.raises(Forbidden, match="private network"):
        target_of("https://hooks.example:8443/told", ())


def test_an_address_is_asked_for_the_certificate_of_its_name(listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, trusted = _certificate("hooks.example", tmp_path)
    listener.socket, listener.refuse = own.wrap_socket(listener.socket, server_side=True), 0
    for name in ("hooks.example", "another.example"):
        monkeypatch.setattr(outward, "socket", Names("127.0.0.1"))
        target = target_of(f"https://{name}:{listener.server_port}/told", (name,))
        if name == "hooks.example":
            assert asyncio.run(_post(target, trusted)) == 204
        else:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                asyncio.run(_post(target, trusted))
    assert [headers["host"] for headers, _ in listener.taken] == [f"hooks.example:{listener.server_port}"]


async def _post(target: Target, trusted: ssl.SSLContext) -> int:
    async with direct_client(60, trusted) as client:
        extensions = {"sni_hostname": target.tls_name}
        return (await client.post(target.url, content=b"{}", headers={"host": target.host}, extensions=extensions)).status_code


@pytest.fixture
def told(house: House, listener: Listener):
    """(a subscription of its own, its teller, its clock) with one thing to tell."""
    gate, now = house.unlimited().gate, [house.gate.now_s + 100_000]
    before, gate.clock = gate.clock, lambda: now[0]
    body = {"url": f"http://127.0.0.1:{listener.server_port}/told", "events": ["day.closed"]}
    made = house.client("admin").post("/api/v1/webhooks", json=body, headers={"idempotency-key": os.urandom(8).hex()}).json()
    gate.webhooks.hand_over("days", "1", [("day.closed", f"day-{made['id']}", {"day": "2025-12-02"})], now[0])
    hooks = Hooks(gate, lambda: house.site)
    yield made, hooks, now
    gate.webhooks.leave(hooks.name)
    house.client("admin").delete(f"/api/v1/webhooks/{made['id']}")
    gate.clock = before


def _rows(house: House, made: dict[str, str]) -> list[dict[str, object]]:
    return house.client("admin").get(f"/api/v1/webhooks/{made['id']}/deliveries").json()["items"]


def test_what_happens_right_after_the_first_subscription_is_told(house: House, listener: Listener) -> None:
    """Before anybody has looked for the first time; and nothing of before it."""
    gate, now = house.unlimited().gate, [house.gate.now_s + 600]  # by then nobody else leads
    before, gate.clock = gate.clock, lambda: now[0]
    hooks = Hooks(gate, lambda: house.site)
    try:
        for one in gate.webhooks.all():
            gate.webhooks.end(one.id, now[0])
        steps = [f"F-{os.urandom(4).hex()}" for _ in range(2)]
        for number in steps:
            OrderBook(house.site.rows).ask(
                Order(number, What.CLOCK, house.own["account"], house.own["meter"], now[0], who="test", why="to be told")
            )
            now[0] += 10
            asked = house.client("operator").post(f"/api/v1/orders/{number}/withdraw", json={"why": "withdrawn by the test"})
            assert asked.status_code == 200
            if number == steps[0]:
                now[0] += 10
                made = gate.webhooks.add(f"http://127.0.0.1:{listener.server_port}/told", ("order.step",), "test", now[0])[0]
        now[0] += SETTLED_S
        hooks.look()
        assert [one.event_id.rpartition("-")[0] for one in gate.webhooks.told(made.id, None, 10)] == steps[1:]
        gate.webhooks.end(made.id, now[0])
    finally:
        gate.webhooks.leave(hooks.name)
        gate.clock = before


def test_what_became_of_each_can_be_seen_and_told_once_more(house: House, listener: Listener, told) -> None:
    made, hooks, now = told
    (row,) = _rows(house, made)
    assert (row["state"], row["tries"], row["problem"]) == ("waiting", 0, None)
    assert hooks.deliver() == 0
    (row,) = _rows(house, made)
    assert (row["state"], row["tries"], row["problem"]) == ("waiting", 1, "answered 500")
    now[0] += 6
    assert hooks.deliver() == 1
    (row,) = _rows(house, made)
    assert (row["event"], row["type"], row["state"], row["problem"]) == (f"day-{made['id']}", "day.closed", "taken", None)
    again = f"/api/v1/webhooks/{made['id']}/deliveries/{row['event']}/again"
    assert house.client("admin").post(again).status_code == 202
    assert hooks.deliver() == 1
    assert [headers["webhook-id"] for headers, _ in listener.taken] == [row["event"]] * 2
    assert house.client("admin").post(again.replace("/day-", "/none-")).status_code == 404
    assert hooks.gate.webhooks.forget(now[0] + KEPT_S + 1) > 0
    assert _rows(house, made) == []


def test_for_a_day_both_secrets_sign(house: House, listener: Listener, told) -> None:
    made, hooks, now = told
    listener.refuse = 0
    key = {"idempotency-key": os.urandom(8).hex()}
    new, again = (house.client("admin").post(f"/api/v1/webhooks/{made['id']}/secret", headers=key).json() for _ in range(2))
    assert new["secret"] == again["secret"] != made["secret"]
    for later_s, secrets in ((0, [new["secret"], made["secret"]]), (OLD_SECRET_HOLDS_S, [new["secret"]])):
        now[0] += later_s
        hooks.gate.webhooks.again(made["id"], f"day-{made['id']}", now[0])
        assert hooks.deliver() == 1
        headers, body = listener.taken[-1]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        octets = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
        wanted = " ".join("v1," + base64.b64encode(hmac.digest(one, signed, "sha256")).decode() for one in octets)
        assert headers["webhook-signature"] == wanted


def test_one_who_never_ends_the_answer_holds_up_nobody(house: House, listener: Listener, told) -> None:
    made, hooks, now = told
    listener.refuse = 0
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, says nothing
        body = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/", "events": ["day.closed"]}
        other = house.client("admin").post("/api/v1/webhooks", json=body, headers={"idempotency-key": os.urandom(8).hex()}).json()
        many = [("day.closed", f"day-{k}-{made['id']}", {}) for k in range(60)]
        hooks.gate.webhooks.hand_over("days", "2", many, now[0])
        hooks.patience_s = 3
        for _ in range(60):
            hooks.deliver()
            now[0] += 1
            if len(listener.taken) > len(many):
                break
        rows = _rows(house, other)
        assert house.client("admin").delete(f"/api/v1/webhooks/{other['id']}").status_code == 204
    assert {row["state"] for row in _rows(house, made)} == {"taken"}
    assert {row["state"] for row in rows} == {"waiting"}
    assert "no answer within 3 s" in {row["problem"] for row in rows}


def _certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(of a server that has it, of a client that trusts it)."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = (
        made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    kind = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(secret + signed)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=signed.decode())
