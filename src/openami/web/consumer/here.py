"""Who is on the phone, and of which account the page is: one look at session, registry and data folder for all pages of the app."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Path, Request, Response

from ...day import Site
from ..access import Right, Role, Who
from ..failures import NotThere
from ..gate import Gate, gate_of, needs
from ..pages import Console, reading_language
from ..townbook import Consumer, TownReader
from ..wording import LANGUAGES
from .answers import Row
from .offline import POLICY

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"
Account = Annotated[str, Path(pattern=NAME)]
sees_accounts = needs(Right.ACCOUNTS)
SeesAccounts = Annotated[Who, Depends(sees_accounts)]


@dataclass(frozen=True)
class Here:
    """row: of the account, meter: of its meter, as `store.lookup` gives them; accounts: all of this person."""

    request: Request
    who: Who
    gate: Gate
    console: Console
    town: TownReader
    site: Site
    row: Row
    meter: Row
    accounts: tuple[str, ...]

    @property
    def account(self) -> str:
        return str(self.row["number"])

    def days(self) -> tuple[date, ...]:
        """Closed days of this account, oldest first: what was before it began is somebody else's life."""
        days = self.town.days()
        return days[bisect_left(days, self.row["since"]) :]

    def day(self, asked: str) -> date:
        """As `Console.day`, within the account's time."""
        day = self.console.day(asked)
        if day < self.row["since"]:
            raise NotThere("day", day.isoformat())
        return day

    def consumer(self, day: date) -> Consumer:
        found = self.town.consumer(self.account, day)
        if found is None:
            raise NotThere("account", self.account)
        return found

    def url(self, *segments: object, **parameters: object) -> str:
        """Of another page of this account, in the language that was asked for."""
        lang = self.request.query_params.get("lang", "")
        given = parameters | ({"lang": lang} if lang in LANGUAGES else {})
        path = "/".join(["/my", self.account, *(str(segment) for segment in segments)])
        return path + (f"?{urlencode(given)}" if given else "")

    def page(self, template: str, day: date | None, status: int = 200, **answer: Any) -> Response:
        """A page of the app in the reader's language, which is the account's own where no other was asked for."""
        given = {"account": self.account, "accounts": self.accounts, "own_days": self.days(), "policy": POLICY} | answer
        how: dict[str, Any] = {"own_language": self.row["language"], "status": status, "keeps_language": True}
        return private(self.console.page(self.request, f"consumer/{template}", day, **how, **given))

    @property
    def language(self) -> str:
        """What this reader reads: the account's own language where no other was asked for."""
        return reading_language(self.request, self.row["language"])


def private(page: Response) -> Response:
    page.headers["cache-control"] = "private, no-store"
    page.headers["content-security-policy"] = POLICY
    return page


def here(request: Request, account: Account) -> Here:
    """Of an account of one's own; another's is answered as if it were not there. Staff have pages of their own."""
    who = sees_accounts(request)  # called, not depended on: that would be one more change of threads for every page
    if who.role is not Role.CONSUMER or account not in who.reach.accounts:
        raise NotThere("account", account)
    return own_account(request, who, account)


def own_account(request: Request, who: Who, account: str) -> Here:
    """Of an account within the reach of `who`."""
    gate, state = gate_of(request), request.app.state
    find_site: Callable[[], Site] = state.site
    site = find_site()
    found = gate.lookup.account_and_meter(who.reach, account)
    if found is None:
        raise NotThere("account", account)
    return Here(request, who, gate, state.console, state.town, site, *found, tuple(sorted(who.reach.accounts)))


OwnAccount = Annotated[Here, Depends(here)]
