"""The bill in plain Python and exact fractions, one account at a time: the twin that `openami.billing.bill` must agree with to the paisa."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

from openami.billing.tariff import (
    Condition,
    Demand,
    Fixed,
    FixedPer,
    FreeUnits,
    Minimum,
    Payment,
    Percent,
    PerUnit,
    Rounding,
    Tariff,
    TimeOfUse,
)


@dataclass(frozen=True)
class Usage:
    """One account: Wh by time-of-use period to date, days to date, of the tariff's span, of the period; load [W]; demands [VA]."""

    wh: tuple[int, ...]
    days: int
    span: int
    in_period: int
    load_w: int
    prepaid: bool
    demand_va: int = 0
    contract_va: int = 0


def half_up(value: Fraction) -> int:
    """To the nearest integer, halves away from zero: Decimal's ROUND_HALF_UP, with digits enough that no half is missed."""
    with localcontext() as context:
        context.prec = 80
        return int((Decimal(value.numerator) / Decimal(value.denominator)).quantize(Decimal(1), ROUND_HALF_UP))


def bill_one(tariff: Tariff, usage: Usage) -> dict[str, int]:
    """Every line of the bill in paise, by name, in the order of the tariff."""
    wh = sum(usage.wh)
    free_rule = next((line.rule for line in tariff.lines if isinstance(line.rule, FreeUnits)), None)
    given = min(wh, scaled(free_rule.limit_wh, usage)) if free_rule else 0
    full: dict[str, int] = {}
    free: dict[str, int] = {}
    for line in tariff.lines:
        full[line.name] = free[line.name] = 0
        if not applies(line.when, usage, wh):
            continue
        match line.rule:
            case PerUnit() as rule:
                full[line.name] = half_up(per_unit(rule, wh, wh, usage))
                free[line.name] = half_up(per_unit(rule, given, wh, usage))
            case Fixed() as rule:
                full[line.name] = half_up(fixed(rule, usage, wh))
            case Demand(rate_mp=rate, floor_mille=floor, excess_mille=excess):
                billing = max(Fraction(usage.demand_va), Fraction(usage.contract_va * floor, 1000))
                beyond = max(Fraction(0), billing - usage.contract_va)
                weighted = billing - beyond + beyond * Fraction(excess, 1000)
                full[line.name] = half_up(Fraction(rate, 1000) * weighted / 1000 * Fraction(usage.days, usage.in_period))
            case TimeOfUse() as rule:
                base = sum(full[name] for name in rule.of)
                full[line.name] = half_up(time_of_use(rule, usage, wh, base))
                free[line.name] = half_up(Fraction(full[line.name] * given, wh)) if given else 0
            case Percent(percent_milli=percent, of=of):
                full[line.name] = half_up(Fraction(sum(full[name] for name in of) * percent, 100_000))
                free[line.name] = half_up(Fraction(sum(free[name] for name in of) * percent, 100_000))
            case FreeUnits(limit_wh=limit, of=of, within=within, keep_beyond=kept):
                if wh <= scaled(limit, usage):
                    full[line.name] = -sum(full[name] for name in set(of) | set(within))
                elif kept:
                    full[line.name] = -sum(free[name] for name in of)
            case Minimum(rate_mp=rate, per=per, of=of):
                kw = Fraction(usage.load_w, 1000) if per is FixedPer.KW else Fraction(1)
                least = half_up(Fraction(rate, 1000) * kw * Fraction(usage.days, usage.in_period))
                full[line.name] = max(0, least - sum(full[name] for name in of))
            case Rounding(to_paise=to):
                before = sum(full.values())
                full[line.name] = half_up(Fraction(before, to)) * to - before
    return full


def scaled(limit: int, usage: Usage) -> int:
    return half_up(Fraction(limit * usage.span, usage.in_period))


def applies(when: Condition, usage: Usage, wh: int) -> bool:
    return (
        when.payment in (Payment.ANY, Payment.PREPAID if usage.prepaid else Payment.POSTPAID)
        and (when.over_wh is None or wh > scaled(when.over_wh, usage))
        and (when.up_to_wh is None or wh <= scaled(when.up_to_wh, usage))
        and (when.over_w is None or usage.load_w > when.over_w)
        and (when.up_to_w is None or usage.load_w <= when.up_to_w)
    )


def per_unit(rule: PerUnit, wh: int, all_wh: int, usage: Usage) -> Fraction:
    """Paise for `wh` of an account that used `all_wh`."""
    limits = [None if s.up_to is None else scaled(s.up_to, usage) for s in rule.slabs]
    if rule.whole:
        rate = next(s.rate_mp for s, limit in zip(rule.slabs, limits, strict=True) if limit is None or all_wh <= limit)
        return Fraction(wh * rate, 1_000_000)
    paise, below = Fraction(0), 0
    for slab, limit in zip(rule.slabs, limits, strict=True):
        top = wh if limit is None else min(wh, limit)
        paise += Fraction(max(0, top - below) * slab.rate_mp, 1_000_000)
        below = max(below, top)
    return paise


def fixed(rule: Fixed, usage: Usage, wh: int) -> Fraction:
    share = Fraction(usage.days, usage.in_period)
    if rule.per in (FixedPer.KW, FixedPer.KVA):
        quantity = usage.load_w if rule.per is FixedPer.KW else usage.contract_va
        steps = -(-quantity // rule.step)
        return Fraction(rule.slabs[0].rate_mp, 1000) * Fraction(steps * rule.step, 1000) * share
    measured = usage.load_w if rule.per is FixedPer.LOAD_BAND else wh
    for slab in rule.slabs:
        limit = slab.up_to
        if limit is not None and rule.per is FixedPer.CONSUMPTION_BAND:
            limit = scaled(limit, usage)
        if limit is None or measured <= limit:
            return Fraction(slab.rate_mp, 1000) * share
    raise AssertionError("the last band has no limit")


def time_of_use(rule: TimeOfUse, usage: Usage, wh: int, base: int) -> Fraction:
    if not rule.multiplies:
        return sum((Fraction(e * p.add_mp, 1_000_000) for e, p in zip(usage.wh, rule.periods, strict=True)), Fraction(0))
    if wh == 0:
        return Fraction(0)
    return sum(
        (Fraction(base * e, wh) * Fraction(p.times_mille - 1000, 1000) for e, p in zip(usage.wh, rule.periods, strict=True)), Fraction(0)
    )
