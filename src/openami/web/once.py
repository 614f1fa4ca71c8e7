"""A form that is sent twice acts once: a double click, two tabs, the way back and sent again.

Each form that is drawn has a number of its own in its token. What came of it is kept under that number and what was filled in: the same again
within seconds gets the same answer, later a sentence that says when it was done. Another filling is another act. Who signs in has no number yet:
theirs is known by the browser's own cookie (`same_click`).

What always holds: what was refused is not kept, so it may come again; a field that means one thing is given once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import anyio
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.datastructures import FormData
from fastapi.routing import APIRoute

from ..errors import RequestError
from ..store.proposals import BEING_DONE, KeptAnswers
from .access import Who
from .api.words import Refused
from .failures import NotUsable
from .gate import FORM_FIELD, cookie_name, gate_of, number_of
from .pages import Console

Handler = Callable[[Request], Awaitable[Response]]
SAME_CLICK_S = 10
"""So soon the same form is the same click: its answer was perhaps never seen."""
PATIENCE_S, LOOK_S = 10.0, 0.05
"""How long, and how often, the second click waits for the answer to the first."""
BEFORE_SIGN_IN = "nobody yet"


class Filled(APIRoute):
    """A route that takes forms, and may take the same one again: it shows what something would do, or is once by itself. What was filled in is at
    hand for a page that says why it was refused."""

    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return handle
        many = {field.alias for field in self.dependant.body_params if "tuple" in str(field.field_info.annotation)}

        async def filled(request: Request) -> Response:
            request.state.given = given = await request.form()
            times = Counter(name for name, _ in given.multi_items())
            if twice := [name for name, count in times.items() if count > 1 and name not in many]:
                raise NotUsable("twice", twice[0])
            return await self.answer(request, given, handle)

        return filled

    async def answer(self, request: Request, given: FormData, handle: Handler) -> Response:
        return await handle(request)


class ActsOnce(Filled):
    """A route whose forms act once; what comes without a form's number is no form of ours, and is refused or is once by itself."""

    async def answer(self, request: Request, given: FormData, handle: Handler) -> Response:
        number = number_of(str(given.get(FORM_FIELD, "")))
        who = await run_in_threadpool(gate_of(request).who, request) if number else None
        return await (handle(request) if who is None else _kept(request, who, f"form {number}", given, handle))


async def _kept(request: Request, who: Who, number: str, given: FormData, handle: Handler) -> Response:
    """The answer to this form: the one that is kept, or a new one."""
    answers, now_s = gate_of(request).answers, gate_of(request).now_s
    filled = [request.url.path, *sorted((name, str(value)) for name, value in given.multi_items())]
    digest = hashlib.sha256(json.dumps(filled).encode()).digest()
    key = f"{number} {digest.hex()[:16]}"
    known = await _claimed(answers, who.name, key, digest, now_s)
    if known is not None:
        if now_s - known["at_s"] > SAME_CLICK_S:
            raise Refused(409, "sent-before", _at(request, known["at_s"]))
        return Response(known["body"], known["status"], known["headers"])
    try:
        answer = await handle(request)
    except BaseException:
        await run_in_threadpool(answers.release, who.name, key)
        raise
    if answer.status_code >= 400:
        await run_in_threadpool(answers.release, who.name, key)
    else:
        headers = {name: value for name, value in answer.headers.items() if name not in ("set-cookie", "content-length")}
        told = {"at_s": now_s, "status": answer.status_code, "headers": headers, "body": bytes(answer.body).decode()}
        await run_in_threadpool(answers.keep, who.name, key, answer.status_code, told)
    return answer


async def _claimed(answers: KeptAnswers, who: str, key: str, digest: bytes, now_s: int) -> dict[str, Any] | None:
    """What came of the same form before; None = it is new, and ours to answer."""
    with anyio.move_on_after(PATIENCE_S):
        while True:
            try:
                kept = await run_in_threadpool(answers.claim, who, key, digest, now_s)
            except RequestError:
                break
            if kept is None:
                return None
            if kept[0] != BEING_DONE:
                found: dict[str, Any] = kept[1]
                return found
            await anyio.sleep(LOOK_S)
    raise Refused(409, "being-done", key)


@dataclass
class Click:
    """came: what came of the same click before, "" = nothing; whoever does it then writes down here what came of it, "" = it was refused."""

    came: str = ""


@contextmanager
def same_click(request: Request, *filled: str) -> Iterator[Click]:
    """Around what a form does that is sent before anybody has signed in, and that uses up what was filled in: the same from the same browser within
    seconds comes to the same. It is kept under a keyed digest in which the browser's own cookie is, so of what was typed nothing lies here."""
    gate, answers = gate_of(request), gate_of(request).answers
    whole = json.dumps([request.cookies.get(cookie_name(request, "form"), ""), request.url.path, *filled])
    digest = gate.backing.master.mac("same click", whole.encode())
    until = time.monotonic() + PATIENCE_S
    while (kept := answers.claim(BEFORE_SIGN_IN, digest.hex(), digest, gate.now_s)) is not None and kept[0] == BEING_DONE:
        if time.monotonic() > until:
            break
        time.sleep(LOOK_S)
    if kept is not None:
        known = kept[0] != BEING_DONE and gate.now_s - kept[1]["at_s"] <= SAME_CLICK_S
        yield Click(kept[1]["came"] if known else "")
        return
    click = Click()
    try:
        yield click
    finally:
        if click.came:
            answers.keep(BEFORE_SIGN_IN, digest.hex(), 303, {"at_s": gate.now_s, "came": click.came})
        else:
            answers.release(BEFORE_SIGN_IN, digest.hex())


def _at(request: Request, at_s: int) -> str:
    console: Console = request.app.state.console
    at: datetime = console.local(at_s)
    return f"{at:%H:%M}"
