"""`openami report vee --data FOLDER`: VEE on homes that no rule was tuned by, as a page (`vee-homes.md`).

Each set is judged three times: as it is, which gives the good readings that are marked; with defects planted at stated rates, which gives those
that are found; and with readings hidden, which gives how near the estimates come. The same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from ..readings import MISSING, MISSING64, Bool, Int32, Int64, Quality, UInt32
from ..vee import RuleSet, load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.checks import usual_day
from .days import MISSING_SHARE, SPIKE_SHARE, STUCK_SHARE
from .homes import Homes, every_home
from .masking import BLOCKS, NAIVE, scores, side_by_side
from .pages import check_name, score_cell, table

JUDGED = (Quality.SPIKE, Quality.FROZEN, Quality.ZERO, Quality.PLAUSIBILITY, Quality.HIGH_LOW)
FLOORS_W = (500, 1000, 2000, 4000, 6000, 8000)
SPIKE_FACTOR = 40
SHOWN = (NAIVE, "like days alone", "like days, scaled to the register", "VEE, no register", "VEE, with register")


@dataclass(frozen=True, slots=True)
class Defects:
    """A set's readings with defects in them. wh: int32 [slot, day x home]; bool, same shape, what each check has to find, by check."""

    wh: Int32
    planted: dict[Quality, Bool]


def homes_page(folder: Path, seed: int) -> str:
    """The page in Markdown. InputError as for `homes.every_home`."""
    homes = every_home(folder)
    return "\n".join(
        [
            "# VEE on homes that no rule was tuned by",
            "",
            f"Made by `openami report vee --seed {seed} --data FOLDER`; the folder holds public sets of which most may not be shipped",
            "(`openami.bench.homes` names them), Swiss, London and the heat pump are shipped. Load unknown unless it is said.",
            "",
            *table(("set", "interval", "homes", "days", "readings", "missing between first and last"), map(_size, homes)),
            "",
            "## Good readings marked",
            "What the checks mark in the sets as they are. A zero run of twelve hours is marked by intent: nobody told of an outage, a",
            "disconnection or an export. High / low usage is judged from the fifth week on. The heat pump stands by at 52 W for hours on end, which",
            "is what a stuck meter looks like: a load on a meter of its own wants rules of its own.",
            "",
            *table(("set", *(check_name(c) for c in JUDGED)), map(_marked, homes)),
            "",
            "## Planted defects that are found",
            f"{MISSING_SHARE:.0%} of readings taken away, {SPIKE_SHARE:.1%} made {SPIKE_FACTOR} times as large, {STUCK_SHARE:.1%} of home-days",
            f"stuck at their first reading. {SPIKE_FACTOR} times a standby of 20 W is a kettle, and nothing in the reading says that it is not:",
            "so also by any check where the sanctioned load is known (the home's own highest demand, up to the next half kilowatt; plausibility),",
            "and where the day's register is known as well (sum).",
            "",
            *table(
                ("set", "defect", "planted", "found by its check", "any check, load known", "any check, load and register known"),
                _found(homes, seed),
            ),
            "",
            "## Where a spike begins",
            "Good readings marked as spikes / planted spikes found, load unknown, by the power that an interval must reach.",
            "",
            *table(("set", *(f"{watts / 1000:g} kW" for watts in FLOORS_W)), (_floors(each, seed) for each in homes)),
            "",
            "## Estimates against the truth",
            "5 % of the readings of whole days hidden; mean absolute error of a hidden reading and, in brackets, the bias of the estimated",
            "energy. Like days are the same weekday of the three weeks before, the register is the day's true energy. Where a check replaces a",
            "reading beside the hidden ones (the heat pump's standby), the day still adds up to its register, the hidden readings alone do not;",
            "like days alone scale no day of which they lack a slot (Sydney has gaps of weeks).",
            "",
            *table(("set", "hidden", *SHOWN), _estimates(homes, seed)),
            "",
        ]
    )


def _size(each: Homes) -> tuple[str, ...]:
    days, _, homes = each.wh.shape
    there = (each.wh != MISSING).reshape(-1, homes)
    span = sum(len(own) - int(own.argmax()) - int(own[::-1].argmax()) for own in there.T)
    missing = f"{100 * (1 - there.sum() / span):.2f} %"
    return each.name, f"{each.minutes} min", str(homes), str(days), f"{there.sum():,}", missing


def domestic() -> RuleSet:
    """The shipped rules of a home."""
    return load_rules().on(date(2026, 1, 1), "domestic")


def highest_demand_w(each: Homes) -> Int64:
    """[day x home] a load that could have been sanctioned: the home's highest demand, up to the next half kilowatt."""
    most = each.wh.max(axis=(0, 1)).astype(np.int64) * 60 // each.minutes
    return np.tile(500 * -(-np.maximum(most, 1) // 500), len(each.wh))


def judged(each: Homes, wh: Int32, rules: RuleSet, load_w: Int64 | None = None, register_wh: Int64 | None = None) -> UInt32:
    """`Quality` bits of `wh` [slot, day x home], readings of `each` or what was made of them; the usual day from four weeks of the set itself."""
    limits = meter_limits(rules, np.zeros(wh.shape[1], np.int64) if load_w is None else load_w, each.minutes)
    return vee_run(wh, limits, register_wh=register_wh, usual_wh=_usual(each.wh)).quality


def _usual(days: Int32) -> Int64:
    """[day x home] from the fifth week on."""
    whole = (days != MISSING).all(axis=1)
    totals = np.where(whole, days.sum(axis=1, dtype=np.int64), MISSING64)
    usual = np.full_like(totals, MISSING64)
    weeks = np.stack([totals[28 - ago : len(totals) - ago] for ago in (28, 21, 14, 7)])
    usual[28:] = usual_day(weeks.reshape(4, -1)).reshape(-1, days.shape[2])
    return usual.ravel()


def _has(quality: UInt32, checks: Quality) -> Bool:
    return np.asarray((quality & np.uint32(checks)) != 0, np.bool_)


def _marked(each: Homes) -> tuple[str, ...]:
    wh = side_by_side(each.wh)
    quality, there = judged(each, wh, domestic()), int((wh != MISSING).sum())
    return each.name, *(f"{100 * _has(quality, check).sum() / there:.3f} %" for check in JUDGED)


def spoiled(wh: Int32, seed: int) -> Defects:
    """Readings [slot, day x home] with defects planted at the rates of `days.py`, each only where there is a reading and none on another."""
    rng = np.random.default_rng(seed)
    slots, columns = wh.shape
    there = wh != MISSING
    first = np.take_along_axis(wh, there.argmax(axis=0)[None], axis=0)
    stuck = there & (first > 0) & np.isin(np.arange(columns), rng.permutation(columns)[: max(2, round(columns * STUCK_SHARE))])
    out = np.where(stuck, first, wh).astype(np.int32)
    large = there & ~stuck & (wh > 0) & (rng.random(wh.shape) < SPIKE_SHARE)
    out[large] = np.minimum(out[large].astype(np.int64) * SPIKE_FACTOR, 2**31 - 1)
    gone = rng.random(wh.shape) < 0.8 * MISSING_SHARE
    quarter = slots // 4
    begin = rng.integers(0, slots - quarter, columns)
    silent = rng.random(columns) < 0.2 * MISSING_SHARE * 4
    at = np.arange(slots)[:, None]
    gone |= silent & (at >= begin) & (at < begin + quarter)
    gone &= ~stuck & ~large
    out[gone] = MISSING
    return Defects(out, {Quality.MISSING: gone & there, Quality.SPIKE: large, Quality.FROZEN: stuck})


def _found(homes: Sequence[Homes], seed: int) -> list[tuple[str, ...]]:
    rows = []
    for each in homes:
        true = side_by_side(each.wh)
        defects = spoiled(true, seed)
        register = np.where((true != MISSING).all(axis=0), true.sum(axis=0, dtype=np.int64), MISSING64)
        load = highest_demand_w(each)
        alone = judged(each, defects.wh, domestic())
        known = judged(each, defects.wh, domestic(), load)
        both = judged(each, defects.wh, domestic(), load, register)
        for check, mask in defects.planted.items():
            anyone = check | Quality.PLAUSIBILITY
            found = (_has(alone, check), _has(known, anyone), _has(both, anyone | Quality.SUM))
            rows.append((each.name, check_name(check), f"{mask.sum():,}", *(_share(mask & hit, mask) for hit in found)))
    return rows


def _share(found: Bool, of: Bool) -> str:
    return f"{100 * found.sum() / of.sum():.1f} %" if of.any() else "none planted"


def _floors(each: Homes, seed: int) -> tuple[str, ...]:
    true = side_by_side(each.wh)
    defects = spoiled(true, seed)
    large, there = defects.planted[Quality.SPIKE], int((true != MISSING).sum())
    cells = []
    for watts in FLOORS_W:
        rules = replace(domestic(), spike_w_min=watts)
        good, bad = (_has(judged(each, wh, rules), Quality.SPIKE) for wh in (true, defects.wh))
        cells.append(f"{100 * good.sum() / there:.3f} % / {100 * (bad & large).sum() / large.sum():.0f} %")
    return each.name, *cells


def _estimates(homes: Sequence[Homes], seed: int) -> list[tuple[str, ...]]:
    rows = []
    for each in homes:
        for name, hours in BLOCKS.items():
            found = scores(hours, seed, each.wh, each.minutes)
            rows.append((each.name, name, *(score_cell(found[method]) for method in SHOWN)))
    return rows
