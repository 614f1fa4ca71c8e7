"""What a running role shows to whoever watches over it: /metrics for Prometheus, /live and /ready for a supervisor; and its clock, watched too.

What always holds: the port is apart from the console's and the meters', by default of this machine alone, and answers GET only; /live says no only
where starting the process again would help, /ready where it should get no work; both say why, in sentences.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..control.guard import Decision, Reason
from ..control.order import Order
from ..errors import InputError
from ..headend.orders import Guard

log = logging.getLogger("openami.watch")
Reasons = Callable[[], list[str]]
JUMP_S = 5.0
LOOK_S = 1.0
ASK_S = 5.0
DISTRUST_S = 900.0
"""A clock that jumped is not believed for so long: time servers need a while to say which of both times was right."""


def address(text: str) -> tuple[str, int]:
    """`host:port`, or a port of this machine alone. InputError where it is neither."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65_535:
        raise InputError(f"--watch {text!r} is not an address; write host:port as 127.0.0.1:9464, or 0 for any free port")
    return host.strip("[]") or "127.0.0.1", int(port)


class Watch:
    """Answers on a thread of its own, from entering to leaving. live, ready: what speaks against it, [] = nothing."""

    def __init__(self, where: tuple[str, int], registry: CollectorRegistry, live: Reasons, ready: Reasons) -> None:
        answers = {"/live": live, "/ready": ready}

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "OpenAMI", ""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in answers:
                    against = answers[path]()
                    body = json.dumps({"ok": not against, "against": against}, ensure_ascii=False).encode()
                    self._answer(503 if against else 200, "application/json", body)
                else:
                    self._answer(404, "text/plain", b"there are /metrics, /live and /ready\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Who asks every few seconds is not worth a line."""

        try:
            self._server = ThreadingHTTPServer(where, Handler)
        except OSError as error:
            raise InputError(
                f"cannot listen on {where[0]}:{where[1]} for /metrics ({error.strerror}); give another --watch, or 0 for any free port"
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        log.info("metrics and health on port %d", self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def against(where: tuple[str, int], path: str) -> list[str]:
    """What a running role's `/live` or `/ready` says against it, [] = nothing; that nobody answers is said in the same way."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where[0], where[0])  # noqa: S104 - where it listens, not where we do
    connection = HTTPConnection(host, where[1], timeout=ASK_S)
    try:
        connection.request("GET", path)
        said = json.loads(connection.getresponse().read())
        return [str(why) for why in said["against"]]
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        return [f"nothing that is ours answers at {host}:{where[1]} ({error}); is the role running, with --watch?"]
    finally:
        connection.close()


class Clock:
    """Compares this machine's clock with its steady one. What stands still in between (a paused machine) counts as a jump too: wall time that
    nobody has lived through."""

    def __init__(self, wall_s: Callable[[], float] = time.time, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._wall_s, self._steady_s = wall_s, steady_s
        self._before = wall_s(), steady_s()
        self._jumped_at = float("-inf")
        self.jumps, self.last_jump_s = 0, 0.0

    def look(self) -> float:
        """Seconds that the clock has jumped by since the last look, 0.0 = none; said once in the log."""
        now = self._wall_s(), self._steady_s()
        jump = (now[0] - self._before[0]) - (now[1] - self._before[1])
        self._before = now
        if abs(jump) < JUMP_S:
            return 0.0
        self._jumped_at, self.jumps, self.last_jump_s = now[1], self.jumps + 1, jump
        log.error(
            "this machine's clock was put %s by %.0f s; pushes are stored and confirmed as before, no supply is cut for %d minutes; "
            "see that it follows its time servers",
            "forward" if jump > 0 else "back",
            abs(jump),
            DISTRUST_S // 60,
        )
        return jump

    @property
    def trusted(self) -> bool:
        self.look()
        return self._steady_s() - self._jumped_at >= DISTRUST_S

    def figures(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("openami_clock_jumps", "How often this machine's clock has jumped", self.jumps)
        yield GaugeMetricFamily("openami_clock_last_jump_seconds", "By how much it jumped last, positive = forward", self.last_jump_s)

    def keep_looking(self) -> None:
        """Looks every second, on a thread that goes with the process."""

        def look() -> None:
            waiting = threading.Event()
            while not waiting.wait(LOOK_S):
                self.look()

        threading.Thread(target=look, name="clock", daemon=True).start()


def careful(guard: Guard, clock: Clock) -> Guard:
    """The guard, which refuses every disconnection while this machine's clock cannot be trusted: what is legal depends on the hour."""

    def ask(order: Order, now_s: int) -> Decision:
        decision = guard(order, now_s)
        if clock.trusted:
            return decision
        why = Reason(
            "clock",
            None,
            "Not known: the right time, because our clock has just jumped; so supply is not cut.",
            "ज्ञात नहीं: सही समय, क्योंकि हमारी घड़ी अभी बदली है; इसलिए बिजली नहीं काटी जाएगी।",
            "OpenAMI: no supply is cut while our own systems are in doubt",
            "",
        )
        return replace(decision, allowed=False, reasons=(*decision.reasons, why))

    return ask
