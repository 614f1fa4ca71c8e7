"""What the energy audit has found of closed days, to be read by consoles, the API and exports: rows, quick to get, nothing reckoned but sums.

    Found(site.lake).accounts(day)            every node's in, out and loss with its interval; of several days together: accounts(first, last)
    Found(site.lake).hours(day, "DT-1")       the same by hour of one node
    .outages(first, last)   .reliability(first, last)   .suspects(day)   .proposals(day)   .technical(day)   .loading(day)

The tables are written by `findings.py`. What always holds: a day without findings gives no rows, never zeros; what is not known is None; of
several days energies add up, and intervals join as in `losses.months`. `feeders` leaves only these feeders' rows: what somebody may see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import date, datetime
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..losses.account import Account, Part
from ..losses.half_width import half_width
from ..losses.months import LASTING
from ..losses.network import Level
from ..store.lake import Lake
from .shares import AREA, above_of, above_rows, figures
from .shares import TABLE as SHARES

TABLES = (
    "loss_account", "loss_share", "outages", "outage_customers", "reliability", "suspects", "mapping_proposals", "mapping_doubts", "technical",
    "loading",
)  # fmt: skip
"""All that the audit keeps, by the names that `openami losses export` knows."""
LEVELS = [str(level) for level in Level]


@dataclass(frozen=True, slots=True)
class NodeAccount:
    """A node's energy account. level: of the node (feeder, transformer, substation ...), or "substation area" and the like: from its own meter, or
    where it has none from its feeders' heads, to the consumers, where "substation" is from its meter to its feeders' heads; hour: None = the whole
    span; loss_wh = in - out as counted; likely_wh: with what is missing at its expectation, in [low_wh, high_wh] nine times of ten; None where
    unknown. coverage: 0..1, truly metered; spread_wh: standard deviation by its cause (class, clock, missing, estimated, mapping, assessed).
    Of a day that runs (else None): own_lacks: the node's own meter has not told of every interval, so the loss to the next meters is unknown, and an
    area is taken from the heads below; below_lack: as many meters below have not, so what they measure is counted further down, their wires' loss
    with it, or (of an area from heads) left out."""

    level: str
    node: str
    feeder: str
    hour: int | None
    in_wh: int | None
    out_wh: int | None
    loss_wh: int | None
    likely_wh: float | None
    low_wh: float | None
    high_wh: float | None
    coverage: float
    estimated_share: float | None
    spread_wh: dict[str, float]
    own_lacks: bool | None = None
    below_lack: int | None = None


@dataclass(frozen=True, slots=True)
class OutageRow:
    """day, shard and number name it. level: service (one connection), transformer or feeder; node: its name, of a service the meter's
    serial; end: None = open when it was reckoned; located: when the place could be told; gasps: customers who said so themselves; evidence: "gasp" or
    "silence" (no gasp came: it may be the network of the meters that failed). customer_minutes: of interruptions beyond five minutes.
    planned: announced."""

    day: date
    shard: int
    number: int
    level: str
    node: str
    feeder: str
    start: datetime
    end: datetime | None
    located: datetime
    customers: int
    gasps: int
    evidence: str
    interruptions: int
    momentary: int
    customer_minutes: float
    planned: bool


@dataclass(frozen=True, slots=True)
class Reliability:
    """IEEE 1366 of a span; None where there is no customer (or, of caidi, no interruption)."""

    customers: int
    saifi: float | None
    saidi_min: float | None
    caidi_min: float | None
    maifi: float | None
    open_outages: int


@dataclass(frozen=True, slots=True)
class Told:
    """One reason of a suspect. code: name of the `losses.suspects.Evidence`; says, innocent: sentences; log_odds: its weight."""

    code: str
    says: str
    innocent: str
    log_odds: float


@dataclass(frozen=True, slots=True)
class SuspectRow:
    """rank: 1 = the visit that is worth most, among all shards; probability of theft or fault; stolen_wh: a day, if so; worth_wh: both multiplied;
    first: what to do before a visit; features: number by name (`losses.features.NAMES`), known ones only; days: how many were looked at."""

    rank: int
    serial: str
    transformer: str
    feeder: str
    probability: float
    stolen_wh: float
    worth_wh: float
    first: str
    evidence: tuple[Told, ...]
    features: dict[str, float]
    days: int


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A meter most probably hangs on `to`, not on `now` ("" = the registry does not say). voltage, energy: what each speaks for
    it (log likelihood)."""

    serial: str
    feeder: str
    now: str
    to: str
    confidence: float
    voltage: float
    energy: float
    days: int


@dataclass(frozen=True, slots=True)
class TechnicalRow:
    """What wires and iron lose of a node, fitted over `days` days (`losses.fitted`): technical_wh of the in_wh that came in, in [low_wh, high_wh]
    nine times of ten; no_load_w, square_per_w: the fit's coefficients."""

    level: str
    node: str
    feeder: str
    in_wh: float
    technical_wh: float
    low_wh: float
    high_wh: float
    no_load_w: float
    square_per_w: float
    slots: int
    days: int

    def of(self, in_wh: float) -> tuple[float, float, float]:
        """Technical loss, and its interval, of other `in_wh` that came in, at the same share [Wh]."""
        share = in_wh / max(self.in_wh, 1.0)
        return self.technical_wh * share, self.low_wh * share, self.high_wh * share


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A transformer over `days` days. Shares are of its rating; None where the rating or its meter is not known. low_volts, high_volts: share of its
    consumers' known slots outside the limits; solar_kw, vehicle_kw, spare_kw: what could still be added; hot_spot_c, ageing: where the air's
    temperature is told; unbalance: of the busiest slots, the largest deviation of a phase; peak_by_class: JSON, share by consumer category."""

    transformer: str
    feeder: str
    rating_kva: float | None
    peak_kw: float | None
    peak_share: float | None
    mean_share: float | None
    over_hours: float | None
    power_factor: float | None
    low_volts: float | None
    high_volts: float | None
    solar_kw: float | None
    vehicle_kw: float | None
    spare_kw: float | None
    coverage: float
    days: int
    hot_spot_c: float | None = None
    ageing: float | None = None
    unbalance: float | None = None
    peak_by_class: str | None = None


class Found:
    """Reads the findings of a lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def days(self) -> list[date]:
        """The days that have findings, in order."""
        return self._lake.days("loss_account")

    def accounts(
        self, first: date, last: date | None = None, *, feeders: Set[str] | None = None, nodes: Set[str] | None = None
    ) -> list[NodeAccount]:
        """Every node's account over the days first to last (both included; last None = first alone), from the top down, by name. Days without
        findings count as if they were not there: ask `days` for them. nodes: these alone. Who may see some feeders only sees no node above them."""
        by_node: dict[tuple[str, str], list[dict[str, Any]]] = {}
        asked = pc.field("hour").is_null()
        if nodes is not None:
            asked &= pc.field("node").isin(sorted(nodes))
        for _, _, row in self._rows("loss_account", first, last, feeders, asked):
            by_node.setdefault((row["level"], row["node"]), []).append(row)
        for day in (each for each in self._lake.days(SHARES) if first <= each <= (last or first)):
            for row in self._above(day, hourly=False):
                if (nodes is None or row["node"] in nodes) and (feeders is None or row["feeder"] in feeders):
                    by_node.setdefault((row["level"], row["node"]), []).append(row)
        return [node_account(by_node[key]) for key in sorted(by_node, key=from_the_top)]

    def hours(self, day: date, node: str, level: str | None = None) -> list[NodeAccount]:
        """One node's accounts by hour, in their order. level: which of its accounts, where it has an area too; None = that of its own wires, or else
        of its area."""
        asked = pc.field("hour").is_valid() & (pc.field("node") == node)
        rows = [row for _, _, row in self._rows("loss_account", day, None, None, asked)]
        rows = rows or [row for row in self._above(day, hourly=True) if row["node"] == node]
        wanted = level or min((row["level"] for row in rows), key=len, default="")
        return [node_account([row]) for row in sorted(rows, key=lambda row: row["hour"]) if row["level"] == wanted]

    def above(self, day: date) -> list[NodeAccount]:
        """The nodes above shards over a day: substations, divisions, the company, each to the next meters where it has one, and its area."""
        return [node_account([row]) for row in self._above(day, hourly=False)]

    def doubts(self, day: date) -> tuple[str, ...]:
        """What is not told of nodes above shards, as sentences."""
        found = above_of(self._lake, day)
        return () if found is None else found.doubts

    def _above(self, day: date, *, hourly: bool) -> Iterator[dict[str, Any]]:
        """Rows as those of `loss_account` of the nodes above shards."""
        found = above_of(self._lake, day, hourly=hourly)
        return iter(()) if found is None else above_rows(found, hourly=hourly)

    def outages(self, first: date, last: date | None = None, *, feeders: Set[str] | None = None) -> list[OutageRow]:
        """Outages that began on the days, in the order of their starts."""
        found = [OutageRow(day, shard, **row) for day, shard, row in self._rows("outages", first, last, feeders)]
        return sorted(found, key=lambda o: (o.start, o.node))

    def outage_customers(self, outage: OutageRow) -> list[tuple[str, datetime | None]]:
        """Who was out in an outage: serial, and when its supply came back (None = not yet, when it was reckoned)."""
        if not self._lake.has("outage_customers", outage.day, outage.shard):
            return []
        rows = self._lake.read("outage_customers", outage.day, outage.shard).to_pylist()
        return [(row["serial"], row["back"]) for row in rows if row["number"] == outage.number]

    def reliability(self, first: date, last: date | None = None, *, feeders: Set[str] | None = None, planned: bool = True) -> Reliability:
        """The indices of the days together; customers: the most that were served on one of them. planned=False leaves announced outages out."""
        served: dict[date, int] = {}
        interruptions, momentary, minutes, still = 0, 0, 0.0, 0
        for day, _, row in self._rows("reliability", first, last, feeders):
            served[day] = served.get(day, 0) + row["customers"]
        for outage in self.outages(first, last, feeders=feeders):
            if planned or not outage.planned:
                interruptions, momentary = interruptions + outage.interruptions, momentary + outage.momentary
                minutes, still = minutes + outage.customer_minutes, still + (outage.end is None)
        n = max(served.values(), default=0)
        per = (lambda total: total / n) if n else (lambda _: None)
        return Reliability(n, per(interruptions), per(minutes), minutes / interruptions if interruptions else None, per(momentary), still)

    def suspects(self, day: date | None = None, *, feeders: Set[str] | None = None, limit: int | None = None) -> list[SuspectRow]:
        """Whom to visit first, as known with `day` closed (None = the last day that has findings)."""
        rows = self._ranked(day, feeders)
        return [_suspect(rank, row) for rank, row in enumerate(rows.slice(0, limit).to_pylist(), start=1)] if rows else []

    def _ranked(self, day: date | None, feeders: Set[str] | None) -> pa.Table | None:
        """Rows of `suspects`, the visit that is worth most first, not unfolded yet; None where the day has none."""
        known = self._lake.days("suspects")
        asked = day or (known[-1] if known else None)
        files = self._lake.files("suspects", asked) if asked and known else {}
        held = [self._lake.read("suspects", asked, shard) for shard in sorted(files)] if asked else []
        if not held:
            return None
        rows = pa.concat_tables(held)
        rows = rows if feeders is None else rows.filter(pc.field("feeder").isin(sorted(feeders)))
        return rows.sort_by([("worth_wh", "descending"), ("serial", "ascending")])

    def suspect(self, serial: str, day: date | None = None) -> SuspectRow | None:
        """One meter's row, with its rank among all; None where it is not suspected."""
        rows = self._ranked(day, None)
        at = pc.index(rows["serial"], serial).as_py() if rows else -1
        return None if rows is None or at < 0 else _suspect(at + 1, rows.slice(at, 1).to_pylist()[0])

    def proposals(self, day: date | None = None, *, feeders: Set[str] | None = None) -> list[ProposalRow]:
        """Meters that seem to hang elsewhere, the surest first. A person accepts them (the registry is changed there, never here)."""
        found = [ProposalRow(**row) for _, _, row in self._latest("mapping_proposals", day, feeders)]
        return sorted(found, key=lambda p: (-p.confidence, p.serial))

    def technical(self, day: date | None = None, *, feeders: Set[str] | None = None) -> list[TechnicalRow]:
        """What wires and iron lose by node, as fitted up to `day` (None = the last day) or, where nothing was fitted then, by the nearest look."""
        known = self._lake.days("technical")
        if not known:
            return []
        asked = day or known[-1]
        nearest = min(known, key=lambda each: (abs((each - asked).days), each > asked))
        found = [TechnicalRow(**row) for _, _, row in self._rows("technical", nearest, None, feeders)]
        return sorted(found, key=lambda t: (t.level != "feeder", t.node))

    def loading(self, day: date | None = None, *, feeders: Set[str] | None = None) -> list[LoadingRow]:
        """Transformers, the most loaded first; those whose loading is unknown at the end."""
        found = [LoadingRow(**row) for _, _, row in self._latest("loading", day, feeders)]
        return sorted(found, key=lambda t: (-(t.peak_share if t.peak_share is not None else -1.0), t.transformer))

    def _latest(self, table: str, day: date | None, feeders: Set[str] | None) -> Iterator[tuple[date, int, dict[str, Any]]]:
        known = self._lake.days(table)
        asked = day or (known[-1] if known else None)
        return self._rows(table, asked, None, feeders) if asked else iter(())

    def _rows(
        self, table: str, first: date, last: date | None, feeders: Set[str] | None, only: pc.Expression | None = None
    ) -> Iterator[tuple[date, int, dict[str, Any]]]:
        if not self._lake.place.has_table(table):
            return
        places = self._lake.all_files(table)
        for day, shard in sorted(places):
            if first <= day <= (last or first):
                held = self._lake.read(table, day, shard)
                held = held if only is None else held.filter(only)
                held = held if feeders is None else held.filter(pc.field("feeder").isin(sorted(feeders)))
                for row in held.to_pylist():
                    yield day, shard, row


def from_the_top(key: tuple[str, str]) -> tuple[int, str, str]:
    """The order of (level, node): from the company down, by name."""
    level, node = key
    return LEVELS.index(level.removesuffix(AREA)), node, level


def account_at(account: Account, span: int, k: int, level: str, node: str, feeder: str, hour: int | None) -> NodeAccount:
    """One node's account of one span."""
    row = figures(account, span, k)
    spread = {part.name.lower(): row.pop(f"spread_{part.name.lower()}_wh") for part in Part}
    del row["limit_wh"], row["moves"]
    return NodeAccount(level=level, node=node, feeder=feeder, hour=hour, spread_wh=spread, **row)


def node_account(rows: list[dict[str, Any]]) -> NodeAccount:
    """Rows of one node as one: energies add up, known only where each is; lasting errors add up, the others in the square. Findings of before
    limits and moves were kept are taken as normal."""
    one = rows[0]

    def total(name: str) -> Any:
        return sum(row[name] for row in rows) if all(row[name] is not None for row in rows) else None

    spread = {}
    for part in Part:
        each = [row[f"spread_{part.name.lower()}_wh"] or 0.0 for row in rows]
        spread[part.name.lower()] = float(sum(each)) if part in LASTING else sqrt(sum(value**2 for value in each))
    likely = total("likely_wh")
    limit, moves = sum(row.get("limit_wh") or 0.0 for row in rows), max(row.get("moves") or 0.0 for row in rows)
    width = float(half_width(np.array([[each] for each in spread.values()]), Part.MAPPING, np.array([limit]), np.array([moves]))[0])
    weight = [max(row["in_wh"] or 0, 1) for row in rows]
    estimated = [row["estimated_share"] for row in rows]
    return NodeAccount(
        level=one["level"], node=one["node"], feeder=one["feeder"], hour=one["hour"],
        in_wh=total("in_wh"), out_wh=total("out_wh"), loss_wh=total("loss_wh"),
        likely_wh=likely, low_wh=None if likely is None else likely - width, high_wh=None if likely is None else likely + width,
        coverage=sum(w * row["coverage"] for w, row in zip(weight, rows, strict=True)) / sum(weight),
        estimated_share=None if None in estimated else sum(w * e for w, e in zip(weight, estimated, strict=True)) / sum(weight),
        spread_wh=spread,
    )  # fmt: skip


def _suspect(rank: int, row: dict[str, Any]) -> SuspectRow:
    evidence = tuple(Told(**each) for each in json.loads(row["evidence"]))
    return SuspectRow(**{**row, "rank": rank, "evidence": evidence, "features": json.loads(row["features"])})
