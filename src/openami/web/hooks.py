"""What happens, as events: told to programs as it happens (server-sent events), and sent to webhooks, signed.

What always holds: every event has an id that does not change, so that whoever gets it twice can tell; a delivery that failed is tried again with
growing distance for more than a day; the signature is that of Standard Webhooks (HMAC-SHA-256 over id, time and body).
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx

from ..day import Site
from ..errors import OpenAMIError
from ..store.journal_at import open_journal
from ..store.webhooks import Delivery
from .beside import Beside
from .gate import Gate
from .outward import Forbidden, direct_client, target_of

log = logging.getLogger(__name__)
EVENTS = ("order.step", "day.closed")
STEPS_AT_ONCE = 500
SETTLED_S = 3
"""A step is told when it is this old: one that another process writes into the same second would else stand behind us, and never be told."""
EVERY_S = 2.0
PATIENCE_S = 10.0
LEADS_S = 60
"""How long another console waits for one that tells and was killed; several times what one delivery may take."""


def signature(secret: bytes, number: str, at_s: int, body: str) -> str:
    """Of `{id}.{time}.{body}`, as `webhook-signature` carries it."""
    return "v1," + base64.b64encode(hmac.digest(secret, f"{number}.{at_s}.{body}".encode(), "sha256")).decode()


@dataclass
class Hooks(Beside):
    """Reads what has happened since it looked last, writes down what is to be told, and tells it. Every console of a deployment has one, and one of
    them does so at a time. name: of this one among them."""

    gate: Gate
    site: Any
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    client: httpx.Client = field(default_factory=lambda: direct_client(PATIENCE_S))

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.look()
                self.deliver()
            except Exception:
                log.exception("webhooks could not be told; trying again")
        try:
            self.gate.webhooks.leave(self.name)
        except OpenAMIError as error:
            log.warning("another console tells webhooks only in %.0f s: %s", LEADS_S, error)

    def look(self) -> int:
        """What has happened since the last look, handed over; how many deliveries came of it. Before the first subscription nothing is kept."""
        if not self.gate.webhooks.all() or not self._leads():
            return 0
        made = 0
        position = self.gate.webhooks.position("orders")
        if position is None:
            self.gate.webhooks.hand_over("orders", json.dumps([self.gate.now_s, "", 0]), [], self.gate.now_s)
        else:
            at_s, order_id, number = json.loads(position)
            rows = self.gate.lookup.steps_after(at_s, order_id, number, self.gate.now_s - SETTLED_S, STEPS_AT_ONCE)
            if rows:
                last = [rows[-1][name] for name in ("at_s", "order_id", "number")]
                made += self.gate.webhooks.hand_over("orders", json.dumps(last), [step_event(row) for row in rows], self.gate.now_s)
        return made + self._look_at_days()

    def _look_at_days(self) -> int:
        site: Site = self.site()
        version = site.lake.version("balance")
        position = self.gate.webhooks.position("days")
        if position == str(version):
            return 0
        days = [day.isoformat() for day in site.lake.days("balance")]
        told = [] if position is None or not days else [("day.closed", f"day-{days[-1]}-{version}", {"day": days[-1], "version": version})]
        return self.gate.webhooks.hand_over("days", str(version), told, self.gate.now_s)

    def deliver(self) -> int:
        """Tell what is due; how many were taken."""
        return sum(self._tell(one) for one in self.gate.webhooks.due(self.gate.now_s) if self._leads())

    def _leads(self) -> bool:
        return self.gate.webhooks.leads(self.name, self.gate.now_s, LEADS_S)

    def _tell(self, delivery: Delivery) -> bool:
        now_s = self.gate.now_s
        try:
            target = target_of(delivery.url, self.gate.webhook_hosts)
        except Forbidden as forbidden:
            self.gate.webhooks.failed(delivery, str(forbidden), now_s)
            return False
        headers = {
            "host": target.host,
            "content-type": "application/json",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature(delivery.secret, delivery.event_id, now_s, delivery.body),
        }
        try:
            answer = self.client.post(target.url, content=delivery.body, headers=headers, extensions={"sni_hostname": target.tls_name})
            problem = "" if answer.is_success else f"answered {answer.status_code}"
        except httpx.HTTPError as error:
            problem = type(error).__name__
        if problem:
            self.gate.webhooks.failed(delivery, problem, now_s)
        else:
            self.gate.webhooks.taken(delivery)
        return not problem


def step_event(row: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """(kind, id, data) of one step of an order."""
    data = {name: row[name] for name in ("order_id", "what", "meter", "event", "state", "at_s", "note")}
    return "order.step", f"{row['order_id']}-{row['number']}", data


class Figures:
    """The house in numbers, counted at most once in a while however many listen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, dict[str, Any]] | None = None

    def now(self, gate: Gate, site: Site) -> dict[str, Any]:
        with self._lock:
            if self._kept is None or not 0 <= gate.clock() - self._kept[0] < EVERY_S / 2:
                self._kept = (gate.clock(), _figures(gate, site))
            return self._kept[1]


def _figures(gate: Gate, site: Site) -> dict[str, Any]:
    """The house in numbers, as they are now: frames, quarantine, orders by state, the latest closed day."""
    journal = open_journal(site.folder, site.deployment)
    try:
        frames, causes = journal.frames(), journal.causes()
    finally:
        journal.close()
    days = site.lake.days("balance")
    return {
        "at_s": gate.now_s,
        "frames": frames,
        "quarantine": causes,
        "orders": gate.lookup.in_flight(),
        "last_closed_day": days[-1].isoformat() if days else None,
    }
