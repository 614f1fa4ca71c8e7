"""Asking a gateway: to collect a payment, how one stands, to send money back; and the poll of what is still open.

What always holds: we ask under our own ids, so asking again asks for nothing new; what a gateway answers is posted as an event like any other,
under an id that tells it was asked for, so that its webhook, coming later, changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from ..errors import MeterError
from .desk import PaymentDesk
from .event import Event, Kind
from .gateways import Gateway
from .signing import HEADER, sign
from .taking import Outcome

TIMEOUT_S = 10.0


class GatewayClient:
    """Of one gateway that can be asked."""

    def __init__(self, gateway: Gateway, desk: PaymentDesk, transport: httpx.BaseTransport | None = None) -> None:
        self._gateway, self._desk = gateway, desk
        self._http = httpx.Client(base_url=gateway.address, timeout=TIMEOUT_S, transport=transport)

    def close(self) -> None:
        self._http.close()

    def collect(self, payment_id: str, account: str, amount_paise: int) -> None:
        """Ask the gateway to collect a payment that the desk has written down (`start`)."""
        self._ask("/collect", {"payment_id": payment_id, "account": account, "amount_paise": amount_paise})

    def refund(self, payment_id: str, refund_id: str, amount_paise: int) -> None:
        """Ask the gateway to send money back that the ledger has given back (`PaymentDesk.refund`)."""
        self._ask("/refund", {"payment_id": payment_id, "refund_id": refund_id, "amount_paise": amount_paise})

    def poll(self, older_than_s: int = 60) -> list[Outcome]:
        """Ask how every payment stands that has been open for so long, and take what is answered; the open ones stay open. A gateway that
        does not answer is asked again at the next poll."""
        now = self._desk.now_s()
        events: list[Event] = []
        for payment_id, account, _ in self._desk.open_payments(self._gateway.name, now - older_than_s):
            events += _told(self._gateway.name, payment_id, account, self._ask("/status", {"payment_id": payment_id}), now)
        return self._desk.take_all(events) if events else []

    def _ask(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(message).encode()
        try:
            answer = self._http.post(path, content=body, headers={HEADER: sign(self._gateway.secrets[0], body, self._desk.now_s())})
            told = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise MeterError(
                f"gateway {self._gateway.name} does not answer {path} ({type(error).__name__}); ask again", "gateway"
            ) from None
        return told if isinstance(told, dict) else {}


def _told(gateway: str, payment_id: str, account: str, status: dict[str, Any], now: int) -> list[Event]:
    """The events that a status stands for; a payment that was taken back was paid before. None where it says nothing that we know."""
    kind, amount, happened = status.get("kind"), status.get("amount_paise"), status.get("happened_s", now)
    if kind not in list(Kind) or type(amount) is not int or type(happened) is not int:
        return []
    kinds = [Kind.PAID, Kind.REVERSED] if kind == Kind.REVERSED else [Kind(kind)]
    return [Event(gateway, f"poll:{payment_id}:{each}", payment_id, each, account, amount, happened) for each in kinds]
