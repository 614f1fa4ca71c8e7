"""Who is due: told before anything happens, then limited or cut, where the guard allows it.

What always holds: nobody is cut for a fall below zero of which no notice was delivered; the guard is asked before an order is written and again by
the head-end at the second when it leaves; a milder step comes first where the deployment has one; one order a meter at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ..control.guard import Decision, decide
from ..control.order import RELAY, Order, State, What
from ..control.policy import load_policies
from ..control.record import against_text
from ..control.rules import Facts
from ..day.books import shown_balance_paise
from ..day.site import Site
from ..errors import InputError, RequestError
from ..money import rupees
from ..notices.texts import sentence
from ..prepaid.notices import load_notice_policies, notice_text
from ..prepaid.recharge import recharge_policy
from ..registry import PaymentMode
from ..store.order_book import SETTLED, OrderBook
from ..store.outbox import Notice, Outbox
from ..store.proposals import Proposal
from ..store.rows import account as registry_account
from ..store.rows import meter_order
from ..store.supply_rows import SupplyRows
from .facts import BEFORE_CUT, MACHINE, Place, facts_of, place_of
from .guard import SupplyGuard
from .settings import Settings

LOOKED_AHEAD_DAYS = 60


@dataclass(frozen=True, slots=True)
class Fall:
    """An account that was below zero when a day was closed. since: the first day at whose end it was, and has been since."""

    account: str
    since: date


def falls(site: Site, now_s: int) -> list[Fall]:
    """The prepaid accounts below zero of the last closed day before today."""
    today = site.calendar.local(now_s).date()
    days = [day for day in site.lake.days("due") if day < today]
    found = []
    for shard in site.rows.shards() if days else ():
        if site.lake.has("due", days[-1], shard):
            rows = site.lake.read("due", days[-1], shard, columns=["account", "days_below"])
            for account, below in zip(rows["account"].to_pylist(), rows["days_below"].to_pylist(), strict=True):
                found.append(Fall(str(account), days[-1] - timedelta(days=int(below) - 1)))
    return found


def tell_low(site: Site, now_s: int) -> int:
    """The low-balance notices that the last close found, into the outbox; gives how many are new."""
    today = site.calendar.local(now_s).date()
    days = [day for day in site.lake.days("notices") if day < today]
    policies = load_notice_policies()
    if not days or site.deployment.policy not in policies:
        return 0
    levels, day, made = policies[site.deployment.policy].levels, days[-1], []
    own = registry_account.c
    with site.rows.begin() as connection:
        languages = {row.number: row.language for row in connection.execute(sa.select(own.number, own.language))}
    for shard in site.rows.shards():
        if not site.lake.has("notices", day, shard):
            continue
        rows = site.lake.read("notices", day, shard, columns=["level", "send", "days_left"]).to_pydict()
        told = site.lake.read("statements", day, shard, columns=["account", "closing_paise"])  # in the same order: see the roll
        accounts, closing = told["account"].cast("string").to_pylist(), told["closing_paise"].to_pylist()
        for at, send in enumerate(rows["send"]):
            if send and accounts[at] in languages:
                left = rows["days_left"][at]
                level = levels[min(rows["level"][at], len(levels) - 1)]  # told under the policy of that day, which may have had more
                text = notice_text(level, languages[accounts[at]], closing[at], -1 if left is None else left)
                name = f"low_balance:{accounts[at]}:{day}"
                made.append(Notice(name, accounts[at], "low_balance", languages[accounts[at]], text, now_s))
    return Outbox(site.rows.database).put(made) if made else 0


def tell_before(site: Site, now_s: int) -> int:
    """To each account that has fallen below zero and is still there: that it may be cut, not before when, and what to pay. Once a fall."""
    fallen = {f"{BEFORE_CUT}:{fall.account}:{fall.since}": fall for fall in falls(site, now_s)}
    outbox = Outbox(site.rows.database)
    known = outbox.known(fallen) if fallen else set()
    made = [notice for name, fall in fallen.items() if name not in known for notice in _before(site, name, fall, now_s)]
    return outbox.put(made) if made else 0


def _before(site: Site, name: str, fall: Fall, now_s: int) -> Iterator[Notice]:
    place = place_of(site, fall.account, "", site.calendar.local(now_s).date())
    if place is None or place.mode is not PaymentMode.PREPAID:
        return
    balance = shown_balance_paise(site, fall.account, now_s)
    earliest = _earliest(site, place, fall, now_s) if balance < 0 else None
    if earliest is not None:
        values = {
            "balance": rupees(balance),
            "earliest": f"{earliest:%Y-%m-%d %H:%M}",
            "need": rupees(needed_paise(site, fall.account, now_s)),
        }
        yield Notice(name, fall.account, BEFORE_CUT, place.language, sentence(BEFORE_CUT, place.language, **values), now_s)


def _earliest(site: Site, place: Place, fall: Fall, now_s: int) -> datetime | None:
    """The first time at which the policy could allow the cut if all else were in order and nothing were paid; None = not within two months."""
    facts, now = _at_worst(site, place, fall, now_s), site.calendar.local(now_s)
    for ahead in range(LOOKED_AHEAD_DAYS):
        day = now.date() + timedelta(days=ahead)
        try:
            policy = load_policies().on(site.deployment.policy, day)
        except InputError:
            return None
        start = datetime.combine(day, time.fromisoformat(policy.rules["legal_hours"].values["from"]), ZoneInfo(site.calendar.zone))
        for at in (start, start + timedelta(hours=3)):
            if at > now and decide(policy, replace(facts, balance_as_of=at), at).allowed:
                return at
    return None


def _at_worst(site: Site, place: Place, fall: Fall, now_s: int) -> Facts:
    """The account's facts with everything that protects it besides dates and hours left out."""
    now = site.calendar.local(now_s)
    known = facts_of(site, candidate(place, fall, now_s), now_s)
    return replace(
        known,
        kill_switch_on=False,
        below_floor_since=fall.since,
        migration_settled=True,
        estimate_in_reckoning=False,
        within_free_units=False,
        notice_delivered_at=now,
        payment_in_flight=False,
        payment_channel_up_since=now - timedelta(days=365),
        life_support=False,
        dispute_open=False,
        feeder_cuts_last_hour=0,
        power_cut_last_hour_w=0,
        batch_size=1,
        approvers=2,
    )


def needed_paise(site: Site, account: str, now_s: int) -> int:
    """The smallest payment that brings an account to zero and is accepted."""
    lacks = max(0, -shown_balance_paise(site, account, now_s))
    try:
        policy = recharge_policy(site.deployment.policy)
    except InputError:
        return lacks
    wanted = max(lacks, policy.least_paise, 1)
    return -(-wanted // policy.step_paise) * policy.step_paise


def candidate(place: Place, fall: Fall, now_s: int, number: int = 1) -> Order:
    """The cut that is thought of."""
    name = f"cut:{place.account}:{fall.since}:{number}"
    return Order(name, What.DISCONNECT, place.account, place.meter, now_s, who=MACHINE, why=f"below zero since {fall.since}")


# -- ordering ---------------------------------------------------------------------------------------------------------------------------


def act(site: Site, guard: SupplyGuard, settings: Settings, now_s: int, only: Collection[str] | None = None) -> Counter[str]:
    """Ask the guard of everybody who has fallen, and order the milder step or the cut where it allows. Gives "allowed", "refused", "limited",
    "cut", "lifted" with how many. Without `automatic` decisions are made and kept, and
    nothing is ordered; only: the accounts that may be ordered for."""
    done: Counter[str] = Counter()
    book = OrderBook(site.rows)
    done["lifted"] = _lift(site, book, now_s)
    for fall in falls(site, now_s):
        place = place_of(site, fall.account, "", site.calendar.local(now_s).date())
        if place is None:
            continue
        orders = book.of_meter(place.meter)
        if _under_way(orders):
            continue
        mine = [order for order in orders if order.order_id.startswith(f"cut:{place.account}:{fall.since}:")]
        wanted = candidate(place, fall, now_s, len(mine) + 1)
        decision = _ask(guard, wanted, now_s)
        done["allowed" if decision.allowed else "refused"] += 1
        if decision.allowed and settings.automatic and (only is None or place.account in only):
            done[_order(book, settings, place, fall, wanted, orders, now_s)] += 1
    return done


def _under_way(orders: list[Order]) -> bool:
    """The meter is cut already, or something with its relay or its limit is still going on."""
    live = [o for o in orders if o.what in RELAY and o.state not in (State.REFUSED, State.CANCELLED, State.FAILED)]
    limits = [o for o in orders if o.what is What.LOAD_LIMIT and o.state not in SETTLED]
    return bool(limits) or (bool(live) and (live[-1].what is What.DISCONNECT or live[-1].state not in SETTLED))


def _ask(guard: SupplyGuard, wanted: Order, now_s: int) -> Decision:
    """The guard's answer, kept where it is a yes or has changed since it was last kept."""
    decision, facts = guard.ask(wanted, now_s)
    before = SupplyRows(guard.site.rows.database).decisions(wanted.account, limit=1)
    if decision.allowed or not before or before[0].allowed or before[0].against != against_text(decision):
        guard.keep(wanted, decision, facts)
    return decision


def _order(book: OrderBook, settings: Settings, place: Place, fall: Fall, wanted: Order, orders: list[Order], now_s: int) -> str:
    """The milder step if there is one and it has not held long enough, else the cut."""
    if settings.limit_percent:
        name = f"limit:{place.account}:{fall.since}"
        limit = next((order for order in orders if order.order_id == name), None)
        if limit is None:
            watts = max(100, place.load_w * settings.limit_percent // 100 // 100 * 100)
            wish = json.dumps({"limit_w": watts, "was_w": place.load_w})
            book.ask(
                Order(name, What.LOAD_LIMIT, place.account, place.meter, now_s, wish=wish, who=MACHINE, why="the milder step before a cut")
            )
            return "limited"
        if limit.state is State.CONFIRMED and now_s < limit.steps[-1].at_s + settings.limit_hours * 3600:
            return "waiting"
    book.ask(wanted)
    return "cut"


def _lift(site: Site, book: OrderBook, now_s: int) -> int:
    """Limits of accounts that are at or above zero again are lifted to the sanctioned load."""
    lifted = 0
    own = meter_order.c
    query = sa.select(own.order_id).where(own.order_id.startswith("limit:"), own.state == str(State.CONFIRMED))
    with site.rows.begin() as connection:
        limits = list(connection.execute(query).scalars())
    for order in map(book.order, limits):
        name = order.order_id.replace("limit:", "lift:", 1)
        known = any(one.order_id == name for one in book.of_meter(order.meter))
        if known or shown_balance_paise(site, order.account, now_s) < 0:
            continue
        wish = json.dumps({"limit_w": json.loads(order.wish)["was_w"]})
        book.ask(Order(name, What.LOAD_LIMIT, order.account, order.meter, now_s, wish=wish, who=MACHINE, why="paid"))
        lifted += 1
    return lifted


# -- many at once, by two people ------------------------------------------------------------------------------------------------------


def allowed_but_for_number(site: Site, now_s: int) -> list[str]:
    """The meters of all who have fallen and whom the guard would allow now if two people stood behind it."""
    guard, book, found = SupplyGuard(site), OrderBook(site.rows), []
    policy = load_policies().on(site.deployment.policy, site.calendar.local(now_s).date())
    for fall in falls(site, now_s):
        place = place_of(site, fall.account, "", site.calendar.local(now_s).date())
        if place is None or _under_way(book.of_meter(place.meter)):
            continue
        _, facts = guard.ask(candidate(place, fall, now_s), now_s)
        if decide(policy, replace(facts, batch_size=1, approvers=2), site.calendar.local(now_s)).allowed:
            found.append(place.meter)
    return found


def order_proposal(site: Site, approved: Proposal, now_s: int) -> int:
    """The cuts of an approved proposal, each under its number; gives how many. RequestError where it is not approved, or not one of cuts."""
    if approved.state != "approved" or approved.what != What.DISCONNECT:
        raise RequestError(
            f"proposal {approved.id} is {approved.state} and one of {approved.what}; only an approved one of cuts is ordered so"
        )
    book, made = OrderBook(site.rows), 0
    for serial in approved.subjects:
        place = place_of(site, "", serial, site.calendar.local(now_s).date())
        if place is not None and not _under_way(book.of_meter(serial)):
            book.ask(Order(f"{approved.id}:{serial}", What.DISCONNECT, place.account, serial, now_s, who=approved.who, why=approved.why))
            made += 1
    return made
