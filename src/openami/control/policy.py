"""A utility's disconnection policy as effective-dated data: the numbers of each rule, with source or "verify" mark, and its holidays.

What always holds: every rule of `rules.RULES` is in every policy, so leaving one out of a file is refused, never a way to switch it off.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError
from .rules import RULES

DAYS = ("sunday", "saturday", "second_saturday")
MODES = ("prepaid", "postpaid")


@dataclass(frozen=True, slots=True)
class RuleValues:
    values: dict[str, Any]
    source: str
    verify: str


@dataclass(frozen=True)
class Policy:
    """The rules of one utility from `since` until `until` (exclusive); `holidays` by date to (English, Hindi) name, for the years in
    `holiday_years` (another year has no list, and cannot be decided); `texts`: the sentences of each rule's answers."""

    name: str
    title_en: str
    title_hi: str
    utility: str
    since: date
    until: date
    rules: dict[str, RuleValues]
    holidays: dict[date, tuple[str, str]]
    holiday_years: frozenset[int]
    texts: dict[str, dict[str, str]] = field(repr=False)
    holidays_verify: str = ""

    @property
    def verify(self) -> tuple[str, ...]:
        """One sentence for every unconfirmed number, holidays among them."""
        notes = [f"{code}: {rule.verify}" for code, rule in self.rules.items() if rule.verify]
        return tuple(notes + ([f"holiday: {self.holidays_verify}"] if self.holidays_verify else []))


@dataclass(frozen=True)
class PolicyBook:
    policies: dict[str, tuple[Policy, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.policies))

    def on(self, name: str, day: date) -> Policy:
        """The policy `name` as it holds on `day`. Raises InputError for an unknown name or a day outside its dates."""
        if name not in self.policies:
            raise InputError(f"there is no disconnection policy {name!r}; known are {', '.join(self.names)}")
        versions = self.policies[name]
        for policy in versions:
            if policy.since <= day < policy.until:
                return policy
        raise InputError(
            f"policy {name} holds from {versions[0].since} until {versions[-1].until}, not on {day}; add a version to its file"
        )


def load_policies(folder: Path | str | None = None) -> PolicyBook:
    """Read `policies/*.toml`, `holidays/*.toml` of `folder` (None: those shipped). The sentences are always those shipped.

    Raises InputError naming file, version, rule and reason; DataError where there is no policy.
    """
    return _shipped() if folder is None else _book(Path(folder))


@lru_cache(maxsize=1)
def _shipped() -> PolicyBook:
    with resources.as_file(resources.files(__package__).joinpath("data")) as root:
        return _book(root)


def _book(folder: Path) -> PolicyBook:
    texts = tomllib.loads(resources.files(__package__).joinpath("data/reasons.toml").read_text("utf-8"))
    holidays = {path.stem: _holidays(path) for path in sorted((folder / "holidays").glob("*.toml"))}
    files = sorted((folder / "policies").glob("*.toml"))
    if not files:
        raise DataError(f"no policy (*.toml) in {folder / 'policies'}; name a folder that has some, or leave it out to use those shipped")
    book: dict[str, tuple[Policy, ...]] = {}
    for path in files:
        raw = _toml(path)
        name = raw.get("policy")
        if not isinstance(name, str) or name in book:
            raise InputError(f"{path.name}: key 'policy' must be a name that no other file has, not {name!r}")
        versions = [_version(path.name, raw, k, texts, holidays) for k in range(len(raw.get("version", [])))]
        if not versions:
            raise InputError(f"{path.name}: no [[version]]; give at least one with since and until")
        for before, after in pairwise(versions):
            if before.until != after.since:
                what = "gap" if before.until < after.since else "overlap"
                raise InputError(f"{path.name}: {what} between the versions until {before.until} and from {after.since} of policy {name}")
        book[name] = tuple(versions)
    return PolicyBook(book)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path.name} is not TOML: {error}") from None


def _version(file: str, raw: dict[str, Any], index: int, texts: dict[str, Any], holidays: dict[str, Any]) -> Policy:
    table = raw["version"][index]
    where = f"{file}, version {index + 1}"
    for key in ("since", "until"):
        if type(table.get(key)) is not date:
            raise InputError(f"{where}: key {key!r} is not a date like 2025-04-01")
    unknown = set(table) - set(RULES) - {"since", "until"}
    missing = [code for code in RULES if code not in table]
    if unknown or missing or table["since"] >= table["until"]:
        why = (
            f"unknown rules {', '.join(sorted(unknown))}"
            if unknown
            else f"rules missing: {', '.join(missing)}"
            if missing
            else "until is not after since"
        )
        raise InputError(f"{where}: {why}; a policy sets every rule, none can be left out")
    rules = {code: _rule(f"{where}, rule {code}", code, table[code]) for code in RULES}
    calendar = rules["holiday"].values["calendar"]
    if calendar not in holidays:
        raise InputError(
            f"{where}, rule holiday: there is no holiday file holidays/{calendar}.toml; write it, with a [[year]] for each year"
        )
    days, years, verify = holidays[calendar]
    return Policy(
        name=raw["policy"],
        title_en=raw.get("title_en", raw["policy"]),
        title_hi=raw.get("title_hi", raw["policy"]),
        utility=raw.get("utility", ""),
        since=table["since"],
        until=table["until"],
        rules=rules,
        holidays=days,
        holiday_years=years,
        texts=texts,
        holidays_verify=verify,
    )


def _rule(where: str, code: str, raw: dict[str, Any]) -> RuleValues:
    rule = RULES[code]
    values = {k: v for k, v in raw.items() if k not in {"source", "verify"}}
    for key in rule.needs:
        if key not in values:
            raise InputError(f"{where}: key {key!r} is missing")
    for key, value in values.items():
        if key not in rule.needs + rule.may:
            raise InputError(f"{where}: key {key!r} is unknown; known are {', '.join(rule.needs + rule.may) or 'none'}")
        _check(where, key, value)
    if ("small_home_days" in values) != ("small_home_w" in values):
        raise InputError(f"{where}: small_home_days and small_home_w belong together")
    if code == "legal_hours" and values["from"] >= values["to"]:
        raise InputError(f"{where}: 'from' {values['from']} is not before 'to' {values['to']}; legal hours do not run over midnight")
    if not raw.get("source") and not raw.get("verify"):
        raise InputError(f"{where}: key 'source' is missing; give it, or verify = \"what is not confirmed\"")
    return RuleValues(values, raw.get("source", ""), raw.get("verify", ""))


def _check(where: str, key: str, value: object) -> None:
    lists = {"days": DAYS, "modes": MODES}
    if key in lists and isinstance(value, list):
        if any(v not in lists[key] for v in value):
            raise InputError(f"{where}: {key} = {value!r}: give some of {', '.join(lists[key])}")
    elif key in ("from", "to"):
        if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", value):
            raise InputError(f'{where}: {key} = {value!r} is not a time of day like "11:00"')
    elif key == "protects":
        if not isinstance(value, bool):
            raise InputError(f"{where}: {key} = {value!r} is neither true nor false")
    elif key == "calendar":
        if not isinstance(value, str):
            raise InputError(f"{where}: {key} = {value!r} is not the name of a holiday file")
    elif not isinstance(value, int) or isinstance(value, bool) or (value < 0 and key != "paise"):
        raise InputError(f"{where}: {key} = {value!r} is not a whole number from 0 on")


def _holidays(path: Path) -> tuple[dict[date, tuple[str, str]], frozenset[int], str]:
    """A calendar: `fixed` days that come every year, and a [[year]] for each year whose list is known."""
    raw = _toml(path)
    years, notes, days = set(), [], {}
    for k, table in enumerate(raw.get("year", [])):
        where = f"holidays/{path.name}, year {k + 1}"
        if not isinstance(table.get("year"), int) or not (table.get("source") or table.get("verify")):
            raise InputError(f"{where}: give year as a number, and a source or a verify mark")
        years.add(table["year"])
        if table.get("verify"):
            notes.append(f"{table['year']}: {table['verify']}")
        for month_day, en, hi in raw.get("fixed", []):
            month, day = month_day.split("-")
            days[date(table["year"], int(month), int(day))] = (str(en), str(hi))
        for day_off, en, hi in table.get("days", []):
            if type(day_off) is not date or day_off.year != table["year"]:
                raise InputError(f"{where}: {day_off!r} is not a date of {table['year']}")
            days[day_off] = (str(en), str(hi))
    return days, frozenset(years), "; ".join(notes)
