"""Push layouts: which column stands where in a maker's push, and the way from a push body to readings and back.

A push body is a structure {device id, push object, clock, data} (IS 15959 part 2, push setups). Types, column order and scalers differ
by maker and model, so a layout is data (`data/layouts.toml`), never an `if`. What always holds:
- a column is found by its OBIS code; a column that no channel knows is passed over and shifts nothing;
- a null is absent in its row, never 0; a value that is no number, or outside the channel's int32, is absent too;
- type tags other than the layout's raise MeterError(cause="layout"): the meter changed, and somebody must look.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..errors import DataError, MeterError, RequestError
from ..readings import CHANNEL_BY_OBIS
from .axdr import NULL, Data, Tag
from .clock import CosemDateTime

CLOCK_OBIS = "0.0.1.0.0.255"
ROW_SHAPES = ("rows", "row", "flat")
_INT32_MAX = 2**31 - 1
_FLOATS = (Tag.FLOAT32, Tag.FLOAT64)
_DATE_TAGS = (Tag.OCTET_STRING, Tag.DATE_TIME)


@dataclass(frozen=True, slots=True)
class Column:
    """One column on the wire: value = number x 10**scaler [unit]."""

    obis: str
    attribute: int
    tag: Tag
    scaler: int
    unit: str


@dataclass(frozen=True, slots=True)
class PushLayout:
    """The push of one maker's model through one push object.

    row_shape: "rows" = an array of structures, one per interval; "row" = one structure; "flat" = the columns stand in the body's
    own structure, behind the clock.
    """

    maker: str
    model: str
    push_object: str
    columns: tuple[Column, ...]
    row_shape: str


class Push(NamedTuple):
    """A push as readings. clock_stamp_s: the meter's clock at the push, UTC seconds, None where not specified.

    rows: (stamp [UTC seconds] or None, {channel name: stored int32 in the channel's unit x 10**scaler}).
    """

    device_id: bytes
    push_object: str
    clock_stamp_s: int | None
    rows: list[tuple[int | None, dict[str, int]]]


@lru_cache(maxsize=1024)
def obis_bytes(obis: str) -> bytes:
    """ "1.0.99.1.0.255" as the 6 bytes of a logical name."""
    try:
        octets = bytes(int(part) for part in obis.split("."))
    except ValueError:
        octets = b""
    if len(octets) != 6:
        raise RequestError(f'"{obis}" is not an OBIS code of six numbers from 0 to 255, like 1.0.99.1.0.255')
    return octets


def obis_text(octets: bytes) -> str:
    """The 6 bytes of a logical name as "1.0.99.1.0.255"; MeterError for another length."""
    if len(octets) != 6:
        raise MeterError(f"a logical name has 6 bytes, not {len(octets)}")
    return "{}.{}.{}.{}.{}.{}".format(*octets)


@lru_cache(maxsize=1)
def layouts() -> tuple[PushLayout, ...]:
    """The shipped layouts, from `data/layouts.toml`."""
    text = files(__package__).joinpath("data/layouts.toml").read_text("utf-8")
    try:
        return tuple(_layout(row) for row in tomllib.loads(text)["layout"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"cosem/data/layouts.toml is not a table of push layouts ({error}); restore the shipped file") from error


def layout_for(maker: str, model: str, push_object: str) -> PushLayout:
    """The layout of a maker's model for a push object; DataError with the known ones where there is none."""
    for layout in layouts():
        if (layout.maker, layout.model, layout.push_object) == (maker, model, push_object):
            return layout
    known = ", ".join(f"{one.maker} {one.model} {one.push_object}" for one in layouts())
    raise DataError(f"no push layout for {maker} {model} {push_object}; add one to cosem/data/layouts.toml (known: {known})")


def push_body(layout: PushLayout, device_id: bytes, clock: CosemDateTime, rows: list[tuple[int, dict[str, int]]]) -> Data:
    """The body of a meter's push: rows of (stamp [UTC seconds], {channel name: stored int}).

    A column without a value in its row is null. A column that belongs to no channel takes the entry under its OBIS code, as the number
    on the wire. Row stamps are written in the clock's own deviation. RequestError for a value that does not fit its column, or for more
    than one row in a layout that holds one.
    """
    deviation = -330 if clock.deviation_minutes is None else clock.deviation_minutes
    written = tuple(tuple(_written(step, stamp, values, deviation) for step in _plan(layout)) for stamp, values in rows)
    return body_of(layout, device_id, clock, written)


def body_of(layout: PushLayout, device_id: bytes, clock: CosemDateTime, written: tuple[tuple[Data, ...], ...]) -> Data:
    """Rows that are written already, in the layout's shape behind the head of every push. RequestError for more than one row in a layout that
    holds one."""
    if layout.row_shape != "rows" and len(written) != 1:
        raise RequestError(f"layout {layout.maker} {layout.model} carries one row in a push, not {len(written)}")
    head = (
        Data(Tag.OCTET_STRING, device_id),
        Data(Tag.OCTET_STRING, obis_bytes(layout.push_object)),
        Data(Tag.OCTET_STRING, clock.encode()),
    )
    if layout.row_shape == "flat":
        return Data(Tag.STRUCTURE, head + written[0])
    if layout.row_shape == "row":
        return Data(Tag.STRUCTURE, (*head, Data(Tag.STRUCTURE, written[0])))
    return Data(Tag.STRUCTURE, (*head, Data(Tag.ARRAY, tuple(Data(Tag.STRUCTURE, row) for row in written))))


def read_push(layout: PushLayout, body: Data, zone_offset_minutes: int = 330) -> Push:
    """A push body as readings. zone_offset_minutes: east of UTC, for clocks whose deviation is not specified.

    Numbers are rounded half up to the channel's stored integer. MeterError(cause="layout") where the body does not have the layout's
    shape, push object, column count or type tags.
    """
    device_id, push_object, clock, tail = push_parts(layout, body)
    plan = _plan(layout)
    rows = []
    for row in tail:
        if len(row) != len(plan):
            raise _mismatch(layout, f"a row has {len(row)} columns, not {len(plan)}")
        stamp: int | None = None
        values: dict[str, int] = {}
        for (tag, channel, up, down, is_clock, obis), (got, value) in zip(plan, row, strict=True):
            if got is not tag and got is not Tag.NULL and not (is_clock and got in _DATE_TAGS):
                raise _mismatch(layout, f"column {obis} is a {got.name.lower()}, not a {tag.name.lower()}")
            if value is None:
                continue
            if is_clock:
                stamp = stamp_in(layout, value, zone_offset_minutes)
            elif channel:
                stored = _stored(value, up, down)
                if stored is not None:
                    values[channel] = stored
        rows.append((stamp, values))
    return Push(device_id, push_object, stamp_in(layout, clock, zone_offset_minutes), rows)


class _Step(NamedTuple):
    """One column made ready: stored integer = number x up / down; channel is "" where no channel has this OBIS code."""

    tag: Tag
    channel: str
    up: int
    down: int
    is_clock: bool
    obis: str


@lru_cache(maxsize=1024)
def _plan(layout: PushLayout) -> tuple[_Step, ...]:
    steps = []
    for column in layout.columns:
        channel = CHANNEL_BY_OBIS.get(column.obis)
        shift = column.scaler - channel.scaler if channel else 0
        name = channel.name if channel else ""
        steps.append(_Step(column.tag, name, 10 ** max(shift, 0), 10 ** max(-shift, 0), column.obis == CLOCK_OBIS, column.obis))
    return tuple(steps)


def _layout(row: dict[str, Any]) -> PushLayout:
    columns = tuple(Column(obis, attribute, Tag[tag.upper()], scaler, unit) for obis, attribute, tag, scaler, unit in row["columns"])
    for column in columns:
        obis_bytes(column.obis)
        channel = CHANNEL_BY_OBIS.get(column.obis)
        if channel and channel.unit != column.unit:
            raise ValueError(f"column {column.obis} has unit {column.unit}, its channel {channel.name} has {channel.unit}")
    if row["row_shape"] not in ROW_SHAPES:
        raise ValueError(f"row_shape {row['row_shape']} is none of {', '.join(ROW_SHAPES)}")
    return PushLayout(row["maker"], row["model"], row["push_object"], columns, row["row_shape"])


def push_parts(layout: PushLayout, body: Data) -> tuple[bytes, str, bytes, list[tuple[Data, ...]]]:
    """(device id, push object, clock, rows of columns) of a push body. MeterError(cause="layout") where a type is not as it must be."""
    if body.tag is not Tag.STRUCTURE or len(body.value) < 4:
        raise _mismatch(layout, "the body is not a structure of device id, push object, clock and data")
    device, push_object, clock = body.value[:3]
    if device.tag not in (Tag.OCTET_STRING, Tag.VISIBLE_STRING):
        raise _mismatch(layout, f"the device id is a {device.tag.name.lower()}")
    if push_object.tag is not Tag.OCTET_STRING or push_object.value != obis_bytes(layout.push_object):
        raise _mismatch(layout, f"the push object is not {layout.push_object}")
    if clock.tag not in _DATE_TAGS:
        raise _mismatch(layout, f"the clock is a {clock.tag.name.lower()}")
    identity = device.value if isinstance(device.value, bytes) else device.value.encode("latin-1")
    return identity, layout.push_object, clock.value, _rows(layout, body.value[3:])


def _rows(layout: PushLayout, tail: tuple[Data, ...]) -> list[tuple[Data, ...]]:
    if layout.row_shape == "flat":
        return [tail]
    data = tail[0]
    if len(tail) != 1 or data.tag is not (Tag.ARRAY if layout.row_shape == "rows" else Tag.STRUCTURE):
        raise _mismatch(layout, "the data behind the clock has another shape")
    if layout.row_shape == "row":
        return [data.value]
    for row in data.value:
        if row.tag is not Tag.STRUCTURE:
            raise _mismatch(layout, f"a row is a {row.tag.name.lower()}, not a structure")
    return [row.value for row in data.value]


def _mismatch(layout: PushLayout, what: str) -> MeterError:
    return MeterError(f"a push does not have the layout of {layout.maker} {layout.model}: {what}", "layout")


def stamp_in(layout: PushLayout, octets: bytes, zone_offset_minutes: int) -> int | None:
    """12 bytes of date-time as UTC seconds, None where not specified. MeterError(cause="layout") for another length."""
    if len(octets) != 12:
        raise _mismatch(layout, f"a clock of {len(octets)} bytes")
    return CosemDateTime.decode(octets).to_stamp(zone_offset_minutes)


def _stored(number: Any, up: int, down: int) -> int | None:
    """number x up / down, half up; None where that is no int32."""
    if isinstance(number, float):
        if not math.isfinite(number):
            return None
        stored = math.floor(number * up / down + 0.5)
    else:
        stored = (2 * number * up + down) // (2 * down)
    return stored if -_INT32_MAX <= stored <= _INT32_MAX else None


@lru_cache(maxsize=1024)
def _clock_octets(stamp_s: int, deviation_minutes: int) -> bytes:
    """Of an interval's end: every meter of a fleet writes the same few."""
    return CosemDateTime.from_stamp(stamp_s, deviation_minutes).encode()


def _written(step: _Step, stamp_s: int, values: dict[str, int], deviation_minutes: int) -> Data:
    """One column of a row on the wire."""
    if step.is_clock:
        return Data(step.tag, _clock_octets(stamp_s, deviation_minutes))
    stored = values.get(step.channel or step.obis)
    if stored is None:
        return NULL
    if step.tag in _FLOATS:
        return Data(step.tag, stored * step.down / step.up)
    return Data(step.tag, (2 * stored * step.down + step.up) // (2 * step.up))
