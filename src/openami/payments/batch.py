"""Those who wait for a commit share one: whatever came while the last one was being written is the next one.

What always holds: who is answered has been committed; an error of the whole batch is everybody's answer; none waits for a batch to fill.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """One thread that hands what has come to `work`, which gives an answer for each, in order."""

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Answer]], most: int = 500) -> None:
        self._work, self._most = work, most
        self._waiting: queue.SimpleQueue[tuple[Item, Future[Answer]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="payments", daemon=True)
        self._thread.start()

    def hand_in(self, item: Item) -> Future[Answer]:
        """The answer, once its batch is committed."""
        answer: Future[Answer] = Future()
        self._waiting.put((item, answer))
        return answer

    def close(self) -> None:
        """Finish what was handed in, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ending = [first], False
            while len(batch) < self._most and not self._waiting.empty():
                if (another := self._waiting.get()) is None:
                    ending = True
                    break
                batch.append(another)
            self._answer(batch)
            if ending:
                return

    def _answer(self, batch: list[tuple[Item, Future[Answer]]]) -> None:
        try:
            answers = self._work([item for item, _ in batch])
        except Exception as error:  # whatever it is, those who wait must hear of it
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
