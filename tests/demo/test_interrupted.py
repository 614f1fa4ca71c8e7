"""A demo that is interrupted, terminated or killed: what was there stays, nothing is left half-built, no head-end lives on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _begin(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "openami", "demo", "--no-serve", "--meters", "60", "--days", "3", "--data", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _until_pushing(folder: Path, demo: subprocess.Popen[str]) -> None:
    """Until the head-end's journal has grown: the fleet is at work."""
    journal = folder.with_name(folder.name + ".partial") / "journal" / "journal.db-wal"
    _wait(lambda: demo.poll() is not None or (journal.exists() and journal.stat().st_size > 50_000))
    assert demo.poll() is None, demo.communicate()


def _wait(ready: object, patience_s: float = 60) -> None:
    until = time.monotonic() + patience_s
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < until, "waited too long"
        os.sched_yield()


def _headends_of(folder: Path) -> list[int]:
    found = []
    for each in Path("/proc").iterdir():
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"headend" in words and any(word.startswith(str(folder).encode()) for word in words):
            found.append(int(each.name))
    return found


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, signum: int, code: int) -> None:
    folder = tmp_path / "town"
    demo = _begin(folder)
    _until_pushing(folder, demo)
    demo.send_signal(signum)
    _, said = demo.communicate(timeout=60)
    assert demo.returncode == code
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert _headends_of(folder) == []


def test_the_head_end_of_a_killed_demo_ends_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "town"
    demo = _begin(folder)
    _until_pushing(folder, demo)
    demo.kill()
    demo.communicate(timeout=60)
    _wait(lambda: not _headends_of(folder))
    assert not folder.exists()
