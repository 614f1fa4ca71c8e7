"""The head-end as a process of its own: opens a data folder, works until it is told to stop, and says in one JSON line where it listens."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

from ..errors import InputError
from ..store.deployment import Folder
from .orders import Guard
from .whole import Headend, Wish, headend_title

log = logging.getLogger("openami.headend")
__all__ = ["headend_title", "run_headend"]


def run_headend(folder: Folder, wish: Wish, guard: Guard | None = None, *, until_input_ends: bool = False) -> None:
    """Work until SIGTERM or SIGINT (or until standard input ends, so that it does not outlive the process that started it), then store what has
    been received and return. guard: asked before every disconnection, None = none is carried out. StorageError if the journal refuses meanwhile;
    InputError where the port is occupied."""
    headend = Headend(folder, wish, guard)
    asyncio.run(_serve(headend, wish, until_input_ends))


async def _serve(headend: Headend, wish: Wish, until_input_ends: bool) -> None:
    try:
        actual = await headend.start()
    except (OSError, OverflowError) as error:
        headend.close()
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {wish.host}:{wish.port} ({why}); give another --port, or 0 for any free one") from None
    except BaseException:
        headend.close()
        raise
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    if until_input_ends:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)  # nobody writes there: readable means that it has ended
    print(json.dumps({"listening": f"tcp://{wish.host}:{actual}", "port": actual, "udp": wish.udp}), flush=True)
    stop = asyncio.create_task(told.wait())
    ended = asyncio.create_task(headend.finished())
    try:
        await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if ended.done():
            ended.result()
        ended.cancel()
    finally:
        await headend.stop()
    tally = headend.listener.tally
    log.info("head-end stopped: %d frames, %d confirmed", tally.frames, tally.confirmed)
    sys.stdout.flush()
