"""The disconnection guard: one pure function from policy, facts and local time to a decision that can be stored and replayed.

What always holds:
- it never allows on a missing fact: None refuses, and the reason says what is not known;
- every rule that applies to the account's payment mode is asked, also after the first "no", so a consumer sees all reasons at once;
- same policy, facts and time: same decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from ..errors import RequestError
from .policy import Policy
from .rules import RULES, Facts, Verdict

DECISION_AGE_S = 300
"""How long a decision may be acted upon: what it rests on can change any minute."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule's answer. `ok` True: does not stand in the way; False: forbids; None: not known, so it forbids as well.

    en, hi: a sentence for the consumer; source: where the rule stands written; verify: what of it is not confirmed, else "".
    """

    code: str
    ok: bool | None
    en: str
    hi: str
    source: str
    verify: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether supply may be cut at `now_local`, and every reason that was asked, in the order of the rules.

    expires_local: until when it may be acted upon (exclusive): `DECISION_AGE_S` later, but never past the end of the legal hours."""

    allowed: bool
    reasons: tuple[Reason, ...]
    policy: str
    now_local: datetime
    expires_local: datetime

    @property
    def against(self) -> tuple[Reason, ...]:
        """The reasons that forbid, unknown facts among them."""
        return tuple(reason for reason in self.reasons if reason.ok is not True)


def decide(policy: Policy, facts: Facts, now_local: datetime) -> Decision:
    """May the supply of the account that `facts` describe be cut at `now_local`?

    now_local: the deployment's local time, aware of its offset; it must lie in the policy's dates. Raises RequestError otherwise.
    """
    if now_local.tzinfo is None:
        raise RequestError(f"the guard needs local time with its offset, but {now_local} has none; attach the deployment's zone")
    if not policy.since <= now_local.date() < policy.until:
        raise RequestError(
            f"policy {policy.name} of {policy.since} until {policy.until} does not hold on {now_local.date()}; take the one from PolicyBook.on"
        )
    reasons = tuple(
        _reason(policy, code, rule.ask(policy.rules[code].values, policy, facts, now_local))
        for code, rule in RULES.items()
        if rule.mode is None or facts.payment_mode is None or facts.payment_mode == rule.mode
    )
    expires = min(now_local + timedelta(seconds=DECISION_AGE_S), _end_of_hours(policy, now_local))
    return Decision(all(r.ok is True for r in reasons), reasons, policy.name, now_local, expires)


def _end_of_hours(policy: Policy, now_local: datetime) -> datetime:
    end = policy.rules["legal_hours"].values["to"]
    if end == "24:00":
        return datetime.combine(now_local.date() + timedelta(days=1), time(0), now_local.tzinfo)
    return datetime.combine(now_local.date(), time.fromisoformat(end), now_local.tzinfo)


def _reason(policy: Policy, code: str, verdict: Verdict) -> Reason:
    texts, rule = policy.texts[code], policy.rules[code]
    if verdict.ok is None:
        en = f"Not known: {texts['what_en']}; so supply is not cut."
        hi = f"ज्ञात नहीं: {texts['what_hi']}; इसलिए बिजली नहीं काटी जाएगी।"
    else:
        which = "yes" if verdict.ok else "no"
        en, hi = texts[f"{which}_en"].format(**verdict.values), texts[f"{which}_hi"].format(**verdict.values)
    lists = policy.holidays_verify if code == "holiday" else ""
    return Reason(code, verdict.ok, en, hi, rule.source, "; ".join(text for text in (rule.verify, lists) if text))
