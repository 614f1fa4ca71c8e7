"""Why a parameter or a field cannot be used, as a sentence's end that names what would be right; pydantic's own words are for programmers.

In: an error of `RequestValidationError.errors()`. Out: "is not one of json, csv, arrow", "must be at most 500".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .words import NAME, NAMES

CHOICE = re.compile(r"\^\(([A-Za-z0-9_|:-]+)\)\$")
SENTENCES = {
    "missing": "is missing; give it",
    "extra_forbidden": "is not known here; leave it out",
    "json_invalid": "is not JSON; see the description at /api/v1/openapi.json",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "is too short: at least {min_length} letters",
    "string_too_long": "is too long: at most {max_length} letters",
    "too_short": "is too short: at least {min_length} of them",
    "too_long": "is too long: at most {max_length} of them",
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "bool_type": "is neither true nor false",
    "string_type": "is not a text",
    "list_type": "is not a list",
    "model_attributes_type": "is not a JSON object",
}


def why_not(error: Mapping[str, Any]) -> str:
    """What is wrong, by the kind of the error; a kind without a sentence of its own is told in pydantic's."""
    kind, about = str(error["type"]), error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _why_not_like(str(about.get("pattern", "")))
    if kind.startswith(("datetime", "timezone")) or "write an instant" in str(error["msg"]):
        return "is not an instant with its offset; write it as 2026-01-31T09:30:00+05:30 (in an address %2B is the plus)"
    if kind.startswith("date") or "write a day" in str(error["msg"]):
        return "is not a day; write it as 2026-01-31"
    return SENTENCES[kind].format(**about) if kind in SENTENCES else f"cannot be used: {error['msg']}"


def _why_not_like(pattern: str) -> str:
    if choice := CHOICE.fullmatch(pattern):
        return f"is not one of {', '.join(choice[1].split('|'))}"
    if pattern == NAME:
        return "is not a name; use 1 to 40 letters, digits and . _ -"
    if pattern == NAMES:
        return "is not a list of names apart by commas, at most 500"
    return f"does not have the form that it must have: {pattern}"
