"""Registry, wrapped keys, recharges and the audit trail as SQL rows (SQLAlchemy Core on SQLite); the tables of `contacts.py` and `order_book.py`.

What always holds: registry rows have dates and are never deleted; a row that refers to something refers to what is there; a recharge is posted
once by its transfer id and goes to an account that exists; the audit trail only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ..errors import DataError, RequestError, StorageError
from ..money import TransferRow
from ..registry import Account, Feeder, Meter, NodeKind, PaymentMode, ShardIndex, Transformer, UsagePoint, shard_index

Row = TypeVar("Row")
metadata = sa.MetaData()
feeder = sa.Table("feeder", metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("substation", sa.Text, nullable=False))
transformer = sa.Table(
    "transformer",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("feeder", sa.Text, sa.ForeignKey("feeder.name"), nullable=False),
    sa.Column("rating_kva", sa.Integer, nullable=False),
)
meter = sa.Table(
    "meter",
    metadata,
    sa.Column("serial", sa.Text, primary_key=True),
    sa.Column("system_title", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("maker", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("shard", sa.Integer, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("security_control", sa.Integer, nullable=False),
    sa.Column("phases", sa.Integer, nullable=False),
    sa.UniqueConstraint("shard", "index"),
)
meter_key = sa.Table(
    "meter_key",
    metadata,
    sa.Column("serial", sa.Text, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
)
usage_point = sa.Table(
    "usage_point",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("meter", sa.Text, sa.ForeignKey("meter.serial"), nullable=False, index=True),
    sa.Column("feeder", sa.Text, sa.ForeignKey("feeder.name"), nullable=False),
    sa.Column("transformer", sa.Text, sa.ForeignKey("transformer.name")),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("connected_load_w", sa.Integer, nullable=False),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("until", sa.Date),
    sa.PrimaryKeyConstraint("name", "since"),
)
account = sa.Table(
    "account",
    metadata,
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("usage_point", sa.Text, nullable=False, index=True),
    sa.Column("consumer_name", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("tariff", sa.Text, nullable=False),
    sa.Column("payment_mode", sa.Text, nullable=False),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("mode_since", sa.Date, nullable=False),
    sa.Column("opening_paise", sa.BigInteger, nullable=False),
)
transfer = sa.Table(
    "transfer",
    metadata,
    sa.Column("transfer_id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, sa.ForeignKey("account.number"), nullable=False, index=True),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount_paise", sa.BigInteger, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at_utc", sa.DateTime, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)

invocation_counter = sa.Table(
    "invocation_counter",
    metadata,
    sa.Column("meter", sa.Text, primary_key=True),
    sa.Column("title", sa.LargeBinary, primary_key=True),
    sa.Column("next", sa.BigInteger, nullable=False),
)
line = sa.Table(
    "line",
    metadata,
    sa.Column("serial", sa.Text, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("hdlc", sa.Boolean, nullable=False),
    sa.Column("cell", sa.Text, nullable=False),
    sa.Column("mechanism", sa.Integer, nullable=False),
    sa.Column("general", sa.Boolean, nullable=False),
    sa.Column("password_wrapped", sa.LargeBinary),
    sa.Column("hls_secret_wrapped", sa.LargeBinary),
    sa.Column("transfer_key_wrapped", sa.LargeBinary),
)
contact = sa.Table(
    "contact",
    metadata,
    sa.Column("serial", sa.Text, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("heard_s", sa.BigInteger),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
)
association_key = sa.Table(
    "association_key",
    metadata,
    sa.Column("serial", sa.Text, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("client", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
)
meter_order = sa.Table(
    "meter_order",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("meter", sa.Text, sa.ForeignKey("meter.serial"), nullable=False, index=True),
    sa.Column("requested_s", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("wish", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
)
order_step = sa.Table(
    "order_step",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("meter_order.order_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)


class Rows:
    """The SQL database of one deployment."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise DataError(f"no registry at {path}; run `openami demo`, or name the data folder that holds it")
        if create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"database {path} cannot be made ({error.strerror}); give a writable data folder") from error
        self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
        sa.event.listen(self._engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
        if create:
            with self._begin() as connection:
                metadata.create_all(connection)

    def close(self) -> None:
        self._engine.dispose()

    def begin(self, *, writing: bool = False) -> _Explained:
        """One transaction; `writing` takes the database's write lock at its beginning, so that what it reads cannot be changed under it."""
        return _Explained(self._engine, self.path, writing)

    def complete(self) -> None:
        """Make the tables that a database of an earlier release does not have yet, and let it write ahead: the head-end writes often and little,
        and nobody who reads should wait for it."""
        with self.begin() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            metadata.create_all(connection)

    def _begin(self) -> _Explained:
        return self.begin()

    def add_registry(
        self,
        feeders: Iterable[Feeder],
        transformers: Iterable[Transformer],
        meters: Iterable[Meter],
        points: Iterable[UsagePoint],
        accounts: Iterable[Account],
        keys: Iterable[tuple[str, bytes, bytes]],
    ) -> None:
        """Everything or nothing. keys: (serial, wrapped encryption key, wrapped authentication key)."""
        with self._begin() as connection:
            for table, rows in (
                (feeder, feeders),
                (transformer, transformers),
                (meter, meters),
                (usage_point, points),
                (account, accounts),
            ):
                values = [asdict(row) for row in rows]
                if values:
                    connection.execute(table.insert(), values)
            wrapped = [{"serial": s, "ek_wrapped": ek, "ak_wrapped": ak} for s, ek, ak in keys]
            if wrapped:
                connection.execute(meter_key.insert(), wrapped)

    def post(self, transfers: Iterable[TransferRow]) -> None:
        """Post recharges and other transfers, all or none: once by transfer id, however often they are handed in.

        RequestError where an id comes again with other content (a posted row is never changed), or an account is not there.
        """
        handed: dict[str, TransferRow] = {}
        for row in transfers:
            _refuse_other(handed.setdefault(row.transfer_id, row), row)
        with self._begin() as connection:
            for at in range(0, len(handed), 500):
                part = list(handed)[at : at + 500]
                known = sa.select(transfer).where(transfer.c.transfer_id.in_(part))
                posted = {row.transfer_id: TransferRow(*row) for row in connection.execute(known)}
                for row in posted.values():
                    _refuse_other(row, handed[row.transfer_id])
                if fresh := [asdict(handed[k]) for k in part if k not in posted]:
                    connection.execute(transfer.insert(), fresh)

    def note(self, at_utc: Any, who: str, action: str, subject: str, why: str) -> None:
        """One line in the audit trail."""
        with self._begin() as connection:
            connection.execute(audit.insert(), {"at_utc": at_utc, "who": who, "action": action, "subject": subject, "why": why})

    def feeders(self) -> list[Feeder]:
        return self._all(sa.select(feeder).order_by(feeder.c.name), lambda row: Feeder(*row))

    def transformers(self) -> list[Transformer]:
        return self._all(sa.select(transformer).order_by(transformer.c.name), lambda row: Transformer(*row))

    def meters(self) -> list[Meter]:
        return self._all(sa.select(meter).order_by(meter.c.shard, meter.c.index), lambda row: Meter(*row))

    def usage_points(self) -> list[UsagePoint]:
        query = sa.select(usage_point).order_by(usage_point.c.name, usage_point.c.since)
        return self._all(query, lambda r: UsagePoint(r.name, NodeKind(r.kind), *r[2:]))

    def accounts(self) -> list[Account]:
        query = sa.select(account).order_by(account.c.number)
        return self._all(query, lambda r: Account(**{**r._mapping, "payment_mode": PaymentMode(r.payment_mode)}))

    def wrapped_keys(self) -> dict[str, tuple[bytes, bytes]]:
        """serial -> (wrapped encryption key, wrapped authentication key)."""
        return dict(self._all(sa.select(meter_key), lambda r: (r.serial, (r.ek_wrapped, r.ak_wrapped))))

    def transfers(self, first: date, last: date) -> list[TransferRow]:
        """Transfers of the days from `first` to `last`, both included."""
        query = sa.select(transfer).where(transfer.c.day.between(first, last)).order_by(transfer.c.day, transfer.c.transfer_id)
        return self._all(query, lambda row: TransferRow(*row))

    def shard_index(self, shard: int, day: date) -> ShardIndex:
        """The registry of `shard` on `day` as arrays."""
        return shard_index(shard, day, self.feeders(), self.transformers(), self.meters(), self.usage_points())

    def shards(self) -> list[int]:
        return self._all(sa.select(meter.c.shard).distinct().order_by(meter.c.shard), lambda row: int(row[0]))

    def _all(self, query: sa.Select[Any], make: Callable[[Any], Row]) -> list[Row]:
        with self._begin() as connection:
            return [make(row) for row in connection.execute(query)]


def _refuse_other(posted: TransferRow, again: TransferRow) -> None:
    if posted != again:
        raise RequestError(
            f"transfer {again.transfer_id} is posted as {posted.amount_paise} paise to account {posted.account} on {posted.day}, and comes again "
            f"as {again.amount_paise} paise to {again.account} on {again.day}; a posted row is never changed: post an adjustment under another id"
        )


class _Explained:
    """One transaction whose database errors become ours, with the file named."""

    def __init__(self, engine: sa.Engine, path: Path, writing: bool) -> None:
        self._engine, self._path, self._writing = engine, path, writing

    def __enter__(self) -> sa.Connection:
        try:
            self._transaction = self._engine.begin()
            connection = self._transaction.__enter__()
        except sa.exc.DatabaseError as error:
            raise self._ours(error) from error
        try:
            if self._writing:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            return connection
        except sa.exc.DatabaseError as error:
            self._transaction.__exit__(type(error), error, None)
            raise self._ours(error) from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._transaction.__exit__(kind, error, trace)
        except sa.exc.DatabaseError as failed:
            raise self._ours(failed) from failed
        if isinstance(error, sa.exc.DatabaseError):
            raise self._ours(error) from error
        if isinstance(error, ValueError | TypeError):
            raise DataError(f"database {self._path} does not hold what it should ({error}); restore it from a backup") from error

    def _ours(self, error: sa.exc.DatabaseError) -> DataError | RequestError | StorageError:
        text = str(error.orig)
        if isinstance(error, sa.exc.IntegrityError):
            return RequestError(
                f"database {self._path} refuses these rows ({text}); each may come once, and what it refers to must be there"
            )
        if "readonly" in text or "full" in text or "unable to open" in text or "disk I/O" in text or "locked" in text:
            return StorageError(f"database {self._path} cannot be used ({text}); free space or give a writable data folder")
        return DataError(f"database {self._path} does not hold what it should ({text}); restore it from a backup")
