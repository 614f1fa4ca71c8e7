"""Answers packed for the way: brotli where the browser takes it, else gzip.

What always holds: what is packed already, small, or a stream of events goes as it is; a stream leaves piece by piece as it is made; what is
packed has a tag of its own ("abc-br" where the thing's is "abc"), because its bytes are others (RFC 9110, 8.8.3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import brotli
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PACKED = ("text/", "application/json", "application/problem+json", "application/manifest+json", "image/svg+xml")
CODINGS = ("br", "gzip")
PAGE_QUALITY, FILE_QUALITY = 5, 11
"""Pages are packed for each request, files that never change once."""


class Packed:
    def __init__(self, app: ASGIApp, minimum_size: int) -> None:
        self._app, self._least = app, minimum_size
        self._gzip = GZipMiddleware(app, minimum_size=minimum_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tag_by_coding(MutableHeaders(raw=message["headers"]))
            await send(message)

        accepted = Headers(scope=scope).get("accept-encoding", "")
        if _takes("br", accepted):
            await self._app(scope, receive, _Brotli(tagged, self._least).send)
        else:
            named = b"gzip" if _takes("gzip", accepted) else b""  # Starlette's asks whether the word is there, refused or not
            headers = [(name, value if name != b"accept-encoding" else named) for name, value in scope["headers"]]
            await self._gzip({**scope, "headers": headers}, receive, tagged)


def _tag_by_coding(headers: MutableHeaders) -> None:
    tag, coding = headers.get("etag", ""), headers.get("content-encoding")
    if coding in CODINGS and tag.startswith('"'):
        headers["etag"] = f'{tag[:-1]}-{coding}"'


def whole_tag(tag: str) -> str:
    """The thing's tag, of the tag of its bytes however they were packed."""
    for coding in CODINGS:
        tag = tag.removesuffix(f'-{coding}"') + '"' if tag.endswith(f'-{coding}"') else tag
    return tag


def _takes(coding: str, accepted: str) -> bool:
    """Whether a coding is named and not refused (RFC 9110, 12.5.3)."""
    parts = [part.strip().replace(" ", "").lower() for part in accepted[:500].split(",")]
    weights = [part.removeprefix(coding) for part in parts if part == coding or part.startswith(f"{coding};q=")]
    return any(weight not in (";q=0", ";q=0.0", ";q=0.00", ";q=0.000") for weight in weights)


class _Brotli:
    """One answer on its way out."""

    def __init__(self, send: Send, least: int) -> None:
        self._send, self._least = send, least
        self._start: Message | None = None
        self._stream: Any = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            kind = headers.get("content-type", "")
            if not kind.startswith(PACKED) or kind.startswith("text/event-stream") or "content-encoding" in headers:
                await self._send(message)
            else:
                self._start = message
        elif self._start is not None:
            await self._first(self._start, message)
            self._start = None
        elif self._stream is not None and message["type"] == "http.response.body":
            await self._send({**message, "body": self._more(message)})
        else:
            await self._send(message)

    async def _first(self, start: Message, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        headers = MutableHeaders(raw=start["headers"])
        headers.add_vary_header("Accept-Encoding")
        if more:
            self._stream = brotli.Compressor(quality=PAGE_QUALITY)
            body = self._more(message)
            del headers["content-length"]
        elif len(body) >= self._least:
            body = _file(body) if "immutable" in headers.get("cache-control", "") else brotli.compress(body, quality=PAGE_QUALITY)
            headers["content-length"] = str(len(body))
        else:
            await self._send(start)
            await self._send(message)
            return
        headers["content-encoding"] = "br"
        await self._send(start)
        await self._send({**message, "body": body})

    def _more(self, message: Message) -> bytes:
        packed: bytes = self._stream.process(message.get("body", b""))
        packed += self._stream.flush() if message.get("more_body", False) else self._stream.finish()
        return packed


@lru_cache(maxsize=64)
def _file(body: bytes) -> bytes:
    return bytes(brotli.compress(body, quality=FILE_QUALITY))
