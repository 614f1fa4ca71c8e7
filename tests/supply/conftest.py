"""One closed town for the session; every test works on a copy of its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openami.day import Site
from openami.fleet.town import Town
from openami.store.deployment import Folder

from .houses import POLICY, closed_site


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Town]:
    root = tmp_path_factory.mktemp("supply") / "town"
    site, town = closed_site(root)
    site.rows.close()
    return root, town


@pytest.fixture
def town(closed: tuple[Path, Town]) -> Town:
    return closed[1]


@pytest.fixture
def site(closed: tuple[Path, Town], tmp_path: Path) -> Iterator[Site]:
    shutil.copytree(closed[0], tmp_path / "town")
    opened = Site.open(Folder(tmp_path / "town"))
    yield Site(opened.folder, replace(opened.deployment, policy=POLICY), opened.rows, opened.lake)
    opened.rows.close()
