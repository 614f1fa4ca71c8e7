"""The API against its own description: schemathesis sends what the OpenAPI document allows and what it forbids, and every check must be content.

Twenty examples a route here; three hundred with `-m judge` (`make judge`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .houses import House
from .outside import schemathesis, served

SHORT_S = 60


def test_every_route_keeps_its_word(house: House, tmp_path: Path) -> None:
    with served(house.unlimited()) as address:
        found = schemathesis(house, address, tmp_path, 20, "--max-time", str(SHORT_S), "--phases", "examples,coverage,fuzzing")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.judge
def test_every_route_keeps_its_word_in_three_hundred_examples(house: House, tmp_path: Path) -> None:
    with served(house.unlimited()) as address:
        found = schemathesis(house, address, tmp_path, 300)
    assert found.returncode == 0, found.stdout + found.stderr
