"""`openami listen`: a push listener for the bench and the field; one line for every push, decoded or refused with its cause."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..cosem.axdr import Data, Tag
from ..cosem.ciphering import Keys
from ..cosem.is15959 import read_status_word
from ..cosem.notification import TAG as NOTIFICATION_TAG
from ..cosem.notification import DataNotification
from ..cosem.register_push import Key, Value, push_kind, push_object_of, read_registers, register_layout_for
from ..cosem.wrapper import unwrap
from ..errors import InputError, MeterError
from ..headend.admission import Admission, Correspondent, Verdict
from ..headend.listener import PushListener
from ..headend.reader import plain
from ..registry import Meter
from ..store.journal import Journal
from .framing import hdlc_pieces

LISTENER_TITLE = b"OAM\x00LSTN"
FIELDS = ("serial", "system_title", "ek", "ak")
STATUS_BITS = 128
UNPROTECTED = "not protected: a data-notification in the clear, nobody knows from whom"


@dataclass(frozen=True, slots=True)
class Listening:
    host: str
    port: int
    journal: Path | None


def load_meters(path: Path) -> dict[bytes, Correspondent]:
    """Meters of a JSON list or a CSV file with the columns serial, system_title, ek, ak (hex), and maker and model where their push layout
    is known. InputError names row and field."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith(("[", "{")) else _csv_rows(text)
    except FileNotFoundError:
        raise InputError(f"{path} is not there; give --meters a JSON or CSV file with {', '.join(FIELDS)}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give --meters a JSON or CSV file with {', '.join(FIELDS)}") from None
    rows = rows.get("meters", [rows]) if isinstance(rows, dict) else rows
    known: dict[bytes, Correspondent] = {}
    for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
        peer = _correspondent(path, number, row)
        if peer.meter.system_title in known:
            raise InputError(f"{path}, meter {number}: system title {peer.meter.system_title.hex()} stands twice; keep one")
        known[peer.meter.system_title] = peer
    if not known:
        raise InputError(f"{path} names no meter; give at least one, with {', '.join(FIELDS)}")
    return known


def _csv_rows(text: str) -> list[dict[str, str]]:
    """Rows by their headings; some spreadsheets write semicolons between."""
    lines = text.splitlines()
    between = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    return list(csv.DictReader(lines, delimiter=between, skipinitialspace=True))


def _correspondent(path: Path, number: int, row: Any) -> Correspondent:
    values: dict[str, bytes] = {}
    for field, sizes in (("system_title", (8,)), ("ek", (16, 32)), ("ak", (16, 32))):
        text = row.get(field) if isinstance(row, dict) else None
        try:
            octets = bytes.fromhex(str(text or "").strip().removeprefix("0x"))
        except ValueError:
            octets = b""
        if len(octets) not in sizes:
            raise InputError(f"{path}, meter {number}: {field} must be {' or '.join(str(2 * s) for s in sizes)} hex digits")
        values[field] = octets
    serial = str(row.get("serial") or row.get("meter") or values["system_title"].hex())
    maker, model = str(row.get("maker") or serial[:3]), str(row.get("model") or "")
    meter = Meter(serial, values["system_title"], maker, model, 0, number - 1, 0, 0)
    return Correspondent(meter, Keys(values["ek"], values["ak"]))


def run(known: dict[bytes, Correspondent], listening: Listening, tell: Callable[[dict[str, Any]], None]) -> None:
    """Listen over TCP (wrapper or HDLC frames) and UDP until Ctrl-C. `tell` gets one object a push."""
    with tempfile.TemporaryDirectory(prefix="openami-listen-") as folder:
        journal = Journal(listening.journal or Path(folder) / "journal.db", create=True)
        try:
            asyncio.run(_listen(known, listening, journal, tell))
        finally:
            journal.close()


async def _listen(
    known: dict[bytes, Correspondent], listening: Listening, journal: Journal, tell: Callable[[dict[str, Any]], None]
) -> None:
    admission = Admission(known, LISTENER_TITLE, journal.counters())
    listener = PushListener(journal, admission, lambda octets, verdict: tell(describe(octets, verdict)), hdlc=True)
    try:
        port = await listener.start(listening.host, listening.port, udp=True)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen on {listening.host}:{listening.port} ({why}); give another --port, or 0 for any free one"
        ) from None
    print(json.dumps({"listening": f"tcp+udp://{listening.host}:{port}", "port": port}), file=sys.stderr, flush=True)
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    stop = asyncio.create_task(told.wait())
    ended = asyncio.create_task(listener.finished())
    await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if listener.failed is not None:
        raise listener.failed
    await listener.stop()
    await ended


def describe(octets: bytes, verdict: Verdict) -> dict[str, Any]:
    """One push as an object: whose it is and its body as plain values, or why it was refused; never a key. What came in the clear is refused, as
    nobody can say who sent it, and shown all the same."""
    if verdict.cause is not None:
        refused = {"refused": verdict.cause, "why": verdict.detail, "serial": verdict.serial, "octets": octets.hex()}
        if (bare := _in_the_clear(octets)) is not None:
            return refused | {"why": UNPROTECTED, **meaning(bare.body, None), "body": plain(bare.body)}
        if b"\x7e" in octets and octets[:2] != b"\x00\x01":
            problems = [piece.problem for piece in hdlc_pieces(octets) if piece.problem]
            refused["why"] = "; ".join(problems) or "an HDLC frame that carries no push"
        return refused
    push = verdict.notification
    assert push is not None
    return {
        "serial": verdict.serial,
        "invoke_id": push.long_invoke_id,
        "confirmed": verdict.confirm is not None,
        "when": push.when.hex() or None,
        **meaning(push.body, verdict.meter),
        "body": plain(push.body),
    }


def _in_the_clear(octets: bytes) -> DataNotification | None:
    """The push in a wrapper frame that carries it unprotected."""
    try:
        frames = unwrap(octets)
        return DataNotification.decode(frames[0].apdu) if len(frames) == 1 and frames[0].apdu[0] == NOTIFICATION_TAG else None
    except MeterError:
        return None


def meaning(body: Data, meter: Meter | None) -> dict[str, Any]:
    """What a push says, as far as it is known: its kind, the bits of its status word, its registers where the meter's layout is known."""
    try:
        push_object = push_object_of(body)
    except MeterError:
        return {"kind": None}
    said: dict[str, Any] = {"kind": push_kind(push_object)}
    word = next((one.value for one in body.value[3:] if one.tag is Tag.BIT_STRING and len(one.value) == STATUS_BITS), None)
    if word is not None:
        known, unknown = read_status_word(word)
        said["status"] = [bit.what for bit in known] + [f"bit {bit}" for bit in unknown]
    layout = register_layout_for(meter.maker, meter.model, push_object) if meter is not None else None
    if layout is None:
        return said
    try:
        rows = read_registers(layout, body).rows
    except MeterError as error:
        return said | {"problem": str(error)}
    units = {(column.obis, column.attribute): column.unit for column in layout.columns}
    return said | {"rows": [{"stamp": _iso(row.stamp_s), "values": _values(row.values, units)} for row in rows]}


def _values(values: dict[Key, Value], units: dict[Key, str]) -> dict[str, Any]:
    """Registers by OBIS code (and attribute, where it is not the value), each with its unit; date-times as text."""
    said: dict[str, Any] = {}
    for (obis, attribute), value in values.items():
        if isinstance(value, Decimal):
            shown: Any = {"value": float(value), "unit": units[obis, attribute]} if units[obis, attribute] else float(value)
        else:
            shown = value.hex() if isinstance(value, bytes) else _iso(value) if isinstance(value, int) else value
        said[obis if attribute == 2 else f"{obis}:{attribute}"] = shown
    return said


def _iso(stamp_s: int | None) -> str | None:
    return None if stamp_s is None else f"{datetime.fromtimestamp(stamp_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
