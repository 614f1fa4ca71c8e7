"""Servers of this room, started once; a test whose servers cannot be had here is skipped, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openami.bench.servers import NatsServers, SparkCluster
from openami.errors import InputError

Start = Callable[..., NatsServers]


def started(folder: Path, count: int, sync: str = "always") -> NatsServers:
    try:
        servers = NatsServers(folder, count, sync)
    except InputError as missing:
        pytest.skip(str(missing))
    servers.start()
    return servers


@pytest.fixture(scope="session")
def nats_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    """One server that syncs before it acknowledges."""
    servers = started(tmp_path_factory.mktemp("nats"), 1)
    yield servers
    servers.stop()


@pytest.fixture
def start_nats(tmp_path: Path) -> Iterator[Start]:
    """Starts servers of the test's own: start_nats(count, sync)."""
    running: list[NatsServers] = []

    def start(count: int = 1, sync: str = "always") -> NatsServers:
        running.append(started(tmp_path / f"nats{len(running)}", count, sync))
        return running[-1]

    yield start
    for servers in running:
        servers.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """A Spark master and two workers."""
    try:
        cluster = SparkCluster(tmp_path_factory.mktemp("spark"))
    except InputError as missing:
        pytest.skip(str(missing))
    cluster.start()
    yield cluster
    cluster.stop()
