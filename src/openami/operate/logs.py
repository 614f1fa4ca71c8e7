"""The log as JSON, a line an event: `{"at": ..., "level": ..., "role": ..., "what": ..., "meter": ..., "frame": ...}`.

A record says of whom it speaks by `extra={"meter": serial, "frame": "12/3"}` (batch and position in the journal); other fields are in `FIELDS`. What
always holds: no field but these is written; whatever looks like a key, a token, a password in an address or a telephone number is blotted out,
also where somebody put it into a sentence by mistake; nobody's name is known where logs are written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

FIELDS = ("meter", "frame", "day", "shard", "order", "cause", "count", "trace")
BLOT = "[...]"
SECRETS = (
    (re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])"), BLOT),  # keys, digests, tokens in hexadecimal
    (
        re.compile(r"(?<![0-9A-Za-z+/_-])(?!/[^\s/]+/)(?=[A-Za-z+/_-]*[0-9])(?=\S*[A-Z])[A-Za-z0-9+/_-]{40,}={0,2}"),
        BLOT,
    ),  # in base64, JSON web tokens; no path
    (re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@"), rf"\1:{BLOT}@"),  # a password in an address
    (
        re.compile(
            r"""(?i)(password|secret(?:[_-]key)?|token|authorization|api[_-]?key)(["']?\s*[=:]\s*["']?)(?:(?:bearer|basic)\s+)?(?!\[)[^\s"']+"""
        ),
        rf"\1\2{BLOT}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)(?!\[)(?=\S*\d)\S{8,}"), rf"\1{BLOT}"),
    (re.compile(r"(?<![\w.:-])(?:\+?91[ -]?)?[6-9]\d{4}[ -]?\d{5}(?![\w.:-])"), BLOT),  # an Indian mobile number
)
PLAIN = "%(asctime)s %(name)s: %(message)s"


def blot(text: str) -> str:
    """The text without what must not be in a log."""
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"at": at, "level": record.levelname.lower(), "role": self._role, "from": record.name}
        line["what"] = blot(" ".join(record.getMessage().split()))
        line |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
        if record.exc_info and record.exc_info[1]:
            line["error"] = blot(" ".join(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}".split()))
            line["where"] = blot(self.formatException(record.exc_info)).splitlines()
        return json.dumps(line, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """For people, with the same blots."""

    def __init__(self) -> None:
        super().__init__(PLAIN)

    def format(self, record: logging.LogRecord) -> str:
        return blot(super().format(record))


def open_log(form: str, role: str, stream: TextIO | None = None) -> None:
    """Write this process's log as `form`: json or plain, on standard error: of ours what informs, of libraries what warns. Warnings of
    Python go the same way."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    logging.getLogger("openami").setLevel(logging.INFO)
    if form == "json":
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonLines(role))
        root.handlers[:] = [handler]
    else:
        for each in root.handlers:
            if type(each) is logging.StreamHandler:
                each.setFormatter(PlainLines())
    logging.captureWarnings(True)
    if form == "json":
        sys.excepthook = lambda kind, error, trace: logging.getLogger("openami").critical(
            "a mistake in the program ended this role; it is started again by whoever supervises it", exc_info=(kind, error, trace)
        )


def is_json() -> bool:
    """Whether this process writes JSON: then nothing else may stand between its lines."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
