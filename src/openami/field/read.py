"""`openami read`: objects of one meter as tables, or JSON."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from ..cosem.apdu import Ref
from ..cosem.is15959 import events, read_status_word
from ..cosem.register_push import STATUS_WORD_OBIS
from ..errors import InputError
from ..headend.reader import Profile, parse_object, read_object
from ..headend.session import Denied, Patience, Trace
from .access import Access, open_meter

ZONE = ZoneInfo("Asia/Kolkata")
EVENT_LOGS = tuple(f"events_{log}" for log in ("voltage", "current", "power", "transaction", "other", "non_rollover", "control"))
"""What "events" stands for."""
EVENT_CODES = "0.0.96.11."
PIPE_COLUMNS = 240
"""Width of a table that is not shown on a terminal: wide enough that nothing is cut off."""


@dataclass(frozen=True, slots=True)
class Asked:
    """objects: as typed; first, last: the span of a profile, local time."""

    objects: tuple[str, ...]
    first: datetime | None = None
    last: datetime | None = None


def parse_time(text: str | None, name: str) -> datetime | None:
    """ "2026-11-01" or "2026-11-01T10:30", local time of the meter. InputError otherwise."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is not a time; write 2026-11-01 or 2026-11-01T10:30") from None
    return when if when.tzinfo else when.replace(tzinfo=ZONE)


def run(access: Access, asked: Asked, patience: Patience, trace: Trace | None = None) -> list[dict[str, Any]]:
    """Read everything asked for in one association; one entry an object, in the order asked. What the meter denies has an "error" instead
    of a value; Denied where nothing else was asked for."""
    words = tuple(word for text in asked.objects for word in (EVENT_LOGS if text == "events" else (text,)))
    asked, refs = replace(asked, objects=words), [parse_object(word) for word in words]
    if not refs:
        raise InputError("say what to read: a name such as nameplate, clock or block_load, or CLASS:OBIS:ATTRIBUTE")
    if asked.first and asked.last and asked.last < asked.first:
        raise InputError(f"--to {asked.last:%Y-%m-%dT%H:%M} is before --from {asked.first:%Y-%m-%dT%H:%M}")
    return asyncio.run(_read(access, asked, refs, patience, trace))


async def _read(access: Access, asked: Asked, refs: list[Ref], patience: Patience, trace: Trace | None) -> list[dict[str, Any]]:
    first = int(asked.first.timestamp()) if asked.first else None
    last = int(asked.last.timestamp()) if asked.last else None
    found = []
    async with await open_meter(access, patience, trace) as session:
        for text, ref in zip(asked.objects, refs, strict=True):
            entry = {"object": text, "class": ref.class_id, "obis": ref.obis, "attribute": ref.member}
            try:
                value = await read_object(session, ref, first, last)
            except Denied as denied:
                if len(refs) == 1:
                    raise
                found.append(entry | {"error": str(denied)})
                continue
            found.append(entry | (_profile(value) if isinstance(value, Profile) else _value(ref, value)))
    return found


def complaint(found: list[dict[str, Any]]) -> str:
    """What the meter denied, as one sentence; "" where it gave everything."""
    return "; ".join(entry["error"] for entry in found if "error" in entry)


def _value(ref: Ref, value: Any) -> dict[str, Any]:
    """A value; an event status word in words as well."""
    if (ref.class_id, ref.obis, ref.member) != (1, STATUS_WORD_OBIS, 2) or not isinstance(value, str):
        return {"value": value}
    known, unknown = read_status_word(value)
    return {"value": value, "status": [bit.what for bit in known] + [f"bit {bit}" for bit in unknown]}


def _event(code: object) -> str:
    """An event code with its meaning, as far as it is known."""
    fact = events().get(code) if isinstance(code, int) else None
    return f"{code} {fact.what}" if fact else str(code)


def _profile(profile: Profile) -> dict[str, Any]:
    columns = [{"class": c.class_id, "obis": c.obis, "attribute": c.attribute, "unit": c.unit} for c in profile.columns]
    rows = [{"stamp": None if s is None else datetime.fromtimestamp(s, UTC).isoformat(), "values": list(v)} for s, v in profile.rows]
    return {"columns": columns, "rows": rows}


def show(found: list[dict[str, Any]]) -> None:
    """For people: a value a line, a profile as a table; stamps in Indian time."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    for entry in found:
        if "error" in entry:
            continue
        if "rows" not in entry:
            value = entry["value"]
            text = f"{value['value']} {value['unit']}" if isinstance(value, dict) else str(value)
            text = f"{text}  [{', '.join(entry['status']) or 'all clear'}]" if "status" in entry else text
            console.print(f"{entry['object']}  {entry['obis']}  {text}", highlight=False, markup=False)
            continue
        table = Table(title=f"{entry['object']}  {entry['obis']}, {len(entry['rows'])} rows (time at the end of the interval, {ZONE.key})")
        shown = [k for k, c in enumerate(entry["columns"]) if c["obis"] != "0.0.1.0.0.255" or c["class"] != 8]
        table.add_column("time")
        for k in shown:
            column = entry["columns"][k]
            table.add_column(f"{column['obis']}\n{column['unit']}", justify="right", overflow="fold")
        for row in entry["rows"]:
            stamp = "" if row["stamp"] is None else f"{datetime.fromisoformat(row['stamp']).astimezone(ZONE):%Y-%m-%d %H:%M}"
            cells = [_event(row["values"][k]) if entry["columns"][k]["obis"].startswith(EVENT_CODES) else row["values"][k] for k in shown]
            table.add_row(stamp, *("" if cell is None else str(cell) for cell in cells))
        console.print(table)
