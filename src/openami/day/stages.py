"""The close as a stage: what an engine runs for one (day, shard), in any thread, process or machine that can open the site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from ..store.deployment import Folder
from .close import close_shard
from .site import Site


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """Opens a data folder's site, wherever the same folder is seen."""

    root: Path

    def __call__(self) -> Site:
        return Site.open(Folder(self.root))


@dataclass(frozen=True, slots=True)
class CloseStage:
    """Closes (day, shard) into files that nobody sees yet, and gives what `Draft.adopt` takes. open_site: pickled to where the stage runs, and
    called there once for each process."""

    open_site: Callable[[], Site]

    def __call__(self, task: tuple[date, int]) -> bytes:
        day, shard = task
        site = _opened(self.open_site)
        with site.lake.draft(day) as draft:
            close_shard(site, draft, day, shard)
            return draft.hand_over()


@lru_cache(maxsize=2)
def _opened(open_site: Callable[[], Site]) -> Site:
    return open_site()
