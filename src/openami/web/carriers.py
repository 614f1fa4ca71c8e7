"""Carriers report what became of messages: the guard believes no delivery that nobody reported.

    POST /notices/{carrier}/reports     one report of `notices.delivery.read_report`

Signed as gateways sign (`payments/signing.py`), with a secret of the carrier in `notices.toml`. 200: kept, once however often it is told. Refused
with its cause, and nothing changed: 401 unsigned, forged, stale; 404 carrier, message; 413, 422 malformed; 503 storage (tell us again).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ..errors import InputError, OpenAMIError, RequestError
from ..notices.delivery import read_report
from ..notices.senders import AppriseSender
from ..payments.http import BODY_MAX, DOUBTS, problem
from ..payments.signing import HEADER, doubt
from ..store.outbox import Outbox


def signing(senders: Sequence[AppriseSender]) -> dict[str, tuple[bytes, ...]]:
    """The carriers that report here, with their secrets."""
    return {one.name: one.secrets for one in senders if one.secrets}


def carriers_router(outbox: Callable[[], Outbox], secrets: Mapping[str, tuple[bytes, ...]], now_s: Callable[[], int]) -> APIRouter:
    """The route for these carriers."""
    router = APIRouter(prefix="/notices", tags=["notices"])

    @router.post("/{carrier}/reports")
    async def reports(carrier: str, request: Request) -> JSONResponse:
        """A report on one message, signed."""
        if carrier not in secrets:
            return problem(404, "carrier", f"there is no carrier {carrier[:32]!r} that reports here")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_MAX:
                return problem(413, "malformed", f"the report is longer than {BODY_MAX} bytes")
        if cause := doubt(secrets[carrier], request.headers.get(HEADER), body, now_s()):
            return problem(401, cause, DOUBTS[cause].replace("this gateway's", "this carrier's"))
        try:
            told = read_report(body, now_s())
            await asyncio.to_thread(outbox().report, told.notice_id, told.arrived, told.at_s, told.problem, carrier)
        except InputError as error:
            return problem(422, "malformed", str(error))
        except RequestError as error:
            return problem(404, "message", str(error))
        except OpenAMIError as error:
            return problem(503, "storage", f"the report could not be stored, send it again: {type(error).__name__}")
        return JSONResponse({"result": "taken"})

    return router
