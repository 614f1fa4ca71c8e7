"""The tally of a day against its plain-loop twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openami.readings import CHECK_BITS, ESTIMATED_BITS, MISSING, Quality
from openami.vee.estimate import like_day
from openami.vee.tally import marks, mean_meters, mean_of_days, tally

BITS = [0, int(Quality.SPIKE), int(Quality.ESTIMATED_LIKE_DAY), int(Quality.ESTIMATED_CLASS_PROFILE | Quality.SCALED_TO_REGISTER)]


@settings(max_examples=60)
@given(shape=hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), data=st.data())
def test_a_day_is_tallied_as_by_hand(shape: tuple[int, int], data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([int(MISSING), 0, -7, 250, 2**31 - 1])))
    quality = data.draw(hnp.arrays(np.uint32, shape, elements=st.sampled_from(BITS)))
    found = tally(values, quality)
    for m in range(shape[1]):
        column = list(zip(values[:, m].tolist(), quality[:, m].tolist(), strict=True))
        there = [(v, q) for v, q in column if v != MISSING]
        metered = [t for t, (v, q) in enumerate(column) if v != MISSING and not q & int(ESTIMATED_BITS)]
        assert found.wh[m] == sum(v for v, _ in there)
        assert found.estimated_wh[m] == sum(v for v, q in there if q & int(ESTIMATED_BITS))
        assert found.missing[m] == len(column) - len(there)
        assert found.unfounded[m] == found.missing[m] + sum(1 for _, q in there if q & Quality.ESTIMATED_CLASS_PROFILE)
        assert found.last_metered[m] == (metered[-1] if metered else -1)


@settings(max_examples=60)
@given(shape=hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), data=st.data())
def test_a_day_is_marked_as_by_hand(shape: tuple[int, int], data: st.DataObject) -> None:
    missed = [int(Quality.MISSING), int(Quality.MISSING | Quality.ESTIMATED_LINEAR)]
    values = data.draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([int(MISSING), 0, 250])))
    quality = data.draw(hnp.arrays(np.uint32, shape, elements=st.sampled_from([*BITS, *missed])))
    found = marks(values, quality)
    failed = int(CHECK_BITS) & ~int(Quality.MISSING)
    for m in range(shape[1]):
        bits = quality[:, m].tolist()
        sent = [t for t, q in enumerate(bits) if not q & Quality.MISSING]
        assert found.received[m] == len(sent)
        assert found.last_received[m] == (sent[-1] if sent else -1)
        assert found.missing[m] == int((values[:, m] == MISSING).sum())
        assert found.estimated[m] == sum(bool(q & int(ESTIMATED_BITS)) for q in bits)
        assert found.flagged[m] == sum(bool(q & failed) for q in bits)
        assert found.bits[m] == np.bitwise_or.reduce(quality[:, m])


def test_values_and_quality_of_different_days_are_refused() -> None:
    with pytest.raises(ValueError, match="one day block"):
        tally(np.zeros((4, 3), np.int32), np.zeros((4, 2), np.uint32))
    with pytest.raises(ValueError, match="one day block"):
        marks(np.zeros((4, 3), np.int32), np.zeros((4, 2), np.uint32))


@settings(max_examples=40)
@given(
    days=hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4), elements=st.sampled_from([int(MISSING), -3, 0, 5, 8, 2**31 - 1])
    )
)
def test_the_mean_of_days_is_that_of_the_estimate(days: np.ndarray) -> None:
    np.testing.assert_array_equal(mean_of_days(list(days)), like_day(days))


def test_the_mean_of_no_days_is_refused() -> None:
    with pytest.raises(ValueError, match="no day"):
        mean_of_days([])


def test_the_mean_meters_leave_out_others_and_gaps() -> None:
    values = np.array([[10, 15, int(MISSING), 999], [-5, int(MISSING), -1, 999]], np.int32)
    assert mean_meters(values, np.array([0, 0, 0, -1]), 2).tolist() == [[12, int(MISSING)], [int(MISSING), int(MISSING)]]


@settings(max_examples=60)
@given(data=st.data())
def test_the_mean_meters_are_those_of_their_twin(data: st.DataObject) -> None:
    values = data.draw(
        hnp.arrays(
            np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.sampled_from([int(MISSING), -3, 0, 5, 8, 2**31 - 1])
        )
    )
    group = data.draw(hnp.arrays(np.int32, values.shape[1], elements=st.integers(-1, 3)))
    found = mean_meters(values, group, 4)
    for t, row in enumerate(values.tolist()):
        for g in range(4):
            own = [v for v, k in zip(row, group.tolist(), strict=True) if k == g and v >= 0]
            assert found[t, g] == (sum(own) // len(own) if own else int(MISSING))
