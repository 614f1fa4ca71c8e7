"""What the control room shows, as files: CSV (RFC 4180) and Parquet.

What always holds: a file has the columns' units in their names and an empty field, or null, where nothing is known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Depends, Request, Response

from ..access import Right, Who
from ..failures import NotThere, NotUsable
from ..gate import gate_of, needs
from ..parameters import Choice, Day
from .curves import daily
from .routes import SPANS, Name, closed_day, room_of, site_of, staff

router = APIRouter(prefix="/room")
Sees = Annotated[Who, Depends(needs(Right.TOWN))]
SeesMeters = Annotated[Who, Depends(needs(Right.METERS))]


@router.get("/meters/{serial}/days.csv", response_model=None)
def meter_days(request: Request, who: SeesMeters, serial: Name, span: Choice = "year", format: Choice = "csv") -> Response:
    """A meter's days."""
    staff(who)
    if span not in SPANS:
        raise NotUsable("span", span)
    found, site = gate_of(request).lookup.meter(who.reach, serial), site_of(request)
    if found is None:
        raise NotThere("meter", serial)
    bars = daily(site, found["shard"], found["index"], site.lake.days("validated")[-SPANS[span] :])
    rows = [
        {
            "meter": serial,
            "day": bar.first.isoformat(),
            "import_wh": bar.wh,
            "peak_interval_wh": bar.peak_wh,
            "intervals": bar.of,
            "missing": bar.missing,
            "estimated": bar.estimated,
            "flagged": bar.flagged,
        }
        for bar in bars
    ]
    return as_file(rows, f"{serial}-days", format)


@router.get("/losses.csv", response_model=None)
def losses(request: Request, who: Sees, day: Day = "", format: Choice = "csv") -> Response:
    """The day's balance of every feeder and transformer within the reach."""
    asked = closed_day(request, day)
    stands = room_of(request).town.closed(asked)
    nodes: list[tuple[str, str, str, int | None, Any]] = [("feeder", f.name, f.name, None, f.figures) for f in stands.feeders]
    nodes += [("transformer", t.name, t.feeder, t.rating_kva, t.figures) for t in stands.transformers.values()]
    rows = [
        {
            "day": asked.isoformat(),
            "kind": kind,
            "node": name,
            "feeder": feeder,
            "rating_kva": kva,
            "in_wh": f.in_wh,
            "out_wh": f.out_wh,
            "loss_wh": f.loss_wh,
            "coverage": f.coverage,
            "estimated_share": f.estimated_share,
        }
        for kind, name, feeder, kva, f in nodes
        if who.sees_feeder(feeder)
    ]
    return as_file(rows, f"losses-{asked}", format)


def as_file(rows: list[dict[str, Any]], stem: str, form: str, columns: Sequence[str] = ()) -> Response:
    """rows: all with the same keys. form: csv or parquet. columns: for a table that may have no row, its header."""
    if form not in ("csv", "parquet"):
        raise NotUsable("format", form)
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
        body, kind = sink.getvalue(), "application/vnd.apache.parquet"
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else columns)
        writer.writeheader()
        writer.writerows(rows)
        body, kind = text.getvalue().encode(), "text/csv; charset=utf-8"
    return Response(body, media_type=kind, headers={"content-disposition": f'attachment; filename="{stem}.{form}"'})
