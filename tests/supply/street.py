"""A street of homes, each in another situation, for the search of a forbidden cut: made once, every example works on a copy of its database.

Each day is told at its end. Two streets, one day apart, so that money may come on the day of the cut.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from day.sites import make_site, pushes
from openami.control import policy as policies
from openami.day import Site, close_all, collect
from openami.fleet.town import Town, build_town, measure
from openami.registry import PaymentMode
from openami.store.deployment import Folder
from openami.store.ledger_bills import issue_bills

from .houses import at

FIRST = date(2025, 12, 9)
"""A Tuesday: cuts may be thought of from Friday the 12th on; the 13th is a second Saturday."""
DAYS = 4
LONG_AGO = timedelta(days=100)
DEEP, SHALLOW, NEARLY = -900_00, -90_00, 50_00
"""Balances that are below every floor, below West Bengal's not, and below zero by less than three days of use."""
GAP = 3


@dataclass(frozen=True, slots=True)
class Home:
    """A household of the street as its plan has it. k: position in the town; prepaid_since: None = postpaid; bill_due: of the bill that a postpaid
    one owes; gap: a quarter of an hour of its first day was never read."""

    name: str
    k: int
    opening_paise: int = DEEP
    prepaid_since: date | None = FIRST - timedelta(days=90)
    began: date = FIRST
    bill_due: date | None = None
    gap: bool = False


STREET = (
    Home("deep", 0),
    Home("shallow", 2, SHALLOW),
    Home("nearly", 10, NEARLY),
    Home("old arrears", 14, DEEP, FIRST - timedelta(days=60), FIRST - LONG_AGO),
    Home("just converted", 4, DEEP, FIRST - timedelta(days=10), FIRST - LONG_AGO),
    Home("gap", GAP, gap=True),
    Home("small", 12),
    Home("smallest", 19),
    Home("young bill", 8, 0, None, FIRST - LONG_AGO, bill_due=FIRST - timedelta(days=20)),
    Home("aged bill", 9, 0, None, FIRST - LONG_AGO, bill_due=date(2022, 6, 1)),
)
BILL_PAISE = 5000_00


@dataclass(frozen=True)
class Street:
    """roots: the folder with three closed days, and the one with four; copies take the database and look at the same lake."""

    town: Town
    roots: tuple[Path, Path]
    mornings: dict[Any, tuple[Path, Any]] = field(default_factory=dict)
    """Folders in which a search has begun before, and what the clerk had written down by then."""

    def copy(self, root: Path, to: Path, policy: str) -> Site:
        for one in root.iterdir():
            if one.name in ("lake", "journal", "grid"):
                (to / one.name).symlink_to(one.resolve())
            elif one.is_dir():
                shutil.copytree(one, to / one.name)
            else:
                shutil.copy(one, to / one.name)
        return self.opened(to, policy)

    def opened(self, root: Path, policy: str) -> Site:
        opened = Site.open(Folder(root))
        return Site(opened.folder, replace(opened.deployment, policy=policy), opened.rows, opened.lake)


def make_street(root: Path) -> Street:
    town = build_town(5, 20, FIRST, DAYS, ("BR-DS2", "BR-DS2-TOU"))
    measure(town)
    for home in STREET:
        mode = PaymentMode.POSTPAID if home.prepaid_since is None else PaymentMode.PREPAID
        since = {"since": home.began, "mode_since": home.prepaid_since or home.began}
        town.accounts[home.k] = replace(town.accounts[home.k], opening_paise=home.opening_paise, payment_mode=mode, **since)
    lived_in = {home.k for home in STREET}
    for k, account in enumerate(town.accounts):
        if k not in lived_in:
            town.accounts[k] = replace(account, opening_paise=10_000_00)
    town.recharges.clear()
    site = make_site(root / "early", town, pushes(town, lambda number, slot: number == GAP and slot == 40))
    collect(site)
    _close(site, DAYS - 1)
    for home in STREET:
        if home.bill_due is not None:
            number, span = town.accounts[home.k].number, (home.bill_due - timedelta(days=60), home.bill_due - timedelta(days=30))
            owed = np.array([BILL_PAISE], np.int64)
            issue_bills(
                site.rows.database, [number], owed, span, home.bill_due - timedelta(days=15), home.bill_due, at(site, FIRST, "00:00")
            )
    site.rows.close()
    shutil.copytree(root / "early", root / "later")
    later = Site.open(Folder(root / "later"))
    _close(later, DAYS)
    later.rows.close()
    return Street(town, (root / "early", root / "later"))


def _close(site: Site, days: int) -> None:
    close_all(site, days=[FIRST + timedelta(days=k) for k in range(days)])


STREETS_OWN, PAPER = "STREET", "PAPER"


@contextmanager
def own_policies() -> Iterator[None]:
    """Inside, there are two more rule books, with which everything bites within a few days: Karnataka's with other numbers. `clerk.py` has the same
    numbers from the same words:
    STREET: supply is cut from 11:00 to 15:00, not on Saturday the 13th, which is a holiday; a home up to 4 kW has two days to recharge, others one;
    readings may be 60 hours old; two cuts an hour on a feeder; two people for more than two cuts.
    PAPER: nobody is cut through prepaid; written notice and the like for postpaid; 30 kW an hour at most."""
    book = policies.load_policies()
    held = book.on("KA", FIRST)
    own = {
        "legal_hours": {"from": "11:00", "to": "15:00"},
        "grace_below_floor": {"days": 1, "small_home_days": 2, "small_home_w": 4000},
        "balance_fresh": {"hours": 60},
        "feeder_cap": {"per_hour": 2},
        "two_people": {"above": 2},
    }
    paper = {"payment_mode": {"modes": ["postpaid"]}, "power_cap": {"kw_per_hour": 30}}
    fair = held.holidays | {date(2025, 12, 13): ("Street fair", "गली का मेला")}
    book.policies[STREETS_OWN] = (replace(held, name=STREETS_OWN, rules=_changed(held, own), holidays=fair),)
    book.policies[PAPER] = (replace(held, name=PAPER, rules=_changed(held, paper)),)
    try:
        yield
    finally:
        del book.policies[STREETS_OWN], book.policies[PAPER]


def _changed(held: policies.Policy, own: dict[str, dict[str, object]]) -> dict[str, policies.RuleValues]:
    return held.rules | {code: replace(held.rules[code], values=values) for code, values in own.items()}
