"""From postpaid to prepaid and back, for one account or a state's: rupees before = rupees after.

What always holds: nothing is converted before the old balance, the deposit and the old meter's last reading are settled; what cannot be
converted is named with its cause and keeps its mode; old arrears never make a prepaid balance negative, they are paid off in instalments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..readings import Bool, Int64

UInt8 = npt.NDArray[np.uint8]
OLD_BALANCE_UNKNOWN, DEPOSIT_UNKNOWN, LAST_READING_UNKNOWN, PAYMENT_IN_FLIGHT = 1, 2, 4, 8
CAUSES = {
    OLD_BALANCE_UNKNOWN: "old balance not known",
    DEPOSIT_UNKNOWN: "deposit not known",
    LAST_READING_UNKNOWN: "the old meter's last reading is not billed",
    PAYMENT_IN_FLIGHT: "a payment is under way",
}


@dataclass(frozen=True, slots=True)
class Money:
    """What accounts have and owe: int64 paise [account]. balance: prepaid balance (either sign); dues, arrears: owed, >= 0;
    deposit: held, >= 0; credit: paid in advance on postpaid, >= 0."""

    balance_paise: Int64
    dues_paise: Int64
    arrears_paise: Int64
    deposit_paise: Int64
    credit_paise: Int64

    @property
    def rupees_paise(self) -> Int64:
        """int64 [account]: what each has with us in all, debts taken off."""
        held = self.balance_paise + self.deposit_paise + self.credit_paise - self.dues_paise - self.arrears_paise
        return np.asarray(held, np.int64)


@dataclass(frozen=True, slots=True)
class Conversion:
    """after: the money, unchanged where not converted; converted: bool [account]; cause: uint8 [account] of bits, 0 = converted."""

    after: Money
    converted: Bool
    cause: UInt8

    def causes(self, account: int) -> tuple[str, ...]:
        """Why the account at this position could not be converted, in words."""
        return tuple(text for bit, text in CAUSES.items() if int(self.cause[account]) & bit)


@dataclass(frozen=True, slots=True)
class Settled:
    """What is known for the conversion, bool [account]: each must be True."""

    old_balance: Bool
    deposit: Bool
    last_reading_billed: Bool
    no_payment_in_flight: Bool


def to_prepaid(money: Money, settled: Settled) -> Conversion:
    """Postpaid accounts become prepaid: credit and deposit pay the dues first; what is left is the opening balance, what is still owed
    becomes arrears (paid off by `instalments`), never a negative balance."""
    cause = _cause(money, settled)
    ready = cause == 0
    own = money.balance_paise + money.credit_paise + money.deposit_paise - money.dues_paise
    nothing = np.zeros_like(own)
    after = Money(
        np.where(ready, np.maximum(own, 0), money.balance_paise),
        np.where(ready, nothing, money.dues_paise),
        np.where(ready, money.arrears_paise + np.maximum(-own, 0), money.arrears_paise),
        np.where(ready, nothing, money.deposit_paise),
        np.where(ready, nothing, money.credit_paise),
    )
    return _checked(money, Conversion(after, ready, cause))


def to_postpaid(money: Money, settled: Settled) -> Conversion:
    """Prepaid accounts become postpaid: a balance above zero is credit on the coming bills, one below zero is dues. The deposit that is
    then asked for is a new demand (`instalments` cuts it), not part of the conversion."""
    cause = _cause(money, settled)
    ready = cause == 0
    after = Money(
        np.where(ready, 0, money.balance_paise),
        money.dues_paise + np.where(ready, np.maximum(-money.balance_paise, 0), 0),
        money.arrears_paise,
        money.deposit_paise,
        money.credit_paise + np.where(ready, np.maximum(money.balance_paise, 0), 0),
    )
    return _checked(money, Conversion(after, ready, cause))


def _cause(money: Money, settled: Settled) -> UInt8:
    accounts = money.balance_paise.shape
    cause = np.zeros(accounts, np.uint8)
    for bit, known in (
        (OLD_BALANCE_UNKNOWN, settled.old_balance),
        (DEPOSIT_UNKNOWN, settled.deposit),
        (LAST_READING_UNKNOWN, settled.last_reading_billed),
        (PAYMENT_IN_FLIGHT, settled.no_payment_in_flight),
    ):
        if known.shape != accounts:
            raise RequestError(f"{accounts[0]} accounts, but {CAUSES[bit]!r} is given for {known.shape}")
        cause |= np.where(known, 0, bit).astype(np.uint8)
    return cause


def _checked(before: Money, result: Conversion) -> Conversion:
    differ = np.flatnonzero(before.rupees_paise != result.after.rupees_paise)
    if differ.size:
        raise RequestError(
            f"conversion of the account at position {differ[0]} changes its rupees; dues, arrears, deposit and credit must be >= 0"
        )
    return result


def instalments(amount_paise: Int64, count: int) -> Int64:
    """int64 [instalment, account]: `count` parts of each amount >= 0 that differ by at most a paisa and add up exactly, larger ones first."""
    if count < 1:
        raise RequestError(f"{count} instalments; give at least one")
    parts = np.arange(count, dtype=np.int64)[:, None]
    return np.asarray(amount_paise // count + (parts < amount_paise % count), np.int64)


def daily_instalment(arrears_paise: Int64, agreed_paise: Int64, cap_paise: int, days_missed: Int64) -> Int64:
    """What is taken today for old arrears: the agreed daily amount and what was missed, but never more than the cap of a day, nor more
    than is left. int64 [account] each, >= 0.

    Arrears that were meant for 300 days must never be taken at once, whatever happened on the days between.
    """
    if cap_paise < 0:
        raise RequestError(f"the cap of a day is {cap_paise} paise; it cannot be negative")
    wanted = agreed_paise * (1 + np.maximum(days_missed, 0))
    return np.asarray(np.minimum(np.minimum(wanted, cap_paise), np.maximum(arrears_paise, 0)), np.int64)
