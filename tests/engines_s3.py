"""A real S3-compatible server for tests: moto's, in a process of its own, on a free port of the loopback. It holds everything in memory."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from pyarrow import fs

from openami.store.places import Bucket, Keys

BUCKET = "openami-test"
KEYS = Keys("test-access", "test-secret")
PATIENCE_S = 240.0
"""On a busy machine a Python that imports much takes a minute to begin."""


@contextmanager
def served() -> Iterator[str]:
    """The server's address, with an empty bucket in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process)
            files = fs.S3FileSystem(
                access_key=KEYS.access,
                secret_key=KEYS.secret,
                endpoint_override=f"127.0.0.1:{port}",
                scheme="http",
                region="us-east-1",
                allow_bucket_creation=True,
            )
            files.create_dir(BUCKET)
            yield address
        finally:
            process.terminate()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    by = time.monotonic() + PATIENCE_S
    while time.monotonic() < by:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{address}/moto-api/", timeout=PATIENCE_S):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not answer in {PATIENCE_S:.0f} s")


def bucket(address: str, prefix: str) -> Bucket:
    return Bucket.at(f"s3://{BUCKET}/{prefix}", endpoint=address, keys=KEYS)
