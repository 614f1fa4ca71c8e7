"""The SQL database of a deployment: SQLite in its folder, or PostgreSQL by address; one set of tables, brought up to date by numbered steps.

What always holds: a transaction is whole or was never there, and its errors come out as ours, with the database named and never its password;
a database of an earlier release is brought up to date when it is opened, one of a later release is refused by name; what is ordered by text
is ordered by code point on both engines.

Every chapter of SQL declares its tables with `metadata` here and has its own chain of steps under `migrations/versions/`, named
`<chapter>_<number>.py`; a test compares what the steps build with what the chapters declare, on both engines.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import resources
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import DataError, InputError, RequestError, StorageError
from ..readings import Int64

ENVIRONMENT = "OPENAMI_DATABASE"
metadata = sa.MetaData()
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that is compared and ordered by code point, wherever it lies."""

BUSY_TIMEOUT_S, STATEMENT_TIMEOUT_S, LOCK_TIMEOUT_S, IDLE_TIMEOUT_S = 30, 120, 30, 300
CONNECT_S = 10
LINE = {"client_encoding": "utf8", "tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
"""When a server counts as lost whose packets are lost (ms, s, s, times): the system's own patience is a quarter of an hour and more."""
CHUNK = 50_000
CACHE_KIB = 32_768  # SQLite's own 2 MiB are too few for a million accounts: pages would be written and read again
READERS = 40
"""So many threads answer requests at once, and each may read a SQLite file."""
_JOINED: ContextVar[tuple[sa.URL, sa.Connection] | None] = ContextVar("joined", default=None)
"""The database and the connection whose transaction this context's transactions are parts of."""
OUT_OF_ORDER = ("readonly", "full", "unable to open", "disk I/O", "locked", "closed", "connect")


class Database:
    """One database. Opening it brings its tables up to date; `create` makes a SQLite file that is not there.

    DataError where there is none, or it is of a later release; StorageError where the machine or the server refuses.
    """

    def __init__(self, where: Path | str | sa.URL, *, create: bool = False) -> None:
        self.url = sa.URL.create("sqlite", database=str(where)) if isinstance(where, Path) else address(where)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.name = str(self.url.database) if self.is_sqlite else self.url.set(query={}).render_as_string(hide_password=True)
        if self.is_sqlite:
            self._find_file(Path(str(self.url.database)), create)
        self.engine = _engine(self.url)
        self._mine = threading.local()
        self._bring_up_to_date(create)

    def close(self) -> None:
        self.engine.dispose()

    def begin(self, *, writing: bool = False, lock: str = "rows", long: bool = False) -> Transaction:
        """One transaction. `writing` takes a lock at its beginning, so that what it reads cannot be changed under it: on SQLite the database's,
        on PostgreSQL the one named `lock` among those who write so. `long`: bulk work, to which no statement time-out applies."""
        shared = self._joined() or (None if writing else getattr(self._mine, "shared", None))
        return Transaction(self, lock if writing else "", long, shared)

    def _joined(self) -> sa.Connection | None:
        joined = _JOINED.get()
        return joined[1] if joined is not None and joined[0] == self.url else None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, what this thread reads is read in one transaction: a page is of one moment, and pays once for beginning and ending. Who writes
        inside has a transaction of its own, whose rows the readings of this block need not see."""
        if getattr(self._mine, "shared", None) is not None or self._joined() is not None:
            yield
            return
        with self.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            self._mine.shared = connection
            try:
                yield
            finally:
                self._mine.shared = None

    def load(self, connection: sa.Connection, table: sa.Table, columns: Mapping[str, Any]) -> int:
        """`load`, for those who hold the database."""
        return load(connection, table, columns)

    def _find_file(self, path: Path, create: bool) -> None:
        if path.is_file():
            return
        if not create:
            raise DataError(f"no registry at {path}; run `openami demo`, or name the data folder that holds it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"database {path} cannot be made ({error.strerror}); give a writable data folder") from error

    def _bring_up_to_date(self, create: bool) -> None:
        heads, known = _steps()
        with self.begin() as connection:
            if not self.is_sqlite and (encoding := connection.exec_driver_sql("SHOW server_encoding").scalar_one()) != "UTF8":
                raise InputError(f"database {self.name} keeps text as {encoding}; make it with CREATE DATABASE ... ENCODING 'UTF8'")
            found = set(sa.inspect(connection).get_table_names())
            if not create and not found:
                raise DataError(f"database {self.name} does not hold what it should (it has no tables); restore it from a backup")
            versions = (
                set(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
                if "alembic_version" in found
                else set()
            )
        if later := versions - known:
            raise DataError(
                f"database {self.name} is of a later release (it has {', '.join(sorted(later))}, which this one does not know); use that release"
            )
        if versions == heads:
            return
        if self.is_sqlite:
            with self.begin() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # stays with the file: nobody who reads waits for one who writes
        with self.begin(writing=True, lock="migrations", long=True) as connection:
            from .migrations import upgrade

            upgrade(connection)


class Transaction:
    """A transaction whose database errors become ours, with the database named."""

    def __init__(self, database: Database, lock: str, long: bool, shared: sa.Connection | None = None) -> None:
        """shared: a connection whose transaction this one is a part of; who began that one ends it. A part that writes can be undone alone."""
        self._database, self._lock, self._long, self._shared = database, lock, long, shared

    def __enter__(self) -> sa.Connection:
        if self._shared is not None:
            if self._lock:
                self._part = self._shared.begin_nested()
                hold(self._shared, self._lock)
            return self._shared
        try:
            self._transaction = self._database.engine.begin()
            connection = self._transaction.__enter__()
        except sa.exc.DBAPIError as error:
            raise self._ours(error) from error
        try:
            if self._database.is_sqlite:
                if self._lock:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                if self._long:
                    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                if self._lock:
                    hold(connection, self._lock)
            return connection
        except sa.exc.DBAPIError as error:
            self._transaction.__exit__(type(error), error, None)
            raise self._ours(error) from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if self._shared is None:
                self._transaction.__exit__(kind, error, trace)
            elif self._lock:
                self._part.__exit__(kind, error, trace)
        except sa.exc.DBAPIError as failed:
            raise self._ours(failed) from failed
        if isinstance(error, sa.exc.DBAPIError):
            raise self._ours(error) from error
        if isinstance(error, ValueError | TypeError):
            raise DataError(f"database {self._database.name} does not hold what it should ({error}); restore it from a backup") from error

    def _ours(self, error: sa.exc.DBAPIError) -> DataError | RequestError | StorageError:
        diagnosis = getattr(error.orig, "diag", None)
        text = (diagnosis.message_primary if diagnosis else None) or str(error.orig).strip().split("\n")[0]  # details would quote the row
        where = f"database {self._database.name}"
        if isinstance(error, sa.exc.IntegrityError):
            return RequestError(f"{where} refuses these rows ({text}); each may come once, and what it refers to must be there")
        refused = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError)
        if (refused and not self._database.is_sqlite) or any(word in text for word in OUT_OF_ORDER):
            way = (
                "free space or give a writable data folder"
                if self._database.is_sqlite
                else "see that its server runs and lets us in, then try again"
            )
            return StorageError(f"{where} cannot be used ({text}); {way}")
        return DataError(f"{where} does not hold what it should ({text}); restore it from a backup")


@contextmanager
def joining(database: Database, connection: sa.Connection) -> Iterator[None]:
    """Inside, every transaction of `database` is a part of the one on `connection`, also in threads that are started in this context: what is
    looked at and what is done then are one, though neither knows of the other."""
    before = _JOINED.set((database.url, connection))
    try:
        yield
    finally:
        _JOINED.reset(before)


def hold(connection: sa.Connection, lock: str) -> None:
    """Take another writer's lock too, until the transaction ends; on SQLite who writes holds it already."""
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(f"openami {lock}".encode()))))


def load(connection: sa.Connection, table: sa.Table, columns: Mapping[str, Any]) -> int:
    """Insert many rows, given by column (Arrow or NumPy array, or a sequence; None = null); gives how many. COPY on PostgreSQL."""
    rows = pa.table({name: _arrow(values, table.c[name].type) for name, values in columns.items()})
    if rows.num_rows:
        (_insert_many if connection.dialect.name == "sqlite" else _copy)(connection, table, rows)
    return int(rows.num_rows)


def load_columns(connection: sa.Connection, table: sa.Table, columns: Sequence[Any]) -> None:
    """`load` for those who have the database's own values: all columns of the table in its order, each a list, or one value that all rows share
    (the first is a list); days as ISO text."""
    if connection.dialect.name == "sqlite":
        rows = zip(*(each if isinstance(each, list) else repeat(each) for each in columns), strict=False)
        connection.exec_driver_sql(_insertion(table.name, [column.name for column in table.c]), list(rows))
        return
    size = len(columns[0])
    arrays = [pa.array(each) if isinstance(each, list) else pa.repeat(each, size) for each in columns]
    _copy(connection, table, pa.table(dict(zip((column.name for column in table.c), arrays, strict=True))))


def raw_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Any]:
    """Rows as the driver has them: of a million, SQLAlchemy's would cost as much as the database. Days are texts on SQLite."""
    cursor: Any = connection.execute(query).cursor
    found: list[Any] = cursor.fetchall()
    return found


def number_columns(connection: sa.Connection, query: sa.Select[Any]) -> list[Int64]:
    """The columns of a query of whole numbers without nulls, int64 each, in the order in which the database comes upon the rows. It joins each column
    into one text, so that no row becomes an object: of a quarter of a million that is a third of the time, and other threads go on meanwhile."""
    found = query.subquery()
    join = sa.func.group_concat if connection.dialect.name == "sqlite" else sa.func.string_agg
    texts = connection.execute(sa.select(*(join(sa.cast(column, sa.Text()), ",") for column in found.c))).one()
    return [np.fromstring(text or "", np.int64, sep=",") for text in texts]


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the connection's dialect (both spell it alike)."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def upsert(connection: sa.Connection, table: sa.Table, row: Mapping[str, object], *key: str) -> sa.Insert:
    """Insert `row`, or change the one that is there under `key`."""
    change = insert(connection, table).values(dict(row))
    set_ = {name: change.excluded[name] for name in row if name not in key}
    made: sa.Insert = change.on_conflict_do_update(index_elements=list(key), set_=set_)
    return made


def among(connection: sa.Connection, column: sa.ColumnClause[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """`column` (of a table that the statement selects from) is one of `values`: one parameter, so that the statement is the same however many
    there are, and prepared once. As text, because building it costs a third of what building it of elements does."""
    quoted, table, listed = connection.dialect.identifier_preparer.quote, column.table, list(values)
    if not isinstance(table, sa.TableClause | sa.Alias):
        raise TypeError(f"{column} is no table's column; name one that the statement selects from")
    name = f"{quoted(table.name)}.{quoted(column.name)}"
    if connection.dialect.name != "sqlite":
        return _text(f"{name} = ANY (:among)", _array("among", listed, column.type))
    return _text(f"{name} IN (SELECT value FROM json_each(:among))", sa.bindparam("among", json.dumps(listed), unique=True))  # noqa: S608 - our own names


def rows_of(table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as something to select from, on PostgreSQL: one array a column, so that the statement is the same however many there are."""
    arrays = [_array(name, [row[name] for row in rows], table.c[name].type) for name in rows[0]]
    return sa.func.unnest(*arrays).table_valued(*rows[0]).render_derived()


def put(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str] = (), change: Sequence[str] = ()
) -> None:
    """Insert some rows (the columns are the first one's) as one statement; where one is there under `key`, its columns `change` become the new
    ones. For thousands of rows there is `load`."""
    if not rows:
        return
    statement = insert(connection, table)
    if connection.dialect.name != "sqlite":
        given = rows_of(table, rows)
        statement = statement.from_select(list(rows[0]), sa.select(*(given.c[name] for name in rows[0])))
    if key:
        statement = statement.on_conflict_do_update(index_elements=list(key), set_={name: statement.excluded[name] for name in change})
    if connection.dialect.name == "sqlite":
        connection.execute(statement, list(rows))
    else:
        connection.execute(statement)


def _text(text: str, value: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
    return sa.text(text).bindparams(value)  # type: ignore[return-value]  # good wherever a condition is


def _array(name: str, values: list[Any], kind: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    plain = sa.Text() if isinstance(kind, sa.Text) else kind  # an array has no collation: what it is compared with has
    return sa.bindparam(name, values, postgresql.ARRAY(plain), unique=True)


# -- addresses ----------------------------------------------------------------------------------------------------------------------


def address(text: str | sa.URL) -> sa.URL:
    """A database's address as it is used; InputError where it is none of ours."""
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise InputError("the database's address cannot be read; give postgresql+psycopg://user@host/database, or leave it out") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InputError(f"a database by {url.drivername} is not known; give postgresql+psycopg://user@host/database, or sqlite:///file")
    return url


def refer(text: str, what: str) -> str:
    """What a setting refers to: `env:NAME` an environment variable, `file:PATH` a file's content; any other text is itself.

    InputError, with `what` named, where it is not there.
    """
    kind, _, name = text.partition(":")
    if kind == "env":
        if not (found := os.environ.get(name)):
            raise InputError(f"{what} refers to the environment variable {name}, which is not set; set it")
        return found
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(
                f"{what} refers to the file {name}, which cannot be read ({error.strerror}); mend the path or its rights"
            ) from None
    return text


def configured(setting: str | None, file: Path) -> sa.URL:
    """Where a deployment's database is: the environment variable OPENAMI_DATABASE before `setting` (`database` in openami.toml) before the
    SQLite `file`. A setting with a password in it is refused: it belongs behind `env:` or `file:`."""
    if text := os.environ.get(ENVIRONMENT):
        return address(text)
    if not setting:
        return sa.URL.create("sqlite", database=str(file))
    url = address(refer(setting, "database in openami.toml"))
    if url.password and not setting.startswith(("env:", "file:")):
        raise InputError("database in openami.toml holds a password; write env:NAME or file:PATH there, and the address where that points")
    return url


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, max_overflow=READERS)

        @sa.event.listens_for(engine, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=FULL")  # a commit is on disk
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            connection.execute("PRAGMA recursive_triggers=ON")  # what may not be deleted may not be replaced either

        return engine
    timeouts = {
        "statement_timeout": STATEMENT_TIMEOUT_S,
        "lock_timeout": LOCK_TIMEOUT_S,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_S,
    }
    options = " ".join([*(f"-c {name}={1000 * seconds}" for name, seconds in timeouts.items()), "-c timezone=UTC"])
    try:
        return sa.create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_S, "application_name": "openami", "options": options, **LINE}
        )
    except ModuleNotFoundError:
        raise InputError("PostgreSQL needs its driver; install openami[postgres]") from None


def _steps() -> tuple[set[str], set[str]]:
    """(the last step of every chapter, all steps), told by the names of their files."""
    names = [entry.name.removesuffix(".py") for entry in resources.files(__package__).joinpath("migrations/versions").iterdir()]
    known = {name for name in names if re.fullmatch(r"[a-z_]+_\d{4}", name)}
    last: dict[str, str] = {}
    for name in sorted(known):
        last[name[:-5]] = name
    return set(last.values()), known


# -- bulk ---------------------------------------------------------------------------------------------------------------------------


def _arrow(values: Any, kind: sa.types.TypeEngine[Any]) -> Any:
    """A column as Arrow, in the type that its table's column asks for."""
    wanted = next(
        (
            arrow
            for sql, arrow in (
                (sa.Boolean, pa.bool_()),
                (sa.Date, pa.date32()),
                (sa.LargeBinary, pa.binary()),
                (sa.Integer, pa.int64()),
                (sa.Float, pa.float64()),
                (sa.DateTime, pa.timestamp("us")),
            )
            if isinstance(kind, sql)
        ),
        pa.string(),
    )
    if isinstance(values, Sequence | Iterable) and not hasattr(values, "dtype") and not isinstance(values, pa.Array | pa.ChunkedArray):
        listed = list(values)
        return pa.array([None if v is None else str(v) for v in listed] if wanted == pa.string() else listed, wanted)
    given = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return given if given.type == wanted else given.cast(wanted)


def _insert_many(connection: sa.Connection, table: sa.Table, rows: Any) -> None:
    statement = _insertion(table.name, rows.column_names)
    for at in range(0, rows.num_rows, CHUNK):
        part = rows.slice(at, CHUNK)
        columns = [_for_sqlite(column).to_pylist() for column in part.columns]
        connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))


def _insertion(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'  # noqa: S608 - our own names


def _for_sqlite(column: Any) -> Any:
    """Dates and instants as SQLAlchemy writes them there."""
    if pa.types.is_date(column.type):
        return column.cast(pa.string())
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%d %H:%M:%S")
    return column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column


def _copy(connection: sa.Connection, table: sa.Table, rows: Any) -> None:
    """As CSV: Arrow writes it quickly, and an unquoted empty field is null."""
    import pyarrow.csv

    names = ", ".join(f'"{name}"' for name in rows.column_names)
    plain = [_hexadecimal(column) if pa.types.is_binary(column.type) else column for column in rows.columns]
    text = pa.table(dict(zip(rows.column_names, plain, strict=True)))
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    driver: Any = connection.connection.driver_connection
    statement = f'COPY "{table.name}" ({names}) FROM STDIN (FORMAT csv)'
    raised: Any = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for at in range(0, text.num_rows, CHUNK):
                sink = pa.BufferOutputStream()
                pyarrow.csv.write_csv(text.slice(at, CHUNK), sink, options)
                copy.write(memoryview(sink.getvalue()))
    except raised as error:  # the driver's own way; `Transaction` knows SQLAlchemy's
        raise sa.exc.DBAPIError.instance(statement, None, error, raised, dialect=connection.dialect) from error


def _hexadecimal(column: Any) -> Any:
    """Octets as PostgreSQL reads them in a text. Hashes, which are of one length, are written at once."""
    values = column.combine_chunks()
    lengths = set(pc.unique(pc.binary_length(values)).to_pylist())
    if len(lengths) != 1 or None in lengths:
        return pa.array([None if v is None else f"\\x{v.hex()}" for v in values.to_pylist()])
    size, digits = len(values), 2 * lengths.pop()
    first = np.frombuffer(values.buffers()[1], np.int32)[values.offset]
    octets = memoryview(values.buffers()[2])[first : first + size * digits // 2]
    text = np.empty((size, 2 + digits), np.uint8)
    text[:, :2] = np.frombuffer(b"\\x", np.uint8)
    text[:, 2:] = np.frombuffer(octets.hex().encode(), np.uint8).reshape(size, digits)
    ends = np.arange(size + 1, dtype=np.int32) * np.int32(2 + digits)
    return pa.StringArray.from_buffers(size, pa.py_buffer(ends), pa.py_buffer(text))
