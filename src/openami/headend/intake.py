"""What happens to frames behind the sockets: stored and synced, judged, confirmed; what they say is noted. On one thread, the journal's own.

    replies = intake.take([(host, octets), ...])      # each frame's confirmation, None = none

What always holds: a confirmation comes out only after the journal has stored the frame; a frame that is byte for byte the last one that its meter
had taken in is confirmed again with the same bytes and stored no second time; what is noted (arrivals, events, registers) is derived, and noted
again after a crash without harm.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ..cosem.push import read_push
from ..cosem.register_push import push_kind, push_object_of
from ..errors import MeterError, StorageError
from ..readings import Int64
from ..store.heard import Heard
from ..store.journal import Batch, FrameJournal, Refusal
from .admission import NO_LAYOUT, Admission, Judged, Verdict
from .arrivals import Arrivals
from .aside import Calls
from .away import AGAIN_S, Away
from .gate import Allowance, Gate
from .registers import Reports, Told, carries_block_load

SETTLE_EVERY_S = 1.0
HEARD_EVERY_S = 30.0
"""How often it is written down when meters were heard: what a crash loses of it comes with their next push."""
LAST_S = 10.0
"""How long the end waits for rows on their way; what is not remembered by then is judged again at the next start."""
REMEMBERED_BATCHES = 64
"""Batches looked through at the start for each meter's last frame, so that one confirmed just before a crash can be confirmed again."""


@dataclass(slots=True)
class Tally:
    """What was done since the start: frames journalled, confirmed, confirmed again; refused, by cause, and not even stored, by cause; batches."""

    frames: int = 0
    confirmed: int = 0
    again: int = 0
    batches: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    not_stored: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Notes:
    """Where what frames say is noted. heard: SQL rows; arrivals: presence by meter and slot; proved: told of meters that have used new push keys;
    pushed_old_s: serial -> when a meter whose keys are being changed last pushed under the old ones; calls: where rows are written."""

    heard: Heard
    arrivals: Arrivals
    proved: Callable[[Sequence[str]], None] = lambda serials: None
    pushed_old_s: dict[str, int] = field(default_factory=dict)
    away: Away = field(default_factory=Away)
    calls: Calls = field(default_factory=lambda: Calls("rows"))


@dataclass(slots=True)
class _Settling:
    """What is being remembered. rows: on their way into the database, None = there are none; judged: up to which batch; moved: rows of meters whose
    counter is in `counters`."""

    begun_s: float
    judged: int
    moved: list[int]
    counters: list[tuple[str, int]]
    refusals: list[Refusal]
    rows: Future[None] | None = None
    told: Told = field(default_factory=lambda: ([], [], {}))
    proved: list[str] = field(default_factory=list)


class Intake:
    """watch: told of every frame and its verdict after it is stored; then each frame is judged by itself, and one that comes again is a replay.
    remembers: False = nothing that was judged is written down, so that whoever takes over judges it again."""

    def __init__(
        self,
        journal: FrameJournal,
        admission: Admission,
        notes: Notes | None = None,
        watch: Callable[[bytes, Verdict], None] | None = None,
        allowance: Allowance | None = None,
        remembers: bool = True,
    ) -> None:
        self.journal, self.admission, self.notes, self._watch, self._remembers = journal, admission, notes, watch, remembers
        self.tally, self.gate = Tally(), Gate(allowance)
        self._reports = Reports(notes.heard.status_words() if notes else {})
        self._refusals: list[Refusal] = []
        self._moved = np.zeros(len(admission.peers), np.bool_)
        self._some_moved = False
        self._judged = 0
        self._settling: _Settling | None = None
        self._settled_at = self._heard_at = time.monotonic()
        self._at_seq: Int64 = np.full(len(admission.peers), -1, np.int64)
        self._at_position: Int64 = np.zeros(len(admission.peers), np.int64)
        self._batch = lru_cache(maxsize=8)(self._read_batch)

    def take(self, batch: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Store, sync, judge; gives each frame's confirmation in order. batch: (sender's address, wrapper frame). StorageError where the journal
        refuses: then none may be sent."""
        replies: list[bytes | None] = [None] * len(batch)
        self.gate.turn(time.monotonic())
        fresh = self._fresh(batch, replies)
        if fresh:
            received_us = time.time_ns() // 1000
            frames = [batch[k][1] for k in fresh]
            for stored in self.journal.store(frames, received_us):
                own = [fresh[k] for k in stored.frames]
                judged = self._judge(stored.seq, received_us, [batch[k][1] for k in own])
                for k, confirm in zip(own, judged.confirms, strict=True):
                    replies[k] = confirm
                refused = {own[k] for k, verdict in judged.alone.items() if verdict.cause is not None}
                self._account([batch[k] for k in own if k not in refused], [batch[k] for k in sorted(refused)])
            self.tally.batches += 1
        if time.monotonic() - self._settled_at > SETTLE_EVERY_S:
            self.settle()
        return replies

    def _account(self, taken: Iterable[tuple[str, bytes]], refused: Iterable[tuple[str, bytes]]) -> None:
        """What was stored, on its senders' accounts."""
        octets: Counter[str] = Counter()
        frames: Counter[str] = Counter()
        for host, one in taken:
            octets[host] += len(one)
            frames[host] += 1
        for host, count in frames.items():
            self.gate.earn(self.gate.sender(host), count, octets[host])
        for host, one in refused:
            self.gate.spend(self.gate.sender(host), len(one))

    def settle(self, *, everything: bool = False) -> None:
        """Remember what was judged: rows first, then that it is; what a crash repeats in between changes nothing. The rows are written aside: while
        the database thinks, frames go on. everything: waits for it, within reason."""
        if not self._remembers:
            self._refusals.clear()
            self._moved[:] = self._some_moved = False
            self._settled_at = time.monotonic()
            return
        patience_s = LAST_S if everything else 0.0
        if self._settling is not None and everything:
            self._end_settling(patience_s)
        if self._settling is None:
            self._settling = self._begin_settling(everything)
        self._end_settling(patience_s)

    def _begin_settling(self, everything: bool) -> _Settling:
        """What is to be remembered now. Meanwhile more is judged: that is the next one's."""
        now = time.monotonic()
        moved = np.flatnonzero(self._moved).tolist()
        counters = [(self.admission.peers[row].meter.serial, int(self.admission.decoder.counters[row])) for row in moved]
        begun = _Settling(now, self._judged, moved, counters, self._refusals)
        self._refusals = []
        self._moved[moved] = self._some_moved = False
        if (notes := self.notes) is not None:
            heard: dict[str, int] = {}
            if everything or now - self._heard_at > HEARD_EVERY_S:
                heard, self._heard_at = notes.arrivals.newly_heard(), now
            told, proved = self._reports.take(), self.admission.proved
            self.admission.proved = []
            if heard or proved or any(told):
                begun.told, begun.proved = told, proved

                def write() -> None:
                    notes.heard.note(*told, heard)
                    if proved:
                        notes.proved(proved)

                begun.rows = notes.calls.run(write)
        return begun

    def _end_settling(self, patience_s: float) -> None:
        """Behind the rows, the journal's memory; where the rows could not be written, as if nothing had been tried."""
        settling = self._settling
        if settling is None:
            return
        self._settled_at = time.monotonic()
        if settling.rows is not None and self.notes is not None:
            wait([settling.rows], patience_s)
            if not settling.rows.done():
                self.notes.away.silent(self._settled_at - settling.begun_s)
                return
            try:
                settling.rows.result()
            except StorageError as error:  # what was told stays here, and what was judged is judged again after a crash
                self._take_back(settling)
                self.notes.away.gone(error)
                self._settled_at += AGAIN_S
                return
            self.notes.away.back()
        if settling.refusals or settling.moved:
            self.journal.settle(settling.judged, settling.counters, settling.refusals)
        self._settling = None

    def _take_back(self, settling: _Settling) -> None:
        self._reports.give_back(*settling.told)
        self.admission.proved = [*settling.proved, *self.admission.proved]
        self._refusals = [*settling.refusals, *self._refusals]
        self._moved[settling.moved] = True
        self._some_moved = self._some_moved or bool(settling.moved)
        self._settling = None

    @property
    def unsettled(self) -> bool:
        waits = self._reports.events or self._reports.registers or self._reports.changed
        return bool(self._settling or self._refusals or self._some_moved or waits)

    def relive(self, after: int, until: int) -> None:
        """Note again what the batches behind `after` up to `until` said; nothing is settled. For an intake of its own, whose
        admission starts anew."""
        for batch in self.journal.batches(after=after):
            if batch.seq > until:
                return
            self._judge(batch.seq, batch.received_us, batch.frames)

    def catch_up(self) -> None:
        """After a crash: judge the batches that were stored but whose verdicts were not remembered; find each meter's last frame again."""
        settled = self.journal.settled()
        for batch in self.journal.batches(after=max(0, settled - REMEMBERED_BATCHES)):
            if batch.seq <= settled:
                self._remember(batch)
            else:
                self._judge(batch.seq, batch.received_us, batch.frames)
        self.settle(everything=True)

    def _fresh(self, batch: Sequence[tuple[str, bytes]], replies: list[bytes | None]) -> list[int]:
        """The frames that must be stored, by place. One taken in before gets its confirmation again; what a limited sender sends in vain goes."""
        limited = {host for host in {host for host, _ in batch} if self.gate.limited(self.gate.sender(host))}
        again = self._repeated([octets for _, octets in batch]) if self._watch is None else frozenset()
        if not limited and not again:
            return list(range(len(batch)))
        fresh = []
        for k, (host, octets) in enumerate(batch):
            if k in again:
                replies[k] = self.admission.confirm_again(octets)
                self.tally.again += 1
            elif host in limited and (cause := self.admission.foresee(octets)) is not None:
                self.gate.leave_out(self.gate.sender(host), cause)
                self.tally.not_stored[cause] += 1
            else:
                fresh.append(k)
        return fresh

    def _repeated(self, frames: Sequence[bytes]) -> Set[int]:
        """The places of frames that are, byte for byte, the last ones taken in of their meters."""
        same = self.admission.same_counters(frames)
        return {k for k, row in same if self._is_the_last(row, frames[k])}

    def _judge(self, seq: int, received_us: int, frames: Sequence[bytes]) -> Judged:
        received_s = received_us // 1_000_000
        if self._watch:
            alone = {k: self.admission.judge(octets) for k, octets in enumerate(frames)}
            for octets, verdict in zip(frames, alone.values(), strict=True):
                self._watch(octets, verdict)
            judged = Judged.of(alone)
        else:
            judged = self.admission.judge_batch(frames)
        self.tally.frames += len(frames)
        self.tally.confirmed += len(frames) - judged.confirms.count(None)
        self._at_seq[judged.meters], self._at_position[judged.meters], self._moved[judged.meters] = seq, judged.taken, True
        self._some_moved |= len(judged.meters) > 0
        if self.notes:
            if len(judged.row):
                self.notes.arrivals.note(judged.row, judged.stamp_s, received_s)
            for row in set(self.admission.changing) & set(judged.meters.tolist()) if self.admission.changing else ():
                self.notes.pushed_old_s[self.admission.peers[row].meter.serial] = received_s
        for position, verdict in judged.alone.items():
            if verdict.cause is not None:
                self._refuse(seq, position, received_us, frames[position], verdict.cause, verdict.detail, verdict.serial)
            elif verdict.serial is not None:
                row = self.admission.row(verdict.serial)
                self._at_seq[row], self._at_position[row] = seq, position
                self._moved[row] = self._some_moved = True
                self._note(verdict, row, seq, position, received_us, frames[position])
        self._judged = seq
        if self.notes:
            self.notes.arrivals.seq = max(self.notes.arrivals.seq, seq)
        return judged

    def _note(self, verdict: Verdict, row: int, seq: int, position: int, received_us: int, octets: bytes) -> None:
        """What a genuine push says. One that is no block load and cannot be read stands in quarantine, confirmed all the same: it is on the disk."""
        notes, push, meter = self.notes, verdict.notification, verdict.meter
        if notes is None or meter is None:
            return
        received_s = received_us // 1_000_000
        if row in self.admission.changing:
            notes.pushed_old_s[meter.serial] = received_s
        if push is None:
            return
        notes.arrivals.hear(np.array([row]), received_s)
        try:
            kind = push_kind(push_object_of(push.body))
            if kind == "block_load":
                layout = self.admission.layouts[int(self.admission.layout[row])]
                if layout is not NO_LAYOUT:
                    stamps = [stamp for stamp, _ in read_push(layout, push.body).rows if stamp is not None]
                    notes.arrivals.note(np.full(len(stamps), row), np.array(stamps, np.int64), received_s)
            elif kind is not None:
                self._reports.push(meter, push.body, received_s)
        except MeterError as error:
            if not carries_block_load(push.body):  # a block load that cannot be read is refused where it is collected
                self._refuse(seq, position, received_us, octets, error.cause, str(error), meter.serial)

    def _refuse(self, seq: int, position: int, received_us: int, octets: bytes, cause: str, detail: str, serial: str | None) -> None:
        self.tally.refused[cause] += 1
        self._refusals.append(Refusal(seq, position, cause, detail, serial, received_us, octets))

    def _is_the_last(self, row: int, octets: bytes) -> bool:
        """Whether this is, byte for byte, the last frame that was taken in of this meter."""
        seq = int(self._at_seq[row])
        if seq < 0:
            return False
        return self._batch(seq)[int(self._at_position[row])] == octets

    def _read_batch(self, seq: int) -> tuple[bytes, ...]:
        return self.journal.batch(seq).frames

    def _remember(self, batch: Batch) -> None:
        """Where the frames with each meter's last accepted counter stand, of a batch judged before a restart."""
        for position, row in self.admission.same_counters(batch.frames):
            if self._at_seq[row] < 0 and self.admission.opens(batch.frames[position]):
                self._at_seq[row], self._at_position[row] = batch.seq, position
