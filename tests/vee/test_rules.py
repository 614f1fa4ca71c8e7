"""The rule book: dates, classes, inheritance, and one clear sentence for every way in which a file can be wrong."""

from __future__ import annotations

from datetime import date
from importlib import resources

import numpy as np
import pytest

from openami import vee
from openami.errors import DataError, InputError
from openami.readings import Quality
from openami.vee.rules import Row, parse_rules

SHIPPED = resources.files("openami.vee").joinpath("data/rules.toml").read_text("utf-8")


def test_shipped_rules_say_what_is_not_verified():
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    assert rules.spike_tolerance == 1.8
    assert "spike_tolerance" in rules.unverified
    assert "like_day_days" not in rules.unverified
    assert rules.action(Quality.MISSING) == rules.action(Quality.PLAUSIBILITY) == "estimate"
    assert rules.action(Quality.SPIKE) == rules.action(Quality.SUM) == "flag"


def test_a_class_states_only_its_differences():
    book = vee.load_rules()
    base, own = book.on(date(2026, 1, 1)), book.on(date(2026, 1, 1), "network")
    assert own.frozen_hours_min == 3
    assert base.frozen_hours_min == 8
    assert own.spike_tolerance == base.spike_tolerance


def test_the_newest_rules_that_had_begun_hold():
    text = SHIPPED + '\n[[rule_set]]\nconsumer_class = "domestic"\nsince = 2026-04-01\n[rule_set.spike]\naction = "estimate"\n'
    text += 'tolerance = { value = 2.5, source = "a regulator\'s order" }\n'
    book = parse_rules(text, "test")
    before, after = book.on(date(2026, 3, 31), "domestic"), book.on(date(2026, 4, 1), "domestic")
    assert (before.spike_tolerance, before.action(Quality.SPIKE)) == (1.8, "flag")
    assert (after.spike_tolerance, after.action(Quality.SPIKE)) == (2.5, "estimate")
    assert "spike_tolerance" in before.unverified
    assert "spike_tolerance" not in after.unverified


def test_unknown_class_and_day_before_any_rules_are_refused():
    book = vee.load_rules()
    with pytest.raises(InputError, match=r"no VEE rules for consumer class 'palace'.*agriculture, any, domestic"):
        book.on(date(2026, 1, 1), "palace")
    with pytest.raises(InputError, match="no VEE rules were in force on 1999-12-31"):
        book.on(date(1999, 12, 31), "domestic")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "format 2, this version reads format 1"),
        ("format = 1", "format = ", "not valid TOML"),
        ("format = 1", "format = 1\nextra = 1", "unknown key 'extra'"),
        ('consumer_class = "any"', "consumer_class = 3", "consumer_class must be a name, got 3"),
        ("since = 2000-01-01", 'since = "2000"', "since must be a TOML date"),
        ("[rule_set.spike]", "[rule_set.spikes]", "spikes: only a check has an action"),
        ("tolerance = {", "tolerances = {", "spike: unknown key 'tolerances'; known are tolerance, w_min, load_share_min, action"),
        ("factor = { value = 2.0,", 'factor = { value = "2",', "plausibility.factor: value must be a number"),
        ("factor = { value = 2.0,", "factor = { value = -2.0,", "plausibility.factor: value must be a number from 0"),
        ("w_min = { value = 4000,", "w_min = { value = 4000.5,", "spike.w_min: value must be a whole number, got 4000.5"),
        ("factor = { value = 2.0, source", "factor = { value = 2.0, sauce", "plausibility.factor: must be"),
        ("factor = { value = 2.0,", "factor = { value = 2.0, proof = 1,", "plausibility.factor: unknown key 'proof'"),
        ('[rule_set.missing]\naction = "estimate"', '[rule_set.missing]\naction = "flag"', "missing: action must be 'estimate'"),
        ('[rule_set.sum]\naction = "flag"', '[rule_set.sum]\naction = "estimate"', "sum: action must be 'flag'"),
        ('[rule_set.zero]\naction = "flag"', '[rule_set.zero]\naction = "drop"', "zero: action must be one of estimate, flag, got 'drop'"),
        ("\ndays = {", "\n# days = {", "like_day_days is not stated"),
        ('[rule_set.zero]\naction = "flag"', "[rule_set.zero]", "zero.action is not stated"),
        ('consumer_class = "domestic"', 'consumer_class = "any"', "two rule sets for class 'any' since 2000-01-01|is not stated"),
        ('consumer_class = "any"', 'consumer_class = "all"', "no rule_set of class 'any'"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_that_names_it(old, new, message):
    assert old in SHIPPED
    with pytest.raises(DataError, match=message) as caught:
        parse_rules(SHIPPED.replace(old, new, 1), "my_rules.toml")
    assert "my_rules.toml" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml cannot be read: No such file"):
        vee.load_rules(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.toml are not UTF-8"):
        vee.load_rules(tmp_path / "binary.toml")
    (tmp_path / "empty.toml").write_text("format = 1\n")
    with pytest.raises(DataError, match=r"empty\.toml hold no"):
        vee.load_rules(tmp_path / "empty.toml")


def test_limits_of_a_meter():
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    limits = vee.meter_limits(rules, np.array([3000, 0, 3000]), 15, net_metered=np.array([False, False, True]))
    assert limits.table[Row.HIGH_WH].tolist() == [1500, 2**31 - 1, 1500]
    assert limits.table[Row.LOW_WH].tolist() == [0, 0, -1500]
    assert limits.table[Row.LINEAR_SLOTS_MAX].tolist() == [8, 8, 8]
    assert limits.table[Row.ZERO_RUN_MIN].tolist() == [48, 48, 48]


@pytest.mark.parametrize(
    ("minutes", "floors"), [(10, [667, 84, 667]), (15, [1000, 125, 1000]), (30, [2000, 250, 2000]), (60, [4000, 500, 4000])]
)
def test_a_spike_is_as_much_power_at_every_interval(minutes, floors):
    """Load unknown, a connection smaller than one appliance, and a larger one."""
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    limits = vee.meter_limits(rules, np.array([0, 500, 11_000]), minutes)
    assert limits.table[Row.SPIKE_WH_MIN].tolist() == floors


def test_limits_that_do_not_fit_are_refused():
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    load = np.array([3000, 0])
    with pytest.raises(InputError, match="intervals of 7 minutes"):
        vee.meter_limits(rules, load, 7)
    with pytest.raises(InputError, match="2 rule sets but no rule_of_meter"):
        vee.meter_limits([rules, rules], load, 30)
    with pytest.raises(InputError, match="one of 2 rule sets for each of 2 meters"):
        vee.meter_limits([rules, rules], load, 30, rule_of_meter=np.array([0, 2]))
    with pytest.raises(InputError, match="net_metered has 1 meters"):
        vee.meter_limits(rules, load, 30, net_metered=np.array([True]))
