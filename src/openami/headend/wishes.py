"""What exactly an order asks for: the JSON object that stands with it, checked before the order is written and again before it is sent.

    load_limit   {"limit_w": 5000} and, if wanted, "over_s" and "under_s"
    clock        {"tolerance_s": 5}, or nothing
    calendar     {"name", "seasons", "weeks", "days"}: A-XDR in hexadecimal
    keys         {"client": 48}
    image        {"identifier", "size", "sha256"} and, if known, "version"

Relay orders and reading need nothing; what they carry is their maker's own note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ..control.order import What
from ..cosem.axdr import decode_all
from ..errors import InputError, MeterError

SECURITY_SETUPS = {32: "0.0.43.0.2.255", 48: "0.0.43.0.3.255", 64: "0.0.43.0.4.255", 80: "0.0.43.0.5.255"}
"""Security setup of each ciphered association that is asked, and of pushes (IS 15959 part 2, as the simulated meters have them [verify])."""
LIMIT_W_MAX = 100_000_000
DURATION_S_MAX = 2**32 - 1
SHA256 = re.compile("[0-9a-f]{64}")


class Part(NamedTuple):
    """One named value. holds: True for one that makes sense; wanted: what that is, in words; needed: without it there is no order."""

    holds: Callable[[Any], bool]
    wanted: str
    needed: bool = True


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _axdr(value: Any) -> bool:
    try:
        decode_all(bytes.fromhex(value))
    except (TypeError, ValueError, MeterError):
        return False
    return True


_DURATION = Part(_whole(0, DURATION_S_MAX), "a whole number of seconds", needed=False)
_TABLE = Part(_axdr, "A-XDR in hexadecimal")
PARTS: dict[What, dict[str, Part]] = {
    What.LOAD_LIMIT: {
        "limit_w": Part(_whole(1, LIMIT_W_MAX), f"a whole number of watts, 1 to {LIMIT_W_MAX:,}"),
        "over_s": _DURATION,
        "under_s": _DURATION,
    },
    What.CLOCK: {"tolerance_s": Part(_whole(1, 3600), "a whole number of seconds, 1 to 3600", needed=False)},
    What.CALENDAR: {"name": _TABLE, "seasons": _TABLE, "weeks": _TABLE, "days": _TABLE},
    What.KEYS: {
        "client": Part(lambda value: type(value) is int and value in SECURITY_SETUPS, f"one of {', '.join(map(str, SECURITY_SETUPS))}")
    },
    What.IMAGE: {
        "identifier": Part(lambda value: isinstance(value, str) and 0 < len(value.encode()) <= 127, "a name of up to 127 bytes"),
        "size": Part(_whole(1, 2**32 - 1), "the image's bytes"),
        "sha256": Part(lambda value: isinstance(value, str) and SHA256.fullmatch(value) is not None, "64 hexadecimal digits"),
        "version": Part(lambda value: isinstance(value, str), "text", needed=False),
    },
}


def read_wish(what: What, wish: str) -> dict[str, Any]:
    """The wish as an object. InputError names what is missing or makes no sense."""
    found = as_object(wish)
    for name, part in PARTS.get(what, {}).items():
        if name not in found and part.needed:
            raise InputError(f"an order of the kind {what} must say {name}: {part.wanted}")
        if name in found and not part.holds(found[name]):
            raise InputError(f"{name} of a {what} order must be {part.wanted}, not {json.dumps(found[name])[:80]}")
    return found


def as_object(wish: str) -> dict[str, Any]:
    """The JSON object of a wish, whatever it says; InputError where it is none."""
    try:
        found = json.loads(wish)
    except (json.JSONDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f'the wish of an order is a JSON object, as {{"limit_w": 3000}}, not {wish[:80]!r}')
    return found


def strangers(what: What, wish: dict[str, Any]) -> list[str]:
    """Names in a wish that this kind of order does not know: slips of whoever typed it."""
    return sorted(set(wish) - set(PARTS[what])) if what in PARTS else sorted(wish)
