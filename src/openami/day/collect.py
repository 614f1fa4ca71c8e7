"""Frames -> day grid -> raw: the journal replayed into day blocks.

What always holds: frames are judged exactly as the head-end judged them, so the same journal gives the same `raw`; a reading that cannot be
used is in quarantine with its cause and its frame's bytes, and stops no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..cosem.push import layout_for, read_push
from ..errors import DataError, MeterError
from ..headend.admission import Admission, Verdict, correspondents
from ..headend.process import headend_title
from ..readings import MISSING
from ..registry import Meter
from ..store.grid import COLUMN, DayGrid
from ..store.journal import Journal, Refusal
from ..store.keys import load_master_key
from .site import Site

BLOCK_LOAD_PUSH = "0.5.25.9.0.255"
"""The push object whose rows are block load [verify: IS 15959 part 2's amendments number it so]."""


def collect(site: Site, progress: Callable[[int], None] | None = None) -> Counter[str]:
    """Replay the journal from its first frame and write `raw` for every open day and shard; gives the refusals by cause.

    Frames are judged again exactly as the head-end judged them. A genuine frame whose reading cannot be used (off the grid or outside the open
    days: out_of_day; not in its model's layout: layout) goes to quarantine here.
    """
    journal = Journal(site.folder.journal)
    known = correspondents(site.rows.meters(), site.rows.wrapped_keys(), load_master_key(site.folder.master_key))
    admission = Admission(known, headend_title(site.deployment))
    first, days = site.deployment.first_day, site.deployment.days
    grids = {s: DayGrid(s, site.rows.shard_index(s, first).meters, site.calendar, first, days) for s in site.rows.shards()}
    causes: Counter[str] = Counter()
    for batch in journal.batches():
        taken: list[_Taken] = []
        refused: list[Refusal] = []
        for position, octets in enumerate(batch.frames):
            verdict = admission.judge(octets)
            refusal = Refusal(batch.seq, position, verdict.cause or "", verdict.detail, verdict.serial, batch.received_us, octets)
            if verdict.cause is not None:
                causes[verdict.cause] += 1
            else:
                taken.extend(_read(verdict, refusal, refused))
        _write(grids, taken, refused)
        causes.update(r.cause for r in refused)
        journal.refuse(refused)
        if progress:
            progress(len(batch.frames))
    journal.close()
    for shard, grid in grids.items():
        for day in site.deployment.open_days:
            if blocks := grid.blocks(day):
                site.lake.write_blocks("raw", blocks)
            else:
                raise DataError(f"shard {shard} has no reading at all on {day}; is its head-end running, and are its meters registered?")
    return causes


@dataclass(frozen=True, slots=True)
class _Taken:
    """One reading of an accepted frame, and the refusal it becomes if the grid has no place for it."""

    meter: Meter
    stamp_s: int
    values: dict[str, int]
    otherwise: Refusal


def _read(verdict: Verdict, frame: Refusal, refused: list[Refusal]) -> Iterator[_Taken]:
    """The readings of an accepted frame; a frame that does not fit its model's layout is added to `refused`."""
    meter, push = verdict.meter, verdict.notification
    assert meter is not None
    assert push is not None
    try:
        readings = read_push(layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH), push.body)
    except MeterError as error:
        refused.append(_because(frame, error.cause, str(error)))
        return
    for stamp_s, values in readings.rows:
        if stamp_s is None:
            refused.append(_because(frame, "out_of_day", "the reading has no time stamp"))
        else:
            yield _Taken(meter, stamp_s, values, frame)


def _write(grids: dict[int, DayGrid], taken: list[_Taken], refused: list[Refusal]) -> None:
    for shard, grid in grids.items():
        own = [t for t in taken if t.meter.shard == shard]
        if not own:
            continue
        values = np.full((len(own), len(COLUMN)), MISSING, np.int32)
        for row, reading in enumerate(own):
            for name, value in reading.values.items():
                values[row, COLUMN[name]] = value
        stamps = np.fromiter((t.stamp_s for t in own), np.int64, len(own))
        inside = grid.write(stamps, np.fromiter((t.meter.index for t in own), np.int64, len(own)), values)
        for outside in np.flatnonzero(~inside).tolist():
            local = grid.calendar.local(own[outside].stamp_s)
            why = f"stamped {local:%Y-%m-%d %H:%M:%S}, off the grid or outside the days open for readings"
            refused.append(_because(own[outside].otherwise, "out_of_day", why))


def _because(frame: Refusal, cause: str, detail: str) -> Refusal:
    return Refusal(frame.seq, frame.position, cause, detail, frame.serial, frame.received_us, frame.octets)
