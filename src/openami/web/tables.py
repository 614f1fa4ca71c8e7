"""What a page shows as a picture, as CSV (RFC 4180, UTF-8): one line per interval or hour, an empty field where nothing is known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ..readings import Quality
from .townbook import HourFigures, MeterDay


def readings(meter: MeterDay) -> str:
    """All channels of a meter's day; integers in unit x 10**scaler, instants with their offset, quality as names of `Quality`."""
    rows = [
        (
            meter.row.serial,
            day.channel.name,
            day.channel.unit,
            day.channel.scaler,
            slot.end.isoformat(),
            slot.raw,
            slot.value,
            " ".join(str(flag.name).lower() for flag in Quality if flag and slot.quality & flag),
        )
        for day in meter.channels
        for slot in day.slots
    ]
    return _table(("meter", "channel", "unit", "scaler", "interval_end", "raw", "value", "quality"), rows)


def hours(node: str, figures: Iterable[HourFigures]) -> str:
    """A node's hours: energies in Wh, coverage and the estimated share 0..1."""
    rows = [
        (
            node,
            hour.end.isoformat(),
            hour.figures.in_wh,
            hour.figures.out_wh,
            hour.figures.loss_wh,
            round(hour.figures.coverage, 4),
            None if hour.figures.estimated_share is None else round(hour.figures.estimated_share, 4),
        )
        for hour in figures
    ]
    return _table(("node", "hour_end", "in_wh", "out_wh", "loss_wh", "coverage", "estimated_share"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
