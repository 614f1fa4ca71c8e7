"""Webhooks: told what happened, signed, again until it is taken, and never to an address inside."""

from __future__ import annotations

import base64
import hmac
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from openami.control.order import Order, What
from openami.store.order_book import OrderBook
from openami.web.api.sharing import forbidden_address
from openami.web.hooks import Hooks

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
    assert forbidden_address(url, ()) is not None


def test_an_address_inside_may_be_allowed_by_name() -> None:
    assert forbidden_address("http://10.0.0.1:9000/told", ("10.0.0.1",)) is None
