"""Day blocks to energies: agreement with plain loops, and missing slots counted instead of taken as nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.billing import fold, fold_columns
from openami.errors import RequestError
from openami.readings import MISSING


def plain(values, tou, periods):
    energy = [[0] * values.shape[1] for _ in range(periods)]
    missing = [0] * values.shape[1]
    for slot in range(values.shape[0]):
        for meter in range(values.shape[1]):
            if values[slot, meter] == MISSING:
                missing[meter] += 1
            else:
                energy[tou[slot]][meter] += int(values[slot, meter])
    return energy, missing


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.sampled_from([0, 1, 3, 1030]), st.integers(1, 3), st.integers(0, 2**32))
def test_fold_agrees_with_plain_loops(slots, meters, periods, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**31) + 1, 2**31 - 1, (slots, meters)).astype(np.int32)
    values[rng.random((slots, meters)) < 0.2] = MISSING
    tou = rng.integers(0, periods, slots)
    energy, missing = plain(values, tou, periods)
    for got in (fold(values, tou, periods), fold_columns(list(values), tou, periods)):
        assert got[0].tolist() == energy
        assert got[1].tolist() == missing


def test_a_block_of_another_slot_count_is_refused():
    with pytest.raises(RequestError, match=r"\(48, 3\), but the tariff's hours are for 96 slots"):
        fold(np.zeros((48, 3), np.int32), np.zeros(96, np.int64), 1)
