"""A small town's data folder, made without sockets: registry and keys in their places, pushes straight into the journal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import fields, replace
from datetime import date
from functools import lru_cache
from pathlib import Path

from openami.cosem import ciphering, notification, wrapper
from openami.cosem.axdr import Data
from openami.cosem.push import layout_for
from openami.day import Site, close_all, collect
from openami.day.findings import record
from openami.demo.run import found
from openami.fleet.meter import BLOCK_LOAD_PUSH, METER_PORT, PUSH_PORT, SimulatedMeter
from openami.fleet.town import Town, build_town, measure
from openami.store.deployment import Folder
from openami.store.journal import Journal

FIRST = date(2025, 12, 1)
CONSUMERS, DAYS = 20, 2
RECEIVED_US = 1_764_600_000_000_000


def make_town(seed: int = 5, days: int = DAYS, first: date = FIRST) -> Town:
    """A town whose lists and tables may be changed; what is in them is shared by all who ask for the same one."""
    town = _measured(seed, days, first)
    held = {one.name: getattr(town, one.name) for one in fields(town)}
    return replace(town, **{name: copy(what) for name, what in held.items() if isinstance(what, list | dict)})


@lru_cache(maxsize=8)
def _measured(seed: int, days: int, first: date) -> Town:
    town = build_town(seed, CONSUMERS, first, days, ("BR-DS2", "BR-DS2-TOU"))
    measure(town)
    return town


def device(town: Town, number: int, counter: int | None = None) -> SimulatedMeter:
    meter = town.meters[number]
    secrets = town.secrets[meter.serial]
    layout = layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH)
    start = secrets.counter_start if counter is None else counter
    return SimulatedMeter(meter.serial, meter.system_title, layout, meter.security_control, secrets.keys, start)


def pushes(town: Town, leave_out: Callable[[int, int], bool] = lambda number, slot: False) -> list[bytes]:
    """Every meter's push of every slot, meters side by side, but those that `leave_out(meter, slot)` names."""
    devices = [device(town, number) for number in range(len(town.meters))]
    frames = []
    for slot in range(town.slots):
        for number, meter in enumerate(devices):
            stamp = town.calendar.day_start(town.first_day) + 900 * (slot + 1)
            frame = meter.push(stamp + 5, stamp, {name: int(block[number, slot]) for name, block in town.channels.items()})
            if not leave_out(number, slot):
                frames.append(frame)
    return frames


def make_site(root: Path, town: Town, frames: Iterable[bytes] = ()) -> Site:
    folder = Folder(root)
    found(folder, town)
    send(folder, list(frames))
    return Site.open(folder)


def make_audited(root: Path, seed: int) -> Site:
    """A town whose days are collected and closed, with all that the energy audit finds of them."""
    town = make_town(seed)
    site = make_site(root, town, pushes(town))
    collect(site)
    close_all(site)
    record(site)
    return site


def copy_of(site: Site, where: Path) -> Site:
    """A copy of a data folder, to be changed."""
    return Site.open(Folder(Path(shutil.copytree(site.folder.root, where / "copy"))))


def send(folder: Folder, frames: list[bytes]) -> None:
    journal = Journal(folder.journal, create=True)
    for at in range(0, len(frames), 500):
        journal.append(frames[at : at + 500], RECEIVED_US)
    journal.close()


def sealed(town: Town, number: int, counter: int, body: Data) -> bytes:
    """A genuine push of meter `number` that says whatever `body` says."""
    meter = town.meters[number]
    plain = notification.DataNotification(counter & 0xFFFFFF, True, False, b"", body).encode()
    keys = town.secrets[meter.serial].keys
    apdu = ciphering.seal(ciphering.GENERAL_GLO, meter.system_title, meter.security_control, counter, keys, plain)
    return wrapper.wrap(METER_PORT, PUSH_PORT, apdu)


def used_wh(site: Site, day: date) -> dict[str, int]:
    """Every account's energy of a day in shard 0, over its time-of-use periods."""
    rows = site.lake.read("usage", day, 0)
    periods = [name.removesuffix("to_date_wh") + "wh" for name in rows.column_names if name.endswith("_to_date_wh")]
    return {row["account"]: sum(row[name] or 0 for name in periods) for row in rows.to_pylist()}
