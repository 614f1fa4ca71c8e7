"""Like days over a change of clocks: slots of the same clock time are like each other."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from openami.day.validate import _by_the_clock
from openami.readings import MISSING, Calendar

ZURICH = SimpleNamespace(calendar=Calendar("Europe/Zurich", 60))


@pytest.mark.parametrize(
    ("earlier", "day", "expected"),
    [
        (date(2025, 10, 25), date(2025, 10, 26), [0, 1, 2, 2, *range(3, 24)]),
        (date(2026, 3, 28), date(2026, 3, 29), [0, 1, *range(3, 24)]),
        (date(2026, 3, 29), date(2026, 3, 30), [0, 1, int(MISSING), *range(2, 23)]),
    ],
    ids=["25 hours", "23 hours", "the day after 23 hours"],
)
def test_a_day_of_clock_change_takes_the_same_hours(earlier: date, day: date, expected: list[int]) -> None:
    values = np.arange(ZURICH.calendar.slots(earlier), dtype=np.int32)[:, None]
    found = _by_the_clock(ZURICH, values, earlier, day, 2)  # type: ignore[arg-type]
    assert found[:, 0].tolist() == expected
    assert (found[:, 1] == MISSING).all(), "the second meter came later"
