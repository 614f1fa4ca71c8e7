"""`web`: pages of a town of a million accounts with 1,000 closed days behind it (`web_town.py` says how it is made), from `openami serve` with two
processes beside the load generator: how long it reads before it listens; the consumer's home at 200 requests a second from the first second on, each
of an account of its own; then every page that reads of meters or accounts (`web_pages.py`), its first answer since the start and a few more; the
meter page with a year of curves, and the wall. A latency is from when a request was due until its last byte (of a stream, until its first event): one
that had to wait for others has waited. `cpu_s` is the server's CPU for one of them.

Peers, at the same rate, of one process: FastAPI alone with a page of one line, and with one row of the same registry by its key.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..store.deployment import Folder
from ..store.lookup import Reach
from ..store.people import GrantKind
from ..store.rows import account
from ..web.gate import Gate
from ..web.reader import LakeTown
from . import Line, line, memory
from .web_pages import PAGES
from .web_town import DAYS, begin_running_day, is_town, make_town

METERS = 1_010_000
"""Meters of the network included: some 990,000 accounts to a million of meters."""
RATE_PER_S, HOME_S, OTHER_PER_S, OTHERS, CONSUMERS, WARM = 200, 15, 5, 100, 400, 60
PAGES_PER_S, PAGE_TIMES = 4.0, 8
PROCESSES = 2
LONGEST = 16 * 2**20
"""Octets of the longest answer in pieces."""
LINES, PATIENCE_S, START_S = 64, 120, 600
"""Connections at the most, and how long one answer is waited for, or a start."""
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb"\r\ncontent-type: *text/event-stream", re.IGNORECASE)


def run(meters: int, keep: Path | None = None, home_s: int = HOME_S) -> Iterator[Line]:
    """keep: the folder of a town that stays, made now or before."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as kept:
        root, start = keep or Path(kept) / "town", time.perf_counter()
        if not is_town(root, meters):
            accounts = make_town(root, meters)
            yield line("web", "town_made", time.perf_counter() - start, "s", meters, accounts=accounts, days=DAYS)
        begin_running_day(root)
        yield from ask_town(root, home_s)
        yield from ask_peers(root, home_s)
        yield memory("web", meters)


def ask_town(root: Path, home_s: int = HOME_S) -> Iterator[Line]:
    """Lines about a town that is there."""
    people = _people(root)
    about, operator, start = {"accounts": people.accounts, "days": DAYS}, people.sessions["operator"], time.perf_counter()
    with _console(root) as (pid, base):
        asyncio.run(_listens(base))
        cpu_s = round(_cpu_s(pid), 2)
        yield line("web", "start", time.perf_counter() - start, "s", people.accounts, cpu_s=cpu_s, processes=PROCESSES)
        homes = [people.homes[k % CONSUMERS] for k in range(home_s * RATE_PER_S)]
        yield from _asked("consumer_home", base, pid, homes, RATE_PER_S, **about)
        for role, pages in PAGES.items():
            for path in [page.format(**people.named) for page in pages]:
                asked = [(people.sessions[role], path)]
                (first_s,), _ = asyncio.run(_ask(base, asked, PAGES_PER_S))
                yield line("web", "page_first", first_s, "s", 1, path=path)
                yield from _asked("page", base, pid, asked * PAGE_TIMES, PAGES_PER_S, path=path, **about)
        year = [(operator, f"/room/meters/{serial}?span=year") for serial in people.serials]
        for metric, asked in (("wall", [(operator, "/room")] * OTHERS), ("meter_page", year)):
            yield from _asked(metric, base, pid, asked, OTHER_PER_S, **about)


def ask_peers(root: Path, seconds: int = HOME_S) -> Iterator[Line]:
    """What a page costs that says nothing, and one that looks a row up."""
    with _server(_serve_bare, root) as (pid, base, serial):
        for peer, path in ((f"fastapi {version('fastapi')}, one line", "/"), ("fastapi and sqlite3, one row by key", f"/meters/{serial}")):
            asyncio.run(_ask(base, [("", path)] * WARM, 50.0))
            yield from _asked("consumer_home", base, pid, [("", path)] * (seconds * RATE_PER_S), RATE_PER_S, peer=peer)


def _asked(metric: str, base: str, pid: int, wanted: list[tuple[str, str]], per_s: float, **about: object) -> Iterator[Line]:
    before = _cpu_s(pid)
    times, octets = asyncio.run(_ask(base, wanted, per_s))
    cpu_s = (_cpu_s(pid) - before) / len(times)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        value = float(np.quantile(times, share))
        yield line("web", f"{metric}_{name}", value, "s", len(times), per_s=per_s, octets=octets, cpu_s=round(cpu_s, 5), **about)


@contextmanager
def _server(serve: Callable[..., None], root: Path) -> Iterator[tuple[int, str, Any]]:
    """(process, address, what it told) of a peer's server."""
    port, ready = _free_port(), multiprocessing.get_context("spawn").Queue()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(root, port, ready), daemon=True)
    server.start()
    try:
        told = ready.get(timeout=600)
        yield int(server.pid or 0), f"http://127.0.0.1:{port}", told
    finally:
        server.terminate()
        server.join()


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children so far, of all their threads; 0 where the system does not say."""
    stat, children = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/task/{pid}/children")
    if not stat.exists() or not children.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    own_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own_s + sum(_cpu_s(int(child)) for child in children.read_text().split())


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _console(root: Path) -> Iterator[tuple[int, str]]:
    """(process, address) of the console as people start it."""
    port = _free_port()
    command = [sys.executable, "-m", "openami", "serve", "--data", str(root), "--port", str(port), "--processes", str(PROCESSES)]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)  # noqa: S603 - our own program and arguments
        try:
            yield server.pid, f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


@dataclass(frozen=True, slots=True)
class People:
    """sessions: by role, of one who sees everything, and of the consumer of `named`; homes: consumers' sessions with their addresses; serials: of
    meters; named: a name of each kind; accounts: how many there are."""

    sessions: dict[str, str]
    homes: list[tuple[str, str]]
    serials: list[str]
    named: dict[str, str]
    accounts: int


def _people(root: Path) -> People:
    town = LakeTown(Folder(root))
    gate = Gate(town, demo=town.folder.is_simulated())
    now_s, rng, run = gate.now_s, np.random.default_rng(1), secrets.token_hex(4)

    def session(name: str, role: str, kind: GrantKind, key: str = "*") -> str:
        gate.people.add(f"bench-{run}-{name}", role, now_s, language="hi" if role == "consumer" else "en")
        gate.people.grant(f"bench-{run}-{name}", kind, key)
        return gate.sessions.begin(f"bench-{run}-{name}", now_s, "127.0.0.1")

    with town.rows.begin() as connection:
        numbers = connection.execute(sa.select(account.c.number).order_by(account.c.number)).scalars().all()
    places = enumerate(rng.choice(len(numbers), CONSUMERS, replace=False).tolist())
    homes = [(session(str(k), "consumer", GrantKind.ACCOUNT, numbers[at]), f"/my/{numbers[at]}") for k, at in places]
    shards = len(town.rows.shards())
    drawn = zip(rng.integers(0, shards, OTHERS).tolist(), rng.integers(0, len(numbers) // shards, OTHERS).tolist(), strict=True)
    found = [gate.lookup.meters(Reach(everything=True), f"M{shard}{place:07d}", 1) for shard, place in drawn]
    serials = [rows[0]["serial"] for rows in found if rows]
    own = next(row for row in (gate.lookup.meter(Reach(everything=True), serial) for serial in serials) if row and row["account"])
    named = {"meter": own["serial"], "account": own["account"], "transformer": own["transformer"], "feeder": own["feeder"]}
    latest = town.days()[-1]
    named |= {"begin": own["serial"][:-2], "part": own["serial"][2:-1], "digits": own["account"][:5]}
    named |= {"day": latest.isoformat(), "year_ago": (latest - timedelta(days=364)).isoformat()}
    sessions = {role: session(role, role, GrantKind.ALL) for role in PAGES if role != "consumer"}
    sessions["consumer"] = session("own", "consumer", GrantKind.ACCOUNT, own["account"])
    return People(sessions, homes, serials, named, len(numbers))


def _serve_bare(root: Path, port: int, ready: multiprocessing.Queue[object]) -> None:
    """The peers' process: no sign-in, no session, no packing, no template."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    app, local = FastAPI(), threading.local()

    @app.get("/health")
    @app.get("/")
    def hello() -> HTMLResponse:
        return HTMLResponse("<p>hello</p>")

    @app.get("/meters/{serial}")
    def row(serial: str) -> HTMLResponse:
        if not hasattr(local, "registry"):
            local.registry = sqlite3.connect(Folder(root).rows)
        found = local.registry.execute("SELECT serial, maker, model, shard FROM meter WHERE serial = ?", (serial,)).fetchone()
        return HTMLResponse(f"<p>{found}</p>")

    with sqlite3.connect(Folder(root).rows) as registry:
        ready.put(registry.execute("SELECT serial FROM meter LIMIT 1").fetchone()[0])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_keep_alive=120)


async def _ask(base: str, wanted: list[tuple[str, str]], per_s: float) -> tuple[list[float], int]:
    """Seconds from when each request (session token, path) was due until its last byte, and the octets of the last page's body. Written on bare
    streams: a client library took as much of the two cores as the server."""
    host, _, port = base.removeprefix("http://").partition(":")
    await _listens(base)
    loop = asyncio.get_running_loop()
    lines, idle, octets = asyncio.Semaphore(LINES), list[tuple[asyncio.StreamReader, asyncio.StreamWriter]](), 0
    begin = loop.time() + 0.05

    async def one(k: int, token: str, path: str) -> float:
        nonlocal octets
        due = begin + k / per_s
        await asyncio.sleep(due - loop.time())
        async with lines, asyncio.timeout(PATIENCE_S):
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, port, limit=LONGEST)
            head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: openami-session={token}\r\nAccept-Encoding: br\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if (status := int(answer.split(b" ", 2)[1])) != 200:
                raise RuntimeError(f"{path} answered {status}: the measurement is not of the work that it claims")
            if STREAM.search(answer):
                octets = len(await reader.readuntil(b"data: "))
                writer.close()  # it would go on for ever
            elif length := LENGTH.search(answer):
                octets = len(await reader.readexactly(int(length[1])))
                idle.append((reader, writer))
            else:
                octets = len(await reader.readuntil(b"\r\n0\r\n\r\n"))
                idle.append((reader, writer))
        return loop.time() - due

    times = list(await asyncio.gather(*(one(k, token, path) for k, (token, path) in enumerate(wanted))))
    for _, writer in idle:
        writer.close()
    return times, octets


async def _listens(base: str) -> None:
    host, _, port = base.removeprefix("http://").partition(":")
    for _ in range(10 * START_S):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError(f"no server listens at {host}:{port} after {START_S} s")
