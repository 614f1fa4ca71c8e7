"""Saved filters: lists that a person comes back to, kept in this browser as a cookie that scripts cannot read; they work without JavaScript.

What always holds: only addresses below `/room` are kept; a cookie that was not made here is as good as none.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import urlsplit

from fastapi import Request, Response

from ..gate import cookie_name, set_cookie

MOST, NAME_MOST, ADDRESS_MOST, KEPT_S = 12, 40, 200, 365 * 86_400


def saved_filters(request: Request) -> list[tuple[str, str]]:
    """(name, address), in the order in which they were saved."""
    text = request.cookies.get(cookie_name(request, "filters"), "")
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) if text else []
    except (ValueError, UnicodeDecodeError):
        return []
    pairs = found if isinstance(found, list) else []
    return [
        (str(p[0])[:NAME_MOST], str(p[1]))
        for p in pairs[:MOST]
        if isinstance(p, list) and len(p) == 2 and isinstance(p[1], str) and ours(p[1])
    ]


def ours(address: str) -> bool:
    """Whether it is a page of the control room, and nothing of another site."""
    parts = urlsplit(address)
    plain = not parts.scheme and not parts.netloc and "\\" not in address and len(address) <= ADDRESS_MOST
    return plain and (parts.path == "/room" or parts.path.startswith("/room/"))


def keep_filters(request: Request, response: Response, filters: list[tuple[str, str]]) -> None:
    text = base64.urlsafe_b64encode(json.dumps(filters[-MOST:], ensure_ascii=True).encode()).decode().rstrip("=")
    set_cookie(request, response, "filters", text, KEPT_S)
