"""What each feeder took in, sold and was paid over closed days: the books that AT&C loss and the quarterly account are reckoned from.

Energy in comes from the audit's accounts, energy sold and money from statements and charges; what a lake cannot know (subsidy received, open access,
amounts written off) stands in `books.csv` of the data folder: feeder,name,amount, with a name of `losses.atc.Books`, in kWh or rupees.

What always holds: an account whose day is held, and so not billed, sells nothing on it; debtors are balances below zero less those above, so that
what was realised is what was truly paid; free units and subsidy lines are subsidy booked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from math import sqrt
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..billing.tariff import load_tariffs
from ..errors import InputError
from ..losses.atc import Books
from ..losses.quarterly import FeederBooks
from ..store.people import division
from .found import Found, NodeAccount
from .site import Site
from .written import read_written

TOLD_IN = "books.csv"
KWH = ("generated_net", "purchased", "traded", "transmission_lost", "sold", "open_access", "metered_kwh", "spread_kwh")
SUBSIDIES = ("subsidy_paise", "free_units_paise")
UNKNOWN_CATEGORY, UNKNOWN_DIVISION = "other", "whole deployment"


def feeder_books(site: Site, days: Sequence[date]) -> list[FeederBooks]:
    """Each feeder's books over `days`, which must be closed and recorded, in order of name. A feeder whose input is not known has none, and says so
    in its AT&C's doubts."""
    accounts = Found(site.lake).accounts(days[0], days[-1])
    with site.rows.begin() as connection:
        divisions = {row.feeder: row.name for row in connection.execute(sa.select(division))}
    told = _told(site.folder.root / TOLD_IN)
    sold = _Sold()
    for day in days:
        for shard in sorted(site.lake.files("statements", day)):
            sold.add(site, day, shard)
    made = []
    for feeder in sorted({a.feeder for a in accounts if a.feeder} | sold.consumers.keys()):
        own = [a for a in accounts if a.feeder == feeder]
        books = Books(purchased=_input_kwh(own), sold=0, revenue=0, spread_kwh=_spread_kwh(own))
        books = replace(books, **{name: sold.amounts[feeder, name] for name in MEASURED})
        known = {name: getattr(books, name) + told.pop((feeder, name), 0) for name in (f.name for f in fields(Books))}
        kwh = {category: round(wh / 1000) for (f, category), wh in sold.category_wh.items() if f == feeder}
        of = divisions.get(feeder, UNKNOWN_DIVISION)
        made.append(FeederBooks(feeder, of, Books(**known), len(sold.consumers[feeder]), kwh))
    if told:
        feeder, name = next(iter(told))
        raise InputError(
            f"{TOLD_IN} speaks of {name} of feeder {feeder}, which is not there; give one of {', '.join(f.feeder for f in made)}"
        )
    return made


MEASURED = ("sold", "metered_kwh", "revenue", "subsidy_booked", "debtors_open", "debtors_close")


class _Sold:
    """Sums by feeder, day after day. amounts: by (feeder, name of `Books`); consumers: accounts; category_wh: by (feeder, category)."""

    def __init__(self) -> None:
        self.amounts: Counter[tuple[str, str]] = Counter()
        self.consumers: dict[str, set[str]] = {}
        self.category_wh: Counter[tuple[str, str]] = Counter()
        self._wh: Counter[tuple[str, str]] = Counter()
        self._opened: set[str] = set()
        self._closing: dict[str, tuple[str, int]] = {}
        self._category = {name: versions[0].category for name, versions in load_tariffs().tariffs.items()}

    def add(self, site: Site, day: date, shard: int) -> None:
        index = site.index_of(shard, day)
        names = ["account", "meter", "wh", "estimated_wh", "held", "charges_paise", "adjustments_paise", "opening_paise", "closing_paise"]
        rows = site.lake.read("statements", day, shard, columns=names).to_pylist()
        tariffs = site.lake.read("usage", day, shard, columns=["tariff"])["tariff"].to_pylist()
        subsidy = _subsidy(site.lake.read("charges", day, shard))
        for row, tariff, given in zip(rows, tariffs, subsidy, strict=True):
            place = index.feeder[row["meter"]] if row["meter"] is not None and row["meter"] < index.meters else -1
            if place < 0:
                continue
            feeder = index.feeders[place]
            self.consumers.setdefault(feeder, set()).add(row["account"])
            if not row["held"] and row["wh"] is not None:
                self._wh[feeder, "sold"] += row["wh"]
                self._wh[feeder, "metered_kwh"] += row["wh"] - (row["estimated_wh"] or 0)
                self.category_wh[feeder, self._category.get(tariff, UNKNOWN_CATEGORY)] += row["wh"]
            self.amounts[feeder, "revenue"] += row["charges_paise"] + row["adjustments_paise"] + given
            self.amounts[feeder, "subsidy_booked"] += given
            if row["account"] not in self._opened:
                self._opened.add(row["account"])
                self.amounts[feeder, "debtors_open"] -= row["opening_paise"]
            before = self._closing.get(row["account"])
            if before is not None:
                self.amounts[before[0], "debtors_close"] += before[1]
            self._closing[row["account"]] = feeder, row["closing_paise"]
            self.amounts[feeder, "debtors_close"] -= row["closing_paise"]
        for key, wh in self._wh.items():
            self.amounts[key] = round(wh / 1000)


def _subsidy(charges: pa.Table) -> list[int]:
    """What the state pays of each account's day [paise], 0 or more: the lines of `SUBSIDIES`, which are negative on the bill."""
    total: pa.ChunkedArray | None = None
    for name in SUBSIDIES:
        if name in charges.column_names:
            column = pc.fill_null(charges[name], 0)
            total = column if total is None else pc.add(total, column)
    return [-int(v) for v in total.to_pylist()] if total is not None else [0] * charges.num_rows


def _input_kwh(own: Sequence[NodeAccount]) -> int:
    """What the feeder's meter took in, or, where it has none, its transformers' together; 0 where not even these are all known."""
    head = [a.in_wh for a in own if a.level == "feeder"]
    known = head if head and head[0] is not None else [a.in_wh for a in own if a.level == "transformer"]
    return round(sum(wh for wh in known if wh is not None) / 1000) if known and None not in known else 0


def _spread_kwh(own: Sequence[NodeAccount]) -> int:
    """Half the 90 % interval of what the feeder and its transformers lost together."""
    halves = [(a.high_wh - a.low_wh) / 2 for a in own if a.high_wh is not None and a.low_wh is not None]
    return round(sqrt(sum(half**2 for half in halves)) / 1000)


def _told(path: Path) -> dict[tuple[str, str], int]:
    """What `books.csv` says, kWh or paise. InputError names a line that cannot be read."""
    found: Counter[tuple[str, str]] = Counter()
    for feeder, name, amount in read_written(path, _amount, "feeder,name,amount as F1,subsidy_received,125000"):
        found[feeder, name] += amount
    return dict(found)


def _amount(row: dict[str, str]) -> tuple[str, str, int]:
    known = sorted(f.name for f in fields(Books))
    if not row["feeder"] or row["name"] not in known:
        raise ValueError(f"{row['feeder']!r}, {row['name']!r}: a feeder is named, and a name is one of {', '.join(known)}")
    return row["feeder"], row["name"], round(float(row["amount"]) * (1 if row["name"] in KWH else 100))
