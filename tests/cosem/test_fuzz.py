"""Some thousands of mutated frames; `fuzz.py` alone does as many as one likes."""

import pytest
from fuzz import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames_raise_only_meter_error(seed):
    refused, taken, _ = fuzz(1500, seed)
    assert refused > 100
    assert taken > 10
