"""What speaks about each consumer of a feeder: where it seems to hang, tamper events, volts per ampere, habits, and how its readings go with its
transformer's loss.

What always holds: only measured values go in; where a meter hangs is asked before anything is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from ..cosem.is15959 import events as event_facts
from ..losses.features import NAMES, Features, Watched, drop_per_amp, features
from ..losses.mapping import Proposal, consensus, doubt, find_places, prior, proposals
from ..readings import MISSING, MISSING64
from ..store.heard import Heard
from .site import Site
from .span import Group, Span, span_of

TAMPER_LOGS = ("current", "non_rollover")
TAMPER_CODES = (201, 203, 207, 209)
"""A magnet, the neutral, the communication module; beside them what stands in the logs of currents and of the cover."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """doubts: float64 [member], the probability that it hangs elsewhere; proposals: positions among the members and transformers of its
    feeder."""

    doubts: np.ndarray
    proposals: tuple[Proposal, ...] = ()


def whereabouts(group: Group) -> Whereabouts:
    """Where the members of a feeder hang, among its transformers."""
    span = group.span
    if group.dts.size < 2:
        return Whereabouts(np.zeros(group.members.size))
    volts = reference = None
    if span.volts is not None:
        volts, reference = span.volts[:, group.members], group.of_dt(span.volts)
        missing = (reference == MISSING).all(axis=0)
        if missing.any():
            reference[:, missing] = consensus(volts, group.at, group.dts.size)[:, missing]
    before = prior(group.at, np.arange(group.dts.size, dtype=np.int32))
    node_wh = np.where(group.into_wh != MISSING64, group.into_wh, MISSING).astype(np.int32)
    places = find_places(before, volts, reference, span.wh[:, group.members], node_wh, slots_per_day=span.slots_per_day)
    return Whereabouts(np.asarray(doubt(places.probability, group.at)), tuple(proposals(places.probability, group.at, found=places)))


def signs_of(group: Group, tamper: np.ndarray, where: Whereabouts) -> Features:
    """The features of a feeder's members, each held against the transformer that it seems to hang on: who stands in the wrong place must not make
    thieves of its neighbours there. tamper: [meter of the span] as `tampers` gives it."""
    span, at = group.span, group.at.copy()
    for move in where.proposals:
        at[move.meter] = move.to
    wh = np.ascontiguousarray(span.wh[:, group.members])
    there = wh != MISSING
    by_slot = np.where(there, wh, 0).sum(axis=1, dtype=np.int64).reshape(-1, span.slots_per_day).sum(axis=0)
    profile = by_slot / np.maximum(there.sum(axis=1).reshape(-1, span.slots_per_day).sum(axis=0), 1)
    watched = Watched(
        wh, at, group.into_wh, span.slots_per_day, tamper=tamper[group.members].astype(np.float32), volt_drop=_volt_drops(group),
        doubt=where.doubts.astype(np.float32),
    )  # fmt: skip
    return features(watched, profile)


def known_features(values: np.ndarray) -> dict[str, float]:
    """One meter's features by name, known ones only."""
    return {name: round(float(v), 4) for name, v in zip(NAMES, values, strict=True) if np.isfinite(v)}


def tampers(site: Site, span: Span, last: date, span_days: int) -> np.ndarray:
    """How many tamper events each meter told of in the span, [meter]."""
    calendar = site.calendar
    codes = [c for c, fact in event_facts().items() if fact.kind != "restoration" and (fact.log in TAMPER_LOGS or c in TAMPER_CODES)]
    first_s, end_s = calendar.day_start(span_of(last, span_days)[0]), calendar.stamp(last, calendar.slots(last) - 1)
    column = {serial: k for k, serial in enumerate(span.index.serials)}
    found = np.zeros(span.index.meters)
    for event in Heard(site.rows).events(first_s, end_s, codes=codes):
        if event.occurred and event.serial in column:
            found[column[event.serial]] += 1
    return found


def _volt_drops(group: Group) -> np.ndarray | None:
    """Each member's volts per ampere against the middle of its transformer's; None without voltages and currents."""
    span = group.span
    if span.volts is None or span.amps is None:
        return None
    reference = group.of_dt(span.volts)
    at_home = np.where(group.at[None, :] >= 0, reference[:, np.maximum(group.at, 0)], MISSING).astype(np.int32)
    slope = drop_per_amp(span.volts[:, group.members], span.amps[:, group.members], at_home)
    found = np.full(slope.size, np.nan, np.float32)
    for k in range(group.dts.size):
        own = group.at == k
        known = slope[own & np.isfinite(slope) & (slope > 0)]
        if known.size >= 5:
            found[own] = slope[own] / np.median(known)
    return found
