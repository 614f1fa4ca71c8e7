"""The main job: town -> fleet -> head-end (a process of its own) -> collect -> close -> report.

What always holds: everything is written into `<folder>.partial` and becomes `<folder>` in one rename at the end, so a demo that fails or is
killed leaves what was there before; the same seed gives the same report, timings aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ..billing.tariff import load_tariffs
from ..day import Site, close_all, collect
from ..day.findings import record
from ..errors import InputError, OpenAMIError, StorageError
from ..fleet.faults import Plan, plant
from ..fleet.run import Fleet, Outcome
from ..fleet.town import HEADEND_TITLE, Town, build_town, check_size, measure
from ..store.deployment import Deployment, Folder
from ..store.keys import load_master_key
from ..store.lake import Lake
from ..store.rows import Rows
from . import judge
from .asked import ask_meters
from .darkness import announce
from .supplied import supply

TARIFFS = ("BR-DS2", "BR-DS2-TOU")
REPORT = "report.json"
NOON_S = 43_200
TRUTH = "truth.json"

Stage = Callable[[str, int], Callable[[int], None]]
"""Begins a stage of so many steps under a name; the function it gives moves the stage on."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for."""

    folder: Path
    consumers: int
    days: int
    seed: int
    first_day: date
    tariffs: tuple[str, ...] = TARIFFS


def run_demo(wish: Wish, stage: Stage) -> dict[str, Any]:
    """Run the whole demo into `wish.folder` and give its report. Raises an OpenAMIError with nothing half-written."""
    final = _checked(wish)
    partial = Folder(_beside(final, "partial"))
    with _alone(final), _storage_errors(final):
        started = time.perf_counter()
        step = stage("Build the town", 3)
        town = build_town(wish.seed, wish.consumers, wish.first_day, wish.days, wish.tariffs)
        step(1)
        plan = plant(town)
        measure(town)
        step(1)
        shutil.rmtree(partial.root, ignore_errors=True)
        try:
            found(partial, town)
            step(1)
            report = _work(partial, town, plan, stage, started)
            _replace(partial.root, final)
        except BaseException:
            shutil.rmtree(partial.root, ignore_errors=True)
            raise
    return report


def _checked(wish: Wish) -> Path:
    """Everything of the wish that can be refused before the work begins; gives the folder where the demo's data will truly lie."""
    if len(wish.tariffs) > 2:
        raise InputError(f"{len(wish.tariffs)} tariffs ({', '.join(wish.tariffs)}); give --tariff once or twice")
    check_size(wish.consumers, wish.days)
    book = load_tariffs()
    for name in wish.tariffs:
        book.on(name, wish.first_day)
        book.on(name, wish.first_day + timedelta(days=wish.days - 1))
    return _usable(wish.folder)


def _work(partial: Folder, town: Town, plan: Plan, stage: Stage, started: float) -> dict[str, Any]:
    times = {"town_s": time.perf_counter() - started}
    sends = sum(len(own) for own in plan.sends)
    with headend_process(partial) as port:
        at = time.perf_counter()
        fleet = Fleet(town, plan, "127.0.0.1", port, tick=stage("Meters push, the head-end confirms", sends))
        outcome = asyncio.run(_together(fleet))
        times["push_s"] = time.perf_counter() - at
    site = Site.open(partial)
    at = time.perf_counter()
    collect(site, stage("Decode the journal into day grids", outcome.frames))
    times["collect_s"] = time.perf_counter() - at
    at = time.perf_counter()
    step = stage("Ask meters for what is missing", 2)
    answered = ask_meters(site, town, plan)
    step(1)
    if answered.meters:
        collect(site)
    step(1)
    times["ask_s"] = time.perf_counter() - at
    at = time.perf_counter()
    announce(site, plan)
    close_all(site, stage("Validate, bill, balance", town.days * len(site.rows.shards())))
    times["close_s"] = time.perf_counter() - at
    at = time.perf_counter()
    step = stage("Losses, outages, suspects", 1)
    record(site)
    step(1)
    times["audit_s"] = time.perf_counter() - at
    at = time.perf_counter()
    step = stage("Low balances, cuts, payments, light", 1)
    supplied = supply(site, town)
    step(1)
    times["supply_s"] = time.perf_counter() - at
    step = stage("Compare with what was planted", 1)
    report = judge.report(site, town, plan, outcome, answered)
    report["supply"] = supplied
    step(1)
    times["total_s"] = time.perf_counter() - started
    report["timings"] = {name: round(value, 3) for name, value in times.items()} | {
        "frames_per_s": round(outcome.frames / times["push_s"]),
        "pushed_again": outcome.again,
    }
    (partial.root / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")
    (partial.root / TRUTH).write_text(json.dumps(judge.truth(town, plan), indent=1), encoding="utf-8")
    site.rows.close()
    return report


async def _together(fleet: Fleet) -> Outcome:
    """The fleet to its end; the first error of any meter as itself, not as a group."""
    try:
        return await fleet.run()
    except BaseExceptionGroup as group:
        ours, _ = group.split(OpenAMIError)
        raise (ours or group).exceptions[0] from None


def found(folder: Folder, town: Town) -> None:
    """Settings, registry, wrapped keys and recharges of the town: what a utility would have imported before its meters speak."""
    folder.save(
        Deployment(
            name="Demo town (constructed; consumption of real Swiss households)",
            zone=town.calendar.zone,
            interval_minutes=town.calendar.interval_minutes,
            first_day=town.first_day,
            days=town.days,
            policy="BR",
            headend_title=HEADEND_TITLE.hex(),
            seed=town.seed,
        )
    )
    master = load_master_key(folder.master_key, create=True)
    rows = Rows.of(folder, create=True)
    wrapped = [(serial, master.wrap(s.keys.ek), master.wrap(s.keys.ak)) for serial, s in town.secrets.items()]
    began = town.calendar.day_start(town.first_day)
    rows.add_registry(town.feeders, town.transformers, town.meters, town.points, town.accounts, wrapped, posted_s=began)
    for day in sorted({recharge.day for recharge in town.recharges}):  # paid at noon of the town's own days
        rows.post([recharge for recharge in town.recharges if recharge.day == day], town.calendar.day_start(day) + NOON_S)
    rows.close()


@contextmanager
def headend_process(folder: Folder, port: int = 0) -> Iterator[Callable[[], int]]:
    """The head-end of `folder` as a process of its own; gives what tells its port, and raises StorageError once it has ended. At the end it is
    told to stop, stores what it has, and must say so."""
    command = [sys.executable, "-m", "openami", "serve", "--role", "headend", "--data", str(folder.root), "--port", str(port)]
    # Its own session: a Ctrl-C in the terminal is for us to act on. It watches its standard input, so that it ends with us however we end.
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--until-input-ends"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            process.wait(30)
            raise StorageError(f"the head-end did not start: {_last_words(process)}")
        actual = int(json.loads(line)["port"])

        def tell() -> int:
            if process.poll() is not None:
                raise StorageError(f"the head-end stopped in the middle of its work: {_last_words(process)}")
            return actual

        yield tell
        tell()
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise StorageError(f"the head-end did not stop in good order: {_last_words(process)}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _last_words(process: subprocess.Popen[str]) -> str:
    """The sentence with which an ended process said why."""
    assert process.stderr is not None
    lines = process.stderr.read().strip().splitlines()
    return lines[-1].removeprefix("openami: ") if lines else "it gave no reason"


def _usable(folder: Path) -> Path:
    """Where the demo's folder truly lies, after a look at what would be replaced: that, and what stands beside it under our names."""
    with _storage_errors(folder):
        final = folder.resolve()
        if not str(final).isprintable():
            raise InputError(f"--data {str(folder)!r} has characters that cannot be printed; give a plain name")
        if final.is_mount():
            raise InputError(f"{folder} is the root of a file system, which cannot be replaced as a whole; give --data a folder inside it")
        for each in (final, _beside(final, "partial"), _beside(final, "old")):
            _refuse_foreign(each)
    Lake(Folder(final).lake)  # refuses a path that it cannot hold, before the long work
    return final


def _beside(final: Path, what: str) -> Path:
    return final.with_name(f"{final.name}.{what}")


def _refuse_foreign(folder: Path) -> None:
    """What is not an earlier demo is never replaced or removed."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give --data a folder")
    if any(folder.iterdir()) and not Folder(folder).is_simulated():
        raise InputError(f"{folder} holds something else than a demo; give --data a new or empty folder")


def _replace(partial: Path, final: Path) -> None:
    old = _beside(final, "old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(final: Path) -> Iterator[None]:
    """Two demos in one folder would take each other's partial one away: the second is refused. The lock goes with its process."""
    path = _beside(final, "lock")
    with _storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another demo is at work in {final}; wait for it, or give --data another folder") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the data folder {folder} cannot be written ({error.strerror or error}); free space, or give --data a writable folder"
        ) from error
