"""`openami config check`, `health`, `backup`, `restore`: an operator's commands for a whole deployment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .words import DEMO_FOLDER, DataOption, JsonOption, app

config_app = typer.Typer(no_args_is_help=True, help="The settings of a deployment.")
app.add_typer(config_app, name="config")


@config_app.command()
def check(
    data: DataOption = DEMO_FOLDER,
    reach: Annotated[bool, typer.Option("--reach", help="Also open the database, the journal and the lake that are named.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What is wrong with the settings, and where: file, line, key, why, and the way out. Ends with 2 if OpenAMI could not run so."""
    from ..operate import configuration
    from ..store.deployment import Folder

    found = configuration.check(Folder(data), reach=reach)
    if as_json:
        print(json.dumps([one.as_json() for one in found], indent=1, ensure_ascii=False))
    else:
        for one in found:
            print(one)
        if not found:
            print(f"right   {data}: settings, secrets and addresses{' that answer' if reach else ''}")
    if any(one.serious for one in found):
        raise typer.Exit(2)


@app.command()
def health(
    watch: Annotated[str, typer.Option(envvar="OPENAMI_WATCH", help="Where the role was told to answer.")] = "127.0.0.1:9464",
    ready: Annotated[bool, typer.Option("--ready", help="Whether it should be given work, not only whether it is alive.")] = False,
) -> None:
    """How a running role is, for a supervisor: ends with 0 and says nothing, or with 1 and says why."""
    from ..operate.watch import address, against

    if why := against(address(watch), "/ready" if ready else "/live"):
        print("\n".join(why))
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    data: DataOption = DEMO_FOLDER,
    before: Annotated[Path | None, typer.Option("--like", help="An earlier backup on the same disk: unchanged files are linked.")] = None,
) -> None:
    """Copy everything that cannot be made again, while head-end, workers and console run. The master key stays where it is: keep it apart."""
    from ..operate.backup import make_backup
    from ..store.deployment import Folder

    print(make_backup(Folder(data), target, before))


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup.")],
    data: Annotated[Path, typer.Option("--data", help="A folder that is not there yet.")],
    master_key: Annotated[Path | None, typer.Option(help="The file of the master key, to be put into place.")] = None,
    database: Annotated[str | None, typer.Option(help="An empty PostgreSQL database, env:NAME or file:PATH; left out = a file.")] = None,
    journal: Annotated[
        str | None, typer.Option(help="A NATS stream that is not there yet, nats://host:4222/stream; left out = a file.")
    ] = None,
) -> None:
    """Make a data folder of a backup: every file checked, every total reckoned again and compared."""
    from ..operate.restore import restore_backup
    from ..store.deployment import Folder

    print(restore_backup(source, Folder(data), master_key, database, journal))
