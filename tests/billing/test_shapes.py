"""Every shape of tariff that was met in India can be said in the language, and comes out as calculated by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from openami.billing import bill, charge, load_tariffs, segment
from openami.billing.charge import adjustment

HEAD = """tariff = "T"
title_en = "Test"
title_hi = "परीक्षण"
utility = "U"
category = "domestic"
period_months = {months}
energy_unit = "{unit}"

[[order]]
since = 2025-04-01
until = 2026-04-01
number = "1"
source = "a test"
"""


def line(name, kind, body):
    return f'\n[[line]]\nname = "{name}"\nkind = "{kind}"\nlabel_en = "{name}"\nlabel_hi = "मद"\nsource = "a test"\n{body}\n'


ENERGY = line("energy", "per_unit", "rs = 5.00")
SHAPES = {
    # name: (lines, units by period, load kW, prepaid, expected rupees by line)
    "telescopic slabs": (
        [line("energy", "per_unit", 'slab_rule = "telescopic"\nslabs = [{ up_to = 50, rs = 3 }, { rs = 6 }]')],
        [80], 2, True, {"energy": 330},
    ),
    "whole-bill slabs": (
        [line("energy", "per_unit", 'slab_rule = "whole_bill"\nslabs = [{ up_to = 50, rs = 3 }, { rs = 6 }]')],
        [80], 2, True, {"energy": 480},
    ),
    "fixed per connection": ([ENERGY, line("fixed", "fixed", 'per = "connection"\nrs = 45')], [0], 2, True, {"fixed": 45}),
    "fixed per kW exactly": ([ENERGY, line("fixed", "fixed", 'per = "kw"\nrs = 40')], [0], 2.5, True, {"fixed": 100}),
    "fixed per kW started": ([ENERGY, line("fixed", "fixed", 'per = "kw"\nrs = 40\nround_up_to_kw = 1')], [0], 2.5, True, {"fixed": 120}),
    "fixed per kVA": ([ENERGY, line("fixed", "fixed", 'per = "kva"\nrs = 100')], [0], 2, True, {"fixed": 1000}),
    "fixed by load band": (
        [ENERGY, line("fixed", "fixed", 'per = "load_band"\nslabs = [{ up_to = 2, rs = 15 }, { rs = 70 }]')], [0], 2.001, True, {"fixed": 70},
    ),
    "fixed by consumption band": (
        [ENERGY, line("fixed", "fixed", 'per = "consumption_band"\nslabs = [{ up_to = 100, rs = 30 }, { rs = 90 }]')], [100], 2, True, {"fixed": 30},
    ),
    "billing demand floor and excess at double": (
        [ENERGY, line("demand", "demand", "rs = 600\nfloor_percent = 90\nexcess_times = 2")], [0], 2, False, {"demand": 600 * 10 + 1200 * 2},
    ),
    "wheeling outside the fuel base": (
        [ENERGY, line("wheeling", "per_unit", "rs = 1.40"), line("fuel", "percent", 'percent = 10\nof = ["energy"]')],
        [100], 2, True, {"energy": 500, "wheeling": 140, "fuel": 50},
    ),
    "fuel surcharge as percent": ([ENERGY, line("fuel", "percent", 'percent = 12.5\nof = ["energy"]')], [100], 2, True, {"fuel": 62.5}),
    "duty on energy": (
        [ENERGY, line("fuel", "per_unit", "rs = 1"), line("duty", "percent", 'percent = 6\nof = ["energy"]')], [100], 2, True, {"duty": 30},
    ),
    "duty inside the rate: taken out of it, so that the bill can show it": (
        [
            line("energy", "per_unit", "rs = 5.30"),
            line("inside", "per_unit", "rs = -0.30"),
            line("duty", "per_unit", "rs = 0.30"),
        ],
        [100], 2, True, {"energy": 530, "inside": -30, "duty": 30},
    ),
    "time of use as multiplier": (
        [
            ENERGY,
            line("hours", "time_of_use", 'of = ["energy"]\nperiods = [{ name = "a", times = 0.8 }, { name = "b", times = 1.2 }]\n'
                 'slots = [{ from = "00:00", to = "18:00", period = "a" }, { from = "18:00", to = "24:00", period = "b" }]'),
        ],
        [40, 60], 2, True, {"energy": 500, "hours": 20},
    ),
    "time of use as adder": (
        [
            ENERGY,
            line("hours", "time_of_use", 'of = ["energy"]\nperiods = [{ name = "a", add_rs = -0.60 }, { name = "b", add_rs = 0.30 }]\n'
                 'slots = [{ from = "11:00", to = "17:00", period = "a" }, { from = "17:00", to = "11:00", period = "b" }]'),
        ],
        [10, 90], 2, True, {"hours": -6 + 27},
    ),
    "fuel surcharge per unit, negative": ([ENERGY, line("fuel", "per_unit", "rs = -0.35")], [100], 2, True, {"fuel": -35}),
    "duty on the total with surcharge": (
        [ENERGY, line("fuel", "per_unit", "rs = 1"), line("duty", "percent", 'percent = 6\nof = ["energy", "fuel"]')], [100], 2, True, {"duty": 36},
    ),
    "duty per unit": ([ENERGY, line("duty", "per_unit", "rs = 0.06")], [100], 2, True, {"duty": 6}),
    "free units lost beyond": (
        [ENERGY, line("free", "free_units", 'units = 100\nbeyond = "lost"\nof = ["energy"]')], [101], 2, True, {"energy": 505, "free": 0},
    ),
    "free units that taper": (
        [
            ENERGY,
            line("free", "free_units", 'units = 200\nbeyond = "lost"\nof = ["energy"]'),
            line("half", "percent", 'over_units = 200\nup_to_units = 400\npercent = -50\nof = ["energy"]'),
        ],
        [300], 2, True, {"energy": 1500, "free": 0, "half": -750},
    ),
    "a prepaid schedule of its own": (
        [line("energy", "per_unit", 'rs = 5\npayment = "postpaid"'), line("prepaid", "per_unit", 'rs = 4.80\npayment = "prepaid"')],
        [100], 2, True, {"energy": 0, "prepaid": 480},
    ),
    "time of use as rebate, only above 10 kW": (
        [
            ENERGY,
            line("hours", "time_of_use", 'over_kw = 10\nof = ["energy"]\nperiods = [{ name = "a", times = 1 }, { name = "b", times = 0.8 }]\n'
                 'slots = [{ from = "00:00", to = "09:00", period = "a" }, { from = "09:00", to = "24:00", period = "b" }]'),
        ],
        [40, 60], 10.001, True, {"hours": -60},
    ),
    "minimum charge": ([ENERGY, line("minimum", "minimum", 'rs = 120\nper = "kw"\nof = ["energy"]')], [30], 2, True, {"energy": 150, "minimum": 90}),
    "rounded to whole rupees": (
        [line("energy", "per_unit", "rs = 5.005"), line("rounding", "rounding", "to_rs = 1")], [100], 2, True, {"energy": 500.5, "rounding": 0.5},
    ),
}  # fmt: skip


def book(tmp_path, lines, months=1, unit="kWh"):
    (tmp_path / "t.toml").write_text(HEAD.format(months=months, unit=unit) + "".join(lines), "utf-8")
    return load_tariffs(tmp_path)


@pytest.mark.parametrize("name", SHAPES)
def test_shape(tmp_path, name):
    lines, units, load_kw, prepaid, expected = SHAPES[name]
    part = segment(book(tmp_path, lines), "T", date(2025, 6, 30))
    result = bill(
        part.tariff,
        np.array([[int(u * 1000)] for u in units]),
        30,
        30,
        np.array([int(load_kw * 1000)]),
        np.array([prepaid]),
        demand_va=np.array([12_000]),
        contract_va=np.array([10_000]),
    )
    got = dict(zip(result.lines, result.amount_paise[:, 0].tolist(), strict=True))
    assert {key: got[key] for key in expected} == {key: int(value * 100) for key, value in expected.items()}


def test_energy_per_kvah_takes_the_other_channel(tmp_path):
    assert segment(book(tmp_path, [ENERGY], unit="kVAh"), "T", date(2025, 6, 1)).tariff.channel == "import_vah"


def test_slabs_of_two_months(tmp_path):
    lines = [line("energy", "per_unit", 'slab_rule = "telescopic"\nslabs = [{ up_to = 100, rs = 3 }, { rs = 6 }]')]
    part = segment(book(tmp_path, lines, months=2), "T", date(2025, 7, 31))
    assert part.days_to(date(2025, 7, 31)) == 61
    result = bill(part.tariff, np.array([[120_000]]), 61, part.days_in_period, np.array([1000]), np.array([False]))
    assert result.total_paise.tolist() == [420_00]


def test_slabs_of_three_months(tmp_path):
    lines = [line("energy", "per_unit", 'slab_rule = "telescopic"\nslabs = [{ up_to = 150, rs = 3 }, { rs = 6 }]')]
    part = segment(book(tmp_path, lines, months=3), "T", date(2025, 6, 30))
    assert (part.first, part.until, part.days_in_period) == (date(2025, 4, 1), date(2025, 7, 1), 91)
    result = bill(part.tariff, np.array([[200_000]]), 91, 91, np.array([1000]), np.array([False]))
    assert result.total_paise.tolist() == [150 * 300 + 50 * 600]


def test_a_dated_surcharge_splits_the_month(tmp_path):
    fuel = line("fuel", "per_unit", "rs = 1\nuntil = 2025-06-16") + line("fuel", "per_unit", "rs = -0.50\nsince = 2025-06-16")
    tariffs = book(tmp_path, [ENERGY, fuel])
    first, second = segment(tariffs, "T", date(2025, 6, 15)), segment(tariffs, "T", date(2025, 6, 16))
    nothing, units, load, mode = np.array([[0]]), np.array([[10_000]]), np.array([1000]), np.array([True])
    assert charge(first, date(2025, 6, 15), nothing, units, load, mode).line("fuel").tolist() == [10_00]
    assert charge(second, date(2025, 6, 16), nothing, units, load, mode).line("fuel").tolist() == [-5_00]


def test_a_retroactive_order_posts_the_difference(tmp_path):
    """The order comes later than the days it is for: the bill is computed anew, and what differs from what was posted is posted."""
    old = segment(book(tmp_path, [ENERGY]), "T", date(2025, 6, 30))
    new = segment(book(tmp_path, [ENERGY.replace("5.00", "5.40")]), "T", date(2025, 6, 30))
    arguments = (np.array([[100_000]]), 30, 30, np.array([1000]), np.array([True]))
    assert adjustment(bill(new.tariff, *arguments), bill(old.tariff, *arguments)).total_paise.tolist() == [40_00]


def test_supply_that_began_inside_the_month_pays_from_then_on(tmp_path):
    lines = [
        line("energy", "per_unit", 'slab_rule = "telescopic"\nslabs = [{ up_to = 90, rs = 3 }, { rs = 6 }]'),
        line("fixed", "fixed", 'per = "connection"\nrs = 60'),
    ]
    part = segment(book(tmp_path, lines), "T", date(2025, 6, 30)).starting(date(2025, 6, 21))
    result = bill(
        part.tariff, np.array([[40_000]]), part.days_to(date(2025, 6, 30)), 30, np.array([1]), np.array([True]), span_days=part.span_days
    )
    assert result.amount_paise[:, 0].tolist() == [30 * 3_00 + 10 * 6_00, 20_00]
