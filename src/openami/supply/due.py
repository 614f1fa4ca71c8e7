"""Who is due: told before anything happens, then limited or cut, where the guard allows it.

What always holds: nobody is cut for a fall below zero of which no notice was delivered; the guard is asked before an order is written and again by
the head-end at the second when it leaves; a milder step comes first where the deployment has one; one order a meter at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ..control.guard import decide
from ..control.order import RELAY, Order, State, What
from ..control.policy import load_policies
from ..control.rules import Facts
from ..day.books import shown_balance_paise, shown_balances_paise
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
from .facts import BEFORE_CUT, MACHINE, Place, facts_of_all, place_of, places_of
from .guard import SupplyGuard
from .settings import Settings

LOOKED_AHEAD_DAYS = 60
AT_ONCE = 500
"""Of how many accounts the facts are looked up together."""


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
    made = 0
    for part in _placed(site, [fall for name, fall in fallen.items() if name not in known], now_s):
        prepaid = [(place, fall) for place, fall in part if place.mode is PaymentMode.PREPAID]
        balances = shown_balances_paise(site, [place.account for place, _ in prepaid], now_s)
        owing = [(place, fall) for place, fall in prepaid if balances[place.account] < 0]
        facts = facts_of_all(site, [candidate(place, fall, now_s) for place, fall in owing], now_s)
        told = (_before(site, place, fall, balances[place.account], of, now_s) for (place, fall), of in zip(owing, facts, strict=True))
        made += outbox.put([notice for notice in told if notice is not None])
    return made


def _placed(site: Site, fallen: Sequence[Fall], now_s: int) -> Iterator[list[tuple[Place, Fall]]]:
    """Falls with their places, AT_ONCE at a time; those of accounts that hang nowhere are left out."""
    today = site.calendar.local(now_s).date()
    for at in range(0, len(fallen), AT_ONCE):
        part = fallen[at : at + AT_ONCE]
        places = places_of(site, [(fall.account, "") for fall in part], today)
        yield [(place, fall) for place, fall in zip(places, part, strict=True) if place is not None]


def _before(site: Site, place: Place, fall: Fall, balance_paise: int, facts: Facts, now_s: int) -> Notice | None:
    earliest = _earliest(site, _at_worst(site, facts, fall, now_s), now_s)
    if earliest is None:
        return None
    need = rupees(_accepted_paise(site, -balance_paise))
    values = {"balance": rupees(balance_paise), "earliest": f"{earliest:%Y-%m-%d %H:%M}", "need": need}
    name = f"{BEFORE_CUT}:{fall.account}:{fall.since}"
    return Notice(name, fall.account, BEFORE_CUT, place.language, sentence(BEFORE_CUT, place.language, **values), now_s)


def _earliest(site: Site, facts: Facts, now_s: int) -> datetime | None:
    """The first time at which the policy could allow the cut if all else were in order and nothing were paid; None = not within two months."""
    now = site.calendar.local(now_s)
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


def _at_worst(site: Site, known: Facts, fall: Fall, now_s: int) -> Facts:
    """The account's facts with everything that protects it besides dates and hours left out."""
    now = site.calendar.local(now_s)
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
    return _accepted_paise(site, max(0, -shown_balance_paise(site, account, now_s)))


def _accepted_paise(site: Site, lacks_paise: int) -> int:
    try:
        policy = recharge_policy(site.deployment.policy)
    except InputError:
        return lacks_paise
    wanted = max(lacks_paise, policy.least_paise, 1)
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
    for part in _placed(site, falls(site, now_s), now_s):
        history = book.of_meters([place.meter for place, _ in part])
        thought = [_thought(place, fall, history.get(place.meter, []), now_s) for place, fall in part]
        open_ = [one for one in thought if not _under_way(one.orders)]
        answers = guard.ask_all([one.order for one in open_], now_s)
        wanted = [
            a.allowed and settings.automatic and (only is None or one.place.account in only)
            for one, (a, _) in zip(open_, answers, strict=True)
        ]
        seen = [(one.order, *answer) for one, answer, order in zip(open_, answers, wanted, strict=True) if not order]
        guard.keep_changed(seen)
        done.update("allowed" if decision.allowed else "refused" for _, decision, _ in seen)
        for one in (one for one, order in zip(open_, wanted, strict=True) if order):
            allowed = guard(one.order, now_s).allowed  # asked anew: what this step has ordered so far counts too
            done["allowed" if allowed else "refused"] += 1
            if allowed:
                done[_order(book, settings, one, now_s)] += 1
    return done


@dataclass(frozen=True, slots=True)
class _Thought:
    """A cut that is thought of, and what the meter's orders were so far, oldest first."""

    place: Place
    fall: Fall
    order: Order
    orders: list[Order]


def _thought(place: Place, fall: Fall, orders: list[Order], now_s: int) -> _Thought:
    mine = [order for order in orders if order.order_id.startswith(f"cut:{place.account}:{fall.since}:")]
    return _Thought(place, fall, candidate(place, fall, now_s, len(mine) + 1), orders)


def _under_way(orders: list[Order]) -> bool:
    """The meter is cut already, or something with its relay or its limit is still going on."""
    live = [o for o in orders if o.what in RELAY and o.state not in (State.REFUSED, State.CANCELLED, State.FAILED)]
    limits = [o for o in orders if o.what is What.LOAD_LIMIT and o.state not in SETTLED]
    return bool(limits) or (bool(live) and (live[-1].what is What.DISCONNECT or live[-1].state not in SETTLED))


def _order(book: OrderBook, settings: Settings, thought: _Thought, now_s: int) -> str:
    """The milder step if there is one and it has not held long enough, else the cut."""
    place, orders = thought.place, thought.orders
    if settings.limit_percent:
        name = f"limit:{place.account}:{thought.fall.since}"
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
    book.ask(thought.order)
    return "cut"


def _lift(site: Site, book: OrderBook, now_s: int) -> int:
    """Limits of accounts that are at or above zero again are lifted to the sanctioned load."""
    lifted = 0
    own = meter_order.c
    query = sa.select(own.order_id).where(own.order_id.startswith("limit:"), own.state == str(State.CONFIRMED))
    with site.rows.begin() as connection:
        limits = {one: one.replace("limit:", "lift:", 1) for one in connection.execute(query).scalars()}
    known = {order.order_id for order in book.orders(list(limits.values()))}
    for order in book.orders([one for one, name in limits.items() if name not in known]):
        if shown_balance_paise(site, order.account, now_s) < 0:
            continue
        wish = json.dumps({"limit_w": json.loads(order.wish)["was_w"]})
        book.ask(Order(limits[order.order_id], What.LOAD_LIMIT, order.account, order.meter, now_s, wish=wish, who=MACHINE, why="paid"))
        lifted += 1
    return lifted


# -- many at once, by two people ------------------------------------------------------------------------------------------------------


def allowed_but_for_number(site: Site, now_s: int) -> list[str]:
    """The meters of all who have fallen and whom the guard would allow now if two people stood behind it."""
    guard, book, found = SupplyGuard(site), OrderBook(site.rows), []
    policy = load_policies().on(site.deployment.policy, site.calendar.local(now_s).date())
    for part in _placed(site, falls(site, now_s), now_s):
        history = book.of_meters([place.meter for place, _ in part])
        open_ = [(place, fall) for place, fall in part if not _under_way(history.get(place.meter, []))]
        answers = guard.ask_all([candidate(place, fall, now_s) for place, fall in open_], now_s)
        for (place, _), (_, facts) in zip(open_, answers, strict=True):
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
