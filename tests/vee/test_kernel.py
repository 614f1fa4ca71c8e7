"""The fused kernel against its plain-loop twin, against the checks as defined, and against itself however it is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami import vee
from openami.errors import InputError
from openami.readings import CHECKS, MISSING, Quality
from openami.vee import checks, kernel

from .reference import MeterDay, checked, finished

SHIPPED = vee.load_rules().on(date(2026, 1, 1), "domestic")
RULES = replace(
    SHIPPED, spike_w_min=40, spike_load_share_min=0.3, frozen_hours_min=1.5, zero_hours_min=1.5, sum_tolerance_wh=5, high_low_wh_min=50,
    voltage_energy_wh_min=2, reverse_wh_min=2, inactive_meter_wh_min=2, clock_drift_s_max=60, linear_hours_max=1.0,
)  # fmt: skip

small = st.one_of(st.none(), st.sampled_from([0, 0, 0, 7, 7, 7]), st.integers(-30, 60), st.integers(200, 400))
few = st.sampled_from([False, False, False, True])


@st.composite
def days(draw) -> list[MeterDay]:
    """1 to 4 meters of 1 to 12 half hours, with everything that may be known about them; what one has, all have."""
    slots, meters = draw(st.integers(1, 12)), draw(st.integers(1, 4))

    def maybe(element):
        return st.lists(element, min_size=slots, max_size=slots) if draw(st.booleans()) else st.none()

    conflict, outage, inactive, edited = maybe(few), maybe(few), maybe(few), maybe(few)
    voltage, export = maybe(st.one_of(st.none(), st.integers(0, 5000))), maybe(st.one_of(st.none(), st.integers(0, 5)))
    like = maybe(st.one_of(st.none(), st.integers(-5, 700)))
    profile = draw(maybe(st.one_of(st.none(), st.integers(0, 50))))
    with_drift, with_register, with_usual = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return [
        MeterDay(
            wh=draw(st.lists(small, min_size=slots, max_size=slots)),
            load_w=draw(st.sampled_from([0, 100, 500])),
            net_metered=draw(few),
            conflict=draw(conflict),
            outage=draw(outage),
            inactive=draw(inactive),
            edited=draw(edited),
            voltage_cv=draw(voltage),
            export_wh=draw(export),
            drift_s=draw(st.integers(-90, 90)) if with_drift else None,
            exchange_slot=draw(st.integers(-1, slots)),
            like=draw(like),
            profile=profile,
            register=draw(st.one_of(st.none(), st.integers(-50, 2000))) if with_register else None,
            usual=draw(st.one_of(st.none(), st.integers(0, 2000))) if with_usual else None,
        )
        for _ in range(meters)
    ]


def grid(meters: list[MeterDay], name: str, empty: int = int(MISSING)) -> np.ndarray | None:
    columns = [getattr(m, name) for m in meters]
    if columns[0] is None:
        return None
    dtype = np.bool_ if isinstance(columns[0][0], bool) else np.int32
    return np.array([[empty if v is None else v for v in c] for c in columns], dtype).T.copy()


def whole(meters: list[MeterDay], name: str) -> np.ndarray | None:
    column = [getattr(m, name) for m in meters]
    return None if all(v is None for v in column) else np.array([vee.MISSING64 if v is None else v for v in column], np.int64)


def as_arrays(meters: list[MeterDay]) -> tuple[np.ndarray, vee.MeterLimits, dict, dict]:
    limits = vee.meter_limits(RULES, np.array([m.load_w for m in meters]), 30, net_metered=np.array([m.net_metered for m in meters]))
    given_ = {n: grid(meters, n) for n in ("conflict", "outage", "inactive", "edited", "voltage_cv", "export_wh")}
    given_["drift_s"] = None if meters[0].drift_s is None else np.array([m.drift_s for m in meters], np.int32)
    given_["exchange_slot"] = np.array([m.exchange_slot for m in meters], np.int32)
    known = {
        "like_day": grid(meters, "like"),
        "class_profile": None if meters[0].profile is None else grid(meters[:1], "profile"),
        "register_wh": whole(meters, "register"),
        "usual_wh": whole(meters, "usual"),
    }
    values = grid(meters, "wh")
    return np.asarray(values, np.int32), limits, given_, known


def as_lists(result: vee.VeeResult, meter: int) -> tuple[list, list[Quality]]:
    column = [None if v == MISSING else int(v) for v in result.validated[:, meter]]
    return column, [Quality(int(q)) for q in result.quality[:, meter]]


@settings(max_examples=200, deadline=None)
@given(days())
def test_kernel_agrees_with_its_plain_loop_twin(meters):
    values, limits, found, known = as_arrays(meters)
    result = vee.run(values, limits, **found, **known)
    for k, day in enumerate(meters):
        assert as_lists(result, k) == finished(day, RULES, checked(day, RULES))


@settings(max_examples=100, deadline=None)
@given(days())
def test_kernel_agrees_with_the_checks_as_defined(meters):
    values, limits, found, known = as_arrays(meters)
    absent = np.zeros(values.shape, np.bool_)
    conflict, outage, inactive = (found[n] if found[n] is not None else absent for n in ("conflict", "outage", "inactive"))
    net = np.array([m.net_metered for m in meters])
    load = np.array([m.load_w for m in meters])
    failed = {
        Quality.MISSING: checks.missing(values, outage),
        Quality.DUPLICATE: checks.duplicate(values, conflict),
        Quality.PLAUSIBILITY: checks.plausibility(values, load, 0.5, RULES.plausibility_factor, net),
        Quality.FROZEN: checks.frozen(values, 3),
        Quality.ZERO: checks.zero(values, outage | inactive | (absent if found["export_wh"] is None else found["export_wh"] > 0), 3),
        Quality.INACTIVE_METER: checks.inactive_meter(values, inactive, RULES.inactive_meter_wh_min),
        Quality.METER_EXCHANGE: checks.meter_exchange(found["exchange_slot"], values.shape[0]),
    }
    usable = (values != MISSING) & ~failed[Quality.DUPLICATE] & ~failed[Quality.PLAUSIBILITY]
    failed[Quality.SPIKE] = checks.spike(values, usable, RULES.spike_tolerance, np.where(load == 100, 15, 20))
    if found["voltage_cv"] is not None:
        failed[Quality.VOLTAGE_ENERGY] = checks.voltage_energy(values, found["voltage_cv"], 2000, RULES.voltage_energy_wh_min)
    if found["export_wh"] is not None:
        failed[Quality.REVERSE] = checks.reverse(found["export_wh"], RULES.reverse_wh_min, net)
    if found["drift_s"] is not None:
        failed[Quality.CLOCK_DRIFT] = np.broadcast_to(checks.clock_drift(found["drift_s"], RULES.clock_drift_s_max), values.shape)
    result = vee.run(values, limits, **found, **known)
    if known["register_wh"] is not None:
        failed[Quality.SUM] = np.broadcast_to(
            checks.register_sum(result.validated, known["register_wh"], RULES.sum_tolerance_wh), values.shape
        )
    if known["usual_wh"] is not None:
        outside = checks.high_low(
            result.validated, known["usual_wh"], RULES.high_low_ratio_min, RULES.high_low_ratio_max, RULES.high_low_wh_min
        )
        failed[Quality.HIGH_LOW] = np.broadcast_to(outside, values.shape)
    for check in set(CHECKS) - {Quality.OUTAGE}:
        expected = failed.get(check, absent)
        np.testing.assert_array_equal((result.quality & np.uint32(check)) != 0, expected, err_msg=str(check.name))


@settings(max_examples=60, deadline=None)
@given(days())
def test_validate_then_estimate_is_run_and_counts_are_what_is_there(meters):
    values, limits, found, known = as_arrays(meters)
    before = {name: None if a is None else a.copy() for name, a in {"values": values, **found, **known}.items()}
    together = vee.run(values, limits, **found, **known)
    apart = kernel.estimate(values, kernel.validate(values, limits, **found), limits, **known)
    np.testing.assert_array_equal(together.validated, apart.validated)
    np.testing.assert_array_equal(together.quality, apart.quality)
    assert together.counts == apart.counts == {q: int(((together.quality & np.uint32(q)) != 0).sum()) for q in Quality if q}
    np.testing.assert_array_equal(together.unfilled, (together.validated == MISSING).sum(axis=0))
    for name, array in {"values": values, **found, **known}.items():
        np.testing.assert_array_equal(array, before[name], err_msg=f"{name} was written to")


def realistic(meters: int, slots: int = 48) -> tuple[np.ndarray, dict, dict]:
    rng = np.random.default_rng(7)
    wh = (150 * rng.lognormal(0, 0.7, (1, meters)) * rng.gamma(4, 0.25, (slots, meters))).astype(np.int32)
    register = wh.sum(axis=0, dtype=np.int64)
    register[rng.random(meters) < 0.3] = vee.MISSING64
    noise = rng.random((slots, meters))
    wh[noise > 0.999] *= 40
    wh[:, rng.random(meters) < 0.01] = 77
    wh[:, rng.random(meters) < 0.01] = 0
    wh[noise < 0.02] = MISSING
    wh[10:25, rng.random(meters) < 0.05] = MISSING
    found = {"conflict": rng.random((slots, meters)) < 0.001, "outage": rng.random((slots, meters)) < 0.002}
    like = np.where(rng.random((slots, meters)) < 0.1, MISSING, 150).astype(np.int32)
    known = {"like_day": like, "register_wh": register, "usual_wh": np.full(meters, 7000, np.int64)}
    return wh, found, known


@pytest.mark.parametrize("pieces", [7, 100])
def test_results_do_not_depend_on_where_the_meters_are_cut(pieces):
    meters = 2311
    values, found, known = realistic(meters)
    limits = vee.meter_limits(SHIPPED, np.full(meters, 5000), 30)
    whole_run = vee.run(values, limits, **found, **known)
    edges = [meters * k // pieces for k in range(pieces + 1)]
    parts = [
        vee.run(values[:, a:b], limits.part(a, b), **{n: v[..., a:b] for n, v in {**found, **known}.items()})
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_array_equal(np.concatenate([p.validated for p in parts], axis=1), whole_run.validated)
    np.testing.assert_array_equal(np.concatenate([p.quality for p in parts], axis=1), whole_run.quality)
    assert {q: sum(p.counts[q] for p in parts) for q in whole_run.counts} == whole_run.counts


def test_validated_values_pass_validation_again_unchanged():
    values, found, known = realistic(700)
    limits = vee.meter_limits(SHIPPED, np.full(700, 5000), 30)
    first = vee.run(values, limits, **found, **known)
    again = vee.run(first.validated, limits, like_day=known["like_day"], register_wh=known["register_wh"])
    filled = first.validated != MISSING
    np.testing.assert_array_equal(again.validated[filled], first.validated[filled])


@pytest.mark.parametrize("slots", [46, 50, 92, 96, 100])
def test_days_of_any_length_add_up_to_the_register(slots):
    values, _, known = realistic(600, slots)
    limits = vee.meter_limits(SHIPPED, np.zeros(600, np.int64), 15)
    known["register_wh"] = np.where(values == MISSING, 0, values).sum(axis=0, dtype=np.int64) + 12_345
    result = vee.run(values, limits, **{**known, "like_day": np.full((slots, 600), 150, np.int32)})
    scaled = ((result.quality & np.uint32(Quality.SCALED_TO_REGISTER)) != 0).any(axis=0)
    assert scaled.sum() > 300
    np.testing.assert_array_equal(result.validated.sum(axis=0, dtype=np.int64)[scaled], known["register_wh"][scaled])


def test_two_classes_in_one_shard_each_get_their_own_rules_and_profile():
    book = vee.load_rules()
    sets = [book.on(date(2026, 1, 1), c) for c in ("domestic", "network")]
    limits = vee.meter_limits(sets, np.array([0, 0]), 30, rule_of_meter=np.array([0, 1]))
    values = np.full((48, 2), 500, np.int32)
    values[:6] = 123
    values[10:12] = 0
    values[20:30] = MISSING
    values[40:] = 600
    profile = np.array([[11, 22]] * 48, np.int32)
    result = vee.run(values, limits, class_profile=profile)
    assert result.validated[25].tolist() == [11, 22]
    frozen, zero = (((result.quality & np.uint32(q)) != 0).any(axis=0).tolist() for q in (Quality.FROZEN, Quality.ZERO))
    assert frozen == [False, True]
    assert zero == [False, True]


def test_arrays_that_do_not_fit_are_refused_by_name():
    limits = vee.meter_limits(SHIPPED, np.zeros(3, np.int64), 30)
    values = np.zeros((48, 3), np.int32)
    with pytest.raises(InputError, match="values have 4 meters, their limits are for 3"):
        vee.run(np.zeros((48, 4), np.int32), limits)
    with pytest.raises(InputError, match="values must be int32"):
        vee.run(values.astype(np.int64), limits)
    with pytest.raises(InputError, match=r"like_day must be int32 of shape \(48, 3\), got int64"):
        vee.run(values, limits, like_day=values.astype(np.int64))
    with pytest.raises(InputError, match="register_wh must be int64"):
        vee.run(values, limits, register_wh=np.zeros(2, np.int64))
    with pytest.raises(InputError, match="class_profile has 0 profiles"):
        vee.run(values, limits, class_profile=np.zeros((48, 0), np.int32))
    with pytest.raises(InputError, match="quality must be uint32"):
        kernel.estimate(values, values, limits)


def test_no_meters_is_an_empty_day():
    result = vee.run(np.zeros((48, 0), np.int32), vee.meter_limits(SHIPPED, np.zeros(0, np.int64), 30))
    assert result.validated.shape == (48, 0)
    assert not any(result.counts.values())
