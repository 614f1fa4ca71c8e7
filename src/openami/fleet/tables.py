"""What a simulated meter holds, as data: `data/single_phase_meter.toml` read and checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ..cosem.axdr import Tag
from ..cosem.profile import Capture
from ..errors import DataError

FILE = "data/single_phase_meter.toml"


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """A register that measures. class_id: 3, or 4 for a maximum with its time; shown number = quantity / 10**scaler [unit]."""

    obis: str
    class_id: int
    tag: Tag
    scaler: int
    unit: str
    quantity: str


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile: its captured columns in order, and the OBIS code of its scaler profile ("" = none)."""

    obis: str
    name: str
    columns: tuple[Capture, ...]
    scalers: str


@dataclass(frozen=True, slots=True)
class LogRow:
    """An event log 0.0.99.98.{number}.255. measured: rows hold the measured columns too; depth: entries before the oldest falls out."""

    name: str
    number: int
    measured: bool
    depth: int


@dataclass(frozen=True, slots=True)
class MeterTables:
    """Everything of the file. pushes: push setup -> its columns."""

    registers: tuple[RegisterRow, ...]
    profiles: tuple[ProfileRow, ...]
    logs: tuple[LogRow, ...]
    log_columns: tuple[Capture, ...]
    log_scalers: str
    pushes: dict[str, tuple[Capture, ...]]


@lru_cache(maxsize=1)
def meter_tables() -> MeterTables:
    """The shipped tables; DataError where the file is not what it should be."""
    try:
        raw = tomllib.loads(files(__package__).joinpath(FILE).read_text("utf-8"))
        return MeterTables(
            registers=tuple(
                RegisterRow(obis, kind, Tag[tag.upper()], scaler, unit, what) for obis, kind, tag, scaler, unit, what in raw["registers"]
            ),
            profiles=tuple(ProfileRow(p["obis"], p["name"], _columns(p["columns"]), p.get("scalers", "")) for p in raw["profile"]),
            logs=tuple(LogRow(*row) for row in raw["events"]["logs"]),
            log_columns=_columns(raw["events"]["measured"]),
            log_scalers=raw["events"]["scalers"],
            pushes={push["obis"]: _columns(push["columns"]) for push in raw["push"]},
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"fleet/{FILE} is not a table of a meter's objects ({error}); restore the shipped file") from error


def _columns(rows: list[list[Any]]) -> tuple[Capture, ...]:
    return tuple(Capture(class_id, obis, attribute) for class_id, obis, attribute in rows)
