"""`openami serve`: a data folder's console, its head-end, its worker, or all of them."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, app

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..operate.roles import Console


class Role(StrEnum):
    WEB = "web"
    HEADEND = "headend"
    WORKER = "worker"
    ALL = "all"


class Form(StrEnum):
    PLAIN = "plain"
    JSON = "json"


@app.command()
def serve(
    data: DataOption = DEMO_FOLDER,
    role: Annotated[
        Role,
        typer.Option(help="web: the console. headend: pushes taken, gaps read, orders carried out. worker: days collected and closed."),
    ] = Role.WEB,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; 0 = any free one. Default 8080 for web and all, 4059 for headend.")] = None,
    headend_port: Annotated[int, typer.Option(help="all: the meters' port.")] = 4059,
    udp: Annotated[bool, typer.Option("--udp", help="headend: take pushes over UDP too, on the same port.")] = False,
    shard: Annotated[list[int] | None, typer.Option(help="worker: only this shard of a replicated journal; may be given again.")] = None,
    name: Annotated[str, typer.Option(help="worker: under which the journal remembers how far it is.")] = "worker",
    every: Annotated[float, typer.Option(help="worker: seconds between rounds.")] = 60.0,
    close_after: Annotated[int, typer.Option(help="worker: minutes behind a day's end until it is closed.")] = 480,
    watch: Annotated[
        str | None,
        typer.Option(envvar="OPENAMI_WATCH", help="Where /metrics, /live and /ready answer, as 127.0.0.1:9464. Default: nowhere."),
    ] = None,
    log: Annotated[
        Form, typer.Option(envvar="OPENAMI_LOG", help="The log on standard error: plain, or json, a line an event.")
    ] = Form.PLAIN,
    until_input_ends: Annotated[bool, typer.Option("--until-input-ends", hidden=True)] = False,
) -> None:
    """Serve a data folder: the console; the head-end that takes meters' pushes, reads what they lack and carries out orders; the worker that
    collects and closes days; or all three on this machine, each started again when it ends."""
    from ..store.deployment import Folder

    folder = Folder(data)
    if role is Role.HEADEND:
        from ..headend.whole import Wish
        from ..operate.roles import run_headend_role

        run_headend_role(folder, Wish(host, 4059 if port is None else port, udp), watch, log, until_input_ends=until_input_ends)
    elif role is Role.WORKER:
        from ..operate.roles import run_worker_role
        from ..operate.worker import Task

        if every <= 0 or close_after < 0:
            raise InputError("--every must be more than 0 seconds, --close-after 0 minutes or more")
        task = Task(tuple(shard) if shard else None, name, every, 60 * close_after)
        run_worker_role(folder, task, watch, log, until_input_ends=until_input_ends)
    elif role is Role.ALL:
        folder.load()
        worker = ["--every", str(every), "--close-after", str(close_after)]
        _serve_all(data, host, headend_port, 8080 if port is None else port, ["--udp"] if udp else [], worker, watch, log)
    else:
        from ..operate.roles import web_role

        with web_role(folder, watch, log, until_input_ends=until_input_ends) as console:
            serve_console(data, host, 8080 if port is None else port, console)


def _serve_all(
    data: Path, host: str, headend_port: int, web_port: int, headend: list[str], worker: list[str], watch: str | None, form: Form
) -> None:
    from ..operate import together
    from ..operate.logs import open_log
    from ..operate.watch import address

    open_log(form, "all")
    watching: list[list[str]] = [[], [], []]
    if watch is not None:
        at, first = address(watch)
        watching = [["--watch", f"{at}:{first + k if first else 0}"] for k in range(3)]
    base = ["--data", str(data), "--log", form]
    roles = [
        together.Role("headend", [*base, "--role", "headend", "--host", host, "--port", str(headend_port), *headend, *watching[0]]),
        together.Role("worker", [*base, "--role", "worker", *worker, *watching[1]]),
        together.Role("web", [*base, "--role", "web", "--host", host, "--port", str(web_port), *watching[2]]),
    ]
    house = together.Together(roles)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: house.stop())
    house.run()


def serve_console(data: Path, host: str, port: int, role: Console | None = None) -> None:
    """role: what is around it where it is a role of a deployment."""
    import uvicorn

    from ..operate.logs import is_json
    from ..store.deployment import Folder
    from ..web.house import demo_credentials, open_house
    from ..web.reader import LakeTown

    def house() -> FastAPI:
        return open_house(LakeTown(Folder(data)))

    app = house() if role is None else role.opened(house)
    listener = bind(host, port)
    actual = listener.getsockname()[1]
    told = is_json()
    if told:
        logging.getLogger("openami.web").info("the console is at http://%s:%d/", host, actual)
    else:
        print(f"The console is at http://{host}:{actual}/ - stop it with Ctrl-C", file=sys.stderr, flush=True)
    if not told and (known := demo_credentials(app)):
        print(
            "Its sign-in page lets you in with one click, as operator, auditor, administrator, installer or consumer. By name:",
            file=sys.stderr,
        )
        print("\n".join(f"  {name:16s} {password}" for name, password in known), file=sys.stderr, flush=True)
    config = uvicorn.Config(
        app if role is None else role.figures.around(app), log_level="warning", log_config=None, access_log=False, server_header=False
    )
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
