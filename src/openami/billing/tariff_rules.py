"""The kinds of lines that a tariff file may hold: which keys each has, and how its numbers become exact integers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from decimal import Decimal
from typing import Any

from .tariff import (
    Demand,
    Fixed,
    FixedPer,
    FreeUnits,
    Minimum,
    NetMetering,
    Percent,
    Period,
    PerUnit,
    Rounding,
    Rule,
    Slab,
    TimeOfUse,
    Window,
)

DAY_TYPES = ("weekday", "saturday", "sunday", "holiday")
MOST = 10_000_000
"""Of any number in its own unit: a slip of the pen is refused before it overflows a bill."""


class Refused(Exception):
    """A key's value cannot be used; the reader adds file and line."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why


class Table:
    """A TOML table read with exact numbers: each getter returns integers in our units or raises Refused."""

    def __init__(self, raw: dict[str, Any], key: str = "") -> None:
        self.raw = raw
        self.key = key

    def exact(self, key: str, scale: int, unit: str, default: int | None = None) -> int:
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise Refused(self.key or key, f"{key} is {'missing' if value is None else repr(value)}; give a number in {unit}")
        given = Decimal(value)
        if not given.is_finite() or abs(given) > MOST:
            raise Refused(self.key or key, f"{key} = {value} {unit} is no number up to {MOST:,}, which is more than any tariff has")
        scaled = given * scale
        if scaled != scaled.to_integral_value():
            raise Refused(self.key or key, f"{key} = {value} {unit} is finer than 1/{scale}, which a bill cannot hold exactly")
        return int(scaled)

    def rate(self, key: str) -> int:
        """Rupees (per kWh, per kW ...) to milli-paise."""
        return self.exact(key, 100_000, "rupees")

    def units(self, key: str) -> int | None:
        """Units (kWh) to Wh; absent = None."""
        return self.limit(key, "units")

    def thousand(self, key: str) -> int | None:
        """kW to W; absent = None."""
        return self.limit(key, "kW")

    def limit(self, key: str, unit: str) -> int | None:
        if key not in self.raw:
            return None
        value = self.exact(key, 1000, unit)
        if value < 0:
            raise Refused(self.key or key, f"{key} = {self.raw[key]} is negative")
        return value

    def choice(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.raw.get(key, default)
        if value not in known:
            raise Refused(self.key or key, f"{value!r} is not one of {', '.join(known)}")
        return str(value)

    def names(self, key: str, needed: bool = True) -> tuple[str, ...]:
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value) or (needed and not value):
            raise Refused(self.key or key, "give a list of names of lines")
        return tuple(value)

    def tables(self, key: str, known: set[str]) -> list[Table]:
        value = self.raw.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            raise Refused(key, "give a list of tables like [{ up_to = 100, rs = 7.42 }, { rs = 8.95 }]")
        for item in value:
            for inner in item:
                if inner not in known:
                    raise Refused(key, f"{inner!r} is unknown; known are {', '.join(sorted(known))}")
        return [Table(item, key) for item in value]


def slabs(table: Table, unit: str) -> tuple[Slab, ...]:
    """[{up_to, rs}, ..., {rs}]: limits rise, and only the last has none."""
    rows = table.tables("slabs", {"up_to", "rs"})
    result: list[Slab] = []
    for k, row in enumerate(rows):
        up_to, last = row.limit("up_to", unit), k == len(rows) - 1
        if (up_to is None) != last:
            raise Refused("slabs", f"slab {k + 1} of {len(rows)}: every slab but the last has up_to, and the last has none")
        if up_to is not None and up_to <= (result[-1].up_to or 0 if result else 0):
            raise Refused("slabs", f"slab {k + 1}: up_to = {row.raw['up_to']} is not above {'the slab before' if result else '0'}")
        result.append(Slab(up_to, row.rate("rs")))
    return tuple(result)


def per_unit(table: Table) -> PerUnit:
    if "rs" in table.raw:
        if "slabs" in table.raw or "slab_rule" in table.raw:
            raise Refused("rs", "give either rs (one rate) or slabs, not both")
        return PerUnit((Slab(None, table.rate("rs")),), whole=False)
    rule = table.choice("slab_rule", ("telescopic", "whole_bill"))
    return PerUnit(slabs(table, "units"), whole=rule == "whole_bill")


def fixed(table: Table) -> Fixed:
    per = FixedPer(table.choice("per", tuple(p.value for p in FixedPer)))
    step = table.exact("round_up_to_kw", 1000, "kW", default=1)
    if step <= 0:
        raise Refused("round_up_to_kw", "must be positive")
    if per in (FixedPer.LOAD_BAND, FixedPer.CONSUMPTION_BAND):
        return Fixed(per, slabs(table, "kW" if per is FixedPer.LOAD_BAND else "units"), step)
    return Fixed(per, (Slab(None, table.rate("rs")),), step)


def demand(table: Table) -> Demand:
    floor = table.exact("floor_percent", 10, "percent", default=0)
    excess = table.exact("excess_times", 1000, "times", default=1000)
    if floor < 0 or excess < 0:
        raise Refused("floor_percent", "must not be negative")
    return Demand(table.rate("rs"), floor, excess)


def time_of_use(table: Table) -> TimeOfUse:
    rows = table.tables("periods", {"name", "hi", "times", "add_rs"})
    adds = sum("add_rs" in row.raw for row in rows)
    if adds not in (0, len(rows)) or any(("add_rs" in row.raw) == ("times" in row.raw) for row in rows):
        raise Refused("periods", "give every period times, or every period add_rs")
    if not adds and any(row.exact("times", 1000, "times") < 0 for row in rows):
        raise Refused("periods", "times must not be negative")
    periods = tuple(
        Period(
            str(row.raw.get("name")),
            1000 if adds else row.exact("times", 1000, "times"),
            row.rate("add_rs") if adds else 0,
            str(row.raw.get("hi", "")),
        )
        for row in rows
    )
    names = tuple(p.name for p in periods)
    if len(set(names)) != len(names):
        raise Refused("periods", f"names are not unique: {', '.join(names)}")
    windows = tuple(_window(row, names) for row in table.tables("slots", {"from", "to", "period", "days", "season"}))
    result = TimeOfUse(periods, windows, table.names("of"))
    _cover(result)
    return result


def _window(table: Table, periods: tuple[str, ...]) -> Window:
    period = table.choice("period", periods)
    days = table.raw.get("days", list(DAY_TYPES))
    if not isinstance(days, list) or not days or any(d not in DAY_TYPES for d in days):
        raise Refused("slots", f"days = {days!r}: give some of {', '.join(DAY_TYPES)}")
    return Window(_clock(table, "from"), _clock(table, "to"), periods.index(period), frozenset(days), _season(table.raw.get("season")))


def _clock(table: Table, key: str) -> time:
    value = table.raw.get(key)
    try:
        if not isinstance(value, str):
            raise ValueError
        return time.fromisoformat("00:00" if value == "24:00" else value)
    except ValueError:
        raise Refused("slots", f'{key} = {value!r} is not a time of day like "17:30"') from None


def _season(value: object) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise Refused("slots", f'season = {value!r}: give first and last day, like ["04-01", "09-30"]')
    ends = []
    for text in value:
        month, _, day = str(text).partition("-")
        if not (month.isdigit() and day.isdigit() and 1 <= int(month) <= 12 and 1 <= int(day) <= 31):
            raise Refused("slots", f'season: {text!r} is not month-day like "04-01"')
        ends.append((int(month), int(day)))
    return ends[0], ends[1]


def in_season(season: tuple[tuple[int, int], tuple[int, int]] | None, month: int, day: int) -> bool:
    if season is None:
        return True
    first, last = season
    return first <= (month, day) <= last if first <= last else (month, day) >= first or (month, day) <= last


def holds_at(window: Window, minute: int) -> bool:
    """Whether the window holds at a minute of the local day, by hours alone."""
    start, end = window.start.hour * 60 + window.start.minute, window.end.hour * 60 + window.end.minute
    return start <= minute < end if start < end else minute >= start or minute < end


def _cover(rule: TimeOfUse) -> None:
    """Every minute of every day type and season has exactly one period. Only days where a season begins or ends can differ."""
    seasons = {(1, 1)} | {w.season[0] for w in rule.windows if w.season}
    seasons |= {_next_day(w.season[1]) for w in rule.windows if w.season}
    for month, day in sorted(seasons):
        for kind in DAY_TYPES:
            held = [w for w in rule.windows if kind in w.days and in_season(w.season, month, day)]
            for minute in sorted({0} | {m for w in held for m in (w.start.hour * 60 + w.start.minute, w.end.hour * 60 + w.end.minute)}):
                count = sum(holds_at(w, minute) for w in held)
                if count != 1:
                    what = "gap: no period holds" if count == 0 else "overlap: two periods hold"
                    raise Refused("slots", f"{what} at {minute // 60:02d}:{minute % 60:02d} on a {kind} (from {month:02d}-{day:02d})")


def _next_day(end: tuple[int, int]) -> tuple[int, int]:
    lengths = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    month, day = end
    return (month, day + 1) if day < lengths[month - 1] else (month % 12 + 1, 1)


def percent(table: Table) -> Percent:
    return Percent(table.exact("percent", 1000, "percent"), table.names("of"))


def free_units(table: Table) -> FreeUnits:
    limit = table.units("units")
    if not limit:
        raise Refused("units", "give the number of free units a month, above 0")
    beyond = table.choice("beyond", ("kept", "lost"))
    return FreeUnits(limit, table.names("of"), table.names("within", needed=False), beyond == "kept")


def minimum(table: Table) -> Minimum:
    per = FixedPer(table.choice("per", ("connection", "kw")))
    return Minimum(table.rate("rs"), per, table.names("of"))


def rounding(table: Table) -> Rounding:
    to_paise = table.exact("to_rs", 100, "rupees")
    if to_paise <= 0:
        raise Refused("to_rs", "must be positive")
    return Rounding(to_paise)


NET_METERING = {"cap_percent", "settle_month", "settle_rs", "source", "verify"}


def net_metering(table: Table) -> NetMetering:
    month, cap = table.raw.get("settle_month"), table.exact("cap_percent", 10, "percent")
    if type(month) is not int or not 1 <= month <= 12:
        raise Refused("settle_month", f"{month!r} is not a month from 1 to 12")
    if not 0 <= cap <= 1000:
        raise Refused("cap_percent", f"{table.raw['cap_percent']} is not from 0 to 100")
    return NetMetering(cap, month, table.rate("settle_rs"), table.raw.get("source", ""), table.raw.get("verify", ""))


KINDS: dict[str, set[str]] = {
    "per_unit": {"rs", "slabs", "slab_rule"},
    "fixed": {"per", "rs", "slabs", "round_up_to_kw"},
    "demand": {"rs", "floor_percent", "excess_times"},
    "time_of_use": {"periods", "slots", "of"},
    "percent": {"percent", "of"},
    "free_units": {"units", "of", "within", "beyond"},
    "minimum": {"rs", "per", "of"},
    "rounding": {"to_rs"},
}
_READERS: dict[str, Callable[[Table], Rule]] = {
    "per_unit": per_unit,
    "fixed": fixed,
    "demand": demand,
    "time_of_use": time_of_use,
    "percent": percent,
    "free_units": free_units,
    "minimum": minimum,
    "rounding": rounding,
}


def read_rule(table: Table) -> Rule:
    """The rule of a line of a known kind. Raises Refused."""
    return _READERS[table.raw["kind"]](table)
