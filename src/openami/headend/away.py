"""A database that is away: said once, and once when it is back. The journal goes on meanwhile, and so do confirmations."""

from __future__ import annotations

import logging
import threading
import time

from ..errors import StorageError

log = logging.getLogger("openami.headend")
AGAIN_S = 5.0
"""How long it is left alone before it is asked once more."""
SILENT_S = 10.0
"""Behind that, a database that neither answers nor refuses counts as away too."""


class Away:
    """One for all parts of a head-end. Whatever a part wanted to write stays with that part, and is written later."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._lock = threading.Lock()

    def gone(self, error: StorageError) -> None:
        with self._lock:
            said, self._since = self._since is not None, self._since or time.monotonic()
        if not said:
            log.error("%s. Pushes are stored and confirmed meanwhile; orders and questions to meters wait until it answers", error)

    def silent(self, for_s: float) -> None:
        """It was asked `for_s` ago, and has said nothing yet."""
        if for_s > SILENT_S:
            self.gone(StorageError(f"the database has not answered for {for_s:.0f} s; see that its server runs and the way to it is open"))

    @property
    def is_gone(self) -> bool:
        return self._since is not None

    def back(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            log.warning("the database answers again after %.0f s", time.monotonic() - since)
