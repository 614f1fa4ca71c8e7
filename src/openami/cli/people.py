"""`openami people`: who may sign in, with which role, to what; and the audit trail."""

from __future__ import annotations

import datetime
import getpass
import json
import os
import secrets
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, app

if TYPE_CHECKING:
    from ..web.gate import Gate

people = typer.Typer(help="Who may sign in, with which role, to what; and the audit trail.", no_args_is_help=True)
app.add_typer(people, name="people")

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the audit trail.")]


@people.command("add")
def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help="consumer, installer, operator, auditor, admin or partner.")],
    data: DataOption = DEMO_FOLDER,
    division: Annotated[list[str] | None, typer.Option(help="Only these divisions; left out = the whole deployment.")] = None,
    job: Annotated[list[str] | None, typer.Option(help="Of an installer: a usage point.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Of a consumer: an account.")] = None,
    program: Annotated[list[str] | None, typer.Option(help="A program: where it may send people back to, or - for none.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="A program that cannot keep a secret, as in a phone: it acts for people only.")
    ] = False,
    language: Annotated[str, typer.Option(help="en or hi.")] = "en",
    why: WhyOption = "",
) -> None:
    """Add a person (asks for the password) or a program (prints its secret). Operators, auditors and administrators get a second factor."""
    from ..store.clients import Client
    from ..store.people import GrantKind
    from ..web.access import RIGHTS, SECOND_FACTOR, Role

    if role not in list(Role):
        raise InputError(f"{role!r} is no role; roles are {', '.join(Role)}")
    if public and (not program or "-" in program):
        raise InputError("--public is of a program that acts for people; name where it may send them back to with --program ADDRESS")
    gate = _gate(data)
    for one in division or ():
        if one not in gate.people.divisions():
            raise InputError(f"there is no division {one}; make it with: openami people division {one} FEEDER...")
    password = secrets.token_urlsafe(24) if program else _password()
    second = role in SECOND_FACTOR and not program
    secret = gate.people.add(name, role, gate.now_s, password=password, totp=second, language=language)
    grants = [(GrantKind.DIVISION, one) for one in division or ()] + [(GrantKind.JOB, one) for one in job or ()]
    grants += [(GrantKind.ACCOUNT, one) for one in account or ()]
    if role in (Role.OPERATOR, Role.AUDITOR) and not division:
        grants.append((GrantKind.ALL, "*"))
    for kind, subject in grants:
        gate.people.grant(name, kind, subject)
    _note(gate, "people.add", name, why or f"as {role}")
    print(f"{name} is there as {role}")
    if program:
        redirects = tuple(one for one in program if one != "-")
        gate.clients.add(Client(name, name, redirects, tuple(RIGHTS[Role(role)]), not public))
        print(f"client_id {name}" + ("" if public else f"\nclient_secret {password}\n(shown this once)"))
    if secret:
        _show_totp(name, secret)


@people.command("list")
def show(data: DataOption = DEMO_FOLDER, as_json: JsonOption = False) -> None:
    """Everybody who may sign in, with what was granted to them."""
    gate = _gate(data)
    rows = [asdict(one) | {"grants": [f"{k}:{s}" for k, s in gate.people.grants(one.name)]} for one in gate.people.all()]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        marks = [word for word, there in (("second factor", row["totp"]), ("disabled", row["disabled"])) if there]
        print(f"{row['name']:24s}{row['role']:12s}{' '.join(row['grants']):40s}{', '.join(marks)}")


@people.command("disable")
def disable(name: NameArgument, data: DataOption = DEMO_FOLDER, why: WhyOption = "") -> None:
    """From now on this person or program may not sign in; what they have open is ended."""
    gate = _gate(data)
    gate.people.disable(name)
    ended = gate.end_open(name)
    _note(gate, "people.disable", name, why)
    print(f"{name} is disabled; {ended} sessions ended")


@people.command("enable")
def enable(name: NameArgument, data: DataOption = DEMO_FOLDER, why: WhyOption = "") -> None:
    """They may sign in again."""
    gate = _gate(data)
    gate.people.disable(name, False)
    _note(gate, "people.enable", name, why)
    print(f"{name} may sign in again")


@people.command("password")
def password(name: NameArgument, data: DataOption = DEMO_FOLDER, why: WhyOption = "") -> None:
    """A new password (asked for); sessions that are open are ended."""
    gate = _gate(data)
    gate.people.set_password(name, _password())
    gate.end_open(name)
    _note(gate, "people.password", name, why)
    print(f"{name} has a new password")


@people.command("second-factor")
def second_factor(name: NameArgument, data: DataOption = DEMO_FOLDER, why: WhyOption = "") -> None:
    """A new second factor; the old one is worth nothing from now on."""
    gate = _gate(data)
    secret = gate.people.new_totp(name)
    _note(gate, "people.second_factor", name, why)
    _show_totp(name, secret)


@people.command("grant")
def grant(
    name: NameArgument,
    what: Annotated[str, typer.Argument(metavar="KIND:SUBJECT", help="all:*, division:NAME, job:USAGE_POINT or account:NUMBER.")],
    data: DataOption = DEMO_FOLDER,
    take: Annotated[bool, typer.Option("--take", help="Take it away instead.")] = False,
    why: WhyOption = "",
) -> None:
    """What somebody may reach."""
    from ..store.people import GrantKind

    kind, _, subject = what.partition(":")
    if kind not in list(GrantKind) or not subject:
        raise InputError(f"{what!r} is no grant; write all:*, division:NAME, job:USAGE_POINT or account:NUMBER")
    gate = _gate(data)
    (gate.people.revoke if take else gate.people.grant)(name, GrantKind(kind), subject)
    _note(gate, "people.revoke" if take else "people.grant", name, f"{what} {why}".strip())
    print(f"{name}: {what} {'taken away' if take else 'granted'}")


@people.command("division")
def division(
    name: NameArgument,
    feeders: Annotated[list[str] | None, typer.Argument(metavar="FEEDER...")] = None,
    data: DataOption = DEMO_FOLDER,
    why: WhyOption = "",
) -> None:
    """A division is a set of feeders; without feeders it is dissolved."""
    gate = _gate(data)
    known = {row["name"] for row in gate.lookup.feeders()}
    if missing := [one for one in feeders or () if one not in known]:
        raise InputError(f"there is no feeder {', '.join(missing)}; known are {', '.join(sorted(known)[:20])}")
    gate.people.set_division(name, list(feeders or ()))
    _note(gate, "people.division", name, f"{' '.join(feeders or ())} {why}".strip())
    print(f"division {name}: {', '.join(feeders or ()) or 'dissolved'}")


@people.command("link")
def link(
    name: NameArgument,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Who this is at the external issuer (`sub`); - = nobody any more.")],
    data: DataOption = DEMO_FOLDER,
    why: WhyOption = "",
) -> None:
    """Let somebody in through the external issuer that sign_in.toml names."""
    gate = _gate(data)
    gate.people.link(name, None if subject == "-" else subject)
    _note(gate, "people.link", name, why)
    print(f"{name}: {'linked' if subject != '-' else 'no longer linked'}")


@people.command("phone")
def phone(
    number: Annotated[str, typer.Argument(metavar="PHONE")],
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    data: DataOption = DEMO_FOLDER,
    take: Annotated[bool, typer.Option("--take", help="Take it away instead.")] = False,
    why: WhyOption = "",
) -> None:
    """An account may be seen from this phone; one phone may have several accounts. Kept as a keyed digest."""
    gate = _gate(data)
    (gate.people.remove_phone if take else gate.people.add_phone)(number, account)
    _note(gate, "people.phone_removed" if take else "people.phone_added", account, why)
    print(f"account {account}: phone {'removed' if take else 'added'}")


@people.command("signing-key")
def signing_key(data: DataOption = DEMO_FOLDER, why: WhyOption = "") -> None:
    """A new key for tokens and statements; it signs after two minutes, when everybody knows it. What the ones before signed stays good."""
    gate = _gate(data)
    if gate.tokens is None:
        raise InputError("this deployment signs no tokens of its own")
    made = gate.tokens.new_key()
    _note(gate, "people.signing_key", made, why)
    print(f"key {made} signs in two minutes; /oauth/jwks shows it already")


@people.command("audit")
def audit(
    data: DataOption = DEMO_FOLDER,
    who: Annotated[str | None, typer.Option(help="Only this person or program.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    limit: Annotated[int, typer.Option(help="How many lines, newest first.")] = 50,
    check: Annotated[bool, typer.Option("--check", help="Check the chain over all lines instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The audit trail: who did what, to what, why, and from where."""
    gate = _gate(data)
    if check:
        broken = gate.trail.broken_at()
        if broken is not None:
            raise InputError(f"the audit trail was changed behind the database's back: line {broken} does not follow from the one before")
        print("the audit trail is whole")
        return
    if limit < 1:
        raise InputError(f"--limit {limit}: give 1 or more")
    for number, entry in gate.trail.latest(limit, who=who, subject=subject):
        if as_json:
            print(json.dumps({"number": number} | asdict(entry), ensure_ascii=False))
            continue
        at = datetime.datetime.fromtimestamp(entry.at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        print(
            f"{number:6d} {at} {entry.who or '-':24s}{entry.action:22s}{entry.outcome:9s}{entry.subject:24s}{entry.why} ({entry.address})"
        )


def _gate(data: Path) -> Gate:
    """The gate of the folder; it needs no closed day."""
    from ..day import Site
    from ..store.deployment import Folder
    from ..store.keys import load_master_key
    from ..web.gate import Gate, Ground

    folder = Folder(data)
    return Gate(Ground(Site.open(folder).rows, load_master_key(folder.master_key)), clock=time.time)


def _note(gate: Gate, action: str, subject: str, why: str) -> None:
    from ..store.audit import Entry

    gate.trail.note(Entry(gate.now_s, f"{getpass.getuser()} (command line)", "", action, subject, why, os.uname().nodename))


def _password() -> str:
    """From standard input where it is a pipe; asked for twice, hidden, where a person sits at it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    given = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != given:
        raise InputError("the two passwords differ; nothing was changed")
    return given


def _show_totp(name: str, secret: str) -> None:
    """On the terminal alone, never in a log."""
    import pyotp
    import segno

    uri = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name="OpenAMI")
    if sys.stdout.isatty():
        segno.make(uri).terminal(compact=True)
    print(f"second factor: {secret}\n{uri}\n(shown this once)")
