"""How a console begins: what it reads before it listens keeps it from nobody for longer than it takes, and from nothing for ever."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
import uvicorn

from api.houses import build
from day.sites import DAYS, FIRST
from openami.cli.serving import _server, bind
from openami.errors import InputError
from operate.roles import GUARD_S, Role, get

from .test_processes import listens

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is looked up in /proc who listens")
LATEST = f"day={FIRST.replace(day=FIRST.day + DAYS - 1).isoformat()}"
LISTENS = r"the console is at http://127\.0\.0\.1:(\d+)/"


READS = "the latest closed day is read before the console listens"


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


@pytest.mark.parametrize(("signum", "ends_with"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_is_ended_while_it_reads_what_does_not_come(slow, signum: int, ends_with: int) -> None:
    """The reading stands in the system, where no signal is looked at."""
    folder, _ = slow
    with Role(folder, "web", "--port", "0") as console:
        console.until(READS)
        console.process.send_signal(signum)
        assert console.process.wait(GUARD_S) == ends_with


def test_of_two_that_kept_one_port_the_one_that_listens_later_says_that_it_cannot() -> None:
    """Each reads before it listens, so both may have come by the port."""
    first = bind("127.0.0.1", 0, listening=False)
    port = first.getsockname()[1]
    second = bind("127.0.0.1", port, listening=False)
    said: list[str] = []

    async def app(scope, receive, send) -> None: ...

    with first, second:
        first.listen()
        server = _server(uvicorn.Config(app, "127.0.0.1", port, lifespan="off", log_config=None), lambda: said.append("it listens"))
        server.should_exit = True
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address already in use\)"):
            server.run(sockets=[second])
    assert said == []


def test_a_port_that_somebody_listens_at_is_told_before_anything_is_read(slow) -> None:
    folder, _ = slow
    with socket.create_server(("127.0.0.1", 0)) as other, Role(folder, "web", "--port", str(other.getsockname()[1])) as console:
        console.until(r"cannot listen on 127\.0\.0\.1:\d+")
        assert console.process.wait(GUARD_S) == 2
