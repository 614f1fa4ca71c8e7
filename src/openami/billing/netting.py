"""Net metering: what of the import is set off by export, what is banked, and what the bank is worth at the end of its year.

What always holds: import + bank after = billed + what was exported and banked before, to the Wh, until the bank is settled; nothing is
billed below zero; a month's netting depends only on that month and on the bank it began with, so a day is the difference of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ..errors import RequestError
from ..money import round_half_up
from ..readings import Int64
from .tariff import NetMetering


@dataclass(frozen=True, slots=True)
class Netted:
    """int64 [tou_period, account] Wh. billed_wh: what `bill` takes; bank_wh: what is carried into the next month; credited_wh: import
    that export or bank paid for."""

    billed_wh: Int64
    bank_wh: Int64
    credited_wh: Int64


def net(rule: NetMetering, import_wh: Int64, export_wh: Int64, bank_wh: Int64) -> Netted:
    """Set off a billing period to date, each time-of-use period for itself.

    import_wh, export_wh: int64 [tou_period, account] of the billing period to date; bank_wh: the same shape, at its beginning.
    credited = min(export + bank, cap % of import, cut down to whole Wh).
    """
    if not import_wh.shape == export_wh.shape == bank_wh.shape:
        raise RequestError(
            f"import is {import_wh.shape}, export {export_wh.shape}, bank {bank_wh.shape}; give one value for each period and account"
        )
    usable = export_wh + bank_wh
    credited = np.minimum(usable, import_wh * rule.cap_mille // 1000)
    return Netted(import_wh - credited, usable - credited, credited)


def settles(rule: NetMetering, day: date) -> bool:
    """Whether the bank is settled at the end of `day`: the last day of `settle_month`."""
    return day.month == rule.settle_month != (day + timedelta(days=1)).month


def settle(rule: NetMetering, bank_wh: Int64) -> Int64:
    """What the utility pays for the bank at the end of `settle_month`: int64 paise [account], >= 0; the bank is empty afterwards."""
    total = bank_wh.sum(axis=0)
    return np.array([round_half_up(int(wh) * rule.settle_mp, 1_000_000) for wh in total], np.int64)
