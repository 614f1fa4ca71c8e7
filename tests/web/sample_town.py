"""A complete town in memory, for the pages' own tests: every shape an answer can take, and one hostile name."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from openami.day.found import Told
from openami.readings import CURRENT_A, IMPORT_VAH, IMPORT_WH, VOLTAGE_V, Calendar, Quality
from openami.registry import NodeKind, PaymentMode
from openami.web.townbook import (
    CauseCount,
    ChannelDay,
    ChargeLine,
    CheckCount,
    Consumer,
    DayCost,
    DueList,
    DueRow,
    FeederDay,
    FeederNode,
    HourFigures,
    Intervals,
    MeterDay,
    MeterList,
    MeterQuery,
    MeterRow,
    MeterState,
    Money,
    NodeFigures,
    Overview,
    Quarantine,
    QuarantinedFrame,
    Reason,
    SilentMeter,
    Slot,
    Statement,
    Supply,
    Suspicion,
    SuspicionKind,
    TransformerDay,
    TransformerNode,
    Words,
)

ZONE = ZoneInfo("Asia/Kolkata")
DAYS = (date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4))
HOSTILE = "<script>alert(1)</script> \"'&"
CONSUMERS, TRANSFORMERS = 400, 16
RELAY = {4: True, 9: False}
"""Whose relay was read, and whether it is closed; nobody else's is known."""
SPIKED, MISSING_METER, SILENT, NO_ACCOUNT = 3, 5, 7, 11


def serial(k: int) -> str:
    return f"XM{'AB'[k % 2]}{k + 1:07d}"


def account(k: int) -> str:
    return str(2_000_000_001 + k)


MOVED = Suspicion(SuspicionKind.WRONG_TRANSFORMER, serial(MISSING_METER), "DT-06", "DT-03", 0.97, (), {}, 3)
SHORT = Suspicion(
    SuspicionKind.COUNTS_TOO_LITTLE, serial(19), "DT-04", None, 0.61, (Told("", "its transformer loses in step with it", "", 1.0),), {}, 3
)
STILL = Suspicion(SuspicionKind.COUNTS_TOO_LITTLE, serial(26), "DT-11", None, 0.22, (Told("", "it stands still", "", 0.4),), {}, 3)
LOSSES = [0.021, 0.034, 0.028, 0.312, 0.041, -0.024, 0.055, 0.026, 0.029, 0.131, 0.083, None, 0.033, 0.031, 0.022, 0.038]


def instant(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZONE)


def figures(k: int, day: date, scale: float = 1.0) -> NodeFigures:
    rng = np.random.default_rng([k, day.toordinal()])
    in_wh = int(scale * rng.uniform(180_000, 260_000))
    share = LOSSES[k]
    if share is None:
        return NodeFigures(None, int(in_wh * 0.95), None, 0.0, 0.01, None)
    out_wh = round(in_wh * (1 - share))
    coverage = 1.0 if k % 4 else 0.9312
    return NodeFigures(in_wh, out_wh, in_wh - out_wh, coverage, 0.012 if k % 3 else 0.0, (share - 0.032) / 0.009)


class SampleTown:
    """`TownReader` over made-up numbers. `hostile` puts markup into every text that data can bring."""

    calendar = Calendar("Asia/Kolkata", 15)

    def __init__(self, days: tuple[date, ...] = DAYS, hostile: bool = False, damaged: tuple[date, ...] = ()) -> None:
        self._days, self._damaged = days, damaged
        self._text = HOSTILE if hostile else ""

    def days(self) -> tuple[date, ...]:
        return self._days

    def damaged(self) -> tuple[date, ...]:
        return self._damaged

    def _node(self, k: int, day: date) -> TransformerNode:
        return TransformerNode(f"DT-{k + 1:02d}", f"F{k // 8 + 1}", (63, 100, 160, 250)[k % 4], CONSUMERS // TRANSFORMERS, figures(k, day))

    def _feeder(self, k: int, day: date) -> FeederNode:
        below = tuple(self._node(t, day) for t in range(8 * k, 8 * k + 8))
        out = None if any(t.figures.in_wh is None for t in below) else sum(t.figures.in_wh or 0 for t in below)
        in_wh = int(1.018 * sum(t.figures.in_wh or 210_000 for t in below))
        known = NodeFigures(in_wh, out, None if out is None else in_wh - out, 1.0 if k == 0 else 0.873, 0.004)
        return FeederNode(f"F{k + 1}", "SS-1 33/11 kV" + self._text, known, below)

    def overview(self, day: date, feeders: Set[str] | None = None) -> Overview:
        checks = {Quality.MISSING: (1_212, 38), Quality.DUPLICATE: (14, 9), Quality.OUT_OF_DAY: (0, 0), Quality.SPIKE: (27, 11)}
        checks |= {Quality.PLAUSIBILITY: (9, 3), Quality.FROZEN: (388, 6)}
        return Overview(
            day=day,
            as_of=instant(day + timedelta(days=1), 6, 10),
            name="Demo town" + self._text,
            demo=True,
            meters=CONSUMERS + TRANSFORMERS + 2,
            intervals=Intervals(40_128, 38_916, 790, 422),
            frames_received=121_043,
            frames_accepted=120_511,
            checks=tuple(CheckCount(q, *n) for q, n in checks.items()),
            consumers_wh=3_312_480,
            feeders_wh=3_541_022,
            money=Money(1_874_520, 4_200_000, 11_318_245, CONSUMERS, 31, 44, 18),
            feeders=tuple(one for one in (self._feeder(k, day) for k in range(2)) if feeders is None or one.name in feeders),
            silent_meters=4,
            silent=tuple(
                SilentMeter(serial(k), NodeKind.CONSUMER, f"DT-{k % 16 + 1:02d}", "F1", instant(DAYS[0], 4, 15) if k % 2 else None)
                for k in (SILENT, 88, 140, 301)
            ),
            quarantine=(
                CauseCount("bad_tag", 288),
                CauseCount("unknown_meter", 192),
                CauseCount("replayed_counter", 41),
                CauseCount("malformed", 11),
            ),
            suspicions=(MOVED, SHORT, STILL),
        )

    def _row(self, k: int, day: date) -> MeterRow:
        missing = 96 if k == SILENT else 6 if k == MISSING_METER else 0
        estimated = 4 if k in (SPIKED, MISSING_METER) else 0
        rng = np.random.default_rng([k, day.toordinal(), 1])
        return MeterRow(
            serial=serial(k),
            kind=NodeKind.CONSUMER if k < CONSUMERS else NodeKind.TRANSFORMER if k < CONSUMERS + TRANSFORMERS else NodeKind.FEEDER,
            usage_point=f"UP-{k + 1:05d}",
            transformer=f"DT-{k % 16 + 1:02d}" if k < CONSUMERS + TRANSFORMERS else None,
            feeder=f"F{k % 16 // 8 + 1}",
            account=None if k == NO_ACCOUNT or k >= CONSUMERS else account(k),
            intervals=Intervals(96, 96 - missing - estimated, estimated, missing),
            flagged=2 if k == SPIKED else 0,
            day_wh=None if k == SILENT else int(rng.uniform(1_500, 14_000)),
        )

    def meters(self, query: MeterQuery) -> MeterList:
        rows = [self._row(k, query.day) for k in range(CONSUMERS)]
        text = query.text.lower()
        rows = [r for r in rows if text in f"{r.serial} {r.usage_point} {r.account}".lower()]
        if query.state is MeterState.SILENT:
            rows = [r for r in rows if r.day_wh is None]
        if query.state is MeterState.FLAGGED or query.check:
            rows = [r for r in rows if r.flagged]
        if query.kind and query.kind is not NodeKind.CONSUMER:
            rows = []
        if query.transformer:
            rows = [r for r in rows if r.transformer == query.transformer]
        rows.sort(key=lambda r: r.serial)
        page = tuple(rows[query.offset : query.offset + query.limit])
        return MeterList(page, len(rows), tuple(f"DT-{k + 1:02d}" for k in range(TRANSFORMERS)), ("F1", "F2"))

    def meter(self, name: str, day: date) -> MeterDay | None:
        k = next((k for k in range(CONSUMERS + TRANSFORMERS + 2) if serial(k) == name), None)
        if k is None:
            return None
        return MeterDay(
            row=replace(self._row(k, day), usage_point=f"UP-{k + 1:05d}{self._text}"),
            day=day,
            maker="XMA" + self._text,
            model="XMA-1P",
            phase="R",
            connected_load_w=3000 if k % 2 else 0,
            since=DAYS[0],
            tariff="BR-DS2",
            last_heard=None if k == SILENT else instant(day + timedelta(days=1), 0, 0),
            channels=() if k == SILENT else self._channels(k, day),
            suspicions=(MOVED,) if k == MISSING_METER else (),
        )

    def _channels(self, k: int, day: date) -> tuple[ChannelDay, ...]:
        rng = np.random.default_rng([k, day.toordinal(), 2])
        hours = np.arange(96) / 4
        wh = 35 + 60 * np.exp(-(((hours - 7.5) / 1.5) ** 2)) + 140 * np.exp(-(((hours - 20) / 2) ** 2)) + rng.gamma(0.4, 60, 96)
        energy, volts, amps = [], [], []
        for s in range(96):
            end = instant(day, 0) + timedelta(minutes=15 * (s + 1))
            raw, value, quality = int(wh[s]), int(wh[s]), 0
            if k == SPIKED and s in (40, 41):
                raw, quality = 36_000 if s == 40 else raw, int(Quality.SPIKE | Quality.ESTIMATED_LINEAR)
            if k in (SPIKED, MISSING_METER) and s in (60, 61, 62, 63) and not (k == SPIKED and s < 62):
                raw, quality = None, int(Quality.MISSING | Quality.ESTIMATED_LIKE_DAY)
            if k == MISSING_METER and 10 <= s < 16:
                raw, value, quality = None, None, int(Quality.MISSING)
            energy.append(Slot(end, raw, value, quality))
            volt = None if raw is None else 10 * int(2340 - wh[s] / 4 + rng.normal(0, 15))
            volts.append(Slot(end, volt, volt, 0 if volt is not None else int(Quality.MISSING)))
            amp = None if raw is None else int(wh[s] * 4000 / 234)
            amps.append(Slot(end, amp, amp, 0 if amp is not None else int(Quality.MISSING)))
        apparent = tuple(replace(s, raw=s.raw and s.raw + 4, value=s.value and s.value + 4) for s in energy)
        return (
            ChannelDay(IMPORT_WH, tuple(energy)),
            ChannelDay(IMPORT_VAH, apparent),
            ChannelDay(VOLTAGE_V, tuple(volts)),
            ChannelDay(CURRENT_A, tuple(amps)),
        )

    def transformer(self, name: str, day: date) -> TransformerDay | None:
        k = next((k for k in range(TRANSFORMERS) if f"DT-{k + 1:02d}" == name), None)
        if k is None:
            return None
        node = self._node(k, day)
        rows = tuple(self._row(c, day) for c in range(k, CONSUMERS, TRANSFORMERS))
        return TransformerDay(
            node,
            day,
            None if LOSSES[k] is None else serial(CONSUMERS + k),
            self._hours(node.figures, day),
            rows,
            (MOVED,) if k == 5 else (),
        )

    def feeder(self, name: str, day: date) -> FeederDay | None:
        if name not in ("F1", "F2"):
            return None
        node = self._feeder(int(name[1]) - 1, day)
        return FeederDay(node, day, serial(CONSUMERS + TRANSFORMERS + int(name[1]) - 1), self._hours(node.figures, day))

    def _hours(self, total: NodeFigures, day: date) -> tuple[HourFigures, ...]:
        weight = 1 + 0.6 * np.exp(-(((np.arange(24) - 20) / 3) ** 2)) + 0.3 * np.exp(-(((np.arange(24) - 7) / 2) ** 2))
        weight /= weight.sum()
        hours = []
        for h, w in enumerate(weight):
            in_wh = None if total.in_wh is None else round(total.in_wh * float(w))
            out_wh = None if total.out_wh is None or h == 3 else round(total.out_wh * float(w))
            loss = None if in_wh is None or out_wh is None else in_wh - out_wh
            hours.append(HourFigures(instant(day, 0) + timedelta(hours=h + 1), NodeFigures(in_wh, out_wh, loss, total.coverage, 0.0)))
        return tuple(hours)

    def consumer(self, number: str, day: date) -> Consumer | None:
        k = next((k for k in range(CONSUMERS) if account(k) == number), None)
        if k is None or k == NO_ACCOUNT:
            return None
        balance = -12_345 if k == 2 else 3_210 if k == 3 else 41_872
        prepaid_lines = (
            ChargeLine("energy", Words("Energy charge" + self._text, "ऊर्जा शुल्क"), 6_248),
            ChargeLine("subsidy", Words("State subsidy", "राज्य सरकार का अनुदान"), -2_779),
            ChargeLine("prepaid_discount", Words("Smart prepaid discount", "स्मार्ट प्रीपेड छूट"), -211),
            ChargeLine("fixed", Words("Fixed charge", "नियत (फिक्स्ड) शुल्क"), 516, "Rs 80 a kW and month from one source"),
            ChargeLine("fuel_surcharge", Words("Fuel adjustment", "ईंधन समायोजन"), 0),
            ChargeLine("duty", Words("Electricity duty", "विद्युत शुल्क (ड्यूटी)"), 375, "sources disagree between 5 % and 6 %"),
        )
        if k == 4:
            free = -sum(line.amount_paise for line in prepaid_lines)
            prepaid_lines += (ChargeLine("free_units", Words("125 free units", "125 यूनिट मुफ़्त बिजली"), free),)
        if k == 9:
            prepaid_lines += (ChargeLine("free_units", Words("125 free units", "125 यूनिट मुफ़्त बिजली"), 3_176),)
        charge = sum(line.amount_paise for line in prepaid_lines)
        recharges = (20_000,) if k == 0 else ()
        statement = Statement(
            day,
            balance + charge - sum(recharges),
            recharges,
            prepaid_lines,
            balance,
            8_420,
            610 if k == 0 else 0,
            2 if k == 3 else 0,
            38_250,
        )
        due = balance < 0
        heard = None if k == SILENT else instant(day + timedelta(days=1), 0)
        window = Reason(
            "window", Words("It is after 17:30: supply is never cut in the evening.", "शाम 5:30 बजे के बाद बिजली कभी नहीं काटी जाती।")
        )
        return Consumer(
            account=number,
            name="Asha Devi" + self._text,
            language="en" if k == 1 else "hi",
            meter=serial(k),
            usage_point=f"UP-{k + 1:05d}",
            transformer="DT-01",
            tariff="BR-DS2",
            tariff_title=Words("Bihar DS-II, urban home", "बिहार डीएस-II, शहरी घरेलू"),
            payment_mode=PaymentMode.PREPAID,
            balance_paise=balance,
            balance_as_of=instant(day + timedelta(days=1), 0),
            readings_until=heard,
            days_left=None if k == 6 else max(0, balance // charge) if charge else None,
            low=balance < 10_000,
            statement=None if k == 8 else statement,
            week=tuple(
                DayCost(day - timedelta(days=6 - n), 8_420 - 700 * n if n > 3 else None, 4_149 - 300 * n if n > 3 else None, n == 5)
                for n in range(7)
            ),
            supply=Supply(
                RELAY.get(k), heard, due, (window,) if due else (), Words("The balance is below zero.", "बैलेंस शून्य से नीचे है।") if due else None
            ),
        )

    def due(self, day: date, feeders: Set[str] | None = None, offset: int = 0, limit: int = 50) -> DueList:
        window = Reason("window", Words("Outside the hours in which supply may be cut.", "इस समय बिजली काटने की अनुमति नहीं है।"))
        estimate = Reason("estimate", Words("The balance rests on estimated readings." + self._text, "बैलेंस अनुमानित रीडिंग पर आधारित है।"))
        rows = tuple(
            DueRow(
                account(k), serial(k), f"DT-{k % 16 + 1:02d}", -12_345 + 500 * k, k % 5 or None, ((window, estimate), (window,), ())[k % 3]
            )
            for k in range(18)
            if k != NO_ACCOUNT
        )
        policy = Words("Bihar prepaid rules", "बिहार प्रीपेड नियम")
        held = sum(bool(row.withheld) for row in rows)
        return DueList(day, instant(day + timedelta(days=1), 18, 0), "BR-PREPAID", policy, rows[offset : offset + limit], len(rows), held)

    def quarantine(self, cause: str | None, offset: int, limit: int) -> Quarantine:
        causes = (
            CauseCount("bad_tag", 288),
            CauseCount("unknown_meter", 192),
            CauseCount("replayed_counter", 41),
            CauseCount("malformed", 11),
        )
        total = sum(c.frames for c in causes if cause in (None, c.cause))
        rows = tuple(
            QuarantinedFrame(
                f"{n}-0",
                instant(DAYS[2], 23 - n % 24, n % 60),
                cause or causes[n % 4].cause,
                "the authentication tag does not hold: wrong key, wrong system title or altered bytes" + self._text,
                serial(n) if n % 4 != 1 else None,
                bytes(range(93)),
            )
            for n in range(offset, min(offset + limit, total))
        )
        return Quarantine(causes, total, rows)
