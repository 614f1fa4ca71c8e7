"""Where the energy goes, for a person who looks for it: the tree map, a transformer's day with its band, suspects with what else it could be,
meters that seem to hang elsewhere.

What always holds: a loss never stands without its coverage; a suspicion is a reason to look and names its innocent explanations; the registry is
changed by a person, with a reason, from a day on, and never backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from ...day.found import Found, NodeAccount
from ...day.running import Running, open_day
from ...errors import RequestError
from ...store.inspections import Inspection, Inspections, Result
from .. import charts
from ..access import Right, Who
from ..api.inspections import Visited, write_visit
from ..api.words import key_of, page_of
from ..charts_wide import Area, Band, band, tree_map
from ..failures import NotThere, NotUsable
from ..gate import FormToken, gate_of, needs
from ..once import ActsOnce
from ..pages import loss_class
from ..parameters import Choice, Cursor, Day, Given, Lang
from ..wording import Language
from .exports import as_file
from .routes import Name, Sees, changing, closed_day, page, reason, room_of, site_of, staff

router = APIRouter(prefix="/room", route_class=ActsOnce)
AREAS_MOST, ROWS = 300, 50
COLUMNS = ("day", "level", "node", "hour", "in_wh", "out_wh", "loss_wh", "likely_wh", "low_wh", "high_wh", "coverage")
RUNNING = (*COLUMNS, "own_lacks", "below_lack")
Orders = Annotated[Who, Depends(needs(Right.ORDER))]
SeesMeters = Annotated[Who, Depends(needs(Right.METERS))]


def feeders_of(who: Who) -> frozenset[str] | None:
    return None if who.reach.everything else frozenset(who.reach.feeders)


@router.get("/losses", response_model=None)
def losses(request: Request, who: Sees, day: Day = "", feeder: Choice = "", lang: Lang = "") -> Response:
    """The tree map: feeders, or one feeder's transformers; as large as what came in, as dark as what was lost."""
    asked = closed_day(request, day)
    stands, console = room_of(request).town.closed(asked), request.app.state.console
    if feeder and (not who.sees_feeder(feeder) or feeder not in stands.names):
        raise NotThere("feeder", feeder)
    own = [t for t in stands.transformers.values() if who.sees_feeder(t.feeder) and feeder in ("", t.feeder)]
    by_feeder = not feeder and len(own) > AREAS_MOST
    nodes = [(f.name, f.name, f.figures) for f in stands.feeders if who.sees_feeder(f.name)] if by_feeder else []
    nodes = nodes or [(t.name, t.feeder, t.figures) for t in own]
    nodes.sort(key=lambda node: -(node[2].loss_wh or 0))

    def drawn(words: Language, name: str, title: str) -> object:
        areas = [
            Area(
                float(figures.in_wh or 0),
                node,
                words.percent(figures.loss_share) if figures.loss_share is not None else words.say("unknown"),
                f"/room/losses?feeder={node}&day={asked}" if by_feeder else f"/room/losses/{node}?day={asked}",
                loss_class(figures),
            )
            for node, _, figures in nodes
        ]
        unknown = sum(figures.loss_wh is None for _, _, figures in nodes)
        text = words.say(
            "%(nodes)s areas; of %(unknown)s the loss is unknown. The table below says the same.", nodes=len(nodes), unknown=unknown
        )
        return tree_map(name, title, text, areas)

    found: dict[str, Any] = {
        "nodes": nodes,
        "feeder": feeder,
        "by_feeder": by_feeder,
        "map": drawn,
        "zone_of": console.local,
        "areas": Found(room_of(request).site().lake).above(asked) if who.reach.everything and not feeder else [],
        "runs": open_day(room_of(request).site(), gate_of(request).now_s),
    }
    return page(request, "losses.html", asked, **found)


@router.get("/running", response_model=None)
def running_day(request: Request, who: Sees, node: Choice = "", lang: Lang = "") -> Response:
    """The day that is not closed yet, so far and, of one node, by the hour."""
    site = site_of(request)
    found = request.app.state.running.of(site, gate_of(request).now_s)
    if found is None:
        raise NotThere("running", "")
    rows, hours = _looked_at(found.seen_by(feeders_of(who)), node)
    of_day = {"node": node, "hours": hours, "as_of": site.calendar.local(found.as_of_s), "runs": found.day}
    return page(request, "running.html", None, **of_day, rows=rows[:AREAS_MOST], of=len(rows), flow_figure=_flow, band_figure=_band)


@router.get("/running.csv", response_model=None)
def running_file(request: Request, who: Sees, node: Choice = "", format: Choice = "csv") -> Response:
    """Every node so far, or one node's hours."""
    found = request.app.state.running.of(site_of(request), gate_of(request).now_s)
    if found is None:
        raise NotThere("running", "")
    rows, hours = _looked_at(found.seen_by(feeders_of(who)), node)
    return as_file(_told(found.day, hours if node else rows, RUNNING), f"running-{found.day}", format, RUNNING)


def _looked_at(seen: Running, node: str) -> tuple[Sequence[NodeAccount], list[NodeAccount]]:
    """Every node so far; or one, and its hours."""
    return _of_node(seen.of(node).so_far, seen.of(node).hours(), node) if node else (seen.so_far, [])


@router.get("/areas", response_model=None)
def area(request: Request, who: Sees, node: Choice = "", day: Day = "", lang: Lang = "") -> Response:
    """Substations and what stands above them: all of a day or, of one, by the hour."""
    asked, rows, hours = _areas(request, who, node, day)
    return page(request, "areas.html", asked, rows=rows, node=node, hours=hours, flow_figure=_flow, band_figure=_band)


@router.get("/areas.csv", response_model=None)
def area_file(request: Request, who: Sees, node: Choice = "", day: Day = "", format: Choice = "csv") -> Response:
    """All of a day, or one's hours."""
    asked, rows, hours = _areas(request, who, node, day)
    return as_file(_told(asked, hours if node else rows), f"areas-{asked}", format, COLUMNS)


def _areas(request: Request, who: Who, node: str, day: str) -> tuple[date, list[NodeAccount], list[NodeAccount]]:
    """The asked day's, and the hours of `node`; for whoever sees all feeders."""
    asked = closed_day(request, day)
    found = Found(site_of(request).lake)
    rows = found.above(asked) if who.reach.everything else []
    return asked, *_of_node(rows, found.hours(asked, node, _own_level(rows, node)) if node and rows else (), node)


def _of_node(rows: Iterable[NodeAccount], hours: Iterable[NodeAccount], node: str) -> tuple[list[NodeAccount], list[NodeAccount]]:
    """The rows of one node, and its hours; all rows where none is asked for."""
    own = [one for one in rows if node in ("", one.node)]
    if node and not own:
        raise NotThere("node", node)
    level = _own_level(own, node)
    return own, [one for one in hours if one.node == node and one.level == level]


def _own_level(rows: Iterable[NodeAccount], node: str) -> str | None:
    """Of which of a node's accounts the hours are shown: of its own wires, or else of its area."""
    return min((one.level for one in rows if one.node == node), key=len, default=None)


def _told(day: date, rows: Iterable[NodeAccount], columns: tuple[str, ...] = COLUMNS) -> list[dict[str, Any]]:
    """Rows of a file, of these columns."""
    return [{"day": day.isoformat(), **{name: getattr(one, name) for name in columns[1:]}} for one in rows]


@router.get("/losses/{name}", response_model=None)
def transformer(request: Request, who: Sees, name: Name, day: Day = "", lang: Lang = "") -> Response:
    """A transformer's, or feeder's, day: in, out, and the loss with its band."""
    asked, room = closed_day(request, day), room_of(request)
    stands, found = room.town.closed(asked), Found(room.site().lake)
    feeder = next((t.feeder for t in stands.transformers.values() if t.name == name), name if name in stands.names else "")
    if not feeder or not who.sees_feeder(feeder):
        raise NotThere("transformer", name)
    hours = found.hours(asked, name)
    whole = next(iter(found.accounts(asked, nodes={name})), None)
    figures = next((t.figures for t in stands.transformers.values() if t.name == name), None)
    figures = figures or next(f.figures for f in stands.feeders if f.name == name)
    answer: dict[str, Any] = {
        "name": name,
        "feeder": feeder,
        "hours": hours,
        "whole": whole,
        "figures": figures,
        "flow_figure": _flow,
        "band_figure": _band,
    }
    return page(request, "loss.html", asked, **answer)


@router.get("/losses/{name}/hours.csv", response_model=None)
def transformer_file(request: Request, who: Sees, name: Name, day: Day = "", format: Choice = "csv") -> Response:
    asked, room = closed_day(request, day), room_of(request)
    stands = room.town.closed(asked)
    feeder = next((t.feeder for t in stands.transformers.values() if t.name == name), name if name in stands.names else "")
    if not feeder or not who.sees_feeder(feeder):
        raise NotThere("transformer", name)
    return as_file(_told(asked, Found(room.site().lake).hours(asked, name)), f"{name}-{asked}-loss", format, COLUMNS)


def _flow(words: Language, name: str, title: str, hours: list[NodeAccount]) -> object:
    data = [charts.HourBar(None if h.in_wh is None else h.in_wh / 1000, None if h.out_wh is None else h.out_wh / 1000) for h in hours]
    known = sum(h.loss_wh is not None for h in hours)
    return charts.in_out(
        name, title, words.say("%(known)s of %(hours)s hours are known.", known=known, hours=len(hours)), data, _ticks(hours), "kWh"
    )


def _band(words: Language, name: str, title: str, hours: list[NodeAccount]) -> object:
    def kwh(wh: float | None) -> float | None:
        return None if wh is None else wh / 1000

    known = [h for h in hours if h.likely_wh is not None and h.low_wh is not None and h.high_wh is not None]
    text = words.say("%(known)s of %(hours)s hours are known.", known=len(known), hours=len(hours))
    sure = sum((h.low_wh or 0) > 0 for h in known)
    text += " " + words.say("In %(sure)s of them the whole band lies above zero.", sure=sure)
    data = [Band(kwh(h.low_wh), kwh(h.likely_wh), kwh(h.high_wh)) for h in hours]
    return band(name, title, text, data, _ticks(hours), "kWh")


def _ticks(hours: list[NodeAccount]) -> list[charts.Tick]:
    return [charts.Tick(k, f"{h.hour:02d}") for k, h in enumerate(hours) if h.hour is not None and h.hour % 3 == 0]


@router.get("/suspects", response_model=None)
def suspects(request: Request, who: SeesMeters, cursor: Cursor = None, lang: Lang = "") -> Response:
    """Whom to visit first, why, and what else it could be."""
    staff(who)
    after = key_of(cursor, int)
    first = after[0] if after else 0
    rows = Found(site_of(request).lake).suspects(feeders=feeders_of(who), limit=first + ROWS + 1)[first:]
    kept, onward = page_of(rows, ROWS, lambda row: (first + ROWS,))
    shown = {row.serial for row in kept}
    visits: dict[str, Inspection] = {}
    for visit in Inspections(site_of(request).rows).current(feeders=feeders_of(who)):
        if visit.serial in shown:
            visits.setdefault(visit.serial, visit)
    asked: dict[str, Any] = {"visits": visits, "results": list(Result), "may_order": who.may(Right.ORDER)}
    return page(request, "suspects.html", rows=kept, onward=onward, first=first, **asked)


@router.post("/suspects", response_model=None)
def visited(request: Request, who: Orders, meter: Given = "", result: Given = "", note: Given = "", form: FormToken = "") -> Response:
    """Write down what today's visit found; the next look for suspects learns from it."""
    if changing(request, who, form).lookup.meter(who.reach, meter) is None:
        raise NotThere("meter", meter)
    if result not in {*Result}:
        raise NotUsable("result", result)
    write_visit(request, who, Visited(meter=meter, result=Result(result), note=note.strip()))
    return RedirectResponse("/room/suspects", 303)


SUSPECT_COLUMNS = (
    "rank", "meter", "transformer", "feeder", "probability", "stolen_wh_per_day", "worth_wh_per_day", "evidence", "innocent", "first",
    "days",
)  # fmt: skip


@router.get("/suspects.csv", response_model=None)
def suspects_file(request: Request, who: SeesMeters, format: Choice = "csv") -> Response:
    staff(who)
    rows = [
        {
            "rank": one.rank,
            "meter": one.serial,
            "transformer": one.transformer,
            "feeder": one.feeder,
            "probability": one.probability,
            "stolen_wh_per_day": one.stolen_wh,
            "worth_wh_per_day": one.worth_wh,
            "evidence": "; ".join(told.says for told in one.evidence),
            "innocent": "; ".join(told.innocent for told in one.evidence),
            "first": one.first,
            "days": one.days,
        }
        for one in Found(site_of(request).lake).suspects(feeders=feeders_of(who))
    ]
    return as_file(rows, "suspects", format, SUSPECT_COLUMNS)


@router.get("/mapping", response_model=None)
def mapping(request: Request, who: SeesMeters, lang: Lang = "") -> Response:
    """Meters that seem to hang elsewhere; a person accepts each."""
    staff(who)
    site, lookup = site_of(request), gate_of(request).lookup
    found = Found(site.lake).proposals(feeders=feeders_of(who))[:ROWS]
    now = {row["serial"]: row["transformer"] for row in lookup.meters_named(who.reach, [one.serial for one in found])}
    rows = [(one, now.get(one.serial)) for one in found if one.serial in now]
    return page(request, "mapping.html", rows=rows, may_order=who.may(Right.ORDER))


@router.post("/mapping", response_model=None)
def accept(
    request: Request, who: Orders, meter: Given = "", to: Given = "", now: Given = "", why: Given = "", form: FormToken = ""
) -> Response:
    """Move a meter's usage point to another transformer of its feeder, from today on. now: where the page said that it is registered."""
    gate, console = changing(request, who, form), request.app.state.console
    found = gate.lookup.meter(who.reach, meter)
    if found is None:
        raise NotThere("meter", meter)
    told = reason(why)
    proposed = Found(site_of(request).lake).proposals(feeders=feeders_of(who))
    if not any(one.serial == meter and one.to == to for one in proposed):
        raise NotUsable("to", to)
    if now and now != found["transformer"]:
        raise NotUsable("to", to)
    if to not in {row["name"] for row in gate.lookup.transformers(found["feeder"])}:
        raise NotUsable("to", to)
    today = console.local(gate.now_s).date()
    try:
        gate.backing.rows.move_point(found["usage_point"], to, today)
    except RequestError as error:
        raise NotUsable("to", to) from error
    gate.note(who, request, "mapping.accept", found["usage_point"], f"{found['transformer']} to {to} from {today}: {told}")
    return RedirectResponse("/room/mapping", 303)
