"""A deployment whose lake is in an S3-compatible store (moto's server, a process of its own): the whole way of a day is the same as in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import openami
from engines_s3 import BUCKET, KEYS, served
from openami.day import Site, close_all, collect
from openami.fleet.town import Town
from openami.store.deployment import Folder
from openami.store.history import History

from .sites import FIRST, make_site, make_town, pushes

TABLES = ("raw", "validated", "validated_quality", "usage", "charges", "statements", "notices", "due", "balance")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town(days=1)


def closed(root: Path, town: Town, server: str | None) -> Site:
    make_site(root, town, pushes(town)).rows.close()
    folder = Folder(root)
    if server:
        lake = {
            "lake": f"s3://{BUCKET}/town",
            "lake_endpoint": server,
            "lake_access_key": "env:LAKE_KEY",
            "lake_secret_key": "env:LAKE_SECRET",
        }
        folder.save(replace(folder.load(), **lake))
    site = Site.open(folder)
    collect(site)
    close_all(site)
    return site


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, town: Town, server: str) -> Iterator[tuple[Site, Site]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKE_KEY", KEYS.access)
        patch.setenv("LAKE_SECRET", KEYS.secret)
        yield closed(tmp_path_factory.mktemp("here") / "data", town, None), closed(tmp_path_factory.mktemp("there") / "data", town, server)


def test_every_table_is_the_same(sites):
    here, there = sites
    for table in TABLES:
        assert there.lake.read(table, FIRST, 0).equals(here.lake.read(table, FIRST, 0)), table


def test_nothing_of_the_lake_is_left_in_the_folder(sites):
    _, there = sites
    assert not there.folder.lake.exists()
    assert KEYS.secret not in (there.folder.root / "openami.toml").read_text("utf-8")


def test_analysts_read_from_it_also_through_the_history(sites):
    here, there = sites
    assert len(History(there.lake).rebuild()) > 0
    span = (FIRST, FIRST + timedelta(days=7))
    answers = [openami.open(site.folder.root).readings("import_wh", days=span, meters=town_meters(site)) for site in (here, there)]
    np.testing.assert_array_equal(answers[0].values, answers[1].values)
    np.testing.assert_array_equal(answers[0].quality, answers[1].quality)
    assert (answers[0].numpy()[:96] >= 0).all()


def town_meters(site: Site) -> list[str]:
    return [meter.serial for meter in site.rows.meters()[:3]]


def test_the_console_reads_from_it(sites):
    from openami.web.closed_days import ClosedDays

    here, there = sites
    local, remote = (ClosedDays(site).on(FIRST) for site in (here, there))
    assert local.consumers_wh > 0
    assert (remote.consumers_wh, remote.money, remote.nodes) == (local.consumers_wh, local.money, local.nodes)
