"""A tariff that will change, told before its first day to everybody whom it concerns.

What always holds: once an account and change, by its id; what is told is what the two versions of the tariff say, line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import sqlalchemy as sa

from ..billing.tariff import Fixed, Line, Percent, PerUnit, Slab, Tariff, load_tariffs
from ..billing.tree import rs, thousandth
from ..day.site import Site
from ..notices.texts import sentence
from ..store.outbox import Notice, Outbox, outbox
from ..store.rows import account

AHEAD_DAYS = 60
"""How long before its first day a change is told: at least a month is asked for by the Rights of Consumers Rules."""
AT_ONCE = 5000
KIND = "tariff_change"


def tell_changes(site: Site, now_s: int) -> int:
    """The notices of changes within `AHEAD_DAYS` that are not in the outbox yet, at most `AT_ONCE` a tariff; gives how many are new."""
    today = site.calendar.local(now_s).date()
    made = [notice for old, new in _coming(site, today) for notice in _notices(site, old, new, now_s)]
    return Outbox(site.rows.database).put(made) if made else 0


def _coming(site: Site, today: date) -> Iterator[tuple[Tariff, Tariff]]:
    """Of the tariffs that accounts are on: the version of today and the next one, where it begins soon and says something else."""
    with site.rows.begin() as connection:
        names = sorted(connection.execute(sa.select(account.c.tariff).distinct()).scalars())
    book = load_tariffs()
    for name in names:
        versions = book.versions(name) if name in book.names else ()
        for old, new in pairwise(versions):
            if old.since <= today < new.since <= today + timedelta(days=AHEAD_DAYS) and changed(old, new, "en"):
                yield old, new


def _notices(site: Site, old: Tariff, new: Tariff, now_s: int) -> Iterator[Notice]:
    own, ending = account.c, f":{new.name}:{new.since}"
    known = sa.select(outbox.c.notice_id).where(outbox.c.notice_id == sa.literal(f"{KIND}:") + own.number + sa.literal(ending))
    query = sa.select(own.number, own.language).where(own.tariff == new.name, ~known.exists()).order_by(own.number).limit(AT_ONCE)
    with site.rows.begin() as connection:
        found = connection.execute(query).all()
    texts = {
        language: sentence(KIND, language, day=new.since, what=changed(old, new, language), order=new.order) for language in ("en", "hi")
    }
    for row in found:
        language = "hi" if row.language == "hi" else "en"
        yield Notice(f"{KIND}:{row.number}{ending}", row.number, KIND, row.language, texts[language], now_s)


def changed(old: Tariff, new: Tariff, language: str) -> str:
    """What differs between two versions, line by line: "Energy charge ₹7.42 (up to 100 units), ₹8.95 -> ₹7.42; ..."; "" where nothing does."""
    before, after = ({line.name: line for line in tariff.lines} for tariff in (old, new))
    parts = []
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if one is not None and other is not None and (one.rule, one.when) == (other.rule, other.when):
            continue
        label = (new if other is not None else old).label(name, language)
        parts.append(f"{label}: {_rates(one, language)} -> {_rates(other, language)}")
    return "; ".join(parts) + ("." if parts else "")


def _rates(line: Line | None, language: str) -> str:
    """A line's figures in few words."""
    hi = language == "hi"
    if line is None:
        return "नहीं" if hi else "none"
    match line.rule:
        case PerUnit(slabs=slabs) | Fixed(slabs=slabs):
            unit = "यूनिट" if hi else "units"
            return ", ".join(_slab(slab, unit if isinstance(line.rule, PerUnit) else "", hi) for slab in slabs)
        case Percent(percent_milli=percent):
            return f"{thousandth(percent)} %"
        case _:
            return "आदेश के अनुसार" if hi else "as in the order"


def _slab(slab: Slab, unit: str, hi: bool) -> str:
    if slab.up_to is None:
        return rs(slab.rate_mp)
    edge = thousandth(slab.up_to)
    return f"{rs(slab.rate_mp)} ({edge} {unit} तक)" if hi else f"{rs(slab.rate_mp)} (up to {edge} {unit})".replace(" )", ")")
