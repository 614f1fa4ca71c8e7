"""The words: readings (calendar, quality), money, registry."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import DataError
from openami.money import round_half_up, rupees
from openami.readings import CHANNEL_BY_NAME, CHANNEL_BY_OBIS, CHANNELS, CHECK_BITS, CHECKS, ESTIMATED_BITS, Calendar, Quality
from openami.registry import EPOCH, NEVER, ROSTER, Nodes, PaymentMode, Roster, ShardIndex

INDIA = Calendar("Asia/Kolkata", 30)
ZURICH = Calendar("Europe/Zurich", 15)
SPRING, AUTUMN = date(2025, 3, 30), date(2025, 10, 26)


# Calendar


def test_an_indian_day_begins_at_half_past_six_in_the_evening_utc() -> None:
    assert INDIA.day_start(date(2025, 12, 1)) == datetime(2025, 11, 30, 18, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("calendar", "day", "slots"),
    [
        (INDIA, date(2025, 12, 1), 48),
        (Calendar("Asia/Kolkata", 15), date(2025, 12, 1), 96),
        (ZURICH, date(2025, 12, 1), 96),
        (ZURICH, SPRING, 92),
        (ZURICH, AUTUMN, 100),
        (Calendar("Australia/Lord_Howe", 30), date(2025, 4, 6), 49),
    ],
)
def test_slots_belong_to_the_day(calendar: Calendar, day: date, slots: int) -> None:
    assert calendar.slots(day) == slots


def test_a_stamp_at_midnight_belongs_to_the_day_before() -> None:
    day, slot = INDIA.locate(np.array([INDIA.day_start(date(2025, 12, 2))]), date(2025, 12, 1), 2)
    assert (day.tolist(), slot.tolist()) == ([0], [47])


def test_the_first_stamp_of_a_day_is_one_interval_after_midnight() -> None:
    assert INDIA.stamp(date(2025, 12, 1), 0) == INDIA.day_start(date(2025, 12, 1)) + 1800


def test_midnight_before_the_first_open_day_is_outside() -> None:
    day, slot = INDIA.locate(np.array([INDIA.day_start(date(2025, 12, 1))]), date(2025, 12, 1), 2)
    assert (day.tolist(), slot.tolist()) == ([-1], [-1])


def test_a_stamp_between_two_slots_is_off_the_grid() -> None:
    day, slot = INDIA.locate(np.array([INDIA.stamp(date(2025, 12, 1), 5) + 1]), date(2025, 12, 1), 2)
    assert (day.tolist(), slot.tolist()) == ([-1], [-1])


def test_both_passes_of_the_repeated_hour_have_their_own_slots() -> None:
    """On 26 October 2025 Zurich's clocks show 02:15 twice: first in summer time (slot 8), an hour later in winter time (slot 12)."""
    twice = [datetime(2025, 10, 26, 2, 15, tzinfo=ZoneInfo("Europe/Zurich"), fold=fold).timestamp() for fold in (0, 1)]
    day, slot = ZURICH.locate(np.array(twice, np.int64), AUTUMN, 1)
    assert (day.tolist(), slot.tolist()) == ([0, 0], [8, 12])


def test_a_day_that_is_no_whole_number_of_intervals_keeps_its_rest_off_the_grid() -> None:
    """Lord Howe Island shifts by half an hour: hours of the next day must not take the rest's place."""
    calendar, day = Calendar("Australia/Lord_Howe", 60), date(2025, 4, 6)
    beyond = calendar.day_start(day) + 25 * 3600
    at, slot = calendar.locate(np.array([beyond]), day, 1)
    assert calendar.slots(day) == 24
    assert (at.tolist(), slot.tolist()) == ([-1], [-1])


@pytest.mark.parametrize("stamp_s", [-(2**63), 2**63 - 1, 0, -1])
def test_absurd_stamps_are_outside(stamp_s: int) -> None:
    day, slot = INDIA.locate(np.array([stamp_s], np.int64), date(2025, 12, 1), 2)
    assert (day.tolist(), slot.tolist()) == ([-1], [-1])


def locate_by_search(calendar: Calendar, stamp_s: int, first: date, days: int) -> tuple[int, int]:
    """The twin: tries every slot of every day."""
    for k in range(days):
        day = first + timedelta(days=k)
        for slot in range(calendar.slots(day)):
            if calendar.stamp(day, slot) == stamp_s:
                return k, slot
    return -1, -1


@given(
    calendar=st.sampled_from([INDIA, ZURICH, Calendar("Australia/Lord_Howe", 30), Calendar("Australia/Lord_Howe", 60)]),
    first=st.sampled_from([SPRING, AUTUMN, date(2025, 4, 5), date(2025, 12, 31)]),
    days=st.integers(1, 3),
    offsets=st.lists(st.one_of(st.integers(-200, 400).map(lambda k: 900 * k), st.integers(-100_000, 400_000)), min_size=1, max_size=6),
)
def test_locate_agrees_with_its_twin(calendar: Calendar, first: date, days: int, offsets: list[int]) -> None:
    stamps = [calendar.day_start(first) + offset for offset in offsets]
    day, slot = calendar.locate(np.array(stamps, np.int64), first, days)
    assert list(zip(day.tolist(), slot.tolist(), strict=True)) == [locate_by_search(calendar, s, first, days) for s in stamps]


def test_local_time_is_the_deployments() -> None:
    local = ZURICH.local(int(datetime(2025, 7, 1, 22, 0, tzinfo=UTC).timestamp()))
    assert local.isoformat() == "2025-07-02T00:00:00+02:00"


# Channels and quality


def test_channels_have_a_name_and_an_obis_code_of_their_own() -> None:
    assert len(CHANNEL_BY_NAME) == len(CHANNEL_BY_OBIS) == len(CHANNELS)


def test_every_quality_bit_is_one_bit_of_a_uint32() -> None:
    assert all(bit.bit_count() == 1 and bit < 1 << 31 for bit in Quality if bit)


def test_a_bit_is_either_a_failed_check_or_says_where_a_value_came_from() -> None:
    checks = sum(CHECKS)
    assert checks & int(ESTIMATED_BITS) == 0
    assert checks & ~int(CHECK_BITS) == 0
    assert int(ESTIMATED_BITS) & int(CHECK_BITS) == 0


# Money


@given(numerator=st.integers(-(10**18), 10**18), denominator=st.integers(1, 10**9))
def test_rounding_is_to_the_nearest_and_halves_go_away_from_zero(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    got = round_half_up(numerator, denominator)
    assert abs(got - exact) <= Fraction(1, 2)
    if abs(got - exact) == Fraction(1, 2):
        assert abs(got) > abs(exact)


@given(numerator=st.integers(-(10**15), 10**15), denominator=st.integers(1, 10**6))
def test_a_refund_undoes_a_charge(numerator: int, denominator: int) -> None:
    assert round_half_up(-numerator, denominator) == -round_half_up(numerator, denominator)


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_rate_over_nothing_is_refused(denominator: int) -> None:
    with pytest.raises(ZeroDivisionError, match="must be positive"):
        round_half_up(1, denominator)


@pytest.mark.parametrize(
    ("paise", "text"),
    [
        (0, "₹0.00"),
        (5, "₹0.05"),
        (-5, "-₹0.05"),
        (99_999, "₹999.99"),
        (100_000, "₹1,000.00"),
        (12_345_678, "₹1,23,456.78"),
        (-1_000_000_000, "-₹1,00,00,000.00"),
        (123_456_789_012_345, "₹12,34,56,78,90,123.45"),
    ],
)
def test_rupees_are_grouped_the_indian_way(paise: int, text: str) -> None:
    assert rupees(paise) == text


# Registry


NODES = Nodes.of(["F2", "F1"], [("T2", "F2"), ("T1", "F1")])
PLAIN = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in ROSTER])


Row = dict[str, object]
DAY = date(2026, 1, 10)


def nowhere(serial: str, index: int) -> Row:
    return {"index": index, "serial": serial, "since": NEVER, "until": NEVER, "begun": NEVER}


def consumer(serial: str, index: int, point: str, account: str | None = None, **more: object) -> Row:
    row = {"index": index, "serial": serial, "point": point, "kind": "consumer", "feeder": "F1", "transformer": "T2", "load_w": 5000}
    money = {"account": account, "tariff": "BR-DS2", "mode": "prepaid", "begun": 0, "mode_since": 0, "opening_paise": 7}
    return row | {"since": 0, "until": NEVER} | money | more


def roster_of(*rows: Row) -> Roster:
    by_account = sorted(range(len(rows)), key=lambda k: str(rows[k].get("account") or "~"))
    whole = [{**row, "by_account": place} for row, place in zip(rows, by_account, strict=True)]
    for row in whole:
        row.setdefault("load_w", 0)
        row.setdefault("mode_since", NEVER)
        row.setdefault("opening_paise", 0)
    return Roster(0, pa.Table.from_pylist(whole, PLAIN).cast(ROSTER), NODES)


def index_of(*rows: Row) -> ShardIndex:
    return roster_of(*rows).index_on(DAY)


def nobody(day: date) -> dict[str, tuple[PaymentMode, date]]:
    return {}


def test_a_meter_stands_at_its_index_with_its_place() -> None:
    index = index_of(nowhere("A", 0), consumer("B", 1, "UP-B"))
    assert (index.serials, index.usage_points) == (("A", "B"), ("", "UP-B"))
    assert (index.feeder.tolist(), index.transformer.tolist(), index.connected_load_w.tolist()) == ([-1, 0], [-1, 1], [0, 5000])


def test_a_meter_without_a_usage_point_has_no_kind() -> None:
    index = index_of(nowhere("A", 0))
    assert (index.is_consumer[0], index.is_transformer[0], index.is_feeder[0]) == (False,) * 3


@pytest.mark.parametrize("indexes", [(0, 2), (1, 2), (0, 0)])
def test_an_index_that_is_not_dense_is_refused(indexes: tuple[int, int]) -> None:
    """Arrays are addressed by position and the day grid by `Meter.index`: where they differ, readings would change meters."""
    with pytest.raises(DataError, match=r"has index .* in shard 0"):
        index_of(nowhere("A", indexes[0]), nowhere("B", indexes[1]))


def test_a_meter_at_two_usage_points_on_one_day_is_refused() -> None:
    with pytest.raises(DataError, match=r"meter A.*UP-A.*UP-other"):
        index_of(consumer("A", 0, "UP-A"), consumer("A", 0, "UP-other"))


def test_a_meter_that_measures_what_is_none_of_ours_is_refused() -> None:
    with pytest.raises(DataError, match=r"'house'.*a consumer, a transformer, a feeder"):
        index_of(consumer("A", 0, "UP-A", kind="house"))


def test_a_transformer_on_an_unknown_feeder_is_refused() -> None:
    with pytest.raises(DataError, match=r"T9.*F9"):
        Nodes.of(["F1"], [("T9", "F9")])


def test_a_place_is_there_from_its_first_day_to_the_day_before_its_last() -> None:
    day = (DAY - EPOCH).days
    told = [
        roster_of(consumer("A", 0, "UP-A", since=since, until=until)).index_on(DAY).usage_points == ("UP-A",)
        for since, until in ((day, NEVER), (day + 1, NEVER), (0, day), (0, day + 1))
    ]
    assert told == [True, False, False, True]


def test_two_accounts_at_one_place_are_both_charged_by_its_meter() -> None:
    roster = roster_of(consumer("A", 0, "UP-A", "20"), consumer("A", 0, "UP-A", "10"), consumer("B", 1, "UP-B", "15"))
    accounts = roster.accounts_on(DAY, nobody)
    assert (accounts.numbers.to_pylist(), accounts.meter.tolist()) == (["10", "15", "20"], [0, 1, 0])
    assert roster.index_on(DAY).usage_points == ("UP-A", "UP-B")


def test_accounts_that_have_not_begun_or_are_no_consumers_are_not_charged() -> None:
    day = (DAY - EPOCH).days
    rows = [consumer("A", 0, "UP-A", "1", begun=day + 1), consumer("B", 1, "UP-B", "2", kind="transformer"), consumer("C", 2, "UP-C", "3")]
    assert roster_of(*rows).accounts_on(DAY, nobody).numbers.to_pylist() == ["3"]


def test_an_account_that_was_converted_later_pays_as_it_did_then() -> None:
    later = (DAY - EPOCH).days + 5
    rows = [consumer(m, k, f"UP-{m}", m, mode_since=later, begun=3) for k, m in enumerate("AB")]
    accounts = roster_of(*rows).accounts_on(DAY, lambda day: {"A": (PaymentMode.POSTPAID, EPOCH)})
    assert (accounts.prepaid.tolist(), accounts.mode_since.tolist()) == ([False, True], [0, 3])


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([consumer("A", 0, "UP-A", "1"), consumer("B", 1, "UP-A", "1")], "account 1 is at two meters"),
        ([consumer("A", 0, "UP-A", "1", mode="barter")], "'barter'.*prepaid or postpaid"),
    ],
)
def test_a_registry_that_contradicts_itself_charges_nobody(rows: list[Row], what: str) -> None:
    """Two rows of one account would charge it twice."""
    with pytest.raises(DataError, match=what):
        roster_of(*rows).accounts_on(DAY, nobody)
