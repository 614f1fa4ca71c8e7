"""Each role with its log, its clock, its figures and its health around it.

What always holds: what keeps a role from its work is in /ready as a sentence; a head-end asks the guard through its clock; a role that was told to
end with its parent does so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prometheus_client.core import Metric

from ..errors import DataError, OpenAMIError, StorageError
from ..headend.process import run_headend
from ..headend.status import read_state
from ..headend.whole import Wish
from ..store.deployment import Folder
from ..store.lake import Lake
from ..store.places import place_of
from ..store.rows import Rows
from ..supply.guard import folder_guard
from ..supply.worker import beside
from .logs import open_log
from .metrics import HeadendFigures, WebFigures, registry_of, worker_figures
from .traces import open_traces
from .watch import Clock, Reasons, Watch, address, careful
from .worker import LONGEST_S, Progress, Task, work

log = logging.getLogger("openami.roles")
T = TypeVar("T")
STALE_S = 60
"""A head-end writes its state every five seconds: one that has not for so long hangs."""
HANGS_S = 4 * LONGEST_S
"""A worker beats between packs of frames and closed days; where it does not for an hour, starting it again may help."""
LOOK_AGAIN_S = 5.0
LITTLE_BYTES = 256 * 2**20
"""Less free space than this: no more work should come here."""


@contextlib.contextmanager
def operated(
    role: str,
    folder: Folder,
    watch: str | None,
    form: str,
    clock: Clock,
    figures: Callable[[], Iterable[Metric]],
    live: Reasons,
    ready: Reasons,
) -> Iterator[None]:
    """A role between its beginning and its end. watch: where to answer whoever watches, None = nowhere; form: of the log, json or plain."""
    open_log(form, role)
    open_traces(role)
    clock.keep_looking()
    with contextlib.ExitStack() as stack:
        if watch is not None:
            registry = registry_of(role, figures, clock.figures)
            stack.enter_context(Watch(address(watch), registry, live, lambda: [*ready(), *_room(folder.root)]))
        yield


def run_headend_role(folder: Folder, wish: Wish, watch: str | None, form: str, *, until_input_ends: bool = False) -> None:
    """Take pushes until told to stop; as `headend.process.run_headend`."""
    clock, begun_s, pid = Clock(), time.monotonic(), os.getpid()

    def against() -> list[str]:
        state = read_state(folder) or {}
        if state.get("pid") != pid or not state.get("running"):
            return ["the head-end does not listen yet: it reads what the journal holds"]
        if state.get("known_meters") == 0:
            return ["the database is away, and no meter is known here yet: pushes are stored and not confirmed"]
        age_s = time.time() - float(state.get("at_s", 0))
        return [f"the head-end has not told how it is for {age_s:.0f} s"] if age_s > STALE_S else []

    def live() -> list[str]:
        """One that never listened is alive while it reads a long journal; one that did and is silent now hangs."""
        state = read_state(folder) or {}
        if state.get("database") == "away":
            return []
        listened = state.get("pid") == pid and time.monotonic() - begun_s > STALE_S
        return against() if listened and clock.trusted else []

    with operated("headend", folder, watch, form, clock, HeadendFigures(folder), live, against):
        run_headend(folder, wish, careful(folder_guard(folder), clock), until_input_ends=until_input_ends)


def run_worker_role(folder: Folder, task: Task, watch: str | None, form: str, *, until_input_ends: bool = False) -> None:
    """Collect and close until told to stop; a round under way is ended first."""
    progress, stop = Progress(), threading.Event()

    def told(*_: object) -> None:
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, told)
    if until_input_ends:
        end_with_parent()

    def live() -> list[str]:
        still_s = time.monotonic() - progress.beat
        return [f"the worker has not moved for {still_s:.0f} s"] if still_s > HANGS_S else []

    with operated("worker", folder, watch, form, Clock(), worker_figures(folder, progress), live, lambda: [w for w in [progress.why] if w]):
        folder.load()
        print(json.dumps({"working": task.name, "shards": task.shards}), flush=True)
        with beside(folder):
            work(folder, task, progress, stop)
    log.info(
        "worker stopped: %d rounds, %d failed, %d frames, %d days closed",
        progress.rounds,
        progress.failed,
        progress.frames,
        progress.closed,
    )


@dataclass
class Console:
    """What a console's process has around it. why: what keeps it from its work, "" = nothing."""

    folder: Folder
    figures: WebFigures = field(default_factory=WebFigures)
    why: str = ""

    def opened(self, make: Callable[[], T]) -> T:
        """What `make` opens. Where the meters are real it is waited for: such a deployment begins without a closed day, and its database may be away
        when this process starts. Of a demo, and where waiting helps nobody, the error is raised."""
        while True:
            try:
                made = make()
            except (DataError, StorageError) as error:
                if not self._may_come(error):
                    raise
                if self.why != str(error):
                    log.warning("the console waits, because %s", error)
                self.why = str(error)
                threading.Event().wait(LOOK_AGAIN_S)
            else:
                self.why = ""
                return made

    @contextlib.contextmanager
    def busy(self, why: str) -> Iterator[None]:
        """Meanwhile it is not ready."""
        self.why = why
        try:
            yield
        finally:
            self.why = ""

    def ready(self) -> list[str]:
        """What speaks against sending people here."""
        if self.why:
            return [self.why]
        try:
            Rows.of(self.folder).close()
        except OpenAMIError as error:
            return [str(error)]
        return []

    def _may_come(self, error: OpenAMIError) -> bool:
        if self.folder.is_simulated():
            return False
        if isinstance(error, StorageError):
            return True
        return "closes" not in Lake(place_of(self.folder, self.folder.load())).tables()


@contextlib.contextmanager
def web_role(folder: Folder, watch: str | None, form: str, *, until_input_ends: bool = False) -> Iterator[Console]:
    """Around a console."""
    if until_input_ends:
        end_with_parent()
    console = Console(folder)
    with operated("web", folder, watch, form, Clock(), console.figures, list, console.ready):
        yield console


def end_with_parent() -> None:
    """SIGTERM to this process once its standard input ends."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _room(root: Path) -> list[str]:
    try:
        at = os.statvfs(root)
    except OSError as error:
        return [f"{root} cannot be looked at ({error.strerror})"]
    free = at.f_bavail * at.f_frsize
    return [f"only {free / 2**20:.0f} MiB are free below {root}; make room before the journal refuses"] if free < LITTLE_BYTES else []
