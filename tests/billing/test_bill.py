"""The whole bill: agreement with the exact twin, days that add up to the month, accounts that cannot be billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.billing import Segment, TariffBook, bill, charge, load_tariffs, segment
from openami.billing.charge import adjustment, segments, within_free_units
from openami.billing.machine import share
from openami.billing.tariff import (
    Condition,
    Demand,
    Fixed,
    FixedPer,
    FreeUnits,
    Line,
    Minimum,
    Payment,
    Percent,
    Period,
    PerUnit,
    Rounding,
    Slab,
    Tariff,
    TimeOfUse,
    Window,
)
from openami.errors import RequestError
from openami.money import round_half_up

from .reference import Usage, bill_one, scaled

RATE = st.integers(-1_500_000, 1_500_000)


@st.composite
def slab_tables(draw, rate=RATE):
    limits = sorted(draw(st.sets(st.integers(1, 600_000), max_size=4)))
    return tuple(Slab(up_to, draw(rate)) for up_to in [*limits, None])


@st.composite
def rules(draw, before):
    """Any rule that may stand after the lines `before`."""
    of = tuple(draw(st.lists(st.sampled_from(before), min_size=1, unique=True))) if before else ()
    kinds = ["per_unit", "fixed", "demand"] + (["percent", "free", "minimum", "rounding"] if before else [])
    match draw(st.sampled_from(kinds)):
        case "per_unit":
            return PerUnit(draw(slab_tables()), draw(st.booleans()))
        case "fixed":
            per = draw(st.sampled_from(list(FixedPer)))
            banded = per in (FixedPer.LOAD_BAND, FixedPer.CONSUMPTION_BAND)
            slabs = draw(slab_tables(st.integers(0, 50_000_000))) if banded else (Slab(None, draw(st.integers(0, 60_000_000))),)
            return Fixed(per, slabs, draw(st.sampled_from([1, 250, 1000])))
        case "demand":
            return Demand(draw(st.integers(0, 70_000_000)), draw(st.sampled_from([0, 900, 1000])), draw(st.sampled_from([1000, 2000])))
        case "percent":
            return Percent(draw(st.integers(-20_000, 20_000)), of)
        case "free":
            within = tuple(draw(st.lists(st.sampled_from(before), unique=True)))
            return FreeUnits(draw(st.integers(1, 300_000)), of, within, draw(st.booleans()))
        case "minimum":
            return Minimum(draw(st.integers(0, 30_000_000)), draw(st.sampled_from([FixedPer.CONNECTION, FixedPer.KW])), of)
        case _:
            return Rounding(draw(st.sampled_from([100, 500, 10])))


def line(name, rule, when=None):
    return Line(name, name, name, rule, when or Condition(), "generated", "")


def tariff_of(*lines):
    return Tariff(
        "GEN", "Generated", "जनित", "nobody", "domestic", "INR", "kWh", 1, date(2025, 1, 1), date(2026, 1, 1), "none", "", tuple(lines), ()
    )


@st.composite
def tariffs(draw):
    lines = [line("l0", PerUnit(draw(slab_tables(st.integers(0, 1_500_000))), draw(st.booleans())))]
    if draw(st.booleans()):
        adds = draw(st.booleans())
        periods = tuple(
            Period(f"p{k}", 1000 if adds else draw(st.integers(0, 3000)), draw(RATE) if adds else 0) for k in range(draw(st.integers(1, 3)))
        )
        window = Window(time(0), time(0), 0, frozenset({"weekday"}), None)
        lines.append(line("l1", TimeOfUse(periods, (window,), ("l0",))))
    seen_free = False
    for k in range(len(lines), draw(st.integers(2, 8))):
        rule = draw(rules([item.name for item in lines]))
        if isinstance(rule, FreeUnits) and seen_free:
            continue
        seen_free |= isinstance(rule, FreeUnits)
        when = Condition(
            draw(st.sampled_from(list(Payment))),
            draw(st.none() | st.integers(0, 300_000)),
            draw(st.none() | st.integers(0, 600_000)),
            draw(st.none() | st.integers(0, 8000)),
            draw(st.none() | st.integers(0, 20_000)),
        )
        lines.append(line(f"l{k}", rule, when if draw(st.booleans()) else None))
    return tariff_of(*lines)


@st.composite
def usages(draw, periods):
    in_period = draw(st.integers(28, 92))
    span = draw(st.integers(1, in_period))
    largest = draw(st.sampled_from([1000, 700_000, 40_000_000_000]))
    return Usage(
        tuple(draw(st.integers(0, largest)) for _ in range(periods)),
        draw(st.integers(0, span)),
        span,
        in_period,
        draw(st.integers(1, 30_000_000)),
        draw(st.booleans()),
        draw(st.integers(0, 50_000_000)),
        draw(st.integers(1, 50_000_000)),
    )


def at_an_edge(draw, tariff, usage):
    """The usage, or the same with its consumption exactly on one of the tariff's limits, or one Wh beside it: there the mistakes live."""
    limits = [slab.up_to for item in tariff.lines if isinstance(item.rule, PerUnit | Fixed) for slab in item.rule.slabs if slab.up_to]
    limits += [item.rule.limit_wh for item in tariff.lines if isinstance(item.rule, FreeUnits)]
    limits += [limit for item in tariff.lines for limit in (item.when.over_wh, item.when.up_to_wh) if limit]
    if not limits or not draw(st.booleans()):
        return usage
    wh = scaled(draw(st.sampled_from(limits)), usage) + draw(st.integers(-1, 1))
    return replace(usage, wh=(max(0, wh), *(0 for _ in usage.wh[1:])))


def compute(tariff, usage):
    one = np.ones(1, np.int64)
    return bill(
        tariff,
        np.array(usage.wh, np.int64)[:, None],
        usage.days,
        usage.in_period,
        usage.load_w * one,
        np.array([usage.prepaid]),
        span_days=usage.span,
        demand_va=usage.demand_va * one,
        contract_va=usage.contract_va * one,
    )


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_bill_agrees_with_the_exact_twin(data):
    tariff = data.draw(tariffs())
    usage = at_an_edge(data.draw, tariff, data.draw(usages(len(tariff.periods))))
    result = compute(tariff, usage)
    assert not result.refused[0]
    assert dict(zip(result.lines, result.amount_paise[:, 0].tolist(), strict=True)) == bill_one(tariff, usage)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["BR-DS2", "BR-DS2-TOU"]), st.integers(0, 2**32), st.booleans())
def test_charges_of_the_days_add_up_to_the_bill(name, seed, prepaid):
    rng = np.random.default_rng(seed)
    part = segment(load_tariffs(), name, date(2025, 10, 1))
    periods, accounts = len(part.tariff.periods), 7
    load, mode = rng.integers(1, 9000, accounts), np.full(accounts, prepaid)
    before, posted = np.zeros((periods, accounts), np.int64), np.zeros((len(part.tariff.lines), accounts), np.int64)
    for day in range(1, 32):
        today = rng.integers(0, 9000, (periods, accounts))
        posted += charge(part, date(2025, 10, day), before, today, load, mode).amount_paise
        before = before + today
    assert (posted == bill(part.tariff, before, 31, 31, load, mode).amount_paise).all()


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62), st.integers(1, 2**62))
def test_share_is_exact_beyond_64_bits(a, b, c):
    expected = round_half_up(a * b, c)
    if abs(expected) < 2**63:
        assert int(share(a, b, c)) == expected


def test_a_change_of_tariff_inside_a_month_splits_it():
    def version(since, until, rate):
        rule = PerUnit((Slab(100_000, rate), Slab(None, 2 * rate)), whole=False)
        return Tariff("X", "X", "X", "u", "domestic", "INR", "kWh", 1, since, until, "o", "s", (line("energy", rule),), ())

    book = TariffBook({"X": (version(date(2025, 1, 1), date(2025, 6, 11), 500_000), version(date(2025, 6, 11), date(2026, 1, 1), 600_000))})
    parts = segments(book, "X", date(2025, 6, 1), date(2025, 6, 30))
    assert [(p.first, p.until, p.span_days) for p in parts] == [
        (date(2025, 6, 1), date(2025, 6, 11), 10),
        (date(2025, 6, 11), date(2025, 7, 1), 20),
    ]
    load, mode = np.array([1000]), np.array([True])
    # 40 kWh in 10 of 30 days: 33.333 at 5, 6.667 at 10; 60 kWh in 20 days: all within 66.667 at 6
    first = bill(parts[0].tariff, np.array([[40_000]]), 10, 30, load, mode, span_days=10)
    second = bill(parts[1].tariff, np.array([[60_000]]), 20, 30, load, mode, span_days=20)
    assert first.total_paise.tolist() == [round_half_up(33_333 * 500 + 6_667 * 1000, 1000)]
    assert second.total_paise.tolist() == [36_000]


def test_billing_periods_of_two_and_three_months():
    def book(months):
        rule = PerUnit((Slab(None, 100),), whole=False)
        snapshot = Tariff(
            "X", "X", "X", "u", "domestic", "INR", "kWh", months, date(2025, 4, 1), date(2026, 4, 1), "o", "s", (line("energy", rule),), ()
        )
        return TariffBook({"X": (snapshot,)})

    two, three = segment(book(2), "X", date(2025, 5, 31)), segment(book(3), "X", date(2026, 1, 1))
    assert (two.first, two.until, two.days_in_period) == (date(2025, 4, 1), date(2025, 6, 1), 61)
    assert (three.first, three.until, three.days_in_period) == (date(2026, 1, 1), date(2026, 4, 1), 90)


def test_an_account_with_unknown_load_or_negative_energy_is_refused_and_its_neighbours_are_not():
    tariff = load_tariffs().on("BR-DS2", date(2025, 10, 1))
    result = bill(tariff, np.array([[200_000, 200_000, -1]]), 31, 31, np.array([2000, 0, 2000]), np.array([True, True, True]))
    assert result.refused.tolist() == [False, True, True]
    assert result.total_paise.tolist() == [59_552, 0, 0]


def test_a_correction_is_the_difference_to_what_was_posted():
    tariff = load_tariffs().on("BR-DS2", date(2025, 10, 1))
    load, mode = np.array([2000]), np.array([True])
    posted, now = (bill(tariff, np.array([[wh]]), 20, 31, load, mode) for wh in (180_000, 150_000))
    correction = adjustment(now, posted)
    assert (correction.amount_paise + posted.amount_paise == now.amount_paise).all()
    assert correction.total_paise[0] < 0


def test_shapes_that_do_not_fit_are_refused_naming_both_sides():
    tariff = load_tariffs().on("BR-DS2-TOU", date(2025, 10, 1))
    with pytest.raises(RequestError, match=r"normal, solar, peak.*energy is \(1, 2\)"):
        bill(tariff, np.zeros((1, 2), np.int64), 1, 31, np.array([1, 1]), np.array([True, True]))


def test_a_demand_tariff_without_demands_is_refused():
    tariff = tariff_of(line("energy", PerUnit((Slab(None, 1),), whole=False)), line("demand", Demand(60_800_000, 900, 1000)))
    with pytest.raises(RequestError, match="charges per kVA, so it needs"):
        bill(tariff, np.zeros((1, 1), np.int64), 1, 30, np.array([1]), np.array([False]))


def test_who_is_within_the_free_units():
    whole = segment(load_tariffs(), "BR-DS2", date(2025, 10, 31))
    used, prepaid = np.array([0, 125_000, 125_001]), np.array([True, True, True])
    assert within_free_units(whole, used, prepaid).tolist() == [True, True, False]
    part = whole.starting(date(2025, 10, 17))  # 15 of 31 days: 60.484 units
    assert within_free_units(part, np.array([60_484, 60_485, 0]), prepaid).tolist() == [True, False, True]
    july = segment(load_tariffs(), "BR-DS2", date(2025, 7, 31))  # postpaid only
    assert within_free_units(july, used, np.array([True, False, False])).tolist() == [False, True, False]
    june = segment(load_tariffs(), "BR-DS2", date(2025, 6, 30))
    assert not within_free_units(june, used, prepaid).any()


def test_more_days_than_the_segment_are_refused():
    part = Segment(load_tariffs().on("BR-DS2", date(2025, 10, 1)), date(2025, 10, 1), date(2025, 11, 1), 31)
    with pytest.raises(RequestError, match="not in the segment"):
        part.days_to(date(2025, 11, 1))
