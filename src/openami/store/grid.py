"""The day grid: readings scattered into `[slot, meter]` arrays as they come, for all open days of one shard.

What always holds: writing the same reading again changes nothing, so delivery at least once gives each reading exactly once; a slot that two
different values claim keeps the first one (a meter's frames come in the order of its counter) and is marked as in conflict; what is still
MISSING is a gap.
"""

from __future__ import annotations

from datetime import date, timedelta

import numba as nb
import numpy as np

from ..errors import RequestError
from ..readings import CHANNELS, MISSING, Bool, Calendar, DayBlock, Int32, Int64, Quality

COLUMN = {c.name: k for k, c in enumerate(CHANNELS)}


class DayGrid:
    """All channels of one shard over the open days. Days lie behind one another: row = slots of the days before + slot."""

    def __init__(self, shard: int, meters: int, calendar: Calendar, first_day: date, days: int) -> None:
        self.shard, self.calendar, self.first_day, self.days = shard, calendar, first_day, days
        slots = [calendar.slots(first_day + timedelta(days=k)) for k in range(days)]
        self._edges = np.concatenate([[0], np.cumsum(slots)]).astype(np.int64)
        shape = (len(CHANNELS), int(self._edges[-1]), meters)
        self._values = np.full(shape, MISSING, np.int32)
        self._conflict = np.zeros(shape, np.bool_)

    def write(self, stamp_s: Int64, meter: Int64, values: Int32) -> Bool:
        """Write readings in the order given: stamps [n] UTC seconds, meter indexes [n], values [n, channel of CHANNELS], MISSING where the
        push had none. Gives bool [n]: False = the stamp is off the grid or outside the open days, nothing was written.

        RequestError where the arrays do not fit each other or the shard: a meter's index is its column, and nobody else's.
        """
        meter = np.asarray(meter, np.int64)
        meters = self._values.shape[2]
        if len(meter) and not 0 <= meter.min() <= meter.max() < meters:
            raise RequestError(f"meter indexes {meter.min()} to {meter.max()} do not fit shard {self.shard}, which has {meters} meters")
        if len(stamp_s) != len(meter) or np.shape(values) != (len(meter), len(CHANNELS)):
            raise RequestError(f"{len(stamp_s)} stamps, {len(meter)} meters and values {np.shape(values)} are not the same readings")
        day, slot = self.calendar.locate(stamp_s, self.first_day, self.days)
        inside = day >= 0
        row = np.where(inside, self._edges[np.maximum(day, 0)] + slot, -1)
        _scatter(self._values, self._conflict, row, meter, np.ascontiguousarray(values, np.int32))
        return np.asarray(inside, np.bool_)

    def blocks(self, day: date) -> list[DayBlock]:
        """The day blocks of `day`, one for each channel that any meter of the shard has ever sent; quality says missing or duplicate."""
        at = (day - self.first_day).days
        if not 0 <= at < self.days:
            raise RequestError(f"{day} is not among the {self.days} days from {self.first_day} that this grid holds")
        rows = slice(int(self._edges[at]), int(self._edges[at + 1]))
        found = []
        for k, channel in enumerate(CHANNELS):
            if (self._values[k] == MISSING).all():
                continue
            values = np.ascontiguousarray(self._values[k, rows])
            quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
            quality |= np.where(self._conflict[k, rows], np.uint32(Quality.DUPLICATE), np.uint32(0))
            found.append(DayBlock(day, self.shard, channel, values, quality))
        return found


@nb.njit(nogil=True, cache=True)
def _scatter(grid: Int32, conflict: Bool, row: Int64, meter: Int64, values: Int32) -> None:
    for i in range(row.size):
        if row[i] < 0:
            continue
        for c in range(values.shape[1]):
            value = values[i, c]
            if value == MISSING:
                continue
            held = grid[c, row[i], meter[i]]
            if held == MISSING:
                grid[c, row[i], meter[i]] = value
            elif held != value:
                conflict[c, row[i], meter[i]] = True
