"""A head-end that starts while the database is away: pushes are taken, orders and questions wait for it.

    if await wait_for_database(folder, wish, error, told_to_stop):  # the head-end follows
        ...

Frames are stored, judged with the keys that were known last (`known.py`), and confirmed. What always holds: nothing that is judged here is
remembered: the head-end that follows judges it again, as after a crash; a frame of a meter that is not known here is stored within the limits of
what is refused, never confirmed, and judged when the registry can be read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from typing import Any

from ..errors import StorageError
from ..store.deployment import Folder
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.rows import Rows
from ..store.sql import configured
from .admission import Admission
from .aside import Calls
from .away import AGAIN_S
from .gate import Allowance
from .known import recall
from .listener import PushListener
from .status import not_stored, write_state
from .whole import STATE_S, Wish, headend_title

log = logging.getLogger("openami.headend")


def is_away(folder: Folder) -> bool:
    """Whether the database does not answer, and is on a server that may come back: a file in the folder does not."""
    if configured(folder.load().database, folder.rows).get_backend_name() == "sqlite":
        return False
    try:
        Rows.of(folder).close()
    except StorageError:
        return True
    return False


class Meanwhile:
    """host and port are the wish's, whose socket must listen. StorageError where the journal refuses."""

    def __init__(self, folder: Folder, wish: Wish) -> None:
        deployment = folder.load()
        self._folder, self._wish = folder, wish
        known = recall(folder, load_master_key(folder.master_key))
        self.known = len(known)
        self._journal = open_journal(folder, deployment, receive=True, meters=[one.meter for one in known.values()])
        try:
            admission = Admission(known, headend_title(deployment), self._journal.counters())
            self._listener = PushListener(self._journal, admission, allowance=Allowance.of(deployment), remembers=False)
        except BaseException:
            self._journal.close()
            raise
        self._not_stored = Counter(not_stored(folder))
        self._begun_s = time.time()

    async def until(self, told: asyncio.Event) -> bool:
        """Take pushes until the database answers, or we are `told` to stop; whether it answers."""
        probe = Calls("database")
        await self._listener.start(self._wish.host, self._wish.port, udp=self._wish.udp, listening=self._wish.listening)
        ended = asyncio.create_task(self._listener.finished())
        telling = asyncio.create_task(self._keep_telling())
        stop = asyncio.create_task(told.wait())
        try:
            while True:
                away = asyncio.wrap_future(probe.run(lambda: is_away(self._folder)))
                parts: set[asyncio.Future[Any]] = {away, stop, ended}
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                if self._listener.failed is not None:
                    raise self._listener.failed
                if stop.done() or not away.result():
                    return not stop.done()
                await asyncio.wait({stop, ended}, timeout=AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, stop):
                task.cancel()
            probe.close()
            if self._listener.failed is None:
                await self._listener.stop()
            self._tell(running=False)
            self._journal.close()

    async def _keep_telling(self) -> None:
        while True:
            self._tell(running=True)
            await asyncio.sleep(STATE_S)

    def _tell(self, *, running: bool) -> None:
        own: dict[str, Any] = {"running": running, "pid": os.getpid(), "at_s": int(time.time()), "since_s": int(self._begun_s)}
        own |= {"port": self._wish.port, "udp": self._wish.udp, "database": "away", "known_meters": self.known}
        write_state(self._folder, own | self._listener.state(self._not_stored))


async def wait_for_database(folder: Folder, wish: Wish, error: StorageError, told: asyncio.Event) -> bool:
    """Take pushes until the database answers; False = we were told to stop first."""
    meanwhile = Meanwhile(folder, wish)
    how = (
        f"pushes of the {meanwhile.known} meters that were known last are stored and confirmed"
        if meanwhile.known
        else "no meter is known here yet, so pushes are stored within limits and not confirmed"
    )
    log.error("%s. The head-end starts without it: %s; orders and questions to meters wait until it answers", error, how)
    begun = time.monotonic()
    answers = await meanwhile.until(told)
    if answers:
        log.warning("the database answers after %.0f s; orders and questions to meters are taken up", time.monotonic() - begun)
    return answers
