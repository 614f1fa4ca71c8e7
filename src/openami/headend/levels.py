"""Service levels and the clock against them; meters that are silent, and those that were never heard."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from ..errors import DataError

SILENT_S = 24 * 3600
"""From how long on a meter counts as silent."""


@dataclass(frozen=True, slots=True)
class Level:
    """share of all that was due of a kind must be there `within_s` after it was due. verify: what of it is not confirmed, "" = nothing."""

    name: str
    kind: str
    share: float
    within_s: int
    verify: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A level at one time. due: how many, done: how many in time; left_s: until its clock ends, negative behind it; lacking: how many more are
    needed; met: True = reached, False = missed for good, None = still open; per_hour: what is needed from now on, 0.0 where nothing is."""

    level: Level
    due: int
    done: int
    left_s: int
    lacking: int
    met: bool | None
    per_hour: float


@lru_cache(maxsize=1)
def service_levels() -> tuple[Level, ...]:
    """The shipped levels, `data/service_levels.toml`; DataError where the file is not what it should be."""
    try:
        raw = tomllib.loads(files(__package__).joinpath("data/service_levels.toml").read_text("utf-8"))
        return tuple(Level(one["name"], one["kind"], one["share"], one["within_s"], raw["verify"]) for one in raw["level"])
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"headend/data/service_levels.toml is not a table of service levels ({error}); restore the shipped file") from error


def standing(level: Level, since_s: int, due: int, arrived_s: Iterable[int], now_s: int) -> Standing:
    """How `level` stands at `now_s` for what was due at `since_s` (UTC seconds): `due` of them, which arrived at `arrived_s`, each once."""
    end_s = since_s + level.within_s
    return standing_of(level, since_s, due, sum(1 for at in arrived_s if at <= min(end_s, now_s)), now_s)


def standing_of(level: Level, since_s: int, due: int, done: int, now_s: int) -> Standing:
    """The same, of so many that were done in time."""
    end_s = since_s + level.within_s
    needed = -(-due * round(level.share * 10_000) // 10_000)
    lacking = max(0, needed - done)
    left_s = end_s - now_s
    met = True if lacking == 0 else (None if left_s > 0 else False)
    return Standing(level, due, done, left_s, lacking, met, lacking * 3600 / left_s if met is None else 0.0)


def silent(
    serials: Iterable[str], heard_s: Mapping[str, int], now_s: int, since_s: int = SILENT_S
) -> tuple[list[tuple[str, int]], list[str]]:
    """(meters not heard for `since_s`, with when they were heard last, the longest first; meters never heard, by name).

    heard_s: serial -> when it was last heard, UTC seconds; a serial that is not in it was never heard.
    """
    known = list(serials)
    quiet = sorted((heard_s[one], one) for one in known if one in heard_s and now_s - heard_s[one] >= since_s)
    return [(one, at) for at, one in quiet], sorted(one for one in known if one not in heard_s)
