"""Why a day cost what it did: the full derivation of an account's charge as a tree, in English and Hindi.

What always holds: a node with children is exactly the sum of its children, in paise; the lines are those of `bill`, and what the parts
of a line lack of it is shown as the rounding of that line. A part that does not fit its line is a mistake of the program and stops it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

import numpy as np

from ..errors import RequestError
from ..money import round_half_up, rupees
from ..readings import Int64
from .bill import Bill, bill
from .charge import Segment
from .netting import Netted, net, settle, settles
from .notes import Account, crossings, readings, set_off, why_applied
from .tariff import (
    SETTLEMENT,
    SETTLEMENT_LABEL,
    Demand,
    Fixed,
    FixedPer,
    FreeUnits,
    Line,
    Minimum,
    NetMetering,
    Payment,
    Percent,
    PerUnit,
    Rounding,
    TimeOfUse,
)
from .tree import Node, checked, rs, thousandth

__all__ = ["Account", "Node", "compare_days", "explain_bill", "explain_day"]


def explain_day(part: Segment, day: date, account: Account) -> Node:
    """The day's charge: per line, the bill to date less the bill to the day before, how each came about and why it applied; the readings come
    first."""
    days = part.days_to(day)
    before_wh = account.before_wh
    now_wh = tuple(a + b for a, b in zip(before_wh, account.day_wh, strict=True))
    netted: tuple[Node, ...] = ()
    settlement: tuple[Node, ...] = ()
    if (rule := part.tariff.net_metering) is not None:
        was, now = _netted(rule, account, before_wh, account.export_before_wh), _netted(rule, account, now_wh, account.exported_wh)
        netted = tuple(set_off(part.tariff, rule, account, now_wh, now))
        settlement = _settled(rule, now) if settles(rule, day) else ()
        before_wh, now_wh = _column(was.billed_wh), _column(now.billed_wh)
    after = explain_bill(part, days, now_wh, account, account.demand_va)
    before = explain_bill(part, days - 1, before_wh, account, account.demand_before_va)
    lines = []
    for line, new, old in zip(part.tariff.lines, after.children, before.children, strict=True):
        old_part = replace(old, amount_paise=-old.amount_paise, children=tuple(_negative(child) for child in old.children))
        children = (
            *why_applied(part, line, account, sum(now_wh)),
            _said(new, "to_date", f"to the end of {day}", f"{day} के अंत तक"),
            _said(old_part, "posted", f"less what was charged before {day}", f"{day} से पहले लिया गया घटाकर"),
        )
        lines.append(replace(new, amount_paise=new.amount_paise - old.amount_paise, children=children, quantities=()))
    notes = (*readings(part.tariff, account), *netted, *crossings(part, sum(before_wh), sum(now_wh)))
    total = sum(line.amount_paise for line in (*lines, *settlement))
    return checked(Node("day", f"Charge of {day}", f"{day} का कुल शुल्क", total, (*notes, *lines, *settlement)))


def compare_days(today: Node, before: Node) -> Node:
    """What changed against another day, from two trees of `explain_day`: the difference of the charges, line by line, units first.

    Lines that cost the same on both days are left out; a line that only one day has (the tariff changed between) counts whole."""
    then = {node.code: node for node in before.children}
    now = {node.code: node for node in today.children}
    parts: list[Node] = []
    for code in dict.fromkeys([*now, *then]):
        node, other = now.get(code), then.get(code)
        named = node or then[code]
        if code.startswith("readings."):
            units = [int(dict(item.quantities)["wh"]) if item else 0 for item in (other, node)]
            if units[0] != units[1]:
                both = f"{thousandth(units[0])} -> {thousandth(units[1])}"
                en, hi = (f"{said.partition(':')[0]}: {both} {word}" for said, word in ((named.en, "units"), (named.hi, "यूनिट")))
                parts.append(Node(code, en, hi, 0, (), (("before_wh", units[0]), ("wh", units[1])), note=True))
        elif code.startswith("crossed.") and node is not None:
            parts.append(node)
        elif not named.note:
            change = (node.amount_paise if node else 0) - (other.amount_paise if other else 0)
            if change:
                parts.append(Node(code, named.en, named.hi, change))
    total = today.amount_paise - before.amount_paise
    return checked(Node("change", "Change against the day before", "पिछले दिन से अंतर", total, tuple(parts)))


def explain_bill(part: Segment, days: int, energy_wh: tuple[int, ...], account: Account, demand_va: int = 0) -> Node:
    """The bill of the segment's first `days` days, line by line."""
    tariff = part.tariff
    one = np.ones(1, np.int64)
    printed = bill(
        tariff,
        np.array(energy_wh, np.int64)[:, None],
        days,
        part.days_in_period,
        account.connected_load_w * one,
        np.array([account.prepaid]),
        span_days=part.span_days,
        demand_va=demand_va * one,
        contract_va=account.contract_va * one,
    )
    if printed.refused[0]:
        raise RequestError(f"this account cannot be billed by {tariff.name}: its sanctioned load is unknown or an energy is negative")
    step = _Step(part, days, energy_wh, account, demand_va, printed)
    lines = tuple(step.line(k, line) for k, line in enumerate(tariff.lines))
    return checked(Node("bill", tariff.title_en, tariff.title_hi, int(printed.total_paise[0]), lines))


@dataclass(frozen=True)
class _Step:
    part: Segment
    days: int
    energy_wh: tuple[int, ...]
    account: Account
    demand_va: int
    printed: Bill

    @property
    def wh(self) -> int:
        return sum(self.energy_wh)

    def amount(self, name: str) -> int:
        return int(self.printed.line(name)[0])

    def scaled(self, limit: int) -> int:
        return round_half_up(limit * self.part.span_days, self.part.days_in_period)

    def line(self, k: int, line: Line) -> Node:
        total = int(self.printed.amount_paise[k, 0])
        parts = self._parts(line) if self._applies(line) else []
        missing = total - sum(node.amount_paise for node in parts)
        if parts and abs(missing) > len(parts):
            raise RequestError(f"line {line.name} of {self.part.tariff.name} is {total} paise, but its parts make {total - missing}")
        if parts and missing:
            parts.append(Node(f"{line.name}.rounding", "Rounding of this line", "इस मद का पूर्णांकन", missing))
        return Node(line.name, line.label_en, line.label_hi, total, tuple(parts), (), line.source, line.verify)

    def _applies(self, line: Line) -> bool:
        when, load = line.when, self.account.connected_load_w
        return (
            when.payment in (Payment.ANY, Payment.PREPAID if self.account.prepaid else Payment.POSTPAID)
            and (when.over_wh is None or self.wh > self.scaled(when.over_wh))
            and (when.up_to_wh is None or self.wh <= self.scaled(when.up_to_wh))
            and (when.over_w is None or load > when.over_w)
            and (when.up_to_w is None or load <= when.up_to_w)
        )

    def _parts(self, line: Line) -> list[Node]:
        match line.rule:
            case PerUnit() as rule:
                return self._per_unit(line.name, rule)
            case Fixed() as rule:
                return [self._fixed(line.name, rule)]
            case Demand() as rule:
                return [self._demand(line.name, rule)]
            case TimeOfUse() as rule:
                return self._time_of_use(line.name, rule)
            case Percent(percent_milli=percent, of=of):
                return [self._share_of(line.name, name, percent) for name in of if self.amount(name)]
            case FreeUnits() as rule:
                return self._free(line.name, rule)
            case Minimum() | Rounding():
                return []

    def _per_unit(self, name: str, rule: PerUnit) -> list[Node]:
        limits = [None if s.up_to is None else self.scaled(s.up_to) for s in rule.slabs]
        if rule.whole:
            at = next(k for k, limit in enumerate(limits) if limit is None or self.wh <= limit)
            return [_slab(name, limits, at, self.wh, rule.slabs[at].rate_mp, whole=True)]
        nodes, below = [], 0
        for k, limit in enumerate(limits):
            top = self.wh if limit is None else min(self.wh, limit)
            if top > below:
                nodes.append(_slab(name, limits, k, top - below, rule.slabs[k].rate_mp))
                below = top
        return nodes

    def _fixed(self, name: str, rule: Fixed) -> Node:
        quantity, at = 1000, 0
        if rule.per in (FixedPer.KW, FixedPer.KVA):
            quantity = self.account.connected_load_w if rule.per is FixedPer.KW else self.account.contract_va
            quantity = -(-quantity // rule.step) * rule.step
        elif rule.per in (FixedPer.LOAD_BAND, FixedPer.CONSUMPTION_BAND):
            by_load = rule.per is FixedPer.LOAD_BAND
            value = self.account.connected_load_w if by_load else self.wh
            limits = [s.up_to if s.up_to is None or by_load else self.scaled(s.up_to) for s in rule.slabs]
            at = next(k for k, limit in enumerate(limits) if limit is None or value <= limit)
        rate = rule.slabs[at].rate_mp
        paise = round_half_up(rate * quantity * self.days, 1_000_000 * self.part.days_in_period)
        unit = {FixedPer.KW: ("kW", "किलोवाट"), FixedPer.KVA: ("kVA", "केवीए")}.get(rule.per, ("connection", "कनेक्शन"))
        shape = f"{thousandth(quantity)} {{unit}} x {rs(rate)} x {self.days}/{self.part.days_in_period} {{days}}"
        return Node(
            f"{name}.days",
            shape.format(unit=unit[0], days="days"),
            shape.format(unit=unit[1], days="दिन"),
            paise,
            (),
            (("rate_mp", rate), ("quantitythousandths", quantity), ("days", self.days)),
        )

    def _demand(self, name: str, rule: Demand) -> Node:
        floor = Fraction(self.account.contract_va * rule.floor_mille, 1000)
        billing = max(Fraction(self.demand_va), floor)
        excess = max(Fraction(0), billing - self.account.contract_va)
        exact = Fraction(rule.rate_mp, 1_000_000) * (billing - excess + excess * Fraction(rule.excess_mille, 1000))
        exact *= Fraction(self.days, self.part.days_in_period)
        paise = round_half_up(exact.numerator, exact.denominator)
        which = ("recorded", "दर्ज") if billing == self.demand_va else ("least charged", "न्यूनतम देय")
        shape = f"{float(billing) / 1000:.3f} kVA ({{which}}) x {rs(rule.rate_mp)} x {self.days}/{self.part.days_in_period} {{days}}"
        quantities = (("rate_mp", rule.rate_mp), ("recorded_va", self.demand_va), ("contract_va", self.account.contract_va))
        return Node(
            f"{name}.days", shape.format(which=which[0], days="days"), shape.format(which=which[1], days="दिन"), paise, (), quantities
        )

    def _time_of_use(self, name: str, rule: TimeOfUse) -> list[Node]:
        base, nodes = sum(self.amount(item) for item in rule.of), []
        for period, wh in zip(rule.periods, self.energy_wh, strict=True):
            exact = Fraction(wh * period.add_mp, 1_000_000)
            shape = f"{{name}}: {thousandth(wh)} {{units}} x {rs(period.add_mp)}"
            if rule.multiplies:
                exact = Fraction(base * wh * (period.times_mille - 1000), self.wh * 1000) if self.wh else Fraction(0)
                shape = f"{{name}}: {thousandth(wh)} {{of}} {thousandth(self.wh)} {{units}} x {rupees(base)}"
                shape += f" x ({thousandth(period.times_mille)} - 1)"
            if exact:
                paise = round_half_up(exact.numerator, exact.denominator)
                en = shape.format(name=period.name, of="of", units="units")
                hi = shape.format(name=period.hi or period.name, of="/", units="यूनिट")
                quantities = (("wh", wh), ("times_mille", period.times_mille), ("add_mp", period.add_mp))
                nodes.append(Node(f"{name}.{period.name}", en, hi, paise, (), quantities))
        return nodes

    def _share_of(self, name: str, of: str, percent_milli: int) -> Node:
        amount, tariff = self.amount(of), self.part.tariff
        shape = f"{thousandth(percent_milli)} % x {rupees(amount)} ({{label}})"
        paise = round_half_up(amount * percent_milli, 100_000)
        en, hi = shape.format(label=tariff.label(of, "en")), shape.format(label=tariff.label(of, "hi"))
        return Node(f"{name}.{of}", en, hi, paise, (), (("percent_milli", percent_milli), ("of_paise", amount)))

    def _free(self, name: str, rule: FreeUnits) -> list[Node]:
        """Within the limit every named line is taken back as printed; beyond it, the bill of the free units alone."""
        limit, tariff = self.scaled(rule.limit_wh), self.part.tariff
        if self.wh <= limit:
            taken = {item: self.amount(item) for item in dict.fromkeys(rule.of + rule.within)}
        elif rule.keep_beyond:
            # each period's share of the free units only matters through the line that `bill` printed: it is shared by units
            alone = self._alone(limit)
            taken = {item: alone[item] for item in rule.of}
        else:
            return []
        return [
            Node(f"{name}.{item}", f"{tariff.label(item, 'en')} of {thousandth(min(self.wh, limit))} units",
                 f"{thousandth(min(self.wh, limit))} यूनिट: {tariff.label(item, 'hi')}", -paise)
            for item, paise in taken.items()
            if paise
        ]  # fmt: skip

    def _alone(self, limit: int) -> dict[str, int]:
        """What each line would be for the first `limit` Wh, by the rule of `FreeUnits`."""
        free: dict[str, int] = {}
        small = replace(self, energy_wh=(limit,))
        for line in self.part.tariff.lines:
            free[line.name] = 0
            if not self._applies(line):
                continue
            match line.rule:
                case PerUnit(whole=True):
                    rate = self._per_unit(line.name, line.rule)[0].quantities[1][1]
                    free[line.name] = round_half_up(limit * int(rate), 1_000_000)
                case PerUnit() as rule:
                    exact = sum(int(q["wh"]) * int(q["rate_mp"]) for q in (dict(n.quantities) for n in small._per_unit(line.name, rule)))
                    free[line.name] = round_half_up(exact, 1_000_000)
                case TimeOfUse():
                    free[line.name] = round_half_up(self.amount(line.name) * limit, self.wh)
                case Percent(percent_milli=percent, of=of):
                    free[line.name] = round_half_up(sum(free[name] for name in of) * percent, 100_000)
        return free


def _said(node: Node, code: str, en: str, hi: str) -> Node:
    return replace(node, code=f"{node.code}.{code}", en=f"{node.en}, {en}", hi=f"{node.hi}, {hi}")


def _negative(node: Node) -> Node:
    return replace(node, amount_paise=-node.amount_paise, children=tuple(_negative(child) for child in node.children))


def _slab(name: str, limits: list[int | None], k: int, wh: int, rate_mp: int, whole: bool = False) -> Node:
    """Units at a slab's rate, and which of the period's units the slab prices."""
    shape = f"{thousandth(wh)} {{units}} x {rs(rate_mp)}{{slab}}"
    en, hi = (
        shape.format(units="units", slab=_range(limits, k, whole, "en")),
        shape.format(units="यूनिट", slab=_range(limits, k, whole, "hi")),
    )
    return Node(f"{name}.slab{k + 1}", en, hi, round_half_up(wh * rate_mp, 1_000_000), (), (("wh", wh), ("rate_mp", rate_mp)))


def _range(limits: list[int | None], k: int, whole: bool, language: str) -> str:
    """ " (slab 2: units above 100)", nothing where there is one rate; `whole`: the slab prices every unit."""
    if len(limits) == 1:
        return ""
    low, high = limits[k - 1] if k else None, limits[k]
    hi = language == "hi"
    if low is None:
        edge = f"{thousandth(high or 0)} यूनिट तक" if hi else f"up to {thousandth(high or 0)} units"
    elif high is None:
        edge = f"{thousandth(low)} यूनिट से अधिक" if hi else f"above {thousandth(low)} units"
    else:
        edge = f"{thousandth(low)} से {thousandth(high)} यूनिट" if hi else f"above {thousandth(low)} up to {thousandth(high)} units"
    every = (", हर यूनिट इसी दर पर" if hi else ", every unit at this rate") if whole else ""
    return f" ({'स्लैब' if hi else 'slab'} {k + 1}: {edge}{every})"


def _column(values: Int64) -> tuple[int, ...]:
    return tuple(values[:, 0].tolist())


def _netted(rule: NetMetering, account: Account, import_wh: tuple[int, ...], export_wh: tuple[int, ...]) -> Netted:
    nothing = (0,) * len(import_wh)
    imported, exported, bank = (np.array(wh or nothing, np.int64)[:, None] for wh in (import_wh, export_wh, account.bank_wh))
    return net(rule, imported, exported, bank)


def _settled(rule: NetMetering, now: Netted) -> tuple[Node, ...]:
    """The bank paid out on the last day of its year."""
    banked, paise = int(now.bank_wh.sum()), -int(settle(rule, now.bank_wh)[0])
    shape = f"{thousandth(banked)} {{units}} x {rs(rule.settle_mp)}"
    paid = Node(
        "settlement.bank", shape.format(units="units"), shape.format(units="यूनिट"), paise, (), (("wh", banked), ("rate_mp", rule.settle_mp))
    )
    return (Node(SETTLEMENT, SETTLEMENT_LABEL["en"], SETTLEMENT_LABEL["hi"], paise, (paid,), (), rule.source, rule.verify),)
