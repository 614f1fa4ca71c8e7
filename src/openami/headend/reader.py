"""Reading a meter's objects as values with units: attributes, registers, profiles.

A profile is read as the meter offers it: by range where it can (IS 15959 demands it for block load), else by entry, else whole; columns are matched
to their scalers by OBIS code, from the scaler profile where there is one, else register by register. Missing stays None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..cosem.apdu import Item, Ref
from ..cosem.axdr import Data, Tag
from ..cosem.clock import CosemDateTime
from ..cosem.objects import read_scaler_unit
from ..cosem.profile import Capture, Row, by_range, read_buffer, read_captures
from ..errors import InputError, MeterError
from .session import Denied, MeterSession

SCALER_PROFILE = {
    "1.0.94.91.0.255": "1.0.94.91.3.255",
    "1.0.99.1.0.255": "1.0.94.91.4.255",
    "1.0.99.2.0.255": "1.0.94.91.5.255",
    "1.0.98.1.0.255": "1.0.94.91.6.255",
}
"""Profile -> its scaler profile (IS 15959 part 1)."""
NAMES = {
    "block_load": Ref(7, "1.0.99.1.0.255", 2),
    "daily_load": Ref(7, "1.0.99.2.0.255", 2),
    "billing": Ref(7, "1.0.98.1.0.255", 2),
    "instantaneous": Ref(7, "1.0.94.91.0.255", 2),
    "nameplate": Ref(7, "0.0.94.91.10.255", 2),
    "events_voltage": Ref(7, "0.0.99.98.0.255", 2),
    "events_current": Ref(7, "0.0.99.98.1.255", 2),
    "events_power": Ref(7, "0.0.99.98.2.255", 2),
    "events_transaction": Ref(7, "0.0.99.98.3.255", 2),
    "events_other": Ref(7, "0.0.99.98.4.255", 2),
    "events_non_rollover": Ref(7, "0.0.99.98.5.255", 2),
    "events_control": Ref(7, "0.0.99.98.6.255", 2),
    "clock": Ref(8, "0.0.1.0.0.255", 2),
    "serial": Ref(1, "0.0.96.1.0.255", 2),
    "device_id": Ref(1, "0.0.96.1.2.255", 2),
    "import_wh": Ref(3, "1.0.1.8.0.255", 2),
    "voltage": Ref(3, "1.0.12.7.0.255", 2),
    "relay": Ref(70, "0.0.96.3.10.255", 3),
}
SCALED_CLASSES = (3, 4, 5)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a profile as read. unit "" and scaler 0 where the meter gives none."""

    class_id: int
    obis: str
    attribute: int
    scaler: int
    unit: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile's rows: values as in `plain`, None where the meter gives null; stamp as UTC seconds, None where the row has no clock."""

    obis: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[int | None, tuple[Any, ...]], ...]


def parse_object(text: str) -> Ref:
    """A name of `NAMES`, or CLASS:OBIS[:ATTRIBUTE] as 3:1.0.1.8.0.255:2 (the attribute is 2 where left out). InputError says what is known."""
    if text in NAMES:
        return NAMES[text]
    parts = text.split(":")
    try:
        class_id, obis, attribute = int(parts[0]), parts[1], int(parts[2]) if len(parts) > 2 else 2
        numbers = [int(n) for n in obis.split(".")]
    except (ValueError, IndexError):
        numbers = []
    if len(numbers) != 6 or len(parts) > 3 or not all(0 <= n <= 255 for n in numbers):
        raise InputError(f"{text!r} is no object; write CLASS:OBIS:ATTRIBUTE as 3:1.0.1.8.0.255:2, or one of {', '.join(NAMES)}")
    return Ref(class_id, obis, attribute)


async def read_object(session: MeterSession, ref: Ref, first_s: int | None = None, last_s: int | None = None) -> Any:
    """An attribute as a plain value; a register as {"value", "unit"}; a profile's buffer as a `Profile`."""
    if ref.class_id == 7 and ref.member == 2:
        return await read_profile(session, ref.obis, first_s, last_s)
    data = await session.get(Item(ref))
    if ref.class_id in SCALED_CLASSES and ref.member in (2, 3) and isinstance(data.value, int | float) and not isinstance(data.value, bool):
        scaler, unit = await _scaler_of(session, Ref(ref.class_id, ref.obis, 4 if ref.class_id == 5 else 3))
        return {"value": _scaled(data.value, scaler), "unit": unit}
    return plain(data)


async def read_profile(session: MeterSession, obis: str, first_s: int | None = None, last_s: int | None = None) -> Profile:
    """A profile's rows between two stamps (UTC seconds, both included; None = open). Rows without a clock are given as they stand."""
    captures = read_captures(await session.get(Item(Ref(7, obis, 3))))
    scalers = await _scalers(session, obis, captures)
    columns = tuple(Column(c.class_id, c.obis, c.attribute, *scalers.get((c.obis, c.attribute), (0, ""))) for c in captures)
    period = await _capture_period(session, obis)
    buffer = await _buffer(session, obis, first_s, last_s)
    rows = [r for r in read_buffer(captures, buffer, period) if _between(r, first_s, last_s)]
    return Profile(obis, columns, tuple((r.stamp_s, tuple(_cell(v, c) for v, c in zip(r.values, columns, strict=True))) for r in rows))


async def _buffer(session: MeterSession, obis: str, first_s: int | None, last_s: int | None) -> Data:
    """By range where a range is asked for and the meter can; else the whole buffer."""
    ref = Ref(7, obis, 2)
    if first_s is None and last_s is None:
        return await session.get(Item(ref))
    try:
        return await session.get(Item(ref, by_range(first_s or 0, last_s if last_s is not None else 2**31 - 1)))
    except Denied:
        return await session.get(Item(ref))


def _between(row: Row, first_s: int | None, last_s: int | None) -> bool:
    return row.stamp_s is None or ((first_s is None or row.stamp_s >= first_s) and (last_s is None or row.stamp_s <= last_s))


async def _capture_period(session: MeterSession, obis: str) -> int:
    try:
        value = (await session.get(Item(Ref(7, obis, 4)))).value
    except Denied:
        return 0
    return value if isinstance(value, int) else 0


async def _scalers(session: MeterSession, obis: str, captures: tuple[Capture, ...]) -> dict[tuple[str, int], tuple[int, str]]:
    """(OBIS, attribute) -> (scaler, unit). From the scaler profile, matched by OBIS because its columns may stand in another order; what it
    does not tell is asked of each register."""
    wanted = [c for c in captures if c.class_id in SCALED_CLASSES and c.attribute in (2, 3)]
    known: dict[str, tuple[int, str]] = {}
    if wanted and obis in SCALER_PROFILE:
        try:
            columns = read_captures(await session.get(Item(Ref(7, SCALER_PROFILE[obis], 3))))
            rows = read_buffer(columns, await session.get(Item(Ref(7, SCALER_PROFILE[obis], 2))))
            for column, value in zip(columns, rows[0].values if rows else (), strict=False):
                if (scale := read_scaler_unit(value)) is not None:
                    known[column.obis] = scale
        except Denied:
            known = {}
    for capture in wanted:
        if capture.obis not in known:
            known[capture.obis] = await _scaler_of(session, Ref(capture.class_id, capture.obis, 4 if capture.class_id == 5 else 3))
    return {(c.obis, c.attribute): known[c.obis] for c in wanted}


async def _scaler_of(session: MeterSession, ref: Ref) -> tuple[int, str]:
    """(scaler, unit) of a register; (0, "") where the meter does not tell."""
    try:
        return read_scaler_unit(await session.get(Item(ref))) or (0, "")
    except Denied:
        return 0, ""


def _cell(value: Data, column: Column) -> Any:
    if isinstance(value.value, int | float) and not isinstance(value.value, bool) and column.unit:
        return _scaled(value.value, column.scaler)
    return plain(value)


def _scaled(value: float, scaler: int) -> float | int:
    """value x 10**scaler, exact for integers of negative scaler as a decimal fraction."""
    if isinstance(value, int) and scaler >= 0:
        return int(value * 10**scaler)
    return round(value * 10.0**scaler, max(0, -scaler) + (6 if isinstance(value, float) else 0))


def plain(data: Data) -> Any:
    """A value for people and JSON: date-times as ISO text, octet strings as text where printable, else hex; null as None."""
    if data.tag is Tag.NULL:
        return None
    if data.tag in (Tag.ARRAY, Tag.STRUCTURE):
        return [plain(one) for one in data.value]
    if data.tag in (Tag.OCTET_STRING, Tag.DATE_TIME) and isinstance(data.value, bytes):
        return _octets(data.value)
    if isinstance(data.value, bytes):
        return data.value.hex()
    if isinstance(data.value, str | int | float | bool):
        return data.value
    return str(data.value)


def _octets(octets: bytes) -> str:
    if len(octets) == 12:
        try:
            stamp = CosemDateTime.decode(octets).to_stamp(330)
        except MeterError:
            stamp = None
        if stamp is not None:
            return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if len(octets) == 6:
        return ".".join(str(n) for n in octets)
    if octets and all(32 <= n < 127 for n in octets):
        return octets.decode("ascii")
    return octets.hex()
