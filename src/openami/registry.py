"""Who and where: feeders, transformers, usage points, meters, accounts; each with the dates between which it holds.

What always holds:
- a meter has a dense index inside its shard (`Meter.index`): its row in every array and every day block of that shard;
- a shard holds whole feeders, so every join (transformer, feeder, account) stays inside it;
- an edge (meter at usage point, usage point on transformer, account at usage point) has dates; `until` None = still holds;
- names follow IEC 61968-9: UsagePoint, EndDevice (here Meter), CustomerAccount (here Account).
"""

from __future__ import annotations

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


def shard_index(
    shard: int, day: date, feeders: list[Feeder], transformers: list[Transformer], meters: list[Meter], points: list[UsagePoint]
) -> ShardIndex:
    """The arrays of `shard` as the registry stands on `day`. A meter with no usage point on that day gets -1, no kind and no load.

    DataError where the registry contradicts itself: indexes that are not dense, a meter at two points, a transformer on no feeder.
    """
    held = _held(points, day)
    own = sorted((m for m in meters if m.shard == shard), key=lambda m: m.index)
    for row, m in enumerate(own):
        if m.index != row:
            raise DataError(
                f"meter {m.serial} has index {m.index} in shard {shard}, where {row} is next; give its meters 0, 1, 2 ... once each"
            )
    feeder_at = {f.name: k for k, f in enumerate(feeders)}
    for t in transformers:
        if t.feeder not in feeder_at:
            raise DataError(f"transformer {t.name} is on feeder {t.feeder}, which is not in the registry; add the feeder or mend the name")
    transformer_at = {t.name: k for k, t in enumerate(transformers)}
    at = [held.get(m.serial) for m in own]

    def is_kind(kind: NodeKind) -> Bool:
        return np.array([p is not None and p.kind is kind for p in at], np.bool_)

    return ShardIndex(
        shard=shard,
        serials=tuple(m.serial for m in own),
        usage_points=tuple(p.name if p else "" for p in at),
        feeders=tuple(f.name for f in feeders),
        transformers=tuple(t.name for t in transformers),
        transformer=np.array([transformer_at.get(p.transformer or "", -1) if p else -1 for p in at], np.int32),
        feeder=np.array([feeder_at.get(p.feeder, -1) if p else -1 for p in at], np.int32),
        transformer_feeder=np.array([feeder_at[t.feeder] for t in transformers], np.int32),
        is_consumer=is_kind(NodeKind.CONSUMER),
        is_transformer=is_kind(NodeKind.TRANSFORMER),
        is_feeder=is_kind(NodeKind.FEEDER),
        connected_load_w=np.array([p.connected_load_w if p else 0 for p in at], np.int64),
    )


def _held(points: list[UsagePoint], day: date) -> dict[str, UsagePoint]:
    """meter -> its usage point on `day`."""
    held: dict[str, UsagePoint] = {}
    for point in points:
        if point.since <= day and (point.until is None or day < point.until):
            other = held.setdefault(point.meter, point)
            if other is not point:
                raise DataError(
                    f"meter {point.meter} is at {other.name} and at {point.name} on {day}; end one of the two before the other begins"
                )
    return held
