"""Readings of one meter as JSON, CSV or an Arrow stream; what is known against them; events.

What always holds: a value is an integer in its channel's unit x 10^scaler, null where there is none; an interval is named by its end; raw is
what the meter sent, validated what stands after checks and estimates, and the quality says which is which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from ...day import Site
from ...readings import CHANNEL_BY_NAME, CHANNELS, MISSING, Channel
from ..access import Right, Who
from ..gate import gate_of
from ..one_meter import columns, day_column
from .as_table import ARROW, CSV, FORMS, arrow, batch_of, csv, quality_words, schema_of, success
from .network import Name, SeesMeters
from .words import (
    NOT_MODIFIED,
    Answer,
    Cursor,
    Day,
    Followed,
    Limit,
    Missing,
    Since,
    api_needs,
    day_range,
    documented,
    followed,
    key_of,
    page_of,
    site_of,
)

router = APIRouter()
CHANNEL_CHOICE = "^(" + "|".join(channel.name for channel in CHANNELS) + ")$"
ChannelName = Annotated[str, Query(pattern=CHANNEL_CHOICE)]
From = Annotated[Day | None, Query(alias="from", description="First day; left out = `to`, one day.")]
To = Annotated[Day | None, Query(description="Last day, included; left out = the latest closed one.")]
Table = Annotated[str, Query(pattern=r"^(validated|raw)$")]
Form = Annotated[
    str | None,
    Query(
        pattern=r"^(json|csv|arrow)$",
        description="json, csv, or arrow (an Arrow IPC stream); left out = what `Accept` likes best, else json.",
    ),
]
HEARD_WITHIN_S = 60
"""An event is new when it is this old: the head-end writes down what it has heard twice a minute, and what it wrote late would else stand behind
whoever follows, and never be told."""


class Reading(Answer):
    """One interval. quality: what is known against it, empty for a plain valid value."""

    end: datetime
    value: int | None
    quality: list[str]


class Readings(Answer):
    """Readings of one channel of one meter; value x 10^scaler is in unit."""

    meter: str
    channel: str
    unit: str
    scaler: int
    table: str
    interval_minutes: int
    readings: list[Reading]


class Event(Answer):
    """Something a meter told about itself. code: IS 15959's event number, null where only its bit of the status word is known."""

    meter: str
    at: datetime
    code: int
    occurred: bool
    text: str
    received: datetime


@dataclass
class Series:
    """ends: UTC seconds; values: int32, MISSING where there is none; quality: `Quality` bits. All of the same length."""

    channel: Channel
    ends: list[int]
    values: list[int]
    quality: list[int]


@router.get(
    "/meters/{serial}/readings",
    response_model=Readings,
    responses=documented(404, success=NOT_MODIFIED | success("The readings, in the form asked for.")),
)
def readings(
    request: Request,
    who: SeesMeters,
    serial: Name,
    channel: ChannelName = "import_wh",
    first: From = None,
    to: To = None,
    table: Table = "validated",
    format: Form = None,
) -> Response:
    """Readings of a meter from day to day; at most 366 days at once."""
    series = _series(request, who, serial, channel, first, to, table)
    stem = f"{serial}-{channel}-{table}"
    form = format or FORMS.get(request.state.liked, "json")
    if form != "json":
        schema = schema_of(series.channel, serial)
        numbers = np.array(series.ends, np.int64), np.array(series.values, np.int32), np.array(series.quality, np.uint32)
        batches = [batch_of(schema, *numbers)]
        if form == "arrow":
            return StreamingResponse(arrow(schema, batches), media_type=ARROW)
        named = {"content-disposition": f'attachment; filename="{stem}.csv"'}
        return StreamingResponse(csv(schema, series.channel, batches), media_type=CSV, headers=named)
    zone = site_of(request).calendar
    rows = [
        {"end": zone.local(end).isoformat(), "value": None if value == MISSING else value, "quality": quality_words(bits)}
        for end, value, bits in zip(series.ends, series.values, series.quality, strict=True)
    ]
    body = {
        "meter": serial,
        "channel": channel,
        "unit": series.channel.unit,
        "scaler": series.channel.scaler,
        "table": table,
        "interval_minutes": zone.interval_minutes,
        "readings": rows,
    }
    return Response(json.dumps(body), media_type="application/json")


@router.get("/meters/{serial}/quality", responses=documented(404, success=NOT_MODIFIED))
def quality(
    request: Request, who: SeesMeters, serial: Name, channel: ChannelName = "import_wh", first: From = None, to: To = None
) -> list[Reading]:
    """Only the intervals that are not plain valid."""
    series, local = _series(request, who, serial, channel, first, to, "validated"), site_of(request).calendar.local
    return [
        Reading(end=local(end), value=None if value == MISSING else value, quality=quality_words(bits))
        for end, value, bits in zip(series.ends, series.values, series.quality, strict=True)
        if bits
    ]


@router.get("/meters/{serial}/events", responses=documented(404, success=NOT_MODIFIED))
def meter_events(
    request: Request, who: SeesMeters, serial: Name, since: Since = None, limit: Limit = 100, cursor: Cursor = None
) -> Followed[Event]:
    """What the meter told about itself, latest first; with `since`, what we have heard since then, oldest first."""
    if gate_of(request).lookup.meter(who.reach, serial) is None:
        raise Missing("meter", serial)
    return _events(request, who, serial, since, limit, cursor)


@router.get("/events", responses=documented(404, success=NOT_MODIFIED))
def events(
    request: Request,
    who: Annotated[Who, Depends(api_needs(Right.METERS))],
    since: Since = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Followed[Event]:
    """What meters told about themselves, latest first; with `since`, what we have heard since then and at least a minute ago, oldest first."""
    return _events(request, who, "", since, limit, cursor)


def _events(request: Request, who: Who, serial: str, since: datetime | None, limit: int, cursor: str | None) -> Followed[Event]:
    lookup = gate_of(request).lookup
    if since is None:
        rows = lookup.events(who.reach, key_of(cursor, int, str, int, int, bool), limit + 1, serial=serial)
        kept, onward = page_of(rows, limit, lambda r: (r["at_s"], r["serial"], r["code"], r["bit"], bool(r["occurred"])))
        return Followed(items=[_event(request, r) for r in kept], next=onward, later=None)

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["received_s"], row["serial"], row["at_s"], row["code"], row["bit"], bool(row["occurred"])

    after = key_of(cursor, int, str, int, int, int, bool) or (int(since.timestamp()), "", 0, 0, 0, False)
    until_s = gate_of(request).now_s - HEARD_WITHIN_S
    rows = lookup.events_heard(who.reach, after, until_s, limit + 1, serial=serial)
    kept, onward = page_of(rows, limit, key)
    return followed([_event(request, r) for r in kept], onward, after, kept, key)


def _event(request: Request, row: dict[str, Any]) -> Event:
    local = site_of(request).calendar.local
    same = {name: row[name] for name in ("code", "occurred", "text")}
    return Event(meter=row["serial"], at=local(row["at_s"]), received=local(row["received_s"]), **same)


def _series(request: Request, who: Who, serial: str, channel: str, first: date | None, to: date | None, table: str) -> Series:
    gate, site = gate_of(request), site_of(request)
    found = gate.lookup.meter(who.reach, serial)
    if found is None:
        raise Missing("meter", serial)
    closed = tuple(site.lake.days("validated"))
    days = day_range(first, to, closed)
    own_from = who.reach.first_day(found["usage_point"], found["feeder"])
    days = [day for day in days if own_from is None or day >= own_from]
    return read_series(site, found["shard"], found["index"], CHANNEL_BY_NAME[channel], days, table)


def read_series(site: Site, shard: int, meter: int, channel: Channel, days: list[date], table: str) -> Series:
    """The days of a meter, of `validated` from the meter-ordered history where it is up to date, else from the day blocks."""
    series = Series(channel, [], [], [])
    if table == "validated":
        found = columns(site, shard, meter, days, channel.name)
    else:
        found = (day_column(site, table, shard, meter, day, channel.name) for day in days)
    calendar = site.calendar
    for day, (values, bits) in zip(days, found, strict=True):
        series.ends += [calendar.stamp(day, slot) for slot in range(values.size)]
        series.values += values.tolist()
        series.quality += bits.tolist()
    return series


def read_values(site: Site, shard: int, meter: int, channel: Channel, days: list[date]) -> list[int]:
    """The validated values alone of some days, oldest first, MISSING where there is none."""
    return [value for values, _ in columns(site, shard, meter, days, channel.name) for value in values.tolist()]
