"""From hours to time-of-use periods, and from day blocks to the energies that a bill takes.

What always holds: a missing slot is counted, never taken as 0 without being told; energies are exact int64 sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numba as nb
import numpy as np

from ..errors import InputError, RequestError
from ..readings import MISSING, Calendar, Int32, Int64
from .tariff import Tariff, TimeOfUse
from .tariff_rules import holds_at, in_season


def tou_index(tariff: Tariff, calendar: Calendar, day: date, holidays: frozenset[date] = frozenset()) -> Int64:
    """The time-of-use period of each slot of `day`: int64 [slot], positions in `tariff.periods`; all 0 without time of use.

    A slot belongs to the local hour in which it lies (a reading is stamped with its end), so a 23- or 25-hour day comes out right.
    holidays: days that count as day type "holiday". Raises InputError if the tariff changes its rate inside an interval.
    """
    rule = tariff.time_of_use
    slots = calendar.slots(day)
    if rule is None:
        return np.zeros(slots, np.int64)
    kind = "holiday" if day in holidays else ("weekday", "saturday", "sunday")[max(0, day.weekday() - 4)]
    held = [w for w in rule.windows if kind in w.days and in_season(w.season, day.month, day.day)]
    for edge in (clock for w in held for clock in (w.start, w.end)):
        if (edge.hour * 60 + edge.minute) % calendar.interval_minutes:
            raise InputError(
                f"tariff {tariff.name} changes its rate at {edge:%H:%M}, but readings come every {calendar.interval_minutes} minutes; "
                f"give the tariff hours on that grid, or read the meters at a shorter interval"
            )
    starts = [calendar.local(calendar.stamp(day, slot) - calendar.interval_s) for slot in range(slots)]
    return np.array([_period(rule, kind, day, s.hour * 60 + s.minute) for s in starts], np.int64)


def _period(rule: TimeOfUse, kind: str, day: date, minute: int) -> int:
    return next(w.period for w in rule.windows if kind in w.days and in_season(w.season, day.month, day.day) and holds_at(w, minute))


def fold(values: Int32, tou: Int64, periods: int) -> tuple[Int64, Int64]:
    """A day block to energies by time-of-use period.

    values: int32 [slot, meter] in Wh (or VAh), MISSING where there is none; tou: int64 [slot] from `tou_index`.
    Returns energy int64 [period, meter] and missing int64 [meter], the number of slots that had no value and so are not in the sums.
    """
    if values.ndim != 2 or values.shape[0] != tou.size:
        raise RequestError(
            f"the day block is {values.shape}, but the tariff's hours are for {tou.size} slots; use the calendar of the readings"
        )
    return fold_columns(list(np.ascontiguousarray(values)), tou, periods)


def fold_columns(columns: Sequence[Int32], tou: Int64, periods: int) -> tuple[Int64, Int64]:
    """The same from one int32 array [meter] per slot, as Parquet gives them, without stacking them first."""
    if len(columns) != tou.size:
        raise RequestError(
            f"{len(columns)} slot columns, but the tariff's hours are for {tou.size} slots; use the calendar of the readings"
        )
    meters = columns[0].size if columns else 0
    energy, missing = np.zeros((periods, meters), np.int64), np.zeros(meters, np.int64)
    for period in range(periods):
        own = [columns[int(slot)] for slot in np.flatnonzero(tou == period)]
        # four slots in one pass: the sums are read and written once for four columns
        for k in range(0, len(own) - 3, 4):
            _add_four(own[k], own[k + 1], own[k + 2], own[k + 3], energy[period], missing)
        for column in own[len(own) - len(own) % 4 :]:
            _add(column, energy[period], missing)
    return energy, missing


@nb.njit(nogil=True, cache=True)
def _add(column: Int32, total: Int64, missing: Int64) -> None:
    for m in range(column.size):
        gap = column[m] == MISSING
        total[m] += 0 if gap else column[m]
        missing[m] += gap


@nb.njit(nogil=True, cache=True)
def _add_four(a: Int32, b: Int32, c: Int32, d: Int32, total: Int64, missing: Int64) -> None:
    for m in range(a.size):
        ga, gb, gc, gd = a[m] == MISSING, b[m] == MISSING, c[m] == MISSING, d[m] == MISSING
        total[m] += np.int64(0 if ga else a[m]) + (0 if gb else b[m]) + np.int64(0 if gc else c[m]) + (0 if gd else d[m])
        missing[m] += np.int64(ga) + gb + np.int64(gc) + gd
