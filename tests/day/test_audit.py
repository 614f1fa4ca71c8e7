"""The account of closed days: the same loss as the close's own balance, with an interval around it; the command tells it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all, collect
from openami.day.audit import audit
from openami.errors import DataError, InputError
from openami.losses.network import Level
from openami.readings import MISSING64

from .sites import FIRST, make_site, make_town, pushes


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """Two closed days of twenty homes; one home misses an afternoon."""
    town = make_town()
    made = make_site(tmp_path_factory.mktemp("audit") / "data", town, pushes(town, lambda number, slot: number == 2 and 50 <= slot < 60))
    collect(made)
    close_all(made)
    return made


def losses(site: Site, *days: date) -> dict[tuple[str, str, bool], int | None]:
    """What the audit says is lost over the days, by level, node, and whether it is that of the node with all below it."""
    return {
        (str(found.joined.levels[k]), found.joined.names[k], found.area): None if loss == MISSING64 else int(loss)
        for found in audit(site, list(days))
        for k in found.nodes
        for loss in (found.joined.loss_wh[k],)
    }


def test_the_loss_is_the_closes_own(site):
    rows = [row for shard in site.rows.shards() for row in site.lake.read("balance", FIRST, shard).to_pylist()]
    closed = {(row["kind"], row["node"], False): row["loss_wh"] for row in rows if row["hour"] is None}
    assert {node: loss for node, loss in losses(site, FIRST).items() if not node[2]} == closed


def test_the_interval_lies_around_the_likely_loss_and_two_days_add_up(site):
    days = [FIRST, FIRST + timedelta(days=1)]
    single, both = [losses(site, day) for day in days], losses(site, *days)
    known = {node for node, loss in both.items() if loss is not None}
    assert {(level, area) for level, _, area in known} == {(Level.FEEDER, False), (Level.TRANSFORMER, False), (Level.SUBSTATION, True)}
    assert all(both[node] == single[0][node] + single[1][node] for node in known)
    for found in audit(site, days):
        j = found.joined
        assert all(j.low_wh[k] < j.likely_wh[k] < j.high_wh[k] for k in found.nodes if j.loss_wh[k] != MISSING64)


def test_a_day_that_is_not_closed_is_named(site):
    with pytest.raises(DataError, match="close that day first"):
        next(audit(site, [FIRST, FIRST + timedelta(days=30)]))


def run(site: Site, *words: str):
    return CliRunner().invoke(app, ["losses", "--data", str(site.folder.root), *words])


def test_the_command_tells_every_node(site):
    told = run(site, "--days", "2", "--day", FIRST.isoformat())
    assert told.exit_code == 0, told.output
    assert "90 % interval" in told.output
    rows = [json.loads(line) for line in run(site, "--json").output.splitlines()]
    assert {row["node"] for row in rows} == {j.joined.names[k] for j in audit(site, [FIRST]) for k in j.nodes}
    assert all(row["low_wh"] <= row["likely_wh"] <= row["high_wh"] for row in rows if row["loss_wh"] is not None)


@pytest.mark.parametrize("words", [("--day", "2031-01-01"), ("--days", "0"), ("--day", "yesterday")])
def test_words_that_cannot_be_meant_are_refused(site, words):
    assert isinstance(run(site, *words).exception, InputError)


def test_a_folder_without_closed_days_says_what_to_do(tmp_path: Path):
    town = make_town()
    empty = make_site(tmp_path / "data", town)
    told = run(empty)
    assert isinstance(told.exception, InputError)
    assert "close one first" in str(told.exception)
