"""`openami demo`, `close`, `history`: a data folder's days."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .serving import check_port, serve_console
from .words import DEMO_FOLDER, DataOption, a_day, app, seed_of

if TYPE_CHECKING:
    from ..day import Site


@app.command()
def demo(
    days: Annotated[int, typer.Option(help="How many days, 1 to 49.")] = 3,
    meters: Annotated[int, typer.Option(help="How many consumers, 20 to 2800; transformers' and feeders' meters come on top.")] = 400,
    seed: Annotated[int, typer.Option(help="Same seed, same town, same faults, same result.")] = 1,
    start: Annotated[str, typer.Option(help="First day, as 2025-12-01.")] = "2025-12-01",
    tariff: Annotated[list[str] | None, typer.Option(help="Tariff of the consumers; twice = the second for three in ten.")] = None,
    data: DataOption = DEMO_FOLDER,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the console at the end.")] = True,
    port: Annotated[int, typer.Option(help="Port of the console; 0 = any free one.")] = 8080,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on standard output.")] = False,
) -> None:
    """A town's days, end to end: ciphered meter frames in, prepaid statements and losses out.

    Every quarter-hour reading of real households is pushed by its own simulated meter over TCP, as ciphered DLMS/COSEM; the head-end journals
    and confirms it; readings are checked, stored, billed and balanced; what was planted (lost and forged frames, theft, wrong mapping) is
    compared with what was found. Then the console is served.
    """
    from ..demo.run import TARIFFS, Wish, run_demo
    from ..demo.table import print_report, stages

    first_day = a_day(start, "--start")
    if serve:
        check_port("127.0.0.1", port)
    wish = Wish(data, meters, days, seed_of(seed), first_day, tuple(tariff) if tariff else TARIFFS)
    with stages(quiet=as_json) as stage:
        report = run_demo(wish, stage)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        print_report(report)
    if not all(report["holds"].values()):
        raise InputError("the result does not agree with what was planted: " + "; ".join(k for k, ok in report["holds"].items() if not ok))
    if serve:
        serve_console(data, "127.0.0.1", port)


@app.command()
def close(
    data: DataOption = DEMO_FOLDER,
    day: Annotated[list[str] | None, typer.Option(help="Only this day, as 2025-12-01; may be given again.")] = None,
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard; may be given again.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Read the whole journal again, not only what is new in it.")] = False,
    engine: Annotated[str, typer.Option(help="embedded: threads here. spark: an Apache Spark cluster.")] = "embedded",
    master: Annotated[str | None, typer.Option(help="Spark's master, as spark://host:7077; left out = this machine alone.")] = None,
) -> None:
    """Close the days of a data folder that are over: journal to raw, checked, billed, told, balanced. Safe to repeat; the head-end may go on.

    A day that is closed stays as it was told: readings that came later are charged as adjustments on the next statement. A closed day that is
    named by --day is reckoned again in any case, for example because the registry was put right.
    """
    from ..day import Site, close_all, collect
    from ..day import close as close_one
    from ..day.closes import is_closed
    from ..day.findings import record
    from ..day.stages import CloseStage, OpenFolder
    from ..demo.table import stages
    from ..engine import open_engine
    from ..store.deployment import Folder
    from ..store.history import History

    runner = open_engine(engine, master)
    site = Site.open(Folder(data))
    over = _over(site, time.time())
    days = [a_day(one, "--day") for one in day] if day else over
    shards = shard or site.rows.shards()
    _only_known(over, days, site.rows.shards(), shards)
    close_there = CloseStage(OpenFolder(data.resolve()))
    with runner, stages(quiet=False) as stage:
        causes = collect(site, stage("Decode the journal into day grids", site.journal_frames()), anew=anew)
        again = [(d, s) for d in days for s in shards if day and is_closed(site.lake, d, s)]
        told = stage("Validate, bill, balance", len(days) * len(shards))
        done = close_all(site, told, days=days, shards=shards, elsewhere=None if engine == "embedded" else partial(runner.run, close_there))
        for d, s in again:
            done.update(reckoned=1, adjustments=close_one(site, d, s))
        if closed := site.lake.days("closes"):
            History(site.lake).keep_up(closed[-1])
        record(site, shards=shards)
    refused = ", ".join(f"{count:,} {cause}" for cause, count in sorted(causes.items())) or "none"
    print(
        f"{data}: {len(days)} days from {days[0]}: {done['closed']:,} days of shards closed, {done['reckoned']:,} reckoned again, "
        f"{done['adjustments']:,} adjustments posted; frames refused: {refused}"
    )


def _over(site: Site, now_s: float) -> list[date]:
    """The open days that are over, so that no more can happen on them; in a simulated deployment, whose days are of no calendar, all. InputError
    where there is none."""
    from ..operate.worker import due_days

    days = list(site.deployment.open_days) if site.deployment.seed is not None else due_days(site, now_s, 0)
    if not days:
        raise InputError(f"the first day of this folder, {site.deployment.first_day}, is not over yet; close it then")
    return days


def _only_known(open_days: Sequence[date], days: Sequence[date], known: Sequence[int], shards: Sequence[int]) -> None:
    for one in days:
        if one not in open_days:
            raise InputError(f"{one} is not an open day of this folder that is over; those are {open_days[0]} to {open_days[-1]}")
    for number in shards:
        if number not in known:
            raise InputError(f"there is no shard {number}; there are {', '.join(map(str, known))}")


@app.command()
def history(
    order: Annotated[str, typer.Argument(metavar="rebuild|behind")],
    data: DataOption = DEMO_FOLDER,
    everything: Annotated[bool, typer.Option("--all", help="rebuild: every month, also those that are up to date.")] = False,
) -> None:
    """Keep the meter-ordered history of closed days: rebuild what is behind the validated readings, or only tell it."""
    from ..store.deployment import Folder
    from ..store.history import History
    from ..store.lake import Lake
    from ..store.places import place_of

    if order not in ("rebuild", "behind"):
        raise InputError(f"{order!r} is nothing to do with a history; write rebuild or behind")
    folder = Folder(data)
    kept = History(Lake(place_of(folder, folder.load())))
    if order == "behind":
        for day, shard in kept.behind():
            print(f"{day} shard {shard}")
    else:
        for month in kept.rebuild(everything=everything):
            print(f"{month.month:%Y-%m} {month.channel} shard {month.shard}")
