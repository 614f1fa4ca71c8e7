"""A million accounts in SQL, on SQLite and on a real PostgreSQL: their registry loaded (COPY there), then asked for as pages and roles ask.

accounts_loaded_per_s     meters with keys, usage points, accounts and their places in the ledger, in one transaction; an account's four rows count
                          as one. Beside it, on PostgreSQL, the same accounts' rows by INSERT, as SQLAlchemy does it
account_page_p99_s        one account with its point, feeder and meter, by its number, as the API gives it
registry_read_seconds     all meters and keys, as a head-end reads them at its start
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..registry import NodeKind, PaymentMode
from ..store.ledger_bulk import open_accounts
from ..store.lookup import Lookup, Reach
from ..store.rows import Rows, account, feeder, meter, meter_key, transformer, usage_point
from ..store.sql import Database, load
from . import Line, beside, line
from .servers import PostgresServer

ACCOUNTS = 1_000_000
COMPARED, QUERIES = 50_000, 2_000
UNDER_TRANSFORMER, UNDER_FEEDER = 50, 5_000
SINCE = date(2025, 12, 1)


def lines(folder: Path, accounts: int = ACCOUNTS) -> Iterator[Line]:
    """On both engines. InputError where PostgreSQL is not installed: then the lines of SQLite have come."""
    yield from _measured("sqlite", Database(folder / "registry.db", create=True), accounts)
    folder.chmod(0o755)  # the server runs as a user of its own
    server = PostgresServer(folder / "postgres")
    server.start()
    try:
        yield from _measured("postgresql", Database(server.fresh("bench"), create=True), accounts)
        copied = line("scale", "rows_copied_per_s", _rows_per_s(server.fresh("copied"), copy=True), "rows/s", COMPARED, mode="postgresql")
        yield copied
        yield from beside(copied, "INSERT by SQLAlchemy", _rows_per_s(server.fresh("inserted"), copy=False))
    finally:
        server.stop()


def _measured(mode: str, database: Database, accounts: int) -> Iterator[Line]:
    registry = _registry(accounts)
    begun, cpu_s = time.perf_counter(), time.process_time()
    with database.begin(writing=True, long=True) as connection:
        for table, columns in registry:
            load(connection, table, columns)
        open_accounts(connection, 0)
    took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_s
    yield line("scale", "accounts_loaded_per_s", accounts / took_s, "accounts/s", accounts, mode=mode, cpu_s=cpu_s)
    rows, times = Rows(database), []
    lookup, everything = Lookup(rows), Reach(everything=True)
    for k in np.random.default_rng(1).integers(0, accounts, QUERIES).tolist():
        begun = time.perf_counter()
        found = lookup.account(everything, f"{k:010d}")
        times.append(time.perf_counter() - begun)
        if found is None or found["meter"] != f"M{k:010d}":
            raise RuntimeError(f"account {k:010d} was given as {found}: a figure would be of no worth")
    yield line("scale", "account_page_p99_s", float(np.quantile(times, 0.99)), "s", QUERIES, mode=mode, p50_s=float(np.median(times)))
    begun, cpu_s = time.perf_counter(), time.process_time()
    known, keys = rows.meters(), rows.wrapped_keys()
    took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_s
    yield line("scale", "registry_read_seconds", took_s, "s", len(known), mode=mode, cpu_s=cpu_s)
    if not len(known) == len(keys) == accounts:
        raise RuntimeError(f"{len(known)} meters and {len(keys)} keys were read of {accounts}")
    rows.close()


def _registry(count: int) -> list[tuple[sa.Table, dict[str, Any]]]:
    """Feeders of 5,000 and transformers of 50 consumers; every table by column."""
    k = np.arange(count)
    numbers = [f"{n:010d}" for n in range(count)]
    serials, points = [f"M{n}" for n in numbers], [f"U{n}" for n in numbers]
    feeders, transformers = (
        [f"{kind}{n:06d}" for n in range(-(-count // under))] for kind, under in (("F", UNDER_FEEDER), ("T", UNDER_TRANSFORMER))
    )
    of_feeder, of_transformer = ((k // under).tolist() for under in (UNDER_FEEDER, UNDER_TRANSFORMER))

    def same(value: object) -> list[object]:
        return [value] * count

    return [
        (feeder, {"name": feeders, "substation": ["SS"] * len(feeders)}),
        (
            transformer,
            {
                "name": transformers,
                "feeder": [feeders[n * UNDER_TRANSFORMER // UNDER_FEEDER] for n in range(len(transformers))],
                "rating_kva": [100] * len(transformers),
            },
        ),
        (
            meter,
            {
                "serial": serials,
                "system_title": [b"XMA" + n.to_bytes(5, "big") for n in range(count)],
                **{name: same(value) for name, value in (("maker", "XMA"), ("model", "XMA-1P"), ("security_control", 0x20), ("phases", 1))},
                "shard": k // 250_000,
                "index": k % 250_000,
            },
        ),
        (meter_key, {"serial": serials, "ek_wrapped": same(bytes(24)), "ak_wrapped": same(bytes(24))}),
        (
            usage_point,
            {
                "name": points,
                "meter": serials,
                "feeder": [feeders[n] for n in of_feeder],
                "transformer": [transformers[n] for n in of_transformer],
                **{
                    name: same(value)
                    for name, value in (("kind", str(NodeKind.CONSUMER)), ("phase", "R"), ("connected_load_w", 2000), ("since", SINCE))
                },
            },
        ),
        (account, _accounts(numbers, points)),
    ]


def _accounts(numbers: list[str], points: list[str]) -> dict[str, Any]:
    same = {
        "consumer_name": "",
        "language": "hi",
        "tariff": "BR-DS2",
        "payment_mode": str(PaymentMode.PREPAID),
        "since": SINCE,
        "mode_since": SINCE,
    }
    return {"number": numbers, "usage_point": points, "opening_paise": [0] * len(numbers)} | {
        n: [v] * len(numbers) for n, v in same.items()
    }


def _rows_per_s(where: sa.URL, *, copy: bool) -> float:
    """Of the table of accounts alone."""
    database = Database(where, create=True)
    columns = _accounts([f"{n:010d}" for n in range(COMPARED)], [f"U{n}" for n in range(COMPARED)])
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    begun = time.perf_counter()
    with database.begin(writing=True, long=True) as connection:
        if copy:
            load(connection, account, columns)
        else:
            connection.execute(account.insert(), rows)
    took_s = time.perf_counter() - begun
    database.close()
    return COMPARED / took_s
