"""The audit trail in the reader's words: what each action is called, and what programs wrote as its reason.

What always holds: a person's own words are shown as they were written; what has a form that is not known here is shown whole, as the trail has it.
"""

from __future__ import annotations

import re

from jinja2 import pass_context
from jinja2.runtime import Context

from ..wording import marked

ACTIONS = {
    "sign_in": marked("signed in"),
    "sign_out": marked("signed out"),
    "code.send": marked("one-time code sent"),
    "oauth.authorize": marked("program let in by a person"),
    "oauth.token": marked("program let in"),
    "account.read": marked("account looked at"),
    "statements.export": marked("statements taken as a file"),
    "reading.edit": marked("reading corrected"),
    "mapping.accept": marked("moved to another transformer"),
    "order.connect": marked("asked to reconnect"),
    "order.disconnect": marked("asked to disconnect"),
    "order.clock": marked("asked to set the clock"),
    "order.read": marked("asked to read"),
    "order.withdraw": marked("order withdrawn"),
    "proposal.approve": marked("proposal agreed to"),
    "proposal.refuse": marked("proposal refused"),
    "complaint.make": marked("complaint written"),
    "complaint.answer": marked("complaint answered"),
    "payment.start": marked("recharge begun"),
    "consent.give": marked("consent given"),
    "consent.end": marked("consent taken back"),
    "inspection": marked("visit written down"),
    "inspection.write": marked("visit written down"),
    "webhook.add": marked("webhook added"),
    "webhook.end": marked("webhook ended"),
    "webhook.again": marked("webhook told once more"),
    "webhook.secret": marked("webhook's new secret made"),
    "terms": marked("tariff or contract demand told"),
    "people.add": marked("person added"),
    "people.disable": marked("access closed"),
    "people.enable": marked("access opened again"),
    "people.password": marked("new password made"),
    "people.second_factor": marked("new second factor made"),
    "people.grant": marked("reach granted"),
    "people.revoke": marked("reach taken away"),
    "people.division": marked("division set"),
    "people.link": marked("linked to another sign-in"),
    "people.signing_key": marked("signing key made anew"),
    "people.phone_added": marked("phone added to an account"),
    "people.phone_removed": marked("phone taken from an account"),
    "order.load_limit": marked("asked for another load limit"),
    "order.calendar": marked("asked for another tariff calendar"),
    "order.keys": marked("asked for new keys"),
    "order.image": marked("asked for new firmware"),
    "order.mapping": marked("moved to another transformer"),
    "propose disconnect": marked("disconnections proposed"),
    "approve disconnect": marked("disconnections agreed to"),
    "convert to prepaid": marked("moved to prepaid"),
    "convert to postpaid": marked("moved to postpaid"),
    "ledger.issue": marked("bills issued"),
    "ledger.agree": marked("arrears to be paid by days"),
    "ledger.reversal": marked("transfer undone"),
    "registry.classes": marked("accuracy classes written down"),
}
"""What the audit trail writes down; what a role was refused stands there as method and address."""
FACTS = {
    "kill_switch_on": marked("stop of all disconnections"),
    "life_support": marked("life support at home"),
    "dispute_open": marked("open dispute"),
    "deposited_under_protest": marked("deposit under protest"),
    "dues_shown_continuously": marked("dues shown on every bill"),
    "migration_settled": marked("move between meters settled"),
    "written_notice_on": marked("written notice"),
}
"""What people tell the guard of an account."""
POSTED = {
    "recharge": marked("recharge"),
    "payment": marked("payment"),
    "deposit": marked("deposit"),
    "refund": marked("refund"),
    "deposit_back": marked("deposit given back"),
    "credit": marked("credit"),
    "debit": marked("debit"),
    "rebate": marked("rebate"),
}
"""What a clerk posts by hand."""
WORDS = {
    "password": marked("with a password"),
    "one-time code": marked("with a one-time code"),
    "demo": marked("as one of the demo's people"),
    "external": marked("by another sign-in"),
    "external: its issuer does not answer": marked("by another sign-in, which does not answer"),
    "not this program's secret": marked("not this program's secret"),
    "wrong": marked("name, password or code was wrong"),
    "locked": marked("too many tries"),
    "amount": marked("about an amount"),
    "payment": marked("about a payment"),
    "supply": marked("about supply"),
    "meter": marked("about the meter"),
    "other": marked("about something else"),
}
"""Reasons that are one word."""
FORMS = [
    (actions, re.compile(pattern, re.DOTALL), message)
    for actions, pattern, message in (
        (("order.", "propose "), r"(?P<count>\d+) meters: (?P<rest>.+)", marked("%(count)s meters: %(rest)s")),
        (("registry.classes",), r"(?P<count>\d+) meters", marked("%(count)s meters")),
        (("ledger.issue",), r"(?P<count>\d+) bills", marked("%(count)s bills")),
        (("approve ",), r"(?P<count>\d+) orders", marked("%(count)s orders")),
        (("statements.export",), r"(?P<count>\d+) statements", marked("%(count)s statements")),
        (("statements.export",), r"(?P<count>\d+) statements of (?P<rest>.+)", marked("%(count)s statements, number begins %(rest)s")),
        (
            ("ledger.deposit",),
            r"(?P<amount>\S+) in (?P<count>\d+) parts from (?P<day>\S+) on",
            marked("%(amount)s in %(count)s parts from %(day)s on"),
        ),
        (
            ("ledger.agree",),
            r"(?P<each>\S+) a day, at most (?P<most>\S+), from (?P<day>\S+) on",
            marked("%(each)s a day, at most %(most)s, from %(day)s on"),
        ),
        (("ledger.",), r"account (?P<name>\S+): (?P<rest>.+)", marked("account %(name)s: %(rest)s")),
        (
            ("terms",),
            r"from (?P<day>\S+): (?P<tariff>\S+), (?P<va>\S+) VA: (?P<rest>.+)",
            marked("from %(day)s: %(tariff)s, %(va)s VA: %(rest)s"),
        ),
        (("reading.edit",), r"(?P<rest>.+) \(now as the meter said\)", marked("%(rest)s (now as the meter said)")),
        (("reading.edit",), r"(?P<rest>.+) \(now (?P<value>[\d.]+)\)", marked("%(rest)s (now %(value)s)")),
        (
            ("mapping.accept",),
            r"(?P<now>\S+) to (?P<to>\S+) from (?P<day>\S+): (?P<rest>.+)",
            marked("from %(now)s to %(to)s, from %(day)s on: %(rest)s"),
        ),
        (
            ("consent.give",),
            r"(?P<partner>\S+): (?P<what>[a-z ]+), (?P<count>\d+) days",
            marked("%(partner)s for %(count)s days: %(what)s"),
        ),
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
