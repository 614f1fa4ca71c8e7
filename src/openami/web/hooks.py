"""What happens, as events: told to programs as it happens (server-sent events), and sent to webhooks, signed.

What always holds: every event has an id that does not change, so that whoever gets it twice can tell; a delivery that failed is tried again with
growing distance for more than a day; the signature is that of Standard Webhooks (HMAC-SHA-256 over id, time and body).
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import httpx

from ..day import Site
from ..store.journal_at import open_journal
from ..store.webhooks import Delivery
from .beside import Beside
from .gate import Gate
from .outward import Forbidden, direct_client, target_of

log = logging.getLogger(__name__)
EVENTS = ("order.step", "day.closed")
STEPS_AT_ONCE = 500
EVERY_S = 2.0
PATIENCE_S = 10.0


def signature(secret: bytes, number: str, at_s: int, body: str) -> str:
    """Of `{id}.{time}.{body}`, as `webhook-signature` carries it."""
    return "v1," + base64.b64encode(hmac.digest(secret, f"{number}.{at_s}.{body}".encode(), "sha256")).decode()


@dataclass
class Hooks(Beside):
    """Reads what has happened since it looked last, writes down what is to be told, and tells it. One per deployment."""

    gate: Gate
    site: Any
    client: httpx.Client = field(default_factory=lambda: direct_client(PATIENCE_S))

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.look()
                self.deliver()
            except Exception:
                log.exception("webhooks could not be told; trying again")

    def look(self) -> int:
        """What has happened since the last look, handed over; how many deliveries came of it. Before the first subscription nothing is kept."""
        if not self.gate.webhooks.all():
            return 0
        made = 0
        position = self.gate.webhooks.position("orders")
        if position is None:
            self.gate.webhooks.hand_over("orders", json.dumps([self.gate.now_s, "", 0]), [], self.gate.now_s)
        else:
            at_s, order_id, number = json.loads(position)
            rows = self.gate.lookup.steps_after(at_s, order_id, number, STEPS_AT_ONCE)
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
        return sum(self._tell(one) for one in self.gate.webhooks.due(self.gate.now_s))

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


def figures(gate: Gate, site: Site) -> dict[str, Any]:
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
