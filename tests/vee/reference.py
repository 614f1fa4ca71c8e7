"""Plain-loop twins of the VEE kernel: one meter at a time, one slot at a time, nothing clever, no arrays of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from openami.readings import Quality as Q
from openami.vee import RuleSet

Value = int | None


@dataclass
class MeterDay:
    """One meter's day; None = not known or not there. Lists are over the slots."""

    wh: list[Value]
    load_w: int = 0
    minutes: int = 30
    net_metered: bool = False
    conflict: list[bool] | None = None
    outage: list[bool] | None = None
    inactive: list[bool] | None = None
    edited: list[bool] | None = None
    voltage_cv: list[Value] | None = None
    export_wh: list[Value] | None = None
    drift_s: int | None = None
    exchange_slot: int = -1
    like: list[Value] | None = None
    profile: list[Value] | None = None
    register: int | None = None
    usual: int | None = None

    def at(self, mask: list[bool] | None, slot: int) -> bool:
        return bool(mask and mask[slot])

    def limits(self, rules: RuleSet) -> tuple[int, int]:
        high = min(2**31 - 1, int(self.load_w * (self.minutes / 60) * rules.plausibility_factor)) if self.load_w > 0 else 2**31 - 1
        return (-high if self.net_metered else 0), high


def checked(day: MeterDay, rules: RuleSet) -> list[Q]:
    """The bits of every slot before estimation."""
    low, high = day.limits(rules)
    slots = range(len(day.wh))
    bits = [Q(0) for _ in slots]
    for t in slots:
        v = day.wh[t]
        if day.at(day.outage, t):
            bits[t] |= Q.OUTAGE
        if v is None:
            bits[t] |= Q(0) if day.at(day.outage, t) else Q.MISSING
        else:
            bits[t] |= Q.PLAUSIBILITY if not low <= v <= high else Q(0)
            bits[t] |= Q.DUPLICATE if day.at(day.conflict, t) else Q(0)
            bits[t] |= Q.EDITED if day.at(day.edited, t) else Q(0)
            bits[t] |= Q.INACTIVE_METER if day.at(day.inactive, t) and v > rules.inactive_meter_wh_min else Q(0)
            volts = day.voltage_cv[t] if day.voltage_cv else None
            if volts is not None and volts < rules.voltage_energy_voltage_v_max * 100 and v > rules.voltage_energy_wh_min:
                bits[t] |= Q.VOLTAGE_ENERGY
        export = day.export_wh[t] if day.export_wh else None
        if export is not None and export > rules.reverse_wh_min and not day.net_metered:
            bits[t] |= Q.REVERSE
        if day.drift_s is not None and abs(day.drift_s) > rules.clock_drift_s_max:
            bits[t] |= Q.CLOCK_DRIFT
        if t == day.exchange_slot:
            bits[t] |= Q.METER_EXCHANGE
    _spikes(day, rules, bits)
    _runs(day, rules, bits)
    return bits


def _spikes(day: MeterDay, rules: RuleSet, bits: list[Q]) -> None:
    usable = [t for t, v in enumerate(day.wh) if v is not None and not bits[t] & (Q.DUPLICATE | Q.PLAUSIBILITY)]
    highest = sorted((day.wh[t] for t in usable), reverse=True)
    if len(highest) < 3 or highest[2] <= 0:
        return
    floor_w = Fraction(rules.spike_w_min)
    if day.load_w > 0:
        floor_w = min(floor_w, Fraction(day.load_w) * Fraction(rules.spike_load_share_min))
    for t in usable:
        if (
            Fraction(day.wh[t] - highest[2], highest[2]) > Fraction(round(rules.spike_tolerance * 1000), 1000)
            and day.wh[t] >= floor_w * day.minutes / 60
        ):
            bits[t] |= Q.SPIKE


def _runs(day: MeterDay, rules: RuleSet, bits: list[Q]) -> None:
    slots = len(day.wh)
    zero_min = max(1, round(rules.zero_hours_min * 60 / day.minutes))
    frozen_min = max(2, round(rules.frozen_hours_min * 60 / day.minutes))
    excused = [
        day.at(day.outage, t) or day.at(day.inactive, t) or bool(day.export_wh and (day.export_wh[t] or 0) > 0) for t in range(slots)
    ]
    for t in range(slots):
        v = day.wh[t]
        if v is None:
            continue
        if v != 0 and _run_around(t, lambda k, v=v: day.wh[k] == v, slots) >= frozen_min:
            bits[t] |= Q.FROZEN
        if v == 0 and not excused[t] and _run_around(t, lambda k: day.wh[k] == 0 and not excused[k], slots) >= zero_min:
            bits[t] |= Q.ZERO


def _run_around(t: int, alike, slots: int) -> int:
    first = last = t
    while first > 0 and alike(first - 1):
        first -= 1
    while last < slots - 1 and alike(last + 1):
        last += 1
    return last - first + 1


def finished(day: MeterDay, rules: RuleSet, bits: list[Q]) -> tuple[list[Value], list[Q]]:
    """Estimate, scale, and judge the finished day."""
    low, high = day.limits(rules)
    slots = len(day.wh)
    wh = [0 if v is None and bits[t] & Q.OUTAGE else v for t, v in enumerate(day.wh)]
    gap = [bool(int(bits[t]) & rules.estimate_bits) and not bits[t] & Q.EDITED for t in range(slots)]
    wh = [None if gap[t] else v for t, v in enumerate(wh)]
    out, bits = list(wh), list(bits)
    for t in range(slots):
        if not gap[t]:
            continue
        for value, bit in (
            (_linear(wh, gap, bits, t, round(rules.linear_hours_max * 60 / day.minutes)), Q.ESTIMATED_LINEAR),
            (day.like[t] if day.like else None, Q.ESTIMATED_LIKE_DAY),
            (_profile(day, t), Q.ESTIMATED_CLASS_PROFILE),
        ):
            floor = 0 if bit is Q.ESTIMATED_CLASS_PROFILE else low
            if value is not None and floor <= value <= high:
                out[t] = value
                bits[t] |= bit
                break
    _scale(day, gap, high, out, bits)
    total, whole = sum(v or 0 for v in out), all(v is not None for v in out)
    after = Q(0)
    if day.register is not None:
        over = total - day.register
        if over > rules.sum_tolerance_wh or (whole and -over > rules.sum_tolerance_wh):
            after |= Q.SUM
    if day.usual is not None and day.usual >= rules.high_low_wh_min and whole:
        least, most = (round(r * 1000) for r in (rules.high_low_ratio_min, rules.high_low_ratio_max))
        if not day.usual * least <= total * 1000 <= day.usual * most:
            after |= Q.HIGH_LOW
    return out, [b | after for b in bits]


def _nearest(numerator: int, denominator: int) -> int:
    return (Fraction(numerator, denominator) + Fraction(1, 2)).__floor__()


def _linear(wh: list[Value], gap: list[bool], bits: list[Q], t: int, slots_max: int) -> Value:
    first = last = t
    while first > 0 and gap[first - 1]:
        first -= 1
    while last < len(wh) - 1 and gap[last + 1]:
        last += 1
    if last - first + 1 > slots_max:
        return None
    left = wh[first - 1] if first > 0 and not bits[first - 1] & Q.OUTAGE else None
    right = wh[last + 1] if last < len(wh) - 1 and not bits[last + 1] & Q.OUTAGE else None
    if left is None or right is None:
        return right if left is None else left
    return _nearest(left * (last + 1 - t) + right * (t - first + 1), last - first + 2)


def _profile(day: MeterDay, t: int) -> Value:
    if day.profile is None or day.profile[t] is None:
        return None
    total = sum(p or 0 for p in day.profile)
    if day.usual is None or day.usual < 0 or total <= 0:
        return day.profile[t]
    return _nearest(day.profile[t] * day.usual, total)


def _scale(day: MeterDay, gap: list[bool], high: int, out: list[Value], bits: list[Q]) -> None:
    mine = [t for t in range(len(out)) if gap[t]]
    if day.register is None or not mine or any(v is None for v in out) or any(out[t] < 0 for t in mine):
        return
    rest = day.register - sum(out[t] for t in range(len(out)) if not gap[t])
    if not 0 <= rest < 2**31:
        return
    weights = {t: out[t] for t in mine} if any(out[t] for t in mine) else dict.fromkeys(mine, 1)
    shares = {t: divmod(rest * w, sum(weights.values())) for t, w in weights.items()}
    short = rest - sum(whole for whole, _ in shares.values())
    lucky = sorted(mine, key=lambda t: (-shares[t][1], t))[:short]
    result = {t: shares[t][0] + (t in lucky) for t in mine}
    if max(result.values()) > high:
        return
    for t in mine:
        out[t] = result[t]
        bits[t] |= Q.SCALED_TO_REGISTER
