"""What a charge began with: a meter's registers at both midnights, and its intervals, measured, estimated (how), put in by hand or missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

from ..billing.tariff import Tariff
from ..billing.tou import tou_index
from ..billing.tree import Node, thousandth
from ..readings import CHANNEL_BY_NAME, ESTIMATED_BITS, MISSING, Int32, Quality, UInt32
from ..store.heard import Heard
from .quantities import holidays
from .site import Site

Intervals = tuple[Int32, UInt32]
"""Validated values and quality bits of a meter's day, [slot] each."""
WAYS = (
    (
        Quality.ESTIMATED_LINEAR,
        "estimated_linear",
        "{n} intervals estimated from those beside them: {wh} k{u}",
        "{n} अंतराल अनुमानित, पास के अंतरालों से: {wh} k{u}",
    ),
    (
        Quality.ESTIMATED_LIKE_DAY,
        "estimated_like_day",
        "{n} intervals estimated from the meter's own days before: {wh} k{u}",
        "{n} अंतराल अनुमानित, इसी मीटर के पिछले दिनों से: {wh} k{u}",
    ),
    (
        Quality.ESTIMATED_CLASS_PROFILE,
        "estimated_class_profile",
        "{n} intervals estimated from the average consumer of the class: {wh} k{u}",
        "{n} अंतराल अनुमानित, श्रेणी के औसत उपभोक्ता से: {wh} k{u}",
    ),
)


def readings(site: Site, serial: str, channel: str, day: date, intervals: Intervals, held: bool) -> Node:
    """The meter, its registers at both midnights where they were read, and its intervals: measured, estimated and how, missing, put in by hand."""
    values, quality = intervals
    unit = CHANNEL_BY_NAME[channel].unit
    notes = [*_registers(site, serial, channel, day), *_intervals(values, quality, unit)]
    if held:
        en = "Too much of the day is not known: its units wait, and are charged when readings come"
        hi = "दिन का बहुत-सा भाग ज्ञात नहीं है: इसकी यूनिट रुकी हैं, रीडिंग आने पर ली जाएँगी"
        notes.append(Node("readings.held", en, hi, 0, note=True))
    en, hi = f"Readings of meter {serial}", f"मीटर {serial} की रीडिंग"
    return Node("readings", en, hi, 0, tuple(notes), note=True)


def _registers(site: Site, serial: str, channel: str, day: date) -> Iterator[Node]:
    """The meter's cumulative register at the midnights before and behind the day."""
    edges = site.calendar.day_start(day), site.calendar.day_start(day + timedelta(days=1))
    found = {edge: row for kind in ("daily", "billing") for edge in edges for row in Heard(site.rows).registers(kind, edge, edge, serial)}
    shown = [getattr(found[edge], channel) if edge in found else None for edge in edges]
    if shown[0] is None or shown[1] is None:
        en = "The meter's register was not read at both midnights; the intervals are what is charged"
        hi = "दोनों मध्यरात्रियों पर मीटर का रजिस्टर नहीं पढ़ा गया; शुल्क अंतरालों पर है"
        yield Node("readings.register", en, hi, 0, note=True)
        return
    start, end = int(shown[0]), int(shown[1])
    figures = f"{thousandth(start)} -> {thousandth(end)} = {thousandth(end - start)} k{CHANNEL_BY_NAME[channel].unit}"
    quantities = (("start", start), ("end", end))
    yield Node("readings.register", f"Register at midnight: {figures}", f"मध्यरात्रि का रजिस्टर: {figures}", 0, (), quantities, note=True)


def _intervals(values: Int32, quality: UInt32, unit: str) -> Iterator[Node]:
    there, estimated, edited = values != MISSING, (quality & ESTIMATED_BITS) != 0, (quality & np.uint32(Quality.EDITED)) != 0
    by_way = [(code, en, hi, there & ((quality & np.uint32(bit)) != 0)) for bit, code, en, hi in WAYS]
    groups = [
        ("measured", "{n} intervals measured: {wh} k{u}", "{n} अंतराल मापे गए: {wh} k{u}", there & ~estimated & ~edited),
        *by_way,
        ("edited", "{n} intervals put in by a person: {wh} k{u}", "{n} अंतराल किसी व्यक्ति ने दर्ज किए: {wh} k{u}", there & edited),
        ("missing", "{n} intervals missing, not charged", "{n} अंतराल उपलब्ध नहीं, शुल्क नहीं लिया गया", ~there),
    ]
    for code, en, hi, own in groups:
        if count := int(own.sum()):
            wh = int(values[own & there].sum())
            words = {"n": count, "wh": thousandth(wh), "u": unit}
            yield Node(f"readings.{code}", en.format(**words), hi.format(**words), 0, (), (("intervals", count), ("wh", wh)), note=True)


def estimated_wh(site: Site, tariff: Tariff, day: date, intervals: Intervals) -> tuple[int, ...]:
    """Estimated energy of the day by period [Wh]."""
    values, quality = intervals
    tou = tou_index(tariff, site.calendar, day, holidays(site, tariff, day))
    marked = (quality & ESTIMATED_BITS != 0) & (values != MISSING)
    return tuple(int(values[marked & (tou == k)].sum()) for k in range(len(tariff.periods)))


def intervals_of(site: Site, channel: str, day: date, shard: int, column: int) -> Intervals:
    """One channel's validated values and quality bits of the meter's day, [slot]; all missing where the day does not have it."""
    slots = site.calendar.slots(day)
    found = site.lake.read_meter("validated", day, shard, channel, column, slots)
    return found or (np.full(slots, MISSING, np.int32), np.zeros(slots, np.uint32))
