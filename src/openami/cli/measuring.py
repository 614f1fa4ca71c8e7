"""`openami bench`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import InputError
from .words import app


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark's name, or all.")] = "all",
    meters: Annotated[int | None, typer.Option(help="How many meters; left out = the benchmark's own size.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure speed and memory on this machine, beside what one would use instead."""
    from ..bench import run_bench

    if meters is not None and meters < 1:
        raise InputError(f"--meters {meters}: give 1 or more")
    for each in run_bench(name, meters):
        if as_json:
            print(json.dumps(each), flush=True)
        else:
            peer = f"  ({each['peer']})" if "peer" in each else ""
            print(f"{each['bench']:10s}{each['metric']:28s}{each['value']:>16,.4g} {each['unit']}{peer}", flush=True)
