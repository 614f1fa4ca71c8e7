"""How far the supply worker goes by itself: `supply.toml` of the data folder. Without it consumers are told, and nobody is cut but by people's order.

automatic = false          # true: cuts that the guard allows are ordered without a person, up to the policy's number that needs two people
[load_limit]               # the milder step: so long under a limit before a cut is ordered; left out = none
percent = 50               # of the sanctioned load
hours = 24
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

FILE = "supply.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """limit_percent: 0 = no milder step; limit_hours: how long it holds before a cut is ordered."""

    automatic: bool = False
    limit_percent: int = 0
    limit_hours: int = 0


def load_settings(folder: Path) -> Settings:
    """InputError names what is wrong and where."""
    path = folder / FILE
    if not path.exists():
        return Settings()
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); mend it") from None
    if unknown := set(told) - {"automatic", "load_limit"}:
        raise InputError(f"{path}: {', '.join(sorted(unknown))} is not known; there are automatic and load_limit")
    automatic, limit = told.get("automatic", False), told.get("load_limit", {})
    if not isinstance(automatic, bool):
        raise InputError(f"{path}: automatic = {automatic!r} is neither true nor false")
    if not limit:
        return Settings(automatic)
    percent, hours = limit.get("percent"), limit.get("hours")
    if set(limit) != {"percent", "hours"} or type(percent) is not int or type(hours) is not int or not (0 < percent < 100 and hours >= 0):
        raise InputError(f"{path}, [load_limit]: give percent (1 to 99, of the sanctioned load) and hours (whole, from 0 on), nothing else")
    return Settings(automatic, percent, hours)
