"""How transformers fare over the last days, as rows: loading against rating, heat where the air's temperature is known, unbalance, power factor,
voltage, who makes the peak, and what could still be added.

    network/temperature.csv    day,hour,celsius    the air, of the deployment; hours that are not there are not told

What always holds: a rating that is not above 0 tells no shares (the audit names it); only measured values count; what is not known is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..billing.tariff import load_tariffs
from ..losses.loading import headroom, loading, outside_limits, peak_shares, unbalance
from ..losses.network import Float64
from ..readings import MISSING, MISSING64, Int32, Int64
from .network import FOLDER, read_network
from .site import Site
from .span import Group
from .written import read_written

NOMINAL_V = 230.0
PHASES = "RYB"
BUSIEST = 0.1
"""Unbalance is told of the busiest tenth of the slots: at night a single kettle unbalances any transformer."""
UNKNOWN_CATEGORY = "other"
AIR = "temperature.csv"
NUMBERS = (
    "rating_kva", "peak_kw", "peak_share", "mean_share", "over_hours", "hot_spot_c", "ageing", "unbalance", "power_factor", "low_volts", "high_volts",
    "solar_kw", "vehicle_kw", "spare_kw", "coverage",
)  # fmt: skip
LOADING = pa.schema(
    [("transformer", pa.string()), ("feeder", pa.string()), *((name, pa.float64()) for name in NUMBERS), ("peak_by_class", pa.string()),
     ("days", pa.int32())]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside readings. rating_kva by transformer; phase ("R", "Y", "B", "RYB") and category of each meter by serial; celsius by day and
    hour."""

    rating_kva: Mapping[str, float]
    phase: Mapping[str, str]
    category: Mapping[str, str]
    celsius: Mapping[tuple[date, int], float]

    @staticmethod
    def of(site: Site, day: date) -> Around:
        """As the registry stands on `day`, ratings by the folder `network` where it has them. InputError names a line there that cannot be read."""
        points = [p for p in site.rows.usage_points() if p.since <= day and (p.until is None or day < p.until)]
        known = {name: versions[0].category for name, versions in load_tariffs().tariffs.items()}
        by_point = {a.usage_point: known.get(a.tariff, UNKNOWN_CATEGORY) for a in site.rows.accounts()}
        return Around(
            {t.name: float(t.rating_kva) for t in site.rows.transformers()}
            | {n.name: n.rating_kva for n in read_network(site.folder.root / FOLDER).nodes if n.rating_kva is not None},
            {p.meter: p.phase for p in points},
            {p.meter: by_point[p.name] for p in points if p.name in by_point},
            read_air(site.folder.root / FOLDER / AIR),
        )


def read_air(path: Path) -> dict[tuple[date, int], float]:
    """The air's temperature by day and hour; nothing where there is no file."""
    return dict(read_written(path, _air_of, "day,hour,celsius as 2025-12-01,14,23.5"))


def _air_of(row: dict[str, str]) -> tuple[tuple[date, int], float]:
    hour, celsius = int(row["hour"]), float(row["celsius"])
    if not 0 <= hour <= 23 or not -90 <= celsius <= 70:
        raise ValueError(f"hour {hour}, {celsius:g} degrees cannot be")
    return (date.fromisoformat(row["day"]), hour), celsius


def loading_rows(group: Group, around: Around, interval_s: int) -> list[dict[str, object]]:
    """Rows of `loading`, one for each transformer of a feeder."""
    span = group.span
    rating = np.array([around.rating_kva.get(group.name(k), np.nan) for k in range(group.dts.size)])
    rating = np.where(rating > 0, rating, np.nan)
    wh, vah = _wide(group.of_dt(span.wh)), _wide(group.of_dt(span.vah))
    air = _air(group, around, interval_s)
    found, room = loading(wh, vah, rating, interval_s, air), headroom(wh, rating, span.slots_per_day)
    known = wh != MISSING64
    peak = np.where(known.any(axis=0), np.where(known, wh, 0).max(axis=0) * 3600 / interval_s / 1e3, np.nan)
    low, high = outside_limits(span.volts[:, group.members], NOMINAL_V) if span.volts is not None else (None, None)
    uneven = _unbalance(group, around)
    rows = []
    for k in range(group.dts.size):
        own = group.at == k
        row = {
            "rating_kva": rating[k], "peak_kw": peak[k], "peak_share": found.peak_share[k], "mean_share": found.mean_share[k],
            "over_hours": found.over_hours[k], "hot_spot_c": found.hot_spot_c[k], "ageing": found.ageing[k], "unbalance": uneven[k],
            "power_factor": found.power_factor[k], "low_volts": _mean(low, own), "high_volts": _mean(high, own), "solar_kw": room.solar_kw[k],
            "vehicle_kw": room.vehicle_kw[k], "spare_kw": room.day_kw[k], "coverage": float(known[:, k].mean()),
        }  # fmt: skip
        told: dict[str, object] = {name: float(v) if np.isfinite(v) else None for name, v in row.items()}
        rows.append(
            {
                "transformer": group.name(k),
                "feeder": group.feeder,
                **told,
                "peak_by_class": _by_class(group, around, own),
                "days": span.days,
            }
        )
    return rows


def _wide(values: Int32) -> Int64:
    return np.where(values != MISSING, values, MISSING64).astype(np.int64)


def _air(group: Group, around: Around, interval_s: int) -> Float64 | None:
    """The air of each slot [degrees], NaN where it is not told; None where nothing is."""
    span = group.span
    hours = (np.arange(span.slots_per_day) * interval_s // 3600).tolist()
    air = np.array([around.celsius.get((day, hour), np.nan) for day in span.dates for hour in hours])
    return air if np.isfinite(air).any() else None


def _unbalance(group: Group, around: Around) -> Float64:
    """Of each transformer, the middle of its busiest slots; by consumers' phases, a three-phase one a third on each; NaN where no phase is known."""
    wh = np.where(group.span.wh[:, group.members] != MISSING, group.span.wh[:, group.members], 0).astype(np.int64)
    phases = [around.phase.get(serial, "") for serial in group.serials()]
    found = np.full(group.dts.size, np.nan)
    for k in range(group.dts.size):
        own = [m for m in np.flatnonzero(group.at == k).tolist() if phases[m]]
        if not own:
            continue
        each = np.stack(
            [
                wh[:, [m for m in own if phases[m] == p]].sum(axis=1) + wh[:, [m for m in own if len(phases[m]) == 3]].sum(axis=1) // 3
                for p in PHASES
            ],
            axis=1,
        )
        busiest = np.argsort(-each.sum(axis=1), kind="stable")[: max(1, int(BUSIEST * len(each)))]
        worst = unbalance(each[busiest][:, None, :])[:, 0]
        found[k] = np.median(worst[np.isfinite(worst)]) if np.isfinite(worst).any() else np.nan
    return found


def _by_class(group: Group, around: Around, own: np.ndarray) -> str | None:
    """Each category's share of the transformer's ten highest slots, as JSON; None where nobody is there."""
    members = np.flatnonzero(own)
    said = [around.category.get(group.serials()[m], UNKNOWN_CATEGORY) for m in members.tolist()]
    names = sorted(set(said))
    shares = (
        peak_shares(group.span.wh[:, group.members[members]], np.array([names.index(s) for s in said], np.int32), len(names))
        if names
        else None
    )
    if shares is None or not np.isfinite(shares).all():
        return None
    return json.dumps({name: round(float(share), 4) for name, share in zip(names, shares, strict=True)})


def _mean(values: Float64 | None, own: np.ndarray) -> float:
    some = values[own & np.isfinite(values)] if values is not None else np.zeros(0)
    return float(some.mean()) if some.size else np.nan
