"""What a close must not do: go by damaged files, leave half a day on a full disk, or depend on which decipherer there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from openami.day import Site, close_all, collect
from openami.errors import DataError, StorageError
from openami.fleet.town import Town
from openami.store.deployment import Folder

from .sites import FIRST, make_site, make_town, pushes
from .test_killed import TABLES

SECOND = FIRST + timedelta(days=1)


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town()


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    """Two days collected, the first of them closed."""
    root = tmp_path_factory.mktemp("half") / "data"
    site = make_site(root, town, pushes(town, lambda number, slot: (number, slot % 96) == (3, 40)))
    collect(site)
    close_all(site, days=[FIRST])
    site.rows.close()
    return root


@pytest.fixture
def site(tmp_path: Path, half: Path) -> Site:
    return Site.open(Folder(Path(shutil.copytree(half, tmp_path / "data"))))


@pytest.fixture(scope="module")
def expected(half: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, date], list[dict[str, Any]]]:
    """Both days, closed without trouble."""
    site = Site.open(Folder(Path(shutil.copytree(half, tmp_path_factory.mktemp("whole") / "data"))))
    close_all(site)
    return everything(site, FIRST, SECOND)


def everything(site: Site, *days: date) -> dict[tuple[str, date], list[dict[str, Any]]]:
    return {(table, day): site.lake.read(table, day, 0).to_pylist() for table in TABLES for day in days}


def damaged(site: Site, table: str, day: date) -> tuple[Path, bytes]:
    """One changed byte in the middle of a table's file; gives the file and what it held."""
    path = Path(site.lake.files(table, day)[0][0])
    whole = path.read_bytes()
    octets = bytearray(whole)
    octets[len(octets) // 3] ^= 0x55
    path.write_bytes(octets)
    return path, whole


def test_the_fall_back_decipherer_closes_to_the_same_tables(
    town: Town, expected: dict[tuple[str, date], list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openami.cosem.bulk.libcrypto", lambda: None)
    site = make_site(tmp_path / "data", town, pushes(town, lambda number, slot: (number, slot % 96) == (3, 40)))
    assert not collect(site)
    close_all(site)
    assert everything(site, FIRST, SECOND) == expected


@pytest.mark.parametrize(("table", "day"), [("raw", SECOND), ("validated", FIRST), ("validated_quality", FIRST)])
def test_a_damaged_file_is_named_and_nothing_of_the_day_is_seen(
    site: Site, expected: dict[tuple[str, date], list[dict[str, Any]]], table: str, day: date
) -> None:
    path, whole = damaged(site, table, day)
    with pytest.raises(DataError, match=rf"{path.name} cannot be read .*close that day again or restore the file"):
        close_all(site, days=[SECOND])
    assert not any(site.lake.has(one, SECOND, 0) for one in (*TABLES, "closes"))
    path.write_bytes(whole)
    close_all(site, days=[SECOND])
    assert everything(site, FIRST, SECOND) == expected


@pytest.mark.parametrize("left", [0, 50])
def test_a_half_written_commit_is_named_and_put_back_nothing_is_lost(
    site: Site, expected: dict[tuple[str, date], list[dict[str, Any]]], left: int
) -> None:
    commit = max((site.lake.root / "statements" / "_delta_log").glob("*.json"))
    whole = commit.read_bytes()
    commit.write_bytes(whole[:left])
    with pytest.raises(DataError, match=r"statements cannot be opened .*restore its _delta_log from a backup"):
        close_all(site, days=[SECOND])
    assert not site.lake.has("closes", SECOND, 0)
    commit.write_bytes(whole)
    close_all(site, days=[SECOND])
    assert everything(site, FIRST, SECOND) == expected


def cast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(kind))


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.drop_columns([name])


def renamed(name: str, other: str) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.rename_columns([other if own == name else own for own in rows.column_names])


OTHERWISE: dict[str, tuple[str, date, Callable[[pa.Table], pa.Table]]] = {
    "slots of twice the size": ("raw", SECOND, cast("s03", pa.int64())),
    "slots as fractions": ("raw", SECOND, cast("s03", pa.float32())),
    "a slot under another name": ("raw", SECOND, renamed("s03", "s97")),
    "a slot less": ("raw", SECOND, without("s03")),
    "the last slot less": ("raw", SECOND, without("s95")),
    "a meter less": ("raw", SECOND, lambda rows: rows.slice(0, rows.num_rows - 1)),
    "no meter": ("raw", SECOND, lambda rows: rows.slice(0, 0)),
    "marks without bits": ("raw_quality", SECOND, without("quality")),
    "marks under another name": ("raw_quality", SECOND, renamed("slot", "interval")),
    "like days with a slot less": ("validated", FIRST, without("s03")),
    "no balance to go on from": ("statements", FIRST, without("closing_paise")),
    "balances as fractions": ("statements", FIRST, cast("closing_paise", pa.float64())),
    "balances under another name": ("statements", FIRST, renamed("closing_paise", "closing_rupees")),
    "nothing of estimates": ("statements", FIRST, without("uncertain_to_date")),
    "usage of no tariff": ("usage", FIRST, without("tariff")),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_a_file_of_another_schema_is_refused_and_nothing_of_the_day_is_seen(site: Site, case: str) -> None:
    """Its bytes are whole, its numbers would be others."""
    table, day, change = OTHERWISE[case]
    path = site.lake.files(table, day)[0][0]
    rows = change(pq.ParquetFile(path).read())
    channels = pc.unique(rows["channel"]).to_pylist() if "channel" in rows.column_names else []
    with pq.ParquetWriter(path, rows.schema) as file:
        for part in [rows.filter(pc.equal(rows["channel"], one)) for one in channels] or [rows]:
            file.write_table(part)
    with pytest.raises(DataError, match=table):
        close_all(site, days=[SECOND])
    assert not any(site.lake.has(one, SECOND, 0) for one in (*TABLES, "closes"))


def test_a_full_disk_is_named_and_the_day_before_stays(
    half: Path, small_disk: Path, tmp_path: Path, expected: dict[tuple[str, date], list[dict[str, Any]]]
) -> None:
    root = Path(shutil.copytree(half, tmp_path / "data", ignore=shutil.ignore_patterns("lake")))
    shutil.copytree(half / "lake", small_disk / "lake")
    (root / "lake").symlink_to(small_disk / "lake")
    site = Site.open(Folder(root))
    before = everything(site, FIRST)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 16_384))
    with pytest.raises(StorageError, match=r"of 2025-12-02 .* cannot be written below .*free space"):
        close_all(site, days=[SECOND])
    assert everything(site, FIRST) == before
    assert not site.lake.has("closes", SECOND, 0)
    filler.unlink()
    close_all(site, days=[SECOND])
    assert everything(site, FIRST, SECOND) == expected
