"""`openami serve`: a data folder's console, in one process or several, its head-end, its worker, or all of them."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .words import DEMO_FOLDER, DataOption, app

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from ..operate.roles import Console


MOST_PROCESSES = 64
HANDED_ON_S = 0.0005
"""How long a thread that reckons may keep the interpreter's lock from a page that wants it ten times: of 5 ms, as Python has it, a queue came."""
PATIENCE_S = 2.0
"""Of whoever started it, until they are told why it does not listen yet."""
KEEP_ALIVE_S = 75
"""How long a connection stays open between two pages: a new one costs a phone on 2G two seconds."""


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
    processes: Annotated[int, typer.Option(help="web and all: so many processes share the console's port (Linux), a core each.")] = 1,
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
    shared: Annotated[int, typer.Option(help="web: which of those that share the port this one is; 0 = nobody shares.", hidden=True)] = 0,
    until_input_ends: Annotated[bool, typer.Option("--until-input-ends", hidden=True)] = False,
) -> None:
    """Serve a data folder: the console; the head-end that takes meters' pushes, reads what they lack and carries out orders; the worker that
    collects and closes days; or all three on this machine, each started again when it ends."""
    from ..store.deployment import Folder

    folder = Folder(data)
    _check_processes(processes, role)
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
        with _port_for(processes, host, 8080 if port is None else port) as web_port:
            headend = ["--role", "headend", "--host", host, "--port", str(headend_port), *(["--udp"] if udp else [])]
            worker = ["--role", "worker", "--every", str(every), "--close-after", str(close_after)]
            beside = {"headend": headend, "worker": worker}
            _serve_together(data, beside | _consoles(processes, host, web_port), watch, log)
    elif processes > 1:
        folder.load()
        with _port_for(processes, host, 8080 if port is None else port) as web_port:
            _serve_together(data, _consoles(processes, host, web_port), watch, log)
    else:
        from ..operate.roles import web_role

        with web_role(folder, watch, log, until_input_ends=until_input_ends) as console:
            serve_console(data, host, 8080 if port is None else port, console, shared)


def _check_processes(processes: int, role: Role) -> None:
    if not 1 <= processes <= MOST_PROCESSES:
        raise InputError(f"--processes is {processes}; give 1 to {MOST_PROCESSES}, one for each core that the console may take")
    if processes > 1 and role not in (Role.WEB, Role.ALL):
        raise InputError(f"--processes is of the console; the {role} scales by being started again elsewhere (docs/operate.md)")
    if processes > 1 and sys.platform != "linux":
        raise InputError("--processes needs Linux, whose kernel spreads people over processes that share a port; leave it out here")


def _consoles(processes: int, host: str, port: int) -> dict[str, list[str]]:
    """Arguments of each process of the console, by name."""
    base = ["--role", "web", "--host", host, "--port", str(port)]
    if processes == 1:
        return {"web": base}
    return {f"web-{k}": [*base, "--shared", str(k)] for k in range(1, processes + 1)}


@contextlib.contextmanager
def _port_for(processes: int, host: str, port: int) -> Iterator[int]:
    """The port that several processes are going to share, kept for them; `port` itself for one."""
    if processes == 1:
        yield port
        return
    check_port(host, port)  # a port that is shared is given to whoever else shares: of another folder's console nobody would be told
    kept = bind(host, port, shared=True, listening=False)
    try:
        yield int(kept.getsockname()[1])
    finally:
        kept.close()


def _serve_together(data: Path, roles: dict[str, list[str]], watch: str | None, form: Form) -> None:
    """roles: arguments by name; each a process, whose figures, where they are wanted, are one port behind those of the one before it."""
    from ..operate import together
    from ..operate.logs import open_log
    from ..operate.watch import address

    open_log(form, "all")
    watching: list[list[str]] = [[] for _ in roles]
    if watch is not None:
        at, first = address(watch)
        watching = [["--watch", f"{at}:{first + k if first else 0}"] for k in range(len(roles))]
    base = ["--data", str(data), "--log", form]
    house = together.Together(
        [together.Role(name, [*base, *its, *watched]) for (name, its), watched in zip(roles.items(), watching, strict=True)]
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: house.stop())
    house.run()


def serve_console(data: Path, host: str, port: int, role: Console | None = None, shared: int = 0) -> None:
    """The latest closed day is read before it listens, so that whoever comes first waits as little as whoever comes later. role: what is around it
    where it is a role of a deployment; shared: which one of several at this port, whose first one speaks; 0 = alone."""
    import uvicorn

    from ..store.deployment import Folder
    from ..web.connections import Connection
    from ..web.house import open_house
    from ..web.reader import LakeTown

    def house() -> FastAPI:
        return open_house(LakeTown(Folder(data)))

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a console is meant to end
        app = house() if role is None else role.opened(house)
        listener = bind(host, port, shared=shared > 0, listening=False)
        with contextlib.nullcontext() if role is None else role.busy("the latest closed day is read before the console listens"):
            _read_ahead(app, speaks=shared <= 1)
        around = app if role is None else role.figures.around(app)
        sys.setswitchinterval(HANDED_ON_S)
        gc.freeze()  # what the program consists of is not looked through again for what could be given back
        quiet: dict[str, Any] = {"log_level": "warning", "log_config": None, "access_log": False, "server_header": False}
        actual = int(listener.getsockname()[1])
        config = uvicorn.Config(around, host, actual, http=Connection, ws="none", timeout_keep_alive=KEEP_ALIVE_S, **quiet)
        _server(config, lambda: _say_where(f"http://{host}:{actual}/", app) if shared <= 1 else None).run(sockets=[listener])


def _server(config: uvicorn.Config, say: Callable[[], None]) -> uvicorn.Server:
    """say: what it does once it listens and answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            for one in sockets or ():
                _listen(one, config.host, config.port)  # here: of a port that cannot be listened on uvloop says nothing
            await super().startup(sockets)
            say()

    return Server(config)


def _read_ahead(app: FastAPI, *, speaks: bool) -> None:
    """Said where it takes a while. In a thread, so that a signal ends it at once, however long a store takes to answer."""
    late = threading.Timer(
        PATIENCE_S, _say, ["the latest closed day is read before the console listens: of a million meters, some ten seconds"]
    )
    late.daemon = True
    if speaks:
        late.start()
    reading = threading.Thread(target=app.state.ahead.begin, name="ahead", daemon=True)
    try:
        reading.start()
        reading.join()
    finally:
        late.cancel()


def _say(sentence: str) -> None:
    from ..operate.logs import is_json

    if is_json():
        logging.getLogger("openami.web").info(sentence)
    else:
        print(f"{sentence[0].upper()}{sentence[1:]}", file=sys.stderr, flush=True)


def _say_where(address: str, app: FastAPI) -> None:
    from ..operate.logs import is_json
    from ..web.house import demo_credentials

    if is_json():
        _say(f"the console is at {address}")
        return
    _say(f"the console is at {address} - stop it with Ctrl-C")
    if known := demo_credentials(app):
        print(
            "Its sign-in page lets you in with one click, as operator, auditor, administrator, installer or consumer. By name:",
            file=sys.stderr,
        )
        print("\n".join(f"  {name:16s} {password}" for name, password in known), file=sys.stderr, flush=True)


def bind(host: str, port: int, *, shared: bool = False, listening: bool = True) -> socket.socket:
    """shared: with other processes of ours, among which the kernel spreads who comes; listening: False = the port is only kept, and nobody who comes
    waits at it."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _no_port(host, port, error) from None
    if listening:
        _listen(listener, host, port)
    return listener


def _listen(listener: socket.socket, host: str, port: int) -> None:
    """InputError where somebody else, who had kept the port as we did, listens by now."""
    try:
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise _no_port(host, port, error) from None


def _no_port(host: str, port: int, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot listen on {host}:{port} ({why}); give another --port, or 0 for any free one")


def check_port(host: str, port: int) -> None:
    """Before the long work: the port that the console will want is free."""
    bind(host, port).close()
