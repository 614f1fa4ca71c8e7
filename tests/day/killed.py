"""A process that closes or collects data folders and is killed while it does. `python -m tests.day.killed close|collect`: reads lines "FOLDER POINT",
answers each with "killed", or with how many points it passed when it came through.

Each order is carried out by a fork, which kills itself with SIGKILL at its POINT-th step: before and after each sync of a file, before and after
each commit of a table, and whenever frames were read. This process itself does nothing that a fork could not inherit; it loads what every fork would
have to load again: what pyarrow looks for when it makes its first array, the tariffs, and the compiled functions of a fork that came through.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from numba.core.dispatcher import Dispatcher

from openami.billing.tariff import load_tariffs
from openami.day import Site, close_all, collect
from openami.store.deployment import Folder
from openami.store.lake import Lake


class Steps:
    """Counts steps, and kills this process at the one that was asked for."""

    def __init__(self, point: int) -> None:
        self._point, self.passed, self._lock = point, 0, threading.Lock()

    def around(self, function: Any) -> Any:
        def stepped(*arguments: Any, **named: Any) -> Any:
            self.step()
            found = function(*arguments, **named)
            self.step()
            return found

        return stepped

    def step(self, _: int = 0) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self._point:
                os.kill(os.getpid(), signal.SIGKILL)


def a_close(folder: Path, steps: Steps) -> None:
    close_all(Site.open(Folder(folder)))


def a_collection(folder: Path, steps: Steps) -> None:
    """A few frames at a time, put away every two hundred."""
    sys.modules["openami.day.collect"].PACK_FRAMES = 100  # type: ignore[attr-defined]
    collect(Site.open(Folder(folder)), steps.step, save_frames=200)


def answer(work: Callable[[Path, Steps], None], folder: Path, point: int) -> str:
    """What became of a fork that did it."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        steps = Steps(point)
        os.fsync = steps.around(os.fsync)
        Lake.commit = steps.around(Lake.commit)  # type: ignore[method-assign]
        work(folder, steps)
        with os.fdopen(tell, "wb") as out:
            pickle.dump((steps.passed, {name: function.signatures for name, function in compiled()}), out)
        os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as read:
        left = read.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    passed, signatures = pickle.loads(left)  # of our own fork
    for name, function in compiled():
        for signature in signatures.get(name, ()):
            function.compile(signature)
    return str(passed)


def compiled() -> Iterator[tuple[str, Any]]:
    for name, module in sorted(sys.modules.items()):
        if name.startswith("openami."):
            yield from ((f"{name}.{own}", value) for own, value in vars(module).items() if isinstance(value, Dispatcher))


WORK = {"close": a_close, "collect": a_collection}


@contextmanager
def killable(work: str) -> Iterator[Callable[[Path, int], str]]:
    """Such a process; asked for a folder and a point it gives its answer."""
    command = [sys.executable, "-m", "tests.day.killed", work]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        asks, answers = process.stdin, process.stdout
        assert asks is not None
        assert answers is not None

        def ask(folder: Path, point: int) -> str:
            asks.write(f"{folder} {point}\n")
            asks.flush()
            found = answers.readline().strip()
            assert found, "it ended without an answer"
            return found

        yield ask
        asks.close()


if __name__ == "__main__":
    pa.array([date(2025, 12, 1)])
    load_tariffs()
    gc.freeze()  # or a collection in a fork would copy every page of this process
    for order in sys.stdin:
        where, asked = order.split()
        print(answer(WORK[sys.argv[1]], Path(where), int(asked)), flush=True)
