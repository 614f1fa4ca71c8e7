"""The history gives back, for any meter and any days, exactly what `validated` holds, and knows what it does not hold."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from openami.errors import DataError
from openami.readings import IMPORT_WH, MISSING, VOLTAGE_V, Channel, DayBlock, Quality
from openami.store import history as module
from openami.store.history import History
from openami.store.lake import Lake

FIRST = date(2025, 10, 29)
METERS, DAYS = 45, 7  # three days of October, four of November


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_METERS", 20)
    monkeypatch.setattr(module, "GROUP_METERS", 4)
    monkeypatch.setattr("openami.store.blocks.PAGE_ROWS", 40)


def block(day: date, shard: int = 0, channel: Channel = IMPORT_WH, meters: int = METERS, slots: int = 4) -> DayBlock:
    rng = np.random.default_rng([day.toordinal(), shard])
    values = rng.integers(-5, 4000, (slots, meters)).astype(np.int32)
    values[rng.random(values.shape) < 0.1] = MISSING
    quality = np.where(rng.random(values.shape) < 0.1, int(Quality.SPIKE | Quality.EDITED), 0).astype(np.uint32)
    return DayBlock(day, shard, channel, values, quality)


def filled(root: Path, **shapes: int) -> tuple[Lake, list[DayBlock]]:
    lake = Lake(root / "lake")
    blocks = [block(FIRST + timedelta(days=k), **shapes) for k in range(DAYS)]
    for each in blocks:
        lake.write_blocks("validated", [each])
    return lake, blocks


def test_every_meter_has_its_days_across_months(tmp_path: Path) -> None:
    lake, blocks = filled(tmp_path)
    history = History(lake)
    assert [(m.month, m.shard) for m in history.rebuild()] == [(date(2025, 10, 1), 0), (date(2025, 11, 1), 0)]
    for meter in range(METERS):
        found = history.meter("import_wh", 0, meter, FIRST, FIRST + timedelta(days=DAYS))
        assert (found.days, found.slots) == (tuple(b.day for b in blocks), (4,) * DAYS)
        np.testing.assert_array_equal(found.values, [b.values[:, meter] for b in blocks])
        np.testing.assert_array_equal(found.quality, [b.quality[:, meter] for b in blocks])


def test_only_the_days_that_are_asked_for(tmp_path: Path) -> None:
    lake, blocks = filled(tmp_path)
    history = History(lake)
    history.rebuild()
    found = history.meter("import_wh", 0, 7, blocks[2].day, blocks[3].day)
    assert found.days == (blocks[2].day, blocks[3].day)
    np.testing.assert_array_equal(found.values, [b.values[:, 7] for b in blocks[2:4]])


def test_days_of_different_length_and_meters_that_came_later(tmp_path: Path) -> None:
    """The day of a clock change has more slots; a meter has nothing before it was hung."""
    lake = Lake(tmp_path / "lake")
    blocks = [block(FIRST, meters=30), block(FIRST + timedelta(days=1), meters=METERS, slots=6)]
    for each in blocks:
        lake.write_blocks("validated", [each])
    history = History(lake)
    history.rebuild()
    found = history.meter("import_wh", 0, 5, FIRST, FIRST + timedelta(days=1))
    assert found.slots == (4, 6)
    np.testing.assert_array_equal(found.values[0], [*blocks[0].values[:, 5], MISSING, MISSING])
    np.testing.assert_array_equal(found.values[1], blocks[1].values[:, 5])
    late = history.meter("import_wh", 0, 40, FIRST, FIRST + timedelta(days=1))
    assert (late.values[0] == MISSING).all()
    np.testing.assert_array_equal(late.values[1], blocks[1].values[:, 40])


def test_channels_and_shards_stay_apart(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    energy, voltage, other = block(FIRST), block(FIRST, channel=VOLTAGE_V), block(FIRST, shard=1)
    lake.write_blocks("validated", [energy, voltage])
    lake.write_blocks("validated", [other])
    history = History(lake)
    assert len(history.rebuild()) == 3
    for channel, shard, own in (("import_wh", 0, energy), ("voltage_v", 0, voltage), ("import_wh", 1, other)):
        np.testing.assert_array_equal(history.meter(channel, shard, 3, FIRST, FIRST).values, own.values[:, [3]].T)


def test_what_is_not_there_is_an_empty_answer(tmp_path: Path) -> None:
    lake, _ = filled(tmp_path)
    history = History(lake)
    history.rebuild()
    for channel, shard, meter in (("export_wh", 0, 0), ("import_wh", 9, 0), ("import_wh", 0, METERS), ("import_wh", 0, 10_000)):
        assert history.meter(channel, shard, meter, FIRST, FIRST).days == ()


def test_a_day_closed_again_is_behind_until_it_is_rebuilt(tmp_path: Path) -> None:
    lake, blocks = filled(tmp_path)
    history = History(lake)
    history.rebuild()
    assert history.behind() == []
    again = DayBlock(FIRST, 0, IMPORT_WH, blocks[0].values + 1, blocks[0].quality)
    lake.write_blocks("validated", [again])
    assert history.behind() == [(FIRST, 0)]
    assert [m.month for m in history.rebuild()] == [date(2025, 10, 1)]
    np.testing.assert_array_equal(history.meter("import_wh", 0, 0, FIRST, FIRST).values, again.values[:, [0]].T)


def test_a_rebuild_that_was_stopped_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, _ = filled(tmp_path)
    History(lake).rebuild()
    before = History(lake).behind()

    def stopped(place: object, name: str, rows: object, group_rows: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        History(lake).rebuild(everything=True, threads=1)
    assert before == []
    assert History(lake).behind()[0] == (FIRST, 0)


def test_keeping_up_writes_a_month_when_it_is_over_or_a_week_behind(tmp_path: Path) -> None:
    """Days that are not yet in it are told by `behind`, so a reader takes them from the day blocks."""
    lake = Lake(tmp_path / "lake")
    written = []
    for k in range(40):
        day = date(2025, 10, 20) + timedelta(days=k)
        lake.write_blocks("validated", [block(day)])
        if History(lake).keep_up(day):
            written.append(day)
    assert written == [
        date(2025, 10, 26),
        date(2025, 10, 31),
        date(2025, 11, 7),
        date(2025, 11, 14),
        date(2025, 11, 21),
        date(2025, 11, 28),
    ]
    assert History(lake).behind() == []


def test_without_validated_days_there_is_nothing_to_build(tmp_path: Path) -> None:
    history = History(Lake(tmp_path / "lake"))
    assert (history.behind(), history.rebuild()) == ([], [])


def test_a_damaged_part_is_named_and_rebuilt(tmp_path: Path) -> None:
    lake, _ = filled(tmp_path)
    History(lake).rebuild()
    path = next((lake.root / "history").rglob("part=000.parquet"))
    path.write_bytes(b"PAR1 broken PAR1")
    with pytest.raises(DataError, match="history rebuild --all"):
        History(lake).meter("import_wh", 0, 0, FIRST, FIRST + timedelta(days=DAYS))
    History(lake).rebuild(everything=True)
    assert len(History(lake).meter("import_wh", 0, 0, FIRST, FIRST + timedelta(days=DAYS)).days) == DAYS


def test_others_read_it(tmp_path: Path) -> None:
    lake, blocks = filled(tmp_path)
    History(lake).rebuild()
    query = f"select values[1] from read_parquet('{lake.root}/history/channel=*/*/*/*.parquet') where meter = 3 order by day"
    with duckdb.connect() as connection:
        found = [row[0] for row in connection.execute(query).fetchall()]
    assert found == [None if b.values[0, 3] == MISSING else b.values[0, 3] for b in blocks]
