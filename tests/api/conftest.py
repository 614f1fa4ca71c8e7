"""One house for all tests of the API that only read, or that make things of their own."""

from __future__ import annotations

import pytest

from .houses import House, build


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return build(tmp_path_factory.mktemp("house") / "data")
