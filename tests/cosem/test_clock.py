"""COSEM date-time: round trip, deviation, and what is not specified."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.cosem.clock import CosemDateTime
from openami.errors import MeterError


@given(st.binary(min_size=12, max_size=12))
def test_any_twelve_bytes_round_trip_and_never_raise(octets):
    when = CosemDateTime.decode(octets)
    assert when.encode() == octets
    when.to_stamp(330)
    when.to_stamp(ZoneInfo("Europe/Vienna"))


@given(st.integers(0, 4_000_000_000), st.integers(-720, 720))
def test_stamps_round_trip(stamp, deviation):
    assert CosemDateTime.decode(CosemDateTime.from_stamp(stamp, deviation).encode()).to_stamp(0) == stamp


def test_india_is_deviation_minus_330():
    when = CosemDateTime.from_stamp(int(datetime(2026, 10, 31, 18, 30, tzinfo=UTC).timestamp()))
    assert when.encode().hex() == "07ea0b010700000000feb600"


def test_kaifa_clock_in_summer_time():
    when = CosemDateTime.decode(bytes.fromhex("07e50713010f2e2300ff8880"))
    assert when.to_stamp(0) == int(datetime(2021, 7, 19, 13, 46, 35, tzinfo=UTC).timestamp())


def test_without_deviation_the_zone_decides():
    when = CosemDateTime(2026, 11, 1, None, 0, 30)
    assert when.to_stamp(330) == int(datetime(2026, 10, 31, 19, 0, tzinfo=UTC).timestamp())
    assert when.to_stamp(ZoneInfo("Asia/Kolkata")) == when.to_stamp(330)


def test_the_daylight_saving_bit_chooses_in_autumn():
    vienna = ZoneInfo("Europe/Vienna")
    summer = CosemDateTime(2026, 10, 25, None, 2, 30, 0, None, None, 0x80).to_stamp(vienna)
    winter = CosemDateTime(2026, 10, 25, None, 2, 30, 0, None, None, 0).to_stamp(vienna)
    assert winter - summer == 3600


@pytest.mark.parametrize("missing", ["year", "month", "day", "hour", "minute"])
def test_a_missing_part_gives_no_stamp(missing):
    when = CosemDateTime(2026, 11, 1, 7, 10, 30, 0, 0, -330, 0)
    assert when.to_stamp(0) is not None
    assert when._replace(**{missing: None}).to_stamp(0) is None


@pytest.mark.parametrize("octets", ["000000000000000000000000", "07ea0dff0000000000feb600", "07ea02fe0000000000feb600"])
def test_no_instant_gives_no_stamp(octets):
    assert CosemDateTime.decode(bytes.fromhex(octets)).to_stamp(330) is None


def test_eleven_bytes_are_refused():
    with pytest.raises(MeterError, match="12 bytes, not 11"):
        CosemDateTime.decode(b"\0" * 11)
