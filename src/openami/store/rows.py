"""Registry and wrapped keys as SQL rows (SQLAlchemy Core); the tables of `contacts.py` and `order_book.py`.

What always holds: registry rows have dates and are never deleted; a row that refers to something refers to what is there; an account
has its place in the ledger (`ledger.py`) from its first day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ..errors import RequestError
from ..money import TransferRow
from ..prepaid.ledger import Book
from ..registry import Account, Feeder, Meter, NodeKind, PaymentMode, Transformer, UsagePoint
from .deployment import Folder
from .ledger import Ledger, as_transfer
from .ledger_bulk import open_accounts
from .ledger_tables import ledger_row, payment_mode
from .sql import TEXT, Database, Transaction, among, configured, load, metadata

Row = TypeVar("Row")
feeder = sa.Table("feeder", metadata, sa.Column("name", TEXT, primary_key=True), sa.Column("substation", TEXT, nullable=False))
transformer = sa.Table(
    "transformer",
    metadata,
    sa.Column("name", TEXT, primary_key=True),
    sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), nullable=False),
    sa.Column("rating_kva", sa.Integer, nullable=False),
)
meter = sa.Table(
    "meter",
    metadata,
    sa.Column("serial", TEXT, primary_key=True),
    sa.Column("system_title", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("maker", TEXT, nullable=False),
    sa.Column("model", TEXT, nullable=False),
    sa.Column("shard", sa.Integer, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("security_control", sa.Integer, nullable=False),
    sa.Column("phases", sa.Integer, nullable=False),
    sa.Column("accuracy_class", sa.Float),
    sa.UniqueConstraint("shard", "index"),
)
meter_key = sa.Table(
    "meter_key",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
)
usage_point = sa.Table(
    "usage_point",
    metadata,
    sa.Column("name", TEXT, nullable=False),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("meter", TEXT, sa.ForeignKey("meter.serial"), nullable=False, index=True),
    sa.Column("feeder", TEXT, sa.ForeignKey("feeder.name"), nullable=False),
    sa.Column("transformer", TEXT, sa.ForeignKey("transformer.name")),
    sa.Column("phase", TEXT, nullable=False),
    sa.Column("connected_load_w", sa.Integer, nullable=False),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("until", sa.Date),
    sa.PrimaryKeyConstraint("name", "since"),
    sa.Index("ix_usage_point_feeder_meter", "feeder", "meter"),
    sa.Index("ix_usage_point_transformer_meter", "transformer", "meter"),
)
account = sa.Table(
    "account",
    metadata,
    sa.Column("number", TEXT, primary_key=True),
    sa.Column("usage_point", TEXT, nullable=False, index=True),
    sa.Column("consumer_name", TEXT, nullable=False),
    sa.Column("language", TEXT, nullable=False),
    sa.Column("tariff", TEXT, nullable=False),
    sa.Column("payment_mode", TEXT, nullable=False),
    sa.Column("since", sa.Date, nullable=False),
    sa.Column("mode_since", sa.Date, nullable=False),
    sa.Column("opening_paise", sa.BigInteger, nullable=False),
)
registry_change = sa.Table(
    "registry_change",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("serial", TEXT),
    sa.Column("mark", TEXT, nullable=False),
)
"""The meters about which something was changed in the tables above, newest last; null = feeders or transformers. Triggers write it."""
invocation_counter = sa.Table(
    "invocation_counter",
    metadata,
    sa.Column("meter", TEXT, primary_key=True),
    sa.Column("title", sa.LargeBinary, primary_key=True),
    sa.Column("next", sa.BigInteger, nullable=False),
)
line = sa.Table(
    "line",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("host", TEXT, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("hdlc", sa.Boolean, nullable=False),
    sa.Column("cell", TEXT, nullable=False),
    sa.Column("mechanism", sa.Integer, nullable=False),
    sa.Column("general", sa.Boolean, nullable=False),
    sa.Column("password_wrapped", sa.LargeBinary),
    sa.Column("hls_secret_wrapped", sa.LargeBinary),
    sa.Column("transfer_key_wrapped", sa.LargeBinary),
)
contact = sa.Table(
    "contact",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("heard_s", sa.BigInteger),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("problem", TEXT, nullable=False),
)
association_key = sa.Table(
    "association_key",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("client", sa.Integer, primary_key=True),
    sa.Column("state", TEXT, primary_key=True),
    sa.Column("order_id", TEXT, nullable=False),
    sa.Column("ek_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("ak_wrapped", sa.LargeBinary, nullable=False),
)
meter_order = sa.Table(
    "meter_order",
    metadata,
    sa.Column("order_id", TEXT, primary_key=True),
    sa.Column("what", TEXT, nullable=False),
    sa.Column("account", TEXT, nullable=False, index=True),
    sa.Column("meter", TEXT, sa.ForeignKey("meter.serial"), nullable=False, index=True),
    sa.Column("requested_s", sa.BigInteger, nullable=False, index=True),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("why", TEXT, nullable=False),
    sa.Column("wish", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before_s", sa.BigInteger, nullable=False),
    sa.Column("problem", TEXT, nullable=False),
)
order_step = sa.Table(
    "order_step",
    metadata,
    sa.Column("order_id", TEXT, sa.ForeignKey("meter_order.order_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.BigInteger, nullable=False, index=True),
    sa.Column("event", TEXT, nullable=False),
    sa.Column("state", TEXT, nullable=False),
    sa.Column("note", TEXT, nullable=False),
)


class Rows:
    """The registry in the SQL database of one deployment: a SQLite file by its path, or a `Database`."""

    def __init__(self, where: Path | Database, *, create: bool = False) -> None:
        self.database = where if isinstance(where, Database) else Database(where, create=create)

    @classmethod
    def of(cls, folder: Folder, *, create: bool = False) -> Rows:
        """Of a data folder: where its `openami.toml` or the environment says, else the SQLite file in it."""
        return cls(Database(configured(folder.load().database, folder.rows), create=create))

    def close(self) -> None:
        self.database.close()

    def begin(self, *, writing: bool = False) -> Transaction:
        """One transaction; `writing` takes the write lock at its beginning, so that what it reads cannot be changed under it."""
        return self.database.begin(writing=writing)

    def add_registry(
        self,
        feeders: Iterable[Feeder],
        transformers: Iterable[Transformer],
        meters: Iterable[Meter],
        points: Iterable[UsagePoint],
        accounts: Iterable[Account],
        keys: Iterable[tuple[str, bytes, bytes]],
        posted_s: int | None = None,
    ) -> None:
        """Everything or nothing. keys: (serial, wrapped encryption key, wrapped authentication key); posted_s: when the accounts' openings are
        posted to the ledger, UTC seconds (None: now)."""
        wrapped = [*keys]
        with self.begin() as connection:
            for table, rows in (
                (feeder, feeders),
                (transformer, transformers),
                (meter, meters),
                (usage_point, points),
                (account, accounts),
            ):
                given = [*rows]
                load(connection, table, {name: [getattr(row, name) for row in given] for name in _names(table)})
            columns = {name: [row[k] for row in wrapped] for k, name in enumerate(_names(meter_key))}
            load(connection, meter_key, columns)
            open_accounts(connection, int(time.time()) if posted_s is None else posted_s)

    def move_point(self, name: str, to: str, since: date) -> None:
        """Hang a usage point on another transformer of its feeder from `since` on; how it hung before stays in the registry, with its dates.

        RequestError where there is no such point now, the transformer is not of its feeder, or it was moved on that day or later already."""
        with self.begin(writing=True) as connection:
            now = sa.and_(usage_point.c.name == name, usage_point.c.until.is_(None))
            row = connection.execute(sa.select(usage_point).where(now)).first()
            if row is None:
                raise RequestError(f"there is no usage point {name} now; look at the registry")
            own = sa.select(transformer.c.name).where(transformer.c.name == to, transformer.c.feeder == row.feeder)
            if connection.execute(own).first() is None:
                raise RequestError(f"transformer {to} is not on feeder {row.feeder} of {name}; a move between feeders is a new connection")
            if row.since >= since or row.transformer == to:
                raise RequestError(f"{name} hangs on {row.transformer} since {row.since}; a move must come later, and to another one")
            connection.execute(usage_point.update().where(now).values(until=since))
            connection.execute(usage_point.insert(), dict(row._mapping) | {"transformer": to, "since": since, "until": None})

    def post(self, transfers: Iterable[TransferRow], posted_s: int | None = None) -> None:
        """Post recharges and other transfers to the ledger, all or none: once by transfer id, however often they are handed in.

        posted_s: when they are posted, UTC seconds (None: now). RequestError where an id comes again with other content (a posted row is
        never changed), an account is not there, or an amount is 0.
        """
        Ledger(self.database).post_all(map(as_transfer, transfers), posted_s)

    def feeders(self) -> list[Feeder]:
        return self._all(sa.select(feeder).order_by(feeder.c.name), lambda row: Feeder(*row))

    def transformers(self) -> list[Transformer]:
        return self._all(sa.select(transformer).order_by(transformer.c.name), lambda row: Transformer(*row))

    def meters(self) -> list[Meter]:
        return self._all(sa.select(meter).order_by(meter.c.shard, meter.c.index), lambda row: Meter(*row))

    def hangs(self, serial: str, day: date) -> tuple[Meter, UsagePoint] | None:
        """A meter and where it hangs on a day; None where there is no such meter, or it hangs nowhere then."""
        query = sa.select(meter, usage_point).join(usage_point, usage_point.c.meter == meter.c.serial)
        width = len(meter.c)
        found = self._all(
            query.where(meter.c.serial == serial, *_holds(day)),
            lambda row: (Meter(*row[:width]), UsagePoint(row[width], NodeKind(row[width + 1]), *row[width + 2 :])),
        )
        return found[0] if found else None

    def phases(self, shard: int, day: date) -> dict[int, str]:
        """The phases on which a shard's meters hang on a day ("R", "Y", "B", "RYB"), by index; only meters that hang somewhere."""
        query = sa.select(meter.c.index, usage_point.c.phase).join(usage_point, usage_point.c.meter == meter.c.serial)
        return dict(self._all(query.where(meter.c.shard == shard, *_holds(day)), tuple))

    def classes(self, shard: int) -> dict[int, float]:
        """The accuracy classes on the nameplates of a shard's meters, by index; only known ones."""
        query = sa.select(meter.c.index, meter.c.accuracy_class).where(meter.c.shard == shard, meter.c.accuracy_class.is_not(None))
        return dict(self._all(query, tuple))

    def note_classes(self, classes: Mapping[str, float]) -> None:
        """Write down the accuracy classes of meters that are there, by serial number; all or none. RequestError where a meter is not there, or a
        class is none (above 0, at most 10)."""
        change = meter.update().where(meter.c.serial == sa.bindparam("of")).values(accuracy_class=sa.bindparam("told"))
        with self.begin(writing=True) as connection:
            for serial, told in classes.items():
                if connection.execute(change, {"of": serial, "told": told}).rowcount != 1:
                    raise RequestError(f"there is no meter {serial} in the registry; no class was written down")

    def usage_points(self) -> list[UsagePoint]:
        query = sa.select(usage_point).order_by(usage_point.c.name, usage_point.c.since)
        return self._all(query, lambda r: UsagePoint(r.name, NodeKind(r.kind), *r[2:]))

    def account(self, number: str, on: date | None = None) -> Account | None:
        """One of `accounts`; None where there is none of that number."""
        found = self.accounts(on, number)
        return found[0] if found else None

    def accounts(self, on: date | None = None, number: str | None = None) -> list[Account]:
        """By number, as they stand now, or with the payment mode that each had on the local day `on`. Before its first conversion an account had the
        other mode, since it began. number: only this one."""
        query = sa.select(account).order_by(account.c.number)
        if number is not None:
            query = query.where(account.c.number == number)
        now = self._all(query, lambda r: Account(**{**r._mapping, "payment_mode": PaymentMode(r.payment_mode)}))
        if on is None or all(a.mode_since <= on for a in now):
            return now
        held = self.modes_on(on, number)
        then = {a.number: held.get(a.number, (a.payment_mode, a.since)) for a in now if a.mode_since > on}
        return [replace(a, payment_mode=then[a.number][0], mode_since=then[a.number][1]) if a.number in then else a for a in now]

    def modes_on(self, on: date, number: str | None = None) -> dict[str, tuple[PaymentMode, date]]:
        """account -> payment mode and since when, on a local day, of the accounts that were converted later. number: only this one."""
        later = sa.select(account.c.number, account.c.since).where(account.c.mode_since > on).subquery()
        query = sa.select(payment_mode.c.account, payment_mode.c.since, payment_mode.c.mode, later.c.since.label("began"))
        query = query.join(later, later.c.number == payment_mode.c.account)
        if number is not None:
            query = query.where(payment_mode.c.account == number)
        found: dict[str, tuple[PaymentMode, date]] = {}
        for row in self._all(query.order_by(payment_mode.c.account, payment_mode.c.since, payment_mode.c.decided_s), lambda r: r):
            if row.since <= on:
                found[row.account] = PaymentMode(row.mode), row.since
            elif row.account not in found:
                before = PaymentMode.POSTPAID if row.mode == PaymentMode.PREPAID else PaymentMode.PREPAID
                found[row.account] = before, row.began
        return found

    def wrapped_keys(self) -> dict[str, tuple[bytes, bytes]]:
        """serial -> (wrapped encryption key, wrapped authentication key)."""
        return dict(self._all(sa.select(meter_key), lambda r: (r.serial, (r.ek_wrapped, r.ak_wrapped))))

    def transfers(self, first: date, last: date) -> list[TransferRow]:
        """What moved balances other than charges on the days from `first` to `last`, both included."""
        return Ledger(self.database).moves(first, last)

    def last_recharges(self, numbers: Sequence[str], first: date, last: date) -> dict[str, int]:
        """account -> its newest recharge [paise], in the order of posting, of the days from `first` to `last`, of the accounts that are named."""
        row, to_balance = ledger_row.c, ledger_row.c.credit == Book.BALANCE.value
        newest = sa.func.row_number().over(partition_by=row.account, order_by=(row.day.desc(), row.number.desc())).label("newest")
        ranked = sa.select(row.account, row.amount_paise, newest).where(row.kind == "recharge", to_balance)
        with self.begin() as connection:
            numbered = ranked.where(row.day.between(first, last), among(connection, row.account, numbers)).subquery()
            query = sa.select(numbered.c.account, numbered.c.amount_paise).where(numbered.c.newest == 1)
            return dict(tuple(found) for found in connection.execute(query))

    def serials(self, shard: int) -> list[str]:
        """The meters of a shard, by their index."""
        return self._all(sa.select(meter.c.serial).where(meter.c.shard == shard).order_by(meter.c.index), lambda row: str(row[0]))

    def shards(self) -> list[int]:
        return self._all(sa.select(meter.c.shard).distinct().order_by(meter.c.shard), lambda row: int(row[0]))

    def _all(self, query: sa.Select[Any], make: Callable[[Any], Row]) -> list[Row]:
        with self.begin() as connection:
            return [make(row) for row in connection.execute(query)]


def _holds(day: date) -> tuple[sa.ColumnElement[bool], ...]:
    """Whether a usage point hangs so on a day."""
    return usage_point.c.since <= day, sa.or_(usage_point.c.until.is_(None), usage_point.c.until > day)


def _names(table: sa.Table) -> list[str]:
    return [column.name for column in table.c]
