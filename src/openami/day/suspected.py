"""Looking back over the last closed days of a shard: where meters really hang, whom to visit first, how transformers are loaded.

What always holds: estimates count as missing; a meter's doubtful place is known before it is suspected; nobody is listed without evidence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from ..cosem.is15959 import events as event_facts
from ..losses.features import NAMES, Watched, drop_per_amp, features
from ..losses.loading import headroom, loading, outside_limits
from ..losses.mapping import consensus, doubt, find_places, prior, proposals
from ..losses.suspects import EVIDENCE, Model, Suspect, contributions, suspects
from ..readings import CURRENT_A, ESTIMATED_BITS, EXPORT_WH, IMPORT_VAH, IMPORT_WH, MISSING, MISSING64, VOLTAGE_V, Int32, Int64
from ..registry import ShardIndex
from ..store.heard import Heard
from .found import span_of
from .site import Site

SPAN_DAYS = 30
LISTED, LISTED_SHARE = 20, 0.02
PROBABLE = 0.05
"""A feeder's suspects: the first twenty, or 2 % of its consumers where that is more, of those with evidence and at least this probability."""
NOMINAL_V = 230.0
DAYS_MIN = 2
TAMPER_LOGS = ("current", "non_rollover")
TAMPER_CODES = (201, 203, 207, 209)
"""A magnet, the neutral, the communication module; beside them what stands in the logs of currents and of the cover."""


@dataclass(frozen=True, slots=True)
class Span:
    """Measured values of whole days, [slot, meter] in the order of the last day's index, MISSING where there is none or an estimate; None = no
    such channel. serials: of all meters; days: how many."""

    index: ShardIndex
    days: int
    slots_per_day: int
    wh: Int32
    export_wh: Int32 | None
    vah: Int32 | None
    volts: Int32 | None
    amps: Int32 | None


def look_back(site: Site, last: date, shard: int, span_days: int = SPAN_DAYS) -> None:
    """Write `suspects`, `mapping_proposals` and `loading` of (last, shard), from up to `span_days` closed days that end with it. By one day nobody is
    suspected: a table without rows says that it was looked."""
    span = read_span(site, last, shard, span_days)
    tamper = _tampers(site, span, last, span_days)
    suspected: list[dict[str, object]] = []
    proposed: list[dict[str, object]] = []
    loaded: list[dict[str, object]] = []
    ratings = {t.name: float(t.rating_kva) for t in site.rows.transformers()}
    for feeder in np.unique(span.index.feeder[span.index.feeder >= 0]).tolist():
        group = Group.of(span, feeder)
        if group.members.size and group.dts.size:
            doubts = _places(group, proposed)
            if span.days >= DAYS_MIN:
                suspected += _suspects(group, tamper[group.members], doubts)
            loaded += _loading(group, ratings, site.calendar.interval_s)
    suspected.sort(key=lambda row: (-float(str(row["worth_wh"])), str(row["serial"])))
    for rank, row in enumerate(suspected, start=1):
        row["rank"] = rank
    with site.lake.draft(last) as draft:
        draft.write("suspects", shard, pa.Table.from_pylist(suspected, SUSPECTS))
        draft.write("mapping_proposals", shard, pa.Table.from_pylist(proposed, PROPOSALS))
        draft.write("loading", shard, pa.Table.from_pylist(loaded, LOADING))
        draft.commit()


def read_span(site: Site, last: date, shard: int, span_days: int) -> Span:
    """The closed days of the span that have as many slots as its last one; meters that came later are missing before."""
    index = site.rows.shard_index(shard, last)
    held = site.lake.all_files("validated")
    days = [day for day in span_of(last, span_days) if (day, shard) in held]
    per_day = site.calendar.slots(last)
    days = [day for day in days if site.calendar.slots(day) == per_day]
    grids: dict[str, Int32] = {}
    for k, day in enumerate(days):
        for name, block in site.lake.read_blocks("validated", day, shard).items():
            grid = grids.setdefault(name, np.full((len(days) * per_day, index.meters), MISSING, np.int32))
            own = min(block.values.shape[1], index.meters)
            measured = np.where((block.quality & ESTIMATED_BITS) != 0, MISSING, block.values)
            grid[k * per_day : (k + 1) * per_day, :own] = measured[:, :own]
    rest = (grids.get(channel.name) for channel in (EXPORT_WH, IMPORT_VAH, VOLTAGE_V, CURRENT_A))
    return Span(index, len(days), per_day, grids[IMPORT_WH.name], *rest)


@dataclass(frozen=True, slots=True)
class Group:
    """A feeder: its transformers `dts` (positions in the index), consumers `members` (columns), their place `at` among dts (-1 = none), and what
    each transformer's own meter told [slot, dt], int64 Wh with exports from below, MISSING64 where it was silent; `own`: its column, -1 = none."""

    span: Span
    feeder: str
    dts: Int64
    members: Int64
    at: Int32
    into_wh: Int64
    own: Int64

    @staticmethod
    def of(span: Span, feeder: int) -> Group:
        index = span.index
        dts = np.flatnonzero(index.transformer_feeder == feeder)
        members = np.flatnonzero(index.is_consumer & (index.feeder == feeder))
        place = np.full(len(index.transformers) + 1, -1, np.int32)
        place[dts] = np.arange(dts.size)
        at = place[index.transformer[members]]
        own = np.full(dts.size, -1, np.int64)
        meters = np.flatnonzero(index.is_transformer & np.isin(index.transformer, dts))
        own[place[index.transformer[meters]]] = meters
        into = np.full((len(span.wh), dts.size), MISSING64, np.int64)
        told = span.wh[:, own[own >= 0]]
        into[:, own >= 0] = np.where(told != MISSING, told, MISSING64)
        if span.export_wh is not None:
            given = np.where(span.export_wh[:, members] != MISSING, span.export_wh[:, members], 0).astype(np.int64)
            for k in range(dts.size):
                into[:, k] = np.where(into[:, k] != MISSING64, into[:, k] + given[:, at == k].sum(axis=1), MISSING64)
        return Group(span, index.feeders[feeder], dts, members, at, into, own)

    def of_dt(self, grid: Int32 | None) -> Int32:
        """What the transformers' own meters told of a channel, int32 [slot, dt]."""
        found = np.full((len(self.span.wh), self.dts.size), MISSING, np.int32)
        if grid is not None:
            found[:, self.own >= 0] = grid[:, self.own[self.own >= 0]]
        return found

    def name(self, dt: int) -> str:
        return self.span.index.transformers[self.dts[dt]] if dt >= 0 else ""


def _places(group: Group, proposed: list[dict[str, object]]) -> np.ndarray:
    """Adds what is proposed of a feeder; gives the probability that each member hangs elsewhere."""
    span = group.span
    if group.dts.size < 2:
        return np.zeros(group.members.size)
    volts = reference = None
    if span.volts is not None:
        volts, reference = span.volts[:, group.members], group.of_dt(span.volts)
        missing = (reference == MISSING).all(axis=0)
        if missing.any():
            reference[:, missing] = consensus(volts, group.at, group.dts.size)[:, missing]
    own = np.arange(group.dts.size, dtype=np.int32)
    node_wh = np.where(group.into_wh != MISSING64, group.into_wh, MISSING).astype(np.int32)
    places = find_places(prior(group.at, own), volts, reference, span.wh[:, group.members], node_wh, slots_per_day=span.slots_per_day)
    for p in proposals(places.probability, group.at, found=places):
        serial = span.index.serials[group.members[p.meter]]
        proposed.append(
            {"serial": serial, "feeder": group.feeder, "now": group.name(p.now), "to": group.name(p.to), "confidence": p.confidence,
             "voltage": p.voltage, "energy": p.energy, "days": span.days}
        )  # fmt: skip
    return np.asarray(doubt(places.probability, group.at))


def _suspects(group: Group, tamper: np.ndarray, doubts: np.ndarray) -> list[dict[str, object]]:
    span = group.span
    wh = np.ascontiguousarray(span.wh[:, group.members])
    there = wh != MISSING
    by_slot = np.where(there, wh, 0).sum(axis=1, dtype=np.int64).reshape(-1, span.slots_per_day).sum(axis=0)
    profile = by_slot / np.maximum(there.sum(axis=1).reshape(-1, span.slots_per_day).sum(axis=0), 1)
    watched = Watched(
        wh, group.at, group.into_wh, span.slots_per_day, tamper=tamper.astype(np.float32), volt_drop=_volt_drops(group),
        doubt=doubts.astype(np.float32),
    )  # fmt: skip
    found = features(watched, profile)
    model = Model.cold()
    most = max(LISTED, int(LISTED_SHARE * group.members.size))
    listed = [s for s in suspects(model, found, most) if s.evidence and s.probability >= PROBABLE]
    said = contributions(model, found.values[[s.meter for s in listed]]) if listed else ()
    rows = [_row(group, s, each, found.values[s.meter]) for s, each in zip(listed, said, strict=True)]
    return [row for row in rows if row is not None]


def _row(group: Group, s: Suspect, log_odds: dict[str, float], values: np.ndarray) -> dict[str, object] | None:
    """A row of `suspects`, its evidence's codes in the order of its sentences: the strongest first. None where only its transformer's loss
    speaks, which every neighbour shares."""
    ranked = sorted((e.name for e in EVIDENCE if log_odds.get(e.name, 0.0) >= 0.2), key=lambda name: -log_odds[name])
    if ranked == ["node"]:
        return None
    evidence = [
        {"code": code, "says": says, "innocent": innocent, "log_odds": round(log_odds[code], 3)}
        for code, says, innocent in zip(ranked, s.evidence, s.innocent, strict=True)
    ]
    index = group.span.index
    return {
        "serial": index.serials[group.members[s.meter]], "transformer": group.name(int(group.at[s.meter])), "feeder": group.feeder,
        "probability": s.probability, "stolen_wh": s.stolen_wh, "worth_wh": s.worth_wh, "first": s.first,
        "evidence": json.dumps(evidence, ensure_ascii=False), "days": group.span.days,
        "features": json.dumps({name: round(float(v), 4) for name, v in zip(NAMES, values, strict=True) if np.isfinite(v)}),
    }  # fmt: skip


def _volt_drops(group: Group) -> np.ndarray | None:
    """Each member's volts per ampere against the middle of its transformer's; None without voltages and currents."""
    span = group.span
    if span.volts is None or span.amps is None:
        return None
    reference = group.of_dt(span.volts)
    at_home = np.where(group.at[None, :] >= 0, reference[:, np.maximum(group.at, 0)], MISSING).astype(np.int32)
    slope = drop_per_amp(span.volts[:, group.members], span.amps[:, group.members], at_home)
    found = np.full(slope.size, np.nan, np.float32)
    for k in range(group.dts.size):
        own = group.at == k
        known = slope[own & np.isfinite(slope) & (slope > 0)]
        if known.size >= 5:
            found[own] = slope[own] / np.median(known)
    return found


def _tampers(site: Site, span: Span, last: date, span_days: int) -> np.ndarray:
    """How many tamper events each meter told of in the span, [meter]."""
    calendar = site.calendar
    codes = [c for c, fact in event_facts().items() if fact.kind != "restoration" and (fact.log in TAMPER_LOGS or c in TAMPER_CODES)]
    first_s, end_s = calendar.day_start(span_of(last, span_days)[0]), calendar.stamp(last, calendar.slots(last) - 1)
    column = {serial: k for k, serial in enumerate(span.index.serials)}
    found = np.zeros(span.index.meters)
    for event in Heard(site.rows).events(first_s, end_s, codes=codes):
        if event.occurred and event.serial in column:
            found[column[event.serial]] += 1
    return found


def _loading(group: Group, ratings: dict[str, float], interval_s: int) -> list[dict[str, object]]:
    """Rows of `loading`. A rating that is not above 0 tells no shares (the audit names it)."""
    span = group.span
    rating = np.array([ratings.get(group.name(k), np.nan) for k in range(group.dts.size)])
    rating = np.where(rating > 0, rating, np.nan)
    wh = np.where(group.of_dt(span.wh) != MISSING, group.of_dt(span.wh), MISSING64).astype(np.int64)
    vah = np.where(group.of_dt(span.vah) != MISSING, group.of_dt(span.vah), MISSING64).astype(np.int64)
    found, room = loading(wh, vah, rating, interval_s), headroom(wh, rating, span.slots_per_day)
    known = wh != MISSING64
    peak = np.where(known.any(axis=0), np.where(known, wh, 0).max(axis=0) * 3600 / interval_s / 1e3, np.nan)
    low, high = outside_limits(span.volts[:, group.members], NOMINAL_V) if span.volts is not None else (None, None)
    rows = []
    for k in range(group.dts.size):
        own = group.at == k
        row = {
            "rating_kva": rating[k], "peak_kw": peak[k], "peak_share": found.peak_share[k], "mean_share": found.mean_share[k],
            "over_hours": found.over_hours[k], "power_factor": found.power_factor[k], "solar_kw": room.solar_kw[k],
            "vehicle_kw": room.vehicle_kw[k], "spare_kw": room.day_kw[k],
            "low_volts": _mean(low, own), "high_volts": _mean(high, own),
        }  # fmt: skip
        told: dict[str, object] = {name: float(v) if np.isfinite(v) else None for name, v in row.items()}
        share = float(known[:, k].mean())
        rows.append({"transformer": group.name(k), "feeder": group.feeder, **told, "coverage": share, "days": span.days})
    return rows


def _mean(values: np.ndarray | None, own: np.ndarray) -> float:
    some = values[own & np.isfinite(values)] if values is not None else np.zeros(0)
    return float(some.mean()) if some.size else np.nan


SUSPECTS = pa.schema(
    [
        ("rank", pa.int32()), ("serial", pa.string()), ("transformer", pa.string()), ("feeder", pa.string()), ("probability", pa.float64()),
        ("stolen_wh", pa.float64()), ("worth_wh", pa.float64()), ("first", pa.string()), ("evidence", pa.string()), ("features", pa.string()),
        ("days", pa.int32()),
    ]
)  # fmt: skip
PROPOSALS = pa.schema(
    [("serial", pa.string()), ("feeder", pa.string()), ("now", pa.string()), ("to", pa.string()), ("confidence", pa.float64()),
     ("voltage", pa.float64()), ("energy", pa.float64()), ("days", pa.int32())]
)  # fmt: skip
_SHARES = ("rating_kva", "peak_kw", "peak_share", "mean_share", "over_hours", "power_factor", "low_volts", "high_volts", "solar_kw", "vehicle_kw",
           "spare_kw", "coverage")  # fmt: skip
LOADING = pa.schema(
    [("transformer", pa.string()), ("feeder", pa.string()), *((name, pa.float64()) for name in _SHARES), ("days", pa.int32())]
)
