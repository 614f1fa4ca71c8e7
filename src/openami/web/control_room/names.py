"""What the control room calls things, as message ids, and as functions that a template calls in its own language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context


def _mark(message: str) -> str:
    """The message itself: marks it for extraction."""
    return message


ORDERS = {
    "disconnect": _mark("Disconnect"),
    "connect": _mark("Reconnect"),
    "load_limit": _mark("Load limit"),
    "clock": _mark("Set the clock"),
    "calendar": _mark("Tariff calendar"),
    "keys": _mark("New keys"),
    "image": _mark("Firmware"),
    "read": _mark("Read now"),
    "mapping": _mark("Move to another transformer"),
}
ORDER_STATES = {
    "requested": _mark("requested"),
    "allowed": _mark("allowed"),
    "sent": _mark("sent"),
    "unknown": _mark("no answer yet"),
    "accepted": _mark("accepted by the meter"),
    "transferred": _mark("transferred"),
    "verified": _mark("verified"),
    "activating": _mark("being activated"),
    "ready": _mark("meter waits to close"),
    "confirmed": _mark("confirmed"),
    "supplied": _mark("supplied"),
    "refused": _mark("refused by the guard"),
    "cancelled": _mark("cancelled"),
    "failed": _mark("failed"),
}
LEVELS = {
    "block load within 8 hours": _mark("Block load within 8 hours"),
    "block load within 24 hours": _mark("Block load within 24 hours"),
    "daily reads within 8 hours": _mark("Daily reads within 8 hours"),
    "daily reads within 24 hours": _mark("Daily reads within 24 hours"),
    "monthly billing within 72 hours": _mark("Monthly billing within 72 hours"),
    "one relay order within 15 minutes": _mark("One relay order within 15 minutes"),
    "one relay order within 6 hours": _mark("One relay order within 6 hours"),
    "on-demand read within 10 minutes": _mark("Reading on demand within 10 minutes"),
}
SPANS = {"month": _mark("a month"), "quarter": _mark("a quarter"), "year": _mark("a year"), "all": _mark("everything")}
KEY_STATES = {"registry": _mark("in the registry"), "current": _mark("in force"), "next": _mark("under way")}
REGISTERS = {
    "instantaneous": _mark("Register, latest"),
    "daily": _mark("Register at midnight"),
    "billing": _mark("Register at the month's end"),
}
OUTAGE_LEVELS = {
    "service": _mark("one connection"),
    "phase": _mark("phase"),
    "transformer": _mark("transformer"),
    "feeder": _mark("feeder"),
}
EVENTS = {"tamper": _mark("tamper"), "supply": _mark("supply"), "relay": _mark("relay")}


def _sayer(names: Mapping[str, str]) -> Callable[[Context, str], str]:
    @pass_context
    def say(context: Context, word: str) -> str:
        return str(context["L"].say(names[word])) if word in names else word

    return say


SAYERS: dict[str, Any] = {
    "order_what": _sayer(ORDERS),
    "order_state": _sayer(ORDER_STATES),
    "level_name": _sayer(LEVELS),
    "span_name": _sayer(SPANS),
    "key_state": _sayer(KEY_STATES),
    "register_kind": _sayer(REGISTERS),
    "event_kind": _sayer(EVENTS),
    "outage_level": _sayer(OUTAGE_LEVELS),
}
