"""Where a journal on NATS lies, and who we are to its servers: read from one line of the settings and from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from ..errors import InputError

USER, PASSWORD, AUTHORITY = "OPENAMI_NATS_USER", "OPENAMI_NATS_PASSWORD", "OPENAMI_NATS_CA"
"""Names in the environment: who we are to the servers, and the file of the authority that signs their certificates (for tls://)."""


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where the servers are, and what the stream there is called. monitors: their monitoring addresses, for the proof that they sync."""

    servers: tuple[str, ...]
    stream: str
    replicas: int
    monitors: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> NatsAddress:
        """`nats://host:4222,host:4222/stream?replicas=3&monitor=http://host:8222`, or tls://. InputError says what does not fit.

        Left out: port 4222, stream openami, three replicas (one where only one server is named), monitoring on port 8222 of the same hosts.
        """
        parts = urlsplit(text)
        hosts = [host if ":" in host else f"{host}:4222" for host in parts.netloc.split(",")]
        if parts.scheme not in ("nats", "tls") or "@" in parts.netloc or not all(hosts) or hosts[0].startswith(":"):
            raise InputError(
                f"journal = {text!r} is not an address like nats://host:4222/stream (passwords come from {USER} and {PASSWORD}); mend it"
            )
        if wrong := [host for host in hosts if not re.fullmatch(r".+:[1-9]\d{0,4}", host) or int(host.rpartition(":")[2]) > 65_535]:
            raise InputError(f"journal = {text!r}: {wrong[0]!r} has no port between 1 and 65535; write host:4222")
        asked = parse_qs(parts.query)
        replicas = asked.get("replicas", ["1" if len(hosts) == 1 else "3"])[0]
        stream = parts.path.strip("/") or "openami"
        if unknown := set(asked) - {"replicas", "monitor"}:
            raise InputError(f"journal = {text!r}: there is no setting {sorted(unknown)[0]!r}; known are replicas and monitor")
        if replicas not in ("1", "3", "5") or not stream.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"journal = {text!r}: replicas are 1, 3 or 5, and a stream's name has letters, digits, - and _ only; mend it")
        monitors = asked.get("monitor") or [f"http://{host.rpartition(':')[0]}:8222" for host in hosts]
        return NatsAddress(tuple(f"{parts.scheme}://{host}" for host in hosts), stream, int(replicas), tuple(monitors))

    def __str__(self) -> str:
        return f"{','.join(self.servers)}/{self.stream}"
