"""What Prometheus is told, by role. Every name begins with `openami_`; docs/operate.md lists them.

What always holds: a label is a role, a cause, a state, a level or a route as it stands in the code: never a meter, an account or a person, so that
the number of series is small and nobody can be watched by them; what is not known is left out, never told as 0.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import OpenAMIError
from ..headend.status import HeadendStatus, read_state, read_status
from ..store.deployment import Folder
from .traces import span
from .worker import Progress

SLOW_S = 30.0
"""How long an answer that took a walk through the database is given again."""
LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LIVE = {
    "connections": ("openami_headend_connections", "Connections that meters and gateways hold open now"),
    "waiting_frames": ("openami_headend_waiting_frames", "Frames that have come and are not stored yet"),
    "conversations": ("openami_headend_conversations", "Meters that are being asked now"),
}
COUNTED = {
    "frames": ("openami_headend_frames", "Frames stored and judged"),
    "confirmed": ("openami_headend_confirmed_frames", "Frames confirmed to their meters, each after it was stored"),
    "confirmed_again": ("openami_headend_confirmed_again_frames", "Frames that came once more and were confirmed once more"),
    "read_failed": ("openami_headend_reads_failed", "Conversations with meters that led nowhere"),
}


def registry_of(role: str, *collectors: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """A registry of one role's figures, with those of its process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Told(lambda: [InfoMetricFamily("openami", "What runs here", {"version": __version__, "role": role})]))
    for one in collectors:
        registry.register(_Told(one))
    return registry


class _Told:
    """A function as a collector."""

    def __init__(self, tell: Callable[[], Iterable[Metric]]) -> None:
        self._tell = tell

    def collect(self) -> Iterable[Metric]:
        return self._tell()

    def describe(self) -> Iterable[Metric]:
        return []


class HeadendFigures:
    """Of a head-end: what it last wrote of itself, and behind that, not oftener than each `SLOW_S`, how the deployment stands."""

    def __init__(self, folder: Folder, now_s: Callable[[], float] = time.time) -> None:
        self._folder, self._now_s = folder, now_s
        self._lock = threading.Lock()
        self._status: HeadendStatus | None = None
        self._asked_s = float("-inf")
        self._answers = True

    def __call__(self) -> Iterator[Metric]:
        state = read_state(self._folder) or {}
        if "at_s" in state:
            yield GaugeMetricFamily("openami_headend_state_seconds", "When the head-end last told how it is, UTC", state["at_s"])
        for key, (name, what) in LIVE.items():
            if key in state:
                yield GaugeMetricFamily(name, what, state[key])
        for key, (name, what) in COUNTED.items():
            if key in state:
                yield CounterMetricFamily(name, what, state[key])
        yield _counts("openami_headend_refused_frames", "Frames stored and refused, by cause", "cause", state.get("refused", {}))
        yield _counts("openami_headend_not_stored_frames", "Frames refused and not stored, by cause", "cause", state.get("not_stored", {}))
        yield _gauges("openami_headend_tasks", "Conversations that wait, by priority", "priority", state.get("tasks", {}))
        status = self._slow()
        yield _answer("database", self._answers)
        if status is not None:
            yield from _standing(status)
        yield from _sizes(self._folder)

    def _slow(self) -> HeadendStatus | None:
        with self._lock:
            if time.monotonic() - self._asked_s > SLOW_S:
                self._asked_s = time.monotonic()
                try:
                    self._status, self._answers = read_status(self._folder, int(self._now_s())), True
                except OpenAMIError:
                    self._status, self._answers = None, False  # told as openami_store_answers 0
            return self._status


def _standing(status: HeadendStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("openami_meters", "Meters in the registry", status.meters)
    yield GaugeMetricFamily("openami_meters_silent", "Meters not heard for a day", len(status.silent))
    yield GaugeMetricFamily("openami_meters_never_heard", "Meters never heard", len(status.never_heard))
    yield _gauges("openami_orders", "Orders to meters, by state", "state", status.orders)
    yield _gauges("openami_quarantine_frames", "Frames in quarantine, by cause", "cause", status.refused)
    wanted = GaugeMetricFamily("openami_level_wanted_ratio", "Share that a service level asks for", labels=["level"])
    done = GaugeMetricFamily("openami_level_done_ratio", "Share that was there in time, of what was due", labels=["level"])
    left = GaugeMetricFamily("openami_level_left_seconds", "Until a level's clock ends; negative behind it", labels=["level"])
    met = GaugeMetricFamily("openami_level_met", "1 reached, 0 still open, -1 missed", labels=["level"])
    for one in status.levels:
        if one.standing is None or not one.standing.due:
            continue
        name = [one.level.name]
        wanted.add_metric(name, one.level.share)
        done.add_metric(name, one.standing.done / one.standing.due)
        left.add_metric(name, one.standing.left_s)
        met.add_metric(name, {True: 1, None: 0, False: -1}[one.standing.met])
    yield from (wanted, done, left, met)


def _sizes(folder: Folder) -> Iterator[Metric]:
    """What lies on the disk, and how much more would."""
    sizes = GaugeMetricFamily("openami_journal_bytes", "Size of the embedded journal's files", labels=["file"])
    for path in sorted(folder.journal.parent.glob("*.db*")):
        sizes.add_metric([path.name], _size(path))
    yield sizes
    yield from disk_figures(folder)


def disk_figures(folder: Folder) -> Iterator[Metric]:
    import shutil

    try:
        usage = shutil.disk_usage(folder.root)
    except OSError:
        return  # the folder is gone: what is not known is left out, and /ready says it
    yield GaugeMetricFamily("openami_disk_free_bytes", "Free on the disk of the data folder", usage.free)
    yield GaugeMetricFamily("openami_disk_bytes", "Size of the disk of the data folder", usage.total)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def worker_figures(folder: Folder, progress: Progress) -> Callable[[], Iterator[Metric]]:
    """Of a worker: how far it is, and what it has done."""

    def tell() -> Iterator[Metric]:
        yield CounterMetricFamily("openami_worker_rounds", "Rounds of collecting and closing, those that failed left out", progress.rounds)
        yield CounterMetricFamily("openami_worker_failed_rounds", "Rounds that failed; each is done again", progress.failed)
        yield CounterMetricFamily("openami_worker_frames", "Frames read from the journal", progress.frames)
        if progress.lag_frames is not None:
            yield GaugeMetricFamily("openami_worker_lag_frames", "Frames in the journal that are not read yet", progress.lag_frames)
        yield CounterMetricFamily("openami_worker_closed_days", "Days closed, each for one shard", progress.closed)
        yield CounterMetricFamily("openami_worker_reckoned_days", "Closed days reckoned again, each for one shard", progress.reckoned)
        yield CounterMetricFamily("openami_worker_adjustments", "Adjustments posted", progress.adjustments)
        if progress.last_round_s is not None:
            yield GaugeMetricFamily("openami_worker_last_round_seconds", "When the last round ended well, UTC", progress.last_round_s)
        if progress.last_closed is not None:
            yield GaugeMetricFamily(
                "openami_worker_last_closed_day_seconds", "Beginning of the last closed day, UTC", progress.last_closed_s
            )
        took = CounterMetricFamily("openami_worker_busy_seconds", "Time spent, by step", labels=["step"])
        for step, seconds in sorted(progress.busy_s.items()):
            took.add_metric([step], seconds)
        yield took
        yield from disk_figures(folder)

    return tell


class WebFigures:
    """Around the web app: how many requests, how long, by route as it is written in the code, and a trace of each where traces are wanted."""

    def __init__(self) -> None:
        self.histogram = Histogram(
            "openami_web_request_seconds",
            "Time to answer",
            ["method", "route", "status"],
            buckets=LATENCY_S,
            registry=None,
        )

    def around(self, app: ASGIApp) -> ASGIApp:
        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, begun = "500", time.monotonic()

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
            try:
                with span("web.request", method=method):
                    await app(scope, receive, note)
            finally:
                self.histogram.labels(method, _route(scope), status).observe(time.monotonic() - begun)

        return measured

    def __call__(self) -> Iterable[Metric]:
        return self.histogram.collect()


def _route(scope: Scope) -> str:
    """The route's pattern, never the path that was asked for: that would name meters and accounts."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "none"


def _answer(store: str, answers: bool) -> Metric:
    one = GaugeMetricFamily("openami_store_answers", "1 where a store answered when it was last asked, else 0", labels=["store"])
    one.add_metric([store], int(answers))
    return one


def _counts(name: str, what: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, what, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family


def _gauges(name: str, what: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family
