"""`openami edit`: a person's correction of a reading."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .words import DEMO_FOLDER, DataOption, a_day, app


@app.command()
def edit(
    meter: Annotated[str, typer.Argument(help="The meter's serial number.")],
    day: Annotated[str, typer.Argument(help="The local day, as 2025-12-01.")],
    begins: Annotated[str, typer.Argument(help="When the interval begins, local time, as 13:30.")],
    value: Annotated[float | None, typer.Argument(help="The value in the channel's unit; left out = earlier edits are taken back.")] = None,
    person: Annotated[str, typer.Option("--by", help="Who corrects it.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    channel: Annotated[str, typer.Option(help="Which channel.")] = "import_wh",
    second: Annotated[bool, typer.Option("--second", help="The second time that the clock shows it, on a day of 25 hours.")] = False,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Correct a reading: kept with who and why, and the day is reckoned again. What was told stays; the difference becomes an adjustment."""
    from ..day import Site
    from ..day.edit import Correction, correct
    from ..store.deployment import Folder

    site = Site.open(Folder(data))
    wanted = Correction(meter, a_day(day, "DAY"), begins, value, channel, second)
    reckoned = correct(site, [wanted], person, reason, time.time_ns() // 1000)
    said = "as the meter said" if value is None else f"{value:g}"
    print(f"{meter} {day} {begins} {channel}: {said}; " + ("the day was reckoned again" if reckoned else "the day is not closed yet"))
