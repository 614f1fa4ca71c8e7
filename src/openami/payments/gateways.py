"""Which gateways a deployment has: `payments.toml` in its data folder, secrets by reference only.

[upi]                                  # the gateway's name: the first part of its payments' ids in the ledger
address = "https://gateway.example"    # where it is asked; left out: it only tells
secrets = ["env:UPI_SECRET"]           # or file:PATH; two of them while a secret is changed, the first one signs
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..store.sql import refer

FILE = "payments.toml"
SECRET_MIN = 16


@dataclass(frozen=True, slots=True)
class Gateway:
    """address: "" = it cannot be asked; secrets: the first one signs, any of them may have signed."""

    name: str
    address: str
    secrets: tuple[bytes, ...] = field(repr=False)


def load_gateways(folder: Path) -> dict[str, Gateway]:
    """name -> gateway; none where there is no such file. InputError names what is wrong and where."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); mend it") from None
    return {name: _gateway(path, name, raw) for name, raw in told.items()}


def _gateway(path: Path, name: str, raw: object) -> Gateway:
    if not isinstance(raw, dict) or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise InputError(f"{path}: {name!r} is no gateway; write a table [name] of small letters, digits and -")
    if unknown := set(raw) - {"address", "secrets"}:
        raise InputError(f"{path}, [{name}]: {', '.join(sorted(unknown))} is not known; there are address and secrets")
    references, address = raw.get("secrets"), raw.get("address", "")
    if not isinstance(references, list) or not references or not all(isinstance(r, str) for r in references):
        raise InputError(f'{path}, [{name}]: secrets is not a list of references; write ["env:NAME"] or ["file:PATH"]')
    if not isinstance(address, str) or not re.fullmatch(r"(https?://\S+)?", address):
        raise InputError(f"{path}, [{name}]: address is not an http or https address; mend it or leave it out")
    secrets = []
    for reference in references:
        if not reference.startswith(("env:", "file:")):
            raise InputError(f"{path}, [{name}]: a secret stands in the file itself; write env:NAME or file:PATH")
        secret = refer(reference, f"a secret of [{name}] in {path}").encode()
        if len(secret) < SECRET_MIN:
            raise InputError(f"{path}, [{name}]: the secret behind {reference} has {len(secret)} characters; give {SECRET_MIN} or more")
        secrets.append(secret)
    return Gateway(name, address.rstrip("/"), tuple(secrets))
