"""What a tariff prices of a validated day: energy by time-of-use period, exports set off against it, the recorded maximum demand.

What always holds: nothing is priced that was not metered or estimated, and no maximum demand rests on an estimate; of an account whose day waits
(`held`) nothing of the day counts, neither import nor export nor demand; what is carried over from day to day stands in `usage`:

    <period>_wh, <period>_to_date_wh    imported on the day, and in the segment to date
    <period>_export_wh, <period>_export_segment_wh, <period>_bank_wh, <period>_banked_wh
                                        of tariffs with net metering: exported on the day and in the segment to date; units in the bank when
                                        the segment began, and what is in it after this day
    demand_va                           of tariffs that price it: the largest interval's average of the segment to date
    contract_va                         of tariffs that go by it: the contract demand of the day
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from ..billing.charge import Segment
from ..billing.netting import Netted, net, settle, settles
from ..billing.tariff import NetMetering, Tariff
from ..billing.tou import fold, tou_index
from ..control.policy import load_policies
from ..errors import DataError
from ..readings import ESTIMATED_BITS, EXPORT_WH, IMPORT_VAH, MISSING, Bool, DayBlock, Int64
from .roll import Before
from .site import Site

WH, TO_DATE_WH = "_wh", "_to_date_wh"
EXPORT, EXPORT_SEGMENT, BANK, BANKED = "_export_wh", "_export_segment_wh", "_bank_wh", "_banked_wh"
DEMAND, CONTRACT = "demand_va", "contract_va"
HOUR_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Quantities:
    """What the bill takes of some accounts, for the day and for the day before. before_wh, to_date_wh: int64 [period, account], after netting;
    demand_*_va: int64 [account], None where the tariff prices none; settled_paise: int64 [account] paid for banked units on this day; columns: for
    the table `usage`, by name."""

    before_wh: Int64
    to_date_wh: Int64
    demand_before_va: Int64 | None
    demand_va: Int64 | None
    settled_paise: Int64 | None
    columns: dict[str, Int64]


def carried(tariff: Tariff) -> list[str]:
    """The columns of `usage` that the next day goes on from."""
    names = [period + TO_DATE_WH for period in tariff.periods]
    if tariff.net_metering is not None:
        names += [period + ending for period in tariff.periods for ending in (EXPORT_SEGMENT, BANK, BANKED)]
    return names + ([DEMAND] if tariff.needs_demand else [])


def quantities(
    site: Site, part: Segment, validated: dict[str, DayBlock], meter: Int64, own: slice | Int64, held: Bool, before: Before
) -> Quantities:
    """Of the accounts `own`, at the columns `meter` of the day blocks; `held` is theirs too. `before`: the usage of the day before, of all."""
    tariff, block = part.tariff, _priced(validated, part)
    tou = tou_index(tariff, site.calendar, block.day, holidays(site, tariff, block.day))
    day_wh = _folded(block, tou, len(tariff.periods), meter, held)
    carry = _Carried(before, part, own, block.day, day_wh.shape)
    before_wh = carry.by_period(TO_DATE_WH)
    to_date_wh = before_wh + day_wh
    columns = {p + ending: found[k] for k, p in enumerate(tariff.periods) for ending, found in ((WH, day_wh), (TO_DATE_WH, to_date_wh))}
    demand_before = demand = settled = None
    if tariff.needs_demand:
        demand_before = carry.one(DEMAND)
        demand = np.maximum(demand_before, _demand_va(site, _of(validated, IMPORT_VAH.name, part, block.shard), meter, held))
        columns[DEMAND] = demand
    if (rule := tariff.net_metering) is not None:
        export_wh = np.zeros_like(day_wh)
        if EXPORT_WH.name in validated:
            export_wh = _folded(validated[EXPORT_WH.name], tou, len(tariff.periods), meter, held)
        was, now, own_columns = _netted(rule, carry, before_wh, to_date_wh, export_wh)
        before_wh, to_date_wh = was.billed_wh, now.billed_wh
        columns |= own_columns
        if settles(rule, block.day):
            settled = settle(rule, now.bank_wh)
    return Quantities(before_wh, to_date_wh, demand_before, demand, settled, columns)


def _netted(
    rule: NetMetering, carry: _Carried, before_wh: Int64, to_date_wh: Int64, export_wh: Int64
) -> tuple[Netted, Netted, dict[str, Int64]]:
    """The segment netted to the day before and to the day, and the columns of `usage` that tell it."""
    exported = carry.by_period(EXPORT_SEGMENT)
    bank = carry.of_yesterday(BANKED) if carry.begins else carry.by_period(BANK)
    was, now = net(rule, before_wh, exported, bank), net(rule, to_date_wh, exported + export_wh, bank)
    left = np.zeros_like(now.bank_wh) if settles(rule, carry.day) else now.bank_wh
    told = ((EXPORT, export_wh), (EXPORT_SEGMENT, exported + export_wh), (BANK, bank), (BANKED, left))
    return was, now, {period + ending: found[k] for k, period in enumerate(carry.part.tariff.periods) for ending, found in told}


@dataclass(frozen=True, slots=True)
class _Carried:
    """What the day before told of the accounts `own`; a segment that begins on `day`, or an account that comes from another tariff, starts from
    nothing but its bank."""

    before: Before
    part: Segment
    own: slice | Int64
    day: date
    shape: tuple[int, ...]

    @property
    def begins(self) -> bool:
        """Whether the segment begins today."""
        return self.part.first >= self.day

    def by_period(self, ending: str) -> Int64:
        """int64 [period, account] of the segment so far."""
        return np.zeros(self.shape, np.int64) if self.begins else self.of_yesterday(ending)

    def of_yesterday(self, ending: str) -> Int64:
        found = np.zeros(self.shape, np.int64)
        same = self.before.equals("tariff", self.part.tariff.name)[self.own]
        for k, period in enumerate(self.part.tariff.periods):
            found[k] = np.where(same, self.before.column(period + ending, 0)[self.own], 0)
        return found

    def one(self, name: str) -> Int64:
        """int64 [account] of the segment so far."""
        if self.begins:
            return np.zeros(self.shape[1:], np.int64)
        same = self.before.equals("tariff", self.part.tariff.name)[self.own]
        return np.where(same, self.before.column(name, 0)[self.own], 0).astype(np.int64)


def _folded(block: DayBlock, tou: Int64, periods: int, meter: Int64, held: Bool) -> Int64:
    found = fold(block.values, tou, periods)[0][:, meter]
    found[:, held] = 0
    return found


def _demand_va(site: Site, block: DayBlock, meter: Int64, held: Bool) -> Int64:
    """int64 [account] VA: the largest average apparent power of an interval of the day that was truly metered, cut down to whole VA."""
    values = block.values[:, meter]
    measured = (values != MISSING) & ((block.quality[:, meter] & np.uint32(ESTIMATED_BITS)) == 0)
    highest = np.where(measured, values, 0).max(axis=0, initial=0).astype(np.int64) * HOUR_MINUTES // site.calendar.interval_minutes
    highest[held] = 0
    return np.asarray(highest, np.int64)


def _priced(validated: dict[str, DayBlock], part: Segment) -> DayBlock:
    """The day block that a tariff prices: kWh or kVAh."""
    return _of(validated, part.tariff.channel, part, next(iter(validated.values())).shard)


def _of(validated: dict[str, DayBlock], channel: str, part: Segment, shard: int) -> DayBlock:
    if channel not in validated:
        raise DataError(
            f"tariff {part.tariff.name} prices {channel}, which no meter of shard {shard} has sent; "
            "give the accounts another tariff, or the meters a layout with that channel"
        )
    return validated[channel]


def holidays(site: Site, tariff: Tariff, day: date) -> frozenset[date]:
    """The holidays of the deployment's policy, where the tariff's hours ask for them. DataError where the year has no list."""
    rule = tariff.time_of_use
    if rule is None or not rule.asks_holidays:
        return frozenset()
    policy = load_policies().on(site.deployment.policy, day)
    if day.year not in policy.holiday_years:
        raise DataError(
            f"tariff {tariff.name} has hours of their own for holidays, but policy {policy.name} has no list of holidays of {day.year}; "
            f"add [[year]] {day.year} to its holiday file {policy.rules['holiday'].values['calendar']}.toml"
        )
    return frozenset(policy.holidays)
