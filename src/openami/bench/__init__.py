"""Benchmarks: speed and memory, side by side with what a user would reach for instead, in one run, as ratios.

    vee.py       the whole rule set in memory
    decode.py    ciphered push frames to day grids
    profile.py   a full day's profile responses to rows
    store.py     writing validated day blocks
    bill.py      time of use and slabs, from Parquet
    rollup.py    demand per slot of transformers, feeders, divisions and the company, from Parquet
    losses.py    the energy account of every transformer and feeder, with intervals
    history.py   one meter's year
    day.py       the whole close, at one and ten million meters; steady.py: with three like days to read, as from the fourth day on;
                 registered.py: the registry that it reads; day_peers.py: its first third by others
    prepaid.py   a day's charges and statements, payments to orders, accounts converted; chain.py: payment to light
    scale.py     the journals, a shard's grid out of them, the close on Spark; accounts.py: a million accounts in SQL; servers.py: the
                 real servers that it takes
    web.py       pages of a million accounts with 1,000 days behind them; web_pages.py: which; web_town.py: how that town is made
    headend.py   pushes confirmed after the journal's sync; asking.py: meters read and ordered

What they start from and stand beside: pushes.py (frames), days.py (days of readings), shards.py (a lake of validated days), meters.py
(simulated meters in a process of their own), bare.py (the head-end's peer: the same work without a protocol).

Not speed but truth: households.py (what VEE finds in real data), masking.py (how well estimates do), vee_report.py (`openami report vee`);
homes.py and homes_report.py (the same of homes that are not shipped, `--data`), pages.py (how results are written).

Each benchmark's module has `run(meters) -> Iterator[Line]`. A line is one JSON object: bench, metric, value, unit, n, cores, and `peer` where
it is about something measured beside ours. Medians of several runs; a test never measures time.
"""

from __future__ import annotations

import importlib
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError

Line = dict[str, Any]
NAMES = ("vee", "decode", "profile", "store", "bill", "rollup", "losses", "history", "day", "steady", "headend", "prepaid", "web", "scale")

KEEPERS = ("web",)
"""Whose making takes minutes."""


def run_bench(name: str, meters: int | None, keep: Path | None = None) -> Iterator[Line]:
    """The lines of one benchmark, or of all. keep: where one of KEEPERS leaves what it made, or finds it. InputError lists the known ones."""
    if name != "all" and name not in NAMES:
        raise InputError(f"there is no benchmark {name!r}; known are all, {', '.join(NAMES)}")
    if keep is not None and name not in KEEPERS:
        raise InputError(f"bench {name} makes nothing that could be kept; only {', '.join(KEEPERS)} takes --keep")
    for each in NAMES if name == "all" else (name,):
        module = importlib.import_module(f".{each}", __package__)
        yield from module.run(meters or getattr(module, "METERS", None), **({"keep": keep} if keep is not None else {}))


def line(bench: str, metric: str, value: float, unit: str, n: int, **more: Any) -> Line:
    """One line of a report."""
    return {"bench": bench, "metric": metric, "value": value, "unit": unit, "n": n, "cores": os.cpu_count(), **more}


def beside(own: Line, peer: str, value: float, **more: Any) -> Iterator[Line]:
    """A peer's line for the same metric, and how many times faster our own line `own` is."""
    theirs = {**own, **more, "value": value, "peer": peer}
    yield theirs
    yield {**theirs, "metric": "times_as_fast", "value": own["value"] / value, "unit": "x"}


def is_there(peer: str) -> bool:
    """Whether a peer's package is installed and can be loaded; where it is not, that is said beside the lines, on standard error."""
    try:
        importlib.import_module(peer)
    except ImportError as error:
        print(f"{peer} is not to be had here, so nothing is measured beside it ({error}); pip install {peer}", file=sys.stderr)
        return False
    return True


def memory(bench: str, n: int) -> Line:
    """The peak of resident memory of this process so far, in bytes."""
    return line(bench, "rss_peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "bytes", n)


def median_seconds(task: Callable[[], object], runs: int = 5) -> float:
    """Median wall-clock of `runs` runs after one to warm up."""
    task()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
