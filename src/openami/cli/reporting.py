"""`openami report`: studies on real data, written as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import app, seed_of


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="vee", help="Which study.")],
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Same seed, same page.")] = 1,
) -> None:
    """Write a study of real data: vee = what validation finds in the shipped households, and how well estimates do."""
    from ..bench.vee_report import write_report

    if name != "vee":
        raise InputError(f"there is no report {name!r}; known is vee")
    for path in write_report(out, seed_of(seed)):
        print(path)
