"""Why an account's day cost what it did: from the meter's registers and intervals to the rupees of the statement, as one tree.

    why(site, "2000000007", date(2025, 12, 3)).tree.text("hi")

What always holds: the tree's sum is what the day's statement took, charge and adjustments: opening + recharges - closing; each line of the derivation
is the line that was charged, put right by the adjustments that were posted for the day since; where that is not so, nothing is told but the
difference (DataError). It goes by the meter, load, tariff and payment mode of that day, whatever holds now (`told.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from html import escape
from typing import Any

from ..billing.explain import compare_days, explain_day
from ..billing.tree import Node, checked
from ..errors import DataError, InputError, RequestError
from ..money import rupees
from ..registry import PaymentMode
from .metered import readings
from .site import Site
from .told import Told, facts_of

STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:0 auto;padding:1rem}"
    "h1{font-size:1.3rem;line-height:1.3}ul{margin:0;padding-inline-start:1rem}body>ul{padding:0;margin-block:1rem}"
    "li{overflow-wrap:anywhere;padding-block:.15rem}li:has(>details){list-style:none}"
    "summary{cursor:pointer;padding-block:.2rem}b{white-space:nowrap}small{display:block}"
)


@dataclass(frozen=True, slots=True)
class Why:
    """A day of an account. tree: what the statement took, in full; charge: of it the day's own derivation, as the readings stand now (None = it could
    not be computed); change: against the day before (None = that one is not charged)."""

    account: str
    day: date
    tariff: str
    payment_mode: PaymentMode
    opening_paise: int
    recharges_paise: int
    closing_paise: int
    tree: Node
    charge: Node | None
    change: Node | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; amounts are integers in paise."""
        plain = ("account", "tariff", "opening_paise", "recharges_paise", "closing_paise")
        body = {"day": str(self.day), "payment_mode": str(self.payment_mode)} | {name: getattr(self, name) for name in plain}
        return body | {"taken": self.tree.to_json(), "change": self.change.to_json() if self.change else None}

    def text(self, language: str) -> str:
        """Lines of text, Hindi for "hi", else English."""
        tail = [*self.change.text(language)] if self.change else []
        return "\n".join([*self.tree.text(language), self._balance(language), *tail])

    def html(self, language: str) -> str:
        """A page of its own, light or dark as its reader has it: no script, nothing loaded from elsewhere."""
        title = escape(self.tree.hi if language == "hi" else self.tree.en)
        parts = "".join(f"<ul>{node.html(language)}</ul>" for node in (self.tree, self.change) if node is not None)
        return (
            f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><style>{STYLE}</style><body><h1>{title}</h1><p>{escape(self._balance(language))}</p>{parts}</body></html>\n"
        )

    def _balance(self, language: str) -> str:
        sums = [rupees(paise) for paise in (self.opening_paise, self.recharges_paise, self.tree.amount_paise, self.closing_paise)]
        if language == "hi":
            return "बैलेंस: {} + रिचार्ज {} - लिया गया {} = {}".format(*sums)
        return "Balance: {} + recharges {} - taken {} = {}".format(*sums)


def why(site: Site, number: str, day: date) -> Why:
    """InputError where there is no such account, or its day is not charged; DataError where derivation and statement do not tie."""
    told = Told.of(site, number, day)
    if told is None:
        days = site.lake.days("statements")
        within = f"closed days are {days[0]} to {days[-1]}" if days else "no day is closed yet"
        raise InputError(f"account {number} was not charged for {day}; {within}")
    before = Told.of(site, number, day - timedelta(days=1))
    charge = _charge(site, told)
    other = _charge(site, before) if before is not None else None
    return Why(
        number,
        day,
        told.tariff.name,
        told.account.payment_mode,
        told.statement["opening_paise"],
        told.statement["recharges_paise"],
        told.statement["closing_paise"],
        _whole(site, told, charge),
        charge,
        compare_days(charge, other) if charge is not None and other is not None else None,
    )


def _whole(site: Site, told: Told, charge: Node | None) -> Node:
    """Readings, the charge as it was told, and what was put right of earlier days."""
    day, taken = told.day, told.statement["opening_paise"] + told.statement["recharges_paise"] - told.statement["closing_paise"]
    children = [readings(site, told.meter, told.tariff.channel, day, told.intervals, told.statement["held"])]
    if charge is None:
        en, hi = (
            "The bill could not be computed (the sanctioned load is not known), so nothing is charged yet",
            "बिल की गणना नहीं हो सकी (स्वीकृत भार ज्ञात नहीं), इसलिए अभी कुछ नहीं लिया गया",
        )
        children.append(Node("pending", en, hi, 0, note=True))
    elif told.posted_for:
        children.append(_as_told(told, charge))
    else:
        children.append(charge)
    if told.posted_to:
        en, hi = "Put right for earlier days", "पिछले दिनों का सुधार"
        children.append(_adjustments("adjustments", en, hi, told, told.posted_to, 1))
    en, hi = f"What {day} took from account {told.account.number}", f"{day} को खाता {told.account.number} से लिया गया"
    return checked(Node("statement", en, hi, taken, tuple(children)))


def _as_told(told: Told, charge: Node) -> Node:
    """The day as it stands now, and what of it was posted later: together what the statement of the day said."""
    en, hi = "Known only later, and posted to a later day", "बाद में पता चला, और बाद के दिन में जोड़ा गया"
    later = _adjustments("posted_later", en, hi, told, told.posted_for, -1)
    own = replace(charge, en=f"{charge.en}, by what is known now", hi=f"{charge.hi}, अब तक की जानकारी से")
    en, hi = f"Charge of {told.day}, as it was told", f"{told.day} का शुल्क, जैसा उस दिन बताया गया"
    return Node("as_told", en, hi, own.amount_paise + later.amount_paise, (own, later))


def _adjustments(code: str, en: str, hi: str, told: Told, posted: tuple[tuple[str, int, date], ...], sign: int) -> Node:
    """By day and line."""
    children = [
        Node(f"{code}.{line}", f"{day}: {told.tariff.label(line, 'en')}", f"{day}: {told.tariff.label(line, 'hi')}", sign * paise)
        for line, paise, day in posted
    ]
    return Node(code, en, hi, sum(child.amount_paise for child in children), tuple(children))


def _charge(site: Site, told: Told) -> Node | None:
    """The derivation that ties with what was charged and posted since; None where the bill could not be computed. The load is the registry's of that
    day, or the one of the statement where the registry was put right and the day not reckoned again since."""
    if told.statement["pending"]:
        return None
    wanted = dict(told.charges)
    for line, paise, _ in told.posted_for:
        wanted[line] = wanted.get(line, 0) + paise
    made: dict[str, int] = {}
    for load_w in dict.fromkeys((told.load_w, told.statement["connected_load_w"])):
        try:
            tree = explain_day(told.part, told.day, facts_of(site, told, load_w))
        except RequestError:
            continue
        made = {node.code: node.amount_paise for node in tree.children if not node.note}
        if {k: v for k, v in made.items() if v} == {k: v for k, v in wanted.items() if v}:
            return _with_source(told, tree)
    differ = sorted(name for name in made.keys() | wanted.keys() if made.get(name, 0) != wanted.get(name, 0))
    raise DataError(
        f"the charge of {told.day} of account {told.account.number} does not follow from what is stored (it differs in {', '.join(differ)}); "
        f"reckon the day again: openami close --day {told.day} --shard {told.shard}"
    )


def _with_source(told: Told, tree: Node) -> Node:
    """Said first: the tariff and its order, the part of the month that it is billed by, and the payment mode."""
    part, tariff, account = told.part, told.tariff, told.account
    prepaid = account.payment_mode is PaymentMode.PREPAID
    span = f"{part.first} - {part.until - timedelta(days=1)}"
    en = f"{tariff.title_en} ({tariff.name}), order {tariff.order}; billed as one: {span}; {account.payment_mode}"
    hi = f"{tariff.title_hi} ({tariff.name}), आदेश {tariff.order}; एक साथ बिल: {span}; {'प्रीपेड' if prepaid else 'पोस्टपेड'}"
    said = [Node("tariff", en, hi, 0, (), (), tariff.source, "", note=True)]
    if told.terms.since is not None:
        en, hi = (
            f"Tariff and contract demand of this account since {told.terms.since}",
            f"इस खाते का यह टैरिफ़ और अनुबंधित माँग {told.terms.since} से",
        )
        said.append(Node("terms", en, hi, 0, (), (), "account's terms", "", note=True))
    return replace(tree, children=(*said, *tree.children))
