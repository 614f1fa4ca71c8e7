"""One row group of a Parquet file that has thousands, read without what the footer says of the others.

A footer that tells of 4,096 row groups takes 20 ms to read, and as long to forget; what it says of one of them is 300 octets. So the places of these
are written in front of the footer, where readers of Parquet pass over them, and a reader of one group puts together a footer that tells of it alone:

    row groups | places, u32 each: of the list of groups, of each group, of what follows them | how many, u32 | OAGI | footer | its length | PAR1

What always holds: the file is Parquet as everybody reads it; one without places is read by looking through its footer once. Places count from the
footer's first octet. Source: Apache Parquet's `parquet.thrift` (FileMetaData.row_groups is field 4) and the compact protocol of Apache Thrift.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..readings import Int64
from .places import opened

Int16 = npt.NDArray[np.int16]
OURS, MAGIC = b"OAGI", b"PAR1"
LIST_OF_ONE, LIST_OF_NONE, STOP = bytes([0x19, 0x1C]), bytes([0x19, 0x0C]), bytes(1)
"""Field 4 after field 3, a list of one struct and of none; the end of the outermost struct."""


def write_indexed(target: Any, write: Callable[[Any], object]) -> None:
    """What `write` writes into a stream, with the places of its row groups, into a path or stream."""
    sink = pa.BufferOutputStream()
    write(sink)
    whole = sink.getvalue()
    length = int.from_bytes(whole[-8:-4].to_pybytes(), "little")
    at = whole.size - 8 - length
    places = _places(whole.slice(at, length)).astype("<u4")
    pieces = (whole.slice(0, at), places.tobytes() + len(places).to_bytes(4, "little") + OURS, whole.slice(at))
    if isinstance(target, Path):
        with target.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    else:
        for piece in pieces:
            target.write(piece)


class GroupFile:
    """A Parquet file, open for reading single row groups. OSError or ArrowException where it is none, or damaged. Calls may come from several
    threads."""

    def __init__(self, path: str) -> None:
        where = opened(path)
        self._source = pa.OSFile(where) if isinstance(where, str | Path) else where
        size = self._source.size()
        end = self._source.read_at(min(8, size), max(0, size - 8))
        length = int.from_bytes(end[:4], "little")
        if end[4:] != MAGIC or length > size - 12:
            raise pa.ArrowInvalid("it does not end as a Parquet file does")
        self._footer_at, self._length = size - 8 - length, length
        self._places = self._find_places()
        self._before = self._source.read_at(int(self._places[0]), self._footer_at)

    @property
    def groups(self) -> int:
        return self._places.size - 2

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What the file says of itself beside its schema."""
        behind = self._source.read_at(self._length - int(self._places[-1]), self._footer_at + int(self._places[-1]))
        return pq.read_metadata(_footer_alone(self._before + LIST_OF_NONE + behind)).metadata or {}

    def rows(self, group: int) -> int:
        """How many rows a group has."""
        return int(self._file_of(group).metadata.row_group(0).num_rows)

    def read(self, group: int, columns: list[str]) -> pa.Table:
        """The rows of one group."""
        return self._file_of(group).read_row_group(0, columns=columns, use_threads=False)

    def _file_of(self, group: int) -> pq.ParquetFile:
        first, after = int(self._places[1 + group]), int(self._places[2 + group])
        told = self._source.read_at(after - first, self._footer_at + first)
        alone = pq.read_metadata(_footer_alone(self._before + LIST_OF_ONE + told + STOP))
        return pq.ParquetFile(self._source, metadata=alone, page_checksum_verification=True)

    def _find_places(self) -> Int64:
        mark = self._source.read_at(8, self._footer_at - 8) if self._footer_at >= 12 else b""
        if mark[4:] == OURS:
            octets = 4 * int.from_bytes(mark[:4], "little")
            return np.frombuffer(self._source.read_at(octets, self._footer_at - 8 - octets), "<u4").astype(np.int64)
        return _places(self._source.read_at(self._length, self._footer_at))


def _footer_alone(footer: bytes) -> pa.BufferReader:
    """A file of nothing but a footer."""
    return pa.BufferReader(MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC)


def _places(footer: bytes | pa.Buffer) -> Int64:
    """Where a footer's list of row groups begins (with its header), each of them, and what follows them. ArrowInvalid where it has none."""
    found: Int64 = _walk(np.frombuffer(footer, np.uint8).astype(np.int16))
    if found.size < 3:
        raise pa.ArrowInvalid("its footer tells of no row group")
    return found


@nb.njit(cache=True)
def _varint(octets: Int16, at: int) -> tuple[int, int]:
    """(value, the place behind it)."""
    value, shift = 0, 0
    while at < octets.size:
        value |= int(octets[at] & 0x7F) << shift
        shift += 7
        at += 1
        if octets[at - 1] < 0x80:
            break
    return value, at


@nb.njit(cache=True)
def _list(octets: Int16, at: int) -> tuple[int, int, int]:
    """A list's head: (elements, their type, the place behind it)."""
    count, kind = int(octets[at] >> 4), int(octets[at] & 15)
    if count == 15:
        count, at = _varint(octets, at + 1)
        return count, kind, at
    return count, kind, at + 1


@nb.njit(cache=True)
def _skip(octets: Int16, at: int, kind: int) -> int:
    """The place behind a value. Open structs and lists are held on a stack: left < 0 = a struct, else a list's elements that are still to come."""
    left, kinds, depth = np.zeros(64, np.int64), np.zeros(64, np.int64), 0
    pending = kind
    while at <= octets.size:
        if pending in (4, 5, 6):
            _, at = _varint(octets, at)
        elif pending == 3:
            at += 1
        elif pending == 7:
            at += 8
        elif pending == 8:
            size, at = _varint(octets, at)
            at += size
        elif pending in (9, 10):
            count, inner, at = _list(octets, at)
            left[depth], kinds[depth], depth = count, inner, depth + 1
        elif pending == 12:
            left[depth], depth = -1, depth + 1
        pending = 0
        if depth == 0 or depth == left.size:
            break
        if left[depth - 1] < 0:
            head = int(octets[at])
            at += 1
            if head == 0:
                depth -= 1
                continue
            if head >> 4 == 0:
                _, at = _varint(octets, at)
            pending = head & 15
        elif left[depth - 1] == 0:
            depth -= 1
        else:
            left[depth - 1] -= 1
            pending = kinds[depth - 1] if kinds[depth - 1] > 2 else 3  # a truth in a list is an octet of its own
    return at


@nb.njit(cache=True)
def _walk(octets: Int16) -> Int64:
    at, field = 0, 0
    while at < octets.size and octets[at] != 0:
        begin, kind = at, int(octets[at] & 15)
        if octets[at] >> 4 == 0:
            number, at = _varint(octets, at + 1)
            field = (number >> 1) ^ -(number & 1)
        else:
            field += int(octets[at] >> 4)
            at += 1
        if field == 4:
            count, inner, at = _list(octets, at)
            found = np.empty(count + 2, np.int64)
            found[0] = begin
            for k in range(count):
                found[1 + k] = at
                at = _skip(octets, at, inner)
            found[1 + count] = at
            return found
        at = _skip(octets, at, kind)
    return np.empty(0, np.int64)
