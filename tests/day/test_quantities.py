"""What tariffs price beyond plain energy, through the close: exports set off and banked, maximum demand, hours of holidays."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from openami.billing import TariffBook, load_tariffs
from openami.billing.tariff import TimeOfUse
from openami.day import Site, close_all
from openami.day.adjust import reclose
from openami.day.buffers import Buffers
from openami.errors import DataError
from openami.readings import MISSING, Quality

from .homes import SLOTS, Home, even, read, site_of, told

MARCH = date(2026, 3, 29)
DAYS = [MARCH + timedelta(days=k) for k in range(3)]
"""Three days, the last of which ends the year of Odisha's net metering."""


@pytest.fixture(scope="module")
def odisha(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Home 0 exports more than it uses, home 1 nothing."""
    site = site_of(tmp_path_factory.mktemp("odisha") / "data", [Home("OD-DOM", 3000), Home("OD-DOM", 3000)], MARCH, 3)
    for day in DAYS:
        read(site, day, {"import_wh": even(100, 100), "export_wh": even(200, 0)})
    close_all(site)
    return site


def test_exports_are_set_off_up_to_the_cap_and_the_rest_is_banked(odisha: Site) -> None:
    used = int(even(100, 100)[:, 0].sum())
    given = int(even(200, 0)[:, 0].sum())
    second = told(odisha, "usage", DAYS[1], 0)
    periods = ("normal", "solar", "peak")
    assert sum(second[f"{p}_to_date_wh"] for p in periods) == 2 * used
    assert sum(second[f"{p}_export_segment_wh"] for p in periods) == 2 * given
    billed = [second[f"{p}_to_date_wh"] * 900 // 1000 for p in periods]
    assert sum(second[f"{p}_banked_wh"] for p in periods) == 2 * given - sum(billed)


def test_the_one_who_exports_pays_a_tenth_of_the_energy(odisha: Site) -> None:
    paid = [sum(int(told(odisha, "charges", day, k)["energy_paise"] or 0) for day in DAYS) for k in (0, 1)]
    tenth = [int(even(100)[:, 0].sum()) * 3 // 10, int(even(100)[:, 0].sum()) * 3]
    assert tenth[1] < 50_000, "within the first slab"
    assert abs(paid[0] - tenth[0] * 290 // 1000) <= 1
    assert abs(paid[1] - tenth[1] * 290 // 1000) <= 1


def test_the_bank_is_paid_out_once_at_the_end_of_march(odisha: Site) -> None:
    assert [told(odisha, "charges", day, 0).get("settlement_paise") for day in DAYS[:2]] == [None, None]
    last = told(odisha, "usage", DAYS[2], 0)
    set_off = [last[f"{p}_to_date_wh"] * 900 // 1000 for p in ("normal", "solar", "peak")]
    banked = sum(last[f"{p}_export_segment_wh"] for p in ("normal", "solar", "peak")) - sum(set_off)
    assert told(odisha, "charges", DAYS[2], 0)["settlement_paise"] == -round(banked * 359 / 1000)
    assert [last[f"{p}_banked_wh"] for p in ("normal", "solar", "peak")] == [0, 0, 0]
    assert told(odisha, "charges", DAYS[2], 1)["settlement_paise"] == 0


def test_the_days_add_up_to_the_bill_with_what_was_paid_out(odisha: Site) -> None:
    for k in (0, 1):
        charged = sum(int(told(odisha, "statements", day, k)["charges_paise"]) for day in DAYS[1:])
        whole = [int(told(odisha, "charges", day, k)["to_date_paise"]) for day in DAYS]
        assert charged == whole[2] - whole[0]


def test_reckoned_again_from_the_same_readings_nothing_is_posted(odisha: Site) -> None:
    assert reclose(odisha, DAYS[0], 0, Buffers()).num_rows == 0


def test_an_export_is_a_fault_only_where_nobody_agreed_to_it(tmp_path: Path) -> None:
    site = site_of(tmp_path / "data", [Home("OD-DOM", 3000), Home("BR-DS2", 3000), Home("BR-DS2", 3000)], MARCH, 1)
    read(site, MARCH, {"import_wh": even(100, 100, 100), "export_wh": even(200, 200, 0)})
    close_all(site)
    quality = site.lake.read_blocks("validated", MARCH, 0)["import_wh"].quality
    assert ((quality & np.uint32(Quality.REVERSE)) != 0).mean(axis=0).tolist() == [0.0, 1.0, 0.0]
    assert site.lake.read("meter_day", MARCH, 0)["flagged"].to_pylist() == [0, SLOTS, 0]


def test_a_shop_per_kvah_and_an_industry_with_its_maximum_demand_are_charged(tmp_path: Path) -> None:
    """The shop pays by kVAh and contract; the industry by its largest half hour: 5.1 kVAh in half an hour = 10.2 kVA of a contract of 10."""
    first = date(2025, 12, 1)
    site = site_of(tmp_path / "data", [Home("BR-NDS2", 3000), Home("TN-HT1", 10_000)], first, 1)
    vah = even(300, 4000)
    vah[20, 1] = 5100
    read(site, first, {"import_wh": even(290, 3900), "import_vah": vah})
    close_all(site)
    assert told(site, "usage", first, 0)["all_wh"] == int(vah[:, 0].sum())
    assert told(site, "usage", first, 1)["demand_va"] == 10_200
    assert told(site, "charges", first, 1)["demand_paise"] == round(608_00 * 10.2 / 31)
    assert told(site, "charges", first, 0)["fixed_paise"] == round(300_00 * 3 / 31)


def test_no_maximum_demand_rests_on_an_estimate(tmp_path: Path) -> None:
    first = date(2025, 12, 1)
    site = site_of(tmp_path / "data", [Home("TN-HT1", 10_000)], first, 1)
    vah = even(1000)
    vah[10, 0] = MISSING
    vah[9, 0] = vah[11, 0] = 2000
    vah[12, 0] = 4000
    read(site, first, {"import_wh": even(900), "import_vah": vah})
    close_all(site)
    assert told(site, "usage", first, 0)["demand_va"] == 8000


def test_hours_of_holidays_need_the_years_list_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Republic Day the whole day is off-peak here; for 2027 nobody has told the holidays yet, and the file is named."""
    name = "BR-DS2-TOU"
    book = load_tariffs()

    def own(tariff):  # type: ignore[no-untyped-def]
        lines = []
        for line in tariff.lines:
            if isinstance(line.rule, TimeOfUse):
                normal = replace(line.rule.windows[0], start=line.rule.windows[0].start.min, end=line.rule.windows[0].start.min, period=0)
                working = tuple(replace(w, days=w.days - {"holiday"}) for w in line.rule.windows)
                line = replace(line, rule=replace(line.rule, windows=(*working, replace(normal, days=frozenset({"holiday"})))))
            lines.append(line)
        return replace(tariff, lines=tuple(lines))

    changed = TariffBook({**book.tariffs, name: tuple(own(t) for t in book.tariffs[name])})
    monkeypatch.setattr("openami.day.charge.load_tariffs", lambda: changed)
    for day, home in ((date(2026, 1, 26), "holiday"), (date(2026, 1, 27), "working")):
        site = site_of(tmp_path / home, [Home(name, 12_000)], day, 1)
        read(site, day, {"import_wh": even(500)})
        close_all(site)
        usage = told(site, "usage", day, 0)
        off_peak = even(500) if home == "holiday" else even(500)[[*range(18), *range(46, SLOTS)]]
        assert usage["normal_wh"] == int(off_peak.sum())
    late = site_of(tmp_path / "late", [Home(name, 12_000)], date(2027, 1, 5), 1)
    read(late, date(2027, 1, 5), {"import_wh": np.asarray(even(500))})
    with pytest.raises(DataError, match=r"policy BR has no list of holidays of 2027.*holiday file BR.toml"):
        close_all(late)
    assert late.lake.days("statements") == []
