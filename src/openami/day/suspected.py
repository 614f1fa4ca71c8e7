"""Looking back over the last closed days of a shard: where meters really hang, whom to visit first, what wires lose, how transformers are loaded.

What always holds: estimates count as missing; a meter's doubtful place is known before it is suspected; nobody is listed without evidence; what
inspections found is learnt from.
"""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pyarrow as pa

from ..losses.features import Features
from ..losses.mapping import Proposal
from ..losses.suspects import EVIDENCE, Model, Suspect, contributions, suspects
from .inspected import learnt
from .loaded import LOADING, Around, loading_rows
from .signs import known_features, signs_of, tampers, whereabouts
from .site import Site
from .span import SPAN_DAYS, Group, spans
from .technical import TECHNICAL, technical_rows

LISTED, LISTED_SHARE = 20, 0.02
PROBABLE, PROBABLE_UNMEASURED = 0.25, 0.08
"""A feeder's suspects: the first twenty, or 2 % of its consumers where that is more, of those with evidence and at least this probability: at most
three of four are expected to be innocent. Where no transformer's meter can speak for or against anybody, a single strong sign is enough."""
DAYS_MIN = 2


def look_back(site: Site, last: date, shard: int, span_days: int = SPAN_DAYS) -> None:
    """Write `suspects`, `mapping_proposals`, `mapping_doubts`, `technical` and `loading` of (last, shard), from up to `span_days` closed days
    that end with it. By one day nobody is suspected: a table without rows says that it was looked."""
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in SCHEMAS}
    model, around, interval_s = learnt(site), Around.of(site, last), site.calendar.interval_s
    for span in spans(site, last, shard, span_days):
        tamper = tampers(site, span, last, span_days)
        for group in span.groups():
            where = whereabouts(group)
            rows["mapping_proposals"] += [_proposed(group, p) for p in where.proposals]
            rows["mapping_doubts"] += [{"serial": s, "doubt": d} for s, d in zip(group.serials(), where.doubts.tolist(), strict=True)]
            if span.days >= DAYS_MIN:
                rows["suspects"] += _suspects(group, model, signs_of(group, tamper, where))
            rows["technical"] += technical_rows(group, where, interval_s)
            rows["loading"] += loading_rows(group, around, interval_s)
    rows["suspects"].sort(key=lambda row: (-float(str(row["worth_wh"])), str(row["serial"])))
    for rank, row in enumerate(rows["suspects"], start=1):
        row["rank"] = rank
    with site.lake.draft(last) as draft:
        for name, schema in SCHEMAS.items():
            draft.write(name, shard, pa.Table.from_pylist(rows[name], schema))
        draft.commit()


def _proposed(group: Group, p: Proposal) -> dict[str, object]:
    return {
        "serial": group.serials()[p.meter], "feeder": group.feeder, "now": group.name(p.now), "to": group.name(p.to), "confidence": p.confidence,
        "voltage": p.voltage, "energy": p.energy, "days": group.span.days,
    }  # fmt: skip


def _suspects(group: Group, model: Model, found: Features) -> list[dict[str, object]]:
    most = max(LISTED, int(LISTED_SHARE * group.members.size))
    least = np.where(np.isnan(found.missing_wh), PROBABLE_UNMEASURED, PROBABLE)
    listed = [s for s in suspects(model, found, most) if s.evidence and s.probability >= least[s.meter]]
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
    return {
        "serial": group.serials()[s.meter], "transformer": group.name(int(group.at[s.meter])), "feeder": group.feeder,
        "probability": s.probability, "stolen_wh": s.stolen_wh, "worth_wh": s.worth_wh, "first": s.first,
        "evidence": json.dumps(evidence, ensure_ascii=False), "days": group.span.days,
        "features": json.dumps(known_features(values)),
    }  # fmt: skip


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
DOUBTS = pa.schema([("serial", pa.string()), ("doubt", pa.float64())])
SCHEMAS = {"suspects": SUSPECTS, "mapping_proposals": PROPOSALS, "mapping_doubts": DOUBTS, "technical": TECHNICAL, "loading": LOADING}
