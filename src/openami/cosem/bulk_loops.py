"""The compiled loops of the bulk path, each over a range of frames (or meters), so that threads can share a batch.

Numbers of verdicts are those of `bulk.Verdict`. A loop writes only into the arrays that its docstring names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from ..readings import MISSING64, Int32
from .bulk_template import Template

TAKEN, GENERAL, UNKNOWN_METER, POLICY, BAD_TAG, REPLAYED_COUNTER = range(6)
_GENERAL_GLO = 0xDB
_NONE = np.int32(-(2**31))
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2^64 / golden ratio


@dataclass(frozen=True, slots=True)
class Program:
    """Templates as arrays. forms: pattern, fixed, start, length, next template of the same layout, first template of a layout;
    places: clock_at, first stamp and first field of each template, stamp_at, and per field: row, at, kind, channel, up, down; rows: per template."""

    forms: tuple[Any, ...]
    places: tuple[Any, ...]
    rows: Int32


def program(templates: Sequence[tuple[int, Template]], layouts: int, channels: Sequence[str]) -> Program:
    """(layout, template) pairs made ready for the loops; templates of one layout are tried in their order."""
    kinds = [t for _, t in templates]
    pattern = np.concatenate([t.pattern for t in kinds]) if kinds else np.zeros(0, np.uint8)
    fixed = np.concatenate([t.fixed for t in kinds]) if kinds else np.zeros(0, np.uint8)
    length = np.array([t.length for t in kinds], np.int64)
    start = np.cumsum(length) - length
    head, following = np.full(layouts, -1, np.int32), np.full(len(kinds), -1, np.int32)
    for k in reversed(range(len(kinds))):
        following[k] = head[templates[k][0]]
        head[templates[k][0]] = k
    fields = [f for t in kinds for f in t.fields]
    table = np.array([(f.row, f.at, f.kind, channels.index(f.channel), f.up, f.down) for f in fields], np.int64).reshape(-1, 6)
    stamps = np.array([s for t in kinds for s in t.stamp_at], np.int64)
    first_stamp = np.cumsum([0, *(len(t.stamp_at) for t in kinds)]).astype(np.int64)
    first_field = np.cumsum([0, *(len(t.fields) for t in kinds)]).astype(np.int64)
    clock_at = np.array([t.clock_at for t in kinds], np.int64)
    rows = np.array([len(t.stamp_at) for t in kinds], np.int32)
    return Program((pattern, fixed, start, length, following, head), (clock_at, first_stamp, first_field, stamps, table), rows)


@nb.njit(nogil=True, cache=True)
def title_table(titles):  # type: ignore[no-untyped-def]
    """A hash table of system titles, open addressing, at most half full: uint64 title and int32 row (-1 = free) of each place, and the bits to
    shift a hash by. Empty where a title comes twice."""
    bits = 1
    while (1 << bits) < 2 * titles.size:
        bits += 1
    shift = np.uint64(64 - bits)
    held, rows = np.zeros(1 << bits, np.uint64), np.full(1 << bits, -1, np.int32)
    for row in range(titles.size):
        at = np.int64((titles[row] * _SPREAD) >> shift)
        while rows[at] >= 0:
            if held[at] == titles[row]:
                return np.empty(0, np.uint64), np.empty(0, np.int32), shift
            at = (at + 1) & (rows.size - 1)
        held[at], rows[at] = titles[row], row
    return held, rows, shift


@nb.njit(nogil=True, cache=True)
def locate(wanted, table, first, last, found):  # type: ignore[no-untyped-def]
    """Rows of the titles wanted[first:last] into `found`, -1 = unknown. A loop of its own, so that many look-ups are under way at once."""
    held, rows, shift = table
    for k in range(first, last):
        title = wanted[k]
        at = np.int64((title * _SPREAD) >> shift)
        while rows[at] >= 0 and held[at] != title:
            at = (at + 1) & (rows.size - 1)
        found[k] = rows[at]


@nb.njit(nogil=True, cache=True)
def take_apart(buffer, offsets, first, last, table, demanded, heads):  # type: ignore[no-untyped-def]
    """Find header, sender and ciphertext of each frame, and refuse unknown senders and too little protection. Writes the arrays of `heads`."""
    verdict, meter, counter, title, header, body, length = heads
    numbers, found = np.zeros(last - first, np.uint64), np.empty(last - first, np.int32)
    for k in range(first, last):
        at, end = offsets[k], offsets[k + 1]
        verdict[k] = GENERAL
        if end - at >= 8 and buffer[at] == 0 and buffer[at + 1] == 1:
            if np.int64(buffer[at + 6]) << 8 | np.int64(buffer[at + 7]) != end - at - 8:
                continue
            at += 8
        if end - at < 16 or buffer[at] != _GENERAL_GLO:
            continue
        size, at = _length(buffer, at + 1, end)
        if size != 8 or end - at < 9:
            continue
        title[k] = at
        size, at = _length(buffer, at + 8, end)
        if size != end - at or size < 5 or (size < 17 and buffer[at] & 0x10):
            continue
        numbers[k - first] = _word(buffer, title[k], 8)
        header[k], body[k] = at, at + 5
        length[k] = size - (17 if buffer[at] & 0x10 else 5)
        counter[k] = np.int64(_word(buffer, at + 1, 4))
        verdict[k] = TAKEN
    locate(numbers, table, 0, last - first, found)
    for k in range(first, last):
        if verdict[k] != TAKEN:
            continue
        m, control = found[k - first], buffer[header[k]]
        if m < 0:
            verdict[k] = UNKNOWN_METER
            counter[k] = -1
            continue
        meter[k] = m
        if control & demanded[m] != demanded[m]:
            verdict[k] = POLICY
        elif control != 0x20 and control != 0x30:
            verdict[k] = GENERAL


@nb.njit(nogil=True, cache=True)
def _length(buffer, at, end):  # type: ignore[no-untyped-def]
    """A-XDR length and the offset behind it; -1 where it is none or is cut short."""
    first = np.int64(buffer[at])
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if size < 1 or size > 4 or at + 1 + size > end:
        return np.int64(-1), at
    number = np.int64(0)
    for j in range(size):
        number = number << 8 | np.int64(buffer[at + 1 + j])
    return number, at + 1 + size


@nb.njit(nogil=True, cache=True)
def match(plain, body, length, meter, layout, forms, first, last, verdict, template):  # type: ignore[no-untyped-def]
    """Find each frame's template among those of its meter's layout. Writes template, and verdict where there is none."""
    pattern, fixed, start, form_length, following, head = forms
    for k in range(first, last):
        if verdict[k] != TAKEN:
            continue
        t = head[layout[meter[k]]]
        while t >= 0:
            if form_length[t] == length[k]:
                octets = plain[body[k] : body[k] + length[k]]
                expected, mask = pattern[start[t] : start[t] + length[k]], fixed[start[t] : start[t] + length[k]]
                different = np.uint8(0)
                for j in range(octets.size):
                    different |= (octets[j] ^ expected[j]) & mask[j]
                if different == 0:
                    template[k] = t
                    break
            t = following[t]
        if template[k] < 0:
            verdict[k] = GENERAL


@nb.njit(nogil=True, cache=True)
def judge(verdict, meter, counter, last_counter):  # type: ignore[no-untyped-def]
    """Invocation counters, in the order of the frames. Writes verdict and last_counter."""
    waiting = np.zeros(last_counter.size, np.bool_)
    for k in range(verdict.size):
        m = meter[k]
        if m < 0 or verdict[k] == POLICY:
            continue
        if waiting[m]:
            verdict[k] = GENERAL
        elif counter[k] <= last_counter[m]:
            verdict[k] = REPLAYED_COUNTER
        elif verdict[k] == GENERAL:
            waiting[m] = True
        elif verdict[k] == TAKEN:
            last_counter[m] = counter[k]


@nb.njit(nogil=True, cache=True)
def first_rows(verdict, template, rows):  # type: ignore[no-untyped-def]
    """Where each frame's rows begin, int64 [frame + 1]."""
    first = np.zeros(verdict.size + 1, np.int64)
    for k in range(verdict.size):
        first[k + 1] = first[k] + (rows[template[k]] if verdict[k] == TAKEN else 0)
    return first


@nb.njit(nogil=True, cache=True)
def extract(plain, body, template, first_row, first, last, zone, places, verdict, out):  # type: ignore[no-untyped-def]
    """Read the numbers of the frames that were taken in. Writes the arrays of `out`."""
    clock_at, first_stamp, first_field, stamps, table = places
    clock, invoke, row_frame, stamp, values = out
    word, day = np.zeros(1, np.uint64), np.zeros(2, np.int64)
    single, double = word.view(np.float32), word.view(np.float64)
    for k in range(first, last):
        clock[k], invoke[k] = MISSING64, -1
        if verdict[k] != TAKEN:
            continue
        t, base, row = template[k], body[k], first_row[k]
        invoke[k] = np.int64(_word(plain, base + 1, 4))
        if clock_at[t] >= 0:
            clock[k] = _stamp(plain, base + clock_at[t], zone, day)
        for s in range(first_stamp[t], first_stamp[t + 1]):
            r = row + s - first_stamp[t]
            row_frame[r] = k
            stamp[r] = _stamp(plain, base + stamps[s], zone, day) if stamps[s] >= 0 else MISSING64
        for f in range(first_field[t], first_field[t + 1]):
            at, kind, up, down = base + table[f, 1], table[f, 2], table[f, 4], table[f, 5]
            if kind < 6:
                number = _integer(plain, at, kind)
                stored = number * up if down == 1 else (2 * number * up + down) // (2 * down)
            else:
                word[0] = _word(plain, at, 4) if kind == 6 else _word(plain, at, 8)
                real = np.float64(single[0]) if kind == 6 else double[0]
                real = np.floor(real * up / down + 0.5)
                if not abs(real) <= 2147483647.0:  # not a number, infinite, or too large
                    continue
                stored = np.int64(real)
            if -2147483647 <= stored <= 2147483647:
                values[table[f, 3], row + table[f, 0]] = stored


@nb.njit(nogil=True, cache=True)
def _word(plain, at, size):  # type: ignore[no-untyped-def]
    """`size` bytes as a big-endian number; always called with a constant size, so that the loop dissolves."""
    number = np.uint64(0)
    for j in range(size):
        number = number << np.uint64(8) | np.uint64(plain[at + j])
    return number


@nb.njit(nogil=True, cache=True)
def _integer(plain, at, kind):  # type: ignore[no-untyped-def]
    """A big-endian integer of one of the first six kinds: int8, int16, int32, uint8, uint16, uint32."""
    if kind == 5:
        return np.int64(_word(plain, at, 4))
    if kind == 4:
        return np.int64(_word(plain, at, 2))
    if kind == 3:
        return np.int64(plain[at])
    if kind == 2:
        return np.int64(np.int32(np.uint32(_word(plain, at, 4))))
    if kind == 1:
        return np.int64(np.int16(np.uint16(_word(plain, at, 2))))
    return np.int64(np.int8(plain[at]))


@nb.njit(nogil=True, cache=True)
def _stamp(plain, at, zone, day):  # type: ignore[no-untyped-def]
    """12 bytes of COSEM date-time as UTC seconds, as `CosemDateTime.to_stamp`; MISSING64 where they name no instant.

    `day` keeps the last date's bytes and its days since 1970, for stamps that follow each other mostly share it."""
    wanted = np.int64(_word(plain, at, 4))
    if wanted != day[0]:
        day[0], day[1] = wanted, _days(wanted >> 16, wanted >> 8 & 0xFF, wanted & 0xFF)
    hour, minute, second = np.int64(plain[at + 5]), np.int64(plain[at + 6]), np.int64(plain[at + 7])
    if second == 0xFF:
        second = np.int64(0)
    if day[1] == MISSING64 or hour > 23 or minute > 59 or second > 59:
        return MISSING64
    local = 86400 * day[1] + 3600 * hour + 60 * minute + second
    deviation = np.int64(np.int16(np.uint16(_word(plain, at + 9, 2))))
    return local - 60 * zone if deviation == -0x8000 else local + 60 * deviation


@nb.njit(nogil=True, cache=True)
def _days(year, month, day):  # type: ignore[no-untyped-def]
    """Days since 1970-01-01, MISSING64 where there is no such date (or it is not specified)."""
    if not (1 <= year <= 9999 and 1 <= month <= 12 and day >= 1):
        return MISSING64
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    most = 30 + (month + month // 8) % 2 if month != 2 else (29 if leap else 28)
    if day > most:
        return MISSING64
    # By years that begin in March: the leap day is then the last of its year.
    y = year - (month <= 2)
    era = y // 400
    of_era = y - 400 * era
    of_year = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day - 1
    return np.int64(146097 * era + 365 * of_era + of_era // 4 - of_era // 100 + of_year - 719468)


@nb.njit(nogil=True, cache=True)
def scatter(meter, stamp, values, day_start, interval, first, last, into, conflict, off_grid, counts):  # type: ignore[no-untyped-def]
    """Rows of the meters first..last-1 into their cells. Writes into, conflict, off_grid, and counts: placed, repeated, conflicts."""
    for r in range(meter.size):
        m = meter[r]
        if m < first or m >= last:
            continue
        slot = np.int64(-1)
        if stamp[r] != MISSING64 and (stamp[r] - day_start) % interval == 0:
            slot = (stamp[r] - day_start) // interval - 1
        if slot < 0 or slot >= into.shape[1]:
            off_grid[r] = True
            continue
        for c in range(into.shape[0]):
            v = values[c, r]
            if v == _NONE:
                continue
            if into[c, slot, m] == _NONE:
                into[c, slot, m] = v
                counts[0] += 1
            elif into[c, slot, m] == v:
                counts[1] += 1
            else:
                counts[2] += 1
                if conflict.size:
                    conflict[c, slot, m] = True
