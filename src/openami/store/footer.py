"""What a Parquet file says of itself, in Thrift's compact protocol: as much of it as a writer and a reader of our own need.

A struct is a list of (field number, type, value), fields rising; a list is (type of its elements, elements). Source: Apache Parquet's
`parquet.thrift` and Apache Thrift's `thrift-compact-protocol.md`, both Apache-2.0; field numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
MAGIC = b"PAR1"
WRITER = "openami"
INT32, BYTE_ARRAY = 1, 6
PLAIN, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 3, 5, 8, 9
_OPTIONAL, _UTF8, _ZSTD = 1, 0, 6
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2

Struct = Sequence[tuple[int, int, Any]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group, as it lies in the file. kind: INT32 or BYTE_ARRAY; at: where its first page begins; data_at: where its data
    page does; plain, packed: its octets with headers, before and after zstd; least and greatest: None = not told."""

    name: str
    kind: int
    encodings: tuple[int, ...]
    rows: int
    nulls: int
    at: int
    data_at: int
    plain: int
    packed: int
    least: bytes | None = None
    greatest: bytes | None = None


def varint(number: int) -> bytes:
    """An unsigned LEB128 number, number >= 0."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> bytes:
    """A signed number as Thrift and DELTA_BINARY_PACKED write it."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def data_page(values: int, encoding: int, plain: int, packed: int, crc: int) -> bytes:
    """The header of a data page (version 1) with definition levels; crc over the packed octets."""
    told = [(1, I32, values), (2, I32, encoding), (3, I32, RLE), (4, I32, RLE)]
    return _struct([(1, I32, _DATA_PAGE), (2, I32, plain), (3, I32, packed), (4, I32, _signed(crc)), (5, STRUCT, told)])


def dictionary_page(values: int, plain: int, packed: int, crc: int) -> bytes:
    """The header of a dictionary page."""
    told = [(1, I32, values), (2, I32, PLAIN)]
    return _struct([(1, I32, _DICTIONARY_PAGE), (2, I32, plain), (3, I32, packed), (4, I32, _signed(crc)), (7, STRUCT, told)])


@dataclass(frozen=True, slots=True)
class PageHead:
    """The header of a data page. octets: its own; plain, packed: the page's, before and after zstd; crc: over the packed ones."""

    octets: int
    plain: int
    packed: int
    crc: int
    values: int
    encoding: int


def page_head(octets: Sequence[int]) -> PageHead:
    """The header with which `octets` begin. ValueError where that is none of `data_page`."""
    try:
        told, at = _read_struct(octets, 0)
        page = told[5]
        return PageHead(at, told[2], told[3], told[4] & 0xFFFFFFFF, page[1], page[2])
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError("a page does not begin with the header of a data page") from error


def footer(groups: Sequence[Sequence[Chunk]]) -> bytes:
    """All that follows the last page of a file: its schema and row groups, each a Chunk per column, in one order; every column is optional."""
    first = groups[0]
    schema: list[Struct] = [[(4, BINARY, b"schema"), (5, I32, len(first))]]
    for chunk in first:
        text = [(6, I32, _UTF8)] if chunk.kind == BYTE_ARRAY else []
        schema.append([(1, I32, chunk.kind), (3, I32, _OPTIONAL), (4, BINARY, chunk.name.encode()), *text])
    by_type: Struct = [(1, STRUCT, [])]
    said = _struct(
        [
            (1, I32, 2),
            (2, LIST, (STRUCT, schema)),
            (3, I64, sum(group[0].rows for group in groups)),
            (4, LIST, (STRUCT, [_group(group, number) for number, group in enumerate(groups)])),
            (6, BINARY, f"{WRITER} version 1.0.0".encode()),
            (7, LIST, (STRUCT, [by_type] * len(first))),
        ]
    )
    return said + len(said).to_bytes(4, "little") + MAGIC


def _group(chunks: Sequence[Chunk], number: int) -> Struct:
    return [
        (1, LIST, (STRUCT, [[(2, I64, 0), (3, STRUCT, _column(chunk))] for chunk in chunks])),
        (2, I64, sum(chunk.plain for chunk in chunks)),
        (3, I64, chunks[0].rows),
        (5, I64, chunks[0].at),
        (6, I64, sum(chunk.packed for chunk in chunks)),
    ]


def _column(chunk: Chunk) -> Struct:
    told: list[tuple[int, int, Any]] = [
        (1, I32, chunk.kind),
        (2, LIST, (I32, chunk.encodings)),
        (3, LIST, (BINARY, [chunk.name.encode()])),
        (4, I32, _ZSTD),
        (5, I64, chunk.rows),
        (6, I64, chunk.plain),
        (7, I64, chunk.packed),
        (9, I64, chunk.data_at),
    ]
    if chunk.data_at != chunk.at:
        told.append((11, I64, chunk.at))
    if chunk.least is not None and chunk.greatest is not None:
        told.append((12, STRUCT, [(3, I64, chunk.nulls), (5, BINARY, chunk.greatest), (6, BINARY, chunk.least)]))
    return told


def _struct(fields: Struct) -> bytes:
    out, before = bytearray(), 0
    for number, kind, value in fields:
        out.append((number - before) << 4 | kind)
        out += _value(kind, value)
        before = number
    out.append(0)
    return bytes(out)


def _value(kind: int, value: Any) -> bytes:
    if kind == STRUCT:
        return _struct(value)
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind == LIST:
        inner, elements = value
        head = bytes([len(elements) << 4 | inner]) if len(elements) < 15 else bytes([0xF0 | inner]) + varint(len(elements))
        return head + b"".join(_value(inner, element) for element in elements)
    return zigzag(value)


def _read_struct(octets: Sequence[int], at: int) -> tuple[dict[int, Any], int]:
    """Numbers and structs by field number, and where the struct ends. ValueError on any other type."""
    found: dict[int, Any] = {}
    number = 0
    while octets[at]:
        step, kind = octets[at] >> 4, octets[at] & 0x0F
        number += step
        if not step or kind not in (I32, STRUCT):
            raise ValueError("a page's header has a field that our writer does not write")
        found[number], at = _read_struct(octets, at + 1) if kind == STRUCT else _read_zigzag(octets, at + 1)
    return found, at + 1


def _read_zigzag(octets: Sequence[int], at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while True:
        number |= (octets[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if octets[at - 1] < 0x80:
            return number >> 1 ^ -(number & 1), at


def _signed(crc: int) -> int:
    return crc - (1 << 32) if crc >= 1 << 31 else crc
