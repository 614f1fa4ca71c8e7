"""The journal: an append-only log of received frame batches. Here its words, what every journal can do (`FrameJournal`), and the embedded one,
`Journal` (SQLite, write-ahead log, synced to disk before `append` returns). The replicated one is in `jetstream.py`; `journal_at.py` opens
whichever the settings name.

What always holds:
- a batch is in the journal whole or not at all, in the order of its `seq`, and is never changed afterwards;
- `append` returns only after the operating system has been told to sync: only then may a frame be confirmed to its meter;
- what was read from a meter on our own asking (`pull`) lies beside the frames, apart from them: whoever sends a frame cannot write there;
- the head-end's memory (last invocation counters, how far frames have been judged, quarantine) is written in the same file but is
  derived: judging the batches again from the first one gives the same (`settle` only saves that work).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import DataError, InputError, StorageError
from ..readings import Int64

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, received_us INTEGER NOT NULL, frames INTEGER NOT NULL, octets BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counter (serial TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settled (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (
  seq INTEGER NOT NULL, position INTEGER NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL, serial TEXT,
  received_us INTEGER NOT NULL, octets BLOB NOT NULL, PRIMARY KEY (seq, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quarantine_cause ON quarantine (cause, seq);
CREATE TABLE IF NOT EXISTS pulled (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, received_us INTEGER NOT NULL, serial TEXT NOT NULL,
  profile TEXT NOT NULL, first_s INTEGER NOT NULL, last_s INTEGER NOT NULL, octets BLOB NOT NULL);
"""
BEFORE_PULLS = 1
"""The schema that had no `pulled` yet: it is read as it is, and brought up to date when it is written."""


@dataclass(frozen=True)
class Batch:
    """Frames received together. `packed`: them as the journal keeps them (`pack`), which `frames` and `arrays` take apart when asked; DataError
    where its lengths and bytes disagree."""

    seq: int
    received_us: int
    packed: bytes

    def __post_init__(self) -> None:
        _edges(self.packed)

    def __len__(self) -> int:
        return int.from_bytes(self.packed[:4], "little")

    @cached_property
    def frames(self) -> tuple[bytes, ...]:
        """The octets as they came from the wire, wrapper header included."""
        return unpack(self.packed)

    def arrays(self) -> tuple[npt.NDArray[np.uint8], Int64]:
        """The same without an object per frame: bytes of all frames, and offsets int64 [n + 1]."""
        start, offsets = _edges(self.packed)
        return np.frombuffer(self.packed, np.uint8, offset=start), offsets


class Stored(NamedTuple):
    """Where frames stand in the journal: the seq of their batch, and which of the frames given it holds, in its order."""

    seq: int
    frames: Sequence[int]


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


@dataclass(frozen=True, slots=True)
class Pulled:
    """A profile's rows as one meter gave them when it was asked for those from `first_s` to `last_s` (UTC seconds, both included).

    octets: columns, scalers and rows (see `headend.pulled`). In quarantine it stands under minus its seq: frames count for themselves."""

    seq: int
    received_us: int
    serial: str
    profile: str
    first_s: int
    last_s: int
    octets: bytes


def pack(frames: Sequence[bytes]) -> bytes:
    """Frames to one blob: count and lengths as little-endian uint32, then the frames."""
    lengths = np.fromiter((len(f) for f in frames), "<u4", len(frames))
    return b"".join([len(frames).to_bytes(4, "little"), lengths.tobytes(), *frames])


def unpack(blob: bytes) -> tuple[bytes, ...]:
    """The frames of `pack`; DataError where lengths and bytes disagree."""
    start, offsets = _edges(blob)
    return tuple(blob[a:b] for a, b in pairwise((start + offsets).tolist()))


def _edges(blob: bytes) -> tuple[int, Int64]:
    """Where the frames of `pack` begin, and each one's place behind that, int64 [n + 1]."""
    count = int.from_bytes(blob[:4], "little")
    start = 4 + 4 * count
    if len(blob) < start:
        raise DataError(f"a journal batch says {count} frames but has {len(blob)} bytes; restore the journal from a backup")
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.frombuffer(blob, "<u4", count, 4), dtype=np.int64, out=offsets[1:])
    if len(blob) != start + int(offsets[-1]):
        raise DataError("a journal batch is shorter or longer than its frames; restore the journal from a backup")
    return start, offsets


class FrameJournal(Protocol):
    """What the head-end and the close need of a journal, whatever keeps it. `Journal`'s methods of the same names say what each holds."""

    def store(self, frames: Sequence[bytes], received_us: int) -> list[Stored]:
        """Keep frames so that no crash loses them, then say where they stand: every frame once, batches in the order in which readers will see
        them. StorageError where that cannot be had: then none of the frames may be confirmed."""
        ...

    def batches(self, after: int = 0) -> Iterator[Batch]: ...
    def batch(self, seq: int) -> Batch: ...
    def pull(self, serial: str, profile: str, first_s: int, last_s: int, octets: bytes, received_us: int) -> int: ...
    def pulled(self, after: int = 0) -> Iterator[Pulled]: ...
    def answered(self, profile: str) -> list[tuple[str, int, int]]: ...
    def frames(self) -> int: ...
    def settle(self, seq: int, counters: Iterable[tuple[str, int]], refusals: Iterable[Refusal]) -> None: ...
    def settled(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def refuse(self, refusals: Sequence[Refusal]) -> None: ...
    def causes(self) -> dict[str, int]: ...
    def quarantine(self, cause: str | None = None, limit: int | None = None, offset: int = 0) -> list[Refusal]: ...
    def close(self) -> None: ...


class Journal:
    """One journal file. One process receives into it (the head-end, with `create`); any number may read and add refusals at the same time."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise DataError(f"no journal at {path}; start the head-end once, or name the data folder that holds it")
        self._lock = _only_one(path.with_name(path.name + ".lock")) if create else None
        try:
            self._db = _connect(path, create=create)
        except BaseException:
            self._unlock()
            raise

    def close(self) -> None:
        self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, frames: Sequence[bytes], received_us: int) -> int:
        """Store one batch and sync it to disk; gives its seq. StorageError if the disk refuses: then nothing of the batch is stored."""
        try:
            cursor = self._db.execute(
                "INSERT INTO batch (received_us, frames, octets) VALUES (?, ?, ?)", (received_us, len(frames), pack(frames))
            )
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error
        return int(cursor.lastrowid or 0)

    def store(self, frames: Sequence[bytes], received_us: int) -> list[Stored]:
        """`append`, for those who take any journal: all frames stand in one batch, in the order given."""
        return [Stored(self.append(frames, received_us), range(len(frames)))]

    def settle(self, seq: int, counters: Iterable[tuple[str, int]], refusals: Iterable[Refusal]) -> None:
        """Remember that all batches up to `seq` are judged: the last counters that changed, and what was refused. One transaction."""
        with self._transaction():
            self._db.executemany("INSERT INTO counter VALUES (?, ?) ON CONFLICT (serial) DO UPDATE SET last = excluded.last", counters)
            self._quarantine(refusals)
            self._db.execute("INSERT INTO settled VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET seq = excluded.seq", (seq,))

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        """Add refusals found after admission: frames that were genuine but whose readings cannot be used. Idempotent, and beside `settle`:
        how far the head-end has judged is the head-end's own."""
        if refusals:
            with self._transaction():
                self._quarantine(refusals)

    def batches(self, after: int = 0) -> Iterator[Batch]:
        """All batches with seq > `after`, in order. Each is read by itself, so that the caller may take hours, write refusals meanwhile, and
        see what is received meanwhile."""
        while rows := self._rows("SELECT seq, received_us, octets FROM batch WHERE seq > ? ORDER BY seq LIMIT 1", after):
            after, received_us, octets = rows[0]
            yield Batch(after, received_us, octets)

    def batch(self, seq: int) -> Batch:
        """The batch of that seq; DataError where there is none."""
        for received_us, octets in self._rows("SELECT received_us, octets FROM batch WHERE seq = ?", seq):
            return Batch(seq, received_us, octets)
        raise DataError(f"journal {self.path} has no batch {seq}; restore it from a backup")

    def pull(self, serial: str, profile: str, first_s: int, last_s: int, octets: bytes, received_us: int) -> int:
        """Store what a meter gave when it was asked, synced to disk; gives its seq. Any process may: it takes no part in the frames' order."""
        with self._transaction():
            self._db.execute(SCHEMA[SCHEMA.index("CREATE TABLE IF NOT EXISTS pulled") :])
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            cursor = self._db.execute(
                "INSERT INTO pulled (received_us, serial, profile, first_s, last_s, octets) VALUES (?, ?, ?, ?, ?, ?)",
                (received_us, serial, profile, first_s, last_s, octets),
            )
        return int(cursor.lastrowid or 0)

    def pulled(self, after: int = 0) -> Iterator[Pulled]:
        """What was pulled with seq > `after`, in order, each read by itself."""
        if self._rows("PRAGMA user_version")[0][0] == BEFORE_PULLS:
            return
        query = "SELECT seq, received_us, serial, profile, first_s, last_s, octets FROM pulled WHERE seq > ? ORDER BY seq LIMIT 1"
        while rows := self._rows(query, after):
            after = int(rows[0][0])
            yield Pulled(*rows[0])

    def answered(self, profile: str) -> list[tuple[str, int, int]]:
        """(serial, first_s, last_s) of every time that a meter was asked for rows of `profile` and answered, whether it had them or not."""
        if self._rows("PRAGMA user_version")[0][0] == BEFORE_PULLS:
            return []
        return self._rows("SELECT serial, first_s, last_s FROM pulled WHERE profile = ? ORDER BY seq", profile)

    def settled(self) -> int:
        """The seq up to which frames have been judged and remembered; 0 = none."""
        rows = self._rows("SELECT seq FROM settled")
        return int(rows[0][0]) if rows else 0

    def counters(self) -> dict[str, int]:
        """serial -> last accepted invocation counter, as of `settled`."""
        return dict(self._rows("SELECT serial, last FROM counter"))

    def frames(self) -> int:
        """How many frames the journal holds."""
        return int(self._rows("SELECT coalesce(sum(frames), 0) FROM batch")[0][0])

    def causes(self) -> dict[str, int]:
        """cause -> number of frames in quarantine, by name."""
        return dict(self._rows("SELECT cause, count(*) FROM quarantine GROUP BY cause ORDER BY cause"))

    def quarantine(self, cause: str | None = None, limit: int | None = None, offset: int = 0) -> list[Refusal]:
        """Refused frames, newest last; `limit` and `offset` count from the newest."""
        where, arguments = ("WHERE cause = ?", [cause]) if cause else ("", [])
        rows = self._rows(
            f"SELECT seq, position, cause, detail, serial, received_us, octets FROM quarantine {where} "  # noqa: S608 - no input in it
            "ORDER BY seq DESC, position DESC LIMIT ? OFFSET ?",
            *arguments,
            -1 if limit is None else limit,
            offset,
        )
        return [Refusal(*row) for row in reversed(rows)]

    def _quarantine(self, refusals: Iterable[Refusal]) -> None:
        rows = ((r.seq, r.position, r.cause, r.detail, r.serial, r.received_us, r.octets) for r in refusals)
        self._db.executemany("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _rows(self, query: str, *arguments: Any) -> list[Any]:
        try:
            return self._db.execute(query, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _explained(error, self.path) from error


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """The database of schema 1, made when `create` and empty."""
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (SCHEMA_VERSION, BEFORE_PULLS) and not (create and version == 0):
            raise DataError(f"journal {path} has schema {version}, this program knows {SCHEMA_VERSION}; use the matching release")
        db.execute("PRAGMA synchronous=FULL")
        if create:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT")
    except sqlite3.DatabaseError as error:
        raise _explained(error, path) from error
    return db


def _only_one(path: Path) -> int:
    """The lock of the one process that receives; it goes with the process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"journal {path.with_suffix('')} cannot be made ({error.strerror}); give a writable data folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"another head-end is writing {path.with_suffix('')}; stop it first, or give another data folder") from None
    return handle


def _explained(error: sqlite3.DatabaseError, path: Path) -> DataError | StorageError:
    """SQLite's error as one of ours: a machine that refuses is a StorageError, a file that is not what it should be a DataError."""
    text = str(error)
    if any(word in text for word in ("full", "readonly", "locked", "unable to open", "disk I/O")):
        return StorageError(f"journal {path} cannot be used ({text}); free space or give a writable data folder")
    return DataError(f"journal {path} is corrupt ({text}); move it away and restore it from a backup")
