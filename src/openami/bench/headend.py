"""`headend`: pushes confirmed after the journal's sync, over TCP on loopback, by a head-end in a process of its own; this process is the fleet.

    connections             held open at once, each having had one push confirmed
    pushes_per_s            on open connections, one push outstanding on each
    connect_pushes_per_s    with a new connection for each push
    day_reads_per_s, orders_per_s: `asking.py`

The frames are ready-made, so the fleet costs as little as it can; it shares the machine's two cores with the head-end. The peer is the bare
minimum of the same work: an asyncio server that appends what came to a file, syncs once for all that gathered, and answers; no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from ..cosem.ciphering import Keys
from ..cosem.push import layout_for
from ..errors import StorageError
from ..fleet.meter import BLOCK_LOAD_PUSH, SimulatedMeter
from ..registry import Feeder, Meter, NodeKind, UsagePoint
from ..store.deployment import Deployment, Folder
from ..store.keys import load_master_key
from ..store.rows import Rows
from . import Line, asking, line

METERS = 10_000
PUSHES = 40_000
CONNECTED = 1_000
DAY = date(2025, 12, 1)
VALUES = {"import_wh": 123, "import_vah": 131, "voltage_v": 23150, "current_a": 2260}


def run(meters: int) -> Iterator[Line]:
    """The lines of the bench; `meters` is the number of connections to hold."""
    _raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as name:
        folder = Folder(Path(name) / "site")
        fleet = _found(folder, meters)
        with _server("openami", "serve", "--role", "headend", "--data", str(folder.root), "--port", "0") as (port, process):
            yield from _measure(fleet, port, process, meters, {})
        with _server("openami.bench.bare", str(Path(name) / "bare.log")) as (port, process):
            yield from _measure(fleet, port, process, meters, {"peer": "bare asyncio, one fsync a batch, no protocol"})
    yield from asking.run(min(meters, asking.METERS))


def _measure(fleet: list[SimulatedMeter], port: int, process: subprocess.Popen[str], meters: int, more: dict[str, str]) -> Iterator[Line]:
    held = asyncio.run(_push([_frames(meter, 1) for meter in fleet], port))
    yield line("headend", "connections", held.confirmed, "connections", meters, **more)
    few = fleet[: min(CONNECTED, len(fleet))]
    each = max(1, PUSHES // len(few))
    open_run = asyncio.run(_push([_frames(meter, each) for meter in few], port))
    yield from _lines("pushes_per_s", open_run, more)
    fresh = asyncio.run(_connect_and_push([frame for meter in few for frame in _frames(meter, max(1, PUSHES // 4 // len(few)))], port))
    yield from _lines("connect_pushes_per_s", fresh, more)
    yield line("headend", "rss_peak", _peak_bytes(process.pid), "bytes", meters, **more)


def _lines(metric: str, run: _Run, more: dict[str, str]) -> Iterator[Line]:
    yield line("headend", metric, run.confirmed / run.took_s, "pushes/s", run.confirmed, **more)
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        waits = sorted(run.waits_s)
        yield line("headend", name, waits[int(share * (len(waits) - 1))], "s", run.confirmed, of=metric, **more)


@dataclass(slots=True)
class _Run:
    confirmed: int = 0
    took_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)


class _Pusher(asyncio.Protocol):
    """One connection: sends a frame, waits for any answer, sends the next."""

    def __init__(self, frames: list[bytes], run: _Run, done: Callable[[], None], *, hang_up: bool = False) -> None:
        self._frames, self._run, self._done, self._hang_up = iter(frames), run, done, hang_up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        self._next()

    def data_received(self, data: bytes) -> None:
        self._run.waits_s.append(time.perf_counter() - self._sent)
        self._run.confirmed += 1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._hang_up and exc is not None:
            raise StorageError(f"the head-end broke a connection: {exc}")

    def _next(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            if self._hang_up:
                self._transport.abort()
            self._done()
            return
        self._sent = time.perf_counter()
        self._transport.write(frame)


async def _push(frames: list[list[bytes]], port: int) -> _Run:
    """Open a connection for each list, then push all lists side by side."""
    run, left, finished = _Run(), len(frames), asyncio.Event()

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    loop = asyncio.get_running_loop()
    pushers = []
    for own in frames:
        _, pusher = await loop.create_connection(lambda own=own: _Pusher(own, run, done), "127.0.0.1", port)  # type: ignore[misc]
        pushers.append(pusher)
    start = time.perf_counter()
    for pusher in pushers:
        pusher.start()
    async with asyncio.timeout(300):
        await finished.wait()
    run.took_s = time.perf_counter() - start
    for pusher in pushers:
        pusher._transport.abort()
    return run


async def _connect_and_push(frames: list[bytes], port: int, side_by_side: int = 256) -> _Run:
    """A new connection for each frame, `side_by_side` at a time. A meter's frames stay in order: they lie one behind the other."""
    run = _Run()
    loop = asyncio.get_running_loop()
    queue = iter(frames[k::side_by_side] for k in range(side_by_side))

    async def worker(own: list[bytes]) -> None:
        for frame in own:
            finished = asyncio.Event()
            begun = time.perf_counter()
            _, pusher = await loop.create_connection(
                lambda frame=frame, finished=finished: _Pusher([frame], run, finished.set, hang_up=True),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            pusher.start()
            await finished.wait()
            run.waits_s[-1] = time.perf_counter() - begun

    start = time.perf_counter()
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for own in queue:
            group.create_task(worker(own))
    run.took_s = time.perf_counter() - start
    return run


def _frames(meter: SimulatedMeter, count: int) -> list[bytes]:
    stamp = 1_764_527_400
    return [meter.push(stamp + 5, stamp + 900 * k, VALUES) for k in range(count)]


def _found(folder: Folder, meters: int) -> list[SimulatedMeter]:
    """A registry of `meters` meters in `folder`, and the meters themselves."""
    rng = np.random.default_rng(1)
    layout = layout_for("XMA", "XMA-1P", BLOCK_LOAD_PUSH)
    fleet = [
        SimulatedMeter(f"XMA{k:07d}", b"XMA" + k.to_bytes(5, "big"), layout, 0x20, Keys(rng.bytes(16), rng.bytes(16)), 1)
        for k in range(1, meters + 1)
    ]
    folder.save(Deployment("bench", "Asia/Kolkata", 15, DAY, 1, "BR", b"OAMBENCH".hex(), 1))
    master = load_master_key(folder.master_key, create=True)
    registered = [Meter(m.serial, m.system_title, "XMA", "XMA-1P", 0, k, 0x20, 1) for k, m in enumerate(fleet)]
    points = [UsagePoint(f"UP-{m.serial}", NodeKind.CONSUMER, m.serial, "F1", None, "R", 5000, DAY) for m in fleet]
    rows = Rows(folder.rows, create=True)
    wrapped = [(m.serial, master.wrap(m.keys.ek), master.wrap(m.keys.ak)) for m in fleet]
    rows.add_registry([Feeder("F1", "SS-1")], [], registered, points, [], wrapped)
    rows.close()
    return fleet


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    assert process.stdout is not None
    try:
        yield int(json.loads(process.stdout.readline())["port"]), process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        process.stdout.close()


def _peak_bytes(pid: int) -> int:
    """Peak resident memory of another process, from the kernel's account; 0 where there is none."""
    with contextlib.suppress(OSError):
        for text in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if text.startswith("VmHWM:"):
                return int(text.split()[1]) * 1024
    return 0


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
