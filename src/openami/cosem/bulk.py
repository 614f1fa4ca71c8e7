"""The bulk path: many push frames in one buffer -> readings in arrays, ready for day grids. The session path's decoder stays the judge of the rest.

In: frames (wrapper frames or bare APDUs) one behind the other, and a `KeyTable` with a row per meter. Out: `BulkResult`: a verdict per frame,
and the rows of the frames that were taken in. What always holds:
- a frame that is taken in gives what `push.read_push` gives for it; a frame that no template knows is not refused but handed back
  (`Verdict.GENERAL`), and what the general decoder learns from it (`BulkDecoder.learn`) is known from the next batch on;
- an invocation counter must grow, in the order of the buffer; it moves only for a frame whose tag holds (0x30) or whose plain bytes have
  a known form (0x20: no tag, so no other proof). Behind a frame that was handed back, its meter's later frames are handed back too, so
  that the general decoder sees them in their order;
- the result does not depend on the number of threads, nor on whether libcrypto's functions were found.

    bulk_cipher.py    AES-GCM undone in a compiled loop
    bulk_template.py  what an APDU of a known form looks like
    bulk_loops.py     the other compiled loops
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from ..errors import InputError, RequestError
from ..readings import CHANNELS, MISSING, Bool, Int32, Int64
from . import bulk_loops as loops
from .bulk_cipher import Bytes, Libcrypto, decipher_openssl, decipher_python, libcrypto
from .bulk_template import Template, from_layout, learn
from .ciphering import Keys
from .push import PushLayout

CHANNEL_NAMES = tuple(c.name for c in CHANNELS)
"""The rows of `BulkResult.values`, in this order."""

MAX_TEMPLATES = 4096


class Verdict(IntEnum):
    """What became of a frame. The refusals bear the quarantine's names (`docs/glossary.md`)."""

    TAKEN = 0
    GENERAL = 1
    UNKNOWN_METER = 2
    POLICY = 3
    BAD_TAG = 4
    REPLAYED_COUNTER = 5


class KeyTable:
    """The meters' keys and what the head-end expects of each, by row. Rows are any dense index: position in the arrays given.

    titles: uint8 [meter, 8], each once; ek, ak: uint8 [meter, 16] (security suite 0); security_control: uint8 [meter], the least that its
    push policy demands (0x20 or 0x30); layout: int [meter], position in the decoder's layouts. Never shown: the repr counts the meters."""

    def __init__(self, titles: Bytes, ek: Bytes, ak: Bytes, security_control: Bytes, layout: npt.NDArray[np.integer]) -> None:
        meters = len(titles)
        for name, array, shape in (("titles", titles, (meters, 8)), ("ek", ek, (meters, 16)), ("ak", ak, (meters, 16))):
            if array.shape != shape or array.dtype != np.uint8:
                raise InputError(f"{name} must be uint8 of shape {shape}, got {array.dtype} of shape {array.shape}")
        self.ek, self.ak = np.array(ek, np.uint8), np.array(ak, np.uint8)
        self.demanded = np.asarray(security_control, np.uint8) & np.uint8(0x30)
        self.layout = np.asarray(layout, np.int32)
        if self.demanded.shape != (meters,) or self.layout.shape != (meters,):
            raise InputError(f"security_control and layout need an entry for each of {meters} meters")
        self.meters = meters
        self._table = loops.title_table(np.ascontiguousarray(titles).view(np.dtype(">u8")).reshape(-1).astype(np.uint64))
        if self._table[1].size == 0:
            raise InputError("two meters have the same system title; each has its own")

    def __repr__(self) -> str:
        return f"KeyTable({self.meters} meters)"

    def locate(self, titles: npt.NDArray[np.uint64]) -> Int32:
        """System titles as big-endian numbers [n] to rows int32 [n], -1 = unknown."""
        rows = np.empty(len(titles), np.int32)
        loops.locate(np.asarray(titles, np.uint64), self._table, 0, len(titles), rows)
        return rows


@dataclass(frozen=True, slots=True)
class BulkResult:
    """A batch. Per frame: verdict uint8 (`Verdict`), meter int32 (row of the key table, -1 = unknown or not to be seen), counter int64
    (invocation counter, -1 = not to be seen), clock_s int64 (the push's clock, UTC seconds, MISSING64 = not specified or not taken in),
    invoke int64 (long-invoke-id-and-priority as on the wire, -1 = not taken in; of a get-response it means nothing).
    Per row of the frames taken in, in their order: frame int64, stamp_s int64 (MISSING64 = not specified), values int32 [channel, row] in
    the order of `CHANNEL_NAMES`, each in its channel's unit, MISSING = absent."""

    verdict: npt.NDArray[np.uint8]
    meter: Int32
    counter: Int64
    clock_s: Int64
    invoke: Int64
    frame: Int64
    stamp_s: Int64
    values: Int32

    @property
    def general(self) -> Int64:
        """The frames for the general decoder, in order."""
        return np.flatnonzero(self.verdict == Verdict.GENERAL)


@dataclass(frozen=True, slots=True)
class Scattered:
    """placed: cells that got their value; repeated: the same value again; conflicts: another value than the cell had (the first stays);
    off_grid: int64, rows of the result whose stamp is no slot of the grid's day."""

    placed: int
    repeated: int
    conflicts: int
    off_grid: Int64


class BulkDecoder:
    """Decodes batches. Remembers the templates it has learnt and `counters`, int64 [meter]: the last accepted invocation counter, -1 = none.

    layouts: those that `KeyTable.layout` counts; zone_offset_minutes: east of UTC, for clocks whose deviation is not specified;
    counters: where to go on from; use_libcrypto: False = do without its functions, as where they cannot be found (slower, same results).
    Who lets the general decoder judge a frame that was handed back writes the counter it accepts into `counters`."""

    def __init__(
        self,
        layouts: Sequence[PushLayout],
        keys: KeyTable,
        *,
        zone_offset_minutes: int = 330,
        counters: Int64 | None = None,
        use_libcrypto: bool = True,
    ) -> None:
        if keys.meters and not 0 <= int(keys.layout.min()) <= int(keys.layout.max()) < len(layouts):
            raise InputError(f"the key table names layout {int(keys.layout.max())}, the decoder has {len(layouts)} layouts")
        self.counters = np.full(keys.meters, -1, np.int64) if counters is None else np.array(counters, np.int64)
        if self.counters.shape != (keys.meters,):
            raise InputError(f"counters have {self.counters.shape[0]} meters, the key table has {keys.meters}")
        self._layouts, self._keys, self._zone = tuple(layouts), keys, zone_offset_minutes
        self._crypto: Libcrypto | None = libcrypto() if use_libcrypto else None
        self._templates: list[tuple[int, Template]] = []
        self._program = loops.program([], len(self._layouts), CHANNEL_NAMES)

    @property
    def templates(self) -> int:
        """How many forms are known."""
        return len(self._templates)

    def rekey(self, row: int, keys: Keys) -> None:
        """From here on the frames of this row are under other keys. Keys that the table cannot hold (suite 2) leave its frames to the general
        decoder's judgement."""
        fits = len(keys.ek) == self._keys.ek.shape[1]
        self._keys.ek[row] = np.frombuffer(keys.ek, np.uint8) if fits else 0
        self._keys.ak[row] = np.frombuffer(keys.ak, np.uint8) if fits and len(keys.ak) == self._keys.ak.shape[1] else 0

    def expect(self, layout: int, device_id_bytes: int, *, with_date_time: bool = False, rows: int = 1) -> None:
        """Know the plain form of a layout's push beforehand: a device id of that length, every column there."""
        self._add(layout, from_layout(self._layouts[layout], device_id_bytes, with_date_time, rows))

    def learn(self, layout: int, plain: bytes) -> None:
        """Know the form of a data-notification that the general decoder has read. MeterError where it cannot be read by place.

        With `MAX_TEMPLATES` forms known no more are learnt: their frames stay with the general decoder, and meters that vary their pushes
        without end cannot fill the memory."""
        self._add(layout, learn(self._layouts[layout], plain))

    def _add(self, layout: int, template: Template) -> None:
        for known_layout, known in self._templates:
            same = known_layout == layout and known.length == template.length and np.array_equal(known.fixed, template.fixed)
            if same and np.array_equal(known.pattern & known.fixed, template.pattern & template.fixed):
                return
        if len(self._templates) == MAX_TEMPLATES:
            return
        self._templates.append((layout, template))
        self._program = loops.program(self._templates, len(self._layouts), CHANNEL_NAMES)

    def decode(self, buffer: Bytes, offsets: Int64, *, threads: int = 1) -> BulkResult:
        """One batch: `buffer` uint8, frame k stands in buffer[offsets[k]:offsets[k + 1]], offsets int64 [n + 1]. Moves `counters`.

        A peer's bytes never raise. RequestError where the offsets do not describe the buffer."""
        buffer, offsets = _described(buffer, offsets)
        n = len(offsets) - 1
        frames = _Frames(n)
        plain = np.empty(len(buffer), np.uint8)
        keys = self._keys
        where = (frames.body, frames.length, frames.header, frames.title, frames.meter)
        job = (buffer, *where, keys.ek, keys.ak, frames.verdict, plain, int(Verdict.BAD_TAG))
        forms = self._program.forms

        def part(_: int, first: int, last: int) -> None:
            loops.take_apart(buffer, offsets, first, last, keys._table, keys.demanded, frames.heads)
            if self._crypto:
                decipher_openssl(self._crypto, job, first, last)
            else:
                decipher_python(job, first, last)
            loops.match(plain, frames.body, frames.length, frames.meter, keys.layout, forms, first, last, frames.verdict, frames.template)

        in_parts(part, n, threads)
        loops.judge(frames.verdict, frames.meter, frames.counter, self.counters)
        return _rows(self._program, self._zone, plain, frames, threads)


def _rows(program: loops.Program, zone: int, plain: Bytes, frames: _Frames, threads: int) -> BulkResult:
    """The readings of the frames that were taken in."""
    first_row = loops.first_rows(frames.verdict, frames.template, program.rows)
    total = int(first_row[-1])
    row_frame, stamp, clock = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(len(frames.verdict), np.int64)
    values = np.full((len(CHANNEL_NAMES), total), MISSING, np.int32)
    invoke = np.empty(len(frames.verdict), np.int64)
    out = (clock, invoke, row_frame, stamp, values)

    def part(_: int, first: int, last: int) -> None:
        loops.extract(plain, frames.body, frames.template, first_row, first, last, zone, program.places, frames.verdict, out)

    in_parts(part, len(frames.verdict), threads)
    return BulkResult(frames.verdict, frames.meter, frames.counter, clock, invoke, row_frame, stamp, values)


def _described(buffer: Bytes, offsets: Int64) -> tuple[Bytes, Int64]:
    """Both in one piece, the offsets proven to lie inside the buffer.

    A read-only buffer is copied, for the loops are compiled for one kind of array."""
    n = len(offsets) - 1
    if n < 0 or offsets[0] < 0 or offsets[-1] > len(buffer) or (np.diff(offsets) < 0).any():
        raise RequestError(f"the offsets of {max(n, 0)} frames do not describe a buffer of {len(buffer)} bytes")
    whole = np.ascontiguousarray(buffer, np.uint8) if buffer.flags.writeable else np.array(buffer, np.uint8)
    return whole, np.ascontiguousarray(offsets, np.int64)


class _Frames:
    """What is found out about each frame on the way."""

    def __init__(self, n: int) -> None:
        self.verdict = np.zeros(n, np.uint8)
        self.meter = np.full(n, -1, np.int32)
        self.counter = np.full(n, -1, np.int64)
        self.template = np.full(n, -1, np.int32)
        self.title, self.header, self.body, self.length = (np.zeros(n, np.int64) for _ in range(4))
        self.heads = (self.verdict, self.meter, self.counter, self.title, self.header, self.body, self.length)


def in_parts(task: Callable[[int, int, int], None], n: int, threads: int) -> None:
    """`task(part, first, last)` over n things, side by side on `threads` threads."""
    if threads == 1:
        task(0, 0, n)
        return
    edges = [n * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads, thread_name_prefix="bulk") as pool:
        for _ in pool.map(task, range(threads), edges[:-1], edges[1:]):
            pass


def scatter(
    result: BulkResult,
    column: npt.NDArray[np.integer],
    day_start_s: int,
    interval_s: int,
    into: Int32,
    conflict: Bool | None = None,
    *,
    threads: int = 1,
) -> Scattered:
    """Write the rows of a batch into the day grids of one shard and day; `into` (and `conflict`) are written.

    column: int [row of the key table], the meter's place in the grids, -1 = not of this shard. day_start_s: local midnight, UTC seconds.
    into: int32 [channel, slot, meter], channels as in `CHANNEL_NAMES`; conflict: bool, same shape, set where a second value differs.
    Writing the same rows again changes nothing. InputError where the shapes do not fit."""
    if into.ndim != 3 or into.shape[0] != len(CHANNEL_NAMES) or into.dtype != np.int32 or not into.flags.c_contiguous:
        raise InputError(
            f"the grids must be int32 [{len(CHANNEL_NAMES)} channels, slot, meter] in one piece, got {into.dtype} of shape {into.shape}"
        )
    if conflict is not None and conflict.shape != into.shape:
        raise InputError(f"conflict has shape {conflict.shape}, the grids have {into.shape}")
    if len(column) and int(np.max(column)) >= into.shape[2]:
        raise InputError(f"a meter's column is {int(np.max(column))}, the grids have {into.shape[2]} meters")
    meter = np.asarray(column, np.int32)[result.meter[result.frame]] if len(result.frame) else np.empty(0, np.int32)
    off_grid = np.zeros(len(meter), np.bool_)
    marks = np.empty((0, 0, 0), np.bool_) if conflict is None else conflict
    counts = np.zeros((threads, 3), np.int64)

    def part(k: int, first: int, last: int) -> None:
        loops.scatter(meter, result.stamp_s, result.values, day_start_s, interval_s, first, last, into, marks, off_grid, counts[k])

    in_parts(part, into.shape[2], threads)
    placed, repeated, conflicts = (int(c) for c in counts.sum(axis=0))
    return Scattered(placed, repeated, conflicts, np.flatnonzero(off_grid))


def decode_profiles(template: Template, buffer: Bytes, offsets: Int64, *, zone_offset_minutes: int = 330, threads: int = 1) -> BulkResult:
    """Plain get-responses of one form (`bulk_template.learn_profile`), as from a day's profile read of many meters.

    buffer, offsets as for `BulkDecoder.decode`. Frames that do not have the form are `Verdict.GENERAL`; `meter` and `counter` are -1."""
    buffer, offsets = _described(buffer, offsets)
    n = len(offsets) - 1
    program = loops.program([(0, template)], 1, CHANNEL_NAMES)
    frames = _Frames(n)
    frames.body[:], frames.length[:] = offsets[:-1], np.diff(offsets)
    rows, layout = np.zeros(n, np.int32), np.zeros(1, np.int32)

    def part(_: int, first: int, last: int) -> None:
        loops.match(buffer, frames.body, frames.length, rows, layout, program.forms, first, last, frames.verdict, frames.template)

    in_parts(part, n, threads)
    return _rows(program, zone_offset_minutes, buffer, frames, threads)
