"""`scale`: what the parts that carry a nation do on this machine: the journal in (SQLite, JetStream), a shard's grid out of it, the close on Spark.

    sqlite_frames_per_s       batches of 560 frames (64 KiB), each synced before the next (WAL, synchronous=FULL)
    jetstream_frames_per_s    two head-ends with 20,000 frames at a time for eight shards, waiting for every acknowledgement: one server that
                              syncs before it acknowledges, then a quorum of three servers (here on one machine) that sync every two minutes
    rebuild_frames_per_s      a shard's journal read, deciphered, judged and scattered into its grid, by the product's own `collect`: without its
                              first and last seconds (registry and keys; `raw` written), which are in `collect_seconds`
    accounts_loaded_per_s     a million accounts in SQLite and in PostgreSQL, and what asks for them: accounts.py
    close_seconds             the product's close of the same shards embedded, on Spark with one worker and with two; `speed_up` from one worker
                              to two, `overhead_s` a task = what Spark with two workers takes longer than two threads. Each has run once before;
                              cpu_s: of all processes but Spark's driver machine (Java)

Servers, writers and readers share the machine: on machines of their own each has more. Without nats-server, PostgreSQL, or Java and pyspark,
their lines are left out, and standard error says so.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..cosem.ciphering import Keys
from ..cosem.clock import CosemDateTime
from ..cosem.notification import DataNotification
from ..cosem.push import layout_for, push_body
from ..day import Site, close_all, collect
from ..day.stages import CloseStage
from ..engine import Spark
from ..errors import InputError
from ..fleet.meter import BLOCK_LOAD_PUSH, DEVIATION_MINUTES
from ..registry import Feeder, Meter, NodeKind, UsagePoint
from ..store.deployment import Deployment, Folder
from ..store.jetstream import JetStreamJournal, Routes
from ..store.journal import Journal
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.lake import Lake
from ..store.nats_address import NatsAddress
from ..store.rows import Rows
from . import Line, accounts, line, memory
from .day import FIRST, SECOND, BenchSite, bench_site
from .headend import VALUES
from .servers import NatsServers, SparkCluster

log = logging.getLogger("openami.bench")
METERS = 1_048_576
"""Of the close; the other parts have sizes of their own."""
BATCH_FRAMES, SQLITE_BATCHES = 560, 500
WRITERS, FLUSH_FRAMES, FLUSHES, SHARDS = 2, 20_000, 30, 8
REBUILD_METERS, REBUILD_SLOTS = 20_000, 24
CLOSE_SHARDS = 4
FRAME_BYTES = 113


def run(meters: int) -> Iterator[Line]:
    """The lines of the bench; `meters`: how many the close has."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name:
        folder = Path(name)
        yield _sqlite(folder)
        try:
            yield _jetstream(folder / "one", 1, "always", "one server, sync_interval: always")
            yield _jetstream(folder / "three", 3, "", "quorum of three servers on this machine, sync_interval 2 minutes")
        except InputError as error:
            log.warning("no lines about JetStream: %s", error)
        yield from _rebuild(folder)
        try:
            yield from accounts.lines(folder)
        except InputError as error:
            log.warning("no lines about PostgreSQL: %s", error)
    yield memory("scale", meters)
    yield from _close(meters)


def _sqlite(folder: Path) -> Line:
    journal, batch = Journal(folder / "journal.db", create=True), [os.urandom(FRAME_BYTES)] * BATCH_FRAMES
    journal.append(batch, 0)
    begun = time.perf_counter()
    for _ in range(SQLITE_BATCHES):
        journal.append(batch, 0)
    took_s = time.perf_counter() - begun
    journal.close()
    frames = SQLITE_BATCHES * BATCH_FRAMES
    return line(
        "scale", "sqlite_frames_per_s", frames / took_s, "frames/s", frames, mode="fsync each batch", batch_frames=BATCH_FRAMES, **_load()
    )


def _jetstream(folder: Path, servers: int, sync: str, mode: str) -> Line:
    """Several writers, each a process as a head-end is."""
    nats = NatsServers(folder, servers, sync)
    nats.start()
    try:
        processes = multiprocessing.get_context("spawn")
        together, took = processes.Barrier(WRITERS + 1), processes.Queue()
        writers = [processes.Process(target=_write, args=(nats.address("bench"), folder, k, together, took)) for k in range(WRITERS)]
        for writer in writers:
            writer.start()
        together.wait(120)
        begun, before_s = time.perf_counter(), sum(server.cpu_s() for server in nats.each)
        cpu_s = sum(took.get(timeout=300) for _ in writers)
        took_s, servers_s = time.perf_counter() - begun, sum(server.cpu_s() for server in nats.each) - before_s
        for writer in writers:
            writer.join()
    finally:
        nats.stop()
    frames = WRITERS * FLUSHES * FLUSH_FRAMES
    more = {"mode": mode, "headends": WRITERS, "batch_bytes": 65_536, "cpu_s_headends": cpu_s, "cpu_s_servers": servers_s}
    return line("scale", "jetstream_frames_per_s", frames / took_s, "frames/s", frames, **more, **_load())


def _write(address: str, folder: Path, number: int, together: Any, took: Any) -> None:
    """One head-end's writing: everything that came, then wait for the acknowledgements, then again."""
    meters = [Meter(f"B{k}", k.to_bytes(8, "big"), "", "", k % SHARDS, k // SHARDS, 0x20, 1) for k in range(FLUSH_FRAMES)]
    frames = [b"\0\1\0\1\0\x40\0\x69\xdb\x08" + meter.system_title + os.urandom(FRAME_BYTES - 18) for meter in meters]
    journal = JetStreamJournal(NatsAddress.parse(address), folder / f"headend{number}.db", Routes(meters), receive=True)
    journal.store(frames, 0)
    together.wait(120)
    cpu_s = time.process_time()
    for _ in range(FLUSHES):
        journal.store(frames, time.time_ns() // 1000)
    took.put(time.process_time() - cpu_s)
    journal.close()


def _load() -> dict[str, float]:
    """The machine's load, which says what a figure is worth."""
    return {"load": round(os.getloadavg()[0], 1)}


def _rebuild(folder: Path) -> Iterator[Line]:
    """The same frames from either journal."""
    frames = [*_pushes()]
    yield from _collected(_founded(folder / "sqlite", None), frames, "sqlite")
    nats = NatsServers(folder / "nats", 1)
    nats.start()
    try:
        yield from _collected(_founded(folder / "jetstream", nats.address("rebuild")), frames, "jetstream")
    finally:
        nats.stop()


def _collected(folder: Folder, frames: Sequence[bytes], mode: str) -> Iterator[Line]:
    site = Site.open(folder)
    journal = open_journal(folder, site.deployment, receive=True, meters=site.rows.meters())
    for at in range(0, len(frames), FLUSH_FRAMES):
        journal.store(frames[at : at + FLUSH_FRAMES], 0)
    journal.close()
    told: list[tuple[float, int]] = []
    begun = time.perf_counter()
    refused = collect(site, lambda count: told.append((time.perf_counter(), count)))
    took_s = time.perf_counter() - begun
    if refused or sum(count for _, count in told) != len(frames):
        raise RuntimeError(f"of {len(frames)} frames {refused} were refused: a figure would be of no worth")
    steady = sum(count for _, count in told[1:])
    yield line("scale", "rebuild_frames_per_s", steady / (told[-1][0] - told[0][0]), "frames/s", steady, mode=mode, **_load())
    yield line("scale", "collect_seconds", took_s, "s", len(frames), mode=mode)


def _meters() -> Iterator[tuple[Meter, Keys]]:
    for k in range(REBUILD_METERS):
        title = b"XMA" + k.to_bytes(5, "big")
        yield Meter(f"XMA{k:07d}", title, "XMA", "XMA-1P", 0, k, 0x20, 1), Keys(title + title, title[::-1] + title)


def _founded(root: Path, journal: str | None) -> Folder:
    """A data folder with one shard's registry."""
    folder = Folder(root)
    folder.save(Deployment("Bench", "Asia/Kolkata", 30, FIRST, 1, "BR", b"OAMBENCH".hex(), journal=journal))
    master, rows = load_master_key(folder.master_key, create=True), Rows(folder.rows, create=True)
    known = [*_meters()]
    points = [UsagePoint(f"UP-{m.serial}", NodeKind.CONSUMER, m.serial, "F1", None, "R", 5000, FIRST) for m, _ in known]
    keys = [(m.serial, master.wrap(k.ek), master.wrap(k.ak)) for m, k in known]
    rows.add_registry([Feeder("F1", "SS-1")], [], [m for m, _ in known], points, [], keys)
    rows.close()
    return folder


def _pushes() -> Iterator[bytes]:
    """Every meter's push of every slot, slot by slot: a whole push is made once a meter, then only its time stamp changes."""
    start = Deployment("", "Asia/Kolkata", 30, FIRST, 1, "", "").calendar.day_start(FIRST)
    stamps = [CosemDateTime.from_stamp(start + 1800 * (slot + 1), DEVIATION_MINUTES, 0).encode() for slot in range(REBUILD_SLOTS)]
    layout, made = layout_for("XMA", "XMA-1P", BLOCK_LOAD_PUSH), []
    for meter, keys in _meters():
        clock = CosemDateTime.from_stamp(start + 5, DEVIATION_MINUTES, 0)
        body = push_body(layout, meter.serial.encode(), clock, [(start + 1800, VALUES)])
        plain = DataNotification(1, True, False, b"", body).encode()
        made.append((meter.system_title, AESGCM(keys.ek), plain, plain.index(stamps[0])))
    for slot, stamp in enumerate(stamps):
        counter = (slot + 1).to_bytes(4, "big")
        for title, cipher, plain, at in made:
            sealed = cipher.encrypt(title + counter, plain[:at] + stamp + plain[at + 12 :], None)[:-16]
            apdu = b"\xdb\x08" + title + bytes((5 + len(sealed), 0x20)) + counter + sealed
            yield b"\0\1\0\1\0\x40" + len(apdu).to_bytes(2, "big") + apdu


def _close(meters: int) -> Iterator[Line]:
    """The second day of the same shards, closed by each engine in a folder of its own; the first day, closed before, has started everything."""
    sizes = [meters // CLOSE_SHARDS] * CLOSE_SHARDS
    took = {"embedded, 2 threads": _timed(sizes, None, time.process_time)}
    try:
        for workers in (1, 2):
            took[f"spark, {workers} of 1 core"] = _on_spark(sizes, workers)
    except InputError as error:
        log.warning("no lines about Spark: %s", error)
    readings = 48 * sum(sizes)
    for mode, (took_s, cpu_s) in took.items():
        yield line("scale", "close_seconds", took_s, "s", readings, mode=mode, tasks=CLOSE_SHARDS, cpu_s=cpu_s, **_load())
    if len(took) == 3:
        embedded, one, two = took.values()
        yield line("scale", "speed_up", one[0] / two[0], "x", readings, mode="spark, one to two workers", **_load())
        overhead = {"mode": "spark against embedded, a task", "cpu_s": (two[1] - embedded[1]) / CLOSE_SHARDS}
        yield line("scale", "overhead_s", (two[0] - embedded[0]) / CLOSE_SHARDS, "s", readings, **overhead, **_load())


def _on_spark(sizes: list[int], workers: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name:
        cluster = SparkCluster(Path(name), workers)
        cluster.start()
        try:
            with Spark(cluster.master, {"spark.executor.memory": "512m", "spark.driver.memory": "512m"}) as engine:
                return _timed(sizes, engine, lambda: time.process_time() + cluster.cpu_s())
        finally:
            cluster.stop()


def _timed(sizes: list[int], engine: Spark | None, spent_s: Callable[[], float]) -> tuple[float, float]:
    """Seconds to close the second day, and of processors."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name:
        site = bench_site(Folder(Path(name)), sizes)
        stage = CloseStage(OpenBench(Path(name), tuple(sizes)))
        elsewhere = None if engine is None else partial(engine.run, stage)
        shards = range(len(sizes))
        close_all(site, days=[FIRST], shards=shards, elsewhere=elsewhere)
        begun, before_s = time.perf_counter(), spent_s()
        close_all(site, days=[SECOND], shards=shards, elsewhere=elsewhere)
        return time.perf_counter() - begun, spent_s() - before_s


@dataclass(frozen=True, slots=True)
class OpenBench:
    """Opens the bench's site in a Spark worker."""

    root: Path
    sizes: tuple[int, ...]

    def __call__(self) -> BenchSite:
        folder = Folder(self.root)
        site = BenchSite(folder, folder.load(), Rows(folder.rows), Lake(folder.lake))
        site.sizes = list(self.sizes)
        return site
