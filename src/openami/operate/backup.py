"""Everything of a deployment that cannot be made again, copied into one folder while head-ends, workers and consoles go on.

    backup/
      manifest.json              what is in it, each file's size and SHA-256, the totals; written last: without it there is no backup
      settings/*.toml *.json     the data folder's own small files
      given/                     what people put there: announced outages, the network's records, firmware images
      rows/<table>.parquet       every SQL table, whichever database it was in
      journal.db                 frames and what was read from meters, in the embedded journal's form, whichever journal it was
      lake/                      the tables as of one version each, earlier versions with them; the history

What always holds: rows and lake are of one moment: where a close came between, the moment is taken again; the journal is taken last, so it has
every frame that the others speak of; what is derived and made again by itself (day grids, arrivals) is left out; the master key is left out: whoever
finds a backup can read no meter's key, and whoever loses the master key cannot either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from .. import __version__
from ..errors import DataError, InputError, OpenAMIError, StorageError
from ..store.deployment import FORMAT, Deployment, Folder
from ..store.journal import Journal
from ..store.journal_at import open_journal
from ..store.keys import load_master_key
from ..store.lake import Lake
from ..store.places import LOG, Place, place_of
from ..store.rows import Rows
from ..store.sql import Database

MANIFEST, KIND = "manifest.json", "openami-backup-1"
GIVEN = ("*.csv", "network/*.csv", "images/*")
MOMENT_TRIES = 20
CHUNK = 50_000
OF_THE_DATABASE = ("alembic_version", "registry_change")
SUMMED = ("statements", "charges", "adjustments", "balance", "usage")
LOG_ENTRY = re.compile(r"^(?P<table>[^/]+)/_delta_log/(?P<version>\d{20})\.(json|checkpoint.*\.parquet)$")
IMMUTABLE = re.compile(r"^[^/]+/(_delta_log/\d{20}\.json|day=[^/]+/shard=[^/]+/[^/]+\.parquet)$")
ARROW: tuple[tuple[type[sa.types.TypeEngine[Any]], pa.DataType], ...] = (
    (sa.Boolean, pa.bool_()),
    (sa.DateTime, pa.timestamp("us")),
    (sa.Date, pa.date32()),
    (sa.LargeBinary, pa.binary()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),
)


@dataclass(slots=True)
class Backup:
    """A backup that is being made. files: name -> [octets, SHA-256]; earlier: those of the one that unchanged files are linked from."""

    root: Path
    like: Path | None = None
    earlier: Mapping[str, list[Any]] = field(default_factory=dict)
    files: dict[str, list[Any]] = field(default_factory=dict)
    linked: int = 0

    def put(self, name: str, octets: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        self.files[name] = [len(octets), hashlib.sha256(octets).hexdigest()]

    def note(self, name: str) -> None:
        """A file that somebody else wrote into the backup."""
        path = self.root / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        self.files[name] = [path.stat().st_size, digest]

    def link(self, name: str) -> bool:
        """Take a file that never changes from the earlier backup; False where it has none."""
        if self.like is None or name not in self.earlier:
            return False
        path = self.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(self.like / name, path)
        except OSError:
            return False  # another disk, or gone: it is copied
        self.files[name], self.linked = self.earlier[name], self.linked + 1
        return True


def make_backup(folder: Folder, target: Path, like: Path | None = None) -> str:
    """Make the backup `target`; gives what was done, in a sentence. InputError where it is there already or inside the data; StorageError where the
    disk refuses, and then nothing is left of it."""
    deployment = folder.load()
    if target.exists():
        raise InputError(f"{target} is there already; name a folder that is not")
    if target.resolve().is_relative_to(folder.root.resolve()):
        raise InputError(f"{target} lies in the data folder itself; name one elsewhere, best on another disk")
    earlier = read_manifest(like)["files"] if like is not None else {}
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(mode=0o700, parents=True)
        backup = Backup(partial, like, earlier)
        totals = _fill(backup, folder, deployment)
        manifest = {
            "kind": KIND,
            "release": __version__,
            "format": FORMAT,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "of": deployment.name,
            "key_proof": _key_proof(folder),
            "totals": totals,
            "files": dict(sorted(backup.files.items())),
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        partial.rename(target)
    except (OSError, pa.ArrowException, sqlite3.DatabaseError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StorageError(f"the backup {target} cannot be made ({error}); give it more room, or a folder that may be written") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    octets = sum(size for size, _ in backup.files.values())
    return (
        f"{target}: {len(backup.files):,} files, {octets / 2**20:,.1f} MiB ({backup.linked:,} files linked from an earlier backup); "
        f"{totals['journal']['frames']:,} frames, {sum(totals['rows'].values()):,} rows. The master key is not in it: keep "
        f"{folder.master_key} apart"
    )


def read_manifest(backup: Path) -> dict[str, Any]:
    """What a backup says of itself. DataError where it is none, or not whole."""
    try:
        found = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
        if found["kind"] == KIND and isinstance(found["files"], dict):
            return dict(found)
    except FileNotFoundError:
        raise DataError(f"{backup} is no backup, or one that was not finished (it has no {MANIFEST}); name another") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{backup / MANIFEST} cannot be read ({error}); name another backup") from error
    raise DataError(f"{backup} is a backup of another release; restore it with that one")


def _fill(backup: Backup, folder: Folder, deployment: Deployment) -> dict[str, Any]:
    """Everything but the manifest; gives the totals."""
    for path in sorted([*folder.root.glob("*.toml"), *folder.root.glob("*.json")]):
        backup.put(f"settings/{path.name}", path.read_bytes())
    for path in sorted(path for pattern in GIVEN for path in folder.root.glob(pattern)):
        backup.put(f"given/{path.relative_to(folder.root).as_posix()}", path.read_bytes())
    place = place_of(folder, deployment)
    lake = Lake(place)
    rows = Rows.of(folder)
    try:
        versions, totals = _at_one_moment(backup, rows.database, lake)
    finally:
        rows.close()
    _copy_lake(backup, place, versions)
    _copy_journal(backup, folder, deployment)
    return {**totals, "lake": lake_totals(Lake(backup.root / "lake")), "journal": journal_totals(backup.root / "journal.db")}


def _at_one_moment(backup: Backup, database: Database, lake: Lake) -> tuple[dict[str, int], dict[str, Any]]:
    """The versions of the lake's tables, and with them the rows: taken again where a close came in between."""
    for _ in range(MOMENT_TRIES):
        before = {table: lake.version(table) for table in lake.tables()}
        with database.begin(long=True) as connection:
            one_snapshot(connection)
            if {table: lake.version(table) for table in lake.tables()} != before:
                continue
            return before, dump_rows(backup, connection)
    raise StorageError(f"days were closed {MOMENT_TRIES} times while the backup looked for one moment; make it when the worker rests")


def one_snapshot(connection: sa.Connection) -> None:
    """From now on this transaction sees the database as it is now, whatever others write."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar()
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.exec_driver_sql("SELECT 1").scalar()


def tables_of(connection: sa.Connection) -> list[sa.Table]:
    """The database's tables, those that others refer to first; without those that say where this database itself stands."""
    found = sa.MetaData()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # of indexes by expression, which are not copied
        found.reflect(connection)
    return [table for table in found.sorted_tables if table.name not in OF_THE_DATABASE]


def dump_rows(backup: Backup, connection: sa.Connection) -> dict[str, Any]:
    """Every table into a file; gives how many rows each has, the sums of its money, and the steps that the database has had."""
    counts: dict[str, int] = {}
    money: dict[str, int] = {}
    for table in tables_of(connection):
        schema = pa.schema([(column.name, arrow_type(column.type)) for column in table.columns])
        name = f"rows/{table.name}.parquet"
        (backup.root / name).parent.mkdir(mode=0o700, exist_ok=True)
        counts[table.name] = 0
        with pq.ParquetWriter(backup.root / name, schema, compression="zstd") as writer:
            for part in _parts(connection, table, schema):
                writer.write_table(part)
                counts[table.name] += part.num_rows
                _add_money(money, table.name, part)
        backup.note(name)
    steps = sorted(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
    return {"rows": counts, "money_paise": money, "steps": steps}


def _parts(connection: sa.Connection, table: sa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    result = connection.execution_options(stream_results=True, yield_per=CHUNK).execute(query)
    for rows in result.partitions():
        columns = zip(*rows, strict=True)
        yield pa.table([pa.array(values, kind.type) for values, kind in zip(columns, schema, strict=True)], schema=schema)


def arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    return next((arrow for sql, arrow in ARROW if isinstance(kind, sql)), pa.string())


def _add_money(money: dict[str, int], table: str, rows: pa.Table) -> None:
    for name in rows.column_names:
        if name.endswith("_paise") and pa.types.is_integer(rows[name].type):
            key = f"{table}.{name}"
            money[key] = money.get(key, 0) + int(pc.sum(rows[name]).as_py() or 0)


def row_totals(connection: sa.Connection) -> dict[str, Any]:
    """The same of a database as it is, for comparison."""
    counts, money = {}, {}
    for table in tables_of(connection):
        counts[table.name] = int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        for column in table.columns:
            if column.name.endswith("_paise") and isinstance(column.type, sa.Integer) and counts[table.name]:
                money[f"{table.name}.{column.name}"] = int(connection.execute(sa.select(sa.func.sum(column))).scalar_one() or 0)
    return {"rows": counts, "money_paise": money}


def _copy_lake(backup: Backup, place: Place, versions: Mapping[str, int]) -> None:
    """Files of the tables up to their versions, and everything else that lies there. What is not of a version and vanishes meanwhile was never
    committed, or has been swept."""
    needed = {name for table in versions for name in _files_of(place, table, versions[table])}
    for name in place.below(""):
        if not _belongs(place, name, versions):
            continue
        wanted = f"lake/{name}"
        if IMMUTABLE.match(name) and backup.link(wanted):
            continue
        try:
            backup.put(wanted, place.read(name))
        except FileNotFoundError:
            if name in needed:
                raise
    if missing := {name for name in needed if f"lake/{name}" not in backup.files}:
        raise StorageError(f"{sorted(missing)[0]} of the lake {place} was swept away while it was copied; make the backup again")


def _belongs(place: Place, name: str, versions: Mapping[str, int]) -> bool:
    if f"/{LOG}/" not in name:
        return True
    if entry := LOG_ENTRY.match(name):
        return int(entry["version"]) <= versions.get(entry["table"], -1)
    if name.endswith("/_last_checkpoint"):
        return int(json.loads(place.read(name)).get("version", 1 << 62)) <= versions.get(name.split("/")[0], -1)
    return False


def _files_of(place: Place, table: str, version: int) -> list[str]:
    """The data files of a table's version, by name below the lake."""
    found = Lake(place).opened(table, version).file_uris()
    return [f"{table}/{re.sub(r'^.*?/(?=day=)', '', place.file(uri))}" for uri in found]


def _copy_journal(backup: Backup, folder: Folder, deployment: Deployment) -> None:
    """The embedded journal page by page, without holding up who writes; a stream frame by frame into the same form."""
    name = "journal.db"
    if deployment.journal is None:
        if not folder.journal.exists():
            Journal(backup.root / name, create=True).close()
        else:
            with closing(sqlite3.connect(folder.journal)) as source, closing(sqlite3.connect(backup.root / name)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
    else:
        journal = open_journal(folder, deployment)
        copied = Journal(backup.root / name, create=True)
        try:
            for batch in journal.batches():
                copied.append(batch.frames, batch.received_us)
            for one in journal.pulled():
                copied.pull(one.serial, one.profile, one.first_s, one.last_s, one.octets, one.received_us)
        finally:
            copied.close()
            journal.close()
    for beside in ("journal.db-wal", "journal.db-shm", "journal.db.lock"):
        (backup.root / beside).unlink(missing_ok=True)
    backup.note(name)


def journal_totals(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        batches, frames, octets = db.execute(
            "SELECT count(*), coalesce(sum(frames), 0), coalesce(sum(length(octets)), 0) FROM batch"
        ).fetchone()
        pulled = db.execute("SELECT count(*) FROM pulled").fetchone()[0] if db.execute("PRAGMA user_version").fetchone()[0] > 1 else 0
    return {"batches": batches, "frames": frames, "octets": octets, "pulled": pulled}


def lake_totals(lake: Lake) -> dict[str, Any]:
    """table -> rows, and of the tables of money and energy the sum of each column in paise or Wh."""
    totals: dict[str, Any] = {}
    for table in lake.tables():
        sums: dict[str, int] = {}
        rows = 0
        for (day, shard), _ in sorted(lake.all_files(table).items()):
            part = lake.read(table, day, shard) if table in SUMMED else None
            rows += part.num_rows if part is not None else _rows_in(lake, table, day, shard)
            if part is None:
                continue
            for name in part.column_names:
                if name.endswith(("_paise", "_wh")) and pa.types.is_integer(part[name].type):
                    sums[name] = sums.get(name, 0) + int(pc.sum(part[name]).as_py() or 0)
        totals[table] = {"rows": rows, **sums}
    return totals


def _rows_in(lake: Lake, table: str, day: Any, shard: int) -> int:
    return sum(pq.read_metadata(path).num_rows for path in lake.files(table, day).get(shard, []))


def _key_proof(folder: Folder) -> str | None:
    """Tells the right master key from another, and gives it away to nobody."""
    return proof_of(lambda: load_master_key(folder.master_key).mac("backup", b"which key"))


def proof_of(make: Callable[[], bytes]) -> str | None:
    try:
        return make().hex()
    except OpenAMIError:
        return None
