"""`openami serve`: a data folder's console, or its head-end."""

from __future__ import annotations

import contextlib
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, app


class Role(StrEnum):
    WEB = "web"
    HEADEND = "headend"


@app.command()
def serve(
    data: DataOption = DEMO_FOLDER,
    role: Annotated[Role, typer.Option(help="web: the console. headend: pushes taken, gaps read, orders carried out.")] = Role.WEB,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; 0 = any free one. Default 8080 for web, 4059 for headend.")] = None,
    udp: Annotated[bool, typer.Option("--udp", help="headend: take pushes over UDP too, on the same port.")] = False,
    until_input_ends: Annotated[bool, typer.Option("--until-input-ends", hidden=True)] = False,
) -> None:
    """Serve a data folder: the console, or the head-end that takes meters' pushes, reads what they lack and carries out orders."""
    from ..store.deployment import Folder

    if role is Role.HEADEND:
        from ..day.guarding import folder_guard
        from ..headend.process import run_headend
        from ..headend.whole import Wish

        folder = Folder(data)
        run_headend(folder, Wish(host, 4059 if port is None else port, udp), folder_guard(folder), until_input_ends=until_input_ends)
    else:
        serve_console(data, host, 8080 if port is None else port)


def serve_console(data: Path, host: str, port: int) -> None:
    import uvicorn

    from ..store.deployment import Folder
    from ..web.house import demo_credentials, open_house
    from ..web.reader import LakeTown

    town = LakeTown(Folder(data))
    app = open_house(town)
    listener = bind(host, port)
    actual = listener.getsockname()[1]
    print(f"The console is at http://{host}:{actual}/ - stop it with Ctrl-C", file=sys.stderr, flush=True)
    if known := demo_credentials(app):
        print(
            "Its sign-in page lets you in with one click, as operator, auditor, administrator, installer or consumer. By name:",
            file=sys.stderr,
        )
        print("\n".join(f"  {name:16s} {password}" for name, password in known), file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a console is meant to end
        uvicorn.Server(config).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host}:{port} ({why}); give another --port, or 0 for any free one") from None
    return listener


def check_port(host: str, port: int) -> None:
    """Before the long work: the port that the console will want is free."""
    bind(host, port).close()
