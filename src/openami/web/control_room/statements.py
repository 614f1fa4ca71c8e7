"""A closed day's statements: the sums of all of them, and those that are looked for, by number or the furthest below zero.

What always holds: a list reads the rows that it shows, and the lowest balances from one column; what lies outside the reach is left out; whoever
takes the day as a file stands in the audit trail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Request, Response

from ...day import Site
from ..access import Right, Who
from ..api.words import key_of, page_of
from ..failures import NotUsable
from ..gate import Gate, gate_of, needs
from ..parameters import Choice, Cursor, Day, Lang
from .exports import as_file
from .routes import closed_day, page, room_of, site_of, staff

router = APIRouter(prefix="/room")
SeesAccounts = Annotated[Who, Depends(needs(Right.ACCOUNTS))]
ROWS, STATES = 50, ("", "below")
FILE_MOST = 100_000
"""Statements in one file; a day of more is asked for by the beginning of a number, or read from the lake."""
NUMBER_BEGINS = re.compile(r"[A-Za-z0-9._-]{0,40}")
MONEY = ("opening_paise", "recharges_paise", "charges_paise", "adjustments_paise", "closing_paise")
FIGURES = (*MONEY, "wh", "estimated_wh", "missing_slots")


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A day of an account, as the lake has it: `FIGURES` by name; wh None = unknown."""

    account: str
    meter: str
    feeder: str
    tariff: str
    mode: str
    figures: dict[str, Any]


def accounts_from(gate: Gate, who: Who, text: str, after: str, limit: int) -> list[dict[str, Any]]:
    """Accounts whose number begins with `text`, in order from behind `after`."""
    if not NUMBER_BEGINS.fullmatch(text):
        return []
    begin = max(after, text[:-1] + chr(ord(text[-1]) - 1) + "\uffff") if text else after
    return [row for row in gate.lookup.accounts(who.reach, begin, limit) if row["number"].startswith(text)]


def below_zero(site: Site, gate: Gate, who: Who, day: date, text: str, after: tuple[Any, ...] | None, limit: int) -> list[StatementRow]:
    """The lowest balances first, from behind `after` (balance [paise], account)."""
    whole = _within(_tables(site, day, ("account", "closing_paise")), gate, who)
    low = whole.filter(pc.and_(pc.less(whole["closing_paise"], 0), pc.starts_with(whole["account"], text)))
    if after is not None:
        behind = pc.and_(pc.equal(low["closing_paise"], after[0]), pc.greater(low["account"], after[1]))
        low = low.filter(pc.or_(pc.greater(low["closing_paise"], after[0]), behind))
    low = low.take(pc.sort_indices(low, [("closing_paise", "ascending"), ("account", "ascending")]))
    held = (row for number in low["account"].to_pylist() if (row := gate.lookup.account(who.reach, number)) is not None)
    return list(islice((row for one in held for row in _rows(site, gate, who, day, [one])), limit))


def _rows(site: Site, gate: Gate, who: Who, day: date, held: list[dict[str, Any]]) -> Iterator[StatementRow]:
    shards = {row["serial"]: row["shard"] for row in gate.lookup.meters_named(who.reach, [row["meter"] for row in held])}
    for row in held:
        told = site.lake.row("statements", day, shards[row["meter"]], row["number"], FIGURES) if row["meter"] in shards else None
        if told is not None:
            yield StatementRow(row["number"], row["meter"], row["feeder"], row["tariff"], row["payment_mode"], told)


def _tables(site: Site, day: date, columns: tuple[str, ...]) -> pa.Table:
    return pa.concat_tables(
        [site.lake.read("statements", day, shard, columns=columns) for shard in sorted(site.lake.files("statements", day))]
    )


@router.get("/statements", response_model=None)
def statements(
    request: Request, who: SeesAccounts, day: Day = "", text: Choice = "", state: Choice = "", cursor: Cursor = None, lang: Lang = ""
) -> Response:
    """The day's sums, and its statements."""
    staff(who)
    if state not in STATES:
        raise NotUsable("state", state)
    asked, site, gate, text = closed_day(request, day), site_of(request), gate_of(request), text.strip()
    if state == "below":
        rows = below_zero(site, gate, who, asked, text, key_of(cursor, int, str), ROWS + 1)
        kept, onward = page_of(rows, ROWS, lambda row: (row.figures["closing_paise"], row.account))
    else:
        after = key_of(cursor, str)
        held, onward = page_of(accounts_from(gate, who, text, after[0] if after else "", ROWS + 1), ROWS, lambda row: (row["number"],))
        kept = list(_rows(site, gate, who, asked, held))  # who has none on this day is left out, and the list goes on behind them
    money = room_of(request).town.closed(asked).money
    return page(request, "statements.html", asked, rows=kept, onward=onward, text=text, state=state, states=STATES, money=money)


@router.get("/statements.csv", response_model=None)
def statements_file(request: Request, who: SeesAccounts, day: Day = "", text: Choice = "", format: Choice = "csv") -> Response:
    """The day's statements within the reach, up to FILE_MOST of them."""
    staff(who)
    asked, site, gate = closed_day(request, day), site_of(request), gate_of(request)
    whole, begin = _tables(site, asked, ("account", *FIGURES)), text.strip()
    own = _within(whole.filter(pc.starts_with(whole["account"], begin)), gate, who)
    if own.num_rows > FILE_MOST:
        raise NotUsable("file", str(own.num_rows))
    gate.note(who, request, "statements.export", str(asked), f"{own.num_rows} statements{f' of {begin}' if begin else ''}")
    rows = [{"day": asked.isoformat(), **row} for row in own.sort_by("account").to_pylist()]
    return as_file(rows, f"statements-{asked}", format, ("day", "account", *FIGURES))


def _within(rows: pa.Table, gate: Gate, who: Who) -> pa.Table:
    """Those of accounts within the reach, without asking for each of the others."""
    if who.reach.everything:
        return rows
    return rows.filter(pc.is_in(rows["account"], pa.array(gate.lookup.account_numbers(who.reach), pa.string())))
