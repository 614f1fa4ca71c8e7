"""Where we may send what happens: only over TLS, only to the open Internet, but for hosts that are allowed by name.

What always holds: what was checked is what is connected to. A name is looked up once; the connection goes to the address that was found, under the
host's own name, so that a name which points elsewhere a moment later leads nowhere.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx


@dataclass(frozen=True, slots=True)
class Target:
    """url: with the address in the host's place; host: as the request must name it; tls_name: whose certificate it must be."""

    url: str
    host: str
    tls_name: str


class Forbidden(Exception):
    """Nothing may be sent there; the message says why."""


def target_of(url: str, allowed: tuple[str, ...]) -> Target:
    """Where a request to `url` goes. Forbidden where nothing may be sent. allowed: hosts, as they are written in addresses, to which anything may."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Forbidden("this is not an address; give https://host/path") from None
    if host not in allowed and (
        parts.scheme != "https" or not host or parts.username or parts.password or (port is not None and port not in (443, 8443))
    ):
        raise Forbidden("webhooks go to https addresses on port 443 or 8443, without a name or password in them")
    try:
        found = [ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)]
    except (OSError, ValueError, UnicodeError):
        raise Forbidden(f"the host {host[:80]} cannot be found; give one that is in the DNS") from None
    if host not in allowed and any(not address.is_global for address in found):
        raise Forbidden(f"the host {host[:80]} is inside a private network; allow it in sign_in.toml (webhook_hosts) if that is meant")
    address = f"[{found[0]}]" if found[0].version == 6 else str(found[0])
    place = address if port is None else f"{address}:{port}"
    return Target(urlunsplit((parts.scheme, place, parts.path or "/", parts.query, "")), parts.netloc.rpartition("@")[2], host)


def direct_client(patience_s: float, trusted: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Connects to addresses itself, through no proxy that would look names up again, and goes nowhere else when told to. trusted: whose
    certificates count, None = those that count on this machine."""
    return httpx.AsyncClient(timeout=patience_s, follow_redirects=False, transport=httpx.AsyncHTTPTransport(verify=trusted or True))
