"""The guard's rules: each looks at a few facts and says yes (does not stand in the way), no, or unknown.

A rule never raises and never guesses: a fact that is None makes its answer unknown. A policy sets the numbers (`values`); which
rules exist is fixed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..money import rupees

if TYPE_CHECKING:
    from .policy import Policy


class Never(Enum):
    """The event is known not to have happened; None would mean that we do not know."""

    NEVER = "never"


NEVER = Never.NEVER


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one account at the moment of decision. None = not known, and the guard refuses.

    Instants are aware datetimes, days are local. Money is paise.
    """

    payment_mode: str | None = None
    """ "prepaid" or "postpaid", as it holds today."""
    category: str | None = None
    """The tariff's category, such as "domestic"."""
    sanctioned_load_w: int | None = None
    kill_switch_on: bool | None = None
    """Somebody has stopped all disconnections."""
    balance_paise: int | None = None
    """Prepaid: the balance that the consumer can see."""
    balance_as_of: datetime | None = None
    """The end of the last reading in that balance."""
    below_floor_since: date | Never | None = None
    """The first day at whose end the balance was below the floor, and has been since."""
    part_payment_until: date | Never | None = None
    """Prepaid: the last day for which a part payment has brought supply back; NEVER = there was none since it was last back for good."""
    old_arrears_paise: int | None = None
    """How much of a negative balance comes from before prepaid (>= 0)."""
    daily_use_paise: int | None = None
    """Recent average charge of a day, for emergency credit in days."""
    converted_on: date | Never | None = None
    """When the account last became prepaid; NEVER = it has been so from its first day."""
    migration_settled: bool | None = None
    """Old balance, deposit and the old meter's last reading are carried over."""
    estimate_in_reckoning: bool | None = None
    """A reading behind the balance was estimated or is missing."""
    within_free_units: bool | None = None
    """The month's consumption so far is within the free units."""
    notice_delivered_at: datetime | Never | None = None
    """Confirmed delivery of the notice that supply will be cut."""
    payment_in_flight: bool | None = None
    """A payment has begun and is neither posted nor failed."""
    payment_channel_up_since: datetime | Never | None = None
    """Since when recharging has worked without a break; NEVER = it is down now."""
    life_support: bool | None = None
    dispute_open: bool | None = None
    feeder_cuts_last_hour: int | None = None
    power_cut_last_hour_w: int | None = None
    """Sanctioned load disconnected in the whole utility in the last hour."""
    batch_size: int | None = None
    """How many disconnections are ordered together with this one, itself included."""
    approvers: int | None = None
    """How many different people have approved the batch."""
    written_notice_on: date | Never | None = None
    """Postpaid: the day on which the written notice of section 56 was served."""
    deposited_under_protest: bool | None = None
    dues_first_due_on: date | Never | None = None
    """Postpaid: when the oldest sum in the claim first became due; NEVER = nothing is due."""
    dues_shown_continuously: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's answer and the values that its sentence names."""

    ok: bool | None
    values: Mapping[str, object] = field(default_factory=dict)


Values = dict[str, Any]
UNKNOWN = Verdict(None)


def kill_switch(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.kill_switch_on is None else Verdict(not facts.kill_switch_on)


def payment_mode(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """The policy must know this mode as a ground for cutting (a utility that went back to postpaid has no prepaid cuts)."""
    if facts.payment_mode not in ("prepaid", "postpaid"):
        return UNKNOWN
    mode_hi = {"prepaid": "प्रीपेड", "postpaid": "पोस्टपेड"}[facts.payment_mode]
    return Verdict(facts.payment_mode in values["modes"], {"mode": facts.payment_mode, "mode_hi": mode_hi})


def legal_hours(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    start, end = values["from"], values["to"]
    return Verdict(start <= now.strftime("%H:%M") < end, {"from": start, "to": end, "now": now.strftime("%H:%M")})


def weekly_off(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """Sundays, Saturdays or second Saturdays, as the policy lists them."""
    kinds = {6: {"sunday"}, 5: {"saturday", "second_saturday"} if 8 <= now.day <= 14 else {"saturday"}}.get(now.weekday(), set())
    names = ("सोमवार", "मंगलवार", "बुधवार", "गुरुवार", "शुक्रवार", "शनिवार", "रविवार")
    return Verdict(not kinds & set(values["days"]), {"day": now.strftime("%A"), "day_hi": names[now.weekday()]})


def holiday(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """No cut on a listed holiday; a year without a list cannot be decided, so it refuses."""
    if now.year not in policy.holiday_years:
        return UNKNOWN
    en, hi = policy.holidays.get(now.date(), ("", ""))
    return Verdict(not en, {"name_en": en, "name_hi": hi})


def part_payment(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    if facts.part_payment_until is None:
        return UNKNOWN
    if facts.part_payment_until is NEVER:
        return Verdict(True, {"until": "-"})
    until = _as_day(facts.part_payment_until)
    return Verdict(now.date() > until, {"until": until})


def migration_settled(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.migration_settled is None else Verdict(facts.migration_settled)


def grace_after_conversion(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    if facts.converted_on is None:
        return UNKNOWN
    if facts.converted_on is NEVER:
        return Verdict(True, {"until": "-", "days": values["days"]})
    until = _as_day(facts.converted_on) + timedelta(days=values["days"])
    return Verdict(now.date() >= until, {"until": until, "days": values["days"]})


def floor_balance(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """The balance must be below the floor: a credit limit in rupees, plus emergency credit in days of average use if there is any.

    What comes from before prepaid is not counted: old arrears are never cut for through the prepaid path.
    """
    if facts.balance_paise is None or facts.old_arrears_paise is None:
        return UNKNOWN
    floor = int(values["paise"])
    if values.get("emergency_days", 0):
        if facts.daily_use_paise is None:
            return UNKNOWN
        floor -= max(0, facts.daily_use_paise) * int(values["emergency_days"])
    own = facts.balance_paise + max(0, facts.old_arrears_paise)
    shown = {"balance": rupees(facts.balance_paise), "floor": rupees(floor), "arrears": rupees(facts.old_arrears_paise)}
    return Verdict(own < floor, shown)


def grace_below_floor(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """So many days to recharge, counted from the end of the first day below the floor; small homes may have more."""
    if facts.below_floor_since is None:
        return UNKNOWN
    days = int(values["days"])
    if "small_home_days" in values:
        if facts.category is None or facts.sanctioned_load_w is None or facts.sanctioned_load_w <= 0:
            return UNKNOWN
        if facts.category == "domestic" and facts.sanctioned_load_w <= values["small_home_w"]:
            days = int(values["small_home_days"])
    if facts.below_floor_since is NEVER:
        return Verdict(False, {"until": "-", "days": days})
    until = _as_day(facts.below_floor_since) + timedelta(days=days)
    return Verdict(now.date() > until, {"until": until, "days": days})


def free_units(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    if not values["protects"]:
        return Verdict(True)
    return UNKNOWN if facts.within_free_units is None else Verdict(not facts.within_free_units)


def balance_fresh(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """The balance must rest on readings not older than so many hours, and not from the future."""
    if facts.balance_as_of is None or facts.balance_as_of.tzinfo is None:
        return UNKNOWN
    age = now - facts.balance_as_of
    return Verdict(
        timedelta(0) <= age <= timedelta(hours=values["hours"]), {"hours": values["hours"], "age": int(age.total_seconds() // 3600)}
    )


def no_estimate(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.estimate_in_reckoning is None else Verdict(not facts.estimate_in_reckoning)


def notice_delivered(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """A notice was delivered, and so many hours have passed since."""
    return _hours_since(facts.notice_delivered_at, values["hours"], now)


def payment_in_flight(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.payment_in_flight is None else Verdict(not facts.payment_in_flight)


def payment_channel(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """Recharging has worked without a break for so many hours: nobody is cut who could not pay."""
    return _hours_since(facts.payment_channel_up_since, values["hours"], now)


def _hours_since(since: datetime | Never | None, hours: Any, now: datetime) -> Verdict:
    """Whether at least `hours` have passed since something happened; an instant without a zone is not known."""
    shown: dict[str, object] = {"hours": hours}
    if isinstance(since, Never):
        return Verdict(False, shown)
    if since is None or since.tzinfo is None:
        return UNKNOWN
    return Verdict(now - since >= timedelta(hours=hours), shown)


def life_support(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.life_support is None else Verdict(not facts.life_support)


def dispute(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.dispute_open is None else Verdict(not facts.dispute_open)


def feeder_cap(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    if facts.feeder_cuts_last_hour is None:
        return UNKNOWN
    return Verdict(facts.feeder_cuts_last_hour < values["per_hour"], {"cap": values["per_hour"], "done": facts.feeder_cuts_last_hour})


def power_cap(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """Not more sanctioned load in an hour than the grid and the call centre can bear, this account's included."""
    if facts.power_cut_last_hour_w is None or facts.sanctioned_load_w is None or facts.sanctioned_load_w <= 0:
        return UNKNOWN
    after_kw = (facts.power_cut_last_hour_w + facts.sanctioned_load_w + 999) // 1000
    return Verdict(after_kw <= values["kw_per_hour"], {"cap": values["kw_per_hour"], "after": after_kw})


def two_people(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    if facts.batch_size is None or facts.approvers is None:
        return UNKNOWN
    return Verdict(facts.batch_size <= values["above"] or facts.approvers >= 2, {"above": values["above"], "size": facts.batch_size})


def written_notice(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """Clear days: neither the day of service nor the day of the cut counts."""
    if facts.written_notice_on is None:
        return UNKNOWN
    if facts.written_notice_on is NEVER:
        return Verdict(False, {"days": values["clear_days"]})
    clear = (now.date() - _as_day(facts.written_notice_on)).days - 1
    return Verdict(clear >= values["clear_days"], {"days": values["clear_days"]})


def deposit_under_protest(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    return UNKNOWN if facts.deposited_under_protest is None else Verdict(not facts.deposited_under_protest)


def claim_age(values: Values, policy: Policy, facts: Facts, now: datetime) -> Verdict:
    """A sum older than two years is no ground, unless it was shown continuously as recoverable arrear."""
    if facts.dues_first_due_on is None or facts.dues_shown_continuously is None:
        return UNKNOWN
    if facts.dues_first_due_on is NEVER:
        return Verdict(False, {"years": values["years"]})
    first = _as_day(facts.dues_first_due_on)
    limit = (now.date().year - int(values["years"]), now.date().month, now.date().day)
    young = (first.year, first.month, first.day) >= limit and first <= now.date()
    return Verdict(young or (facts.dues_shown_continuously and first <= now.date()), {"years": values["years"]})


def _as_day(value: date | Never) -> date:
    if isinstance(value, Never):
        raise TypeError("NEVER has no date; the rule must ask for it first")
    return value


Ask = Callable[[Values, "Policy", Facts, datetime], Verdict]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a rule is asked; the payment mode to which it applies (None = both); the numbers a policy must and may set."""

    ask: Ask
    mode: str | None
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


RULES: dict[str, Rule] = {
    "kill_switch": Rule(kill_switch, None),
    "payment_mode": Rule(payment_mode, None, ("modes",)),
    "legal_hours": Rule(legal_hours, None, ("from", "to")),
    "weekly_off": Rule(weekly_off, None, ("days",)),
    "holiday": Rule(holiday, None, ("calendar",)),
    "migration_settled": Rule(migration_settled, None),
    "grace_after_conversion": Rule(grace_after_conversion, "prepaid", ("days",)),
    "floor_balance": Rule(floor_balance, "prepaid", ("paise",), ("emergency_days",)),
    "grace_below_floor": Rule(grace_below_floor, "prepaid", ("days",), ("small_home_days", "small_home_w")),
    "part_payment": Rule(part_payment, "prepaid"),
    "free_units": Rule(free_units, None, ("protects",)),
    "balance_fresh": Rule(balance_fresh, "prepaid", ("hours",)),
    "no_estimate": Rule(no_estimate, None),
    "notice_delivered": Rule(notice_delivered, "prepaid", ("hours",)),
    "written_notice": Rule(written_notice, "postpaid", ("clear_days",)),
    "deposit_under_protest": Rule(deposit_under_protest, "postpaid"),
    "claim_age": Rule(claim_age, "postpaid", ("years",)),
    "payment_in_flight": Rule(payment_in_flight, None),
    "payment_channel": Rule(payment_channel, None, ("hours",)),
    "life_support": Rule(life_support, None),
    "dispute": Rule(dispute, None),
    "feeder_cap": Rule(feeder_cap, None, ("per_hour",)),
    "power_cap": Rule(power_cap, None, ("kw_per_hour",)),
    "two_people": Rule(two_people, None, ("above",)),
}
"""Every rule, in the order in which reasons are shown."""
