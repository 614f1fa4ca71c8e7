"""What the control room calls things, as message ids, and as functions that a template calls in its own language."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from ...day.found import Told
from ...losses.suspects import EVIDENCE
from . import trail


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
LACKS = {
    "dark": _mark("Without supply"),
    "nothing": _mark("Nothing came"),
    "stopped": _mark("Silent before the end"),
    "gaps": _mark("Single intervals"),
}
QUALITIES = {"missing": _mark("Missing"), "estimated": _mark("Estimated"), "flagged": _mark("Flagged by a check")}
SPANS = {"month": _mark("a month"), "quarter": _mark("a quarter"), "year": _mark("a year"), "all": _mark("everything")}
KEY_STATES = {"registry": _mark("in the registry"), "current": _mark("in force"), "next": _mark("under way")}
REGISTERS = {
    "instantaneous": _mark("Register, latest"),
    "daily": _mark("Register at midnight"),
    "billing": _mark("Register at the month's end"),
}
OUTAGE_LEVELS = {
    "service": _mark("one connection"),
    "phase": _mark("a phase's fuse"),
    "transformer": _mark("transformer"),
    "feeder": _mark("feeder"),
}
ORDER_EVENTS = {
    "allow": _mark("the guard allowed it"),
    "refuse": _mark("the guard refused it"),
    "send": _mark("sent"),
    "action_ok": _mark("the meter took it"),
    "action_failed": _mark("the meter did not take it"),
    "no_answer": _mark("no answer"),
    "read_as_asked": _mark("read back: as it was asked for"),
    "read_ready": _mark("read back: the meter waits to close"),
    "read_otherwise": _mark("read back: otherwise than asked for"),
    "read_part": _mark("read back: a part has arrived"),
    "read_whole": _mark("read back: all has arrived"),
    "read_verified": _mark("read back: verified by the meter"),
    "activate": _mark("told to begin"),
    "voltage_seen": _mark("voltage seen at the meter"),
    "withdraw": _mark("withdrawn"),
    "give_up": _mark("given up"),
}
FIRSTS = {
    "visit": _mark("visit"),
    "settle on which transformer it hangs": _mark("settle on which transformer it hangs"),
    "check the meter remotely: it may be stuck": _mark("check the meter remotely: it may be stuck"),
}
VISITS = {
    "theft": _mark("theft"),
    "fault": _mark("a faulty meter"),
    "innocent": _mark("nothing wrong"),
    "wrong_place": _mark("it hangs elsewhere"),
    "no_access": _mark("nobody could look"),
}
OUTCOMES = {"done": _mark("done"), "refused": _mark("refused"), "waiting": _mark("waiting")}
GRANTS = {
    "all": _mark("the whole deployment"),
    "division": _mark("division %(name)s"),
    "job": _mark("job at %(name)s"),
    "account": _mark("account %(name)s"),
}
PROGRAMS = ("supply", "payments", "demo")
"""Who asks for orders without being a person; their reasons are told in the reader's language, a person's as they were written."""
REASONS = [
    (re.compile(pattern), message)
    for pattern, message in (
        (r"below zero since (?P<day>\S+)", _mark("below zero since %(day)s")),
        (
            r"paid: (?P<payment>\S+); a part of what was owed, for (?P<days>\d+) days",
            _mark("a part was paid, for %(days)s days: %(payment)s"),
        ),
        (r"paid: (?P<payment>\S+)", _mark("paid: %(payment)s")),
        (r"nothing is owed any more: (?P<name>.+)", _mark("nothing is owed any more: %(name)s")),
        (r"the milder step before a cut", _mark("the milder step before a cut")),
        (r"recharged|paid", _mark("recharged")),
    )
]
OVER = re.compile(r"over: (?P<before>.+)|(?P<behind>.+): over")
"""How an event's end is written by `headend.registers` (a bit that went) and by IS 15959's facts (a code of its own)."""
EVENTS = {"tamper": _mark("tamper"), "supply": _mark("supply"), "relay": _mark("relay")}


def _sayer(names: Mapping[str, str]) -> Callable[[Context, str], str]:
    @pass_context
    def say(context: Context, word: str) -> str:
        return str(context["L"].say(names[word])) if word in names else word

    return say


@pass_context
def _evidence_says(context: Context, told: Told, features: Mapping[str, float]) -> str:
    """The sentence of a suspect's evidence with its figures, in the reader's language; as it was written where a figure of it is not kept."""
    known = next((one.says for one in EVIDENCE if one.name == told.code), None)
    try:
        return str(context["L"].say(known)).format(**features) if known else told.says
    except (KeyError, ValueError, TypeError):
        return told.says


@pass_context
def _grant_words(context: Context, kind: str, subject: str) -> str:
    return str(context["L"].say(GRANTS[kind], name=subject)) if kind in GRANTS else f"{kind}:{subject}"


@pass_context
def _order_why(context: Context, who: str, why: str) -> str:
    """Why an order was asked for."""
    for pattern, message in REASONS if who in PROGRAMS else ():
        if found := pattern.fullmatch(why):
            return str(context["L"].say(message, **found.groupdict()))
    return why


@pass_context
def _event_words(context: Context, text: str) -> str | Markup:
    """What a meter told, by the facts of IS 15959."""
    over = OVER.fullmatch(text)
    told: str | Markup = context["translated"](text if over is None else over["before"] or over["behind"])
    return told if over is None else escape(context["L"].say("%(event)s: over")) % {"event": told}


SAYERS: dict[str, Any] = {
    "order_what": _sayer(ORDERS),
    "order_state": _sayer(ORDER_STATES),
    "level_name": _sayer(LEVELS),
    "span_name": _sayer(SPANS),
    "key_state": _sayer(KEY_STATES),
    "register_kind": _sayer(REGISTERS),
    "event_kind": _sayer(EVENTS),
    "event_words": _event_words,
    "order_why": _order_why,
    "outcome": _sayer(OUTCOMES),
    "action_name": trail.action_name,
    "audit_why": trail.audit_why,
    "order_event": _sayer(ORDER_EVENTS),
    "what_first": _sayer(FIRSTS),
    "what_visit": _sayer(VISITS),
    "evidence_says": _evidence_says,
    "grant_words": _grant_words,
    "outage_level": _sayer(OUTAGE_LEVELS),
    "lack_cause": _sayer(LACKS),
    "quality_kind": _sayer(QUALITIES),
}
