"""Reading a meter's objects as values with units: attributes, registers, profiles.

A profile is read as the meter offers it: by range where it can (IS 15959 demands it for block load), else by entry, else whole; columns are matched
to their scalers by OBIS code, from the scaler profile where there is one, else register by register. Missing stays None.

What a profile looks like (`ProfileLayout`) is asked for in one request, with the rows themselves where they are few, and can be kept by model.
A day's rows are one question and one answer either way.
"""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..cosem.apdu import Code, Item, Ref
from ..cosem.axdr import Data, Tag
from ..cosem.clock import CosemDateTime
from ..cosem.is15959 import OBJECTS
from ..cosem.objects import read_scaler_unit
from ..cosem.profile import CLOCK, Capture, Row, by_entry, by_range, read_buffer, read_captures, read_scalers
from ..errors import InputError, MeterError
from .sentences import code_name
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
    "daily": Ref(7, "1.0.99.2.0.255", 2),
} | {name: Ref(*parts) for name, parts in OBJECTS.items()}
SCALED_CLASSES = (3, 4, 5)
EVENT_SCALERS = "1.0.94.91.7.255"
"""The scaler profile of all event logs (IS 15959 part 1)."""
SHORT_SPAN_S = 2 * 86_400
"""Up to this span the rows and what they mean are asked for in one request."""
NO_SELECTION = ("scope of access violated", "other reason", "type unmatched", "exception", "object unavailable", "data block unavailable")
"""Answers of meters that cannot read by range, as they differ. Anything else (no rights, undefined) would be the same without one."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a profile as read. unit "" and scaler 0 where the meter gives none."""

    class_id: int
    obis: str
    attribute: int
    data_index: int
    scaler: int
    unit: str


@dataclass(frozen=True, slots=True)
class ProfileLayout:
    """What a profile's rows hold: the captured objects with their scalers and units, and the capture period [s], 0 = not periodic."""

    obis: str
    columns: tuple[Column, ...]
    period_s: int

    @property
    def captures(self) -> tuple[Capture, ...]:
        return tuple(Capture(c.class_id, c.obis, c.attribute, c.data_index) for c in self.columns)

    @property
    def clocked(self) -> bool:
        return any(capture[:3] == CLOCK[:3] for capture in self.captures)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile's rows: values as in `plain`, None where the meter gives null; stamp as UTC seconds, None where the row has no clock.

    buffer: the rows as the meter sent them, to be kept where nothing may be lost."""

    layout: ProfileLayout
    rows: tuple[tuple[int | None, tuple[Any, ...]], ...]
    buffer: Data

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.layout.columns


Layouts = MutableMapping[str, ProfileLayout]
"""Profile -> its layout, as kept by the caller for one model and firmware."""


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
    if (
        len(numbers) != 6
        or len(parts) > 3
        or not all(0 <= n <= 255 for n in numbers)
        or not (0 < class_id < 65_536 and -128 <= attribute < 128)
    ):
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


async def read_profile(
    session: MeterSession, obis: str, first_s: int | None = None, last_s: int | None = None, known: Layouts | None = None
) -> Profile:
    """A profile's rows between two stamps (UTC seconds, both included; None = open) as values with units. Rows without a clock are given as they
    stand. known: as for `read_rows`."""
    layout, rows, buffer = await read_rows(session, obis, first_s, last_s, known)
    cells = tuple((r.stamp_s, tuple(_cell(v, c) for v, c in zip(r.values, layout.columns, strict=True))) for r in rows)
    return Profile(layout, cells, buffer)


class RawProfile(NamedTuple):
    """A profile's rows as the meter's own data; buffer: all of them as they came, also those that were not asked for."""

    layout: ProfileLayout
    rows: list[Row]
    buffer: Data


async def read_rows(
    session: MeterSession, obis: str, first_s: int | None = None, last_s: int | None = None, known: Layouts | None = None
) -> RawProfile:
    """A profile's rows between two stamps (UTC seconds, both included; None = open), as the meter's own data.

    known: layouts kept from earlier; one that does not fit what comes (other firmware) is asked for again, once, and replaced.
    """
    kept = None if known is None else known.get(obis)
    if kept is None:
        layout, buffer = await _layout_and_buffer(session, obis, first_s, last_s)
    else:
        layout, buffer = kept, await _buffer(session, kept, first_s, last_s)
    try:
        rows = read_buffer(layout.captures, buffer, layout.period_s)
    except MeterError:
        if kept is None:
            raise
        layout = await read_layout(session, obis)
        rows = read_buffer(layout.captures, buffer, layout.period_s)
    if known is not None:
        known[obis] = layout
    return RawProfile(layout, [row for row in rows if _between(row, first_s, last_s)], buffer)


async def read_layout(session: MeterSession, obis: str) -> ProfileLayout:
    """Columns, capture period, scalers and units of a profile: one request, and a second one where the scaler profile leaves some out."""
    return await _layout_of(session, obis, await session.get_each(*_layout_items(obis)))


async def _layout_and_buffer(session: MeterSession, obis: str, first_s: int | None, last_s: int | None) -> tuple[ProfileLayout, Data]:
    """Of a short span both are asked for in one request; a long one is asked for alone, so that no meter has to cut a list into blocks."""
    given: tuple[Data | Code, ...] = ()
    if session.selects and first_s is not None and last_s is not None and last_s - first_s <= SHORT_SPAN_S:
        with contextlib.suppress(Denied):
            given = await session.get_each(*_layout_items(obis), Item(Ref(7, obis, 2), by_range(first_s, last_s)))
    if not given:
        layout = await read_layout(session, obis)
        return layout, await _buffer(session, layout, first_s, last_s)
    layout, rows = await _layout_of(session, obis, given[:-1]), given[-1]
    if isinstance(rows, Data):
        return layout, rows
    if layout.clocked and code_name(rows) in NO_SELECTION:
        return layout, await _without_range(session, layout, first_s or 0)
    return layout, await _buffer(session, layout, first_s, last_s)


def _layout_items(obis: str) -> list[Item]:
    """What tells a profile's layout: its capture objects and period, and both of its scaler profile where it has one."""
    scales = SCALER_PROFILE.get(obis, EVENT_SCALERS if obis.startswith("0.0.99.98.") else "")
    items = [Item(Ref(7, obis, 3)), Item(Ref(7, obis, 4))]
    return [*items, Item(Ref(7, scales, 3)), Item(Ref(7, scales, 2))] if scales else items


async def _layout_of(session: MeterSession, obis: str, given: tuple[Data | Code, ...]) -> ProfileLayout:
    """From the answers to `_layout_items`."""
    captured, period, *scalers = given
    if not isinstance(captured, Data):
        raise Denied(f"{session.address} does not tell what profile {obis} holds: {code_name(captured)}", code_name(captured))
    captures = read_captures(captured)
    known: dict[str, tuple[int, str]] = {}
    if len(scalers) == 2 and isinstance(scalers[0], Data) and isinstance(scalers[1], Data):
        known = read_scalers(read_captures(scalers[0]), scalers[1])
    known |= await _scalers_of_registers(session, [c for c in captures if _is_scaled(c) and c.obis not in known])
    plain_number = (0, "")
    columns = tuple(Column(*c, *(known.get(c.obis, plain_number) if _is_scaled(c) else plain_number)) for c in captures)
    seconds = period.value if isinstance(period, Data) and isinstance(period.value, int) else 0
    return ProfileLayout(obis, columns, seconds)


async def _buffer(session: MeterSession, layout: ProfileLayout, first_s: int | None, last_s: int | None) -> Data:
    """By range where a range is asked for and the meter can, else by entry, else the whole buffer."""
    ref = Ref(7, layout.obis, 2)
    if (first_s is None and last_s is None) or not layout.clocked or not session.selects:
        return await session.get(Item(ref))
    try:
        return await session.get(Item(ref, by_range(first_s or 0, last_s if last_s is not None else 2**31 - 1)))
    except Denied as error:
        if error.code not in NO_SELECTION:
            raise
    return await _without_range(session, layout, first_s or 0)


async def _without_range(session: MeterSession, layout: ProfileLayout, first_s: int) -> Data:
    """By entry, else the whole buffer."""
    try:
        return await _by_entry(session, layout, first_s)
    except Denied:
        return await session.get(Item(Ref(7, layout.obis, 2)))


async def _by_entry(session: MeterSession, layout: ProfileLayout, first_s: int) -> Data:
    """The rows from `first_s` on by their number, counted back from the newest."""
    ref = Ref(7, layout.obis, 2)
    in_use = (await session.get(Item(Ref(7, layout.obis, 7)))).value
    if not isinstance(in_use, int) or in_use < 1 or not layout.period_s:
        return await session.get(Item(ref))
    newest = read_buffer(layout.captures, await session.get(Item(ref, by_entry(in_use, in_use))))
    if not newest or newest[-1].stamp_s is None:
        return await session.get(Item(ref))
    stamp_s = newest[-1].stamp_s
    first = max(1, in_use - max(0, -(-(stamp_s - first_s) // layout.period_s)))
    # Where the meter left rows out (no supply), fewer lie in between: counted back by time, the first is never too late. The last is not
    # counted back: it could be too early.
    return await session.get(Item(ref, by_entry(first, in_use)))


def _between(row: Row, first_s: int | None, last_s: int | None) -> bool:
    return row.stamp_s is None or ((first_s is None or row.stamp_s >= first_s) and (last_s is None or row.stamp_s <= last_s))


def _is_scaled(capture: Capture) -> bool:
    return capture.class_id in SCALED_CLASSES and capture.attribute in (2, 3)


async def _scalers_of_registers(session: MeterSession, captures: list[Capture]) -> dict[str, tuple[int, str]]:
    """OBIS -> (scaler, unit), asked of each register; those that do not tell are left out."""
    if not captures:
        return {}
    refs = {c.obis: Ref(c.class_id, c.obis, 4 if c.class_id == 5 else 3) for c in captures}
    found = {}
    for obis, given in zip(refs, await session.get_each(*(Item(ref) for ref in refs.values())), strict=True):
        scale = read_scaler_unit(given) if isinstance(given, Data) else None
        if scale is not None:
            found[obis] = scale
    return found


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
