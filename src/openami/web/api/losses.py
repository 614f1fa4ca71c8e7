"""Losses of substations and what stands above them, and of the day that is not closed yet."""

from __future__ import annotations

from datetime import date, datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from ...day.found import Found, NodeAccount
from ..access import Right, Who
from ..gate import gate_of
from .words import NOT_MODIFIED, Answer, Cursor, Day, Limit, Missing, Page, api_needs, day_asked, documented, key_of, page_of, site_of

router = APIRouter()
SeesTown = Annotated[Who, Depends(api_needs(Right.TOWN))]
OnDay = Annotated[Day | None, Query(description="A closed day; left out = the latest one.")]


class NodeLoss(Answer):
    """The energy account of a node; null = unknown."""

    level: str = Field(
        description='Of the node; or with " area" behind it: from its own meter, or where it has none from its feeders\' heads, to the consumers.'
    )
    name: str
    hour: int | None = Field(description="The hour of the day, counted from midnight; null = all of it.")
    in_wh: int | None
    out_wh: int | None
    loss_wh: int | None
    likely_wh: float | None
    low_wh: float | None
    high_wh: float | None
    coverage: float


class RunningLoss(NodeLoss):
    """The account of a node of a day that runs. Where a meter lacks intervals, these two say what is shown instead."""

    own_meter_lacks: bool = Field(
        description="The node's own meter has not told of every interval: the loss to the next meters is unknown, and an area is taken from the "
        "meters of its feeders' heads instead."
    )
    meters_below_lacking: int = Field(
        description="How many meters of nodes below have not told of every interval: what they measure is counted further down, so that the loss "
        "has that of the wires behind them in it; of an area without a whole meter of its own it is left out, and the coverage falls."
    )


class RunningLosses(Page[RunningLoss]):
    """Of a day that is not closed yet, from readings as they came. as_of: the end of the last interval that is in it."""

    day: date
    as_of: datetime
    provisional: bool = True


@router.get("/losses/areas", responses=documented(404, success=NOT_MODIFIED))
def areas(request: Request, who: SeesTown, day: OnDay = None, limit: Limit = 100, cursor: Cursor = None) -> Page[NodeLoss]:
    """Substations, divisions and the company over a closed day: to the next meters below, and to the consumers. For whoever sees all feeders."""
    found, after = Found(site_of(request).lake), key_of(cursor, str, str, str)
    asked = day_asked(day, after[0] if after else None, found.days())
    if asked is None:
        raise Missing("day with findings", str(day or ""))
    own = found.above(asked) if who.reach.everything else []
    rows = sorted((_node_loss(one) for one in own), key=lambda row: (row.name, row.level))
    kept, onward = page_of(
        [row for row in rows if after is None or (row.name, row.level) > after[1:]][: limit + 1],
        limit,
        lambda r: (asked.isoformat(), r.name, r.level),
    )
    return Page(items=kept, next=onward)


@router.get("/losses/now", responses=documented(404, success=NOT_MODIFIED))
def losses_now(
    request: Request,
    who: SeesTown,
    name: Annotated[str | None, Query(max_length=100, description="This node alone.")] = None,
    hours: Annotated[bool, Query(description="By the hour.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> RunningLosses:
    """The losses of the day that is not closed yet, from what has come so far: provisional, and renewed once a minute."""
    site, gate = site_of(request), gate_of(request)
    found = request.app.state.running.of(site, gate.now_s)
    if found is None:
        raise Missing("day that is not closed", "")
    seen = found.seen_by(None if who.reach.everything else who.reach.feeders)
    asked = seen if name is None else seen.of(name)
    after = key_of(cursor, int)
    first = max(0, after[0]) if after else 0
    rows = list(islice(asked.hours(first), limit + 1)) if hours else asked.so_far[first : first + limit + 1]
    kept, onward = page_of([_running_loss(one) for one in rows], limit, lambda _: (first + limit,))
    return RunningLosses(items=kept, next=onward, day=found.day, as_of=site.calendar.local(found.as_of_s))


def _node_loss(one: NodeAccount) -> NodeLoss:
    return NodeLoss(**_figures(one))


def _running_loss(one: NodeAccount) -> RunningLoss:
    return RunningLoss(**_figures(one), own_meter_lacks=bool(one.own_lacks), meters_below_lacking=one.below_lack or 0)


def _figures(one: NodeAccount) -> dict[str, Any]:
    """What every account says of a node."""
    return {"name": one.node, **{name: getattr(one, name) for name in NodeLoss.model_fields if name != "name"}}
