"""An account's other tariff or contract demand is told, and the closed days that it is about are reckoned again.

What always holds: what was told stays, the difference is posted as adjustments; telling the same again posts nothing, so a stop at any point is
mended by doing it again; units that a consumer has banked are not lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import numpy as np

from ..billing.charge import segment
from ..billing.netting import settle
from ..billing.tariff import load_tariffs
from ..errors import InputError
from ..money import rupees
from ..store.audit import AuditTrail, Entry
from ..store.terms import Change
from .books import shards_of
from .close import close
from .closes import is_closed
from .quantities import BANKED
from .site import Site
from .told import Told


def tell_terms(site: Site, changes: Sequence[Change], who: str, why: str, now_s: int, *, bank_settled: bool = False) -> tuple[int, int]:
    """All or none; gives how many were new, and how many adjustments followed. bank_settled: banked units that another tariff would not know were
    paid for by other means. InputError by name where a day is still to come, a tariff is not known then, or units are banked."""
    if not who.strip() or not why.strip():
        raise InputError("terms need somebody who tells them and a reason; give --who and --why")
    today = site.calendar.local(now_s).date()
    if late := [change.since for change in changes if change.since > today]:
        raise InputError(f"{late[0]} is still to come; today is {today}: tell it on the day, or later")
    for change in changes:
        if change.tariff is not None:
            load_tariffs().on(change.tariff, change.since)  # names what is not known then
            if not bank_settled:
                _refuse_banked(site, change, change.tariff)
    told = site.terms.tell(changes, now_s, who, why)
    trail = AuditTrail(site.rows)
    for change in changes:
        said = f"from {change.since}: {change.tariff or '-'}, {change.contract_va or '-'} VA: {why}"
        trail.note(Entry(now_s, who, "", "terms", change.account, said))
    return told, sum(close(site, day, shard) for shard, day in sorted(_touched(site, changes).items()))


def _tariff_on(site: Site, number: str, day: date) -> str | None:
    """None where there is no such account then."""
    own = site.rows.account(number)
    if own is None or own.since > day:
        return None
    terms = site.terms.of(number, day)
    return terms.tariff if terms is not None and terms.tariff is not None else own.tariff


def _refuse_banked(site: Site, change: Change, tariff: str) -> None:
    """Units are banked under a tariff; one of another name does not know them."""
    eve = change.since - timedelta(days=1)
    before, closed = _tariff_on(site, change.account, eve), [day for day in site.lake.days("statements") if day <= eve]
    if before is None or before == tariff or not closed:
        return
    told = Told.of(site, change.account, closed[-1])
    if told is None or (rule := told.tariff.net_metering) is None:
        return
    bank = np.array([[told.usage.get(period + BANKED) or 0] for period in told.tariff.periods], np.int64)
    if bank.any():
        worth = rupees(int(settle(rule, bank)[0]))
        raise InputError(
            f"account {change.account} has {bank.sum() / 1000:g} kWh banked under {before} at the end of {closed[-1]} ({worth} as that tariff pays), "
            f"and {tariff} does not know them: pay them by openami ledger post, then say --bank-settled"
        )


def _touched(site: Site, changes: Iterable[Change]) -> dict[int, date]:
    """shard -> the first closed day that the changes are about. The part of a billing period before a change is cut short, so it begins with that."""
    book, found, days = load_tariffs(), dict[int, date](), site.lake.days("statements")
    for change in changes:
        first, eve = change.since, change.since - timedelta(days=1)
        if (before := _tariff_on(site, change.account, eve)) is not None:
            part = segment(book, before, eve)
            first = part.first if change.since < part.until else first
        for shard in shards_of(site, change.account):
            closed = next((day for day in days if day >= first and is_closed(site.lake, day, shard)), None)
            if closed is not None:
                found[shard] = min(closed, found.get(shard, closed))
    return found
