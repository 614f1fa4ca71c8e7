"""What else the audit keeps of closed days: technical loss, AT&C from the lake's own money, meters' errors as told, tomorrow, feeders at a time."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, span
from openami.day.found import Found
from openami.day.meter_errors import Said, errors_of
from openami.day.network import FOLDER
from openami.day.sold import feeder_books
from openami.day.suspected import look_back
from openami.day.tomorrow import tomorrow
from openami.errors import InputError
from openami.losses.atc import atc, method_of
from openami.losses.network import tree_of_index
from openami.readings import IMPORT_WH, Quality

from .sites import FIRST, copy_of, make_audited

SECOND = FIRST + timedelta(days=1)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    return make_audited(tmp_path_factory.mktemp("kept") / "data", seed=9)


@pytest.fixture
def site(closed, tmp_path):
    return copy_of(closed, tmp_path)


def run(site: Site, *words: str) -> list[dict]:
    told = CliRunner().invoke(app, ["losses", *words, "--json", "--data", str(site.folder.root)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return [json.loads(line) for line in told.output.splitlines()]


def test_wires_lose_a_part_of_what_is_lost_and_its_interval_holds_it(closed):
    rows = Found(closed.lake).technical(SECOND)
    assert {row.level for row in rows} == {"feeder", "transformer"}
    assert all(0 <= row.low_wh <= row.technical_wh <= row.high_wh <= row.in_wh for row in rows)
    assert rows[0].of(2 * rows[0].in_wh)[0] == pytest.approx(2 * rows[0].technical_wh)


def test_heat_is_told_where_the_air_is_known_and_phases_and_classes_always(site):
    assert {(row.hot_spot_c, row.ageing) for row in Found(site.lake).loading(SECOND)} == {(None, None)}
    (row,) = Found(site.lake).loading(SECOND)
    assert 0 <= row.unbalance <= 2
    assert sum(json.loads(row.peak_by_class).values()) == pytest.approx(1, abs=1e-3)
    folder = site.folder.root / FOLDER
    folder.mkdir()
    air = [f"{day},{hour},{celsius}" for day, celsius in ((FIRST, 20), (SECOND, 40)) for hour in range(24)]
    (folder / "temperature.csv").write_text("\n".join(["day,hour,celsius", *air]) + "\n")
    look_back(site, SECOND, 0)
    (warm,) = Found(site.lake).loading(SECOND)
    assert 40 < warm.hot_spot_c < 160
    (folder / "temperature.csv").write_text("day,hour,celsius\n2025-12-01,noon,20\n")
    with pytest.raises(InputError, match=r"temperature\.csv, line 2"):
        look_back(site, SECOND, 0)


def test_books_are_the_statements_own(closed):
    days = [FIRST, SECOND]
    books = feeder_books(closed, days)
    rows = [
        row
        for day in days
        for shard in closed.lake.files("statements", day)
        for row in closed.lake.read("statements", day, shard).to_pylist()
    ]
    sold = sum(row["wh"] for row in rows if not row["held"])
    assert sum(b.books.sold for b in books) == pytest.approx(sold / 1000, abs=1)
    assert sum(sum(b.category_kwh.values()) for b in books) == pytest.approx(sold / 1000, abs=1)
    paid = sum(row["recharges_paise"] for row in rows)
    assert sum(atc(b.books, method_of(2025)).realised_paise for b in books) == paid
    assert sum(b.consumers for b in books) == len({row["account"] for row in rows})


def test_what_the_lake_cannot_know_is_told_in_a_file(site):
    feeder = feeder_books(site, [FIRST])[0].feeder
    before = run(site, "atc", "--day", FIRST.isoformat())[0]
    (site.folder.root / "books.csv").write_text(f"feeder,name,amount\n{feeder},subsidy_received,100\n")
    after = run(site, "atc", "--day", FIRST.isoformat())[0]
    assert after["realised_paise"] == before["realised_paise"] + 10_000
    for line in (f"{feeder},luck,1", f"{feeder},sold,many", "NOWHERE,sold,1"):
        (site.folder.root / "books.csv").write_text(f"feeder,name,amount\n{line}\n")
        with pytest.raises(InputError, match=r"books\.csv"):
            feeder_books(site, [FIRST])


def test_the_quarter_is_a_file_whose_feeders_add_up(site, tmp_path):
    path = tmp_path / "q.csv"
    told = CliRunner().invoke(
        app, ["losses", "quarter", "2025", "3", "--out", str(path), "--data", str(site.folder.root)], catch_exceptions=False
    )
    assert "2 of its 92 days are closed" in told.output
    rows = [row for row in csv.reader(path.open(newline="")) if row]
    at = next(k for k, row in enumerate(rows) if row[0] == "level")
    entities = [dict(zip(rows[at], row, strict=True)) for row in rows[at + 1 :] if len(row) == len(rows[at])]
    total = {level: sum(int(e["sold_kwh"]) for e in entities if e["level"] == level) for level in ("discom", "division", "feeder")}
    assert len({*total.values()}) == 1


def test_the_quarter_without_a_file_goes_to_the_terminal(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    told = CliRunner().invoke(app, ["losses", "quarter", "2025", "3", "--data", str(site.folder.root)], catch_exceptions=False)
    assert told.stdout.splitlines()[0] == "account,quarterly energy account"
    assert "2 of its 92 days are closed" in told.stderr
    assert sorted(tmp_path.iterdir()) == before


def write_errors(site: Site, *lines: str) -> None:
    folder = site.folder.root / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "errors.csv").write_text("\n".join(("what,name,class_percent,clock_s", *lines)) + "\n")


def class_spread(site: Site) -> float:
    return next(row for row in run(site, "--day", FIRST.isoformat()) if row.get("level") == "transformer" and row["loss_wh"] is not None)[
        "spread_wh"
    ]["class"]


def test_the_nearest_word_on_a_meters_class_holds(site):
    index = site.index_of(0, FIRST)
    models = {m.serial: m.model for m in site.rows.meters()}
    spreads = [class_spread(site)]
    for line in ("use,transformer,2,", f"model,{models[index.serials[int(np.flatnonzero(index.is_transformer)[0])]]},4,"):
        write_errors(site, line)
        spreads.append(class_spread(site))
    assert all(narrow < wide for narrow, wide in pairwise(spreads))
    write_errors(site, "use,transformer,2,", *(f"meter,{index.serials[k]},0," for k in np.flatnonzero(index.is_transformer)))
    assert class_spread(site) < spreads[0]


def test_the_class_on_a_nameplate_narrows_the_interval_unless_the_file_says_otherwise(site, tmp_path):
    index = site.index_of(0, FIRST)
    network = np.flatnonzero(index.is_transformer)
    assumed, path = class_spread(site), tmp_path / "classes.csv"
    path.write_text("serial,accuracy_class\n" + "".join(f"{index.serials[k]},0.2\n" for k in network))
    told = CliRunner().invoke(app, ["losses", "classes", str(path), "--data", str(site.folder.root)], catch_exceptions=False)
    assert f"{network.size} classes written down" in told.output
    assert site.rows.classes(0) == dict.fromkeys(network.tolist(), 0.2)
    assert {m.accuracy_class for m in site.rows.meters() if m.serial in {index.serials[k] for k in network}} == {0.2}
    plated = class_spread(site)
    assert plated < assumed
    write_errors(site, "use,transformer,2,")
    assert class_spread(site) == plated, "the nameplate is nearer than the use"
    write_errors(site, *(f"meter,{index.serials[k]},2," for k in network))
    assert class_spread(site) > assumed


@pytest.mark.parametrize(
    ("lines", "said"),
    [(["NO-SUCH,0.5"], "no meter NO-SUCH"), (["{home},0"], "line 2: {home}: '0' is no accuracy class"),
     (["{home},fine"], "'fine' is no accuracy class"), (["{home},1", "{home},1"], "line 3: {home}: stands twice"), ([",1"], "no meter")],
)  # fmt: skip
def test_classes_that_cannot_be_meant_are_refused_and_none_is_written(site, tmp_path, lines, said):
    index = site.index_of(0, FIRST)
    home = index.serials[int(np.flatnonzero(index.is_consumer)[0])]
    other = index.serials[int(np.flatnonzero(index.is_consumer)[1])]
    path = tmp_path / "classes.csv"
    path.write_text("\n".join(["serial,accuracy_class", *(line.format(home=home) for line in lines), f"{other},1"]) + "\n")
    told = CliRunner().invoke(app, ["losses", "classes", str(path), "--data", str(site.folder.root)])
    assert isinstance(told.exception, InputError)
    assert said.format(home=home) in str(told.exception)
    assert site.rows.classes(0) == {}


@pytest.mark.parametrize("line", ["use,transformer,two,", "use,pole,1,", "weather,x,1,", "meter,,1,", "use,feeder,-1,"])
def test_a_line_on_errors_that_cannot_be_read_is_named(site, line):
    write_errors(site, line)
    with pytest.raises(InputError, match=r"errors\.csv, line 2"):
        run(site, "--day", FIRST.isoformat())


def test_a_place_that_was_looked_at_is_as_doubtful_as_was_found(site):
    """What the look of the first day found holds for the second day, and not for the first."""
    look_back(site, FIRST, 0)
    index = site.index_of(0, SECOND)
    looked = {row["serial"]: row["doubt"] for row in site.lake.read("mapping_doubts", FIRST, 0).to_pylist()}
    energy = [site.lake.read_blocks("validated", day, 0)[IMPORT_WH.name] for day in (FIRST, SECOND)]
    first, second = (errors_of(site, index, tree_of_index(index), each, Said({})).wrong_node for each in energy)
    homes = np.flatnonzero(index.is_consumer)
    assert first[homes].tolist() == pytest.approx([0.01] * homes.size)
    assert second[homes].tolist() == pytest.approx([min(looked[index.serials[k]], 0.5) for k in homes])
    assert not second[~index.is_consumer].any()


def test_hours_and_months_are_shown(closed):
    hours = run(closed, "--hours", "--day", SECOND.isoformat())
    assert {row["hour"] for row in hours} == set(range(24))
    month = {row["node"]: row for row in run(closed, "--month", "2025-12") if "node" in row}
    days = [{row["node"]: row for row in run(closed, "--day", day.isoformat()) if "node" in row} for day in (FIRST, SECOND)]
    for node, row in month.items():
        parts = [day[node]["loss_wh"] for day in days]
        assert row["loss_wh"] == (None if None in parts else sum(parts))


def test_tomorrow_wants_two_weeks_and_says_so(closed):
    told = list(tomorrow(closed, SECOND))
    assert {t.level for t in told} == {"feeder", "transformer"}
    assert {t.method for t in told} == {""}
    assert {t.day for t in told} == {SECOND + timedelta(days=1)}


def test_hours_without_supply_are_no_demand_that_tomorrow_would_have(site):
    """Of three weeks' days with a megawatt hour in every interval, the last Monday was dark from noon to three: what was marked as an outage is not
    learnt, zeros that nobody marked are."""
    blocks = site.lake.read_blocks("validated", FIRST, 0)
    energy, last = blocks[IMPORT_WH.name], FIRST + timedelta(days=20)
    dark = slice(energy.values.shape[0] // 2, energy.values.shape[0] * 5 // 8)
    told = {}
    for mark in (0, int(Quality.OUTAGE)):
        for k in range(21):
            values, quality = np.full_like(energy.values, 1_000_000), np.zeros_like(energy.quality)
            if k == 14:
                values[dark], quality[dark] = 0, mark
            site.lake.write_blocks("validated", [replace(energy, day=FIRST + timedelta(days=k), values=values, quality=quality)])
        (found,) = tomorrow(site, last, site.index_of(0, last).feeders[0])
        assert found.method
        told[mark] = found.kw[:, dark]
    assert np.nanmin(told[0]) < 0.5 * np.nanmax(told[0]), "a zero that was counted is a demand"
    outage = told[int(Quality.OUTAGE)]
    assert np.isnan(outage).all() or np.nanmin(outage) == pytest.approx(np.nanmax(outage))


def test_feeders_are_taken_whole_and_a_few_at_a_time(closed, monkeypatch):
    index = closed.index_of(0, FIRST)
    feeder = np.repeat([0, 1, 2], [3, 2, 4]).astype(np.int32)
    more = replace(index, feeders=("F1", "F2", "F3"), feeder=feeder, **{name: getattr(index, name)[:9] for name in ARRAYS})
    for most, batches in ((5, [[0, 1], [2]]), (1, [[0], [1], [2]]), (100, [[0, 1, 2]])):
        monkeypatch.setattr(span, "BATCH_METERS", most)
        assert list(span._batches(more, None)) == batches
    assert list(span._batches(more, "F2")) == [[1]]
    assert span._only(more, np.array([3, 4])).serials == index.serials[3:5]


ARRAYS = ("transformer", "is_consumer", "is_transformer", "is_feeder", "connected_load_w")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["quarter", "2025"], "the quarter: openami losses quarter 2025 3"), (["quarter", "2030", "1"], "no day of 2030-31 Q1"),
     (["--month", "2024-01"], "no day of 2024-01 is closed"), (["tomorrow", "A", "B"], "one feeder or transformer"),
     (["tomorrow", "NOWHERE"], "no feeder or transformer 'NOWHERE'"), (["places", "X"], "behind places nothing may be written")],
)  # fmt: skip
def test_words_that_cannot_be_understood_are_refused(closed, words, said):
    told = CliRunner().invoke(app, ["losses", *words, "--data", str(closed.folder.root)])
    assert isinstance(told.exception, InputError)
    assert said in str(told.exception)
