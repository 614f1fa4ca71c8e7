"""Registry, recharges and audit as SQL rows: what goes in comes out, all or nothing, and money goes to somebody."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from openami.errors import DataError, RequestError, StorageError
from openami.money import TransferRow
from openami.registry import Account, Feeder, Meter, NodeKind, PaymentMode, Transformer, UsagePoint
from openami.store.ledger import Ledger
from openami.store.rows import Rows
from openami.store.sql import Database

DAY = date(2025, 12, 1)
FEEDERS = [Feeder("F1", "SS"), Feeder("F2", "SS")]
TRANSFORMERS = [Transformer("T1", "F1", 100), Transformer("T2", "F2", 63)]
METERS = [
    Meter("A", b"AAA00001", "XMA", "XMA-1P", 0, 0, 0x20, 1),
    Meter("B", b"BBB00002", "XMB", "XMB-1P", 0, 1, 0x30, 1),
    Meter("T", b"TTT00003", "XMB", "XMB-LTCT", 1, 0, 0x30, 3),
]
POINTS = [
    UsagePoint("UP-A", NodeKind.CONSUMER, "A", "F1", "T1", "R", 5000, DAY, date(2025, 12, 5)),
    UsagePoint("UP-A", NodeKind.CONSUMER, "B", "F1", "T1", "R", 5000, date(2025, 12, 5)),
    UsagePoint("T2", NodeKind.TRANSFORMER, "T", "F2", None, "RYB", 63_000, DAY),
]
ACCOUNTS = [
    Account("200", "UP-A", "Śrī Ünï", "hi", "BR-DS2", PaymentMode.PREPAID, DAY, DAY, -(2**40)),
    Account("100", "UP-B", "X", "en", "BR-DS2", PaymentMode.POSTPAID, DAY, DAY, 0),
]
KEYS = [("A", b"\x00" * 24, b"\x01" * 24), ("B", b"\x02" * 24, b"\x03" * 24), ("T", b"\xff" * 24, b"\xfe" * 24)]


@pytest.fixture
def rows(database: Database) -> Rows:
    opened = Rows(database)
    opened.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    return opened


def recharge(number: str, paise: int = 10_000, account: str = "200", day: date = DAY) -> TransferRow:
    return TransferRow(number, account, day, "recharge", paise)


def test_the_registry_comes_back_as_it_went_in(rows: Rows, open_database: Callable[[], Database]) -> None:
    again = Rows(open_database())
    assert again.feeders() == FEEDERS
    assert again.transformers() == TRANSFORMERS
    assert again.meters() == METERS
    assert again.usage_points() == [POINTS[2], POINTS[0], POINTS[1]]
    assert again.accounts() == [ACCOUNTS[1], ACCOUNTS[0]]
    assert again.wrapped_keys() == {serial: (ek, ak) for serial, ek, ak in KEYS}
    assert again.shards() == [0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        {"meters": [replace(METERS[0], serial="C", index=7)]},
        {"meters": [replace(METERS[0], serial="C", system_title=b"CCC00009")]},
        {"points": [replace(POINTS[0], name="UP-C", meter="nobody")]},
        {"transformers": [Transformer("T3", "F9", 100)]},
        {"keys": [("nobody", b"", b"")]},
    ],
    ids=["system title twice", "index twice", "no such meter", "no such feeder", "keys of nobody"],
)
def test_a_registry_that_does_not_fit_is_refused_whole(rows: Rows, bad: dict[str, list[object]]) -> None:
    parts = {"transformers": [], "meters": [], "points": [], "accounts": [], "keys": [], **bad}
    with pytest.raises(RequestError, match=r"refuses these rows"):
        rows.add_registry([Feeder("F3", "SS")], **parts)  # type: ignore[arg-type]
    assert rows.feeders() == FEEDERS


# Money


def test_a_recharge_is_posted_once_however_often_it_comes(rows: Rows) -> None:
    for _ in range(2):
        rows.post([recharge("R1"), recharge("R1"), recharge("R2", 500)])
    assert rows.transfers(DAY, DAY) == [recharge("R1"), recharge("R2", 500)]


def test_transfers_of_a_span_count_both_ends_in_order(rows: Rows) -> None:
    days = [date(2025, 11, 30), DAY, date(2025, 12, 2), date(2025, 12, 3)]
    rows.post([recharge(f"R{k}", day=d) for k, d in reversed(list(enumerate(days)))])
    assert [t.transfer_id for t in rows.transfers(DAY, date(2025, 12, 2))] == ["R1", "R2"]


def test_the_newest_recharge_of_accounts(rows: Rows) -> None:
    rows.post([recharge("R1", 100), recharge("R3", 200, day=date(2025, 12, 3))])
    rows.post([recharge("R2", 300, day=date(2025, 12, 3))])
    account, paise, is_recharge = Ledger(rows.database).moved(date(2025, 12, 3))
    assert (list(account), list(paise), [bool(each) for each in is_recharge]) == (["200"] * 2, [200, 300], [True] * 2), (
        "as they were posted"
    )
    rows.post([TransferRow("C1", "200", date(2025, 12, 4), "charge", -50)])
    assert rows.last_recharges(["100", "200"], DAY, date(2025, 12, 9)) == {"200": 300}
    assert rows.last_recharges(["100", "200"], DAY, date(2025, 12, 2)) == {"200": 100}
    assert rows.last_recharges(["100"], DAY, date(2025, 12, 9)) == {}


@pytest.mark.parametrize("again", [recharge("R1", 20_000), recharge("R1", account="100"), recharge("R1", day=date(2025, 12, 2))])
def test_a_posted_recharge_is_never_changed(rows: Rows, again: TransferRow) -> None:
    rows.post([recharge("R1")])
    with pytest.raises(RequestError, match=r"transfer R1 .*posted as 10000 paise to account 200"):
        rows.post([recharge("R0"), again])
    assert rows.transfers(DAY, date(2025, 12, 9)) == [recharge("R1")]


def test_one_id_for_two_payments_in_one_call_is_refused(rows: Rows) -> None:
    with pytest.raises(RequestError, match="never changed"):
        rows.post([recharge("R1"), recharge("R1", 1)])
    assert rows.transfers(DAY, DAY) == []


def test_money_for_nobody_is_refused_and_so_is_its_batch(rows: Rows) -> None:
    with pytest.raises(RequestError, match="no such account"):
        rows.post([recharge("R1"), recharge("R2", account="nobody")])
    assert rows.transfers(DAY, DAY) == []


def test_many_recharges_at_once(rows: Rows) -> None:
    many = [recharge(f"R{k:05d}") for k in range(1_201)]
    rows.post(many[:700])
    rows.post(many)
    assert rows.transfers(DAY, DAY) == many


# Damage and refusal


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no registry at .*registry\.db"):
        Rows(tmp_path / "registry.db")


@pytest.mark.parametrize("octets", [b"", b"not a database at all, but long enough to be looked at" * 100])
def test_a_file_that_is_no_registry_is_named(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "registry.db").write_bytes(octets)
    with pytest.raises(DataError, match=r"registry\.db does not hold what it should"):
        Rows(tmp_path / "registry.db").meters()


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("UPDATE usage_point SET since = 'soon' WHERE meter = 'A'", Rows.usage_points),
        ("UPDATE usage_point SET kind = 'house'", Rows.usage_points),
        ("UPDATE account SET payment_mode = 'barter'", Rows.accounts),
        ("DROP TABLE meter_key", Rows.wrapped_keys),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path: Path, change: str, read: object) -> None:
    rows = Rows(tmp_path / "registry.db", create=True)
    rows.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    other.execute(change)
    other.close()
    with pytest.raises(DataError, match=r"registry\.db does not hold what it should"):
        read(rows)  # type: ignore[operator]


def test_a_locked_database_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(tmp_path / "registry.db", create=True)

    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(rows.database.engine.dialect, "do_execute", locked)
    with pytest.raises(StorageError, match="database is locked"):
        rows.feeders()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        Rows(tmp_path / "file" / "registry.db", create=True)


def test_a_full_disk_posts_nothing(small_disk: Path) -> None:
    rows = Rows(small_disk / "registry.db", create=True)
    with pytest.raises(StorageError, match="full"):
        rows.add_registry([Feeder(f"F{k:05d}", "x" * 1000) for k in range(3000)], [], [], [], [], [])
    assert rows.feeders() == []
    rows.close()


def test_a_read_only_disk_is_named(small_disk: Path, make_read_only: object) -> None:
    rows = Rows(small_disk / "registry.db", create=True)
    rows.close()
    make_read_only()  # type: ignore[operator]
    with pytest.raises(StorageError, match=r"registry\.db cannot be used"):
        Rows(small_disk / "registry.db").post([recharge("R1")])
