"""An open data folder: its settings, its registry and its lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from ..readings import Calendar
from ..registry import ShardIndex
from ..store.deployment import Deployment, Folder
from ..store.journal_at import open_journal
from ..store.lake import Lake
from ..store.places import place_of
from ..store.rosters import Rosters
from ..store.rows import Rows
from ..store.terms import TermBook
from .roll import Roll, make_roll, with_terms


@dataclass(slots=True)
class Site:
    """An open data folder: its settings, registry and lake."""

    folder: Folder
    deployment: Deployment
    rows: Rows
    lake: Lake
    rosters: Rosters = field(init=False)
    terms: TermBook = field(init=False)

    def __post_init__(self) -> None:
        self.rosters = Rosters(self.rows, self.folder.rosters)
        self.terms = TermBook(self.rows.database)

    @staticmethod
    def open(folder: Folder) -> Site:
        deployment = folder.load()
        return Site(folder, deployment, Rows.of(folder), Lake(place_of(folder, deployment)))

    @property
    def calendar(self) -> Calendar:
        return self.deployment.calendar

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, what this thread reads of registry and lake is of one moment, and cheaper: one transaction, one look at each table's log."""
        with self.rows.database.reading(), self.lake.reading():
            yield

    def registry_of(self, shard: int, day: date) -> tuple[ShardIndex, Roll]:
        """The registry of a shard on a day as arrays: its meters with the nodes that they are on, and the accounts that are charged."""
        roster = self.rosters.of(shard)
        index = roster.index_on(day).alone()
        roll = make_roll(roster.accounts_on(day, self.rows.modes_on), index)
        return index, with_terms(roll, self.terms.on(day))

    def index_of(self, shard: int, day: date) -> ShardIndex:
        """The meters of a shard on a day, and all nodes of the deployment."""
        return self.rosters.of(shard).index_on(day)

    def journal_frames(self) -> int:
        """How many frames the journal holds."""
        journal = open_journal(self.folder, self.deployment)
        try:
            return journal.frames()
        finally:
            journal.close()
