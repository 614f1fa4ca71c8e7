"""`openami report`: studies on real data, written as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import app, seed_of


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="vee|losses", help="Of what.")],
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY...", help="Of losses: which studies; left out = all.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Same seed, same page.")] = 1,
    data: Annotated[Path | None, typer.Option(help="A folder of public data that is not shipped.")] = None,
) -> None:
    """Write studies of real data as pages: vee = what validation finds in the shipped households and, with
    --data, in homes elsewhere, and how well estimates do; losses = interval,
    physics, outages, mapping, theft, forecast."""
    from ..bench.vee_report import write_report
    from ..studies.pages import write

    if name not in ("vee", "losses"):
        raise InputError(f"there is no report {name!r}; known are vee, losses")
    for path in write_report(out, seed_of(seed), data) if name == "vee" else write(studies or [], out, seed_of(seed), data):
        print(path, flush=True)
