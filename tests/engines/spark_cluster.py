"""A real Spark standalone cluster on this machine: one master and some workers, from the pyspark package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .nats_servers import free_ports


def java() -> str:
    """The java program; skips where it or pyspark is missing."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        pytest.skip("Java is not installed (17 or later; Spark runs on it)")
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed (openami[spark])")
    return found


class Cluster:
    """Start, `master` is its address, stop. Each worker offers one core to each application."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        java()
        self._folder, self._count = folder, workers
        self._processes: list[subprocess.Popen[bytes]] = []
        port, self._web = free_ports(2)
        self.master = f"spark://127.0.0.1:{port}"

    def start(self) -> None:
        host, port = "127.0.0.1", self.master.rpartition(":")[2]
        self._run("master", "org.apache.spark.deploy.master.Master", "--host", host, "--port", port, "--webui-port", str(self._web))
        _listens(host, int(port))
        for k in range(self._count):
            worker = "org.apache.spark.deploy.worker.Worker"
            folder = str(self._folder / f"work{k}")
            self._run(
                f"worker{k}", worker, "--host", host, "--cores", "1", "--memory", "1g", "--webui-port", "0", "-d", folder, self.master
            )

    def executors(self) -> list[int]:
        """Process numbers of the executors that run now."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"CoarseGrainedExecutorBackend" in command and str(self._folder).encode() in command:
                    found.append(int(entry.name))
        return found

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _run(self, name: str, program: str, *arguments: str) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        environment = {
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_WORKER_DIR": str(self._folder / name),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }
        command = [str(home / "bin" / "spark-class"), program, *arguments]
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._folder))


def _listens(host: str, port: int) -> None:
    patience = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if time.monotonic() > patience:
                raise RuntimeError(f"the Spark master does not listen on {port}") from None
            time.sleep(0.1)
