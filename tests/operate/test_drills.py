"""Disasters, one after the other: what is refused, what waits, that nothing confirmed is lost, and the sentence that an operator reads."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from day.sites import FIRST, device, make_site, make_town, pushes, send
from headend.running import free_port
from openami.bench.servers import NatsServers
from openami.day import Site, close_all, collect
from openami.demo.run import found
from openami.errors import InputError
from openami.headend.known import FILE
from openami.operate.backup import journal_totals, lake_totals, make_backup
from openami.operate.restore import restore_backup
from openami.operate.worker import Progress, Task, due_days, one_round, work
from openami.store.contacts import Contacts
from openami.store.deployment import Folder
from openami.store.journal import Journal
from openami.store.rows import Rows

from .roles import GUARD_S, Role, confirmations, get, push, wait_until

AFTER_S = 8 * 3600
DAYS = 3
TOLD = ("statements", "charges", "balance", "usage")


@pytest.fixture(scope="module")
def town():
    return make_town(days=DAYS)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, town) -> Path:
    folder = Folder(tmp_path_factory.mktemp("drills") / "data")
    found(folder, town)
    return folder.root


@pytest.fixture
def folder(tmp_path: Path, founded: Path) -> Folder:
    return Folder(Path(shutil.copytree(founded, tmp_path / "data")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, town) -> dict[str, object]:
    """What the town's days come to where nothing happens."""
    site = make_site(tmp_path_factory.mktemp("undisturbed") / "data", town, pushes(town))
    collect(site)
    close_all(site)
    site.rows.close()
    return told_of(site)


def told_of(site: Site) -> dict[str, object]:
    return {table: totals for table, totals in lake_totals(site.lake).items() if table in TOLD}


def genuine(town, slot: int, count: int = 5) -> list[bytes]:
    """One push of each of some meters, of one slot: the counter goes with the slot."""
    stamp = town.calendar.day_start(town.first_day) + 900 * (slot + 1)
    made = []
    for k in range(count):
        start = town.secrets[town.meters[k].serial].counter_start
        values = {name: int(block[k, slot]) for name, block in town.channels.items()}
        made.append(device(town, k, start + slot).push(stamp + 5, stamp, values))
    return made


def kept(folder: Folder) -> set[bytes]:
    journal = Journal(folder.journal)
    try:
        return {octets for batch in journal.batches() for octets in batch.frames}
    finally:
        journal.close()


# -- kill -9 of every process in turn -------------------------------------------------------------------------------------------------


def test_each_role_killed_in_turn_comes_back_and_nothing_confirmed_is_lost(folder: Folder, town) -> None:
    port, confirmed = free_port(), []
    ports = ["--headend-port", str(port), "--port", "0", "--every", "0.5"]
    with Role(folder.root, "all", *ports) as house:
        working = [json.loads(house.process.stdout.readline()), json.loads(house.process.stdout.readline())]
        assert {next(iter(line)) for line in working} == {"working", "listening"}
        for slot, role in enumerate(("headend", "worker", "web")):
            frames = genuine(town, slot)
            assert confirmations(push(port, frames)) == len(frames)
            confirmed += frames
            before = len(house.told)
            pid = int([line for line in map(json.loads, house.told) if f"{role} runs as process" in line["what"]][-1]["what"].split()[-1])
            os.kill(pid, signal.SIGKILL)
            house.until(rf"{role} ended \(killed by SIGKILL\); it is started again in \d s, the others go on", before)
            house.until(rf"{role} runs as process \d+", before)
            if role != "web":
                house.process.stdout.readline()  # it works again
        frames = genuine(town, 3)
        assert confirmations(push(port, frames)) == len(frames)
        house.process.kill()  # and last the one that looks after them: the roles end with it, and let go of the journal
        house.process.wait()
        journal = _taken(folder)
    journal.close()
    assert {*confirmed, *frames} <= kept(folder)


def _taken(folder: Folder) -> Journal:
    """The journal, as soon as the head-end that held it has ended."""
    waiting = threading.Event()
    for _ in range(10 * GUARD_S):
        try:
            return Journal(folder.journal, create=True)
        except InputError:
            waiting.wait(0.1)
    raise AssertionError("the head-end goes on without its parent")


# -- disk full ------------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_confirms_nothing_more_and_goes_on_when_there_is_room(small_disk: Path, founded: Path, town) -> None:
    folder = Folder(Path(shutil.copytree(founded, small_disk / "data")))
    first, second = genuine(town, 0), genuine(town, 1)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(150_000))
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))
        assert confirmations(push(port, first)) == len(first)
        noise, answers = [b"\x00\x01\x00\x01\x00\x40\x10\x00" + bytes(4096)] * 500, b""
        with contextlib.suppress(ConnectionError):  # it hangs up
            answers = push(port, [*noise, *second])
        headend.until(r"journal .* cannot be used \(.*full.*\); free space or give a writable data folder")
        assert headend.process.wait(GUARD_S) == 2
    assert confirmations(answers) == 0
    filler.unlink()
    with Role(folder.root, "headend", "--port", "0") as headend:
        assert confirmations(push(int(str(headend.first_line()["port"])), second)) == len(second)
        assert headend.stop() == 0
    assert {*first, *second} <= kept(folder)


# -- the clock jumps an hour (the guard: test_watch.py) --------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_an_hour_closes_the_same_days_to_the_same_rupees(tmp_path: Path, town, undisturbed, jump_s: int) -> None:
    site = make_site(tmp_path / "data", town, pushes(town))
    end_s = site.calendar.day_start(FIRST) + DAYS * 86_400
    task, progress = Task(), Progress()
    for now_s in (end_s, end_s + jump_s, end_s + 60, end_s + AFTER_S + 3600, end_s + AFTER_S + 3600 + jump_s, end_s + AFTER_S + 3700):
        one_round(site.folder, task, progress, now_s)
    assert progress.closed == DAYS
    assert told_of(site) == undisturbed


def test_no_day_is_closed_before_it_was_waited_for(tmp_path: Path, town) -> None:
    site = make_site(tmp_path / "data", town)
    end_s = site.calendar.day_start(FIRST) + 86_400
    assert due_days(site, end_s + AFTER_S - 1, AFTER_S) == []
    assert due_days(site, end_s + AFTER_S, AFTER_S) == [FIRST]
    site.rows.close()


# -- the database is away -------------------------------------------------------------------------------------------------------------


class Way:
    """The way to a server, which can be cut, made to swallow what comes, and mended. Both sides are real; this passes bytes on."""

    def __init__(self, target: tuple[int, str | tuple[str, int]]) -> None:
        self._family, self._target = target
        self._open, self._swallows = True, False
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                near.close()
                continue
            far = socket.socket(self._family)
            far.connect(self._target)
            self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while part := source.recv(65_536):
                if not self._swallows:
                    sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # cut

    def cut(self) -> None:
        self._open = False
        for each in self._pairs:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed already
        self._pairs.clear()

    def swallow(self) -> None:
        """Nothing is refused and nothing arrives, as when packets are dropped on the way."""
        self._swallows = True

    def mend(self) -> None:
        """What was lost on the way stays lost: its connections end."""
        if self._swallows:
            self.cut()
        self._open, self._swallows = True, False

    def close(self) -> None:
        self.cut()
        self._listener.close()


@pytest.fixture
def way(postgres: Callable[..., sa.URL]) -> Iterator[tuple[Way, sa.URL]]:
    url = postgres()
    at = url.query.get("host") or url.host or "127.0.0.1"
    port = int(url.port or 5432)
    unix = str(at).startswith("/")
    made = Way((socket.AF_UNIX, f"{at}/.s.PGSQL.{port}") if unix else (socket.AF_INET, (str(at), port)))
    yield made, url.set(host="127.0.0.1", port=made.port, query={})
    made.close()


@pytest.fixture
def on_postgres(tmp_path: Path, founded: Path, way: tuple[Way, sa.URL], monkeypatch: pytest.MonkeyPatch) -> tuple[Folder, Way]:
    """The town with its rows in PostgreSQL, brought there by a backup."""
    monkeypatch.setenv("DRILL_DATABASE", way[1].render_as_string(hide_password=False))
    first = Folder(Path(shutil.copytree(founded, tmp_path / "first")))
    make_backup(first, tmp_path / "backup")
    folder = Folder(tmp_path / "data")
    restore_backup(tmp_path / "backup", folder, first.master_key, "env:DRILL_DATABASE")
    return folder, way[0]


def test_while_the_database_is_away_pushes_are_stored_and_confirmed(on_postgres: tuple[Folder, Way], town) -> None:
    folder, way = on_postgres
    first, second, third = (genuine(town, slot) for slot in range(3))
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))
        assert confirmations(push(port, first)) == len(first)
        way.cut()
        headend.until(r"database .* cannot be used .*Pushes are stored and confirmed meanwhile")
        assert confirmations(push(port, second)) == len(second), "pushes are stored and confirmed without the database"
        way.mend()
        headend.until(r"the database answers again after \d+ s")
        assert confirmations(push(port, third)) == len(third)
        assert headend.stop() == 0
    assert {*first, *second, *third} <= kept(folder)


def test_a_database_that_swallows_every_packet_holds_up_no_push(on_postgres: tuple[Folder, Way], town) -> None:
    folder, way = on_postgres
    first, second, third = (genuine(town, slot) for slot in range(3))
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))
        assert confirmations(push(port, first)) == len(first)
        way.swallow()
        # the same sentence behind either: what is asked over a connection that is open stays silent, a new one is given up
        headend.until(r"(has not answered for \d+ s|timeout).*Pushes are stored and confirmed meanwhile")
        assert confirmations(push(port, second)) == len(second)
        way.mend()
        headend.until(r"the database answers again after \d+ s")
        assert confirmations(push(port, third)) == len(third)
        assert headend.stop() == 0
    assert {*first, *second, *third} <= kept(folder)


def test_a_head_end_starts_without_its_database_and_confirms_whom_it_knew(on_postgres: tuple[Folder, Way], town) -> None:
    folder, way = on_postgres
    known = folder.journal.with_name(FILE)
    first, second = genuine(town, 0), genuine(town, 1)
    with Role(folder.root, "headend", "--port", "0") as headend:
        headend.first_line()
        wait_until(known.exists)
        assert headend.stop() == 0
    way.cut()
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))
        headend.until(
            rf"database .* cannot be used .*starts without it: pushes of the {len(town.meters)} meters .* are stored and confirmed"
        )
        assert confirmations(push(port, first)) == len(first)
        way.mend()
        headend.until(r"the database answers after \d+ s; orders and questions to meters are taken up")
        assert confirmations(push(port, second)) == len(second), "on the same port"
        assert headend.stop() == 0
    assert {*first, *second} <= kept(folder)
    assert heard(folder) >= {town.meters[k].serial for k in range(len(first))}, "what came before the database is written down behind it"


def test_what_meters_nobody_knows_yet_have_sent_is_judged_when_the_registry_is_there(on_postgres: tuple[Folder, Way], town) -> None:
    folder, way = on_postgres
    frames = genuine(town, 0)
    way.cut()
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))
        headend.until(r"starts without it: no meter is known here yet, so pushes are stored within limits and not confirmed")
        assert confirmations(push(port, frames)) == 0
        way.mend()
        headend.until(r"the database answers after \d+ s")
        wait_until(lambda: heard(folder) >= {town.meters[k].serial for k in range(len(frames))})
        assert headend.stop() == 0
    journal = Journal(folder.journal)
    assert (journal.frames(), journal.causes()) == (len(frames), {})
    journal.close()


def heard(folder: Folder) -> set[str]:
    rows = Rows.of(folder)
    try:
        return {serial for serial, contact in Contacts(rows).contacts().items() if contact.heard_s is not None}
    finally:
        rows.close()


def test_a_console_waits_for_its_database_and_for_its_first_day(on_postgres: tuple[Folder, Way], town) -> None:
    folder, way = on_postgres
    folder.save(replace(folder.load(), seed=None))  # its meters are real
    send(folder, pushes(town))
    way.cut()
    with Role(folder.root, "web", "--port", "0") as console:
        console.until(r"the console waits, because database .* cannot be used")
        way.mend()
        console.until(r"the console waits, because .* has no closed day yet")
        one_round(folder, Task(), Progress(), town.calendar.day_start(FIRST) + 86_400 + AFTER_S)
        port = int(console.until(r"the console is at http://127.0.0.1:(\d+)/")[1])
        assert get(port, "/sign-in")[0] == 200


def test_a_worker_waits_for_a_database_that_is_away(on_postgres: tuple[Folder, Way], town, undisturbed, caplog) -> None:
    folder, way = on_postgres
    send(folder, pushes(town))
    progress, stop = Progress(), threading.Event()
    now_s = town.calendar.day_start(FIRST) + DAYS * 86_400 + AFTER_S
    way.cut()
    said = threading.Event()
    caplog.handler.addFilter(lambda record: said.set() or True if "done again" in record.getMessage() else True)
    with caplog.at_level("INFO", "openami.worker"):
        working = threading.Thread(target=work, args=(folder, Task(every_s=0.1), progress, stop, lambda: now_s))
        working.start()
        assert said.wait(GUARD_S)
        way.mend()
        done = threading.Event()
        for _ in range(10 * GUARD_S):
            if progress.closed or done.wait(0.1):
                break
        stop.set()
        working.join(GUARD_S)
    assert any("this round changed nothing and is done again" in record.getMessage() for record in caplog.records)
    assert progress.closed == DAYS
    site = Site.open(folder)
    assert told_of(site) == undisturbed
    site.rows.close()


# -- NATS is away (the head-end: engines/test_jetstream_faults.py) ----------------------------------------------------------------------


def test_a_worker_of_a_stream_whose_server_was_away_closes_to_the_same_rupees(tmp_path: Path, folder: Folder, town, undisturbed) -> None:
    from openami.store.journal_at import open_journal
    from openami.store.rows import Rows

    try:
        servers = NatsServers(tmp_path / "nats", 1)
    except InputError as missing:
        pytest.skip(str(missing))
    servers.start()
    try:
        folder.save(replace(folder.load(), journal=servers.address("drill")))
        rows = Rows.of(folder)
        journal = open_journal(folder, folder.load(), receive=True, meters=rows.meters())
        rows.close()
        for at in range(0, len(frames := pushes(town)), 500):
            journal.store(frames[at : at + 500], 1_764_600_000_000_000)
        journal.close()
        servers.each[0].kill()
        progress, stop = Progress(), threading.Event()
        now_s = town.calendar.day_start(FIRST) + DAYS * 86_400 + AFTER_S

        def once_more(*_: object) -> None:
            """Behind the first failed round the server is back."""
            servers.each[0].start()
            servers.each[0].wait()

        failing = threading.Thread(target=work, args=(folder, Task((0,), "w0", 0.1), progress, stop, lambda: now_s))
        failing.start()
        waiting = threading.Event()
        for _ in range(10 * GUARD_S):
            if progress.failed or waiting.wait(0.1):
                break
        assert "cannot be reached" in progress.why
        once_more()
        for _ in range(10 * GUARD_S):
            if progress.closed or waiting.wait(0.1):
                break
        stop.set()
        failing.join(GUARD_S)
        assert told_of(Site.open(folder)) == undisturbed
        assert (folder.root / "grid-w0").is_dir()
    finally:
        servers.stop()


def test_shards_of_the_embedded_journal_are_not_divided(folder: Folder) -> None:
    with pytest.raises(InputError, match="has one reader"):
        work(folder, Task((0,)), Progress(), threading.Event())


# -- duplicates, and a backlog -------------------------------------------------------------------------------------------------------


def test_frames_delivered_three_times_make_the_same_days(tmp_path: Path, town, undisturbed, caplog) -> None:
    frames = pushes(town)
    site = make_site(tmp_path / "data", town, [*frames, *frames, *reversed(frames)])
    progress = Progress()
    with caplog.at_level("WARNING", "openami.worker"):
        one_round(site.folder, Task(), progress, town.calendar.day_start(FIRST) + DAYS * 86_400 + AFTER_S)
        one_round(site.folder, Task(), progress, town.calendar.day_start(FIRST) + DAYS * 86_400 + AFTER_S)
    site.rows.close()
    assert told_of(site) == undisturbed
    assert [record.getMessage() for record in caplog.records] == [f"refused, and kept in quarantine: {2 * len(frames)} replayed_counter"]


def test_days_of_backlog_at_once_are_taken_confirmed_and_closed_in_one_round(folder: Folder, town, undisturbed) -> None:
    """All that the meters have kept comes at once, over four connections; the head-end slows them rather than lose one."""
    frames = pushes(town)
    meters = len(town.meters)
    parts = [[frame for at, frame in enumerate(frames) if at % meters % 4 == k] for k in range(4)]
    answers: list[bytes] = [b""] * 4
    with Role(folder.root, "headend", "--port", "0") as headend:
        port = int(str(headend.first_line()["port"]))

        def deliver(k: int) -> None:
            answers[k] = _deliver(port, parts[k])

        threads = [threading.Thread(target=deliver, args=(k,)) for k in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert headend.stop() == 0
    assert sum(map(confirmations, answers)) == len(frames)
    assert journal_totals(folder.journal)["frames"] == len(frames)
    progress = Progress()
    one_round(folder, Task(), progress, town.calendar.day_start(FIRST) + DAYS * 86_400 + AFTER_S)
    assert (progress.frames, progress.closed) == (len(frames), DAYS)
    site = Site.open(folder)
    assert told_of(site) == undisturbed
    site.rows.close()


def _deliver(port: int, frames: list[bytes]) -> bytes:
    """Send while the answers are read, as a gateway does."""
    answers = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD_S) as peer:

        def read() -> None:
            while part := peer.recv(65_536):
                answers.extend(part)

        reader = threading.Thread(target=read)
        reader.start()
        peer.sendall(b"".join(frames))
        peer.shutdown(socket.SHUT_WR)
        reader.join()
    return bytes(answers)
