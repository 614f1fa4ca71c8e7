"""Accounts, statements and why they say so, payments, tariffs."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from ...billing.tariff import load_tariffs
from ...day import Site
from ...day.why import Why, why
from ...errors import DataError, InputError
from ..access import STAFF, Right, Who
from ..gate import gate_of
from .network import Name
from .readings import From, To
from .words import (
    NAME,
    NOT_MODIFIED,
    Answer,
    Cursor,
    Day,
    Limit,
    Missing,
    Page,
    Refused,
    api_needs,
    day_range,
    documented,
    key_of,
    page_of,
    site_of,
    town_of,
)

router = APIRouter()
Number = Annotated[str, Path(pattern=NAME, max_length=40)]
SeesAccounts = Annotated[Who, Depends(api_needs(Right.ACCOUNTS))]
SignedIn = Annotated[Who, Depends(api_needs())]
STATEMENT_DAYS_MOST = 31


class Account(Answer):
    """A consumer's account at a usage point. No name: that is on the consumer's own page alone."""

    number: str
    usage_point: str
    meter: str
    feeder: str
    transformer: str | None
    tariff: str
    payment_mode: str
    language: str
    since: date
    mode_since: date


class AccountNow(Account):
    """And how it stands after the latest closed day."""

    balance_paise: int | None
    balance_as_of: str | None
    days_left: int | None
    low: bool | None


class Line(Answer):
    """One line of a day's charge; > 0 owed, < 0 rebate. verify: what is unconfirmed about it."""

    line: str
    title_en: str
    title_hi: str
    amount_paise: int
    verify: str | None


class Statement(Answer):
    """A day: closing = opening + recharges - charges - adjustments. wh: null = unknown."""

    day: date
    opening_paise: int
    recharges_paise: list[int]
    charge_paise: int
    adjustments_paise: int
    lines: list[Line]
    closing_paise: int
    wh: int | None
    estimated_wh: int
    missing_intervals: int


class Step(Answer):
    """One step of the derivation of a charge; it is the sum of its children, if it has any."""

    code: str
    en: str
    hi: str
    amount_paise: int
    quantities: dict[str, int | float | str]
    source: str | None
    verify: str | None
    children: list[Step]


class Explanation(Step):
    """What a day's statement took, charge and adjustments. change: its charge less that of the day before, line by line; null = that day was not
    charged."""

    change: Step | None


class Payment(Answer):
    """A row of the account's ledger: `amount_paise` moved from `debit` to `credit`."""

    number: int
    transfer_id: str
    day: date
    kind: str
    debit: str
    credit: str
    amount_paise: int


class Term(Answer):
    """What an account was told from a day on; null = as before, and before the first word the registry's tariff and the sanctioned load. Of one day
    the later word holds."""

    since: date
    tariff: str | None
    contract_va: int | None
    told: datetime


class Tariff(Answer):
    """A tariff as it holds on a day."""

    name: str
    title_en: str
    title_hi: str
    since: date
    until: date
    periods: list[str]
    lines: list[str]
    verify: list[str]


@router.get("/accounts", responses=documented(404, success=NOT_MODIFIED))
def accounts(
    request: Request,
    who: SeesAccounts,
    payment_mode: Annotated[str | None, Query(pattern=r"^(prepaid|postpaid)$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[Account]:
    """Accounts that may be seen, in order of number."""
    after = key_of(cursor, str)
    rows = gate_of(request).lookup.accounts(who.reach, after[0] if after else "", limit + 1, mode=payment_mode or "")
    kept, onward = page_of(rows, limit, lambda row: (row["number"],))
    return Page(items=[Account(**_fields(row, Account)) for row in kept], next=onward)


@router.get("/accounts/{number}", responses=documented(404, success=NOT_MODIFIED))
def account(request: Request, who: SeesAccounts, number: Number) -> AccountNow:
    """One account, and how it stands after the latest closed day."""
    row = _own(request, who, number)
    town = town_of(request)
    days = town.days()
    found = town.consumer(number, days[-1]) if days else None
    return AccountNow(
        **_fields(row, Account),
        balance_paise=found.balance_paise if found else None,
        balance_as_of=found.balance_as_of.isoformat() if found else None,
        days_left=found.days_left if found else None,
        low=found.low if found else None,
    )


@router.get("/accounts/{number}/statements", responses=documented(404, success=NOT_MODIFIED))
def statements(request: Request, who: SeesAccounts, number: Number, first: From = None, to: To = None) -> list[Statement]:
    """The statements from day to day, oldest first; at most 31 days at once. Days that are not charged are left out."""
    row, town = _own(request, who, number), town_of(request)
    days = day_range(first, to, town.days(), STATEMENT_DAYS_MOST)
    found = (town.consumer(number, day) for day in days if day >= row["since"])
    return [
        Statement(
            day=s.day,
            opening_paise=s.opening_paise,
            recharges_paise=list(s.recharges_paise),
            charge_paise=s.charge_paise,
            adjustments_paise=s.adjustments_paise,
            lines=[
                Line(line=x.line, title_en=x.label.en, title_hi=x.label.hi, amount_paise=x.amount_paise, verify=x.verify) for x in s.lines
            ],
            closing_paise=s.closing_paise,
            wh=s.wh,
            estimated_wh=s.estimated_wh,
            missing_intervals=s.missing_intervals,
        )
        for c in found
        if c is not None and (s := c.statement) is not None
    ]


@router.get("/accounts/{number}/statements/{day}/explanation", responses=documented(404, 409, success=NOT_MODIFIED))
def explanation(request: Request, who: SeesAccounts, number: Number, day: Annotated[Day, Path()]) -> Explanation:
    """Why the day cost what it did: the whole derivation from readings to what the statement took, in both languages, and what changed against
    the day before."""
    _own(request, who, number)
    found = explained(site_of(request), number, day)
    if found is None:
        raise Missing("charged day", str(day))
    told = _step(found.tree.to_json())
    return Explanation(**dict(told), change=_step(found.change.to_json()) if found.change else None)


@router.get("/accounts/{number}/payments", responses=documented(404, success=NOT_MODIFIED))
def payments(request: Request, who: SeesAccounts, number: Number, limit: Limit = 100, cursor: Cursor = None) -> Page[Payment]:
    """The account's ledger, latest first: recharges, payments and what else moved money."""
    _own(request, who, number)
    before = key_of(cursor, int)
    rows = gate_of(request).lookup.transfers(number, before[0] if before else None, limit + 1)
    kept, onward = page_of(rows, limit, lambda row: (row["number"],))
    return Page(items=[Payment(**_fields(row, Payment)) for row in kept], next=onward)


@router.get("/accounts/{number}/terms", responses=documented(404, success=NOT_MODIFIED))
def terms(request: Request, who: SeesAccounts, number: Number, limit: Limit = 100, cursor: Cursor = None) -> Page[Term]:
    """The account's tariff and contract demand through time, the oldest first."""
    _own(request, who, number)
    site, after = site_of(request), key_of(cursor, str, int)
    rows = [row for row in site.terms.history(number) if after is None or (row.since.isoformat(), row.id) > after]
    kept, onward = page_of(rows, limit, lambda row: (row.since.isoformat(), row.id))
    told = [Term(since=row.since, tariff=row.tariff, contract_va=row.contract_va, told=site.calendar.local(row.told_s)) for row in kept]
    return Page(items=told, next=onward)


@router.get("/tariffs", responses=documented(success=NOT_MODIFIED))
def tariffs(who: SignedIn, day: Annotated[Day, Query(description="The day on which they hold.")]) -> list[Tariff]:
    """All tariffs that hold on a day."""
    book = load_tariffs()
    return [_tariff(one) for name in book.names for one in book.versions(name) if one.since <= day < one.until]


@router.get("/tariffs/{name}", responses=documented(404, success=NOT_MODIFIED))
def tariff(who: SignedIn, name: Name) -> list[Tariff]:
    """One tariff through time, oldest version first."""
    book = load_tariffs()
    if name not in book.names:
        raise Missing("tariff", name)
    return [_tariff(one) for one in book.versions(name)]


def _own(request: Request, who: Who, number: str) -> dict[str, Any]:
    """The account's row, if it may be seen; a member of staff who looks at it stands in the audit trail."""
    gate = gate_of(request)
    found = gate.lookup.account(who.reach, number)
    if found is None:
        raise Missing("account", number)
    if who.role in STAFF:
        gate.note(who, request, "account.read", number)
    return found


def explained(site: Site, number: str, day: date) -> Why | None:
    """Why the account was charged what it was on `day`; None where it was not. Refused where the derivation does not tie with the statement."""
    try:
        return why(site, number, day)
    except InputError:
        return None
    except DataError as error:
        raise Refused(409, "explanation", str(error)) from None


def _step(node: dict[str, Any]) -> Step:
    plain = {"code", "en", "hi", "amount_paise", "source", "verify", "children"}
    return Step(
        code=node["code"],
        en=node["en"],
        hi=node["hi"],
        amount_paise=node["amount_paise"],
        quantities={name: value for name, value in node.items() if name not in plain},
        source=node.get("source"),
        verify=node.get("verify"),
        children=[_step(child) for child in node.get("children", [])],
    )


def _tariff(one: Any) -> Tariff:
    return Tariff(
        name=one.name,
        title_en=one.title_en,
        title_hi=one.title_hi,
        since=one.since,
        until=one.until,
        periods=list(one.periods),
        lines=list(one.line_names),
        verify=[f"{line.name}: {line.verify}" for line in one.lines if line.verify],
    )


def _fields(row: dict[str, Any], model: type[Answer]) -> dict[str, Any]:
    return {name: row[name] for name in model.model_fields}
