"""Meters that answer when they are asked: what their pushes lost is read from them, and their midnight registers too.

A few of the town's meters are served as full DLMS servers that measure the same household. What always holds: what they give is what the town's meter
counted; same seed, same meters, same answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from ..day import Site
from ..errors import StorageError
from ..fleet.device import MeterDevice, build_device, new_identity
from ..fleet.faults import Kind, Plan, healthy_meters
from ..fleet.serve import serve_device
from ..fleet.town import HEADEND_TITLE, Town
from ..headend.gaps import site_gaps
from ..headend.lines import Lines, reader_title
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

ASKED_MAX = 24
"""How many meters are served: each is a whole simulated meter."""
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


def device_of(town: Town, number: int, control_mode: int = 6) -> MeterDevice:
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
    return build_device(
        identity, _after(town), seed=number, days=town.days + 1, months=0, period_s=QUARTER_S, quarter_wh=cycle, control_mode=control_mode
    )


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
async def served(site: Site, town: Town, devices: dict[int, MeterDevice], now_s: Callable[[], int]) -> AsyncIterator[Lines]:
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
        async with served(site, town, devices, lambda: int(now_s())) as lines:
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
