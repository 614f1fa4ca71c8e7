"""`openami ...`: the command line. Bad input ends with one clear sentence on standard error and exit code 2."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from . import __version__
from .errors import InputError, OpenAMIError

DEMO_FOLDER = Path("data/demo")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="**OpenAMI**, the open AMI platform: reads every smart meter, checks every reading, accounts for every unit and every rupee.\n\n"
    "Start with `openami demo`: a town of real households, from ciphered meter frames to prepaid statements and losses.",
)

DataOption = Annotated[Path, typer.Option("--data", help="The data folder.", show_default=True)]


class Role(StrEnum):
    WEB = "web"
    HEADEND = "headend"


INTERRUPTED = 130
USAGE_ERROR: type[Exception] = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""What Typer raises for a word that it does not understand; it carries its own copy of the class."""


def main() -> None:
    """The console script: runs the command, turns our errors and wrong words into one sentence and exit code 2."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    terminated = False

    def terminate(signum: int, frame: object) -> None:
        """SIGTERM ends as Ctrl-C does, so that what is being built is cleared away."""
        nonlocal terminated
        terminated = True
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGTERM, terminate)
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except OpenAMIError as error:
        _leave(str(error), 2)
    except USAGE_ERROR as error:
        said = getattr(error, "format_message", error.__str__)()
        _leave(f"{' '.join(said.split())} (openami --help shows what there is)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _leave("stopped; nothing was half-written", 143 if terminated else INTERRUPTED)
    if terminated or code == INTERRUPTED:  # Typer gives back Ctrl-C's exit code as a command's own
        _leave("stopped; nothing was half-written", 143 if terminated else INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(sentence: str, code: int) -> NoReturn:
    print(f"openami: {sentence}", file=sys.stderr)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        print(f"openami {__version__}")
        raise typer.Exit


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
    from .demo.run import TARIFFS, Wish, run_demo
    from .demo.table import print_report, stages

    first_day = _day(start)
    if serve:
        _check_port("127.0.0.1", port)
    wish = Wish(data, meters, days, _seed(seed), first_day, tuple(tariff) if tariff else TARIFFS)
    with stages(quiet=as_json) as stage:
        report = run_demo(wish, stage)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        print_report(report)
    if not all(report["holds"].values()):
        raise InputError("the result does not agree with what was planted: " + "; ".join(k for k, ok in report["holds"].items() if not ok))
    if serve:
        _serve_console(data, "127.0.0.1", port)


@app.command()
def serve(
    data: DataOption = DEMO_FOLDER,
    role: Annotated[Role, typer.Option(help="web: the console. headend: the push listener for meters.")] = Role.WEB,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; 0 = any free one. Default 8080 for web, 4059 for headend.")] = None,
    until_input_ends: Annotated[bool, typer.Option("--until-input-ends", hidden=True)] = False,
) -> None:
    """Serve a data folder: the console, or the head-end that takes meters' pushes."""
    from .store.deployment import Folder

    if role is Role.HEADEND:
        from .headend.process import run_headend

        run_headend(Folder(data), host, 4059 if port is None else port, until_input_ends=until_input_ends)
    else:
        _serve_console(data, host, 8080 if port is None else port)


@app.command()
def history(
    order: Annotated[str, typer.Argument(metavar="rebuild|behind")],
    data: DataOption = DEMO_FOLDER,
    everything: Annotated[bool, typer.Option("--all", help="rebuild: every month, also those that are up to date.")] = False,
) -> None:
    """Keep the meter-ordered history of closed days: rebuild what is behind the validated readings, or only tell it."""
    from .store.deployment import Folder
    from .store.history import History
    from .store.lake import Lake

    if order not in ("rebuild", "behind"):
        raise InputError(f"{order!r} is nothing to do with a history; write rebuild or behind")
    folder = Folder(data)
    folder.load()
    kept = History(Lake(folder.lake))
    if order == "behind":
        for day, shard in kept.behind():
            print(f"{day} shard {shard}")
    else:
        for month in kept.rebuild(everything=everything):
            print(f"{month.month:%Y-%m} {month.channel} shard {month.shard}")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A benchmark's name, or all.")] = "all",
    meters: Annotated[int | None, typer.Option(help="How many meters; left out = the benchmark's own size.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure speed and memory on this machine, beside what one would use instead."""
    from .bench import run_bench

    if meters is not None and meters < 1:
        raise InputError(f"--meters {meters}: give 1 or more")
    for each in run_bench(name, meters):
        if as_json:
            print(json.dumps(each), flush=True)
        else:
            peer = f"  ({each['peer']})" if "peer" in each else ""
            print(f"{each['bench']:10s}{each['metric']:28s}{each['value']:>16,.4g} {each['unit']}{peer}", flush=True)


UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="The meter, as tcp://HOST:PORT.")]
ClientOption = Annotated[str, typer.Option(help="Who asks: public (16), mr (32), us (48), or a number.")]
HdlcOption = Annotated[bool, typer.Option("--hdlc", help="HDLC framing instead of the wrapper.")]
PasswordOption = Annotated[str | None, typer.Option(help="Password of the meter reader (LLS).")]
HlsOption = Annotated[str | None, typer.Option(help="High-level authentication: 2 (AES-128), 5 (GMAC), 6 (SHA-256).")]
HlsSecretOption = Annotated[str | None, typer.Option(help="Its shared secret; text, or 0x... for bytes.")]
EkOption = Annotated[str | None, typer.Option(help="Global encryption key, hex.")]
AkOption = Annotated[str | None, typer.Option(help="Authentication key, hex.")]
TitleOption = Annotated[str | None, typer.Option(help="Our own system title, 16 hex digits.")]
CounterOption = Annotated[int | None, typer.Option(help="Invocation counter to start from; left out = ask the meter.")]
GeneralOption = Annotated[bool, typer.Option("--general", help="general-glo-ciphering instead of the service-specific forms.")]
ServerOption = Annotated[int, typer.Option(help="Logical device of the meter.")]
TimeoutOption = Annotated[float, typer.Option(help="Patience for each answer, seconds.")]
TraceOption = Annotated[bool, typer.Option("--trace", help="Show the bytes on standard error; secrets are blanked.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.command()
def read(
    url: UrlArgument,
    objects: Annotated[
        list[str], typer.Argument(metavar="OBJECT...", help="A name (nameplate, clock, block_load ...) or CLASS:OBIS:ATTRIBUTE.")
    ],
    client: ClientOption = "public",
    hdlc: HdlcOption = False,
    password: PasswordOption = None,
    hls: HlsOption = None,
    hls_secret: HlsSecretOption = None,
    ek: EkOption = None,
    ak: AkOption = None,
    system_title: TitleOption = None,
    counter: CounterOption = None,
    general: GeneralOption = False,
    server: ServerOption = 1,
    first: Annotated[str | None, typer.Option("--from", help="Profiles from this time on, local.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Profiles up to this time, local.")] = None,
    timeout: TimeoutOption = 15.0,
    trace: TraceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read objects of a meter: registers with units, profiles as tables."""
    from .field import read as field_read
    from .field.access import Access, patience

    access = Access(url, client, hdlc, password, hls, hls_secret, ek, ak, system_title, counter, general, server)
    asked = field_read.Asked(tuple(objects), field_read.parse_time(first, "--from"), field_read.parse_time(last, "--to"))
    found = field_read.run(access, asked, patience(timeout), _trace if trace else None)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        field_read.show(found)


@app.command()
def relay(
    url: UrlArgument,
    order: Annotated[str, typer.Argument(metavar="off|on|state")],
    client: ClientOption = "us",
    hdlc: HdlcOption = False,
    password: PasswordOption = None,
    hls: HlsOption = None,
    hls_secret: HlsSecretOption = None,
    ek: EkOption = None,
    ak: AkOption = None,
    system_title: TitleOption = None,
    counter: CounterOption = None,
    general: GeneralOption = False,
    server: ServerOption = 1,
    wait: Annotated[float, typer.Option(help="How long to wait until the relay stands as ordered, seconds.")] = 60.0,
    timeout: TimeoutOption = 15.0,
    trace: TraceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Switch a meter's relay, or read its state. Done only when the meter says that the contact stands as ordered (else exit code 3)."""
    from .field import relay as field_relay
    from .field.access import Access, patience, seconds

    if order not in list(field_relay.Order):
        raise InputError(f"{order!r} is no order for a relay; write off, on or state")
    access = Access(url, client, hdlc, password, hls, hls_secret, ek, ak, system_title, counter, general, server)
    patient_s = seconds(wait, "--wait", 0.0, 86_400.0)
    result = field_relay.run(access, field_relay.Order(order), patient_s, patience(timeout), _trace if trace else None)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['control_state']}, output {'on' if result['output'] else 'off'}, control mode {result['control_mode']}")
    if not result["done"]:
        print(f"openami: the relay does not stand as ordered after {wait:g} s; ask again with: openami relay {url} state", file=sys.stderr)
        raise typer.Exit(3)


@app.command()
def listen(
    meters: Annotated[Path, typer.Option(help="JSON or CSV with serial, system_title, ek, ak (hex).")],
    port: Annotated[int, typer.Option(help="TCP and UDP port; 0 = any free one.")] = 4059,
    host: Annotated[str, typer.Option(help="Address to listen on; :: for IPv6.")] = "127.0.0.1",
    journal: Annotated[Path | None, typer.Option(help="Keep the frames in this journal file; left out = forget them at the end.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take meters' pushes and print one line for each: decoded, or refused with its cause."""
    from .field import listen as field_listen

    def tell(push: dict[str, object]) -> None:
        print(json.dumps(push, ensure_ascii=False) if as_json else _line(push), flush=True)

    field_listen.run(field_listen.load_meters(meters), field_listen.Listening(host, port, journal), tell)


@app.command()
def decode(
    source: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="A file of frames, - for standard input, or the hex digits themselves.")
    ] = "-",
    key: Annotated[str | None, typer.Option(help="Global encryption key, hex: shows what is inside ciphered APDUs.")] = None,
    auth_key: Annotated[str | None, typer.Option(help="Authentication key, hex: checks their tags.")] = None,
    system_title: Annotated[str | None, typer.Option(help="The sender's, 16 hex digits, where the frames leave it out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain any frame layer by layer: HDLC, M-Bus, wrapper, APDU, ciphering, data."""
    from .field import decode as field_decode

    secrets = field_decode.secrets_from(key, auth_key, system_title)
    nodes = field_decode.decode(*field_decode.read_input(source), secrets)
    if as_json:
        print(json.dumps([node.as_json() for node in nodes], indent=1, ensure_ascii=False))
    else:
        field_decode.show(nodes)
    if wrong := field_decode.complaint(nodes):
        raise InputError(wrong)


@app.command()
def meter(
    port: Annotated[int, typer.Option(help="TCP port; 0 = any free one.")] = 4059,
    host: Annotated[str, typer.Option(help="Address to listen on; :: for IPv6.")] = "127.0.0.1",
    hdlc: HdlcOption = False,
    serial: Annotated[str, typer.Option(help="Its serial number.")] = "XMA0000001",
    system_title: Annotated[str | None, typer.Option(help="Its system title, 16 hex digits; left out = from the serial number.")] = None,
    ek: Annotated[str | None, typer.Option(help="Global encryption key, hex; left out = made up.")] = None,
    ak: Annotated[str | None, typer.Option(help="Authentication key, hex; left out = made up.")] = None,
    password: Annotated[str | None, typer.Option(help="Password of the meter reader (LLS); left out = made up.")] = None,
    hls_secret: Annotated[
        str | None, typer.Option(help="Secret of clients 48 and 80; text, or 0x... for bytes; left out = made up.")
    ] = None,
    hls: Annotated[str, typer.Option(help="Mechanism of clients 48 and 80: 2 (AES-128), 5 (GMAC) or 6 (SHA-256).")] = "2",
    control_mode: Annotated[int, typer.Option(help="Of the relay, 0 to 6.")] = 6,
    days: Annotated[int, typer.Option(help="Days of block and daily load that it holds, 1 to 90.")] = 7,
    seed: Annotated[int, typer.Option(help="Which real household it measures.")] = 1,
    period: Annotated[int, typer.Option(help="Capture period of block load, 15 or 30 minutes.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Run one simulated IS 15959 meter: prints its credentials and contents, then serves any client until Ctrl-C."""
    from .field import meter as field_meter

    wish = field_meter.Wish(
        host, port, hdlc, serial, system_title, ek, ak, password, hls_secret, hls, control_mode, days, _seed(seed), period
    )
    field_meter.run(wish, lambda said: print(json.dumps(said) if as_json else field_meter.line(said), flush=True))


def _line(push: dict[str, object]) -> str:
    if "refused" in push:
        return f"refused  {push['refused']}  {push['serial'] or '-'}  {push['why']}"
    return f"push     {push['serial']}  {push['body']}"


def _trace(direction: str, octets: str) -> None:
    """Prints bytes as hex; secrets are blanked already."""
    print(f"{direction:9s}{octets}", file=sys.stderr)


@app.command()
def close(data: DataOption = DEMO_FOLDER) -> None:
    """Close the days of a data folder again: journal to raw, checked, billed, told, balanced. Safe to repeat; the head-end may go on."""
    from .day import Site, close_all, collect
    from .demo.table import stages
    from .store.deployment import Folder

    site = Site.open(Folder(data))
    with stages(quiet=False) as stage:
        causes = collect(site, stage("Decode the journal into day grids", site.journal_frames()))
        close_all(site, stage("Validate, bill, balance", site.deployment.days * len(site.rows.shards())))
    refused = ", ".join(f"{count:,} {cause}" for cause, count in sorted(causes.items())) or "none"
    print(f"{data}: {site.deployment.days} days from {site.deployment.first_day}; frames refused: {refused}")


def _serve_console(data: Path, host: str, port: int) -> None:
    import uvicorn

    from .store.deployment import Folder
    from .web import create_app
    from .web.reader import LakeTown

    town = LakeTown(Folder(data))
    listener = _bind(host, port)
    actual = listener.getsockname()[1]
    print(f"The console is at http://{host}:{actual}/ - stop it with Ctrl-C", file=sys.stderr, flush=True)
    config = uvicorn.Config(create_app(town), log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a console is meant to end
        uvicorn.Server(config).run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
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


def _check_port(host: str, port: int) -> None:
    """Before the long work: the port that the console will want is free."""
    _bind(host, port).close()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--start {text!r} is not a date; write year-month-day, as 2025-12-01") from None


def _seed(seed: int) -> int:
    if seed < 0:
        raise InputError(f"--seed {seed} is negative; give 0 or more")
    return seed
