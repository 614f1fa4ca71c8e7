"""COSEM date-time: 12 bytes in which any part may be "not specified" (Blue Book 4.1.6.1; IEC 62056-6-2).

year(2) month day weekday hour minute second hundredths deviation(2) status. "Not specified" is 0xFFFF for the year, 0x8000 for the
deviation and 0xFF elsewhere, and is None here. The deviation is UTC minus local time in minutes, daylight saving included: -330 in
India. Decoding never refuses what stands in the 12 bytes (a meter with a dead battery says month 0); `to_stamp` gives None for it.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from ..errors import MeterError

_LAYOUT = struct.Struct(">HBBBBBBBhB")

STATUS_INVALID = 0x01
STATUS_DOUBTFUL = 0x02
STATUS_OTHER_BASE = 0x04
STATUS_BAD = 0x08
STATUS_DAYLIGHT_SAVING = 0x80

INDIA_DEVIATION_MINUTES = -330


class CosemDateTime(NamedTuple):
    """A date-time as the meter wrote it. None = not specified.

    month 0xFD, 0xFE: end, begin of daylight saving; day 0xFD, 0xFE: second last, last day of the month; weekday 1 = Monday.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None
    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None
    deviation_minutes: int | None = None
    status: int | None = None

    @staticmethod
    def decode(octets: bytes) -> CosemDateTime:
        """From 12 bytes; MeterError for any other length."""
        if len(octets) != 12:
            raise MeterError(f"a COSEM date-time has 12 bytes, not {len(octets)}")
        year, *parts, deviation, status = _LAYOUT.unpack(octets)
        return CosemDateTime._make(
            (
                None if year == 0xFFFF else year,
                *(None if part == 0xFF else part for part in parts),
                None if deviation == -0x8000 else deviation,
                None if status == 0xFF else status,
            )
        )

    def encode(self) -> bytes:
        """The 12 bytes."""
        parts = (0xFF if part is None else part for part in self[1:8])
        return _LAYOUT.pack(
            0xFFFF if self.year is None else self.year,
            *parts,
            -0x8000 if self.deviation_minutes is None else self.deviation_minutes,
            0xFF if self.status is None else self.status,
        )

    def to_stamp(self, zone: int | tzinfo) -> int | None:
        """UTC seconds since 1970, or None where the parts down to the minute do not name an instant.

        zone: used where the deviation is not specified; minutes east of UTC (330 in India) or a tzinfo. Seconds that are not
        specified count as 0; hundredths are dropped. With a tzinfo, the daylight saving bit chooses between the two instants that
        bear the same local time in autumn.
        """
        year, month, day, _, hour, minute, second, _, deviation, status = self
        if year is None or month is None or day is None or hour is None or minute is None:
            return None
        try:
            local = datetime(year, month, day, hour, minute, second or 0, tzinfo=UTC)
        except ValueError:
            return None
        if deviation is not None:
            return int(local.timestamp()) + 60 * deviation
        if isinstance(zone, int):
            return int(local.timestamp()) - 60 * zone
        fold = 0 if status is not None and status & STATUS_DAYLIGHT_SAVING else 1
        try:
            return int(local.replace(tzinfo=zone, fold=fold).timestamp())
        except (OverflowError, ValueError):
            return None

    @staticmethod
    def from_stamp(stamp_s: int, deviation_minutes: int = INDIA_DEVIATION_MINUTES, status: int = 0) -> CosemDateTime:
        """The instant `stamp_s` (UTC seconds) as local time of a clock with this deviation (UTC minus local, minutes)."""
        local = datetime.fromtimestamp(stamp_s, timezone(timedelta(minutes=-deviation_minutes)))
        return CosemDateTime(
            local.year, local.month, local.day, local.isoweekday(), local.hour, local.minute, local.second, 0, deviation_minutes, status
        )
