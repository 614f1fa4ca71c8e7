"""Reads and checks tariff files: effective-dated TOML in, rows of `Tariff` snapshots out.

A file is one tariff: its heading, its `[[order]]`s (which together say from when until when it holds), and its `[[line]]`s. A line
may have dates of its own; the snapshots are cut wherever any date changes, so a new monthly surcharge is one more line.
Every refusal is an InputError with file, line, key and reason. Numbers are read as decimals and must be exact in our units.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise, product
from math import inf
from typing import Any, NoReturn

from ..errors import InputError
from .tariff import Condition, Line, NetMetering, Payment, PerUnit, Tariff
from .tariff_rules import KINDS, NET_METERING, Refused, Table, net_metering, read_rule

HEADING = {
    "tariff",
    "extends",
    "title_en",
    "title_hi",
    "utility",
    "category",
    "currency",
    "energy_unit",
    "period_months",
    "net_metering",
    "order",
    "line",
}
ORDER = {"since", "until", "number", "source", "verify"}
LINE = {"name", "kind", "after", "since", "until", "label_en", "label_hi", "source", "verify", "payment"} | {
    "over_units",
    "up_to_units",
    "over_kw",
    "up_to_kw",
}


@dataclass(frozen=True)
class _Order:
    since: date
    until: date
    number: str
    source: str
    verify: str


@dataclass(frozen=True)
class _DatedLine:
    since: date
    until: date
    line: Line
    where: _Where


@dataclass(frozen=True)
class _Where:
    """A place in a file, for messages: the n-th table of a kind."""

    file: str
    text: str
    table: str
    index: int

    def refuse(self, key: str, why: str) -> NoReturn:
        raise InputError(f"{self.file}, line {self.line_of(key)}, {self.describe()}key {key!r}: {why}")

    def describe(self) -> str:
        return f"[[{self.table}]] number {self.index + 1}, " if self.table else ""

    def line_of(self, key: str) -> int:
        """The line on which `key` of this table stands, else the line of the table's header."""
        rows = self.text.splitlines()
        start = 0
        if self.table:
            headers = [k for k, row in enumerate(rows) if row.strip() == f"[[{self.table}]]"]
            start = headers[self.index] if self.index < len(headers) else 0
        for k in range(start, len(rows)):
            if k > start and rows[k].strip().startswith("[["):
                break
            if re.match(rf"\s*{re.escape(key)}\s*=", rows[k]):
                return k + 1
        return start + 1


def read_tariffs(files: list[tuple[str, str]]) -> dict[str, tuple[Tariff, ...]]:
    """(file name, text) pairs to tariffs by name. A file may say `extends = "NAME"` of another one: it takes over its orders and
    lines; an own line stands in for the parent's of the same name, or `after` the one it names."""
    parsed: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for file, text in files:
        raw = _parse(file, text)
        if raw["tariff"] in parsed:
            _Where(file, text, "", 0).refuse("tariff", f"{raw['tariff']!r} is already defined in {parsed[raw['tariff']][0]}")
        parsed[raw["tariff"]] = (file, text, raw)
    book: dict[str, tuple[Tariff, ...]] = {}
    for name, (file, text, raw) in sorted(
        parsed.items(), key=lambda each: "extends" in each[1][2]
    ):  # so a parent's own faults are told of it
        parent = raw.get("extends")
        if parent is not None and parent not in parsed:
            _Where(file, text, "", 0).refuse(
                "extends", f"there is no tariff {parent!r} in this folder; there are {', '.join(sorted(parsed))}"
            )
        if parent is not None and "extends" in parsed[parent][2]:
            _Where(file, text, "", 0).refuse("extends", f"{parent!r} extends another tariff itself; name that one instead")
        base = parsed[parent] if parent is not None else None
        book[name] = _tariff(file, text, raw, base)
    return book


def _parse(file: str, text: str) -> dict[str, Any]:
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file} is not TOML: {error}") from None
    where = _Where(file, text, "", 0)
    if not isinstance(raw.get("tariff"), str):
        where.refuse("tariff", "the name of the tariff is missing")
    for key in raw:
        if key not in HEADING:
            where.refuse(key, f"unknown; known are {', '.join(sorted(HEADING))}")
    return raw


def _tariff(file: str, text: str, raw: dict[str, Any], base: tuple[str, str, dict[str, Any]] | None) -> tuple[Tariff, ...]:
    heading = dict(base[2]) if base else {}
    heading.update({k: v for k, v in raw.items() if k not in {"order", "line"}})
    where = _Where(file, text, "", 0)
    for key in ("title_en", "title_hi", "utility", "category"):
        if not isinstance(heading.get(key), str) or not heading[key]:
            where.refuse(key, "missing; give a text")
    if heading.get("energy_unit", "kWh") not in {"kWh", "kVAh"}:
        where.refuse("energy_unit", f"{heading['energy_unit']!r} is not one of kWh, kVAh")
    if heading.get("currency", "INR") != "INR":
        where.refuse("currency", f"{heading['currency']!r}: amounts are paise, so only INR is accepted")
    months = heading.get("period_months", 1)
    if type(months) is not int or months not in {1, 2, 3}:
        where.refuse("period_months", f"{months!r} is not 1, 2 or 3")
    heading["netting"] = _netting(where, heading.get("net_metering"))
    source_of_orders = (base[0], base[1], base[2]) if base else (file, text, raw)
    orders = _orders(*source_of_orders)
    span = (orders[0].since, orders[-1].until)
    dated = _lines(base[0], base[1], base[2], span, []) if base else []
    dated = _lines(file, text, raw, span, dated)
    _check_dates(dated, span)
    edges = sorted({o.since for o in orders} | {d.since for d in dated} | {d.until for d in dated} | {span[1]})
    return tuple(
        _snapshot(heading, next(o for o in orders if o.since <= a < o.until), a, b, [d for d in dated if d.since <= a < d.until])
        for a, b in pairwise(edges)
    )


def _snapshot(heading: dict[str, Any], order: _Order, since: date, until: date, dated: list[_DatedLine]) -> Tariff:
    seen: list[str] = []
    for item in dated:
        rule = item.line.rule
        for key in ("of", "within"):
            for name in getattr(rule, key, ()):
                if name not in seen:
                    item.where.refuse(
                        key, f"{name!r} is not a line before {item.line.name!r} on {since}; those are {', '.join(seen) or 'none'}"
                    )
        seen.append(item.line.name)
    _check_units(dated)
    notes = [f"order {order.number}: {order.verify}"] if order.verify else []
    notes += [f"{item.line.name}: {item.line.verify}" for item in dated if item.line.verify]
    netting: NetMetering | None = heading.get("netting")
    notes += [f"net_metering: {netting.verify}"] if netting and netting.verify else []
    return Tariff(
        name=heading["tariff"],
        title_en=heading["title_en"],
        title_hi=heading["title_hi"],
        utility=heading["utility"],
        category=heading["category"],
        currency=heading.get("currency", "INR"),
        energy_unit=heading.get("energy_unit", "kWh"),
        period_months=heading.get("period_months", 1),
        since=since,
        until=until,
        order=order.number,
        source=order.source,
        lines=tuple(item.line for item in dated),
        verify=tuple(notes),
        net_metering=netting,
    )


def _netting(where: _Where, raw: object) -> NetMetering | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        where.refuse("net_metering", "give a table like { cap_percent = 90, settle_month = 3, settle_rs = 3.59, source = ... }")
    for key in raw:
        if key not in NET_METERING:
            where.refuse("net_metering", f"{key!r} is unknown; known are {', '.join(sorted(NET_METERING))}")
    if not raw.get("source") and not raw.get("verify"):
        where.refuse("net_metering", 'source is missing; give it, or verify = "what is not confirmed"')
    try:
        return net_metering(Table(raw, "net_metering"))
    except Refused as error:
        where.refuse("net_metering", f"{error.key}: {error.why}")


def _orders(file: str, text: str, raw: dict[str, Any]) -> list[_Order]:
    tables = raw.get("order", [])
    if not tables:
        _Where(file, text, "", 0).refuse("order", "missing; give at least one [[order]] with since, until, number and source")
    orders: list[_Order] = []
    for k, table in enumerate(tables):
        where = _Where(file, text, "order", k)
        _known(where, table, ORDER)
        since, until = _dates(where, table, None)
        if orders and since > orders[-1].until:
            where.refuse("since", f"gap: tariff {raw['tariff']} has no order from {orders[-1].until} until {since}")
        if orders and since < orders[-1].until:
            where.refuse("since", f"overlap: from {since} until {orders[-1].until} two orders hold for tariff {raw['tariff']}")
        _sourced(where, table)
        orders.append(_Order(since, until, _text(where, table, "number"), table.get("source", ""), table.get("verify", "")))
    return orders


def _lines(file: str, text: str, raw: dict[str, Any], span: tuple[date, date], base: list[_DatedLine]) -> list[_DatedLine]:
    result = list(base)
    if not raw.get("line"):
        _Where(file, text, "", 0).refuse("line", "missing; a tariff has at least one [[line]]")
    for k, table in enumerate(raw["line"]):
        where = _Where(file, text, "line", k)
        item = _line(where, table, span)
        same = [n for n, other in enumerate(result) if other.line.name == item.line.name]
        if same and result[same[0]].where.file != file:  # an own line stands in for the parent's lines of its name
            result[same[0]] = item
            result = [other for n, other in enumerate(result) if n not in same[1:]]
            continue
        after = item.line.name if same else table.get("after")
        if after is None:
            result.append(item)
            continue
        places = [n for n, other in enumerate(result) if other.line.name == after]
        if not places:
            where.refuse("after", f"there is no line {after!r}; there are {', '.join(dict.fromkeys(d.line.name for d in result))}")
        result.insert(places[-1] + 1, item)
    return result


def _line(where: _Where, table: dict[str, Any], span: tuple[date, date]) -> _DatedLine:
    kind = table.get("kind")
    if kind not in KINDS:
        where.refuse("kind", f"{kind!r} is not one of {', '.join(KINDS)}")
    _known(where, table, LINE | KINDS[kind])
    since, until = _dates(where, table, span)
    if since < span[0] or until > span[1]:
        where.refuse("since" if since < span[0] else "until", f"outside the tariff's orders, which hold from {span[0]} until {span[1]}")
    _sourced(where, table)
    name = _text(where, table, "name")
    try:
        read = Table(table)
        rule = read_rule(read)
        payment = table.get("payment", "any")
        if payment not in [p.value for p in Payment]:
            raise Refused("payment", f"{payment!r} is not one of {', '.join(Payment)}")
        when = Condition(
            Payment(payment), read.units("over_units"), read.units("up_to_units"), read.thousand("over_kw"), read.thousand("up_to_kw")
        )
        for most, least, unit in ((when.up_to_wh, when.over_wh, "units"), (when.up_to_w, when.over_w, "kw")):
            if most is not None and least is not None and most <= least:
                raise Refused(
                    f"up_to_{unit}", f"{table[f'up_to_{unit}']} is not above over_{unit} = {table[f'over_{unit}']}: it would never apply"
                )
    except Refused as error:
        where.refuse(error.key, error.why)
    labels = (_text(where, table, "label_en"), _text(where, table, "label_hi"))
    line = Line(name, labels[0], labels[1], rule, when, table.get("source", ""), table.get("verify", ""))
    return _DatedLine(since, until, line, where)


def _check_dates(dated: list[_DatedLine], span: tuple[date, date]) -> None:
    """Lines of one name follow each other without gap or overlap; the first line (the energy charge, or what stands for it) always holds."""
    by_name: dict[str, list[_DatedLine]] = {}
    for item in dated:
        by_name.setdefault(item.line.name, []).append(item)
    for name, items in by_name.items():
        for before, after in pairwise(items):
            if after.since > before.until:
                after.where.refuse(
                    "since", f"gap: line {name!r} does not hold from {before.until} until {after.since}; end it, or fill the gap"
                )
            if after.since < before.until:
                after.where.refuse("since", f"overlap: line {name!r} holds twice from {after.since} until {min(before.until, after.until)}")
        if [type(item.line.rule).__name__ for item in items].count("TimeOfUse") > 0:
            others = [o for o in dated if type(o.line.rule).__name__ == "TimeOfUse" and o.line.name != name]
            if others:
                others[0].where.refuse("kind", f"{name!r} has time of use already; a tariff has one such line")
    first = by_name[dated[0].line.name]
    if first[0].since > span[0] or first[-1].until < span[1]:
        first[-1].where.refuse("until", f"gap: the first line {dated[0].line.name!r} must hold from {span[0]} until {span[1]}")


def _check_units(dated: list[_DatedLine]) -> None:
    """No consumption between two that are priced is left without a price a unit, for either payment mode and any load."""
    priced = [item for item in dated if isinstance(item.line.rule, PerUnit) and any(slab.rate_mp > 0 for slab in item.line.rule.slabs)]
    edges = {1} | {edge + 1 for item in priced for edge in (item.line.when.over_w, item.line.when.up_to_w) if edge is not None}
    for payment, load_w in product((Payment.PREPAID, Payment.POSTPAID), sorted(edges)):
        reach_wh = None
        for item in sorted(priced, key=lambda each: each.line.when.over_wh or 0):
            when = item.line.when
            there = (when.over_w is None or load_w > when.over_w) and (when.up_to_w is None or load_w <= when.up_to_w)
            if not there or when.payment not in (Payment.ANY, payment):
                continue
            over_wh, up_to_wh = when.over_wh or 0, inf if when.up_to_wh is None else when.up_to_wh
            if reach_wh is not None and over_wh > reach_wh:
                span = f"above {reach_wh / 1000:g} and up to {over_wh / 1000:g} units"
                item.where.refuse("over_units", f"gap: {span} no line has a price a unit; let one begin where the other ends")
            reach_wh = up_to_wh if reach_wh is None else max(reach_wh, up_to_wh)


def _known(where: _Where, table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            where.refuse(key, f"unknown here; known are {', '.join(sorted(known))}")


def _dates(where: _Where, table: dict[str, Any], default: tuple[date, date] | None) -> tuple[date, date]:
    values = []
    for k, key in enumerate(("since", "until")):
        value = table.get(key, default[k] if default else None)
        if type(value) is not date:
            where.refuse(key, f"{value!r} is not a date like 2025-04-01")
        values.append(value)
    if values[0] >= values[1]:
        where.refuse("until", f"{values[1]} is not after since = {values[0]} (until is the first day that no longer belongs)")
    return values[0], values[1]


def _text(where: _Where, table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        where.refuse(key, "missing; give a text")
    return value


def _sourced(where: _Where, table: dict[str, Any]) -> None:
    if not table.get("source") and not table.get("verify"):
        where.refuse("source", 'missing; every number needs its source, or verify = "what is not confirmed"')
