"""What was read from a meter as it is kept in the journal, so that it can be read again: columns, scalers, period and the meter's own rows.

The record is one A-XDR structure {version, profile, capture period, capture objects, scalers and units, buffer}: the parts as the meter gave them, so
that a better reader later can make more of them than today's.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from ..cosem.axdr import Data, Tag, decode_all, encode
from ..cosem.objects import members, read_scaler_unit, scaler_unit
from ..cosem.profile import read_buffer, read_captures, scaled
from ..cosem.push import obis_bytes
from ..errors import MeterError
from ..readings import CHANNEL_BY_OBIS, Channel
from .reader import ProfileLayout

BLOCK_LOAD_PROFILE, DAILY_LOAD_PROFILE, BILLING_PROFILE = "1.0.99.1.0.255", "1.0.99.2.0.255", "1.0.98.1.0.255"
INSTANTANEOUS_PROFILE = "1.0.94.91.0.255"
VERSION = 1
_INT32_MAX = 2**31 - 1


def pulled(layout: ProfileLayout, buffer: Data) -> bytes:
    """A profile as it was read, for the journal."""
    parts = (
        Data(Tag.UNSIGNED, VERSION),
        Data(Tag.OCTET_STRING, obis_bytes(layout.obis)),
        Data(Tag.DOUBLE_LONG_UNSIGNED, layout.period_s),
        Data(Tag.ARRAY, tuple(capture.encode() for capture in layout.captures)),
        Data(Tag.ARRAY, tuple(scaler_unit(column.scaler, column.unit) for column in layout.columns)),
        buffer,
    )
    return encode(Data(Tag.STRUCTURE, parts))


def read_pulled(octets: bytes, zone_offset_minutes: int = 330) -> list[tuple[int | None, dict[str, int]]]:
    """Rows of (stamp [UTC seconds] or None, {channel: stored int32 in the channel's unit x 10**scaler}), rounded half up, as `read_push` gives them.

    Columns that are no channel's are passed over, and numbers that no int32 holds are missing. MeterError (cause "layout") where the rows do
    not fit the columns, or a channel comes in another unit.
    """
    record = decode_all(octets)
    if record.tag is not Tag.STRUCTURE or len(record.value) != 6 or record.value[0] != Data(Tag.UNSIGNED, VERSION):
        raise MeterError(f"a pulled record is not the structure of version {VERSION}", "layout")
    _, _, period, captured, scalers, buffer = record.value
    captures = read_captures(captured)
    scales = [read_scaler_unit(one) if members(one, Tag.INTEGER, Tag.ENUM) else None for one in scalers.value]
    if len(scales) != len(captures) or not isinstance(period.value, int):
        raise MeterError(f"a pulled record has {len(captures)} columns and {len(scales)} scalers", "layout")
    wanted: list[tuple[int, Channel, int]] = []
    for k, (capture, scale) in enumerate(zip(captures, scales, strict=True)):
        channel = CHANNEL_BY_OBIS.get(capture.obis) if capture.attribute == 2 and scale is not None else None
        if channel is None or scale is None:
            continue
        if scale[1] != channel.unit:
            raise MeterError(f"{channel.name} comes in {scale[1] or 'no unit'}, not in {channel.unit}", "layout")
        wanted.append((k, channel, scale[0]))
    rows = []
    for row in read_buffer(captures, buffer, period.value, zone_offset_minutes):
        stored = {channel.name: _stored(row.values[k], scaler - channel.scaler) for k, channel, scaler in wanted}
        rows.append((row.stamp_s, {name: value for name, value in stored.items() if value is not None}))
    return rows


def _stored(data: Data, shift: int) -> int | None:
    """number x 10**shift, half up; None where that is no int32."""
    number = scaled(data, shift)
    if number is None:
        return None
    whole = int(number.quantize(Decimal(1), ROUND_HALF_UP)) if abs(number) <= _INT32_MAX else _INT32_MAX + 1
    return whole if abs(whole) <= _INT32_MAX else None
