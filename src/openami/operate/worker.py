"""The role that collects and closes: reads the journal on, closes days once they are over and waited for, posts adjustments for what came late.

    work(folder, Task(shards=(0, 1), name="worker-0"), progress, told_to_stop)

What always holds: a round that fails changes nothing that cannot be done again, is told in one sentence, and is done again; a day is closed only
`close_after_s` behind its end, so that what is still on its way is not taken for missing; two workers never share a shard (the folder's lock, and
the stream's owner, refuse the second).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

from ..day import Site, close_all, collect
from ..day.closes import is_closed
from ..day.findings import record
from ..errors import DataError, InputError, StorageError
from ..store.deployment import Folder
from ..store.history import History
from .traces import span

log = logging.getLogger("openami.worker")
CLOSE_AFTER_S = 8 * 3600
"""The first service level: within eight hours of midnight nearly everything is there, and gaps have been read."""
EVERY_S, ADJUST_EVERY_S, LONGEST_S = 60.0, 3600.0, 900.0


@dataclass(frozen=True, slots=True)
class Task:
    """shards: None = all; name: of the durable reader in a replicated journal; every_s: between rounds."""

    shards: tuple[int, ...] | None = None
    name: str = "worker"
    every_s: float = EVERY_S
    close_after_s: int = CLOSE_AFTER_S


@dataclass(slots=True)
class Progress:
    """How far a worker is. last_round_s: UTC seconds; lag_frames: frames that the journal had more than were read, None = not known;
    refused: by cause, of all frames read."""

    rounds: int = 0
    failed: int = 0
    frames: int = 0
    closed: int = 0
    reckoned: int = 0
    adjustments: int = 0
    lag_frames: int | None = None
    last_round_s: float | None = None
    last_closed: date | None = None
    last_closed_s: int = 0
    why: str = "no round has ended yet"
    beat: float = field(default_factory=time.monotonic)
    busy_s: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)


def work(
    folder: Folder,
    task: Task,
    progress: Progress,
    stop: threading.Event,
    now_s: Callable[[], float] = time.time,
) -> None:
    """Rounds until `stop`. InputError where the task does not fit the deployment; errors of a round are told, and the round is
    done again, each time a little later."""
    _fits(folder, task)
    adjusted_s, wait_s = float("-inf"), task.every_s
    while not stop.is_set():
        begun = time.monotonic()
        try:
            with span("worker.round"):
                adjusts = begun - adjusted_s >= ADJUST_EVERY_S
                closed = one_round(folder, task, progress, now_s(), adjusts=adjusts)
            adjusted_s = begun if adjusts or closed else adjusted_s
            if progress.why and progress.failed:
                log.info("the worker works again, after: %s", progress.why)
            progress.rounds, progress.why, progress.last_round_s, wait_s = progress.rounds + 1, "", now_s(), task.every_s
        except (StorageError, DataError, InputError) as error:  # InputError: a file of the audit's that somebody has written wrong
            wait_s = min(LONGEST_S, 2 * wait_s) if progress.why == str(error) else task.every_s
            progress.failed, progress.why = progress.failed + 1, str(error)
            log.error("this round changed nothing and is done again in %.0f s: %s", wait_s, error)
        progress.beat = time.monotonic()
        stop.wait(max(0.0, wait_s - (time.monotonic() - begun)))


def one_round(folder: Folder, task: Task, progress: Progress, now_s: float, *, adjusts: bool = True) -> int:
    """Collect, close what is due, and where `adjusts` reckon again what changed behind its close; gives how many (day, shard) were closed."""
    site = Site.open(folder)
    try:
        own = _own(site, task)

        def tick(frames: int) -> None:
            progress.frames += frames
            progress.beat = time.monotonic()

        held = site.journal_frames() if site.deployment.journal is None else None  # of a stream, its servers say who is behind
        if held == 0:
            progress.lag_frames = 0
            return 0
        with _timed(progress, "collect"), span("worker.collect"):
            _tell_refused(progress, collect(site, tick, shards=task.shards, worker=task.name))
        progress.lag_frames = max(0, site.journal_frames() - held) if held is not None else None
        days = due_days(site, now_s, task.close_after_s)
        new = [day for day in days for shard in own if site.lake.has("raw", day, shard) and not is_closed(site.lake, day, shard)]
        if not new and not adjusts:
            return 0
        with _timed(progress, "close"), span("worker.close", days=len(days), shards=len(own)):
            done = close_all(site, lambda _: tick(0), days=days, shards=own)
        progress.closed += done["closed"]
        progress.reckoned += done["reckoned"]
        progress.adjustments += done["adjustments"]
        if done["closed"] or done["reckoned"]:
            log.info("%d closed, %d reckoned again, %d adjustments", done["closed"], done["reckoned"], done["adjustments"])
            with _timed(progress, "history"):
                History(site.lake).keep_up(max(days))
        with _timed(progress, "findings"), span("worker.findings"):
            record(site, shards=own)
        progress.beat = time.monotonic()
        if days and (last := max((day for day in days if all(is_closed(site.lake, day, s) for s in own)), default=None)):
            progress.last_closed, progress.last_closed_s = last, site.calendar.day_start(last)
        return int(done["closed"])
    finally:
        site.rows.close()


def _tell_refused(progress: Progress, causes: Counter[str]) -> None:
    """What was refused since the last round: of the first, since the journal began."""
    fresh, progress.refused = causes - progress.refused, causes
    if fresh:
        log.warning("refused, and kept in quarantine: %s", ", ".join(f"{count} {cause}" for cause, count in sorted(fresh.items())))


def due_days(site: Site, now_s: float, close_after_s: int) -> list[date]:
    """The open days that are over for `close_after_s`, in order."""
    return [day for day in site.deployment.open_days if site.calendar.day_start(day + timedelta(days=1)) + close_after_s <= now_s]


def _own(site: Site, task: Task) -> list[int]:
    known = site.rows.shards()
    if task.shards is None:
        return list(known)
    return [shard for shard in task.shards if shard in known]  # one that is not there yet comes with its first meter


def _fits(folder: Folder, task: Task) -> None:
    if task.shards is not None and folder.load().journal is None:
        raise InputError(
            "--shard divides the work of several workers, and the journal in the folder has one reader; leave it out, or set journal = "
            '"nats://..." in openami.toml'
        )


class _timed:
    """Adds the time of a step to the worker's figures."""

    def __init__(self, progress: Progress, step: str) -> None:
        self._progress, self._step = progress, step

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        spent = self._progress.busy_s
        spent[self._step] = spent.get(self._step, 0.0) + time.monotonic() - self._begun
