"""Day blocks into Parquet files by a writer of our own: the rows and pages that `write_rows` makes of `block_to_table`, in half its time.

A slot's column is one page to a row group: which values are there as the bits of a mask, then the values by byte streams (BYTE_STREAM_SPLIT). zstd
takes the mask and the upper three bytes; the lowest bytes, where they are noise, are laid down as they are, in a zstd frame of stored blocks.
So a page is up to three zstd frames, one behind the other, which every zstd reader takes as one content (RFC 8878, 3.1). Arrow's
encoder spends two thirds of its time on copies, on nulls, and on trying to compress what cannot be.

What always holds: pyarrow, DuckDB, Polars and Spark read the file (tests/store/test_slots.py); MISSING is null; a page has its CRC-32.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..readings import MISSING, DayBlock, Int32
from .blocks import PAGE_ROWS, slot_names
from .footer import (
    BYTE_ARRAY,
    BYTE_STREAM_SPLIT,
    DELTA_BINARY_PACKED,
    INT32,
    MAGIC,
    PLAIN,
    RLE,
    RLE_DICTIONARY,
    Chunk,
    data_page,
    dictionary_page,
    footer,
)
from .pages import all_there, counting, run, some_there

STORED_BYTES = 131_072
"""The largest block of zstd."""
NOISE_SAMPLE = 8192
NOISE = 128.0
"""As many equally likely bytes, in effect, make a stream noise: what zstd would save of it is below an eighth."""

Bytes = npt.NDArray[np.uint8]


def slot_schema(slots: int) -> pa.Schema:
    """What readers see of a file of day blocks."""
    return pa.schema([("channel", pa.string()), ("meter", pa.int32()), *((name, pa.int32()) for name in slot_names(slots))])


def write_slots(target: Any, blocks: Sequence[DayBlock]) -> None:
    """Day blocks of one (day, shard) with as many slots each, into a file given as a path or a stream. Not synced. OSError where it cannot be."""
    if not isinstance(target, str | Path):
        _Writer(target).write(blocks)
        return
    with Path(target).open("wb") as file:
        _Writer(file).write(blocks)


class _Writer:
    """One file being written; pages go out as they are made."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, 0
        self._codec, self._pool = pa.Codec("zstd", compression_level=1), pa.system_memory_pool()
        self._kept, self._mask, self._streams = (
            np.empty(PAGE_ROWS, np.int32),
            np.empty(PAGE_ROWS // 8, np.uint8),
            np.empty(4 * PAGE_ROWS, np.uint8),
        )
        self._groups: list[list[Chunk]] = []

    def write(self, blocks: Sequence[DayBlock]) -> None:
        self._put(MAGIC)
        for block in blocks:
            values = np.ascontiguousarray(block.values)
            meters = values.shape[1]
            for first in range(0, meters, PAGE_ROWS) if meters else (0,):
                part = values[:, first : first + PAGE_ROWS]
                chunks = [self._channel(block.channel.name, part.shape[1]), self._meter(first, part.shape[1])]
                chunks += [self._slot(name, column) for name, column in zip(slot_names(len(part)), part, strict=True)]
                self._groups.append(chunks)
        self._put(footer(self._groups))

    def _put(self, *parts: Any) -> int:
        octets = 0
        for part in parts:
            self._file.write(part)
            octets += len(part)
        self._at += octets
        return octets

    def _packed(self, octets: Any) -> Any:
        return self._codec.compress(pa.py_buffer(octets), memory_pool=self._pool)

    def _page(self, rows: int, encoding: int, plain: int, parts: Sequence[Any]) -> tuple[int, int]:
        """A data page of packed parts; gives its octets with header, before and after packing."""
        crc, packed = 0, 0
        for part in parts:
            crc, packed = zlib.crc32(part, crc), packed + len(part)
        head = data_page(rows, encoding, plain, packed, crc)
        self._put(head, *parts)
        return len(head) + plain, len(head) + packed

    def _channel(self, name: str, rows: int) -> Chunk:
        """A dictionary of one word, and its number as often as there are rows."""
        word, at = name.encode(), self._at
        entry = len(word).to_bytes(4, "little") + word
        packed = bytes(self._packed(entry))
        head = dictionary_page(1, len(entry), len(packed), zlib.crc32(packed))
        self._put(head, packed)
        data_at, numbers = self._at, all_there(rows) + b"\x01" + run(rows, 0)
        plain, octets = self._page(rows, RLE_DICTIONARY, len(numbers), [bytes(self._packed(numbers))])
        plain, octets = plain + len(head) + len(entry), octets + len(head) + len(packed)
        return Chunk("channel", BYTE_ARRAY, (PLAIN, RLE, RLE_DICTIONARY), rows, 0, at, data_at, plain, octets, word, word)

    def _meter(self, first: int, rows: int) -> Chunk:
        at, page = self._at, counting(first, rows)
        plain, packed = self._page(rows, DELTA_BINARY_PACKED, len(page), [bytes(self._packed(page))])
        least, greatest = (int(n).to_bytes(4, "little", signed=True) for n in (first, first + max(rows - 1, 0)))
        return Chunk("meter", INT32, (DELTA_BINARY_PACKED, RLE), rows, 0, at, at, plain, packed, least, greatest)

    def _slot(self, name: str, column: Int32) -> Chunk:
        at, rows = self._at, column.size
        present = int(_keep(column, self._kept, self._mask))
        streams = self._streams[: 4 * present]
        effective = _split(self._kept[:present], streams)
        if present == rows:
            levels = all_there(rows)
        else:
            levels = some_there(rows) + self._mask[: -(-rows // 8)].tobytes()
        if not present:
            parts = [bytes(self._packed(levels))]
        elif effective < NOISE:
            parts = [bytes(self._packed(levels)), self._packed(streams)]
        else:
            parts = [bytes(self._packed(levels)), *_stored(streams[:present]), self._packed(streams[present:])]
        plain, packed = self._page(rows, BYTE_STREAM_SPLIT, len(levels) + streams.size, parts)
        return Chunk(name, INT32, (BYTE_STREAM_SPLIT, RLE), rows, rows - present, at, at, plain, packed)


def _stored(stream: Bytes) -> list[Any]:
    """A zstd frame of stored blocks: magic, a single segment with its size in four bytes, then the blocks (RFC 8878, 3.1.1)."""
    parts: list[Any] = [b"\x28\xb5\x2f\xfd\xa0" + stream.size.to_bytes(4, "little")]
    for first in range(0, stream.size, STORED_BYTES):
        own = stream[first : first + STORED_BYTES]
        parts += [(own.size << 3 | (first + own.size == stream.size)).to_bytes(3, "little"), own]
    return parts


@nb.njit(nogil=True, cache=True)
def _keep(column: Int32, kept: Int32, mask: Bytes) -> int:
    """The values that are there into `kept`, which of them are into `mask`, lowest bit first; gives how many."""
    at, rows = 0, column.size
    for first in range(0, rows, 8):
        bits = 0
        for k in range(min(8, rows - first)):
            value = column[first + k]
            here = value != MISSING
            kept[at] = value
            at += here
            bits |= here << k
        mask[first >> 3] = bits
    return at


@nb.njit(nogil=True, cache=True)
def _split(values: Int32, streams: Bytes) -> float:
    """All lowest bytes, then all second bytes, and so on. Gives how many different lowest bytes there are in effect: one over the chance that two of
    a sample agree."""
    count = values.size
    for i in range(count):
        streams[i] = values[i] & 0xFF
    for i in range(count):
        streams[count + i] = (values[i] >> 8) & 0xFF
    for i in range(count):
        streams[2 * count + i] = (values[i] >> 16) & 0xFF
    for i in range(count):
        streams[3 * count + i] = (values[i] >> 24) & 0xFF
    counts, sample = np.zeros(256, np.int64), min(count, NOISE_SAMPLE)
    for i in range(sample):
        counts[streams[i]] += 1
    pairs = 0.0
    for one in counts:
        pairs += one * one
    return sample * sample / pairs if sample else 0.0
