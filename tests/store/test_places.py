"""The lake and the history on a real S3-compatible server (moto's) are what they are in a folder, also under several writers at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from engines_s3 import bucket, served
from openami.errors import DataError, InputError, StorageError
from openami.readings import IMPORT_WH, MISSING, DayBlock, Quality
from openami.store.deployment import Deployment, Folder
from openami.store.history import History
from openami.store.lake import Lake
from openami.store.places import Bucket, Keys, Local, place_of

DAY = date(2026, 1, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as address:
        yield address


def block(day: date, shard: int = 0, seed: int = 0) -> DayBlock:
    rng = np.random.default_rng(seed + day.toordinal())
    values = rng.integers(0, 900, (48, 7)).astype(np.int32)
    values[3, 2] = MISSING
    quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
    return DayBlock(day, shard, IMPORT_WH, values, quality)


def same(one: DayBlock, other: DayBlock) -> bool:
    return np.array_equal(one.values, other.values) and np.array_equal(one.quality, other.quality)


def test_day_blocks_come_back_from_an_object_store(server):
    lake = Lake(bucket(server, "blocks"))
    lake.write_blocks("validated", [block(DAY)])
    assert same(lake.read_blocks("validated", DAY, 0)["import_wh"], block(DAY))
    assert lake.tables() == ["validated", "validated_quality"]
    assert lake.days("validated") == [DAY]


def test_an_earlier_version_stays_readable(server):
    lake = Lake(bucket(server, "versions"))
    lake.replace("t", DAY, 0, pa.table({"a": [1]}))
    first = lake.version("t")
    lake.replace("t", DAY, 0, pa.table({"a": [2]}))
    assert lake.read("t", DAY, 0)["a"].to_pylist() == [2]
    assert lake.read("t", DAY, 0, version=first)["a"].to_pylist() == [1]


def test_a_draft_that_is_left_leaves_no_object(server):
    place = bucket(server, "draft")
    with Lake(place).draft(DAY) as draft:
        draft.write("t", 0, pa.table({"a": [1]}))
        assert len(list(place.below("t"))) == 1
    assert list(place.below("t")) == []


def _write_in_a_process(address: str, shard: int, count: int) -> None:
    lake = Lake(bucket(address, "writers"))
    for k in range(count):
        lake.replace("t", DAY + timedelta(days=k), shard, pa.table({"a": [shard]}))


def test_writers_in_several_processes_lose_no_commit(server):
    """Each commits four days of its own shard into the same table at the same time; a put that is not conditional would lose some."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_in_a_process, args=(server, shard, 4)) for shard in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    files = Lake(bucket(server, "writers")).all_files("t")
    assert set(files) == {(DAY + timedelta(days=k), shard) for k in range(4) for shard in range(3)}


def test_the_history_is_the_same_as_in_a_folder(server, tmp_path):
    days = [DAY + timedelta(days=k) for k in range(40)]
    found = []
    for lake in (Lake(bucket(server, "history")), Lake(tmp_path / "lake")):
        for day in days[::8]:
            lake.write_blocks("validated", [block(day)])
        history = History(lake)
        assert len(history.rebuild()) == 2
        assert history.behind() == []
        found.append(history.meter("import_wh", 0, 2, days[0], days[-1]))
    assert found[0].days == found[1].days == tuple(days[::8])
    np.testing.assert_array_equal(found[0].values, found[1].values)
    np.testing.assert_array_equal(found[0].quality, found[1].quality)


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_a_history_that_another_process_wrote_anew_is_read_anew(server, tmp_path, where):
    lake = Lake(tmp_path / "lake" if where == "folder" else bucket(server, "anew"))
    lake.write_blocks("validated", [block(DAY)])
    History(lake).rebuild()
    reader = History(lake)
    assert reader.meter("import_wh", 0, 0, DAY, DAY).values[0].tolist() == block(DAY).values[:, 0].tolist()
    lake.write_blocks("validated", [block(DAY, seed=5)])
    History(lake).rebuild()
    assert reader.meter("import_wh", 0, 0, DAY, DAY).values[0].tolist() == block(DAY, seed=5).values[:, 0].tolist()


def test_any_delta_reader_opens_it(server):
    place = bucket(server, "readers")
    Lake(place).write_blocks("validated", [block(DAY)])
    rows = DeltaTable(place.uri("validated"), storage_options=place.options).to_pyarrow_table()
    assert sorted(rows["meter"].to_pylist()) == list(range(7))


def test_a_store_that_is_away_is_told_in_one_sentence(server):
    away = Bucket.at("s3://openami-test/x", endpoint="http://127.0.0.1:9", keys=Keys("a", "b"))
    with pytest.raises(StorageError, match=r"object store s3://openami-test/x does not answer at http://127.0.0.1:9"):
        away.find("history/made")


def test_keys_are_in_no_text_of_ours(server):
    place = bucket(server, "secret")
    assert "test-secret" not in f"{place} {place!r} {place.keys!r}"


@pytest.mark.parametrize(
    "address", ["s3:/x", "http://bucket/x", "s3://b", "s3://Bucket/x", "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/%20"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InputError):
        Bucket.at(address)


def deployment(**settings: str) -> Deployment:
    return Deployment("t", "Asia/Kolkata", 30, DAY, 3, "BR", "4142434445464748", **settings)


def test_the_settings_say_where_the_lake_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LAKE_ID", "an-id")
    (tmp_path / "secret").write_text("a-secret\n")
    keys = {"lake_access_key": "env:LAKE_ID", "lake_secret_key": f"file:{tmp_path}/secret"}
    place = place_of(Folder(tmp_path), deployment(lake="s3://bucket/a/b", lake_endpoint="http://127.0.0.1:9000", **keys))
    assert place == Bucket("bucket", "a/b", "http://127.0.0.1:9000", "us-east-1", Keys("an-id", "a-secret"))
    assert place_of(Folder(tmp_path), deployment()) == Local(tmp_path / "lake")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lake_access_key": "AKIA", "lake_secret_key": "env:X"}, "holds a key itself"),
        ({"lake_access_key": "env:HOME"}, "only one of"),
    ],
)
def test_settings_that_hold_a_key_or_half_of_one_are_refused(tmp_path, settings, says):
    with pytest.raises(DataError, match=says) as refused:
        place_of(Folder(tmp_path), deployment(lake="s3://bucket/x", **settings))
    assert "AKIA" not in str(refused.value)


def test_settings_survive_saving(tmp_path: Path):
    saved = deployment(lake="s3://bucket/a", lake_access_key="env:A", lake_secret_key="env:B")
    Folder(tmp_path).save(saved)
    assert Folder(tmp_path).load() == saved
