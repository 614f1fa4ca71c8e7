"""What visits to meters found: the labels that suspicions learn from.

What always holds: a row is never changed or removed (triggers hold it); of a meter's visit on a day the newest row holds, so a mistake is put right
by another row; every row says who visited and when it was written down; what was known of the meter's readings before the visit is kept with
it, and nothing of the consumer.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from .audit import Entry, note_in
from .rows import Rows
from .sql import TEXT, metadata

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
inspection = sa.Table(
    "inspection",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("serial", TEXT, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("result", TEXT, nullable=False),
    sa.Column("at_random", sa.Boolean, nullable=False),
    sa.Column("feeder", TEXT, nullable=False),
    sa.Column("features", TEXT, nullable=False),
    sa.Column("who", TEXT, nullable=False),
    sa.Column("note", TEXT, nullable=False),
    sa.Column("made_s", sa.BigInteger, nullable=False),
)
sa.Index("inspection_serial", inspection.c.serial, inspection.c.day)


class Result(StrEnum):
    """What a visit found. THEFT and FAULT: energy that was not counted; INNOCENT: all is well; WRONG_PLACE: it hangs elsewhere;
    NO_ACCESS: nobody could look, from which nothing is learnt."""

    THEFT = "theft"
    FAULT = "fault"
    INNOCENT = "innocent"
    WRONG_PLACE = "wrong_place"
    NO_ACCESS = "no_access"

    @property
    def guilty(self) -> bool | None:
        """Whether energy was not counted; None = the visit does not say."""
        return None if self is Result.NO_ACCESS else self in (Result.THEFT, Result.FAULT)


@dataclass(frozen=True, slots=True)
class Inspection:
    """One visit. day: when; at_random: chosen by lot and not by suspicion; features: number by name (`losses.features.NAMES`) of the days before the
    visit, known ones only, empty = nothing was measured; who: the person who visited; note: in their words; made_s: when it was written down."""

    serial: str
    day: date
    result: Result
    at_random: bool
    feeder: str
    features: dict[str, float]
    who: str
    note: str
    made_s: int


class Inspections:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def note(self, visit: Inspection) -> None:
        """Write a visit down, and in the audit trail that it was."""
        row = {name: getattr(visit, name) for name in ("serial", "day", "at_random", "feeder", "who", "note", "made_s")}
        row |= {"result": str(visit.result), "features": json.dumps(visit.features, sort_keys=True)}
        with self._rows.begin(writing=True) as connection:
            connection.execute(inspection.insert(), row)
            note_in(
                connection, Entry(visit.made_s, visit.who, "", "inspection", visit.serial, f"{visit.day}: {visit.result}; {visit.note}")
            )

    def current(self, *, known_by_s: int | None = None, feeders: Set[str] | None = None) -> list[Inspection]:
        """Every visit as it is known now, or was at an instant; the latest day first. feeders: of these alone."""
        query = sa.select(inspection).order_by(inspection.c.id)
        if known_by_s is not None:
            query = query.where(inspection.c.made_s <= known_by_s)
        with self._rows.begin() as connection:
            newest = {(row.serial, row.day): _visit(row) for row in connection.execute(query)}
        return sorted((v for v in newest.values() if feeders is None or v.feeder in feeders), key=lambda v: (-v.day.toordinal(), v.serial))


def _visit(row: Any) -> Inspection:
    return Inspection(
        row.serial, row.day, Result(row.result), row.at_random, row.feeder, json.loads(row.features), row.who, row.note, row.made_s
    )
