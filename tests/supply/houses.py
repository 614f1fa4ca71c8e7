"""A closed town whose accounts' balances a test sets, with phones, payment channels and people's facts in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from day.sites import make_site, make_town, pushes
from openami.day import Site, close_all, collect
from openami.fleet.town import Town
from openami.notices.senders import NotSentError
from openami.payments.gateways import Gateway
from openami.store.outbox import Notice, Outbox
from openami.store.supply_rows import ANYBODY, SupplyRows
from openami.supply.settings import Settings
from openami.supply.worker import SupplyWorker

GATEWAY = Gateway("upi", "http://simulated", (b"a secret for the tests",))
DAYS = 3
OWING = range(6)
"""Homes that have been below zero since before the first day, and were prepaid then already."""
FIRST = date(2025, 12, 1)
POLICY = "KA"
"""Supply is cut at zero, 24 hours behind the notice, from 10:00 to 17:00; nobody is protected by free units."""


class Phones:
    """Every phone is on, but those in `off`; a carrier that is `down` takes nothing."""

    name, takes_is_delivered = "sms", False

    def __init__(self) -> None:
        self.took: list[Notice] = []
        self.off: set[str] = set()
        self.down = False

    def send(self, notice: Notice, address: str) -> None:
        if self.down:
            raise NotSentError("carrier sms did not take it")
        self.took.append(notice)

    def report(self, outbox: Outbox, now_s: int) -> None:
        for notice in self.took:
            outbox.report(notice.notice_id, notice.account not in self.off, now_s)


def closed_site(root: Path) -> tuple[Site, Town]:
    """Three closed days of twenty homes; the rules are Karnataka's."""
    town = make_town(seed=5, days=DAYS)
    for k in OWING:
        town.accounts[k] = replace(town.accounts[k], opening_paise=-90_00 - k, mode_since=FIRST - timedelta(days=90))
    town.recharges[:] = [one for one in town.recharges if one.account not in owing(town)]
    site = make_site(root, town, pushes(town))
    collect(site)
    close_all(site)
    return Site(site.folder, replace(site.deployment, policy=POLICY), site.rows, site.lake), town


def owing(town: Town) -> list[str]:
    return [town.accounts[k].number for k in OWING]


def in_order(site: Site, at_s: int) -> None:
    """Phones known, nobody depends on a device, nobody disputes."""
    outbox, rows = Outbox(site.rows.database), SupplyRows(site.rows.database)
    outbox.set_addresses({account.number: f"9{account.number[1:]}" for account in site.rows.accounts()})
    for fact in ("life_support", "dispute_open"):
        rows.tell(ANYBODY, fact, False, at_s, "test", "constructed")


def at(site: Site, day: date, clock: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    return site.calendar.day_start(day) + hours * 3600 + minutes * 60


def worker_of(site: Site, phones: Phones, settings: Settings | None = None, up: bool = True) -> SupplyWorker:
    return SupplyWorker(site, [phones], {GATEWAY.name: GATEWAY}, settings or Settings(automatic=True), asked=lambda gateway, now_s: up)


def days() -> Iterator[date]:
    return (FIRST + timedelta(days=k) for k in range(1, DAYS + 1))
