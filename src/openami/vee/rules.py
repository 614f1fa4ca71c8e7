"""The rules of VEE: effective-dated, per consumer class, and as arrays over a shard's meters.

In: a TOML file (the shipped `data/rules.toml`, or a deployment's own). Out: a `RuleBook`, from it a `RuleSet` for one day and
class, and from those `MeterLimits`, the form in which the kernel reads them.
What always holds: every number has a source in the file; a number that no primary source confirms is in `RuleSet.unverified`;
a class's set inherits from "any"; a day's rules are the newest that had begun by then, so an old day is always judged by old rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError, InputError
from ..readings import CHECKS, Bool, Int32, Int64, Quality

FORMAT = 1
BASE_CLASS = "any"
ACTIONS = ("estimate", "flag")
_ONLY_ESTIMATE = (Quality.MISSING,)
_ONLY_FLAG = (Quality.SUM, Quality.HIGH_LOW, Quality.OUTAGE)
"""Sum and high/low judge the finished day, after the estimates; an outage is an explanation, not a fault of the value."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules for one consumer class on one day. The units are in the names; DOMAIN's table defines each check (see `checks`).

    estimate_bits: `Quality` bits of the checks whose failed values are not used; the other checks only mark.
    unverified: names of the fields below that no primary source confirms.
    """

    consumer_class: str
    since: date
    estimate_bits: int
    spike_tolerance: float
    spike_w_min: int
    spike_load_share_min: float
    plausibility_factor: float
    frozen_hours_min: float
    zero_hours_min: float
    sum_tolerance_wh: int
    high_low_ratio_min: float
    high_low_ratio_max: float
    high_low_wh_min: int
    voltage_energy_voltage_v_max: float
    voltage_energy_wh_min: int
    reverse_wh_min: int
    clock_drift_s_max: int
    inactive_meter_wh_min: int
    linear_hours_max: float
    like_day_days: int
    billing_missing_share_max: float
    unverified: tuple[str, ...]

    def action(self, check: Quality) -> str:
        """ "estimate" or "flag"."""
        return ACTIONS[0] if self.estimate_bits & check else ACTIONS[1]


_NUMBERS = tuple(f.name for f in fields(RuleSet) if f.name not in ("consumer_class", "since", "estimate_bits", "unverified"))
_WHOLE = tuple(f.name for f in fields(RuleSet) if f.type == "int" and f.name in _NUMBERS)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One [[rule_set]] of the file: only what it states itself."""

    consumer_class: str
    since: date
    actions: Mapping[Quality, str]
    numbers: Mapping[str, float]
    unverified: frozenset[str]
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Every rule set of one file. `source` names the file in messages."""

    source: str
    entries: tuple[_Entry, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The consumer classes that have rules, "any" included."""
        return tuple(sorted({e.consumer_class for e in self.entries}))

    def on(self, day: date, consumer_class: str = BASE_CLASS) -> RuleSet:
        """The rules of `consumer_class` as they stood on the local calendar day `day`. InputError for an unknown class or a day before any rules."""
        if consumer_class not in self.classes:
            raise InputError(f"no VEE rules for consumer class {consumer_class!r} in {self.source}; it has {', '.join(self.classes)}")
        base, own = self._newest(day, BASE_CLASS), self._newest(day, consumer_class)
        if base is None:
            raise InputError(
                f"no VEE rules were in force on {day} in {self.source}; add a rule_set of class {BASE_CLASS!r} that begins by then"
            )
        chosen = own or base
        actions = {**base.actions, **chosen.actions}
        numbers = {**base.numbers, **chosen.numbers}
        unverified = (base.unverified - chosen.numbers.keys()) | chosen.unverified
        bits = sum(int(check) for check, action in actions.items() if action == "estimate")
        typed = {name: int(value) if name in _WHOLE else value for name, value in numbers.items()}
        return RuleSet(
            consumer_class=consumer_class,
            since=max(base.since, chosen.since),
            estimate_bits=bits,
            unverified=tuple(sorted(unverified)),
            **typed,  # type: ignore[arg-type]  # the loader has checked that every number is there, and which are whole
        )

    def class_of(self, category: str) -> str:
        """The consumer class whose rules hold for a tariff's category (`categories` of its rule sets); "any" where no class names it."""
        return next((e.consumer_class for e in self.entries if category in e.categories), BASE_CLASS)

    def _newest(self, day: date, consumer_class: str) -> _Entry | None:
        begun = [e for e in self.entries if e.consumer_class == consumer_class and e.since <= day]
        return max(begun, key=lambda e: e.since, default=None)


def load_rules(path: Path | None = None) -> RuleBook:
    """The shipped rules, or those in `path`.

    DataError names file, rule set and key where the file cannot be used; InputError if there is no such file."""
    shipped = resources.files(__package__).joinpath("data/rules.toml")
    name = "vee/data/rules.toml (shipped)" if path is None else str(path)
    try:
        text = shipped.read_text("utf-8") if path is None else path.read_text("utf-8")
    except OSError as error:
        raise InputError(
            f"VEE rules {name} cannot be read: {error.strerror or error}; give a readable TOML file, or none for the shipped rules"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"VEE rules {name} are not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    return parse_rules(text, name)


@lru_cache(maxsize=4)
def parse_rules(text: str, name: str) -> RuleBook:
    """TOML text to a `RuleBook`; `name` stands for the file in DataError's sentence."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"VEE rules {name} are not valid TOML: {error}") from error
    if document.get("format") != FORMAT:
        raise DataError(f"VEE rules {name} have format {document.get('format')!r}, this version reads format {FORMAT}")
    tables = document.get("rule_set")
    if not isinstance(tables, list) or not tables:
        raise DataError(f"VEE rules {name} hold no [[rule_set]]; begin with one of class {BASE_CLASS!r}")
    unknown = sorted(document.keys() - {"format", "rule_set"})
    if unknown:
        raise DataError(f"VEE rules {name}: unknown key {unknown[0]!r}; the top level holds format and rule_set")
    entries = tuple(_entry(table, f"VEE rules {name}, rule_set {k + 1}") for k, table in enumerate(tables))
    _whole_base(entries, name)
    _one_class_each(entries, name)
    return RuleBook(name, entries)


def _entry(table: object, where: str) -> _Entry:
    if not isinstance(table, dict):
        raise DataError(f"{where}: must be a table, written [[rule_set]]")
    consumer_class, since = table.get("consumer_class"), table.get("since")
    if not isinstance(consumer_class, str) or not consumer_class:
        raise DataError(f"{where}: consumer_class must be a name, got {consumer_class!r}")
    if type(since) is not date:
        raise DataError(f"{where} ({consumer_class}): since must be a TOML date such as 2026-04-01, got {since!r}")
    actions: dict[Quality, str] = {}
    numbers: dict[str, float] = {}
    unverified: set[str] = set()
    for section, body in table.items():
        if section in ("consumer_class", "since", "categories"):
            continue
        at = f"{where} ({consumer_class}), {section}"
        if not isinstance(body, dict):
            raise DataError(f"{at}: must be a table, written [rule_set.{section}]")
        for key, value in body.items():
            if key == "action":
                check = _check(section, at)
                actions[check] = _action(check, value, at)
                continue
            field = f"{section}_{key}"
            if field not in _NUMBERS:
                raise DataError(f"{at}: unknown key {key!r}; known are {', '.join(_known(section)) or 'no keys of this section'}")
            numbers[field] = _number(field, value, f"{at}.{key}")
            if value.get("verify", False):
                unverified.add(field)
    return _Entry(consumer_class, since, actions, numbers, frozenset(unverified), _categories(table.get("categories", []), where))


def _categories(named: object, where: str) -> tuple[str, ...]:
    if not isinstance(named, list) or not all(isinstance(name, str) and name for name in named):
        raise DataError(f"{where}: categories must be a list of tariff categories, got {named!r}")
    return tuple(named)


def _known(section: str) -> list[str]:
    keys = [f.removeprefix(f"{section}_") for f in _NUMBERS if f.startswith(f"{section}_")]
    return [*keys, "action"] if section.upper() in Quality.__members__ else keys


def _check(section: str, at: str) -> Quality:
    check = Quality.__members__.get(section.upper())
    if check is None or check not in CHECKS:
        raise DataError(f"{at}: only a check has an action; the checks are {', '.join(str(c.name).lower() for c in CHECKS)}")
    return check


def _action(check: Quality, value: object, at: str) -> str:
    if value not in ACTIONS:
        raise DataError(f"{at}: action must be one of {', '.join(ACTIONS)}, got {value!r}")
    if check in _ONLY_ESTIMATE and value != "estimate":
        raise DataError(f"{at}: action must be 'estimate', for there is no value to keep")
    if check in _ONLY_FLAG and value != "flag":
        raise DataError(f"{at}: action must be 'flag', for it judges the day after its estimates")
    return str(value)


def _number(field: str, value: object, at: str) -> float:
    if not isinstance(value, dict) or "value" not in value or not isinstance(value.get("source"), str):
        raise DataError(f"{at}: must be {{ value = ..., source = '...' }} with an optional verify = true, got {value!r}")
    unknown = sorted(value.keys() - {"value", "source", "verify"})
    if unknown:
        raise DataError(f"{at}: unknown key {unknown[0]!r}; a number has value, source and verify")
    number = value["value"]
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**31:
        raise DataError(f"{at}: value must be a number from 0 to 2147483647, got {number!r}")
    if field in _WHOLE and number != int(number):
        raise DataError(f"{at}: value must be a whole number, got {number!r}")
    return float(number)


def _whole_base(entries: Sequence[_Entry], name: str) -> None:
    """The first set of the base class must state everything, or a later day could have a rule without a number."""
    base = sorted((e for e in entries if e.consumer_class == BASE_CLASS), key=lambda e: e.since)
    if not base:
        raise DataError(f"VEE rules {name} have no rule_set of class {BASE_CLASS!r}, from which the others inherit")
    for entry in base:
        missing = [n for n in _NUMBERS if n not in entry.numbers]
        missing += [f"{str(c.name).lower()}.action" for c in CHECKS if c not in entry.actions and c is not Quality.OUTAGE]
        if missing:
            raise DataError(
                f"VEE rules {name}, class {BASE_CLASS!r} since {entry.since}: {missing[0]} is not stated; the base class states every rule"
            )
    seen: set[tuple[str, date]] = set()
    for entry in entries:
        if (entry.consumer_class, entry.since) in seen:
            raise DataError(f"VEE rules {name}: two rule sets for class {entry.consumer_class!r} since {entry.since}; keep one")
        seen.add((entry.consumer_class, entry.since))


def _one_class_each(entries: Sequence[_Entry], name: str) -> None:
    """A category of two classes would leave open by whose rules a meter is judged."""
    owner: dict[str, str] = {}
    for entry in entries:
        for category in entry.categories:
            if owner.setdefault(category, entry.consumer_class) != entry.consumer_class:
                raise DataError(
                    f"VEE rules {name}: category {category!r} belongs to {owner[category]!r} and to {entry.consumer_class!r}; keep one"
                )


class Row:
    """Rows of `MeterLimits.table`, int32 each. Ratios are in thousandths, voltages in 0.01 V, times in slots or seconds, energies in Wh."""

    LOW_WH = 0
    HIGH_WH = 1
    SPIKE_MILLI = 2
    SPIKE_WH_MIN = 3
    FROZEN_RUN_MIN = 4
    ZERO_RUN_MIN = 5
    SUM_TOLERANCE_WH = 6
    USAGE_MILLI_MIN = 7
    USAGE_MILLI_MAX = 8
    USAGE_WH_MIN = 9
    VOLTAGE_CV_MAX = 10
    VOLTAGE_WH_MIN = 11
    REVERSE_WH_MIN = 12
    DRIFT_S_MAX = 13
    INACTIVE_WH_MIN = 14
    LINEAR_SLOTS_MAX = 15
    ESTIMATE_BITS = 16
    RULE_SET = 17
    COUNT = 18


@dataclass(frozen=True, slots=True)
class MeterLimits:
    """A shard's rules as `table` int32 [Row, meter]. Column m holds the limits of the meter with dense index m."""

    table: Int32
    interval_minutes: int

    @property
    def meters(self) -> int:
        return int(self.table.shape[1])

    def part(self, first: int, last: int) -> MeterLimits:
        """The limits of meters first..last-1, for a cut of the shard."""
        return MeterLimits(np.ascontiguousarray(self.table[:, first:last]), self.interval_minutes)


def meter_limits(
    rules: RuleSet | Sequence[RuleSet],
    connected_load_w: npt.NDArray[np.integer],
    interval_minutes: int,
    *,
    net_metered: Bool | None = None,
    rule_of_meter: npt.NDArray[np.integer] | None = None,
) -> MeterLimits:
    """What the kernel needs to know of each meter.

    rules: one set for all, or a sequence of which `rule_of_meter` [meter] gives the position (needed when there is more than one).
    connected_load_w: [meter], sanctioned load or rating [W]; 0 = unknown, then only the lower bound of plausibility holds.
    net_metered: bool [meter]; True = the reading may be negative down to the same bound, and export is no fault. None = nowhere.
    InputError where the lengths disagree or an interval does not divide the hour."""
    sets = [rules] if isinstance(rules, RuleSet) else list(rules)
    load = np.asarray(connected_load_w, np.int64)
    meters = load.shape[0]
    if 60 % interval_minutes:
        raise InputError(f"intervals of {interval_minutes} minutes do not divide the hour; use 5, 10, 15, 30 or 60")
    at = np.zeros(meters, np.int64) if rule_of_meter is None else np.asarray(rule_of_meter, np.int64)
    if rule_of_meter is None and len(sets) != 1:
        raise InputError(f"{len(sets)} rule sets but no rule_of_meter; give the set of each meter")
    if at.shape != (meters,) or (meters and not (0 <= int(at.min()) <= int(at.max()) < len(sets))):
        raise InputError(f"rule_of_meter must give one of {len(sets)} rule sets for each of {meters} meters, got shape {at.shape}")
    free = np.zeros(meters, np.bool_) if net_metered is None else np.asarray(net_metered, np.bool_)
    if free.shape != (meters,):
        raise InputError(f"net_metered has {free.shape[0]} meters, connected_load_w has {meters}")
    columns = np.minimum(np.array([_column(s, k, 60 // interval_minutes) for k, s in enumerate(sets)], np.int64), 2**31 - 1)
    table = np.take(columns.T.astype(np.int32), at, axis=1)
    factor = np.array([s.plausibility_factor for s in sets])[at] if meters else np.zeros(0)
    most = np.minimum(load * (interval_minutes / 60) * factor, 2**31 - 1).astype(np.int64)
    high = np.where(load > 0, most, 2**31 - 1)
    table[Row.HIGH_WH] = high
    table[Row.SPIKE_WH_MIN] = _spike_floor(sets, at, load, interval_minutes)
    table[Row.LOW_WH] = np.where(free, -high, 0)
    table[Row.REVERSE_WH_MIN] = np.where(free, 2**31 - 1, table[Row.REVERSE_WH_MIN])
    return MeterLimits(np.ascontiguousarray(table), interval_minutes)


def _spike_floor(sets: Sequence[RuleSet], at: npt.NDArray[np.int64], load: npt.NDArray[np.int64], interval_minutes: int) -> Int64:
    """[meter] Wh that an interval must reach to be a spike: what one appliance takes in it, or less where the connection is smaller."""
    appliance_w = np.array([s.spike_w_min for s in sets], np.float64)[at]
    connection_w = load * np.array([s.spike_load_share_min for s in sets])[at]
    floor_w = np.where(load > 0, np.minimum(appliance_w, connection_w), appliance_w)
    floor: Int64 = np.ceil(np.round(floor_w * interval_minutes / 60, 6)).astype(np.int64)
    return floor


def _column(rules: RuleSet, position: int, slots_per_hour: int) -> list[int]:
    column = [0] * Row.COUNT
    column[Row.SPIKE_MILLI] = round(rules.spike_tolerance * 1000)
    column[Row.FROZEN_RUN_MIN] = max(2, round(rules.frozen_hours_min * slots_per_hour))
    column[Row.ZERO_RUN_MIN] = max(1, round(rules.zero_hours_min * slots_per_hour))
    column[Row.SUM_TOLERANCE_WH] = rules.sum_tolerance_wh
    column[Row.USAGE_MILLI_MIN] = round(rules.high_low_ratio_min * 1000)
    column[Row.USAGE_MILLI_MAX] = round(rules.high_low_ratio_max * 1000)
    column[Row.USAGE_WH_MIN] = rules.high_low_wh_min
    column[Row.VOLTAGE_CV_MAX] = round(rules.voltage_energy_voltage_v_max * 100)
    column[Row.VOLTAGE_WH_MIN] = rules.voltage_energy_wh_min
    column[Row.REVERSE_WH_MIN] = rules.reverse_wh_min
    column[Row.DRIFT_S_MAX] = rules.clock_drift_s_max
    column[Row.INACTIVE_WH_MIN] = rules.inactive_meter_wh_min
    column[Row.LINEAR_SLOTS_MAX] = round(rules.linear_hours_max * slots_per_hour)
    column[Row.ESTIMATE_BITS] = rules.estimate_bits
    column[Row.RULE_SET] = position
    return column
