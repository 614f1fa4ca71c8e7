"""A lane: quick pages one after another, so that a crowd of them costs no more than each alone.

Why: a page of some milliseconds asks the registry several times, and SQLite gives up the interpreter's lock at every step of every answer. Forty
such pages in forty threads hand that lock around 230 times a page and take twice the CPU; from then on they queue and do not recover
(docs/decisions/0033 has the measurement). What takes long (a year of curves, a paper, an export) goes in the threads that the framework gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")
WAITING_AT_A_SERVER = 8
"""Pages at once where the registry is a database server: its answers are waited for without the lock."""


@dataclass
class Lane:
    """abreast: pages at once; 1 where the registry is a file."""

    abreast: int = 1
    _limiter: anyio.CapacityLimiter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.abreast)

    async def go(self, quick: Callable[[], T]) -> T:
        """What `quick` returns or raises, when it is its turn."""
        return await anyio.to_thread.run_sync(quick, limiter=self._limiter)
