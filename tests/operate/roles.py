"""Roles as the processes that they are in operation, and pushes to them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

GUARD_S = 300
"""How long anything is waited for; a wait ends as soon as it has come. On a busy machine a process of ours takes a minute to begin."""


class Role:
    """`openami serve ...` with its log as JSON. told: the lines of its log so far."""

    def __init__(self, folder: Path, role: str, *more: str) -> None:
        self._begin(["serve", "--data", str(folder), "--role", role, "--log", "json", *more], None)

    @classmethod
    def of(cls, words: list[str], environment: dict[str, str]) -> Role:
        """`openami` with other words."""
        role = cls.__new__(cls)
        role._begin(words, environment)
        return role

    def _begin(self, words: list[str], environment: dict[str, str] | None) -> None:
        self.told: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openami", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.told.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def first_line(self) -> dict[str, object]:
        """What it says on standard output when it works."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it did not start: {self.told}")
        return dict(json.loads(line))

    def until(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Waits until a line of the log, behind the first `after`, matches."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.told[after:] if (match := re.search(pattern, line))), None)

        with self._news:
            if not self._news.wait_for(lambda: found() is not None or self.process.poll() is not None, GUARD_S):
                raise AssertionError(f"{pattern!r} was not said: {self.told}")
        self._reader.join(0 if self.process.poll() is None else GUARD_S)
        match = found()
        assert match is not None, (pattern, self.told)
        return match

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.terminate()
        code = self.process.wait(GUARD_S)
        self._reader.join(GUARD_S)
        return code

    def __enter__(self) -> Role:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._reader.join(GUARD_S)
        if self.process.stderr is not None:
            self.process.stderr.close()


def wait_until(so: Callable[[], bool]) -> None:
    """Looks again and again until it is so."""
    pause = threading.Event()
    patience = time.monotonic() + GUARD_S
    while not so():
        if time.monotonic() > patience:
            raise AssertionError(f"it did not become so within {GUARD_S} s")
        pause.wait(0.1)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=GUARD_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def figures(port: int) -> dict[str, float]:
    """name{labels} -> value of /metrics."""
    _, text = get(port, "/metrics")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line and not line.startswith("#")}


def push(port: int, frames: list[bytes], wanted: Callable[[bytes], bool] = lambda answers: False) -> bytes:
    """Send frames over one connection; gives the answers, read until the other side has closed or has said what is `wanted`."""
    answers = b""
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD_S) as peer:
        peer.sendall(b"".join(frames))
        peer.shutdown(socket.SHUT_WR)
        while not wanted(answers) and (part := peer.recv(65_536)):
            answers += part
    return answers


def confirmations(answers: bytes) -> int:
    """How many wrapper frames stand one behind the other."""
    count = 0
    while len(answers) >= 8:
        answers = answers[8 + int.from_bytes(answers[6:8], "big") :]
        count += 1
    return count
