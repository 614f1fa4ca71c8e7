"""`OpenedTown`: the pages' answers from one data folder. Nothing here writes; consumers' names are read only for their own page.

What always holds: an answer unfolds the rows that its page shows and no others; which they are is found in the columns of the closed day
(`closed_days.py`), who they are is asked of the registry by name.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..control.policy import load_policies
from ..day import Site
from ..day.found import Found, ProposalRow, SuspectRow
from ..readings import CHANNELS, CHECKS, IMPORT_WH, MISSING, Bool, Calendar, Channel, Int64
from ..registry import NodeKind
from ..store.deployment import Folder
from ..store.journal_at import open_journal
from ..store.keys import MasterKey, load_master_key
from ..store.rows import account, meter, usage_point
from . import townbook as tb
from .by_name import ByName
from .closed_days import KINDS, ClosedDay, ClosedDays, ShardDay, node_hours
from .one_account import OneAccount, last_heard, withheld
from .one_meter import channels_of, day_column

Stamp = tuple[int, int, int]
"""What tells a data folder from the one that lay there before."""
LISTED, CHOICES, MANY = 12, 200, 500
NOBODY = np.zeros(0, np.int64)
RUNNING = frozenset(c for c in CHECKS if str(c.name).lower() in ("missing", "duplicate", "spike", "plausibility", "frozen", "zero"))


@dataclass(frozen=True, slots=True)
class _Who:
    """A meter as the registry names it. account: of a consumer, None = none."""

    serial: str
    shard: int
    index: int
    usage_point: str
    account: str | None


@dataclass
class OpenedTown:
    """One data folder as it was when it was opened; DataError where the folder holds no OpenAMI data. stamp: of `folder` at that time."""

    folder: Folder
    stamp: Stamp

    def __post_init__(self) -> None:
        self.site = Site.open(self.folder)
        self._closed = ClosedDays(self.site)
        self._master: MasterKey | None = None
        self._one = OneAccount(self.site, self._closed.note)
        self._found = Found(self.site.lake)
        self.names = ByName(self.site)

    @property
    def calendar(self) -> Calendar:
        return self.site.calendar

    @property
    def master(self) -> MasterKey:
        """What wraps this folder's secrets; read when it is first needed."""
        if self._master is None:
            self._master = load_master_key(self.folder.master_key)
        return self._master

    def days(self) -> tuple[date, ...]:
        """Closed days, oldest first."""
        return self._closed.days()

    def damaged(self) -> tuple[date, ...]:
        return self._closed.damaged()

    def closed(self, day: date) -> ClosedDay:
        """The day's columns and sums."""
        return self._closed.on(day)

    # ---- the town

    def overview(self, day: date, feeders: Set[str] | None = None) -> tb.Overview:
        found = self._closed.on(day)
        journal = open_journal(self.folder, self.site.deployment)
        causes, frames = journal.causes(), journal.frames()
        journal.close()
        heads = [one.figures.in_wh for one in found.feeders]
        return tb.Overview(
            day=day,
            as_of=found.as_of,
            name=self.site.deployment.name,
            demo=self.site.deployment.seed is not None,
            meters=sum(one.meters for one in found.feeders),
            intervals=found.intervals,
            frames_received=frames,
            frames_accepted=frames - sum(causes.values()),
            checks=tuple(
                tb.CheckCount(check, *found.checks.get(check, (0, 0))) for check in CHECKS if check in found.checks or check in RUNNING
            ),
            consumers_wh=found.consumers_wh,
            feeders_wh=None if None in heads else sum(head for head in heads if head is not None),
            money=found.money,
            feeders=tuple(one for one in found.nodes if feeders is None or one.name in feeders),
            silent_meters=sum(one.silent for one in found.feeders),
            silent=self._silent(found, feeders),
            quarantine=tuple(tb.CauseCount(cause, n) for cause, n in causes.items()),
            suspicions=self._suspicions(day, feeders),
        )

    def _silent(self, found: ClosedDay, feeders: Set[str] | None) -> tuple[tb.SilentMeter, ...]:
        """The first of them."""
        rows: list[tb.SilentMeter] = []
        for shard, own in sorted(found.shards.items()):
            quiet = np.flatnonzero((own.received == 0) & (own.kind >= 0) & _on(found, own, feeders))[: LISTED - len(rows)]
            for who in self._named(shard, quiet.tolist()):
                place = found.place(shard, who.index)
                rows.append(tb.SilentMeter(who.serial, *place, last_heard(self.site, who)))
        return tuple(sorted(rows, key=lambda row: row.serial))

    def _suspicions(self, day: date, feeders: Set[str] | None = None) -> tuple[tb.Suspicion, ...]:
        """The first of what the energy audit found over the days that end with this one."""
        listed = [_seems_elsewhere(one) for one in self._found.proposals(day, feeders=feeders)[:LISTED]]
        listed += [_counts_too_little(one) for one in self._found.suspects(day, feeders=feeders, limit=LISTED)]
        return tuple(sorted(listed, key=lambda one: (-one.probability, one.serial))[:LISTED])

    # ---- meters

    def meters(self, query: tb.MeterQuery) -> tb.MeterList:
        found = self._closed.on(query.day)
        named = self._matching(query.text.strip()) if query.text.strip() else None
        total, page, skip = 0, list[tb.MeterRow](), query.offset
        for shard, own in sorted(found.shards.items()):
            wanted = np.flatnonzero(_asked(found, own, query))
            if named is not None:
                wanted = wanted[np.isin(wanted, named.get(shard, NOBODY))]
            total += wanted.size
            page += self._rows(found, shard, wanted[skip : skip + query.limit - len(page)].tolist())
            skip = max(0, skip - wanted.size)
        transformers = [name for name, one in found.transformers.items() if query.feeder in (None, one.feeder)]
        return tb.MeterList(
            tuple(page),
            total,
            tuple(transformers) if len(transformers) <= CHOICES else (),
            found.names if len(found.names) <= CHOICES else (),
        )

    def _matching(self, text: str) -> dict[int, Int64]:
        """shard -> indexes of meters whose serial, usage point or account is `text`, or else holds it."""
        found: dict[int, list[int]] = {}
        with self.site.rows.begin() as connection:
            for column in (meter.c.serial, usage_point.c.name, account.c.number):
                serials = _SERIALS[column.table.name].where(column == text)
                for shard, index in connection.execute(sa.select(meter.c.shard, meter.c.index).where(meter.c.serial.in_(serials))):
                    found.setdefault(shard, []).append(index)
        return {shard: np.array(own, np.int64) for shard, own in found.items()} or self.names.holding(text)

    def _named(self, shard: int, indexes: list[int]) -> list[_Who]:
        """The meters at these places, in their order; those that hang nowhere now are left out."""
        found: dict[int, _Who] = {}
        with self.site.rows.begin() as connection:
            for at in range(0, len(indexes), MANY):
                query = _WHO.where(meter.c.shard == shard, meter.c.index.in_(indexes[at : at + MANY]))
                found |= {who.index: who for who in (_Who(*row) for row in connection.execute(query))}
        return [found[k] for k in indexes if k in found]

    def _rows(self, found: ClosedDay, shard: int, indexes: list[int]) -> list[tb.MeterRow]:
        return [_meter_row(found, who) for who in self._named(shard, indexes)]

    def meter(self, serial: str, day: date) -> tb.MeterDay | None:
        with self.site.rows.begin() as connection:
            row = connection.execute(_METER.where(meter.c.serial == serial)).first()
        if row is None:
            return None
        found, who = self._closed.on(day), _Who(*row[:5])
        if who.shard not in found.shards or who.index >= found.shards[who.shard].kind.size:
            return None
        return tb.MeterDay(
            row=_meter_row(found, who),
            day=day,
            maker=row.maker,
            model=row.model,
            phase=row.phase,
            connected_load_w=row.connected_load_w,
            since=row.since,
            tariff=row.tariff,
            last_heard=last_heard(self.site, who),
            channels=self._closed.reading(day, lambda: self._channels(who, day)),
            suspicions=tuple(self._suspected(serial, day)),
        )

    def _channels(self, who: _Who, day: date) -> tuple[tb.ChannelDay, ...]:
        """import_wh first, then what else the meter sent."""
        found, there = [], channels_of(self.site, "raw", who.shard, day)
        for channel in (one for one in CHANNELS if one.name in there):
            raw, _ = day_column(self.site, "raw", who.shard, who.index, day, channel.name)
            if channel is IMPORT_WH or (raw != MISSING).any():
                found.append(tb.ChannelDay(channel, self._slots(who, day, channel, raw.tolist())))
        return tuple(found)

    def _slots(self, who: _Who, day: date, channel: Channel, raw: list[int]) -> tuple[tb.Slot, ...]:
        values, quality = day_column(self.site, "validated", who.shard, who.index, day, channel.name)

        def known(value: int) -> int | None:
            return None if value == MISSING else value

        return tuple(
            tb.Slot(self.calendar.local(self.calendar.stamp(day, k)), known(r), known(v), q)
            for k, (r, v, q) in enumerate(zip(raw, values.tolist(), quality.tolist(), strict=True))
        )

    def _suspected(self, serial: str, day: date) -> list[tb.Suspicion]:
        elsewhere = [_seems_elsewhere(one) for one in self._found.proposals(day) if one.serial == serial]
        suspect = self._found.suspect(serial, day)
        return elsewhere + ([_counts_too_little(suspect)] if suspect else [])

    # ---- the network

    def transformer(self, name: str, day: date) -> tb.TransformerDay | None:
        found = self._closed.on(day)
        node = found.transformers.get(name)
        if node is None:
            return None
        at, own, below = found.transformer_names.index(name), None, list[tb.MeterRow]()
        for shard, columns in found.shards.items():
            here = np.flatnonzero(columns.transformer == at)
            if here.size:
                measuring = self._named(shard, here[columns.kind[here] == KINDS.index(NodeKind.TRANSFORMER)].tolist())
                own = measuring[0].serial if measuring else own
                below += self._rows(found, shard, here[columns.kind[here] == KINDS.index(NodeKind.CONSUMER)].tolist())
        suspicions = tuple(one for one in self._suspicions(day, frozenset({node.feeder})) if name in (one.transformer, one.to_transformer))
        return tb.TransformerDay(node, day, own, self._hours(day, NodeKind.TRANSFORMER, name), tuple(below), suspicions)

    def feeder(self, name: str, day: date) -> tb.FeederDay | None:
        found = self._closed.on(day)
        node = found.node(name)
        if node is None:
            return None
        at, own = found.names.index(name), None
        for shard, columns in found.shards.items():
            measuring = np.flatnonzero((columns.feeder == at) & (columns.kind == KINDS.index(NodeKind.FEEDER)))
            own = next((who.serial for who in self._named(shard, measuring[:1].tolist())), own)
        return tb.FeederDay(node, day, own, self._hours(day, NodeKind.FEEDER, name))

    def _hours(self, day: date, kind: NodeKind, name: str) -> tuple[tb.HourFigures, ...]:
        start = self.calendar.day_start(day)
        rows = self._closed.reading(day, lambda: node_hours(self.site, self._closed.on(day), kind, name))
        return tuple(
            tb.HourFigures(
                self.calendar.local(start + 3600 * (row["hour"] + 1)),
                tb.NodeFigures(row["in_wh"], row["out_wh"], row["loss_wh"], row["coverage"], row["estimated_share"]),
            )
            for row in rows
        )

    # ---- money

    def consumer(self, number: str, day: date) -> tb.Consumer | None:
        return self._closed.reading(day, lambda: self._one.consumer(number, day))

    def stated(self, number: str, day: date) -> tb.StatedDay | None:
        return self._closed.reading(day, lambda: self._one.stated(number, day))

    def look_at_a_meter(self, day: date) -> None:
        """Read one meter's day before anybody asks: with it each table's log is opened, and what is compiled is there."""
        for table in self.site.lake.tables():
            self.site.lake.days(table)
        with self.site.rows.begin() as connection:
            serial = connection.execute(sa.select(meter.c.serial).limit(1)).scalar()
        if serial is not None:
            self.meter(serial, day)

    def look_at_homes(self, day: date) -> None:
        """Read what homes of `day` are made of before anybody asks."""
        self._one.look(day)

    def due(self, day: date, feeders: Set[str] | None = None, offset: int = 0, limit: int = 50) -> tb.DueList:
        found = self._closed.on(day)
        policy = load_policies().on(self.site.deployment.policy, day + timedelta(days=1))
        listed = self._closed.reading(day, lambda: self._listed_due(found, feeders))
        rows = self._closed.reading(day, lambda: self._due_rows(day, listed.slice(offset, limit)))
        judged = pc.min(listed["judged_at"]).as_py()
        noon = self.calendar.day_start(day + timedelta(days=1)) + 12 * 3600
        return tb.DueList(
            day,
            self.calendar.local(noon if judged is None else int(judged.timestamp())),
            policy.name,
            tb.Words(policy.title_en, policy.title_hi),
            tuple(rows),
            listed.num_rows,
            int(pc.sum(pc.invert(listed["allowed"])).as_py() or 0),
        )

    def _listed_due(self, found: ClosedDay, feeders: Set[str] | None) -> pa.Table:
        """Who is due on these feeders, poorest first."""
        lake, parts = self.site.lake, [_DUE.empty_table()]
        for shard, own in sorted(found.shards.items()):
            rows = lake.read("due", found.day, shard, columns=["account", "balance_paise", "days_below", "judged_at", "allowed"])
            rows = rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.int32))).select(_DUE.names).cast(_DUE)
            if feeders is not None and rows.num_rows:
                roll = lake.read("statements", found.day, shard, columns=["account", "meter"])
                index = roll["meter"].take(pc.index_in(rows["account"], roll["account"])).to_numpy()
                rows = rows.filter(pa.array(_on(found, own, feeders)[index]))
            parts.append(rows)
        return pa.concat_tables(parts).sort_by([("balance_paise", "ascending"), ("account", "ascending")])

    def _due_rows(self, day: date, listed: pa.Table) -> list[tb.DueRow]:
        query = sa.select(account.c.number, usage_point.c.meter, usage_point.c.transformer).join(
            usage_point, sa.and_(usage_point.c.name == account.c.usage_point, usage_point.c.until.is_(None))
        )
        with self.site.rows.begin() as connection:
            places = {row.number: row for row in connection.execute(query.where(account.c.number.in_(listed["account"].to_pylist())))}
        rows = []
        for row in listed.to_pylist():
            place, told = places.get(row["account"]), self.site.lake.row("due", day, row["shard"], row["account"], ("reasons",))
            if place is not None and told is not None:
                against = withheld(told["reasons"])
                rows.append(tb.DueRow(row["account"], place.meter, place.transformer, row["balance_paise"], row["days_below"], against))
        return rows

    def quarantine(self, cause: str | None, offset: int, limit: int) -> tb.Quarantine:
        journal = open_journal(self.folder, self.site.deployment)
        causes = journal.causes()
        rows = journal.quarantine(cause, limit=limit, offset=offset)
        journal.close()
        total = causes.get(cause, 0) if cause else sum(causes.values())
        frames = tuple(
            tb.QuarantinedFrame(
                f"{r.seq}-{r.position}", self.calendar.local(r.received_us // 1_000_000), r.cause, r.detail, r.serial, r.octets
            )
            for r in reversed(rows)
        )
        return tb.Quarantine(tuple(tb.CauseCount(c, n) for c, n in causes.items()), total, frames)


_POINT = sa.and_(usage_point.c.meter == meter.c.serial, usage_point.c.until.is_(None))
_WHO = (
    sa.select(meter.c.serial, meter.c.shard, meter.c.index, usage_point.c.name, account.c.number)
    .join(usage_point, _POINT)
    .outerjoin(account, account.c.usage_point == usage_point.c.name)
)
_METER = _WHO.add_columns(
    meter.c.maker, meter.c.model, usage_point.c.phase, usage_point.c.connected_load_w, usage_point.c.since, account.c.tariff
)
_SERIALS = {
    "meter": sa.select(meter.c.serial),
    "usage_point": sa.select(usage_point.c.meter).where(usage_point.c.until.is_(None)),
    "account": sa.select(usage_point.c.meter)
    .join(account, account.c.usage_point == usage_point.c.name)
    .where(usage_point.c.until.is_(None)),
}
_DUE = pa.schema(
    {
        "shard": pa.int32(),
        "account": pa.string(),
        "balance_paise": pa.int64(),
        "days_below": pa.int32(),
        "judged_at": pa.timestamp("us", "UTC"),
        "allowed": pa.bool_(),
    }
)


def _on(found: ClosedDay, own: ShardDay, feeders: Set[str] | None) -> Bool:
    """bool [meter]: on one of these feeders, None = any."""
    if feeders is None:
        return np.ones(own.feeder.size, np.bool_)
    return np.isin(own.feeder, [k for k, name in enumerate(found.names) if name in feeders])


def _asked(found: ClosedDay, own: ShardDay, query: tb.MeterQuery) -> Bool:
    """bool [meter]: what the query asks for, its text apart; only meters that hung somewhere on that day."""
    wanted = (own.kind >= 0) & _on(found, own, query.feeders)
    if query.kind is not None:
        wanted &= own.kind == KINDS.index(query.kind)
    if query.feeder is not None:
        wanted &= _on(found, own, {query.feeder})
    if query.transformer is not None:
        wanted &= own.transformer == _place(found.transformer_names, query.transformer)
    if query.check is not None:
        wanted &= (own.marks & np.uint32(query.check)) != 0
    if query.state is tb.MeterState.SILENT:
        wanted &= own.received == 0
    elif query.state is tb.MeterState.INCOMPLETE:
        wanted &= (own.missing > 0) | (own.estimated > 0)
    elif query.state is tb.MeterState.FLAGGED:
        wanted &= own.flagged > 0
    elif query.state is tb.MeterState.ESTIMATED:
        wanted &= own.estimated > 0
    return wanted


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -2


def _meter_row(found: ClosedDay, who: _Who) -> tb.MeterRow:
    own, k = found.shards[who.shard], who.index
    kind, transformer, feeder = found.place(who.shard, k)
    missing, estimated = int(own.missing[k]), int(own.estimated[k])
    return tb.MeterRow(
        who.serial,
        kind,
        who.usage_point,
        transformer,
        feeder,
        who.account,
        tb.Intervals(found.slots, found.slots - missing - estimated, estimated, missing),
        int(own.flagged[k]),
        None if missing == found.slots else int(own.wh[k]),
    )


def _seems_elsewhere(one: ProposalRow) -> tb.Suspicion:
    return tb.Suspicion(tb.SuspicionKind.WRONG_TRANSFORMER, one.serial, one.now, one.to, one.confidence, (), {}, one.days)


def _counts_too_little(one: SuspectRow) -> tb.Suspicion:
    kind = tb.SuspicionKind.COUNTS_TOO_LITTLE
    return tb.Suspicion(kind, one.serial, one.transformer, None, one.probability, one.evidence, one.features, one.days)
