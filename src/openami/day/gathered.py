"""What was collected so far, put away beside the lake: the day grids, and how far the journal was read.

    grid/<source>/<shard>/<day>.parquet, .quality.parquet   day blocks, values and marks; source: pushed or pulled
    grid/position.parquet                                   the meters' last counters; in its metadata the rest of `Position`

What always holds: each file is replaced whole, synced first, and the position last; files that are ahead of the position do no harm, for a
frame read again changes nothing; where the meters or settings that the frames were judged by have changed, or the journal is another one,
reading begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from ..errors import DataError, InputError, StorageError
from ..headend.admission import Correspondent
from ..readings import CHANNEL_BY_NAME, DayBlock
from ..store.blocks import BlockFile, dense_quality, quality_to_table, read_rows, write_rows
from ..store.deployment import Deployment
from ..store.slots import write_slots

SOURCES = ("pushed", "pulled")
FORMAT = "1"


@dataclass(slots=True)
class Position:
    """How far the journal was read, and what the rest is judged on from there. counters: serial -> last accepted invocation counter; moved:
    serial -> how many of its later push keys the meter had used; channels: source -> shard -> names; last_heard: the latest day with a reading;
    judged_by: serial -> what the meter was then (`marks`)."""

    batch: int = 0
    pulled: int = 0
    frames: int = 0
    last_heard: date | None = None
    counters: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    channels: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    settings: str = ""
    judged_by: dict[str, str] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)

    def channels_of(self, shard: int) -> dict[str, list[str]]:
        """source -> names of a shard's channels."""
        return {source: self.channels.get(source, {}).get(shard, []) for source in SOURCES}


class Gathered:
    """The folder of it, held by one collector at a time."""

    def __init__(self, root: Path, lock: int) -> None:
        self._root, self._lock = root, lock

    @staticmethod
    def open(root: Path) -> Gathered:
        """Take the folder; InputError where another collector has it."""
        try:
            root.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"{root} cannot be made ({error.strerror}); give a writable data folder") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise InputError(f"{root.parent} is being collected by another process; wait for it, or stop it first") from None
        return Gathered(root, lock)

    def __enter__(self) -> Gathered:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._lock)

    def position(self, deployment: Deployment, peers: Sequence[Correspondent], title: bytes, frames: int) -> Position:
        """Where to go on: what was remembered if it still holds, otherwise the beginning. A meter that came since is heard from here on: what it
        sent before is in quarantine, and was never confirmed. frames: how many the journal holds."""
        settings = ",".join(map(str, (deployment.first_day, deployment.days, deployment.zone, deployment.interval_minutes, title.hex())))
        known = self._remembered()
        judged_by = marks(peers, known.moved if known is not None else {})
        if known is None or known.settings != settings or known.frames > frames or not known.judged_by.items() <= judged_by.items():
            self.forget()
            return Position(settings=settings, judged_by=marks(peers, {}))
        known.judged_by = judged_by
        return known

    def forget(self) -> None:
        """Begin anew: all of it can be made again from the journal. The position goes first."""
        (self._root / "position.parquet").unlink(missing_ok=True)
        for source in SOURCES:
            shutil.rmtree(self._root / source, ignore_errors=True)

    def blocks(self, source: str, shard: int) -> Callable[[date], list[DayBlock]]:
        """Gives the blocks of a shard's day, none where nothing was put away."""

        def of(day: date) -> list[DayBlock]:
            path = self._path(source, shard, day)
            if not path.exists():
                return []
            file, marks = BlockFile(path), read_rows(path.with_suffix(".quality.parquet"))
            found = []
            for name in file.channels:
                values = file.values(name)
                found.append(DayBlock(day, shard, CHANNEL_BY_NAME[name], values, dense_quality(marks, name, values.shape)))
            return found

        return of

    def put(self, source: str, shard: int, day: date, blocks: Sequence[DayBlock]) -> None:
        """Put the blocks of a shard's day away in place of the older ones. StorageError where the disk refuses; then the older ones stay."""
        path = self._path(source, shard, day)
        self._write(path.with_suffix(".quality.parquet"), lambda target: write_rows(target, [quality_to_table(block) for block in blocks]))
        self._write(path, lambda target: write_slots(target, blocks))

    def remember(self, position: Position) -> None:
        """The position, last of all."""
        rest = {
            "format": FORMAT,
            "batch": position.batch,
            "pulled": position.pulled,
            "frames": position.frames,
            "last_heard": position.last_heard.isoformat() if position.last_heard else None,
            "causes": position.causes,
            "channels": position.channels,
            "settings": position.settings,
        }
        rows = pa.table(
            {
                "serial": pa.array(position.judged_by.keys(), pa.string()),
                "judged_by": pa.array(position.judged_by.values(), pa.string()),
                "counter": pa.array([position.counters.get(serial) for serial in position.judged_by], pa.int64()),
                "moved": pa.array([position.moved.get(serial, 0) for serial in position.judged_by], pa.int64()),
            }
        )
        rows = rows.replace_schema_metadata({"position": json.dumps(rest)})
        self._write(self._root / "position.parquet", lambda target: write_rows(target, [rows]))

    def _remembered(self) -> Position | None:
        path = self._root / "position.parquet"
        if not path.exists():
            return None
        rows = read_rows(path)
        rest = json.loads((rows.schema.metadata or {}).get(b"position", b"{}"))
        if rest.get("format") != FORMAT:
            raise DataError(
                f"{path} is of another release (format {rest.get('format')}); remove {self._root}, it is made again from the journal"
            )
        if "moved" not in rows.column_names:
            return None  # of a release that did not keep it: which keys hold is not known
        counters = {s: c for s, c in zip(rows["serial"].to_pylist(), rows["counter"].to_pylist(), strict=True) if c is not None}
        return Position(
            rest["batch"],
            rest["pulled"],
            rest["frames"],
            date.fromisoformat(rest["last_heard"]) if rest["last_heard"] else None,
            counters,
            rest["causes"],
            {source: {int(shard): names for shard, names in shards.items()} for source, shards in rest["channels"].items()},
            rest["settings"],
            dict(zip(rows["serial"].to_pylist(), rows["judged_by"].to_pylist(), strict=True)),
            {s: n for s, n in zip(rows["serial"].to_pylist(), rows["moved"].to_pylist(), strict=True) if n},
        )

    def _path(self, source: str, shard: int, day: date) -> Path:
        return self._root / source / str(shard) / f"{day}.parquet"

    def _write(self, path: Path, write: Callable[[Path], None]) -> None:
        fresh = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(path)
        except (OSError, pa.ArrowException) as error:
            fresh.unlink(missing_ok=True)
            raise StorageError(f"{path} cannot be written ({error}); free space or give a writable data folder") from error


def marks(peers: Sequence[Correspondent], moved: Mapping[str, int]) -> dict[str, str]:
    """serial -> what the meter's frames were judged by, without telling its keys: another place or policy gives another mark, and so does another
    key among those that the meter had used. Keys still under way are none of it."""
    return {peer.meter.serial: _mark(peer, moved.get(peer.meter.serial, 0)) for peer in peers}


def _mark(peer: Correspondent, moved: int) -> str:
    meter = peer.meter
    said = (meter.serial, meter.maker, meter.model, str(meter.shard), str(meter.index), str(meter.security_control), *("moved",) * moved)
    used = b"".join(keys.ek + keys.ak for keys in (peer.keys, *peer.later[:moved]))
    return hashlib.sha256("|".join(said).encode() + hashlib.sha256(meter.system_title + used).digest()).hexdigest()[:32]
