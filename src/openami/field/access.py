"""What a person types to reach a meter, as address and credentials; secrets are checked here and shown nowhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..cosem.acse import Diagnostic, Mechanism
from ..cosem.ciphering import Keys
from ..cosem.protection import MAX_COUNTER, Form
from ..errors import InputError
from ..headend.session import PUBLIC, READER, UTILITY, Credentials, Denied, MeterAddress, MeterSession, Patience, Trace, open_session

CLIENTS = {"public": PUBLIC, "mr": READER, "us": UTILITY}
MECHANISMS = {"2": Mechanism.HLS, "3": Mechanism.HLS_MD5, "4": Mechanism.HLS_SHA1, "5": Mechanism.HLS_GMAC, "6": Mechanism.HLS_SHA256}


@dataclass(frozen=True, slots=True)
class Access:
    """The words of the command line. client: a name or a number; keys in hex; password and hls_secret as text, or 0x... for bytes."""

    url: str
    client: str = "public"
    hdlc: bool = False
    password: str | None = None
    hls: str | None = None
    hls_secret: str | None = None
    ek: str | None = None
    ak: str | None = None
    system_title: str | None = None
    counter: int | None = None
    general: bool = False
    server: int = 1
    security: str | None = None
    physical: int | None = None

    def address(self) -> MeterAddress:
        """HDLC addresses are written in one byte, in two where a physical device is named, in four where either number needs it."""
        if self.physical is None:
            return MeterAddress.parse(self.url, hdlc=self.hdlc, server=self.server, hdlc_bytes=1 if self.server < 128 else 4, physical=0)
        if not self.hdlc:
            raise InputError("--physical names a device on an HDLC line; give --hdlc as well")
        if not 0 <= self.physical <= 0x3FFF:
            raise InputError(f"--physical {self.physical} is no address; give 0 to {0x3FFF}")
        size = 2 if max(self.server, self.physical) < 128 else 4
        return MeterAddress.parse(self.url, hdlc=True, server=self.server, physical=self.physical, hdlc_bytes=size)

    def credentials(self) -> Credentials:
        """InputError where something is missing for the client, or is no hexadecimal of the right length."""
        client = self._client()
        mechanism, secret = self._authentication(client)
        if (self.ek is None) != (self.ak is None):
            raise InputError("--ek and --ak belong together; give both, or neither for a meter without ciphering")
        keys = None
        if self.ek is not None and self.ak is not None:
            keys = Keys(_key(self.ek, "--ek"), _key(self.ak, "--ak"))
        if mechanism is Mechanism.HLS_GMAC and keys is None:
            raise InputError("--hls 5 (GMAC) needs the meter's keys; give --ek and --ak")
        if self.counter is not None and not 0 <= self.counter <= MAX_COUNTER:
            raise InputError(f"--counter {self.counter} is none; give 0 to {MAX_COUNTER}")
        if not 1 <= self.server <= 0x3FFF:
            raise InputError(f"--server {self.server} is no logical device; give 1 to {0x3FFF}")
        form = Form.GENERAL_GLO if self.general else Form.GLO
        made = Credentials(client, mechanism, secret, keys, policy=self._policy(keys), counter=self.counter, form=form)
        return replace(made, own_title=_hex(self.system_title, "--system-title", (8,))) if self.system_title else made

    def _policy(self, keys: Keys | None) -> int:
        """The security control byte of --security, 0 where it is left out."""
        if self.security is None:
            return 0
        try:
            control = int(self.security, 16)
        except ValueError:
            control = -1
        if control & 0x30 == 0 or control & ~0x3F or control & 0x0F > 2:
            raise InputError(f"--security {self.security!r} is none; give 0x10, 0x20 or 0x30, plus 1 or 2 for suites 1 and 2, as 0x31")
        if keys is None:
            raise InputError("--security needs the meter's keys; give --ek and --ak")
        if (control & 0x0F == 2) != (len(keys.ek) == 32):
            raise InputError(
                f"--security {self.security} and keys of {len(keys.ek)} bytes do not belong together; suite 2 has 32, the others 16"
            )
        return control

    def _client(self) -> int:
        if self.client in CLIENTS:
            return CLIENTS[self.client]
        if self.client.isdigit() and 1 <= int(self.client) <= 127:
            return int(self.client)
        raise InputError(f"--client {self.client!r} is unknown; write {', '.join(CLIENTS)}, or a number from 1 to 127")

    def _authentication(self, client: int) -> tuple[Mechanism, bytes]:
        if self.hls is not None:
            if self.hls not in MECHANISMS:
                raise InputError(f"--hls {self.hls!r} is unknown; write 2 (AES-128), 5 (GMAC) or 6 (SHA-256)")
            if self.hls != "5" and not self.hls_secret:
                raise InputError(f"--hls {self.hls} needs the shared secret; give --hls-secret")
            return MECHANISMS[self.hls], _secret(self.hls_secret or "")
        if self.hls_secret:
            return Mechanism.HLS, _secret(self.hls_secret)
        if self.password is not None:
            return Mechanism.LLS, _secret(self.password)
        if client not in (PUBLIC,):
            wants = "--password" if client == READER else "--hls 2 --hls-secret ... (or --password)"
            raise InputError(f"client {client} must show who it is; give {wants}, and --ek and --ak where the meter ciphers")
        return Mechanism.NONE, b""


async def open_meter(access: Access, patience: Patience, trace: Trace | None) -> MeterSession:
    """An association as asked for. A meter that refuses the meter reader with encryption alone (0x20, IS 15959's) is offered authentication
    too, unless --security says what is wanted: more protection, never less. A wrong password is not tried twice."""
    credentials = access.credentials()
    try:
        return await open_session(access.address(), credentials, patience, trace)
    except Denied as refused:
        settled = access.security is not None or credentials.keys is None or credentials.client != READER
        # With a system title of the caller's and no counter of his, the second attempt could use a counter of the first again.
        reuse = access.system_title is not None and access.counter is None
        if settled or reuse or refused.code != "association" or refused.diagnostic == Diagnostic.AUTHENTICATION_FAILURE:
            raise
    again = access.credentials()
    suite = 2 if again.keys is not None and len(again.keys.ek) == 32 else 0
    counter = None if again.counter is None else again.counter + 1
    return await open_session(access.address(), replace(again, policy=0x30 | suite, counter=counter), patience, trace)


def seconds(value: float, name: str, at_least: float, at_most: float) -> float:
    """A number of seconds from the command line; InputError where it is none, or would wait for ever."""
    if not at_least <= value <= at_most:
        raise InputError(f"{name} {value:g} is not a time to wait; give {at_least:g} to {at_most:g} seconds")
    return value


def patience(timeout_s: float) -> Patience:
    """The time limits of a conversation from --timeout."""
    return Patience(answer_s=seconds(timeout_s, "--timeout", 0.1, 3600.0))


def _secret(text: str) -> bytes:
    if text.startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            raise InputError("a secret that begins with 0x must be hexadecimal") from None
    return text.encode("utf-8")


def _key(text: str, name: str) -> bytes:
    return _hex(text, name, (16, 32))


def _hex(text: str, name: str, sizes: tuple[int, ...]) -> bytes:
    try:
        octets = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise InputError(f"{name} is not hexadecimal") from None
    if len(octets) not in sizes:
        raise InputError(f"{name} has {len(octets)} bytes, it needs {' or '.join(map(str, sizes))}")
    return octets
