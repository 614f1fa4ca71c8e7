"""The head-end as a process of its own: opens a data folder, listens until it is told to stop, and says in one JSON line where it listens."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from dataclasses import dataclass

from ..errors import DataError, InputError
from ..store.deployment import Deployment, Folder
from ..store.journal import FrameJournal
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.rows import Rows
from .admission import Admission, correspondents
from .listener import PushListener

log = logging.getLogger("openami.headend")


@dataclass(frozen=True, slots=True)
class HeadendFolder:
    """What the head-end needs of a data folder."""

    deployment: Deployment
    journal: FrameJournal
    admission: Admission


def open_headend(folder: Folder) -> HeadendFolder:
    """Registry, keys and counters of a data folder, ready to judge frames; DataError where something is missing or corrupt."""
    deployment = folder.load()
    rows = Rows.of(folder)
    known = correspondents(rows.meters(), rows.wrapped_keys(), load_master_key(folder.master_key))
    rows.close()
    journal = open_journal(folder, deployment, receive=True, meters=[peer.meter for peer in known.values()])
    return HeadendFolder(deployment, journal, Admission(known, headend_title(deployment), journal.counters()))


def headend_title(deployment: Deployment) -> bytes:
    """The system title under which the head-end confirms pushes: 8 bytes, used for nothing else."""
    try:
        title = bytes.fromhex(deployment.headend_title)
    except ValueError:
        title = b""
    if len(title) != 8:
        raise DataError(f"headend_title {deployment.headend_title!r} in openami.toml is not 16 hex digits; mend it")
    return title


def run_headend(folder: Folder, host: str, port: int, *, until_input_ends: bool = False) -> None:
    """Listen until SIGTERM or SIGINT (or until standard input ends, so that it does not outlive the process that started it), then store what
    has been received and return. StorageError if the journal refuses meanwhile; InputError where the port is occupied."""
    opened = open_headend(folder)
    try:
        asyncio.run(_serve(opened, host, port, until_input_ends))
    finally:
        opened.journal.close()


async def _serve(opened: HeadendFolder, host: str, port: int, until_input_ends: bool) -> None:
    listener = PushListener(opened.journal, opened.admission)
    try:
        actual = await listener.start(host, port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host}:{port} ({why}); give another --port, or 0 for any free one") from None
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    if until_input_ends:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)  # nobody writes there: readable means that it has ended
    print(json.dumps({"listening": f"tcp://{host}:{actual}", "port": actual}), flush=True)
    stop = asyncio.create_task(told.wait())
    ended = asyncio.create_task(listener.finished())
    await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if listener.failed is not None:
        raise listener.failed
    await listener.stop()
    await ended
    log.info("head-end stopped: %d frames, %d confirmed", listener.tally.frames, listener.tally.confirmed)
    sys.stdout.flush()
