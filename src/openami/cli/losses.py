"""`openami losses`: what was lost where, with its interval. What else the audit has found: losses_kept.py; energy against money: losses_money.py."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import losses_kept, losses_money
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app, site_at

if TYPE_CHECKING:
    from ..day import Site
    from ..day.found import NodeAccount

ORDERS = (
    "account", "now", "record", "outages", "suspects", "places", "technical", "loading", "tomorrow", "atc", "quarter", "inspected", "inspections",
    "classes", "export",
)  # fmt: skip
MAY_FOLLOW = {
    "export": "tables",
    "inspected": "a meter and what was found",
    "classes": "a file of meters' accuracy classes",
    "tomorrow": "a feeder or transformer",
    "quarter": "the year in which the financial year begins, and 1 to 4",
}
"""What may be written behind an order."""


@app.command()
def losses(
    order: Annotated[str, typer.Argument(metavar="|".join(ORDERS), help="What to do or to show.")] = "account",
    more: Annotated[
        list[str] | None, typer.Argument(metavar="MORE...", help="; ".join(f"{name}: {what}" for name, what in MAY_FOLLOW.items()) + ".")
    ] = None,
    day: Annotated[str | None, typer.Option(help="The first day, as 2025-12-01; left out = the last closed one.")] = None,
    days: Annotated[int, typer.Option(help="How many days together.")] = 1,
    month: Annotated[str | None, typer.Option(help="Instead of --day and --days: the closed days of a month, as 2025-12.")] = None,
    hours: Annotated[bool, typer.Option("--hours", help="account, now: by the hour.")] = False,
    out: Annotated[Path | None, typer.Option(help="export: the folder for the files; quarter: the file, left out = the terminal.")] = None,
    as_format: Annotated[str, typer.Option("--format", help="export: parquet or csv.")] = "parquet",
    by: Annotated[str, typer.Option("--by", help="inspected: who was there.")] = "",
    note: Annotated[str, typer.Option(help="inspected: what was seen, in your words.")] = "",
    at_random: Annotated[bool, typer.Option("--at-random", help="inspected: chosen by lot, not by suspicion.")] = False,
    discom: Annotated[str, typer.Option(help="quarter: whose account it is.")] = "DISCOM",
    anew: Annotated[bool, typer.Option("--anew", help="record: also days whose findings are up to date.")] = False,
    data: DataOption = DEMO_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """The energy audit of closed days.

    account: in, out and loss of every node, with a 90 % interval, coverage, and why it is wide. now: the same of the day that is not closed
    yet, from what has come so far. record: write down what the audit
    finds (every close does it). outages, suspects, places (who seems to hang elsewhere), technical (what wires lose), loading: what was written.
    tomorrow: the next day's demand with quantiles. atc: AT&C loss by feeder, division and in all. quarter: the quarterly energy
    account as CSV. inspected: write down what a visit found; suspects learn from it. inspections: those known. classes: write the classes on
    nameplates (serial,accuracy_class) into the registry; intervals go by them. export: all as files.
    """
    if order not in ORDERS:
        raise InputError(f"{order!r} is nothing to do with losses; write {', '.join(ORDERS[:-1])} or {ORDERS[-1]}")
    if more and order not in MAY_FOLLOW:
        raise InputError(f"{more[0]!r}: behind {order} nothing may be written; only {', '.join(MAY_FOLLOW)} take more")
    site, words = site_at(data), more or []
    match order:
        case "now":
            _now(site, hours=hours, as_json=as_json)
        case "inspected":
            losses_kept.inspected(site, words, day, by, note, at_random=at_random)
        case "inspections":
            losses_kept.inspections(site, as_json)
        case "classes":
            losses_kept.classes(site, words)
        case "quarter":
            losses_money.quarter(site, words, discom, out)
        case "record":
            span = _span(site, day, days, month, data)
            _record(site, span if day or month else None, anew, data)
        case "export":
            losses_kept.export_tables(site, _span(site, day, days, month, data), words, out or Path("losses"), as_format)
        case _:
            _show(order, site, _span(site, day, days, month, data), words, hours=hours, as_json=as_json)


def _show(order: str, site: Site, span: list[date], words: list[str], *, hours: bool, as_json: bool) -> None:
    """What is known of closed days."""
    if order == "account" and hours:
        _hours(site, span, as_json)
    elif order == "account":
        _account(site, span, as_json)
    elif order == "atc":
        losses_money.atc_by_feeder(site, span, as_json)
    elif order == "tomorrow":
        losses_kept.next_day(site, span[-1], words, as_json)
    else:
        losses_kept.shown(site, order, span, as_json)


def _span(site: Site, day: str | None, days: int, month: str | None, data: Path) -> list[date]:
    """The closed days that are asked for."""
    closed = site.lake.days("validated")
    if not closed:
        raise InputError(f"{data} has no closed day; close one first: openami close --data {data}")
    if month is not None:
        if own := [each for each in closed if each.isoformat().startswith(f"{month}-")]:
            return own
        raise InputError(f"no day of {month} is closed; write a month as 2025-12; closed are {closed[0]} to {closed[-1]}")
    if days < 1:
        raise InputError(f"--days {days}: give 1 or more")
    first = a_day(day, "--day") if day else closed[-1]
    span = [first + timedelta(days=k) for k in range(days)]
    missing = [each for each in span if each not in closed]
    if missing:
        raise InputError(f"{missing[0]} is not closed; closed are {closed[0]} to {closed[-1]}")
    return span


def _hours(site: Site, span: list[date], as_json: bool) -> None:
    """The last day of the span by the hour, as the audit wrote it down."""
    from ..day.found import Found
    from ..day.shares import AREA

    found = Found(site.lake)
    nodes = [(account.node, account.level) for account in found.accounts(span[-1])]
    if not nodes:
        raise InputError(f"{span[-1]} has no findings yet; write them first: openami losses record --data {site.folder.root}")
    if not as_json:
        print(HEAD)
    for node, level in nodes:
        for hour in found.hours(span[-1], node, level):
            row = asdict(hour)
            name = f"{node}{AREA if level.endswith(AREA) else ''} {hour.hour:02d}"
            print(json.dumps(row) if as_json else _line({**row, "node": name}))


def _account(site: Site, span: list[date], as_json: bool) -> None:
    from ..day.audit import audit
    from ..day.shares import AREA
    from ..losses.account import Part
    from ..readings import MISSING64

    reckoned, said = list(audit(site, span)), set[str]()
    if not as_json:
        print(HEAD)
    for found in reckoned:
        j = found.joined
        for k in sorted(found.nodes, key=lambda k: (j.levels[k] != "feeder", j.names[k])):
            known = j.loss_wh[k] != MISSING64
            row: dict[str, object] = {
                "node": j.names[k], "level": f"{j.levels[k]}{AREA if found.area else ''}",
                "in_wh": int(j.in_wh[k]) if j.in_wh[k] != MISSING64 else None,
                "out_wh": int(j.out_wh[k]) if j.out_wh[k] != MISSING64 else None, "loss_wh": int(j.loss_wh[k]) if known else None,
                "likely_wh": round(float(j.likely_wh[k])) if known else None, "low_wh": round(float(j.low_wh[k])) if known else None,
                "high_wh": round(float(j.high_wh[k])) if known else None, "coverage": round(float(j.coverage[k]), 4),
                "spread_wh": {p.name.lower(): round(float(j.spread_wh[p, k])) for p in Part},
            }  # fmt: skip
            print(json.dumps(row) if as_json else _line({**row, "node": f"{row['node']}{AREA if found.area else ''}"}))
        for sentence in found.doubts:
            if sentence not in said:  # shards that see the same records say the same of them
                print(json.dumps({"doubt": sentence}, ensure_ascii=False) if as_json else f"  ! {sentence}")
        said |= {*found.doubts}


def _now(site: Site, *, hours: bool, as_json: bool) -> None:
    """The day that is not closed yet, as it stands."""
    from ..day.running import running
    from ..day.shares import AREA

    found = running(site, int(time.time()))
    if found is None:
        raise InputError(
            f"no reading of a day that is not closed has come to {site.folder.root}; collect first: openami close, or a worker"
        )
    as_of = site.calendar.local(found.as_of_s)
    if not as_json:
        print(
            f"{found.day}, provisional, as of {as_of:%Y-%m-%d %H:%M}: readings as they came, not validated; what has not come yet widens the interval"
        )
        print(HEAD)
    for one in found.hours() if hours else found.so_far:
        row = {**asdict(one), "day": found.day.isoformat(), "as_of": as_of.isoformat(), "provisional": True}
        name = f"{one.node}{AREA if one.level.endswith(AREA) else ''}{'' if one.hour is None else f' {one.hour:02d}'}"
        print(json.dumps(row) if as_json else "\n    ".join([_line({**row, "node": name}), *_lacks(one)]))
    for sentence in found.doubts:
        print(json.dumps({"doubt": sentence}, ensure_ascii=False) if as_json else f"  ! {sentence}")


def _lacks(one: NodeAccount) -> list[str]:
    """What is shown where meters have not told of everything."""
    area, said = one.level.endswith(" area"), list[str]()
    if one.own_lacks:
        instead = "from its feeders' heads instead" if area else "the loss is unknown"
        said.append(f"its own meter has not told of every interval: {instead}")
    if one.below_lack:
        instead = "left out" if area else "counted further down, with the loss of the wires behind them"
        said.append(f"meters below that have not told of every interval: {one.below_lack}; what they measure is {instead}")
    return said


def _record(site: Site, span: list[date] | None, anew: bool, data: Path) -> None:
    from ..day.findings import record

    done = record(site, span, anew=anew)
    print(f"{data}: {done['recorded']:,} days of shards recorded, suspects looked for in {done['looked']:,} shards")


HEAD = f"{'node':22s}{'in kWh':>12s}{'out kWh':>12s}{'loss %':>8s}{'90 % interval':>20s}{'metered':>9s}  mostly from"


def _line(row: dict[str, object]) -> str:
    into, out = row["in_wh"], row["out_wh"]
    cells = [f"{row['node']:22s}", *(f"{each / 1e3:12,.1f}" if isinstance(each, int) else f"{'-':>12s}" for each in (into, out))]
    if row["loss_wh"] is None or not isinstance(into, int) or into <= 0:
        return "".join([*cells, f"{'-':>8s}{'unknown':>20s}{row['coverage']:9.0%}"])
    likely, low, high = (100 * float(str(row[name])) / into for name in ("likely_wh", "low_wh", "high_wh"))
    spread = row["spread_wh"]
    widest = max(spread, key=lambda part: spread[part]) if isinstance(spread, dict) else ""
    return "".join([*cells, f"{likely:8.2f}", f"{f'{low:.2f} to {high:.2f}':>20s}", f"{row['coverage']:9.0%}", f"  {widest}"])
