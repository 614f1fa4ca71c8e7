"""Who and where: feeders, transformers, usage points, meters, accounts; each with the dates between which it holds.

What always holds:
- a meter has a dense index inside its shard (`Meter.index`): its row in every array and every day block of that shard;
- a shard holds whole feeders, so every join (transformer, feeder, account) stays inside it;
- an edge (meter at usage point, usage point on transformer, account at usage point) has dates; `until` None = still holds;
- names follow IEC 61968-9: UsagePoint, EndDevice (here Meter), CustomerAccount (here Account).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    `accuracy_class` is the class index on the nameplate (1.0, 0.5, 0.2: percent at rated current, IS 16444 and IS 14697), None = not known.
    """

    serial: str
    system_title: bytes
    maker: str
    model: str
    shard: int
    index: int
    security_control: int
    phases: int
    accuracy_class: float | None = None


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


class Names(Sequence[str]):
    """Text as one Arrow array, which a shard of a million meters holds for nothing; each name is made when it is asked for."""

    def __init__(self, values: pa.Array) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: Any) -> Any:
        """A name, or a tuple of them."""
        return tuple(self._values[at].to_pylist()) if isinstance(at, slice) else self._values[int(at)].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as a list: it is compared by what is in it


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The registry of one shard on one day as arrays over the dense meter index (length = meters of the shard).

    transformer, feeder: position in `transformers` / `feeders`, -1 where it does not apply; kind_*: what the meter measures;
    connected_load_w: int64 [W], 0 = unknown.
    """

    shard: int
    serials: Sequence[str]
    usage_points: Sequence[str]
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

    def alone(self) -> ShardIndex:
        """The same without the nodes of other shards: the feeders that its meters and their transformers are on, and the transformers there. What is
        reckoned for each node then costs as much as the shard has, not as the deployment has."""
        held = np.zeros(len(self.feeders), np.bool_)
        held[self.feeder[self.feeder >= 0]] = True
        held[self.transformer_feeder[self.transformer[self.transformer >= 0]]] = True
        feeders, transformers = np.flatnonzero(held), np.flatnonzero(held[self.transformer_feeder])
        feeder_at, transformer_at = np.full(len(self.feeders) + 1, -1, np.int32), np.full(len(self.transformers) + 1, -1, np.int32)
        feeder_at[feeders], transformer_at[transformers] = np.arange(feeders.size), np.arange(transformers.size)
        return replace(
            self,
            feeders=tuple(self.feeders[k] for k in feeders.tolist()),
            transformers=tuple(self.transformers[k] for k in transformers.tolist()),
            transformer=transformer_at[self.transformer],
            feeder=feeder_at[self.feeder],
            transformer_feeder=feeder_at[self.transformer_feeder[transformers]],
        )


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts at consumers' usage points of a shard on a day, by number: arrays [account].

    meter: its index; tariff: position in `tariffs`; since, mode_since: days from 1970, the account's start and that of its payment mode;
    opening_paise: its balance before the first statement."""

    numbers: pa.Array
    meter: Int64
    tariffs: tuple[str, ...]
    tariff: Int32
    prepaid: Bool
    since: Int32
    mode_since: Int32
    opening_paise: Int64


@dataclass(frozen=True, slots=True)
class Nodes:
    """The feeders and transformers of a deployment in the order of their names, with the feeder of each transformer, and where each name stands."""

    feeders: tuple[str, ...]
    transformers: tuple[str, ...]
    transformer_feeder: Int32
    feeder_at: Mapping[str, int]
    transformer_at: Mapping[str, int]

    @staticmethod
    def of(feeders: Iterable[str], transformers: Iterable[tuple[str, str]]) -> Nodes:
        """transformers: name and feeder. DataError where one is on no feeder."""
        names, own = tuple(sorted(feeders)), sorted(transformers)
        at = {name: k for k, name in enumerate(names)}
        for name, on in own:
            if on not in at:
                raise DataError(f"transformer {name} is on feeder {on}, which is not in the registry; add the feeder or mend the name")
        feeder_of = np.array([at[on] for _, on in own], np.int32)
        return Nodes(names, tuple(name for name, _ in own), feeder_of, at, {name: k for k, (name, _) in enumerate(own)})


EPOCH = date(1970, 1, 1)
NEVER = int(np.iinfo(np.int32).max)
"""A day that does not come: from when somebody holds who never does, until when somebody holds who still does."""
CODED = ("kind", "feeder", "transformer", "tariff", "mode")
_CODE = pa.dictionary(pa.int32(), pa.string())
ROSTER = pa.schema(
    [
        ("index", pa.int32()), ("serial", pa.string()), ("point", pa.string()), ("kind", _CODE), ("feeder", _CODE), ("transformer", _CODE),
        ("load_w", pa.int64()), ("since", pa.int32()), ("until", pa.int32()), ("account", pa.string()),
        ("tariff", _CODE), ("mode", _CODE), ("begun", pa.int32()), ("mode_since", pa.int32()),
        ("opening_paise", pa.int64()), ("by_account", pa.int32()),
    ]
)  # fmt: skip
"""A row: a meter, a place that it has or had (null = none) from `since` until the day before `until`, and an account there (null =
none) that has begun; dates are days from 1970. Rows stand by index and since. by_account: the rows by account number, those without one last."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The registry of one shard with all its dates, `rows` as `ROSTER` has them: what it says on any day is a few passes over arrays."""

    shard: int
    rows: pa.Table
    nodes: Nodes

    def index_on(self, day: date) -> ShardIndex:
        """The arrays of the shard on a day. A meter with no usage point on that day gets -1, no kind and no load.

        DataError where the registry contradicts itself: indexes that are not dense, a meter at two points."""
        index, meters = self._numbers("index"), self._a_row_of_each()
        held = np.flatnonzero(self._holds(day))
        again = index[held[1:]] == index[held[:-1]]
        self._at_one_place(held[:-1][again], held[1:][again])
        place = held[np.concatenate([[True], ~again])[: held.size]]
        at = np.full(meters.size, -1, np.int64)
        at[index[place]] = place
        taken = pa.array(at, mask=at < 0)
        kind, names = self._codes("kind")
        if unknown := _said(kind[place], names) - {*NodeKind}:
            raise DataError(
                f"a usage point of shard {self.shard} is a {min(unknown)!r}; what a meter measures is a {', a '.join(NodeKind)}"
            )
        kinds = {name: k for k, name in enumerate(names)}
        return ShardIndex(
            shard=self.shard,
            serials=Names(self._column("serial") if meters.size == index.size else self._column("serial").take(pa.array(meters))),
            usage_points=Names(self._column("point").take(taken).fill_null("")),
            feeders=self.nodes.feeders,
            transformers=self.nodes.transformers,
            transformer=self._placed("transformer", self.nodes.transformer_at, at),
            feeder=self._placed("feeder", self.nodes.feeder_at, at),
            transformer_feeder=self.nodes.transformer_feeder,
            is_consumer=(at >= 0) & (kind[at] == kinds.get(NodeKind.CONSUMER, -2)),
            is_transformer=(at >= 0) & (kind[at] == kinds.get(NodeKind.TRANSFORMER, -2)),
            is_feeder=(at >= 0) & (kind[at] == kinds.get(NodeKind.FEEDER, -2)),
            connected_load_w=np.where(at >= 0, self._numbers("load_w")[at], 0),
        )

    def accounts_on(self, day: date, modes_on: Callable[[date], Mapping[str, tuple[str, date]]]) -> Accounts:
        """The accounts of the shard on a day. modes_on: account -> payment mode and since when, on a day, of those that were converted later; one
        that it does not have has its mode since it began. DataError where an account is at two meters, or pays in a way that is none."""
        kind, names = self._codes("kind")
        consumers = names.index(NodeKind.CONSUMER) if NodeKind.CONSUMER in names else -2
        there = self._holds(day) & (self._numbers("begun") <= (day - EPOCH).days) & (kind == consumers)
        order = self._numbers("by_account")
        at = order[there[order]]
        numbers = self._column("account").take(pa.array(at))
        if len(numbers) > 1 and (same := pc.equal(numbers[1:], numbers[:-1]).to_numpy(zero_copy_only=False)).any():
            raise DataError(
                f"account {numbers[int(same.argmax())]} is at two meters on one day; end its usage point's one meter before the other begins"
            )
        prepaid, mode_since = self._modes(day, at, numbers, modes_on)
        tariff, tariffs = self._codes("tariff")
        used = sorted(_said(tariff[at], tariffs))
        code = np.array([used.index(name) if name in used else -1 for name in tariffs], np.int32)
        return Accounts(
            numbers=numbers,
            meter=self._numbers("index")[at].astype(np.int64),
            tariffs=tuple(used),
            tariff=code[tariff[at]] if used else np.zeros(0, np.int32),
            prepaid=prepaid,
            since=self._numbers("begun")[at],
            mode_since=mode_since,
            opening_paise=self._numbers("opening_paise")[at],
        )

    def _modes(
        self, day: date, at: Int64, numbers: pa.Array, modes_on: Callable[[date], Mapping[str, tuple[str, date]]]
    ) -> tuple[Bool, Int32]:
        """Who is prepaid on the day, and since when each is what it is."""
        mode, names = self._codes("mode")
        if unknown := _said(mode[at], names) - {*PaymentMode}:
            raise DataError(
                f"an account's payment mode is {min(unknown)!r}; it is {' or '.join(PaymentMode)}: restore the registry from a backup"
            )
        prepaid = np.array([name == PaymentMode.PREPAID for name in names] or [False], np.bool_)[mode[at]]
        since = self._numbers("mode_since")[at]
        later = np.flatnonzero(since > (day - EPOCH).days)
        if later.size:
            held = modes_on(day)
            begun = self._numbers("begun")[at]
            for k in later.tolist():
                then = held.get(numbers[k].as_py())
                since[k] = begun[k] if then is None else (then[1] - EPOCH).days
                prepaid[k] = prepaid[k] if then is None else then[0] == PaymentMode.PREPAID
        return prepaid, since

    def _holds(self, day: date) -> Bool:
        """Which rows' places are there on a day."""
        number = (day - EPOCH).days
        return np.asarray((self._numbers("since") <= number) & (self._numbers("until") > number), np.bool_)

    def _a_row_of_each(self) -> Int64:
        """The first row of each meter. DataError where the indexes are not 0, 1, 2 ..."""
        index, serials = self._numbers("index"), self._column("serial")
        new = np.ones(index.size, np.bool_)
        new[1:] = (index[1:] != index[:-1]) | pc.not_equal(serials[1:], serials[:-1]).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(new)
        for k in np.flatnonzero(index[rows] != np.arange(rows.size))[:1].tolist():
            raise DataError(
                f"meter {serials[int(rows[k])]} has index {index[rows[k]]} in shard {self.shard}, where {k} is next; "
                "give its meters 0, 1, 2 ... once each"
            )
        return rows

    def _at_one_place(self, one: Int64, other: Int64) -> None:
        """DataError where two rows of a meter on one day are two places, and not one place with two accounts."""
        points, since = self._column("point"), self._numbers("since")
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            if since[a] != since[b] or points[a] != points[b]:
                raise DataError(
                    f"meter {self._column('serial')[a]} is at {points[a]} and at {points[b]} on one day; end one of the two before the other begins"
                )

    def _placed(self, name: str, place: Mapping[str, int], at: Int64) -> Int32:
        """Where the feeder or transformer of each meter stands among the deployment's, -1 = it has none."""
        codes, names = self._codes(name)
        found = np.array([*(place.get(each, -1) for each in names), -1], np.int32)
        return np.where(at >= 0, found[codes[at]], np.int32(-1)) if codes.size else np.zeros(0, np.int32)

    def _column(self, name: str) -> pa.Array:
        return self.rows[name].combine_chunks()

    def _numbers(self, name: str) -> Any:
        """A column without nulls."""
        return self._column(name).to_numpy()

    def _codes(self, name: str) -> tuple[Int32, list[str]]:
        """A coded column: -1 = null; and what the codes say."""
        column = self._column(name)
        return column.indices.fill_null(-1).to_numpy(), column.dictionary.to_pylist()


def _said(codes: Int32, names: Sequence[str]) -> set[str]:
    """What codes of a column without nulls say."""
    return {names[k] for k in np.flatnonzero(np.bincount(codes)).tolist()}
