"""The journal: an append-only log of received frame batches (SQLite, write-ahead log, synced to disk before `append` returns).

What always holds:
- a batch is in the journal whole or not at all, in the order of its `seq`, and is never changed afterwards;
- `append` returns only after the operating system has been told to sync: only then may a frame be confirmed to its meter;
- the head-end's memory (last invocation counters, how far frames have been judged, quarantine) is written in the same file but is
  derived: judging the batches again from the first one gives the same (`settle` only saves that work).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import DataError, StorageError

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, received_us INTEGER NOT NULL, frames INTEGER NOT NULL, octets BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counter (serial TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settled (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (
  seq INTEGER NOT NULL, position INTEGER NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL, serial TEXT,
  received_us INTEGER NOT NULL, octets BLOB NOT NULL, PRIMARY KEY (seq, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quarantine_cause ON quarantine (cause, seq);
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames received together. `frames` are the octets as they came from the wire, wrapper header included."""

    seq: int
    received_us: int
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame in quarantine: where it stands in the journal, why it was refused, whose it was if known, and its bytes."""

    seq: int
    position: int
    cause: str
    detail: str
    serial: str | None
    received_us: int
    octets: bytes


def pack(frames: Sequence[bytes]) -> bytes:
    """Frames to one blob: count and lengths as little-endian uint32, then the frames."""
    lengths = np.fromiter((len(f) for f in frames), "<u4", len(frames))
    return b"".join([len(frames).to_bytes(4, "little"), lengths.tobytes(), *frames])


def unpack(blob: bytes) -> tuple[bytes, ...]:
    """The frames of `pack`; DataError where lengths and bytes disagree."""
    count = int.from_bytes(blob[:4], "little")
    start = 4 + 4 * count
    if len(blob) < start:
        raise DataError(f"a journal batch says {count} frames but has {len(blob)} bytes; restore the journal from a backup")
    ends = start + np.cumsum(np.frombuffer(blob, "<u4", count, 4), dtype=np.int64)
    if len(blob) != (int(ends[-1]) if count else start):
        raise DataError("a journal batch is shorter or longer than its frames; restore the journal from a backup")
    edges = [start, *ends.tolist()]
    return tuple(blob[a:b] for a, b in pairwise(edges))


class Journal:
    """One journal file. One process writes (the head-end); any number may read at the same time."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise DataError(f"no journal at {path}; start the head-end once, or name the data folder that holds it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise DataError(f"journal {path} has schema {version}, this program knows {SCHEMA_VERSION}; use the matching release")
            if create:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(SCHEMA)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise _explained(error, path) from error

    def close(self) -> None:
        self._db.close()

    def append(self, frames: Sequence[bytes], received_us: int) -> int:
        """Store one batch and sync it to disk; gives its seq. StorageError if the disk refuses: then nothing of the batch is stored."""
        try:
            cursor = self._db.execute(
                "INSERT INTO batch (received_us, frames, octets) VALUES (?, ?, ?)", (received_us, len(frames), pack(frames))
            )
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error
        return int(cursor.lastrowid or 0)

    def settle(self, seq: int, counters: Iterable[tuple[str, int]], refusals: Iterable[Refusal]) -> None:
        """Remember that all batches up to `seq` are judged: the last counters that changed, and what was refused. One transaction."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO counter VALUES (?, ?) ON CONFLICT (serial) DO UPDATE SET last = excluded.last", counters)
            self._db.executemany(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((r.seq, r.position, r.cause, r.detail, r.serial, r.received_us, r.octets) for r in refusals),
            )
            self._db.execute("INSERT INTO settled VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET seq = excluded.seq", (seq,))
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _explained(error, self.path) from error

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        """Add refusals found after admission: frames that were genuine but whose readings cannot be used. Idempotent."""
        if refusals:
            self.settle(self.settled(), (), refusals)

    def batches(self, after: int = 0) -> Iterator[Batch]:
        """All batches with seq > `after`, in order."""
        try:
            for seq, received_us, octets in self._db.execute(
                "SELECT seq, received_us, octets FROM batch WHERE seq > ? ORDER BY seq", (after,)
            ):
                yield Batch(seq, received_us, unpack(octets))
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error

    def settled(self) -> int:
        """The seq up to which frames have been judged and remembered; 0 = none."""
        row = self._db.execute("SELECT seq FROM settled").fetchone()
        return int(row[0]) if row else 0

    def counters(self) -> dict[str, int]:
        """serial -> last accepted invocation counter, as of `settled`."""
        return dict(self._db.execute("SELECT serial, last FROM counter"))

    def frames(self) -> int:
        """How many frames the journal holds."""
        return int(self._db.execute("SELECT coalesce(sum(frames), 0) FROM batch").fetchone()[0])

    def causes(self) -> dict[str, int]:
        """cause -> number of frames in quarantine, by name."""
        return dict(self._db.execute("SELECT cause, count(*) FROM quarantine GROUP BY cause ORDER BY cause"))

    def quarantine(self, cause: str | None = None, limit: int | None = None, offset: int = 0) -> list[Refusal]:
        """Refused frames, newest last; `limit` and `offset` count from the newest."""
        where, arguments = ("WHERE cause = ?", [cause]) if cause else ("", [])
        rows = self._db.execute(
            f"SELECT seq, position, cause, detail, serial, received_us, octets FROM quarantine {where} "  # noqa: S608 - no input in it
            "ORDER BY seq DESC, position DESC LIMIT ? OFFSET ?",
            [*arguments, -1 if limit is None else limit, offset],
        ).fetchall()
        return [Refusal(*row) for row in reversed(rows)]


def _explained(error: sqlite3.DatabaseError, path: Path) -> DataError | StorageError:
    """SQLite's error as one of ours: a file that is no database is a DataError, a machine that refuses a StorageError."""
    text = str(error)
    if "malformed" in text or "not a database" in text:
        return DataError(f"journal {path} is corrupt ({text}); move it away and restore it from a backup")
    return StorageError(f"journal {path} cannot be written ({text}); free space or give a writable data folder")
