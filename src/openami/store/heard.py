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
from .sql import TEXT, insert, metadata, number_columns

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
)
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
            before, after = (_registers_at(connection, shard, at_s, register_reading.c[register]) for at_s in (first_s, last_s))
        both = min(before.size, after.size)
        meter_index = np.flatnonzero((before[:both] != MISSING64) & (after[:both] != MISSING64))
        return meter_index, after[meter_index] - before[meter_index]

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


def _registers_at(connection: sa.Connection, shard: int, stamp_s: int, column: sa.Column[Any]) -> Int64:
    """The daily and billing registers of a shard's meters with one stamp, int64 [meter], the higher where both tell, MISSING64 where none does. Each
    meter is looked up: left to itself, SQLite reads all shards' registers for each shard."""
    own = register_reading.c

    def told(kind: str) -> bool:
        some = sa.select(sa.literal(1)).select_from(register_reading).where(own.kind == kind, own.stamp_s == stamp_s)
        return connection.execute(some.limit(1)).first() is not None

    if not (kinds := [kind for kind in ("daily", "billing") if told(kind)]):
        return np.zeros(0, np.int64)
    of_meter = sa.select(sa.func.max(column)).where(own.kind.in_(kinds), own.stamp_s == stamp_s, own.serial == meter.c.serial)
    value = sa.func.coalesce(of_meter.scalar_subquery(), int(MISSING64))
    index, values = number_columns(connection, sa.select(meter.c.index, value.label("value")).where(meter.c.shard == shard))
    found = np.full(int(index.max(initial=-1)) + 1, MISSING64, np.int64)
    found[index] = values
    return found


def _note_heard(connection: sa.Connection, heard_s: Mapping[str, int]) -> None:
    change = insert(connection, contact)
    newest = sa.case((contact.c.heard_s > change.excluded.heard_s, contact.c.heard_s), else_=change.excluded.heard_s)
    later = change.on_conflict_do_update(index_elements=["serial"], set_={"heard_s": newest})
    fresh = {"failures": 0, "not_before_s": 0, "problem": ""}
    connection.execute(later, [{"serial": serial, "heard_s": at_s, **fresh} for serial, at_s in heard_s.items()])
