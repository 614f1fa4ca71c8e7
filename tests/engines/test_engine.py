"""The engine: a stage over tasks, in threads and on a real Spark cluster; the close gives the same tables on both, even if a machine dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from day.sites import make_site, make_town, pushes
from openami.bench.servers import SparkCluster
from openami.day import Site, close_all, collect
from openami.day.stages import CloseStage, OpenFolder
from openami.engine import Embedded, Engine, Spark, Task, open_engine
from openami.errors import DataError, InputError

DAY = date(2025, 12, 1)
TASKS = [(DAY, shard) for shard in range(7)]
SMALL = {"spark.executor.memory": "512m", "spark.driver.memory": "512m", "spark.executor.cores": "1"}


@dataclass(frozen=True)
class Say:
    """Gives its task back."""

    word: str

    def __call__(self, task: Task) -> bytes:
        return f"{self.word} {task[0]} {task[1]}".encode()


class Refuse:
    def __call__(self, task: Task) -> bytes:
        if task[1] == 3:
            raise DataError("shard 3 has nothing; collect it first")
        return b"fine"


@dataclass(frozen=True)
class DieOnce:
    """Kills the machine that it runs on, the first time that shard 2 comes: the executor, which is the Python daemon's parent."""

    mark: Path
    then: CloseStage

    def __call__(self, task: Task) -> bytes:
        if task[1] == 0 and not self.mark.exists():
            self.mark.touch()
            os.kill(_executor(), signal.SIGKILL)
            signal.pause()
        return self.then(task)


def _executor() -> int:
    """The Java process above this Python worker."""
    process = os.getppid()
    while b"java" not in Path(f"/proc/{process}/comm").read_bytes():
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process


@pytest.fixture(scope="session")
def spark(cluster: SparkCluster) -> Iterator[Engine]:
    here = str(Path(__file__).parents[1])
    more = {"spark.executorEnv.PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])}
    with Spark(cluster.master, SMALL | more) as engine:
        yield engine


def test_threads_give_results_in_the_order_of_the_tasks() -> None:
    with Embedded(3) as engine:
        assert list(engine.run(Say("told"), TASKS)) == [f"told {DAY} {shard}".encode() for shard in range(7)]
        assert list(engine.run(Say("told"), [])) == []


def test_a_stages_own_error_comes_out_of_threads() -> None:
    with Embedded(2) as engine, pytest.raises(DataError, match="shard 3 has nothing"):
        list(engine.run(Refuse(), TASKS))


@pytest.mark.parametrize(
    ("name", "master", "said"),
    [("flink", None, "known are embedded, spark"), ("embedded", "spark://h:7077", "give --engine spark with it")],
)
def test_an_engine_that_is_not_there_is_named(name: str, master: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_engine(name, master)


def test_spark_gives_the_same_results_in_the_same_order(spark: Engine) -> None:
    assert list(spark.run(Say("told"), TASKS)) == [f"told {DAY} {shard}".encode() for shard in range(7)]
    assert list(spark.run(Say("told"), [])) == []


def test_a_stages_own_error_comes_out_of_spark(spark: Engine) -> None:
    with pytest.raises(DataError, match="shard 3 has nothing; collect it first"):
        list(spark.run(Refuse(), TASKS))


@pytest.fixture(scope="session")
def closed_here(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The town, closed in threads."""
    return _closed(tmp_path_factory.mktemp("here") / "data", None)


def test_the_close_on_spark_equals_the_embedded_one(spark: Engine, closed_here: Site, tmp_path: Path) -> None:
    there = _closed(tmp_path / "data", spark)
    assert _tables(there) == _tables(closed_here)


def test_an_executor_killed_in_the_middle_changes_nothing(spark: Engine, closed_here: Site, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    there = _closed(tmp_path / "data", spark, mark)
    assert mark.exists()
    assert _tables(there) == _tables(closed_here)


def _closed(root: Path, engine: Engine | None, dies: Path | None = None) -> Site:
    town = make_town()
    site = make_site(root, town, pushes(town))
    collect(site)
    stage = CloseStage(OpenFolder(root))
    work = stage if dies is None else DieOnce(dies, stage)
    close_all(site, elsewhere=None if engine is None else partial(engine.run, work))
    return site


def _tables(site: Site) -> dict[tuple[str, date, int], list[bytes]]:
    """The bytes of every table's files. Of `closes`, which names the file of raw readings, what else it says."""
    found: dict[tuple[str, date, int], list[bytes]] = {}
    for table in site.lake.tables():
        for (day, shard), paths in site.lake.all_files(table).items():
            if table == "closes":
                found[table, day, shard] = [str(site.lake.read(table, day, shard)["revision"].to_pylist()).encode()]
            else:
                found[table, day, shard] = [Path(path).read_bytes() for path in paths]
    return found
