"""What commands share: the app, options that mean the same everywhere, and how words become values."""

from __future__ import annotations

import os
import re
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from ..errors import InputError

if TYPE_CHECKING:
    from ..day.site import Site
    from ..store.rows import Rows

DEMO_FOLDER = Path("data/demo")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="**OpenAMI**, the open AMI platform: reads every smart meter, checks every reading, accounts for every unit and every rupee.\n\n"
    "Start with `openami demo`: a town of real households, from ciphered meter frames to prepaid statements and losses.",
)
DataOption = Annotated[Path, typer.Option("--data", help="The data folder.", show_default=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        print(f"openami {__version__}")
        raise typer.Exit


def a_day(text: str, option: str) -> date:
    """A day as it was typed for `option`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is not a date; write year-month-day, as 2025-12-01") from None


def paise_of(text: str, option: str) -> int:
    """Rupees as they were typed for `option`, 12.50, in paise; above zero."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,2})?", text) or not (paise := int(Decimal(text) * 100)):
        raise InputError(f"{option} {text!r} is no amount; write rupees above zero, as 12.50")
    return paise


def site_at(data: Path) -> Site:
    """The data folder, opened. What it needs is imported only here, so that `openami --help` stays quick."""
    from ..day.site import Site
    from ..store.deployment import Folder

    return Site.open(Folder(data))


def seed_of(seed: int) -> int:
    if seed < 0:
        raise InputError(f"--seed {seed} is negative; give 0 or more")
    return seed


def audited(rows: Rows, who: str, action: str, subject: str, why: str) -> None:
    """One line in the audit trail, of somebody at this machine's command line."""
    from ..store.audit import AuditTrail, Entry

    AuditTrail(rows).note(Entry(int(time.time()), who, "", action, subject, why, os.uname().nodename))
