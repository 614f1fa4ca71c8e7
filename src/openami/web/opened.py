"""`OpenedTown`: the pages' answers from one data folder, its registry read once and its closed days kept. Nothing here writes;
consumers' names are read only for their own page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np

from ..billing.tariff import load_tariffs
from ..control.policy import load_policies
from ..day import Site
from ..readings import CHANNELS, CHECKS, IMPORT_WH, MISSING, Calendar, DayBlock
from ..registry import Account, Meter, NodeKind, UsagePoint
from ..store.deployment import Folder
from ..store.journal_at import open_journal
from ..store.keys import MasterKey, load_master_key
from . import townbook as tb
from .closed_days import ClosedDay, ClosedDays
from .one_account import LARGE, OneAccount

Stamp = tuple[int, int, int]
"""What tells a data folder from the one that lay there before."""


@dataclass(slots=True)
class _Registry:
    """The registry by name, read once."""

    meters: dict[str, Meter]
    points: dict[str, UsagePoint]
    accounts: dict[str, Account]
    account_at: dict[str, Account]
    feeders: dict[str, str]
    ratings: dict[str, int]
    transformer_feeder: dict[str, str]


@dataclass
class OpenedTown:
    """One data folder as it was when it was opened; DataError where the folder holds no OpenAMI data. stamp: of `folder` at that time."""

    folder: Folder
    stamp: Stamp

    def __post_init__(self) -> None:
        self.site = Site.open(self.folder)
        self._closed = ClosedDays(self.site)
        self._master: MasterKey | None = None
        self._one = OneAccount(self.site)

    @property
    def calendar(self) -> Calendar:
        return self.site.calendar

    @cached_property
    def _registry(self) -> _Registry:
        """Read when it is first needed: pages of single meters and accounts of a large town never ask for all of it."""
        rows = self.site.rows
        points = {p.meter: p for p in rows.usage_points()}
        accounts = {a.number: a for a in rows.accounts()}
        transformers = rows.transformers()
        return _Registry(
            meters={m.serial: m for m in rows.meters()},
            points=points,
            accounts=accounts,
            account_at={a.usage_point: a for a in accounts.values()},
            feeders={f.name: f.substation for f in rows.feeders()},
            ratings={t.name: t.rating_kva for t in transformers},
            transformer_feeder={t.name: t.feeder for t in transformers},
        )

    @cached_property
    def is_large(self) -> bool:
        """Whether whole days are too much to be unfolded for one account's page."""
        return self.site.rows.count_meters() > LARGE

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

    # ---- the town

    def overview(self, day: date) -> tb.Overview:
        found = self._closed.on(day)
        journal = open_journal(self.folder, self.site.deployment)
        causes, frames = journal.causes(), journal.frames()
        journal.close()
        feeders = tuple(self._feeder_node(found, name) for name in self._registry.feeders)
        heads = [f.figures.in_wh for f in feeders]
        whole = Counter[str]()
        for shard in found.shards.values():
            whole.update(expected=int(shard.metered.size) * shard.validated[IMPORT_WH.name].values.shape[0])
            whole.update(metered=int(shard.metered.sum()), estimated=int(shard.estimated.sum()), missing=int(shard.missing.sum()))
        return tb.Overview(
            day=day,
            as_of=found.as_of,
            name=self.site.deployment.name,
            demo=self.site.deployment.seed is not None,
            meters=len(self._registry.meters),
            intervals=tb.Intervals(whole["expected"], whole["metered"], whole["estimated"], whole["missing"]),
            frames_received=frames,
            frames_accepted=frames - sum(causes.values()),
            checks=tuple(self._check_counts(found)),
            consumers_wh=sum(int(s.day_wh[s.index.is_consumer].sum()) for s in found.shards.values()),
            feeders_wh=None if any(h is None for h in heads) else sum(h for h in heads if h is not None),
            money=self._money(found),
            feeders=feeders,
            silent=tuple(self._silent(found)),
            quarantine=tuple(tb.CauseCount(c, n) for c, n in causes.items()),
            suspicions=self._closed.suspicions(day),
        )

    def _check_counts(self, found: ClosedDay) -> list[tb.CheckCount]:
        counts = []
        for check in CHECKS:
            intervals = meters = 0
            for shard in found.shards.values():
                hit = (shard.validated[IMPORT_WH.name].quality & np.uint32(check)) != 0
                intervals += int(hit.sum())
                meters += int(hit.any(axis=0).sum())
            if intervals or check in RUNNING:
                counts.append(tb.CheckCount(check, intervals, meters))
        return counts

    def _money(self, found: ClosedDay) -> tb.Money:
        rows = found.statements.values()
        return tb.Money(
            charged_paise=sum(r["charges_paise"] for r in rows),
            recharged_paise=sum(r["recharges_paise"] for r in rows),
            balance_paise=sum(r["closing_paise"] for r in rows),
            accounts=len(found.statements),
            negative=sum(r["closing_paise"] < 0 for r in rows),
            low=sum(n["level"] >= 0 for n in found.notices.values()),
            due=len(found.due),
        )

    def _silent(self, found: ClosedDay) -> list[tb.SilentMeter]:
        rows = []
        for shard in found.shards.values():
            raw = shard.raw[IMPORT_WH.name].values
            for k in np.flatnonzero((raw == MISSING).all(axis=0)):
                serial = shard.index.serials[k]
                point = self._registry.points[serial]
                rows.append(tb.SilentMeter(serial, point.kind, point.transformer, point.feeder, self._last_heard(serial)))
        return sorted(rows, key=lambda r: r.serial)

    def _last_heard(self, serial: str) -> datetime | None:
        """The end of the latest interval that the meter has ever sent, over all closed days that can be read."""
        meter = self._registry.meters[serial]
        for found in self._readable_backwards():
            day = found.day
            values = found.shards[meter.shard].raw[IMPORT_WH.name].values[:, meter.index]
            there = np.flatnonzero(values != MISSING)
            if there.size:
                return self.calendar.local(self.calendar.stamp(day, int(there[-1])))
        return None

    def _readable_backwards(self) -> Iterator[ClosedDay]:
        """The closed days that can be read, latest first."""
        return (found for day in reversed(self.days()) if (found := self._closed.readable(day)) is not None)

    # ---- meters

    def meters(self, query: tb.MeterQuery) -> tb.MeterList:
        found = self._closed.on(query.day)
        text = query.text.strip().lower()
        rows = []
        for serial in sorted(self._registry.meters):
            row = self._meter_row(found, serial)
            names = (row.serial, row.usage_point, row.account or "")
            if text and not any(text in n.lower() for n in names):
                continue
            if query.kind is not None and row.kind is not query.kind:
                continue
            if query.feeders is not None and row.feeder not in query.feeders:
                continue
            if (query.transformer and row.transformer != query.transformer) or (query.feeder and row.feeder != query.feeder):
                continue
            if STATES[query.state](row) and (query.check is None or self._failed(found, serial, int(query.check))):
                rows.append(row)
        page = tuple(rows[query.offset : query.offset + query.limit])
        return tb.MeterList(page, len(rows), tuple(sorted(self._registry.ratings)), tuple(sorted(self._registry.feeders)))

    def meter(self, serial: str, day: date) -> tb.MeterDay | None:
        meter = self._registry.meters.get(serial)
        if meter is None:
            return None
        found = self._closed.on(day)
        point = self._registry.points[serial]
        account = self._registry.account_at.get(point.name)
        shard = found.shards[meter.shard]
        channels = []
        for channel in CHANNELS:
            raw, validated = shard.raw.get(channel.name), shard.validated.get(channel.name)
            if raw is None or validated is None or (channel is not IMPORT_WH and (raw.values[:, meter.index] == MISSING).all()):
                continue
            channels.append(tb.ChannelDay(channel, self._slots(day, raw, validated, meter.index)))
        return tb.MeterDay(
            row=self._meter_row(found, serial),
            day=day,
            maker=meter.maker,
            model=meter.model,
            phase=point.phase,
            connected_load_w=point.connected_load_w,
            since=point.since,
            tariff=account.tariff if account else None,
            last_heard=self._last_heard(serial),
            channels=tuple(channels),
            suspicions=tuple(s for s in self._closed.suspicions(day) if s.serial == serial),
        )

    def _slots(self, day: date, raw: DayBlock, validated: DayBlock, column: int) -> tuple[tb.Slot, ...]:
        def known(value: int) -> int | None:
            return None if value == MISSING else int(value)

        return tuple(
            tb.Slot(self.calendar.local(self.calendar.stamp(day, k)), known(r), known(v), int(q))
            for k, (r, v, q) in enumerate(
                zip(raw.values[:, column], validated.values[:, column], validated.quality[:, column], strict=True)
            )
        )

    def _meter_row(self, found: ClosedDay, serial: str) -> tb.MeterRow:
        meter, point = self._registry.meters[serial], self._registry.points[serial]
        shard, k = found.shards[meter.shard], meter.index
        account = self._registry.account_at.get(point.name) if point.kind is NodeKind.CONSUMER else None
        slots = shard.validated[IMPORT_WH.name].values.shape[0]
        intervals = tb.Intervals(slots, int(shard.metered[k]), int(shard.estimated[k]), int(shard.missing[k]))
        day_wh = None if shard.missing[k] == slots else int(shard.day_wh[k])
        return tb.MeterRow(
            serial,
            point.kind,
            point.name,
            point.transformer,
            point.feeder,
            account.number if account else None,
            intervals,
            int(shard.flagged[k]),
            day_wh,
        )

    def _failed(self, found: ClosedDay, serial: str, bits: int) -> bool:
        meter = self._registry.meters[serial]
        quality = found.shards[meter.shard].validated[IMPORT_WH.name].quality[:, meter.index]
        return bool((quality & np.uint32(bits)).any())

    # ---- the network

    def transformer(self, name: str, day: date) -> tb.TransformerDay | None:
        if name not in self._registry.ratings:
            return None
        found = self._closed.on(day)
        own, below = self._at_node(NodeKind.TRANSFORMER, name), []
        for serial, point in sorted(self._registry.points.items()):
            if point.kind is NodeKind.CONSUMER and point.transformer == name:
                below.append(self._meter_row(found, serial))
        suspicions = tuple(s for s in self._closed.suspicions(day) if name in (s.transformer, s.to_transformer))
        node = self._transformer_node(found, name)
        return tb.TransformerDay(node, day, own, self._hours(found, "transformer", name), tuple(below), suspicions)

    def feeder(self, name: str, day: date) -> tb.FeederDay | None:
        if name not in self._registry.feeders:
            return None
        found = self._closed.on(day)
        return tb.FeederDay(self._feeder_node(found, name), day, self._at_node(NodeKind.FEEDER, name), self._hours(found, "feeder", name))

    def _at_node(self, kind: NodeKind, name: str) -> str | None:
        """The serial of the meter that measures a transformer or feeder itself."""
        return next((s for s, p in self._registry.points.items() if p.kind is kind and p.name == name), None)

    def _hours(self, found: ClosedDay, kind: str, name: str) -> tuple[tb.HourFigures, ...]:
        hours = sorted(h for k, n, h in found.balance if k == kind and n == name and h is not None)
        start = self.calendar.day_start(found.day)
        return tuple(tb.HourFigures(self.calendar.local(start + 3600 * (h + 1)), found.balance[kind, name, h]) for h in hours)

    def _transformer_node(self, found: ClosedDay, name: str) -> tb.TransformerNode:
        consumers = sum(p.kind is NodeKind.CONSUMER and p.transformer == name for p in self._registry.points.values())
        figures = found.balance.get(("transformer", name, None), UNKNOWN)
        return tb.TransformerNode(name, self._registry.transformer_feeder[name], self._registry.ratings[name], consumers, figures)

    def _feeder_node(self, found: ClosedDay, name: str) -> tb.FeederNode:
        own = tuple(self._transformer_node(found, t) for t, f in sorted(self._registry.transformer_feeder.items()) if f == name)
        return tb.FeederNode(name, self._registry.feeders[name], found.balance.get(("feeder", name, None), UNKNOWN), own)

    # ---- money

    def consumer(self, account: str, day: date) -> tb.Consumer | None:
        if self.is_large:
            return self._one.consumer(account, day)
        held = self._registry.accounts.get(account)
        if held is None:
            return None
        found = self._closed.on(day)
        latest = next(self._readable_backwards(), found)
        serial = next(s for s, p in self._registry.points.items() if p.name == held.usage_point)
        point = self._registry.points[serial]
        tariff = load_tariffs().on(held.tariff, day)
        now, notice = latest.statements[account], latest.notices[account]
        due = next((d for d in latest.due if d["account"] == account), None)
        week = [self._day_cost(account, day - timedelta(days=k)) for k in range(6, -1, -1)]
        return tb.Consumer(
            account=account,
            name=held.consumer_name,
            language=held.language,
            meter=serial,
            usage_point=held.usage_point,
            transformer=point.transformer,
            tariff=held.tariff,
            tariff_title=tb.Words(tariff.title_en, tariff.title_hi),
            payment_mode=held.payment_mode,
            balance_paise=now["closing_paise"],
            balance_as_of=self.calendar.local(self.calendar.day_start(latest.day + timedelta(days=1))),
            days_left=notice["days_left"],
            low=notice["level"] >= 0,
            statement=self._statement(found, held),
            week=tuple(week),
            readings_until=self._readings_until(account),
            supply=tb.Supply(None, self._last_heard(serial), due is not None, _withheld(due) if due else ()),
        )

    def _readings_until(self, account: str) -> datetime | None:
        """The end of the last truly metered interval that is in the account's balance; None where there has never been one."""
        for found in self._readable_backwards():
            row = found.statements.get(account)
            if row is not None and row["measured_until"] is not None:
                return self.calendar.local(int(row["measured_until"].timestamp()))
        return None

    def _statement(self, found: ClosedDay, account: Account) -> tb.Statement | None:
        row = found.statements.get(account.number)
        if row is None:
            return None
        tariff = load_tariffs().on(account.tariff, found.day)
        notes = {line.name: line.verify or None for line in tariff.lines}
        lines = tuple(
            tb.ChargeLine(
                c["line"], tb.Words(tariff.label(c["line"], "en"), tariff.label(c["line"], "hi")), c["amount_paise"], notes.get(c["line"])
            )
            for c in found.charges[account.number]
            if c["amount_paise"]
        )
        recharges = tuple(
            t.amount_paise for t in self.site.rows.transfers(found.day, found.day) if t.account == account.number and t.kind == "recharge"
        )
        return tb.Statement(
            day=found.day,
            opening_paise=row["opening_paise"],
            recharges_paise=recharges,
            lines=lines,
            closing_paise=row["closing_paise"],
            wh=None if row["held"] else row["wh"],
            estimated_wh=row["estimated_wh"],
            missing_intervals=row["missing_slots"],
            month_wh=found.month_wh.get(account.number),
            adjustments_paise=row["adjustments_paise"],
        )

    def _day_cost(self, account: str, day: date) -> tb.DayCost:
        if day not in self.days():
            return tb.DayCost(day, None, None, False)
        found = self._closed.readable(day)
        row = found.statements.get(account) if found else None
        if row is None:
            return tb.DayCost(day, None, None, False)
        return tb.DayCost(day, None if row["held"] else row["wh"], row["charges_paise"], row["estimated_wh"] > 0)

    def due(self, day: date) -> tb.DueList:
        found = self._closed.on(day)
        policy = load_policies().on(self.site.deployment.policy, day + timedelta(days=1))
        rows = []
        for due in found.due:
            account = self._registry.accounts[due["account"]]
            serial = next(s for s, p in self._registry.points.items() if p.name == account.usage_point)
            point = self._registry.points[serial]
            rows.append(tb.DueRow(account.number, serial, point.transformer, due["balance_paise"], due["days_below"], _withheld(due)))
        start = self.calendar.day_start(day + timedelta(days=1))
        judged = found.due[0]["judged_at"].timestamp() if found.due else start + 12 * 3600
        return tb.DueList(
            day,
            self.calendar.local(int(judged)),
            policy.name,
            tb.Words(policy.title_en, policy.title_hi),
            tuple(sorted(rows, key=_poorest)),
        )

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


UNKNOWN = tb.NodeFigures(None, None, None, 0.0)
RUNNING = frozenset(c for c in CHECKS if str(c.name).lower() in ("missing", "duplicate", "spike", "plausibility", "frozen", "zero"))

STATES: dict[tb.MeterState, Callable[[tb.MeterRow], bool]] = {
    tb.MeterState.ALL: lambda row: True,
    tb.MeterState.SILENT: lambda row: row.intervals.metered == 0,
    tb.MeterState.INCOMPLETE: lambda row: row.intervals.missing + row.intervals.estimated > 0,
    tb.MeterState.FLAGGED: lambda row: row.flagged > 0,
    tb.MeterState.ESTIMATED: lambda row: row.intervals.estimated > 0,
}


def _withheld(due: dict[str, Any]) -> tuple[tb.Reason, ...]:
    """The guard's reasons against a cut, unknown facts among them."""
    return tuple(tb.Reason(r["code"], tb.Words(r["en"], r["hi"])) for r in json.loads(due["reasons"]) if r["ok"] is not True)


def _poorest(row: tb.DueRow) -> tuple[int, str]:
    return row.balance_paise, row.account
