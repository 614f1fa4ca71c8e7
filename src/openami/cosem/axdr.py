"""A-XDR data: the typed values inside every COSEM attribute and push (IEC 62056-6-2 "Data", coded by IEC 61334-6).

Bytes come in, `Data(tag, value)` goes out, and back. What always holds:
- the tag is kept, so that decoding and encoding again gives the same bytes (lengths in their shortest form, booleans 0 or 1);
- a null stays in its place as `Data(Tag.NULL, None)`: no column ever moves;
- every length is checked against the bytes that are there before anything is allocated; nesting ends at `MAX_DEPTH`.

The Python value by tag: None for null and dont-care; a tuple of `Data` for array and structure; bool; a string of "0" and "1" for
bit-string; int; float; bytes for octet-string, date-time (12), date (5) and time (4); str for visible-string (Latin-1, so any byte
survives) and utf8-string (undecodable bytes survive as surrogate escapes); `CompactArray` for compact-array.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from ..errors import MeterError, RequestError

Buffer = bytes | bytearray | memoryview

MAX_DEPTH = 24
"""Arrays in structures in arrays: no COSEM attribute nests deeper than about ten."""
MAX_COMPACT_ELEMENTS = 250_000
"""Values in one compact array: its counts are free of charge on the wire, so they are bounded apart from its length."""


class Tag(IntEnum):
    """Type tags of IEC 62056-6-2 "Data"."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DELTA_INTEGER = 28
    DELTA_LONG = 29
    DELTA_DOUBLE_LONG = 30
    DELTA_UNSIGNED = 31
    DELTA_LONG_UNSIGNED = 32
    DELTA_DOUBLE_LONG_UNSIGNED = 33
    DONT_CARE = 255


class Data(NamedTuple):
    """One typed value; see the module's list for the Python value of each tag."""

    tag: Tag
    value: Any


class CompactArray(NamedTuple):
    """A compact array: one description for all elements, then the elements without their tags.

    kind: the type description, `(tag, detail)`: detail is None for a simple type, a tuple of descriptions for a structure,
    `(count, description)` for an array. elements: a tuple of `Data`.
    """

    kind: tuple[Tag, Any]
    elements: tuple[Data, ...]


NULL = Data(Tag.NULL, None)


def decode(buffer: Buffer, at: int = 0) -> tuple[Data, int]:
    """One value from `buffer` at `at`: the value and the offset behind it. MeterError where the bytes end early or make no sense."""
    try:
        return _value(buffer, at, 0)
    except (IndexError, struct.error) as error:
        raise MeterError(f"A-XDR value at offset {at} needs more than the {len(buffer)} bytes that came") from error


def decode_all(buffer: Buffer) -> Data:
    """The one value that fills `buffer`. MeterError if anything is left over."""
    data, end = decode(buffer)
    if end != len(buffer):
        raise MeterError(f"{len(buffer) - end} bytes are left over behind the A-XDR value of {end} bytes")
    return data


def encode(data: Data) -> bytes:
    """`data` as bytes, in the one canonical form. RequestError if a value does not fit its tag."""
    out = bytearray()
    try:
        _write(out, data, 0)
    except (struct.error, TypeError, ValueError, KeyError, OverflowError) as error:
        raise RequestError(f"a value does not fit its A-XDR tag: {error}") from error
    return bytes(out)


def read_length(buffer: Buffer, at: int) -> tuple[int, int]:
    """A length (A-XDR and BER definite form, 1 to 5 bytes) and the offset behind it. Not checked against what follows."""
    first = buffer[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if not 1 <= size <= 4:
        raise MeterError(f"length byte 0x{first:02x} at offset {at} is not a length of 1 to 4 bytes")
    end = at + 1 + size
    if end > len(buffer):
        raise MeterError(f"the length at offset {at} is cut short")
    return int.from_bytes(buffer[at + 1 : end], "big"), end


def write_length(length: int) -> bytes:
    """`length` in its shortest form."""
    if length < 0x80:
        return bytes((length,))
    raw = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(raw),)) + raw


def take(buffer: Buffer, at: int) -> tuple[bytes, int]:
    """A string of bytes with its length in front, and the offset behind it."""
    length, at = read_length(buffer, at)
    return _octets(buffer, at, length), at + length


# How each fixed-width type is unpacked: (bytes, struct format).
_WIDTHS: dict[Tag, tuple[int, str]] = {
    Tag.BOOLEAN: (1, ">?"),
    Tag.DOUBLE_LONG: (4, ">i"),
    Tag.DOUBLE_LONG_UNSIGNED: (4, ">I"),
    Tag.BCD: (1, ">B"),
    Tag.INTEGER: (1, ">b"),
    Tag.LONG: (2, ">h"),
    Tag.UNSIGNED: (1, ">B"),
    Tag.LONG_UNSIGNED: (2, ">H"),
    Tag.LONG64: (8, ">q"),
    Tag.LONG64_UNSIGNED: (8, ">Q"),
    Tag.ENUM: (1, ">B"),
    Tag.FLOAT32: (4, ">f"),
    Tag.FLOAT64: (8, ">d"),
    Tag.DATE_TIME: (12, "12s"),
    Tag.DATE: (5, "5s"),
    Tag.TIME: (4, "4s"),
    Tag.DELTA_INTEGER: (1, ">b"),
    Tag.DELTA_LONG: (2, ">h"),
    Tag.DELTA_DOUBLE_LONG: (4, ">i"),
    Tag.DELTA_UNSIGNED: (1, ">B"),
    Tag.DELTA_LONG_UNSIGNED: (2, ">H"),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: (4, ">I"),
}
_TAGS: list[Tag | None] = [None] * 256
for _tag in Tag:
    _TAGS[_tag] = _tag
_FIXED: list[tuple[Tag, int, Callable[[Buffer, int], tuple[Any, ...]]] | None] = [None] * 256
for _tag, (_size, _format) in _WIDTHS.items():
    _FIXED[_tag] = (_tag, _size, struct.Struct(_format).unpack_from)
_PACK = {tag: struct.Struct(form).pack for tag, (_, form) in _WIDTHS.items()}
_PACK_TAGGED = {tag: struct.Struct(">B" + form[1:]).pack for tag, (_, form) in _WIDTHS.items() if form[0] == ">"}
_BYTES_WIDTH = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}
_new: Callable[[tuple[Tag, Any]], Data] = partial(tuple.__new__, Data)


def _value(buffer: Buffer, at: int, depth: int) -> tuple[Data, int]:
    kind = buffer[at]
    fixed = _FIXED[kind]
    if fixed is not None:
        tag, size, unpack = fixed
        return _new((tag, unpack(buffer, at + 1)[0])), at + 1 + size
    if kind == 9:
        value, at = take(buffer, at + 1)
        return _new((Tag.OCTET_STRING, value)), at
    if kind == 2 or kind == 1:
        return _sequence(buffer, at, depth)
    if kind == 0:
        return NULL, at + 1
    known = _TAGS[kind]
    if known is None:
        raise MeterError(f"unknown A-XDR type tag 0x{kind:02x} at offset {at}")
    if known is Tag.DONT_CARE:
        return Data(Tag.DONT_CARE, None), at + 1
    if known is Tag.COMPACT_ARRAY:
        return _compact_array(buffer, at + 1, depth)
    text, at = _text(buffer, at + 1, known)
    return _new((known, text)), at


def _sequence(buffer: Buffer, at: int, depth: int) -> tuple[Data, int]:
    """An array or structure; the loop reads fixed-width members itself, for speed."""
    if depth >= MAX_DEPTH:
        raise MeterError(f"A-XDR data at offset {at} nests deeper than {MAX_DEPTH} levels")
    tag = Tag.STRUCTURE if buffer[at] == 2 else Tag.ARRAY
    count, at = read_length(buffer, at + 1)
    if count > len(buffer) - at:
        raise MeterError(f"{tag.name.lower()} of {count} elements at offset {at}, but only {len(buffer) - at} bytes follow")
    members: list[Data] = []
    append = members.append
    table = _FIXED
    new = _new
    for _ in range(count):
        fixed = table[buffer[at]]
        if fixed is not None:
            append(new((fixed[0], fixed[2](buffer, at + 1)[0])))
            at += 1 + fixed[1]
        else:
            member, at = _value(buffer, at, depth + 1)
            append(member)
    return new((tag, tuple(members))), at


def _octets(buffer: Buffer, at: int, length: int) -> bytes:
    if length > len(buffer) - at:
        raise MeterError(f"a string of {length} bytes at offset {at}, but only {len(buffer) - at} bytes follow")
    return bytes(buffer[at : at + length])


def _text(buffer: Buffer, at: int, tag: Tag) -> tuple[str, int]:
    length, at = read_length(buffer, at)
    if tag is Tag.BIT_STRING:
        raw = _octets(buffer, at, (length + 7) // 8)
        return "".join(f"{octet:08b}" for octet in raw)[:length], at + len(raw)
    raw = _octets(buffer, at, length)
    return raw.decode("latin-1") if tag is Tag.VISIBLE_STRING else raw.decode("utf-8", "surrogateescape"), at + length


def _compact_array(buffer: Buffer, at: int, depth: int) -> tuple[Data, int]:
    kind, at = _description(buffer, at, depth)
    contents, end = take(buffer, at)
    budget = [MAX_COMPACT_ELEMENTS]
    elements: list[Data] = []
    at = 0
    while at < len(contents):
        before = at
        element, at = _described(contents, at, kind, budget)
        if at == before:
            raise MeterError("a compact array describes elements without width but has contents")
        elements.append(element)
    return Data(Tag.COMPACT_ARRAY, CompactArray(kind, tuple(elements))), end


def _description(buffer: Buffer, at: int, depth: int) -> tuple[tuple[Tag, Any], int]:
    """A compact array's type description (IEC 62056-6-2 "TypeDescription")."""
    if depth >= MAX_DEPTH:
        raise MeterError(f"a type description at offset {at} nests deeper than {MAX_DEPTH} levels")
    tag = _TAGS[buffer[at]]
    if tag is None or tag is Tag.COMPACT_ARRAY:
        raise MeterError(f"type tag 0x{buffer[at]:02x} at offset {at} has no place in a type description")
    if tag is Tag.ARRAY:
        count = int.from_bytes(_octets(buffer, at + 1, 2), "big")
        inner, at = _description(buffer, at + 3, depth + 1)
        return (tag, (count, inner)), at
    if tag is Tag.STRUCTURE:
        count, at = read_length(buffer, at + 1)
        if count > len(buffer) - at:
            raise MeterError(f"a described structure of {count} members at offset {at}, but only {len(buffer) - at} bytes follow")
        members = []
        for _ in range(count):
            member, at = _description(buffer, at, depth + 1)
            members.append(member)
        return (tag, tuple(members)), at
    return (tag, None), at + 1


def _described(buffer: bytes, at: int, kind: tuple[Tag, Any], budget: list[int]) -> tuple[Data, int]:
    """One element without tags, as `kind` describes it."""
    tag, detail = kind
    budget[0] -= 1
    if budget[0] < 0:
        raise MeterError(f"a compact array unfolds to more than {MAX_COMPACT_ELEMENTS} values")
    fixed = _FIXED[tag]
    if fixed is not None:
        return Data(tag, fixed[2](buffer, at)[0]), at + fixed[1]
    if tag is Tag.STRUCTURE or tag is Tag.ARRAY:
        kinds: Sequence[tuple[Tag, Any]] = detail if tag is Tag.STRUCTURE else (detail[1],) * detail[0]
        members = []
        for inner in kinds:
            member, at = _described(buffer, at, inner, budget)
            members.append(member)
        return Data(tag, tuple(members)), at
    if tag is Tag.NULL or tag is Tag.DONT_CARE:
        return Data(tag, None), at
    if tag is Tag.OCTET_STRING:
        value, at = take(buffer, at)
        return Data(tag, value), at
    text, at = _text(buffer, at, tag)
    return Data(tag, text), at


def _write(out: bytearray, data: Data, depth: int) -> None:
    tag, value = data
    pack = _PACK_TAGGED.get(tag)
    if pack is not None:
        out += pack(tag, value)
        return
    out.append(tag)
    if tag is Tag.ARRAY or tag is Tag.STRUCTURE:
        if depth >= MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        out += write_length(len(value))
        for member in value:
            _write(out, member, depth + 1)
    elif tag is Tag.COMPACT_ARRAY:
        _write_description(out, value.kind)
        contents = bytearray()
        for element in value.elements:
            _write_described(contents, element, value.kind)
        out += write_length(len(contents)) + contents
    else:
        _write_simple(out, tag, value)


def _write_simple(out: bytearray, tag: Tag, value: Any) -> None:
    """A value that holds no others, without its tag."""
    if tag in _BYTES_WIDTH and len(value) != _BYTES_WIDTH[tag]:
        raise ValueError(f"{tag.name.lower()} takes {_BYTES_WIDTH[tag]} bytes, not {len(value)}")
    pack = _PACK.get(tag)
    if pack is not None:
        out += pack(value)
    elif tag is Tag.OCTET_STRING:
        out += write_length(len(value))
        out += value
    elif tag is Tag.BIT_STRING:
        padded = value + "0" * (-len(value) % 8)
        out += write_length(len(value))
        out += bytes(int(padded[k : k + 8], 2) for k in range(0, len(padded), 8))
    elif tag is Tag.VISIBLE_STRING or tag is Tag.UTF8_STRING:
        raw = value.encode("latin-1") if tag is Tag.VISIBLE_STRING else value.encode("utf-8", "surrogateescape")
        out += write_length(len(raw))
        out += raw
    elif value is not None:
        raise ValueError(f"{Tag(tag).name.lower()} takes no value")


def _write_description(out: bytearray, kind: tuple[Tag, Any]) -> None:
    tag, detail = kind
    out.append(tag)
    if tag is Tag.ARRAY:
        out += struct.pack(">H", detail[0])
        _write_description(out, detail[1])
    elif tag is Tag.STRUCTURE:
        out += write_length(len(detail))
        for member in detail:
            _write_description(out, member)


def _write_described(out: bytearray, data: Data, kind: tuple[Tag, Any]) -> None:
    tag, detail = kind
    if data.tag is not tag:
        raise ValueError(f"a compact array of {tag.name.lower()} holds a {data.tag.name.lower()}")
    if tag is Tag.ARRAY or tag is Tag.STRUCTURE:
        kinds = detail if tag is Tag.STRUCTURE else (detail[1],) * detail[0]
        for member, inner in zip(data.value, kinds, strict=True):
            _write_described(out, member, inner)
    else:
        _write_simple(out, tag, data.value)
