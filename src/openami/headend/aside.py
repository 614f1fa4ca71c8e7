"""Work that may have to wait for a database, beside the work that must not: calls on a thread of their own, conversations on a loop of their own.

What always holds: whoever asks goes on at once; a call that never comes back keeps neither the frames waiting nor the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Calls:
    """Functions called one behind the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Its result, or what it raised, when it has come back."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._asked.put((call, future))
        return future

    def close(self) -> None:
        """Ends when what was asked for is done."""
        self._asked.put(None)

    def _work(self) -> None:
        while (one := self._asked.get()) is not None:
            call, future = one
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Runs it there; the future is of the loop that asks, and cancelling it cancels the work."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def close(self, within_s: float) -> None:
        """Cancels what is left and waits for it; what does not end in time is left behind, with its thread."""
        ended = self.start(self._end())
        done, _ = await asyncio.wait({ended}, timeout=within_s)
        if done:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
