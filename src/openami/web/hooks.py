"""What happens, as events: told to programs as it happens (server-sent events), and sent to webhooks, signed.

What always holds: every event has an id that does not change, so that whoever gets it twice can tell; a delivery that failed is tried again with
growing distance for more than a day; the signature is that of Standard Webhooks (HMAC-SHA-256 over id, time and body).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from .. import __version__
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
SWEEP_EVERY_S = 3600
LEADS_S = 60
"""How long another console waits for one that tells and was killed; several times what one delivery may take."""


def signature(secrets: tuple[bytes, ...], number: str, at_s: int, body: str) -> str:
    """Of `{id}.{time}.{body}`, as `webhook-signature` carries it: one for each secret that holds."""
    signed = f"{number}.{at_s}.{body}".encode()
    return " ".join("v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets)


@dataclass
class Hooks(Beside):
    """Reads what has happened since it looked last, writes down what is to be told, and tells it. Every console of a deployment has one, and one of
    them does so at a time. name: of this one among them."""

    gate: Gate
    site: Any
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    patience_s: float = PATIENCE_S
    _swept_s: int = 0

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.look()
                self.deliver()
                self._sweep()
            except Exception:
                log.exception("webhooks could not be told; trying again")
        try:
            self.gate.webhooks.leave(self.name)
        except OpenAMIError as error:
            log.warning("another console tells webhooks only in %.0f s: %s", LEADS_S, error)

    def look(self) -> int:
        """What has happened since the last look, handed over; how many deliveries came of it. Before the first subscription nothing is kept."""
        subscribed = self.gate.webhooks.all()
        if not subscribed or not self._leads():
            return 0
        position, made = self.gate.webhooks.position("orders"), 0
        at_s, order_id, number = json.loads(position) if position else (min(one.made_s for one in subscribed), "", 0)
        rows = self.gate.lookup.steps_after(at_s, order_id, number, self.gate.now_s - SETTLED_S, STEPS_AT_ONCE)
        if rows or position is None:
            last = [rows[-1][name] for name in ("at_s", "order_id", "number")] if rows else [at_s, order_id, number]
            made = self.gate.webhooks.hand_over("orders", json.dumps(last), [step_event(row) for row in rows], self.gate.now_s)
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
        """Tell what is due, to all addresses at once and to each in order; how many were taken."""
        due = self.gate.webhooks.due(self.gate.now_s)
        by_address: dict[str, list[Delivery]] = {}
        for one in due:
            by_address.setdefault(one.webhook, []).append(one)
        return asyncio.run(self._tell_all([*by_address.values()])) if due and self._leads() else 0

    async def _tell_all(self, waiting: list[list[Delivery]]) -> int:
        async with direct_client(self.patience_s) as client:
            return sum(await asyncio.gather(*(self._tell_in_order(client, own) for own in waiting)))

    async def _tell_in_order(self, client: httpx.AsyncClient, own: list[Delivery]) -> int:
        """To one address, until it fails once or a round's time is up; how many were taken."""
        ends = time.monotonic() + 2 * self.patience_s
        for taken, one in enumerate(own):
            if time.monotonic() > ends:
                return taken
            if not await self._tell(client, one):
                self.gate.webhooks.postpone(one.webhook, self.gate.now_s)
                return taken
        return len(own)

    def _sweep(self) -> None:
        """Once an hour, what need not be looked at any more."""
        if self.gate.now_s - self._swept_s >= SWEEP_EVERY_S:
            self._swept_s = self.gate.now_s
            self.gate.webhooks.forget(self.gate.now_s)

    def _leads(self) -> bool:
        return self.gate.webhooks.leads(self.name, self.gate.now_s, LEADS_S)

    async def _tell(self, client: httpx.AsyncClient, delivery: Delivery) -> bool:
        """Whether it was taken. Its answer is looked at no further than its status, and the whole of it may take `patience_s`, however it comes."""
        now_s = self.gate.now_s
        try:
            target = await asyncio.to_thread(target_of, delivery.url, self.gate.webhook_hosts)
        except Forbidden as forbidden:
            self.gate.webhooks.failed(delivery, str(forbidden), now_s)
            return False
        headers = {
            "host": target.host,
            "user-agent": f"OpenAMI/{__version__}",
            "content-type": "application/json",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature(delivery.secrets, delivery.event_id, now_s, delivery.body),
        }
        try:
            async with asyncio.timeout(self.patience_s):
                sent = client.build_request("POST", target.url, content=delivery.body, headers=headers)
                sent.extensions["sni_hostname"] = target.tls_name
                answer = await client.send(sent, stream=True)
                problem = "" if answer.is_success else f"answered {answer.status_code}"
                await answer.aclose()
        except TimeoutError:
            problem = f"no answer within {self.patience_s:.0f} s"
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
