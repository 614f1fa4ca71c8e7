"""On real homes that nothing here was tuned by: gaps, clock changes, import and export, ten-minute readings with voltage. Read where the data lie
beside the checkout; skipped elsewhere (not all of them may be shipped)."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from openami import vee
from openami.bench import homes
from openami.bench.homes_report import homes_page, spoiled
from openami.errors import DataError, InputError
from openami.readings import EXPORT_WH, IMPORT_WH, MISSING, Bool, Calendar, DayBlock, Int32, Quality
from openami.store.grid import COLUMN, DayGrid
from openami.vee.estimate import like_day

DATA = Path(__file__).parents[3] / "shared" / "data"
SYDNEY = DATA / "sgsc_nsw_30min" / "sgsc_dev.parquet"
DUBLIN = DATA / "esb_ireland_hdf_30min" / "HDF_EXAMPLE.csv.gz"
PAGE = Path(__file__).parents[2] / "docs" / "results" / "vee-homes.md"
SCEAUX = DATA / "uci_sceaux_household_10min" / "powerconsumption_2008_m01-09.csv.gz"


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not beside the checkout")


def limits(meters: int, minutes: int) -> vee.MeterLimits:
    return vee.meter_limits(vee.load_rules().on(date(2026, 1, 1), "domestic"), np.zeros(meters, np.int64), minutes)


def marked(quality: np.ndarray, check: Quality) -> Bool:
    return np.asarray((quality & np.uint32(check)) != 0, np.bool_)


@pytest.fixture(scope="module")
def sydney() -> Int32:
    """int32 [day, slot, home] of the days on which all seven were metered, with the gaps that they have."""
    days = homes.sydney(SYDNEY).wh
    return days[(days != MISSING).any(axis=1).all(axis=1)]


@needs(SYDNEY)
def test_gaps_are_marked_and_few_good_readings_are(sydney: Int32) -> None:
    found = [vee.run(day, limits(day.shape[1], 30)).quality for day in sydney]
    missing = np.stack([marked(q, Quality.MISSING) for q in found])
    assert (missing == (sydney == MISSING)).all()
    assert missing.any()
    for check, share_max in ((Quality.SPIKE, 0.0005), (Quality.FROZEN, 0.0003), (Quality.PLAUSIBILITY, 0.0)):
        assert np.mean([marked(q, check).mean() for q in found]) <= share_max, check


@needs(SYDNEY)
@pytest.mark.parametrize("block", [1, 12, 48])
def test_with_a_register_a_day_carries_its_energy_exactly(sydney: Int32, block: int) -> None:
    """A twentieth of the readings of whole days is hidden, singly and in blocks: what is estimated adds up to the register, whatever is hidden."""
    rng = np.random.default_rng(block)
    hidden_readings = 0
    for k in range(7, len(sydney)):
        true, days = sydney[k], sydney[k - 7 : k]
        whole = (true != MISSING).all(axis=0) & (days != MISSING).any(axis=(0, 1))
        hide = np.repeat(rng.random((48 // block, true.shape[1])) < 0.05, block, axis=0) & whole
        register = np.where(whole, np.where(true == MISSING, 0, true).sum(axis=0, dtype=np.int64), vee.MISSING64)
        result = vee.run(np.where(hide, MISSING, true), limits(true.shape[1], 30), like_day=like_day(days), register_wh=register)
        filled = whole & (result.unfilled == 0)
        assert filled.sum() == whole.sum() or block > 4, "only a gap too long for its neighbours may lack a like day"
        assert result.validated.sum(axis=0, dtype=np.int64)[filled].tolist() == register[filled].tolist()
        assert not marked(result.quality, Quality.SUM)[:, filled].any()
        hidden_readings += int(hide.sum())
    assert hidden_readings > 1000


@pytest.fixture(scope="module")
def dublin() -> tuple[DayGrid, Counter[str]]:
    """The home's import and export in a day grid, and how many distinct instants of each the file has. Stamps are the ends of intervals on the
    local clock; of an hour that comes twice the first row is the earlier."""
    zone, calendar, stamps = ZoneInfo("Europe/Dublin"), Calendar("Europe/Dublin", 30), Counter[str]()
    with gzip.open(DUBLIN, "rt") as file:
        rows = [(r["Read Type"], r["Read Date and End Time"], r["Read Value"]) for r in csv.DictReader(file)][::-1]
    first, last = (datetime.strptime(rows[k][1], "%d-%m-%Y %H:%M").replace(tzinfo=zone).date() for k in (0, -1))
    grid, seen = DayGrid(0, 1, calendar, first - timedelta(days=1), (last - first).days + 2), set[tuple[str, str]]()
    at, values = [], np.full((len(rows), len(COLUMN)), MISSING, np.int32)
    for k, (kind, text, kwh) in enumerate(rows):
        local = datetime.strptime(text, "%d-%m-%Y %H:%M").replace(tzinfo=zone, fold=int((kind, text) in seen))
        seen.add((kind, text))
        channel = IMPORT_WH.name if "Import" in kind else EXPORT_WH.name
        at.append(int(local.timestamp()))
        values[k, COLUMN[channel]] = round(float(kwh) * 1000)
    written = grid.write(np.array(at, np.int64), np.zeros(len(rows), np.int64), values)
    assert written.all()
    for name in (IMPORT_WH.name, EXPORT_WH.name):
        stamps[name] = len({stamp for stamp, row in zip(at, values, strict=True) if row[COLUMN[name]] != MISSING})
    return grid, stamps


def blocks_of(grid: DayGrid) -> list[dict[str, DayBlock]]:
    return [{b.channel.name: b for b in grid.blocks(grid.first_day + timedelta(days=k))} for k in range(grid.days)]


@needs(DUBLIN)
def test_two_years_with_clock_changes_lose_nothing(dublin: tuple[DayGrid, Counter[str]]) -> None:
    grid, stamps = dublin
    days = blocks_of(grid)
    lengths = Counter(len(b[IMPORT_WH.name].values) for b in days)
    assert (lengths[46], lengths[50]) == (2, 1), "two Marches and one October are in the file"
    for name in (IMPORT_WH.name, EXPORT_WH.name):
        assert sum(int((b[name].values != MISSING).sum()) for b in days) == stamps[name]
        assert not any(marked(b[name].quality, Quality.DUPLICATE).any() for b in days)


@needs(DUBLIN)
def test_an_export_that_nobody_registered_is_marked_and_nothing_else_of_it(dublin: tuple[DayGrid, Counter[str]]) -> None:
    for both in blocks_of(dublin[0]):
        wh, export = both[IMPORT_WH.name].values, both[EXPORT_WH.name].values
        found = vee.run(wh, limits(1, 30), export_wh=export).quality
        assert (marked(found, Quality.REVERSE) == (export > 10)).all()
        assert (marked(found, Quality.MISSING) == (wh == MISSING)).all()


@needs(SCEAUX)
def test_ten_minute_readings_with_their_voltage() -> None:
    """Nine months of one home: no sound reading is without voltage; with its voltage taken away every reading of energy is."""
    with gzip.open(SCEAUX, "rt") as file:
        rows = [(float(r["active_power"] or "nan"), float(r["voltage"] or "nan")) for r in csv.DictReader(file) if r["date_time"]]
    power, volts = (np.array(column)[: len(rows) // 144 * 144].reshape(-1, 144, 1) for column in zip(*rows, strict=True))
    gone = np.isnan(power)
    wh = np.where(gone, MISSING, np.rint(np.nan_to_num(power) * 1000 / 6)).astype(np.int32)
    cv = np.where(np.isnan(volts), MISSING, np.rint(np.nan_to_num(volts) * 100)).astype(np.int32)
    sound = np.stack([vee.run(w, limits(1, 10), voltage_cv=c).quality for w, c in zip(wh, cv, strict=True)])
    dead = np.stack([vee.run(w, limits(1, 10), voltage_cv=np.zeros_like(c)).quality for w, c in zip(wh, cv, strict=True)])
    assert marked(sound, Quality.MISSING).sum() == gone.sum()
    assert not marked(sound, Quality.VOLTAGE_ENERGY).any()
    assert (marked(dead, Quality.VOLTAGE_ENERGY) == (wh > 10)).all()
    assert marked(sound, Quality.SPIKE).mean() < 0.0005


def test_defects_are_planted_where_there_are_readings_and_none_on_another() -> None:
    true = np.full((48, 400), 100, np.int32)
    true[:, :50] = MISSING
    spoilt = spoiled(true, seed=1)
    planted = np.stack(list(spoilt.planted.values()))
    assert planted.any(axis=(1, 2)).all()
    assert planted.sum(axis=0).max() == 1
    assert not planted[:, true == MISSING].any()
    assert (spoilt.wh == true)[~planted.any(axis=0)].all()


@needs(SYDNEY)
@needs(DUBLIN)
@needs(SCEAUX)
def test_the_page_of_other_homes_is_what_the_command_writes() -> None:
    assert homes_page(DATA, 1) == PAGE.read_text("utf-8"), "run `openami report vee --data FOLDER` and look at what changed"


def test_a_folder_without_homes_and_a_file_that_is_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none of the sets sgsc_nsw_30min"):
        homes.every_home(tmp_path)
    (tmp_path / "citylearn_fontana_hourly").mkdir()
    (tmp_path / "citylearn_fontana_hourly" / "Building_1.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="citylearn_fontana_hourly cannot be read as the set that its name says"):
        homes.every_home(tmp_path)
