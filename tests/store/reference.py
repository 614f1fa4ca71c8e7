"""The day grid's plain twin: a dictionary of first claims."""

from __future__ import annotations

from datetime import date, timedelta

from openami.readings import MISSING, Calendar

Key = tuple[int, date, int, int]
"""(channel, day, slot, meter)"""


def collect(
    readings: list[tuple[int, int, tuple[int, ...]]], calendar: Calendar, first: date, days: int
) -> tuple[dict[Key, int], set[Key], list[bool]]:
    """(stamp, meter, a value per channel) in order -> first claims, conflicts, and whether each stamp had a place."""
    place = {
        calendar.stamp(day, slot): (day, slot)
        for day in (first + timedelta(days=k) for k in range(days))
        for slot in range(calendar.slots(day))
    }
    held: dict[Key, int] = {}
    conflicts: set[Key] = set()
    for stamp_s, meter, values in readings:
        if stamp_s not in place:
            continue
        for channel, value in enumerate(values):
            key = (channel, *place[stamp_s], meter)
            if value != MISSING and held.setdefault(key, value) != value:
                conflicts.add(key)
    return held, conflicts, [stamp_s in place for stamp_s, _, _ in readings]
