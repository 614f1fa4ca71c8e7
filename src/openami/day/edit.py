"""A person corrects a reading: written down with who and why, noted in the audit trail, and the day reckoned again.

What always holds: raw stays as it came; the edit is a row of its own that every later close finds; what consumers were told is not changed,
the difference is posted as an adjustment (adjust.py); a stop between the edit and the reckoning is mended by closing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite

from ..errors import InputError
from ..readings import CHANNEL_BY_NAME, Channel
from ..registry import Meter
from ..store.audit import AuditTrail, Entry
from ..store.facts import make_edits
from ..vee.edit import Edit
from .close import close
from .site import Site


@dataclass(frozen=True, slots=True)
class Correction:
    """One reading as it should be: the interval of `day` that begins at `begins` (local, "HH:MM"), value in the channel's unit (Wh, VAh, V, A),
    None = earlier corrections of it are taken back. fold: the second time that the clock shows `begins` (25-hour days)."""

    serial: str
    day: date
    begins: str
    value: float | None
    channel: str = "import_wh"
    fold: bool = False


def correct(site: Site, corrections: Sequence[Correction], person: str, reason: str, now_us: int) -> int:
    """Write the corrections down and reckon their days again, where they are closed; gives how many (day, shard)s that was.

    now_us: UTC microseconds. InputError names a meter, an interval, a channel or a value that there is not, before anything is written."""
    if not person.strip() or not reason.strip():
        raise InputError("a correction needs a person and a reason; the consumer may ask for both")
    meters = {meter.serial: meter for meter in site.rows.meters()}
    own: dict[tuple[date, int, str], list[Edit]] = {}
    for each in corrections:
        meter = _meter(meters, each.serial)
        edit = Edit(meter.index, slot_of(site, each), _stored(each), person, reason, now_us)
        own.setdefault((each.day, meter.shard, each.channel), []).append(edit)
    for (day, shard, channel), edits in own.items():
        count = sum(meter.shard == shard for meter in meters.values())
        make_edits(site.lake, day, shard, (site.calendar.slots(day), count), channel, edits)
    trail = AuditTrail(site.rows)
    for each in corrections:
        subject = f"{each.serial} {each.day} {each.begins} {each.channel}"
        told = f"{reason} (now {'as the meter said' if each.value is None else each.value})"
        trail.note(Entry(now_us // 1_000_000, person, "", "reading.edit", subject, told))
    days = sorted({(day, shard) for day, shard, _ in own})
    closed = [(day, shard) for day, shard in days if site.lake.has("validated", day, shard)]
    for day, shard in closed:
        close(site, day, shard)
    return len(closed)


def slot_of(site: Site, each: Correction) -> int:
    """The slot of a correction's interval. InputError where the day has no interval that begins then."""
    calendar, at = site.calendar, []
    for slot in range(calendar.slots(each.day)):
        begins = calendar.local(calendar.stamp(each.day, slot) - calendar.interval_s)
        if f"{begins:%H:%M}" == each.begins:
            at.append(slot)
    if len(at) <= each.fold:
        which = " twice" if each.fold and at else ""
        raise InputError(
            f"{each.day} has no interval that begins at {each.begins!r}{which}; they begin every {calendar.interval_minutes} minutes"
        )
    return at[each.fold]


def _meter(meters: dict[str, Meter], serial: str) -> Meter:
    if serial not in meters:
        raise InputError(f"there is no meter {serial!r} in the registry")
    return meters[serial]


def _stored(each: Correction) -> int | None:
    """The value in the channel's unit x 10**scaler."""
    if each.channel not in CHANNEL_BY_NAME:
        raise InputError(f"there is no channel {each.channel!r}; known are {', '.join(CHANNEL_BY_NAME)}")
    channel: Channel = CHANNEL_BY_NAME[each.channel]
    if each.value is None:
        return None
    if not isfinite(each.value) or abs(each.value) >= 2**31 * 10.0**channel.scaler:
        raise InputError(f"{each.value} {channel.unit} is no reading of {each.serial}")
    return round(each.value / 10.0**channel.scaler)
