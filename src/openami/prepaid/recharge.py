"""Which recharge is accepted, and how long a part payment brings supply back: each utility's rules as data (`data/recharge.toml`).

What always holds: an amount that is refused is refused with a named cause before any money moves; supply is given back for good when
nothing is owed any more, and a part payment's days are counted once where the rule says once.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any

from ..errors import InputError

FOR_GOOD = -1


@dataclass(frozen=True, slots=True)
class PartPayment:
    """Paying at least `percent` of what is owed brings supply back for `days`."""

    percent: int
    days: int


@dataclass(frozen=True, slots=True)
class RechargePolicy:
    """least_paise: the smallest recharge; step_paise: amounts are multiples of it; least_days_of_use: a recharge must last that long at
    recent use; part_payments: what brings supply back before all is paid, the smaller share first; once: only the first time."""

    name: str
    least_paise: int
    step_paise: int
    least_days_of_use: int
    part_payments: tuple[PartPayment, ...]
    once: bool
    source: str
    verify: str


def recharge_policy(name: str) -> RechargePolicy:
    """The shipped policy. Raises InputError for an unknown name, or for data that cannot be used."""
    book = _book()
    if name not in book:
        raise InputError(f"there is no recharge policy {name!r}; known are {', '.join(sorted(book))}")
    return book[name]


@lru_cache(maxsize=1)
def _book() -> dict[str, RechargePolicy]:
    data = tomllib.loads(resources.files(__package__).joinpath("data/recharge.toml").read_text("utf-8"))
    return {name: _read(name, raw) for name, raw in data.items()}


def _read(name: str, raw: dict[str, Any]) -> RechargePolicy:
    numbers = {key: raw.get(key) for key in ("least_rs", "step_rs", "least_days_of_use")}
    parts = tuple(PartPayment(part["percent"], part["days"]) for part in raw.get("part_payments", []))
    rising = all(a.percent < b.percent and a.days <= b.days for a, b in pairwise(parts))
    if any(type(value) is not int or value < 0 for value in numbers.values()) or not rising or not (raw.get("source") or raw.get("verify")):
        raise InputError(f"recharge.toml, {name}: give whole numbers for {', '.join(numbers)}, part payments that rise, and a source")
    return RechargePolicy(
        name,
        100 * raw["least_rs"],
        100 * raw["step_rs"] or 1,
        raw["least_days_of_use"],
        parts,
        bool(raw.get("once", False)),
        raw.get("source", ""),
        raw.get("verify", ""),
    )


def refused(policy: RechargePolicy, amount_paise: int, daily_use_paise: int | None) -> str:
    """Why a recharge of this amount is not accepted: "amount", "least", "step" or "use"; "" if it is.

    daily_use_paise: recent average charge of a day; None = not known, and then a rule that needs it does not stand in the way of paying.
    """
    if amount_paise <= 0:
        return "amount"
    if amount_paise < policy.least_paise:
        return "least"
    if amount_paise % policy.step_paise:
        return "step"
    if daily_use_paise is not None and amount_paise < daily_use_paise * policy.least_days_of_use:
        return "use"
    return ""


def reconnected_days(policy: RechargePolicy, owed_paise: int, paid_paise: int, had_part_payment: bool) -> int:
    """For how many days a payment brings supply back: FOR_GOOD when nothing is owed any more, 0 when it is too little.

    owed_paise: what was owed when supply was cut (<= 0: nothing); paid_paise: paid since; had_part_payment: a part payment has brought
    supply back before.
    """
    if paid_paise >= owed_paise:
        return FOR_GOOD
    if policy.once and had_part_payment:
        return 0
    reached = [part.days for part in policy.part_payments if 100 * paid_paise >= part.percent * owed_paise]
    return reached[-1] if reached else 0
