"""What the control room's lists hold: rows by key, from SQL and from single columns of single files.

What always holds: a list reads no more rows than it shows, or goes by arrays that are kept; a row outside the reach is left out before it is counted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ...day import Site
from ...readings import CHECK_BITS, IMPORT_WH, MISSING, Quality
from ...registry import NodeKind
from ...store.facts import edits_of
from ...store.heard import register_reading
from ...store.lookup import Lookup
from ...store.order_book import NOT_LEFT
from ...store.proposals import PROPOSAL_LIVES_S, Proposal
from ...store.rows import account, association_key, contact, meter, meter_key, usage_point
from ...store.supply_rows import SupplyRows, supply_decision
from ..access import Who
from ..closed_days import ClosedDay, node_hours
from ..gate import Gate
from ..one_meter import day_column

WALL_FEEDERS = 24
AT_RISK = 20
WITHDRAWABLE = tuple(str(state) for state in NOT_LEFT)
EVENT_KINDS = {"tamper": (81, 82, 83), "supply": (85, 86), "relay": (84,)}
"""Bits of the event status word (IS 15959) by what they are about: magnet, neutral, cover; last gasp, first breath; relay moved."""
TAMPER_CODES = range(200, 300)
SERIAL_BEGINS = re.compile(r"[A-Za-z0-9._-]{0,40}")
LOOKED_AT_MOST = 2000
_FAILED = np.uint32(CHECK_BITS & ~np.uint32(Quality.MISSING))


# ---- meters


def exactly(gate: Gate, who: Who, text: str) -> str | None:
    """The serial of a meter whose serial, account or usage point is `text`, within the reach."""
    here = sa.or_(meter.c.serial == text, usage_point.c.name == text, account.c.number == text)
    query = (
        sa.select(meter.c.serial, usage_point.c.name, usage_point.c.feeder)
        .join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
        .outerjoin(account, account.c.usage_point == usage_point.c.name)
    )
    with gate.backing.rows.begin() as connection:
        for condition in here.clauses:
            row = connection.execute(query.where(condition).limit(1)).first()
            if row is not None and who.sees_point(row.name, row.feeder):
                return str(row.serial)
    return None


def meters_from(gate: Gate, who: Who, text: str, feeder: str, after: str, limit: int) -> list[dict[str, Any]]:
    """Meters whose serial begins with `text`, from behind `after`; none where no serial can."""
    if not SERIAL_BEGINS.fullmatch(text):
        return []
    begin = max(after, text[:-1] + chr(ord(text[-1]) - 1) + "\uffff") if text else after
    rows = gate.lookup.meters(who.reach, begin, limit, on_feeder=feeder)
    return [row for row in rows if row["serial"].startswith(text)]


def keys_of(site: Site, serial: str) -> list[dict[str, Any]]:
    """How a meter's keys stand, never the keys: whose, in which state, by which order; the counters that we have used."""
    with site.rows.begin() as connection:
        own = connection.execute(sa.select(sa.func.count()).select_from(meter_key).where(meter_key.c.serial == serial)).scalar_one()
        query = sa.select(association_key.c.client, association_key.c.state, association_key.c.order_id).where(
            association_key.c.serial == serial
        )
        later = [dict(row._mapping) for row in connection.execute(query.order_by(association_key.c.client, association_key.c.state))]
    first = [{"client": None, "state": "registry", "order_id": ""}] if own else []
    return first + later


def contact_of(site: Site, serial: str) -> dict[str, Any] | None:
    with site.rows.begin() as connection:
        row = connection.execute(sa.select(contact).where(contact.c.serial == serial)).first()
    return None if row is None else dict(row._mapping)


def last_registers(site: Site, serial: str) -> list[dict[str, Any]]:
    """The newest register row of each kind."""
    found = []
    with site.rows.begin() as connection:
        for kind in ("instantaneous", "daily", "billing"):
            query = sa.select(register_reading).where(register_reading.c.kind == kind, register_reading.c.serial == serial)
            row = connection.execute(query.order_by(register_reading.c.stamp_s.desc()).limit(1)).first()
            if row is not None:
                found.append(dict(row._mapping))
    return found


# ---- orders


def reasons_of(supply: SupplyRows, site: Site, orders: list[str]) -> dict[str, list[dict[str, Any]]]:
    """order -> what the guard said last about it: its reasons, those against a cut first."""
    if not orders:
        return {}
    query = sa.select(supply_decision.c.order_id, supply_decision.c.reasons).where(supply_decision.c.order_id.in_(orders))
    with supply.database.begin() as connection:
        rows = connection.execute(query.order_by(supply_decision.c.id)).all()
    return {row.order_id: _reasons(row.reasons) for row in rows}


def _reasons(text: str) -> list[dict[str, Any]]:
    told = [one for one in json.loads(text) if isinstance(one, dict)]
    return sorted(told, key=lambda one: {False: 0, None: 1}.get(one.get("ok"), 2))


def waiting(gate: Gate, who: Who) -> list[Proposal]:
    """What waits for a second person and lies wholly within the reach, newest first."""
    young = gate.now_s - PROPOSAL_LIVES_S
    found = [one for one in gate.proposals.page(None, 100) if one.state == "waiting" and one.made_s > young]
    if who.reach.everything:
        return found
    seen = gate.lookup.meters_named
    return [one for one in found if len(seen(who.reach, list(one.subjects))) == len(one.subjects)]


@dataclass(frozen=True, slots=True)
class AtRisk:
    """An account that is due. against: what speaks against a cut, unknown facts included; none = the guard had nothing against it."""

    account: str
    meter: str
    feeder: str
    balance_paise: int
    days_below: int
    against: tuple[dict[str, Any], ...]
    unknown: bool


def at_risk(site: Site, gate: Gate, who: Who) -> list[AtRisk]:
    """The accounts furthest below zero of the last closed day, as the guard judged them then."""
    days = site.lake.days("due") if site.lake.place.has_table("due") else []
    if not days:
        return []
    tables = [_due_of(site, days[-1], shard) for shard in sorted(site.lake.files("due", days[-1]))]
    rows = pa.concat_tables(tables) if tables else None
    if rows is None or not rows.num_rows:
        return []
    found = []
    most = AT_RISK if who.reach.everything else 10 * AT_RISK
    poorest = pc.select_k_unstable(rows, most, sort_keys=[("balance_paise", "ascending"), ("account", "ascending")])
    for row in rows.take(poorest).to_pylist():
        held = gate.lookup.account(who.reach, row["account"])
        told = site.lake.row("due", days[-1], row["shard"], row["account"], ("reasons",)) if held is not None else None
        if held is None or told is None:
            continue
        against = tuple(one for one in _reasons(told["reasons"]) if one.get("ok") is not True)
        unknown = any(one.get("ok") is None for one in against)
        found.append(AtRisk(row["account"], held["meter"], held["feeder"], row["balance_paise"], row["days_below"], against, unknown))
    return found[:AT_RISK]


def _due_of(site: Site, day: date, shard: int) -> pa.Table:
    """Who of a shard is due, without the reasons, which are long."""
    rows = site.lake.read("due", day, shard, columns=["account", "balance_paise", "days_below"])
    return rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.int32)))


# ---- events


def events(gate: Gate, site: Site, who: Who, after: tuple[Any, ...] | None, limit: int, serial: str, kind: str) -> list[dict[str, Any]]:
    """As `Lookup.events`; of a kind, out of the latest LOOKED_AT_MOST."""
    lookup: Lookup = gate.lookup
    if not kind:
        return lookup.events(who.reach, after, limit, serial=serial)
    bits = EVENT_KINDS[kind]
    found = lookup.events(who.reach, after, LOOKED_AT_MOST, serial=serial)
    return [row for row in found if row["bit"] in bits or (kind == "tamper" and row["code"] in TAMPER_CODES)][:limit]


# ---- demand


@dataclass(frozen=True, slots=True)
class Demand:
    """A node's day by hour. in_wh, out_wh: None = unknown; peak_kw: the highest hour's mean, peak_hour: that hour, None where nothing is known."""

    hours: tuple[tuple[int, int | None, int | None, float], ...]
    peak_kw: float | None
    peak_hour: int | None


def demand(site: Site, stands: ClosedDay, kind: NodeKind, name: str) -> Demand:
    """Out of the day's balance, only the node's own rows."""
    found = node_hours(site, stands, kind, name)
    hours = tuple((r["hour"], r["in_wh"], r["out_wh"], r["coverage"]) for r in found)
    known = [(wh, hour) for hour, wh, _, _ in hours if wh is not None]
    top = max(known, default=None)
    return Demand(hours, None if top is None else top[0] / 1000, None if top is None else top[1])


# ---- exceptions


def exceptions(site: Site, stands: ClosedDay, who: Who, bits: int, feeder: str, after: tuple[Any, ...], limit: int) -> list[dict[str, Any]]:
    """Meters with failed checks, in the order of (shard, index), from behind `after`; out of arrays that are kept, named by SQL."""
    wanted = np.uint32(bits) if bits else np.uint32(int(_FAILED) | int(Quality.MISSING))
    allowed = {k for k, name in enumerate(stands.names) if who.sees_feeder(name) and feeder in ("", name)}
    found: list[dict[str, Any]] = []
    for shard, marks in sorted(stands.shards.items()):
        if shard < after[0]:
            continue
        own = np.flatnonzero((marks.marks & wanted) != 0)
        own = own[np.isin(marks.feeder[own], list(allowed))]
        own = own[own > (after[1] if shard == after[0] else -1)][: limit - len(found)]
        names = _at(site, shard, own.tolist())
        for k in own.tolist():
            if k in names:
                row = names[k] | {"shard": shard, "index": k, "bits": int(marks.marks[k]), "flagged": int(marks.flagged[k])}
                found.append(row | {"estimated": int(marks.estimated[k]), "there": int(marks.received[k])})
        if len(found) >= limit:
            break
    return found


def _at(site: Site, shard: int, indexes: list[int]) -> dict[int, dict[str, Any]]:
    query = (
        sa.select(meter.c.index, meter.c.serial, usage_point.c.feeder, usage_point.c.transformer, usage_point.c.kind)
        .join(usage_point, sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None)))
        .where(meter.c.shard == shard, meter.c.index.in_(indexes))
    )
    with site.rows.begin() as connection:
        return {int(row._mapping["index"]): dict(row._mapping) for row in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class Slot:
    """begins, ends: UTC seconds; raw, value: Wh, None = missing."""

    number: int
    begins_s: int
    ends_s: int
    raw: int | None
    value: int | None
    quality: int


def slots(site: Site, found: dict[str, Any], day: date) -> list[Slot]:
    """A meter's day as it came and as it stands."""
    raw, _ = day_column(site, "raw", found["shard"], found["index"], day)
    values, quality = day_column(site, "validated", found["shard"], found["index"], day)
    calendar = site.calendar

    def known(value: int) -> int | None:
        return None if value == MISSING else int(value)

    return [
        Slot(k, calendar.stamp(day, k) - calendar.interval_s, calendar.stamp(day, k), known(r), known(v), int(q))
        for k, (r, v, q) in enumerate(zip(raw.tolist(), values.tolist(), quality.tolist(), strict=True))
    ]


def edits(site: Site, found: dict[str, Any], day: date) -> list[Any]:
    """What people have corrected of it, newest first."""
    own = edits_of(site.lake, day, found["shard"], IMPORT_WH.name)
    return [edit for edit in reversed(own) if edit.meter == found["index"]]
