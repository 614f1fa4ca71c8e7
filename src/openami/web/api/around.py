"""What is around every route of the API, as HTTP asks it: methods, limits, forms of what is sent and answered, tags.

What always holds: HEAD is answered as GET without its body, OPTIONS with what there is; what is sent as a body is JSON and says so; an answer to GET
carries a tag of its own bytes, and a request that names a tag acts only where it still holds, looked at and done in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import OpenAMIError
from ...store.sql import hold, joining
from ..gate import Gate, address_of, cookie_name
from ..limits import BODY_MOST, Limit
from ..packing import whole_tag
from .words import JSON, NOT_NOW, NOTHING_THERE, Refused, problem

SENDING = frozenset({"POST", "PUT", "PATCH"})
LOCKS = ("complaints", "supply", "outbox", "rows")
"""Of those who change what has an address, in the order in which they take them."""


class Methods:
    """HEAD as GET without the body; OPTIONS told from the routes. of_path: the methods that an address takes, none = there is no such address."""

    def __init__(self, app: ASGIApp, of_path: Callable[[Scope], set[str]]) -> None:
        self._app, self._of_path = app, of_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope.get("method", "")
        if asked == "OPTIONS":
            there = self._of_path(scope)
            answer = (
                Response(status_code=204, headers={"allow": allowed(there)})
                if there
                else problem(Refused(404, "no-address", NOTHING_THERE), scope["path"])
            )
            await answer(scope, receive, send)
            return
        if asked != "HEAD" or "GET" not in self._of_path(scope) or scope["path"].endswith("/live"):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send(message if message["type"] != "http.response.body" else {**message, "body": b""})

        await self._app({**scope, "method": "GET"}, receive, without_body)


class Limited:
    """Refuses those who ask too often (429), and bodies that are too large (413) or not JSON (415); says how much is left (RateLimit fields).

    Counted twice: by what the asker shows, which costs nothing to look at, and by who it is, so that many tokens of one program, or none that is
    good, are one asker."""

    def __init__(self, app: ASGIApp, limit: Limit, gate: Gate) -> None:
        self._app, self._limit, self._gate = app, limit, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        shown = request.headers.get("authorization") or request.cookies.get(cookie_name(request)) or address_of(request)
        standing = self._limit.take(hashlib.sha256(shown.encode()).hexdigest()[:32])
        if standing.allowed:
            by_name = self._limit.take(await run_in_threadpool(self._asker, request))
            standing = min(standing, by_name, key=lambda one: (one.allowed, one.left))
        told = [(b"ratelimit-limit", b"%d" % standing.limit), (b"ratelimit-remaining", b"%d" % standing.left)]
        told.append((b"ratelimit-reset", b"%d" % standing.again_s))

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *told]
            await send(message)

        if not standing.allowed:
            sentence = f"too many requests at once; wait {standing.again_s} s"
            refused: Refused | None = Refused(429, "too-often", sentence, {"retry-after": str(standing.again_s)})
        else:
            refused = _not_taken(request)
        await (problem(refused, request.url.path) if refused else self._app)(scope, receive, telling)

    def _asker(self, request: Request) -> str:
        try:
            who = self._gate.who(request)
        except OpenAMIError:  # the route will say so
            who = None
        return f"who {who.acts}" if who else f"from {address_of(request)}"


def _not_taken(request: Request) -> Refused | None:
    """Why the body that a request announces is not read; None = it is, or there is none."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > BODY_MOST:
        return Refused(413, "too-much", f"a body may have {BODY_MOST} bytes; ask in parts")
    if request.method not in SENDING or (length == "0" and "transfer-encoding" not in request.headers):
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        return Refused(
            415, "not-json", f"a body is {JSON} here, this one says {kind[:60] or 'nothing'}; send JSON and name it in Content-Type"
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return Refused(415, "packed", "a body is taken unpacked here; send it without Content-Encoding", {"accept-encoding": "identity"})
    return None


class Tagged:
    """A tag for every answer to GET but what is kept nowhere, which are streams; 304 where the asker has it already, 412 where the asker means
    another state of the thing than there is: of GET the answer itself, of DELETE and of POST to something done to a thing
    (`/orders/{id}/withdraw`) the thing."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if scope["method"] != "GET":
            meant = request.headers.get("if-match")
            await (self._app(scope, receive, send) if meant is None else self._act_if(meant, scope, receive, send))
            return
        begun: Message | None = None
        body: list[bytes] = []

        async def tagging(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                if message["status"] == 200 and dict(message["headers"]).get(b"cache-control") != b"no-store":
                    begun = message
                else:
                    await send(message)
            elif begun is None:
                await send(message)
            else:
                body.append(message.get("body", b""))
                if not message.get("more_body"):
                    await _send_tagged(request, begun, b"".join(body), scope, receive, send)

        await self._app(scope, receive, tagging)

    async def _act_if(self, meant: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Act where the thing is as it was meant. Nobody changes it between the look and the act, which are one transaction; what came of it is told
        when it is on disk."""
        database, told = self._gate.backing.rows.database, list[Message]()

        async def keeping(message: Message) -> None:
            told.append(message)

        try:
            async with contextmanager_in_threadpool(database.begin(writing=True, lock=LOCKS[0])) as connection:
                for lock in LOCKS[1:]:
                    await run_in_threadpool(hold, connection, lock)
                with joining(database, connection):
                    if _named(meant, await self._tag_of_thing(scope), weakly=False) is not None:
                        await self._app(scope, receive, keeping)
        except OpenAMIError:
            await problem(NOT_NOW, scope["path"])(scope, receive, send)
            return
        if not told:
            await problem(CHANGED, scope["path"])(scope, receive, send)
        for message in told:
            await send(message)

    async def _tag_of_thing(self, scope: Scope) -> str | None:
        """The tag of what a request acts on, as GET would answer it to the same asker; None = GET finds nothing there."""
        path = scope["path"] if scope["method"] == "DELETE" else scope["path"].rpartition("/")[0]
        left_out = (b"if-match", b"if-none-match", b"content-type", b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in scope["headers"] if name not in left_out]
        asked = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
        begun: Message | None = None
        body: list[bytes] = []

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def keeping(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = message
            else:
                body.append(message.get("body", b""))

        await self._app(asked, nothing, keeping)
        return _tag(b"".join(body)) if begun is not None and begun["status"] == 200 else None


CHANGED = Refused(412, "changed", "what this is about is not as If-Match says, or is not there; read it again, and decide anew")


async def _send_tagged(request: Request, begun: Message, whole: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer with its tag, or without its body where the asker holds it, or neither where another one was meant."""
    tag = _tag(whole)
    kept: list[tuple[bytes, bytes]] = [
        *begun["headers"],
        (b"etag", tag.encode()),
        (b"cache-control", b"private, no-cache"),
        (b"vary", b"Accept"),
    ]
    meant, held = request.headers.get("if-match"), request.headers.get("if-none-match")
    if meant is not None and _named(meant, tag, weakly=False) is None:
        await problem(CHANGED, request.url.path)(scope, receive, send)
    elif held is not None and (known := _named(held, tag, weakly=True)) is not None:
        left_out = (b"content-length", b"content-type", b"content-disposition", b"etag")
        kept = [(b"etag", known.encode()), *((name, value) for name, value in kept if name not in left_out)]
        await send({**begun, "status": 304, "headers": kept})
        await send({"type": "http.response.body", "body": b""})
    else:
        kept = [(name, value) for name, value in kept if name != b"content-length"] + [(b"content-length", b"%d" % len(whole))]
        await send({**begun, "headers": kept})
        await send({"type": "http.response.body", "body": whole})


def _tag(whole: bytes) -> str:
    return f'"{hashlib.sha256(whole).hexdigest()[:32]}"'


def _named(given: str, tag: str | None, *, weakly: bool) -> str | None:
    """Under which name a list of tags has this one, however its bytes were packed ("*": any); None = it does not. weakly: W/"..." counts as well
    (RFC 9110, 13.1)."""
    if tag is None or given.strip() == "*":
        return tag
    named = [one.strip().removeprefix("W/" if weakly else "") for one in given.split(",")]
    return next((one for one in named if whole_tag(one) == tag), None)


def allowed(methods: set[str]) -> str:
    """For the Allow field: what routes have, and what follows from it."""
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


def acceptable(request: Request) -> None:
    """Refuses to answer in a form that the asker does not take (406). What is liked best is kept as `request.state.liked`. A form that is named in
    the address is what was asked for, whatever else the asker takes."""
    offered = _offered(request.scope["route"])
    liked = best(request.headers.get("accept", ""), offered)
    if liked is None and "format" not in request.query_params:
        raise Refused(406, "not-in-this-form", f"this is answered as {', '.join(offered)}; name one of them in Accept, or */*")
    request.state.liked = liked


def _offered(route: Any) -> list[str]:
    """The media types in which a route answers, its usual one first."""
    documented = [kind.partition(";")[0] for kind in route.responses.get(200, {}).get("content", {})]
    streams = isinstance(route.response_class, type) and issubclass(route.response_class, StreamingResponse)
    return documented if streams else [JSON, *(kind for kind in documented if kind != JSON)]


def best(accept: str, offered: Sequence[str]) -> str | None:
    """The offered media type that is liked best, the first among equals; None where none is taken (RFC 9110, 12.5.1)."""
    if not accept.strip():
        return offered[0]
    wanted: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *more = [piece.strip() for piece in part.split(";")]
        weights = [_weight(one[2:]) for one in more if one.startswith("q=")]
        wanted[kind] = weights[0] if weights else 1.0

    def liking(kind: str) -> float:
        return next((wanted[one] for one in (kind, f"{kind.partition('/')[0]}/*", "*/*") if one in wanted), 0.0)

    found = max(offered, key=liking)
    return found if liking(found) > 0 else None


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
