"""Do the payment channels work? Each is asked now and then; what it answers is written down, and the guard reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import httpx

from ..payments.gateways import Gateway
from ..payments.signing import HEADER, sign
from ..store.supply_rows import SupplyRows

TIMEOUT_S = 5.0
ASKED = "openami-pulse"
"""A payment's id that is nobody's: a gateway that works says that it knows none."""
Works = Callable[[Gateway, int], bool]


def works(gateway: Gateway, now_s: int, transport: httpx.BaseTransport | None = None) -> bool:
    """Whether a gateway answers a signed question at all; what it answers to a payment that is not there is its own affair."""
    body = json.dumps({"payment_id": ASKED}).encode()
    try:
        with httpx.Client(timeout=TIMEOUT_S, transport=transport) as client:
            headers = {HEADER: sign(gateway.secrets[0], body, now_s)}
            return client.post(f"{gateway.address}/status", content=body, headers=headers).status_code < 500
    except httpx.HTTPError:
        return False


def take_pulse(rows: SupplyRows, gateways: Mapping[str, Gateway], now_s: int, asked: Works = works) -> dict[str, bool]:
    """Look at every gateway that can be asked, and write down what was seen."""
    seen = {name: asked(gateway, now_s) for name, gateway in gateways.items() if gateway.address}
    for name, up in seen.items():
        rows.pulse(name, up, now_s)
    return seen
