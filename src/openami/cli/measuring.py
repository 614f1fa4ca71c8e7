"""`openami bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import app


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark's name, or all.")] = "all",
    meters: Annotated[int | None, typer.Option(help="How many meters; left out = the benchmark's own size.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="web: make its town in this new folder and leave it there, or use the one that was left there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure speed and memory on this machine, beside what one would use instead."""
    from ..bench import run_bench

    if meters is not None and meters < 1:
        raise InputError(f"--meters {meters}: give 1 or more")
    for each in run_bench(name, meters, keep):
        if as_json:
            print(json.dumps(each), flush=True)
        else:
            peer = f"  ({each['peer']})" if "peer" in each else ""
            print(f"{each['bench']:10s}{each['metric']:28s}{each['value']:>16,.4g} {each['unit']}{peer}", flush=True)
