"""The settings of one data folder: one small TOML file, `openami.toml`, beside the journal, the registry and the lake."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path

from ..errors import DataError
from ..readings import Calendar

FILE = "openami.toml"


@dataclass(frozen=True, slots=True)
class Deployment:
    """first_day and days: the local days that are open for readings; a reading outside them goes to quarantine as out of day.

    policy: the disconnection policy of the utility; seed: of a simulated deployment, None where the meters are real.
    """

    name: str
    zone: str
    interval_minutes: int
    first_day: date
    days: int
    policy: str
    headend_title: str
    seed: int | None = None

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
    def master_key(self) -> Path:
        return self.root / "secrets" / "master.key"

    def save(self, deployment: Deployment) -> None:
        lines = ["# Settings of this OpenAMI data folder."]
        for field in fields(deployment):
            value = getattr(deployment, field.name)
            if value is not None:
                lines.append(f"{field.name} = {value.isoformat() if isinstance(value, date) else repr(value).replace(chr(39), chr(34))}")
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def load(self) -> Deployment:
        path = self.root / FILE
        try:
            with path.open("rb") as file:
                return Deployment(**tomllib.load(file))
        except FileNotFoundError:
            raise DataError(f"no OpenAMI data in {self.root} (it has no {FILE}); run `openami demo` or give another --data") from None
        except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}); mend it or restore it from a backup") from error
