"""Money: integer paise, and the rows that move it.

What always holds:
- an amount is an `int` in paise (100 paise = 1 rupee); a rate is an `int` in milli-paise per kWh (7.42 Rs/kWh = 742_000);
- nothing is a float; rounding is half up, once, where a bill's line is made (`round_half_up`);
- a row that is posted is never changed: what was wrong is put right by another row that refers to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

PAISE_PER_RUPEE = 100


def round_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, halves away from zero; denominator > 0.

    The commercial rounding of Indian electricity bills. Symmetric in the sign, so that a refund undoes a charge exactly.
    """
    if denominator <= 0:
        raise ZeroDivisionError(f"denominator must be positive, got {denominator}")
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def rupees(amount_paise: int, sign: str = "₹") -> str:
    """'₹1,23,456.78': the Indian grouping (last three digits, then pairs), always with two decimals; minus before the sign."""
    whole, part = divmod(abs(amount_paise), PAISE_PER_RUPEE)
    digits = str(whole)
    head, tail = digits[:-3], digits[-3:]
    pairs: list[str] = []
    while head:
        pairs.insert(0, head[-2:])
        head = head[:-2]
    return f"{'-' if amount_paise < 0 else ''}{sign}{','.join([*pairs, tail])}.{part:02d}"


@dataclass(frozen=True, slots=True)
class ChargeRow:
    """One line of one day's charge: `amount_paise` > 0 is owed by the consumer, < 0 is a rebate or a subsidy.

    `line` is the tariff's name for it ("energy", "fixed", "duty", "subsidy" ...); `day` the local calendar day it is for.
    """

    account: str
    day: date
    line: str
    amount_paise: int


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A movement of money on an account: recharge (> 0), charge (< 0), adjustment (either). Posted once by `transfer_id`, never edited."""

    transfer_id: str
    account: str
    day: date
    kind: str
    amount_paise: int
