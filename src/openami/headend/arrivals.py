"""What has arrived: which block load intervals of which meters the head-end holds, and when each meter was heard last.

    arrivals.note(rows, stamps_s, at_s)      # as frames are taken in and profiles are read
    arrivals.missing(day, due)               # what to ask for

It is derived: replaying the journal gives the same. A snapshot beside the journal saves most of that at the next start; one that is torn, or of
another registry, is passed over. What always holds: an interval counts as here only if a genuine frame or a meter's own answer brought it; any
thread may tell and ask.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..readings import Bool, Calendar, Int64
from .gaps import Gap, missing

ROWS_AT_ONCE = 65_536
"""Meters whose bits are spread out together: what is looked for is rare, what is looked through may be millions."""


@dataclass(slots=True)
class _Day:
    """One local day: its bits uint8 [meter, byte], bit k of a row = slot k is here; `count` int32 [meter]: how many are."""

    slots: int
    bits: npt.NDArray[np.uint8]
    count: npt.NDArray[np.int32]


@dataclass(slots=True)
class Arrivals:
    """serials: the registered meters, in the order of the rows that `note` is told of. first, days: the local days open for readings.
    seq: up to which batch of the journal it knows; pulled_seq: the same of what was read."""

    serials: Sequence[str]
    calendar: Calendar
    first: date
    days: int
    seq: int = 0
    pulled_seq: int = 0
    heard_s: Int64 = field(init=False)
    _days: dict[int, _Day] = field(init=False, default_factory=dict)
    _fresh: Bool = field(init=False)
    _lock: threading.RLock = field(init=False, default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        self.heard_s = np.full(len(self.serials), -1, np.int64)
        self._fresh = np.zeros(len(self.serials), np.bool_)

    def note(self, row: npt.NDArray[np.integer], stamp_s: Int64, at_s: int) -> None:
        """Intervals that arrived at `at_s` (UTC seconds). row, stamp_s: [n], a meter's place in `serials` and the interval's end. Stamps that no
        open day has a slot for are passed over, but their meter was heard."""
        self.hear(row, at_s)
        day_of, slot_of = self.calendar.locate(stamp_s, self.first, self.days)
        with self._lock:
            for k in set(day_of.tolist()) - {-1}:
                own = day_of == k
                self._mark(self._day(k), np.asarray(row, np.int64)[own], slot_of[own])

    def _mark(self, here: _Day, row: Int64, slot: Int64) -> None:
        """Bits of one day; each counts once, however often it comes."""
        cell = np.unique(row * here.slots + slot)
        row, slot = cell // here.slots, cell % here.slots
        mask = np.left_shift(1, slot & 7).astype(np.uint8)
        new = (here.bits[row, slot >> 3] & mask) == 0
        np.bitwise_or.at(here.bits, (row[new], slot[new] >> 3), mask[new])
        np.add.at(here.count, row[new], 1)

    def hear(self, row: npt.NDArray[np.integer], at_s: int) -> None:
        """These meters were heard at `at_s`, whatever they said."""
        with self._lock:
            self.heard_s[row] = np.maximum(self.heard_s[row], at_s)
            self._fresh[row] = True

    def newly_heard(self) -> dict[str, int]:
        """serial -> when it was heard, of the meters heard since the last call."""
        with self._lock:
            rows = np.flatnonzero(self._fresh)
            self._fresh[rows] = False
        return {self.serials[k]: int(self.heard_s[k]) for k in rows.tolist()}

    def here(self, day: date) -> int:
        """How many intervals of a day are here, of all meters."""
        known = self._days.get((day - self.first).days)
        return 0 if known is None else int(known.count.sum(dtype=np.int64))

    def missing(self, day: date, now_s: int, grace_s: int) -> Iterator[tuple[str, list[Gap]]]:
        """Which meters lack which ranges of an open day that was due `grace_s` before `now_s`, meter by meter."""
        stamps = np.array([self.calendar.stamp(day, slot) for slot in range(self.calendar.slots(day))], np.int64)
        due = int((stamps <= now_s - grace_s).sum())
        if not due or not 0 <= (day - self.first).days < self.days:
            return
        known = self._days.get((day - self.first).days)
        for first in range(0, len(self.serials), ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, len(self.serials))
            with self._lock:
                rows = np.arange(first, last) if known is None else first + np.flatnonzero(known.count[first:last] < known.slots)
                bits = np.zeros((rows.size, -(-len(stamps) // 8)), np.uint8) if known is None else known.bits[rows]
            present = np.unpackbits(bits, axis=1, bitorder="little")[:, :due].T.astype(np.bool_)
            for at, gaps in missing(present, stamps[:due]).items():
                yield self.serials[int(rows[at])], gaps

    def save(self, path: Path) -> None:
        """The snapshot, synced, in one rename."""
        whole = io.BytesIO()
        serials = np.frombuffer("\n".join(self.serials).encode(), np.uint8)
        with self._lock:
            days = sorted(self._days)
            parts = {f"bits{k}": self._days[k].bits for k in days} | {f"count{k}": self._days[k].count for k in days}
            known = np.array([self.seq, self.pulled_seq, self.first.toordinal(), self.days, self.calendar.interval_s], np.int64)
            np.savez(whole, known=known, serials=serials, heard_s=self.heard_s, days=np.array(days, np.int64), **parts)  # type: ignore[arg-type]
        beside = path.with_name(path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def load(self, path: Path) -> bool:
        """Go on from a snapshot; False = there is none that fits, and the journal must tell it all."""
        try:
            with np.load(path, allow_pickle=False) as found:
                seq, pulled_seq, *same = found["known"].tolist()
                serials = found["serials"].tobytes().decode().split("\n")
                if same != [self.first.toordinal(), self.days, self.calendar.interval_s] or serials != list(self.serials):
                    return False
                days = {}
                for k in found["days"].tolist():
                    slots = self.calendar.slots(self.first + timedelta(days=k))
                    days[k] = _Day(slots, found[f"bits{k}"], found[f"count{k}"])
                    if days[k].bits.shape != (len(serials), -(-slots // 8)) or days[k].count.shape != (len(serials),):
                        return False
                heard_s = found["heard_s"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return False
        self.seq, self.pulled_seq, self.heard_s, self._days = int(seq), int(pulled_seq), heard_s, days
        return True

    def _day(self, k: int) -> _Day:
        known = self._days.get(k)
        if known is None:
            slots = self.calendar.slots(self.first + timedelta(days=k))
            bits = np.zeros((len(self.serials), -(-slots // 8)), np.uint8)
            known = self._days[k] = _Day(slots, bits, np.zeros(len(self.serials), np.int32))
        return known
