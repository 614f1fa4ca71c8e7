"""The day grid: readings scattered into `[slot, meter]` arrays as they come, for all open days of one shard.

What always holds: writing the same reading again changes nothing, so delivery at least once gives each reading exactly once; a slot that two
different values claim keeps the first one (a meter's frames come in the order of its counter) and is marked as in conflict; what is still
MISSING is a gap. A day takes no memory before a reading of it comes; what is known of it from before (`earlier`) is fetched then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numba as nb
import numpy as np

from ..errors import RequestError
from ..readings import CHANNELS, MISSING, Bool, Calendar, DayBlock, Int32, Int64, Quality

COLUMN = {c.name: k for k, c in enumerate(CHANNELS)}


class DayGrid:
    """All channels of one shard over the open days.

    earlier: gives the day blocks that a day had when it was last put away; channels: those known before (names of CHANNELS).
    touched: the days that have changed since `settle`.
    """

    def __init__(
        self,
        shard: int,
        meters: int,
        calendar: Calendar,
        first_day: date,
        days: int,
        earlier: Callable[[date], Sequence[DayBlock]] | None = None,
        channels: Sequence[str] = (),
    ) -> None:
        self.shard, self.meters, self.calendar, self.first_day, self.days = shard, meters, calendar, first_day, days
        self.touched: set[date] = set()
        self._earlier, self._channels = earlier, {COLUMN[name] for name in channels}
        self._held: dict[date, dict[int, tuple[Int32, Bool]]] = {}

    @property
    def channels(self) -> list[str]:
        """The channels that any meter of the shard has ever sent, by name, in the order of CHANNELS."""
        return [CHANNELS[k].name for k in sorted(self._channels)]

    def write(self, stamp_s: Int64, meter: Int64, values: Int32) -> Bool:
        """Write readings in the order given: stamps [n] UTC seconds, meter indexes [n], values [n, channel of CHANNELS], MISSING where the
        push had none. Gives bool [n]: False = the stamp is off the grid or outside the open days, nothing was written.

        RequestError where the arrays do not fit each other or the shard: a meter's index is its column, and nobody else's.
        """
        meter = np.asarray(meter, np.int64)
        if len(meter) and not 0 <= meter.min() <= meter.max() < self.meters:
            raise RequestError(
                f"meter indexes {meter.min()} to {meter.max()} do not fit shard {self.shard}, which has {self.meters} meters"
            )
        if len(stamp_s) != len(meter) or np.shape(values) != (len(meter), len(CHANNELS)):
            raise RequestError(f"{len(stamp_s)} stamps, {len(meter)} meters and values {np.shape(values)} are not the same readings")
        at, slot = self.calendar.locate(stamp_s, self.first_day, self.days)
        for number in np.unique(at[at >= 0]).tolist():
            own = np.flatnonzero(at == number)
            day = self.first_day + timedelta(days=number)
            for k in range(len(CHANNELS)):
                column = np.ascontiguousarray(values[own, k], np.int32)
                if (column != MISSING).any() and _scatter(*self._arrays(day, k), slot[own], meter[own], column):
                    self.touched.add(day)
        return np.asarray(at >= 0, np.bool_)

    def blocks(self, day: date) -> list[DayBlock]:
        """The day blocks of `day`, one for each channel that any meter of the shard has ever sent; quality says missing or duplicate."""
        if not 0 <= (day - self.first_day).days < self.days:
            raise RequestError(f"{day} is not among the {self.days} days from {self.first_day} that this grid holds")
        found = []
        for k in sorted(self._channels):
            values, conflict = self._arrays(day, k)
            quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
            quality |= np.where(conflict, np.uint32(Quality.DUPLICATE), np.uint32(0))
            found.append(DayBlock(day, self.shard, CHANNELS[k], values.copy(), quality))
        return found

    def settle(self) -> None:
        """What was touched has been put away; the days leave memory, where they can be fetched again."""
        self.touched.clear()
        if self._earlier is not None:
            self._held.clear()

    def _arrays(self, day: date, channel: int) -> tuple[Int32, Bool]:
        """Values and conflicts of a channel's day, [slot, meter]."""
        self._channels.add(channel)
        if day not in self._held:
            self._held[day] = {COLUMN[b.channel.name]: self._unfolded(b) for b in (self._earlier(day) if self._earlier else ())}
        held = self._held[day]
        if channel not in held:
            shape = self.calendar.slots(day), self.meters
            held[channel] = np.full(shape, MISSING, np.int32), np.zeros(shape, np.bool_)
        return held[channel]

    def _unfolded(self, block: DayBlock) -> tuple[Int32, Bool]:
        """A block as arrays of the grid's own, with room for meters that have come since."""
        slots, known = block.values.shape
        values, conflict = np.full((slots, self.meters), MISSING, np.int32), np.zeros((slots, self.meters), np.bool_)
        values[:, :known] = block.values
        conflict[:, :known] = (block.quality & np.uint32(Quality.DUPLICATE)) != 0
        return values, conflict


def together(first: Sequence[DayBlock], then: Sequence[DayBlock]) -> list[DayBlock]:
    """Blocks of one (day, shard) from two sources: the second fills the gaps of the first, and where both speak and differ the first stays and the
    slot is in conflict; as if all of the second had been written behind all of the first."""
    own, other = ({b.channel.name: b for b in blocks} for blocks in (first, then))
    found = []
    for channel in CHANNELS:
        a, b = own.get(channel.name), other.get(channel.name)
        if a is None or b is None:
            found += [one for one in (a, b) if one is not None]
            continue
        values = np.where(a.values == MISSING, b.values, a.values)
        differs = (a.values != MISSING) & (b.values != MISSING) & (a.values != b.values)
        doubted = differs | (((a.quality | b.quality) & np.uint32(Quality.DUPLICATE)) != 0)
        quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
        quality |= np.where(doubted, np.uint32(Quality.DUPLICATE), np.uint32(0))
        found.append(DayBlock(a.day, a.shard, channel, values, quality))
    return found


@nb.njit(nogil=True, cache=True)
def _scatter(grid: Int32, conflict: Bool, slot: Int64, meter: Int64, values: Int32) -> int:
    """Writes values [n]; gives how many changed anything."""
    changed = 0
    for i in range(slot.size):
        value = values[i]
        if value == MISSING:
            continue
        held = grid[slot[i], meter[i]]
        if held == MISSING:
            grid[slot[i], meter[i]] = value
            changed += 1
        elif held != value and not conflict[slot[i], meter[i]]:
            conflict[slot[i], meter[i]] = True
            changed += 1
    return changed
