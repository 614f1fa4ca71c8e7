"""Templates: what a plain APDU of one known form looks like byte by byte, and where its values stand.

A template is learnt from one example that the general decoder has read (or that was encoded from a layout): every byte that the form
fixes (tags, counts, lengths, the push object) goes into a pattern, every value's place into a list. An APDU of the same length whose
fixed bytes agree is read by the list alone, and gives what `push.read_push` gives; any other goes to the general decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import MeterError
from ..readings import CHANNEL_BY_OBIS
from .axdr import Tag, decode, decode_all, read_length
from .clock import CosemDateTime
from .notification import DataNotification
from .push import CLOCK_OBIS, Column, PushLayout, push_body, read_push

KINDS = {
    Tag.INTEGER: 0,
    Tag.LONG: 1,
    Tag.DOUBLE_LONG: 2,
    Tag.UNSIGNED: 3,
    Tag.LONG_UNSIGNED: 4,
    Tag.DOUBLE_LONG_UNSIGNED: 5,
    Tag.FLOAT32: 6,
    Tag.FLOAT64: 7,
}
"""Number types that a channel's column may have in a template."""
_STRINGS = (Tag.OCTET_STRING, Tag.VISIBLE_STRING)
_DATES = (Tag.OCTET_STRING, Tag.DATE_TIME)
MAX_SCALE = 10**9


class Field(NamedTuple):
    """A number of the APDU: row it belongs to, offset of its first byte, one of `KINDS`, channel, stored integer = number x up / down."""

    row: int
    at: int
    kind: int
    channel: str
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class Template:
    """pattern, fixed: uint8 [length], the bytes and where they must agree (255) or may differ (0); clock_at: offset of the push's clock, -1 = none;
    stamp_at: per row the offset of its 12-byte date-time, -1 = none; fields: the numbers."""

    pattern: npt.NDArray[np.uint8]
    fixed: npt.NDArray[np.uint8]
    clock_at: int
    stamp_at: tuple[int, ...]
    fields: tuple[Field, ...]

    @property
    def length(self) -> int:
        return len(self.pattern)


class _Node(NamedTuple):
    """A value of the example: its type, where its contents stand and how long they are, and what it holds."""

    tag: Tag
    at: int
    size: int
    members: tuple[_Node, ...]


def learn(layout: PushLayout, plain: bytes) -> Template:
    """The template of a plain data-notification that `layout` describes.

    MeterError where it is none or does not have the layout; MeterError(cause="layout") also where the form cannot be read by place (a
    channel's number of 64 bits, a bit-string): for those the general decoder stays the way."""
    push = DataNotification.decode(plain)
    read_push(layout, push.body)
    at = _body_at(plain)
    fixed = np.full(len(plain), 255, np.uint8)
    fixed[1:5] = 0  # long-invoke-id-and-priority
    fixed[at - len(push.when) : at] = 0
    if plain[5] in (7, 8):
        fixed[5] = 255  # a bare date-time is told by the high byte of its year
    body, _ = _walk(plain, at, fixed)
    _device, push_object, clock = body.members[:3]
    fixed[push_object.at : push_object.at + push_object.size] = 255
    tail = body.members[3:]
    if layout.row_shape == "flat":
        rows: tuple[tuple[_Node, ...], ...] = (tail,)
    elif layout.row_shape == "row":
        rows = (tail[0].members,)
    else:
        rows = tuple(row.members for row in tail[0].members)
    return _template(layout.columns, plain, fixed, clock.at, rows)


def from_layout(layout: PushLayout, device_id_bytes: int, with_date_time: bool = False, rows: int = 1) -> Template:
    """The template of a push of `layout` with every column there, learnt from one that is encoded here."""
    numbers = {CHANNEL_BY_OBIS[c.obis].name if c.obis in CHANNEL_BY_OBIS else c.obis: 0 for c in layout.columns}
    clock = CosemDateTime.from_stamp(0)
    body = push_body(layout, bytes(device_id_bytes), clock, [(0, numbers)] * rows)
    return learn(layout, DataNotification(0, False, False, clock.encode() if with_date_time else b"", body).encode())


def learn_profile(columns: tuple[Column, ...], apdu: bytes) -> Template:
    """The template of a plain get-response-normal (C4 01, invoke id, 00) whose data is a profile buffer: an array of structures of `columns`.

    MeterError where it is none, or where a column has another type."""
    if len(apdu) < 5 or apdu[0] != 0xC4 or apdu[1] != 1 or apdu[3] != 0:
        raise MeterError("these bytes are no get-response-normal with data")
    decode_all(apdu[4:])
    fixed = np.full(len(apdu), 255, np.uint8)
    fixed[2] = 0  # invoke id and priority
    buffer, _ = _walk(apdu, 4, fixed)
    if buffer.tag is not Tag.ARRAY or any(row.tag is not Tag.STRUCTURE for row in buffer.members):
        raise MeterError("a profile buffer is an array of structures", "layout")
    return _template(columns, apdu, fixed, -1, tuple(row.members for row in buffer.members))


def _body_at(plain: bytes) -> int:
    """Where the body of a data-notification begins: behind tag, invoke id and one of the forms of its date-time (see `notification`)."""
    first = plain[5]
    if first == 0:
        return 6
    if first in (7, 8):
        return 17
    return 19 if first == 9 else 18


def _walk(octets: bytes, at: int, fixed: npt.NDArray[np.uint8]) -> tuple[_Node, int]:
    """The value at `at` and the offset behind it; its contents become free in `fixed`, its tags, counts and lengths stay."""
    tag = Tag(octets[at])
    if tag in (Tag.STRUCTURE, Tag.ARRAY):
        count, end = read_length(octets, at + 1)
        first, members = end, []
        for _ in range(count):
            member, end = _walk(octets, end, fixed)
            members.append(member)
        return _Node(tag, first, end - first, tuple(members)), end
    if tag in (Tag.COMPACT_ARRAY, Tag.BIT_STRING, Tag.UTF8_STRING, Tag.BOOLEAN):
        raise MeterError(f"a {tag.name.lower()} has no place in a template", "layout")
    start = read_length(octets, at + 1)[1] if tag in _STRINGS else at + 1
    end = decode(octets, at)[1]
    fixed[start:end] = 0
    return _Node(tag, start, end - start, ()), end


def _template(
    columns: tuple[Column, ...], octets: bytes, fixed: npt.NDArray[np.uint8], clock_at: int, rows: tuple[tuple[_Node, ...], ...]
) -> Template:
    fields: list[Field] = []
    stamps: list[int] = []
    for r, row in enumerate(rows):
        stamp = -1
        if len(row) != len(columns):
            raise MeterError(f"a row has {len(row)} columns, not {len(columns)}", "layout")
        for column, node in zip(columns, row, strict=True):
            if node.tag is Tag.NULL:
                continue
            if column.obis == CLOCK_OBIS:
                if node.tag not in _DATES or node.size != 12:
                    raise MeterError(f"a row's clock is a {node.tag.name.lower()} of {node.size} bytes", "layout")
                stamp = node.at
                continue
            if node.tag is not column.tag:
                raise MeterError(f"column {column.obis} is a {node.tag.name.lower()}, not a {column.tag.name.lower()}", "layout")
            if column.obis in CHANNEL_BY_OBIS:
                fields.append(_field(column, node, r))
        stamps.append(stamp)
    return Template(np.frombuffer(octets, np.uint8).copy(), fixed, clock_at, tuple(stamps), tuple(fields))


def _field(column: Column, node: _Node, row: int) -> Field:
    channel = CHANNEL_BY_OBIS[column.obis]
    shift = column.scaler - channel.scaler
    up, down = 10 ** max(shift, 0), 10 ** max(-shift, 0)
    if node.tag not in KINDS or max(up, down) > MAX_SCALE:
        raise MeterError(f"column {column.obis} is a {node.tag.name.lower()} times 10^{shift}: too wide to be read by place", "layout")
    return Field(row, node.at, KINDS[node.tag], channel.name, up, down)
