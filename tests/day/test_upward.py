"""A substation whose feeders lie in two shards: its losses from the shards' sums, in lake, command line and after late word."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all, collect
from openami.day.findings import record
from openami.day.found import Found
from openami.day.network import FOLDER
from openami.day.shares import AREA
from openami.fleet.town import build_town, measure
from openami.readings import IMPORT_WH, MISSING
from openami.registry import NodeKind

from .sites import FIRST, copy_of, make_site, pushes

SECOND = FIRST + timedelta(days=1)
S = "SS-1 33/11 kV"


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Site:
    """Two feeders, a shard each, of one substation."""
    town = build_town(5, 36, FIRST, 2, ("BR-DS2",))
    measure(town)
    site = make_site(tmp_path_factory.mktemp("upward") / "data", town, pushes(town))
    collect(site)
    close_all(site)
    record(site)
    assert site.rows.shards() == [0, 1]
    return site


@pytest.fixture
def site(closed, tmp_path) -> Site:
    return copy_of(closed, tmp_path)


def write(site: Site, name: str, *lines: str) -> None:
    folder = site.folder.root / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


def told(site: Site, *words: str) -> list[dict]:
    result = CliRunner().invoke(app, ["losses", *words, "--json", "--data", str(site.folder.root)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def own_wh(site: Site, kind: NodeKind) -> dict[str, int]:
    """What each node's own meter counted on the second day, and under "consumers" all homes."""
    found: dict[str, int] = {}
    for shard in site.rows.shards():
        index = site.index_of(shard, SECOND)
        values = site.lake.read_blocks("validated", SECOND, shard)[IMPORT_WH.name].values
        for k in range(index.meters):
            there = values[:, k]
            wh = int(there[there != MISSING].sum())
            if kind is NodeKind.FEEDER and index.is_feeder[k]:
                found[index.feeders[index.feeder[k]]] = wh
            elif kind is NodeKind.TRANSFORMER and index.is_transformer[k]:
                found[index.transformers[index.transformer[k]]] = wh
            elif kind is NodeKind.CONSUMER and index.is_consumer[k]:
                found["consumers"] = found.get("consumers", 0) + wh
    return found


def test_without_an_incomer_the_area_is_from_the_feeders_heads_to_the_homes(closed):
    (area,) = Found(closed.lake).accounts(SECOND, nodes={S})
    heads, homes = own_wh(closed, NodeKind.FEEDER), own_wh(closed, NodeKind.CONSUMER)
    assert (area.level, area.in_wh, area.out_wh) == ("substation area", sum(heads.values()), homes["consumers"])
    assert area.loss_wh == area.in_wh - area.out_wh
    assert area.low_wh < area.likely_wh < area.high_wh
    assert 0.9 < area.coverage <= 1
    assert next(row for row in told(closed) if row.get("node") == S)["loss_wh"] == area.loss_wh


def test_hours_add_up_to_the_day_and_days_to_the_span(closed):
    found = Found(closed.lake)
    hours = found.hours(SECOND, S)
    (day,) = found.accounts(SECOND, nodes={S})
    assert len(hours) == 24
    assert sum(hour.in_wh for hour in hours) == day.in_wh
    (both,) = found.accounts(FIRST, SECOND, nodes={S})
    assert both.in_wh == day.in_wh + found.accounts(FIRST, nodes={S})[0].in_wh
    (asked,) = (row for row in told(closed, "--day", FIRST.isoformat(), "--days", "2") if row.get("node") == S)
    assert (asked["in_wh"], asked["loss_wh"]) == (both.in_wh, both.loss_wh)


def test_the_incomer_in_one_shard_measures_feeders_of_both(site):
    """Here a transformer's meter stands in for it."""
    serial = next(p.meter for p in site.rows.usage_points() if p.kind is NodeKind.TRANSFORMER)
    dt = next(p.transformer for p in site.rows.usage_points() if p.meter == serial)
    write(site, "meters.csv", "meter,node,since,until", f"{serial},{S},,")
    record(site)
    wires, area = Found(site.lake).accounts(SECOND, nodes={S})
    incomer, heads = own_wh(site, NodeKind.TRANSFORMER)[dt], own_wh(site, NodeKind.FEEDER)
    assert (wires.level, wires.in_wh, wires.out_wh) == ("substation", incomer, sum(heads.values()))
    assert (area.level, area.in_wh) == ("substation area", incomer)
    spread = area.spread_wh["class"]
    assert 0 < spread < wires.spread_wh["class"], "the heads' errors are none of the area's"


def test_a_shard_that_is_not_recorded_is_missed_and_its_late_word_makes_the_sum_new(site):
    whole = Found(site.lake).accounts(SECOND, nodes={S})[0]
    bare = Site.open(type(site.folder)(site.folder.root))
    for name in ("loss_account", "loss_share", "findings"):
        _remove(site, name)
    record(bare, [SECOND], [0])
    (half,) = Found(bare.lake).accounts(SECOND, nodes={S})
    assert half.in_wh < whole.in_wh
    assert half.coverage <= 0.5
    (doubt,) = Found(bare.lake).doubts(SECOND)
    assert doubt.startswith(f"{S} feeds F2, of which nothing is told")
    record(bare, [SECOND])
    assert Found(bare.lake).accounts(SECOND, nodes={S}) == [whole]
    assert Found(bare.lake).doubts(SECOND) == ()


@pytest.mark.parametrize("incomer", [False, True], ids=["from-heads", "from-an-incomer"])
def test_an_unmetered_load_below_one_shards_transformer_counts_once_above(site, incomer):
    """The other shard knows of the transformer and of its load too, but neither is its own."""
    dt = next(t.name for t in site.rows.transformers() if t.feeder == "F2")
    if incomer:
        meters = [p.meter for p in site.rows.usage_points() if p.kind is NodeKind.TRANSFORMER and p.transformer != dt]
        write(site, "meters.csv", "meter,node,since,until", f"{meters[0]},{S},,")
        record(site)
    before = {(one.level, one.node): one.loss_wh for one in Found(site.lake).accounts(SECOND)}
    write(site, "assessed.csv", "node,kwh_per_day", f"{dt},24")
    record(site)
    after = {(one.level, one.node): one.loss_wh for one in Found(site.lake).accounts(SECOND)}
    fell = {key: before[key] - loss_wh for key, loss_wh in after.items() if before[key] != loss_wh}
    assert fell == {("transformer", dt): 24_000, (f"substation{AREA}", S): 24_000}


def _remove(site: Site, table: str) -> None:
    shutil.rmtree(site.lake.root / table)


def test_what_a_correction_of_one_shard_changes_is_in_the_sum_at_once(site):
    before = Found(site.lake).accounts(SECOND, nodes={S})[0]
    blocks = site.lake.read_blocks("validated", SECOND, 1)
    values = blocks[IMPORT_WH.name].values
    index = site.index_of(1, SECOND)
    home = int(index.is_consumer.argmax())
    values[10, home] = 100 if values[10, home] == MISSING else values[10, home] + 1_000
    site.lake.write_blocks("validated", list(blocks.values()))
    assert record(site, [SECOND])["recorded"] == 1, "of one shard alone"
    after = Found(site.lake).accounts(SECOND, nodes={S})[0]
    assert after.out_wh - before.out_wh in (100, 1_000)
    assert record(site, [SECOND])["recorded"] == 0


def test_a_transformer_that_the_folder_hangs_on_a_feeder_of_another_shard_counts_there(site):
    at_home = {row["node"]: row for row in told(site)}
    moved = next(t.name for t in site.rows.transformers() if t.feeder == "F2")
    write(site, "edges.csv", "child,parent,since,until", f"{moved},F1,,")
    rows = {row["node"]: row for row in told(site) if "node" in row}
    assert rows["F1"]["out_wh"] == at_home["F1"]["out_wh"] + at_home[moved]["in_wh"]
    assert rows["F2"]["out_wh"] == at_home["F2"]["out_wh"] - at_home[moved]["in_wh"]
    assert rows[S]["loss_wh"] == at_home[S]["loss_wh"], "the substation as a whole takes and gives what it did"


UNKNOWN = {
    "a meter": ("edges.csv", "child,parent,since,until", "XMA9999999,{dt},,", "dt"),
    "a transformer": ("edges.csv", "child,parent,since,until", "DT-99,F1,,", "F1"),
    "a feeder": ("edges.csv", "child,parent,since,until", "F-99,{s},,", "s"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_child_that_nobody_knows_is_named_and_lowers_the_coverage_where_it_is_to_hang(site, case):
    name, head, line, where = UNKNOWN[case]
    words = {"dt": next(t.name for t in site.rows.transformers() if t.feeder == "F1"), "s": S, "F1": "F1"}
    usual = {row["node"]: row for row in told(site)}
    write(site, name, head, line.format(**words))
    rows = told(site)
    child = line.split(",")[0]
    assert [row["doubt"] for row in rows if row.get("doubt", "").startswith(f"edges.csv: {child} hangs on {words[where]}")]
    own = {row["node"]: row for row in rows if "node" in row}
    assert own[words[where]]["coverage"] < usual[words[where]]["coverage"]
    assert own["F2"]["loss_wh"] == usual["F2"]["loss_wh"] is not None, "the rest is told"


def test_another_rating_of_a_transformer_is_no_fault_in_the_other_shard(site):
    """Each shard's file is the whole deployment's; what it says of a node of another shard is that shard's matter."""
    usual = told(site)
    own = {t.feeder: t.name for t in site.rows.transformers()}
    write(site, "nodes.csv", "name,level,rating_kva", f"{own['F1']},transformer,160", f"{own['F2']},transformer,-5", "F2,feeder,")
    rows = told(site)
    assert [row["doubt"] for row in rows if "doubt" in row] == [f"{own['F2']} is rated -5 kVA; its loading is not told"]
    assert [row for row in rows if "node" in row] == usual


def test_a_meter_that_nobody_knows_measures_nothing_and_is_named(site):
    write(site, "meters.csv", "meter,node,since,until", f"NO-SUCH,{S},,")
    assert [row for row in told(site) if "NO-SUCH is to measure" in row.get("doubt", "")]


def test_a_ring_through_a_substation_is_named(site):
    write(site, "edges.csv", "child,parent,since,until", f"{S},F1,,")
    rows = told(site)
    assert f"F1 feeds its own substation {S}; it is taken to be fed from nowhere" in [row.get("doubt") for row in rows]
    assert {row["node"]: row for row in rows if "node" in row}["F2"]["loss_wh"] is not None


def test_divisions_and_the_company_are_sums_of_their_substations(site):
    write(site, "nodes.csv", "name,level,rating_kva", "East,division,", "All,company,")
    write(site, "edges.csv", "child,parent,since,until", f"{S},East,,", "East,All,,")
    area = {row["node"]: row["loss_wh"] for row in told(site) if row.get("level", "").endswith("area")}
    assert len(area) == 3
    assert len({*area.values()}) == 1


def test_whoever_sees_one_feeder_sees_no_substation(closed):
    assert {account.feeder for account in Found(closed.lake).accounts(SECOND, feeders={"F1"})} == {"F1"}
