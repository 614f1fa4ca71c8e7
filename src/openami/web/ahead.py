"""The latest closed day is read before anybody asks for it: when the house opens, and when another day is closed.

What always holds: nobody waits for it, and what cannot be read is said to whoever asks, not here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from ..errors import OpenAMIError
from .beside import Beside
from .reader import LakeTown

log = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0


@dataclass
class Ahead(Beside):
    """Beside one house. then: what else is read, once, when it opens."""

    town: LakeTown
    then: Iterable[Callable[[], object]]
    _homes: date | None = field(default=None, repr=False)

    def _run(self) -> None:
        for read in (self.look, *self.then):
            self._read(read)
        while not self._stopped.wait(LOOK_EVERY_S):
            self._read(self.look)

    def look(self) -> None:
        """Read the latest day; what is kept of it already, and still true, costs nothing."""
        days = self.town.days()
        if not days:
            return
        self.town.closed(days[-1])
        if self._homes != days[-1]:
            self.town.look_at_homes(days[-1])
            self._homes = days[-1]

    def _read(self, what: Callable[[], object]) -> None:
        try:
            what()
        except OpenAMIError as error:
            log.debug("nothing was read ahead: %s", error)
