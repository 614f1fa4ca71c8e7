"""`openami losses`: what the audit has written down, as lines, JSON or files; tomorrow's demand; and what visits found."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from datetime import date, timedelta
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, RequestError
from .words import a_day, audited

if TYPE_CHECKING:
    from ..day.site import Site


def shown(site: Site, order: str, span: list[date], as_json: bool) -> None:
    """Outages, suspects, places, technical or loading."""
    from ..day.found import Found
    from ..day.outages import announced_nowhere

    found = Found(site.lake)
    if span[-1] not in found.days():
        raise InputError(f"{span[-1]} has no findings yet; write them first: openami losses record --data {site.folder.root}")
    asked: dict[str, Any] = {
        "outages": lambda: found.outages(span[0], span[-1]),
        "suspects": lambda: found.suspects(span[-1]),
        "places": lambda: found.proposals(span[-1]),
        "technical": lambda: found.technical(span[-1]),
        "loading": lambda: found.loading(span[-1]),
    }
    rows = asked[order]()
    for row in rows:
        print(json.dumps(asdict(row), default=str, ensure_ascii=False) if as_json else LINES[order](row))
    for sentence in announced_nowhere(site) if order == "outages" else ():
        print(json.dumps({"doubt": sentence}, ensure_ascii=False) if as_json else f"  ! {sentence}")
    if order == "outages" and not as_json:
        r = found.reliability(span[0], span[-1])
        told = (f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in (
            ("SAIFI", r.saifi), ("SAIDI [min]", r.saidi_min), ("CAIDI [min]", r.caidi_min), ("MAIFI", r.maifi)))  # fmt: skip
        print(f"{r.customers:,} customers, {len(rows)} outages: {', '.join(told)}")
    elif not rows and not as_json:
        print(f"none, by the days up to {span[-1]}")


def _outage(row: Any) -> str:
    end = "open" if row.end is None else f"{row.end:%H:%M:%S}"
    told = f"{row.start:%Y-%m-%d %H:%M:%S} to {end} UTC  {row.level} {row.node}: {row.customers} customers, {row.evidence}"
    return told + (", announced" if row.planned else "")


def _suspect(row: Any) -> str:
    reasons = "".join(f"\n      {e.says}\n        or else: {e.innocent}" for e in row.evidence)
    worth = f"{row.worth_wh / 1e3:.1f} kWh a day"
    return f"{row.rank:4d}  {row.serial}  {row.transformer}  probability {row.probability:.0%}, worth {worth}; first: {row.first}{reasons}"


def _place(row: Any) -> str:
    return f"{row.serial}  {row.now or 'nowhere'} -> {row.to}  {row.confidence:.1%}, by {row.days} days"


def _technical(row: Any) -> str:
    of = max(row.in_wh, 1.0)
    spread = f"{row.low_wh / of:.2%} to {row.high_wh / of:.2%}"
    return f"{row.node:16s} wires and iron lose {row.technical_wh / of:.2%} of what comes in ({spread}), by {row.days} days"


def _loading(row: Any) -> str:
    room = ", ".join(f"{'-' if kw is None else format(kw, '.0f')} kW {what}" for kw, what in (
        (row.spare_kw, "load"), (row.solar_kw, "solar"), (row.vehicle_kw, "vehicles")))  # fmt: skip
    classes = json.loads(row.peak_by_class) if row.peak_by_class else {}
    return (
        f"{row.transformer:16s} peak {_share(row.peak_share)}, mean {_share(row.mean_share)} of its rating; power factor "
        f"{_share(row.power_factor)}; unbalance {_share(row.unbalance)}; volts low {_share(row.low_volts)}, high {_share(row.high_volts)}; "
        f"room for {room}"
        + (f"; peak by {', '.join(f'{name} {share:.0%}' for name, share in classes.items())}" if classes else "")
        + (f"; hot spot {row.hot_spot_c:.0f} degrees" if row.hot_spot_c is not None else "")
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


LINES = {"outages": _outage, "suspects": _suspect, "places": _place, "technical": _technical, "loading": _loading}


def export_tables(site: Site, span: list[date], tables: list[str], out: Path, as_format: str) -> None:
    from ..day.found import TABLES
    from ..day.found_files import FORMATS, export

    if as_format not in FORMATS:
        raise InputError(f"--format {as_format!r}: write {' or '.join(FORMATS)}")
    if unknown := [name for name in tables if name not in TABLES]:
        raise InputError(f"the audit keeps no {unknown[0]!r}; it keeps {', '.join(TABLES)}")
    for path, rows in export(site.lake, span, tables or list(TABLES), out, as_format):
        print(f"{path}: {rows:,} rows")


def inspected(site: Site, words: list[str], day: str | None, by: str, note: str, *, at_random: bool) -> None:
    """Write down what a visit found."""
    from ..day.inspected import inspect
    from ..store.inspections import Result

    if len(words) != 2 or words[1] not in {*Result}:
        raise InputError(f"write which meter and what was found, as: openami losses inspected SERIAL {' or '.join(Result)}")
    now_s = int(time.time())
    visit = inspect(
        site,
        words[0],
        a_day(day, "--day") if day else site.calendar.local(now_s).date(),
        Result(words[1]),
        by,
        note,
        now_s,
        at_random=at_random,
    )
    learnt = f"{len(visit.features)} features of the days before are kept with it" if visit.features else "nothing was measured before it"
    print(f"{visit.serial} {visit.day}: {visit.result}; {learnt}. Look again: openami losses record --anew --data {site.folder.root}")


def inspections(site: Site, as_json: bool) -> None:
    from ..store.inspections import Inspections

    visits = Inspections(site.rows).current()
    for v in visits:
        chosen = ", chosen by lot" if v.at_random else ""
        print(
            json.dumps(asdict(v), default=str, ensure_ascii=False)
            if as_json
            else f"{v.day}  {v.serial}  {v.result}{chosen}  {v.who}: {v.note}"
        )
    if not visits and not as_json:
        print("no inspection is known; write one down: openami losses inspected SERIAL RESULT --by WHO")


def classes(site: Site, words: list[str]) -> None:
    """Write the accuracy classes of a file into the registry, all or none; who ran it stands in the audit trail."""
    if len(words) != 1:
        raise InputError("write the file with serial,accuracy_class: openami losses classes FILE")
    from ..day.written import read_written

    path, found = Path(words[0]), dict[str, float]()
    if not path.exists():
        raise InputError(f"there is no file {path}; write the file with serial,accuracy_class: openami losses classes FILE")

    def note(row: dict[str, str]) -> None:
        serial, text = row["serial"], row["accuracy_class"]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not serial or not 0 < value <= 10:
            raise ValueError(f"{serial or 'no meter'}: {text!r} is no accuracy class")
        if serial in found:
            raise ValueError(f"{serial}: stands twice")
        found[serial] = value

    read_written(path, note, "serial,accuracy_class as XMA0000001,0.5")
    try:
        site.rows.note_classes(found)
    except RequestError as error:
        raise InputError(f"{path}: {error}") from error
    audited(site.rows, getuser(), "registry.classes", path.name, f"{len(found)} meters")
    print(f"{len(found):,} classes written down; look again: openami losses record --anew --data {site.folder.root}")


def next_day(site: Site, last: date, nodes: list[str], as_json: bool) -> None:
    """Tomorrow's demand of all feeders and transformers, or of one."""
    from ..day.tomorrow import tomorrow
    from ..losses.forecast import QUANTILES

    if len(nodes) > 1:
        raise InputError(f"{nodes[1]!r}: tomorrow takes one feeder or transformer, or none for all")
    told = list(tomorrow(site, last, nodes[0] if nodes else None))
    if not told:
        raise InputError(
            f"there is no feeder or transformer {nodes[0]!r} with a meter" if nodes else "no feeder or transformer has a meter"
        )
    for node in told:
        if as_json:
            kw = {
                f"q{round(100 * q):02d}_kw": [None if math.isnan(v) else round(v, 3) for v in row]
                for q, row in zip(QUANTILES, node.kw, strict=True)
            }
            scores = {name: round(score, 4) for name, score in node.scores.items()}
            head = {
                "node": node.node,
                "level": node.level,
                "day": str(node.day),
                "method": node.method,
                "days": node.days,
                "scores": scores,
            }
            print(json.dumps({**head, **kw}))
        elif not node.method:
            print(f"{node.node:16s} {node.day}: only {node.days} days are known, 14 are needed")
        else:
            middle, high = node.kw[len(QUANTILES) // 2], node.kw[-1]
            at = int(max(range(len(middle)), key=lambda k: -math.inf if math.isnan(middle[k]) else middle[k]))
            clock = timedelta(minutes=at * site.deployment.interval_minutes)
            others = ", ".join(f"{name} {100 * score:.1f} %" for name, score in node.scores.items() if name != node.method)
            beside = f" {100 * node.scores[node.method]:.1f} % ({others})" if others else ""
            print(
                f"{node.node:16s} {node.day}: peak {middle[at]:.1f} kW (one in twenty above {high[at]:.1f}) at {clock}, {node.method}{beside}"
            )
