"""AT&C loss (aggregate technical and commercial) of a feeder, a division, a DISCOM: what came in against what was paid for.

In: `Books` of a period (energy in kWh, money in paise, all integers). Out: `Atc` with every step, and an interval that comes from the energy.

    C = A - B            net input energy: own generation - auxiliary + purchase - traded, less transmission loss
    billing efficiency BE = D / C               D: energy sold
    F = E - subsidy booked + subsidy received   E: revenue from sale, subsidy booked included
    collection efficiency CE = (F + G - H - written off) / E     G, H: opening and closing debtors without unbilled revenue
                                                                     (below 0: consumers have paid in advance)
    AT&C % = (1 - BE x CE) x 100

What always holds: a parent's books are the sum of its children's; what is not known is named and nothing is put in its place; the
collection efficiency is capped only by a method that says so (until 2022), and the uncapped one is shown beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any

from ..errors import DataError, InputError


@dataclass(frozen=True, slots=True)
class Books:
    """One entity's period. Energy [kWh]: generated_net (own generation less auxiliary), purchased, traded, transmission_lost, sold, open_access
    (wheeled for others; once in purchased and once in sold, or in neither). Money [paise]: revenue (subsidy booked included), subsidy_booked,
    subsidy_received (of the period), subsidy_arrears (received for earlier periods), debtors_open, debtors_close, written_off.

    For a feeder or division `purchased` is what its meters took in. spread_kwh: half the 90 % interval of the input's and sales' difference, from
    the energy account; metered_kwh: how much of `sold` was truly metered.
    """

    purchased: int
    sold: int
    revenue: int
    generated_net: int = 0
    traded: int = 0
    transmission_lost: int = 0
    open_access: int = 0
    subsidy_booked: int = 0
    subsidy_received: int = 0
    subsidy_arrears: int = 0
    debtors_open: int = 0
    debtors_close: int = 0
    written_off: int = 0
    spread_kwh: int = 0
    metered_kwh: int = 0

    def plus(self, other: Books) -> Books:
        """Both together. Spreads are added as if they always erred the same way: wide rather than narrow."""
        return Books(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Books)})


@dataclass(frozen=True, slots=True)
class Method:
    """How AT&C is reckoned from `first_year` on (the calendar year in which the financial year begins)."""

    name: str
    first_year: int
    collection_capped: bool
    open_access_in: bool
    subsidy_arrears_count: bool
    source: str
    verify: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Atc:
    """An entity's AT&C with its steps. Shares are plain (0.8 = 80 %); percent, low, high in percent; None where it cannot be told.
    coverage: how much of the energy sold was truly metered. doubts: sentences on what is odd in the books."""

    method: str
    input_kwh: int
    sold_kwh: int
    billing_efficiency: float | None
    realised_paise: int
    collection_efficiency: float | None
    collection_uncapped: float | None
    percent: float | None
    low: float | None
    high: float | None
    distribution_percent: float | None
    coverage: float | None
    doubts: tuple[str, ...]


@lru_cache(maxsize=1)
def load_methods() -> tuple[Method, ...]:
    """The shipped methods, oldest first."""
    try:
        rows = shipped_facts()["method"]
        return tuple(sorted((Method(**{**row, "verify": tuple(row["verify"])}) for row in rows), key=lambda m: m.first_year))
    except (KeyError, TypeError) as error:
        raise DataError(f"losses/data/atc.toml lacks or misnames a field ({error}); install openami again") from error


def method_of(year: int) -> Method:
    """The method of the financial year that begins on 1 April of `year`. InputError for a year before the first method."""
    held = [m for m in load_methods() if m.first_year <= year]
    if not held:
        raise InputError(f"no AT&C method is known for {year}-{(year + 1) % 100:02d}; the first is of {load_methods()[0].first_year}")
    return held[-1]


def atc(books: Books, method: Method) -> Atc:
    """The AT&C loss of one entity by a method."""
    wheeled = 0 if method.open_access_in else books.open_access
    net = books.generated_net + books.purchased - books.traded - books.transmission_lost - wheeled
    sold = books.sold - wheeled
    received = books.subsidy_received + (books.subsidy_arrears if method.subsidy_arrears_count else 0)
    realised = books.revenue - books.subsidy_booked + received + books.debtors_open - books.debtors_close - books.written_off
    billing = sold / net if net > 0 else None
    uncapped = realised / books.revenue if books.revenue > 0 else None
    collection = min(uncapped, 1.0) if uncapped is not None and method.collection_capped else uncapped
    whole = None if billing is None or collection is None else (1 - billing * collection) * 100
    # sold + d of net: the spread of (input - sold) moves the billing efficiency by d / net
    moved = books.spread_kwh / net * collection * 100 if whole is not None and collection is not None else 0.0
    return Atc(
        method=method.name,
        input_kwh=net,
        sold_kwh=sold,
        billing_efficiency=billing,
        realised_paise=realised,
        collection_efficiency=collection,
        collection_uncapped=uncapped,
        percent=whole,
        low=None if whole is None else whole - abs(moved),
        high=None if whole is None else whole + abs(moved),
        distribution_percent=None if billing is None else (1 - billing) * 100,
        coverage=books.metered_kwh / books.sold if books.sold > 0 else None,
        doubts=tuple(_doubts(books, net, sold)),
    )


def together(books: Iterable[Books]) -> Books:
    """The books of a parent from its children's."""
    total = Books(0, 0, 0)
    for each in books:
        total = total.plus(each)
    return total


def _doubts(books: Books, net: int, sold: int) -> Iterable[str]:
    if net <= 0:
        yield f"the net input is {net:,} kWh: no AT&C loss can be told"
    elif sold > net:
        yield f"{sold:,} kWh were sold out of {net:,} kWh: energy comes from elsewhere, or meters are mapped wrongly"
    if books.revenue <= 0:
        yield "no revenue is booked: no collection efficiency can be told"
    if books.subsidy_booked > max(books.revenue, 0):
        yield "more subsidy is booked than revenue, although revenue includes it"
    if books.metered_kwh > books.sold:
        yield "more energy is metered than sold"
    for field in fields(Books):
        if getattr(books, field.name) < 0 and field.name not in ("generated_net", "debtors_open", "debtors_close"):  # advances
            yield f"{field.name} is negative ({getattr(books, field.name):,})"


def shipped_facts() -> dict[str, Any]:
    """losses/data/atc.toml as it stands."""
    return tomllib.loads((resources.files("openami.losses") / "data/atc.toml").read_text(encoding="utf-8"))
