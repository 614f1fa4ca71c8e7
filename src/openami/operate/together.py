"""All roles on one machine: head-end, worker and console, each a process of its own, started again when it ends.

What always holds: each role ends with this process, however that ends (its standard input closes); a role that keeps ending is started ever more
slowly, never given up, and each end is told in a sentence with its cause.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

log = logging.getLogger("openami.together")
FIRST_S, LAST_S, STEADY_S = 1.0, 60.0, 60.0
"""How long until a role is started again, doubled each time up to the second; back to the first once it has run for the third."""
STOP_S = 30.0


@dataclass(slots=True)
class Role:
    """One role. arguments: behind `openami serve`."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    wait_s: float = FIRST_S
    again_at: float = 0.0
    starts: int = 0
    ends: list[int] = field(default_factory=list)


class Together:
    """Keeps roles running from `run` until `stop`."""

    def __init__(self, roles: Sequence[Role], first_s: float = FIRST_S) -> None:
        self.roles, self._first_s = list(roles), first_s
        self._stop = threading.Event()
        for role in self.roles:
            role.wait_s = first_s

    def stop(self) -> None:
        """May be called from a signal's handler or another thread."""
        self._stop.set()

    def run(self) -> None:
        """Until `stop`; then the roles are told to end in good order, and killed where they do not."""
        try:
            for role in self.roles:
                self._start(role)
            while not self._stop.wait(0.2):
                for role in self.roles:
                    self._look_after(role)
        finally:
            self._end_all()

    def _start(self, role: Role) -> None:
        command = [sys.executable, "-m", "openami", "serve", "--until-input-ends", *role.arguments]
        role.process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - our own program and arguments
        role.begun, role.starts = time.monotonic(), role.starts + 1
        log.info("%s runs as process %d", role.name, role.process.pid)

    def _look_after(self, role: Role) -> None:
        if role.process is None:
            if time.monotonic() >= role.again_at:
                self._start(role)
            return
        code = role.process.poll()
        if code is None:
            return
        _let_go(role.process)
        role.process = None
        role.ends.append(code)
        if time.monotonic() - role.begun >= STEADY_S:
            role.wait_s = self._first_s
        role.again_at = time.monotonic() + role.wait_s
        log.error("%s ended (%s); it is started again in %.0f s, the others go on", role.name, _cause(code), role.wait_s)
        role.wait_s = min(LAST_S, 2 * role.wait_s)

    def _end_all(self) -> None:
        running = [role.process for role in self.roles if role.process is not None]
        for process in running:
            process.terminate()
        patience = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.1, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("process %d did not end within %.0f s and is killed", process.pid, STOP_S)
                process.kill()
                process.wait()
            _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}; its last sentence says why"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
