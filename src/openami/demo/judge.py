"""The judge: what the house found against what was planted. Everything here is counted twice, from the plan and from the stores.

The report is the same for the same seed, byte for byte; timings are added elsewhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..day import Site
from ..day.found import Found
from ..day.lines import bills_to_date, charge_lines
from ..fleet.faults import BREAKS, TAKEN_IN, Plan, cause_of, expected_grid, expected_refusals
from ..fleet.households import IMPOSSIBLE_WH
from ..fleet.run import Outcome
from ..fleet.town import Town
from ..headend.status import not_stored
from ..readings import CHANNEL_BY_NAME, CHECKS, ESTIMATED_BITS, IMPORT_WH, MISSING, Int32, Quality, UInt32
from ..registry import NodeKind
from ..store.journal import Journal
from .asked import Answered
from .darkness import LOCATED, ZERO, compared, counts_nothing, planted

LISTED = 10
"""Of the audit's lists, so many rows stand in the report."""
CHECKS_OF_THE_DEMO = ("missing", "duplicate", "spike", "plausibility", "frozen", "zero")
"""The checks that have something to judge here; out of day is decided before the grid, and counted with the quarantine."""


def truth(town: Town, plan: Plan) -> dict[str, Any]:
    """What was planted, by meter serial: the file beside the report."""

    def serial(k: int) -> str:
        return town.meters[k].serial

    return {
        "silent": {serial(k): span for k, span in plan.silent.items()},
        "wrong_key": [serial(k) for k in plan.wrong_key],
        "clock_reset": {serial(k): span for k, span in plan.clock_reset.items()},
        "clock_fast": {serial(k): span for k, span in plan.clock_fast.items()},
        "theft": {serial(k): shape for k, shape in plan.theft.items()},
        "broken": {serial(k): {"how": how, "slots": (first, last)} for k, (how, first, last) in plan.broken.items()},
        "mapped_wrong": {serial(k): {"true": true, "registry": town.points[k].transformer} for k, true in plan.mapped_wrong.items()},
        "outages": planted(town, plan),
        "sent_by_kind": plan.sent_by_kind(),
        "refusals": expected_refusals(town, plan),
    }


def report(site: Site, town: Town, plan: Plan, outcome: Outcome, answered: Answered) -> dict[str, Any]:
    """One object: counts, planted against found, money, losses, and the statements that must be true (`holds`)."""
    place = np.array([(m.shard, m.index) for m in town.meters])
    raw, _ = _whole(site, town, place, "raw", IMPORT_WH.name)
    validated, quality = _whole(site, town, place, "validated", IMPORT_WH.name)
    pushed, conflicts = expected_grid(town, plan, IMPORT_WH.name)
    expected = answered.fill(pushed, IMPORT_WH.name)
    journal = Journal(site.folder.journal)
    quarantine = journal.quarantine()
    frames = journal.frames()
    journal.close()
    left_out = not_stored(site.folder)
    money = _money(site)
    balance = _balance(site)
    outages, located = compared(site, town, plan)
    holds = {
        "every reading that arrived is in raw exactly once": bool((raw == expected).all())
        and _other_channels(site, town, plan, place, answered),
        "every reading of a healthy meter is in validated, as sent or estimated for a named check": _healthy(
            town, plan, expected, validated, quality
        ),
        "what an asked meter's pushes lost is read from it, as it counted": bool(
            (raw[answered.meters] == np.where(pushed[answered.meters] == MISSING, answered.wh, pushed[answered.meters])).all()
        )
        and answered.rows == int((pushed[answered.meters] == MISSING).sum()),
        "every quarantined frame has the planted cause": _quarantined_as_planted(town, plan, outcome, quarantine, left_out),
        LOCATED: located,
        ZERO: counts_nothing(town, plan, validated, quality),
        "every reading of a meter that counts wrong is flagged by its check": _broken_flagged(plan, quality),
        "as many pushes confirmed as frames taken in": _confirmed(outcome, frames, quarantine),
        **money.pop("holds"),
        "feeder = its transformers + loss, transformer = its consumers + loss, to the Wh": balance.pop("adds_up"),
    }
    flagged = {str(c.name).lower(): int(((quality & np.uint32(c)) != 0).sum()) for c in CHECKS}
    return {
        "seed": town.seed,
        "first_day": town.first_day.isoformat(),
        "days": town.days,
        "consumers": town.consumers,
        "meters": len(town.meters),
        "frames": {"planned": plan.sent_by_kind(), "received": frames},
        "quarantine": _by_cause(expected_refusals(town, plan), quarantine, left_out),
        "asked": {
            "meters": len(answered.meters),
            "missing": int((pushed[answered.meters] == MISSING).sum()),
            "rows": answered.rows,
            "registers": answered.registers,
        },
        "completeness": _completeness(town, raw, validated, quality),
        "checks": _checks(town, plan, expected, conflicts, flagged),
        "energy_kwh": _energy(town, raw, validated, quality),
        "money": money,
        "losses": balance,
        "outages": outages,
        "suspicion": _suspicion(site, town, plan, balance["transformers"]),
        "holds": holds,
        "fingerprint": _fingerprint(validated, quality),
    }


def _by_cause(refusals: Mapping[str, int], quarantine: list[Any], left_out: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Refused frames by cause: as many as were planted, and as many as were found, kept or only counted."""
    return {
        cause: {"planted": refusals.get(cause, 0), "found": sum(r.cause == cause for r in quarantine) + left_out.get(cause, 0)}
        for cause in sorted({*refusals, *left_out, *(r.cause for r in quarantine)})
    }


def _energy(town: Town, raw: Int32, validated: Int32, quality: UInt32) -> dict[str, float]:
    homes, heads = town.consumers, town.consumers + len(town.transformers)
    return {
        "consumers_measured": _kwh(raw[:homes]),
        "consumers_validated": _kwh(validated[:homes]),
        "consumers_estimated": _kwh(np.where(quality & ESTIMATED_BITS, validated, 0)[:homes]),
        "transformers": _kwh(validated[homes:heads]),
        "feeders": _kwh(validated[heads:]),
    }


def _whole(site: Site, town: Town, place: np.ndarray, table: str, channel: str) -> tuple[Int32, UInt32]:
    """All days of one channel in the town's meter order: values and quality, [meter, slot]."""
    values = np.full(town.metered_wh.shape, MISSING, np.int32)
    quality = np.zeros(values.shape, np.uint32)
    at = 0
    for day in site.deployment.open_days:
        slots = site.calendar.slots(day)
        for shard in site.rows.shards():
            own = place[:, 0] == shard
            block = site.lake.read_blocks(table, day, shard)[channel]
            values[own, at : at + slots] = block.values[:, place[own, 1]].T
            quality[own, at : at + slots] = block.quality[:, place[own, 1]].T
        at += slots
    return values, quality


def _other_channels(site: Site, town: Town, plan: Plan, place: np.ndarray, answered: Answered) -> bool:
    """The same for voltage, current and apparent energy of the consumers' meters (a network meter's layout has them by phase)."""
    for name in town.channels:
        if name == IMPORT_WH.name:
            continue
        raw, _ = _whole(site, town, place, "raw", name)
        expected = answered.fill(expected_grid(town, plan, name)[0], name)
        rows = slice(0, None) if CHANNEL_BY_NAME[name].additive else slice(0, town.consumers)
        if not (raw[rows] == expected[rows]).all():
            return False
    return True


def _healthy(town: Town, plan: Plan, expected: Int32, validated: Int32, quality: UInt32) -> bool:
    """Each reading that a meter without a planted fault of its own sent stands in validated as sent, unless a check says otherwise."""
    faulty = {*plan.clock_fast, *plan.clock_reset, *plan.wrong_key, *plan.broken}
    for k in range(len(town.meters)):
        if k in faulty:
            continue
        sent = sorted({s.slot for s in plan.sends[k] if s.kind in TAKEN_IN})
        got, marks = validated[k, sent], quality[k, sent]
        replaced = ((marks & ESTIMATED_BITS) != 0) | (got == MISSING)
        named = (marks & np.uint32(0xFFFF)) != 0
        if not ((got == expected[k, sent]) | (replaced & named)).all():
            return False
    return True


def _confirmed(outcome: Outcome, frames: int, quarantine: list[Any]) -> bool:
    """The fleet saw one confirmation for each genuine frame; a push made again may have been taken in twice and confirmed once."""
    genuine = frames - sum(r.cause not in ("out_of_day", "layout") for r in quarantine)
    return len(outcome.confirmed) <= genuine <= len(outcome.confirmed) + outcome.again


def _quarantined_as_planted(town: Town, plan: Plan, outcome: Outcome, quarantine: list[Any], left_out: Mapping[str, int]) -> bool:
    """By cause and by meter what was planted; a push that had to be made again may be refused once more, and nothing else. What the head-end's
    gate has not stored (`left_out`) is known by cause, not by meter: so many may be missing there, and no more."""
    by_cause = _surplus(Counter(r.cause for r in quarantine) + Counter(left_out), expected_refusals(town, plan))
    found, planted = _causes_by_meter(quarantine), _planted_by_meter(town, plan)
    for key in sorted(planted):
        short = min(planted[key] - found.get(key, 0), left_out.get(key[1], 0))
        if short > 0:
            found[key] = found.get(key, 0) + short
            left_out = {**left_out, key[1]: left_out[key[1]] - short}
    by_meter = _surplus(found, planted)
    return all(surplus is not None and surplus <= outcome.again for surplus in (by_cause, by_meter))


def _surplus(found: Mapping[Any, int], planted: Mapping[Any, int]) -> int | None:
    """How much more was found than planted; None where something planted is missing, or something else was found."""
    if set(found) != set(planted) or any(found[key] < count for key, count in planted.items()):
        return None
    return sum(found.values()) - sum(planted.values())


def _causes_by_meter(quarantine: list[Any]) -> dict[tuple[str, str], int]:
    return dict(Counter((r.serial or "", r.cause) for r in quarantine if r.cause not in ("unknown_meter", "malformed")))


def _planted_by_meter(town: Town, plan: Plan) -> dict[tuple[str, str], int]:
    """(serial, cause) -> frames, for the causes at which the head-end can know whose frame it was."""
    found: Counter[tuple[str, str]] = Counter()
    for k, own in enumerate(plan.sends[:-1]):
        for send in own:
            cause = cause_of(town, k, send)
            if cause and cause != "malformed":
                found[town.meters[k].serial, cause] += 1
    return dict(found)


def _completeness(town: Town, raw: Int32, validated: Int32, quality: UInt32) -> dict[str, Any]:
    per_day = raw.shape[1] // town.days
    return {
        "intervals": int(raw.size),
        "measured": int((raw != MISSING).sum()),
        "measured_share": round(float((raw != MISSING).mean()), 6),
        "by_day": {
            (town.first_day + timedelta(days=d)).isoformat(): round(float((raw[:, d * per_day : (d + 1) * per_day] != MISSING).mean()), 6)
            for d in range(town.days)
        },
        "estimated": int(((quality & ESTIMATED_BITS) != 0).sum()),
        "without_any_value": int((validated == MISSING).sum()),
    }


def _checks(town: Town, plan: Plan, expected: Int32, conflicts: np.ndarray, flagged: dict[str, int]) -> dict[str, Any]:
    """Planted, or impossible in the data set itself, against flagged. More may be flagged than was planted: real homes stand empty (zero) and
    have their peaks (spike, of which none is planted: null)."""
    own = expected[: town.consumers]
    planted: Counter[str] = Counter(missing=int((expected == MISSING).sum()), duplicate=int(conflicts.sum()))
    planted["plausibility"] = int(((own != MISSING) & ((own < 0) | (own > IMPOSSIBLE_WH))).sum())
    for how, first, last in plan.broken.values():
        if BREAKS[how] is not Quality.PLAUSIBILITY:
            planted[str(BREAKS[how].name).lower()] += last - first
    return {name: {"planted": planted.get(name), "flagged": flagged[name]} for name in CHECKS_OF_THE_DEMO}


def _broken_flagged(plan: Plan, quality: UInt32) -> bool:
    """Each reading of a meter that counts wrong bears the bit of the check that must see it."""
    return all(((quality[k, first:last] & np.uint32(BREAKS[how])) != 0).all() for k, (how, first, last) in plan.broken.items())


def _money(site: Site) -> dict[str, Any]:
    """Statements and charges of all days, the month's bill to date, and whether the three agree to the paisa."""
    shards = site.rows.shards()
    days = site.deployment.open_days
    statements = pa.concat_tables([site.lake.read("statements", d, s) for d in days for s in shards])
    charges = pa.concat_tables([charge_lines(site.lake, d, s) for d in days for s in shards])
    last = pa.concat_tables([site.lake.read("statements", days[-1], s) for s in shards])
    totals = {name: int(pc.sum(statements[name]).as_py() or 0) for name in ("recharges_paise", "charges_paise")}
    opening = sum(a.opening_paise for a in site.rows.accounts())
    closing = int(pc.sum(last["closing_paise"]).as_py() or 0)
    lines = charges.group_by("line").aggregate([("amount_paise", "sum")])
    month_ends = {d.replace(day=1): d for d in days}.values()
    bills = pa.concat_tables([bills_to_date(site.lake, d, s) for d in month_ends for s in shards])
    billed = int(pc.sum(bills["to_date_paise"]).as_py() or 0)
    holds = {
        "statements = charges, to the paisa": totals["charges_paise"] == int(pc.sum(charges["amount_paise"]).as_py() or 0),
        "opening + recharges - charges = closing, to the paisa": opening + totals["recharges_paise"] - totals["charges_paise"] == closing,
        "charges = each month's bill to date, to the paisa": billed == totals["charges_paise"],
    }
    return {
        "opening_paise": opening,
        **totals,
        "closing_paise": closing,
        "by_line_paise": dict(sorted(zip(lines["line"].to_pylist(), lines["amount_paise_sum"].to_pylist(), strict=True))),
        "holds": holds,
    }


def _balance(site: Site) -> dict[str, Any]:
    """Loss of each feeder and transformer over all days, with coverage, and whether each hour of each adds up."""
    rows = pa.concat_tables([site.lake.read("balance", d, s) for d in site.deployment.open_days for s in site.rows.shards()])
    whole = rows.filter(pc.is_null(rows["hour"]))
    nodes: dict[str, dict[str, Any]] = {"feeder": {}, "transformer": {}}
    for kind, by_node in nodes.items():
        own = whole.filter(pc.equal(whole["kind"], kind))
        for node in sorted(set(own["node"].to_pylist())):
            days = own.filter(pc.equal(own["node"], node)).to_pylist()
            complete = [d for d in days if d["loss_wh"] is not None]
            in_wh, loss_wh = sum(d["in_wh"] for d in complete), sum(d["loss_wh"] for d in complete)
            by_node[node] = {
                "in_wh": in_wh,
                "loss_wh": loss_wh,
                "loss_share": round(loss_wh / in_wh, 5) if in_wh else None,
                "coverage": round(float(np.mean([d["coverage"] for d in days])), 5),
                "days_known": len(complete),
            }
    return {
        "feeders": nodes["feeder"],
        "transformers": nodes["transformer"],
        "adds_up": _balances_again(site),
    }


def _balances_again(site: Site) -> bool:
    """Every hour of every balance reckoned again from validated readings and the registry, by another way than the kernel's: a transformer's loss
    is its meter less its consumers' meters, a feeder's its meter less its transformers' meters."""
    points = site.rows.usage_points()
    place = {m.serial: (m.shard, m.index) for m in site.rows.meters()}
    per_hour = 60 // site.deployment.interval_minutes
    for day in site.deployment.open_days:
        for shard in site.rows.shards():
            values = site.lake.read_blocks("validated", day, shard)[IMPORT_WH.name].values
            hourly = {p.meter: _hourly(values[:, place[p.meter][1]], per_hour) for p in points if place[p.meter][0] == shard}
            for row in site.lake.read("balance", day, shard).to_pylist():
                if row["hour"] is None or row["loss_wh"] is None:
                    continue
                kind, below = (
                    (NodeKind.TRANSFORMER, NodeKind.CONSUMER) if row["kind"] == "transformer" else (NodeKind.FEEDER, NodeKind.TRANSFORMER)
                )
                above = sum(hourly[p.meter][row["hour"]] for p in points if p.kind is kind and p.name == row["node"])
                at_node = [
                    p for p in points if p.kind is below and row["node"] == (p.transformer if below is NodeKind.CONSUMER else p.feeder)
                ]
                if above - sum(hourly[p.meter][row["hour"]] for p in at_node) != row["loss_wh"]:
                    return False
    return True


def _hourly(values: Int32, per_hour: int) -> list[int]:
    """The sums of each hour [Wh]; a gap counts as nothing, as it does in a transformer's out."""
    return [int(hour.sum()) for hour in np.where(values == MISSING, 0, values).astype(np.int64).reshape(-1, per_hour)]


def _suspicion(site: Site, town: Town, plan: Plan, losses: dict[str, Any]) -> dict[str, Any]:
    """Where the planted thieves and wrongly mapped meters stand in what the audit has found (`day/found.py`), as an auditor sees it."""
    found = Found(site.lake)
    moves, short = found.proposals(), found.suspects()
    thieves = {town.meters[k].serial: shape for k, shape in plan.theft.items()}
    wrong = {town.meters[k].serial: true for k, true in plan.mapped_wrong.items()}
    rank = {row.serial: row.rank for row in short}
    return {
        "mapping_proposals": [
            {"meter": p.serial, "registry": p.now, "proposed": p.to, "confidence": round(p.confidence, 3)} for p in moves[:LISTED]
        ],
        "mapped_wrong_found": sorted(p.serial for p in moves if wrong.get(p.serial) == p.to),
        "mapped_wrong_planted": sorted(wrong),
        "counting_too_little": [
            {
                "meter": s.serial,
                "transformer": s.transformer,
                "probability": round(s.probability, 3),
                "evidence": [e.code for e in s.evidence],
            }
            for s in short[:LISTED]
        ],
        "thieves_found": {serial: rank.get(serial) for serial in sorted(thieves)},
        "thieves_transformer": {
            town.meters[k].serial: _standing(losses, town.transformers[town.true_transformer[k]].name) for k in plan.theft
        },
        "thieves_planted": dict(sorted(thieves.items())),
    }


def _standing(losses: dict[str, Any], transformer: str) -> dict[str, Any]:
    """A transformer's loss share and its place among all, the highest first."""
    shares = sorted((node["loss_share"] for node in losses.values() if node["loss_share"] is not None), reverse=True)
    own = losses[transformer]["loss_share"]
    return {"transformer": transformer, "loss_share": own, "place": shares.index(own) + 1 if own is not None else None, "of": len(shares)}


def _kwh(values: Int32) -> float:
    return round(float(np.where(values == MISSING, 0, values).sum(dtype=np.int64)) / 1000, 3)


def _fingerprint(validated: Int32, quality: UInt32) -> str:
    """SHA-256 over all validated values and quality bits: the same seed must give the same one."""
    return hashlib.sha256(np.ascontiguousarray(validated).tobytes() + np.ascontiguousarray(quality).tobytes()).hexdigest()
