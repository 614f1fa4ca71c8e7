"""What is acknowledged stays, whatever dies: a leader under load, a server, the way to the servers, a worker in the middle of its shard."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from day.sites import RECEIVED_US, device, make_site, make_town, pushes
from openami.bench.servers import NatsServers
from openami.cosem.ciphering import Keys
from openami.day import Site, collect
from openami.demo.run import found
from openami.errors import StorageError
from openami.headend.admission import Admission, Correspondent
from openami.headend.listener import PushListener
from openami.store.deployment import Folder
from openami.store.jetstream import JetStreamJournal, Routes
from openami.store.nats_address import NatsAddress

from .conftest import Start
from .frames import many, meters

GUARD_S = 300


def journal_at(servers: NatsServers, folder: Path, stream: str = "faults", patience_s: float = 60) -> JetStreamJournal:
    address = NatsAddress.parse(servers.address(stream))
    return JetStreamJournal(address, folder / "derived.db", Routes(meters()), receive=True, patience_s=patience_s)


@pytest.fixture
def one(start_nats: Start) -> NatsServers:
    return start_nats()


def test_a_killed_leader_under_load_loses_nothing(start_nats: Start, tmp_path: Path) -> None:
    """Three servers that sync now and then, two head-ends writing without pause; the leader is killed in the middle and never comes back."""
    servers = start_nats(3, "")
    journals = [journal_at(servers, tmp_path / f"headend{k}") for k in range(2)]
    acknowledged: list[list[bytes]] = [[], []]
    enough, killed = threading.Event(), threading.Event()

    def write(k: int) -> None:
        for seed in range(1000):
            frames = many(500, seed=2 * seed + k)
            journals[k].store(frames, 0)
            acknowledged[k] += frames
            if len(acknowledged[k]) >= 5_000:
                enough.set()
            if killed.is_set() and len(acknowledged[k]) >= after[k]:
                return

    after = [10**9, 10**9]
    writers = [threading.Thread(target=write, args=(k,)) for k in range(2)]
    try:
        for writer in writers:
            writer.start()
        assert enough.wait(GUARD_S)
        stream = journals[0]._stream
        leader = stream._run(stream._js.stream_info("faults")).cluster.leader
        next(server for server in servers.each if server.name == leader).kill()
        after[:] = [len(each) + 5_000 for each in acknowledged]
        killed.set()
        for writer in writers:
            writer.join(120)
            assert not writer.is_alive()
        read = [octets for batch in journals[0].batches() for octets in batch.frames]
        missing = set(acknowledged[0] + acknowledged[1]) - set(read)
        assert not missing
        assert len(read) == len(set(read)), "a batch that was sent again stands there once"
    finally:
        for journal in journals:
            journal.close()


def test_a_server_killed_and_started_again_has_everything(one: NatsServers, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "openami.journal")
    journal = journal_at(one, tmp_path)
    kept = many(2000, seed=1)
    journal.store(kept, 0)
    one.each[0].kill()
    one.start()
    journal.store(many(10, seed=2), 0)
    assert {*kept} <= {octets for batch in journal.batches() for octets in batch.frames}
    journal.close()
    assert f"is reached by way of 127.0.0.1:{one.each[0].port} now" in caplog.text


def test_a_store_waits_for_servers_that_are_away_and_says_so_once(
    one: NatsServers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = journal_at(one, tmp_path)
    journal.store(many(10), 0)
    one.each[0].kill()
    said, done = threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: said.set() or True)
    storing = threading.Thread(target=lambda: (journal.store(many(1000, seed=9), 0), done.set()))
    with caplog.at_level(logging.WARNING, "openami.journal"):
        storing.start()
        assert said.wait(GUARD_S)
        assert not done.is_set()
        one.start()
        assert done.wait(GUARD_S)
    storing.join()
    gone, back = [record.getMessage() for record in caplog.records]
    assert "does not answer" in gone
    assert "nothing is confirmed until it does" in gone
    assert "answers again after" in back
    assert sum(len(batch) for batch in journal.batches()) == 1010
    journal.close()


def test_patience_ends_with_one_sentence(one: NatsServers, tmp_path: Path) -> None:
    journal = journal_at(one, tmp_path, patience_s=0.5)
    one.each[0].kill()
    with pytest.raises(StorageError, match=r"has not answered for 0 s .*start its servers again"):
        journal.store(many(10), 0)
    journal.close()


def test_a_reader_goes_on_behind_a_restart(one: NatsServers, tmp_path: Path) -> None:
    journal = journal_at(one, tmp_path)
    for seed in range(150):
        journal.store(many(30, seed), 0)
    reading = journal.batches()
    read = [next(reading).seq]
    one.each[0].kill()
    one.start()
    read += [batch.seq for batch in reading]
    assert read == list(range(1, 451))
    journal.close()


def test_a_listener_confirms_nothing_while_the_servers_are_away(one: NatsServers, tmp_path: Path) -> None:
    """Meters push; the servers go; what comes then waits, unconfirmed, and is confirmed when they are back."""
    town = make_town()
    pushers = [device(town, k) for k in range(4)]
    known = {town.meters[k].system_title: Correspondent(town.meters[k], Keys(p.keys.ek, p.keys.ak)) for k, p in enumerate(pushers)}
    journal = JetStreamJournal(
        NatsAddress.parse(one.address("listener")), tmp_path / "derived.db", Routes(town.meters), receive=True, patience_s=60
    )
    stamp = town.calendar.day_start(town.first_day) + 900
    values = {"import_wh": 5}

    async def run() -> None:
        listener = PushListener(journal, Admission(known, bytes(8)))
        port = await listener.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(pushers[0].push(stamp + 5, stamp, values))
        assert await asyncio.wait_for(reader.read(1), 30)
        one.each[0].kill()
        writer.write(pushers[0].push(stamp + 905, stamp + 900, values))
        before = listener.tally.confirmed
        late = asyncio.create_task(_one_byte(port, pushers[1].push(stamp + 5, stamp, values)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 1)
        assert listener.tally.confirmed == before
        one.start()
        assert await asyncio.wait_for(late, 60)
        writer.close()
        await listener.stop()

    asyncio.run(run())
    assert sum(len(batch) for batch in journal.batches()) == 3
    journal.close()


async def _one_byte(port: int, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    answer = await reader.read(1)
    writer.close()
    return answer


def test_a_worker_killed_and_replaced_makes_the_same_raw(one: NatsServers, tmp_path: Path) -> None:
    """The same frames, some of them twice, through the embedded journal and through the stream, whose worker is killed while it reads."""
    town = make_town()
    frames = pushes(town, lambda number, slot: (number + slot) % 17 == 0)
    expected = make_site(tmp_path / "embedded", town, frames)
    collect(expected)
    folder = Folder(tmp_path / "replicated")
    found(folder, town)
    address = one.address("town")
    folder.save(replace(folder.load(), journal=address))
    headend = JetStreamJournal(NatsAddress.parse(address), tmp_path / "headend.db", Routes(town.meters), receive=True)
    for at in range(0, len(frames), 500):
        headend.store(frames[at : at + 500], RECEIVED_US)
        if at % 1000 == 0:
            headend.store(frames[at : at + 500], RECEIVED_US)
    headend.close()
    worker = subprocess.Popen([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(folder.root)])
    assert worker.wait(GUARD_S) == -signal.SIGKILL
    site = Site.open(folder)
    collect(site)
    for day in site.deployment.open_days:
        for shard in site.rows.shards():
            for table in ("raw", "raw_quality"):
                assert site.lake.read(table, day, shard).equals(expected.lake.read(table, day, shard))


KILLED_IN_THE_MIDDLE = """
import os, sys
from pathlib import Path
from openami.day import Site, collect
from openami.store.deployment import Folder
import signal
collect(Site.open(Folder(Path(sys.argv[1]))), lambda frames: os.kill(os.getpid(), signal.SIGKILL))
"""
