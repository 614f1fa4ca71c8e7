"""The losses of the day that is not closed yet, reckoned again at most once a minute, however many ask."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..day import Site
from ..day.running import Running, running

RENEW_S = 60


@dataclass
class RunningDay:
    """Calls may come from several threads: one reckons, and the others meanwhile get what was there before, if anything was."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _held: tuple[int, Running | None] | None = field(default=None, repr=False)

    def of(self, site: Site, now_s: int) -> Running | None:
        """The day as it stood a minute ago at most; None where no reading of a day that is not closed has come."""
        held = self._held
        if held is not None and 0 <= now_s - held[0] < RENEW_S:
            return held[1]
        if not self._lock.acquire(blocking=held is None):
            return held[1] if held is not None else None
        try:
            if self._held is held:
                self._held = now_s, running(site, now_s)
            return self._held[1] if self._held is not None else None
        finally:
            self._lock.release()
