"""Frames -> day grid -> raw: the journal read on into day blocks.

What always holds: frames are judged exactly as the head-end judged them, so the same journal gives the same `raw`, whether it is read in one
go or a little at a time, with stops anywhere; a reading that cannot be used is in quarantine with its cause and its frame's bytes, and stops
no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..cosem.bulk import Verdict as Bulk
from ..cosem.push import read_push
from ..errors import DataError, MeterError
from ..headend.admission import Admission, correspondents, one_behind_the_other
from ..headend.process import headend_title
from ..headend.pulled import BLOCK_LOAD_PROFILE, read_pulled
from ..headend.registers import Reports, carries_block_load
from ..headend.whole import collect_keys
from ..readings import MISSING, MISSING64, Int32, Int64
from ..store.contacts import Contacts
from ..store.grid import COLUMN, DayGrid, together
from ..store.journal import Batch, Pulled, Refusal
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from .gathered import SOURCES, Gathered, marks
from .site import Site

PACK_FRAMES = 16_384
"""Journal batches are decoded together from this many frames on: enough to feed the compiled loops, little enough for any memory."""
SAVE_FRAMES = 8_000_000
"""After so many frames what was collected is put away: a stop costs no more than these."""


def collect(
    site: Site,
    progress: Callable[[int], None] | None = None,
    save_frames: int = SAVE_FRAMES,
    *,
    anew: bool = False,
    shards: Sequence[int] | None = None,
    worker: str | None = None,
) -> Counter[str]:
    """Read what the journal has got since the last time, frames first and behind them what was read from meters, and write `raw` of every day and
    shard that changed; gives the refusals by cause, of all frames so far. DataError where no reading of an open day was ever heard.

    Frames are judged exactly as the head-end judged them: by the bulk decoder, and where that hands a frame back, by admission. A genuine
    frame whose reading cannot be used (off the grid or outside the open days: out_of_day; not in its model's layout: layout) goes to
    quarantine here. `raw` is the same however often it is collected, and whenever. anew: read the whole journal and write all of `raw` again, for
    example because a file of it was damaged. shards, worker: of a replicated journal, only these shards' frames, remembered there under that name;
    grids of such a worker lie apart.
    """
    journal = open_journal(site.folder, site.deployment, shards=shards, worker=worker)
    try:
        with Gathered.open(site.folder.root / ("grid" if shards is None else f"grid-{worker}")) as kept:
            if anew:
                kept.forget()
            replay = _Replay(site, kept, journal.frames(), shards)
            since = 0
            for pack in _packs(journal.batches(replay.position.batch)):
                before = replay.position.frames
                journal.refuse(replay.take(pack))
                since += replay.position.frames - before
                if progress:
                    progress(replay.position.frames - before)
                if since >= save_frames:
                    replay.save(site, kept)
                    since = 0
            for pulled in journal.pulled(replay.position.pulled):
                journal.refuse(replay.take_pulled(pulled))
            replay.save(site, kept)
    finally:
        journal.close()
    if replay.position.last_heard is None:
        raise DataError(
            f"the journal of {site.folder.root} holds no reading of an open day; is the head-end running, are its meters registered?"
        )
    return replay.causes


def _packs(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    pack: list[Batch] = []
    frames = 0
    for batch in batches:
        pack.append(batch)
        frames += len(batch)
        if frames >= PACK_FRAMES:
            yield pack
            pack, frames = [], 0
    if pack:
        yield pack


class _Pack:
    """The frames of some journal batches, one behind the other, and the way back to where each came from."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self._first = np.cumsum([0, *map(len, batches)])
        parts = [batch.arrays() for batch in batches]
        self.buffer = np.concatenate([octets for octets, _ in parts])
        ends = np.cumsum([0, *(len(octets) for octets, _ in parts)])
        starts = [offsets[:-1] + end for (_, offsets), end in zip(parts, ends[:-1], strict=True)]
        self.offsets = np.concatenate([*starts, ends[-1:]]).astype(np.int64)
        if not _all_wrapped(self.buffer, self.offsets):
            self.buffer, self.offsets = one_behind_the_other([octets for batch in batches for octets in batch.frames])

    def octets(self, frame: int) -> bytes:
        """One frame as it came."""
        batch, position = self._origin(frame)
        return batch.frames[position]

    def refusal(self, frame: int, cause: str, detail: str, serial: str | None) -> Refusal:
        batch, position = self._origin(frame)
        return Refusal(batch.seq, position, cause, detail, serial, batch.received_us, batch.frames[position])

    def _origin(self, frame: int) -> tuple[Batch, int]:
        at = int(np.searchsorted(self._first, frame, "right")) - 1
        return self._batches[at], frame - int(self._first[at])


def _all_wrapped(buffer: npt.NDArray[np.uint8], offsets: Int64) -> bool:
    """Whether every frame begins as a wrapper does."""
    if len(buffer) < 2:
        return False
    at = np.minimum(offsets[:-1], len(buffer) - 2)
    return bool(((np.diff(offsets) > 1) & (buffer[at] == 0) & (buffer[at + 1] == 1)).all())


class _Pull:
    """What one meter gave when it was asked, as a source of refusals."""

    def __init__(self, pulled: Pulled) -> None:
        self._pulled = pulled

    def refusal(self, frame: int, cause: str, detail: str, serial: str | None) -> Refusal:
        one = self._pulled
        return Refusal(-one.seq, frame, cause, detail, serial, one.received_us, one.octets)


class _Replay:
    """Frames in journal order to day grids, from where it was left. `causes` counts every refusal, admission's and those of readings that cannot be
    used. What was pushed and what was read from meters lie in grids of their own: the push was first wherever both speak of a slot."""

    def __init__(self, site: Site, kept: Gathered, frames: int, shards: Sequence[int] | None = None) -> None:
        known = correspondents(
            site.rows.meters(), site.rows.wrapped_keys(), load_master_key(site.folder.master_key), collect_keys(Contacts(site.rows))
        )
        title = headend_title(site.deployment)
        self.position = kept.position(site.deployment, list(known.values()), title, frames)
        self._admission = Admission(known, title, self.position.counters, self.position.moved)
        self._decoder, self._peers = self._admission.decoder, self._admission.peers
        self._shard = np.array([peer.meter.shard for peer in self._peers], np.int64)
        self._index = np.array([peer.meter.index for peer in self._peers], np.int64)
        first, days = site.deployment.first_day, site.deployment.days
        own = [s for s in site.rows.shards() if shards is None or s in shards]
        meters = {s: len(site.rows.serials(s)) for s in own}
        self._pushed, self._pulled = (
            {
                s: DayGrid(s, count, site.calendar, first, days, kept.blocks(source, s), self.position.channels.get(source, {}).get(s, ()))
                for s, count in meters.items()
            }
            for source in SOURCES
        )
        self._row = {peer.meter.serial: row for row, peer in enumerate(self._peers)}
        self._learnt: set[tuple[int, int]] = set()
        self.causes: Counter[str] = Counter(self.position.causes)

    def save(self, site: Site, kept: Gathered) -> None:
        """Write `raw` of what changed, put the grids away, and last the position: a stop before that costs only reading the same frames again."""
        touched = {day for grids in (self._pushed, self._pulled) for grid in grids.values() for day in grid.touched}
        last = max((day for day in (*touched, self.position.last_heard) if day is not None), default=None)
        self.position.last_heard = last
        for day in site.deployment.open_days:
            if last is None or day > last:
                break
            with site.lake.draft(day) as draft:
                for shard, grid in self._pushed.items():
                    other = self._pulled[shard]
                    grown = {SOURCES[0]: grid.channels, SOURCES[1]: other.channels} != self.position.channels_of(shard)
                    wanted = grown or day in grid.touched | other.touched or not site.lake.has("raw", day, shard)
                    if wanted and (blocks := together(grid.blocks(day), other.blocks(day))):
                        draft.write_blocks("raw", blocks)
                draft.commit()
        for source, grids in zip(SOURCES, (self._pushed, self._pulled), strict=True):
            for shard, grid in grids.items():
                for day in sorted(grid.touched):
                    kept.put(source, shard, day, grid.blocks(day))
                self.position.channels.setdefault(source, {})[shard] = grid.channels
                grid.settle()
        self.position.counters, self.position.causes = self._admission.counters, dict(self.causes)
        self.position.moved = dict(self._admission.moved)
        self.position.judged_by = marks(self._peers, self.position.moved)
        kept.remember(self.position)

    def take(self, batches: list[Batch]) -> list[Refusal]:
        """Write what the frames say into the grids; gives the readings that cannot be used."""
        pack = _Pack(batches)
        self._learnt.clear()
        found = self._decoder.decode(pack.buffer, pack.offsets, threads=2)
        refused = self._write(pack, found.frame, found.meter[found.frame], found.stamp_s, np.ascontiguousarray(found.values.T))
        again = self._admission.undecided(found)
        for frame in again.tolist():
            refused += self._judge(pack, frame, int(found.meter[frame]))
        for verdict in (Bulk.UNKNOWN_METER, Bulk.POLICY, Bulk.BAD_TAG, Bulk.REPLAYED_COUNTER):
            if count := int((np.delete(found.verdict, again) == verdict).sum()):
                self.causes[verdict.name.lower()] += count
        self.causes.update(refusal.cause for refusal in refused)
        self.position.batch, self.position.frames = batches[-1].seq, self.position.frames + pack.offsets.size - 1
        return refused

    def take_pulled(self, pulled: Pulled) -> list[Refusal]:
        """Write what was read from a meter into the grids, behind all frames: where both speak of a slot, the push was first. Gives what cannot
        be used; rows that were not asked for, as some meters send, are no readings of ours."""
        self.position.pulled = pulled.seq
        row = self._row.get(pulled.serial)
        source = _Pull(pulled)
        if pulled.profile != BLOCK_LOAD_PROFILE:
            return []
        try:
            readings = [] if row is None else read_pulled(pulled.octets)
        except MeterError as error:
            self.causes[error.cause] += 1
            return [source.refusal(0, error.cause, str(error), pulled.serial)]
        readings = [one for one in readings if one[0] is None or pulled.first_s <= one[0] <= pulled.last_s]
        if row is None or not readings:
            return []
        values = np.full((len(readings), len(COLUMN)), MISSING, np.int32)
        for k, (_, of_row) in enumerate(readings):
            for name, value in of_row.items():
                values[k, COLUMN[name]] = value
        stamps = np.array([MISSING64 if stamp is None else stamp for stamp, _ in readings], np.int64)
        refused = self._write(source, np.arange(len(readings)), np.full(len(readings), row, np.int32), stamps, values)
        self.causes.update(refusal.cause for refusal in refused)
        return refused

    def _judge(self, pack: _Pack, frame: int, row: int) -> list[Refusal]:
        """A frame that the bulk decoder handed back, judged in its place; its form is learnt for the frames to come."""
        serial = self._peers[row].meter.serial if row >= 0 else None
        verdict = self._admission.judge(pack.octets(frame))
        if verdict.cause is not None or verdict.notification is None or serial is None:
            self.causes[verdict.cause or "malformed"] += 1
            return []
        at = int(self._admission.layout[row])
        try:
            if not carries_block_load(verdict.notification.body):
                Reports({}).push(self._peers[row].meter, verdict.notification.body, 0)  # registers and events: the head-end has noted them
                return []
            push = read_push(self._admission.layouts[at], verdict.notification.body)
        except MeterError as error:
            return [pack.refusal(frame, error.cause, str(error), serial)]
        self._learn(at, verdict.notification.encode())
        values = np.full((len(push.rows), len(COLUMN)), MISSING, np.int32)
        for k, (_, row_values) in enumerate(push.rows):
            for name, value in row_values.items():
                values[k, COLUMN[name]] = value
        stamps = np.array([MISSING64 if stamp is None else stamp for stamp, _ in push.rows], np.int64)
        at_frame, at_row = np.full(len(stamps), frame, np.int64), np.full(len(stamps), row, np.int32)
        return self._write(pack, at_frame, at_row, stamps, values)

    def _learn(self, layout: int, plain: bytes) -> None:
        """Know the form of `plain` from the next pack on; once a pack for each length. What cannot be read by place stays with admission."""
        if (layout, len(plain)) in self._learnt:
            return
        self._learnt.add((layout, len(plain)))
        try:
            self._decoder.learn(layout, plain)
        except MeterError:
            return

    def _write(self, pack: _Pack | _Pull, frame: Int64, row: Int32, stamp_s: Int64, values: Int32) -> list[Refusal]:
        """Readings [n] into their shards' grids; gives those that no open day has a slot for."""
        refused = []
        for shard, grid in (self._pushed if isinstance(pack, _Pack) else self._pulled).items():
            own = np.flatnonzero(self._shard[row] == shard)
            inside = grid.write(stamp_s[own], self._index[row[own]], values[own])
            for at in own[~inside].tolist():
                refused.append(self._out_of_day(pack, grid, int(frame[at]), int(row[at]), int(stamp_s[at])))
        return refused

    def _out_of_day(self, pack: _Pack | _Pull, grid: DayGrid, frame: int, row: int, stamp_s: int) -> Refusal:
        why = "the reading has no time stamp"
        if stamp_s != MISSING64:
            why = f"stamped {_local(grid, stamp_s)}, off the grid or outside the days open for readings"
        return pack.refusal(frame, "out_of_day", why, self._peers[row].meter.serial)


def _local(grid: DayGrid, stamp_s: int) -> str:
    """A stamp in words. A meter's clock may say anything, even years that no calendar has."""
    try:
        return f"{grid.calendar.local(stamp_s):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return f"{stamp_s:,} s from 1970"
