"""The history: closed days kept in the order of meters, for "one meter's year". Derived from `validated`, and rebuilt from it at any time.

    history/channel=import_wh/month=2025-12/shard=0/part=000.parquet

A row per meter and day: `meter` (index in the shard), `day`, `values` (a list, one number per slot, null = missing), `quality` (a list of
`Quality` bits, null where the whole day is plain valid). A part holds up to 16,384 meters, a row group four of them (`groups.py` reads one alone).

    history/made/2025-12.0.json

What always holds: every meter of a part has the same days, so a meter's rows are found by counting, not by looking; a part is replaced as a
whole; when all parts of a month and shard are there, `made` names the files of `validated` that they came from, so `behind` tells what a day
closed again, or a rebuild that was stopped, has left stale.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DataError, StorageError
from ..readings import MISSING, Int32, UInt32
from .blocks import BlockFile, Part, read_rows, to_numbers
from .groups import GroupFile, write_indexed
from .lake import Lake
from .places import Local, Place, Write, opened, parquet_file

PART_METERS = 16_384
GROUP_METERS = 4
OPEN_FILES, OFTEN, WHOLE_FOOTERS = 256, 16, 24
ABOUT = b"openami.history"
FOLDER = "history"
MADE = f"{FOLDER}/made"
KEEP_UP_DAYS = 7
COLUMNS = ["values.list.element", "quality.list.element"]


@dataclass(frozen=True, slots=True)
class MeterDays:
    """Days of one meter and channel. values: int32 [day, slot], MISSING where there is none (and after the last slot of a shorter day);
    quality: uint32, same shape, `Quality` bits, None where it was not asked for; slots: how many slots each day has."""

    days: tuple[date, ...]
    slots: tuple[int, ...]
    values: Int32
    quality: UInt32 | None


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One month of one channel of one shard: what is written as a whole."""

    channel: str
    month: date
    shard: int

    @property
    def proof(self) -> str:
        return f"{MADE}/{self.month.isoformat()[:7]}.{self.shard}.json"

    def part(self, number: int) -> str:
        return f"{FOLDER}/channel={self.channel}/month={self.month.isoformat()[:7]}/shard={self.shard}/part={number:03d}.parquet"


class History:
    """The history beside a lake's tables. Open parts are kept, so that asking again is fast, for as long as nobody has written them anew."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._place = lake, lake.place
        self._open: OrderedDict[tuple[Month, int], _OpenPart] = OrderedDict()
        self._often: OrderedDict[tuple[Month, int], _OpenPart] = OrderedDict()
        self._lock = Lock()

    def meter(self, channel: str, shard: int, meter: int, first: date, last: date, *, quality: bool = True) -> MeterDays:
        """The days from `first` to `last` (both included) that the history has of a meter, in order. Days not in it are simply not there:
        `behind` names them, and `validated` has them. DataError where a part is damaged."""
        found = []
        month = first.replace(day=1)
        while month <= last:
            part = self._part(Month(channel, month, shard), meter // PART_METERS)
            if part is not None and meter % PART_METERS < part.meters and (days := part.between(first, last)):
                found.append(part.read(meter % PART_METERS, days, quality))
            month = _next(month)
        return _joined(found)

    def behind(self) -> list[tuple[date, int]]:
        """The (day, shard)s of `validated` that the history does not have as they are now, in order."""
        return self._behind(self._sources())

    def _behind(self, current: dict[tuple[date, int], str]) -> list[tuple[date, int]]:
        held: dict[tuple[date, int], str] = {}
        for proof in self._place.below(MADE):
            shard = int(proof.split(".")[-2])
            held |= {(date.fromisoformat(day), shard): name for day, name in json.loads(self._place.read(proof)).items()}
        return sorted(key for key, path in current.items() if held.get(key) != _last(path))

    def rebuild(self, *, everything: bool = False, threads: int = 2, progress: Callable[[int], None] | None = None) -> list[Month]:
        """Write the months that are behind `validated`, or all of them; gives what was written. StorageError where the disk refuses."""
        current = self._sources()
        wanted = current.keys() if everything else self._behind(current)
        return self._write(sorted({(day.replace(day=1), shard) for day, shard in wanted}), current, threads, progress)

    def keep_up(self, last: date, *, threads: int = 2) -> list[Month]:
        """What is worth writing after `last` was closed: the months that are over by then and are behind, and the running one once a week's days of
        it are. Until then those days are read from `validated`, so nothing is missing meanwhile, and no month is written thirty times."""
        current = self._sources()
        late: dict[tuple[date, int], int] = {}
        for day, shard in self._behind(current):
            late[day.replace(day=1), shard] = late.get((day.replace(day=1), shard), 0) + 1
        over = last + timedelta(days=1)
        due = [(month, shard) for (month, shard), days in late.items() if _next(month) <= over or days >= KEEP_UP_DAYS]
        return self._write(sorted(due), current, threads, None)

    def _write(
        self, months: list[tuple[date, int]], current: dict[tuple[date, int], str], threads: int, progress: Callable[[int], None] | None
    ) -> list[Month]:
        marks = self._sources("validated_quality")
        made: list[Month] = []
        with ThreadPoolExecutor(threads, thread_name_prefix="history") as pool:
            jobs = [pool.submit(self._build, month, shard, current, marks) for month, shard in months]
            for job in jobs:
                made += job.result()
                if progress:
                    progress(1)
        with self._lock:
            self._open.clear()
            self._often.clear()
        return sorted(made)

    def _sources(self, table: str = "validated") -> dict[tuple[date, int], str]:
        """(day, shard) -> its file."""
        if not self._place.has_table(table):
            return {}
        return {at: paths[-1] for at, paths in self._lake.all_files(table).items()}

    def _build(self, month: date, shard: int, current: dict[tuple[date, int], str], quality: dict[tuple[date, int], str]) -> list[Month]:
        days = sorted(day for day, own in current if own == shard and day.replace(day=1) == month)
        files = {day: BlockFile(current[day, shard]) for day in days}
        marks = {day: read_rows(quality[day, shard]) for day in days}
        made = []
        proof = Month("", month, shard).proof
        self._place.discard(proof)
        for channel in sorted({channel for file in files.values() for channel in file.channels}):
            own = [day for day in days if channel in files[day].channels]
            at = Month(channel, month, shard)
            sparse = [_marks(marks[day], channel) for day in own]
            for first, slabs in _slabs([files[day] for day in own], channel):
                for low in range(0, max(len(slab[0]) for slab in slabs), PART_METERS):
                    part = _rows(own, slabs, sparse, first + low, low)
                    _replace(self._place, at.part((first + low) // PART_METERS), part, GROUP_METERS * len(own))
            made.append(at)
        sources = json.dumps({day.isoformat(): _last(current[day, shard]) for day in days})
        _put(self._place, proof, lambda target: _put_text(target, sources))
        return made

    def _part(self, month: Month, number: int) -> _OpenPart | None:
        key, name = (month, number), month.part(number)
        state = self._state(month, name)
        with self._lock:
            kept = self._open.get(key)
            if kept is not None and kept.state == state:
                self._open.move_to_end(key)
                self._count(key, kept)
                return kept
        if state is None or (path := self._place.find(name)) is None:
            return None
        part = _OpenPart(path, state)
        with self._lock:
            self._open[key] = part
            self._often.pop(key, None)
            while len(self._open) > OPEN_FILES:
                self._often.pop(self._open.popitem(last=False)[0], None)
        return part

    def _count(self, key: tuple[Month, int], part: _OpenPart) -> None:
        """Of the parts that are asked for often, the last few have their whole footers."""
        part.asked += 1
        if part.asked < OFTEN:
            return
        if key not in self._often:
            part.open_whole()
        self._often[key] = part
        self._often.move_to_end(key)
        while len(self._often) > WHOLE_FOOTERS:
            _, old = self._often.popitem(last=False)
            old.forget_whole()
            old.asked = 0

    def _state(self, month: Month, name: str) -> object:
        """What changes when a part is written anew; None where there is none. An object store knows times to the second only, so there it is the
        proof, which names the files that the part came from."""
        if isinstance(self._place, Local):
            return self._place.state(name)
        proof = month.proof
        return self._place.read(proof) if self._place.find(proof) else None


class _OpenPart:
    """A part whose row groups are read one at a time, without its footer; one that is asked for often has its whole footer read: answers take half as
    long, and it takes 20 MB. A `ParquetFile` serves one reader at a time, hence the lock."""

    def __init__(self, path: str, state: object) -> None:
        self.path, self.state, self.asked = path, state, 0
        self._whole: pq.ParquetFile | None = None
        self._lock = Lock()
        try:
            self._groups = GroupFile(path)
            found = self._groups.metadata.get(ABOUT)
            if found is None:
                raise DataError(f"{path} is no part of a history; remove it and run `openami history rebuild`")
            about = json.loads(found)
            self.days = [date.fromisoformat(day) for day in about["days"]]
            self.slots: list[int] = about["slots"]
            last = self._groups.groups - 1
            self.meters = last * GROUP_METERS + self._groups.rows(last) // len(self.days)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error

    def between(self, first: date, last: date) -> slice | None:
        low, high = bisect_left(self.days, first), bisect_right(self.days, last)
        return slice(low, high) if low < high else None

    def open_whole(self) -> None:
        try:
            self._whole = parquet_file(opened(self.path))
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from error

    def forget_whole(self) -> None:
        self._whole = None

    def read(self, meter: int, days: slice, with_quality: bool) -> MeterDays:
        group, place = divmod(meter, GROUP_METERS)
        columns, whole = COLUMNS[: 1 + with_quality], self._whole
        try:
            if whole is None:
                rows = self._groups.read(group, columns)
            else:
                with self._lock:
                    rows = whole.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from error
        count = len(self.days)
        own = rows.slice(place * count + days.start, days.stop - days.start)
        slots = self.slots[days]
        shape = len(slots), max(slots)
        values = np.full(shape, MISSING, np.int32)
        _unfold(own["values"], values)
        marks = np.zeros(shape, np.int32)
        if with_quality:
            _unfold(own["quality"], marks)
        return MeterDays(tuple(self.days[days]), tuple(slots), values, marks.view(np.uint32) if with_quality else None)


def _unfold(lists: pa.ChunkedArray, out: Int32) -> None:
    """Lists of numbers into the rows of `out`; a null list leaves its row as it is."""
    column = lists.combine_chunks() if lists.num_chunks != 1 else lists.chunk(0)
    edges = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    flat = to_numbers(column.values)[edges[0] : edges[-1]]
    if flat.size == out.size:
        out[:] = flat.reshape(out.shape)
        return
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    at = 0
    for row, length in zip(out, lengths.tolist(), strict=True):
        row[:length] = flat[at : at + length]
        at += length


def _joined(parts: list[MeterDays]) -> MeterDays:
    """Months behind one another, all as wide as the longest day."""
    wide = max((part.values.shape[1] for part in parts), default=0)

    def behind_one_another(arrays: list[Any], filler: int, kind: type) -> Any:
        padded = [a if a.shape[1] == wide else np.pad(a, ((0, 0), (0, wide - a.shape[1])), constant_values=filler) for a in arrays]
        return np.concatenate([np.empty((0, wide), kind), *padded])

    days = tuple(day for part in parts for day in part.days)
    slots = tuple(count for part in parts for count in part.slots)
    values = behind_one_another([part.values for part in parts], int(MISSING), np.int32)
    if any(part.quality is None for part in parts):
        return MeterDays(days, slots, values, None)
    return MeterDays(days, slots, values, behind_one_another([part.quality for part in parts], 0, np.uint32))


def _slabs(files: list[BlockFile], channel: str) -> Iterator[tuple[int, list[list[Int32]]]]:
    """The same meters of all days at a time: (first meter, for each day the slot columns), days with fewer meters filled up with MISSING."""
    readers = [file.parts(channel) for file in files]
    while True:
        parts: list[Part | None] = [next(reader, None) for reader in readers]
        there = [part for part in parts if part is not None]
        if not there:
            return
        most = max(part.meters for part in there)
        slabs = []
        for part, file in zip(parts, files, strict=True):
            columns = part.columns if part else [np.empty(0, np.int32)] * len(file.slots)
            slabs.append([np.concatenate([c, np.full(most - c.size, MISSING, np.int32)]) if c.size < most else c for c in columns])
        yield there[0].first, slabs


def _marks(sparse: pa.Table, channel: str) -> tuple[Int32, Int32, Int32]:
    """(meter, slot, bits) of a day's values that are not plain valid, in the order of meters."""
    own = sparse.filter(pc.equal(sparse["channel"], channel))
    meter, slot, bits = (own[name].to_numpy().astype(np.int32) for name in ("meter", "slot", "quality"))
    order = np.argsort(meter, kind="stable")
    return meter[order], slot[order], bits[order]


def _rows(days: list[date], slabs: list[list[Int32]], sparse: list[tuple[Int32, Int32, Int32]], first: int, low: int) -> pa.Table:
    """A part's rows. first: the part's first meter; low: where it lies in the slabs."""
    meters = min(PART_METERS, len(slabs[0][0]) - low)
    slots = [len(slab) for slab in slabs]
    edges = np.concatenate([[0], np.cumsum(slots)])
    values, quality = np.empty((meters, edges[-1]), np.int32), np.zeros((meters, edges[-1]), np.int32)
    for k, (slab, (meter, slot, bits)) in enumerate(zip(slabs, sparse, strict=True)):
        values[:, edges[k] : edges[k + 1]] = np.stack([column[low : low + meters] for column in slab]).T
        own = slice(*np.searchsorted(meter, [first, first + meters]))
        quality[meter[own] - first, edges[k] + slot[own]] = bits[own]
    offsets = (np.arange(meters)[:, None] * edges[-1] + edges[:-1]).ravel()
    offsets = np.append(offsets, values.size).astype(np.int32)
    return pa.table(
        {
            "meter": pa.array(np.repeat(np.arange(first, first + meters, dtype=np.int32), len(days))),
            "day": pa.array(np.tile(np.array([day.toordinal() - date(1970, 1, 1).toordinal() for day in days], np.int32), meters)).cast(
                pa.date32()
            ),
            "values": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel(), mask=(values == MISSING).ravel())),
            "quality": _only_marked(offsets, quality, len(days)),
        }
    ).replace_schema_metadata({ABOUT: json.dumps({"days": [d.isoformat() for d in days], "slots": slots}).encode()})


def _only_marked(offsets: Int32, quality: Int32, days: int) -> pa.Array:
    """Lists of bits, null for a meter's day without any."""
    flat = quality.ravel()
    marked = np.add.reduceat(flat != 0, offsets[:-1]) > 0 if flat.size else np.zeros(len(offsets) - 1, np.bool_)
    lengths = np.where(marked, np.diff(offsets), 0)
    own = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    kept = flat[np.repeat(marked, np.diff(offsets))]
    return pa.ListArray.from_arrays(pa.array(own), pa.array(kept), mask=pa.array(~marked))


def _replace(place: Place, name: str, rows: pa.Table, group_rows: int) -> None:
    def write(sink: Any) -> None:
        pq.write_table(
            rows,
            sink,
            row_group_size=group_rows,
            compression="lz4",
            use_dictionary=False,
            column_encoding={"values.list.element": "BYTE_STREAM_SPLIT", "quality.list.element": "DELTA_BINARY_PACKED"},
            write_statistics=["meter", "day"],
            write_page_checksum=True,
        )

    _put(place, name, lambda target: write_indexed(target, write))


def _put(place: Place, name: str, write: Write) -> None:
    """A file in place of the older one: whole and synced, or not at all."""
    try:
        place.write(name, write)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{name} cannot be written into {place} ({error}); free space or give a writable data folder") from error


def _put_text(target: Any, text: str) -> None:
    if isinstance(target, Path):
        target.write_text(text, "utf-8")
    else:
        target.write(text.encode())


def _last(path: str) -> str:
    """A path's last part: the file's own name, which no other file of the table ever has."""
    return path.rsplit("/", 1)[-1]


def _damaged(path: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())[:160]
    return DataError(f"{path} cannot be read ({said}); run `openami history rebuild --all`: it is made from validated again")


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
