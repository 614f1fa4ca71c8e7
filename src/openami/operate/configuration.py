"""What is wrong with a data folder's settings, all of it at once, each with its place and the way out: `openami config check`.

    for one in check(folder):  print(one)        # openami.toml:7 journal: ... ; ...

What always holds: nothing is changed, and nothing is opened that the settings name unless `reach` is asked for; no secret is in a finding.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ..control.policy import load_policies
from ..errors import InputError, OpenAMIError
from ..headend.whole import headend_title
from ..payments.gateways import FILE as GATEWAYS
from ..payments.gateways import load_gateways
from ..store.deployment import FILE, FORMAT, PLACES, SECRETS, Deployment, Folder, from_environment, variable, wrong_kind
from ..store.journal_at import open_journal
from ..store.keys import ENVIRONMENT as MASTER_KEY
from ..store.keys import load_master_key
from ..store.lake import Lake
from ..store.nats_address import AUTHORITY, PASSWORD, USER, NatsAddress
from ..store.places import Local, place_of
from ..store.rows import Rows
from ..store.sql import ENVIRONMENT as DATABASE
from ..store.sql import configured
from ..web.settings import FILE as SIGN_IN
from ..web.settings import load_settings
from .watch import address

WATCH, LOG, TRACES = "OPENAMI_WATCH", "OPENAMI_LOG", "OPENAMI_TRACES"
VARIABLES = {MASTER_KEY, DATABASE, USER, PASSWORD, AUTHORITY, WATCH, LOG, TRACES, *map(variable, (*PLACES, *SECRETS))}
"""What the environment may say to OpenAMI; names that a setting refers to (`env:NAME`) come on top."""
RANGES: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "interval_minutes": (lambda v: v >= 1 and 1440 % v == 0, "it does not divide a day", "give 15, 30 or 60"),
    "days": (lambda v: v >= 1, "it is less than one", "give how many days are open for readings"),
    **{
        name: (lambda v: v >= 0, "it is below zero", "give 0 or more, or leave it out")
        for name in ("refused_address_kib", "refused_all_kib", "refused_percent")
    },
}


def _form(text: str) -> None:
    if text not in ("plain", "json"):
        raise InputError(f"{text!r} is no form of the log; give plain or json")


def _collector(text: str) -> None:
    server = urlsplit(text)
    if server.scheme not in ("http", "https") or not server.hostname or server.port == 0:
        raise InputError(f"{text!r} is no address of a collector; give http://host:4318/v1/traces")


def _authority(text: str) -> None:
    if not Path(text).is_file():
        raise InputError(f"there is no file {text}; give the file with the authority's certificates")


SAID: dict[str, Callable[[str], object]] = {WATCH: address, LOG: _form, TRACES: _collector, AUTHORITY: _authority}
"""Variables that are no settings, with what refuses a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Finding:
    """line: of the file, counted from 1, None = not of one line; key: the setting or variable, "" = none; serious: it keeps OpenAMI from running."""

    file: str
    line: int | None
    key: str
    why: str
    way_out: str
    serious: bool = True

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line else "") + (f" {self.key}" if self.key else "")
        return f"{'wrong  ' if self.serious else 'mind   '} {place}: {self.why}; {self.way_out}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check(folder: Folder, *, reach: bool = False) -> list[Finding]:
    """Everything that is wrong, what keeps OpenAMI from running first. reach: also open database, journal and lake as the settings name them."""
    settings = _Settings(folder.root / FILE)
    found = list(settings.findings)
    if settings.found is not None:
        found += [*_keys(settings), *_values(settings), *_where(folder, settings)]
        found += [*_secrets(folder), *_beside(folder), *_environment(folder)]
        if not any(one.serious for one in found) and (why := _refused(folder.load)):
            found.append(settings.at("", *_split(why)))  # what a role would say at its start
        if reach and not any(one.serious for one in found):
            found += _reach(folder)
    return sorted(found, key=lambda one: not one.serious)


class _Settings:
    """The file as it is, with the lines of its keys. found: None where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path, self.found, self.text, self.findings = path, None, "", list[Finding]()
        try:
            self.text = path.read_text(encoding="utf-8")
            self.found = tomllib.loads(self.text)
        except (FileNotFoundError, NotADirectoryError):
            self._say(None, "", "it is not there, so this is no data folder", "run `openami demo`, or give another --data")
        except UnicodeDecodeError as error:
            self._say(self.text.count("\n") + 1, "", f"it is not UTF-8 ({error.reason})", "save it as UTF-8")
        except OSError as error:
            self._say(None, "", f"it cannot be read ({error.strerror})", "let this user read it")
        except tomllib.TOMLDecodeError as error:
            place = re.search(r" \(at line (\d+), column \d+\)", str(error))
            why = str(error)[: place.start()] if place else str(error).removesuffix(" (at end of document)")
            line = int(place[1]) if place else self.text.count("\n")
            self._say(line, "", f"it is not TOML: {why[:1].lower()}{why[1:]}", "mend that line")

    def _say(self, line: int | None, key: str, why: str, way_out: str) -> None:
        self.findings.append(Finding(str(self.path), line, key, why, way_out))

    def line(self, key: str) -> int | None:
        for number, text in enumerate(self.text.splitlines(), 1):
            if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", text):
                return number
        return None

    def at(self, key: str, why: str, way_out: str, *, serious: bool = True) -> Finding:
        """Of a key of the file, or of the variable that stands in its place."""
        if key in from_environment():
            return Finding("environment", None, variable(key), why, way_out, serious)
        return Finding(str(self.path), self.line(key), key, why, way_out, serious)

    def has(self, key: str) -> bool:
        return self.value(key) is not None

    def value(self, key: str) -> Any:
        return from_environment().get(key, (self.found or {}).get(key))


def _keys(settings: _Settings) -> Iterator[Finding]:
    known = {field.name: field for field in fields(Deployment)}
    there = settings.found or {}
    for key in there.keys() - known.keys() - {"format"}:
        near = difflib.get_close_matches(key, known, 1)
        yield settings.at(key, "there is no such setting", f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    for name, field in known.items():
        if field.default is MISSING and name not in there:
            yield settings.at(name, "it is missing", "add it; docs/operate.md says what it means")
    if "format" not in there:
        yield settings.at("format", "it is missing", f"restore the file from a backup; this release writes format = {FORMAT}")
    elif there["format"] != FORMAT:
        yield settings.at(
            "format", f"the data are of format {there['format']!r}, this release reads {FORMAT}", "use the release that wrote them"
        )


def _values(settings: _Settings) -> Iterator[Finding]:
    there = settings.found or {}
    for name in [field.name for field in fields(Deployment) if field.name in there]:
        value = there[name]
        if why := wrong_kind(name, value):
            yield settings.at(
                name,
                f"{why.removeprefix(f'{name} = ')}",
                "write a text in quotes, a number or a date without them; what is not set is left out",
            )
        elif name in RANGES and not RANGES[name][0](value):
            yield settings.at(name, RANGES[name][1], RANGES[name][2])
        elif name == "days" and type(there.get("first_day")) is date and value > (date.max - there["first_day"]).days:
            yield settings.at(name, "there are not so many days in the calendar", RANGES[name][2])
        elif name == "zone" and _refused(partial(ZoneInfo, value)):
            yield settings.at(name, f"there is no time zone {value!r}", "give a name as Asia/Kolkata")
        elif name == "headend_title" and (why := _refused(partial(headend_title, Deployment("", "UTC", 15, date.min, 1, "", value)))):
            yield settings.at(name, "it is not 16 hex digits", "give the 8 bytes under which the head-end confirms, used for nothing else")
    policy, first = there.get("policy"), there.get("first_day")
    if isinstance(policy, str) and type(first) is date and (why := _refused(lambda: load_policies().on(policy, first))):
        yield settings.at(
            "policy", why.split(";")[0], "without it every disconnection is refused; name a policy that is there", serious=False
        )


def _where(folder: Folder, settings: _Settings) -> Iterator[Finding]:
    """Database, journal and lake: addresses that can be read, and secrets only by reference."""
    text = {key: settings.value(key) for key in ("database", *PLACES, *SECRETS)}
    if any(value is not None and not isinstance(value, str) for value in text.values()):
        return  # said above
    if why := _refused(lambda: configured(text["database"], folder.rows)):
        key = "database"
        yield Finding("environment", None, DATABASE, *_split(why)) if os.environ.get(DATABASE) else settings.at(key, *_split(why))
    if text["journal"] and (why := _refused(lambda: NatsAddress.parse(text["journal"]))):
        yield settings.at("journal", *_split(re.sub(r"^journal = '[^']*':? ?(is )?", "it is ", why)))
    for key in SECRETS:
        if text[key] and not text[key].startswith(("env:", "file:")):
            yield settings.at(key, "it holds a key itself", "keep that in the environment or a file, and write env:NAME or file:PATH here")
            return
    filled = {field.name: text.get(field.name) for field in fields(Deployment) if field.default is not MISSING and field.name in text}
    deployment = Deployment("", "UTC", 15, date.min, 1, "", "", **filled)
    if text["lake"] and (why := _refused(lambda: place_of(folder, deployment))):
        named = next((key for key in (*SECRETS, "lake_endpoint") if re.search(rf"\b{key}\b", why) or str(text[key] or "\0") in why), "lake")
        yield settings.at(named, *_split(why))
    for key in (*SECRETS, "lake_endpoint", "lake_region"):
        if text[key] and not text["lake"]:
            yield settings.at(
                key, "there is no object store to use it for, because lake is not set", "set lake, or take this out", serious=False
            )
    server = urlsplit(text["lake_endpoint"] or "")
    if server.scheme == "http" and server.hostname not in ("127.0.0.1", "localhost", "::1"):
        yield settings.at("lake_endpoint", "readings would cross the network unencrypted", "give its https address", serious=False)


def _secrets(folder: Folder) -> Iterator[Finding]:
    """The master key is there, is one, and only its owner may read it; so with the folder."""
    key = folder.master_key
    if why := _refused(lambda: load_master_key(key)):
        from_variable = bool(os.environ.get(MASTER_KEY))
        yield Finding("environment" if from_variable else str(key), None, MASTER_KEY if from_variable else "", *_split(why))
    for path, wanted in ((key, 0o600), (folder.root, 0o700)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # that it is not there was said
        if mode & 0o077:
            yield Finding(str(path), None, "", f"others may open it (mode {mode:o})", f"chmod {wanted:o} {path}", path == key)


def _beside(folder: Folder) -> Iterator[Finding]:
    """The files for sign-in and gateways, which need not be there."""
    for name, load in ((SIGN_IN, load_settings), (GATEWAYS, load_gateways)):
        path = folder.root / name
        if path.exists() and (why := _refused(partial(load, folder.root))):
            place = re.search(r"at line (\d+)", why)
            yield Finding(str(path), int(place[1]) if place else None, "", *_split(why.replace(str(path), "it", 1)))


def _environment(folder: Folder) -> Iterator[Finding]:
    """Variables that look as if they were meant for OpenAMI, and that nobody reads."""
    said = "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.root.glob("*.toml")))
    referred = set(re.findall(r"env:([A-Za-z_][A-Za-z0-9_]*)", said))
    for name in sorted(os.environ):
        if os.environ[name] and name in SAID and (why := _refused(partial(SAID[name], os.environ[name]))):
            yield Finding("environment", None, name, *_split(why))
        if name.startswith("OPENAMI_") and name not in VARIABLES | referred:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            yield Finding(
                "environment", None, name, "nothing reads it", f"did you mean {near[0]}?" if near else "take it away", serious=False
            )


def _reach(folder: Folder) -> Iterator[Finding]:
    """Whether what the settings name answers. A journal that no head-end has made yet is none that is wrong."""
    deployment = folder.load()
    place = place_of(folder, deployment)
    tries: list[tuple[str, Callable[[], Any]]] = [("database", lambda: Rows.of(folder).close()), ("lake", lambda: Lake(place).tables())]
    if deployment.journal or folder.journal.exists():
        tries.append(("journal", lambda: open_journal(folder, deployment).close()))
    for key, attempt in tries:
        if why := _refused(attempt):
            yield Finding(str(folder.root / FILE), None, key, *_split(why))
    if isinstance(place, Local) and not os.access(folder.root, os.W_OK):
        yield Finding(str(folder.root), None, "", "this user may not write there", "give it to the user that OpenAMI runs as")


def _refused(attempt: Callable[[], object]) -> str | None:
    """Why it cannot be had, or None."""
    try:
        attempt()
    except OpenAMIError as error:
        return str(error)
    except (ValueError, KeyError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def _split(sentence: str) -> tuple[str, str]:
    """Our sentences name first what is wrong and behind the last semicolon the way out."""
    why, _, way_out = sentence.rpartition("; ")
    return (why, way_out) if why else (sentence, "mend it")
