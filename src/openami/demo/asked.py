"""Meters that answer when they are asked: what their pushes lost is read from them, their midnight registers too, and relays are operated at the end.

A few of the town's meters are served as full DLMS servers that measure the same household. What always holds: what they give is what the town's meter
counted; same seed, same meters, same answers; a relay moves only where the guard allows it on the facts of the order, and done is what was read back.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from ..control.guard import Decision, decide
from ..control.order import Order, State, What
from ..control.policy import load_policies
from ..cosem.axdr import Data, Tag
from ..day import Site
from ..day.guarding import facts_of
from ..errors import StorageError
from ..fleet.device import MeterDevice, build_device, new_identity
from ..fleet.faults import Kind, Plan, healthy_meters
from ..fleet.serve import serve_device
from ..fleet.town import HEADEND_TITLE, Town
from ..headend.gaps import site_gaps
from ..headend.lines import Lines, reader_title
from ..headend.orders import OrderDesk
from ..headend.plan import Limits, Priority, Task
from ..headend.plan import Plan as ReadingPlan
from ..headend.pulled import BLOCK_LOAD_PROFILE
from ..headend.reader import RawProfile
from ..headend.registers import profile_rows
from ..headend.rounds import Rounds, gap_tasks
from ..readings import CHANNEL_BY_NAME, IMPORT_WH, MISSING, Int32
from ..store.contacts import MeterLine
from ..store.heard import Heard
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.order_book import OrderBook

ASKED_MAX = 24
"""How many meters are served: each is a whole simulated meter."""
ORDERED_MAX = 3
READ_WITHIN_S = 120.0
QUARTER_S, MONDAY_S = 900, 4 * 86_400


@dataclass(slots=True)
class Answered:
    """What was read. meters: those that were asked, by number in the town; wh: int32 [meter of `meters`, slot], what each gives as imported energy
    wherever it is asked; others: channel -> the same for the other channels; rows: how many rows of block load came, registers: of midnights."""

    meters: list[int]
    wh: Int32
    others: dict[str, Int32]
    rows: int = 0
    registers: int = 0

    def fill(self, expected: Int32, channel: str) -> Int32:
        """What the grid must hold once they have answered: `expected` [meter of the town, slot] with its gaps filled."""
        filled = expected.copy()
        own = self.wh if channel == IMPORT_WH.name else self.others.get(channel)
        if own is not None and self.meters:
            filled[self.meters] = np.where(filled[self.meters] == MISSING, own, filled[self.meters])
        return filled


def ask_meters(site: Site, town: Town, plan: Plan) -> Answered:
    """Read what `raw` lacks of the meters that answer, and their registers at every midnight; collect afterwards. StorageError where a meter does not
    answer in time."""
    devices, answered = answering(town, plan)
    if devices:
        asyncio.run(_ask(site, town, devices, answered))
    return answered


def answering(town: Town, plan: Plan) -> tuple[dict[int, MeterDevice], Answered]:
    """The meters that answer, by number in the town, and what they would give, before anybody has asked."""
    devices = {number: device_of(town, number) for number in _askable(town, plan)}
    return devices, _truths(town, devices)


def _askable(town: Town, plan: Plan) -> list[int]:
    """Meters whose radio came back, then healthy ones that lost a push on the way, the first of the registry first."""
    back = [k for k, (_, last) in plan.silent.items() if last < town.slots]
    lossy = [k for k in healthy_meters(town, plan) if any(send.kind is Kind.LOST for send in plan.sends[k])]
    return [k for k in [*back, *lossy] if (town.metered_wh[k] >= 0).all()][:ASKED_MAX]


def device_of(town: Town, number: int) -> MeterDevice:
    """A simulated meter that has measured what the town's meter `number` counted, an hour behind the last day."""
    meter = town.meters[number]
    identity = replace(
        new_identity(meter.serial, np.random.default_rng([town.seed, 5, number])),
        keys=town.secrets[meter.serial].keys,
        system_title=meter.system_title,
    )
    begins_s = town.calendar.day_start(town.first_day)
    own = town.metered_wh[number]
    offset_s = int(town.calendar.local(begins_s).utcoffset().total_seconds())  # type: ignore[union-attr]
    first_slot = (begins_s + offset_s - MONDAY_S) // QUARTER_S
    cycle = np.roll(own, first_slot % len(own)).astype(np.int32)
    return build_device(identity, _after(town), seed=number, days=town.days + 1, months=0, period_s=QUARTER_S, quarter_wh=cycle)


def _after(town: Town) -> int:
    return town.calendar.day_start(town.first_day + timedelta(days=town.days)) + 3600


def _truths(town: Town, devices: dict[int, MeterDevice]) -> Answered:
    """What each device's block load holds, in the channels' stored integers."""
    begins_s, numbers = town.calendar.day_start(town.first_day), list(devices)
    found = {name: np.full((len(numbers), town.slots), MISSING, np.int32) for name in town.channels}
    for at, device in enumerate(devices.values()):
        profile = device.profiles["block_load"]
        places = {name: next((k for k, c in enumerate(profile.columns) if c.obis == CHANNEL_BY_NAME[name].obis), None) for name in found}
        scale = {row.obis: row.scaler for row in device.tables.registers}
        for stamp_s, row in zip(profile._stamps, profile._rows, strict=True):
            slot = (stamp_s - begins_s) // QUARTER_S - 1
            if 0 <= slot < town.slots:
                for name, place in places.items():
                    if place is not None:
                        channel = CHANNEL_BY_NAME[name]
                        found[name][at, slot] = row[place].value * 10 ** (scale[channel.obis] - channel.scaler)
    return Answered(numbers, found.pop(IMPORT_WH.name), found)


@asynccontextmanager
async def _served(site: Site, town: Town, devices: dict[int, MeterDevice], now_s: Callable[[], int]) -> AsyncIterator[Lines]:
    """The devices on loopback, their lines in the registry."""
    master = load_master_key(site.folder.master_key)
    servers = {number: await serve_device(device, clock=now_s) for number, device in devices.items()}
    lines = Lines(site.rows, master, reader_title(HEADEND_TITLE))
    lines.contacts.add_lines(
        MeterLine(
            town.meters[number].serial,
            "127.0.0.1",
            server.port,
            cell=str(town.points[number].transformer),
            password_wrapped=master.wrap_secret(devices[number].identity.password),
            hls_secret_wrapped=master.wrap_secret(devices[number].identity.hls_secret),
        )
        for number, server in servers.items()
    )
    lines.reload()
    try:
        yield lines
    finally:
        for server in servers.values():
            await server.close()
        lines.close()


async def _ask(site: Site, town: Town, devices: dict[int, MeterDevice], answered: Answered) -> None:
    begun = time.monotonic()

    def now_s() -> float:
        return _after(town) + time.monotonic() - begun

    heard, days = Heard(site.rows), site.deployment.open_days
    journal = open_journal(site.folder, site.deployment)
    try:
        async with _served(site, town, devices, lambda: int(now_s())) as lines:
            wanted = site_gaps(
                site.lake, site.rows, journal, site.calendar, days, int(now_s()), grace_s=0, depth_s=1 << 40, join_s=0
            ).wanted
            plan, known = ReadingPlan(Limits(total=16)), set(lines.serials)
            for task in gap_tasks({s: gaps for s, gaps in wanted.items() if s in known}, lines.cell, int(now_s())):
                plan.add(task)
            first_s, last_s = site.calendar.day_start(days[0]), site.calendar.day_start(days[-1] + timedelta(days=1))
            for serial in lines.serials:
                plan.add(Task(f"daily_load {serial}", serial, Priority.ROUTINE, "daily_load", first_s, first_s, last_s, lines.cell(serial)))

            def taken(task: Task, found: RawProfile, seq: int, received_s: int) -> None:
                if found.layout.obis == BLOCK_LOAD_PROFILE:
                    answered.rows += len(found.rows)
                    return
                events, registers = profile_rows(task.serial, found.layout, found.rows, received_s)
                heard.note(events, registers)
                answered.registers += len(registers)

            rounds = Rounds(plan, lines, journal, now_s, taken=taken)
            await rounds.run(lambda: time.monotonic() - begun > READ_WITHIN_S)
            if len(plan):
                problems = sorted(set(rounds.tally.problems.values()))
                raise StorageError(
                    f"{len(plan)} readings of simulated meters did not come in {READ_WITHIN_S:g} s: {'; '.join(problems)[:300]}"
                )
    finally:
        journal.close()


# -- relays ---------------------------------------------------------------------------------------------------------------------------


def operate(site: Site, town: Town) -> list[dict[str, Any]]:
    """At 11:30 of the day behind the last one: order the disconnection of the accounts longest due, where the guard has the last word; those that are
    cut are paid for and reconnected. And reconnect a few that were cut before and have recharged (constructed: their relays stand open).

    Each as {account, meter, what, state, against}: the guard's reasons that forbid, or what was read back."""
    last, due = site.deployment.open_days[-1], list[dict[str, Any]]()
    for shard in site.rows.shards():
        if site.lake.has("due", last, shard):
            due += site.lake.read("due", last, shard).to_pylist()
    due.sort(key=lambda row: (_forbidden(row), -row["days_below"], row["balance_paise"], row["account"]))
    by_account = {account.number: account for account in town.accounts}
    point = {p.name: k for k, p in enumerate(town.points)}
    chosen = {point[by_account[row["account"]].usage_point]: str(row["account"]) for row in due[:ORDERED_MAX]}
    chosen = {number: account for number, account in chosen.items() if (town.metered_wh[number] >= 0).all()}
    paid = {point[by_account[t.account].usage_point]: t.account for t in reversed(town.recharges)}
    again = {k: paid[k] for k in sorted(paid) if k not in chosen and (town.metered_wh[k] >= 0).all()}
    return asyncio.run(_operate(site, town, chosen, dict(list(again.items())[:ORDERED_MAX])))


def _forbidden(row: dict[str, Any]) -> int:
    """How many of the guard's rules say no to a row of the due list; what is not known there is constructed here."""
    return sum(reason["ok"] is False for reason in json.loads(row["reasons"]))


async def _operate(site: Site, town: Town, chosen: dict[int, str], paid: dict[int, str]) -> list[dict[str, Any]]:
    clock = {"now": town.calendar.day_start(town.first_day + timedelta(days=town.days)) + 41_400}
    devices = {number: device_of(town, number) for number in (*chosen, *paid)}
    for number in paid:
        devices[number].relay.act(1, Data(Tag.INTEGER, 0), clock["now"] - 3600)
    told: list[dict[str, Any]] = []
    async with _served(site, town, devices, lambda: clock["now"]) as lines:
        book = OrderBook(site.rows)
        desk = OrderDesk(book, lines, lambda: clock["now"], lambda order, now_s: _judge(site, order, now_s))
        for number, account in (chosen | paid).items():
            serial = town.meters[number].serial
            cut = ((What.DISCONNECT, "balance below the floor"),) if number in chosen else ()
            for what, why in (*cut, (What.CONNECT, "recharged")):
                order = desk.ask(Order(f"{what} {account}", what, account, serial, clock["now"], who="demo", why=why))
                order = await _until_settled(desk, order, clock)
                told.append(_told(order))
                if order.state is not State.CONFIRMED:
                    break
    return told


async def _until_settled(desk: OrderDesk, order: Order, clock: dict[str, int]) -> Order:
    for _ in range(10):
        order = await desk.carry(order.order_id)
        if order.state in (State.CONFIRMED, State.REFUSED, State.FAILED, State.CANCELLED):
            return order
        clock["now"] += 60
    return order


def _told(order: Order) -> dict[str, Any]:
    return {
        "account": order.account,
        "meter": order.meter,
        "what": str(order.what),
        "state": str(order.state),
        "note": order.steps[-1].note if order.steps else "",
    }


def _judge(site: Site, order: Order, now_s: int) -> Decision:
    """The guard, on what the platform knows of the account and what this town has constructed for the rest: a notice delivered days ago,
    recharging that works, no life-support device, no dispute."""
    now = site.calendar.local(now_s)
    facts = replace(
        facts_of(site, order, now.date()),
        kill_switch_on=False,
        old_arrears_paise=0,
        daily_use_paise=0,
        migration_settled=True,
        notice_delivered_at=now - timedelta(days=8),
        payment_in_flight=False,
        payment_channel_up_since=now - timedelta(days=30),
        life_support=False,
        dispute_open=False,
        feeder_cuts_last_hour=0,
        power_cut_last_hour_w=0,
        batch_size=1,
        approvers=1,
    )
    return decide(load_policies().on(site.deployment.policy, now.date()), facts, now)
