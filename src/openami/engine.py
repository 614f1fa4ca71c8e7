"""Where stages run: here, in threads, or on Apache Spark. A stage works on one task (a day and a shard) and gives a few bytes about what it wrote.

    for written in engine.run(stage, [(day, 0), (day, 1)]):      # in the order of the tasks
        ...

What always holds: the same stage and the same tasks give the same results on either engine; a task may be run more than once (Spark runs one again
whose machine was lost, or runs it twice), so a stage makes nothing visible by itself: whoever called `run` commits what it gives; a stage's own
error comes out as it was raised.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from types import TracebackType
from typing import Any, Protocol

from .errors import InputError, OpenAMIError, StorageError

Task = tuple[date, int]
Stage = Callable[[Task], bytes]
ENGINES = ("embedded", "spark")
LOCAL = ("127.0.0.1", "localhost", "local")


class Engine(Protocol):
    """Runs a stage over tasks; `with` it, so that it gives back what it holds."""

    def run(self, stage: Stage, tasks: Sequence[Task]) -> Iterator[bytes]:
        """Each task's result, in the order of the tasks. What a stage raises comes out here."""
        ...

    def __enter__(self) -> Engine: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_engine(name: str, master: str | None = None, threads: int = 2) -> Engine:
    """The engine of that name. master: Spark's address (`spark://host:7077`, `local[2]`). InputError names what does not go together."""
    if name not in ENGINES:
        raise InputError(f"there is no engine {name!r}; known are {', '.join(ENGINES)}")
    if name == "embedded":
        if master is not None:
            raise InputError(f"--master {master} is Spark's; give --engine spark with it")
        return Embedded(threads)
    return Spark(master or "local[*]")


class Embedded:
    """Threads of this process: the kernels let go of the interpreter's lock."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def run(self, stage: Stage, tasks: Sequence[Task]) -> Iterator[bytes]:
        return self._pool.map(stage, tasks)

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)


class Spark:
    """Python workers of a Spark cluster, each task alone in its partition. Every machine has this release installed and sees the same data folder
    (or the same lake and SQL database) under the same path. Give it tasks of seconds: each costs some tens of milliseconds of its own."""

    def __init__(self, master: str, settings: dict[str, str] | None = None) -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError:
            raise InputError("the engine spark needs the package pyspark; install openami[spark] and Java 17 or later") from None
        builder = SparkSession.builder.master(master).appName("openami")
        for name, value in {**_settings(master), **(settings or {})}.items():
            builder = builder.config(name, value)
        try:
            self._session = builder.getOrCreate()
            self._session.sparkContext.pythonExec = os.environ.get("PYSPARK_PYTHON", sys.executable)
        except Exception as error:
            raise StorageError(
                f"Spark at {master} does not start ({_first_line(error)}); is Java 17 there, and the master running?"
            ) from error

    def run(self, stage: Stage, tasks: Sequence[Task]) -> Iterator[bytes]:
        if not tasks:
            return
        work = pickle.dumps(stage)
        numbers = self._session.range(0, len(tasks), 1, len(tasks))
        try:
            rows = numbers.mapInArrow(_over(work, list(tasks)), "id long, result binary, failure binary").collect()
        except Exception as error:
            raise StorageError(f"Spark gave up on {len(tasks)} tasks ({_first_line(error)}); look at its executors' logs") from error
        for row in sorted(rows, key=lambda row: int(row.id)):
            if row.failure is not None:
                raise pickle.loads(bytes(row.failure))  # noqa: S301 - our own exception, from our own worker
            yield bytes(row.result)

    def __enter__(self) -> Spark:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._session.stop()


def _over(work: bytes, tasks: list[Task]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The stage as `mapInArrow` wants it: batches of task numbers in, batches of results out."""

    def over(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        stage: Stage = pickle.loads(work)  # noqa: S301 - pickled by the driver of this very job
        for batch in batches:
            for number in batch.column("id").to_pylist():
                result, failure = None, None
                try:
                    result = stage(tasks[number])
                except OpenAMIError as error:
                    failure = pickle.dumps(error)
                yield pa.RecordBatch.from_arrays(
                    [pa.array([number], pa.int64()), pa.array([result], pa.binary()), pa.array([failure], pa.binary())],
                    names=["id", "result", "failure"],
                )

    return over


def _settings(master: str) -> dict[str, str]:
    """Spark's settings: no web page; on this machine alone, the loopback address."""
    found = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
        "spark.task.maxFailures": "8",
    }
    if any(word in master for word in LOCAL):
        found |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
