"""`openami decode`, `read`, `relay`, `listen`, `meter`: one meter, one frame, one order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .words import JsonOption, app, seed_of

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="The meter, as tcp://HOST:PORT or udp://HOST:PORT.")]
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
PhysicalOption = Annotated[int | None, typer.Option(help="Physical device on the HDLC line (lower address); left out = none.")]
SecurityOption = Annotated[
    str | None,
    typer.Option(help="Security control byte, as 0x20, 0x30, 0x31; left out = what IS 15959 gives the client, or more if asked."),
]
ServerOption = Annotated[int, typer.Option(help="Logical device of the meter.")]
TimeoutOption = Annotated[float, typer.Option(help="Patience for each answer, seconds.")]
TraceOption = Annotated[bool, typer.Option("--trace", help="Show the bytes on standard error; secrets are blanked.")]


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
    security: SecurityOption = None,
    physical: PhysicalOption = None,
    first: Annotated[str | None, typer.Option("--from", help="Profiles from this time on, local.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Profiles up to this time, local.")] = None,
    timeout: TimeoutOption = 15.0,
    trace: TraceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read objects of a meter: registers with units, profiles as tables."""
    from ..field import read as field_read
    from ..field.access import Access, patience

    access = Access(url, client, hdlc, password, hls, hls_secret, ek, ak, system_title, counter, general, server, security, physical)
    asked = field_read.Asked(tuple(objects), field_read.parse_time(first, "--from"), field_read.parse_time(last, "--to"))
    found = field_read.run(access, asked, patience(timeout), _trace if trace else None)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        field_read.show(found)
    if denied := field_read.complaint(found):
        raise InputError(denied)


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
    security: SecurityOption = None,
    physical: PhysicalOption = None,
    wait: Annotated[float, typer.Option(help="How long to wait until the relay stands as ordered, seconds.")] = 60.0,
    timeout: TimeoutOption = 15.0,
    trace: TraceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Switch a meter's relay, or read its state. Done only when the meter says that the contact stands as ordered (else exit code 3)."""
    from ..field import relay as field_relay
    from ..field.access import Access, patience, seconds

    if order not in list(field_relay.Order):
        raise InputError(f"{order!r} is no order for a relay; write off, on or state")
    access = Access(url, client, hdlc, password, hls, hls_secret, ek, ak, system_title, counter, general, server, security, physical)
    patient_s = seconds(wait, "--wait", 0.0, 86_400.0)
    result = field_relay.run(access, field_relay.Order(order), patient_s, patience(timeout), _trace if trace else None)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        mode = "not told" if result["control_mode"] is None else result["control_mode"]
        print(f"{result['control_state']}, output {'on' if result['output'] else 'off'}, control mode {mode}")
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
    """Take meters' pushes, in wrapper frames or over TCP also in HDLC frames, and print one line for each: decoded, or refused with its cause."""
    from ..field import listen as field_listen

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
    from ..field import decode as field_decode

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
    port: Annotated[int, typer.Option(help="TCP (or UDP) port; 0 = any free one.")] = 4059,
    host: Annotated[str, typer.Option(help="Address to listen on; :: for IPv6.")] = "127.0.0.1",
    hdlc: HdlcOption = False,
    udp: Annotated[bool, typer.Option("--udp", help="Serve UDP datagrams instead of TCP connections (wrapper only).")] = False,
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
    push_to: Annotated[str | None, typer.Option(help="Push to this head-end, HOST:PORT, ciphered as client 64.")] = None,
    push_udp: Annotated[bool, typer.Option("--push-udp", help="Push by UDP datagrams instead of TCP.")] = False,
    push_every: Annotated[float, typer.Option(help="Push the instantaneous values every so many seconds; 0 = once.")] = 0.0,
    unconfirmed: Annotated[bool, typer.Option("--unconfirmed", help="Ask for no confirmation of pushes.")] = False,
    suite: Annotated[int, typer.Option(help="Security suite: 0 or 1 (keys of 16 bytes), 2 (AES-256, keys of 32).")] = 0,
    last_gasp: Annotated[float | None, typer.Option(help="The supply fails so many seconds after the start.")] = None,
    outage: Annotated[float, typer.Option(help="And comes back after so many seconds (first breath).")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Run one simulated IS 15959 meter: prints its credentials and contents, then serves any client, and pushes where told to, until Ctrl-C."""
    from ..field import meter as field_meter

    wish = field_meter.Wish(
        host, port, hdlc, udp, serial, system_title, ek, ak, password, hls_secret, hls, control_mode, days, seed_of(seed), period,
        push_to, push_udp, push_every, not unconfirmed, last_gasp, outage, suite,
    )  # fmt: skip
    field_meter.run(wish, lambda said: print(json.dumps(said) if as_json else field_meter.line(said), flush=True))


def _line(push: dict[str, object]) -> str:
    if "refused" in push:
        said = f"  {push['body']}" if "body" in push else ""
        return f"refused  {push['refused']}  {push['serial'] or '-'}  {push['why']}{said}"
    bits = push.get("status")
    status = f"  [{', '.join(map(str, bits)) or 'all clear'}]" if isinstance(bits, list) else ""
    return f"push     {push['serial']}  {push.get('kind') or 'push'}{status}  {push['body']}"


def _trace(direction: str, octets: str) -> None:
    """Prints bytes as hex; secrets are blanked already."""
    print(f"{direction:9s}{octets}", file=sys.stderr)
