"""A backup of a running deployment, restored elsewhere, has the same totals, closes to the same rupees, and tells what is not whole."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from day.sites import FIRST, make_site, make_town, pushes, send
from openami.bench.servers import NatsServers
from openami.day import Site, close_all, collect
from openami.errors import DataError, InputError, StorageError
from openami.operate.backup import journal_totals, lake_totals, make_backup, row_totals
from openami.operate.restore import restore_backup
from openami.store.deployment import FILE, Folder
from openami.store.sql import Database

GIVEN = {"announced_outages.csv": "node,start,end\n", "images/0123": "firmware"}
"""Files beside the tables, as people put them into a data folder."""


def totals(folder: Folder, database: Path | sa.URL | None = None) -> dict[str, object]:
    rows = Database(database or folder.rows)
    try:
        with rows.begin() as connection:
            return {**row_totals(connection), "lake": lake_totals(Site.open(folder).lake), "journal": journal_totals(folder.journal)}
    finally:
        rows.close()


@pytest.fixture(scope="module")
def nats_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    try:
        servers = NatsServers(tmp_path_factory.mktemp("nats"), 1)
    except InputError as missing:
        pytest.skip(str(missing))
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def town():
    return make_town()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, town) -> Folder:
    """A folder with a closed day, and frames of the second that nobody has collected."""
    frames = pushes(town)
    site = make_site(tmp_path_factory.mktemp("backup") / "data", town, frames[: len(frames) // 2])
    collect(site)
    close_all(site, days=[FIRST])
    site.rows.close()
    send(site.folder, frames[len(frames) // 2 :])
    for name, text in GIVEN.items():
        (site.folder.root / name).parent.mkdir(exist_ok=True)
        (site.folder.root / name).write_text(text)
    return site.folder


@pytest.fixture(scope="module")
def backup(first: Folder) -> Path:
    target = first.root.parent / "backup"
    make_backup(first, target)
    return target


def restored(backup: Path, first: Folder, where: Path, **how: object) -> Folder:
    folder = Folder(where)
    restore_backup(backup, folder, first.master_key, **how)
    return folder


def test_what_people_put_there_comes_back(first: Folder, backup: Path, tmp_path: Path) -> None:
    folder = restored(backup, first, tmp_path / "data")
    assert {name: (folder.root / name).read_text() for name in GIVEN} == GIVEN


def test_a_restored_folder_has_the_same_totals(first: Folder, backup: Path, tmp_path: Path) -> None:
    folder = restored(backup, first, tmp_path / "again")
    assert totals(folder) == totals(first)
    assert totals(folder)["lake"]["statements"]["closing_paise"] != 0


def test_the_next_day_closes_to_the_same_rupees(first: Folder, backup: Path, tmp_path: Path) -> None:
    """What was not collected when the backup was made is in its journal: both sides go on to the same day."""
    original = Folder(Path(shutil.copytree(first.root, tmp_path / "original")))
    sums = []
    for folder in (original, restored(backup, first, tmp_path / "again")):
        site = Site.open(folder)
        collect(site)
        close_all(site)
        sums.append({table: each for table, each in lake_totals(site.lake).items() if table in ("statements", "charges", "balance")})
        site.rows.close()
    assert sums[0] == sums[1]
    assert len(Site.open(original).lake.days("statements")) == 2


def test_rows_go_from_a_file_to_postgresql_and_back(
    first: Folder, backup: Path, tmp_path: Path, postgres: Callable[..., sa.URL], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = postgres()
    monkeypatch.setenv("RESTORED_INTO", where.render_as_string(hide_password=False))
    folder = restored(backup, first, tmp_path / "on postgres", database="env:RESTORED_INTO")
    assert folder.load().database == "env:RESTORED_INTO"
    assert totals(folder, where) == totals(first)
    make_backup(folder, tmp_path / "of postgres")
    again = restored(tmp_path / "of postgres", first, tmp_path / "on a file again")
    assert again.load().database is None
    assert totals(again) == totals(first)


def test_frames_go_from_a_file_to_a_stream_and_back(first: Folder, backup: Path, tmp_path: Path, nats_one: NatsServers) -> None:
    """And what closes behind it is the same: the backup of a stream is a backup like any other."""
    address = nats_one.address("restored")
    folder = restored(backup, first, tmp_path / "on a stream", journal=address)
    assert folder.load().journal == address
    assert not folder.journal.exists()
    make_backup(folder, tmp_path / "of a stream")
    again = restored(tmp_path / "of a stream", first, tmp_path / "in a file again")
    assert journal_totals(again.journal)["frames"] == journal_totals(first.journal)["frames"]
    original = Folder(Path(shutil.copytree(first.root, tmp_path / "original")))
    sums = []
    for each in (original, folder, again):
        site = Site.open(each)
        collect(site)
        close_all(site)
        sums.append({table: one for table, one in lake_totals(site.lake).items() if table in ("statements", "charges", "balance")})
        site.rows.close()
    assert sums[0] == sums[1] == sums[2]
    with pytest.raises(InputError, match="is not empty"):
        restored(backup, first, tmp_path / "twice", journal=address)
    assert not (tmp_path / "twice").exists()


def test_a_database_that_is_not_empty_is_refused(
    first: Folder, backup: Path, tmp_path: Path, postgres: Callable[..., sa.URL], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTORED_INTO", postgres().render_as_string(hide_password=False))
    restored(backup, first, tmp_path / "once", database="env:RESTORED_INTO")
    with pytest.raises(InputError, match="is not empty"):
        restored(backup, first, tmp_path / "twice", database="env:RESTORED_INTO")
    assert not (tmp_path / "twice").exists()


def test_settings_whose_last_line_has_no_end_are_settings_again(
    first: Folder, tmp_path: Path, postgres: Callable[..., sa.URL], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editor may leave them; a quoted key is a key too."""
    folder = Folder(Path(shutil.copytree(first.root, tmp_path / "edited")))
    path = folder.root / FILE
    path.write_text(f'"database" = "sqlite:///{folder.rows}"\n' + path.read_text(encoding="utf-8").rstrip(), encoding="utf-8")
    make_backup(folder, tmp_path / "backup")
    monkeypatch.setenv("RESTORED_INTO", postgres().render_as_string(hide_password=False))
    assert restored(tmp_path / "backup", first, tmp_path / "again", database="env:RESTORED_INTO").load().database == "env:RESTORED_INTO"


def test_no_key_and_no_readable_secret_is_in_a_backup(first: Folder, backup: Path) -> None:
    key = first.master_key.read_text().strip()
    assert not [path for path in backup.rglob("*") if path.is_file() and (key.encode() in path.read_bytes() or path.name == "master.key")]


def test_another_master_key_is_refused(first: Folder, backup: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.key"
    wrong.write_text("ab" * 32)
    with pytest.raises(InputError, match="not the master key"):
        restore_backup(backup, Folder(tmp_path / "again"), wrong)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("kind", ["journal.db", "rows/account.parquet", "lake/statements/"])
def test_a_byte_that_changed_in_a_backup_is_found(first: Folder, backup: Path, tmp_path: Path, kind: str) -> None:
    damaged = Path(shutil.copytree(backup, tmp_path / "damaged"))
    name = next(n for n in json.loads((damaged / "manifest.json").read_text())["files"] if n.startswith(kind) and not n.endswith(".json"))
    octets = bytearray((damaged / name).read_bytes())
    octets[len(octets) // 2] ^= 1
    (damaged / name).write_bytes(octets)
    with pytest.raises(DataError, match="is not what it was"):
        restored(damaged, first, tmp_path / "again")


def test_a_backup_that_was_not_finished_is_none(first: Folder, backup: Path, tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(backup, tmp_path / "unfinished"))
    (unfinished / "manifest.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        restored(unfinished, first, tmp_path / "again")


def test_a_full_disk_leaves_no_backup(first: Folder, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1_900_000))
    with pytest.raises(StorageError, match="more room"):
        make_backup(first, small_disk / "backup")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_an_earlier_backup_lends_what_has_not_changed(first: Folder, backup: Path, tmp_path: Path) -> None:
    told = make_backup(first, tmp_path / "later", backup)
    assert "(0 files linked" not in told
    folder = restored(tmp_path / "later", first, tmp_path / "again")
    assert totals(folder) == totals(first)


def test_frames_that_come_meanwhile_do_no_harm(first: Folder, tmp_path: Path, town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head-end holds its journal open and writes between the rows and the journal's copy: what came is in the backup, or is not; it is whole."""
    from openami.operate import backup as chapter

    folder = Folder(Path(shutil.copytree(first.root, tmp_path / "busy")))
    copy = chapter._copy_journal
    before = journal_totals(folder.journal)["frames"]

    def busy(*how: object) -> None:
        send(folder, pushes(town)[:100])
        copy(*how)

    monkeypatch.setattr(chapter, "_copy_journal", busy)
    make_backup(folder, tmp_path / "backup")
    again = restored(tmp_path / "backup", first, tmp_path / "again")
    assert journal_totals(again.journal)["frames"] == before + 100
    with sqlite3.connect(again.journal) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_close_in_between_makes_it_look_for_another_moment(first: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openami.operate import backup as chapter

    folder = Folder(Path(shutil.copytree(first.root, tmp_path / "busy")))
    snapshot, closes = chapter.one_snapshot, []

    def close_first(connection: sa.Connection) -> None:
        if not closes:
            site = Site.open(folder)
            collect(site)
            closes.append(close_all(site))
            site.rows.close()
        snapshot(connection)

    monkeypatch.setattr(chapter, "one_snapshot", close_first)
    make_backup(folder, tmp_path / "backup")
    again = restored(tmp_path / "backup", first, tmp_path / "again")
    assert len(Site.open(again).lake.days("closes")) == 2
    assert totals(again) == totals(folder)
