"""Readings: channels and their units, local days and their slots, day blocks, quality codes, the meaning of a timestamp.

What always holds:
- a reading is an `int32` in its channel's unit x 10**scaler; `MISSING` in memory and null in files mean "no value", never 0 or -1;
- a reading is stamped with the END of its interval: the stamp 00:00 belongs to the last slot of the day before;
- a day is a local calendar day of the deployment's zone; how many slots it has belongs to the day (23- and 25-hour days exist);
- stored instants are UTC, in whole seconds since 1970;
- a day block is slot-major, `[slot, meter]`: one slot of all meters lies contiguous in memory, and is one Parquet column.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntFlag
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
Bool = npt.NDArray[np.bool_]

MISSING = np.int32(-(2**31))
"""No value, in every int32 day block. Files hold null instead."""

MISSING64 = np.int64(-(2**63))
"""No value, in every int64 array. Files hold null instead."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured quantity of a meter (IEC 61968-9 ReadingType, in short).

    obis: the captured object's logical name (IS 15959); unit and scaler: value = stored integer x 10**scaler [unit];
    additive: True for energies, which may be summed over time and meters; False for averages.
    """

    name: str
    obis: str
    unit: str
    scaler: int
    additive: bool


IMPORT_WH = Channel("import_wh", "1.0.1.29.0.255", "Wh", 0, True)
IMPORT_VAH = Channel("import_vah", "1.0.9.29.0.255", "VAh", 0, True)
EXPORT_WH = Channel("export_wh", "1.0.2.29.0.255", "Wh", 0, True)
EXPORT_VAH = Channel("export_vah", "1.0.10.29.0.255", "VAh", 0, True)
VOLTAGE_V = Channel("voltage_v", "1.0.12.27.0.255", "V", -2, False)
CURRENT_A = Channel("current_a", "1.0.11.27.0.255", "A", -3, False)
CHANNELS: tuple[Channel, ...] = (IMPORT_WH, IMPORT_VAH, EXPORT_WH, EXPORT_VAH, VOLTAGE_V, CURRENT_A)
CHANNEL_BY_NAME = {c.name: c for c in CHANNELS}
CHANNEL_BY_OBIS = {c.obis: c for c in CHANNELS}


class Quality(IntFlag):
    """What is known against a value, as bits in a uint32; 0 = plain valid. Kept sparse in files, dense in memory.

    Bits 0-15 are failed checks (EEI VEE), bits 16-23 say where a validated value came from if not from the meter as it was.
    `docs/glossary.md` gives each one's IEC 61968-9 quality code.
    """

    VALID = 0
    MISSING = 1 << 0
    DUPLICATE = 1 << 1
    OUT_OF_DAY = 1 << 2
    SPIKE = 1 << 3
    SUM = 1 << 4
    HIGH_LOW = 1 << 5
    PLAUSIBILITY = 1 << 6
    FROZEN = 1 << 7
    ZERO = 1 << 8
    VOLTAGE_ENERGY = 1 << 9
    REVERSE = 1 << 10
    CLOCK_DRIFT = 1 << 11
    INACTIVE_METER = 1 << 12
    METER_EXCHANGE = 1 << 13
    OUTAGE = 1 << 14
    ESTIMATED_LINEAR = 1 << 16
    ESTIMATED_LIKE_DAY = 1 << 17
    ESTIMATED_CLASS_PROFILE = 1 << 18
    SCALED_TO_REGISTER = 1 << 19
    EDITED = 1 << 20


CHECK_BITS = np.uint32(0x0000FFFF)
ESTIMATED_BITS = np.uint32(Quality.ESTIMATED_LINEAR | Quality.ESTIMATED_LIKE_DAY | Quality.ESTIMATED_CLASS_PROFILE)
CHECKS: tuple[Quality, ...] = tuple(q for q in Quality if 0 < q < 1 << 16)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Local days of one deployment cut into equal intervals, and the way from stamps to (day, slot) and back."""

    zone: str = "Asia/Kolkata"
    interval_minutes: int = 30

    @property
    def interval_s(self) -> int:
        return 60 * self.interval_minutes

    def day_start(self, day: date) -> int:
        """Local midnight at which `day` begins, as UTC seconds."""
        return _midnight(self.zone, day.toordinal())

    def slots(self, day: date) -> int:
        """How many intervals `day` has: 48 or 96 as a rule, fewer or more on a day of clock change."""
        return (self.day_start(day + timedelta(days=1)) - self.day_start(day)) // self.interval_s

    def stamp(self, day: date, slot: int) -> int:
        """The stamp of (day, slot): the end of the interval, UTC seconds."""
        return self.day_start(day) + (slot + 1) * self.interval_s

    def local(self, stamp_s: int) -> datetime:
        """A stored instant as local time of the deployment, aware of its offset."""
        return datetime.fromtimestamp(stamp_s, UTC).astimezone(ZoneInfo(self.zone))

    def locate(self, stamp_s: Int64, first: date, days: int) -> tuple[Int64, Int64]:
        """Stamps to (day index from `first`, slot), int64 each, both -1 where a stamp is off the grid or outside those days.

        Where a day is no whole number of intervals (hours on a day of 24.5), what is left at its end is off the grid.
        """
        edges = _edges(self, first, days)
        start = np.asarray(stamp_s, np.int64) - self.interval_s
        index = np.searchsorted(edges, start, side="right") - 1
        inside = (index >= 0) & (index < days)
        offset = start - edges[np.clip(index, 0, days)]
        whole = start <= edges[np.clip(index + 1, 0, days)] - self.interval_s
        on_grid = inside & whole & (offset % self.interval_s == 0)
        return np.where(on_grid, index, -1), np.where(on_grid, offset // self.interval_s, -1)


@lru_cache(maxsize=64)
def _edges(calendar: Calendar, first: date, days: int) -> Int64:
    """Where the days begin, and where the last one ends: int64 [days + 1], not to be written."""
    return np.array([calendar.day_start(first + timedelta(days=k)) for k in range(days + 1)], np.int64)


@lru_cache(maxsize=8192)
def _midnight(zone: str, ordinal: int) -> int:
    day = date.fromordinal(ordinal)
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp())


@dataclass(frozen=True, slots=True)
class DayBlock:
    """One day, one shard, one channel: `values` int32 [slot, meter] in the channel's unit x 10**scaler, MISSING where there is none;
    `quality` uint32 [slot, meter] of `Quality` bits, 0 = plain valid."""

    day: date
    shard: int
    channel: Channel
    values: Int32
    quality: UInt32
