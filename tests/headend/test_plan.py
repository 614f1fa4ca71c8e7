"""The plan: priorities, limits, back-off, a cell that comes back; service levels and silent meters. All of it without a clock or a socket."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.headend.levels import Level, service_levels, silent, standing
from openami.headend.plan import Limits, Plan, Priority, Task


def task(number, serial=None, priority=Priority.GAP, since_s=0, cell=""):
    return Task(f"t{number}", serial or f"M{number}", priority, "block_load", since_s, cell=cell)


def plan(*tasks, **limits):
    made = Plan(Limits(**limits), random.Random(1))
    for one in tasks:
        made.add(one)
    return made


def keys(tasks):
    return [one.key for one in tasks]


def test_orders_before_questions_before_gaps_before_routine_and_the_oldest_first():
    tasks = [task(k, priority=Priority(p), since_s=s) for k, (p, s) in enumerate([(3, 0), (2, 5), (2, 1), (1, 9), (0, 9)])]
    made = plan(*sorted(tasks, key=lambda one: one.since_s), total=1)
    order = []
    while len(made):
        (one,) = made.take(0)
        order.append(one.key)
        made.done(one.key)
    assert order == ["t4", "t3", "t2", "t1", "t0"]


def test_one_meter_is_talked_to_once_at_a_time_and_its_next_task_is_not_lost():
    made = plan(task(1, "M"), task(2, "M"), task(3, "N"))
    assert keys(made.take(0)) == ["t1", "t3"]
    assert made.take(0) == []
    made.done("t1")
    assert keys(made.take(0)) == ["t2"]


def test_a_cell_is_talked_to_by_no_more_than_its_limit_and_does_not_hold_up_others():
    made = plan(*(task(k, cell="A") for k in range(10)), *(task(k, cell="B") for k in range(10, 13)), per_cell=2)
    assert Counter(one.cell for one in made.take(0)) == {"A": 2, "B": 2}


def test_a_cell_that_fails_is_talked_to_ever_more_carefully_and_opens_again_step_by_step():
    made = plan(*(task(k, cell="A") for k in range(200)), per_cell=8, again_first_s=10_000.0)
    sizes = []
    for _ in range(3):
        started = made.take(0)
        sizes.append(len(started))
        for one in started:
            made.failed(one.key, 0)
    assert sizes == [8, 1, 1]
    for _ in range(4):
        started = made.take(0)
        sizes.append(len(started))
        for one in started:
            made.done(one.key)
    assert sizes[3:] == [1, 2, 4, 8]


def test_meters_without_a_cell_do_not_slow_each_other_down():
    made = plan(*(task(k) for k in range(20)), total=10)
    for one in made.take(0):
        made.failed(one.key, 0)
    assert len(made.take(0)) == 10


def test_distances_double_with_jitter_and_end():
    made = plan(task(1), again_first_s=60.0, again_last_s=3600.0)
    now, distances = 0.0, []
    for _ in range(12):
        assert keys(made.take(now)) == ["t1"]
        again = made.failed("t1", now)
        distances.append(again - now)
        assert made.take(again - 0.001) == []
        now = again
    for k, distance in enumerate(distances):
        assert 0.5 * min(3600, 60 * 2**k) <= distance <= 1.5 * min(3600, 60 * 2**k)
    assert len({round(one) for one in distances[-5:]}) == 5


def test_thousands_that_fail_together_do_not_come_back_together():
    made = plan(*(task(k) for k in range(1000)), total=1000)
    back = [made.failed(one.key, 0) for one in made.take(0)]
    assert max(Counter(int(at) for at in back).values()) < 60


def test_whoever_waits_for_an_answer_is_not_made_to_wait_for_hours():
    made = plan(task(1, priority=Priority.ON_DEMAND), again_first_s=60.0)
    for _ in range(8):
        made.take(1e9)
        assert made.failed("t1", 0) <= 90


def test_a_meter_that_answers_again_is_asked_at_once_again():
    made = plan(task(1, "M"), again_first_s=60.0)
    made.take(0)
    made.failed("t1", 0)
    made.take(1_000)
    made.failed("t1", 1_000)
    made.take(9_000)
    made.done("t1")
    made.add(task(2, "M"))
    made.take(9_000)
    assert made.failed("t2", 9_000) - 9_000 <= 90


def test_a_gap_that_a_push_has_filled_is_not_asked_for():
    made = plan(task(1), task(2))
    assert made.withdraw("t1")
    assert not made.withdraw("t1")
    assert keys(made.take(0)) == ["t2"]


def test_the_same_task_again_is_one_task():
    made = plan(task(1))
    assert not made.add(task(1))
    assert made.counts()[Priority.GAP] == 1


def test_telling_of_a_task_that_does_not_run_is_refused():
    made = plan(task(1))
    with pytest.raises(RequestError, match="task t1 is not running"):
        made.done("t1")


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Priority), st.sampled_from(["", "A", "B"])), max_size=25),
    st.integers(1, 6),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_whatever_happens_limits_hold_and_no_task_is_lost(wanted, total, per_cell, chance):
    made = Plan(Limits(total, per_cell, reserved=2), random.Random(1))
    cells = {serial: cell for serial, _, cell in wanted}
    for k, (serial, priority, _) in enumerate(wanted):
        made.add(Task(f"t{k}", f"M{serial}", priority, "x", k, cell=cells[serial]))
    now, running, done, failures, told = 0.0, {}, set(), Counter(), Counter()
    for _ in range(3000):
        for one in made.take(now):
            assert one.key not in done
            running[one.key] = one
        assert len(running) == made.running <= total + 2
        assert len(running) <= total or any(one.priority is Priority.RECONNECTION for one in running.values())
        assert max(Counter(one.serial for one in running.values()).values(), default=0) <= 1
        assert all(n <= per_cell for cell, n in Counter(one.cell for one in running.values()).items() if cell)
        if not running:
            if not len(made):
                break
            now = made.next_s()
            continue
        key = chance.choice(sorted(running))
        running.pop(key)
        failures[key] += chance.random() < 0.3
        if 0 < failures[key] < 8 and failures[key] > told[key]:
            told[key] = failures[key]
            made.failed(key, now)
        else:
            made.done(key)
            done.add(key)
    assert done == {f"t{k}" for k in range(len(wanted))}


LEVEL = Level("95 % in 8 h", "block_load", 0.95, 8 * 3600, "")


@pytest.mark.parametrize(
    ("arrived", "now_h", "lacking", "met"),
    [(94, 7, 1, None), (95, 7, 0, True), (95, 9, 0, True), (94, 9, 1, False), (0, 0, 95, None)],
)
def test_the_clock_against_a_level(arrived, now_h, lacking, met):
    stood = standing(LEVEL, 0, 100, [3600] * arrived if now_h else [], now_h * 3600)
    assert (stood.lacking, stood.met, stood.left_s) == (lacking, met, (8 - now_h) * 3600)


def test_what_comes_too_late_does_not_count_and_what_is_needed_is_told_by_the_hour():
    late = standing(LEVEL, 0, 100, [3600] * 90 + [8 * 3600 + 1] * 10, 9 * 3600)
    assert (late.done, late.met) == (90, False)
    assert standing(LEVEL, 0, 100, [1] * 55, 4 * 3600).per_hour == 10.0
    assert standing(LEVEL, 0, 0, [], 0).met is True


def test_the_shipped_levels_say_that_they_are_not_confirmed():
    levels = service_levels()
    assert {"block_load", "daily_load", "billing", "relay_order", "on_demand"} == {one.kind for one in levels}
    assert all(one.verify for one in levels)


def test_silent_meters_and_those_never_heard_are_apart():
    day = 86_400
    heard = {"A": 10 * day, "B": 9 * day, "C": 5 * day}
    assert silent(["C", "A", "B", "D", "X"], heard, 10 * day) == ([("C", 5 * day), ("B", 9 * day)], ["D", "X"])
