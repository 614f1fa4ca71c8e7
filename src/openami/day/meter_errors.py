"""How far each meter may be off: by its nameplate, or what is said of it, of its model or of its use, otherwise as is assumed; and how doubtful its
place is.

    network/errors.csv    what,name,class_percent,clock_s    what: meter (a serial number), model, or use (consumer, transformer, feeder)

What always holds: the nearest word holds (the file's on the meter, its nameplate's class in the registry, the file's on its model, on its use, the
assumption); a class on a nameplate joins that of the instrument transformers before it, in the square; an empty field says nothing; a line that
cannot be read is an InputError that names it; a meter's place is as doubtful as the last look before the day found it, and of those never looked at
as is assumed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources
from math import hypot
from pathlib import Path

import numpy as np

from ..losses.metered import Errors, measured, usual
from ..losses.network import Tree
from ..readings import DayBlock
from ..registry import ShardIndex
from .site import Site
from .written import read_written

FILE = "errors.csv"
KINDS = ("meter", "model", "use")
USES = ("consumer", "transformer", "feeder")
DOUBT_MAX = 0.5
"""A place that is doubted by more is as uncertain as can be until a person has moved the meter: until then its energy still counts there."""


@dataclass(frozen=True, slots=True)
class Said:
    """Class as a share and clock offset [s] by (kind, name); None where a line leaves it out."""

    by: Mapping[tuple[str, str], tuple[float | None, float | None]]


@lru_cache(maxsize=1)
def assumed() -> dict[str, dict[str, float]]:
    """The shipped assumptions by use (losses/data/meter_errors.toml)."""
    text = (resources.files("openami.losses") / "data/meter_errors.toml").read_text(encoding="utf-8")
    return {use: {name: float(v) for name, v in row.items() if isinstance(v, float)} for use, row in tomllib.loads(text).items()}


def read_errors(folder: Path) -> Said:
    """What `errors.csv` of a folder says; nothing where it is not there. InputError names a line that cannot be read."""
    return Said(dict(read_written(folder / FILE, _said, "what,name,class_percent,clock_s as model,M1,0.5,30")))


def _said(row: dict[str, str]) -> tuple[tuple[str, str], tuple[float | None, float | None]]:
    kind, name = row["what"], row["name"]
    if kind not in KINDS or not name or (kind == "use" and name not in USES):
        raise ValueError(f"{kind!r} {name!r}; what is meter, model or use, and a use is {', '.join(USES)}")
    percent = _number(row["class_percent"])
    return (kind, name), (None if percent is None else percent / 100, _number(row["clock_s"]))


def _number(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text} is below zero or no number")
    return value


def errors_of(site: Site, index: ShardIndex, tree: Tree, energy: DayBlock, said: Said) -> Errors:
    """The errors of a shard's meters on a day, in the order of its index; how far gaps may be off is taken from the day's own readings."""
    consumers = np.flatnonzero(index.is_consumer)
    beforehand = known_errors(site, index, tree, energy.day, said)
    return measured(beforehand, energy.values, consumers, usual(energy.values, consumers), site.calendar.interval_s)


def known_errors(site: Site, index: ShardIndex, tree: Tree, day: date, said: Said) -> Errors:
    """What is known of a shard's meters before a reading of the day is looked at. A meter that measures a node is judged by the node's level."""
    model = {m.serial: m.model for m in site.rows.meters() if m.shard == index.shard} if any(kind == "model" for kind, _ in said.by) else {}
    use = np.where(index.is_feeder, USES.index("feeder"), np.where(index.is_transformer, USES.index("transformer"), USES.index("consumer")))
    own = tree.own_meter[tree.own_meter >= 0]
    use[own[use[own] == USES.index("consumer")]] = USES.index("transformer")
    table = assumed()
    limit, clock, wrong = (np.array([table[name][what] for name in USES])[use] for what in ("class_percent", "clock_s", "wrong_node"))
    limit /= 100
    plate = site.rows.classes(index.shard)
    for k, serial in enumerate(index.serials) if said.by or plate else ():
        by_use = USES[use[k]]
        nameplate = (hypot(plate[k], table[by_use]["instruments_percent"]) / 100, None) if k in plate else (None, None)
        told = [said.by.get(key, (None, None)) for key in (("use", by_use), ("model", model.get(serial, "")), ("meter", serial))]
        for percent, clock_s in (*told[:2], nameplate, told[2]):
            limit[k] = limit[k] if percent is None else percent
            clock[k] = clock[k] if clock_s is None else clock_s
    doubts = _doubts(site, day, index.shard)
    if doubts:
        looked = np.array([doubts.get(serial, np.nan) for serial in index.serials])
        wrong = np.where(np.isfinite(looked) & (use == USES.index("consumer")), np.minimum(looked, DOUBT_MAX), wrong)
    return Errors(limit.astype(np.float32), clock.astype(np.float32), np.ones(limit.size, np.float32), wrong.astype(np.float32))


def _doubts(site: Site, day: date, shard: int) -> dict[str, float]:
    """Each meter's probability of hanging elsewhere by the last look before `day`; nothing where there was none."""
    if not site.lake.place.has_table("mapping_doubts"):
        return {}
    looks = [each for each, own in site.lake.all_files("mapping_doubts") if own == shard and each < day]
    if not looks:
        return {}
    rows = site.lake.read("mapping_doubts", max(looks), shard)
    return dict(zip(rows["serial"].to_pylist(), rows["doubt"].to_pylist(), strict=True))
