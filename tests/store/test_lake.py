"""The lake: a (day, shard) is replaced whole or not at all, earlier versions stay, others can read it, and damage is named."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openami.errors import DataError, InputError, RequestError, StorageError
from openami.readings import IMPORT_WH, MISSING, VOLTAGE_V, Channel, DayBlock, Quality
from openami.store.blocks import BlockFile, blocks_to_table, slot_names
from openami.store.lake import Lake

DAY, NEXT = date(2025, 12, 1), date(2025, 12, 2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def rows(value: int, count: int = 3) -> pa.Table:
    return pa.table({"value": pa.array([value] * count, pa.int64())})


def values(lake: Lake, day: date = DAY, shard: int = 0, version: int | None = None) -> list[int]:
    return lake.read("t", day, shard, version)["value"].to_pylist()


def block(values: np.ndarray, quality: np.ndarray | None = None, channel: Channel = IMPORT_WH, day: date = DAY) -> DayBlock:
    marks = np.zeros(values.shape, np.uint32) if quality is None else quality
    return DayBlock(day, 0, channel, values.astype(np.int32), marks)


# Replacing


def test_a_day_and_shard_is_replaced_and_its_neighbours_stay(lake: Lake) -> None:
    for day, shard, value in ((DAY, 0, 1), (DAY, 1, 2), (DAY, 11, 3), (NEXT, 0, 4), (DAY, 0, 5)):
        lake.replace("t", day, shard, rows(value, count=value))
    assert values(lake) == [5] * 5
    assert values(lake, shard=1) == [2] * 2
    assert values(lake, shard=11) == [3] * 3
    assert values(lake, NEXT) == [4] * 4


def test_every_replacement_is_a_version_that_stays_readable(lake: Lake) -> None:
    """ "What did we know when we cut this supply?" """
    versions = [lake.replace("t", DAY, 0, rows(value)) for value in (1, 2, 3)]
    assert versions == sorted(set(versions))
    assert [values(lake, version=v) for v in versions] == [[1] * 3, [2] * 3, [3] * 3]
    assert lake.version("t") == versions[-1]


def test_a_reading_is_of_one_version(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with lake.reading():
        assert values(lake) == [1] * 3
        with lake.reading():  # one within another ends nothing
            pass
        lake.replace("t", DAY, 0, rows(2))
        assert values(lake) == [1] * 3
    assert values(lake) == [2] * 3


def test_days_are_listed_in_order(lake: Lake) -> None:
    for day in (NEXT, DAY):
        lake.replace("t", day, 0, rows(1))
        lake.replace("t", day, 1, rows(1))
    assert lake.days("t") == [DAY, NEXT]
    assert lake.days("another") == []


def test_has_tells_what_is_there(lake: Lake) -> None:
    assert not lake.has("t", DAY, 0)
    lake.replace("t", DAY, 0, rows(1))
    assert lake.has("t", DAY, 0)
    assert not lake.has("t", DAY, 1)
    assert not lake.has("t", NEXT, 0)


def test_no_rows_at_all_can_replace(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    lake.replace("t", DAY, 0, rows(1, count=0))
    assert values(lake) == []


@pytest.mark.parametrize("name", ["plain", "with space", "ü", "a#b?c", "a+b&c"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / name)
    lake.replace("t", DAY, 0, rows(7))
    assert values(lake) == [7] * 3


def test_a_relative_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake(Path("data/lake"))
    lake.replace("t", DAY, 0, rows(7))
    assert values(lake) == [7] * 3


def test_a_percent_sign_in_the_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="% in its path"):
        Lake(tmp_path / "a%20b")


# Concurrent writers


def test_shards_written_side_by_side_lose_nothing(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda shard: [lake.replace("t", DAY, shard, rows(10 * shard + k)) for k in range(4)], range(4)))
    assert [values(lake, shard=s) for s in range(4)] == [[10 * s + 3] * 3 for s in range(4)]


def _write_in_a_process(root: Path, shard: int, first: int) -> None:
    for k in range(3):
        Lake(root).replace("t", DAY, shard, rows(first + k))


def test_processes_that_write_the_same_table_lose_nothing(lake: Lake) -> None:
    """Two fight for shard 0, where the last one wins whole; the third has shard 1 for itself."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_in_a_process, args=(lake.root, shard, 10 * k)) for k, shard in enumerate((0, 0, 1))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0, 0]
    assert values(lake, shard=0) in ([2] * 3, [12] * 3)
    assert values(lake, shard=1) == [22] * 3


# Day blocks


@settings(max_examples=25)
@given(
    channels=st.lists(st.sampled_from([IMPORT_WH, VOLTAGE_V]), min_size=1, max_size=2, unique=True),
    shape=hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    data=st.data(),
)
def test_blocks_come_back_with_gaps_and_quality(
    tmp_path_factory: pytest.TempPathFactory, channels: list[Channel], shape: tuple[int, int], data: st.DataObject
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    numbers = hnp.arrays(np.int32, shape, elements=st.sampled_from([int(MISSING), 0, -1, 1, -(2**31) + 1, 2**31 - 1, 250]))
    marks = hnp.arrays(np.uint32, shape, elements=st.sampled_from([0, 0, 1, 3, int(Quality.EDITED | Quality.SPIKE)]))
    written = {c.name: block(data.draw(numbers), data.draw(marks), c) for c in channels}
    lake.write_blocks("raw", list(written.values()))
    read = lake.read_blocks("raw", DAY, 0)
    assert read.keys() == written.keys()
    for name, own in written.items():
        np.testing.assert_array_equal(read[name].values, own.values)
        np.testing.assert_array_equal(read[name].quality, own.quality)


def test_missing_is_null_in_the_file_and_zero_stays_zero() -> None:
    table = blocks_to_table([block(np.array([[int(MISSING)], [0]]))])
    assert (table["s00"].to_pylist(), table["s01"].to_pylist()) == ([None], [0])


def test_plain_valid_values_take_no_quality_row(lake: Lake) -> None:
    quality = np.zeros((4, 3), np.uint32)
    quality[2, 1] = Quality.SPIKE
    lake.write_blocks("raw", [block(np.ones((4, 3)), quality)])
    assert lake.read("raw_quality", DAY, 0).to_pylist() == [{"channel": "import_wh", "meter": 1, "slot": 2, "quality": int(Quality.SPIKE)}]


def test_the_slots_of_a_25_hour_day_stand_in_order(lake: Lake) -> None:
    numbers = np.arange(100 * 2).reshape(100, 2)
    lake.write_blocks("raw", [block(numbers)])
    np.testing.assert_array_equal(lake.read_blocks("raw", DAY, 0)["import_wh"].values, numbers)


def test_slot_names_sort_as_their_slots() -> None:
    for slots in (1, 48, 96, 100, 101, 1440):
        assert slot_names(slots) == sorted(slot_names(slots))


# Other readers


def test_duckdb_and_polars_read_what_we_read(lake: Lake) -> None:
    lake.write_blocks("raw", [block(np.array([[1, 2], [3, int(MISSING)]]))])
    lake.write_blocks("raw", [block(np.array([[10, 20], [30, int(MISSING)]]))])
    raw = DeltaTable(str(lake.root / "raw")).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        found = (
            connection.register("raw", raw).execute("SELECT day, shard, sum(s00), sum(s01), count(s01) FROM raw GROUP BY ALL").fetchall()
        )
    assert found == [(DAY, 0, 30, 30, 1)]
    assert pl.read_delta(str(lake.root / "raw"))["s00"].to_list() == [10, 20]


def test_others_see_all_slots_of_a_longer_day(lake: Lake) -> None:
    """The day of the autumn clock change has slots that the table's first day had not."""
    lake.write_blocks("raw", [block(np.ones((96, 1)))])
    lake.write_blocks("raw", [block(np.full((100, 1), 2), day=NEXT)])
    frame = pl.read_delta(str(lake.root / "raw")).sort("day")
    assert frame["s99"].to_list() == [None, 2]


def test_a_column_that_changes_its_type_is_refused(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with pytest.raises(RequestError, match="column value of table t"):
        lake.replace("t", NEXT, 0, pa.table({"value": ["one"]}))
    assert values(lake) == [1] * 3
    assert not lake.has("t", NEXT, 0)


def test_a_column_without_a_type_is_refused(lake: Lake) -> None:
    """An empty list has no type; as a table's first rows it would spoil the column for all that follow."""
    with pytest.raises(RequestError, match="column value of table t has no type"):
        lake.replace("t", DAY, 0, pa.table({"value": pa.array([])}))
    assert not lake.has("t", DAY, 0)


# Damage and refusal


def test_a_table_that_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(DataError, match="no table"):
        lake.read("t", DAY, 0)


def test_a_day_that_is_not_there_is_named(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with pytest.raises(DataError, match="t has no 2025-12-02 of shard 0"):
        lake.read("t", NEXT, 0)


def test_a_version_that_never_was_is_named(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with pytest.raises(DataError, match="no version 99 yet; its newest is 1"):
        lake.read("t", DAY, 0, version=99)


def _garbage(log: Path) -> None:
    sorted(log.glob("*.json"))[-1].write_bytes(b"\xff{not json")


def _gap(log: Path) -> None:
    sorted(log.glob("*.json"))[1].unlink()


def _beheaded(log: Path) -> None:
    sorted(log.glob("*.json"))[0].unlink()


def _emptied(log: Path) -> None:
    for entry in log.glob("*.json"):
        entry.write_bytes(b"")


def _a_file(log: Path) -> None:
    for entry in log.iterdir():
        entry.unlink()
    log.rmdir()
    log.write_text("")


@pytest.mark.parametrize("damage", [_garbage, _gap, _beheaded, _emptied, _a_file])
def test_a_broken_log_is_named_and_never_taken_for_an_empty_table(lake: Lake, damage: object) -> None:
    """A balance that starts again from its opening because the table of statements is broken would be money lost."""
    for value in (1, 2, 3):
        lake.replace("t", DAY, 0, rows(value))
    damage(lake.root / "t" / "_delta_log")  # type: ignore[operator]
    for ask in (lambda: lake.read("t", DAY, 0), lambda: lake.has("t", DAY, 0), lambda: lake.days("t"), lambda: lake.version("t")):
        with pytest.raises(DataError, match="cannot be opened") as caught:
            ask()
        assert "\x1b" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises((DataError, StorageError)):
        lake.replace("t", DAY, 0, rows(4))


def only_file(lake: Lake, table: str) -> Path:
    (path,) = (lake.root / table).rglob("*.parquet")
    return path


@pytest.mark.parametrize("octets", [b"", b"PAR1", b"PAR1 this is no parquet file PAR1"])
def test_a_file_that_is_no_parquet_is_named(lake: Lake, octets: bytes) -> None:
    lake.replace("t", DAY, 0, rows(1))
    path = only_file(lake, "t")
    path.write_bytes(octets)
    with pytest.raises(DataError, match=rf"{path.name} cannot be read"):
        lake.read("t", DAY, 0)


def test_a_missing_file_is_named(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    path = only_file(lake, "t")
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name} cannot be read"):
        lake.read("t", DAY, 0)


def test_a_changed_byte_of_the_readings_is_found(lake: Lake) -> None:
    """No byte of the column data may change unseen, by whichever way it is read: each page has a checksum."""
    rng = np.random.default_rng(1)
    lake.write_blocks("raw", [block(rng.integers(0, 4000, (4, 300)))])
    path = only_file(lake, "raw")
    sound = path.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    rows, values = lake.read("raw", DAY, 0), lake.read_blocks("raw", DAY, 0)["import_wh"].values
    for at in rng.integers(4, footer, 150).tolist():
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x10]) + sound[at + 1 :])
        with suppress(DataError):
            assert lake.read("raw", DAY, 0).equals(rows), f"byte {at} changed the rows unseen"
        with suppress(DataError):
            assert np.array_equal(lake.read_blocks("raw", DAY, 0)["import_wh"].values, values), f"byte {at} changed the readings unseen"


@pytest.fixture
def small_lake(small_disk: Path) -> Lake:
    lake = Lake(small_disk / "lake")
    lake.replace("t", DAY, 0, rows(1))
    return lake


def test_a_full_disk_leaves_the_previous_version_and_no_rest(small_lake: Lake) -> None:
    before = small_lake.version("t")
    noise = pa.table({"value": pa.array(np.frombuffer(os.urandom(8 * 500_000), np.int64))})
    with pytest.raises(StorageError, match="free space"):
        small_lake.replace("t", DAY, 0, noise)
    assert (values(small_lake), small_lake.version("t")) == ([1] * 3, before)
    assert only_file(small_lake, "t").stat().st_size < 100_000


def test_a_disk_too_full_for_the_commit_leaves_the_previous_version(small_lake: Lake, small_disk: Path) -> None:
    before = small_lake.version("t")
    room = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes((room.f_bavail - 1) * room.f_frsize))
    with pytest.raises((StorageError, DataError)):
        small_lake.replace("t", DAY, 0, rows(2))
    assert (values(small_lake), small_lake.version("t")) == ([1] * 3, before)
    (small_disk / "ballast").unlink()
    small_lake.replace("t", DAY, 0, rows(3))
    assert values(small_lake) == [3] * 3


def test_a_read_only_disk_can_be_read_and_says_no_to_writing(small_lake: Lake, make_read_only: object) -> None:
    make_read_only()  # type: ignore[operator]
    with pytest.raises(StorageError, match="Read-only file system"):
        small_lake.replace("t", DAY, 0, rows(2))
    assert values(small_lake) == [1] * 3


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Lake(tmp_path / "lake").replace("t", DAY, 0, rows(1))


# Many at once


def test_a_draft_shows_nothing_until_it_is_committed_and_then_all(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with lake.draft(DAY) as draft:
        for shard in (0, 1, 2):
            draft.write("t", shard, rows(10 + shard))
        draft.write("u", 0, rows(5))
        assert (values(lake), lake.has("t", DAY, 1), lake.has("u", DAY, 0)) == ([1] * 3, False, False)
        before = lake.version("t")
        assert draft.commit() == {"t": before + 1, "u": 1}
    assert [values(lake, shard=s) for s in (0, 1, 2)] == [[10] * 3, [11] * 3, [12] * 3]


def test_a_draft_left_without_a_commit_leaves_no_file(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with lake.draft(DAY) as draft:
        draft.write("t", 1, rows(2))
    assert len(list((lake.root / "t").rglob("*.parquet"))) == 1


def test_a_draft_written_twice_keeps_the_last(lake: Lake) -> None:
    with lake.draft(DAY) as draft:
        draft.write("t", 0, rows(1))
        draft.write("t", 0, rows(2))
        draft.commit()
    assert values(lake) == [2] * 3
    assert len(list((lake.root / "t").rglob("*.parquet"))) == 1


def test_a_row_group_holds_one_channel_so_that_a_reader_takes_only_what_it_wants(lake: Lake) -> None:
    numbers = np.arange(2 * 3).reshape(2, 3)
    lake.write_blocks("raw", [block(numbers), block(numbers + 100, channel=VOLTAGE_V)])
    (path,) = lake.files("raw", DAY)[0]
    file = BlockFile(path)
    assert (file.channels, file.meters("voltage_v"), file.meters("export_wh")) == (["import_wh", "voltage_v"], 3, 0)
    (part,) = file.parts("voltage_v")
    assert (part.first, [column.tolist() for column in part.columns]) == (0, (numbers + 100).tolist())


def test_a_block_of_more_than_one_row_group_comes_back_whole(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openami.store.slots.PAGE_ROWS", 104)
    numbers = np.arange(3 * 250).reshape(3, 250)
    numbers[1, 240] = MISSING
    lake.write_blocks("raw", [block(numbers)])
    (path,) = lake.files("raw", DAY)[0]
    assert [part.first for part in BlockFile(path).parts("import_wh")] == [0, 104, 208]
    np.testing.assert_array_equal(BlockFile(path).values("import_wh"), numbers)


def test_a_file_of_other_rows_is_no_day_block(lake: Lake) -> None:
    lake.replace("t", DAY, 0, rows(1))
    with pytest.raises(DataError, match="no file of day blocks"):
        BlockFile(only_file(lake, "t"))


def test_meters_out_of_order_are_refused(lake: Lake) -> None:
    """A row in another's place would be another consumer's energy."""
    table = blocks_to_table([block(np.array([[1, 2]]))])
    lake.replace("raw", DAY, 0, table.take([1, 0]))
    with pytest.raises(DataError, match="in order"):
        BlockFile(only_file(lake, "raw")).values("import_wh")
