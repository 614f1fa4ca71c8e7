"""The desk over HTTP, for gateways: `payments_router(desk, gateways)` is mounted by the web server.

    POST /payments/{gateway}/bill      BBPS-like bill fetch: {"account"} -> what there is to pay
    POST /payments/{gateway}/events    BBPS-like notification and UPI-like webhook: an event of `event.py`

Both are signed (`signing.py`). An answer of 200 says that the event is committed (`taken`, or `already` before). What is refused is refused as
problem+json with its cause: 401 unsigned, forged, stale; 404 gateway, account; 409 conflict; 422 malformed, amount; 503 when we cannot store:
then the gateway should tell us again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ..errors import InputError, OpenAMIError, RequestError
from .batch import Batcher
from .desk import REFUSALS, PaymentDesk
from .event import Event, read_event
from .gateways import Gateway
from .signing import HEADER, doubt
from .taking import Outcome

BODY_MAX = 16_384
STATUS = {"account": 404, "conflict": 409, "amount": 422}
DOUBTS = {
    "unsigned": f"the message has no signature; send {HEADER}: t=<UTC seconds>,v1=<HMAC-SHA256>",
    "forged": "the signature is not that of this gateway's secret",
    "stale": "the message was signed too long ago, or ahead of time; sign it anew",
}


def payments_router(desk: PaymentDesk, gateways: Mapping[str, Gateway]) -> APIRouter:
    """The routes for these gateways. Events that come at the same time share a commit."""
    router = APIRouter(prefix="/payments", tags=["payments"])
    batcher: Batcher[Event, Outcome] = Batcher(desk.take_all)

    async def open_message(gateway: str, request: Request) -> bytes | JSONResponse:
        """The body, if the gateway is known and its signature true; else the refusal."""
        if (known := gateways.get(gateway)) is None:
            return problem(404, "gateway", f"there is no gateway {gateway[:32]!r}")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_MAX:
                return problem(413, "malformed", f"the message is longer than {BODY_MAX} bytes")
        cause = doubt(known.secrets, request.headers.get(HEADER), body, desk.now_s())
        return problem(401, cause, DOUBTS[cause]) if cause else body

    @router.post("/{gateway}/events")
    async def events(gateway: str, request: Request) -> JSONResponse:
        """An event of a payment, signed: committed when answered."""
        body = await open_message(gateway, request)
        if isinstance(body, JSONResponse):
            return body
        try:
            event = read_event(gateway, body, desk.now_s())
        except InputError as error:
            return problem(422, "malformed", str(error))
        try:
            outcome = await asyncio.wrap_future(batcher.hand_in(event))
        except OpenAMIError as error:
            return problem(503, "storage", f"the event could not be stored, send it again: {type(error).__name__}")
        if outcome.cause:
            return problem(STATUS[outcome.cause], outcome.cause, REFUSALS[outcome.cause])
        return JSONResponse({"result": outcome.result, "state": outcome.state.value if outcome.state else None})

    @router.post("/{gateway}/bill")
    async def bill(gateway: str, request: Request) -> JSONResponse:
        """What an account may pay, signed: its bill's number, amount and due date, and the payer's name masked."""
        body = await open_message(gateway, request)
        if isinstance(body, JSONResponse):
            return body
        try:
            account = _account(body)
            found = await asyncio.to_thread(desk.payable, account)
        except InputError as error:
            return problem(422, "malformed", str(error))
        except RequestError as error:
            return problem(404, "account", str(error))
        except OpenAMIError as error:
            return problem(503, "storage", f"the bill cannot be told now, ask again: {type(error).__name__}")
        told = {"account": found.account, "name": found.name, "mode": found.mode.value, "amount_paise": found.amount_paise}
        return JSONResponse(told | {"bill_id": found.bill_id or None, "due": found.due.isoformat() if found.due else None})

    return router


def _account(body: bytes) -> str:
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    account = told.get("account") if isinstance(told, dict) else None
    if not isinstance(account, str) or not 0 < len(account) <= 64 or not account.isprintable():
        raise InputError('the message names no account; send {"account": "..."}')
    return account


def problem(status: int, cause: str, detail: str) -> JSONResponse:
    """RFC 9457, with the cause as a word of ours."""
    told = {"type": f"urn:openami:problem:{cause}", "title": cause, "status": status, "detail": detail, "cause": cause}
    return JSONResponse(told, status, media_type="application/problem+json")
