"""What the platform knows of an account at this moment, as the guard's facts.

What always holds: nothing is taken as known that was not looked up for this very question; what nobody has told (is a life-support device there,
was a dispute opened) stays unknown, and the guard refuses on it; only a delivery that a carrier reported counts as a notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ..billing.tariff import load_tariffs
from ..control.order import Event, Order, What
from ..control.rules import NEVER, Facts, Never
from ..day.books import shown_balances_paise
from ..day.site import Site
from ..errors import RequestError
from ..payments.event import State as Paid
from ..payments.reconnection import part_payment
from ..registry import PaymentMode
from ..store.complaints import Complaints
from ..store.ledger import Ledger
from ..store.ledger_bills import open_bills
from ..store.ledger_tables import conversion_refusal, payment, payment_mode
from ..store.outbox import Outbox
from ..store.proposals import Proposals
from ..store.rows import account as registry_account
from ..store.rows import meter, meter_order, order_step, usage_point
from ..store.sql import among
from ..store.supply_rows import SupplyRows

HOUR_S, DAY_S = 3600, 86_400
IN_FLIGHT_S = 3 * DAY_S
"""How long a payment that was begun, and is neither posted nor failed, may still arrive."""
PULSE_FRESH_S = 1800
BEFORE_CUT = "before_cut"
MACHINE = "supply"
"""Who orders what the worker orders: no person, and so nobody's approval."""
RECENT_DAYS = 7
OF_STATEMENTS = ("charges_paise", "connected_load_w", "measured_until", "uncertain_to_date", "within_free_units", "below_since")
"""What is read of an account's statements."""


@dataclass(frozen=True, slots=True)
class Place:
    """An account and where it hangs."""

    account: str
    mode: PaymentMode
    since: date
    mode_since: date
    opening_paise: int
    tariff: str
    language: str
    meter: str
    shard: int
    feeder: str
    load_w: int


def place_of(site: Site, account: str, serial: str, today: date) -> Place | None:
    """By account, by meter, or by both ("" = not given); None where they do not lead to exactly one."""
    return places_of(site, [(account, serial)], today)[0]


def places_of(site: Site, wanted: Sequence[tuple[str, str]], today: date) -> list[Place | None]:
    """`place_of` for each (account, serial)."""
    own = registry_account.c
    held = sa.and_(usage_point.c.name == own.usage_point, usage_point.c.since <= today)
    still = sa.or_(usage_point.c.until.is_(None), usage_point.c.until > today)
    told = (own.number, own.payment_mode, own.since, own.mode_since, own.opening_paise, own.tariff, own.language)
    query = sa.select(*told, usage_point.c.meter, meter.c.shard, usage_point.c.feeder, usage_point.c.connected_load_w)
    query = query.join(usage_point, held).join(meter, meter.c.serial == usage_point.c.meter).where(still)
    found: dict[str, dict[Place, None]] = {}
    with site.rows.begin() as connection:
        for column, names in ((own.number, [a for a, _ in wanted if a]), (usage_point.c.meter, [m for a, m in wanted if not a])):
            for row in connection.execute(query.where(among(connection, column, names))) if names else ():
                place = Place(row[0], PaymentMode(row[1]), *row[2:])
                found.setdefault(place.account if column is own.number else place.meter, {})[place] = None
    candidates = ([p for p in found.get(account or serial, ()) if serial in ("", p.meter)] for account, serial in wanted)
    return [places[0] if len(places) == 1 else None for places in candidates]


def facts_of(site: Site, order: Order, now_s: int) -> Facts:
    """Everything that the guard asks of an order's account, at `now_s` (UTC seconds)."""
    return facts_of_all(site, [order], now_s)[0]


def facts_of_all(site: Site, orders: Sequence[Order], now_s: int) -> list[Facts]:
    """`facts_of` for each of many orders, each account looked up once and all of them together."""
    today = site.calendar.local(now_s).date()
    places = places_of(site, [(order.account, order.meter) for order in orders], today)
    there = {place.account: place for place in places if place is not None}
    told, settled = SupplyRows(site.rows.database).told_of(list(there)), _settled(site, there)
    money, channel, cuts = _money(site, there, now_s), _channel(site, now_s), _cuts(site, now_s)
    disputing, lent = Complaints(site.rows.database).disputing(list(there)), _part_payments(site, list(there))
    found = []
    for order, place in zip(orders, places, strict=True):
        if place is None:
            found.append(Facts())
            continue
        own = told[place.account]
        known: dict[str, Any] = {
            "payment_mode": place.mode.value,
            "converted_on": place.mode_since,
            "kill_switch_on": own.get("kill_switch_on", False),  # our own switch: that nobody has thrown it is known
            "life_support": own.get("life_support"),
            "dispute_open": True if place.account in disputing else own.get("dispute_open"),
            "part_payment_until": lent.get(place.account, NEVER),
            "deposited_under_protest": own.get("deposited_under_protest"),
            "dues_shown_continuously": own.get("dues_shown_continuously"),
            "written_notice_on": _day(own.get("written_notice_on")),
            "migration_settled": own.get("migration_settled", place.account in settled),
            "payment_channel_up_since": channel,
        }
        found.append(Facts(**known | money[place.account] | _orders(site, place, order, cuts)))
    return found


def _newest_statements(site: Site, place: Place, days: Sequence[date]) -> list[dict[str, Any]]:
    """An account's statements of these days, with their days, in their order; none of a day that does not tell of it."""
    rows = ((day, site.lake.row("statements", day, place.shard, place.account, OF_STATEMENTS)) for day in days)
    return [row | {"day": day} for day, row in rows if row is not None]


def _money(site: Site, places: Mapping[str, Place], now_s: int) -> dict[str, dict[str, Any]]:
    """By account: balance as the consumer sees it, since when it is below zero, what it rests on, and whether a cut was told before."""
    days = [d for d in reversed(site.lake.days("statements")) if d < site.calendar.local(now_s).date()][:RECENT_DAYS]
    recent = {number: _newest_statements(site, place, days) for number, place in places.items()}
    prepaid = [number for number, place in places.items() if recent[number] and place.mode is not PaymentMode.POSTPAID]
    balances, in_flight = shown_balances_paise(site, prepaid, now_s), _in_flight(site, list(places), now_s)
    below = {number: recent[number][0]["below_since"] if balances[number] < 0 else None for number in prepaid}
    noticed = _noticed(site, {number: since for number, since in below.items() if since is not None}, now_s)
    found = {}
    for number, place in places.items():
        known = found[number] = {"payment_in_flight": number in in_flight, **_reckoned(place, recent[number])}
        if number in balances:
            known["balance_paise"] = balances[number]
            known["old_arrears_paise"] = _old_paise(site, place)
            known["below_floor_since"] = NEVER if below[number] is None else below[number]
            known["notice_delivered_at"] = noticed.get(number, NEVER)
        elif recent[number]:
            bills = open_bills(site.rows.database, number)
            known["dues_first_due_on"] = min((one.due for one in bills), default=NEVER)
    return found


def _reckoned(place: Place, recent: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What an account's newest statements say of it, newest first; nothing where there are none."""
    if not recent:
        return {}
    return {
        "category": load_tariffs().on(place.tariff, recent[0]["day"]).category,
        "sanctioned_load_w": recent[0]["connected_load_w"],
        "balance_as_of": recent[0]["measured_until"],
        "estimate_in_reckoning": recent[0]["uncertain_to_date"],
        "within_free_units": recent[0]["within_free_units"],
        "daily_use_paise": sum(one["charges_paise"] for one in recent) // len(recent),
    }


def _old_paise(site: Site, place: Place) -> int:
    """What of a negative balance was brought in when the account became prepaid; what is paid goes to what is oldest. An account that was prepaid
    before our books begin brought its own prepaid balance. A conversion in our books keeps arrears in a book of their own."""
    if place.mode_since < place.since or place.opening_paise >= 0:
        return 0
    return max(0, -(place.opening_paise + max(0, Ledger(site.rows.database).balance_paise(place.account, charges=False))))


def _noticed(site: Site, since: Mapping[str, date], now_s: int) -> dict[str, datetime]:
    """When the notice of this very fall below zero was delivered, of those to whom it was."""
    began = {number: site.calendar.day_start(day) for number, day in since.items()}
    delivered = Outbox(site.rows.database).delivered_s(began, BEFORE_CUT, now_s)
    return {number: site.calendar.local(at_s) for number, at_s in delivered.items()}


def _in_flight(site: Site, accounts: Sequence[str], now_s: int) -> set[str]:
    """Those of whom a payment has begun and is neither posted nor failed."""
    own = payment.c
    query = sa.select(own.account).where(own.state == Paid.PENDING.value, own.asked_s > now_s - IN_FLIGHT_S)
    with site.rows.begin() as connection:
        return set(connection.execute(query.where(among(connection, own.account, accounts))).scalars())


def _part_payments(site: Site, accounts: Sequence[str]) -> dict[str, date]:
    """The last day for which a part payment has brought supply back, of those to whom one has: so many days from the next one on."""
    with site.rows.begin() as connection:
        found = part_payment(connection, accounts)
    return {account: site.calendar.local(part.at_s).date() + timedelta(days=part.days) for account, part in found.items()}


def _channel(site: Site, now_s: int) -> datetime | Never | None:
    """Since when one of the payment channels works without a break; None where nobody has looked lately."""
    fresh = [since for since, seen_s in SupplyRows(site.rows.database).pulses().values() if now_s - PULSE_FRESH_S <= seen_s <= now_s]
    if not fresh:
        return None
    up = [since for since in fresh if since is not None]
    return site.calendar.local(min(up)) if up else NEVER


def _settled(site: Site, places: Mapping[str, Place]) -> set[str]:
    """Those never converted, or converted: a conversion ends only once everything is carried over. One that stands refused has not ended."""
    own = payment_mode.c
    with site.rows.begin() as connection:
        refused = sa.select(conversion_refusal.c.account).where(among(connection, conversion_refusal.c.account, places))
        waits = set(connection.execute(refused).scalars())
        modes = (
            sa.select(own.account, own.mode).where(among(connection, own.account, places)).order_by(own.account, own.since, own.decided_s)
        )
        newest = {row.account: row.mode for row in connection.execute(modes)}
    return {number for number, place in places.items() if number not in waits and newest.get(number) in (None, place.mode.value)}


def _cuts(site: Site, now_s: int) -> list[Any]:
    """order_id, feeder and connected_load_w of what was cut in the last hour."""
    own, step = meter_order.c, order_step.c
    sent = sa.select(own.order_id).join(order_step, step.order_id == own.order_id)
    sent = sent.where(own.what == str(What.DISCONNECT), step.event == str(Event.SEND), step.at_s > now_s - HOUR_S, step.at_s <= now_s)
    cut, held = sent.distinct().subquery(), sa.and_(usage_point.c.meter == own.meter, usage_point.c.until.is_(None))
    query = sa.select(own.order_id, usage_point.c.feeder, usage_point.c.connected_load_w).select_from(meter_order)
    with site.rows.begin() as connection:
        return list(connection.execute(query.join(cut, cut.c.order_id == own.order_id).join(usage_point, held)).all())


def _orders(site: Site, place: Place, order: Order, cuts: Sequence[Any]) -> dict[str, Any]:
    """What else was cut lately, and how many people stand behind this order."""
    lately = [row for row in cuts if row.order_id != order.order_id]
    size, people = _batch(site, order)
    return {
        "feeder_cuts_last_hour": sum(row.feeder == place.feeder for row in lately),
        "power_cut_last_hour_w": sum(row.connected_load_w for row in lately),
        "batch_size": size,
        "approvers": people,
    }


def _batch(site: Site, order: Order) -> tuple[int, int]:
    """(how many cuts belong together, how many people agreed). Of an order under an approved proposal: all of it, and both who made and approved
    it; of any other: all cuts that the same one asked for in the day up to it, so that a large batch cannot be asked for in small ones."""
    proposal, _, _ = order.order_id.partition(":")
    found = Proposals(site.rows).find(proposal) if proposal.startswith("P") else None
    if found is not None and found.state == "approved" and order.meter in found.subjects:
        people = {found.who, found.decided_by} - {None, "", MACHINE}
        return len(found.subjects), len(people)
    own = meter_order.c
    mine = (own.what == str(What.DISCONNECT), own.who == order.who, own.order_id != order.order_id)
    window = own.requested_s.between(order.requested_s - DAY_S, order.requested_s)
    with site.rows.begin() as connection:
        others = connection.execute(sa.select(sa.func.count()).select_from(meter_order).where(*mine, window)).scalar_one()
    return int(others) + 1, 0 if order.who in ("", MACHINE) else 1


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise RequestError(f"a written notice on {text!r} is told, which is no date; tell it anew, as 2025-12-01") from None
