"""What OBIS codes, classes, units and codes stand for, in our own words: `data/obis.toml`. Unknown codes have no name and stay numbers."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ..errors import DataError


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    try:
        raw = tomllib.loads(files(__package__).joinpath("data/obis.toml").read_text("utf-8"))
        return {part: raw[part] for part in ("quantity", "kind", "exact", "class")}
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise DataError(f"field/data/obis.toml is not a table of names ({error}); restore the shipped file") from error


@lru_cache(maxsize=4096)
def obis_name(obis: str) -> str:
    """What a code stands for ("active import, energy register, zone 2"), "" where it is not known."""
    table = _table()
    parts = obis.split(".")
    if len(parts) != 6:
        return ""
    if parts[1] != "0" and parts[3] != "9":
        return obis_name(".".join((parts[0], "0", *parts[2:])))  # B counts channels of the meter: the same thing on another one
    for k in range(-1, 6):
        name = table["exact"].get(".".join("x" if i == k else part for i, part in enumerate(parts)))
        if name:
            return str(name)
    quantity, kind = table["quantity"].get(parts[2]), table["kind"].get(parts[3])
    if parts[0] != "1" or not quantity or not kind:
        return ""
    return f"{quantity}, {kind}" + (f", zone {parts[4]}" if parts[4] != "0" else "")


def class_name(class_id: int) -> str:
    """A COSEM class in words, "class N" where it has no name here."""
    return str(_table()["class"].get(str(class_id), f"class {class_id}"))


def named(obis: str) -> str:
    """The code, with its name behind it where there is one."""
    name = obis_name(obis)
    return f"{obis} {name}" if name else obis
