"""Registers as SQL rows, on both engines: what rose between two stamps, how much came of each, and a database of the release before."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa

from openami.registry import Meter
from openami.store.heard import Heard, RegisterReading, RegistersTold
from openami.store.rows import Rows
from openami.store.sql import Database

STAMPS = (1_000, 2_000, 3_000)
KINDS = ("daily", "billing", "instantaneous")
Opener = Callable[[], Database]
Read = Mapping[tuple[str, int, str], int | None]


def registry(database: Database, meters: int = 9) -> list[Meter]:
    """Meters of two shards in turn, whose serials and indexes are in no common order."""
    made = [Meter(f"M{(7 * k) % meters}", bytes([k] * 8), "XMA", "XMA-1P", k % 2, k // 2, 0x30, 1) for k in range(meters)]
    Rows(database).add_registry([], [], made, [], [], [])
    return made


def reading(kind: str, stamp_s: int, serial: str, wh: int | None) -> RegisterReading:
    return RegisterReading(kind, stamp_s, serial, wh, None, None, None, "{}", stamp_s, "push")


def rises_by_loop(meters: Sequence[Meter], read: Read, shard: int, first_s: int, last_s: int) -> list[tuple[int, int]]:
    """(index, rise) of the meters of a shard, as `register_differences` is to find them."""
    found = []
    for meter in sorted(meters, key=lambda m: m.index):
        told = [[w for k in ("daily", "billing") if (w := read.get((k, s, meter.serial))) is not None] for s in (first_s, last_s)]
        if meter.shard == shard and all(told):
            found.append((meter.index, max(told[1]) - max(told[0])))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_rises_are_those_of_a_plain_loop(database: Database, seed: int) -> None:
    """Kinds, stamps and meters at random, some rows without imported energy; of one kind alone at the last stamp of the first seed."""
    meters, draw = registry(database), random.Random(seed)
    places = [
        (k, s, m.serial) for k, s, m in product(KINDS, STAMPS, meters) if draw.random() < 0.6 and (seed or (k, s) != ("billing", 3_000))
    ]
    read = {place: draw.choice([None, 0, draw.randrange(10**12)]) for place in places}
    heard = Heard(Rows(database))
    heard.note([], [reading(*place, wh) for place, wh in read.items()])
    for shard, first_s, last_s in product((0, 1, 2), STAMPS, (*STAMPS, 4_000)):
        index, rise = heard.register_differences(shard, first_s, last_s)
        assert list(zip(index.tolist(), rise.tolist(), strict=True)) == rises_by_loop(meters, read, shard, first_s, last_s)


def test_every_row_of_a_midnight_is_an_addition_to_it_and_no_other(database: Database) -> None:
    serial = registry(database)[0].serial
    heard = Heard(Rows(database))
    assert heard.additions(STAMPS) == {}
    heard.note([], [reading("daily", 1_000, serial, 5), reading("instantaneous", 2_000, serial, 6)])
    before = heard.additions(STAMPS)
    assert list(before) == [1_000]
    heard.note([], [reading("billing", 1_000, serial, 7), reading("daily", 3_000, serial, 9)])
    after = heard.additions(STAMPS)
    assert sorted(after) == [1_000, 3_000]
    assert after[1_000] > before[1_000]
    assert heard.additions([3_000, 4_000]) == {3_000: after[3_000]}


def test_what_was_told_is_the_newest_of_its_shard_and_stamps(database: Database) -> None:
    heard = Heard(Rows(database))
    first, second = RegistersTold(1_000, 2_000, 4, 9), RegistersTold(2_000, 3_000, 5, 0)
    heard.note_told(0, [first, second])
    heard.note_told(1, [second])
    again = RegistersTold(1_000, 2_000, 6, 8)
    heard.note_told(0, [again])
    assert heard.told(0) == {(1_000, 2_000): again, (2_000, 3_000): second}
    assert heard.told(1) == {(2_000, 3_000): second}


def test_registers_of_the_release_before_keep_their_rows_and_are_found_by_midnight(open_database: Opener) -> None:
    database = open_database()
    meters = registry(database, 4)
    rows = [reading("daily", s, m.serial, 10 * s + m.index) for s in (2_000, 1_000) for m in reversed(meters)]
    rows.append(reading("instantaneous", 1_500, meters[0].serial, 3))
    Heard(Rows(database)).note([], rows)
    back_to_the_release_before(database)
    heard = Heard(Rows(open_database()))
    assert [heard.registers(kind) for kind in ("daily", "instantaneous")] == [
        sorted(rows[:-1], key=lambda row: (row.stamp_s, row.serial)),
        rows[-1:],
    ]
    assert sorted(heard.additions(STAMPS)) == [1_000, 2_000]
    assert [column.tolist() for column in heard.register_differences(0, 1_000, 2_000)] == [[0, 1], [10_000, 10_000]]
    assert heard.told(0) == {}


def back_to_the_release_before(database: Database) -> None:
    """`heard_0002` undone: registers in the order in which they came, and nothing kept of their midnights."""
    with database.begin(writing=True) as connection:
        for table in ("register_stamp", "register_told"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        if database.is_sqlite:
            (made,) = connection.execute(sa.text("SELECT sql FROM sqlite_master WHERE name = 'register_reading'")).scalars()
            connection.execute(sa.text("ALTER TABLE register_reading RENAME TO kept"))
            connection.execute(sa.text(made.replace("WITHOUT ROWID", "")))
            connection.execute(sa.text("INSERT INTO register_reading SELECT * FROM kept ORDER BY serial DESC, stamp_s DESC"))
            connection.execute(sa.text("DROP TABLE kept"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'heard_0001' WHERE version_num = 'heard_0002'"))
    database.close()


def test_registers_of_a_midnight_lie_side_by_side_in_a_file(tmp_path: Path) -> None:
    with Database(tmp_path / "registry.db", create=True).begin() as connection:
        listed = connection.exec_driver_sql("PRAGMA table_list").mappings().all()
    assert {row["name"]: row["wr"] for row in listed if row["name"].startswith("register_reading")} == {"register_reading": 1}
