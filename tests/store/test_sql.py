"""The database: the same tables on both engines, forward from every release, its errors ours, its password nobody's."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import openami.store
from openami.errors import DataError, InputError, RequestError, StorageError
from openami.money import TransferRow
from openami.store import rows as schema
from openami.store.audit import AuditTrail, Entry
from openami.store.deployment import Deployment, Folder
from openami.store.ledger import Ledger
from openami.store.rows import Rows
from openami.store.sql import ENVIRONMENT, Database, address, configured, metadata, number_columns

Opener = Callable[[], Database]


# Steps


def test_the_steps_build_what_the_chapters_declare(database: Database) -> None:
    for chapter in pkgutil.iter_modules(openami.store.__path__):
        importlib.import_module(f"openami.store.{chapter.name}")
    with database.begin() as connection:
        differ = compare_metadata(MigrationContext.configure(connection), metadata)
    if not database.is_sqlite:  # a trigger holds these two references there (`guards.belongs_to_account`)
        held = [found for found in differ if found[0] == "add_fk" and found[1].table.name in ("ledger_row", "payment_mode")]
        assert len(held) == 2
        differ = [found for found in differ if found not in held]
    assert differ == [], "a chapter's tables and its steps differ: add migrations/versions/<chapter>_<number>.py"


def test_a_registry_of_the_first_release_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE feeder (name TEXT NOT NULL PRIMARY KEY, substation TEXT NOT NULL)")
    old.execute("INSERT INTO feeder VALUES ('F1', 'SS')")
    old.execute(
        "CREATE TABLE account (number TEXT NOT NULL PRIMARY KEY, usage_point TEXT NOT NULL, consumer_name TEXT NOT NULL, language TEXT NOT NULL, "
        "tariff TEXT NOT NULL, payment_mode TEXT NOT NULL, since DATE NOT NULL, mode_since DATE NOT NULL, opening_paise BIGINT NOT NULL)"
    )
    old.execute("INSERT INTO account VALUES ('A', 'UP', 'X', 'hi', 'BR-DS2', 'prepaid', '2025-12-01', '2025-12-01', 700)")
    old.execute(
        "CREATE TABLE transfer (transfer_id TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, day DATE NOT NULL, kind TEXT NOT NULL, "
        "amount_paise BIGINT NOT NULL)"
    )
    old.execute("INSERT INTO transfer VALUES ('R2', 'A', '2025-12-03', 'recharge', 50), ('R1', 'A', '2025-12-02', 'adjustment', -20)")
    old.execute(
        "CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at_utc DATETIME NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, "
        "subject TEXT NOT NULL, why TEXT NOT NULL)"
    )
    old.execute("INSERT INTO audit VALUES (1, '2025-12-02 09:30:00.000000', 'clerk', 'edit', 'A', 'a new reading')")
    old.commit()
    old.close()
    rows = Rows(path)
    trail = AuditTrail(rows)
    assert trail.latest(10) == [(1, Entry(1_764_667_800, "clerk", "", "edit", "A", "a new reading"))]
    assert trail.broken_at() is None
    assert [f.name for f in rows.feeders()] == ["F1"]
    assert rows.meters() == []
    first, second = date(2025, 12, 2), date(2025, 12, 3)
    assert rows.transfers(first, second) == [
        TransferRow("R1", "A", first, "adjustment", -20),
        TransferRow("R2", "A", second, "recharge", 50),
    ]
    assert Ledger(rows.database).standing("A").balance_paise == 730
    assert list(Ledger(rows.database).broken()) == []


def test_a_database_of_a_later_release_is_refused_by_name(open_database: Opener) -> None:
    with open_database().begin() as connection:
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('rows_9999')")
    with pytest.raises(DataError, match=r"later release.*rows_9999"):
        open_database()


def test_opening_again_changes_nothing(open_database: Opener) -> None:
    Rows(open_database()).add_registry([schema.Feeder("F", "S")], [], [], [], [], [])
    assert [f.name for f in Rows(open_database()).feeders()] == ["F"]


def test_an_empty_database_on_a_server_is_no_registry(postgres: Callable[[], sa.URL]) -> None:
    with pytest.raises(DataError, match="no tables"):
        Database(postgres())


# Bulk


ODD = ["", "plain", 'a "quoted", one', "line\nbreak", "NULL", "\\N", "हिन्दी", "back\\slash"]


def test_a_reading_is_one_transaction_and_writes_stand_beside_it(database: Database) -> None:
    def feeders(connection: sa.Connection) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.feeder)).scalar_one())

    with database.reading():
        with database.begin() as first, database.begin() as second:
            assert first is second
            assert feeders(first) == 0
        with database.begin(writing=True) as writer:
            assert writer is not first
            writer.execute(schema.feeder.insert(), {"name": "F1", "substation": "S"})
    with database.begin() as after:
        assert after is not first
        assert feeders(after) == 1


def test_columns_of_numbers_come_in_one_order_and_empty_ones_are_empty(database: Database) -> None:
    rows = Rows(database)
    meters = [schema.Meter(f"M{k}", f"TITLE{k:03d}".encode(), "X", "Y", k % 2, k // 2, 48, 1) for k in range(40)]
    rows.add_registry([], [], meters, [], [], [])
    with database.begin() as connection:
        table = schema.meter.c
        index, doubled = number_columns(connection, sa.select(table.index, (table.index * -2).label("doubled")).where(table.shard == 1))
        none = number_columns(connection, sa.select(table.index).where(table.shard == 7))
    assert sorted(index.tolist()) == list(range(20))
    assert doubled.tolist() == (-2 * index).tolist()
    assert [column.tolist() for column in none] == [[]]


def test_bulk_rows_come_back_as_they_were(database: Database) -> None:
    n = len(ODD)
    columns = {
        "serial": [f"M{k}" for k in range(n)],
        "system_title": [bytes([k, 0, 255, 10, 34, 44, 92, 39]) for k in range(n)],
        "maker": ODD,
        "model": pa.array(ODD),
        "shard": np.zeros(n, np.int32),
        "index": np.arange(n),
        "security_control": [48] * n,
        "phases": [1] * n,
    }
    with database.begin() as connection:
        assert database.load(connection, schema.meter, columns) == n
        points = {
            "name": columns["serial"],
            "kind": ["consumer"] * n,
            "meter": columns["serial"],
            "feeder": ["F"] * n,
            "transformer": [None] * n,
            "phase": ["R"] * n,
            "connected_load_w": [0] * n,
            "since": [np.datetime64("2025-12-01").item()] * n,
            "until": [None] * (n - 1) + [np.datetime64("2026-01-01").item()],
        }
        database.load(connection, schema.feeder, {"name": ["F"], "substation": ["S"]})
        database.load(connection, schema.usage_point, points)
    rows = Rows(database)
    assert [(m.maker, m.model, m.system_title) for m in rows.meters()] == list(zip(ODD, ODD, columns["system_title"], strict=True))
    assert {p.until for p in rows.usage_points()} == {None, np.datetime64("2026-01-01").item()}
    assert {p.transformer for p in rows.usage_points()} == {None}


def test_bulk_rows_that_do_not_fit_leave_nothing(database: Database) -> None:
    with pytest.raises(RequestError, match="refuses these rows"), database.begin() as connection:
        database.load(connection, schema.feeder, {"name": ["A", "B", "A"], "substation": ["S"] * 3})
    assert Rows(database).feeders() == []


def test_text_is_ordered_by_code_point(database: Database) -> None:
    names = ["a", "B", "é", "Z", "_", "10", "9", "क"]
    with database.begin() as connection:
        database.load(connection, schema.feeder, {"name": names, "substation": ["S"] * len(names)})
    assert [f.name for f in Rows(database).feeders()] == sorted(names)


# Transactions


def test_who_writes_is_alone_from_the_beginning(database: Database) -> None:
    """Eight who each read a number and write it back raised by one: none is lost."""
    with database.begin() as connection:
        connection.execute(schema.feeder.insert(), {"name": "F", "substation": "0"})

    def raise_it() -> None:
        for _ in range(10):
            with database.begin(writing=True) as connection:
                found = int(connection.execute(sa.select(schema.feeder.c.substation)).scalar_one())
                connection.execute(schema.feeder.update().values(substation=str(found + 1)))

    threads = [threading.Thread(target=raise_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Rows(database).feeders()[0].substation == "80"


def test_an_error_in_the_middle_takes_all_back(database: Database) -> None:
    def fail() -> None:
        with database.begin(writing=True) as connection:
            connection.execute(schema.feeder.insert(), {"name": "F", "substation": "S"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert Rows(database).feeders() == []


# Addresses


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(StorageError, match="see that its server runs") as error:
        Database("postgresql://openami:hush@127.0.0.1:1/openami?connect_timeout=1")
    assert "hush" not in str(error.value)
    assert "127.0.0.1:1/openami" in str(error.value)


@pytest.mark.parametrize("text", ["mysql://localhost/x", "postgres", ""])
def test_an_address_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="database"):
        address(text)


def test_the_environment_goes_before_the_setting_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "registry.db"
    assert configured(None, file).database == str(file)
    assert configured("postgresql://db/one", file).render_as_string() == "postgresql+psycopg://db/one"
    monkeypatch.setenv(ENVIRONMENT, "postgresql://db/two")
    assert configured("postgresql://db/one", file).database == "two"


def test_a_password_lies_behind_a_reference_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "registry.db"
    secret = "postgresql://openami:hush@db/one"
    with pytest.raises(InputError, match="holds a password") as error:
        configured(secret, file)
    assert "hush" not in str(error.value)
    (tmp_path / "address").write_text(secret + "\n")
    assert configured(f"file:{tmp_path / 'address'}", file).password == "hush"
    monkeypatch.setenv("DB_ADDRESS", secret)
    assert configured("env:DB_ADDRESS", file).password == "hush"
    with pytest.raises(InputError, match="NOT_SET"):
        configured("env:NOT_SET", file)
    with pytest.raises(InputError, match="gone"):
        configured(f"file:{tmp_path / 'gone'}", file)


def test_a_folder_is_opened_where_its_settings_say(tmp_path: Path, postgres: Callable[[], sa.URL], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_ADDRESS", postgres().render_as_string(hide_password=False))
    folder = Folder(tmp_path)
    day = np.datetime64("2025-12-01").item()
    folder.save(Deployment("Town", "Asia/Kolkata", 15, day, 7, "BR", "00", database="env:DB_ADDRESS"))
    Rows.of(folder, create=True).add_registry([schema.Feeder("F", "S")], [], [], [], [], [])
    rows = Rows.of(folder)
    assert not rows.database.is_sqlite
    assert [f.name for f in rows.feeders()] == ["F"]
    assert not folder.rows.exists()


def test_a_database_that_does_not_keep_utf_8_is_refused(postgres: Callable[..., sa.URL]) -> None:
    beside = postgres()
    admin = sa.create_engine(beside, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {beside.database}_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    admin.dispose()
    with pytest.raises(InputError, match="keeps text as SQL_ASCII; make it with"):
        Database(beside.set(database=f"{beside.database}_ascii"), create=True)
