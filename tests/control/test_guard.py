"""The disconnection guard: scenarios that a tariff officer can read, and no combination of facts that slips through."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.control import NEVER, Facts, decide, load_policies
from openami.control.rules import RULES
from openami.errors import DataError, InputError, RequestError

from .scenarios import in_order_at, read_scenarios

ZONE = ZoneInfo("Asia/Kolkata")
CASES = Path(__file__).parent.parent / "cases" / "control"
SCENARIOS = [row for path in sorted(CASES.glob("*.txt")) for row in read_scenarios(path)]


@pytest.mark.parametrize("row", SCENARIOS, ids=[row.title for row in SCENARIOS])
def test_scenario(row):
    decision = decide(load_policies().on(row.policy, row.now.date()), row.facts, row.now)
    against = [reason.code + ("?" if reason.ok is None else "") for reason in decision.against]
    assert (decision.allowed, against) == (row.allowed, row.because)


def at(day, clock="12:00"):
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=ZONE)


def in_order(**changes):
    return replace(in_order_at(at("2025-10-08")), **({"balance_paise": -52_10, "below_floor_since": date(2025, 10, 1)} | changes))


PREPAID_FACTS = [
    f.name
    for f in fields(Facts)
    if f.name
    not in {
        "category",
        "sanctioned_load_w",
        "daily_use_paise",
        "written_notice_on",
        "deposited_under_protest",
        "dues_first_due_on",
        "dues_shown_continuously",
    }
]


@pytest.mark.parametrize("name", PREPAID_FACTS)
def test_any_missing_fact_refuses_and_is_named_unknown(name):
    decision = decide(load_policies().on("BR", date(2025, 10, 8)), in_order(**{name: None}), at("2025-10-08"))
    assert not decision.allowed
    assert any(reason.ok is None and reason.en.startswith("Not known: ") for reason in decision.against)


def test_no_facts_at_all_refuse():
    assert not decide(load_policies().on("BR", date(2025, 10, 8)), Facts(), at("2025-10-08")).allowed


FLAGS = ["kill_switch_on", "estimate_in_reckoning", "within_free_units", "payment_in_flight", "life_support", "dispute_open"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["BR", "UP", "WB", "KA"]),
    st.integers(0, 365 * 1440 * 2 - 1),
    st.fixed_dictionaries({name: st.sampled_from([None, True, False, False]) for name in FLAGS}),
    st.none() | st.integers(-100_000, 1000),
    st.sampled_from([None, NEVER, date(2025, 1, 1)]),
)
def test_no_cut_that_the_policy_forbids(name, moment, flags, balance, below_since):
    now = at("2025-04-01", "00:00") + timedelta(minutes=moment)
    facts = replace(in_order_at(now), balance_paise=balance, below_floor_since=below_since, **flags)
    policy = load_policies().on(name, now.date())
    if not decide(policy, facts, now).allowed:
        return
    hours = {"BR": ("11:00", "17:30"), "UP": ("08:00", "18:00"), "WB": ("10:00", "17:00"), "KA": ("10:00", "17:00")}[name]
    assert hours[0] <= now.strftime("%H:%M") < hours[1]
    assert now.weekday() != 6
    assert not (name == "WB" and now.weekday() == 5)
    assert (now.month, now.day) not in {(1, 26), (8, 15), (10, 2)}
    assert now.year in {2025, 2026}
    assert balance is not None
    assert balance < {"BR": 0, "UP": 0, "WB": -300_00, "KA": 1}[name]
    assert below_since == date(2025, 1, 1)
    protected = {flag for flag, value in flags.items() if value is not False}
    assert not protected - ({"within_free_units"} if name != "BR" or now.date() < date(2025, 8, 1) else set())


def test_every_answer_is_given_with_its_sentences_and_source():
    decision = decide(load_policies().on("BR", date(2025, 10, 8)), in_order(), at("2025-10-08"))
    assert decision.allowed
    assert [reason.code for reason in decision.reasons] == [code for code, rule in RULES.items() if rule.mode in (None, "prepaid")]
    for reason in decision.reasons:
        assert reason.en.endswith(".")
        assert reason.hi.endswith("।")
        assert "{" not in reason.en + reason.hi
        assert reason.source or reason.verify


def test_same_inputs_same_decision():
    policy = load_policies().on("BR", date(2025, 10, 8))
    assert decide(policy, in_order(), at("2025-10-08")) == decide(policy, in_order(), at("2025-10-08"))


def test_time_without_an_offset_is_refused():
    with pytest.raises(RequestError, match="local time with its offset"):
        decide(load_policies().on("BR", date(2025, 10, 8)), in_order(), datetime(2025, 10, 8, 12))  # noqa: DTZ001


def test_a_policy_is_not_used_outside_its_dates():
    with pytest.raises(RequestError, match="does not hold on 2025-07-01"):
        decide(load_policies().on("BR", date(2025, 10, 8)), in_order(), at("2025-07-01"))


def test_an_unknown_policy_names_those_that_are_known():
    with pytest.raises(InputError, match=r"no disconnection policy 'XX'; known are BR, KA, UP, WB"):
        load_policies().on("XX", date(2025, 10, 8))


SHIPPED = (Path(__file__).parents[2] / "src/openami/control/data/policies/BR.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("since = 2025-08-01", "since = 2025-08-02", "BR.toml: gap between the versions until 2025-08-01 and from 2025-08-02"),
        ("since = 2025-08-01", "since = 2025-07-31", "BR.toml: overlap between"),
        ("dispute = {", "disput = {", "BR.toml, version 1: unknown rules disput"),
        ('from = "11:00"', 'from = "11.00"', "rule legal_hours: from = '11.00' is not a time of day"),
        ('from = "11:00"', 'from = "18:00"', "'from' 18:00 is not before 'to' 17:30"),
        ("clear_days = 15, ", "", "rule written_notice: key 'clear_days' is missing"),
        ("paise = 0,", "paise = 0.5,", "rule floor_balance: paise = 0.5 is not a whole number"),
        ('["sunday"]', '["monday"]', "give some of sunday, saturday, second_saturday"),
    ],
)
def test_a_policy_file_that_cannot_be_used_is_refused(tmp_path, find, put, message):
    assert find in SHIPPED
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "BR.toml").write_text(SHIPPED.replace(find, put, 1), "utf-8")
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "BR.toml").write_text("", "utf-8")
    with pytest.raises(InputError, match=message):
        load_policies(tmp_path)


def test_a_missing_holiday_file_is_refused_by_name(tmp_path):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "BR.toml").write_text(SHIPPED, "utf-8")
    with pytest.raises(InputError, match=r"BR.toml, version 1, rule holiday: there is no holiday file holidays/BR.toml"):
        load_policies(tmp_path)


def test_a_folder_without_policies_is_refused(tmp_path):
    with pytest.raises(DataError, match="no policy"):
        load_policies(tmp_path)


def test_the_grace_of_a_leap_day_ends():
    now = at("2026-03-02")
    facts = in_order(dues_first_due_on=date(2024, 2, 29))
    facts = replace(facts, payment_mode="postpaid", written_notice_on=now.date() - timedelta(days=30), balance_as_of=now)
    reasons = {r.code: r.ok for r in decide(load_policies().on("BR", now.date()), facts, now).reasons}
    assert reasons["claim_age"] is False
