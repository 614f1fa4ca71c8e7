"""The supply worker: notices, cuts and what follows, by the clock, on one data folder. A process of its own beside the head-end.

    worker = SupplyWorker(Site.open(folder));  worker.step(now_s)

What always holds: a step does what is due and may be stopped anywhere; the next one, of this process or another, goes on from the database; an error
in one part stops no other part, and is logged with its sentence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..day.site import Site
from ..errors import OpenAMIError
from ..notices.delivery import empty
from ..notices.senders import Sender, load_senders
from ..payments.gateways import Gateway, load_gateways
from ..store.deployment import Folder
from ..store.outbox import Outbox
from ..store.supply_rows import SupplyRows
from .back import bring_back
from .changes import tell_changes
from .due import act, tell_before, tell_low
from .follow import follow
from .guard import SupplyGuard
from .pulse import Works, take_pulse, works
from .settings import Settings, load_settings

log = logging.getLogger("openami.supply")
PULSE_EVERY_S, DUE_EVERY_S, FOLLOW_EVERY_S = 300, 60, 1
"""How often payment channels are looked at, the due are judged, and orders are followed and messages sent."""


class SupplyWorker:
    """senders, gateways, settings: None = as the folder's files say. asked: how a gateway is looked at."""

    def __init__(
        self,
        site: Site,
        senders: Sequence[Sender] | None = None,
        gateways: Mapping[str, Gateway] | None = None,
        settings: Settings | None = None,
        asked: Works = works,
    ) -> None:
        root = site.folder.root
        self.site, self.guard = site, SupplyGuard(site)
        self.senders = load_senders(root) if senders is None else senders
        self.gateways = load_gateways(root) if gateways is None else gateways
        self.settings = load_settings(root) if settings is None else settings
        self._asked = asked
        self._next: dict[str, int] = {}
        self._seen: dict[str, tuple[str, str]] = {}

    def step(self, now_s: int) -> Counter[str]:
        """Everything that is due at `now_s` (UTC seconds); gives what was done, by name."""
        done: Counter[str] = Counter()
        rows, outbox = SupplyRows(self.site.rows.database), Outbox(self.site.rows.database)
        self._part("pulse", PULSE_EVERY_S, now_s, done, lambda: {"up": sum(take_pulse(rows, self.gateways, now_s, self._asked).values())})
        self._part("low", DUE_EVERY_S, now_s, done, lambda: {"low_balance": tell_low(self.site, now_s)})
        self._part("changes", DUE_EVERY_S, now_s, done, lambda: {"tariff_change": tell_changes(self.site, now_s)})
        self._part("before", DUE_EVERY_S, now_s, done, lambda: {"before_cut": tell_before(self.site, now_s)})
        self._part("back", DUE_EVERY_S, now_s, done, lambda: {"back": bring_back(self.site, now_s)})
        self._part("act", DUE_EVERY_S, now_s, done, lambda: act(self.site, self.guard, self.settings, now_s))
        self._part("follow", FOLLOW_EVERY_S, now_s, done, lambda: {"followed": follow(self.site, now_s, self._seen)})
        self._part("send", FOLLOW_EVERY_S, now_s, done, lambda: _sent(outbox, self.senders, now_s))
        return done

    def run(self, stop: threading.Event, clock: Callable[[], float] = time.time) -> None:
        """Step by step until `stop` is set."""
        while not stop.is_set():
            done = self.step(int(clock()))
            if told := {name: count for name, count in done.items() if count and name not in ("up", "refused", "waiting")}:
                log.info("supply: %s", ", ".join(f"{count} {name}" for name, count in told.items()))
            stop.wait(FOLLOW_EVERY_S)

    def run_on(self, stop: threading.Event) -> None:
        """`run`, and again where a mistake of the program has ended it: consumers wait for their supply."""
        while not stop.is_set():
            try:
                self.run(stop)
            except Exception:
                log.exception("the supply worker has stumbled; it goes on in a minute")
                stop.wait(60)

    def _part(self, name: str, every_s: int, now_s: int, done: Counter[str], work: Callable[[], Mapping[str, int]]) -> None:
        if now_s < self._next.get(name, 0):
            return
        self._next[name] = now_s + every_s
        try:
            done.update(work())
        except OpenAMIError as error:
            log.warning("supply, %s: %s", name, error)
            done[f"{name}_failed"] += 1


@contextmanager
def beside(folder: Folder) -> Iterator[SupplyWorker]:
    """The worker of a folder on a thread of its own, until the end of the block: beside the role that collects and closes."""
    site, stop = Site.open(folder), threading.Event()
    worker = SupplyWorker(site)
    thread = threading.Thread(target=worker.run_on, args=(stop,), name="supply", daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join()
        site.rows.close()


def _sent(outbox: Outbox, senders: Sequence[Sender], now_s: int) -> dict[str, int]:
    sent = empty(outbox, senders, lambda: now_s)
    return {"sent": sent.taken, "not_sent": sent.failed}
