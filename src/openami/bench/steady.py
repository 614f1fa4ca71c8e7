"""`steady`: the close of a day as it is from the fourth day on, with three like days to read; everything else is the bench `day`."""

from __future__ import annotations

from collections.abc import Iterator

from . import Line
from .day import close_last

METERS = 1_048_576
DAYS = 4


def run(meters: int, threads: int = 2) -> Iterator[Line]:
    """`meters` in shards, three days before closed first."""
    yield from close_last("steady", meters, threads, DAYS)
