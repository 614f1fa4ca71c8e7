"""One simulated meter on a port, for a person or any other client to talk to (`openami meter`).

It says first what it is: identity and secrets (it is a simulator, and they are made up where none are given), who may do what, and what its
profiles hold. Then it serves until it is stopped, with a line for each request, association and refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..cosem.acse import Mechanism
from ..cosem.apdu import AccessResult, Ref
from ..cosem.axdr import Data, Tag
from ..cosem.ciphering import Keys
from ..cosem.clock import CosemDateTime
from ..cosem.objects import read_scaler_unit
from ..cosem.profile import Capture
from ..cosem.server import Confirmed, Ended, Event, Opened, Served
from ..errors import InputError
from ..fleet.associations import MeterIdentity
from ..fleet.device import MeterDevice, build_device, check_serial
from ..fleet.pusher import NotPushed, Pushed, Pusher, Target
from ..fleet.serve import DeviceServer, serve_device
from ..fleet.serve_udp import DatagramServer, serve_datagrams
from .access import seconds
from .apdus import code_words
from .obis import obis_name

HLS = {"2": Mechanism.HLS, "5": Mechanism.HLS_GMAC, "6": Mechanism.HLS_SHA256}
_LETTERS = string.ascii_letters + string.digits
MAKER, MODEL = "OAM", "SIM-1P"
"""What push layouts know it as (`cosem/data/register_layouts.toml`)."""
Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """The words of the command line. Keys and title in hex; password and hls_secret as text, or 0x... for bytes; None = made up."""

    host: str = "127.0.0.1"
    port: int = 4059
    hdlc: bool = False
    udp: bool = False
    serial: str = "XMA0000001"
    system_title: str | None = None
    ek: str | None = None
    ak: str | None = None
    password: str | None = None
    hls_secret: str | None = None
    hls: str = "2"
    control_mode: int = 6
    days: int = 7
    seed: int = 1
    period_minutes: int = 30
    push_to: str | None = None
    push_udp: bool = False
    push_every_s: float = 0.0
    push_confirmed: bool = True
    last_gasp_s: float | None = None
    outage_s: float = 30.0
    suite: int = 0

    def target(self) -> Target | None:
        """Where pushes go, None for nowhere. InputError for words that do not belong together."""
        if self.push_to is None:
            if self.push_every_s or self.push_udp or not self.push_confirmed:
                raise InputError("--push-every, --push-udp and --unconfirmed say how to push; give --push-to HOST:PORT as well")
            return None
        if self.push_every_s:
            seconds(self.push_every_s, "--push-every", 1.0, 86_400.0)
        return Target.parse(self.push_to, self.push_udp)

    def outage(self) -> tuple[float, float] | None:
        """(when the supply goes, for how long) [s], None for never."""
        if self.last_gasp_s is None:
            return None
        return seconds(self.last_gasp_s, "--last-gasp", 0.0, 86_400.0), seconds(self.outage_s, "--outage", 1.0, 86_400.0)

    def identity(self) -> MeterIdentity:
        """InputError where a word is not what it should be."""
        check_serial(self.serial)
        if self.hls not in HLS:
            raise InputError(f"--hls {self.hls!r} is not offered by this meter; write 2 (AES-128), 5 (GMAC) or 6 (SHA-256)")
        password = _secret(self.password) if self.password else "".join(secrets.choice(string.digits) for _ in range(8)).encode()
        secret = _secret(self.hls_secret) if self.hls_secret else "".join(secrets.choice(_LETTERS) for _ in range(16)).encode()
        if self.hls == "2" and len(secret) != 16:
            raise InputError(f"--hls-secret has {len(secret)} bytes; mechanism 2 (AES-128) takes 16")
        if self.suite not in (0, 1, 2):
            raise InputError(f"--suite {self.suite} does not exist; give 0 or 1 (AES-128) or 2 (AES-256)")
        size = 32 if self.suite == 2 else 16
        keys = Keys(_key(self.ek, "--ek", size), _key(self.ak, "--ak", size))
        return MeterIdentity(self.serial, self._title(), keys, password, secret, secrets.token_bytes(size), HLS[self.hls], self.suite)

    def _title(self) -> bytes:
        if self.system_title is not None:
            return _hex(self.system_title, "--system-title", 8)
        digits = "".join(letter for letter in self.serial if letter.isdigit()) or "0"
        return self.serial[:3].encode().ljust(3, b"X") + (int(digits) % (1 << 40)).to_bytes(5, "big")


def _hex(text: str, option: str, size: int) -> bytes:
    try:
        octets = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        octets = b""
    if len(octets) != size:
        raise InputError(f"{option} takes {2 * size} hex digits ({size} bytes)")
    return octets


def _secret(text: str) -> bytes:
    if not text.startswith("0x"):
        return text.encode()
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise InputError("a secret that begins with 0x must be hexadecimal") from None


def _key(text: str | None, option: str, size: int) -> bytes:
    return secrets.token_bytes(size) if text is None else _hex(text, option, size)


def run(wish: Wish, say: Say) -> None:
    """Serves the meter until Ctrl-C. say: told first what the meter is, then every event, as JSON-ready dictionaries."""
    target, outage = wish.target(), wish.outage()
    if wish.udp and wish.hdlc:
        raise InputError("--hdlc and --udp do not go together; HDLC is served over TCP, UDP carries the wrapper")
    device = build_device(
        wish.identity(),
        int(time.time()),
        seed=wish.seed,
        days=wish.days,
        period_s=60 * wish.period_minutes,
        control_mode=wish.control_mode,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(device, wish, target, outage, say))


async def _serve(device: MeterDevice, wish: Wish, target: Target | None, outage: tuple[float, float] | None, say: Say) -> None:
    server: DeviceServer | DatagramServer
    if wish.udp:
        server = await serve_datagrams(device, wish.host, wish.port, told=lambda event: say(event_said(event)))
    else:
        server = await serve_device(device, wish.host, wish.port, wish.hdlc, told=lambda event: say(event_said(event)))
    async with server, asyncio.TaskGroup() as doing:
        say(describe(device, wish, server))
        if target is not None:
            pusher = Pusher(device, target, lambda event: say(push_said(event)), wish.push_every_s)
            doing.create_task(pusher.run(wish.push_confirmed))
        if outage is not None:
            doing.create_task(_outage(device, server, *outage, say))
        await server.forever()


async def _outage(device: MeterDevice, server: DeviceServer | DatagramServer, after_s: float, for_s: float, say: Say) -> None:
    """The supply goes and comes back: last gasp, silence, first breath."""
    await asyncio.sleep(after_s)
    device.power_off(int(time.time()))
    server.go_dark()
    say({"event": "supply off"})
    await asyncio.sleep(for_s)
    device.power_on(int(time.time()))
    server.go_light()
    say({"event": "supply on"})


def push_said(event: Pushed | NotPushed) -> dict[str, Any]:
    """What became of a push."""
    if isinstance(event, NotPushed):
        return {"event": "not pushed", "kind": event.kind, "setup": event.setup, "why": event.why}
    return {"event": "pushed", **event._asdict()}


def describe(device: MeterDevice, wish: Wish, server: DeviceServer | DatagramServer) -> dict[str, Any]:
    """What the meter is: address, secrets, clients, profiles with their rows."""
    identity = device.identity
    host = f"[{wish.host}]" if ":" in wish.host else wish.host
    return {
        "meter": identity.serial,
        "maker": MAKER,
        "model": MODEL,
        "url": f"{'udp' if wish.udp else 'tcp'}://{host}:{server.port}",
        "framing": "hdlc" if wish.hdlc else "wrapper",
        "server_address": device.address,
        "system_title": identity.system_title.hex(),
        "ek": identity.keys.ek.hex(),
        "ak": identity.keys.ak.hex(),
        "password": _text(identity.password),
        "hls_secret": _text(identity.hls_secret),
        "hls": int(identity.hls),
        "suite": identity.suite,
        "master_key": identity.master_key.hex(),
        "control_mode": device.relay.attributes[4].value,
        "clients": [
            {
                "client": setup.client,
                "name": setup.name,
                "association": setup.obis,
                "authentication": int(setup.mechanism),
                "security_control": f"0x{setup.policy:02x}",
                "pre_established": setup.pre_established,
            }
            for setup in device.setups.values()
        ],
        "profiles": [profile_said(device, name, int(time.time())) for name in device.profiles],
    }


def _text(octets: bytes) -> str:
    return octets.decode("ascii") if octets.isascii() and octets.decode("ascii").isprintable() else "0x" + octets.hex()


def profile_said(device: MeterDevice, name: str, now_s: int) -> dict[str, Any]:
    """A profile: its code, columns and all rows, numbers as they stand on the wire."""
    profile = device.profiles[name]
    buffer = profile.get(2, None, now_s)
    rows = buffer.value if isinstance(buffer, Data) else ()
    return {
        "name": name,
        "obis": profile.obis,
        "capture_period_s": profile.attributes[4].value,
        "columns": [_column_said(device, column) for column in profile.columns],
        "rows": [[_plain(one) for one in row.value] for row in rows],
    }


def _column_said(device: MeterDevice, column: Capture) -> dict[str, Any]:
    said: dict[str, Any] = {"class": column.class_id, "obis": column.obis, "attribute": column.attribute, "name": obis_name(column.obis)}
    scaler = device.objects[column.class_id, column.obis].attributes.get(3)
    pair = read_scaler_unit(scaler) if scaler is not None and column.class_id in (3, 4) and column.attribute == 2 else None
    return said | ({"scaler": pair[0], "unit": pair[1]} if pair else {})


def _plain(data: Data) -> Any:
    """A value as JSON: date-times as ISO text in the meter's zone, texts as text, other bytes as hex."""
    value = data.value
    if not isinstance(value, bytes):
        return value
    if len(value) == 12:
        clock = CosemDateTime.decode(value)
        stamp = clock.to_stamp(330)
        if stamp is not None:
            east = 330 if clock.deviation_minutes is None else -clock.deviation_minutes
            return datetime.fromtimestamp(stamp, timezone(timedelta(minutes=east))).isoformat()
    return _text(value) if value and data.tag is Tag.OCTET_STRING and value.isascii() else value.hex()


def event_said(event: Event) -> dict[str, Any]:
    """An event of a connection."""
    if isinstance(event, Opened):
        return {"event": "associated", "client": event.client}
    if isinstance(event, Ended):
        return {"event": "released", "client": event.client}
    if isinstance(event, Served):
        return {
            "event": event.verb,
            "client": event.client,
            "objects": [_ref(ref) for ref in event.refs],
            "results": [_result(code) for code in event.codes],
        }
    if isinstance(event, Confirmed):
        return {"event": "confirmed", "client": event.client, "invoke_id": event.long_invoke_id}
    return {"event": "refused", "client": event.client, "cause": event.cause, "why": event.message}


def _ref(ref: Ref) -> str:
    return f"{ref.class_id}:{ref.obis}:{ref.member}"


def _result(code: int) -> str:
    try:
        return code_words(AccessResult(code))
    except ValueError:
        return code_words(code)


def line(said: dict[str, Any]) -> str:
    """What `run` says, for a person: the meter as a page, an event as a line."""
    return _page(said) if "meter" in said else _event_line(said)


def _event_line(said: dict[str, Any]) -> str:
    if said["event"] == "refused":
        return f"refused     client {said['client']}: {said['why']} ({said['cause']})"
    if said["event"] == "pushed":
        how = "confirmed" if said["confirmed"] else "sent, no confirmation asked for"
        rows = f", {said['rows']} row{'s' * (said['rows'] != 1)}" if said["rows"] else ""
        return f"pushed      {said['kind']}{rows}: {how}" + (f" at attempt {said['attempts']}" if said["attempts"] > 1 else "")
    if said["event"] == "not pushed":
        return f"not pushed  {said['kind']}: {said['why']}"
    if "client" not in said:
        return str(said["event"])
    what = ", ".join(f"{ref} {result}" for ref, result in zip(said.get("objects", ()), said.get("results", ()), strict=True))
    return f"{said['event']:12s}client {said['client']}  {what}".rstrip()


def _page(said: dict[str, Any]) -> str:
    secret_names = ("system_title", "ek", "ak", "password", "hls_secret", "master_key")
    lines = [f"Meter {said['meter']} at {said['url']} over {said['framing']}, logical device {said['server_address']}", ""]
    lines += [f"  {name.replace('_', ' '):16s}{said[name]}" for name in secret_names]
    lines += [f"  {'control mode':16s}{said['control_mode']}", "", "  client  name               association      authentication  security"]
    for one in said["clients"]:
        how = (
            "pre-established"
            if one["pre_established"]
            else {0: "none", 1: "LLS password"}.get(one["authentication"], f"HLS {one['authentication']}")
        )
        lines.append(f"  {one['client']:6d}  {one['name']:17s}  {one['association']:15s}  {how:15s} {one['security_control']}")
    lines += ["", "  profile             code                rows  columns   from ... to"]
    for one in said["profiles"]:
        rows = one["rows"]
        span = f"{rows[0][0]} ... {rows[-1][0]}" if len(rows) > 1 else ""
        lines.append(f"  {one['name']:20s}{one['obis']:18s}{len(rows):6d}{len(one['columns']):9d}   {span}".rstrip())
    hdlc = " --hdlc" if said["framing"] == "hdlc" else ""
    reader = f"--client mr --password {said['password']} --ek {said['ek']} --ak {said['ak']}{hdlc}"
    lines += ["", f"Try: openami read {said['url']} {reader} nameplate", "Stop it with Ctrl-C. All rows: --json.", ""]
    return "\n".join(lines)
