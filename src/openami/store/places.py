"""Where a lake lies: a folder of this machine, or a prefix of an S3-compatible store. Both offer the same few things, and `lake.py` and
`history.py` know no other way to a file.

What always holds: a file is there whole or not at all (a local one is synced before anyone can learn its name, an object appears when its
upload is complete); a file of a table is never written twice; two writers of one table never overwrite each other's commit (a rename that
refuses an existing name on disk, a conditional put in the object store).

Keys of an object store come by reference only, and no message, `repr` or log names them.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from ..errors import DataError, InputError, StorageError
from .deployment import Deployment, Folder
from .sql import refer

LOG = "_delta_log"
CONNECT_S, REQUEST_S = 5.0, 60.0
QUIET_NS = 2_000_000_000
"""A folder that changed longer ago than this gets another time with its next change, on any file system."""
Write = Callable[[Any], object]
"""Writes a whole file into what it is given: a path of the local disk, or a stream into an object."""

Place: TypeAlias = "Local | Bucket"
LogState = tuple[tuple[str, int, int], ...]
State = tuple[int, int, int]
"""Size, time and number of a file: another one after it was replaced."""


class Stored(str):
    """The address of a file in an object store; `opened` gives it to a reader of Parquet."""

    __slots__ = ("bucket",)
    bucket: Bucket

    @staticmethod
    def of(address: str, bucket: Bucket) -> Stored:
        stored = Stored(address)
        stored.bucket = bucket
        return stored

    @property
    def name(self) -> str:
        return self.rsplit("/", 1)[-1]


@contextmanager
def _unless_it_fails(fresh: Path) -> Iterator[None]:
    """Whatever goes wrong, nothing is left of a file under its first name."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise


def _is_server(address: str) -> bool:
    parts = urlsplit(address)
    try:
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535
        return False


def place_at(where: Path | Place) -> Place:
    """A folder's path as a place; a place is itself."""
    return Local(where) if isinstance(where, Path) else where


def opened(path: str | Path) -> Any:
    """What `pyarrow.parquet` reads a file of the lake from: a local path as it is, an object as an open file. OSError where it is not there."""
    return path.bucket.files.open_input_file(path.bucket.path_of(path)) if isinstance(path, Stored) else path


def parquet_file(source: Any, coded: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file, given as `opened` gives it, whose pages must have their checksums; columns `coded` come as dictionaries. One on this machine is
    mapped, and nothing is fetched ahead: that takes other threads, and a seventh of the time. OSError or ArrowException where it is damaged."""
    mapped = isinstance(source, str | Path)
    return pq.ParquetFile(source, memory_map=mapped, pre_buffer=not mapped, page_checksum_verification=True, read_dictionary=list(coded))


@dataclass(frozen=True, slots=True)
class Local:
    """A folder of this machine."""

    root: Path
    options: None = None

    def __post_init__(self) -> None:
        if "%" in str(self.root):
            raise InputError(f"{self.root} has a % in its path, which Delta Lake reads as an escape; give a data folder without one")

    def __str__(self) -> str:
        return str(self.root)

    def uri(self, table: str) -> str:
        return str(self.root / table)

    def tables(self) -> list[str]:
        """The Delta tables that are there, by name."""
        return sorted(log.parent.name for log in self.root.glob(f"*/{LOG}"))

    def has_table(self, table: str) -> bool:
        return os.path.exists(f"{self.root}/{table}/{LOG}")  # noqa: PTH110  # as in `log_mark`

    def log_state(self, table: str) -> LogState | None:
        """What a table's log looks like: each file's name, size and time; None where it cannot be looked at."""
        try:
            with os.scandir(self.root / table / LOG) as entries:
                stats = [(entry.name, entry.stat()) for entry in entries]
        except OSError:
            return None
        return tuple(sorted((name, found.st_size, found.st_mtime_ns) for name, found in stats))

    def log_mark(self, table: str) -> LogState | State | None:
        """Something that changes with every commit: one look at the log's folder where it has been quiet, else the whole `log_state`, because two
        changes of a folder within one tick of the disk's clock have the same time."""
        try:
            found = os.stat(f"{self.root}/{table}/{LOG}")  # noqa: PTH116  # asked several times for every page
        except OSError:
            return None
        if time.time_ns() - found.st_mtime_ns < QUIET_NS:
            return self.log_state(table)
        return found.st_size, found.st_mtime_ns, found.st_ino

    def file(self, uri: str) -> str:
        """A file of a table as Delta names it, for `opened`."""
        return unquote(uri)

    def write(self, name: str, write: Write) -> int:
        """A new file, whole and synced; gives its size. OSError or ArrowException where it cannot be, and then nothing is left of it."""
        octets, put_in_place = self.lay(name, write)
        put_in_place()
        return octets

    def lay(self, name: str, write: Write) -> tuple[int, Callable[[], None]]:
        """A new file, whole; gives its size, and what syncs it and gives it its name, which takes time but no work. Errors as of `write`."""
        path = self.root / name
        fresh = path.with_name(f".{uuid.uuid4().hex}")

        def put_in_place() -> None:
            with _unless_it_fails(fresh):
                with fresh.open("rb") as file:
                    os.fsync(file.fileno())
                fresh.replace(path)

        with _unless_it_fails(fresh):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(fresh)
            return fresh.stat().st_size, put_in_place

    def discard(self, name: str) -> None:
        """Take back a file that nobody names. What the disk refuses here it has refused before, and that is what will be reported."""
        with suppress(OSError):
            (self.root / name).unlink()

    def find(self, name: str) -> str | None:
        """A file for `opened`, None where there is none."""
        path = self.root / name
        return str(path) if path.exists() else None

    def state(self, name: str) -> State | None:
        """What a file looks like from outside, None where there is none."""
        try:
            found = os.stat(f"{self.root}/{name}")  # noqa: PTH116  # a Path costs more than the answer, and this is asked for every month of a year
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino

    def below(self, prefix: str) -> Iterator[str]:
        """The names of all files below a folder, hidden ones left out."""
        for path in sorted((self.root / prefix).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix()

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


@dataclass(frozen=True)
class Keys:
    """What opens an object store. The secret is in no `repr`."""

    access: str
    secret: str = field(repr=False)
    session: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket. endpoint: the server's address where it is not Amazon's own; keys: None = what the machine's environment gives
    (a role, a profile). StorageError where the store does not answer."""

    name: str
    prefix: str
    endpoint: str | None = None
    region: str = "us-east-1"
    keys: Keys | None = None

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}" if self.prefix else f"s3://{self.name}"

    @staticmethod
    def at(address: str, endpoint: str | None = None, region: str | None = None, keys: Keys | None = None) -> Bucket:
        """From an address as `s3://bucket/prefix`. InputError names what is wrong with it."""
        parts = urlsplit(address)
        if parts.scheme != "s3" or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc) or parts.query or parts.fragment:
            raise InputError(f"{address!r} is no address of an object store; write s3://bucket/prefix")
        prefix = parts.path.strip("/")
        if not re.fullmatch(r"[A-Za-z0-9._/-]*", prefix) or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
            raise InputError(f"the prefix {prefix!r} of {address!r} may hold letters, digits and . _ - between single slashes")
        if endpoint is not None and not _is_server(endpoint):
            raise InputError(f"{endpoint!r} is no address of an object store's server; write https://host:port")
        return Bucket(parts.netloc, prefix, endpoint, region or "us-east-1", keys)

    @cached_property
    def options(self) -> dict[str, str]:
        """For delta-rs. `aws_conditional_put` is what makes commits of several writers safe: a log entry is put only where none is."""
        found = {"aws_region": self.region, "aws_conditional_put": "etag", "timeout": f"{REQUEST_S:.0f}s"}
        if self.endpoint:
            found |= {"aws_endpoint": self.endpoint, "allow_http": str(self.endpoint.startswith("http://")).lower()}
        if self.keys:
            found |= {"aws_access_key_id": self.keys.access, "aws_secret_access_key": self.keys.secret}
            found |= {"aws_session_token": self.keys.session} if self.keys.session else {}
        return found

    @cached_property
    def files(self) -> fs.FileSystem:
        server = urlsplit(self.endpoint) if self.endpoint else None
        return fs.S3FileSystem(
            access_key=self.keys.access if self.keys else None,
            secret_key=self.keys.secret if self.keys else None,
            session_token=self.keys.session if self.keys else None,
            region=self.region,
            scheme=server.scheme if server else "https",
            endpoint_override=server.netloc if server else None,
            connect_timeout=CONNECT_S,
            request_timeout=REQUEST_S,
            background_writes=False,
        )

    def path_of(self, address: str) -> str:
        """An address of ours as the file system names it."""
        return address.removeprefix("s3://")

    def _path(self, name: str) -> str:
        return "/".join(part for part in (self.name, self.prefix, name) if part)

    def uri(self, table: str) -> str:
        return f"s3://{self._path(table)}"

    def tables(self) -> list[str]:
        with self._answering():
            folders = self.files.get_file_info(fs.FileSelector(self._path(""), allow_not_found=True))
        return sorted(info.base_name for info in folders if info.type == fs.FileType.Directory and self.has_table(info.base_name))

    def has_table(self, table: str) -> bool:
        with self._answering():
            return bool(DeltaTable.is_deltatable(self.uri(table), self.options))

    def log_state(self, table: str) -> LogState | None:
        try:
            found = self.files.get_file_info(fs.FileSelector(self._path(f"{table}/{LOG}")))
        except OSError:
            return None
        return tuple(sorted((info.base_name, int(info.size or 0), int(info.mtime_ns or 0)) for info in found))

    def log_mark(self, table: str) -> LogState | None:
        """As `Local.log_mark`: an object store has no folders to look at, so it is the list."""
        return self.log_state(table)

    def file(self, uri: str) -> str:
        return Stored.of(unquote(uri), self)

    def lay(self, name: str, write: Write) -> tuple[int, Callable[[], None]]:
        """As `Local.lay`: what is uploaded has its name at once."""
        return self.write(name, write), lambda: None

    def write(self, name: str, write: Write) -> int:
        whole = pa.BufferOutputStream()  # an upload that fails half-way must not become an object
        write(whole)
        content = whole.getvalue()
        try:
            with self.files.open_output_stream(self._path(name)) as stream:
                stream.write(content)
        except BaseException:
            self.discard(name)
            raise
        return int(content.size)

    def discard(self, name: str) -> None:
        with suppress(OSError):
            self.files.delete_file(self._path(name))

    def find(self, name: str) -> str | None:
        with self._answering():
            info = self.files.get_file_info(self._path(name))
        return Stored.of(self.uri(name), self) if info.type == fs.FileType.File else None

    def below(self, prefix: str) -> Iterator[str]:
        top = self._path("") + "/"
        with self._answering():
            found = self.files.get_file_info(fs.FileSelector(self._path(prefix), allow_not_found=True, recursive=True))
        for info in sorted(found, key=lambda each: each.path):
            if info.type == fs.FileType.File:
                yield info.path.removeprefix(top)

    def read(self, name: str) -> bytes:
        with self.files.open_input_stream(self._path(name)) as stream:
            return bytes(stream.read())

    def _answering(self) -> _Answering:
        return _Answering(self)


class _Answering:
    """Turns a store's refusal into our own sentence."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | pa.ArrowException):
            server = self._bucket.endpoint or "its server"
            raise StorageError(
                f"the object store {self._bucket} does not answer at {server} ({' '.join(str(error).split())[:160]}); "
                "check the address, the bucket and the keys"
            ) from error


def place_of(folder: Folder, deployment: Deployment) -> Place:
    """Where the lake of a data folder is: `lake` in its openami.toml, else the folder `lake` in it. Keys are named by `lake_access_key` and
    `lake_secret_key` (and `lake_session_token`), each `env:NAME` or `file:PATH`; without them the machine's own role holds.

    InputError or DataError where a key itself stands in the settings, only one of the two is named, or what is referred to is not there."""
    named = {name: getattr(deployment, name) for name in ("lake_access_key", "lake_secret_key", "lake_session_token")}
    if deployment.lake is None:
        return Local(folder.lake)
    for name, value in named.items():
        if value is not None and not value.startswith(("env:", "file:")):
            raise DataError(
                f"{name} in openami.toml holds a key itself; keep it in the environment or a file and write env:NAME or file:PATH"
            )
    access, secret, session = (refer(value, f"{name} in openami.toml") if value else None for name, value in named.items())
    if (access is None) != (secret is None):
        raise DataError(
            "openami.toml names only one of lake_access_key and lake_secret_key; name both, or neither for the machine's own role"
        )
    keys = Keys(access, secret, session) if access and secret else None
    return Bucket.at(deployment.lake, deployment.lake_endpoint, deployment.lake_region, keys)
