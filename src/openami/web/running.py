"""The losses of the day that is not closed yet, reckoned again at most once a minute, however many ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..day import Site
from ..day.running import Running, running
from .renewed import Kept

RENEW_S, OLDEST_S = 60.0, 600.0
"""What is older than the first is renewed while it is shown; older than the second, as when nobody looked for a while, it is not shown."""


@dataclass
class RunningDay:
    """Calls may come from several threads."""

    clock: Callable[[], float] = time.monotonic
    _kept: Kept[Running | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._kept = Kept(RENEW_S, 1, self.clock, OLDEST_S)

    def of(self, site: Site, now_s: int) -> Running | None:
        """The day as it stood a minute or two ago; None where no reading of a day that is not closed has come."""
        return self._kept.get("running", lambda: running(site, now_s))
