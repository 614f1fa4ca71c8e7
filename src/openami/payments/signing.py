"""Messages between us and a gateway, signed with a secret that both know: HMAC-SHA256 over the time and the body (RFC 2104).

The header `X-Signature` reads `t=<UTC seconds>,v1=<64 hex digits>`; several `v1` may stand there while a secret is changed. A message is taken
for some minutes only, so that a copy that was overheard is worthless later; within them its event's id keeps it from counting twice.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "X-Signature"
TOLERANCE_S = 300


def sign(secret: bytes, body: bytes, at_s: int) -> str:
    """The header's value for `body` sent at `at_s`."""
    return f"t={at_s},v1={_mac(secret, body, at_s)}"


def doubt(secrets: tuple[bytes, ...], header: str | None, body: bytes, now_s: int) -> str:
    """Why a message cannot be believed: "unsigned", "forged" or "stale"; "" if it can. Any of the secrets may have signed it."""
    fields = [part.partition("=") for part in (header or "").split(",")]
    times = [value for name, _, value in fields if name.strip() == "t"]
    macs = [value for name, _, value in fields if name.strip() == "v1"]
    if len(times) != 1 or not macs or not (times[0].isascii() and times[0].isdigit() and len(times[0]) < 13):
        return "unsigned"
    at_s = int(times[0])
    true = [hmac.compare_digest(_mac(secret, body, at_s).encode(), mac.encode()) for secret in secrets for mac in macs]
    if not any(true):
        return "forged"
    return "stale" if abs(now_s - at_s) > TOLERANCE_S else ""


def _mac(secret: bytes, body: bytes, at_s: int) -> str:
    return hmac.new(secret, str(at_s).encode() + b"." + body, hashlib.sha256).hexdigest()
