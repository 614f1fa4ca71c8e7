"""Limits: how often somebody may ask (a bucket of tokens for each asker, in memory, filled again at a steady rate), and how much they may send."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASKERS_KEPT = 100_000
BODY_MOST = 256 * 1024
BODY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """allowed: whether this request may go on; left: how many more may come at once; again_s: seconds until the next one may."""

    allowed: bool
    limit: int
    left: int
    again_s: int


@dataclass
class Limit:
    """`burst` requests at once and `per_minute` in the long run, for each asker."""

    per_minute: int
    burst: int
    clock: Callable[[], float]
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, asker: str) -> Standing:
        """One request of `asker`."""
        rate, now = self.per_minute / 60, self.clock()
        with self._lock:
            tokens, at = self._buckets.pop(asker, (float(self.burst), now))
            tokens = min(float(self.burst), tokens + max(0.0, now - at) * rate)
            allowed = tokens >= 1
            tokens -= allowed
            self._buckets[asker] = (tokens, now)
            while len(self._buckets) > ASKERS_KEPT:
                self._buckets.popitem(last=False)
        again_s = 0 if tokens >= 1 else int((1 - tokens) / rate) + 1
        return Standing(allowed, self.burst, int(tokens), again_s)


class Bounded:
    """Ends a request whose body is longer than BODY_MOST (413), whether or not it said so before: a body in pieces names no length; and one whose
    body is not there within BODY_WITHIN_S (408). within_s: another patience."""

    def __init__(self, app: ASGIApp, within_s: float = BODY_WITHIN_S) -> None:
        self._app, self._within_s = app, within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left, ends, whole = BODY_MOST, time.monotonic() + self._within_s, False

        async def receiving() -> Message:
            nonlocal left, whole
            try:
                message = await (receive() if whole else asyncio.wait_for(receive(), max(0.0, ends - time.monotonic())))
            except TimeoutError:
                whole = True
                raise HTTPException(
                    408, f"the body did not come within {self._within_s:.0f} s; send it anew", {"connection": "close"}
                ) from None
            left -= len(message.get("body", b""))
            whole = whole or message["type"] != "http.request" or not message.get("more_body", False)
            if left < 0:
                raise HTTPException(413, f"a body may have {BODY_MOST} bytes; ask in parts")
            return message

        await self._app(scope, receiving if scope["type"] == "http" else receive, send)
