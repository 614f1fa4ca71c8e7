"""Judges from outside, each in a process of its own, against the real app on a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from openami.web.connections import Connection

from .houses import House

ASKERS = {"people": "admin", "webhooks": "admin", "audit": "auditor", "consents": "consumer-own"}
"""Who asks, by the beginning of the path; everything else is asked by an operator of the whole deployment."""
ANSWER_S = "120"
"""How long an answer may take: a judge of what is answered, not of how fast, on a machine that does other things too."""


@contextlib.contextmanager
def served(house: House) -> Iterator[str]:
    """The address at which the house answers meanwhile."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(house.app, http=Connection, ws="none", log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def schemathesis(house: House, address: str, folder: Path, examples: int, *more: str) -> subprocess.CompletedProcess[str]:
    """All checks, all phases, `examples` for each route. Tokens are made out for an hour: the run may be long."""
    config = folder / "schemathesis.toml"
    lines = ["max-stream-events = 1", "[generation]", f"max-examples = {examples}", "deterministic = true"]
    for part, name in [("", "operator"), *ASKERS.items()]:
        token = house.token(name, issuer=address, lives_s=36_000)
        lines += ["[[operations]]", f'include-path-regex = "^/{part}"'] if part else ["[headers]"]
        lines += [f'Authorization = "Bearer {token}"'] if not part else [f'headers = {{ Authorization = "Bearer {token}" }}']
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config.chmod(0o600)
    tool = Path(sys.executable).with_name("schemathesis")
    command = [tool, "--config-file", config, "run", f"{address}/api/v1/openapi.json", "--checks", "all", "--no-color"]
    command += ["--request-timeout", ANSWER_S, *more]
    return subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, env=dict(os.environ), check=False)
