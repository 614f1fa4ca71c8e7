"""An open data folder: its settings, its registry and its lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ..readings import Calendar
from ..registry import ShardIndex
from ..store.deployment import Deployment, Folder
from ..store.journal_at import open_journal
from ..store.lake import Lake
from ..store.places import place_of
from ..store.rows import Rows
from .roll import Roll, make_roll


@dataclass(slots=True)
class Site:
    """An open data folder: its settings, registry and lake."""

    folder: Folder
    deployment: Deployment
    rows: Rows
    lake: Lake

    @staticmethod
    def open(folder: Folder) -> Site:
        deployment = folder.load()
        return Site(folder, deployment, Rows.of(folder), Lake(place_of(folder, deployment)))

    @property
    def calendar(self) -> Calendar:
        return self.deployment.calendar

    def registry_of(self, shard: int, day: date) -> tuple[ShardIndex, Roll]:
        """The registry of a shard on a day as arrays: its meters, and the accounts that are charged."""
        index = self.rows.shard_index(shard, day)
        return index, make_roll(self.rows.charged(shard, day), index)

    def journal_frames(self) -> int:
        """How many frames the journal holds."""
        journal = open_journal(self.folder, self.deployment)
        try:
            return journal.frames()
        finally:
            journal.close()
