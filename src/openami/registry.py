"""Who and where: feeders, transformers, usage points, meters, accounts; each with the dates between which it holds.

What always holds:
- a meter has a dense index inside its shard (`Meter.index`): its row in every array and every day block of that shard;
- a shard holds whole feeders, so every join (transformer, feeder, account) stays inside it;
- an edge (meter at usage point, usage point on transformer, account at usage point) has dates; `until` None = still holds;
- names follow IEC 61968-9: UsagePoint, EndDevice (here Meter), CustomerAccount (here Account).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from .errors import DataError
from .readings import Bool, Int32, Int64


class NodeKind(StrEnum):
    """What a meter measures: a consumer's usage point, a distribution transformer's low-voltage side, or an 11 kV feeder's head."""

    CONSUMER = "consumer"
    TRANSFORMER = "transformer"
    FEEDER = "feeder"


@dataclass(frozen=True, slots=True)
class Feeder:
    """An 11 kV feeder, `name` unique in the deployment."""

    name: str
    substation: str


@dataclass(frozen=True, slots=True)
class Transformer:
    """A distribution transformer (dt) on a feeder; rating in kVA."""

    name: str
    feeder: str
    rating_kva: int


@dataclass(frozen=True, slots=True)
class Meter:
    """An end device: its place in the shard's arrays and what the head-end must know of it, but never its keys.

    `security_control` is the security control byte its push policy demands (0x20 encrypted only, 0x30 authenticated and encrypted).
    """

    serial: str
    system_title: bytes
    maker: str
    model: str
    shard: int
    index: int
    security_control: int
    phases: int


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """Where a meter hangs, from `since` on: a consumer's connection, or the metering point of a transformer or feeder.

    phase: 'R', 'Y', 'B', or 'RYB' for three-phase; connected_load_w: sanctioned load [W]. For a transformer's or feeder's own
    metering point, `transformer` / `feeder` name the node it measures.
    """

    name: str
    kind: NodeKind
    meter: str
    feeder: str
    transformer: str | None
    phase: str
    connected_load_w: int
    since: date
    until: date | None = None


class PaymentMode(StrEnum):
    PREPAID = "prepaid"
    POSTPAID = "postpaid"


@dataclass(frozen=True, slots=True)
class Account:
    """A consumer's account at a usage point; `mode_since`: from which day its payment mode holds.

    `consumer_name` is personal data: it stays out of logs, files of the lake and URLs.
    """

    number: str
    usage_point: str
    consumer_name: str
    language: str
    tariff: str
    payment_mode: PaymentMode
    since: date
    mode_since: date
    opening_paise: int


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The registry of one shard on one day as arrays over the dense meter index (length = meters of the shard).

    transformer, feeder: position in `transformers` / `feeders`, -1 where it does not apply; kind_*: what the meter measures;
    connected_load_w: int64 [W], 0 = unknown.
    """

    shard: int
    serials: tuple[str, ...]
    usage_points: tuple[str, ...]
    feeders: tuple[str, ...]
    transformers: tuple[str, ...]
    transformer: Int32
    feeder: Int32
    transformer_feeder: Int32
    is_consumer: Bool
    is_transformer: Bool
    is_feeder: Bool
    connected_load_w: Int64

    @property
    def meters(self) -> int:
        return len(self.serials)


Place = tuple[int, str, str | None, str | None, str | None, str | None, int | None]
"""A meter's index and serial, and where it hangs: usage point, kind, feeder, transformer, sanctioned load [W]; None where it hangs nowhere."""


def shard_index(shard: int, feeders: Sequence[Feeder], transformers: Sequence[Transformer], places: Sequence[Place]) -> ShardIndex:
    """The arrays of `shard` from the places of its meters on a day, by their index. A meter with no usage point on that day gets -1, no kind and
    no load.

    DataError where the registry contradicts itself: indexes that are not dense, a meter at two points, a transformer on no feeder.
    """
    number, serials, points, kinds, on_feeder, under, load_w = zip(*places, strict=True) if places else ((),) * 7
    _one_row_each(shard, number, serials, points)
    if unknown := set(kinds) - {None, *NodeKind}:
        raise DataError(f"a usage point of shard {shard} is a {unknown.pop()!r}; what a meter measures is a {', a '.join(NodeKind)}")
    feeder_at = {f.name: k for k, f in enumerate(feeders)}
    for t in transformers:
        if t.feeder not in feeder_at:
            raise DataError(f"transformer {t.name} is on feeder {t.feeder}, which is not in the registry; add the feeder or mend the name")
    transformer_at = {t.name: k for k, t in enumerate(transformers)}

    def is_kind(kind: NodeKind) -> Bool:
        return np.array([one == kind for one in kinds], np.bool_)

    return ShardIndex(
        shard=shard,
        serials=tuple(serials),
        usage_points=tuple(point or "" for point in points),
        feeders=tuple(f.name for f in feeders),
        transformers=tuple(t.name for t in transformers),
        transformer=np.array([transformer_at.get(name or "", -1) for name in under], np.int32),
        feeder=np.array([feeder_at.get(name or "", -1) for name in on_feeder], np.int32),
        transformer_feeder=np.array([feeder_at[t.feeder] for t in transformers], np.int32),
        is_consumer=is_kind(NodeKind.CONSUMER),
        is_transformer=is_kind(NodeKind.TRANSFORMER),
        is_feeder=is_kind(NodeKind.FEEDER),
        connected_load_w=np.array([watts or 0 for watts in load_w], np.int64),
    )


def _one_row_each(shard: int, number: Sequence[int], serials: Sequence[str], points: Sequence[str | None]) -> None:
    """Refuse indexes that are not 0, 1, 2 ...; the same meter twice in a row hangs in two places."""
    for k in np.flatnonzero(np.array(number, np.int64) != np.arange(len(number)))[:1].tolist():
        if k and serials[k] == serials[k - 1]:
            raise DataError(
                f"meter {serials[k]} is at {points[k - 1]} and at {points[k]} on one day; end one of the two before the other begins"
            )
        raise DataError(
            f"meter {serials[k]} has index {number[k]} in shard {shard}, where {k} is next; give its meters 0, 1, 2 ... once each"
        )
