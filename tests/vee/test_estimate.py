"""Estimates as defined, edits, quality codes: small examples, and the kernel against the definitions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openami import vee
from openami.errors import InputError
from openami.readings import MISSING, Calendar, Quality
from openami.vee import checks, estimate
from openami.vee.edit import Edit, apply_edits
from openami.vee.quality_codes import QUALITY_CODES, codes

SHIPPED = vee.load_rules().on(date(2026, 1, 1), "domestic")


def block(*columns: list) -> np.ndarray:
    return np.array([[MISSING if v is None else v for v in c] for c in columns], np.int32).T.copy()


def test_like_day_is_the_mean_of_what_is_there_halves_up():
    days = np.stack([block([10, 10, None, -3]), block([11, None, None, -4]), block([11, None, None, None])])
    assert estimate.like_day(days)[:, 0].tolist() == [11, 10, MISSING, -3]
    assert (estimate.like_day(np.empty((0, 4, 2), np.int32)) == MISSING).all()


def test_class_profile_is_the_mean_of_the_usable_readings_of_a_class():
    values = block([10, 20], [13, 5000], [7, 8])
    usable = np.array([[True, True, True], [True, False, True]])
    profile = estimate.class_profile(values, usable, np.array([0, 0, 2], np.int32), 3)
    assert profile.tolist() == [[12, MISSING, 7], [20, MISSING, 8]]


def test_profile_is_brought_to_the_meters_usual_day():
    limits = vee.meter_limits(SHIPPED, np.zeros(1, np.int64), 60)
    values = np.full((24, 1), MISSING, np.int32)
    profile = np.full((24, 1), 100, np.int32)
    result = vee.run(values, limits, class_profile=profile, usual_wh=np.array([1200], np.int64))
    assert result.validated[:, 0].tolist() == [50] * 24
    assert result.quality[0, 0] == Quality.MISSING | Quality.ESTIMATED_CLASS_PROFILE


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.int32, (12, 3), elements=st.sampled_from([0, 3, 10, 250, int(MISSING)])),
    hnp.arrays(np.bool_, (12, 3), elements=st.sampled_from([False, False, False, True])),
    st.integers(0, 4),
    hnp.arrays(np.int64, 3, elements=st.integers(0, 5000)),
)
def test_kernel_agrees_with_the_estimates_as_defined(values, outage, hours, register):
    rules = replace(SHIPPED, linear_hours_max=hours, frozen_hours_min=24)
    limits = vee.meter_limits(rules, np.zeros(3, np.int64), 60)
    gap = (values == MISSING) & ~outage
    known = np.where((values == MISSING) & outage, 0, values).astype(np.int32)
    filled = estimate.linear(known, gap, outage, hours)
    expected, scaled = estimate.scale_to_register(filled, gap, register)
    result = vee.run(values, limits, outage=outage, register_wh=register)
    np.testing.assert_array_equal(result.validated, expected)
    np.testing.assert_array_equal(((result.quality & np.uint32(Quality.SCALED_TO_REGISTER)) != 0), gap & scaled)


def test_usual_day_is_the_lower_median_of_the_known_days():
    days = np.array([[5, 9, vee.MISSING64], [1, 3, vee.MISSING64], [3, vee.MISSING64, vee.MISSING64]], np.int64)
    assert checks.usual_day(days).tolist() == [3, 3, vee.MISSING64]


def test_out_of_day_stamps():
    calendar = Calendar()
    start = calendar.day_start(date(2026, 11, 1))
    stamps = np.array([start, start + 1800, start + 1801, start + 86400, start + 86400 + 1800], np.int64)
    assert checks.out_of_day(stamps, calendar, date(2026, 11, 1), 1).tolist() == [True, False, True, False, True]


def test_the_newest_edit_of_a_slot_holds_and_raw_stays():
    raw = block([100, None, 300])
    edits = [Edit(0, 1, 222, "R. Auditor", "meter photo", 20), Edit(0, 1, 111, "R. Auditor", "estimate by phone", 10)]
    values, edited = apply_edits(raw, edits)
    assert values[:, 0].tolist() == [100, 222, 300]
    assert edited[:, 0].tolist() == [False, True, False]
    assert raw[1, 0] == MISSING


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(0, 0, 1, "", "why", 0), "no person or no reason"),
        (Edit(0, 0, 1, "who", " ", 0), "no person or no reason"),
        (Edit(1, 0, 1, "who", "why", 0), "outside the block of 3 slots and 1 meters"),
        (Edit(0, -1, 1, "who", "why", 0), "outside the block"),
        (Edit(0, 0, 2**31, "who", "why", 0), "no reading"),
        (Edit(0, 0, int(MISSING), "who", "why", 0), "no reading"),
    ],
)
def test_an_edit_that_cannot_stand_is_refused(edit, message):
    with pytest.raises(InputError, match=message):
        apply_edits(block([100, None, 300]), [edit])


def test_every_quality_bit_has_a_code():
    assert set(QUALITY_CODES) == set(Quality) | {Quality.VALID}
    assert [c.text for c in codes(0)] == ["3.0.0"]
    assert [c.text for c in codes(Quality.MISSING | Quality.ESTIMATED_LINEAR | Quality.SCALED_TO_REGISTER)] == ["3.5.259", "3.8.0"]
