"""The audit trail in the reader's words: what each action is called, and what programs wrote as its reason.

What always holds: a person's own words are shown as they were written; what has a form that is not known here is shown whole, as the trail has it.
"""

from __future__ import annotations

import re

from jinja2 import pass_context
from jinja2.runtime import Context


def _mark(message: str) -> str:
    """The message itself: marks it for extraction."""
    return message


ACTIONS = {
    "sign_in": _mark("signed in"),
    "sign_out": _mark("signed out"),
    "code.send": _mark("one-time code sent"),
    "oauth.authorize": _mark("program let in by a person"),
    "oauth.token": _mark("program let in"),
    "account.read": _mark("account looked at"),
    "statements.export": _mark("statements taken as a file"),
    "reading.edit": _mark("reading corrected"),
    "mapping.accept": _mark("moved to another transformer"),
    "order.connect": _mark("asked to reconnect"),
    "order.disconnect": _mark("asked to disconnect"),
    "order.clock": _mark("asked to set the clock"),
    "order.read": _mark("asked to read"),
    "order.withdraw": _mark("order withdrawn"),
    "proposal.approve": _mark("proposal agreed to"),
    "proposal.refuse": _mark("proposal refused"),
    "complaint.make": _mark("complaint written"),
    "complaint.answer": _mark("complaint answered"),
    "payment.start": _mark("recharge begun"),
    "consent.give": _mark("consent given"),
    "consent.end": _mark("consent taken back"),
    "inspection": _mark("visit written down"),
    "inspection.write": _mark("visit written down"),
    "webhook.add": _mark("webhook added"),
    "webhook.end": _mark("webhook ended"),
    "webhook.again": _mark("webhook told once more"),
    "webhook.secret": _mark("webhook's new secret made"),
    "terms": _mark("tariff or contract demand told"),
    "people.add": _mark("person added"),
    "people.disable": _mark("access closed"),
    "people.enable": _mark("access opened again"),
    "people.password": _mark("new password made"),
    "people.second_factor": _mark("new second factor made"),
    "people.grant": _mark("reach granted"),
    "people.revoke": _mark("reach taken away"),
    "people.division": _mark("division set"),
    "people.link": _mark("linked to another sign-in"),
    "people.signing_key": _mark("signing key made anew"),
    "people.phone_added": _mark("phone added to an account"),
    "people.phone_removed": _mark("phone taken from an account"),
    "order.load_limit": _mark("asked for another load limit"),
    "order.calendar": _mark("asked for another tariff calendar"),
    "order.keys": _mark("asked for new keys"),
    "order.image": _mark("asked for new firmware"),
    "order.mapping": _mark("moved to another transformer"),
    "propose disconnect": _mark("disconnections proposed"),
    "approve disconnect": _mark("disconnections agreed to"),
    "convert to prepaid": _mark("moved to prepaid"),
    "convert to postpaid": _mark("moved to postpaid"),
    "ledger.issue": _mark("bills issued"),
    "ledger.agree": _mark("arrears to be paid by days"),
    "ledger.reversal": _mark("transfer undone"),
    "registry.classes": _mark("accuracy classes written down"),
}
"""What the audit trail writes down; what a role was refused stands there as method and address."""
FACTS = {
    "kill_switch_on": _mark("stop of all disconnections"),
    "life_support": _mark("life support at home"),
    "dispute_open": _mark("open dispute"),
    "deposited_under_protest": _mark("deposit under protest"),
    "dues_shown_continuously": _mark("dues shown on every bill"),
    "migration_settled": _mark("move between meters settled"),
    "written_notice_on": _mark("written notice"),
}
"""What people tell the guard of an account."""
POSTED = {
    "recharge": _mark("recharge"),
    "payment": _mark("payment"),
    "deposit": _mark("deposit"),
    "refund": _mark("refund"),
    "deposit_back": _mark("deposit given back"),
    "credit": _mark("credit"),
    "debit": _mark("debit"),
    "rebate": _mark("rebate"),
}
"""What a clerk posts by hand."""
WORDS = {
    "password": _mark("with a password"),
    "one-time code": _mark("with a one-time code"),
    "demo": _mark("as one of the demo's people"),
    "external": _mark("by another sign-in"),
    "external: its issuer does not answer": _mark("by another sign-in, which does not answer"),
    "not this program's secret": _mark("not this program's secret"),
    "wrong": _mark("name, password or code was wrong"),
    "locked": _mark("too many tries"),
    "amount": _mark("about an amount"),
    "payment": _mark("about a payment"),
    "supply": _mark("about supply"),
    "meter": _mark("about the meter"),
    "other": _mark("about something else"),
}
"""Reasons that are one word."""
FORMS = [
    (actions, re.compile(pattern, re.DOTALL), message)
    for actions, pattern, message in (
        (("order.", "propose "), r"(?P<count>\d+) meters: (?P<rest>.+)", _mark("%(count)s meters: %(rest)s")),
        (("registry.classes",), r"(?P<count>\d+) meters", _mark("%(count)s meters")),
        (("ledger.issue",), r"(?P<count>\d+) bills", _mark("%(count)s bills")),
        (("approve ",), r"(?P<count>\d+) orders", _mark("%(count)s orders")),
        (("statements.export",), r"(?P<count>\d+) statements", _mark("%(count)s statements")),
        (("statements.export",), r"(?P<count>\d+) statements of (?P<rest>.+)", _mark("%(count)s statements, number begins %(rest)s")),
        (
            ("ledger.deposit",),
            r"(?P<amount>\S+) in (?P<count>\d+) parts from (?P<day>\S+) on",
            _mark("%(amount)s in %(count)s parts from %(day)s on"),
        ),
        (
            ("ledger.agree",),
            r"(?P<each>\S+) a day, at most (?P<most>\S+), from (?P<day>\S+) on",
            _mark("%(each)s a day, at most %(most)s, from %(day)s on"),
        ),
        (("ledger.",), r"account (?P<name>\S+): (?P<rest>.+)", _mark("account %(name)s: %(rest)s")),
        (
            ("terms",),
            r"from (?P<day>\S+): (?P<tariff>\S+), (?P<va>\S+) VA: (?P<rest>.+)",
            _mark("from %(day)s: %(tariff)s, %(va)s VA: %(rest)s"),
        ),
        (("reading.edit",), r"(?P<rest>.+) \(now as the meter said\)", _mark("%(rest)s (now as the meter said)")),
        (("reading.edit",), r"(?P<rest>.+) \(now (?P<value>[\d.]+)\)", _mark("%(rest)s (now %(value)s)")),
        (
            ("mapping.accept",),
            r"(?P<now>\S+) to (?P<to>\S+) from (?P<day>\S+): (?P<rest>.+)",
            _mark("from %(now)s to %(to)s, from %(day)s on: %(rest)s"),
        ),
        (("consent.give",), r"(?P<partner>\S+): (?P<what>[a-z ]+), (?P<count>\d+) days", _mark("%(partner)s for %(count)s days: %(what)s")),
    )
]
"""By the beginning of the action: how programs wrote a reason, and the sentence for it."""
ONE_WORD = ("sign_in", "complaint.", "oauth.token")
"""Actions whose reason is one of WORDS."""


@pass_context
def action_name(context: Context, action: str) -> str:
    """An action in words; the action itself where it has none."""
    say = context["L"].say
    if action.startswith("supply ") and action.count(" ") == 2:
        _, fact, value = action.split(" ")
        if fact in FACTS:
            return str(
                say("told the guard: %(fact)s, %(value)s", fact=say(FACTS[fact]), value=say(value) if value in ("yes", "no") else value)
            )
    name = action.replace("order ", "order.", 1) if action.startswith("order ") else action
    if name not in ACTIONS and name.startswith("ledger."):
        kind = name.removeprefix("ledger.")
        return str(say("posted by hand: %(kind)s", kind=say(POSTED[kind]) if kind in POSTED else kind))
    return str(say(ACTIONS[name])) if name in ACTIONS else action


@pass_context
def audit_why(context: Context, action: str, why: str) -> str:
    """The reason of a line of the trail."""
    words = context["L"]
    if why in WORDS and action.startswith(ONE_WORD):
        return str(words.say(WORDS[why]))
    if action == "payment.start" and (found := re.fullmatch(r"(\d+) paise", why)):
        return str(words.rupees(int(found[1])))
    for actions, pattern, message in FORMS:
        if action.startswith(actions) and (found := pattern.fullmatch(why)):
            return str(words.say(message, **found.groupdict()))
    return why
