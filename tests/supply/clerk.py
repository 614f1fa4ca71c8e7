"""The clerk: who may be cut, by the words of each utility's rules, from what happened in the street. Nothing of the guard is used here.

A diary holds what happened, as the machine that made it happen wrote it down; a rule book holds what a tariff officer reads in a utility's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from .street import PAPER, STREETS_OWN, Home

HOUR_S, DAY_S = 3600, 86_400
BOTH = ("prepaid", "postpaid")


@dataclass(frozen=True, slots=True)
class RuleBook:
    """A utility's order in numbers. off: weekdays, 0 = Monday; floor_days: emergency credit in days of average use; days: to recharge, from the first
    day below; small: (W, days) of small homes; free: homes within their free units are protected; feeder, kw: the most in an hour."""

    hours: tuple[str, str]
    off: tuple[int, ...] = (6,)
    second_saturday: bool = False
    holidays: tuple[date, ...] = ()
    modes: tuple[str, ...] = BOTH
    floor_paise: int = 0
    floor_days: int = 0
    days: int = 0
    small: tuple[int, int] = (0, 0)
    free: bool = False
    fresh_h: int = 30
    feeder: int = 50
    kw: int = 5000
    people_above: int = 100
    grace_days: int = 30


BOOKS = {
    "BR": RuleBook(("11:00", "17:30"), days=3, free=True),
    "UP": RuleBook(("08:00", "18:00"), second_saturday=True, floor_days=3, small=(2000, 30)),
    "WB": RuleBook(("10:00", "17:00"), off=(5, 6), floor_paise=-300_00),
    "KA": RuleBook(("10:00", "17:00"), floor_paise=1),
    STREETS_OWN: RuleBook(
        ("11:00", "15:00"), holidays=(date(2025, 12, 13),), floor_paise=1, days=1, small=(4000, 2), fresh_h=60, feeder=2, people_above=2
    ),
    PAPER: RuleBook(("10:00", "17:00"), modes=("postpaid",), floor_paise=1, kw=30),
}


@dataclass(slots=True)
class File:
    """What the clerk has on one home. closing, charged: of closed days as they were told; used_wh: to the end of each; told: facts that people told;
    free_wh: free units of its month; paid: what came since the last closed day; cut_s: when its supply was cut; back_until: the last day that a part
    payment bought; begun: payments that were begun, by id; notice_s: when the notice of its fall arrived."""

    home: Home
    load_w: int
    closing: dict[date, int]
    charged: dict[date, int]
    used_wh: dict[date, int]
    free_wh: int
    told: dict[str, object] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    unsettled: bool = False
    notice_s: int | None = None
    cut_s: int | None = None
    owed_at_cut: int = 0
    paid_since_cut: int = 0
    back_until: date | None = None

    @property
    def prepaid(self) -> bool:
        return self.home.prepaid_since is not None


@dataclass(slots=True)
class Diary:
    """What is the same for everybody. up_since, looked_s: the payment channel, as it was looked at; cuts: (second, watts) of those that left; asked:
    (second, who) of cuts that were asked for."""

    everybody: dict[str, object] = field(default_factory=dict)
    up_since: int | None = None
    looked_s: int | None = None
    cuts: list[tuple[int, int]] = field(default_factory=list)
    asked: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Behind:
    """Who stands behind a cut: how many go together with it, and how many people agreed."""

    together: int
    people: int


def forbidden(book: RuleBook, diary: Diary, file: File, local: datetime, now_s: int, behind: Behind) -> list[str]:
    """Why this home may not be cut now; [] = it may."""
    own = _money_owed(book, file, local, now_s) if file.prepaid else _law(file, local)
    fine = _time(book, local) | _everybody(book, diary, file, now_s, behind) | own
    fine["mode"] = ("prepaid" if file.prepaid else "postpaid") in book.modes
    return [name for name, holds in fine.items() if not holds]


def _time(book: RuleBook, local: datetime) -> dict[str, bool]:
    second = book.second_saturday and local.weekday() == 5 and 8 <= local.day <= 14
    return {
        "hours": book.hours[0] <= f"{local:%H:%M}" < book.hours[1],
        "day of the week": local.weekday() not in book.off and not second,
        "holiday": local.date() not in book.holidays,
    }


def _everybody(book: RuleBook, diary: Diary, file: File, now_s: int, behind: Behind) -> dict[str, bool]:
    told = diary.everybody | file.told
    lately = [watts for at_s, watts in diary.cuts if now_s - HOUR_S < at_s <= now_s]
    return {
        "stopped": not told.get("kill_switch_on", False),
        "life support": told.get("life_support") is False,
        "dispute": told.get("dispute_open") is False and not file.complaints,
        "not settled": not file.unsettled if "migration_settled" not in told else told["migration_settled"] is True,
        "payment on its way": not any(now_s - at_s < 3 * DAY_S for at_s in file.begun.values()),
        "channel": diary.up_since is not None
        and now_s - diary.up_since >= DAY_S
        and diary.looked_s is not None
        and now_s - diary.looked_s <= 1800,
        "estimate": not file.home.gap,
        "free units": not book.free or file.used_wh[_last(file, now_s)] > file.free_wh,
        "feeder": len(lately) < book.feeder,
        "load": sum(lately) + file.load_w <= book.kw * 1000,
        "one person for many": behind.together <= book.people_above or behind.people >= 2,
    }


def _money_owed(book: RuleBook, file: File, local: datetime, now_s: int) -> dict[str, bool]:
    home, today, last = file.home, local.date(), _last(file, now_s)
    assert home.prepaid_since is not None
    balance = file.closing[last] + sum(file.paid.values())
    brought = max(0, -(home.opening_paise + sum(file.paid.values()))) if home.began <= home.prepaid_since else 0
    use = _average(file, last)
    to_recharge = book.small[1] if book.small[0] and file.load_w <= book.small[0] else book.days
    return {
        "owes too little": balance + brought < book.floor_paise - book.floor_days * use,
        "balance not below zero": balance < 0,
        "days to recharge": today > _below_since(file, last) + timedelta(days=to_recharge),
        "converted lately": today >= home.prepaid_since + timedelta(days=book.grace_days),
        "part payment": file.back_until is None or today > file.back_until,
        "not told a day before": file.notice_s is not None and now_s - file.notice_s >= DAY_S,
        "old readings": local - _end_of(last, local) <= timedelta(hours=book.fresh_h),
    }


def _law(file: File, local: datetime) -> dict[str, bool]:
    """Section 56."""
    due, served = file.home.bill_due, file.told.get("written_notice_on")
    assert due is not None
    return {
        "clear days": isinstance(served, str) and local.date() > date.fromisoformat(served) + timedelta(days=15),
        "under protest": file.told.get("deposited_under_protest") is False,
        "nothing due": sum(file.paid.values()) < -file.home.opening_paise + BILL_OWED,
        "claim too old": file.told.get("dues_shown_continuously") is True
        or (file.told.get("dues_shown_continuously") is False and due >= local.date().replace(year=local.year - 2)),
    }


BILL_OWED = 5000_00


def _last(file: File, now_s: int) -> date:
    """The last closed day before today."""
    return max(day for day in file.closing if day < _local_date(now_s))


def _local_date(now_s: int) -> date:
    return (datetime(1970, 1, 1) + timedelta(seconds=now_s + 19_800)).date()  # noqa: DTZ001 - India's clock, by hand


def _end_of(day: date, local: datetime) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), local.tzinfo)


def _average(file: File, last: date) -> int:
    days = [paise for day, paise in file.charged.items() if day <= last]
    return sum(days) // len(days)


def _below_since(file: File, last: date) -> date:
    """The first of the days on end at whose end the balance was below zero."""
    first = last
    while first - timedelta(days=1) in file.closing and file.closing[first - timedelta(days=1)] < 0:
        first -= timedelta(days=1)
    return first
