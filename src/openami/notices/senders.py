"""Who carries notices: any service that Apprise knows, by its address, in `notices.toml` of the data folder.

[sms]                                  # the carrier's name, as it stands beside a message
url = "env:SMS_URL"                    # an Apprise address, by env:NAME or file:PATH; {address} in it stands for the consumer's own
secrets = ["env:SMS_SECRET"]           # with which the carrier signs its reports; left out = it reports by file
takes_is_delivered = false             # true only for a carrier that reports nothing: its taking then counts as the delivery

The order in the file is the order in which carriers are tried. What always holds: a carrier's address, which holds its password, and a consumer's
are in no log and no error.
"""

from __future__ import annotations

import re
import tomllib
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..store.outbox import Notice
from ..store.sql import refer

FILE = "notices.toml"
SECRET_MIN = 16


class NotSentError(Exception):
    """A carrier did not take a message; says why, without addresses."""


class Sender(Protocol):
    """name: as it stands beside the message; takes_is_delivered: its taking is all that it ever says."""

    @property
    def name(self) -> str: ...

    @property
    def takes_is_delivered(self) -> bool: ...

    def send(self, notice: Notice, address: str) -> None:
        """Hand one message over; NotSentError where it was not taken. The same message may come again under the same id."""


@dataclass(frozen=True, slots=True)
class AppriseSender:
    name: str
    url: str = field(repr=False)
    takes_is_delivered: bool = False
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    def send(self, notice: Notice, address: str) -> None:
        import apprise

        service = apprise.Apprise.instantiate(self.url.replace("{address}", urllib.parse.quote(address, safe="")), suppress_exceptions=True)
        if service is None:
            raise NotSentError(f"carrier {self.name}: its address is none that Apprise knows")
        try:
            taken = service.notify(body=notice.text, title=notice.notice_id)
        except (OSError, TypeError, ValueError) as error:
            raise NotSentError(f"carrier {self.name}: {type(error).__name__}") from None
        if not taken:
            raise NotSentError(f"carrier {self.name} did not take it")


def load_senders(folder: Path) -> list[AppriseSender]:
    """The carriers of a data folder, in their order; none where there is no such file. InputError names what is wrong and where."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); mend it") from None
    return [_sender(path, name, raw) for name, raw in told.items()]


def _sender(path: Path, name: str, raw: object) -> AppriseSender:
    if not isinstance(raw, dict) or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        raise InputError(f"{path}: {name!r} is no carrier; write a table [name] of small letters, digits and -")
    if unknown := set(raw) - {"url", "takes_is_delivered", "secrets"}:
        raise InputError(f"{path}, [{name}]: {', '.join(sorted(unknown))} is not known; there are url, secrets and takes_is_delivered")
    url, certain = raw.get("url"), raw.get("takes_is_delivered", False)
    if not isinstance(url, str) or not url.startswith(("env:", "file:")) or not isinstance(certain, bool):
        raise InputError(f"{path}, [{name}]: url is not env:NAME or file:PATH, or takes_is_delivered is neither true nor false")
    references = raw.get("secrets", [])
    if not isinstance(references, list) or not all(isinstance(one, str) and one.startswith(("env:", "file:")) for one in references):
        raise InputError(f'{path}, [{name}]: secrets is not a list of references; write ["env:NAME"] or ["file:PATH"]')
    secrets = tuple(refer(one, f"a secret of [{name}] in {path}").encode() for one in references)
    if any(len(secret) < SECRET_MIN for secret in secrets):
        raise InputError(f"{path}, [{name}]: a secret has fewer than {SECRET_MIN} characters; give a longer one")
    return AppriseSender(name, refer(url, f"url of [{name}] in {path}"), certain, secrets)
