"""kill -9 of the close at twenty random points: whoever closes again comes to the same tables."""

from __future__ import annotations

import random
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from openami.day import Site, close_all, collect
from openami.store.deployment import Folder

from .killed import killable
from .sites import FIRST, make_site, make_town, pushes

KILLS = 20
TABLES = (
    "validated",
    "validated_quality",
    "usage",
    "charges",
    "statements",
    "notices",
    "due",
    "balance",
)
DAYS: tuple[date, ...] = (FIRST, FIRST + timedelta(days=1))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    town = make_town()
    root = tmp_path_factory.mktemp("killed") / "data"
    site = make_site(root, town, pushes(town, lambda number, slot: (number, slot % 96) == (3, 40)))
    collect(site)
    site.rows.close()
    return root


def contents(folder: Path) -> dict[tuple[str, date], list[dict[str, Any]]]:
    site = Site.open(Folder(folder))
    found = {(table, day): site.lake.read(table, day, 0).to_pylist() for table in TABLES for day in DAYS}
    assert not site.lake.has("adjustments", DAYS[-1] + timedelta(days=1), 0), "nothing was told before the kill, so nothing is adjusted"
    site.rows.close()
    return found


def test_the_close_killed_anywhere_and_done_again_gives_the_same_tables(collected: Path, tmp_path: Path) -> None:
    with killable("close") as close:
        whole = Path(shutil.copytree(collected, tmp_path / "whole"))
        steps = int(close(whole, 0))
        expected = contents(whole)
        assert steps > 40
        for point in random.Random(11).sample(range(1, steps + 1), KILLS):
            folder = Path(shutil.copytree(collected, tmp_path / f"at-{point}"))
            assert close(folder, point) == "killed"
            site = Site.open(Folder(folder))
            close_all(site)
            site.rows.close()
            assert contents(folder) == expected, f"killed at step {point} of {steps}"
            shutil.rmtree(folder)
