"""`web`: pages of a town of a million accounts with 1,000 closed days behind it (`web_town.py` says how it is made), from a server of one process
beside the load generator: the consumer's home at 200 requests a second, each of an account of its own; the meter page with a year of curves; the
wall. A latency is from when a request was due until its last byte: one that had to wait for others has waited. Without peers.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..store.deployment import Folder
from ..store.lookup import Reach
from ..store.people import GrantKind
from . import Line, line, memory
from .web_town import DAYS, make_town

METERS = 1_010_000
"""Meters of the network included: some 990,000 accounts to a million of meters."""
RATE_PER_S, HOME_S, OTHER_PER_S, OTHERS, CONSUMERS, WARM = 200, 15, 5, 100, 400, 60


def run(meters: int, home_s: int = HOME_S) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as kept:
        root, start = Path(kept) / "town", time.perf_counter()
        root.mkdir()
        numbers = make_town(root, meters)
        yield line("web", "town_made", time.perf_counter() - start, "s", meters, accounts=len(numbers), days=DAYS)
        port, ready = _free_port(), multiprocessing.get_context("spawn").Queue()
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(root, port, numbers, ready), daemon=True)
        server.start()
        try:
            operator, consumers, serials = ready.get(timeout=600)
            base = f"http://127.0.0.1:{port}"
            for metric, asked, per_s, seconds in (
                ("wall", [(operator, "/room")] * OTHERS, OTHER_PER_S, 0),
                ("meter_page", [(operator, f"/room/meters/{serial}?span=year") for serial in serials], OTHER_PER_S, 0),
                ("consumer_home", consumers, RATE_PER_S, home_s),
            ):
                count = seconds * per_s or len(asked)
                wanted = [asked[k % len(asked)] for k in range(count)]
                asyncio.run(_ask(base, [asked[k % len(asked)] for k in range(WARM)], 2.0 if metric != "consumer_home" else 50.0))
                times, octets = asyncio.run(_ask(base, wanted, per_s))
                for name, share in (("p50", 0.5), ("p99", 0.99)):
                    value = float(np.quantile(times, share))
                    yield line(
                        "web", f"{metric}_{name}", value, "s", len(times), accounts=len(numbers), days=DAYS, per_s=per_s, octets=octets
                    )
        finally:
            server.terminate()
            server.join()
        yield memory("web", meters)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _serve(root: Path, port: int, numbers: list[str], ready: multiprocessing.Queue[object]) -> None:
    """One server process, and people who have signed in."""
    import uvicorn

    from ..web.house import open_house
    from ..web.reader import LakeTown

    town = LakeTown(Folder(root))
    app = open_house(town)
    gate = app.state.gate
    now_s, rng = gate.now_s, np.random.default_rng(1)
    gate.people.add("bench-operator", "operator", now_s)
    gate.people.grant("bench-operator", GrantKind.ALL)
    consumers = []
    for k, place in enumerate(rng.choice(len(numbers), CONSUMERS, replace=False).tolist()):
        gate.people.add(f"bench-{k}", "consumer", now_s, language="hi")
        gate.people.grant(f"bench-{k}", GrantKind.ACCOUNT, numbers[place])
        consumers.append((gate.sessions.begin(f"bench-{k}", now_s, "127.0.0.1"), f"/my/{numbers[place]}"))
    shards = rng.integers(0, len(town.rows.shards()), OTHERS)
    begins = [
        f"M{shard}{place:07d}"
        for shard, place in zip(shards.tolist(), rng.integers(0, len(numbers) // len(town.rows.shards()), OTHERS).tolist(), strict=True)
    ]
    found = [gate.lookup.meters(Reach(everything=True), begin, 1) for begin in begins]
    serials = [rows[0]["serial"] for rows in found if rows]
    ready.put((gate.sessions.begin("bench-operator", now_s, "127.0.0.1"), consumers, serials))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


async def _ask(base: str, wanted: list[tuple[str, str]], per_s: float) -> tuple[list[float], int]:
    """(seconds of each request from when it was due, octets of one answer). Any answer but 200 stops the measurement."""
    import httpx

    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=120) as client:
        for _ in range(600):
            try:
                if (await client.get("/health")).status_code == 200:
                    break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        begin = loop.time() + 0.05
        octets = 0

        async def one(k: int, token: str, path: str) -> float:
            nonlocal octets
            due = begin + k / per_s
            await asyncio.sleep(due - loop.time())
            answer = await client.get(path, headers={"cookie": f"openami-session={token}", "accept-encoding": "br"})
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}: the measurement is not of the work that it claims")
            octets = int(answer.headers.get("content-length", len(answer.content)))
            return loop.time() - due

        times = list(await asyncio.gather(*(one(k, token, path) for k, (token, path) in enumerate(wanted))))
    return times, octets
