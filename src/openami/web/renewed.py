"""Answers that are dear and change by themselves: reckoned once, kept, and renewed behind the reader's back.

What always holds: nobody waits for a renewal but the first who asks; whoever shows such an answer says of when it is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
RENEW_S = 2.0


class Kept(Generic[T]):
    """Answers by key. One younger than `renew_s` is given as it is; an older one is given too, and renewed meanwhile; behind `oldest_s` a new one is
    waited for."""

    def __init__(
        self, renew_s: float = RENEW_S, most: int = 64, clock: Callable[[], float] = time.monotonic, oldest_s: float = math.inf
    ) -> None:
        self._renew_s, self._most, self._clock, self._oldest_s = renew_s, most, clock, oldest_s
        self._lock, self._first, self._held = threading.Lock(), threading.Lock(), dict[Hashable, tuple[float, T]]()
        self._renewing: set[Hashable] = set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="renewed")

    def get(self, key: Hashable, reckon: Callable[[], T]) -> T:
        held = self._kept(key, reckon)
        if held is None:
            with self._first:  # many who come at once, as after a start, wait for one answer instead of each asking for its own
                held = self._kept(key, reckon)
                return held[1] if held is not None else self._put(key, reckon())
        return held[1]

    def ahead(self, key: Hashable, reckon: Callable[[], T], older_s: float) -> None:
        """Reckon it before somebody asks, where there is none or what there is is older than `older_s`: who asks first waits for this one then."""
        with self._first:
            with self._lock:
                held = self._held.get(key)
                if held is not None and (self._clock() - held[0] < older_s or key in self._renewing):
                    return
            self._put(key, reckon())

    def _kept(self, key: Hashable, reckon: Callable[[], T]) -> tuple[float, T] | None:
        with self._lock:
            held = self._held.get(key)
            if held is not None and self._clock() - held[0] >= self._oldest_s:
                return None
            if held is not None and self._clock() - held[0] >= self._renew_s and key not in self._renewing:
                self._renewing.add(key)
                self._pool.submit(self._renew, key, reckon)
            return held

    def _renew(self, key: Hashable, reckon: Callable[[], T]) -> None:
        try:
            self._put(key, reckon())
        finally:
            with self._lock:
                self._renewing.discard(key)

    def _put(self, key: Hashable, value: T) -> T:
        with self._lock:
            self._held.pop(key, None)
            self._held[key] = (self._clock(), value)
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]
        return value
