"""A data folder made of a backup, and the proof that it is the same: each file's checksum before, each total behind.

What always holds: nothing that is there is written over; the folder appears under its name only once all totals are those of the backup; the
restored deployment is of its own: it names no database, stream or object store of the one that it came from, so that nobody writes into those by
mistake; what is derived is made again from the journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from ..errors import DataError, InputError, StorageError
from ..store.deployment import FILE, PLACES, SECRETS, Folder, variable
from ..store.journal import FrameJournal, Journal
from ..store.journal_at import open_journal
from ..store.keys import ENVIRONMENT, load_master_key
from ..store.lake import Lake
from ..store.rows import Rows
from ..store.sql import ENVIRONMENT as DATABASE
from ..store.sql import Database, address, load, refer
from .backup import journal_totals, lake_totals, proof_of, read_manifest, row_totals, tables_of

OWN = ("database", *PLACES, *SECRETS)


def restore_backup(
    backup: Path, folder: Folder, master_key: Path | None = None, database: str | None = None, journal: str | None = None
) -> str:
    """Make `folder` of `backup`; gives what was done, in a sentence. master_key: its file, None = OPENAMI_MASTER_KEY or put there later; database: an
    empty PostgreSQL database, as an address without a password, `env:NAME` or `file:PATH`; journal: a stream that is not there yet, as nats://.

    InputError where the folder is there or the key is another; DataError where a file is not what the backup says, or a total differs; StorageError
    where the disk refuses. Then the folder is not there."""
    manifest = read_manifest(backup)
    if folder.root.exists():
        raise InputError(f"{folder.root} is there already; name a folder that is not")
    _check_files(backup, manifest)
    partial = Folder(folder.root.with_name(folder.root.name + ".partial"))
    shutil.rmtree(partial.root, ignore_errors=True)
    try:
        partial.root.mkdir(mode=0o700, parents=True)
        _settings(backup, partial, {"database": database, "journal": journal})
        key = _key(partial, manifest, master_key)
        for name in manifest["files"]:
            if name.startswith(("lake/", "given/")):
                _copy(backup / name, partial.root / name.removeprefix("given/"))
        rows = _load_rows(backup, partial, manifest, database)
        partial.journal.parent.mkdir(mode=0o700)
        if journal is None:
            _copy(backup / "journal.db", partial.journal)
        else:
            _fill_stream(backup / "journal.db", partial)
        frames = journal_totals(backup / "journal.db" if journal else partial.journal)
        found = {**rows, "lake": lake_totals(Lake(partial.lake)), "journal": frames}
        _compare(manifest["totals"], found)
        partial.root.rename(folder.root)
    except OSError as error:
        shutil.rmtree(partial.root, ignore_errors=True)
        raise StorageError(f"{folder.root} cannot be restored ({error.strerror or error}); give it more room, or another place") from error
    except BaseException:
        shutil.rmtree(partial.root, ignore_errors=True)
        raise
    return _told(backup, folder, manifest, key)


def _check_files(backup: Path, manifest: dict[str, Any]) -> None:
    for name, (size, digest) in manifest["files"].items():
        path = backup / name
        try:
            with path.open("rb") as file:
                same = path.stat().st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError as error:
            raise DataError(f"{path} of the backup cannot be read ({error.strerror}); use another backup") from error
        if not same:
            raise DataError(f"{path} is not what it was when the backup was made; use another backup")


def _settings(backup: Path, folder: Folder, own: Mapping[str, str | None]) -> None:
    """The small files; of the settings those left out that say where the old deployment's data lay, and those of its `own` instead."""
    database = own["database"]
    if database is not None and not database.startswith(("env:", "file:")) and address(database).password:
        raise InputError("--database holds a password; write env:NAME or file:PATH, and the address where that points")
    for path in sorted((backup / "settings").iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.name == FILE:
            keys = "|".join(OWN)
            text = re.sub(rf"""(?m)^[ \t]*["']?(?:{keys})["']?[ \t]*=.*\n?""", "", text)
            text += "" if text.endswith("\n") else "\n"  # a line that somebody wrote last, without its end
            text += "".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items() if value is not None)
        (folder.root / path.name).write_text(text, encoding="utf-8")


def _key(folder: Folder, manifest: dict[str, Any], given: Path | None) -> bool:
    """Put the master key into its place, if one is given; whether there is one."""
    if given is not None:
        folder.master_key.parent.mkdir(mode=0o700)
        octets = given.read_bytes()
        with os.fdopen(os.open(folder.master_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(octets)
    if given is None and not os.environ.get(ENVIRONMENT):
        return False
    proof = proof_of(lambda: load_master_key(folder.master_key).mac("backup", b"which key"))
    if manifest["key_proof"] is not None and proof != manifest["key_proof"]:
        raise InputError("this is not the master key that wraps the backup's keys; give the one that was kept apart for it")
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _load_rows(backup: Path, folder: Folder, manifest: dict[str, Any], database: str | None) -> dict[str, Any]:
    """Every table, in one transaction; gives the totals as the database then has them."""
    where: Path | sa.URL = folder.rows if database is None else address(refer(database, "--database"))
    target = Database(where, create=True)
    try:
        with target.begin(writing=True, long=True) as connection:
            steps = sorted(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
            if steps != manifest["totals"]["steps"]:
                theirs, ours = set(manifest["totals"]["steps"]), set(steps)
                raise DataError(
                    f"the backup's tables are of another release ({', '.join(sorted(theirs ^ ours))}); restore it with release "
                    f"{manifest['release']}, and go on from there"
                )
            for table in tables_of(connection):
                if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
                    raise InputError(f"database {target.name} is not empty (table {table.name} has rows); give one that is")
            for table in tables_of(connection):
                _load_table(connection, table, backup / "rows" / f"{table.name}.parquet")
            return {**row_totals(connection), "steps": steps}
    finally:
        target.close()


def _load_table(connection: sa.Connection, table: sa.Table, path: Path) -> None:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(50_000):
            part = pa.Table.from_batches([batch])
            load(connection, table, {name: part[name] for name in part.column_names})
    if connection.dialect.name == "postgresql":
        for column in table.primary_key.columns:
            if column.autoincrement is True or (
                column.server_default is not None and "nextval" in str(getattr(column.server_default, "arg", ""))
            ):
                sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
                highest = f'(SELECT max("{column.name}") FROM "{table.name}")'  # noqa: S608 - names of our own tables
                connection.exec_driver_sql(f"SELECT setval({sequence}, {highest}) WHERE {highest} IS NOT NULL")


def _fill_stream(source: Path, folder: Folder) -> None:
    """The backup's frames and pulls into the stream that the settings name, which must be new; then everything read again and compared."""
    rows, before = Rows.of(folder), Journal(source)
    stream = open_journal(folder, folder.load(), receive=True, meters=rows.meters())
    try:
        if stream.frames() or next(stream.pulled(), None):
            raise InputError(f"the stream {folder.load().journal} is not empty; name one that is not there yet")
        for batch in before.batches():
            stream.store(batch.frames, batch.received_us)
        for one in before.pulled():
            stream.pull(one.serial, one.profile, one.first_s, one.last_s, one.octets, one.received_us)
        wanted, found = (_read_whole(journal) for journal in (before, stream))
        if wanted != found:
            raise DataError(
                f"the stream {folder.load().journal} holds {found} of {wanted} frames, octets and pulls; restore into another one"
            )
    finally:
        stream.close()
        before.close()
        rows.close()


def _read_whole(journal: FrameJournal) -> tuple[int, int, int]:
    """(frames, their octets, pulls), however they were cut into batches."""
    frames = octets = 0
    for batch in journal.batches():
        frames += len(batch)
        octets += len(batch.packed) - 4 - 4 * len(batch)
    return frames, octets, sum(1 for _ in journal.pulled())


def _compare(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """DataError names the first total that differs."""
    for kind in ("rows", "money_paise", "lake", "journal"):
        for name in sorted(wanted[kind].keys() | found[kind].keys()):
            before, now = wanted[kind].get(name), found[kind].get(name)
            if before != now and not (kind == "money_paise" and not before and not now):
                raise DataError(f"{kind} {name} was {before} and would be {now}; the backup is not whole, use another")


def _told(backup: Path, folder: Folder, manifest: dict[str, Any], key: bool) -> str:
    totals = manifest["totals"]
    said = (
        f"{folder.root}: restored from {backup} of {manifest['made']}; all totals are the same: {totals['journal']['frames']:,} frames, "
        f"{sum(totals['rows'].values()):,} rows, {len(totals['lake']):,} tables of the lake"
    )
    if not key:
        said += f". Put the master key into {folder.master_key} (mode 600) before anything is served"
    if named := [one for one in (DATABASE, *map(variable, PLACES)) if os.environ.get(one)]:
        said += f". Mind that {', '.join(named)} in the environment still point elsewhere"
    return said
