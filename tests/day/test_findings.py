"""What the audit writes down behind a close, as its readers see it: accounts that join, outages from gasps told to VEE, silence that is not, late
words that do the day again, faults by name."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all, collect
from openami.day.audit import audit
from openami.day.findings import record
from openami.day.found import Found
from openami.day.network import FOLDER, network_of, read_network
from openami.day.outages import tell_outages
from openami.day.span import spans
from openami.errors import InputError
from openami.readings import IMPORT_WH, MISSING, MISSING64, Quality
from openami.registry import NodeKind
from openami.store.deployment import Folder
from openami.store.heard import Heard, MeterEvent
from openami.store.rows import feeder, usage_point

from .sites import FIRST, make_site, make_town, pushes

SECOND = FIRST + timedelta(days=1)
OFF_SLOTS = range(40, 48)
"""On the second day nobody below the transformer has supply: two hours from ten o'clock."""


def gasp(serial: str, at_s: int, bit: int = 85) -> MeterEvent:
    return MeterEvent(serial, at_s, 0, bit, True, "supply", at_s + 5, "push")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two closed days; on the second an outage of the transformer with the homes that lie below it: its gasps and breaths, and no reading."""
    town = make_town()
    homes = {p.meter for p in town.points if p.kind is not NodeKind.FEEDER}
    out = {k for k, meter in enumerate(town.meters) if meter.serial in homes}
    off = {96 + slot for slot in OFF_SLOTS}
    site = make_site(tmp_path_factory.mktemp("findings") / "data", town, pushes(town, lambda number, slot: number in out and slot in off))
    starts = site.calendar.day_start(SECOND) + OFF_SLOTS[0] * 900
    serials = [town.meters[k].serial for k in sorted(out)]
    Heard(site.rows).note(
        events=[gasp(s, starts + k % 5) for k, s in enumerate(serials)]
        + [gasp(s, starts + 7200 - 60 + k % 5, 86) for k, s in enumerate(serials)]
    )
    collect(site)
    close_all(site)
    record(site)
    return site, serials


def test_days_join_to_the_audits_own_account(whole):
    site, _ = whole
    mine = {a.node: a for a in Found(site.lake).accounts(FIRST, SECOND)}
    for found in audit(site, [FIRST, SECOND]):
        for k in found.nodes:
            one = mine[found.joined.names[k]]
            assert one.loss_wh == (None if found.joined.loss_wh[k] == MISSING64 else found.joined.loss_wh[k])
            if one.loss_wh is not None:
                assert one.likely_wh == pytest.approx(found.joined.likely_wh[k])


def test_hours_add_up_to_the_day(whole):
    site, _ = whole
    found = Found(site.lake)
    for day in found.accounts(FIRST):
        assert sum(hour.in_wh for hour in found.hours(FIRST, day.node)) == day.in_wh


def test_gasps_make_an_outage_and_vee_knows_it(whole):
    site, serials = whole
    (outage,) = Found(site.lake).outages(FIRST, SECOND)
    assert (outage.evidence, outage.level) == ("gasp", "feeder") or (outage.evidence, outage.level) == ("gasp", "transformer")
    assert outage.customer_minutes == pytest.approx(outage.customers * 119, rel=0.01)
    block = site.lake.read_blocks("validated", SECOND, 0)[IMPORT_WH.name]
    index = site.index_of(0, SECOND)
    homes = [k for k, serial in enumerate(index.serials) if serial in serials and index.is_consumer[k]]
    marked = (block.quality[list(OFF_SLOTS)][:, homes] & np.uint32(Quality.OUTAGE)) != 0
    assert marked[:-1].all()
    assert (block.values[list(OFF_SLOTS)[:-1]][:, homes] == 0).all()


def test_hours_without_supply_are_nobodys_habit(whole):
    """What looks for suspects and places takes them as missing, not as nothing used."""
    site, serials = whole
    slots = [96 + slot for slot in OFF_SLOTS][:-1]
    (span,) = spans(site, SECOND, 0, 2)
    homes = [k for k, serial in enumerate(span.index.serials) if serial in serials and span.index.is_consumer[k]]
    assert (span.wh[np.ix_(slots, homes)] == MISSING).all()
    assert (span.wh[:96, homes] != MISSING).any(axis=0).all()


def test_reliability_counts_each_customer_once(whole):
    site, _ = whole
    found = Found(site.lake).reliability(FIRST, SECOND)
    assert found.saifi == pytest.approx(Found(site.lake).outages(FIRST, SECOND)[0].customers / found.customers)
    assert found.saidi_min == pytest.approx(found.saifi * found.caidi_min)
    assert found.maifi == 0


def test_telling_again_tells_nothing_new(whole):
    site, _ = whole
    assert tell_outages(site, [FIRST, SECOND], [0]) == 0


def test_recording_again_does_nothing_until_a_word_comes(whole, tmp_path):
    site = copy_of(whole[0], tmp_path)
    assert not record(site)
    Heard(site.rows).note(events=[gasp(whole[1][0], site.calendar.day_start(SECOND) + 80 * 900)])
    assert record(site)["recorded"] >= 1


def test_silence_alone_is_shown_and_not_told(tmp_path):
    town = make_town(seed=6)
    homes = {p.meter for p in town.points if p.kind is not NodeKind.FEEDER}
    out = {k for k, meter in enumerate(town.meters) if meter.serial in homes}
    site = make_site(tmp_path / "data", town, pushes(town, lambda number, slot: number in out and slot in range(140, 150)))
    collect(site)
    close_all(site)
    record(site)
    assert {o.evidence for o in Found(site.lake).outages(FIRST, SECOND)} == {"silence"}
    assert not site.lake.has("facts", SECOND, 0)


def test_word_of_an_outage_after_the_close_puts_the_day_right_and_posts_what_it_costs_less(tmp_path):
    """Closed with two hours of gaps estimated; then gasps and breaths arrive: the gaps were no use, and the next statement gives it back."""
    town = make_town(seed=6)
    homes = {p.meter for p in town.points if p.kind is not NodeKind.FEEDER}
    out = {k for k, meter in enumerate(town.meters) if meter.serial in homes}
    site = make_site(tmp_path / "data", town, pushes(town, lambda number, slot: number in out and slot in OFF_SLOTS))
    collect(site)
    close_all(site, days=[FIRST])
    before = site.lake.read_blocks("validated", FIRST, 0)[IMPORT_WH.name].values[list(OFF_SLOTS)[:-1]]
    starts = site.calendar.day_start(FIRST) + OFF_SLOTS[0] * 900
    Heard(site.rows).note(
        events=[gasp(s, starts + k % 5) for k, s in enumerate(sorted(homes))]
        + [gasp(s, starts + 7140 + k % 5, 86) for k, s in enumerate(sorted(homes))]
    )
    done = close_all(site)
    after = site.lake.read_blocks("validated", FIRST, 0)[IMPORT_WH.name].values[list(OFF_SLOTS)[:-1]]
    index = site.index_of(0, FIRST)
    assert (before[:, index.is_consumer] > 0).any()
    assert (after[:, index.is_consumer | index.is_transformer] == 0).all(), "customers and the transformer's own meter were dark"
    posted = site.lake.read("adjustments", SECOND, 0)
    assert done["reckoned"] == 1
    assert done["adjustments"] == posted.num_rows > 0
    assert sum(posted["amount_paise"].to_pylist()) < 0


def test_an_announced_outage_is_planned(whole, tmp_path):
    site = copy_of(whole[0], tmp_path)
    text = "node,start,end\nF1,2025-12-02T09:30+05:30,2025-12-02T13:00+05:30\n"
    feeder = Found(site.lake).outages(SECOND)[0].feeder
    (site.folder.root / "announced_outages.csv").write_text(text.replace("F1", feeder))
    record(site, anew=True)
    assert [o.planned for o in Found(site.lake).outages(SECOND)] == [True]
    assert Found(site.lake).reliability(SECOND, planned=False).saifi == 0


def test_the_network_folder_draws_what_the_registry_does_not_have(whole, tmp_path):
    site = copy_of(whole[0], tmp_path)
    index = site.index_of(0, SECOND)
    feeder = index.feeders[0]
    write(site, "nodes.csv", "name,level,rating_kva", "S1,substation,")
    write(site, "edges.csv", "child,parent,since,until", f"{feeder},S1,2020-01-01,")
    write(site, "assessed.csv", "node,kwh_per_day", f"{index.transformers[0]},24")
    network = network_of(site, index, SECOND)
    assert network.tree.names[network.tree.parent[network.tree.names.index(feeder)]] == "S1"
    assert network.assessed_wh[network.tree.names.index(index.transformers[0])] == 24_000
    before = {a.node: a for a in Found(site.lake).accounts(FIRST)}
    record(site, anew=True)
    after = {a.node: a for a in Found(site.lake).accounts(FIRST)}
    dt = index.transformers[0]
    assert before[dt].loss_wh - after[dt].loss_wh == 24_000
    assert after[dt].spread_wh["assessed"] > 0


def test_an_announcement_at_no_node_is_named(whole, tmp_path):
    site = copy_of(whole[0], tmp_path)
    index = site.index_of(0, SECOND)
    known = (index.feeders[0], index.transformers[0], f"{index.transformers[0]} R")
    times = "2025-12-02T09:30+05:30,2025-12-02T13:00+05:30"
    (site.folder.root / "announced_outages.csv").write_text(
        "\n".join(["node,start,end", *(f"{name},{times}" for name in (*known, "T-1"))]) + "\n"
    )
    told = CliRunner().invoke(app, ["losses", "outages", "--data", str(site.folder.root)], catch_exceptions=False).output
    assert [line.split(":")[1].split()[0] for line in told.splitlines() if "!" in line] == ["T-1"]


@pytest.mark.parametrize(("rating", "share"), [("1000", True), ("-100", False)])
def test_a_rating_of_the_folder_stands_in_place_of_the_registrys(whole, tmp_path, rating, share):
    site = copy_of(whole[0], tmp_path)
    (before,) = Found(site.lake).loading(SECOND)
    write(site, "nodes.csv", "name,level,rating_kva", f"{before.transformer},transformer,{rating}")
    record(site, anew=True)
    (after,) = Found(site.lake).loading(SECOND)
    wanted = pytest.approx(before.peak_share * before.rating_kva / 1000) if share else None
    assert after.peak_share == wanted


def test_a_substation_of_which_not_all_is_told_tells_no_loss_of_its_wires(whole, tmp_path):
    """What leaves it for a feeder that nobody tells of would look like a loss."""
    site = copy_of(whole[0], tmp_path)
    with site.rows.begin(writing=True) as connection:
        connection.execute(feeder.insert().values(name="FAR", substation="S1"))
    here = site.index_of(0, SECOND)
    near = here.feeders[int(here.feeder[0])]
    home = here.serials[int(np.flatnonzero(here.is_consumer)[0])]
    write(site, "nodes.csv", "name,level,rating_kva", "S1,substation,", "S2,substation,")
    write(site, "edges.csv", "child,parent,since,until", f"{near},S1,,", "FAR,S1,,", "FAR,S2,,2020-01-01")
    write(site, "meters.csv", "meter,node,since,until", f"{home},S1,,")
    found, wires, area = audit(site, [SECOND])
    row = wires.joined.names.index("S1")
    assert (wires.joined.loss_wh[row], wires.joined.coverage[row]) == (MISSING64, 0)
    assert any(said.startswith("S1 feeds FAR, of which nothing is told") for said in wires.doubts)
    assert not [said for said in wires.doubts if said.startswith("S2")], "that edge has ended"
    assert found.joined.loss_wh[found.joined.names.index(near)] != MISSING64
    assert 0 < area.joined.coverage[area.joined.names.index("S1")] <= 0.5, "half of its feeders have told"
    record(site, [SECOND], anew=True)
    told = {a.level: a.loss_wh for a in Found(site.lake).accounts(SECOND, nodes={"S1"})}
    assert told["substation"] is None
    assert told["substation area"] is not None


def write(site: Site, name: str, *lines: str) -> None:
    folder = site.folder.root / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


WRONG = {
    "cycle": ({"nodes.csv": ["name,level,rating_kva", "A,substation,", "B,substation,"],
               "edges.csv": ["child,parent,since,until", "A,B,,", "B,A,,"]}, "A feeds itself"),
    "orphan": ({"edges.csv": ["child,parent,since,until", "{home},NOWHERE,,"]}, "{home} hangs on NOWHERE"),
    "two parents": ({"nodes.csv": ["name,level,rating_kva", "T9,transformer,63"],
                     "edges.csv": ["child,parent,since,until", "{home},T9,,", "{home},{dt},,"]}, "meter {home} hangs on"),
    "transformers in a ring": ({"nodes.csv": ["name,level,rating_kva", "T9,transformer,63"],
                                "edges.csv": ["child,parent,since,until", "{dt},T9,,", "T9,{dt},,"]}, "{dt} feeds itself"),
    "transformer with two parents": ({"nodes.csv": ["name,level,rating_kva", "F9,feeder,"],
                                      "edges.csv": ["child,parent,since,until", "{dt},F9,,", "{dt},{feeder},,"]}, "{dt} is fed from F9 and"),
    "transformer fed from nowhere": ({"edges.csv": ["child,parent,since,until", "{dt},{feeder},2020-01-01,2021-01-01"]},
                                     "{dt} is fed from nowhere on"),
    "meter of two nodes": ({"nodes.csv": ["name,level,rating_kva", "T9,transformer,63"],
                           "meters.csv": ["meter,node,since,until", "{own},{dt},,", "{own},T9,,"]}, "meter {own} measures {dt} and T9"),
    "rating": ({"nodes.csv": ["name,level,rating_kva", "{dt},transformer,-100"]}, "{dt} is rated -100 kVA"),
    "meter missing": ({"meters.csv": ["meter,node,since,until", "NO-SUCH,{dt},,"]}, "transformer {dt} has no meter"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_records_that_contradict_themselves_are_named_and_the_rest_is_told(whole, tmp_path, case):
    site = copy_of(whole[0], tmp_path)
    index = site.index_of(0, SECOND)
    words = {
        "home": index.serials[int(np.flatnonzero(index.is_consumer)[0])],
        "own": index.serials[int(np.flatnonzero(index.is_transformer)[0])],
        "dt": index.transformers[0],
        "feeder": index.feeders[index.transformer_feeder[0]],
    }
    files, sentence = WRONG[case]
    for name, lines in files.items():
        write(site, name, *(line.format(**words) for line in lines))
    result = CliRunner().invoke(app, ["losses", "--data", str(site.folder.root), "--json"])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert any(sentence.format(**words) in row.get("doubt", "") for row in rows)
    assert any(row.get("loss_wh") is not None for row in rows)
    own = {row["node"]: row for row in rows if "node" in row}
    lowered = {"orphan": "dt", "two parents": "dt"}.get(case, "" if case in ("cycle", "rating") else "feeder")
    if lowered:
        place = index.transformers[index.transformer[index.is_consumer.argmax()]] if lowered == "dt" else words["feeder"]
        usual = next(account for account in Found(site.lake).accounts(SECOND) if account.node == place)
        assert own[place]["coverage"] < usual.coverage
    if case == "meter missing":
        assert (own[words["dt"]]["loss_wh"], own[words["dt"]]["coverage"]) == (None, 0.0)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"child,parent,since,until\nT1,F1,2026-01-02,2026-01-01\n", r"edges\.csv, line 2: it holds on no day"),
        (b"child,parent,from,to\nT1,F1,2026-01-02,\n", r"edges\.csv: its first line names no column 'since'"),
        (b"kind,elter\nT1,F1\n", r"edges\.csv: its first line names no column 'child'"),
        (b"child,parent,since,until\n\x80\xff,F1,,\n", r"edges\.csv: this is no text in UTF-8"),
    ],
)
def test_edges_that_cannot_be_meant_are_refused(tmp_path, octets, said):
    (tmp_path / "edges.csv").write_bytes(octets)
    with pytest.raises(InputError, match=said):
        read_network(tmp_path)


def test_a_file_that_cannot_be_read_names_its_line(tmp_path):
    (tmp_path / "nodes.csv").write_text("name,level,rating_kva\nT1,transformer,100\nT2,pole,100\n")
    with pytest.raises(InputError, match=r"nodes\.csv, line 3: 'pole' is no level; it is company, division, substation"):
        read_network(tmp_path)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_findings_are_exported(whole, tmp_path, form):
    site, _ = whole
    told = CliRunner().invoke(
        app, ["losses", "export", "outages", "--days", "2", "--day", FIRST.isoformat(), "--format", form, "--out", str(tmp_path),
              "--data", str(site.folder.root)]
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert (tmp_path / f"outages.{form}").exists()
    if form == "csv":
        rows = list(csv.DictReader((tmp_path / "outages.csv").open()))
        assert [row["day"] for row in rows] == [SECOND.isoformat()]


def test_a_meter_that_nobody_can_place_is_named_and_lowers_the_coverage_above(whole, tmp_path):
    """Its usage point ended the day before; it goes on counting."""
    site = copy_of(whole[0], tmp_path)
    home = site.index_of(0, SECOND)
    meter = home.serials[int(np.flatnonzero(home.is_consumer)[0])]
    with site.rows.begin(writing=True) as connection:
        connection.execute(usage_point.update().where(usage_point.c.meter == meter).values(until=SECOND))
    told = CliRunner().invoke(app, ["losses", "--data", str(site.folder.root), "--json"], catch_exceptions=False)
    rows = [json.loads(line) for line in told.output.splitlines()]
    (feeder,) = (row for row in rows if row.get("level") == "feeder")
    usual = next(account for account in Found(site.lake).accounts(SECOND) if account.node == feeder["node"])
    assert [row["doubt"] for row in rows if meter in row.get("doubt", "")] == [
        f"meter {meter} hangs nowhere; its energy counts at no node, and lowers the coverage of {feeder['node']}"
    ]
    assert feeder["coverage"] < usual.coverage
    assert feeder["loss_wh"] == usual.loss_wh, "a feeder's ledger is its meter less its transformers' meters"
    assert feeder["likely_wh"] < usual.likely_wh


def copy_of(site: Site, where) -> Site:
    """A copy of a data folder, to be changed."""
    shutil.copytree(site.folder.root, where / "copy")
    return Site.open(Folder(where / "copy"))
