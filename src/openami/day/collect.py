"""Frames -> day grid -> raw: the journal replayed into day blocks.

What always holds: frames are judged exactly as the head-end judged them, so the same journal gives the same `raw`; a reading that cannot be
used is in quarantine with its cause and its frame's bytes, and stops no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..cosem.bulk import Verdict as Bulk
from ..cosem.push import read_push
from ..errors import DataError, MeterError
from ..headend.admission import Admission, correspondents, one_behind_the_other
from ..headend.process import headend_title
from ..headend.pulled import BLOCK_LOAD_PROFILE, read_pulled
from ..readings import MISSING, MISSING64, Int32, Int64
from ..store.grid import COLUMN, DayGrid
from ..store.journal import Batch, Pulled, Refusal
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from .site import Site

PACK_FRAMES = 16_384
"""Journal batches are decoded together from this many frames on: enough to feed the compiled loops, little enough for any memory."""


def collect(site: Site, progress: Callable[[int], None] | None = None) -> Counter[str]:
    """Replay the journal, frames first and behind them what was read from meters, and write `raw` for every open day and shard that has a
    reading; gives the refusals by cause. DataError where there is none at all.

    Frames are judged again exactly as the head-end judged them: by the bulk decoder, and where that hands a frame back, by admission. A genuine
    frame whose reading cannot be used (off the grid or outside the open days: out_of_day; not in its model's layout: layout) goes to
    quarantine here.
    """
    journal = open_journal(site.folder, site.deployment)
    replay = _Replay(site)
    for pack in _packs(journal.batches()):
        journal.refuse(replay.take(pack))
        if progress:
            progress(sum(len(batch.frames) for batch in pack))
    for pulled in journal.pulled():
        journal.refuse(replay.take_pulled(pulled))
    journal.close()
    written = 0
    for grid in replay.grids.values():
        for day in site.deployment.open_days:
            if blocks := grid.blocks(day):
                site.lake.write_blocks("raw", blocks)
                written += 1
    if not written:
        raise DataError(
            f"the journal of {site.folder.root} holds no reading of an open day; is the head-end running, are its meters registered?"
        )
    return replay.causes


def _packs(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    pack: list[Batch] = []
    frames = 0
    for batch in batches:
        pack.append(batch)
        frames += len(batch.frames)
        if frames >= PACK_FRAMES:
            yield pack
            pack, frames = [], 0
    if pack:
        yield pack


class _Pack:
    """The frames of some journal batches, one behind the other, and the way back to where each came from."""

    def __init__(self, batches: list[Batch]) -> None:
        self.frames = [octets for batch in batches for octets in batch.frames]
        self._origin = [(batch, position) for batch in batches for position in range(len(batch.frames))]
        self.buffer, self.offsets = one_behind_the_other(self.frames)

    def refusal(self, frame: int, cause: str, detail: str, serial: str | None) -> Refusal:
        batch, position = self._origin[frame]
        return Refusal(batch.seq, position, cause, detail, serial, batch.received_us, self.frames[frame])


class _Pull:
    """What one meter gave when it was asked, as a source of refusals."""

    def __init__(self, pulled: Pulled) -> None:
        self._pulled = pulled

    def refusal(self, frame: int, cause: str, detail: str, serial: str | None) -> Refusal:
        one = self._pulled
        return Refusal(-one.seq, frame, cause, detail, serial, one.received_us, one.octets)


class _Replay:
    """Frames in journal order to day grids. `causes` counts every refusal, admission's and those of readings that cannot be used."""

    def __init__(self, site: Site) -> None:
        known = correspondents(site.rows.meters(), site.rows.wrapped_keys(), load_master_key(site.folder.master_key))
        self._admission = Admission(known, headend_title(site.deployment))
        self._decoder, self._peers = self._admission.decoder, self._admission.peers
        self._shard = np.array([peer.meter.shard for peer in self._peers], np.int64)
        self._index = np.array([peer.meter.index for peer in self._peers], np.int64)
        first, days = site.deployment.first_day, site.deployment.days
        self.grids = {s: DayGrid(s, site.rows.shard_index(s, first).meters, site.calendar, first, days) for s in site.rows.shards()}
        self._row = {peer.meter.serial: row for row, peer in enumerate(self._peers)}
        self._learnt: set[tuple[int, int]] = set()
        self.causes: Counter[str] = Counter()

    def take(self, batches: list[Batch]) -> list[Refusal]:
        """Write what the frames say into the grids; gives the readings that cannot be used."""
        pack = _Pack(batches)
        self._learnt.clear()
        found = self._decoder.decode(pack.buffer, pack.offsets, threads=2)
        refused = self._write(pack, found.frame, found.meter[found.frame], found.stamp_s, np.ascontiguousarray(found.values.T))
        for frame in found.general.tolist():
            refused += self._judge(pack, frame, int(found.meter[frame]))
        for verdict in (Bulk.UNKNOWN_METER, Bulk.POLICY, Bulk.BAD_TAG, Bulk.REPLAYED_COUNTER):
            if count := int((found.verdict == verdict).sum()):
                self.causes[verdict.name.lower()] += count
        self.causes.update(refusal.cause for refusal in refused)
        return refused

    def take_pulled(self, pulled: Pulled) -> list[Refusal]:
        """Write what was read from a meter into the grids, behind all frames: where both speak of a slot, the push was first. Gives what cannot
        be used; rows that were not asked for, as some meters send, are no readings of ours."""
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
        verdict = self._admission.judge(pack.frames[frame])
        if verdict.cause is not None or verdict.notification is None or serial is None:
            self.causes[verdict.cause or "malformed"] += 1
            return []
        at = int(self._admission.layout[row])
        try:
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
        for shard, grid in self.grids.items():
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
