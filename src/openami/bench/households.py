"""What VEE finds in real data: the documented defects of the shipped households, faults that are planted into sound days, and how many good
readings are marked wrongly.

The Swiss households are quarter hours with defects left in (their README lists them), the London ones are clean half hours, the heat pump
has doubled days and the clock changes of three years. No sanctioned load is known of any, as nothing in the sets says it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq

from ..fleet.households import load_households
from ..readings import CHANNELS, IMPORT_WH, MISSING, Bool, Calendar, Int32, Int64, Quality, UInt32
from ..store.grid import COLUMN, DayGrid
from ..vee import MeterLimits, load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.checks import usual_day

SLOTS = 96
NEGATIVE = 9717902
SPIKE_WH = 7_000
"""Of household 9717902; all its other readings stay below 4.6 kWh."""
ALL_ZERO = (3487292, 5069667, 5219426, 5781866, 7761776, 9635190)
JUDGED_FROM = 28
"""From this day on four weeks are known, so that high/low usage can be judged."""
SINGLE = (Quality.SPIKE, Quality.PLAUSIBILITY, Quality.FROZEN, Quality.ZERO, Quality.HIGH_LOW)


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect that is known to be there: what, where, the check that must find it, how many readings have it, how many of them are marked."""

    defect: str
    where: str
    check: Quality
    readings: int
    found: int


@dataclass(frozen=True, slots=True)
class Wrong:
    """Good readings that a check marks: `marked` of `judged`, on `days` meter-days; `what` names the data."""

    what: str
    check: Quality
    marked: int
    judged: int
    days: int

    @property
    def share(self) -> float:
        return self.marked / self.judged


@lru_cache(maxsize=1)
def swiss() -> tuple[Int64, Int32]:
    """ids [household] and readings int32 [day, slot, household] [Wh]."""
    shipped = load_households()
    return shipped.ids, np.ascontiguousarray(shipped.metered_wh.transpose(1, 2, 0))


def sound_days() -> Int32:
    """int32 [day, slot, household] of the households that are neither dead nor impossible."""
    ids, days = swiss()
    return np.ascontiguousarray(days[:, :, ~np.isin(ids, (NEGATIVE, *ALL_ZERO))])


@lru_cache(maxsize=1)
def swiss_quality() -> UInt32:
    """`Quality` bits [day, slot, household] of the Swiss households as they are."""
    return judged_days(swiss()[1], 15)


def judged_days(days: Int32, interval_minutes: int) -> UInt32:
    """`Quality` bits of int32 [day, slot, meter]: domestic rules, no load known, the usual day from the same weekday of four weeks before."""
    limits = _limits(days.shape[2], interval_minutes)
    totals = days.sum(axis=1, dtype=np.int64)
    found = []
    for d, day in enumerate(days):
        before = [totals[k] for k in (d - 28, d - 21, d - 14, d - 7) if k >= 0]
        usual = usual_day(np.stack(before)) if d >= JUDGED_FROM else None
        found.append(vee_run(day, limits, usual_wh=usual).quality)
    return np.stack(found)


def _limits(meters: int, interval_minutes: int, load_w: int = 0) -> MeterLimits:
    return meter_limits(load_rules().on(date(2026, 1, 1), "domestic"), np.full(meters, load_w, np.int64), interval_minutes)


def findings() -> list[Finding]:
    """Every defect that the README of the Swiss households documents."""
    ids, days = swiss()
    column = {int(household): k for k, household in enumerate(ids)}
    flat = days.reshape(-1, len(ids))
    bits = swiss_quality().reshape(flat.shape)

    def finding(defect: str, where: str, check: Quality, mask: Bool) -> Finding:
        return Finding(defect, where, check, int(mask.sum()), int((mask & ((bits & np.uint32(check)) != 0)).sum()))

    broken = np.zeros(flat.shape, np.bool_)
    broken[:, column[NEGATIVE]] = True
    found = [
        finding("negative readings, down to -36.48 kWh", str(NEGATIVE), Quality.PLAUSIBILITY, broken & (flat < 0)),
        finding("spikes, up to 47.05 kWh in 15 minutes", str(NEGATIVE), Quality.SPIKE, broken & (flat > SPIKE_WH)),
    ]
    for dead_one in ALL_ZERO:
        dead = np.zeros(flat.shape, np.bool_)
        dead[:, column[dead_one]] = True
        found.append(finding("zero for all seven weeks", str(dead_one), Quality.ZERO, dead))
    for k in long_zero_runs(flat):
        found.append(finding("a zero run of a day or more", str(ids[k]), Quality.ZERO, in_longest_run(flat[:, k] == 0, flat, k)))
    for k in [k for k in range(len(ids)) if longest_equal(flat[:, k]) == 49]:
        same = np.append(False, (flat[1:, k] == flat[:-1, k]) & (flat[1:, k] != 0))
        run = in_longest_run(same, flat, k)
        run[np.flatnonzero(run[:, k])[0] - 1, k] = True
        found.append(finding("the same non-zero value for 49 quarter hours", str(ids[k]), Quality.FROZEN, run))
    return found


def long_zero_runs(flat: Int32) -> list[int]:
    """Columns that have a zero run of a day or more, without those that are zero throughout."""
    return [k for k in range(flat.shape[1]) if SLOTS <= _longest(flat[:, k] == 0) < len(flat)]


def longest_equal(values: Int32) -> int:
    """The longest run of equal non-zero values."""
    return 1 + _longest((values[1:] == values[:-1]) & (values[1:] != 0))


def in_longest_run(mask: Bool, flat: Int32, column: int) -> Bool:
    """bool as `flat`: True in the longest run of `mask`, in one column."""
    out = np.zeros(flat.shape, np.bool_)
    first, last = max(_runs(mask), key=lambda run: run[1] - run[0])
    out[first:last, column] = True
    return out


def _longest(mask: Bool) -> int:
    return max((last - first for first, last in _runs(mask)), default=0)


def _runs(mask: Bool) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def wrongly_marked() -> list[Wrong]:
    """What is still marked where nothing is documented: Swiss households without the defective ones, and the London ones."""
    ids, days = swiss()
    flat = days.reshape(-1, len(ids))
    good = np.ones(len(ids), np.bool_)
    good[long_zero_runs(flat)] = False
    good &= ~np.isin(ids, (NEGATIVE, *ALL_ZERO))
    stuck = [k for k in range(len(ids)) if longest_equal(flat[:, k]) == 49]
    documented = np.zeros(days.shape, np.bool_)
    documented[:, :, stuck] = (swiss_quality()[:, :, stuck] & np.uint32(Quality.FROZEN)) != 0
    found = _wrong("Swiss households, 15 min", swiss_quality()[:, :, good], documented[:, :, good])
    return found + _wrong("London households, 30 min", judged_days(london(), 30), None)


def _wrong(what: str, quality: UInt32, documented: Bool | None) -> list[Wrong]:
    found = []
    for check in SINGLE:
        from_day = JUDGED_FROM if check is Quality.HIGH_LOW else 0
        marked = (quality[from_day:] & np.uint32(check)) != 0
        if documented is not None:
            marked &= ~documented[from_day:]
        found.append(Wrong(what, check, int(marked.sum()), marked.size, int(marked.any(axis=1).sum())))
    return found


@lru_cache(maxsize=1)
def london() -> Int32:
    """int32 [day, slot, household] [Wh] of the days that are whole in both London households."""
    rows = pq.read_table(shipped_file("lcl_london_30min/lcl.parquet"))
    grids = []
    for name in sorted(set(rows["household"].to_pylist())):
        own = rows.filter(np.array(rows["household"]) == name)
        at = own["start_utc"].to_numpy().astype("datetime64[s]").astype(np.int64)
        first = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp())
        grid = np.full(424 * 48, MISSING, np.int32)
        slot = (at - first) // 1800
        grid[slot[slot < grid.size]] = own["wh"].to_numpy()[slot < grid.size]
        grids.append(grid.reshape(-1, 48))
    days = np.stack(grids, axis=2)
    return np.ascontiguousarray(days[(days != MISSING).all(axis=(1, 2))])


@dataclass(frozen=True, slots=True)
class Clock:
    """What became of the heat pump's rows: read with its zone, and by its clock alone as a reader does who knows nothing of clock changes."""

    rows: int
    doubled: int
    conflicts: int
    days: dict[int, int]
    missing: int
    conflicts_by_clock_alone: int
    missing_by_clock_alone: int


def heat_pump() -> Clock:
    """The heat pump's rows through the day grid: days of 92, 96 and 100 slots, doubled days, nothing left over."""
    rows = pq.read_table(shipped_file("swiss_heatpump_15min/heatpump.parquet"))
    local: list[datetime] = rows["local_start"].to_pylist()
    wh = rows["wh"].to_numpy()
    seen: dict[datetime, int] = {}
    for at in local:
        seen[at] = seen.get(at, 0) + 1
    zoned = _gridded(_utc(local, "Europe/Zurich"), wh, Calendar("Europe/Zurich", 15), local)
    alone = _gridded([int(at.replace(tzinfo=UTC).timestamp()) for at in local], wh, Calendar("UTC", 15), local)
    return Clock(len(local), len(local) - len(seen), zoned[1], zoned[0], zoned[2], alone[1], alone[2])


def _utc(local: list[datetime], zone: str) -> list[int]:
    """Starts in UTC. Of an hour that comes twice the first row is the earlier pass, as the rows stand in the order of time; a stamp that comes
    twice elsewhere is the same instant told again."""
    info, before, out = ZoneInfo(zone), set[datetime](), []
    for at in local:
        twice = at.replace(tzinfo=info).utcoffset() != at.replace(tzinfo=info, fold=1).utcoffset()
        out.append(int(at.replace(tzinfo=info, fold=1 if twice and at in before else 0).timestamp()))
        before.add(at)
    return out


def _gridded(start_s: list[int], wh: Int32, calendar: Calendar, local: list[datetime]) -> tuple[dict[int, int], int, int]:
    """(days by their number of slots, conflicts, slots without a value) of one meter's rows in a day grid."""
    first, days = local[0].date(), (local[-1].date() - local[0].date()).days + 1
    grid = DayGrid(0, 1, calendar, first, days)
    values = np.full((len(wh), len(CHANNELS)), MISSING, np.int32)
    values[:, COLUMN[IMPORT_WH.name]] = wh
    grid.write(np.array(start_s, np.int64) + 900, np.zeros(len(wh), np.int64), values)
    kinds: dict[int, int] = {}
    conflicts = missing = 0
    for k in range(days):
        block = grid.blocks(first + timedelta(days=k))[0]
        kinds[len(block.values)] = kinds.get(len(block.values), 0) + 1
        conflicts += int(((block.quality & np.uint32(Quality.DUPLICATE)) != 0).sum())
        missing += int((block.values == MISSING).sum())
    return dict(sorted(kinds.items())), conflicts, missing


def shipped_file(name: str) -> str:
    return str(resources.files("openami.fleet") / "data" / name)


def planted(seed: int = 1) -> list[Finding]:
    """Faults that the sets do not have, planted into one sound day at a seeded hundredth of readings or meters: what each check then marks.

    Two rows of a fault: `readings` that have it and how many are marked, and, as defect "... elsewhere", sound ones and how many are marked."""
    day = np.ascontiguousarray(sound_days()[30])
    rng = np.random.default_rng(seed)
    limits = _limits(day.shape[1], 15, 40_000)
    found = []
    for check, plant in PLANTS.items():
        mask, values, known = plant(day, rng)
        marked = (vee_run(values, limits, **known).quality & np.uint32(check)) != 0
        found.append(Finding("planted", "sound Swiss day", check, int(mask.sum()), int((mask & marked).sum())))
        found.append(Finding("elsewhere", "sound Swiss day", check, int((~mask).sum()), int((~mask & marked).sum())))
    return found


_Planted = tuple[Bool, Int32, dict[str, Any]]


def _some(day: Int32, rng: np.random.Generator) -> Bool:
    return rng.random(day.shape) < 0.01


def _whole(day: Int32, rng: np.random.Generator) -> tuple[Bool, Bool]:
    """Some meters, as bool [meter] and as bool [slot, meter]."""
    chosen: Bool = np.asarray(rng.random(day.shape[1]) < 0.05, np.bool_)
    return chosen, np.broadcast_to(chosen, day.shape).copy()


def _missing(day: Int32, rng: np.random.Generator) -> _Planted:
    mask = _some(day, rng)
    return mask, np.where(mask, MISSING, day).astype(np.int32), {}


def _duplicate(day: Int32, rng: np.random.Generator) -> _Planted:
    mask = _some(day, rng)
    return mask, day, {"conflict": mask}


def _implausible(day: Int32, rng: np.random.Generator) -> _Planted:
    mask = _some(day, rng)
    return mask, np.where(mask, np.where(rng.random(day.shape) < 0.5, -5, 21_000), day).astype(np.int32), {}


def _sum(day: Int32, rng: np.random.Generator) -> _Planted:
    chosen, mask = _whole(day, rng)
    return mask, day, {"register_wh": day.sum(axis=0, dtype=np.int64) + np.where(chosen, 500, 0)}


def _voltage(day: Int32, rng: np.random.Generator) -> _Planted:
    mask = _some(day, rng) & (day > 10)
    return mask, day, {"voltage_cv": np.where(mask, 500, 23_000).astype(np.int32)}


def _reverse(day: Int32, rng: np.random.Generator) -> _Planted:
    mask = _some(day, rng)
    return mask, day, {"export_wh": np.where(mask, 40, 0).astype(np.int32)}


def _drift(day: Int32, rng: np.random.Generator) -> _Planted:
    chosen, mask = _whole(day, rng)
    return mask, day, {"drift_s": np.where(chosen, -600, rng.integers(-60, 60, day.shape[1])).astype(np.int32)}


def _inactive(day: Int32, rng: np.random.Generator) -> _Planted:
    _, mask = _whole(day, rng)
    return mask & (day > 10), day, {"inactive": mask}


def _exchange(day: Int32, rng: np.random.Generator) -> _Planted:
    slot = np.where(rng.random(day.shape[1]) < 0.05, rng.integers(0, len(day), day.shape[1]), -1).astype(np.int32)
    return np.arange(len(day))[:, None] == slot[None, :], day, {"exchange_slot": slot}


def _high(day: Int32, rng: np.random.Generator) -> _Planted:
    total = day.sum(axis=0, dtype=np.int64)
    chosen, mask = _whole(day, rng)
    chosen &= total >= 4_000
    return mask & chosen, day, {"usual_wh": np.where(chosen, total // 4, total)}


PLANTS: dict[Quality, Callable[[Int32, np.random.Generator], _Planted]] = {
    Quality.MISSING: _missing,
    Quality.DUPLICATE: _duplicate,
    Quality.PLAUSIBILITY: _implausible,
    Quality.SUM: _sum,
    Quality.HIGH_LOW: _high,
    Quality.VOLTAGE_ENERGY: _voltage,
    Quality.REVERSE: _reverse,
    Quality.CLOCK_DRIFT: _drift,
    Quality.INACTIVE_METER: _inactive,
    Quality.METER_EXCHANGE: _exchange,
}
