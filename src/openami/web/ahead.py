"""The latest closed day is read before anybody asks for it: before the house opens or, where it opens at once, beside it; and when another day is
closed.

What always holds: what cannot be read keeps no house from opening; it is said to whoever asks for it, not here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from ..errors import OpenAMIError
from .beside import Beside
from .reader import LakeTown

log = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0


@dataclass
class Ahead(Beside):
    """Beside one house. then: what else is read, once, at the beginning; again: at the beginning and ever again, dear only where it is due."""

    town: LakeTown
    then: Iterable[Callable[[], object]]
    again: Sequence[Callable[[], object]] = ()
    _homes: date | None = field(default=None, repr=False)
    _begun: bool = field(default=False, repr=False)

    def begin(self) -> None:
        """Read all of it, once. Whoever opens the house may wait for it; else it is read beside the house."""
        if self._begun:
            return
        self._begun = True
        for read in (self.look, *self.then, *self.again):
            self._read(read)

    def _run(self) -> None:
        self.begin()
        while not self._stopped.wait(LOOK_EVERY_S):
            for read in (self.look, *self.again):
                self._read(read)

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
        except Exception:
            log.exception("our own mistake while reading ahead; the house opens, and the page that needs this will fail likewise")
