"""The head-end as a process: it says where it listens, stops in good order, and refuses to start with one sentence."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from openami import cli
from openami.cosem.push import layout_for
from openami.cosem.wrapper import WrapperReader
from openami.demo.run import found
from openami.fleet.meter import BLOCK_LOAD_PUSH, SimulatedMeter
from openami.fleet.town import Town, build_town
from openami.store.deployment import FILE, Folder
from openami.store.journal import Journal

from .running import Headend, free_port


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town(1, 20, date(2025, 12, 1), 1, ("BR-DS2",))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    root = tmp_path_factory.mktemp("founded") / "data"
    found(Folder(root), town)
    return root


@pytest.fixture
def folder(tmp_path: Path, founded: Path) -> Folder:
    return Folder(Path(shutil.copytree(founded, tmp_path / "data")))


def device(town: Town, counter: int | None = None) -> SimulatedMeter:
    meter, secrets = town.meters[0], town.secrets[town.meters[0].serial]
    layout = layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH)
    start = secrets.counter_start if counter is None else counter
    return SimulatedMeter(meter.serial, meter.system_title, layout, meter.security_control, secrets.keys, start)


def push_and_wait(port: int, meter: SimulatedMeter) -> bool:
    """One push over a connection of its own; whether it was confirmed before the head-end closed."""
    invoke = meter.counter & 0xFFFFFF
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(meter.push(0, 900, {}))
        peer.shutdown(socket.SHUT_WR)
        frames = WrapperReader()
        while octets := peer.recv(4096):
            if any(meter.confirms(f.apdu, invoke) for f in frames.feed(octets)):
                return True
    return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_stores_what_it_has_and_says_how_much(folder: Folder, town: Town, signum: signal.Signals) -> None:
    with Headend(folder.root) as headend:
        assert push_and_wait(headend.port, device(town))
        assert headend._process is not None
        headend._process.send_signal(signum)
        _, told = headend._process.communicate()
        assert headend._process.returncode == 0
    assert "1 frames, 1 confirmed" in told
    assert "Traceback" not in told
    journal = Journal(folder.journal)
    assert (journal.frames(), journal.settled()) == (1, 1)
    journal.close()


def test_told_to_stop_at_once_it_stops_in_good_order(folder: Folder) -> None:
    with Headend(folder.root) as headend:
        assert headend.stop()[0] == 0


def test_after_a_restart_it_knows_the_counters(folder: Folder, town: Town) -> None:
    with Headend(folder.root) as headend:
        assert push_and_wait(headend.port, device(town))
        headend.stop()
        headend.start()
        assert not push_and_wait(headend.port, device(town, town.secrets[town.meters[0].serial].counter_start - 1))
        assert push_and_wait(headend.port, device(town, town.secrets[town.meters[0].serial].counter_start + 1))
        headend.stop()
    journal = Journal(folder.journal)
    assert [r.cause for r in journal.quarantine()] == ["replayed_counter"]
    journal.close()


def test_no_key_and_no_name_is_in_what_it_says(folder: Folder, town: Town) -> None:
    with Headend(folder.root) as headend:
        push_and_wait(headend.port, device(town))
        _, told = headend.stop()
    keys = town.secrets[town.meters[0].serial].keys
    assert not [
        secret for secret in (keys.ek.hex(), keys.ak.hex(), "Consumer 0001", folder.master_key.read_text().strip()) if secret in told
    ]


def test_a_full_disk_stops_it_with_one_sentence(small_disk: Path, founded: Path, town: Town) -> None:
    root = Path(shutil.copytree(founded, small_disk / "data"))
    with Headend(root) as headend:
        assert headend._process is not None
        noise = b"\x00\x02" + bytes(200_000)
        with socket.create_connection(("127.0.0.1", headend.port)) as peer:
            for _ in range(40):
                try:
                    peer.sendall(noise + device(town).push(0, 900, {}))
                except OSError:
                    break
            told = headend._process.communicate()[1]
        assert headend._process.returncode == 2
    *before, last = told.splitlines()
    assert last.startswith("openami: journal")
    assert "full" in last
    assert all("cannot be written (No space left on device)" in one for one in before), "derived files, which it can do without"


def test_a_second_one_on_the_same_folder_is_refused(folder: Folder) -> None:
    with Headend(folder.root):
        second = subprocess.run(
            [sys.executable, "-m", "openami", "serve", "--role", "headend", "--data", str(folder.root), "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 2
    assert "another head-end is writing" in second.stderr
    assert second.stderr.count("\n") == 1


# Refusals to start


def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Folder, port: int = 0) -> str:
    """The head-end's last words, where it must not come to listen."""
    monkeypatch.setattr(sys, "argv", ["openami", "serve", "--role", "headend", "--data", str(folder.root), "--port", str(port)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, told = capsys.readouterr()
    assert (left.value.code, out, told.count("\n")) == (2, "", 1)
    assert told.startswith("openami: ")
    return told


def _no_settings(folder: Folder) -> None:
    (folder.root / FILE).unlink()


def _bad_title(folder: Folder) -> None:
    path = folder.root / FILE
    path.write_text("".join('headend_title = "4f414d"\n' if x.startswith("headend_title") else x for x in path.open()))


def _no_registry(folder: Folder) -> None:
    folder.rows.unlink()


def _no_database(folder: Folder) -> None:
    folder.rows.write_bytes(b"no database" * 1000)


def _empty_registry(folder: Folder) -> None:
    folder.rows.write_bytes(b"")


def _no_key(folder: Folder) -> None:
    folder.master_key.unlink()


def _another_key(folder: Folder) -> None:
    folder.master_key.write_text("00" * 32)


def _bad_journal(folder: Folder) -> None:
    folder.journal.parent.mkdir()
    folder.journal.write_bytes(b"no database" * 1000)


def _no_place_for_the_journal(folder: Folder) -> None:
    folder.journal.parent.write_text("a file")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_settings, "no OpenAMI data in"),
        (_bad_title, "headend_title '4f414d'"),
        (_no_registry, "no registry at"),
        (_no_database, "does not hold what it should"),
        (_empty_registry, "does not hold what it should"),
        (_no_key, "no master key"),
        (_another_key, "master key is not the one"),
        (_bad_journal, "is corrupt"),
        (_no_place_for_the_journal, "cannot be made"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Folder, damage: object, reason: str
) -> None:
    damage(folder)  # type: ignore[operator]
    assert reason in start(monkeypatch, capsys, folder)


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Folder, port: int
) -> None:
    assert f"cannot listen on 127.0.0.1:{port}" in start(monkeypatch, capsys, folder, port)


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        yield other.getsockname()[1]


def test_an_occupied_port_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Folder, occupied: int
) -> None:
    assert f"cannot listen on 127.0.0.1:{occupied}" in start(monkeypatch, capsys, folder, occupied)


def test_a_read_only_disk_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_disk: Path, make_read_only: object, founded: Path
) -> None:
    root = Path(shutil.copytree(founded, small_disk / "data"))
    make_read_only()  # type: ignore[operator]
    assert "give a writable data folder" in start(monkeypatch, capsys, Folder(root))


def test_the_first_line_is_one_json_object(folder: Folder) -> None:
    """`Headend.start` reads it; a supervisor does the same."""
    process = subprocess.Popen(
        [sys.executable, "-m", "openami", "serve", "--role", "headend", "--data", str(folder.root), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    process.terminate()
    process.communicate()
    assert line == {"listening": f"tcp://127.0.0.1:{line['port']}", "port": line["port"], "udp": False}
