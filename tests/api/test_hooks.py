"""Webhooks: told what happened, signed, again until it is taken, and never to an address inside."""

from __future__ import annotations

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
        with direct_client(60, trusted) as client:
            headers, extensions = {"host": target.host}, {"sni_hostname": target.tls_name}
            if name == "hooks.example":
                assert client.post(target.url, content=b"{}", headers=headers, extensions=extensions).status_code == 204
            else:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    client.post(target.url, content=b"{}", headers=headers, extensions=extensions)
    assert [headers["host"] for headers, _ in listener.taken] == [f"hooks.example:{listener.server_port}"]


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
