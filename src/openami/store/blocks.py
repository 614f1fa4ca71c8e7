"""Day blocks as Parquet: a row per (channel, meter), a column per slot, null = missing; and the way back into arrays.

What always holds: the rows of a channel stand in the order of the meter index, and a row group holds one channel only, so that a reader
takes the channel that it wants by the statistics of the row groups; a gap in memory is a null in the file and the other way round.

Why the settings of `BLOCK_FORMAT` (measured in docs/performance.md): BYTE_STREAM_SPLIT lays the lowest bytes of a page's values first, then the
second bytes, and so on. With 131,072 values to a page each of these streams is exactly one block of zstd (128 KiB), so the noisy lowest
bytes are stored as they are and the second bytes get a Huffman code of their own. Pages of other sizes mix the streams and cost a tenth more.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DataError
from ..readings import MISSING, DayBlock, Int32, Quality, UInt32
from .pages import OwnPages
from .places import opened, parquet_file

PAGE_ROWS = 131_072
RISING = ("meter", "slot")
"""Columns of row numbers, which rise from row to row."""
MARKS = ("channel", "meter", "slot", "quality")
"""The columns of values that are not plain valid."""
SLOT = re.compile(r"s\d\d+")
WAY_OUT = "another version or program wrote it: restore the file, or write that day again"


def slot_names(slots: int) -> list[str]:
    """Column names of a day block's slots: s00, s01 ... (three digits for a day of more than 100 slots)."""
    digits = max(2, len(str(slots - 1)))
    return [f"s{k:0{digits}d}" for k in range(slots)]


def block_to_table(block: DayBlock) -> pa.Table:
    """One day block as rows; the numbers are not copied, MISSING becomes null by a mask over them."""
    slots, meters = block.values.shape
    columns: dict[str, pa.Array] = {
        "channel": _repeated(block.channel.name, meters),
        "meter": pa.array(np.arange(meters, dtype=np.int32)),
    }
    for name, values in zip(slot_names(slots), np.ascontiguousarray(block.values), strict=True):
        columns[name] = _masked(values)
    return pa.table(columns)


def blocks_to_table(blocks: Sequence[DayBlock]) -> pa.Table:
    """Day blocks of one (day, shard), one or more channels, to rows per (channel, meter); MISSING becomes null."""
    return pa.concat_tables([block_to_table(block) for block in blocks])


def quality_to_table(block: DayBlock) -> pa.Table:
    """The values of a day block that are not plain valid, as rows (channel, meter, slot, quality), by slot, then by meter."""
    quality = np.ascontiguousarray(block.quality)
    marked = _count_marked(quality)
    slot, meter, bits = np.empty(marked, np.int16), np.empty(marked, np.int32), np.empty(marked, np.int32)
    _gather_marked(quality, slot, meter, bits)
    return pa.table(
        {
            "channel": _repeated(block.channel.name, marked),
            "meter": pa.array(meter),
            "slot": pa.array(slot),
            "quality": pa.array(bits),
        }
    )


def _repeated(name: str, count: int) -> pa.Array:
    """`name` `count` times, as a dictionary of one word, which costs nothing per row in memory or in the file."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array([name], pa.string()))


def _masked(values: Int32) -> pa.Array:
    present = values != MISSING
    missing = values.size - int(np.count_nonzero(present))
    mask = pa.py_buffer(np.packbits(present, bitorder="little")) if missing else None
    return pa.Array.from_buffers(pa.int32(), values.size, [mask, pa.py_buffer(values)], missing)


# Files


def write_rows(target: Any, parts: Sequence[pa.Table]) -> None:
    """Tables of one schema into one file, given as a path or a stream, each starting a row group of its own.

    Not synced. Dictionaries become plain strings for readers. A column without nulls is written as one that has none, which spares the marks for
    them: a third of the time of a column of numbers.

    Buffers come from the system's allocator: Arrow's own gives memory back at once, and clearing new pages then costs a fifth of the time."""
    schema = _nullable(parts[0].schema, [any(part.column(k).null_count for part in parts) for k in range(parts[0].num_columns)])
    with pq.ParquetWriter(target, schema, memory_pool=pa.system_memory_pool(), **_format(schema)) as writer:
        for part in parts:
            writer.write_table(pa.Table.from_arrays(part.columns, schema=schema), row_group_size=PAGE_ROWS)
        if schema.metadata and _has_dictionaries(schema):  # then Arrow's schema is left out, and what it says of the file with it
            writer.add_key_value_metadata(schema.metadata)


def read_rows(path: str | Path, columns: Sequence[str] | None = None, coded: Sequence[str] = ()) -> pa.Table:
    """The rows of one file of the lake, without its partition columns; of `columns` those that the file has, None = all; those named in `coded`
    as dictionaries. DataError where it is damaged. One thread: whoever reads many files does so from threads of its own."""
    try:
        with parquet_file(opened(path), coded) as file:
            own = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
            rows = file.read(own, use_threads=False)
            return pa.Table.from_arrays(rows.columns, schema=_nullable(rows.schema, [True] * rows.num_columns))
    except KeyError as error:  # Arrow's word for one of `coded` that is not there
        raise DataError(f"{path} has no column {error.args[0].decode()}; {WAY_OUT}") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())[:200]}); close that day again or restore the file"
        ) from error


def need_columns(path: str, found: pa.Schema, known: Mapping[str, pa.DataType], needed: Sequence[str]) -> None:
    """DataError where a file has a column that its table does not know, or as another type, or lacks one of `needed`: any other that it lacks is
    younger than the file."""
    if lacking := [name for name in needed if name not in found.names]:
        raise DataError(f"{path} has no column {', '.join(lacking)}; {WAY_OUT}")
    for field in found:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name not in known:
            raise DataError(f"{path} has a column {field.name!r}, which its table does not know; {WAY_OUT}")
        if kind != known[field.name] and not (pa.types.is_nested(kind) or pa.types.is_temporal(kind)):
            raise DataError(f"{path} has {field.name} as {kind}, which its table has as {known[field.name]}; {WAY_OUT}")


def marks_of(path: str | Path, channel: str, meter: int) -> pa.Table:
    """Slots and quality bits of one meter's values that are not plain valid, out of the row groups that may have them. DataError where the file is
    damaged."""
    wanted = {"channel": channel, "meter": meter}
    try:
        with parquet_file(opened(path)) as file:
            groups = [group for group in range(file.num_row_groups) if _may_hold(file.metadata.row_group(group), wanted)]
            rows = file.read_row_groups(groups, MARKS, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())[:200]}); close that day again or restore the file"
        ) from error
    return rows.filter(pc.and_(pc.equal(rows["meter"], meter), pc.equal(rows["channel"], channel)))


def _may_hold(group: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a row group's statistics leave room for a row with these values."""
    columns = (group.column(k) for k in range(group.num_columns))
    found = {each.path_in_schema: each.statistics for each in columns if each.path_in_schema in wanted}
    return all(s is None or not s.has_min_max or s.min <= wanted[name] <= s.max for name, s in found.items())


def _nullable(schema: pa.Schema, nullable: Sequence[bool]) -> pa.Schema:
    """The same schema, with other words about which columns may have nulls."""
    return pa.schema([field.with_nullable(one) for field, one in zip(schema, nullable, strict=True)], metadata=schema.metadata)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as readers see it: without dictionaries, which only save room, and without what a file says of itself."""
    fields = [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type, f.nullable) for f in schema]
    return pa.schema(fields)


_PAGES = {"max_rows_per_page": PAGE_ROWS} if "max_rows_per_page" in inspect.signature(pq.ParquetWriter.__init__).parameters else {}


def _format(schema: pa.Schema) -> dict[str, Any]:
    """How the columns of a table are packed: slots and whole numbers by byte streams, row numbers as differences, dictionaries as they come,
    everything else plain. (Looking for a dictionary where there is none costs more than all the rest.)"""
    slots = [f.name for f in schema if pa.types.is_int32(f.type) and SLOT.fullmatch(f.name)]
    whole = [f.name for f in schema if pa.types.is_int64(f.type) or pa.types.is_timestamp(f.type) or pa.types.is_date32(f.type)]
    whole += [f.name for f in schema if pa.types.is_int32(f.type) and f.name not in slots and f.name not in RISING]
    whole += [f.name for f in schema if pa.types.is_float64(f.type)]
    rising = [name for name in RISING if name in schema.names]
    encoding = dict.fromkeys([*slots, *whole], "BYTE_STREAM_SPLIT") | dict.fromkeys(rising, "DELTA_BINARY_PACKED")
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [f.name for f in schema if pa.types.is_dictionary(f.type)] or False,
        "dictionary_pagesize_limit": 256 * PAGE_ROWS,
        "column_encoding": encoding or None,
        "write_statistics": [f.name for f in schema if f.name not in slots],
        "write_page_checksum": True,
        "store_schema": not _has_dictionaries(schema),
        "data_page_size": 8 * PAGE_ROWS,
        **_PAGES,
    }


def _has_dictionaries(schema: pa.Schema) -> bool:
    return any(pa.types.is_dictionary(field.type) for field in schema)


@dataclass(frozen=True, slots=True)
class Part:
    """Meters first, first + 1 ... of one channel, as one row group holds them: an int32 array [meter] per slot, MISSING where null."""

    first: int
    columns: list[Int32]

    @property
    def meters(self) -> int:
        return int(self.columns[0].size)

    def column_of(self, meter: int) -> Int32:
        """One meter's slots, int32 [slot]."""
        return np.array([column[meter - self.first] for column in self.columns], np.int32)


class BlockFile:
    """One file of day blocks, open for reading. DataError where it is damaged or holds no day blocks."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            source = opened(path)
            self._file = parquet_file(source)
            self._own = OwnPages.of(source, self._file.metadata)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        names = self._file.schema_arrow.names
        self.slots = sorted((n for n in names if SLOT.fullmatch(n)), key=lambda n: int(n[1:]))
        if "channel" not in names or "meter" not in names or not self.slots:
            raise DataError(f"{path} is no file of day blocks (columns {', '.join(names[:4])} ...); name the table raw or validated")
        self._need_our_columns()
        self._channel = [self._channel_of(group) for group in range(self._file.num_row_groups)]

    @property
    def channels(self) -> list[str]:
        """The channels in the file, in its order."""
        return list(dict.fromkeys(self._channel))

    def meters(self, channel: str) -> int:
        """How many meters of `channel` there are; 0 where the file does not have it."""
        return sum(self._rows(group) for group in self._groups(channel))

    def parts(self, channel: str) -> Iterator[Part]:
        """The channel row group by row group: at most 131,072 meters at a time, for kernels that take columns."""
        first = 0
        for group in self._groups(channel):
            yield self._part(group, channel, first)
            first += self._rows(group)

    def values_of(self, channel: str, meter: int) -> Int32 | None:
        """One meter's slots, int32 [slot], out of its row group alone; None where the file does not have it."""
        first = 0
        for group in self._groups(channel):
            if meter < first + self._rows(group):
                return self._part(group, channel, first).column_of(meter)
            first += self._rows(group)
        return None

    def values_among(self, channel: str, meters: npt.NDArray[np.int64]) -> Int32:
        """Some meters' slots, int32 [meter, slot] in the order of `meters`, all of which the file has; row group by row group."""
        out, first = np.empty((meters.size, len(self.slots)), np.int32), 0
        for group in self._groups(channel):
            own = np.flatnonzero((meters >= first) & (meters < first + self._rows(group)))
            if own.size:
                for slot, column in enumerate(self._part(group, channel, first).columns):
                    out[own, slot] = column[meters[own] - first]
            first += self._rows(group)
        return out

    def _part(self, group: int, channel: str, first: int) -> Part:
        if self._own is not None:
            block = np.empty((len(self.slots), self._rows(group)), np.int32)
            self._read_own(self._own, group, first, block)
            return Part(first, list(block))
        rows = self._read(group, channel, first)
        return Part(first, [_numbers(rows[name]) for name in self.slots])

    def values(self, channel: str, room: Callable[[tuple[int, int]], Int32] | None = None) -> Int32:
        """The whole channel as a day block's values, int32 [slot, meter]; `room` gives the array of that shape to put them into, or of its first
        slots, which alone are read then."""
        shape = len(self.slots), self.meters(channel)
        block = np.empty(shape, np.int32) if room is None else room(shape)
        first = 0
        for group in self._groups(channel):
            part = block[:, first : first + self._rows(group)]
            if self._own is not None:
                self._read_own(self._own, group, first, part)
            else:
                rows = self._read(group, channel, first)
                for row, name in zip(part, self.slots[: len(part)], strict=True):
                    _put(rows[name], row)
            first += self._rows(group)
        return block

    def told(self, channel: str) -> int:
        """How many slots there are up to the last of which any meter of `channel` has a value."""
        groups, count = self._groups(channel), len(self.slots)
        return next((slot + 1 for slot in reversed(range(count)) if any(self._told(group, slot) for group in groups)), 0)

    def _told(self, group: int, slot: int) -> bool:
        try:
            if self._own is not None:
                return self._own.told(group, slot, self._rows(group))
            column = self._file.read_row_group(group, columns=[self.slots[slot]], use_threads=False).column(0)
            return bool(column.null_count < len(column))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def _need_our_columns(self) -> None:
        """DataError where a slot is lacking, or a number is not what we would read it as: another version or program wrote the file."""
        schema = self._file.schema_arrow
        if self.slots != slot_names(len(self.slots)):
            lacking = next(name for name in slot_names(len(self.slots)) if name not in self.slots)
            raise DataError(f"{self.path} has {len(self.slots)} slots and {lacking} is not among them; {WAY_OUT}")
        for name in ("meter", *self.slots):
            if (kind := schema.field(name).type) != pa.int32():
                raise DataError(f"{self.path} has {name} as {kind}, which day blocks have as int32; {WAY_OUT}")

    def _rows(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    def _groups(self, channel: str) -> list[int]:
        return [group for group, name in enumerate(self._channel) if name == channel]

    def _channel_of(self, group: int) -> str:
        found = self._file.metadata.row_group(group).column(self._file.schema_arrow.get_field_index("channel")).statistics
        if found is None or not found.has_min_max or found.min != found.max:
            raise DataError(f"{self.path} mixes channels in one row group, as earlier versions wrote; collect and close that day again")
        return str(found.min)

    def _read_own(self, pages: OwnPages, group: int, first: int, out: Int32) -> None:
        try:
            pages.read(group, first, out)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def _read(self, group: int, channel: str, first: int) -> pa.Table:
        """A row group of another writer's, whose meters must begin with `first` and be in order."""
        try:
            rows = self._file.read_row_group(group, columns=["meter", *self.slots], use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        if not _counts_up(_numbers(rows["meter"]), first):
            raise DataError(f"{self.path} does not hold the meters of {channel} in order; write that day again")
        return rows

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} cannot be read ({' '.join(str(error).split())[:200]}); close that day again or restore the file")


def _numbers(column: pa.ChunkedArray) -> Int32:
    """An int32 column as an array, MISSING where null; not copied where nothing is null."""
    parts = [to_numbers(chunk) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])


def _put(column: pa.ChunkedArray, out: Int32) -> None:
    """An int32 column into `out`, MISSING where null."""
    at = 0
    for chunk in column.chunks:
        mask, octets = chunk.buffers()
        own = out[at : at + len(chunk)]
        at += len(chunk)
        if octets is None:
            own[:] = MISSING
            continue
        values = np.frombuffer(octets, np.int32)[chunk.offset : chunk.offset + len(chunk)]
        if chunk.null_count == 0:
            own[:] = values
        else:
            _put_gaps(values, np.frombuffer(mask, np.uint8), chunk.offset, own)


def to_numbers(chunk: pa.Array) -> Int32:
    """An int32 Arrow array as a NumPy one, MISSING where null; a view where nothing is null."""
    mask, octets = chunk.buffers()
    if octets is None:
        return np.full(len(chunk), MISSING, np.int32)
    values = np.frombuffer(octets, np.int32)[chunk.offset : chunk.offset + len(chunk)]
    if chunk.null_count == 0:
        return values
    out = np.empty(len(chunk), np.int32)
    _put_gaps(values, np.frombuffer(mask, np.uint8), chunk.offset, out)
    return out


@nb.njit(nogil=True, cache=True)
def _put_gaps(values: Int32, mask: npt.NDArray[np.uint8], offset: int, out: Int32) -> None:
    """out = values, MISSING where the bit of the mask (least significant first, from `offset` on) is not set."""
    for i in range(values.size):
        bit = i + offset
        out[i] = values[i] if (mask[bit >> 3] >> (bit & 7)) & 1 else MISSING


@nb.njit(nogil=True, cache=True)
def _counts_up(numbers: Int32, first: int) -> bool:
    wrong = 0
    for i in range(numbers.size):
        wrong += numbers[i] != first + i
    return wrong == 0


def estimates_in(path: str | Path) -> bool:
    """Whether rows of quality bits may speak of estimated values, by the file's statistics. DataError where it is damaged."""
    try:
        with parquet_file(opened(path)) as file:
            at = file.schema_arrow.get_field_index("quality")
            found = [file.metadata.row_group(group).column(at).statistics for group in range(file.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read ({' '.join(str(error).split())[:200]}); close that day again or restore the file"
        ) from error
    return any(one is None or not one.has_min_max or one.min < 0 or one.max >= Quality.ESTIMATED_LINEAR for one in found)


def dense_quality(sparse: pa.Table, channel: str, shape: tuple[int, int]) -> UInt32:
    """Sparse quality rows of a (day, shard) as uint32 [slot, meter] of one channel, 0 where there is no row. DataError where a row is of no slot or
    meter of these."""
    quality = np.zeros(shape, np.uint32)
    marks = sparse.filter(pc.equal(sparse["channel"], channel))
    slot, meter = marks["slot"].to_numpy(), marks["meter"].to_numpy()
    if marks.num_rows and not (0 <= slot.min() <= slot.max() < shape[0] and 0 <= meter.min() <= meter.max() < shape[1]):
        raise DataError(f"quality rows of {channel} name slots or meters beyond the {shape[0]} x {shape[1]} of the day; {WAY_OUT}")
    quality[slot, meter] = marks["quality"].to_numpy().astype(np.uint32)
    return quality


@nb.njit(nogil=True, cache=True)
def _count_marked(quality: npt.NDArray[np.uint32]) -> int:
    count = 0
    for t in range(quality.shape[0]):
        for m in range(quality.shape[1]):
            count += quality[t, m] != 0
    return count


@nb.njit(nogil=True, cache=True)
def _gather_marked(quality: npt.NDArray[np.uint32], slot: npt.NDArray[np.int16], meter: Int32, bits: Int32) -> None:
    at = 0
    for t in range(quality.shape[0]):
        for m in range(quality.shape[1]):
            if quality[t, m] != 0:
                slot[at], meter[at], bits[at] = t, m, np.int32(quality[t, m])
                at += 1
