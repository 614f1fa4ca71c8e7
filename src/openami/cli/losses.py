"""`openami losses`: what was lost where, with its interval; what the audit has found; and all of it as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app

if TYPE_CHECKING:
    from ..day import Site

ORDERS = ("account", "record", "outages", "suspects", "places", "loading", "export")


@app.command()
def losses(
    order: Annotated[str, typer.Argument(metavar="|".join(ORDERS), help="What to do or to show.")] = "account",
    tables: Annotated[list[str] | None, typer.Argument(metavar="TABLE...", help="export: which tables; left out = all.")] = None,
    day: Annotated[str | None, typer.Option(help="The first day, as 2025-12-01; left out = the last closed one.")] = None,
    days: Annotated[int, typer.Option(help="How many days together.")] = 1,
    out: Annotated[Path, typer.Option(help="export: the folder for the files.")] = Path("losses"),
    as_format: Annotated[str, typer.Option("--format", help="export: parquet or csv.")] = "parquet",
    anew: Annotated[bool, typer.Option("--anew", help="record: also days whose findings are up to date.")] = False,
    data: DataOption = DEMO_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """The energy audit of closed days.

    account: in, out and loss of every feeder and transformer, with a 90 % interval, coverage, and why it is wide. record: write down what the audit
    finds (every close does it). outages, suspects, places (who seems to hang elsewhere), loading: what was written. export: it all as files.
    """
    from ..day.site import Site
    from ..store.deployment import Folder

    if order not in ORDERS:
        raise InputError(f"{order!r} is nothing to do with losses; write {', '.join(ORDERS[:-1])} or {ORDERS[-1]}")
    if tables and order != "export":
        raise InputError(f"{tables[0]!r}: only export takes tables")
    site = Site.open(Folder(data))
    closed = site.lake.days("validated")
    if not closed:
        raise InputError(f"{data} has no closed day; close one first: openami close --data {data}")
    if days < 1:
        raise InputError(f"--days {days}: give 1 or more")
    first = a_day(day, "--day") if day else closed[-1]
    span = [first + timedelta(days=k) for k in range(days)]
    missing = [each for each in span if each not in closed]
    if missing:
        raise InputError(f"{missing[0]} is not closed; closed are {closed[0]} to {closed[-1]}")
    if order == "account":
        _account(site, span, as_json)
    elif order == "record":
        _record(site, span if day else None, anew, data)
    elif order == "export":
        _export(site, span, tables or [], out, as_format)
    else:
        _found(site, order, span, as_json)


def _account(site: Site, span: list[date], as_json: bool) -> None:
    from ..day.audit import audit
    from ..losses.account import Part
    from ..readings import MISSING64

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
        for sentence in found.doubts:
            print(json.dumps({"doubt": sentence}, ensure_ascii=False) if as_json else f"  ! {sentence}")


def _record(site: Site, span: list[date] | None, anew: bool, data: Path) -> None:
    from ..day.findings import record

    done = record(site, span, anew=anew)
    print(f"{data}: {done['recorded']:,} days of shards recorded, suspects looked for in {done['looked']:,} shards")


def _export(site: Site, span: list[date], tables: list[str], out: Path, as_format: str) -> None:
    from ..day.found import TABLES
    from ..day.found_files import FORMATS, export

    if as_format not in FORMATS:
        raise InputError(f"--format {as_format!r}: write {' or '.join(FORMATS)}")
    if unknown := [name for name in tables if name not in TABLES]:
        raise InputError(f"the audit keeps no {unknown[0]!r}; it keeps {', '.join(TABLES)}")
    for path, rows in export(site.lake, span, tables or list(TABLES), out, as_format):
        print(f"{path}: {rows:,} rows")


def _found(site: Site, order: str, span: list[date], as_json: bool) -> None:
    from ..day.found import Found

    found = Found(site.lake)
    if span[-1] not in found.days():
        raise InputError(f"{span[-1]} has no findings yet; write them first: openami losses record --data {site.folder.root}")
    rows: list[Any]
    if order == "outages":
        rows = [*found.outages(span[0], span[-1])]
    elif order == "suspects":
        rows = [*found.suspects(span[-1])]
    else:
        rows = [*(found.proposals(span[-1]) if order == "places" else found.loading(span[-1]))]
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), default=str, ensure_ascii=False))
        return
    for row in rows:
        print(_told(order, row))
    if order == "outages":
        r = found.reliability(span[0], span[-1])
        told = (f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in (
            ("SAIFI", r.saifi), ("SAIDI [min]", r.saidi_min), ("CAIDI [min]", r.caidi_min), ("MAIFI", r.maifi)))  # fmt: skip
        print(f"{r.customers:,} customers, {len(rows)} outages: {', '.join(told)}")
    elif not rows:
        print(f"none, by the days up to {span[-1]}")


def _told(order: str, row: Any) -> str:
    if order == "outages":
        end = "open" if row.end is None else f"{row.end:%H:%M:%S}"
        return f"{row.start:%Y-%m-%d %H:%M:%S} to {end} UTC  {row.level} {row.node}: {row.customers} customers, {row.evidence}" + (
            ", announced" if row.planned else ""
        )
    if order == "suspects":
        reasons = "".join(f"\n      {e.says}\n        or else: {e.innocent}" for e in row.evidence)
        worth = f"{row.worth_wh / 1e3:.1f} kWh a day"
        return (
            f"{row.rank:4d}  {row.serial}  {row.transformer}  probability {row.probability:.0%}, worth {worth}; first: {row.first}{reasons}"
        )
    if order == "places":
        return f"{row.serial}  {row.now or 'nowhere'} -> {row.to}  {row.confidence:.1%}, by {row.days} days"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.0%}"

    spare = "-" if row.spare_kw is None else f"{row.spare_kw:.0f} kW"
    return (
        f"{row.transformer:16s} peak {share(row.peak_share)}, mean {share(row.mean_share)} of its rating; power factor {share(row.power_factor)}; "
        f"low volts {share(row.low_volts)}; room {spare}"
    )


def _line(row: dict[str, object]) -> str:
    into, out = row["in_wh"], row["out_wh"]
    cells = [f"{row['node']:16s}", *(f"{each / 1e3:12,.1f}" if isinstance(each, int) else f"{'-':>12s}" for each in (into, out))]
    if row["loss_wh"] is None or not isinstance(into, int) or into <= 0:
        return "".join([*cells, f"{'-':>8s}{'unknown':>20s}{row['coverage']:9.0%}"])
    likely, low, high = (100 * float(str(row[name])) / into for name in ("likely_wh", "low_wh", "high_wh"))
    spread = row["spread_wh"]
    widest = max(spread, key=lambda part: spread[part]) if isinstance(spread, dict) else ""
    return "".join([*cells, f"{likely:8.2f}", f"{f'{low:.2f} to {high:.2f}':>20s}", f"{row['coverage']:9.0%}", f"  {widest}"])
