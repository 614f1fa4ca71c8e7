"""`openami complaints`: what consumers complain of, and its answer."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from .words import DEMO_FOLDER, DataOption, JsonOption, app, site_at

complaints_app = typer.Typer(no_args_is_help=True, help="Complaints and their answers; an open dispute about money keeps supply on.")
app.add_typer(complaints_app, name="complaints")


@complaints_app.command("list")
def list_(data: DataOption = DEMO_FOLDER, as_json: JsonOption = False) -> None:
    """Those not yet answered, the oldest first."""
    from ..store.complaints import Complaints

    site = site_at(data)
    found = Complaints(site.rows.database).open()
    for one in found:
        if as_json:
            print(json.dumps(asdict(one) | {"disputes": one.disputes}, ensure_ascii=False))
        else:
            mark = "dispute" if one.disputes else ""
            print(f"{one.id}  {site.calendar.local(one.made_s):%Y-%m-%d %H:%M}  {one.account:14s} {one.about:8s} {mark:8s} {one.text}")
    if not as_json:
        print(f"{len(found)} open")


@complaints_app.command()
def answer(
    number: Annotated[str, typer.Argument(help="The complaint's number, from `openami complaints list`.")],
    text: Annotated[str, typer.Argument(help="The answer; the consumer is told it.")],
    who: Annotated[str, typer.Option(help="Who answers; it stands in the record.")],
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Answer a complaint and close it. Where it was the account's last open dispute, it no longer stands in the way of a cut."""
    from ..supply import complaints

    done = complaints.answer(site_at(data), number, text, int(time.time()), who)
    print(f"{done.id} of account {done.account} is answered")
