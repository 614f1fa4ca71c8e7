"""`LakeTown`: a data folder as the console reads it, whichever folder lies there.

What always holds: an answer is of one and the same data folder, also where the folder is replaced while it is served.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from ..day import Site
from ..errors import DataError, StorageError
from ..readings import Calendar
from ..store.deployment import FILE, Folder
from ..store.keys import MasterKey
from ..store.rows import Rows
from . import townbook as tb
from .closed_days import ClosedDay
from .opened import OpenedTown, Stamp

T = TypeVar("T")
ATTEMPTS = 3


@dataclass
class LakeTown:
    """The read side of one data folder (`townbook.TownReader`). DataError on opening where the folder holds no closed day.

    The folder may be replaced as a whole while it is served, as `openami demo` does by a rename: its `openami.toml` is then another file,
    and everything that was kept of the old folder is left behind.
    """

    folder: Folder
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _mine: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        self._opened = OpenedTown(self.folder, _stamp(self.folder))
        if not self.days():
            raise DataError(f"{self.folder.root} has no closed day yet; run `openami demo`, or close a day first")

    @property
    def calendar(self) -> Calendar:
        """Of the folder as it was opened last: it can be told even while the folder is away."""
        return self._opened.calendar

    @property
    def site(self) -> Site:
        """The folder that lies there now."""
        return self._open().site

    @property
    def rows(self) -> Rows:
        return self._open().site.rows

    @property
    def master(self) -> MasterKey:
        return self._open().master

    def at_once(self, question: Callable[[], T]) -> T:
        """What `question` gives, with all that this thread asks for it of one folder and one moment: one look at the folder, one transaction of the
        registry, one look at each table's log. It is asked again where the folder was replaced meanwhile."""

        def asked(town: OpenedTown) -> T:
            self._mine.town = town
            try:
                with town.site.reading():
                    return question()
            finally:
                self._mine.town = None

        return self._ask(asked)

    def days(self) -> tuple[date, ...]:
        return self._ask(lambda town: town.days())

    def damaged(self) -> tuple[date, ...]:
        return self._ask(lambda town: town.damaged())

    def closed(self, day: date) -> ClosedDay:
        """The day's columns and sums; DamagedDay where they cannot be read."""
        return self._ask(lambda town: town.closed(day))

    def look_at_names(self) -> None:
        """Read what meters are called before somebody looks for a part of it."""
        self._ask(lambda town: town.names.look())

    def look_at_a_meter(self) -> None:
        """Read a meter's latest day before somebody looks at one."""
        self._ask(lambda town: town.look_at_a_meter(town.days()[-1]))

    def look_at_homes(self, day: date) -> None:
        """Read what consumers' homes of a day are made of before they ask."""
        self._ask(lambda town: town.look_at_homes(day))

    def overview(self, day: date, feeders: Set[str] | None = None) -> tb.Overview:
        return self._ask(lambda town: town.overview(day, feeders))

    def meters(self, query: tb.MeterQuery) -> tb.MeterList:
        return self._ask(lambda town: town.meters(query))

    def meter(self, serial: str, day: date) -> tb.MeterDay | None:
        return self._ask(lambda town: town.meter(serial, day))

    def transformer(self, name: str, day: date) -> tb.TransformerDay | None:
        return self._ask(lambda town: town.transformer(name, day))

    def feeder(self, name: str, day: date) -> tb.FeederDay | None:
        return self._ask(lambda town: town.feeder(name, day))

    def consumer(self, account: str, day: date) -> tb.Consumer | None:
        return self._ask(lambda town: town.consumer(account, day))

    def stated(self, account: str, day: date) -> tb.StatedDay | None:
        return self._ask(lambda town: town.stated(account, day))

    def due(self, day: date, feeders: Set[str] | None = None, offset: int = 0, limit: int = 50) -> tb.DueList:
        return self._ask(lambda town: town.due(day, feeders, offset, limit))

    def quarantine(self, cause: str | None, offset: int, limit: int) -> tb.Quarantine:
        return self._ask(lambda town: town.quarantine(cause, offset, limit))

    def _ask(self, question: Callable[[OpenedTown], T]) -> T:
        """The answer of one and the same folder: what was put together while the folder was replaced is asked again."""
        if (held := self._held()) is not None:
            return question(held)
        for _ in range(ATTEMPTS):
            town = self._open()
            try:
                answer = question(town)
            except Exception:
                if _stamp(self.folder) == town.stamp:
                    raise
                continue  # two folders were mixed: whatever went wrong, it says nothing about either of them
            if _stamp(self.folder) == town.stamp:
                return answer
        raise StorageError(f"{self.folder.root} was replaced {ATTEMPTS} times while one page was read; ask again when that is over")

    def _held(self) -> OpenedTown | None:
        """Of which folder this thread's answers are, inside `at_once`."""
        found: OpenedTown | None = getattr(self._mine, "town", None)
        return found

    def _open(self) -> OpenedTown:
        if (held := self._held()) is not None:
            return held
        with self._lock:
            stamp = _stamp(self.folder)
            if stamp != self._opened.stamp:
                before, self._opened = self._opened, OpenedTown(self.folder, stamp)
                before.site.rows.close()
            return self._opened


def _stamp(folder: Folder) -> Stamp:
    """What tells a data folder from the one that lay there before: its settings file's inode, size and time of change [ns]."""
    try:
        found = (folder.root / FILE).stat()
    except OSError as error:
        raise DataError(f"no OpenAMI data in {folder.root} ({error.strerror}); run `openami demo` or give another --data") from error
    return found.st_ino, found.st_size, found.st_mtime_ns
