"""VEE of a (day, shard): raw readings, the days before and the registry in, validated day blocks out.

What always holds: nothing is judged or estimated from an estimate; a day block lies in the worker's buffers, so it holds until the next
(day, shard) is validated with the same ones.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from ..readings import CHANNEL_BY_NAME, ESTIMATED_BITS, MISSING, VOLTAGE_V, Bool, DayBlock, Int32, Int64, Quality, UInt32
from ..registry import ShardIndex
from ..store.blocks import MARKS, WAY_OUT, BlockFile
from ..vee import MeterLimits, load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.rules import Row
from ..vee.tally import mean_meters, mean_of_days
from .buffers import Buffers
from .known import NETWORK, net_metered_of, rules_of, told_of
from .roll import Roll
from .site import Site

NO_REVERSE = np.int32(2**31 - 1)
"""An export that no meter reaches in an interval: where it is metered by agreement, energy that flows out is no fault."""


def validate(site: Site, day: date, index: ShardIndex, roll: Roll, buffers: Buffers) -> dict[str, DayBlock]:
    """Every channel of a (day, shard) by name: energies by the rule book, averages as they came with their gaps marked. DataError where there are no
    raw readings."""
    sets, rule_of_meter = rules_of(load_rules(), day, index, roll)
    limits = meter_limits(sets, index.connected_load_w, site.deployment.interval_minutes, rule_of_meter=rule_of_meter)
    limits.table[Row.REVERSE_WH_MIN, net_metered_of(roll, day)] = NO_REVERSE
    profiles = _by_class_and_feeder(limits, index, rule_of_meter, len(sets))
    raw, marks = _raw(site, day, index.shard, buffers)
    validated = {}
    voltage = raw.get(VOLTAGE_V.name)
    for name in raw:
        values, known = told_of(site.lake, day, index.shard, name, raw)
        channel, conflict = CHANNEL_BY_NAME[name], _conflict(marks, name, values.shape)
        if not channel.additive:
            quality = _as_it_came(values, conflict, buffers.uint32(f"quality {name}", values.shape))
            validated[name] = DayBlock(day, index.shard, channel, values, quality)
            continue
        result = vee_run(
            values,
            limits,
            conflict=conflict,
            voltage_cv=voltage,
            like_day=like_day(site, day, index, name, sets[0].like_day_days, buffers),
            class_profile=_class_profile(values, index, rule_of_meter, limits.table[Row.RULE_SET], profiles),
            **known,
            into=(buffers.int32(f"validated {name}", values.shape), buffers.uint32(f"quality {name}", values.shape)),
        )
        validated[name] = DayBlock(day, index.shard, channel, result.validated, result.quality)
    return validated


def _raw(site: Site, day: date, shard: int, buffers: Buffers) -> tuple[dict[str, Int32], pa.Table]:
    """The raw values by channel, and their sparse marks."""
    paths = site.lake.all_files("raw").get((day, shard), [])
    if not paths:
        raise DataError(f"raw has no {day} of shard {shard}; collect its readings first, or name another day")
    found = {}
    for file in map(BlockFile, paths):
        for name in file.channels:
            found[name] = values = file.values(name, partial(buffers.int32, f"raw {name}"))
            if values.shape != (shape := (site.calendar.slots(day), next(iter(found.values())).shape[1])):
                raise DataError(f"{file.path} has {name} of {values.shape} slots x meters where {shape} are due; {WAY_OUT}")
    return found, site.lake.read("raw_quality", day, shard, needed=MARKS)


def _conflict(marks: pa.Table, channel: str, shape: tuple[int, int]) -> Bool | None:
    """bool [slot, meter]: where two different values came; None where that is nowhere."""
    doubted = (marks["quality"].to_numpy() & np.int32(Quality.DUPLICATE)) != 0
    if not doubted.any():
        return None
    own = marks.filter(pa.array(doubted))
    own = own.filter(pc.equal(own["channel"], channel))
    found = np.zeros(shape, np.bool_)
    found[own["slot"].to_numpy(), own["meter"].to_numpy()] = True
    return found if len(own) else None


def _as_it_came(values: Int32, conflict: Bool | None, quality: UInt32) -> UInt32:
    """The quality of a channel that no rule judges: missing or claimed twice."""
    np.multiply(values == MISSING, np.uint32(Quality.MISSING), out=quality, casting="unsafe")
    if conflict is not None:
        quality |= np.where(conflict, np.uint32(Quality.DUPLICATE), np.uint32(0))
    return quality


def like_day(site: Site, day: date, index: ShardIndex, channel: str, count: int, buffers: Buffers) -> Int32 | None:
    """The mean of the measured values of up to `count` days before `day`, MISSING where there is none; None without such a day. Estimates are left
    out, so that no estimate feeds another. Slots of the same clock time are like each other, also where one of the days has 23 or 25 hours."""
    shard = index.shard
    if not site.lake.place.has_table("validated"):
        return None
    found: list[Int32] = []
    files = site.lake.all_files("validated")
    for back in range(count, 0, -1):
        earlier = day - timedelta(days=back)
        for file in map(BlockFile, files.get((earlier, shard), [])):
            if file.meters(channel):
                values = file.values(channel, partial(buffers.int32, f"before {back}"))
                _forget_estimates(values, site.lake.read("validated_quality", earlier, shard, needed=MARKS), channel)
                found.append(_by_the_clock(site, values, earlier, day, index.meters))
    return mean_of_days(found, found[0]) if found else None


def _by_the_clock(site: Site, values: Int32, earlier: date, day: date, meters: int) -> Int32:
    """The values of `earlier` in the slots of `day` that begin at the same clock time, MISSING where it had none or did not have the meter yet."""
    calendar = site.calendar
    if values.shape == (calendar.slots(day), meters):
        return values

    def clock(of: date, slot: int) -> tuple[int, int]:
        begins = calendar.local(calendar.stamp(of, slot) - calendar.interval_s)
        return begins.hour, begins.minute

    slot_at = {clock(earlier, slot): slot for slot in range(len(values))}
    found = np.full((calendar.slots(day), meters), MISSING, np.int32)
    both = min(meters, values.shape[1])
    for slot in range(len(found)):
        if (held := slot_at.get(clock(day, slot))) is not None:
            found[slot, :both] = values[held, :both]
    return found


def _forget_estimates(values: Int32, marks: pa.Table, channel: str) -> None:
    """MISSING in the place of every estimate; `values` are the caller's own."""
    own = pc.equal(marks["channel"], channel).to_numpy() & ((marks["quality"].to_numpy() & np.int32(ESTIMATED_BITS)) != 0)
    values[marks["slot"].to_numpy()[own], marks["meter"].to_numpy()[own]] = MISSING


def _by_class_and_feeder(limits: MeterLimits, index: ShardIndex, rule_of_meter: Int64, sets: int) -> int:
    """Give each meter, in its limits, the profile of its class on its own feeder: a feeder lies whole in one shard, so what an average consumer
    is does not depend on how the feeders are spread over shards. Gives how many profiles there are."""
    limits.table[Row.RULE_SET] = (index.feeder.astype(np.int64) + 1) * sets + rule_of_meter
    return (len(index.feeders) + 1) * sets


def _class_profile(values: Int32, index: ShardIndex, rule_of_meter: Int64, profile_of_meter: Int32, profiles: int) -> Int32:
    """The average consumers' day, int32 [slot, profile]: what fills a meter of which nothing is known; MISSING for the network's meters."""
    counted = index.is_consumer & (rule_of_meter != NETWORK)
    return mean_meters(values, np.where(counted, profile_of_meter, -1), profiles)
