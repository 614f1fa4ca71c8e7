"""The journal that a data folder's settings name: a file in it, or a stream at `nats://`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..registry import Meter
from .deployment import Deployment, Folder
from .journal import FrameJournal, Journal


def open_journal(
    folder: Folder,
    deployment: Deployment,
    *,
    receive: bool = False,
    meters: Iterable[Meter] = (),
    shards: Sequence[int] | None = None,
    worker: str | None = None,
) -> FrameJournal:
    """The journal of a data folder. receive: for a head-end, which writes frames of `meters`; the embedded journal has one at a time.

    shards, worker: of a replicated journal, read only these shards' frames, remembered under this name; the embedded one gives all frames.
    """
    if deployment.journal is None:
        return Journal(folder.journal, create=receive)
    from .jetstream import JetStreamJournal, Routes
    from .nats_address import NatsAddress

    memory = folder.journal.with_name("derived.db")
    return JetStreamJournal(NatsAddress.parse(deployment.journal), memory, Routes(meters), receive=receive, shards=shards, worker=worker)
