"""`openami terms`: on what tariff and contract demand an account is charged, from which day."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .posting import WhoOption, WhyOption
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app, audited, site_at

if TYPE_CHECKING:
    from ..day.site import Site
    from ..store.terms import Change

terms_app = typer.Typer(no_args_is_help=True, help="An account's tariff and contract demand, each from a day on.")
app.add_typer(terms_app, name="terms")
COLUMNS = ["account", "since", "tariff", "contract_kva"]


@terms_app.command()
def show(
    account: Annotated[str, typer.Argument(help="The account's number.")], data: DataOption = DEMO_FOLDER, as_json: JsonOption = False
) -> None:
    """What was told of an account, by day. Without a word it has the registry's tariff, and its sanctioned load as contract demand."""
    from ..store.terms import TermBook

    site = site_at(data)
    for row in TermBook(site.rows.database).history(account):
        if as_json:
            print(json.dumps(dict(row._mapping), default=str, ensure_ascii=False))
            continue
        contract = "" if row.contract_va is None else f"{Decimal(row.contract_va) / 1000} kVA"
        told = f"{site.calendar.local(row.told_s):%Y-%m-%d %H:%M}"
        print(f"from {row.since}  {row.tariff or '':12s} {contract:>12s}  told {told} by {row.who}: {row.why}")
    if not as_json:
        own = site.rows.account(account)
        print(f"now {own.tariff}" if own else "")


@terms_app.command()
def tell(
    account: Annotated[str, typer.Argument(help="The account's number.")],
    since: Annotated[str, typer.Option(help="The first local day, not after today.")],
    who: WhoOption,
    why: WhyOption,
    tariff: Annotated[str, typer.Option(help="The tariff from then on; left out = as before.")] = "",
    contract_kva: Annotated[str, typer.Option(help="The contract demand from then on; left out = as before.")] = "",
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Another tariff or contract demand from a day on. A month in which it changes is billed in two parts."""
    _tell(site_at(data), [_change([account, since, tariff, contract_kva], "terms")], who, why)


@terms_app.command()
def load(
    file: Annotated[Path, typer.Argument(help=f"CSV with a head: {', '.join(COLUMNS)}; an empty cell = as before.")],
    who: WhoOption,
    why: WhyOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Many at once, all or none."""
    try:
        rows = [*csv.reader(file.read_text("utf-8-sig").splitlines())]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text ({error}); give a CSV file in UTF-8") from None
    if not rows or rows[0] != COLUMNS:
        raise InputError(f"{file}, line 1: the head is not {','.join(COLUMNS)}; write it so")
    _tell(site_at(data), [_change(row, f"{file}, line {number}") for number, row in enumerate(rows[1:], 2) if row], who, why)


def _change(cells: Sequence[str], where: str) -> Change:
    from ..billing.tariff import load_tariffs
    from ..store.terms import Change

    if len(cells) != len(COLUMNS):
        raise InputError(f"{where}: {len(cells)} cells, not {len(COLUMNS)} ({', '.join(COLUMNS)})")
    account, since, tariff, kva = (cell.strip() for cell in cells)
    try:
        day, va = a_day(since, "since"), Decimal(kva) * 1000 if kva else None
        if va is not None and (not va.is_finite() or va != va.to_integral_value()):
            raise InvalidOperation
    except InvalidOperation:
        raise InputError(f"{where}: contract demand {kva!r} is no number of kVA with at most three decimals") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if tariff:
        load_tariffs().on(tariff, day)  # names what is not known then
    return Change(account, day, tariff or None, None if va is None else int(va))


def _tell(site: Site, changes: Sequence[Change], who: str, why: str) -> None:
    from ..store.terms import TermBook

    if not who.strip() or not why.strip():
        raise InputError("terms need somebody who tells them and a reason; give --who and --why")
    now_s = int(time.time())
    today = site.calendar.local(now_s).date()
    if late := [change.since for change in changes if change.since > today]:
        raise InputError(f"{late[0]} is still to come; today is {today}: tell it on the day, or later")
    told = TermBook(site.rows.database).tell(changes, now_s, who, why)
    for change in changes:
        audited(
            site.rows, who, "terms", change.account, f"from {change.since}: {change.tariff or '-'}, {change.contract_va or '-'} VA: {why}"
        )
    print(f"{told} of {len(changes)} are new")
    first = min((change.since.replace(day=1) for change in changes), default=today)
    if told and (closed := [day for day in site.lake.days("statements") if day >= first]):
        print(f"closed days go by it once they are reckoned again: {_again(site, closed[0])}")


def _again(site: Site, day: date) -> str:
    return "; ".join(f"openami close --day {day} --shard {shard}" for shard in site.rows.shards())
