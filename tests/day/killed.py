"""A process that closes data folders and is killed while it does. `python -m tests.day.killed`: reads lines "FOLDER POINT", answers each with
"killed", or with how many points it passed when it came through.

Each order is carried out by a fork, which kills itself with SIGKILL at its POINT-th step: before and after each sync of a file, and before and
after each commit of a table. This process itself does nothing that a fork could not inherit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from openami.day import Site, close_all
from openami.store.deployment import Folder
from openami.store.lake import Lake


class Steps:
    """Counts steps, and kills this process at the one that was asked for."""

    def __init__(self, point: int) -> None:
        self._point, self.passed, self._lock = point, 0, threading.Lock()

    def around(self, function: Any) -> Any:
        def stepped(*arguments: Any, **named: Any) -> Any:
            self._step()
            found = function(*arguments, **named)
            self._step()
            return found

        return stepped

    def _step(self) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self._point:
                os.kill(os.getpid(), signal.SIGKILL)


def close(folder: str, point: int) -> int:
    steps = Steps(point)
    os.fsync = steps.around(os.fsync)
    Lake.commit = steps.around(Lake.commit)  # type: ignore[method-assign]
    close_all(Site.open(Folder(Path(folder))))
    return steps.passed


if __name__ == "__main__":
    for order in sys.stdin:
        name, asked = order.split()
        answer, question = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(question, str(close(name, int(asked))).encode())
            os._exit(0)
        os.close(question)
        _, status = os.waitpid(child, 0)
        passed = os.read(answer, 100).decode()
        os.close(answer)
        print("killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else passed, flush=True)
