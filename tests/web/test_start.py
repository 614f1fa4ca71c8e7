"""How a console begins: what it reads before it listens keeps it from nobody for longer than it takes, and from nothing for ever."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from api.houses import build
from day.sites import DAYS, FIRST
from operate.roles import GUARD_S, Role, get

from .test_processes import listens

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is looked up in /proc who listens")
LATEST = f"day={FIRST.replace(day=FIRST.day + DAYS - 1).isoformat()}"
LISTENS = r"the console is at http://127\.0\.0\.1:(\d+)/"


READS = "the latest closed day is read before the console listens"
WAITING = """
import threading
from openami.cli import main
from openami.web.ahead import Ahead
Ahead.look = lambda self: threading.Event().wait()
main()
"""
"""A console that does not come to an end of its reading."""


@pytest.fixture
def slow(tmp_path: Path) -> tuple[Path, Path]:
    """A data folder, and a file of its latest day for which whoever reads it waits: a pipe into which nobody has written yet."""
    folder = build(tmp_path / "town").folder
    file = next((folder / "lake" / "meter_day" / LATEST).rglob("*.parquet"))
    file.unlink()
    os.mkfifo(file)
    return folder, file


def test_until_the_latest_day_is_read_it_is_alive_and_not_ready_and_nobody_waits_at_its_port(slow) -> None:
    folder, file = slow
    with Role(folder, "web", "--port", "0", "--watch", "127.0.0.1:0") as console:
        watch = int(console.until(r"metrics and health on port (\d+)")[1])
        console.until(READS)
        assert get(watch, "/live")[0] == 200
        status, why = get(watch, "/ready")
        assert (status, json.loads(why)["against"]) == (503, [READS])
        assert not any(re.search(LISTENS, line) for line in console.told)
        with file.open("wb"):  # what it waits for is there, and is no day
            file.unlink()
        port = int(console.until(LISTENS)[1])
        assert listens(console.process.pid, port)
        assert get(port, "/health")[0] == 200
        assert get(watch, "/ready")[0] == 200


def test_ctrl_c_ends_it_while_it_reads(tmp_path) -> None:
    command = [sys.executable, "-c", WAITING, "serve", "--data", str(build(tmp_path / "town").folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as console:
        assert console.stderr is not None
        assert READS in console.stderr.readline().lower()
        console.send_signal(signal.SIGINT)
        assert console.stderr.read() == ""
    assert console.returncode == 0


def test_a_port_that_somebody_listens_at_is_told_before_anything_is_read(slow) -> None:
    folder, _ = slow
    with socket.create_server(("127.0.0.1", 0)) as other, Role(folder, "web", "--port", str(other.getsockname()[1])) as console:
        console.until(r"cannot listen on 127\.0\.0\.1:\d+")
        assert console.process.wait(GUARD_S) == 2
