"""Supply in the demo: accounts run low and are told, the guard refuses some and allows some, relays of simulated meters open, and close when paid.

Told and carried by the same code as in a utility: worker, outbox, Apprise, guard, orders' desk, payment desk. Constructed are the carrier and its
phones, the payments, what people tell (no dispute, one life-support device), and the rules: Bihar's leave three days and protect the first 125 units
of a month, so in a demo of a few days they cut nobody; they are asked first, and then Karnataka's (supply is cut at zero). What always holds: a relay
moves only where the guard allows it on the facts of that second, and done is what was read back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from ..control.order import Order, State, What
from ..cosem.axdr import Data, Tag
from ..day import Site
from ..fleet.device import MeterDevice
from ..fleet.town import Town
from ..headend.lines import Lines
from ..headend.orders import OrderDesk
from ..notices.senders import AppriseSender
from ..payments.event import Event as PaymentEvent
from ..payments.event import Kind
from ..payments.gateways import Gateway
from ..store.order_book import OrderBook
from ..store.outbox import Outbox
from ..store.supply_rows import ANYBODY, SupplyRows
from ..supply.chain import chains
from ..supply.due import act, falls, needed_paise
from ..supply.facts import place_of
from ..supply.guard import SupplyGuard
from ..supply.paying import payment_desk
from ..supply.settings import Settings
from ..supply.worker import SupplyWorker
from .asked import device_of, served
from .carrier import Carrier, carrier

OTHER_RULES = "KA"
CUT_MAX, STOOD_OPEN_MAX = 3, 2
MODES = (4, 6, 1)
"""Control modes of the meters that are cut: one closes at once, one by itself after its own delay, one at the consumer's button."""
MORNING_S, CUT_S, MINUTE_S = 8 * 3600, 41_400, 60
GATEWAY = Gateway("upi", "http://simulated", (b"a secret of the demo",))
OVER = (State.SUPPLIED, State.REFUSED, State.FAILED, State.CANCELLED)


def supply(site: Site, town: Town) -> dict[str, Any]:
    """The scene, from the first morning behind a closed day to noon of the day behind the last one. Gives {messages, decisions, orders, chains}."""
    logging.getLogger("apprise").setLevel(logging.ERROR)
    rows, outbox = SupplyRows(site.rows.database), Outbox(site.rows.database)
    first_s = _at(town, town.first_day + timedelta(days=1), MORNING_S)
    outbox.set_addresses({account.number: f"9{account.number[1:]}" for account in town.accounts})
    for fact in ("life_support", "dispute_open"):
        rows.tell(ANYBODY, fact, False, first_s, "demo", "constructed: the register of this town")
    protected = next((fall.account for fall in falls(site, _at(town, town.first_day + timedelta(days=town.days), CUT_S))), None)
    if protected is not None:
        rows.tell(protected, "life_support", True, first_s, "demo", "constructed: an oxygen concentrator")
    with carrier() as phones:
        asked = asyncio.run(_scene(site, town, outbox, phones))
    decided = Counter[str]()
    for one in rows.decisions(limit=10_000):
        decided["allowed" if one.allowed else "refused"] += 1
        decided.update(f"{one.policy}: {code}" for code in one.against.split())
    told = {f"{kind} {state}": count for (kind, state), count in sorted(outbox.counts().items())}
    found = sorted(chains(site.rows, 0), key=lambda one: one.order_id)
    light = [{"account": c.account, "stage": str(c.stage), "closing": str(c.closing), "took_s": c.took_s} for c in found]
    return {"messages": told, "decisions": dict(sorted(decided.items())), "orders": asked, "chains": light}


def _at(town: Town, day: date, second: int) -> int:
    return town.calendar.day_start(day) + second


async def _scene(site: Site, town: Town, outbox: Outbox, phones: Carrier) -> list[dict[str, Any]]:
    sender = [AppriseSender("sms", phones.url)]
    elsewhere = Site(site.folder, replace(site.deployment, policy=OTHER_RULES), site.rows, site.lake)
    for place, at_site in enumerate((site, elsewhere)):
        worker = SupplyWorker(at_site, sender, {GATEWAY.name: GATEWAY}, Settings(), asked=lambda gateway, now_s: True)
        for ahead in range(1, town.days + 1):
            day = town.first_day + timedelta(days=ahead)
            now_s = _at(town, day, MORNING_S if ahead < town.days else CUT_S) + place
            worker.step(now_s)
            while worker.step(now_s).get("sent", 0):
                pass
            _report(outbox, phones, now_s)
    return await _operate(elsewhere, town, worker, outbox, phones)


def _report(outbox: Outbox, phones: Carrier, now_s: int) -> None:
    """What the carrier says of all that it took since it was last asked, some seconds behind."""
    for notice, arrived in phones.arrived().items():
        outbox.report(notice, arrived, now_s + 5, "" if arrived else "the phone is off")
    phones.took.clear()


# -- relays -----------------------------------------------------------------------------------------------------------------------------


async def _operate(site: Site, town: Town, worker: SupplyWorker, outbox: Outbox, phones: Carrier) -> list[dict[str, Any]]:
    """Cut a few of those whom the guard allows, let them pay, and see their supply come back; and reconnect a few whose relays stood open."""
    clock = {"now": _at(town, town.first_day + timedelta(days=town.days), CUT_S) + MINUTE_S}
    number = {point.name: k for k, point in enumerate(town.points)}
    own = {account.number: number[account.usage_point] for account in town.accounts}
    whole = {name: k for name, k in own.items() if (town.metered_wh[k] >= 0).all()}
    allowed = {one.account for one in SupplyRows(site.rows.database).decisions(allowed=True, limit=10_000)}
    chosen = [name for name in sorted(allowed) if name in whole][:CUT_MAX]
    open_ = [t.account for t in town.recharges if t.account in whole and t.account not in allowed]
    stood = sorted(set(open_))[:STOOD_OPEN_MAX]
    devices = {whole[name]: device_of(town, whole[name], MODES[k % len(MODES)]) for k, name in enumerate(chosen)}
    devices |= {whole[name]: device_of(town, whole[name]) for name in stood}
    for name in stood:
        devices[whole[name]].relay.act(1, Data(Tag.INTEGER, 0), clock["now"] - 3600)
    async with served(site, town, devices, lambda: clock["now"]) as lines:
        desk = _desk(site, lines, clock)
        told = [await _cut_and_pay(site, desk, worker, clock, name, devices[whole[name]]) for name in chosen]
        for name in stood:
            order = Order(f"connect {name}", What.CONNECT, name, town.meters[whole[name]].serial, clock["now"], who="demo", why="recharged")
            told.append([await _carry(desk, desk.ask(order), clock, devices[whole[name]])])
    clock["now"] += MINUTE_S
    worker.step(clock["now"])
    _report(outbox, phones, clock["now"])
    return [_told(order) for orders in told for order in orders]


def _desk(site: Site, lines: Lines, clock: dict[str, int]) -> OrderDesk:
    return OrderDesk(OrderBook(site.rows), lines, lambda: clock["now"], SupplyGuard(site), sees_voltage=True)


async def _cut_and_pay(
    site: Site, desk: OrderDesk, worker: SupplyWorker, clock: dict[str, int], account: str, device: MeterDevice
) -> list[Order]:
    """One account: ordered where the guard allows it, cut where it still does, told, paid, reconnected."""
    clock["now"] += MINUTE_S
    act(site, worker.guard, Settings(automatic=True), clock["now"], only={account})
    place = place_of(site, account, "", site.calendar.local(clock["now"]).date())
    assert place is not None
    cuts = [order for order in desk.book.of_meter(place.meter) if order.what is What.DISCONNECT]
    if not cuts:
        return []
    cut = await _carry(desk, cuts[-1], clock, device)
    worker.step(clock["now"])
    if cut.state is not State.CONFIRMED:
        return [cut]
    clock["now"] += 10 * MINUTE_S
    paid = PaymentEvent("upi", f"E{account}", f"P{account}", Kind.PAID, account, needed_paise(site, account, clock["now"]), clock["now"])
    payment_desk(site, lambda: clock["now"]).take(paid)
    back = await _carry(desk, desk.book.order(f"reconnect:upi:P{account}"), clock, device, worker)
    return [cut, back]


async def _carry(desk: OrderDesk, order: Order, clock: dict[str, int], device: MeterDevice, worker: SupplyWorker | None = None) -> Order:
    """Conversation by conversation until it is over; a meter that waits for its button gets it pressed after a minute."""
    for _ in range(12):
        order = await desk.carry(order.order_id)
        if worker is not None:
            worker.step(clock["now"])
        if order.state in OVER or (order.what is What.DISCONNECT and order.state is State.CONFIRMED):
            return order
        clock["now"] += MINUTE_S
        if order.state is State.READY:
            device.relay.press_button(clock["now"])
    return order


def _told(order: Order) -> dict[str, Any]:
    return {
        "account": order.account,
        "meter": order.meter,
        "what": str(order.what),
        "state": str(order.state),
        "note": "; ".join(step.note for step in order.steps[-2:] if step.note),
    }
