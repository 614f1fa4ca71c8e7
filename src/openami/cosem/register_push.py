"""Pushes that carry registers, counts and states instead of readings: instantaneous, daily, billing, the event status word.

`push.py` reads block load into channels; here each column keeps its own name (OBIS code, attribute) and comes with its scaler undone.
Which push object carries what, and which column stands where, is data (`data/register_layouts.toml`). What always holds:
- a null is absent in its row, never 0, and shifts nothing;
- a number is exact: integers times ten to the scaler, float32 as the shortest decimal that is the same float;
- type tags other than the layout's raise MeterError(cause="layout"): the meter changed, and somebody must look.
"""

from __future__ import annotations

import math
import struct
import tomllib
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..errors import DataError, MeterError, RequestError
from .axdr import NULL, Data, Tag
from .clock import CosemDateTime
from .push import CLOCK_OBIS, Column, PushLayout, body_of, obis_text, push_parts, stamp_in

BILLING_DATE_OBIS = "0.0.0.1.2.255"
STATUS_WORD_OBIS = "0.0.94.91.18.255"
_FILE = "data/register_layouts.toml"
_DATE_TAGS = (Tag.OCTET_STRING, Tag.DATE_TIME)
_NUMBERS = frozenset(
    (Tag.INTEGER, Tag.LONG, Tag.DOUBLE_LONG, Tag.LONG64, Tag.UNSIGNED, Tag.LONG_UNSIGNED, Tag.DOUBLE_LONG_UNSIGNED, Tag.LONG64_UNSIGNED)
)
_FLOATS = (Tag.FLOAT32, Tag.FLOAT64)

Key = tuple[str, int]
"""A column: OBIS code and attribute."""
Value = Decimal | int | str | bytes | bool
"""A number in its column's unit is a Decimal, a date-time an int (UTC seconds), a bit-string a str of "0" and "1"."""


class RegisterRow(NamedTuple):
    """stamp_s: the row's own clock or billing date, else the push's clock [UTC seconds]; None where not specified."""

    stamp_s: int | None
    values: dict[Key, Value]


class RegisterPush(NamedTuple):
    """A push as rows of registers. kind: as `push_kind` gives it; clock_stamp_s: the meter's clock at the push [UTC seconds]."""

    device_id: bytes
    push_object: str
    kind: str
    clock_stamp_s: int | None
    rows: list[RegisterRow]

    @property
    def status_word(self) -> str | None:
        """The event status word, "0" and "1" with bit 0 first, where the push carries it."""
        word = next((row.values[STATUS_WORD_OBIS, 2] for row in self.rows if (STATUS_WORD_OBIS, 2) in row.values), None)
        return word if isinstance(word, str) else None


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    try:
        return tomllib.loads(files(__package__).joinpath(_FILE).read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cosem/{_FILE} cannot be read ({error}); restore the shipped file") from error


@lru_cache(maxsize=1)
def push_objects() -> dict[str, str]:
    """Push object -> "instantaneous", "events", "block_load", "daily" or "billing"."""
    return {obis: kind for obis, kind in _file()["objects"].items() if obis != "verify"}


def push_kind(push_object: str) -> str | None:
    """What a push object carries; None for one that no table names."""
    return push_objects().get(push_object)


@lru_cache(maxsize=1)
def register_layouts() -> tuple[PushLayout, ...]:
    """The shipped layouts, one for each maker, model and push object."""
    try:
        made = []
        for row in _file()["layout"]:
            columns = tuple(
                Column(obis, attribute, Tag[tag.upper()], scaler, unit) for obis, attribute, tag, scaler, unit in row["columns"]
            )
            made += [PushLayout(maker, model, row["push_object"], columns, row["row_shape"]) for maker, model in row["models"]]
        return tuple(made)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"cosem/{_FILE} is not a table of push layouts ({error}); restore the shipped file") from error


def register_layout_for(maker: str, model: str, push_object: str) -> PushLayout | None:
    """The layout of a maker's model for a push object, None where none is known (its pushes then wait in quarantine for one)."""
    return next((one for one in register_layouts() if (one.maker, one.model, one.push_object) == (maker, model, push_object)), None)


def push_object_of(body: Data) -> str:
    """The push object that a body names in its second place, before any layout is known. MeterError(cause="layout") where it names none."""
    if body.tag is Tag.STRUCTURE and len(body.value) >= 3:
        second = body.value[1]
        if second.tag is Tag.OCTET_STRING and len(second.value) == 6:
            return obis_text(second.value)
    raise MeterError("a push body does not name its push object in the second place", "layout")


def read_registers(layout: PushLayout, body: Data, zone_offset_minutes: int = 330) -> RegisterPush:
    """A push body as rows of registers. zone_offset_minutes: east of UTC, for clocks whose deviation is not specified.

    MeterError(cause="layout") where the body does not have the layout's shape, push object, column count or type tags.
    """
    device_id, push_object, clock, tail = push_parts(layout, body)
    clock_s = stamp_in(layout, clock, zone_offset_minutes)
    rows = []
    for row in tail:
        if len(row) != len(layout.columns):
            raise _mismatch(layout, f"a row has {len(row)} columns, not {len(layout.columns)}")
        stamp, stamped = clock_s, False
        values: dict[Key, Value] = {}
        for column, data in zip(layout.columns, row, strict=True):
            value = _value(layout, column, data, zone_offset_minutes)
            if column.obis in (CLOCK_OBIS, BILLING_DATE_OBIS) and column.attribute == 2 and not stamped:
                stamp, stamped = (value if isinstance(value, int) else None), True
            elif value is not None:
                values[column.obis, column.attribute] = value
        rows.append(RegisterRow(stamp, values))
    return RegisterPush(device_id, push_object, push_kind(push_object) or "other", clock_s, rows)


def register_body(layout: PushLayout, device_id: bytes, clock: CosemDateTime, rows: list[RegisterRow]) -> Data:
    """The body of a meter's push, the other way round. A column without a value is null.

    RequestError for a number that its column's type cannot hold, or for more than one row in a layout that holds one.
    """
    deviation = -330 if clock.deviation_minutes is None else clock.deviation_minutes
    written = tuple(tuple(_written(column, row, deviation) for column in layout.columns) for row in rows)
    return body_of(layout, device_id, clock, written)


def _value(layout: PushLayout, column: Column, data: Data, zone_offset_minutes: int) -> Value | None:
    """One column as it is meant; None where it is null, no finite number, or a date-time that says nothing."""
    if data.tag is Tag.NULL:
        return None
    if data.tag is not column.tag and not (column.tag in _DATE_TAGS and data.tag in _DATE_TAGS):
        raise _mismatch(layout, f"column {column.obis} is a {data.tag.name.lower()}, not a {column.tag.name.lower()}")
    if column.tag in _DATE_TAGS and len(data.value) == 12:
        return CosemDateTime.decode(data.value).to_stamp(zone_offset_minutes)
    if column.tag in _NUMBERS:
        return Decimal(data.value).scaleb(column.scaler)
    if column.tag in _FLOATS:
        return _decimal(data.value, column.tag).scaleb(column.scaler) if math.isfinite(data.value) else None
    value: Value = data.value
    return value


def _decimal(number: float, tag: Tag) -> Decimal:
    """The shortest decimal that is the same float: 0.1 as float32 is 0.1, not 0.10000000149."""
    if tag is Tag.FLOAT64:
        return Decimal(repr(number))
    for digits in range(1, 10):
        text = f"{number:.{digits}g}"
        if struct.pack(">f", float(text)) == struct.pack(">f", number):
            return Decimal(text)
    return Decimal(f"{number:.9g}")


def _written(column: Column, row: RegisterRow, deviation_minutes: int) -> Data:
    """One column of a row on the wire."""
    own_stamp = column.obis in (CLOCK_OBIS, BILLING_DATE_OBIS) and column.attribute == 2
    value = row.stamp_s if own_stamp else row.values.get((column.obis, column.attribute))
    if value is None:
        return NULL
    if column.tag in _DATE_TAGS and isinstance(value, int):
        return Data(column.tag, CosemDateTime.from_stamp(value, deviation_minutes).encode())
    if column.tag in _FLOATS:
        return Data(column.tag, float(Decimal(value).scaleb(-column.scaler)))  # type: ignore[arg-type]
    if column.tag in _NUMBERS:
        number = Decimal(value).scaleb(-column.scaler)  # type: ignore[arg-type]
        if number != number.to_integral_value():
            raise RequestError(f"{number} of {column.obis} is no whole number at scaler {column.scaler}; round it first")
        return Data(column.tag, int(number))
    return Data(column.tag, value)


def _mismatch(layout: PushLayout, what: str) -> MeterError:
    return MeterError(f"a push does not have the layout of {layout.maker} {layout.model}: {what}", "layout")
