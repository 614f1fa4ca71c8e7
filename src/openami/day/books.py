"""The lake's statements and the ledger in SQL, tied: each day's totals kept, charges brought in, and what a balance showed at an instant.

What always holds: every total that was noted stays, with the version of the lake that it was taken from; nothing is put right here, what does
not tie is named.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..errors import DataError, InputError, RequestError
from ..readings import Int64
from ..registry import PaymentMode
from ..store.ledger import Ledger
from ..store.ledger_bulk import settle
from ..store.ledger_tables import control_total, payment_mode
from ..store.rows import account as registry_account
from ..store.rows import meter, usage_point
from ..store.sql import among
from .site import Site

SUMS = ("opening_paise", "recharges_paise", "closing_paise")


@dataclass(frozen=True, slots=True)
class Untied:
    """Where two who count the same money differ: a day, what (an account, or a total), and both in paise."""

    day: date
    what: str
    statements_paise: int
    ledger_paise: int


def totals_of(statements: pa.Table) -> dict[str, int]:
    """accounts, and the sums of the money columns of a shard's statements [paise]."""
    sums = {name: int(pc.sum(statements[name]).as_py() or 0) for name in SUMS}
    charges = sums["opening_paise"] + sums["recharges_paise"] - sums["closing_paise"]
    return {"accounts": statements.num_rows, **sums, "charges_paise": charges}


def note_totals(
    site: Site,
    day: date,
    now_s: int | None = None,
    shards: Sequence[int] | None = None,
    known: Mapping[int, dict[str, int]] | None = None,
) -> int:
    """Keep the totals of a day's closed shards, or of those named, as their statements show them now; gives how many were new or have changed.
    `close_all` does it behind its close: from then on the day counts as told. known: `totals_of` the shards whose statements are at hand; those of
    the others are read."""
    now, version, noted = int(time.time()) if now_s is None else now_s, site.lake.version("statements"), 0
    with site.rows.begin(writing=True) as connection:
        for shard in _shards(site, day) if shards is None else shards:
            totals = (known or {}).get(shard) or totals_of(site.lake.read("statements", day, shard, columns=[*SUMS]))
            own = (control_total.c.day == day, control_total.c.shard == shard)
            latest = connection.execute(sa.select(control_total).where(*own).order_by(control_total.c.closed_s.desc()).limit(1)).first()
            if latest is not None and all(getattr(latest, name) == total for name, total in totals.items()):
                continue
            keys = {"day": day, "shard": shard, "closed_s": max(now, latest.closed_s + 1 if latest is not None else 0)}
            connection.execute(control_total.insert(), keys | totals | {"lake_version": version})
            noted += 1
    return noted


def settle_charges(site: Site, through: date, now_s: int | None = None) -> int:
    """Bring the charges of prepaid days up to `through` into the ledger, of accounts that are prepaid then (postpaid days are billed: `bills.py`);
    gives how many rows that took. DataError where a day is not closed."""
    parts, prepaid_on = [], _Prepaid(site)
    first = site.deployment.first_day
    for day in (first + timedelta(days=k) for k in range((through - first).days + 1)):
        if not (shards := _shards(site, day)):
            raise DataError(f"{day} is not closed, so its charges are not known; close it first, or settle through an earlier day")
        prepaid = prepaid_on(day)
        for shard in shards:
            rows = site.lake.read("statements", day, shard, columns=["account", *SUMS])
            charged = pc.subtract(pc.add(rows["opening_paise"], rows["recharges_paise"]), rows["closing_paise"])
            taken = pc.if_else(pc.is_in(rows["account"], prepaid), charged, 0)
            parts.append(pa.table({"account": rows["account"], "charged": taken}))
    if not parts:
        raise DataError(f"{through} is before the first day {first}; give a closed day")
    total = pa.concat_tables(parts).group_by("account").aggregate([("charged", "sum")])
    total = total.filter(pc.is_in(total["account"], prepaid_on(through)))
    charged_paise: Int64 = total["charged_sum"].to_numpy()
    return settle(site.rows.database, through, total["account"].to_pylist(), charged_paise, int(time.time()) if now_s is None else now_s)


class _Prepaid:
    """Which accounts are prepaid on a local day; looked up anew only where a conversion lies between two days."""

    def __init__(self, site: Site) -> None:
        self._rows = site.rows
        with site.rows.begin() as connection:
            self._edges = sorted(connection.execute(sa.select(payment_mode.c.since).distinct()).scalars())
        self._known: tuple[int, pa.Array] | None = None

    def __call__(self, day: date) -> pa.Array:
        span = bisect_right(self._edges, day)
        if self._known is None or self._known[0] != span:
            held = [a.number for a in self._rows.accounts(day) if a.payment_mode is PaymentMode.PREPAID]
            self._known = span, pa.array(held, pa.string())
        return self._known[1]


def untied(site: Site, day: date) -> list[Untied]:
    """Where a closed day's statements and the ledger differ: accounts whose recharges do, and totals that were noted otherwise."""
    ledger: Counter[str] = Counter()
    for row in Ledger(site.rows.database).moves(day, day):
        ledger[row.account] += row.amount_paise
    shown: dict[str, int] = {}
    found = []
    for shard in _shards(site, day):
        rows = site.lake.read("statements", day, shard, columns=["account", *SUMS])
        moved = np.flatnonzero(rows["recharges_paise"].to_numpy())
        numbers = rows["account"].take(pa.array(moved)).to_pylist()
        shown |= dict(zip(numbers, rows["recharges_paise"].to_numpy()[moved].tolist(), strict=True))
        with site.rows.begin() as connection:
            own = (control_total.c.day == day, control_total.c.shard == shard)
            noted = connection.execute(sa.select(control_total).where(*own).order_by(control_total.c.closed_s.desc()).limit(1)).first()
        for name in SUMS if noted is not None else ():
            now = int(pc.sum(rows[name]).as_py() or 0)
            if now != getattr(noted, name):
                found.append(Untied(day, f"shard {shard}, {name}", now, int(getattr(noted, name))))
    for number in sorted({*shown, *ledger}):
        if shown.get(number, 0) != ledger[number]:
            found.append(Untied(day, f"account {number}", shown.get(number, 0), ledger[number]))
    return found


def shown_balance_paise(site: Site, account: str, at_s: int) -> int:
    """What an account's balance showed at an instant (UTC seconds): the statement of the last day that was told by then, as it stood then, and
    what was paid in since and known by then. A day whose totals were never noted counts as told at its end."""
    return shown_balances_paise(site, [account], at_s)[account]


def shown_balances_paise(site: Site, accounts: Sequence[str], at_s: int) -> dict[str, int]:
    """`shown_balance_paise` of many accounts."""
    last, told = site.calendar.local(at_s).date(), cache(partial(_told, site, at_s))
    days = [day for day in reversed(site.lake.days("statements")) if day <= last]
    closing: dict[str, tuple[date, int] | None] = dict.fromkeys(accounts)
    for account, (since, shards) in _whereabouts(site, accounts).items():
        for day, shard in product((day for day in days if since <= day), shards):
            if not site.lake.has("statements", day, shard) or (version := told(day, shard)) is None:
                continue
            if (row := site.lake.row("statements", day, shard, account, ("closing_paise",), version or None)) is not None:
                closing[account] = day, row["closing_paise"]
                break
    return Ledger(site.rows.database).shown_paise(at_s, closing)


def refuse_unshown(site: Site, day: date, now_s: int) -> None:
    """InputError where money of local day `day` would be in no balance that a consumer sees: its statement is told already, or the day is still to
    come. What belongs to a closed day is posted to the first open one, and says by `refers_to` or its reason what it puts right."""
    today = site.calendar.local(now_s).date()
    if day > today:
        raise InputError(f"--day {day} is still to come; today is {today}")
    if told := [closed for closed in site.lake.days("statements") if closed >= day]:
        raise InputError(f"--day {day} is closed, so no balance would show it; the first open day is {told[-1] + timedelta(days=1)}")


def shards_of(site: Site, number: str) -> list[int]:
    """The shards of all meters that an account's usage point has had. RequestError where there is no such account."""
    return _whereabouts(site, [number])[number][1]


def _whereabouts(site: Site, accounts: Sequence[str]) -> dict[str, tuple[date, list[int]]]:
    """Since when accounts are there, and the shards of all meters that their usage points have had: no other has a statement of them. RequestError
    where there is no such account."""
    own = registry_account.c
    held = sa.select(own.number, own.since, meter.c.shard).outerjoin(usage_point, usage_point.c.name == own.usage_point)
    held = held.outerjoin(meter, meter.c.serial == usage_point.c.meter).distinct().order_by(own.number, meter.c.shard)
    found: dict[str, tuple[date, list[int]]] = {}
    with site.rows.begin() as connection:
        for row in connection.execute(held.where(among(connection, own.number, accounts))):
            _, shards = found.setdefault(row.number, (row.since, []))
            shards += [] if row.shard is None else [row.shard]
    if missing := sorted(set(accounts) - found.keys()):
        raise RequestError(f"there is no account {missing[0]} in the ledger; see its number")
    return found


def _told(site: Site, at_s: int, day: date, shard: int) -> int | None:
    """The lake's version of the statements that were told at an instant, 0 = the present one, None = they were not yet."""
    with site.rows.begin() as connection:
        own = (control_total.c.day == day, control_total.c.shard == shard)
        noted = connection.execute(
            sa.select(control_total.c.closed_s, control_total.c.lake_version).where(*own).order_by(control_total.c.closed_s)
        ).all()
    if not noted:
        return 0 if at_s >= site.calendar.day_start(day + timedelta(days=1)) else None
    by_then = [row.lake_version for row in noted if row.closed_s <= at_s]
    return by_then[-1] if by_then else None


def _shards(site: Site, day: date) -> list[int]:
    return [shard for shard in site.rows.shards() if site.lake.has("statements", day, shard)]
