"""`openami losses`: what was lost where, with its interval."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, app, day_of


@app.command()
def losses(
    day: Annotated[str | None, typer.Option(help="The first day, as 2025-12-01; left out = the last closed one.")] = None,
    days: Annotated[int, typer.Option(help="How many days together.")] = 1,
    data: DataOption = DEMO_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """The energy account of closed days: in, out and loss of every feeder and transformer, with a 90 % interval, coverage, and why it is wide."""
    from ..day.audit import audit
    from ..day.site import Site
    from ..losses.account import Part
    from ..readings import MISSING64
    from ..store.deployment import Folder

    site = Site.open(Folder(data))
    closed = site.lake.days("validated")
    if not closed:
        raise InputError(f"{data} has no closed day; close one first: openami close --data {data}")
    first = day_of(day) if day else closed[-1]
    if days < 1:
        raise InputError(f"--days {days}: give 1 or more")
    span = [first + timedelta(days=k) for k in range(days)]
    missing = [each for each in span if each not in closed]
    if missing:
        raise InputError(f"{missing[0]} is not closed; closed are {closed[0]} to {closed[-1]}")
    if not as_json:
        print(f"{'node':16s}{'in kWh':>12s}{'out kWh':>12s}{'loss %':>8s}{'90 % interval':>20s}{'metered':>9s}  mostly from")
    for found in audit(site, span):
        j = found.joined
        for k in sorted(found.nodes, key=lambda k: (j.levels[k] != "feeder", j.names[k])):
            known = j.loss_wh[k] != MISSING64
            row: dict[str, object] = {
                "node": j.names[k], "level": str(j.levels[k]), "in_wh": int(j.in_wh[k]) if j.in_wh[k] != MISSING64 else None,
                "out_wh": int(j.out_wh[k]) if j.out_wh[k] != MISSING64 else None, "loss_wh": int(j.loss_wh[k]) if known else None,
                "likely_wh": round(float(j.likely_wh[k])) if known else None, "low_wh": round(float(j.low_wh[k])) if known else None,
                "high_wh": round(float(j.high_wh[k])) if known else None, "coverage": round(float(j.coverage[k]), 4),
                "spread_wh": {p.name.lower(): round(float(j.spread_wh[p, k])) for p in Part},
            }  # fmt: skip
            print(json.dumps(row) if as_json else _line(row))
        for sentence in () if as_json else found.doubts:
            print(f"  ! {sentence}")


def _line(row: dict[str, object]) -> str:
    into, out = row["in_wh"], row["out_wh"]
    cells = [f"{row['node']:16s}", *(f"{each / 1e3:12,.1f}" if isinstance(each, int) else f"{'-':>12s}" for each in (into, out))]
    if row["loss_wh"] is None or not isinstance(into, int) or into <= 0:
        return "".join([*cells, f"{'-':>8s}{'unknown':>20s}{row['coverage']:9.0%}"])
    likely, low, high = (100 * float(str(row[name])) / into for name in ("likely_wh", "low_wh", "high_wh"))
    spread = row["spread_wh"]
    widest = max(spread, key=lambda part: spread[part]) if isinstance(spread, dict) else ""
    return "".join([*cells, f"{likely:8.2f}", f"{f'{low:.2f} to {high:.2f}':>20s}", f"{row['coverage']:9.0%}", f"  {widest}"])
