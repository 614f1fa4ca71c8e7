"""The head-end as the process that it is in the field, to be stopped in good order or killed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Headend:
    """`openami serve --role headend` on one folder and port, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.kills = folder, free_port(), 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        options = ["--role", "headend", "--data", str(self.folder), "--port", str(self.port)]
        command = [sys.executable, "-m", "openami", "serve", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the head-end did not start: {self._process.communicate()[1]}")
        assert json.loads(line)["port"] == self.port

    def kill(self) -> None:
        """kill -9, and nothing of it is left."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self.kills += 1

    def stop(self) -> tuple[int, str]:
        """SIGTERM; gives the exit code and what stood on standard error."""
        assert self._process is not None
        self._process.terminate()
        _, told = self._process.communicate()
        return self._process.returncode, told

    def __enter__(self) -> Headend:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
