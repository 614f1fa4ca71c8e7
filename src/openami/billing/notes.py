"""What is said beside a charge and costs nothing: readings and estimates, what was set off, which limit was passed, why a line applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..money import round_half_up
from .charge import Segment
from .netting import Netted
from .tariff import FreeUnits, Line, NetMetering, Payment, PerUnit, Tariff, TimeOfUse
from .tree import Node, thousandth

SET_OFF_EN = (
    "Net metering{w}: imported so far {0}, exported {1}, in the bank before {2}; {3} set off (at most {cap} % of the import), "
    "{4} billed, {5} banked"
)
SET_OFF_HI = "नेट मीटरिंग{w}: अब तक आयात {0}, निर्यात {1}, पहले से जमा {2}; {3} समायोजित (आयात के अधिकतम {cap} % तक), {4} का बिल, {5} जमा"


@dataclass(frozen=True, slots=True)
class Account:
    """What is needed to explain one account's day. before_wh, day_wh: imported, by time-of-use period; estimated_wh: how much of the day's energy
    is estimated, by period; demand_*_va as in `charge`; export_*_wh, bank_wh: by period, of a tariff with net metering, as in `netting.net`
    (left out = 0)."""

    before_wh: tuple[int, ...]
    day_wh: tuple[int, ...]
    estimated_wh: tuple[int, ...]
    connected_load_w: int
    prepaid: bool
    demand_before_va: int = 0
    demand_va: int = 0
    contract_va: int = 0
    export_before_wh: tuple[int, ...] = ()
    export_day_wh: tuple[int, ...] = ()
    bank_wh: tuple[int, ...] = ()

    @property
    def exported_wh(self) -> tuple[int, ...]:
        """To the end of the day, by period."""
        return tuple(a + b for a, b in zip(self.export_before_wh, self.export_day_wh, strict=True)) or (0,) * len(self.day_wh)


def readings(tariff: Tariff, account: Account) -> Iterator[Node]:
    tou = tariff.time_of_use
    hindi = {period.name: period.hi or period.name for period in tou.periods} if tou else {}
    for name, wh, estimated in zip(tariff.periods, account.day_wh, account.estimated_wh, strict=True):
        where = "" if name == "all" else f" ({name})"
        en, hi = (
            f"Readings of the day{where}: {thousandth(wh)} units",
            f"दिन की रीडिंग{where.replace(name, hindi.get(name, name))}: {thousandth(wh)} यूनिट",
        )
        if estimated:
            en, hi = f"{en}, of which {thousandth(estimated)} are estimated", f"{hi}, जिसमें {thousandth(estimated)} यूनिट अनुमानित"
        yield Node(f"readings.{name}", en, hi, 0, (), (("wh", wh), ("estimated_wh", estimated)), note=True)


def crossings(part: Segment, before_wh: int, now_wh: int) -> Iterator[Node]:
    """What changed against the day before: a limit of a slab, of free units or of a condition that the consumption passed today."""
    for line in part.tariff.lines:
        rule, when = line.rule, line.when
        limits = [s.up_to for s in rule.slabs if s.up_to] if isinstance(rule, PerUnit) else []
        limits += [rule.limit_wh] if isinstance(rule, FreeUnits) else []
        limits += [limit for limit in (when.over_wh, when.up_to_wh) if limit]
        for limit in sorted(set(limits)):
            edge = round_half_up(limit * part.span_days, part.days_in_period)
            if before_wh <= edge < now_wh:
                en = f"The consumption passed {thousandth(edge)} units today: {line.label_en} changes there"
                hi = f"आज खपत {thousandth(edge)} यूनिट से अधिक हो गई: यहाँ से हिसाब बदलता है ({line.label_hi})"
                yield Node(f"crossed.{line.name}", en, hi, 0, (), (("limit_wh", edge),), note=True)


def why_applied(part: Segment, line: Line, account: Account, wh: int) -> Iterator[Node]:
    """A note for a line with conditions: each of them, and whether it holds; and which hours a line of time of use goes by."""
    when, conditions = line.when, list[tuple[str, str, bool]]()
    if when.payment is not Payment.ANY:
        prepaid = when.payment is Payment.PREPAID
        conditions.append((f"{when.payment} accounts", "प्रीपेड खाते" if prepaid else "पोस्टपेड खाते", account.prepaid is prepaid))
    for limit, over in ((when.over_wh, True), (when.up_to_wh, False)):
        if limit is not None:
            edge = round_half_up(limit * part.span_days, part.days_in_period)
            conditions.append((*_bound(edge, over, "units", "यूनिट"), wh > edge if over else wh <= edge))
    for limit, over in ((when.over_w, True), (when.up_to_w, False)):
        if limit is not None:
            load = account.connected_load_w
            conditions.append((*_bound(limit, over, "kW of sanctioned load", "किलोवाट स्वीकृत भार"), load > limit if over else load <= limit))
    if conditions:
        holds = all(fine for _, _, fine in conditions)
        en = f"{'Applies' if holds else 'Does not apply'}: it is for {', '.join(c[0] for c in conditions)}"
        hi = f"{'लागू है' if holds else 'लागू नहीं है'}: यह {', '.join(c[1] for c in conditions)} के लिए है"
        yield Node(f"{line.name}.applies", en, hi, 0, (), (("applies", int(holds)),), note=True)
    if isinstance(line.rule, TimeOfUse):
        yield from _hours(line.name, line.rule)


def _bound(limit: int, over: bool, en: str, hi: str) -> tuple[str, str]:
    amount = thousandth(limit)
    return (f"more than {amount} {en}", f"{amount} {hi} से अधिक") if over else (f"up to {amount} {en}", f"{amount} {hi} तक")


def _hours(name: str, rule: TimeOfUse) -> Iterator[Node]:
    for k, period in enumerate(rule.periods):
        spans = list(dict.fromkeys(f"{w.start:%H:%M}-{w.end:%H:%M}" for w in rule.windows if w.period == k))
        if spans:
            clock = ", ".join(spans)
            yield Node(
                f"{name}.hours.{period.name}", f"Hours of {period.name}: {clock}", f"{period.hi or period.name} के घंटे: {clock}", 0, note=True
            )


def set_off(tariff: Tariff, rule: NetMetering, account: Account, import_wh: tuple[int, ...], now: Netted) -> Iterator[Node]:
    """What was set off, period by period: what is billed is not what was imported."""
    tou = tariff.time_of_use
    hindi = {period.name: period.hi or period.name for period in tou.periods} if tou else {}
    export_wh = account.exported_wh
    for k, name in enumerate(tariff.periods):
        credited, billed, bank = (int(values[k, 0]) for values in (now.credited_wh, now.billed_wh, now.bank_wh))
        figures = [thousandth(wh) for wh in (import_wh[k], export_wh[k], credited + bank - export_wh[k], credited, billed, bank)]
        where, where_hi = ("", "") if name == "all" else (f" ({name})", f" ({hindi.get(name, name)})")
        cap = thousandth(rule.cap_mille * 100)
        en, hi = SET_OFF_EN.format(*figures, w=where, cap=cap), SET_OFF_HI.format(*figures, w=where_hi, cap=cap)
        told = (
            ("import_wh", import_wh[k]),
            ("export_wh", export_wh[k]),
            ("credited_wh", credited),
            ("billed_wh", billed),
            ("bank_wh", bank),
        )
        yield Node(
            f"netting.{name}",
            en.format(*figures, w=where, cap=cap),
            hi.format(*figures, w=where_hi, cap=cap),
            0,
            (),
            told,
            "",
            rule.verify,
            note=True,
        )
