"""Rosters: what a kept one says is what SQL says, whoever changed it and however; a file is done without where it cannot be trusted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import DataError, RequestError
from openami.registry import NodeKind, PaymentMode, Roster, UsagePoint
from openami.store import rosters
from openami.store.ledger_bulk import settle
from openami.store.ledger_conversion import convert
from openami.store.migrations.guards import KEPT_CHANGES
from openami.store.rosters import Rosters
from openami.store.rows import Rows, account, feeder, meter, registry_change, transformer, usage_point
from openami.store.sql import Database

from .test_rows import ACCOUNTS, DAY, FEEDERS, KEYS, METERS, POINTS, TRANSFORMERS

LATER = date(2026, 1, 1)
Opener = Callable[[], Database]


@pytest.fixture
def rows(database: Database) -> Rows:
    opened = Rows(database)
    opened.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    return opened


def plain(table: pa.Table) -> list[dict[str, object]]:
    return table.to_pylist()  # type: ignore[no-any-return]


def as_sql_says(rows: Rows, folder: Path) -> list[list[dict[str, object]]]:
    """The rosters of both shards as the kept ones give them, which must be those that are read anew."""
    kept, anew = Rosters(rows, folder), Rosters(rows, folder / "none")
    found = []
    for shard in (0, 1):
        own, read = kept.of(shard), anew.of(shard)
        assert plain(own.rows) == plain(read.rows)
        assert nodes_of(own) == nodes_of(read)
        found.append(plain(own.rows))
    shutil.rmtree(folder / "none")
    return found


def nodes_of(roster: Roster) -> tuple[object, ...]:
    nodes = roster.nodes
    return nodes.feeders, nodes.transformers, nodes.transformer_feeder.tolist()


# What it says


@pytest.mark.parametrize(("day", "points"), [(date(2025, 12, 4), ("UP-A", "")), (date(2025, 12, 5), ("", "UP-A"))])
def test_a_meter_exchange_holds_from_its_day(rows: Rows, tmp_path: Path, day: date, points: tuple[str, str]) -> None:
    assert Rosters(rows, tmp_path).of(0).index_on(day).usage_points == points


def test_a_shard_has_its_own_meters_at_what_they_measure(rows: Rows, tmp_path: Path) -> None:
    own = Rosters(rows, tmp_path)
    index = own.of(1).index_on(DAY)
    assert (index.serials, index.usage_points, index.is_transformer.tolist(), index.feeder.tolist()) == (("T",), ("T2",), [True], [1])
    assert own.of(0).index_on(date(2025, 11, 30)).usage_points == ("", ""), "not before its first day"


@pytest.mark.parametrize(("day", "index"), [(date(2025, 12, 4), 0), (date(2025, 12, 5), 1)])
def test_an_account_is_charged_by_the_meter_that_its_point_has_on_the_day(rows: Rows, tmp_path: Path, day: date, index: int) -> None:
    own = Rosters(rows, tmp_path)
    found = own.of(0).accounts_on(day, rows.modes_on)
    assert (found.numbers.to_pylist(), found.meter.tolist(), found.tariffs, found.opening_paise.tolist()) == (
        ["200"],
        [index],
        ("BR-DS2",),
        [-(2**40)],
    )
    assert len(own.of(1).accounts_on(day, rows.modes_on).numbers) == 0, "a transformer has no account"
    assert len(own.of(0).accounts_on(date(2025, 11, 30), rows.modes_on).numbers) == 0, "not before it began"


def test_a_shard_alone_knows_the_same_places_and_no_nodes_of_other_shards(rows: Rows, tmp_path: Path) -> None:
    with rows.begin(writing=True) as connection:
        connection.execute(sa.insert(feeder).values(name="A0", substation="SS"))
        connection.execute(sa.insert(transformer).values(name="AA-DT", feeder="A0", rating_kva=100))
    whole = Rosters(rows, tmp_path).of(0).index_on(DAY)
    alone = whole.alone()
    assert {"A0", "AA-DT"} <= {*whole.feeders, *whole.transformers}
    assert not {"A0", "AA-DT"} & {*alone.feeders, *alone.transformers}
    for one, other in ((alone, whole), (alone.alone(), alone)):
        places = [
            (
                [i.transformers[k] if k >= 0 else None for k in i.transformer.tolist()],
                [i.feeders[k] if k >= 0 else None for k in i.feeder.tolist()],
            )
            for i in (one, other)
        ]
        assert places[0] == places[1]
    on = {name: whole.feeders[k] for name, k in zip(whole.transformers, whole.transformer_feeder.tolist(), strict=True)}
    assert [alone.feeders[k] for k in alone.transformer_feeder.tolist()] == [on[name] for name in alone.transformers]


def test_a_shard_without_meters_has_an_empty_roster(rows: Rows, tmp_path: Path) -> None:
    for _ in range(2):
        empty = Rosters(rows, tmp_path).of(7)
        assert (empty.index_on(DAY).meters, len(empty.accounts_on(DAY, rows.modes_on).numbers)) == (0, 0)


# Who changes it


def by_loader(rows: Rows) -> None:
    more = replace(METERS[0], serial="C", system_title=b"CCC00009", index=2)
    point = UsagePoint("UP-B", NodeKind.CONSUMER, "C", "F1", "T1", "R", 3000, DAY)
    rows.add_registry([], [], [more], [point], [], [("C", b"", b"")])


def by_move(rows: Rows) -> None:
    rows.add_registry([], [replace(TRANSFORMERS[0], name="T9")], [], [], [], [])
    rows.move_point("UP-A", "T9", LATER)


def by_conversion(rows: Rows) -> None:
    settle(rows.database, DAY, ["200"], np.zeros(1, np.int64), 1)
    assert (
        convert(rows.database, "C-1", PaymentMode.POSTPAID, DAY + timedelta(days=1), 2, who="clerk", why="", numbers=["200"]).converted == 1
    )


def statement(change: sa.sql.dml.UpdateBase) -> Callable[[Rows], None]:
    def made(rows: Rows) -> None:
        with rows.begin(writing=True) as connection:
            connection.execute(change)

    return made


CHANGES: dict[str, Callable[[Rows], None]] = {
    "meters, points and accounts loaded": by_loader,
    "a point moved": by_move,
    "an account converted": by_conversion,
    "a tariff": statement(account.update().where(account.c.number == "200").values(tariff="BR-DS1")),
    "an account's point": statement(account.update().where(account.c.number == "100").values(usage_point="UP-A")),
    "an account gone": statement(account.delete().where(account.c.number == "300")),
    "a load": statement(usage_point.update().where(usage_point.c.name == "T2").values(connected_load_w=1)),
    "a point at another meter": statement(usage_point.update().where(usage_point.c.meter == "T").values(meter="A", since=LATER)),
    "a point gone": statement(usage_point.delete().where(usage_point.c.meter == "T")),
    "a meter in another shard": statement(meter.update().where(meter.c.serial == "B").values(shard=1, index=1)),
    "a transformer on another feeder": statement(transformer.update().where(transformer.c.name == "T1").values(feeder="F2")),
    "a feeder more": statement(feeder.insert().values(name="F0", substation="SS")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_changes_the_registry_is_seen_by_the_next_reader(rows: Rows, tmp_path: Path, change: str) -> None:
    with rows.begin(writing=True) as connection:
        connection.execute(account.insert().values({**vars_of(ACCOUNTS[1]), "number": "300", "usage_point": "T2"}))
    before, nodes = as_sql_says(rows, tmp_path), nodes_of(Rosters(rows, tmp_path).of(0))
    CHANGES[change](rows)
    assert (as_sql_says(rows, tmp_path), nodes_of(Rosters(rows, tmp_path).of(0))) != (before, nodes)


def vars_of(one: object) -> dict[str, object]:
    return {column.name: getattr(one, column.name) for column in account.c}


def test_every_table_that_a_roster_reads_tells_of_its_changes(rows: Rows, database: Database) -> None:
    """A step that makes a table anew would lose its triggers."""
    asked = (
        "SELECT tbl_name, count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%noted%' GROUP BY 1"
        if database.is_sqlite
        else "SELECT tgrelid::regclass::text, count(*) FROM pg_trigger WHERE tgname LIKE '%noted%' AND tgenabled = 'O' GROUP BY 1"
    )
    with rows.begin() as connection:
        found = dict(tuple(row) for row in connection.execute(sa.text(asked)))
    moves = 1 if database.is_sqlite else 0  # row by row, so a row that is about another meter now is noted by itself
    assert found == dict.fromkeys(("feeder", "transformer"), 3) | dict.fromkeys(("meter", "usage_point", "account"), 3 + moves)


def test_what_is_rolled_back_was_never_changed(rows: Rows, tmp_path: Path) -> None:
    before = as_sql_says(rows, tmp_path)
    with pytest.raises(RequestError), rows.begin(writing=True) as connection:
        connection.execute(sa.update(account).values(tariff="BR-DS1", number="200"))  # the second row's number is taken
    assert as_sql_says(rows, tmp_path) == before


@pytest.mark.parametrize("written", [True, False])
@settings(max_examples=8)
@given(st.lists(st.tuples(st.sampled_from(["load", "tariff", "meter", "end", "again"]), st.integers(0, 3), st.booleans()), max_size=12))
def test_any_row_of_changes_leaves_what_sql_says(
    tmp_path_factory: pytest.TempPathFactory, written: bool, changes: list[tuple[str, int, bool]]
) -> None:
    """Whether what has changed is written down each time or read again by every reader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rosters, "FEW", 1.0)
        patch.setattr(rosters, "LATE", 0.0 if written else 1e9)
        leave_what_sql_says(tmp_path_factory.mktemp("any"), changes)


def leave_what_sql_says(folder: Path, changes: list[tuple[str, int, bool]]) -> None:
    rows = Rows(folder / "registry.db", create=True)
    rows.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    for what, number, look in changes:
        with rows.begin(writing=True) as connection:
            if what == "load":
                connection.execute(usage_point.update().values(connected_load_w=1000 + number))
            elif what == "tariff":
                connection.execute(account.update().where(account.c.number == ("100", "200")[number % 2]).values(tariff=f"T-{number}"))
            elif what == "meter":
                connection.execute(usage_point.update().where(usage_point.c.until.is_(None)).values(meter="ABT"[number % 3]))
            elif what == "end":
                connection.execute(usage_point.update().where(usage_point.c.name == "T2").values(until=DAY + timedelta(days=number)))
            else:
                connection.execute(
                    account.update().where(account.c.number == "100").values(usage_point=("UP-A", "UP-B", "T2", "x")[number])
                )
        if look:
            as_sql_says(rows, folder / "kept")
    as_sql_says(rows, folder / "kept")
    rows.close()


# What is kept, and when it is not trusted


def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is asked of SQL from now on: None = a whole shard, else meters."""
    asked: list[object] = []
    plainly = rosters._from_sql

    def counted(connection: sa.Connection, shard: int, serials: list[str] | None = None) -> pa.Table:
        asked.append(serials)
        return plainly(connection, shard, serials)

    monkeypatch.setattr(rosters, "_from_sql", counted)
    return asked


def test_sql_is_read_once_and_then_only_for_what_has_changed(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "FEW", 1.0)
    asked = reads(monkeypatch)
    for _ in range(2):
        Rosters(rows, tmp_path).of(0)
    CHANGES["a tariff"](rows)
    for _ in range(2):
        assert Rosters(rows, tmp_path).of(0).accounts_on(LATER, rows.modes_on).tariffs == ("BR-DS1",)
    assert asked[0] is None
    assert [sorted(each) for each in asked[1:]] == [["A", "B"]]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "change", ["a tariff", "a load", "a point at another meter", "a meter in another shard", "meters, points and accounts loaded"]
)
def test_a_few_changes_are_read_by_each_reader_and_not_written_down(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(rosters, "FEW", 1.0)
    monkeypatch.setattr(rosters, "LATE", 1e9)
    before = as_sql_says(rows, tmp_path)
    written = [path.read_bytes() for path in sorted(tmp_path.glob("*.parquet"))]
    CHANGES[change](rows)
    asked = reads(monkeypatch)
    for _ in range(2):
        assert as_sql_says(rows, tmp_path) != before
    assert [path.read_bytes() for path in sorted(tmp_path.glob("*.parquet"))] == written
    kept = [None if each is None else len(each) for each in asked]  # type: ignore[arg-type]
    assert kept.count(None) == 4, "the twins that are read anew, and no other"
    assert len(kept) > 4


def test_a_file_is_written_again_before_the_changes_that_it_lacks_are_forgotten(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rosters, "FEW", 1.0)
    monkeypatch.setattr(rosters, "LATE", 1e9)
    monkeypatch.setattr(rosters, "UNWRITTEN", 1)
    Rosters(rows, tmp_path).of(1)
    CHANGES["a tariff"](rows)  # of the other shard, which notes two meters
    asked = reads(monkeypatch)
    written = (tmp_path / "1.parquet").read_bytes()
    Rosters(rows, tmp_path).of(1)
    assert (tmp_path / "1.parquet").read_bytes() != written
    assert asked == []


def test_where_much_has_changed_all_is_read(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = reads(monkeypatch)
    Rosters(rows, tmp_path).of(0)
    CHANGES["a tariff"](rows)
    Rosters(rows, tmp_path).of(0)
    assert asked == [None, None]


def test_changes_that_are_forgotten_leave_nothing_to_go_by(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "FEW", 1.0)
    Rosters(rows, tmp_path).of(0)
    with rows.begin(writing=True) as connection:
        connection.execute(registry_change.delete())
        connection.execute(registry_change.insert(), [{"number": KEPT_CHANGES * 2, "mark": "far on"}])
    asked = reads(monkeypatch)
    Rosters(rows, tmp_path).of(0)
    assert asked == [None]


def test_only_the_newest_changes_are_kept(rows: Rows) -> None:
    with rows.begin(writing=True) as connection:
        connection.execute(registry_change.insert(), [{"number": KEPT_CHANGES + 999, "mark": "far on"}])
        connection.execute(usage_point.update().where(usage_point.c.name == "T2").values(connected_load_w=1))
        numbers = connection.execute(sa.select(registry_change.c.number)).scalars().all()
    assert min(numbers) > 999


def test_a_database_put_back_to_an_earlier_day_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its changes are numbered as those that were lost: only their marks tell them apart."""
    path, aside = tmp_path / "registry.db", tmp_path / "aside.db"
    rows = Rows(path, create=True)
    rows.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    with rows.begin() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{aside}'")
    CHANGES["a tariff"](rows)
    Rosters(rows, tmp_path / "kept").of(0)
    rows.close()
    for left in tmp_path.glob("registry.db*"):
        left.unlink()
    aside.rename(path)
    again = Rows(path)
    CHANGES["a load"](again)
    CHANGES["a load"](again)
    as_sql_says(again, tmp_path / "kept")
    again.close()


@pytest.mark.parametrize("damage", [b"", b"no parquet at all", None])
def test_a_file_that_cannot_be_read_is_made_anew_and_says_so(
    rows: Rows, tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    Rosters(rows, tmp_path).of(0)
    path = tmp_path / "0.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + bytes(40) + whole[340:] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        as_sql_says(rows, tmp_path)
    assert "0.parquet is made anew" in caplog.text


def test_where_nothing_can_be_kept_it_is_read_from_sql(small_disk: Path, make_read_only: Callable[[], None], tmp_path: Path) -> None:
    rows = Rows(tmp_path / "registry.db", create=True)
    rows.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    make_read_only()
    assert Rosters(rows, small_disk / "rosters").of(0).index_on(DAY).serials == ("A", "B")
    rows.close()


def test_what_somebody_left_who_was_killed_is_swept(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "0.parquet.dead.partial").write_bytes(b"half")
    Rosters(rows, tmp_path).of(0)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("0.")] == ["0.parquet"]


def test_a_registry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "registry.db", create=True)
    rows.add_registry(FEEDERS, TRANSFORMERS, METERS, POINTS, ACCOUNTS, KEYS)
    with rows.begin(writing=True) as connection:
        connection.exec_driver_sql("UPDATE usage_point SET since = 'soon' WHERE meter = 'A'")
    with pytest.raises(DataError, match=r"registry\.db does not hold what it should"):
        Rosters(rows, tmp_path / "kept").of(0)
    rows.close()
