"""What several rooms' tests need: disks that are full or read-only, and a small town's data folder. No test fails for taking long."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from engines_sql import missing, postgres_server
from openami.store.sql import Database

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT = 1, 32


def _mount(at: Path, options: bytes, flags: int = 0) -> None:
    if _libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", flags, options) != 0:
        pytest.skip(f"a tmpfs cannot be mounted here ({os.strerror(ctypes.get_errno())}); run as root to test full and read-only disks")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    at = tmp_path / "small"
    at.mkdir()
    _mount(at, b"size=2m")
    yield at
    _libc.umount2(os.fsencode(at), 2)


@pytest.fixture
def make_read_only(small_disk: Path) -> Iterator[object]:
    """Turns `small_disk` read-only when called."""
    yield lambda: _mount(small_disk, b"size=2m", MS_RDONLY | MS_REMOUNT)
    _mount(small_disk, b"size=2m", MS_REMOUNT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[..., sa.URL]]:
    """Makes a database on a real PostgreSQL server, empty or a copy of another, and gives its address."""
    if why := missing():
        pytest.skip(why)
    with postgres_server() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def postgres_template(postgres: Callable[..., sa.URL]) -> str:
    """A database that has had every step, to be copied."""
    where = postgres()
    Database(where, create=True).close()
    return str(where.database)


@pytest.fixture(params=["sqlite", "postgres"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Opens the test's database (new at first, the same one again later) on either engine."""
    where: Path | sa.URL = tmp_path / "data here" / "registry.db"
    if request.param == "postgres":
        where = request.getfixturevalue("postgres")(request.getfixturevalue("postgres_template"))
    opened: list[Database] = []

    def again() -> Database:
        opened.append(Database(where, create=True))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    """A new database, on each engine."""
    return open_database()
