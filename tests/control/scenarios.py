"""Reads the guard's text tables (tests/cases/control/*.txt)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from openami.control import NEVER, Facts

ZONE = ZoneInfo("Asia/Kolkata")
RENAMED = {"balance": "balance_paise", "old_arrears": "old_arrears_paise", "daily_use": "daily_use_paise", "load_w": "sanctioned_load_w"}


@dataclass(frozen=True)
class Row:
    title: str
    policy: str
    now: datetime
    facts: Facts
    allowed: bool
    because: list[str]


def in_order_at(now: datetime) -> Facts:
    """An account with which everything is in order at `now` but its balance, which a scenario gives."""
    return Facts(
        payment_mode="prepaid",
        category="domestic",
        sanctioned_load_w=2000,
        kill_switch_on=False,
        balance_as_of=datetime.combine(now.date(), datetime.min.time(), ZONE),
        old_arrears_paise=0,
        converted_on=NEVER,
        part_payment_until=NEVER,
        migration_settled=True,
        estimate_in_reckoning=False,
        within_free_units=False,
        notice_delivered_at=now - timedelta(days=2),
        payment_in_flight=False,
        payment_channel_up_since=now - timedelta(days=5),
        life_support=False,
        dispute_open=False,
        feeder_cuts_last_hour=0,
        power_cut_last_hour_w=0,
        batch_size=1,
        approvers=1,
        deposited_under_protest=False,
        dues_shown_continuously=False,
    )


def read_scenarios(path: Path) -> Iterator[Row]:
    """The rows of every table in the file; `key: value` lines before a table hold for its rows."""
    head: dict[str, str] = {}
    table_over = True
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(("#", "when ")):
            continue
        if "|" not in line:
            key, _, value = line.partition(":")
            head = {key: value.strip()} if table_over else head | {key: value.strip()}
            table_over = False
            continue
        table_over = True
        when, change, decision, because, note = (cell.strip() for cell in line.split("|"))
        now = datetime.fromisoformat(when).replace(tzinfo=ZONE)
        words = [*(f"{k}={v}" for k, v in head.items() if k != "policy"), *_pairs(change)]
        changes = dict(_fact(*word.split("=")) for word in words)
        title = f"{path.stem}:{number} {when} {note or change or 'as it stands'}"
        yield Row(title, head["policy"], now, replace(in_order_at(now), **changes), {"cut": True, "no": False}[decision], because.split())


def _pairs(change: str) -> list[str]:
    """'a=1 b=2025-10-07 12:01' to ['a=1', 'b=2025-10-07 12:01']: a word without '=' belongs to the one before."""
    words: list[str] = []
    for word in change.split():
        words = [*words, word] if "=" in word else [*words[:-1], f"{words[-1]} {word}"]
    return words


def _fact(key: str, text: str) -> tuple[str, Any]:
    name = RENAMED.get(key, key)
    return name, _value(name, text)


def _value(name: str, text: str) -> Any:
    if text == "unknown":
        return None
    if text == "never":
        return NEVER
    if text in ("yes", "no"):
        return text == "yes"
    if name.endswith("_paise"):
        return int(Decimal(text) * 100)
    if name.endswith(("_at", "_of")) or name == "payment_channel_up_since":
        return datetime.fromisoformat(text).replace(tzinfo=ZONE)
    if name.endswith(("_on", "_since", "_until")):
        return date.fromisoformat(text)
    return int(text) if text.isdigit() else text
