"""`openami serve --processes`: a console of several processes at one port, each of which may die without being missed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.houses import build
from openami.cli import app
from operate.roles import Role, get, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="processes share a port on Linux")
ADDRESS = r"http://127\.0\.0\.1:(\d+)/"


def listens(pid: int, port: int) -> bool:
    """Whether the process itself listens at the port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    return any(os.path.realpath(path).rpartition("/")[2] in sockets for path in Path(f"/proc/{pid}/fd").iterdir())


def test_one_of_two_processes_is_killed_and_nobody_notices(tmp_path):
    house = build(tmp_path / "town")
    with Role(house.folder, "web", "--port", "0", "--processes", "2") as console:
        port = int(console.until(ADDRESS)[1])
        pids = [int(console.until(rf"web-{k} runs as process (\d+)")[1]) for k in (1, 2)]
        for pid in pids:
            wait_until(lambda pid=pid: listens(pid, port))
        assert get(port, "/health")[0] == 200
        before = len(console.told)
        os.kill(pids[0], signal.SIGKILL)
        console.until(r"web-1 ended \(killed by SIGKILL\)", before)
        assert [get(port, "/health")[0] for _ in range(20)] == [200] * 20
        again = int(console.until(r"web-1 runs as process (\d+)", before)[1])
        wait_until(lambda: listens(again, port))
        for more in ([], ["--processes", "2"]):
            other = CliRunner().invoke(app, ["serve", "--data", str(house.folder), "--port", str(port), *more])
            assert f"cannot listen on 127.0.0.1:{port}" in str(other.exception), "of another console at the same port"
        assert console.stop() == 0
    assert not any(Path(f"/proc/{pid}/fd").exists() for pid in (pids[1], again)), "they end with the one that looks after them"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--processes", "0"], "--processes is 0; give 1 to 64"),
        (["--processes", "2", "--role", "headend"], "--processes is of the console; the headend scales by"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, given, says):
    assert says in str(CliRunner().invoke(app, ["serve", "--data", str(tmp_path), *given]).exception)
