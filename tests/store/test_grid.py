"""The day grid: delivery at least once gives each reading exactly once, in any order; two claims are marked, never mixed."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.readings import CHANNELS, IMPORT_WH, MISSING, VOLTAGE_V, Calendar, Quality
from openami.store.grid import DayGrid

from .reference import collect

FIRST = date(2025, 10, 25)
ZURICH = Calendar("Europe/Zurich", 60)
METERS, DAYS = 3, 3
Reading = tuple[int, int, tuple[int, ...]]


def grid_of(readings: list[Reading], pieces: int = 1) -> tuple[DayGrid, list[bool]]:
    grid = DayGrid(5, METERS, ZURICH, FIRST, DAYS)
    inside: list[bool] = []
    for part in np.array_split(np.arange(len(readings)), pieces):
        own = [readings[k] for k in part]
        inside += grid.write(
            np.array([r[0] for r in own], np.int64),
            np.array([r[1] for r in own], np.int64),
            np.array([r[2] for r in own], np.int32).reshape(-1, len(CHANNELS)),
        ).tolist()
    return grid, inside


def content(grid: DayGrid) -> dict[tuple[date, str], tuple[list[list[int]], list[list[int]]]]:
    days = [FIRST + timedelta(days=k) for k in range(DAYS)]
    return {(d, b.channel.name): (b.values.tolist(), b.quality.tolist()) for d in days for b in grid.blocks(d)}


stamps = st.builds(
    lambda hour, seconds: ZURICH.day_start(FIRST) + 3600 * hour + seconds, st.integers(-2, 76), st.sampled_from([0, 0, 0, 0, 1, 1800])
)
numbers = st.sampled_from([int(MISSING), 0, 1, -5, 2**31 - 1])
readings = st.lists(st.tuples(stamps, st.integers(0, METERS - 1), st.tuples(*[numbers] * len(CHANNELS))), max_size=25)


@given(readings=readings, pieces=st.integers(1, 4))
def test_the_grid_agrees_with_its_twin_however_the_work_is_cut(readings: list[Reading], pieces: int) -> None:
    grid, inside = grid_of(readings, pieces)
    held, conflicts, expected_inside = collect(readings, ZURICH, FIRST, DAYS)
    assert inside == expected_inside
    found = {
        (CHANNELS.index(b.channel), b.day, slot, meter): (int(b.values[slot, meter]), int(b.quality[slot, meter]))
        for k in range(DAYS)
        for b in grid.blocks(FIRST + timedelta(days=k))
        for slot in range(len(b.values))
        for meter in range(METERS)
    }
    assert {key: value for key, (value, _) in found.items() if value != MISSING} == held
    assert {key for key, (_, quality) in found.items() if quality & Quality.DUPLICATE} == conflicts
    assert all(bool(quality & Quality.MISSING) == (value == MISSING) for value, quality in found.values())


@given(readings=readings, data=st.data())
def test_order_and_repetition_change_nothing_where_nobody_contradicts(readings: list[Reading], data: st.DataObject) -> None:
    agreed = [(stamp, meter, tuple((stamp // 3600 + 7 * meter + c) % 5 for c in range(len(CHANNELS)))) for stamp, meter, _ in readings]
    again = data.draw(st.permutations(agreed + agreed[: len(agreed) // 2]))
    assert content(grid_of(again)[0]) == content(grid_of(agreed)[0])


@given(readings=readings, data=st.data())
def test_a_conflict_is_marked_whatever_the_order(readings: list[Reading], data: st.DataObject) -> None:
    one, other = content(grid_of(readings)[0]), content(grid_of(data.draw(st.permutations(readings)))[0])
    assert {k: v[1] for k, v in one.items()} == {k: v[1] for k, v in other.items()}


def reading(stamp: int, meter: int = 0, wh: int = 5, voltage: int = int(MISSING)) -> Reading:
    values = {IMPORT_WH: wh, VOLTAGE_V: voltage}
    return stamp, meter, tuple(values.get(c, int(MISSING)) for c in CHANNELS)


def test_the_first_claim_stays() -> None:
    grid, _ = grid_of([reading(ZURICH.stamp(FIRST, 4), wh=5), reading(ZURICH.stamp(FIRST, 4), wh=6), reading(ZURICH.stamp(FIRST, 4), wh=5)])
    (block,) = grid.blocks(FIRST)
    assert (block.values[4, 0], block.quality[4, 0]) == (5, Quality.DUPLICATE)


def test_a_day_of_clock_change_has_its_own_slots() -> None:
    grid, _ = grid_of([reading(ZURICH.stamp(FIRST, 0))])
    assert [grid.blocks(FIRST + timedelta(days=k))[0].values.shape for k in range(DAYS)] == [(24, 3), (25, 3), (24, 3)]


def test_a_channel_that_nobody_sent_has_no_block() -> None:
    grid, _ = grid_of([reading(ZURICH.stamp(FIRST, 0))])
    assert [b.channel for b in grid.blocks(FIRST)] == [IMPORT_WH]


def test_a_channel_sent_on_one_day_has_a_block_on_every_day() -> None:
    grid, _ = grid_of([reading(ZURICH.stamp(FIRST, 0), voltage=23_000), reading(ZURICH.stamp(FIRST, 1))])
    last = {b.channel: b for b in grid.blocks(FIRST + timedelta(days=2))}
    assert (last[VOLTAGE_V].values == MISSING).all()
    assert (last[VOLTAGE_V].quality == Quality.MISSING).all()


@pytest.mark.parametrize("meter", [-1, METERS, 10**9])
def test_a_meter_outside_the_shard_is_refused_before_anything_is_written(meter: int) -> None:
    grid, _ = grid_of([reading(ZURICH.stamp(FIRST, 0))])
    before = content(grid)
    values = np.zeros((2, len(CHANNELS)), np.int32)
    with pytest.raises(RequestError, match="shard 5"):
        grid.write(np.full(2, ZURICH.stamp(FIRST, 1)), np.array([0, meter]), values)
    assert content(grid) == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, len(CHANNELS))])
def test_arrays_that_do_not_fit_each_other_are_refused(shape: tuple[int, int]) -> None:
    grid = DayGrid(5, METERS, ZURICH, FIRST, DAYS)
    with pytest.raises(RequestError, match="not the same readings"):
        grid.write(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(shape, np.int32))


@pytest.mark.parametrize("days", [-1, DAYS])
def test_a_day_that_is_not_open_is_refused(days: int) -> None:
    with pytest.raises(RequestError, match="not among the 3 days"):
        DayGrid(5, METERS, ZURICH, FIRST, DAYS).blocks(FIRST + timedelta(days=days))
