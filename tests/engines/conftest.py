"""Servers of this room, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .nats_servers import Servers


@pytest.fixture(scope="session")
def nats_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One server that syncs before it acknowledges."""
    servers = Servers(tmp_path_factory.mktemp("nats"), 1)
    servers.start()
    yield servers
    servers.stop()
