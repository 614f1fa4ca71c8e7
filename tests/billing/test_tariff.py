"""The tariff language: what is shipped can be read, and what cannot be used is refused with file, line, key and reason."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from openami.billing import load_tariffs, tou_index
from openami.errors import DataError, InputError
from openami.readings import Calendar

GOOD = """tariff = "T"
title_en = "Test"
title_hi = "परीक्षण"
utility = "U"
category = "domestic"

[[order]]
since = 2025-01-01
until = 2026-01-01
number = "1"
source = "a test"

[[line]]
name = "energy"
kind = "per_unit"
label_en = "Energy"
label_hi = "ऊर्जा"
slab_rule = "telescopic"
slabs = [{ up_to = 100, rs = 7.42 }, { rs = 8.95 }]
source = "a test"
"""
TOU = """
[[line]]
name = "hours"
kind = "time_of_use"
label_en = "Hours"
label_hi = "समय"
of = ["energy"]
periods = [{ name = "day", times = 1 }, { name = "night", times = 0.8 }]
slots = [{ from = "06:00", to = "22:00", period = "day" }, { from = "22:00", to = "06:00", period = "night" }]
source = "a test"
"""


def load(tmp_path, text, more=""):
    (tmp_path / "t.toml").write_text(text, "utf-8")
    if more:
        (tmp_path / "u.toml").write_text(more, "utf-8")
    return load_tariffs(tmp_path)


def test_the_good_file_is_read_exactly(tmp_path):
    tariff = load(tmp_path, GOOD).on("T", date(2025, 5, 1))
    assert [(s.up_to, s.rate_mp) for s in tariff.lines[0].rule.slabs] == [(100_000, 742_000), (None, 895_000)]
    assert tariff.label("energy", "hi") == "ऊर्जा"


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("slabs =", "slab =", r"t.toml, line 19, \[\[line\]\] number 1, key 'slab': unknown here"),
        ("rs = 7.42", "rs = 7.4212345", r"line 19, .*key 'slabs': rs = 7.4212345 rupees is finer"),
        ("up_to = 100", "up_to = 0.0005", r"key 'slabs'.*finer"),
        *(
            ("rs = 7.42", f"rs = {rate}", r"line 19, .*key 'slabs': rs = .* is no number up to 10,000,000")
            for rate in ("inf", "nan", "-inf", "1e30")
        ),
        ("rs = 7.42", 'rs = "7.42"', r"line 19, .*key 'slabs': rs is '7.42'; give a number in rupees"),
        ("up_to = 100", "up_to = -100", r"key 'slabs': up_to = -100 is negative"),
        ("up_to = 100", "up_to = 0", r"key 'slabs': slab 1: up_to = 0 is not above 0"),
        ('slab_rule = "telescopic"', 'slab_rule = "telescopic"\nup_to_kw = 5\nover_kw = 5', r"key 'up_to_kw': 5 is not above over_kw = 5"),
        ('category = "domestic"', 'category = "domestic"\nperiod_months = true', r"key 'period_months': True is not 1, 2 or 3"),
        ("rs = 8.95", "up_to = 50, rs = 8 }, { rs = 8.95", r"key 'slabs': slab 2: up_to = 50 is not above the slab before"),
        ("rs = 8.95", "up_to = 90, rs = 8.95", r"slab 2 of 2: every slab but the last"),
        ('"telescopic"', '"stairs"', r"line 18.*key 'slab_rule': 'stairs' is not one of telescopic, whole_bill"),
        ('kind = "per_unit"', 'kind = "unit"', r"line 15.*key 'kind': 'unit' is not one of per_unit, fixed"),
        ("until = 2026-01-01", "until = 2024-01-01", r"line 9, \[\[order\]\] number 1, key 'until'.*not after since"),
        ('number = "1"\nsource = "a test"', 'number = "1"', r"key 'source': missing; every number needs its source"),
        ('title_hi = "परीक्षण"\n', "", r"key 'title_hi': missing"),
        ("utility", "utilty", r"line 4, key 'utilty': unknown"),
        ('category = "domestic"', 'category = "domestic"\nperiod_months = 5', r"line 6, key 'period_months': 5 is not 1, 2 or 3"),
        ('category = "domestic"', 'category = "domestic"\nenergy_unit = "MWh"', r"key 'energy_unit': 'MWh' is not one of kWh, kVAh"),
        ('slab_rule = "telescopic"', 'slab_rule = "telescopic"\nuntil = 2025-06-01', r"gap: the first line 'energy' must hold"),
        ('slab_rule = "telescopic"', 'slab_rule = "telescopic"\nsince = "June"', r"'June' is not a date like 2025-04-01"),
        ("tariff = ", "tariff : ", r"t.toml is not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_line_key_and_reason(tmp_path, find, put, message):
    assert find in GOOD
    with pytest.raises(InputError, match=message):
        load(tmp_path, GOOD.replace(find, put))


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("2026-02-01", r"gap: tariff T has no order from 2026-01-01 until 2026-02-01"),
        ("2025-12-01", r"overlap: from 2025-12-01 until 2026-01-01"),
    ],
)
def test_gap_and_overlap_of_orders_are_refused_by_name(tmp_path, since, message):
    order = f'[[order]]\nsince = {since}\nuntil = 2027-01-01\nnumber = "2"\nsource = "a test"\n'
    with pytest.raises(InputError, match=message):
        load(tmp_path, GOOD.replace("[[line]]", order + "\n[[line]]"))


def test_a_line_that_holds_twice_is_refused(tmp_path):
    line = GOOD[GOOD.index("[[line]]") :].replace("slab_rule", "since = 2025-06-01\nslab_rule")
    with pytest.raises(InputError, match="overlap: line 'energy' holds twice from 2025-06-01"):
        load(tmp_path, GOOD + line)


def test_a_base_that_is_not_a_line_before_is_refused(tmp_path):
    duty = '[[line]]\nname = "duty"\nkind = "percent"\nlabel_en = "D"\nlabel_hi = "ड"\npercent = 5\nof = ["enrgy"]\nsource = "a test"\n'
    with pytest.raises(InputError, match=r"line 28, .*key 'of': 'enrgy' is not a line before 'duty' .*; those are energy"):
        load(tmp_path, GOOD + "\n" + duty)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ('from = "22:00", to = "06:00"', 'from = "22:00", to = "05:00"', "gap: no period holds at 05:00 on a weekday"),
        ('from = "22:00", to = "06:00"', 'from = "21:30", to = "06:00"', "overlap: two periods hold at 21:30"),
        ('period = "night"', 'period = "nite"', "'nite' is not one of day, night"),
        ("times = 0.8", "times = -0.8", "key 'periods': times must not be negative"),
        ("times = 0.8", "add_rs = 0.8", "give every period times, or every period add_rs"),
        ('to = "22:00"', 'to = "25:00"', "to = '25:00' is not a time of day"),
    ],
)
def test_hours_with_a_gap_or_an_overlap_are_refused(tmp_path, find, put, message):
    assert find in TOU
    with pytest.raises(InputError, match=message):
        load(tmp_path, GOOD + TOU.replace(find, put))


def test_a_season_that_does_not_close_is_refused(tmp_path):
    summer = TOU.replace('to = "06:00",', 'to = "06:00", season = ["04-01", "09-30"],')
    with pytest.raises(InputError, match="gap: no period holds at 00:00"):
        load(tmp_path, GOOD + summer)


def test_a_tariff_takes_over_another_and_replaces_its_lines(tmp_path):
    more = 'tariff = "U"\nextends = "T"\ntitle_en = "Other"\n' + TOU.replace('kind = "time', 'after = "energy"\nkind = "time')
    book = load(tmp_path, GOOD, more)
    assert book.on("U", date(2025, 5, 1)).line_names == ("energy", "hours")
    assert book.on("U", date(2025, 5, 1)).title_en == "Other"


def test_an_unknown_tariff_names_those_that_are_known():
    with pytest.raises(InputError, match=r"no tariff 'BR-DS9'; known are .*BR-DS2, BR-DS2-TOU"):
        load_tariffs().on("BR-DS9", date(2025, 10, 1))


def test_a_day_outside_the_orders_is_refused():
    with pytest.raises(InputError, match="BR-DS2 has no rates for 2024-01-01: it holds from 2025-04-01 until 2027-04-01"):
        load_tariffs().on("BR-DS2", date(2024, 1, 1))


def test_a_folder_without_tariffs_is_refused(tmp_path):
    with pytest.raises(DataError, match="no tariff"):
        load_tariffs(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "t.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        load_tariffs(tmp_path)


def test_every_shipped_snapshot_shows_what_is_not_confirmed_and_has_hindi_labels():
    book = load_tariffs()
    for tariff in (t for name in book.names for t in book.versions(name)):
        assert all(line.source or line.verify for line in tariff.lines)
        assert all(any("ऀ" <= letter <= "ॿ" for letter in line.label_hi) for line in tariff.lines)
    assert any(note.startswith("duty: ") for note in book.on("BR-DS2", date(2025, 10, 1)).verify)


def test_hours_fall_into_their_periods_at_any_interval():
    tariff = load_tariffs().on("BR-DS2-TOU", date(2025, 10, 1))
    for minutes in (15, 30, 60):
        index = tou_index(tariff, Calendar(interval_minutes=minutes), date(2025, 10, 1))
        names = [tariff.periods[k] for k in index[:: 60 // minutes]]
        assert names == ["normal"] * 9 + ["solar"] * 8 + ["peak"] * 6 + ["normal"]


def test_a_day_of_clock_change_follows_local_hours():
    tariff = load_tariffs().on("BR-DS2-TOU", date(2025, 10, 26))
    index = tou_index(tariff, Calendar("Europe/Zurich", 60), date(2025, 10, 26))
    assert np.bincount(index).tolist() == [11, 8, 6]  # 25 hours, the one at 2 o'clock twice


def test_a_rate_that_changes_inside_an_interval_is_refused(tmp_path):
    tariff = load(tmp_path, GOOD + TOU.replace("06:00", "06:15")).on("T", date(2025, 5, 1))
    with pytest.raises(InputError, match="changes its rate at 06:15, but readings come every 30 minutes"):
        tou_index(tariff, Calendar(interval_minutes=30), date(2025, 5, 1))


def test_day_types_and_seasons_choose_the_period(tmp_path):
    slots = """slots = [
  { from = "00:00", to = "24:00", period = "night", days = ["sunday", "holiday"] },
  { from = "00:00", to = "24:00", period = "day", days = ["weekday", "saturday"], season = ["11-01", "02-29"] },
  { from = "00:00", to = "24:00", period = "night", days = ["weekday", "saturday"], season = ["03-01", "10-31"] },
]"""
    tariff = load(tmp_path, GOOD + TOU[: TOU.index("slots =")] + slots + '\nsource = "a test"\n').on("T", date(2025, 5, 1))
    calendar = Calendar()

    def period(day, holidays=frozenset()):
        return {tariff.periods[k] for k in tou_index(tariff, calendar, day, holidays)}

    assert period(date(2025, 1, 6)) == {"day"}  # a Monday in winter
    assert period(date(2025, 6, 2)) == {"night"}  # a Monday in summer
    assert period(date(2025, 1, 5)) == {"night"}  # a Sunday in winter
    assert period(date(2025, 1, 6), frozenset({date(2025, 1, 6)})) == {"night"}


def of_more(kind, units):
    return f'''
[[line]]
name = "{kind}"
kind = "per_unit"
label_en = "More"
label_hi = "अधिक"
{units}
rs = 9.2
source = "a test"
'''


@pytest.mark.parametrize("over", ["over_units = 260", "over_units = 260\nover_kw = 5"])
def test_a_consumption_between_two_that_are_priced_has_a_price(tmp_path, over):
    up_to_250 = GOOD.replace('slab_rule = "telescopic"', 'slab_rule = "telescopic"\nup_to_units = 250')
    with pytest.raises(InputError, match=r"number 2, key 'over_units': gap: above 250 and up to 260 units no line has a price a unit"):
        load(tmp_path, up_to_250 + of_more("flat", over))
    assert load(tmp_path, up_to_250 + of_more("flat", "over_units = 250"))
    assert load(tmp_path, GOOD + of_more("surcharge", "over_units = 260"))


def test_the_fault_of_a_tariff_that_others_extend_is_told_of_its_own_file(tmp_path):
    child = GOOD.split("[[order]]")[0].replace('tariff = "T"', 'tariff = "A"\nextends = "T"') + "[[line]]" + GOOD.split("[[line]]")[1]
    (tmp_path / "a.toml").write_text(child, "utf-8")
    with pytest.raises(InputError, match=r"^t.toml, line 6, key 'period_months'"):
        load(tmp_path, GOOD.replace('category = "domestic"', 'category = "domestic"\nperiod_months = 5'))
