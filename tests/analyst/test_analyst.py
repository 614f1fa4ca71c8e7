"""An analyst gets the same numbers by every way, with their units, gaps and quality; wrong questions are answered with what there is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import openami
from openami.analyst import FEW_METERS, Data
from openami.errors import DataError, InputError
from openami.readings import IMPORT_WH, MISSING, VOLTAGE_V, DayBlock, Quality
from openami.registry import Meter
from openami.store.blocks import PAGE_ROWS
from openami.store.deployment import Deployment, Folder
from openami.store.history import History
from openami.store.lake import Lake
from openami.store.rows import Rows
from openami.store.slots import write_slots

FIRST, DAYS, METERS = date(2025, 11, 27), 10, 25
LAST = FIRST + timedelta(days=DAYS - 1)


def block(day: date, shard: int, channel=IMPORT_WH) -> DayBlock:
    rng = np.random.default_rng([day.toordinal(), shard, channel.additive])
    values = rng.integers(1, 24_000, (48, METERS)).astype(np.int32)
    values[rng.random(values.shape) < 0.1] = MISSING
    return DayBlock(day, shard, channel, values, np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0)))


def serial(shard: int, index: int) -> str:
    return f"M{shard}{index:03d}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Folder(tmp_path_factory.mktemp("data") / "utility")
    folder.save(Deployment("Test", "Asia/Kolkata", 30, FIRST, DAYS, "BR", "4f41490000000001"))
    rows = Rows(folder.rows, create=True)
    place = [(shard, index) for shard in (0, 1) for index in range(METERS)]
    meters = [Meter(serial(s, i), bytes([0, 0, 0, 0, 0, 0, s, i]), "ABC", "X1", s, i, 0x20, 1) for s, i in place]
    rows.add_registry([], [], meters, [], [], [])
    lake = Lake(folder.lake)
    for k in range(DAYS):
        for shard in (0, 1):
            day = FIRST + timedelta(days=k)
            lake.write_blocks("validated", [block(day, shard), block(day, shard, VOLTAGE_V)])
    History(lake).rebuild()
    return folder.root


@pytest.fixture
def data(root: Path) -> Data:
    return openami.open(root)


def expected(places: list[tuple[int, int]], days: list[date], channel=IMPORT_WH) -> np.ndarray:
    rows = [np.stack([block(day, shard, channel).values[:, index] for shard, index in places], axis=1) for day in days]
    return np.concatenate(rows)


def test_a_few_meters_over_many_days_are_those_of_the_day_blocks(data: Data) -> None:
    """From the history and from the blocks the answer is the same."""
    places = [(1, 3), (0, 24), (1, 0)]
    found = data.readings("import_wh", (FIRST, LAST), [serial(*p) for p in places])
    np.testing.assert_array_equal(found.values, expected(places, [FIRST + timedelta(days=k) for k in range(DAYS)]))
    np.testing.assert_array_equal(found.quality == Quality.MISSING, found.values == MISSING)


def test_all_meters_of_a_day_in_the_registry_order(data: Data) -> None:
    found = data.readings("import_wh", "2025-12-01")
    places = [(shard, index) for shard in (0, 1) for index in range(METERS)]
    assert len(found.meters) > FEW_METERS
    assert found.meters == tuple(serial(*p) for p in places)
    np.testing.assert_array_equal(found.values, expected(places, [date(2025, 12, 1)]))


def test_a_day_that_is_not_there_is_missing_and_a_gap_is_nan(data: Data) -> None:
    found = data.readings("import_wh", (LAST, LAST + timedelta(days=1)), serial(0, 0))
    assert found.values.shape == (96, 1)
    assert np.isnan(found.numpy()[48:]).all()
    assert (found.quality[48:] == Quality.MISSING).all(), "what is not there is not plain valid"
    assert np.isnan(found.numpy()[:48, 0]).sum() == (block(LAST, 0).values[:, 0] == MISSING).sum()


def test_numbers_are_in_their_unit(data: Data) -> None:
    found = data.readings("voltage_v", FIRST, serial(0, 5))
    raw = block(FIRST, 0, VOLTAGE_V).values[:, 5]
    assert found.unit == "V"
    np.testing.assert_allclose(found.numpy()[:, 0], np.where(raw == MISSING, np.nan, raw / 100))


def test_stamps_are_the_ends_of_the_intervals(data: Data) -> None:
    found = data.readings("import_wh", FIRST, serial(0, 0))
    assert found.stamp_s[0] - data.calendar.day_start(FIRST) == 1800
    assert found.stamp_s[-1] == data.calendar.day_start(FIRST + timedelta(days=1))


def test_arrow_has_long_rows_with_the_unit_in_the_field(data: Data) -> None:
    rows = data.readings("import_wh", FIRST, [serial(0, 0), serial(0, 1)]).arrow()
    assert rows.column_names == ["meter", "stamp", "value", "quality"]
    assert rows.schema.field("value").metadata[b"unit"] == b"Wh"
    assert rows["value"].null_count == (block(FIRST, 0).values[:, :2] == MISSING).sum()
    assert rows["meter"].cast(pa.string()).to_pylist() == [serial(0, 0)] * 48 + [serial(0, 1)] * 48


def test_pandas_has_a_column_per_meter_in_local_time(data: Data) -> None:
    pytest.importorskip("pandas")
    frame = data.readings("import_wh", FIRST, [serial(0, 0), serial(0, 1)]).pandas()
    assert frame.shape == (48, 2)
    assert (str(frame.index[0]), frame.attrs["unit"]) == (f"{FIRST} 00:30:00+05:30", "Wh")


def test_a_day_closed_again_is_seen_although_the_history_is_behind(data: Data) -> None:
    before = data.readings("import_wh", (FIRST, LAST), serial(0, 2))
    again = replace(block(FIRST, 0), values=np.full((48, METERS), 77, np.int32))
    data.lake.write_blocks("validated", [again])
    after = data.readings("import_wh", (FIRST, LAST), serial(0, 2))
    data.lake.write_blocks("validated", [block(FIRST, 0), block(FIRST, 0, VOLTAGE_V)])
    assert (after.values[:48] == 77).all()
    np.testing.assert_array_equal(after.values[48:], before.values[48:])


def test_sql_sees_long_rows(data: Data) -> None:
    with duckdb.connect() as connection:
        data.long_view(connection)
        query = "select slot, value from readings where day = ? and shard = 1 and channel = 'import_wh' and meter = 4 order by slot"
        found = connection.execute(query, [LAST]).fetchall()
    raw = block(LAST, 1).values[:, 4]
    assert found == [(slot, value) for slot, value in enumerate(raw.tolist()) if value != MISSING]


def test_sql_sees_serial_stamp_unit_and_quality(data: Data) -> None:
    values = block(LAST, 1, VOLTAGE_V).values[:, 4]
    doubted = int(np.flatnonzero(values != MISSING)[3])
    marked = replace(block(LAST, 1, VOLTAGE_V), quality=block(LAST, 1, VOLTAGE_V).quality.copy())
    marked.quality[doubted, 4] = Quality.DUPLICATE
    data.lake.write_blocks("validated", [block(LAST, 1), marked])
    with duckdb.connect() as connection:
        data.long_view(connection)
        where = "day = ? and serial = ? and channel = 'voltage_v'"
        query = f"select slot, epoch(stamp), value, unit, quality from readings_told where {where} order by slot"
        found = connection.execute(query, [LAST, serial(1, 4)]).fetchall()
    data.lake.write_blocks("validated", [block(LAST, 1), block(LAST, 1, VOLTAGE_V)])
    assert [row[0] for row in found] == np.flatnonzero(values != MISSING).tolist()
    assert [row[1] for row in found] == [data.calendar.stamp(LAST, slot) for slot, *_ in found]
    np.testing.assert_allclose([row[2] for row in found], values[values != MISSING] / 100)
    assert {row[3] for row in found} == {"V"}
    assert {row[0]: row[4] for row in found if row[4]} == {doubted: int(Quality.DUPLICATE)}


def test_the_one_liners_of_pandas_and_polars_work(root: Path) -> None:
    pytest.importorskip("pandas")
    frame = DeltaTable(f"{root}/lake/validated").to_pandas(filters=[("day", "=", date(2025, 12, 1))])
    assert len(frame) == 2 * 2 * METERS
    polars = pytest.importorskip("polars")
    assert len(polars.read_delta(f"{root}/lake/validated")) == 2 * 2 * METERS * DAYS


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not here")
def test_the_one_liner_of_spark_works_without_any_package_from_the_network(root: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 5000, (1, PAGE_ROWS)).astype(np.int32)  # its lowest bytes are stored as they are
    noise[0, ::50] = MISSING
    noisy = tmp_path / "noisy.parquet"
    write_slots(noisy, [DayBlock(date(2025, 12, 1), 0, IMPORT_WH, noise, np.zeros(noise.shape, np.uint32))])
    sql = pytest.importorskip("pyspark.sql")
    spark = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate()
    )
    try:
        files = openami.open(root).delta("validated").file_uris()
        frame = spark.read.option("basePath", f"{root}/lake/validated").parquet(*files)
        (total,) = frame.where("channel = 'import_wh' and day = '2025-12-01'").selectExpr("sum(s00)").first()
        of_noise = spark.read.parquet(str(noisy)).selectExpr("sum(s00)", "count(s00)", "sum(s00 * cast(meter as bigint))").first()
    finally:
        spark.stop()
    slots = [block(date(2025, 12, 1), shard).values[0] for shard in (0, 1)]
    assert total == sum(int(slot[slot != MISSING].sum()) for slot in slots)
    there = np.flatnonzero(noise[0] != MISSING)
    assert tuple(of_noise) == (noise[0, there].sum(), there.size, (noise[0, there].astype(np.int64) * there).sum())


def test_the_one_liner_of_the_documentation_works(root: Path) -> None:
    blocks = DeltaTable(f"{root}/lake/validated").to_pyarrow_dataset()  # noqa: F841, DuckDB finds it by its name
    total = duckdb.sql("select sum(s00) from blocks where channel = 'import_wh' and day = '2025-12-01'").fetchall()[0][0]
    slots = [block(date(2025, 12, 1), shard).values[0] for shard in (0, 1)]
    assert total == sum(int(slot[slot != MISSING].sum()) for slot in slots)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"channel": "power"}, "known are import_wh"),
        ({"meters": "NOBODY"}, "no meter 'NOBODY'"),
        ({"days": "yesterday"}, "is not a date"),
        ({"days": (LAST, FIRST)}, "the earlier one first"),
        ({"days": (FIRST, FIRST, LAST)}, "not 3 of them"),
        ({"table": "statements"}, "validated and raw"),
    ],
)
def test_a_wrong_question_is_answered_with_the_way_out(data: Data, asked: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        data.readings(**asked)


def test_a_moment_asks_for_its_day(data: Data) -> None:
    assert (data.readings(days=datetime.fromisoformat("2025-12-01T09:00")).values == data.readings(days="2025-12-01").values).all()


def test_a_version_that_there_is_not_is_named_with_the_newest(data: Data) -> None:
    with pytest.raises(DataError, match=rf"no version 999 yet; its newest is {data.lake.version('validated')}$"):
        data.delta("validated", 999)


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no OpenAMI data"):
        openami.open(tmp_path)
