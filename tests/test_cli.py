"""The command line as people meet it: what works says so, what cannot be used ends with one clear sentence and exit code 2.

Most cases run the command in this process; the last ones run it as it is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openami import __version__, cli
from openami.cli.words import a_day
from openami.demo.run import REPORT, Wish, run_demo
from openami.store.deployment import FILE, Folder


class Said(tuple[int, str, str]):
    """Exit code, standard output, standard error."""

    @property
    def sentence(self) -> str:
        """The one sentence with which the command refused; fails where it did not, or said more."""
        code, out, told = self
        lines = [line for line in told.splitlines() if line.strip()]
        assert (code, out, len(lines)) == (2, "", 1), told
        assert lines[0].startswith("openami: ")
        return lines[0].removeprefix("openami: ")


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("demo", "--days", "0")`, in this process. A console that would be served is not."""

    def served(*_: object, **__: object) -> None:
        raise AssertionError("the console was about to be served")

    monkeypatch.setattr("uvicorn.Server.run", served)

    def command(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["openami", *words])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        return Said((code, *capsys.readouterr()))

    return command


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "data"
    run_demo(Wish(folder, 20, 1, 5, a_day("2025-12-01", "--start")), lambda name, steps: lambda done: None)
    return folder


@pytest.fixture
def data(tmp_path: Path, town: Path) -> Path:
    return Path(shutil.copytree(town, tmp_path / "data"))


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


# What a person can learn from


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert {"demo", "serve"} <= set(out.split())


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_every_option_of_a_command_says_what_it_is_for(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    wanted = {
        "demo": ["--days", "--meters", "--seed", "--start", "--tariff", "--data", "--no-serve", "--json"],
        "serve": ["--data", "--role"],
    }
    assert [option for option in wanted[command] if option not in out] == []


def test_the_version_is_said(run: Run) -> None:
    assert run("--version")[:2] == (0, f"openami {__version__}\n")


# demo


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--start", "2025-13-01"], "--start '2025-13-01' is not a date"),
        (["--start", "yesterday"], "--start 'yesterday' is not a date"),
        (["--start", "0001-01-01"], "has no rates for 0001-01-01"),
        (["--start", "9999-12-31"], "has no rates for 9999-12-31"),
        (["--tariff", "NOPE"], "there is no tariff 'NOPE'; known are BR-DS1"),
        (["--tariff", "BR-DS2", "--tariff", "BR-DS2", "--tariff", "BR-DS2"], "give --tariff once or twice"),
        (["--days", "0"], "--days 0"),
        (["--days", "-3"], "--days -3"),
        (["--days", "50"], "--days 50"),
        (["--meters", "19"], "--meters 19"),
        (["--meters", "100000"], "--meters 100000"),
        (["--seed", "-1"], "--seed -1 is negative"),
        (["--data", "{file}"], "is a file"),
        (["--data", "{file}/below"], "cannot be written"),
        (["--data", "{foreign}"], "holds something else than a demo"),
        (["--data", "/"], "root of a file system"),
    ],
)
def test_demo_refuses_what_it_cannot_do(run: Run, tmp_path: Path, words: list[str], reason: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine").write_text("mine")
    own = [word.format(file=tmp_path / "file", foreign=tmp_path / "foreign") for word in words]
    said = run("demo", "--json", "--no-serve", "--data", str(tmp_path / "data"), *own)
    assert reason in said.sentence
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "foreign", "mine"]


@pytest.mark.parametrize("port", ["-1", "65536", "{occupied}"])
def test_demo_looks_at_the_port_before_the_long_work(run: Run, tmp_path: Path, occupied: int, port: str) -> None:
    port = port.format(occupied=occupied)
    said = run("demo", "--json", "--data", str(tmp_path / "data"), "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in said.sentence
    assert list(tmp_path.iterdir()) == []


def test_demo_on_a_full_disk_says_so(run: Run, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_900_000))
    said = run("demo", "--json", "--no-serve", "--days", "1", "--meters", "20", "--data", str(small_disk / "data"))
    assert "free space" in said.sentence
    assert [p.name for p in small_disk.iterdir()] == ["ballast"]


def test_demo_on_a_read_only_disk_says_so(run: Run, small_disk: Path, make_read_only: Callable[[], None]) -> None:
    make_read_only()
    said = run("demo", "--json", "--no-serve", "--days", "1", "--meters", "20", "--data", str(small_disk / "data"))
    assert "Read-only file system" in said.sentence


# serve


def _corrupt_settings(data: Path) -> None:
    (data / FILE).write_bytes(b"\xff\xfe")


def _odd_settings(data: Path) -> None:
    settings = data / FILE
    settings.write_text(settings.read_text().replace("Asia/Kolkata", "Asia/Patna"))


def _no_registry(data: Path) -> None:
    Folder(data).rows.unlink()


def _corrupt_registry(data: Path) -> None:
    Folder(data).rows.write_bytes(os.urandom(9000))


def _corrupt_table(data: Path) -> None:
    sorted((data / "lake" / "balance" / "_delta_log").glob("*.json"))[-1].write_text("{")


def _no_days(data: Path) -> None:
    shutil.rmtree(data / "lake")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shutil.rmtree, "no OpenAMI data in"),
        (_corrupt_settings, f"{FILE} cannot be read"),
        (_odd_settings, "zone = 'Asia/Patna'"),
        (_no_registry, "no registry at"),
        (_corrupt_registry, "does not hold what it should"),
        (_corrupt_table, "cannot be opened"),
        (_no_days, "has no closed day yet"),
    ],
)
def test_serve_refuses_a_folder_that_it_cannot_read(run: Run, data: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(data)
    assert reason in run("serve", "--data", str(data)).sentence


def test_serve_refuses_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "no OpenAMI data in" in run("serve", "--data", str(tmp_path / "file")).sentence


@pytest.mark.parametrize("port", ["-1", "65536", "{occupied}"])
def test_serve_refuses_a_port_that_it_cannot_have(run: Run, data: Path, occupied: int, port: str) -> None:
    port = port.format(occupied=occupied)
    assert f"cannot listen on 127.0.0.1:{port}" in run("serve", "--data", str(data), "--port", port).sentence


def test_serve_changes_nothing(data: Path, tmp_path: Path) -> None:
    """The console only reads. It answers, and stops on Ctrl-C."""
    before = _content(data)
    process = subprocess.Popen(
        [sys.executable, "-m", "openami", "serve", "--data", str(data), "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
    status, page = _fetch(address)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert status == 200, page
    assert _content(data) == before


def _content(folder: Path) -> dict[Path, bytes]:
    """What the files of a folder hold; a database by its rows, for what it has written ahead moves into its file whenever somebody leaves."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))):
        if path.suffix == ".db":
            with contextlib.closing(sqlite3.connect(path)) as connection:
                found[path] = "\n".join(connection.iterdump()).encode()
        else:
            found[path] = path.read_bytes()
    return found


def _fetch(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


# As it is installed


def test_the_installed_command_runs_the_demo_and_prints_one_json_object(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("openami")), "demo", "--no-serve", "--json", "--days", "1", "--meters", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert all(report["holds"].values())
    assert json.loads((tmp_path / "data" / "demo" / REPORT).read_text()) == report
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["demo"]


def test_the_installed_command_refuses_with_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openami", "demo", "--start", "tomorrow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "openami: --start 'tomorrow' is not a date; write year-month-day, as 2025-12-01\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "openami", "nonsense"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command 'nonsense'" in done.stderr


def test_explain_prints_text_json_and_a_page(run: Run, town: Path) -> None:
    where = ["explain", "2000000001", "2025-12-01", "--data", str(town)]
    text, hindi, told, page = (run(*where, *more)[1] for more in ([], ["--lang", "hi"], ["--json"], ["--html"]))
    assert "Balance: " in text
    assert "बैलेंस" in hindi
    body = json.loads(told)
    assert body["taken"]["amount_paise"] == body["opening_paise"] + body["recharges_paise"] - body["closing_paise"]
    assert page.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["7", "2025-12-01"], "there is no account 7"),
        (["2000000001", "2025-11-01"], "account 2000000001 was not charged for 2025-11-01; closed days are 2025-12-01 to 2025-12-01"),
        (["2000000001", "soon"], "DAY 'soon' is not a date"),
        (["2000000001", "2025-12-01", "--lang", "fr"], "--lang 'fr' is neither en nor hi"),
        (["2000000001", "2025-12-01", "--json", "--html"], "give one of them"),
    ],
)
def test_explain_refuses_by_name(run: Run, town: Path, words: list[str], reason: str) -> None:
    assert reason in run("explain", *words, "--data", str(town)).sentence


def after(words: str, *, doing: str) -> tuple[int, str]:
    """Exit code and standard error of a process of its own whose command does this."""
    program = f"import atexit, os, signal, time; from openami import cli; cli.app = lambda *_, **__: {doing}; {words}; cli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr


def test_terminated_while_it_works_whatever_it_was_doing() -> None:
    """Code made from text was running, as where a dataclass is being made: Python itself would then end by SIGINT."""
    assert after("pass", doing="exec('os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)')") == (
        143,
        "openami: stopped; nothing was half-written\n",
    )


def test_terminated_while_python_leaves_it_says_nothing() -> None:
    assert after("atexit.register(os.kill, os.getpid(), signal.SIGTERM)", doing="0") == (0, "")
