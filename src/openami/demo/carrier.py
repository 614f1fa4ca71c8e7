"""A simulated carrier of short messages: takes what Apprise posts to it over HTTP, and reports what arrived. One in twelve phones is off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OFF_EVERY = 12


@dataclass
class Carrier:
    """took: (notice id, address) in the order in which they came. A phone whose number ends so is off: (number % OFF_EVERY) == 0."""

    url: str = ""
    took: list[tuple[str, str]] = field(default_factory=list)

    def arrived(self) -> dict[str, bool]:
        """Notice id -> did it reach its phone."""
        return {notice: int(address) % OFF_EVERY != 0 for notice, address in self.took}


@contextmanager
def carrier() -> Iterator[Carrier]:
    """A carrier on loopback, while it is needed; `url` is its Apprise address, {address} the phone's number."""
    made = Carrier()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.took.append((str(body["title"]), self.path.strip("/")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Phones' numbers stand in the paths: nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"json://127.0.0.1:{server.server_port}/{{address}}"
    thread = threading.Thread(target=server.serve_forever, name="carrier", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
