"""A change of tariff is told before its first day, once, with its figures, in the account's language."""

from __future__ import annotations

from datetime import date

from openami.billing import load_tariffs
from openami.day import Site
from openami.fleet.town import Town
from openami.store.outbox import Outbox
from openami.supply.changes import changed, tell_changes

from .houses import at

APRIL = date(2026, 4, 1)


def test_it_is_told_within_two_months_once_each(site: Site, town: Town) -> None:
    assert tell_changes(site, at(site, date(2026, 1, 30), "12:00")) == 0, "61 days before"
    assert tell_changes(site, at(site, date(2026, 2, 1), "12:00")) == len(town.accounts)
    assert tell_changes(site, at(site, date(2026, 2, 2), "12:00")) == 0
    assert tell_changes(site, at(site, APRIL, "12:00")) == 0
    told = {one.account: one for one in Outbox(site.rows.database).recent(1000) if one.kind == "tariff_change"}
    languages = {account.number: account.language for account in town.accounts}
    assert all(("बदलेगी" in one.text) is (languages[number] == "hi") for number, one in told.items())
    assert all("2026-04-01" in one.text for one in told.values())


def test_what_changes_is_said_in_figures() -> None:
    book = load_tariffs()
    old, new = book.on("BR-DS2", date(2026, 3, 31)), book.on("BR-DS2", APRIL)
    words = changed(old, new, "en")
    assert "₹7.42 (up to 100 units), ₹8.95 -> ₹7.42" in words
    assert changed(new, new, "en") == ""
    assert "(100 यूनिट तक)" in changed(old, new, "hi")
