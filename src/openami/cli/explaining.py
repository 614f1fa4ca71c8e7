"""`openami explain`: why an account's day cost what it did."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app, site_at


@app.command()
def explain(
    account: Annotated[str, typer.Argument(help="The account's number.")],
    day: Annotated[str, typer.Argument(help="A closed day, as 2025-12-01.")],
    data: DataOption = DEMO_FOLDER,
    lang: Annotated[str, typer.Option(help="en or hi.")] = "en",
    as_json: JsonOption = False,
    as_html: Annotated[bool, typer.Option("--html", help="A page on standard output.")] = False,
) -> None:
    """From the meter's registers and intervals to the rupees of the day's statement: which readings, slab, rate and why it applied, what was put
    right since, and what changed against the day before. The sum always matches the statement, or nothing is told."""
    from ..day.why import why

    if lang not in ("en", "hi"):
        raise InputError(f"--lang {lang!r} is neither en nor hi")
    if as_json and as_html:
        raise InputError("--json and --html together; give one of them")
    found = why(site_at(data), account, a_day(day, "DAY"))
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        print(found.html(lang) if as_html else found.text(lang))
