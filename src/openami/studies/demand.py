"""How good is tomorrow's demand? Rolling origin on real load: every day of the span is told at midnight from what was known then.

In: CSV files that the reader gives (they are not shipped). The temperature of the day itself is taken as known, as if its forecast were perfect; rows
that say "no weather" neither learn from temperatures nor know one, so what a true forecast gives lies between the two. Each method's quantiles are
recalibrated at each midnight by how its own last eight weeks came out; without that they are in the rows that say "as made".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from ..errors import InputError
from ..losses.forecast import QUANTILES, RECENT_DAYS, Boosted, classical, pinball, recalibrated, seasonal_naive
from ..losses.network import Float64

SPAN_DAYS, RETRAIN_DAYS, TRAIN_DAYS = 120, 60, 730


@dataclass(frozen=True, slots=True)
class Load:
    """One real load, hourly: demand and temperature [day, hour], NaN where there is none; what it is of, in one line."""

    name: str
    demand: Float64
    temperature: Float64
    first: date


@dataclass(frozen=True, slots=True)
class Told:
    """One method on one load: pinball loss as percent of the mean demand, its ratio to seasonal naive's, and how often demand lay between the outer
    and between the inner quantiles."""

    load: str
    method: str
    pinball_percent: float
    against_naive: float
    within_90: float
    within_50: float
    days: int


def loads(folder: Path) -> list[Load]:
    """Those of the known files that are in `folder`. InputError where there is none."""
    found = []
    gefcom = folder / "gefcom2014_load" / "gef14_dev.csv.gz"
    if gefcom.exists():
        table = pc.read_csv(gefcom)
        stamps = [_day(each) for each in table["date"].to_pylist()]
        at = [(day, int(hour) % 24) for day, hour in zip(stamps, table["tod"].to_pylist(), strict=True)]
        found.append(_load("a US utility (GEFCom2014), 49 to 318 MW", at, table["load"], table["temp"]))
    delhi = folder / "delhi_discom_hourly" / "delhi_demand_dev.csv.gz"
    if delhi.exists():
        found += _delhi(delhi, delhi.with_name("delhi_weather_dev.csv.gz"))
    if not found:
        raise InputError(
            f"{folder} has neither gefcom2014_load nor delhi_discom_hourly; give the folder that holds the real loads with --data"
        )
    return found


def _delhi(demand: Path, weather: Path) -> list[Load]:
    table, air = pc.read_csv(demand), pc.read_csv(weather)
    warm_at = [_stamp(d, t) for d, t in zip(air.column(0).to_pylist(), air.column(1).to_pylist(), strict=True)]
    column = next(name for name in air.column_names if "temp" in name.lower())
    warm = dict(zip(warm_at, air[column].to_pylist(), strict=True))
    at = [_stamp(d, t) for d, t in zip(table["Date"].to_pylist(), table["TimeSlot"].to_pylist(), strict=True)]
    temperature = pa.array([warm.get(each) for each in at], pa.float64())
    return [_load(f"Delhi, {area}", at, table[area], temperature) for area in ("DELHI", "NDMC")]


def _day(stamp: object) -> date:
    return stamp.date() if isinstance(stamp, datetime) else date.fromisoformat(str(stamp)[:10])


def _stamp(day: object, clock: object) -> tuple[date, int]:
    held = day if isinstance(day, date) else datetime.strptime(str(day), "%d/%m/%Y").date()  # noqa: DTZ007 - a local day
    return held, int(str(clock)[:2])


def _load(name: str, at: list[tuple[date, int]], demand: pa.ChunkedArray, temperature: pa.ChunkedArray) -> Load:
    first = min(day for day, _ in at)
    days = (max(day for day, _ in at) - first).days + 1
    grids = np.full((2, days, 24), np.nan)
    values = [np.array([np.nan if v is None else float(v) for v in column.to_pylist()]) for column in (demand, temperature)]
    rows = np.array([((day - first).days, hour) for day, hour in at])
    for grid, own in zip(grids, values, strict=True):
        grid[rows[:, 0], rows[:, 1]] = own
    grids[0][grids[0] <= 0] = np.nan  # a feeder of this size is never at zero: a stale value of the control room
    return Load(name, grids[0], _filled(grids[1]), first)


def _filled(temperature: Float64) -> Float64:
    flat = temperature.ravel()
    known = np.isfinite(flat)
    return np.interp(np.arange(flat.size), np.flatnonzero(known), flat[known]).reshape(temperature.shape)


def told(load: Load, span_days: int = SPAN_DAYS, seed: int = 1) -> Iterator[Told]:
    """The last `span_days` days of a load by every method, recalibrated, and as it was made."""
    total = len(load.demand)
    begin = total - span_days - RECENT_DAYS
    start = max(begin - TRAIN_DAYS, 0)  # the same first day throughout: a model counts weekdays from it
    days = range(begin, total)
    made: dict[str, list[Float64]] = defaultdict(list)
    models: dict[str, Boosted] = {}
    for k, day in enumerate(days):
        history = load.demand[start:day]
        made["seasonal naive"].append(seasonal_naive(history))
        for known, warm in (("", load.temperature[start : day + 1]), (", no weather", None)):
            if k % RETRAIN_DAYS == 0:
                models[known] = Boosted.train(history, warm, seed=seed)
            made[f"classical{known}"].append(classical(history, warm))
            made[f"gradient boosting{known}"].append(models[known].predict(history, warm))
    actual = load.demand[list(days)]
    plain = {name: np.stack(each) for name, each in made.items()}
    moved = {name: _recalibrated(each, actual) for name, each in plain.items()}
    rows = moved | {f"{name}, as made": each for name, each in plain.items()}
    later = slice(RECENT_DAYS, None)
    judged = np.isfinite(actual[later]) & np.all([np.isfinite(each[later]).all(axis=1) for each in rows.values()], axis=0)
    true = np.where(judged, actual[later], np.nan)
    mean, middle = float(np.nanmean(true)), len(QUANTILES) // 2
    naive = pinball(true, plain["seasonal naive"][later].swapaxes(0, 1))
    for name, each in rows.items():
        told = each[later].swapaxes(0, 1)
        outer, inner = (float(((told[k] <= true) & (true <= told[-1 - k]))[judged].mean()) for k in (0, middle - 1))
        loss = pinball(true, told)
        yield Told(load.name, name, 100 * loss / mean, loss / naive, outer, inner, int(judged.any(axis=1).sum()))


def _recalibrated(told: Float64, actual: Float64) -> Float64:
    """[day, quantile, slot]: each day by those before it."""
    return np.stack([recalibrated(each, told[:k], actual[:k]) for k, each in enumerate(told)])
