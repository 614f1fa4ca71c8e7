"""`openami lake`: merge, sweep, pin and retire what is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, a_day, app

ORDERS = ("tidy", "sweep", "pin", "retire")


@app.command()
def lake(
    order: Annotated[str, typer.Argument(metavar="tidy|sweep|pin|retire")],
    table: Annotated[str, typer.Argument(help="pin: the table.")] = "",
    version: Annotated[int, typer.Argument(help="pin: its version.")] = -1,
    why: Annotated[str, typer.Option(help="pin: what it is kept for.")] = "",
    before: Annotated[str, typer.Option(help="retire: days before this one.")] = "",
    keep_days: Annotated[int | None, typer.Option(help="sweep: how many days earlier versions stay readable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="sweep: tell what would go.")] = False,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Keep the stored tables in order: tidy merges small files, sweep removes versions that are out of retention, pin keeps one for good,
    retire takes out old days."""
    from ..store.delta import KEEP_DAYS
    from ..store.deployment import Folder
    from ..store.lake import Lake
    from ..store.places import place_of
    from ..store.retention import pin, retire, sweep, tidy

    if order not in ORDERS:
        raise InputError(f"{order!r} is nothing to do with a lake; write {', '.join(ORDERS[:-1])} or {ORDERS[-1]}")
    folder = Folder(data)
    deployment = folder.load()
    kept = Lake(place_of(folder, deployment))
    today: date = deployment.calendar.local(int(datetime.now(UTC).timestamp())).date()
    if order == "tidy":
        done = tidy(kept)
        print(f"{data}: merged {done.merged or 'nothing'}; checkpoints of {', '.join(done.shortened) or 'no table'}")
    elif order == "sweep":
        swept = sweep(kept, KEEP_DAYS if keep_days is None else keep_days, dry_run=dry_run)
        for name, files in swept.items():
            print(f"{name}: {len(files)} files {'would go' if dry_run else 'removed'}")
        print(f"{data}: {sum(map(len, swept.values()))} files in {len(swept)} tables")
    elif order == "pin":
        if not table or version < 0 or not why.strip():
            raise InputError("pin needs a table, its version and --why, as: openami lake pin validated 12 --why 'order 17'")
        pin(kept, table, version, why, today)
        print(f"{table} version {version} is kept")
    else:
        if not before:
            raise InputError("retire needs --before, as: openami lake retire --before 2020-01-01")
        last = a_day(before, "--before")
        print(f"{data}: {retire(kept, last, today) or 'nothing retired'}")
