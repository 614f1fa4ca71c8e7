"""The quarterly energy account of a distribution company (BEE): input, sales, losses and AT&C by DISCOM, division and feeder, and sales by
consumer category, as one CSV text and the facts that go with it.

In: `Books` by feeder with its division. Out: text; a shell writes it. Columns follow what the regulations ask for, in our own order: the official
pro-forma is a spreadsheet whose columns are to be filled from these (`verify` in data/atc.toml).

What always holds: divisions are the sums of their feeders, the DISCOM of its divisions, to the kWh and the paisa; every loss has its interval
and its coverage beside it; an entity whose books are doubtful says so in its row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ..errors import InputError
from .atc import Atc, Books, Method, atc, shipped_facts, together

COLUMNS = (
    "level", "name", "consumers", "input_kwh", "sold_kwh", "open_access_kwh", "metered_share", "distribution_loss_percent", "revenue_rs",
    "realised_rs", "billing_efficiency_percent", "collection_efficiency_percent", "atc_percent", "atc_low_percent", "atc_high_percent", "doubts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeederBooks:
    """A feeder's quarter. category_kwh: energy sold by consumer category."""

    feeder: str
    division: str
    books: Books
    consumers: int
    category_kwh: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Quarter:
    """Quarter 1 to 4 of the financial year that begins in `year`."""

    year: int
    number: int

    def __post_init__(self) -> None:
        if self.number not in (1, 2, 3, 4):
            raise InputError(f"there is no quarter {self.number}; a financial year has quarters 1 (April to June) to 4 (January to March)")

    @property
    def first(self) -> date:
        return date(self.year + (self.number == 4), (4, 7, 10, 1)[self.number - 1], 1)

    @property
    def last(self) -> date:
        following = date(self.year + (self.number >= 3), (7, 10, 1, 4)[self.number - 1], 1)
        return following - timedelta(days=1)

    @property
    def due(self) -> date:
        """By when the account must be in."""
        quarterly = shipped_facts()["quarterly"]
        return self.last + timedelta(days=int(quarterly["due_days"]))

    def __str__(self) -> str:
        return f"{self.year}-{(self.year + 1) % 100:02d} Q{self.number}"


def quarterly_account(discom: str, quarter: Quarter, feeders: Sequence[FeederBooks], method: Method) -> str:
    """The account as CSV (RFC 4180): a few lines of `key,value`, the entities, and the categories, each table after an empty line.

    InputError where a feeder stands twice or there is none."""
    if not feeders:
        raise InputError(f"the account of {discom} for {quarter} has no feeder; give at least one")
    names = [f.feeder for f in feeders]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"feeder {', '.join(doubled)} stands more than once in {quarter}; give each one line")
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\r\n")
    write.writerows(_head(discom, quarter, method, feeders))
    write.writerow([])
    write.writerow(COLUMNS)
    for level, name, books, consumers in _entities(discom, feeders):
        write.writerow(_row(level, name, consumers, books, atc(books, method)))
    write.writerow([])
    write.writerow(["category", "sold_kwh", "share_percent"])
    by_category: dict[str, int] = {}
    for feeder in feeders:
        for category, kwh in feeder.category_kwh.items():
            by_category[category] = by_category.get(category, 0) + kwh
    total = sum(by_category.values())
    write.writerows([category, kwh, _percent(kwh / total if total else None)] for category, kwh in sorted(by_category.items()))
    return out.getvalue()


def _head(discom: str, quarter: Quarter, method: Method, feeders: Sequence[FeederBooks]) -> list[list[str]]:
    sold, by_category = sum(f.books.sold for f in feeders), sum(sum(f.category_kwh.values()) for f in feeders)
    head = [
        ["account", "quarterly energy account"],
        ["discom", discom],
        ["quarter", str(quarter)],
        ["from", quarter.first.isoformat()],
        ["to", quarter.last.isoformat()],
        ["due", quarter.due.isoformat()],
        ["atc_method", method.name],
        ["atc_source", method.source],
        ["to_verify", "; ".join((*method.verify, *_verify()))],
    ]
    if sold != by_category:
        head.append(["doubt", f"categories add up to {by_category} kWh, feeders sold {sold} kWh"])
    return head


def _verify() -> list[str]:
    quarterly = shipped_facts()["quarterly"]
    return list(quarterly["verify"])


def _entities(discom: str, feeders: Sequence[FeederBooks]) -> list[tuple[str, str, Books, int]]:
    divisions: dict[str, list[FeederBooks]] = {}
    for feeder in sorted(feeders, key=lambda f: (f.division, f.feeder)):
        divisions.setdefault(feeder.division, []).append(feeder)
    rows = [("discom", discom, together(f.books for f in feeders), sum(f.consumers for f in feeders))]
    for division, own in divisions.items():
        rows.append(("division", division, together(f.books for f in own), sum(f.consumers for f in own)))
        rows += [("feeder", f.feeder, f.books, f.consumers) for f in own]
    return rows


def _row(level: str, name: str, consumers: int, books: Books, found: Atc) -> list[object]:
    return [
        level, name, consumers, found.input_kwh, found.sold_kwh, books.open_access, _share(found.coverage), _number(found.distribution_percent),
        _rupees(books.revenue), _rupees(found.realised_paise), _percent(found.billing_efficiency), _percent(found.collection_efficiency),
        _number(found.percent), _number(found.low), _number(found.high), "; ".join(found.doubts),
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _rupees(paise: int) -> str:
    return f"{'-' if paise < 0 else ''}{abs(paise) // 100}.{abs(paise) % 100:02d}"
