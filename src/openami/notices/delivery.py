"""The outbox emptied through carriers, and carriers' reports read back.

What always holds: a message that no carrier takes stays, and is tried again later; only what a carrier reports, by its file or its word, is a
delivery; a report on what never left is refused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..errors import InputError, RequestError
from ..store.outbox import Notice, Outbox
from .senders import NotSentError, Sender

AHEAD_S = 300
"""How far a carrier's clock may be ahead."""
NO_ADDRESS, NO_SENDER = "no address of the consumer is known", "no carrier is set up (notices.toml)"


@dataclass(slots=True)
class Sent:
    """How many messages a carrier took, and how many none did."""

    taken: int = 0
    failed: int = 0


def empty(outbox: Outbox, senders: Sequence[Sender], now_s: Callable[[], int], limit: int = 500) -> Sent:
    """Send what is due now, each by the first carrier that takes it."""
    done = Sent()
    for notice, address in outbox.take(now_s(), limit):
        problem = NO_SENDER if not senders else NO_ADDRESS if address is None else ""
        sender = None
        if address is not None:
            sender, problem = _send(notice, address, senders)
        if sender is None:
            outbox.failed(notice, problem, now_s())
            done.failed += 1
            continue
        outbox.taken(notice.notice_id, sender.name, now_s())
        if sender.takes_is_delivered:
            outbox.report(notice.notice_id, True, now_s())
        done.taken += 1
    return done


def _send(notice: Notice, address: str, senders: Sequence[Sender]) -> tuple[Sender | None, str]:
    problems = []
    for sender in senders:
        try:
            sender.send(notice, address)
        except NotSentError as error:
            problems.append(str(error))
            continue
        return sender, ""
    return None, "; ".join(problems) or NO_SENDER


@dataclass(frozen=True, slots=True)
class Report:
    """What a carrier says of a message: whether it arrived, when (UTC seconds), and why not."""

    notice_id: str
    arrived: bool
    at_s: int
    problem: str = ""


def read_report(body: bytes, now_s: int) -> Report:
    """{"notice_id": "...", "arrived": true, "at": "2025-12-03T14:05:00+05:30", "problem": "..."}; InputError where it is anything else, or of a
    time that has not come."""
    try:
        told = json.loads(body)
        at = datetime.fromisoformat(told["at"])
        report = Report(told["notice_id"], told["arrived"], int(at.timestamp()), told.get("problem", ""))
        known = set(told) <= {"notice_id", "arrived", "at", "problem"} and at.tzinfo is not None
        typed = type(report.arrived) is bool and all(isinstance(text, str) for text in (report.notice_id, report.problem))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        known = typed = False
    if not (known and typed):
        raise InputError(
            "a report is an object with notice_id, arrived (true or false), at (with its offset from UTC) and, where it helps, problem"
        )
    if report.at_s > now_s + AHEAD_S:
        raise InputError(f"a report of message {report.notice_id[:80]} is of a time that has not come; set the carrier's clock")
    return report


def take_reports(outbox: Outbox, file: Path) -> tuple[int, list[str]]:
    """A carrier's file of deliveries (CSV: notice_id, arrived yes or no, at as 2025-12-03T14:05+05:30); gives how many were taken, and what was
    refused, by name. InputError where it is no such file."""
    taken, refused = 0, []
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} cannot be read ({error}); give a CSV file with notice_id, arrived, at") from None
    for number, row in enumerate(rows, 2):
        try:
            at = datetime.fromisoformat(row["at"])
            if row["arrived"] not in ("yes", "no") or at.tzinfo is None:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{file}, line {number}: give notice_id, arrived (yes or no) and at (with its offset from UTC)") from None
        try:
            outbox.report(row["notice_id"], row["arrived"] == "yes", int(at.timestamp()))
            taken += 1
        except RequestError as error:
            refused.append(str(error))
    return taken, refused
