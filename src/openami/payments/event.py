"""What a gateway says of a payment, and what all that was said means.

What always holds: the meaning is a function of the set of events alone, so order, repetition and delay do not matter: what was paid is paid,
even if it was told as failed too; what was reversed is reversed once it is known as paid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..errors import InputError

AMOUNT_MAX_PAISE = 10**10
"""Ten crore rupees: more is a mistake."""
TEXT_MAX = 64
AHEAD_S = 300
"""How far a gateway's clock may be ahead."""
CURRENCY = "INR"
APART = ":"
"""Stands between a gateway, its payment and what follows from it in the ledger's ids, so it is in none of them."""


class Kind(StrEnum):
    PAID = "paid"
    FAILED = "failed"
    REVERSED = "reversed"  # taken back by the bank or refunded whole by the gateway


class State(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Event:
    """event_id: the gateway's, once for each thing it says; payment_id: the payment it speaks of; happened_s: UTC seconds, its own clock."""

    gateway: str
    event_id: str
    payment_id: str
    kind: Kind
    account: str
    amount_paise: int
    happened_s: int

    @property
    def digest(self) -> bytes:
        """Of what it says: the same id with another digest is another story."""
        told = [self.gateway, self.event_id, self.payment_id, self.kind.value, self.account, self.amount_paise, self.happened_s]
        return hashlib.sha256(json.dumps(told).encode()).digest()


def read_event(gateway: str, body: bytes, now_s: int) -> Event:
    """An event from a webhook's JSON: event_id, payment_id, kind, account, amount_paise, happened_s, and perhaps currency. InputError names what is
    wrong."""
    try:
        told = json.loads(body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise InputError("the message is not JSON; send one object") from None
    if not isinstance(told, Mapping):
        raise InputError("the message is not an object; send event_id, payment_id, kind, account, amount_paise and happened_s")
    for name in ("event_id", "payment_id", "account"):
        value = told.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
            raise InputError(f"{name} is not a text of 1 to {TEXT_MAX} characters; send one")
    if APART in told["payment_id"]:
        raise InputError(f"payment_id has a {APART!r} in it; send one without")
    if told.get("currency", CURRENCY) != CURRENCY:
        raise InputError(f"currency is not {CURRENCY}; only rupees are taken, in paise")
    for name, most in (("amount_paise", AMOUNT_MAX_PAISE), ("happened_s", now_s + AHEAD_S)):
        if type(told.get(name)) is not int or not 0 < told[name] <= most:
            raise InputError(f"{name} is not a whole number from 1 to {most}; send one")
    if told.get("kind") not in list(Kind):
        raise InputError(f"kind is none of {', '.join(Kind)}; send one of them")
    names = ("event_id", "payment_id", "account", "amount_paise", "happened_s")
    return Event(gateway=gateway, kind=Kind(told["kind"]), **{name: told[name] for name in names})


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name stand twice, and readers differ in which one they take."""
    told = dict(pairs)
    if len(told) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in the message; send each name once")
    return told


def meaning(kinds: Iterable[Kind]) -> State:
    """What a payment is, by everything that was said of it."""
    said = set(kinds)
    if Kind.PAID in said:
        return State.REVERSED if Kind.REVERSED in said else State.PAID
    return State.FAILED if Kind.FAILED in said and Kind.REVERSED not in said else State.PENDING
