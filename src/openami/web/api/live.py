"""What happens, as it happens: server-sent events (text/event-stream).

`figures` every few seconds, when one has changed; `order.step` for each step of an order. A stream ends after the time that was asked for, or as
soon as the asker may no longer see it, and says when to come back; with `Last-Event-ID` it goes on where it ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from ...day import Site
from ...store.lookup import Lookup
from ..access import Right, Who
from ..gate import gate_of
from ..hooks import SETTLED_S, STEPS_AT_ONCE, step_event
from .words import Refused, api_needs, cursor_of, documented, key_of, site_of

router = APIRouter()
SeesTown = Annotated[Who, Depends(api_needs(Right.TOWN))]
EVERY_S = 2.0
COME_BACK_MS = 3000
SIGN_OF_LIFE_S = 15.0
"""How long a stream says nothing; proxies cut what is silent for a minute."""
EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("event", "data", "id")}, "description": "`data` is JSON."}


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses=documented(404, success={200: {"description": "Events.", "content": {"text/event-stream": {"schema": EVENT}}}}),
)
async def live(
    request: Request,
    who: SeesTown,
    seconds: Annotated[int, Query(ge=0, le=3600, description="For how long; 0 = what there is now.")] = 60,
    last: Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[A-Za-z0-9_-]{1,400}$")] = None,
) -> StreamingResponse:
    """Figures and steps of orders as server-sent events."""
    gate = gate_of(request)
    key = key_of(last, int, str, int)
    position = (gate.now_s, "", 0) if key is None else (key[0], key[1], key[2])
    if not who.reach.everything:
        raise Refused(403, "whole-deployment", "live figures are of the whole deployment; your reach is a part of it")
    events = _events(request, site_of(request), gate.lookup, position, seconds)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _events(request: Request, site: Site, lookup: Lookup, position: tuple[int, str, int], seconds: int) -> AsyncIterator[str]:
    gate = gate_of(request)
    figures = request.app.state.figures
    yield f"retry: {COME_BACK_MS}\nid: {cursor_of(*position)}\n\n"  # who is cut off before the first step goes on from here
    before: dict[str, object] = {}
    ends_s, said_s = gate.clock() + seconds, gate.clock()
    while True:
        began_s, said = gate.clock(), False
        now = await run_in_threadpool(figures.now, gate, site)
        if {**now, "at_s": 0} != {**before, "at_s": 0}:
            yield f"event: figures\ndata: {json.dumps(now)}\n\n"
            before, said = now, True
        for row in await run_in_threadpool(lookup.steps_after, *position, gate.now_s - SETTLED_S, STEPS_AT_ONCE):
            position = (row["at_s"], row["order_id"], row["number"])
            kind, _, data = step_event(row)
            said = True
            yield f"event: {kind}\nid: {cursor_of(*position)}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
        if said or began_s - said_s >= SIGN_OF_LIFE_S:
            if not said:
                yield ":\n\n"
            said_s = began_s
        if gate.clock() >= ends_s or await request.is_disconnected():
            return
        await asyncio.sleep(min(EVERY_S, max(0.0, ends_s - gate.clock())))
        if not await run_in_threadpool(_still, request):
            return


def _still(request: Request) -> bool:
    """Whether the asker may go on: signed in as before, not disabled, nothing taken away."""
    who = gate_of(request).still(request)
    return who is not None and who.may(Right.TOWN) and who.reach.everything
