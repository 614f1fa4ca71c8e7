"""A database that is away: said once, and once when it is back. The journal goes on meanwhile, and so do confirmations."""

from __future__ import annotations

import logging
import time

from ..errors import StorageError

log = logging.getLogger("openami.headend")
AGAIN_S = 5.0
"""How long it is left alone before it is asked once more."""


class Away:
    """One for all parts of a head-end. Whatever a part wanted to write stays with that part, and is written later."""

    def __init__(self) -> None:
        self._since: float | None = None

    def gone(self, error: StorageError) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.error("%s. Pushes are stored and confirmed meanwhile; orders and questions to meters wait until it answers", error)

    def back(self) -> None:
        if self._since is not None:
            log.warning("the database answers again after %.0f s", time.monotonic() - self._since)
            self._since = None
