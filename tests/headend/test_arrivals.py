"""What is here, told by bits: the same as a set of (meter, slot), whatever comes twice or elsewhere; a snapshot is whole or passed over."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.headend.arrivals import Arrivals
from openami.headend.gaps import Gap
from openami.headend.schedule import Asked, due_registers, gap_tasks_of, model_depths
from openami.readings import Calendar

CALENDAR = Calendar(interval_minutes=30)
FIRST = date(2025, 12, 1)
SERIALS = ["A", "B", "C"]
START_S = CALENDAR.day_start(FIRST)
END_S = START_S + 2 * 86_400
CELLS = st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 2 * 48 + 3), st.booleans()), max_size=80)


def arrivals() -> Arrivals:
    return Arrivals(SERIALS, CALENDAR, FIRST, 2)


def note(made: Arrivals, cells: list[tuple[int, int]]) -> None:
    made.note(np.array([m for m, _ in cells], np.int64), np.array([START_S + (s + 1) * 1800 for _, s in cells], np.int64), START_S)


@given(CELLS)
def test_what_is_missing_is_what_was_never_noted(cells: list[tuple[int, int, bool]]) -> None:
    made, here = arrivals(), set[tuple[int, int]]()
    for meter, slot, on_grid in cells:
        if on_grid:
            note(made, [(meter, slot)])
            here.add((meter, slot))
        else:
            made.note(np.array([meter]), np.array([START_S + slot * 1800 + 7]), START_S)
    for k in range(2):
        day = FIRST + timedelta(days=k)
        lacking = {
            (SERIALS.index(serial), (stamp - START_S) // 1800 - 1)
            for serial, gaps in made.missing(day, END_S, 0)
            for gap in gaps
            for stamp in range(gap.first_s, gap.last_s + 1, 1800)
        }
        of_day = {(m, s) for m in range(3) for s in range(48 * k, 48 * (k + 1))}
        assert lacking == of_day - here
        assert made.here(day) == len(of_day & here)


def test_a_slot_that_runs_or_may_still_be_pushed_is_no_gap() -> None:
    made = arrivals()
    assert list(made.missing(FIRST, START_S + 1799, 0)) == []
    assert dict(made.missing(FIRST, START_S + 5400, 3600)) == {s: [Gap(START_S + 1800, START_S + 1800)] for s in SERIALS}


def test_a_snapshot_brings_everything_back(tmp_path: Path) -> None:
    made, again = arrivals(), arrivals()
    note(made, [(0, 3), (2, 50)])
    made.seq, made.pulled_seq = 7, 3
    made.save(tmp_path / "a.npz")
    assert again.load(tmp_path / "a.npz")
    assert (again.seq, again.pulled_seq, again.heard_s.tolist()) == (7, 3, made.heard_s.tolist())
    assert list(again.missing(FIRST, END_S, 0)) == list(made.missing(FIRST, END_S, 0))
    assert (tmp_path / "a.npz").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("harm", ["torn", "empty", "missing", "other meters", "other days"])
def test_a_snapshot_that_does_not_fit_is_passed_over(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a.npz"
    arrivals().save(path)
    again = arrivals()
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:-200])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "missing":
        path.unlink()
    elif harm == "other meters":
        again = Arrivals(["A", "B", "X"], CALENDAR, FIRST, 2)
    else:
        again = Arrivals(SERIALS, CALENDAR, FIRST + timedelta(days=1), 2)
    assert not again.load(path)
    assert again.seq == 0


def test_who_was_heard_is_told_once() -> None:
    made = arrivals()
    made.hear(np.array([1]), 50)
    made.hear(np.array([1]), 40)
    assert made.newly_heard() == {"B": 50}
    assert made.newly_heard() == {}


def test_tasks_leave_out_what_is_older_than_the_model_keeps_and_who_has_no_line() -> None:
    depth_s = {"A": 86_400, "B": 10 * 86_400}
    asked = Asked(["A", "B"], lambda serial: "cell", depth_s.__getitem__)
    tasks = gap_tasks_of(arrivals(), asked, {"B": [Gap(START_S + 1800, END_S - 1800)]}, END_S, 0)
    assert [(one.serial, one.first_s, one.last_s) for one in tasks] == [("A", END_S - 86_400, END_S), ("B", END_S, END_S)]


def test_the_shipped_models_keep_at_least_what_the_default_does() -> None:
    depths = model_depths()
    assert depths.of("nobody", "nothing") == depths.default_s == 35 * 86_400
    assert depths.of("XMB", "XMB-LTCT") == 90 * 86_400 == depths.longest_s


def test_registers_are_due_an_hour_behind_midnight() -> None:
    midnight_s = CALENDAR.day_start(date(2025, 12, 2))
    assert due_registers(CALENDAR, midnight_s + 3599)[0][2] == START_S
    assert due_registers(CALENDAR, midnight_s + 3600) == [("daily", midnight_s, midnight_s), ("billing", START_S, START_S)]
