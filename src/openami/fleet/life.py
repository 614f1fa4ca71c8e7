"""What a simulated meter lives through: the energy of a real household, its relay, its captures; driven by the time that it is asked at.

What always holds:
- energy is exact (kept in Wh/900): where the relay was open nothing was counted, to the second; registers never fall;
- blocks add up to the register: each is the difference of what the register showed;
- nothing happens by itself: `advance(now_s)` lets everything that is due happen, in order, and asking twice changes nothing;
- while there is no supply nothing is counted and no block or day is captured; a bill that falls due then is made all the same;
- the same household, capture period, relay and supply history give the same registers, whenever and however often the meter is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from ..cosem.operations import ControlState
from ..readings import Int32, Int64

QUARTER_S = 900
FIRST_MONDAY_S = 4 * 86_400
"""1970-01-05, a Monday: the shipped weeks begin on Mondays, so a meter's Tuesday is a household's Tuesday."""
ZONE_BY_HOUR = (1,) * 9 + (2,) * 8 + (3,) * 6 + (1,)
"""Time-of-use zone of each hour: normal 23-09, solar 09-17, peak 17-23 (Bihar's slots as proposed for FY2025-26)."""


class Relay(Protocol):
    """What a life must know of its relay."""

    state: ControlState

    def closes_at(self) -> int | None:
        """When it will close by itself, None where it will not."""

    def stands(self, now_s: int) -> ControlState:
        """How it stands at `now_s`, having moved by itself if that was due."""


class Load:
    """A household's consumption as a function of time: its shipped weeks, one after the other, for ever.

    quarter_wh: int32 [slot], whole weeks of quarter hours, every value >= 0. offset_s: local time minus UTC.
    """

    def __init__(self, quarter_wh: Int32, offset_s: int = 19_800) -> None:
        self._wh = [int(value) for value in quarter_wh]
        sums: Int64 = np.concatenate([[0], np.cumsum(quarter_wh, dtype=np.int64)])
        self._sums = [int(value) for value in sums]
        self._offset_s = offset_s

    def _place(self, at_s: int) -> tuple[int, int, int]:
        """(whole cycles, slot, seconds into it)."""
        slots, seconds = divmod(at_s + self._offset_s - FIRST_MONDAY_S, QUARTER_S)
        return *divmod(slots, len(self._wh)), seconds

    def energy(self, from_s: int, to_s: int) -> int:
        """Energy between two instants (UTC seconds) in Wh/900, exact."""
        return self._until(to_s) - self._until(from_s)

    def _until(self, at_s: int) -> int:
        cycles, slot, seconds = self._place(at_s)
        return QUARTER_S * (cycles * self._sums[-1] + self._sums[slot]) + self._wh[slot] * seconds

    def power_w(self, at_s: int) -> int:
        """What the household draws at an instant, as its quarter hour's average [W]."""
        return 4 * self._wh[self._place(at_s)[1]]


class Life:
    """Registers and captures of one meter. relay: asked how it stands; offset_s: the meter clock's error, told by the clock.

    captured(stamp_s, kind): called at the end of each "block", "day" and "month" of the meter's own clock, with the true instant.
    power_factor_milli: 1 to 1000. zone_s: local time minus UTC.
    """

    def __init__(
        self,
        load: Load,
        relay: Relay,
        period_s: int,
        since_s: int,
        power_factor_milli: int,
        zone_s: int = 19_800,
    ) -> None:
        self.load, self.relay, self.period_s = load, relay, period_s
        self.offset_s = 0
        self.now_s = self.since_s = self.month_since_s = since_s
        self._factor = power_factor_milli
        self._zone_s = zone_s
        self.captured: Callable[[int, str], None] = lambda stamp_s, kind: None
        self._total = 0
        self._zones = [0, 0, 0, 0]
        self._block = (0, 0)
        self.dark = False
        self._dark_s = self._dark_month_s = 0
        self.peak: tuple[int, int] = (0, since_s)

    def advance(self, now_s: int) -> None:
        """Everything that is due up to `now_s` (UTC seconds) happens, in order of time."""
        while (end := self._block_end()) <= now_s:
            self._settle(end)
            self._close_block(end)
        self._settle(now_s)

    def supply(self, on: bool, now_s: int) -> bool:
        """The mains go or come back at `now_s`; False where they stood so already."""
        self.advance(now_s)
        changed, self.dark = self.dark is on, not on
        return changed

    def _block_end(self) -> int:
        """The true instant at which the meter's clock ends the running block."""
        shown = self.now_s + self.offset_s + self._zone_s
        return (shown // self.period_s + 1) * self.period_s - self.offset_s - self._zone_s

    def _settle(self, to_s: int) -> None:
        """Counts the energy up to `to_s`, as far as the relay let it through."""
        if to_s <= self.now_s:
            return
        begins: int | None = self.now_s if self.relay.state is ControlState.CONNECTED else self.relay.closes_at()
        if self.dark:
            self._dark_s += to_s - self.now_s
            self._dark_month_s += to_s - self.now_s
        elif begins is not None and begins < to_s:
            begins = max(begins, self.now_s)
            energy = self.load.energy(begins, to_s)
            self._total += energy
            self._zones[ZONE_BY_HOUR[self._local(begins).hour]] += energy
        self.now_s = to_s
        self.relay.stands(to_s)  # last: it may close now, and tell of it

    def _local(self, at_s: int) -> datetime:
        return datetime.fromtimestamp(at_s + self.offset_s + self._zone_s, UTC)

    def _close_block(self, end_s: int) -> None:
        """A block ends. In the dark only a month does: its registers stand still, so the bill is the one made when supply comes back; what
        was counted before the supply went is in the first block behind it, so that blocks go on adding up to the register."""
        if not self.dark:
            self._block = self._block[1], self._total
            demand_w = self._block_w()
            if demand_w > self.peak[0]:
                self.peak = demand_w, end_s
            self.captured(end_s, "block")
        local = self._local(end_s)
        if (local.hour, local.minute, local.second) == (0, 0, 0):
            if not self.dark:
                self.captured(end_s, "day")
            if local.day == 1:
                self.captured(end_s, "month")
                self.month_since_s, self.peak, self._dark_month_s = end_s, (0, end_s), 0

    def milli(self, quantity: str) -> int:
        """A quantity as it stands, in thousandths of its unit (V, A, Hz, W, VA, Wh, VAh, min; the power factor of 1)."""
        if quantity.startswith("import_"):
            zone = int(quantity[-1]) if "zone" in quantity else 0
            counted = self._zones[zone] if zone else self._total
            return self._thousandths(counted, "_vah" in quantity)
        if quantity in ("block_wh", "block_vah"):
            before, after = (self._thousandths(total, quantity == "block_vah") for total in self._block)
            return after - before
        shows: dict[str, Callable[[], int]] = {
            "voltage": self._voltage,
            "block_voltage": self._voltage,
            "current": self._current,
            "block_current": self._block_current,
            "power_factor": lambda: self._factor,
            "power_factor_month": lambda: self._factor,
            "frequency": lambda: 0 if self.dark else 50_000 + (self.now_s // 60 * 37 % 101 - 50),
            "active_power": lambda: 1000 * self._power_w(),
            "apparent_power": lambda: 1_000_000 * self._power_w() // self._factor,
            "demand_w_max": lambda: 1000 * self.peak[0],
            "demand_va_max": lambda: 1_000_000 * self.peak[0] // self._factor,
            "minutes_on": lambda: 1000 * ((self.now_s - self.since_s - self._dark_s) // 60),
            "minutes_on_month": lambda: 1000 * ((self.now_s - self.month_since_s - self._dark_month_s) // 60),
            "nothing": lambda: 0,
        }
        return shows[quantity]()

    def _thousandths(self, counted: int, apparent: bool) -> int:
        """Wh/900 as whole Wh (or VAh) in thousandths: a register shows what is complete."""
        whole = counted * 1000 // (QUARTER_S * self._factor) if apparent else counted // QUARTER_S
        return 1000 * whole

    def _power_w(self) -> int:
        return self.load.power_w(self.now_s) if self.relay.state is ControlState.CONNECTED and not self.dark else 0

    def _voltage(self) -> int:
        """Mains voltage: lower in the evening, and a little lower the more the house draws; 0 in the dark [mV]."""
        if self.dark:
            return 0
        evening = abs((self._local(self.now_s).hour + 3) % 24 - 12)
        return 226_000 + 1_000 * evening - self._power_w() - self.now_s // 300 * 7919 % 900

    def _current(self) -> int:
        return 1_000_000 * 1000 * self._power_w() // (self._factor * self._voltage()) if self._power_w() else 0

    def _block_current(self) -> int:
        return 0 if self.dark else 1_000_000 * 1000 * self._block_w() // (self._factor * self._voltage())

    def _block_w(self) -> int:
        """Average power of the last block [W]."""
        before, after = self._block
        return (after - before) * 3600 // (QUARTER_S * self.period_s)
