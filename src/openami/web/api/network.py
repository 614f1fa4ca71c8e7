"""Usage points, meters, feeders and transformers with their balance, service levels, quarantine."""

from __future__ import annotations

from datetime import date, datetime
from heapq import nsmallest
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from ...day.found import Found, NodeAccount, TechnicalRow
from ...headend.levels import Level, service_levels
from ...headend.status import LevelClock, day_clocks
from ...readings import Calendar
from ...store.heard import Heard
from ..access import Right, Who
from ..gate import gate_of
from ..townbook import FeederNode, NodeFigures, TransformerNode
from ..townbook import QuarantinedFrame as Refused
from .words import (
    NAME,
    NOT_MODIFIED,
    Answer,
    Cursor,
    Day,
    Limit,
    Missing,
    Page,
    api_needs,
    day_asked,
    documented,
    key_of,
    page_of,
    site_of,
    town_of,
)

router = APIRouter()
Name = Annotated[str, Path(pattern=NAME, max_length=40)]
SeesMeters = Annotated[Who, Depends(api_needs(Right.METERS))]
SeesTown = Annotated[Who, Depends(api_needs(Right.TOWN))]
SeesFrames = Annotated[Who, Depends(api_needs(Right.FRAMES))]
OnFeeder = Annotated[str | None, Query(pattern=NAME, max_length=40, description="Only what is on this feeder.")]
Under = Annotated[str | None, Query(pattern=NAME, max_length=40, description="Only what hangs on this transformer.")]
OnDay = Annotated[Day | None, Query(description="A closed day; left out = the latest one.")]


class UsagePoint(Answer):
    """Where a meter hangs (IEC 61968-9 UsagePoint). account: of a consumer, null = none."""

    name: str
    kind: str
    meter: str
    feeder: str
    transformer: str | None
    phase: str
    connected_load_w: int
    since: date
    account: str | None


class Meter(Answer):
    """An end device and the usage point at which it hangs; never its keys."""

    serial: str
    maker: str
    model: str
    phases: int
    accuracy_class: float | None
    usage_point: str
    kind: str
    feeder: str
    transformer: str | None
    phase: str
    connected_load_w: int
    since: date
    account: str | None


class Balance(Answer):
    """Of a feeder or transformer over a closed day; null = unknown. A loss is never given without its coverage and, where the audit has looked,
    its 90 % interval."""

    kind: str
    name: str
    feeder: str
    day: date
    in_wh: int | None
    out_wh: int | None
    loss_wh: int | None
    coverage: float
    estimated_share: float | None
    likely_wh: float | None
    low_wh: float | None
    high_wh: float | None
    technical_wh: float | None
    technical_low_wh: float | None
    technical_high_wh: float | None
    commercial_wh: float | None


class ServiceLevel(Answer):
    """What the provider is held to. verify: what of it is not confirmed, null = nothing."""

    name: str
    kind: str
    share: float
    within_s: int
    verify: str | None


class LevelOfDay(ServiceLevel):
    """A level for one day: due and done null = nothing was due of it, or nobody counted."""

    begins: datetime
    ends: datetime
    due: int | None
    done: int | None
    lacking: int | None
    met: bool | None


class QuarantinedFrame(Answer):
    """A frame that could not be taken. octets: as it was received, in hex."""

    number: str
    received: datetime
    cause: str
    detail: str
    serial: str | None
    octets: str


@router.get("/usage-points", responses=documented(404, success=NOT_MODIFIED))
def usage_points(
    request: Request, who: SeesMeters, feeder: OnFeeder = None, transformer: Under = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[UsagePoint]:
    """Usage points that may be seen, in order of name."""
    after = key_of(cursor, str)
    rows = gate_of(request).lookup.usage_points(
        who.reach, after[0] if after else "", limit + 1, on_feeder=feeder or "", under=transformer or ""
    )
    kept, onward = page_of(rows, limit, lambda row: (row["name"],))
    return Page(items=[_point(row) for row in kept], next=onward)


@router.get("/usage-points/{name}", responses=documented(404, success=NOT_MODIFIED))
def usage_point(request: Request, who: SeesMeters, name: Name) -> UsagePoint:
    """One usage point, as it is now."""
    found = gate_of(request).lookup.usage_point(who.reach, name)
    if found is None:
        raise Missing("usage point", name)
    return _point(found)


@router.get("/meters", responses=documented(404, success=NOT_MODIFIED))
def meters(
    request: Request, who: SeesMeters, feeder: OnFeeder = None, transformer: Under = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[Meter]:
    """Meters that may be seen, in order of serial number."""
    after = key_of(cursor, str)
    rows = gate_of(request).lookup.meters(who.reach, after[0] if after else "", limit + 1, on_feeder=feeder or "", under=transformer or "")
    kept, onward = page_of(rows, limit, lambda row: (row["serial"],))
    return Page(items=[_meter(row) for row in kept], next=onward)


@router.get("/meters/{serial}", responses=documented(404, success=NOT_MODIFIED))
def meter(request: Request, who: SeesMeters, serial: Name) -> Meter:
    """One meter, and where it hangs now."""
    found = gate_of(request).lookup.meter(who.reach, serial)
    if found is None:
        raise Missing("meter", serial)
    return _meter(found)


@router.get("/losses", responses=documented(404, success=NOT_MODIFIED))
def losses(
    request: Request,
    who: SeesTown,
    day: OnDay = None,
    kind: Annotated[str | None, Query(pattern=r"^(feeder|transformer)$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Balance]:
    """The balance of each feeder and transformer over a day, by name."""
    town = town_of(request)
    after = key_of(cursor, str, str, str)
    asked = day_asked(day, after[0] if after else None, town.days())
    if asked is None:
        raise Missing("closed day", str(day or ""))
    own = [feeder for feeder in town.overview(asked).feeders if who.sees_feeder(feeder.name)]
    nodes: list[tuple[str, str, str, FeederNode | TransformerNode]] = [("feeder", f.name, f.name, f) for f in own]
    nodes += [("transformer", t.name, f.name, t) for f in own for t in f.transformers]
    behind = (node for node in nodes if kind in (None, node[0]) and (after is None or node[:2] > after[1:]))
    listed = nsmallest(limit + 1, behind, key=lambda node: node[:2])
    kept, onward = page_of(
        [_balance(kind, node, at, asked) for kind, _, at, node in listed], limit, lambda r: (asked.isoformat(), r.kind, r.name)
    )
    found = Found(site_of(request).lake)
    accounts = {(a.level, a.node): a for a in found.accounts(asked, nodes={row.name for row in kept})}
    technical = {(t.level, t.node): t for t in found.technical(asked)}
    return Page(items=[_audited(row, accounts.get((row.kind, row.name)), technical.get((row.kind, row.name))) for row in kept], next=onward)


@router.get("/service-levels", responses=documented(success=NOT_MODIFIED))
def levels(who: SeesTown) -> list[ServiceLevel]:
    """What the provider of the metering is held to."""
    return [_level(one) for one in service_levels()]


@router.get("/service-levels/{day}", responses=documented(404, success=NOT_MODIFIED))
def levels_of_day(request: Request, who: SeesTown, day: Annotated[Day, Path()]) -> list[LevelOfDay]:
    """How the levels that run from the midnight which ended a closed day were met, or stand, for the whole deployment."""
    if day not in town_of(request).days():
        raise Missing("closed day", str(day))
    site = site_of(request)
    told = day_clocks(Heard(site.rows), site.calendar, day, gate_of(request).now_s)
    return [_of_day(clock, site.calendar) for clock in told]


@router.get("/quarantine", responses=documented(404, success=NOT_MODIFIED))
def quarantine(
    request: Request,
    who: SeesFrames,
    cause: Annotated[str | None, Query(pattern=r"^[a-z_]{1,40}$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[QuarantinedFrame]:
    """Frames that could not be taken, the latest in the journal first."""
    town, after = town_of(request), key_of(cursor, int, int, int)
    seen, at = ((after[0], after[1]), max(0, after[2])) if after else (None, 0)
    rows: list[Refused] = []
    while len(rows) <= limit:  # what came since the page before pushes what was seen behind `at`: it is passed over
        found = town.quarantine(cause, at, limit + 1).rows
        at += len(found)
        rows += [row for row in found if seen is None or _place(row) < seen]
        if len(found) <= limit:
            break
    kept, onward = page_of(rows, limit, lambda row: (*_place(row), at - len(rows) + limit))
    items = [
        QuarantinedFrame(number=f.number, received=f.received, cause=f.cause, detail=f.detail, serial=f.serial, octets=f.octets.hex())
        for f in kept
    ]
    return Page(items=items, next=onward)


def _place(frame: Refused) -> tuple[int, int]:
    """Where it stands in the journal: batch, and place in it."""
    batch, _, place = frame.number.partition("-")
    return int(batch), int(place)


def _of_day(clock: LevelClock, calendar: Calendar) -> LevelOfDay:
    level, now = clock.level, clock.standing
    return LevelOfDay(
        **_level(level).model_dump(),
        begins=calendar.local(clock.since_s),
        ends=calendar.local(clock.since_s + level.within_s),
        due=now.due if now else None,
        done=now.done if now else None,
        lacking=now.lacking if now else None,
        met=now.met if now else None,
    )


def _level(one: Level) -> ServiceLevel:
    return ServiceLevel(name=one.name, kind=one.kind, share=one.share, within_s=one.within_s, verify=one.verify or None)


def _balance(kind: str, node: FeederNode | TransformerNode, feeder: str, day: date) -> Balance:
    figures: NodeFigures = node.figures
    return Balance(
        kind=kind,
        name=node.name,
        feeder=feeder,
        day=day,
        in_wh=figures.in_wh,
        out_wh=figures.out_wh,
        loss_wh=figures.loss_wh,
        coverage=figures.coverage,
        estimated_share=figures.estimated_share,
        **dict.fromkeys(AUDITED),
    )


AUDITED = ("likely_wh", "low_wh", "high_wh", "technical_wh", "technical_low_wh", "technical_high_wh", "commercial_wh")


def _audited(row: Balance, account: NodeAccount | None, fitted: TechnicalRow | None) -> Balance:
    """A balance with what the audit knows of it."""
    if account is None or account.likely_wh is None or account.in_wh is None:
        return row
    told: dict[str, float] = {"likely_wh": account.likely_wh, "low_wh": account.low_wh or 0.0, "high_wh": account.high_wh or 0.0}
    if fitted is not None:
        technical, low, high = fitted.of(account.in_wh)
        told |= {
            "technical_wh": technical,
            "technical_low_wh": low,
            "technical_high_wh": high,
            "commercial_wh": account.likely_wh - technical,
        }
    return row.model_copy(update=told)


def _point(row: dict[str, Any]) -> UsagePoint:
    return UsagePoint(**{name: row[name] for name in UsagePoint.model_fields})


def _meter(row: dict[str, Any]) -> Meter:
    return Meter(**{name: row[name] for name in Meter.model_fields})
