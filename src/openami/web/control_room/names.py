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
from ..wording import marked
from . import trail

ORDERS = {
    "disconnect": marked("Disconnect"),
    "connect": marked("Reconnect"),
    "load_limit": marked("Load limit"),
    "clock": marked("Set the clock"),
    "calendar": marked("Tariff calendar"),
    "keys": marked("New keys"),
    "image": marked("Firmware"),
    "read": marked("Read now"),
    "mapping": marked("Move to another transformer"),
}
ORDER_STATES = {
    "requested": marked("requested"),
    "allowed": marked("allowed"),
    "sent": marked("sent"),
    "unknown": marked("no answer yet"),
    "accepted": marked("accepted by the meter"),
    "transferred": marked("transferred"),
    "verified": marked("verified"),
    "activating": marked("being activated"),
    "ready": marked("meter waits to close"),
    "confirmed": marked("confirmed"),
    "supplied": marked("supplied"),
    "refused": marked("refused by the guard"),
    "cancelled": marked("cancelled"),
    "failed": marked("failed"),
}
LEVELS = {
    "block load within 8 hours": marked("Block load within 8 hours"),
    "block load within 24 hours": marked("Block load within 24 hours"),
    "daily reads within 8 hours": marked("Daily reads within 8 hours"),
    "daily reads within 24 hours": marked("Daily reads within 24 hours"),
    "monthly billing within 72 hours": marked("Monthly billing within 72 hours"),
    "one relay order within 15 minutes": marked("One relay order within 15 minutes"),
    "one relay order within 6 hours": marked("One relay order within 6 hours"),
    "on-demand read within 10 minutes": marked("Reading on demand within 10 minutes"),
}
LACKS = {
    "dark": marked("Without supply"),
    "nothing": marked("Nothing came"),
    "stopped": marked("Silent before the end"),
    "gaps": marked("Single intervals"),
}
QUALITIES = {"missing": marked("Missing"), "estimated": marked("Estimated"), "flagged": marked("Flagged by a check")}
SPANS = {"month": marked("a month"), "quarter": marked("a quarter"), "year": marked("a year"), "all": marked("everything")}
KEY_STATES = {"registry": marked("in the registry"), "current": marked("in force"), "next": marked("under way")}
REGISTERS = {
    "instantaneous": marked("Register, latest"),
    "daily": marked("Register at midnight"),
    "billing": marked("Register at the month's end"),
}
OUTAGE_LEVELS = {
    "service": marked("one connection"),
    "phase": marked("a phase's fuse"),
    "transformer": marked("transformer"),
    "feeder": marked("feeder"),
}
ORDER_EVENTS = {
    "allow": marked("the guard allowed it"),
    "refuse": marked("the guard refused it"),
    "send": marked("sent"),
    "action_ok": marked("the meter took it"),
    "action_failed": marked("the meter did not take it"),
    "no_answer": marked("no answer"),
    "read_as_asked": marked("read back: as it was asked for"),
    "read_ready": marked("read back: the meter waits to close"),
    "read_otherwise": marked("read back: otherwise than asked for"),
    "read_part": marked("read back: a part has arrived"),
    "read_whole": marked("read back: all has arrived"),
    "read_verified": marked("read back: verified by the meter"),
    "activate": marked("told to begin"),
    "voltage_seen": marked("voltage seen at the meter"),
    "withdraw": marked("withdrawn"),
    "give_up": marked("given up"),
}
FIRSTS = {
    "visit": marked("visit"),
    "settle on which transformer it hangs": marked("settle on which transformer it hangs"),
    "check the meter remotely: it may be stuck": marked("check the meter remotely: it may be stuck"),
}
VISITS = {
    "theft": marked("theft"),
    "fault": marked("a faulty meter"),
    "innocent": marked("nothing wrong"),
    "wrong_place": marked("it hangs elsewhere"),
    "no_access": marked("nobody could look"),
}
OUTCOMES = {"done": marked("done"), "refused": marked("refused"), "waiting": marked("waiting")}
GRANTS = {
    "all": marked("the whole deployment"),
    "division": marked("division %(name)s"),
    "job": marked("job at %(name)s"),
    "account": marked("account %(name)s"),
}
PROGRAMS = ("supply", "payments", "demo")
"""Who asks for orders without being a person; their reasons are told in the reader's language, a person's as they were written."""
REASONS = [
    (re.compile(pattern), message)
    for pattern, message in (
        (r"below zero since (?P<day>\S+)", marked("below zero since %(day)s")),
        (
            r"paid: (?P<payment>\S+); a part of what was owed, for (?P<days>\d+) days",
            marked("a part was paid, for %(days)s days: %(payment)s"),
        ),
        (r"paid: (?P<payment>\S+)", marked("paid: %(payment)s")),
        (r"nothing is owed any more: (?P<name>.+)", marked("nothing is owed any more: %(name)s")),
        (r"the milder step before a cut", marked("the milder step before a cut")),
        (r"recharged|paid", marked("recharged")),
    )
]
OVER = re.compile(r"over: (?P<before>.+)|(?P<behind>.+): over")
"""How an event's end is written by `headend.registers` (a bit that went) and by IS 15959's facts (a code of its own)."""
EVENTS = {"tamper": marked("tamper"), "supply": marked("supply"), "relay": marked("relay")}


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
