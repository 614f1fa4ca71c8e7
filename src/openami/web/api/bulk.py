"""Readings of many meters in one request: a feeder's day, a transformer's month, a list of meters.

What always holds: rows go by day, then as the meters lie in the day blocks, in each form and on each page; they are read by whole columns and leave
piece by piece; a meter out of reach is not there, and its days before the asker's own are not either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import islice
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from ...day import Site
from ...readings import CHANNEL_BY_NAME, MISSING, Channel
from ..access import Who
from ..gate import gate_of
from ..many_meters import MeterDays, Placed, days_of
from .as_table import ARROW, CSV, FORMS, PIECE_ROWS, arrow, batch_of, begun, csv, quality_words, schema_of, success
from .network import OnFeeder, SeesMeters, Under
from .readings import ChannelName, Form, From, Readings, Table, To
from .words import (
    JSON,
    NAMES,
    NOT_MODIFIED,
    PAGE_MOST,
    Cursor,
    Day,
    Missing,
    Page,
    Refused,
    day_range,
    documented,
    key_of,
    page_of,
    site_of,
)

router = APIRouter()
DAYS_MOST, METER_DAYS_MOST = 31, 100_000
PAGE_USUAL = 100
AtMost = Annotated[int | None, Query(ge=1, le=PAGE_MOST, description="How many days of meters at most; left out = 100 as JSON, else all.")]
Named = Annotated[
    str | None,
    Query(
        pattern=NAMES, max_length=20_500, description="Serial numbers, apart by commas; at most 500.", examples=["XMB0000124,XMB0000125"]
    ),
]


class MeterDay(Readings):
    """A day of one meter."""

    day: Day


@router.get(
    "/readings",
    response_model=Page[MeterDay],
    responses=documented(404, success=NOT_MODIFIED | success("The readings, in the form asked for.")),
)
def readings_of_many(
    request: Request,
    who: SeesMeters,
    feeder: OnFeeder = None,
    transformer: Under = None,
    meters: Named = None,
    channel: ChannelName = "import_wh",
    first: From = None,
    to: To = None,
    table: Table = "validated",
    format: Form = None,
    limit: AtMost = None,
    cursor: Cursor = None,
) -> Response:
    """Readings of many meters; those of a feeder, of a transformer, of a list, or all within reach, as JSON by pages, else as one stream. At most 31
    days and 100,000 days of meters at once."""
    site, of = site_of(request), CHANNEL_BY_NAME[channel]
    days = day_range(first, to, tuple(site.lake.days("validated")), DAYS_MOST)
    after = key_of(cursor, str, int, int)
    placed = _placed(request, who, feeder or "", transformer or "", meters, METER_DAYS_MOST // max(1, len(days)), len(days))
    rows = _rows(days, placed, after)
    form = format or FORMS.get(request.state.liked, "json")
    if form == "json":
        kept, onward = page_of(list(islice(rows, (limit or PAGE_USUAL) + 1)), limit or PAGE_USUAL, _key)
        found = [row for part in days_of(site, table, channel, kept) for row in _told(site, of, table, part)]
        return Response(json.dumps({"items": found, "next": onward}), media_type=JSON)
    if request.headers.get("if-match", "*").strip() != "*":
        raise Refused(412, "changed", "a stream of readings has no tag; ask again without If-Match")
    schema = schema_of(of)
    batches = begun(_batches(site, schema, placed, days_of(site, table, channel, islice(rows, limit))))
    kept_nowhere = {"cache-control": "no-store"}
    if form == "arrow":
        return StreamingResponse(arrow(schema, batches), media_type=ARROW, headers=kept_nowhere)
    named = {"content-disposition": f'attachment; filename="readings-{channel}-{table}.csv"'}
    return StreamingResponse(csv(schema, of, batches), media_type=CSV, headers=kept_nowhere | named)


def _placed(request: Request, who: Who, feeder: str, transformer: str, meters: str | None, most: int, days: int) -> list[Placed]:
    """The meters that are asked for and may be seen, as they lie in the day blocks. Refused where one that is named is not there for `who`, or where
    there are more than `most`."""
    lookup = gate_of(request).lookup
    if meters is None:
        if lookup.meters_up_to(who.reach, most + 1, on_feeder=feeder, under=transformer) > most:
            sentence = f"these are more than {most} meters over {days} days; {METER_DAYS_MOST} days of meters can be given at once"
            raise Refused(422, "range", f"{sentence}: ask for fewer days, or by feeder or transformer")
        found = lookup.meters(who.reach, "", most, on_feeder=feeder, under=transformer)
    else:
        named = list(dict.fromkeys(meters.split(",")))
        found = lookup.meters_named(who.reach, named)
        there = {row["serial"] for row in found}
        if absent := [serial for serial in named if serial not in there]:
            raise Missing("meter", absent[0])
        found = [row for row in found if row["feeder"] == (feeder or row["feeder"]) and transformer in ("", row["transformer"])]
    rows = [Placed(row["serial"], row["shard"], row["index"], who.reach.first_day(row["usage_point"], row["feeder"])) for row in found]
    return sorted(rows, key=lambda placed: (placed.shard, placed.index))


def _rows(days: Iterable[date], placed: list[Placed], after: tuple[Any, ...] | None) -> Iterator[tuple[date, Placed]]:
    """Each day of each meter that may be seen, from behind a cursor."""
    begun = "" if after is None else after[0]
    own = ((day, one) for day in days if day.isoformat() >= begun for one in placed if one.seen_from is None or day >= one.seen_from)
    return own if after is None else (row for row in own if _key(row) > after)


def _key(row: tuple[date, Placed]) -> tuple[str, int, int]:
    return row[0].isoformat(), row[1].shard, row[1].index


def _batches(site: Site, schema: pa.Schema, placed: list[Placed], parts: Iterator[MeterDays]) -> Iterator[pa.RecordBatch]:
    serials = pa.array([one.serial for one in placed], pa.string())
    place = {one: k for k, one in enumerate(placed)}
    for part in parts:
        meters, slots = part.values.shape
        ends = _ends(site, part.day, slots)
        numbers = np.array([place[one] for one in part.meters], np.int32)
        step = max(1, PIECE_ROWS // slots)
        for at in range(0, meters, step):
            own = slice(at, at + step)
            whose = pa.DictionaryArray.from_arrays(np.repeat(numbers[own], slots), serials)
            values, quality = part.values[own].ravel(), part.quality[own].ravel()
            yield batch_of(schema, np.tile(ends, values.size // slots), values, quality, whose)


def _told(site: Site, channel: Channel, table: str, part: MeterDays) -> Iterator[dict[str, Any]]:
    ends = [site.calendar.local(int(end)).isoformat() for end in _ends(site, part.day, part.values.shape[1])]
    same = {"channel": channel.name, "unit": channel.unit, "scaler": channel.scaler, "table": table}
    same |= {"day": part.day.isoformat(), "interval_minutes": site.calendar.interval_minutes}
    for placed, values, quality in zip(part.meters, part.values.tolist(), part.quality.tolist(), strict=True):
        readings = [
            {"end": end, "value": None if value == MISSING else value, "quality": quality_words(bits) if bits else []}
            for end, value, bits in zip(ends, values, quality, strict=True)
        ]
        yield {"meter": placed.serial, **same, "readings": readings}


def _ends(site: Site, day: date, slots: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([site.calendar.stamp(day, slot) for slot in range(slots)], np.int64)
