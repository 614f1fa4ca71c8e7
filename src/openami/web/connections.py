"""Connections: how long one may take over what it asks, and how long the head of it may be.

What always holds: whoever says nothing, or says it drop by drop, is gone within a minute, and a head that does not end holds no memory. What a
body may have is the concern of `limits`, which can answer in words.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .limits import BODY_WITHIN_S

HEAD_MOST = 32 * 1024
"""Octets of a request's first line and fields: browsers send 1 to 2 kB, a foreign issuer's token may have ten."""
HEAD_WITHIN_S = 20.0
"""From the connection, or the first octet of a later request, to the head's end: at 120 kbit/s a whole one takes two."""
CLOSED_AFTER_S = BODY_WITHIN_S + 5.0
"""From the head's end to the body's: `limits` has said so before."""

HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Part(Enum):
    """What of a request is awaited. NOTHING: the one before has come whole, and may still be answered."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class Connection(HttpToolsProtocol):
    """One connection of the console's server. head_within_s, closed_after_s: other patience, for tests."""

    head_within_s = HEAD_WITHIN_S
    closed_after_s = CLOSED_AFTER_S

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._part, self._octets = Part.HEAD, 0
        self._timed: Part | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_at_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._part = Part.NOTHING
        self._look_at_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._part is Part.NOTHING:
            self._part, self._octets = Part.HEAD, 0
        for at in range(0, len(data), HEAD_MOST):
            piece = data[at : at + HEAD_MOST]
            super().data_received(piece)
            if self.transport.is_closing():
                break
            self._octets += len(piece)
            if self._part is Part.HEAD and self._octets >= HEAD_MOST:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request's head may have {HEAD_MOST} octets")
                break
        self._look_at_clock()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part is not Part.BODY:  # a field behind the body comes after everything was decided by those before it
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        self._part = Part.HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if self.parser.get_http_version() == "1.1" and (len(hosts) != 1 or not HOST.fullmatch(hosts[0])):
            raise ValueError("a request names one host")  # answered with 400 by whoever feeds the parser (RFC 9112, 3.2)
        super().on_headers_complete()
        self._part = Part.BODY

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part, self._timed = Part.NOTHING, None  # a next head has a time of its own
        self._octets = -HEAD_MOST  # the rest of this piece, of which a next request may be part, is not counted

    def _unsupported_upgrade_warning(self) -> None:
        """Asked for another protocol, we answer in this one, and no stranger fills the log."""

    def _look_at_clock(self) -> None:
        """Time runs for the part that is awaited now, from when it began to be."""
        if self._late is not None and (self._timed is not self._part or self.transport.is_closing()):
            self._late.cancel()
            self._late = None
        if self._late is None and self._part is not Part.NOTHING and not self.transport.is_closing():
            self._late = self.loop.call_later(self.head_within_s if self._part is Part.HEAD else self.closed_after_s, self._too_late)
        self._timed = self._part

    def _too_late(self) -> None:
        if self._part is Part.HEAD and self._octets > 0:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request did not come within {self.head_within_s:.0f} s; send it anew")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Said without the application, which knows nothing of this request; nothing is said into an answer that is on its way."""
        if self.cycle is None or self.cycle.response_complete:
            told = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(why)}\r\n"
            self.transport.write(f"{told}connection: close\r\n\r\n{why}".encode("ascii"))
        self.transport.close()
