"""One head-end on one data folder, as a running whole: listener, arrivals, schedule, rounds, orders.

    headend = Headend(folder, Wish("0.0.0.0", 4059), guard)
    port = await headend.start();  await headend.finished();  await headend.stop()

Other processes queue orders by writing them into the order book (`OrderBook.ask`); the desk looks for them several times a second. Pushes are taken
on one event loop, meters are asked on another (`aside.py`): what waits for the database there holds up no push.

What always holds: nothing but the registry, the journal and the order book is needed to go on after `kill -9`; what is kept beside them (arrivals,
the state file, what is known of the meters) is derived; a disconnection is carried out only where a guard was given and allows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field

import numpy as np

from ..cosem.ciphering import Keys
from ..errors import DataError, MeterError, OpenAMIError, StorageError
from ..store.contacts import PUSH_CLIENT, Contacts, PushKeys
from ..store.deployment import Deployment, Folder
from ..store.heard import Heard, Mark
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.order_book import OrderBook
from ..store.rows import Rows
from .admission import Admission, correspondents
from .arrivals import Arrivals
from .aside import Calls, Loop
from .gaps import Gap
from .gate import Allowance
from .images import images_in
from .intake import LAST_S, Intake, Notes
from .known import remember
from .lines import Lines, reader_title
from .listener import PushListener
from .orders import Guard, OrderDesk
from .plan import Limits, Plan, Task
from .pulled import BILLING_PROFILE, BLOCK_LOAD_PROFILE, DAILY_LOAD_PROFILE, read_pulled
from .reader import RawProfile
from .registers import profile_rows
from .rounds import Rounds
from .schedule import Asked, due_registers, gap_tasks_of, model_depths, register_tasks
from .status import not_stored, write_state

log = logging.getLogger("openami.headend")

SCAN_S, SNAPSHOT_S, STATE_S = 60.0, 300.0, 5.0
"""How often it is looked for gaps; how often arrivals are written down; how often the state file is."""
STOP_S = 10.0
"""How long conversations may go on once we are told to stop; behind that their orders stand as sent, and are resolved by reading."""
PROFILE_OF = {"daily": DAILY_LOAD_PROFILE, "billing": BILLING_PROFILE}


@dataclass(frozen=True, slots=True)
class Wish:
    """host, port: where pushes are taken, over TCP and, if `udp`, over UDP on the same port. scan_s: how often it is looked for gaps; images: the
    firmware images at hand, by SHA-256, None = those in the data folder; listening: a socket that listens there already."""

    host: str
    port: int
    udp: bool = False
    limits: Limits = field(default_factory=Limits)
    scan_s: float = SCAN_S
    images: Callable[[str], bytes] | None = None
    listening: socket.socket | None = None


def headend_title(deployment: Deployment) -> bytes:
    """The system title under which the head-end confirms pushes: 8 bytes, used for nothing else."""
    try:
        title = bytes.fromhex(deployment.headend_title)
    except ValueError:
        title = b""
    if len(title) != 8:
        raise DataError(f"headend_title {deployment.headend_title!r} in openami.toml is not 16 hex digits; mend it")
    return title


class Headend:
    """guard: asked before every disconnection, None = none is carried out. now_s: UTC seconds. DataError where the folder lacks something."""

    def __init__(self, folder: Folder, wish: Wish, guard: Guard | None = None, now_s: Callable[[], float] = time.time) -> None:
        deployment = folder.load()
        self.folder, self.wish, self._now_s, self._calendar = folder, wish, now_s, deployment.calendar
        title = headend_title(deployment)
        self.rows = Rows.of(folder)
        self._meters, wrapped = self.rows.meters(), self.rows.wrapped_keys()
        master = load_master_key(folder.master_key)
        contacts = Contacts(self.rows)
        self._changed = contacts.push_keys()
        self._replayed = correspondents(
            self._meters, wrapped, master, {s: _pairs(keys, everything=True) for s, keys in self._changed.items()}
        )
        held = wrapped | {s: (keys.proved[-1].ek, keys.proved[-1].ak) for s, keys in self._changed.items() if keys.proved}
        known = correspondents(self._meters, held, master, {s: _pairs(keys, everything=False) for s, keys in self._changed.items()})
        self._journal = open_journal(folder, deployment, receive=True, meters=self._meters)
        try:
            self._pulls = open_journal(folder, deployment)
            self.admission = Admission(known, title, self._journal.counters())
            self.heard = Heard(self.rows)
            self.arrivals = Arrivals([m.serial for m in self._meters], self._calendar, deployment.first_day, deployment.days)
            self._row = {m.serial: k for k, m in enumerate(self._meters)}
            self.lines = Lines(self.rows, master, reader_title(title))
            self.lines.under_way = self._keys_under_way
            self.notes = Notes(self.heard, self.arrivals, self._proved, self.lines.pushed_old_s)
            self.book = OrderBook(self.rows)
            self.desk = OrderDesk(
                self.book, self.lines, lambda: int(now_s()), guard, wish.images or images_in(folder.images), sees_voltage=True
            )
            self.plan = Plan(wish.limits)
            self.rounds = Rounds(
                self.plan, self.lines, self._pulls, now_s, self.desk, taken=self._taken, resident=True, away=self.notes.away
            )
            self.listener = PushListener(self._journal, self.admission, notes=self.notes, allowance=Allowance.of(deployment))
        except BaseException:
            self._journal.close()
            raise
        self._snapshot = folder.journal.with_name("arrivals.npz")
        self._not_stored = Counter(not_stored(folder))
        self._title, self._stopping, self._begun_s = title, False, now_s()
        self._answered: dict[str, dict[str, list[Gap]]] = {}
        self._gaps: set[str] = set()
        self._marked: dict[tuple[str, int], int] = {}
        self._background = Calls("schedule")
        self._known_changed = True
        self._asking = Loop("asking")
        self._tasks: list[asyncio.Future[None]] = []
        self.port = 0

    async def start(self) -> int:
        """Know again what is here, listen, begin to ask; gives the port. OSError where it is occupied."""
        await asyncio.wrap_future(self._background.run(self._know_again))
        self.port = await self.listener.start(self.wish.host, self.wish.port, udp=self.wish.udp, listening=self.wish.listening)
        self._tasks = [
            self._asking.start(self.rounds.run(lambda: self._stopping)),
            self._asking.start(self._keep_scheduling()),
            asyncio.create_task(self._keep_telling(), name="state"),
        ]
        return self.port

    async def finished(self) -> None:
        """Returns when a part has ended that should not have; the reason is raised."""
        ended, _ = await asyncio.wait({asyncio.create_task(self.listener.finished()), *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        if self.listener.failed is not None:
            raise self.listener.failed
        for one in ended:
            one.result()

    async def stop(self) -> None:
        """Take and ask nothing more, let conversations end for a while, store what has come, close."""
        self._stopping = True
        try:
            rounds, *others = self._tasks
            for one in others:
                one.cancel()
            await asyncio.wait({rounds}, timeout=STOP_S)
            rounds.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._asking.close(LAST_S)
            if self.listener.failed is None:
                await self.listener.stop()
                self._save()
                self._tell(running=False)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of journal and database. `stop` does it; alone it is for a head-end that never started."""
        wait([self._background.run(lambda: None)], LAST_S)
        self._background.close()
        self.notes.calls.close()
        if not self.notes.away.is_gone:  # a database that is silent would hold us up; counters that are not given back are never used
            with contextlib.suppress(OpenAMIError):
                self.lines.close()
        self._pulls.close()
        self._journal.close()
        self.rows.close()

    # -- what is here -----------------------------------------------------------------------------------------------------------

    def _know_again(self) -> None:
        """Arrivals from their snapshot and what the journal holds behind it; what meters have answered before."""
        known = self.arrivals.load(self._snapshot)
        if not known and self._journal.frames():
            log.info("no snapshot of arrivals fits: the journal is read from its beginning")
        admission = Admission(self._replayed, self._title)
        again = Intake(self._pulls, admission, Notes(self.heard, self.arrivals))
        again.relive(self.arrivals.seq, self._journal.settled())
        for one in self._pulls.pulled(after=self.arrivals.pulled_seq):
            self._note_pull(one.serial, one.profile, one.octets, one.received_us // 1_000_000, one.seq)
        for profile in (BLOCK_LOAD_PROFILE, *PROFILE_OF.values()):
            for serial, first_s, last_s in self._pulls.answered(profile):
                self._answered.setdefault(profile, {}).setdefault(serial, []).append(Gap(first_s, last_s))

    def _note_pull(self, serial: str, profile: str, octets: bytes, received_s: int, seq: int) -> None:
        self.arrivals.pulled_seq = max(self.arrivals.pulled_seq, seq)
        if profile == BLOCK_LOAD_PROFILE and serial in self._row:
            try:
                stamps = [stamp for stamp, _ in read_pulled(octets) if stamp is not None]
            except MeterError:
                return  # it stands in quarantine once it is collected
            self.arrivals.note(np.full(len(stamps), self._row[serial]), np.array(stamps, np.int64), received_s)

    def _taken(self, task: Task, found: RawProfile, seq: int, received_s: int) -> None:
        """What a meter has answered, behind its journalling."""
        row, profile = self._row.get(task.serial), found.layout.obis
        self._answered.setdefault(profile, {}).setdefault(task.serial, []).append(Gap(task.first_s or 0, task.last_s or 0))
        self.arrivals.pulled_seq = max(self.arrivals.pulled_seq, seq)
        if row is None:
            return
        if profile == BLOCK_LOAD_PROFILE:
            stamps = np.array([one.stamp_s for one in found.rows if one.stamp_s is not None], np.int64)
            self.arrivals.note(np.full(len(stamps), row), stamps, received_s)
            return
        events, registers = profile_rows(task.serial, found.layout, found.rows, received_s)
        self.heard.note(events, registers)

    # -- keys of pushes -----------------------------------------------------------------------------------------------------------

    def _keys_under_way(self, serial: str, client: int, keys: Keys) -> None:
        if client == PUSH_CLIENT:
            self.admission.expect_keys(serial, keys)

    def _proved(self, serials: Sequence[str]) -> None:
        for serial in serials:
            self.lines.contacts.keys_proved(serial, PUSH_CLIENT)
            self._known_changed = True
            log.info("meter %s pushes under its new keys", serial)

    # -- by the clock -------------------------------------------------------------------------------------------------------------

    async def _keep_scheduling(self) -> None:
        saved_s, aside = self._now_s(), self._background
        while True:
            try:
                await asyncio.wrap_future(aside.run(self.lines.reload))
                for task in await asyncio.wrap_future(aside.run(self._scan)):
                    self.plan.add(task)
                await asyncio.wrap_future(aside.run(self._remember_meters))
            except StorageError as error:
                self.notes.away.gone(error)
            if self._now_s() - saved_s >= SNAPSHOT_S:
                saved_s = self._now_s()
                await asyncio.wrap_future(aside.run(self._save))
            await asyncio.sleep(self.wish.scan_s)

    def _scan(self) -> list[Task]:
        """What is due now and not here; marks of how far each service level has come."""
        now_s = int(self._now_s())
        model = {m.serial: (m.maker, m.model) for m in self._meters}
        depths = model_depths()
        asked = Asked(self.lines.serials, self.lines.cell, lambda serial: depths.of(*model[serial]))
        tasks = gap_tasks_of(self.arrivals, asked, dict(self._answered.get(BLOCK_LOAD_PROFILE, {})), now_s)
        fresh = {task.key for task in tasks}
        for key in self._gaps - fresh:
            self.plan.withdraw(key)  # a push has filled it, or another range holds it now
        self._gaps = fresh
        for kind, first_s, last_s in due_registers(self._calendar, now_s):
            here = self.heard.serials_with(kind, last_s)
            answered = {s for s, ranges in self._answered.get(PROFILE_OF[kind], {}).items() if any(g.last_s == last_s for g in ranges)}
            tasks += register_tasks(kind, first_s, last_s, [m.serial for m in self._meters if m.serial not in here | answered], asked)
        self._mark(now_s)
        return tasks

    def _mark(self, now_s: int) -> None:
        calendar, marks = self._calendar, []
        for kind, _, since_s in due_registers(calendar, now_s, grace_s=0):
            marks.append(Mark(kind, since_s, now_s, len(self._meters), self.heard.count_registers(kind, since_s)))
        midnight_s = calendar.day_start(calendar.local(now_s).date())
        day = calendar.local(midnight_s - 1).date()
        marks.append(Mark("block_load", midnight_s, now_s, len(self._meters) * calendar.slots(day), self.arrivals.here(day)))
        changed = [one for one in marks if self._marked.get((one.kind, one.since_s)) != one.done]
        self.heard.mark(changed)
        self._marked |= {(one.kind, one.since_s): one.done for one in changed}

    def _remember_meters(self) -> None:
        """For a start without the database, where that is another machine's."""
        if self._known_changed and not self.rows.database.is_sqlite:
            self._known_changed = False
            remember(self.folder, self.rows)

    def _save(self) -> None:
        self.arrivals.save(self._snapshot)

    async def _keep_telling(self) -> None:
        while True:
            self._tell(running=True)
            if (since := self.rounds.asking_since) is not None:
                self.notes.away.silent(time.monotonic() - since)
            await asyncio.sleep(STATE_S)

    def _tell(self, *, running: bool) -> None:
        """The state file: how we are, for whoever looks at the folder. No secret is in it."""
        plan = self.plan
        state = {
            "running": running,
            "pid": os.getpid(),
            "at_s": int(self._now_s()),
            "since_s": int(self._begun_s),
            "port": self.port,
            "udp": self.wish.udp,
            **self.listener.state(self._not_stored),
            "tasks": {str(priority.name).lower(): count for priority, count in plan.counts().items()},
            "conversations": plan.running,
            "read_rows": dict(sorted(self.rounds.tally.rows.items())),
            "read_failed": self.rounds.tally.failed,
        }
        write_state(self.folder, state)


def _pairs(keys: PushKeys, *, everything: bool) -> list[tuple[bytes, bytes]]:
    """The push keys behind the first, wrapped: all of them, or only those under way."""
    coming = (keys.coming,) if keys.coming else ()
    return [(one.ek, one.ak) for one in ((*keys.proved, *coming) if everything else coming)]


def collect_keys(contacts: Contacts) -> dict[str, list[tuple[bytes, bytes]]]:
    """serial -> the push keys behind the registry's, wrapped, for who judges the journal from its beginning."""
    return {serial: _pairs(keys, everything=True) for serial, keys in contacts.push_keys().items()}
