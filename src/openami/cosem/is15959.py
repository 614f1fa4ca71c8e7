"""IS 15959 parts 1 to 3 as data (`data/is15959.toml`): associations, profiles, push setups, event codes, status word bits.

The standard's numbers in our own words. What a meter really captures is asked of the meter; these rows say what to expect and what an
event code means. Rows marked `verify` come from one source: they are shown with the mark, and nothing is decided by them.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ..errors import DataError, InputError
from .axdr import Tag
from .profile import Capture


class AssociationFact(NamedTuple):
    """A client of the standard. mechanism: as `acse.Mechanism`; policy: security control byte, 0 = plain; invocation_counter: the object
    that the public client reads before it opens this association, "" = none."""

    name: str
    what: str
    client: int
    mechanism: int
    policy: int
    object: str
    security_setup: str
    invocation_counter: str
    pre_established: bool
    source: str


class ProfileFact(NamedTuple):
    """A profile: its name here, logical name, the profile of its scalers ("" = none), and the columns with the types seen."""

    name: str
    obis: str
    scaler_profile: str
    meters: str
    columns: tuple[tuple[Capture, Tag], ...]


class PushSetupFact(NamedTuple):
    """A push setup and what it pushes, () where that differs by maker."""

    name: str
    obis: str
    objects: tuple[Capture, ...]
    verify: bool


class EventFact(NamedTuple):
    """An event code. log: which event log keeps it. kind: "occurrence", "restoration" or "single"."""

    code: int
    what: str
    log: str
    kind: str
    source: str
    verify: bool


class StatusBit(NamedTuple):
    """A bit of the event status word (bit 0 is the first of the string) and the events behind it."""

    bit: int
    what: str
    events: tuple[int, ...]
    meters: str
    verify: bool


# Names that a person may use for single objects: (class, logical name, attribute).
OBJECTS: dict[str, tuple[int, str, int]] = {
    "clock": (8, "0.0.1.0.0.255", 2),
    "device_id": (1, "0.0.96.1.2.255", 2),
    "serial": (1, "0.0.96.1.0.255", 2),
    "logical_device_name": (1, "0.0.42.0.0.255", 2),
    "firmware": (1, "1.0.0.2.0.255", 2),
    "relay_state": (70, "0.0.96.3.10.255", 3),
    "relay_output": (70, "0.0.96.3.10.255", 2),
    "relay_mode": (70, "0.0.96.3.10.255", 4),
    "load_limit": (71, "0.0.17.0.0.255", 4),
    "event_status_word": (1, "0.0.94.91.18.255", 2),
    "capture_period": (1, "1.0.0.8.4.255", 2),
}


@lru_cache(maxsize=2)
def _table(name: str) -> dict[str, Any]:
    text = files(__package__).joinpath(f"data/{name}").read_text("utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"cosem/data/{name} cannot be read ({error}); restore the shipped file") from error


@lru_cache(maxsize=1)
def associations() -> tuple[AssociationFact, ...]:
    """The clients of the standard."""
    return tuple(AssociationFact(**row) for row in _table("is15959.toml")["association"])


def association_for(client: int, smart: bool = True) -> AssociationFact:
    """The association of a client; smart: of a smart meter (parts 2 and 3) where there are both. InputError for an unknown client."""
    found = [one for one in associations() if one.client == client]
    if not found:
        known = ", ".join(str(number) for number in sorted({one.client for one in associations()}))
        raise InputError(f"client {client} is none of IS 15959's: {known}")
    return found[-1] if smart else found[0]


@lru_cache(maxsize=1)
def profiles() -> tuple[ProfileFact, ...]:
    """The profiles with the columns that a reference meter captures."""
    return tuple(
        ProfileFact(
            row["name"],
            row["obis"],
            row["scaler_profile"],
            row["meters"],
            tuple((Capture(class_id, obis, attribute), Tag[tag.upper()]) for class_id, obis, attribute, tag in row["columns"]),
        )
        for row in _table("is15959.toml")["profile"]
    )


def profile_named(name: str, meters: str = "three-phase") -> ProfileFact:
    """A profile by its name here ("block_load", "billing", ...). InputError with the known names."""
    found = [one for one in profiles() if one.name == name]
    if not found:
        raise InputError(f'no profile is called "{name}"; known: {", ".join(sorted({one.name for one in profiles()}))}')
    return next((one for one in found if one.meters == meters), found[0])


@lru_cache(maxsize=1)
def push_setups() -> tuple[PushSetupFact, ...]:
    """The push setups."""
    return tuple(
        PushSetupFact(row["name"], row["obis"], tuple(Capture(*one) for one in row["objects"]), row.get("verify", False))
        for row in _table("is15959.toml")["push_setup"]
    )


@lru_cache(maxsize=1)
def events() -> dict[int, EventFact]:
    """Event codes and what they mean."""
    return {
        int(code): EventFact(int(code), row["what"], row["log"], row["kind"], row["source"], row.get("verify", False))
        for code, row in _table("is15959.toml")["event"].items()
    }


@lru_cache(maxsize=1)
def status_bits() -> dict[int, StatusBit]:
    """The known bits of the event status word."""
    return {
        int(bit): StatusBit(int(bit), row["what"], tuple(row["events"]), row["meters"], row.get("verify", False))
        for bit, row in _table("is15959.toml")["esw"].items()
    }


def read_status_word(word: str) -> tuple[tuple[StatusBit, ...], tuple[int, ...]]:
    """An event status word ("0" and "1", as `axdr` gives a bit-string) as (known bits that are set, other bits that are set)."""
    known = status_bits()
    set_bits = [k for k, one in enumerate(word) if one == "1"]
    return tuple(known[k] for k in set_bits if k in known), tuple(k for k in set_bits if k not in known)


def status_changes(before: str, after: str) -> tuple[tuple[int, bool], ...]:
    """What changed between two event status words of one meter: (bit, now set), in order of the bits. before "" = nothing known: all 0."""
    old = before.ljust(len(after), "0")
    return tuple((bit, now == "1") for bit, (now, was) in enumerate(zip(after, old, strict=False)) if now != was)


def event_of(bit: int, now_set: bool) -> int | None:
    """The event code behind a changed bit of the status word: its occurrence where it is set, its restoration where it is cleared.

    None for a bit that is unknown, has no event (85 last gasp, 86 first breath), or whose one event does not say which way (a cleared
    251). Bit 84 says only that the load was switched: the relay is to be asked which way, so it gives no event either.
    """
    fact = status_bits().get(bit)
    if fact is None or not fact.events or set(fact.events) == {301, 302}:
        return None
    if now_set:
        return fact.events[0]
    return fact.events[1] if len(fact.events) > 1 else None


def quirks() -> tuple[dict[str, str], ...]:
    """What peers do beside the standard: name, peer, met_by, evidence."""
    return tuple(_table("quirks.toml")["quirk"])
