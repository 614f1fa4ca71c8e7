"""`openami terms`: on what tariff and contract demand an account is charged, from which day."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .posting import WhoOption, WhyOption
from .words import DEMO_FOLDER, DataOption, JsonOption, a_day, app, site_at

if TYPE_CHECKING:
    from ..day.site import Site
    from ..store.terms import Change

terms_app = typer.Typer(no_args_is_help=True, help="An account's tariff and contract demand, each from a day on.")
app.add_typer(terms_app, name="terms")
BankOption = Annotated[bool, typer.Option("--bank-settled", help="Units that were banked under the tariff before are paid for.")]
COLUMNS = ["account", "since", "tariff", "contract_kva"]


@terms_app.command()
def show(
    account: Annotated[str, typer.Argument(help="The account's number.")], data: DataOption = DEMO_FOLDER, as_json: JsonOption = False
) -> None:
    """What was told of an account, by day. Without a word it has the registry's tariff, and its sanctioned load as contract demand."""
    site = site_at(data)
    for row in site.terms.history(account):
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
    bank_settled: BankOption = False,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Another tariff or contract demand from a day on. A month in which it changes is billed in two parts. Closed days are reckoned
    again: what was told stays, the difference becomes an adjustment."""
    _tell(site_at(data), [_change([account, since, tariff, contract_kva], "terms")], who, why, bank_settled)


@terms_app.command()
def load(
    file: Annotated[Path, typer.Argument(help=f"CSV with a head: {', '.join(COLUMNS)}; an empty cell = as before.")],
    who: WhoOption,
    why: WhyOption,
    bank_settled: BankOption = False,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Many at once, all or none."""
    try:
        rows = [*csv.reader(file.read_text("utf-8-sig").splitlines())]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text ({error}); give a CSV file in UTF-8") from None
    if not rows or rows[0] != COLUMNS:
        raise InputError(f"{file}, line 1: the head is not {','.join(COLUMNS)}; write it so")
    _tell(site_at(data), [_change(row, f"{file}, line {number}") for number, row in enumerate(rows[1:], 2) if row], who, why, bank_settled)


def _change(cells: Sequence[str], where: str) -> Change:
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
    return Change(account, day, tariff or None, None if va is None else int(va))


def _tell(site: Site, changes: Sequence[Change], who: str, why: str, bank_settled: bool) -> None:
    from ..day.terms import tell_terms

    told, posted = tell_terms(site, changes, who, why, int(time.time()), bank_settled=bank_settled)
    print(f"{told} of {len(changes)} are new; {posted} adjustments of closed days")
