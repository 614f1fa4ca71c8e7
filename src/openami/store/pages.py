"""Pages of the files that `slots.py` writes: what stands in them beside the numbers, and their way back into arrays in two thirds of Arrow's time.

Arrow puts a page down four times on its way: unpacked, put together from its byte streams, spread over the gaps, and as an array. Here it goes from
the unpacked page into the row of the array. A file by another writer has no `OwnPages`, and Arrow reads it.

What always holds: a page is believed only where its checksum, its header and its mask agree; the file is mapped, not copied.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..readings import MISSING, Int32
from .footer import BYTE_STREAM_SPLIT, DELTA_BINARY_PACKED, WRITER, page_head, varint, zigzag

HEAD_OCTETS = 64
"""More than the header of any page that is ours."""
AT_ONCE = 8
"""Values put down together; so many may be read beyond the last."""
_DELTAS = 128

Bytes = npt.NDArray[np.uint8]


class OwnPages:
    """A file of our own writer's on this machine."""

    def __init__(self, path: Path, metadata: pq.FileMetaData) -> None:
        self._metadata, self._codec = metadata, pa.Codec("zstd")
        self._octets = memoryview(pa.memory_map(str(path)).read_buffer()).cast("B")

    @staticmethod
    def of(source: object, metadata: pq.FileMetaData) -> OwnPages | None:
        """Of a path, where our writer has written the file; None for any other file, and for an open one (it lies in an object store). OSError where
        it is not there."""
        if not isinstance(source, str | Path) or not (metadata.created_by or "").startswith(WRITER):
            return None
        return OwnPages(Path(source), metadata)

    def read(self, group: int, first: int, out: Int32) -> None:
        """A row group's slots into `out`, int32 [slot, row of the group], MISSING where null; its first row is that of the meter index `first`.
        ValueError, OSError or ArrowException where the file does not hold what our writer would have written."""
        rows = out.shape[1]
        if self._page(group, 1, DELTA_BINARY_PACKED, rows).tobytes() != counting(first, rows):
            raise ValueError(f"row group {group} does not hold {rows} meters in order from {first} on")
        kept = np.empty(rows + AT_ONCE, np.int32)
        for slot, row in enumerate(out):
            if not _put(self._page(group, 2 + slot, BYTE_STREAM_SPLIT, rows), kept, row):
                raise ValueError(f"the values and the gaps of slot {slot} in row group {group} do not make {rows}")

    def told(self, group: int, slot: int, rows: int) -> bool:
        """Whether any of a slot's values in a row group of so many rows is there. Errors as in `read`."""
        page = self._page(group, 2 + slot, BYTE_STREAM_SPLIT, rows)
        every = all_there(rows)
        return page[: len(every)].tobytes() == every or page.size > len(some_there(rows)) + -(-rows // AT_ONCE)

    def _page(self, group: int, column: int, encoding: int, rows: int) -> Bytes:
        """A column's only page, unpacked; by the system's allocator, which has the room at hand again for the next."""
        at = self._metadata.row_group(group).column(column).data_page_offset
        head = page_head(self._octets[at : at + HEAD_OCTETS])
        packed = self._octets[at + head.octets : at + head.octets + head.packed]
        if (head.encoding, head.values) != (encoding, rows) or zlib.crc32(packed) != head.crc:
            raise ValueError(f"the page of column {column} in row group {group} is not what its header says")
        return np.frombuffer(self._codec.decompress(packed, head.plain, memory_pool=pa.system_memory_pool()), np.uint8)


def all_there(rows: int) -> bytes:
    """How a page of `rows` values begins, none of which is missing."""
    levels = run(rows, 1)
    return len(levels).to_bytes(4, "little") + levels


def some_there(rows: int) -> bytes:
    """How a page of `rows` values begins, some of which are missing; the mask of those that are there follows, a bit for each."""
    octets = -(-rows // 8)
    head = varint(octets << 1 | 1)
    return (len(head) + octets).to_bytes(4, "little") + head


def counting(first: int, rows: int) -> bytes:
    """The page of the numbers first, first + 1 ...: differences of one, for which a block needs no bits."""
    blocks = -(-max(rows - 1, 0) // _DELTAS)
    return all_there(rows) + varint(_DELTAS) + varint(4) + varint(rows) + zigzag(first) + (zigzag(1) + bytes(4)) * blocks


def run(rows: int, value: int) -> bytes:
    """`rows` times one value of at most a bit, as a run."""
    return varint(rows << 1) + bytes([value])


def _put(page: Bytes, kept: Int32, row: Int32) -> bool:
    """An unpacked page into `row` by way of `kept`; False where it is no page of so many values."""
    every, gaps = all_there(row.size), some_there(row.size)
    if page.size == len(every) + 4 * row.size and page[: len(every)].tobytes() == every:
        _join(page[len(every) :], row)
        return True
    mask = page[len(gaps) : len(gaps) + -(-row.size // AT_ONCE)]
    streams = page[len(gaps) + mask.size :]
    if page[: len(gaps)].tobytes() != gaps or streams.size % 4 or streams.size > 4 * row.size:
        return False
    _join(streams, kept[: streams.size // 4])
    return bool(_spread(kept, mask, row) == streams.size // 4)


@nb.njit(nogil=True, cache=True)
def _join(streams: Bytes, values: Int32) -> None:
    """Numbers from their byte streams, lowest bytes first."""
    count = values.size
    for i in range(count):
        low = np.uint32(streams[i]) | np.uint32(streams[count + i]) << np.uint32(8)
        high = np.uint32(streams[2 * count + i]) << np.uint32(16) | np.uint32(streams[3 * count + i]) << np.uint32(24)
        values[i] = np.int32(low | high)


@nb.njit(nogil=True, cache=True)
def _spread(kept: Int32, mask: Bytes, row: Int32) -> int:
    """row = the kept values where the mask has a bit, lowest first, MISSING elsewhere; gives how many bits there were. Eight values are put down
    as if none were missing, for most often none is; then those of a byte with a gap again."""
    at, whole = 0, row.size // AT_ONCE
    for octet in range(whole):
        bits = mask[octet]
        eight, values = row[AT_ONCE * octet : AT_ONCE * octet + AT_ONCE], kept[at : at + AT_ONCE]
        for k in range(AT_ONCE):
            eight[k] = values[k]
        if bits == 255:
            at += AT_ONCE
            continue
        for k in range(AT_ONCE):
            there = (bits >> k) & 1
            eight[k] = kept[at] if there else MISSING
            at += there
    for i in range(AT_ONCE * whole, row.size):
        there = (mask[whole] >> (i - AT_ONCE * whole)) & 1
        row[i] = kept[at] if there else MISSING
        at += there
    return at
