"""What inspections found, and what suspicions learn from them.

What always holds: a visit is kept with what was known of the meter's readings before its day, so that what changed because of the visit teaches
nothing; without visits, or from those that say nothing, the model is the one that needs none.
"""

from __future__ import annotations

from datetime import date, timedelta
from importlib.util import find_spec

import numpy as np

from ..errors import InputError
from ..losses.features import COLUMN, NAMES
from ..losses.suspects import Model, learn
from ..registry import NodeKind
from ..store.inspections import Inspection, Inspections, Result
from .signs import known_features, signs_of, tampers, whereabouts
from .site import Site
from .span import SPAN_DAYS, spans


def inspect(
    site: Site,
    serial: str,
    day: date,
    result: Result,
    who: str,
    note: str,
    now_s: int,
    *,
    at_random: bool = False,
    span_days: int = SPAN_DAYS,
) -> Inspection:
    """Write down what a visit of `day` found; the next look for suspects learns from it. InputError where the meter is not a consumer's, nobody is
    named, or the day is yet to come."""
    if not who.strip():
        raise InputError("an inspection needs the person who made it; the consumer may ask who was there")
    if day > (today := site.calendar.local(now_s).date()):
        raise InputError(f"{day} is yet to come; an inspection is written down when it was made, on {today} or before")
    found = site.rows.hangs(serial, day)
    if found is None or found[1].kind is not NodeKind.CONSUMER:
        raise InputError(f"{serial} is no consumer's meter on {day}; give the serial number of one that hangs there then")
    shard, feeder = found[0].shard, found[1].feeder
    visit = Inspection(serial, day, result, at_random, feeder, _before(site, serial, shard, feeder, day, span_days), who, note, now_s)
    Inspections(site.rows).note(visit)
    return visit


def learnt(site: Site) -> Model:
    """The model with what inspections taught; the first one where there are none."""
    visits = [(v.features, v.result.guilty) for v in Inspections(site.rows).current() if v.features and v.result.guilty is not None]
    if not visits:
        return Model.cold()
    values = np.full((len(visits), len(NAMES)), np.nan, np.float32)
    for row, (features, _) in zip(values, visits, strict=True):
        for name in features.keys() & COLUMN.keys():
            row[COLUMN[name]] = features[name]
    return learn(values, np.array([guilty for _, guilty in visits], np.bool_), boost=find_spec("lightgbm") is not None)


def _before(site: Site, serial: str, shard: int, feeder: str, day: date, span_days: int) -> dict[str, float]:
    """What was known of the meter by the last closed day before the visit; nothing where no day was closed, or it hung elsewhere on that day."""
    closed = [each for each, own in site.lake.all_files("validated") if own == shard and each < day]
    if not closed or (day - max(closed)) > timedelta(days=span_days):
        return {}
    last = max(closed)
    for span in spans(site, last, shard, span_days, only=feeder):
        for group in (each for each in span.groups() if serial in each.serials()):
            found = signs_of(group, tampers(site, span, last, span_days), whereabouts(group))
            return known_features(found.values[group.serials().index(serial)])
    return {}
