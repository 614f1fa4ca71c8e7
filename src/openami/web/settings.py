"""How people sign in to a deployment, as its data folder says: `sign_in.toml`, a small file that need not be there.

    public_url = "https://ami.example.in"          # the address under which the console is reached, behind a proxy
    send_codes = "env:OPENAMI_SMS_URL"             # an Apprise address with {phone}; by reference, because it holds a secret
    webhook_hosts = ["10.20.0.5"]                  # private addresses that webhooks may reach

    [external]                                     # an OpenID Connect issuer whose people may come in
    issuer = "https://login.example.in"
    audience = "openami"
    client = "openami-console"
    secret = "env:OPENAMI_OIDC_SECRET"
    title = "Company sign-in"

What always holds: secrets are named, never written there; what cannot be used is refused when the console starts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, InputError
from ..store.sql import refer
from .tokens import External

FILE = "sign_in.toml"
KNOWN = {"public_url", "send_codes", "webhook_hosts", "external"}
EXTERNAL = ("issuer", "audience", "client", "secret", "title")


@dataclass(frozen=True, slots=True)
class SignInSettings:
    public_url: str = ""
    send_codes: str = field(default="", repr=False)
    webhook_hosts: tuple[str, ...] = ()
    external: External | None = None


def load_settings(folder: Path) -> SignInSettings:
    """DataError where the file is there and cannot be used; InputError where what it refers to is not set."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        return SignInSettings()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); mend it or take it away") from error
    if unknown := sorted(found.keys() - KNOWN):
        raise DataError(f"{path} has {', '.join(unknown)}, which is not known; known are {', '.join(sorted(KNOWN))}")
    url, codes, hosts = found.get("public_url", ""), found.get("send_codes", ""), found.get("webhook_hosts", [])
    if not isinstance(url, str) or not isinstance(codes, str) or not isinstance(hosts, list):
        raise DataError(f"{path} cannot be used: public_url and send_codes are texts, webhook_hosts a list of addresses")
    if codes and not codes.startswith(("env:", "file:")):
        raise DataError(f"{path} cannot be used: send_codes holds a secret; write env:NAME or file:PATH there")
    return SignInSettings(
        url.rstrip("/"), refer(codes, f"send_codes in {path}") if codes else "", tuple(map(str, hosts)), _external(path, found)
    )


def _external(path: Path, found: dict[str, Any]) -> External | None:
    given = found.get("external")
    if given is None:
        return None
    if not isinstance(given, dict) or set(given) != set(EXTERNAL) or not all(isinstance(v, str) and v for v in given.values()):
        raise DataError(f"{path} cannot be used: [external] needs {', '.join(EXTERNAL)}, each a text")
    if not given["issuer"].startswith(("https://", "http://127.0.0.1")):
        raise DataError(f"{path} cannot be used: the external issuer must be reached by https")
    if not given["secret"].startswith(("env:", "file:")):
        raise DataError(f"{path} cannot be used: write env:NAME or file:PATH as the external issuer's secret")
    return External(
        given["issuer"], given["audience"], given["client"], refer(given["secret"], f"[external] secret in {path}"), given["title"]
    )


def code_sender(address: str) -> Callable[[str, str], None] | None:
    """Sends a one-time code by the Apprise address; None where there is none."""
    if not address:
        return None
    if "{phone}" not in address:
        raise InputError("send_codes needs {phone} where the phone number goes")

    def send(phone: str, code: str) -> None:
        import apprise

        digits = "".join(c for c in phone if c.isdigit())
        way = apprise.Apprise()
        if not way.add(address.replace("{phone}", digits)) or not way.notify(
            body=f"{code} is your code for OpenAMI, good for five minutes."
        ):
            raise OSError("the one-time code could not be sent")

    return send
