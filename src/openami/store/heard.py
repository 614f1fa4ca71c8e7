"""What the head-end has heard beside block load, as SQL rows: events, registers, status words; and how far each service level has come.

What always holds: everything here is derived from frames and pulls that the journal holds, so writing it again changes nothing: an event is one by
(meter, time, bit or code, on or off), a register row by (kind, stamp, meter), and the first claim stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from ..readings import MISSING64, Int64
from .rows import Rows, contact, meter
from .sql import TEXT, among, insert, metadata, number_columns

meter_event = sa.Table(
    "meter_event",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("at_s", sa.BigInteger, primary_key=True),
    sa.Column("code", sa.Integer, primary_key=True),
    sa.Column("bit", sa.Integer, primary_key=True),
    sa.Column("occurred", sa.Boolean, primary_key=True),
    sa.Column("text", TEXT, nullable=False),
    sa.Column("received_s", sa.BigInteger, nullable=False),
    sa.Column("source", TEXT, nullable=False),
    sa.Index("meter_event_at", "at_s"),
    sa.Index("meter_event_received", "received_s"),
)
register_reading = sa.Table(
    "register_reading",
    metadata,
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("stamp_s", sa.BigInteger, primary_key=True),
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("import_wh", sa.BigInteger),
    sa.Column("import_vah", sa.BigInteger),
    sa.Column("export_wh", sa.BigInteger),
    sa.Column("export_vah", sa.BigInteger),
    sa.Column("rest", TEXT, nullable=False),
    sa.Column("received_s", sa.BigInteger, nullable=False),
    sa.Column("source", TEXT, nullable=False),
    sqlite_with_rowid=False,  # a midnight's rows lie side by side, by serial: found by key in a table in order of arrival they cost twice as much
)
register_stamp = sa.Table(
    "register_stamp",
    metadata,
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("stamp_s", sa.BigInteger, primary_key=True),
    sa.Column("additions", sa.BigInteger, nullable=False),
)
"""How often daily or billing registers of a stamp were written: where that has not changed, no row has come."""
register_told = sa.Table(
    "register_told",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("first_s", sa.BigInteger, primary_key=True),
    sa.Column("last_s", sa.BigInteger, primary_key=True),
    sa.Column("additions", sa.BigInteger, nullable=False),
    sa.Column("rises", sa.BigInteger, nullable=False),
)
"""What VEE was told of the registers of a shard from one stamp to another: how many rises are known, after how many additions to both stamps."""
status_word = sa.Table(
    "status_word",
    metadata,
    sa.Column("serial", TEXT, sa.ForeignKey("meter.serial"), primary_key=True),
    sa.Column("word", TEXT, nullable=False),
    sa.Column("at_s", sa.BigInteger, nullable=False),
)
level_mark = sa.Table(
    "level_mark",
    metadata,
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("since_s", sa.BigInteger, primary_key=True),
    sa.Column("at_s", sa.BigInteger, primary_key=True),
    sa.Column("due", sa.BigInteger, nullable=False),
    sa.Column("done", sa.BigInteger, nullable=False),
)
MIDNIGHTS = ("daily", "billing")
"""The kinds of registers that tell what a meter stood at as a day ended."""
REGISTERS = ("import_wh", "import_vah", "export_wh", "export_vah")


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """at_s: when, by the meter's clock, UTC seconds. code: IS 15959's event code, 0 = the status bit has none; bit: of the event status word,
    -1 = from an event log; occurred: False = it is over. received_s: when we were told; source: "push" or "pull"."""

    serial: str
    at_s: int
    code: int
    bit: int
    occurred: bool
    text: str
    received_s: int
    source: str


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """A meter's registers at one instant. kind: "daily", "billing" or "instantaneous"; stamp_s: UTC seconds; the energies are cumulative, whole Wh
    and VAh, None where the meter did not say; rest: JSON object, "OBIS:attribute" -> number in its unit or text."""

    kind: str
    stamp_s: int
    serial: str
    import_wh: int | None
    import_vah: int | None
    export_wh: int | None
    export_vah: int | None
    rest: str
    received_s: int
    source: str

    @property
    def others(self) -> dict[str, Any]:
        """What `rest` holds."""
        found: dict[str, Any] = json.loads(self.rest)
        return found


@dataclass(frozen=True, slots=True)
class RegistersTold:
    """What was told of a shard's registers between two stamps. additions: to both stamps' rows until then; rises: how many are known of it."""

    first_s: int
    last_s: int
    additions: int
    rises: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How many of what was due at `since_s` were there at `at_s` (UTC seconds)."""

    kind: str
    since_s: int
    at_s: int
    due: int
    done: int


class Heard:
    """These tables of a deployment's database."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def note(
        self,
        events: Sequence[MeterEvent] = (),
        registers: Sequence[RegisterReading] = (),
        words: Mapping[str, tuple[str, int]] | None = None,
        heard_s: Mapping[str, int] | None = None,
    ) -> None:
        """All of it in one transaction. words: serial -> (event status word, its time); heard_s: serial -> when it was heard, UTC seconds, which
        never goes back. Of "instantaneous" only each meter's newest row is kept."""
        if not (events or registers or words or heard_s):
            return
        live = {one.serial: one for one in registers if one.kind == "instantaneous"}
        kept = [one for one in registers if one.kind != "instantaneous"] + list(live.values())
        with self._rows.begin(writing=True) as connection:
            if events:
                connection.execute(insert(connection, meter_event).on_conflict_do_nothing(), [asdict(one) for one in events])
            if live:
                old = sa.delete(register_reading).where(
                    register_reading.c.kind == "instantaneous",
                    register_reading.c.serial == sa.bindparam("s"),
                    register_reading.c.stamp_s < sa.bindparam("at"),
                )
                connection.execute(old, [{"s": one.serial, "at": one.stamp_s} for one in live.values()])
            if kept:
                connection.execute(insert(connection, register_reading).on_conflict_do_nothing(), [asdict(one) for one in kept])
            if words:
                change = insert(connection, status_word)
                newer = change.on_conflict_do_update(
                    index_elements=["serial"],
                    set_={"word": change.excluded.word, "at_s": change.excluded.at_s},
                    where=change.excluded.at_s >= status_word.c.at_s,
                )
                connection.execute(newer, [{"serial": s, "word": word, "at_s": at_s} for s, (word, at_s) in words.items()])
            if heard_s:
                _note_heard(connection, heard_s)
            if stamps := sorted({(one.kind, one.stamp_s) for one in kept if one.kind in MIDNIGHTS}):
                _note_stamps(connection, stamps)  # last, and in order: who writes of the same midnight waits for its row

    def events(
        self,
        first_s: int = 0,
        last_s: int = 1 << 40,
        serial: str | None = None,
        bits: Iterable[int] | None = None,
        limit: int | None = None,
        after_received_s: int | None = None,
        codes: Iterable[int] | None = None,
    ) -> list[MeterEvent]:
        """Events between two times of the meters' clocks (both included), newest first. bits: only of these bits of the status word;
        codes: only of these event codes; after_received_s: only what we were told later than that."""
        query = sa.select(meter_event).where(meter_event.c.at_s.between(first_s, last_s))
        if serial is not None:
            query = query.where(meter_event.c.serial == serial)
        if bits is not None:
            query = query.where(meter_event.c.bit.in_(list(bits)))
        if codes is not None:
            query = query.where(meter_event.c.code.in_(list(codes)))
        if after_received_s is not None:
            query = query.where(meter_event.c.received_s > after_received_s)
        newest = query.order_by(
            meter_event.c.at_s.desc(), meter_event.c.serial, meter_event.c.code, meter_event.c.bit, meter_event.c.occurred
        )
        with self._rows.begin() as connection:
            return [MeterEvent(*row) for row in connection.execute(newest.limit(limit))]

    def status_words(self) -> dict[str, str]:
        """serial -> its last event status word, "0" and "1", bit 0 first."""
        with self._rows.begin() as connection:
            return {row.serial: row.word for row in connection.execute(sa.select(status_word))}

    def registers(self, kind: str, first_s: int = 0, last_s: int = 1 << 40, serial: str | None = None) -> list[RegisterReading]:
        """Register rows of a kind between two stamps, both included, by stamp and meter."""
        query = sa.select(register_reading).where(register_reading.c.kind == kind, register_reading.c.stamp_s.between(first_s, last_s))
        if serial is not None:
            query = query.where(register_reading.c.serial == serial)
        with self._rows.begin() as connection:
            ordered = query.order_by(register_reading.c.stamp_s, register_reading.c.serial)
            return [RegisterReading(*row) for row in connection.execute(ordered)]

    def register_differences(self, shard: int, first_s: int, last_s: int, register: str = "import_wh") -> tuple[Int64, Int64]:
        """What the cumulative registers of a shard's meters grew from `first_s` to `last_s` (a day's two midnights): the meters' indexes and their
        rises, int64 both, of the meters whose both readings are there. From daily and billing rows alike; where both tell one midnight, the
        higher holds."""
        with self._rows.begin() as connection:
            if (query := _both_ends(connection, first_s, last_s, register)) is None:
                return np.zeros(0, np.int64), np.zeros(0, np.int64)
            index, before, after = number_columns(connection, query.where(meter.c.shard == shard))
        both = np.flatnonzero((before != MISSING64) & (after != MISSING64))
        both = both[np.argsort(index[both], kind="stable")]
        return index[both], after[both] - before[both]

    def additions(self, stamps: Iterable[int]) -> dict[int, int]:
        """stamp -> how often daily and billing registers with it were written, of those stamps with which there are any. It grows with every
        row that comes, in that row's transaction: what is read after it has at least the rows that it counts."""
        with self._rows.begin() as connection:
            own = register_stamp.c
            added = sa.select(own.stamp_s, sa.func.sum(own.additions)).where(among(connection, own.stamp_s, stamps)).group_by(own.stamp_s)
            return {stamp: int(count) for stamp, count in connection.execute(added)}

    def told(self, shard: int) -> dict[tuple[int, int], RegistersTold]:
        """What was told of a shard's registers, by its two stamps."""
        own = register_told.c
        query = sa.select(own.first_s, own.last_s, own.additions, own.rises).where(own.shard == shard)
        with self._rows.begin() as connection:
            return {(row.first_s, row.last_s): RegistersTold(*row) for row in connection.execute(query)}

    def note_told(self, shard: int, told: Sequence[RegistersTold]) -> None:
        """Write down what was told of a shard's registers, in place of what was told of the same two stamps before."""
        if told:
            with self._rows.begin(writing=True) as connection:
                change = insert(connection, register_told)
                fresh = {name: change.excluded[name] for name in ("additions", "rises")}
                newer = change.on_conflict_do_update(index_elements=["shard", "first_s", "last_s"], set_=fresh)
                connection.execute(newer, [{"shard": shard, **asdict(one)} for one in told])

    def count_registers(self, kind: str, stamp_s: int) -> int:
        """Of how many meters there is a row with that stamp."""
        query = sa.select(sa.func.count()).where(register_reading.c.kind == kind, register_reading.c.stamp_s == stamp_s)
        with self._rows.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def serials_with(self, kind: str, stamp_s: int) -> set[str]:
        """The meters with such a row."""
        query = sa.select(register_reading.c.serial).where(register_reading.c.kind == kind, register_reading.c.stamp_s == stamp_s)
        with self._rows.begin() as connection:
            return set(connection.execute(query).scalars())

    def mark(self, marks: Sequence[Mark]) -> None:
        """How far things are; once for each (kind, since, at)."""
        if marks:
            with self._rows.begin(writing=True) as connection:
                connection.execute(insert(connection, level_mark).on_conflict_do_nothing(), [asdict(one) for one in marks])

    def marks(self, kind: str, since_s: int) -> list[Mark]:
        """In order of time."""
        query = sa.select(level_mark).where(level_mark.c.kind == kind, level_mark.c.since_s == since_s).order_by(level_mark.c.at_s)
        with self._rows.begin() as connection:
            return [Mark(*row) for row in connection.execute(query)]


def _both_ends(connection: sa.Connection, first_s: int, last_s: int, register: str) -> sa.Select[Any] | None:
    """A query of every meter's index and its register at two stamps, the higher where daily and billing rows tell it, MISSING64 where none does;
    None where nobody tells one of the stamps. Outer joins without a condition on what they find: SQLite must look up the meters of a shard, not read
    all shards' registers and look for theirs."""
    found: sa.FromClause = meter
    ends = []
    for stamp_s in (first_s, last_s):
        kinds = connection.execute(sa.select(register_stamp.c.kind).where(register_stamp.c.stamp_s == stamp_s)).scalars().all()
        if not kinds:
            return None
        told = []
        for kind in kinds:
            own = register_reading.alias()
            found = found.outerjoin(own, sa.and_(own.c.kind == kind, own.c.stamp_s == stamp_s, own.c.serial == meter.c.serial))
            told.append(sa.func.coalesce(own.c[register], int(MISSING64)))
        ends.append(told[0] if len(told) == 1 else sa.case((told[0] > told[1], told[0]), else_=told[1]))
    return sa.select(meter.c.index, ends[0].label("before"), ends[1].label("after")).select_from(found)


def _note_stamps(connection: sa.Connection, stamps: Sequence[tuple[str, int]]) -> None:
    change = insert(connection, register_stamp)
    more = change.on_conflict_do_update(index_elements=["kind", "stamp_s"], set_={"additions": register_stamp.c.additions + 1})
    connection.execute(more, [{"kind": kind, "stamp_s": stamp_s, "additions": 1} for kind, stamp_s in stamps])


def _note_heard(connection: sa.Connection, heard_s: Mapping[str, int]) -> None:
    change = insert(connection, contact)
    newest = sa.case((contact.c.heard_s > change.excluded.heard_s, contact.c.heard_s), else_=change.excluded.heard_s)
    later = change.on_conflict_do_update(index_elements=["serial"], set_={"heard_s": newest})
    fresh = {"failures": 0, "not_before_s": 0, "problem": ""}
    connection.execute(later, [{"serial": serial, "heard_s": at_s, **fresh} for serial, at_s in heard_s.items()])
