"""The head-end as a process of its own: opens a data folder, works until it is told to stop, and says in one JSON line where it listens."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from dataclasses import replace

from ..errors import InputError, StorageError
from ..store.deployment import Folder
from .listener import BACKLOG
from .meanwhile import is_away, wait_for_database
from .orders import Guard
from .whole import Headend, Wish, headend_title

log = logging.getLogger("openami.headend")
__all__ = ["headend_title", "run_headend"]


def run_headend(folder: Folder, wish: Wish, guard: Guard | None = None, *, until_input_ends: bool = False) -> None:
    """Work until SIGTERM or SIGINT (or until standard input ends, so that it does not outlive the process that started it), then store what has
    been received and return. guard: asked before every disconnection, None = none is carried out. StorageError if the journal refuses meanwhile;
    InputError where the port is occupied."""
    asyncio.run(_serve(folder, wish, guard, until_input_ends))


async def _serve(folder: Folder, wish: Wish, guard: Guard | None, until_input_ends: bool) -> None:
    """Opens the folder, and where its database is away takes pushes without it until it answers."""
    told = asyncio.Event()
    while True:
        try:
            headend = Headend(folder, wish, guard)
        except StorageError as error:
            if not is_away(folder):
                raise
            if wish.listening is None:
                wish = _listening(wish)
                _hear(told, until_input_ends)
                _say_where(wish, wish.port)
            try:
                if not await wait_for_database(folder, wish, error, told):
                    return
            except OSError as occupied:  # over UDP
                raise _occupied(wish, occupied) from None
        else:
            await _work(headend, wish, told, until_input_ends)
            return


def _hear(told: asyncio.Event, until_input_ends: bool) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    if until_input_ends:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)  # nobody writes there: readable means that it has ended


def _say_where(wish: Wish, port: int) -> None:
    """Once, however often the database goes and comes."""
    print(json.dumps({"listening": f"tcp://{wish.host}:{port}", "port": port, "udp": wish.udp}), flush=True)


def _listening(wish: Wish) -> Wish:
    """The wish with its socket open, so that nobody is turned away between one listener and the next."""
    family = socket.AF_INET6 if ":" in wish.host else socket.AF_INET
    try:
        listening = socket.create_server((wish.host, wish.port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise _occupied(wish, error) from None
    listening.setblocking(False)
    return replace(wish, port=int(listening.getsockname()[1]), listening=listening)


def _occupied(wish: Wish, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot listen on {wish.host}:{wish.port} ({why}); give another --port, or 0 for any free one")


async def _work(headend: Headend, wish: Wish, told: asyncio.Event, until_input_ends: bool) -> None:
    try:
        actual = await headend.start()
    except (OSError, OverflowError) as error:
        headend.close()
        raise _occupied(wish, error) from None
    except BaseException:
        headend.close()
        raise
    if wish.listening is None:
        _hear(told, until_input_ends)
        _say_where(wish, actual)
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
