"""The losses of the day that is not closed yet, reckoned before somebody asks and on from the time before, however many ask.

What always holds: while it is reckoned ahead nobody waits for it; whoever shows it says of when it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..day import Site
from ..day.running import Course, Running
from .renewed import Kept

RENEW_S, UNSEEN_S, OLDEST_S = 60.0, 240.0, 600.0
"""What is older than the first is renewed while somebody looks; than the second, while nobody does; what is older than the third, as where nothing is
reckoned ahead, is not shown."""
LOOKS_S = 300.0
"""So long after the last look somebody is taken to look."""


@dataclass
class RunningDay:
    """Calls may come from several threads."""

    clock: Callable[[], float] = time.monotonic
    _kept: Kept[Running | None] = field(init=False, repr=False)
    _course: Course | None = field(default=None, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _looked: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._kept = Kept(RENEW_S, 1, self.clock, OLDEST_S)

    def of(self, site: Site, now_s: int) -> Running | None:
        """The day as it stood a few minutes ago at most; None where no reading of a day that is not closed has come."""
        self._looked = self.clock()
        return self._kept.get("running", lambda: self._reckon(site, now_s))

    def ahead(self, site: Site, now_s: int) -> None:
        """Reckon it where that is due, whether somebody asks or not."""
        looks = self._looked is not None and self.clock() - self._looked < LOOKS_S
        self._kept.ahead("running", lambda: self._reckon(site, now_s), RENEW_S if looks else UNSEEN_S)

    def _reckon(self, site: Site, now_s: int) -> Running | None:
        with self._turn:
            if self._course is None or self._course.site is not site:
                self._course = Course(site)
            return self._course.at(now_s)
