"""What the platform knows of an account at this moment, as the guard's facts.

What always holds: nothing is taken as known that was not looked up for this very question; what nobody has told (is a life-support device there,
was a dispute opened) stays unknown, and the guard refuses on it; only a delivery that a carrier reported counts as a notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from ..billing.tariff import load_tariffs
from ..control.order import Event, Order, What
from ..control.rules import NEVER, Facts, Never
from ..day.books import shown_balance_paise
from ..day.site import Site
from ..errors import RequestError
from ..payments.event import State as Paid
from ..registry import PaymentMode
from ..store.ledger import Ledger
from ..store.ledger_bills import open_bills
from ..store.ledger_tables import conversion_refusal, payment, payment_mode
from ..store.outbox import Outbox
from ..store.proposals import Proposals
from ..store.rows import account as registry_account
from ..store.rows import meter, meter_order, order_step, usage_point
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
    """By account, by meter, or by both; None where they do not lead to exactly one."""
    own = registry_account.c
    held = sa.and_(usage_point.c.name == own.usage_point, usage_point.c.since <= today)
    still = sa.or_(usage_point.c.until.is_(None), usage_point.c.until > today)
    query = sa.select(
        own.number,
        own.payment_mode,
        own.since,
        own.mode_since,
        own.opening_paise,
        own.tariff,
        own.language,
        usage_point.c.meter,
        meter.c.shard,
        usage_point.c.feeder,
        usage_point.c.connected_load_w,
    ).join(usage_point, held)
    query = query.join(meter, meter.c.serial == usage_point.c.meter).where(still)
    if account:
        query = query.where(own.number == account)
    if serial:
        query = query.where(usage_point.c.meter == serial)
    with site.rows.begin() as connection:
        rows = connection.execute(query.limit(2)).all()
    return None if len(rows) != 1 else Place(rows[0][0], PaymentMode(rows[0][1]), *rows[0][2:])


def facts_of(site: Site, order: Order, now_s: int) -> Facts:
    """Everything that the guard asks of an order's account, at `now_s` (UTC seconds)."""
    now = site.calendar.local(now_s)
    place = place_of(site, order.account, order.meter, now.date())
    if place is None:
        return Facts()
    told = SupplyRows(site.rows.database).told(place.account)
    known: dict[str, Any] = {
        "payment_mode": place.mode.value,
        "converted_on": place.mode_since,
        "kill_switch_on": told.get("kill_switch_on", False),  # our own switch: that nobody has thrown it is known
        "life_support": told.get("life_support"),
        "dispute_open": told.get("dispute_open"),
        "deposited_under_protest": told.get("deposited_under_protest"),
        "dues_shown_continuously": told.get("dues_shown_continuously"),
        "written_notice_on": _day(told.get("written_notice_on")),
        "migration_settled": _settled(site, place, told.get("migration_settled")),
        "payment_channel_up_since": _channel(site, now_s),
    }
    known |= _orders(site, place, order, now_s) | _money(site, place, now_s)
    return Facts(**known)


def newest_statement(site: Site, place: Place, today: date, back: int = 1) -> list[dict[str, Any]]:
    """The last `back` closed days' statements of an account before `today`, with their days, newest first; none where no day tells of it."""
    days = [d for d in reversed(site.lake.days("statements")) if d < today][:back]
    rows = ((day, site.lake.row("statements", day, place.shard, place.account, OF_STATEMENTS)) for day in days)
    return [row | {"day": day} for day, row in rows if row is not None]


def _money(site: Site, place: Place, now_s: int) -> dict[str, Any]:
    """Balance as the consumer sees it, since when it is below zero, what it rests on, and whether the notice before a cut was delivered."""
    now, ledger = site.calendar.local(now_s), Ledger(site.rows.database)
    known: dict[str, Any] = {"payment_in_flight": _in_flight(site, place.account, now_s)}
    recent = newest_statement(site, place, now.date(), RECENT_DAYS)
    if not recent:
        return known
    statement = recent[0]
    tariff = load_tariffs().on(place.tariff, statement["day"])
    known |= {
        "category": tariff.category,
        "sanctioned_load_w": statement["connected_load_w"],
        "balance_as_of": statement["measured_until"],
        "estimate_in_reckoning": statement["uncertain_to_date"],
        "within_free_units": statement["within_free_units"],
        "daily_use_paise": sum(one["charges_paise"] for one in recent) // len(recent),
    }
    if place.mode is PaymentMode.POSTPAID:
        bills = open_bills(site.rows.database, place.account)
        return known | {"dues_first_due_on": min((one.due for one in bills), default=NEVER)}
    balance = shown_balance_paise(site, place.account, now_s)
    since = statement["below_since"] if balance < 0 else None
    return known | {
        "balance_paise": balance,
        "old_arrears_paise": _old_paise(place, ledger),
        "below_floor_since": since if since is not None else NEVER,
        "notice_delivered_at": NEVER if since is None else _noticed(site, place.account, since, now_s),
    }


def _old_paise(place: Place, ledger: Ledger) -> int:
    """What of a negative balance was brought in when the account became prepaid; what is paid goes to what is oldest. An account that was prepaid
    before our books begin brought its own prepaid balance. A conversion in our books keeps arrears in a book of their own."""
    if place.mode_since < place.since:
        return 0
    return max(0, -(place.opening_paise + max(0, ledger.balance_paise(place.account, charges=False))))


def _noticed(site: Site, account: str, since: date, now_s: int) -> datetime | Never:
    """When the notice of this very fall below zero was delivered."""
    at_s = Outbox(site.rows.database).delivered_s(account, BEFORE_CUT, site.calendar.day_start(since), now_s)
    return NEVER if at_s is None else site.calendar.local(at_s)


def _in_flight(site: Site, account: str, now_s: int) -> bool:
    own = payment.c
    query = sa.select(own.payment_id).where(own.account == account, own.state == Paid.PENDING.value, own.asked_s > now_s - IN_FLIGHT_S)
    with site.rows.begin() as connection:
        return connection.execute(query.limit(1)).first() is not None


def _channel(site: Site, now_s: int) -> datetime | Never | None:
    """Since when one of the payment channels works without a break; None where nobody has looked lately."""
    fresh = [since for since, seen_s in SupplyRows(site.rows.database).pulses().values() if now_s - PULSE_FRESH_S <= seen_s <= now_s]
    if not fresh:
        return None
    up = [since for since in fresh if since is not None]
    return site.calendar.local(min(up)) if up else NEVER


def _settled(site: Site, place: Place, told: bool | None) -> bool:
    """Never converted, or converted: a conversion ends only once everything is carried over. One that stands refused has not ended."""
    if told is not None:
        return told
    refused = sa.select(conversion_refusal.c.account).where(conversion_refusal.c.account == place.account)
    mode = sa.select(payment_mode.c.mode).where(payment_mode.c.account == place.account)
    newest = mode.order_by(payment_mode.c.since.desc(), payment_mode.c.decided_s.desc()).limit(1)
    with site.rows.begin() as connection:
        waits = connection.execute(refused.limit(1)).first() is not None
        last = connection.execute(newest).scalar()
    return not waits and last in (None, place.mode.value)


def _orders(site: Site, place: Place, order: Order, now_s: int) -> dict[str, Any]:
    """What else was cut lately, and how many people stand behind this order."""
    own, step = meter_order.c, order_step.c
    sent = sa.select(own.order_id).join(order_step, step.order_id == own.order_id)
    sent = sent.where(own.what == str(What.DISCONNECT), step.event == str(Event.SEND), step.at_s > now_s - HOUR_S, step.at_s <= now_s)
    cut = sent.where(own.order_id != order.order_id).distinct().subquery()
    held = sa.and_(usage_point.c.meter == own.meter, usage_point.c.until.is_(None))
    query = sa.select(usage_point.c.feeder, usage_point.c.connected_load_w).select_from(meter_order)
    query = query.join(cut, cut.c.order_id == own.order_id).join(usage_point, held)
    with site.rows.begin() as connection:
        lately = connection.execute(query).all()
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
