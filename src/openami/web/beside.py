"""What runs beside a house while it is open, in a thread of its own: `start` when it opens, `stop` when it closes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field


@dataclass
class Beside(ABC):
    """One such thread. What it does is `_run`, which ends soon after `_stopped` is set."""

    _stopped: threading.Event = field(default_factory=threading.Event, repr=False, kw_only=True)
    _thread: threading.Thread | None = field(default=None, repr=False, kw_only=True)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when it has ended."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
