"""The settings of one data folder: one small TOML file, `openami.toml`, beside the journal, the registry and the lake."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import DataError
from ..readings import Calendar

FILE = "openami.toml"
FORMAT = 2
"""Of everything in a data folder; a release that changes tables, journal or settings counts it up, and says in CHANGELOG what to do."""

PLACES = ("journal", "lake", "lake_endpoint", "lake_region")
SECRETS = ("lake_access_key", "lake_secret_key", "lake_session_token")
"""Settings that the environment may give instead of the file, as OPENAMI_<NAME>: where things lie, and what opens them. What the data mean (zone,
interval, days) stays with the data. OPENAMI_DATABASE is heard by `sql.configured`, OPENAMI_MASTER_KEY by `keys.load_master_key`."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """first_day and days: the local days that are open for readings; a reading outside them goes to quarantine as out of day.

    policy: the disconnection policy of the utility; seed: of a simulated deployment, None where the meters are real.
    lake: s3://bucket/prefix of an object store, with lake_endpoint, lake_region and references to keys (`places.place_of`); None = a folder here.
    database: a PostgreSQL address without a password, or where one is kept (`env:NAME`, `file:PATH`); None = a SQLite file in the folder.
    journal: servers and stream of a replicated journal, as nats://host:4222/stream (`nats_stream.NatsAddress`); None = a SQLite file in the folder.
    refused_address_kib, refused_all_kib, refused_percent: how much of what is refused the head-end stores (`headend.gate.Allowance`): of one
    address and of all, an hour, and beyond that as a share of an address's genuine frames; None = the shipped ones.
    """

    name: str
    zone: str
    interval_minutes: int
    first_day: date
    days: int
    policy: str
    headend_title: str
    seed: int | None = None
    database: str | None = None
    lake: str | None = None
    lake_endpoint: str | None = None
    lake_region: str | None = None
    lake_access_key: str | None = None
    lake_secret_key: str | None = None
    lake_session_token: str | None = None
    journal: str | None = None
    refused_address_kib: int | None = None
    refused_all_kib: int | None = None
    refused_percent: int | None = None

    @property
    def calendar(self) -> Calendar:
        return Calendar(self.zone, self.interval_minutes)

    @property
    def open_days(self) -> list[date]:
        return [self.first_day + timedelta(days=k) for k in range(self.days)]


@dataclass(frozen=True, slots=True)
class Folder:
    """Where things lie in a data folder."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal" / "journal.db"

    @property
    def rows(self) -> Path:
        return self.root / "registry.db"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def rosters(self) -> Path:
        return self.root / "rosters"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def master_key(self) -> Path:
        return self.root / "secrets" / "master.key"

    def is_simulated(self) -> bool:
        """Whether a demo made this folder, of whatever format: only such a one may be replaced."""
        try:
            with (self.root / FILE).open("rb") as file:
                return isinstance(tomllib.load(file).get("seed"), int)
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            return False

    def save(self, deployment: Deployment) -> None:
        lines = ["# Settings of this OpenAMI data folder.", f"format = {FORMAT}"]
        for field in fields(deployment):
            value = getattr(deployment, field.name)
            if value is not None:
                lines.append(f"{field.name} = {value.isoformat() if isinstance(value, date) else json.dumps(value, ensure_ascii=False)}")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # names of consumers lie in it
        (self.root / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def load(self) -> Deployment:
        path = self.root / FILE
        try:
            with path.open("rb") as file:
                settings = tomllib.load(file)
            if "format" not in settings:
                raise DataError(
                    f"{path} cannot be read (it names no data format); run `openami demo` anew, mend it or restore it from a backup"
                )
            if (found := settings.pop("format")) != FORMAT:
                raise DataError(
                    f"{self.root} has data of format {found}, this release reads {FORMAT}; run `openami demo` anew, or use its release"
                )
            deployment = Deployment(**settings | from_environment())
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"no OpenAMI data in {self.root} (it has no {FILE}); run `openami demo` or give another --data") from None
        except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError, OSError) as error:
            raise DataError(f"{path} cannot be read ({error}); mend it or restore it from a backup") from error
        if wrong := _wrong(deployment):
            raise DataError(f"{path} cannot be used: {wrong}; mend it or restore it from a backup")
        return deployment


def variable(name: str) -> str:
    """The environment variable that gives a setting."""
    return f"OPENAMI_{name.upper()}"


def from_environment() -> dict[str, str]:
    """The settings that the environment gives; a secret as a reference to it, so that it is never held twice."""
    found = {name: os.environ[variable(name)] for name in PLACES if os.environ.get(variable(name))}
    return found | {name: f"env:{variable(name)}" for name in SECRETS if os.environ.get(variable(name))}


def wrong_kind(name: str, value: object) -> str | None:
    """Why a value cannot be that of the setting `name`, or None."""
    kind = next(str(field.type) for field in fields(Deployment) if field.name == name)
    if type(value) not in KINDS[kind]:
        return f"{name} = {value!r} is not {kind}"
    return f"{name} = {value!r} is empty" if kind == "str | None" and not str(value).strip() else None


def _wrong(settings: Deployment) -> str | None:
    """What is wrong with settings as they were read, or None."""
    for field in fields(settings):
        if why := wrong_kind(field.name, getattr(settings, field.name)):
            return why
    if settings.interval_minutes < 1 or 1440 % settings.interval_minutes:
        return f"interval_minutes = {settings.interval_minutes} does not divide a day"
    if not 1 <= settings.days <= (date.max - settings.first_day).days:
        return f"days = {settings.days} is less than one, or more than the calendar has"
    for name in ("refused_address_kib", "refused_all_kib", "refused_percent"):
        if (getattr(settings, name) or 0) < 0:
            return f"{name} = {getattr(settings, name)} is below zero"
    try:
        ZoneInfo(settings.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"zone = {settings.zone!r} is not a time zone's name, as Asia/Kolkata"
    return None


KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "date": (date,),
    "int | None": (int, type(None)),
    "str | None": (str, type(None)),
}
